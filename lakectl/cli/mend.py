"""Commands that mend: rejects and undo."""

from __future__ import annotations

from typing import Annotated

import typer

from lakectl.cli.common import session_of


def rejects(
    ctx: typer.Context,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="DATASET FILE", help="A dataset; with --retry also the mended export."),
    ] = None,
    export: Annotated[
        str | None, typer.Option("--export", metavar="FILE", help="Write the open rejects as CSV, to be mended.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Load them again: as mended in FILE, or as they are.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=0, metavar="N", help="At most N of them.")] = None,
) -> None:
    """List, export and retry records that could not become rows.

    An export has the file's own columns, so that any editor can mend it. A retry without a file loads the rejects as
    they are, after a contract or a transform was mended.

    Examples:
        lakectl rejects trips
        lakectl rejects trips --export fixed.csv
        lakectl rejects trips fixed.csv --retry
        lakectl rejects trips --retry

    JSON:
        [{"id", "run", "dataset", "key", "line", "column", "value", "reason", "text", "state": "open|resolved"}]
        with --export: {"file", "rejects"}
        with --retry: {"retried": [{"dataset", "loaded", "still_rejected", "run"}]}
    """
    from lakectl.cli import mending

    session = session_of(ctx)
    asked = mending.ask(arguments or [], export=export, retry=retry)
    with session.target() as target:
        match asked:
            case mending.Retry():
                raise typer.Exit(mending.retry(session.screen, target, asked))
            case mending.Export():
                mending.export(session.screen, target, asked)
            case mending.List():
                mending.show(session.screen, target, asked.dataset, limit)


def undo(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The id of a run; lakectl runs lists them.")],
) -> None:
    """Take one run's rows away, bring back what it replaced.

    Examples:
        lakectl undo 42
        lakectl undo 42 --yes --json

    JSON:
        {"run", "table", "removed", "restored", "restored_version"}
    """
    from lakectl.cli import mending

    session = session_of(ctx)
    with session.target() as target:
        mending.undo(session.screen, target, run)
