"""How preview and cat are carried out and shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from etl_container.datasets import Dataset, stem_of
from lakectl import files, shapes, targets
from lakectl.config import LOCAL, Lake
from lakectl.errors import DataError, LakectlError, UsageError
from lakectl.ui import Screen, visible
from lakectl.words import plural

if TYPE_CHECKING:
    from etl_container.formats.base import Dialect, Source, TableReader
    from etl_container.preview import Preview

_SUFFIXES = {"jsonl": ".jsonl", "markdown": ".md"}
_BY_SUFFIX = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".md": "markdown",
    ".parquet": "parquet",
}
_SHOWN = 200
"""Characters of a value that preview shows."""
_PACKED = (".gz", ".zst", ".bz2", ".xz", ".zip")


@dataclass(frozen=True, slots=True)
class Cat:
    """One cat command line, checked."""

    paths: tuple[str, ...]
    form: str
    output: str | None
    output_dir: str | None
    table: str | None


def preview(
    screen: Screen, lake: Lake, path: str, *, dataset: str | None, table: str | None, sample: int, offline: bool
) -> None:
    """Preview one file."""
    from etl_container.preview import preview as look

    settings = _settings(lake, path, dataset)
    with files.source(path) as source:
        settings = _choose(source, settings, table)
        found = look(source, settings, sample=sample)
    changes = None if offline else _changes(screen, lake, settings, found)
    if screen.json:
        screen.document(shapes.preview(found, changes))
    else:
        _show(screen, found, changes, sample)


def ask(
    paths: Sequence[str], *, form: str | None, output: str | None, output_dir: str | None, json: bool, table: str | None
) -> Cat:
    """Check a command line.

    Raises:
        UsageError: flags that contradict each other, or a format that is not known.
    """
    from etl_container.rewriting import FORMATS

    if output is not None and output_dir is not None:
        raise UsageError("--output and --output-dir exclude each other", hint="leave one out")
    if form is None and output is not None:
        form = _BY_SUFFIX.get(Path(output).suffix.lower())
        if form is None:
            raise UsageError(f"the format of {output} is not known from its name", hint="add --format csv")
    form = form or ("json" if json and output_dir is None else "csv")
    if form not in FORMATS:
        raise UsageError(f"there is no format {form!r}", hint=f"one of {', '.join(FORMATS)}")
    if len(paths) > 1 and output_dir is None and form in ("json", "parquet"):
        raise UsageError(f"several tables do not fit into one {form} document", hint="--output-dir DIR")
    if output_dir is not None:
        names: dict[str, str] = {}
        for path in paths:
            other = names.setdefault(_bare(path), path)
            if other != path:
                raise UsageError(f"{other} and {path} would both be {_bare(path)}{_SUFFIXES.get(form, f'.{form}')}")
    return Cat(tuple(paths), form, output, output_dir, table)


def cat(screen: Screen, lake: Lake, asked: Cat, *, dataset: str | None) -> int:
    """Write the tables; returns the exit code. With ``--output-dir`` one broken file does not stop the others."""
    if asked.output_dir is not None:
        return _cat_each(screen, lake, asked, dataset)
    with ExitStack() as stack:
        if asked.output is not None and asked.output != "-":
            stream: Any = stack.enter_context(files.written_whole(asked.output))
        elif asked.form == "parquet" and screen.on_terminal:
            raise UsageError("Parquet is not for a terminal", hint="--output FILE.parquet")
        else:
            sys.stdout.flush()
            stream = sys.stdout.buffer
        done: list[shapes.Shape] = []
        before: tuple[str, ...] | None = None
        for path in asked.paths:
            with files.source(path) as source:
                settings = _choose(source, _settings(lake, path, dataset), asked.table)
                reader, rows = _rewrite(screen, source, settings, asked.form, stream, before)
            before = reader.labels
            done.append(shapes.written(path, asked.output, reader.description.table, rows))
        stream.flush()
    if screen.json and asked.output is not None and asked.output != "-":
        screen.document({"files": done})
    return 0


def _cat_each(screen: Screen, lake: Lake, asked: Cat, dataset: str | None) -> int:
    folder = Path(asked.output_dir or ".")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.translated(error, str(folder)) from None
    done: list[shapes.Shape] = []
    code = 0
    for path in asked.paths:
        try:
            done += _cat_file(screen, lake, asked, path, folder, dataset)
        except LakectlError as error:
            told = error.message if path in error.message else f"{path}: {error.message}"
            screen.error(LakectlError(told, hint=error.hint), document=False)
            done.append(shapes.written(path, None, None, 0, error.message))
            code = code or error.exit_code
    if screen.json:
        screen.document({"files": done})
    return code


def _cat_file(
    screen: Screen, lake: Lake, asked: Cat, path: str, folder: Path, dataset: str | None
) -> Iterator[shapes.Shape]:
    from etl_container.formats import list_tables
    from etl_container.rejects import RejectSpool

    settings = _settings(lake, path, dataset)
    suffix = _SUFFIXES.get(asked.form, f".{asked.form}")
    with files.source(path) as source:
        names = list_tables(source, settings.read, RejectSpool()) if asked.table is None else (asked.table,)
        for name in names if len(names) > 1 or asked.table else (None,):
            file = f"{_bare(path)}{suffix}" if name is None else f"{_bare(path)}.{_safe(name)}{suffix}"
            chosen = _choose(source, settings, name)
            with files.written_whole(str(folder / file)) as stream:
                reader, rows = _rewrite(screen, source, chosen, asked.form, stream, None)
            if not screen.json:
                screen.remark(f"{path} → {folder / file}: {plural(rows, 'row')}")
            yield shapes.written(path, str(folder / file), reader.description.table, rows)


def _rewrite(
    screen: Screen, source: Source, settings: Dataset, form: str, stream: Any, after: tuple[str, ...] | None
) -> tuple[TableReader, int]:
    from etl_container.formats import open_table
    from etl_container.rejects import RejectSpool
    from etl_container.rewriting import rewrite

    spools: list[RejectSpool] = []

    def open_reader() -> TableReader:
        spools.append(RejectSpool())
        return open_table(source, settings.read, spools[-1])

    reader, rows = rewrite(open_reader, form, stream, after=after)
    for note in reader.notes:
        screen.remark(f"{source.name}: {visible(note)}")
    if left_out := spools[-1].count():
        screen.warn(f"{source.name}: {plural(left_out, 'record')} left out, no row; lakectl preview shows them")
    return reader, rows


def _settings(lake: Lake, path: str, dataset: str | None) -> Dataset:
    return lake.dataset(dataset or stem_of(os.path.basename(path)))


def _choose(source: Source, settings: Dataset, name: str | None) -> Dataset:
    """The settings that read the table ``name`` of the file: a sheet of a workbook, a member of anything else."""
    from etl_container.formats import list_tables
    from etl_container.rejects import RejectSpool

    if name is None:
        return settings
    names = list_tables(source, settings.read, RejectSpool())
    if name not in names:
        raise UsageError(
            f"{source.name} holds no table {name!r}", hint=f"it holds {', '.join(names)}" if names else "leave it out"
        )
    as_sheet = replace(settings, read=replace(settings.read, sheet=name))
    try:
        if list_tables(source, as_sheet.read, RejectSpool())[:1] == (name,):
            return as_sheet
    except DataError:
        pass
    return replace(settings, read=replace(settings.read, member=name))


def _changes(screen: Screen, lake: Lake, settings: Dataset, found: Preview) -> tuple[str, ...] | None:
    """What a load would do to the live table; None where there is none. Never fails for want of a warehouse."""
    from etl_container.schema import ColumnSchema, PgType, TableSchema, describe, evolve

    if lake.stage == LOCAL and lake.warehouse is None and not (lake.state_dir / "postgres").is_dir():
        return None
    try:
        target = targets.open_target(lake)
        try:
            live = next((table for table in target.tables() if table.table == settings.table), None)
        finally:
            target.close()
    except LakectlError as error:
        screen.remark(f"not compared with the live table: {error.message}")
        return None
    if live is None:
        return None
    known = {str(kind) for kind in PgType}
    columns = tuple(
        ColumnSchema(column.name, PgType(column.type) if column.type in known else PgType.TEXT, column.label or "")
        for column in live.columns
    )
    return tuple(describe(evolve(TableSchema(columns), found.schema, settings.policy).changes))


def _show(screen: Screen, found: Preview, changes: tuple[str, ...] | None, sample: int) -> None:
    facts = [("format", found.format + (f" in {found.compression}" if found.compression else ""))]
    if found.table is not None:
        facts.append(("table", found.table))
    if found.others:
        facts.append(("others", f"{', '.join(found.others)} (--table NAME)"))
    if found.encoding:
        facts.append(("encoding", found.encoding))
    if found.dialect is not None:
        facts.append(("dialect", _dialect(found.dialect)))
    facts += [("rows", f"{found.rows:,}"), ("rejects", f"{found.rejects:,}")]
    screen.facts(facts)
    screen.line()
    screen.table(
        ("column", "type", "label in the file"),
        [(column.name, column.type, _clipped(column.label) if found.has_labels else None) for column in found.columns],
    )
    screen.line()
    screen.paragraph(found.ddl)
    if changes is not None:
        screen.line()
        screen.line("the live table would change:" if changes else "the live table would stay as it is")
        for change in changes:
            screen.line(f"    {visible(change)}")
    if found.sample and sample:
        screen.line()
        screen.table([column.name for column in found.columns], [[*map(_clipped, row)] for row in found.sample])
    if found.first_rejects:
        screen.line()
        screen.line("would be rejected:")
        screen.table(
            ("line", "column", "value", "reason", "text"),
            [
                (reject.line, reject.column, _clipped(reject.value), reject.reason, _clipped(reject.text))
                for reject in found.first_rejects
            ],
            right=(True,),
        )
        if found.rejects > len(found.first_rejects):
            screen.line(f"and {found.rejects - len(found.first_rejects):,} more")
    for note in found.notes:
        screen.line(f"note: {visible(note)}")


def _clipped(text: str | None) -> str | None:
    """A text of the file as much as is worth showing; ``--json`` has all of it."""
    return text if text is None or len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _dialect(dialect: Dialect) -> str:
    named = {"\t": "tab", " ": "space", ",": "comma", ";": "semicolon", "|": "pipe"}
    quote = f"quote {dialect.quote}" if dialect.quote else "no quotes"
    escape = f", escape {dialect.escape}" if dialect.escape else ""
    header = "a header" if dialect.header else "no header"
    delimiter = named.get(dialect.delimiter, repr(dialect.delimiter))
    return f"{delimiter}, {quote}{escape}, line end {visible(dialect.line_terminator)}, {header}"


def _bare(path: str) -> str:
    """The file's name without the extensions of its compression and of its format."""
    name = "stdin" if path == "-" else os.path.basename(path)
    for packed in _PACKED:
        if name.lower().endswith(packed) and len(name) > len(packed):
            name = name[: -len(packed)]
            break
    return Path(name).stem


def _safe(name: str) -> str:
    return name.replace("/", "_").replace("\0", "_")
