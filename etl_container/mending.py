"""Rejects out to the user and back: exported as CSV in the file's own columns, mended, and loaded in their place.

A mended record is kept in the ledger and stands in for the broken one at *every* load of its object version, so that
"run it all again" gives the same rows. :class:`MendedReader` does that: it wraps the object's reader, leaves the broken
records out and puts the mended ones at the end.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from msgspec import Struct

from etl_container.errors import DataError, NotFoundError, UsageError
from etl_container.formats.base import Description, RawBatch, Reject, RejectSink, TableReader

ID, LINE, COLUMN, REASON, SURPLUS = "_reject", "_line", "_column", "_reason", "_surplus"
"""The columns of an export that are not the file's. ``_surplus`` holds the cells that no column is there for."""

Cells = Sequence[str | None]


class Spared(Struct, frozen=True):
    """A sink that forgets the rejects of records that were mended."""

    sink: RejectSink
    mended: Mapping[int, Cells]

    def add(self, reject: Reject) -> None:
        """Pass a reject on, unless its record was mended *and* the reader is still reading the file."""
        if reject.record not in self.mended:
            self.sink.add(reject)


class MendedReader:
    """A reader with some records replaced."""

    def __init__(self, reader: TableReader, mended: Mapping[int, Cells]) -> None:
        self._reader = reader
        self._mended = mended

    @property
    def description(self) -> Description:
        return self._reader.description

    @property
    def labels(self) -> tuple[str, ...]:
        return self._reader.labels

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self._reader.notes, f"{len(self._mended):,} mended records stand in for broken ones")

    def batches(self) -> Iterator[RawBatch]:
        last: RawBatch | None = None
        for batch in self._reader.batches():
            last = batch
            yield self._without(batch)
        yield self._replacements(last)

    def locate(self, records: Iterable[int]) -> Iterator[tuple[int, int | None, str | None]]:
        return self._reader.locate(records)

    def _without(self, batch: RawBatch) -> RawBatch:
        ordinals = range(batch.first_record, batch.first_record + batch.data.num_rows)
        records = pa.array(ordinals, pa.int64()) if batch.records is None else batch.records
        first, last = (records[0].as_py(), records[-1].as_py()) if len(records) else (0, -1)
        if not any(first <= record <= last for record in self._mended):
            return batch
        keep = pa.array([record not in self._mended for record in records.to_pylist()])
        return RawBatch(batch.data.filter(keep), batch.kinds, batch.first_record, records.filter(keep))

    def _replacements(self, last: RawBatch | None) -> RawBatch:
        from etl_container.formats.base import Kind

        labels = self.labels
        records = sorted(self._mended)
        columns = []
        for position in range(len(labels)):
            cells = pa.array([_cell(self._mended[record], position) for record in records], pa.string())
            kind = last.data.schema.field(position).type if last is not None else pa.string()
            columns.append(cells if pa.types.is_string(kind) else _typed(cells, kind, labels[position]))
        kinds = last.kinds if last is not None else (Kind.TEXT,) * len(labels)
        data = pa.RecordBatch.from_arrays(columns, names=list(labels))
        return RawBatch(data, kinds, 0, pa.array(records, pa.int64()))


def _cell(cells: Cells, position: int) -> str | None:
    return (cells[position] if position < len(cells) else None) or None


def _typed(cells: pa.Array, kind: Any, label: str) -> pa.Array:
    try:
        return cells.cast(kind)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"a mended value of column {label} is not a {kind}: {error}", hint="mend it in the export, and retry"
        ) from error


# -- out --------------------------------------------------------------------------------------------


def cells_of(text: str | None, source: Mapping[str, Any] | None) -> list[str | None]:
    """The cells of a rejected record's text, by position, as far as it can be cut.

    Args:
        text: the record as it stands in the file.
        source: how the object was read, as the run's record has it.
    """
    if text is None or source is None:
        return []
    if text.lstrip().startswith("{") and source["dialect"] is None:
        try:
            values = json.loads(text)
        except ValueError:
            return []
        return [_text_of(values.get(label)) for label in source["labels"]]
    dialect = source["dialect"] or {}
    delimiter, quote = dialect.get("delimiter", ","), dialect.get("quote", '"')
    if len(delimiter) != 1:
        return list(text.split(delimiter))
    rows = csv.reader(
        io.StringIO(text.replace("\0", ""), newline=""),
        delimiter=delimiter,
        quotechar=quote or '"',
        quoting=csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL,
        escapechar=dialect.get("escape"),
    )
    cells: list[str] = next(rows, [])
    return list(cells)


