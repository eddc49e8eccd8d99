"""The query command."""

from __future__ import annotations

from typing import Annotated

import typer

from lakectl.cli.common import session_of


def query(
    ctx: typer.Context,
    sql: Annotated[str | None, typer.Argument(metavar="SQL", help="One statement. Without it: the shell.")] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="table, csv, json, jsonl, markdown or parquet."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Write there; its extension is the format.")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="The value of :NAME in the SQL; may be repeated."),
    ] = None,
    file: Annotated[
        str | None, typer.Option("-f", "--file", metavar="FILE", help="Read the SQL from a file, or - for stdin.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=0, metavar="N", help="At most N rows.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Let the statement change data.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="SQL straight on the raw objects; nothing is loaded, no database is used.")
    ] = False,
    via: Annotated[
        str | None,
        typer.Option("--via", metavar="DSN", help="Connect to this PostgreSQL directly, not over the stage's own way."),
    ] = None,
    chart: Annotated[
        bool, typer.Option("--chart", help="Draw bars: the first column is the label, the second the number.")
    ] = False,
) -> None:
    """Run SQL on the tables, or open an interactive shell.

    Read-only unless --write. The result is a table on a terminal and CSV in a pipe. In JSON, exact numbers (numeric)
    are strings and timestamps ISO 8601.

    Examples:
        lakectl query "select carrier, count(*) from flights group by 1 order by 2 desc"
        lakectl query "select * from flights where origin = :from" -p from=JFK --format json
        lakectl query -f report.sql --output report.parquet
        lakectl query --raw "select count(*) from flights"
        lakectl query

    JSON:
        [{"COLUMN": value}]    one object for each row; the same as --format json
    """
    from lakectl.cli import querying

    session = session_of(ctx)
    asked = querying.ask(
        sql=sql,
        file=file,
        form="json" if session.json and form is None else form,
        output=output,
        parameters=parameter or [],
        limit=limit,
        write=write,
        raw=raw,
        chart=chart,
    )
    lake = session.lake()
    if via is not None:
        querying.answer_via(session.screen, via, asked)
        return
    with session.target(lake) as target:
        querying.answer(session.screen, target, lake, asked)
