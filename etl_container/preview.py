"""What loading a file would make of it: format, dialect, columns, rows. Reads the whole file, needs no database.

The same readers and the same inference as a load, in one pass and bounded memory: what preview says is what a load
does, as far as the contract and the transform leave it alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_container.datasets import Dataset
from etl_container.formats.base import Dialect, RawBatch, Reject, Source
from etl_container.schema import ColumnSchema, PgType, TableSchema, column_names

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE = 10
"""Rows shown."""
FIRST_REJECTS = 5


@dataclass(frozen=True, slots=True)
class Preview:
    """A file as a load would see it."""

    format: str
    compression: str | None
    encoding: str | None
    dialect: Dialect | None
    table: str | None
    """The sheet, member or table within the file, where it holds several."""
    others: tuple[str, ...]
    columns: tuple[ColumnSchema, ...]
    rows: int
    """Of the whole file."""
    rejects: int
    first_rejects: tuple[Reject, ...]
    notes: tuple[str, ...]
    sample: tuple[tuple[str | None, ...], ...]
    """The first rows, as the texts that stand in the file."""
    ddl: str
    has_labels: bool = True

    @property
    def schema(self) -> TableSchema:
        """The columns, to be compared with a live table."""
        return TableSchema(self.columns)


def preview(
    source: Source, dataset: Dataset, *, sample: int = SAMPLE, on_rows: Callable[[int], None] = lambda _rows: None
) -> Preview:
    """Read ``source`` as ``dataset`` would be read.

    Args:
        source: the file.
        dataset: its settings; those for reading are obeyed.
        sample: how many rows to keep for show.
        on_rows: told the rows read so far.

    Raises:
        UnreadableObjectError: no reader can make a table of the bytes.
    """
    from etl_container.formats import open_table
    from etl_container.infer import Inference
    from etl_container.rejects import RejectSpool

    spool = RejectSpool()
    reader = open_table(source, dataset.read, spool)
    inference = Inference(dataset.read)
    rows = 0
    kept: list[tuple[str | None, ...]] = []
    for batch in reader.batches():
        inference.observe(batch)
        if len(kept) < sample:
            kept += _texts(batch, sample - len(kept))
        rows += batch.data.num_rows
        on_rows(rows)
    labels = reader.labels
    types = (*inference.types, *[None] * (len(labels) - len(inference.types)))
    columns = tuple(
        ColumnSchema(name, kind or PgType.TEXT, label)
        for name, kind, label in zip(column_names(labels), types, labels, strict=False)
    )
    rejects = spool.count()
    first = tuple(reject for reject, _ in zip(spool.located(reader), range(FIRST_REJECTS), strict=False))
    found = reader.description
    return Preview(
        format=found.format,
        compression=found.compression,
        encoding=found.encoding,
        dialect=found.dialect,
        table=found.table,
        others=found.others,
        columns=columns,
        rows=rows,
        rejects=rejects,
        first_rejects=first,
        notes=(*reader.notes, *inference.notes, *inference.reasons),
        sample=tuple((*row, *[None] * (len(columns) - len(row))) for row in kept),
        ddl=ddl(dataset.table, columns),
        has_labels=found.has_labels,
    )


def ddl(table: str, columns: tuple[ColumnSchema, ...]) -> str:
    """The table as SQL, for people to read; the lineage column is left out."""
    lines = [f"    {_quoted(column.name)} {column.type or PgType.TEXT}" for column in columns]
    return f"CREATE TABLE {_quoted(table)} (\n" + ",\n".join(lines) + "\n);"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _texts(batch: RawBatch, count: int) -> list[tuple[str | None, ...]]:
    head: pa.RecordBatch = batch.data.slice(0, count)
    return list(zip(*[[_text(value) for value in _values(column)] for column in head.columns], strict=True))


def _values(column: pa.Array) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except OverflowError:  # a time beyond Python's
        from etl_container.infer.native import to_text

        values = to_text(column).to_pylist()
    return values


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return str(value)