def _text_of(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def export(rows: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Write open rejects as CSV; how many.

    All of them must share their columns: those of the first one head the file, others are matched by label.

    Args:
        rows: ``id``, ``line``, ``column``, ``reason``, ``text`` and ``source`` of each reject.
        path: the file to write; replaced when it is there.
    """
    count = 0
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        labels: list[str] = []
        for row in rows:
            own = list((row["source"] or {}).get("labels", []))
            if count == 0:
                labels = own
                writer.writerow([ID, LINE, COLUMN, REASON, *labels, SURPLUS])
            cells = cells_of(row["text"], row["source"])
            placed = dict(zip(own, cells, strict=False))
            surplus = ",".join(cell or "" for cell in cells[len(own) :])
            ordered = cells[: len(own)] if own == labels else [placed.get(label) for label in labels]
            ordered += [None] * (len(labels) - len(ordered))
            writer.writerow([row["id"], row["line"], row["column"], row["reason"], *ordered, surplus])
            count += 1
    return count


# -- and back --------------------------------------------------------------------------------------------


class Mended(Struct, frozen=True):
    """One line of a mended export."""

    reject: int
    line: int
    """Where it stands in the export."""
    labels: tuple[str, ...]
    cells: tuple[str, ...]
    surplus: bool
    """Cells without a column are still there: nobody has mended it."""

    def cells_for(self, labels: Sequence[str]) -> list[str | None]:
        """The cells in the order of an object's own columns."""
        if list(labels) == list(self.labels):
            return list(self.cells)
        placed = dict(zip(self.labels, self.cells, strict=True))
        return [placed.get(label) for label in labels]


class Replacement(Struct, frozen=True):
    """What stands in for one broken record of one object version."""

    bucket: str
    key: str
    version: str
    record: int
    cells: Sequence[str | None]


def replacements(
    path: Path, dataset: str | None, rejects: Callable[[int], Sequence[tuple[Any, ...]]]
) -> Iterator[Replacement]:
    """The records of an export that somebody has mended.

    Args:
        path: the export.
        dataset: all of its rejects must be of this one; None: of any.
        rejects: the rows of the named query ``get_reject`` for the number of a reject.

    Raises:
        NotFoundError: there is no such file.
        UsageError: it is no export, names rejects that are not there, or nothing in it is mended.
    """
    if not path.is_file():
        raise NotFoundError(f"no file {path}")
    count = unmended = 0
    for mended in read_export(path):
        found = rejects(mended.reject)
        if not found:
            raise UsageError(
                f"{path}, line {mended.line}: there is no reject {mended.reject}"
                + (f" of dataset {dataset}" if dataset else ""),
                hint="lakectl rejects --export FILE makes a new export",
            )
        if mended.surplus:
            unmended += 1
            continue
        _dataset, bucket, key, version, record, source = found[0]
        if record is None:
            raise UsageError(
                f"{path}, line {mended.line}: the transform hides which record reject {mended.reject} is",
                hint="let the transform keep the index of its rows",
            )
        count += 1
        yield Replacement(bucket, key, version, record, mended.cells_for(source["labels"]))
    if not count:
        raise UsageError(
            f"{path} has nothing mended in it"
            + (f": {unmended} of its records still have cells in {SURPLUS}" if unmended else ""),
            hint=f"give every cell its column, empty {SURPLUS}, then retry",
        )


def read_export(path: Path) -> Iterator[Mended]:
    """The records of an export, in its order.

    Raises:
        UsageError: the file is no export.
    """
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines)
        header = next(reader, [])
        if ID not in header:
            raise UsageError(
                f"{path} has no column {ID}: it is not an export of rejects",
                hint=f"lakectl rejects --export {path.name}, mend it, then lakectl rejects --retry {path.name}",
            )
        where = header.index(ID)
        ours = {position for position, name in enumerate(header) if name in (ID, LINE, COLUMN, REASON, SURPLUS)}
        surplus = header.index(SURPLUS) if SURPLUS in header else None
        data = [position for position in range(len(header)) if position not in ours]
        labels = tuple(header[position] for position in data)
        for cells in reader:
            if not any(cells):
                continue
            if not cells[where].strip().isdigit():
                raise UsageError(
                    f"{path}, line {reader.line_num}: {ID} = {cells[where]!r} is not the number of a reject"
                )
            padded = cells + [""] * (len(header) - len(cells))
            unmended = len(padded) > len(header) or (surplus is not None and bool(padded[surplus]))
            values = tuple(padded[position] for position in data)
            yield Mended(int(padded[where]), reader.line_num, labels, values, unmended)
