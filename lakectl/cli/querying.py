"""What a query command line asks for, and where its answer goes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lakectl import files, output, sqltext
from lakectl.config import Lake
from lakectl.errors import UsageError
from lakectl.targets.base import QueryResult, Target
from lakectl.ui import Screen, bar_lines, table_lines
from lakectl.words import plural

_BY_SUFFIX = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".md": "markdown",
    ".parquet": "parquet",
    ".txt": "table",
}


@dataclass(frozen=True, slots=True)
class Question:
    """One query command line, checked."""

    sql: str | None
    """None: the interactive shell."""
    form: str | None
    output: str | None
    parameters: dict[str, str]
    limit: int | None
    write: bool
    raw: bool
    chart: bool


def ask(
    *,
    sql: str | None,
    file: str | None,
    form: str | None,
    output: str | None,
    parameters: Sequence[str],
    limit: int | None,
    write: bool,
    raw: bool,
    chart: bool,
) -> Question:
    """Check a command line; reads the SQL from its file or from a pipe.

    Raises:
        UsageError: flags that contradict each other, or a format that is not known.
        NotFoundError: no such file.
    """
    if sql is not None and file is not None:
        raise UsageError("the SQL is given twice, as an argument and with -f", hint="leave one out")
    if write and raw:
        raise UsageError("--raw only reads", hint="leave --write out")
    if file is not None or sql == "-":
        sql = files.read_text(file or "-")
    elif sql is None and not sys.stdin.isatty():
        sql = sys.stdin.read()
    if sql is not None:
        found = sqltext.statements(sql)
        if len(found) != 1:
            raise UsageError(
                "there is no SQL to run" if not found else f"{len(found)} statements were given, and one can be run",
                hint='lakectl query "select 1"' if not found else "run them one by one, or in the shell: lakectl query",
            )
        sql = found[0]
    if form is None and output is not None and output != "-":
        form = _BY_SUFFIX.get(Path(output).suffix.lower())
        if form is None:
            raise UsageError(f"the format of {output} is not known from its name", hint="add --format csv")
    if form is not None and form not in _FORMATS:
        raise UsageError(f"there is no format {form!r}", hint=f"one of {', '.join(_FORMATS)}")
    return Question(sql, form, output, _parameters(parameters), limit, write, raw, chart)


_FORMATS = output.FORMATS


def answer(screen: Screen, target: Target, lake: Lake, asked: Question) -> None:
    """Run the statement and write its result, or open the shell."""
    if asked.sql is None:
        from lakectl import shell

        shell.interact(screen, target, history=lake.state_dir / "query_history", write=asked.write)
        return
    if asked.raw:
        result = target.query_raw(asked.sql, asked.parameters)
    else:
        result = target.query(asked.sql, asked.parameters, write=asked.write, limit=asked.limit)
    with result:
        if asked.limit is not None:
            result = output.Limited(result, asked.limit)
        show(screen, result, form=asked.form, path=asked.output, chart=asked.chart)


def answer_via(screen: Screen, dsn: str, asked: Question) -> None:
    """Run the statement on a direct connection, and write its result.

    Raises:
        UsageError: without SQL: the shell works on the stage.
    """
    from lakectl.targets import postgres_reader

    if asked.sql is None or asked.raw:
        raise UsageError("--via needs a statement, and no --raw", hint='lakectl query --via DSN "select 1"')
    with postgres_reader.run(dsn, asked.sql, asked.parameters, write=asked.write, limit=asked.limit) as found:
        result = output.Limited(found, asked.limit) if asked.limit is not None else found
        show(screen, result, form=asked.form, path=asked.output, chart=asked.chart)


def show(screen: Screen, result: QueryResult, *, form: str | None, path: str | None, chart: bool) -> None:
    """A result in the format asked for; by default a table on a terminal and CSV in a pipe."""
    if not result.columns:
        if form in ("json", "jsonl"):
            screen.document([]) if form == "json" else None
        else:
            screen.line(result.status)
        return
    if chart:
        _chart(screen, result)
        return
    if path is not None and path != "-":
        with files.written_whole(path) as stream:
            count = _write(result, form or "csv", stream)
        screen.remark(f"{plural(count, 'row')} written to {path}")
        return
    form = form or ("table" if screen.on_terminal else "csv")
    if form == "table":
        right = [column.type in output.NUMERIC_TYPES for column in result.columns]
        rows = ([output.text(value) for value in row] for row in result.rows())
        width = screen.width if screen.on_terminal else None
        screen.paged(table_lines([column.name for column in result.columns], rows, right=right, width=width))
        return
    if form == "parquet" and screen.on_terminal:
        raise UsageError("Parquet is not for a terminal", hint="--output FILE.parquet")
    sys.stdout.flush()
    output.write(result, form, sys.stdout.buffer)


def _write(result: QueryResult, form: str, stream: files.Writable) -> int:
    if form != "table":
        return output.write(result, form, stream)
    rows = [[output.text(value) for value in row] for row in result.rows()]
    for line in table_lines([column.name for column in result.columns], rows):
        stream.write(f"{line}\n".encode())
    return len(rows)


def _chart(screen: Screen, result: QueryResult) -> None:
    if len(result.columns) != 2 or result.columns[1].type not in output.NUMERIC_TYPES:
        raise UsageError(
            "a chart needs two columns, a label and a number",
            hint='lakectl query --chart "select carrier, count(*) from flights group by 1"',
        )
    rows = ((output.text(label), value) for label, value in result.rows())
    for line in bar_lines(rows, width=screen.width):
        screen.line(line)


def _parameters(pairs: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"-p {pair}: expected NAME=VALUE", hint="-p origin=JFK")
        if name in found:
            raise UsageError(f"-p {name} is given twice")
        found[name] = value
    return found
