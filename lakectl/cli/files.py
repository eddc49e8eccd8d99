"""Commands on files alone, without a lake or a database: preview and cat."""

from __future__ import annotations

from typing import Annotated

import typer

from lakectl.cli.common import session_of

TableOption = Annotated[
    str | None,
    typer.Option("--table", "-t", metavar="NAME", help="The sheet, archive member or table, where there are several."),
]
DatasetOption = Annotated[
    str | None, typer.Option("--dataset", "-d", metavar="NAME", help="Whose settings to read with; the file's stem.")
]


def preview(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file, or - for standard input.")],
    dataset: DatasetOption = None,
    table: TableOption = None,
    sample: Annotated[int, typer.Option("--sample", min=0, metavar="N", help="Rows to show.")] = 10,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not compare with the live table, even where there is one.")
    ] = False,
) -> None:
    """Show what loading a file would make of it.

    Format, dialect, encoding, columns with their types over the whole file, the table's DDL, sample rows, and the
    records that would be rejected. Loads nothing and needs no database; where the lake has a table for the file
    already, the changes to it are shown.

    Examples:
        lakectl preview flights.csv
        lakectl preview book.xlsx --table "Sheet 2"
        lakectl preview trips.csv.gz --json

    JSON:
        {"format", "compression", "encoding",
         "dialect": {"delimiter", "quote", "escape", "line_terminator", "header"},
         "table", "others", "columns": [{"name", "label", "type"}], "rows", "rejects",
         "first_rejects": [{"line", "column", "value", "reason", "text"}],
         "notes", "sample", "ddl", "changes"}
        "dialect" is null for a format that has none, "changes" where no table is there to be changed.
    """
    from lakectl.cli import reading

    session = session_of(ctx)
    lake = session.lake()
    reading.preview(session.screen, lake, path, dataset=dataset, table=table, sample=sample, offline=offline)


def cat(
    ctx: typer.Context,
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, or - for standard input.")],
    form: Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="csv, tsv, json, jsonl, markdown or parquet.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Write there; its extension is the format.")
    ] = None,
    output_dir: Annotated[
        str | None,
        typer.Option("--output-dir", metavar="DIR", help="Write NAME.csv for each table, NAME.SHEET.csv for several."),
    ] = None,
    dataset: DatasetOption = None,
    table: TableOption = None,
) -> None:
    """Print the table in a file as clean CSV.

    Any format in. Original labels and original texts, short rows padded, damage repaired; no header line when the
    file has none. Loads nothing and needs no database.

    Examples:
        lakectl cat strange-file.txt | head
        lakectl cat book.xlsx --table Sales --output sales.parquet
        lakectl cat inbox/* --output-dir clean/

    JSON:
        {"files": [{"path", "output", "table", "rows", "error"}]}
        with --output or --output-dir; on stdout --json is the same as --format json.
    """
    from lakectl.cli import reading

    session = session_of(ctx)
    asked = reading.ask(paths, form=form, output=output, output_dir=output_dir, json=session.json, table=table)
    raise typer.Exit(reading.cat(session.screen, session.lake(), asked, dataset=dataset))
