"""Reader of what is not a table: the rows that a kind's parser makes of it, as Arrow batches.

It runs in a process of its own (``confined``); what the columns are is in ``kinds``.
"""

from __future__ import annotations

import datetime as dt
import importlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import orjson
import pyarrow as pa

from etl_container.formats.base import Description, Kind, RawBatch, Source
from etl_container.formats.compression import LocalCopy
from etl_container.formats.kinds import COLUMNS, KIND_OF

BATCH_ROWS: Final = 1_000
BATCH_BYTES: Final = 8 << 20
"""Text and bytes of a batch, about."""
BATCH_SECONDS: Final = 2.0
"""Seconds after which what is there is handed on: slow pages are no hang."""

_TYPES: Final = {
    "text": pa.string(),
    "json": pa.string(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "bytea": pa.binary(),
}
_KINDS: Final = {"text": Kind.VERBATIM, "json": Kind.NESTED}


def open_kind(source: Source, found: str) -> KindReader:
    """The rows of an e-mail, document, image, sound or archive; ``found`` is its format."""
    return KindReader(source, found)


class KindReader:
    """See :class:`~etl_container.formats.base.TableReader`."""

    def __init__(self, source: Source, found: str) -> None:
        self._format = found
        self._kind = KIND_OF[found]
        self._columns = COLUMNS[self._kind]
        self._copy = LocalCopy(source)

    @property
    def description(self) -> Description:
        return Description(format=self._format)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self._columns)

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    def batches(self) -> Iterator[RawBatch]:
        held: list[dict[str, Any]] = []
        first, size, since = 0, 0, time.monotonic()
        for row in self._rows():
            held.append(row)
            size += sum(len(value) for value in row.values() if isinstance(value, str | bytes))
            if len(held) >= BATCH_ROWS or size >= BATCH_BYTES or time.monotonic() - since > BATCH_SECONDS:
                yield self._batch(held, first)
                first += len(held)
                held, size, since = [], 0, time.monotonic()
        if held:
            yield self._batch(held, first)

    def locate(self, records: Iterable[int]) -> Iterator[tuple[int, int | None, str | None]]:
        """Rows have no lines here; their text is the row as JSON."""
        wanted = iter(records)
        record = next(wanted, None)
        for number, row in enumerate(self._rows() if record is not None else ()):
            if number == record:
                yield number, None, _json({key: value for key, value in row.items() if not isinstance(value, bytes)})
                record = next(wanted, None)
                if record is None:
                    return

    def _rows(self) -> Iterator[dict[str, Any]]:
        return _parser(self._kind)(self._copy.path, self._format)

    def _batch(self, rows: list[dict[str, Any]], first: int) -> RawBatch:
        columns = [
            pa.array([_value(row.get(name), kind) for row in rows], _TYPES[kind])
            for name, kind in self._columns.items()
        ]
        kinds = tuple(_KINDS.get(kind, Kind(0)) | Kind.DECLARED for kind in self._columns.values())
        return RawBatch(pa.RecordBatch.from_arrays(columns, names=list(self._columns)), kinds, first)


def _value(value: Any, kind: str) -> Any:
    """A value of a parser's row as its column has it; None where the parser's word is not of that type."""
    try:
        return None if value is None else _CONVERT[kind](value)
    except (TypeError, ValueError, OverflowError):
        return None


def _parser(kind: str) -> Callable[[str, str], Iterator[dict[str, Any]]]:
    rows: Callable[[str, str], Iterator[dict[str, Any]]]
    rows = importlib.import_module(f"etl_container.formats.kinds.{kind}").rows
    return rows


def _json(value: Any) -> str:
    try:
        text = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a lone surrogate
        text = json.dumps(value, default=str, ensure_ascii=False).encode("utf-8", "replace").decode()
    return text.replace("\\u0000", "\N{REPLACEMENT CHARACTER}")


def _text(value: Any) -> str:
    return str(value).replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _bigint(value: Any) -> int | None:
    number = int(value)
    return number if -(1 << 63) <= number < 1 << 63 else None


_CONVERT: Final[dict[str, Callable[[Any], Any]]] = {
    "text": _text,
    "json": _json,
    "timestamp": dt.datetime.fromisoformat,
    "timestamptz": dt.datetime.fromisoformat,
    "bytea": bytes,
    "bigint": _bigint,
    "double": float,
}
