"""The search command."""

from __future__ import annotations

from typing import Annotated

import typer

from lakectl.cli.common import session_of


def search(
    ctx: typer.Context,
    text: Annotated[str, typer.Argument(metavar="TEXT", help='Words, "a phrase", or, -not.')],
    table: Annotated[
        str | None, typer.Option("--table", "-t", metavar="NAME", help="Only in the rows of this table.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, metavar="N", help="At most N of them.")] = 10,
) -> None:
    """Find documents, e-mails, images and sounds by what they say, best first.

    Words are found in all their forms, by the language of each text.

    Examples:
        lakectl search "overdue invoice"
        lakectl search '"force majeure" -draft' --table contracts --json

    JSON:
        [{"table", "kind": "document|mail|image|sound", "key", "run", "page", "title", "rank", "snippet"}]
    """
    from lakectl import searching, shapes

    session = session_of(ctx)
    with session.target() as target:
        hits = searching.search(target, text, table=table, limit=limit)
    if session.json:
        session.screen.document([shapes.hit(hit) for hit in hits])
    elif not hits:
        session.screen.remark("nothing found; only documents, e-mails, images and sounds that are loaded are searched")
    else:
        session.screen.table(
            ("key", "page", "title", "found"),
            [(hit.key, hit.page, hit.title, " ".join(hit.snippet.split())) for hit in hits],
            right=(False, True, False, False),
        )
