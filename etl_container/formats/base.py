"""What every reader promises: bytes in, a stream of Arrow record batches and rejects out.

A reader never needs the whole object in memory, never changes a value's text, and never aborts because of one
record: what cannot be a row goes to the :class:`RejectSink`. Deciding column types is not a reader's business
(``etl_container.infer`` does it); a reader only says, per column, how much the format already knows
(:class:`Kind`).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import BinaryIO, Protocol, runtime_checkable

import pyarrow as pa
from msgspec import Struct

from etl_container.formats.options import ReadOptions

__all__ = [
    "Description",
    "Dialect",
    "Kind",
    "RawBatch",
    "ReadOptions",
    "Reject",
    "RejectSink",
    "Source",
    "TableReader",
    "TypingReader",
    "expect",
]


class Kind(enum.Flag):
    """What a format knows about the values of one column in one batch.

    Columns of Arrow type ``string`` carry a Kind; columns of any other Arrow type speak for themselves.
    """

    TEXT = enum.auto()
    """Untyped text (CSV): numbers, dates, booleans … may be inferred from it."""
    STRING = enum.auto()
    """A string in a typed format (JSON, Excel): never a number; dates, timestamps, uuids may be inferred."""
    NUMBER = enum.auto()
    """Numbers, each written in its shortest exact decimal text."""
    BOOLEAN = enum.auto()
    """``true`` or ``false``."""
    NESTED = enum.auto()
    """JSON text of an object or array."""
    TEMPORAL = enum.auto()
    """Dates or timestamps in ISO 8601 text (Excel)."""
    VERBATIM = enum.auto()
    """Text that must stay text (a Parquet string column)."""
    DECLARED = enum.auto()
    """Beside the others: the column is of this type even where all its values are null."""


class Reject(Struct, frozen=True):
    """One record, or one value of it, that could not become a row.

    ``record`` is the 0-based ordinal of the record in the object (as in :attr:`RawBatch.first_record`); with it a
    reader's :meth:`TableReader.locate` supplies ``line`` and ``text`` later, so neither need be known here.
    """

    reason: str
    record: int | None = None
    line: int | None = None
    """1-based physical line on which the record starts (a sheet's row for Excel); None when not known yet."""
    column: str | None = None
    """The original label of the column at fault."""
    value: str | None = None
    """The value at fault as it stands in the file."""
    text: str | None = None
    """The record as it stands in the file."""


class RejectSink(Protocol):
    """Where rejects go. Implementations spool to disk: a million rejects must not fill the memory."""

    def add(self, reject: Reject) -> None: ...


class RawBatch(Struct, frozen=True):
    """Some consecutive records, as the format gives them.

    ``data`` has one column per label, in the file's order, its field names being the *original labels* (they may
    repeat; position identifies a column). A later batch may have more columns than an earlier one (JSON Lines),
    always appended at the end, never fewer. ``kinds`` has one entry per column.

    ``records`` holds the ordinal of each row, when they are not simply ``first_record + i`` (because records between
    were rejected or repaired); ``locate`` takes these ordinals.
    """

    data: pa.RecordBatch
    kinds: tuple[Kind, ...]
    first_record: int = 0
    records: pa.Int64Array | None = None
    csv: bytes | memoryview | None = None
    """The same rows as CSV lines (RFC 4180, UTF-8, ending in LF), where they stand so in the object already."""
    written: Callable[[], RawBatch] | None = None
    """The same rows with every value as it stands in the object, where some columns came typed (see :func:`expect`)."""

    def as_written(self) -> RawBatch:
        """The batch with untyped text where the object holds text."""
        return self if self.written is None else self.written()

    def ordinal(self, row: int) -> int:
        """The record ordinal of the batch's row ``row``."""
        return self.first_record + row if self.records is None else int(self.records[row].as_py())


class Dialect(Struct, frozen=True):
    """How a delimited file is written."""

    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    line_terminator: str = "\n"
    header: bool = True


class Description(Struct, frozen=True):
    """What a reader found out about the object, for ``preview`` and the run's record."""

    format: str
    """``csv``, ``tsv``, ``jsonl``, ``json``, ``parquet``, ``xlsx`` …"""
    compression: str | None = None
    encoding: str | None = None
    dialect: Dialect | None = None
    table: str | None = None
    """The sheet, zip member or table within the object, where it holds several."""
    others: tuple[str, ...] = ()
    """The other tables within the object, loadable by name."""
    has_labels: bool = True
    """False when the file has no header and the labels were made up (``column_1`` …)."""


class TableReader(Protocol):
    """One table within one object, opened."""

    @property
    def description(self) -> Description: ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The original column labels known so far, in order."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user: what was skipped, padded, repaired, and where. Grows while reading."""

    def batches(self) -> Iterator[RawBatch]:
        """The records. May be called once.

        Raises:
            UnreadableObjectError: the bytes stop making sense (truncated, corrupt) beyond record level.
        """

    def locate(self, records: Iterable[int]) -> Iterator[tuple[int, int | None, str | None]]:
        """``(record, line, text)`` for each of the ascending ``records``; re-reads the object, after batches()."""


class Expected(Struct, frozen=True):
    """What the columns of an untyped text are expected to be, by position."""

    types: Mapping[int, pa.DataType] = {}
    null_tokens: tuple[str, ...] = ()
    """What stands for null in a column of these types, beside nothing at all."""
    spotted: frozenset[int] = frozenset()
    """The columns in which a null token was seen."""


@runtime_checkable
class TypingReader(Protocol):
    """A reader of untyped text that can give types it is told, which is faster than text that is cast."""

    def expect(self, expected: Expected) -> None:
        """From now on give columns as these types in batches where each value is plainly written so.

        A decimal point, no leading zeros or plus signs, ISO 8601; empty is null. Such a batch can be had
        :meth:`RawBatch.as_written`. Where nothing is expected all columns come as text again.
        """


def expect(reader: TableReader, expected: Expected) -> None:
    """Have a reader give these types, if it can."""
    if isinstance(reader, TypingReader):
        reader.expect(expected)


class Source(Struct, frozen=True):
    """The bytes of one object: can be opened any number of times, each time from the start.

    ``open`` returns a binary stream. ``path`` is set when the bytes are already a file on this machine, which formats
    that seek (Parquet, Excel, zip) use; ``formats.compression.local_copy`` makes one when they are not.
    """

    name: str
    """The file's name, for its extension and for messages. Not a path to open."""
    size: int | None
    open: Callable[[], BinaryIO]
    path: str | None = None
