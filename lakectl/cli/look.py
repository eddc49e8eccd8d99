"""Commands that look: tables, objects, runs, explain, status."""

from __future__ import annotations

from typing import Annotated

import typer

from lakectl.cli.common import session_of

DatasetOption = Annotated[
    str | None, typer.Option("--dataset", "-d", metavar="NAME", help="Only the facts of this dataset.")
]
LimitOption = Annotated[int | None, typer.Option("--limit", "-n", min=0, metavar="N", help="At most N of them.")]

_VERSION = 21
"""Characters of a version that tell it apart for people: its number and the beginning of its digest."""


def tables(ctx: typer.Context) -> None:
    """List the tables with their rows and columns.

    Examples:
        lakectl tables
        lakectl tables --json

    JSON:
        [{"table", "columns": [{"name", "type", "label"}], "rows", "size", "dataset", "objects", "updated"}]
    """
    from lakectl import shapes, ui

    session = session_of(ctx)
    with session.target() as target:
        found = target.tables()
    if session.json:
        session.screen.document([shapes.table(fact) for fact in found])
    elif not found:
        session.screen.remark("no table yet; load a file with: lakectl upload FILE")
    else:
        session.screen.table(
            ("table", "rows", "columns", "size", "updated"),
            [
                (
                    fact.table,
                    ui.number(fact.rows),
                    ", ".join(f"{column.name} {column.type}" for column in fact.columns),
                    ui.size(fact.size),
                    ui.moment(fact.updated),
                )
                for fact in found
            ],
            right=(False, True, False, True),
        )


def objects(ctx: typer.Context, dataset: DatasetOption = None, limit: LimitOption = None) -> None:
    """List the objects of the raw zone, newest first.

    Examples:
        lakectl objects
        lakectl objects --dataset trips --limit 20 --json

    JSON:
        [{"key", "version", "dataset", "state": "pending|loaded|superseded|failed|undone",
          "rows", "rejects", "size", "media_type", "run", "landed"}]
    """
    from lakectl import shapes, ui

    session = session_of(ctx)
    with session.target() as target:
        found = target.objects(dataset=dataset, limit=limit)
    if session.json:
        session.screen.document([shapes.object_(fact) for fact in found])
    elif not found:
        session.screen.remark("no object; land one with: lakectl upload FILE")
    else:
        session.screen.table(
            ("key", "version", "state", "rows", "rejects", "size", "media type", "run"),
            [
                (
                    fact.key,
                    fact.version if len(fact.version) <= _VERSION else f"{fact.version[:_VERSION]}…",
                    fact.state,
                    ui.number(fact.rows),
                    ui.number(fact.rejects),
                    ui.size(fact.size),
                    fact.media_type,
                    fact.run,
                )
                for fact in found
            ],
            right=(False, False, False, True, True, True),
        )


def runs(ctx: typer.Context, dataset: DatasetOption = None, limit: LimitOption = None) -> None:
    """List the runs, newest first.

    Examples:
        lakectl runs
        lakectl runs --dataset trips --limit 5 --json

    JSON:
        [{"run", "key", "version", "dataset",
          "state": "running|loaded|already_loaded|superseded|failed|undone",
          "rows", "rejects", "started", "seconds", "error", "hint", "exit_code", "changes", "notes"}]
    """
    from lakectl import shapes, ui

    session = session_of(ctx)
    with session.target() as target:
        found = target.runs(dataset=dataset, limit=limit)
    if session.json:
        session.screen.document([shapes.run(fact) for fact in found])
    elif not found:
        session.screen.remark("no run yet; load a file with: lakectl upload FILE")
    else:
        session.screen.table(
            ("run", "key", "state", "rows", "rejects", "started", "seconds", "error"),
            [
                (
                    fact.run,
                    fact.key,
                    fact.state,
                    ui.number(fact.rows),
                    ui.number(fact.rejects),
                    ui.moment(fact.started),
                    None if fact.seconds is None else f"{fact.seconds:.1f}",
                    fact.error,
                )
                for fact in found
            ],
            right=(False, False, False, True, True, False, True),
        )


def explain(
    ctx: typer.Context,
    subject: Annotated[str, typer.Argument(metavar="KEY|RUN", help="The key of an object, or the id of a run.")],
) -> None:
    """Say why an object or a run is as it is.

    Examples:
        lakectl explain raw/trips/2024-01.csv
        lakectl explain 42 --json

    JSON:
        {"subject", "cause", "facts": {"name": "value"}, "hint"}
    """
    from lakectl import shapes

    session = session_of(ctx)
    with session.target() as target:
        found = target.explain(subject)
    if session.json:
        session.screen.document(shapes.explanation(found))
        return
    session.screen.paragraph(found.cause)
    session.screen.facts(found.facts)
    if found.hint:
        session.screen.hint(found.hint)


def status(ctx: typer.Context) -> None:
    """Show the stage at a glance.

    The warehouse, how many objects are in which state, and what needs attention.

    Examples:
        lakectl status
        lakectl status --json

    JSON:
        {"stage", "warehouse", "state", "facts": {"name": "value"}, "objects": {"state": count}, "problems": []}
    """
    from lakectl import shapes

    session = session_of(ctx)
    with session.target() as target:
        found = target.status()
    if session.json:
        session.screen.document(shapes.status(found))
        return
    counts = ", ".join(f"{count:,} {state}" for state, count in found.objects.items() if count)
    session.screen.facts(
        [
            ("stage", found.stage),
            ("warehouse", f"{found.warehouse} ({found.state})"),
            ("objects", counts or "none"),
            *found.facts,
        ]
    )
    for problem in found.problems:
        session.screen.warn(problem)
