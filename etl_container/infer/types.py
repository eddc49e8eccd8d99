"""The words of this room that others use: targets, breaks, failures, and the storage type of each column type."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from msgspec import Struct

from etl_container.schema import PgType


class Target(Struct, frozen=True):
    """What a column must become."""

    type: PgType
    strict: bool = False
    """Somebody has decided the type (a contract, a frozen schema): a value that is none of it is a failure of its row,
    never a :class:`TypeBreak`."""
    scale: int | None = None
    """Digits after the decimal point, for numeric; None takes the inferred one."""
    fixed: bool = False
    """The column is text whatever the file holds (the live table's is): nothing can break it."""


class Break(Struct, frozen=True):
    """The first value of one column that does not fit its guess."""

    position: int
    label: str
    record: int
    """The record's ordinal in the object."""
    value: str
    was: PgType | None

    def __str__(self) -> str:
        return f"column {self.label}: record {self.record} has {self.value[:80]!r}, which is no {self.was or 'null'}"


class TypeBreak(Exception):  # noqa: N818 - not an error: the pipeline widens and starts again
    """A batch does not fit the guessed types: observe it (and what follows), then start again with the wider ones."""

    def __init__(self, breaks: Sequence[Break]) -> None:
        super().__init__("; ".join(str(one) for one in breaks))
        self.breaks = tuple(breaks)


class FitError(ValueError):
    """A typed value does not fit its target's storage type.

    Attributes:
        row: of the array.
        value: as text.
    """

    def __init__(self, row: int, value: str, reason: str) -> None:
        super().__init__(f"{value[:80]!r} is {reason}")
        self.row = row
        self.value = value
        self.reason = reason


class CellFailure(Struct, frozen=True):
    """One value that is none of its column's strict type."""

    record: int
    """The record's ordinal in the object."""
    row: int
    """In the batch given to ``cast``."""
    position: int
    label: str
    value: str
    reason: str


class CastResult(Struct, frozen=True):
    """The typed rows, and the cells whose rows are missing from them."""

    batch: pa.RecordBatch
    first_record: int
    records: pa.Int64Array | None
    """The ordinals of the batch's rows; None: ``first_record + i``."""
    failures: list[CellFailure]

    def ordinal(self, row: int) -> int:
        """The record ordinal of the result's row ``row``."""
        return self.first_record + row if self.records is None else int(self.records[row].as_py())


ARROW_STORAGE: dict[PgType, pa.DataType] = {
    PgType.BOOLEAN: pa.bool_(),
    PgType.BIGINT: pa.int64(),
    PgType.DOUBLE: pa.float64(),
    PgType.NUMERIC: pa.decimal128(38, 0),
    PgType.DATE: pa.date32(),
    PgType.TIME: pa.time64("us"),
    PgType.TIMESTAMP: pa.timestamp("us"),
    PgType.TIMESTAMPTZ: pa.timestamp("us", "UTC"),
    PgType.UUID: pa.binary(16),
    PgType.JSONB: pa.string(),
    PgType.BYTEA: pa.binary(),
    PgType.TEXT: pa.string(),
}
"""How each column type travels, numeric with its target's scale in place of 0."""


def arrow_type(target: Target) -> pa.DataType:
    """The Arrow type in which a column for this target comes out."""
    if target.type is PgType.NUMERIC:
        return pa.decimal128(38, target.scale or 0)
    return ARROW_STORAGE[target.type]
