"""A query's result as CSV, JSON, JSON Lines, Markdown or Parquet: streamed, one row or batch at a time.

Values keep their meaning in every format: exact numbers are text in JSON and Parquet, timestamps ISO 8601, an empty
text is not a null (CSV writes ``""`` for the one and nothing for the other, as PostgreSQL's COPY does).
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import decimal
import fcntl
import io
import math
import os
import re
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, BinaryIO

from lakectl.errors import LakectlError, UsageError
from lakectl.targets.base import QueryColumn, QueryResult, Writable

FORMATS = ("table", "csv", "json", "jsonl", "markdown", "parquet")
NUMERIC_TYPES = frozenset(
    {"smallint", "integer", "bigint", "real", "double precision", "numeric", "int2", "int4", "int8", "float4", "float8"}
)
_BATCH = 10_000
"""Rows that are converted at a time."""
_BLOCK = 1 << 20
"""Bytes of CSV that are parsed at a time."""
_GROUP, _GROUP_BYTES = 250_000, 32 << 20
"""Rows and bytes of a row group of Parquet, whichever is reached first."""
_SPECIAL = re.compile('[",\r\n]')


def text(value: Any) -> str | None:  # noqa: PLR0911 — one line a type
    """A value as text, for people and for CSV; None for null."""
    match value:
        case None:
            return None
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float():
            return _float(value)
        case datetime.datetime():
            return value.isoformat(sep=" ")
        case datetime.timedelta():
            return _interval(value)
        case bytes() | bytearray() | memoryview():
            return "\\x" + bytes(value).hex()
        case dict() | list():
            return json_text(value)
        case _:
            return str(value)


def json_value(value: Any) -> Any:  # noqa: PLR0911 — one line a type
    """A value as JSON knows it: exact numbers as strings, timestamps in ISO 8601."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else _float(value)
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case dict():
            return {str(key): json_value(item) for key, item in value.items()}
        case list() | tuple():
            return [json_value(item) for item in value]
        case decimal.Decimal() | uuid.UUID():
            return str(value)
        case _:
            return text(value)


def json_text(value: Any) -> str:
    """Any value as compact JSON."""
    import json

    return json.dumps(json_value(value), ensure_ascii=False, separators=(",", ":"))


def unique_names(columns: Sequence[QueryColumn]) -> list[str]:
    """The columns' names, repeated ones numbered (``n``, ``n_2``), so that a JSON object loses none."""
    taken: set[str] = set()
    names: list[str] = []
    for column in columns:
        name, number = column.name, 1
        while name in taken:
            number += 1
            name = f"{column.name}_{number}"
        taken.add(name)
        names.append(name)
    return names


def write(result: QueryResult, form: str, stream: BinaryIO) -> int:
    """Write all rows in ``form`` (one of :data:`FORMATS` except ``table``); returns their number."""
    writers: dict[str, Callable[[QueryResult, BinaryIO], int]] = {
        "csv": _csv,
        "json": _json,
        "jsonl": _jsonl,
        "markdown": _markdown,
        "parquet": _parquet,
    }
    count = writers[form](result, stream)
    stream.flush()
    return count


_AS_THEY_ARE = frozenset(
    {"smallint", "integer", "bigint", "text", "character varying", "character", "uuid", "date", "oid"}
    | {"timestamp without time zone", "timestamp with time zone", "time without time zone"}
)
"""Types whose values the writers of CSV and JSON know themselves; everything else goes through a function of ours."""


def _converters(
    columns: Sequence[QueryColumn], other: Callable[[Any], Any], special: dict[str, Callable[[Any], Any]]
) -> list[tuple[int, Callable[[Any], Any]]]:
    """Position and function of the columns that need one."""
    return [
        (position, special.get(column.type, other))
        for position, column in enumerate(columns)
        if column.type not in _AS_THEY_ARE
    ]


def _csv(result: QueryResult, stream: BinaryIO) -> int:
    copy = result.csv_copier(header=True)
    if copy is not None:
        return copy(stream)
    found = result.rows()
    special: dict[str, Callable[[Any], Any]] = {"numeric": _same, "double precision": _csv_float, "real": _csv_float}
    convert = _converters(result.columns, text, special)
    stream.write(_csv_line([column.name for column in result.columns]))
    count = 0
    for rows in _batches(found, 1000):
        page = io.StringIO()
        writer = csv.writer(page, lineterminator="\n")
        for row in rows:
            values = list(row)
            for position, function in convert:
                values[position] = function(values[position])
            # The csv module writes an empty text like a null, and a lone null like an empty text.
            if "" in values or len(values) == 1:
                page.write(_csv_line([value if value is None else str(value) for value in values]).decode())
            else:
                writer.writerow(values)
        stream.write(page.getvalue().encode())
        count += len(rows)
    return count


def _csv_line(values: Sequence[str | None]) -> bytes:
    if len(values) == 1 and values[0] is None:
        return b"\n"
    return (",".join(map(_csv_field, values)) + "\n").encode()


def _csv_field(value: str | None) -> str:
    if value is None:
        return ""
    if not value or _SPECIAL.search(value):
        return '"' + value.replace('"', '""') + '"'
    return value


def _same(value: Any) -> Any:
    return value


def _csv_float(value: float | None) -> str | None:
    return None if value is None else _float(value)


def _json_float(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else _float(value)


def _json_number(value: Any) -> str | None:
    return None if value is None else str(value)


def _json(result: QueryResult, stream: BinaryIO) -> int:
    row_of = _json_rows(result)
    rows = result.rows()
    stream.write(b"[")
    count = 0
    for row in rows:
        stream.write(b",\n " if count else b"\n ")
        stream.write(row_of(row))
        count += 1
    stream.write(b"\n]\n" if count else b"]\n")
    return count


def _jsonl(result: QueryResult, stream: BinaryIO) -> int:
    row_of = _json_rows(result)
    return _each(result.rows(), lambda row: stream.write(row_of(row) + b"\n"))


def _json_rows(result: QueryResult) -> Callable[[Sequence[Any]], bytes]:
    """A function that writes one row as an object."""
    import orjson

    names = unique_names(result.columns)
    special: dict[str, Callable[[Any], Any]] = {
        "boolean": _same,
        "numeric": _json_number,
        "double precision": _json_float,
        "real": _json_float,
    }
    convert = _converters(result.columns, json_value, special)

    def row_of(row: Sequence[Any]) -> bytes:
        values = dict(zip(names, row, strict=True))
        for position, function in convert:
            values[names[position]] = function(row[position])
        try:
            return orjson.dumps(values)
        except TypeError:  # an integer beyond 64 bits, a time with a zone
            return json_text(values).encode()

    return row_of


def _markdown(result: QueryResult, stream: BinaryIO) -> int:
    def line(values: Iterable[str]) -> bytes:
        return ("| " + " | ".join(values) + " |\n").encode()

    rows = result.rows()
    stream.write(line(_markdown_cell(column.name) for column in result.columns))
    stream.write(line("---:" if column.type in NUMERIC_TYPES else "---" for column in result.columns))
    return _each(rows, lambda row: stream.write(line(_markdown_cell(text(value) or "") for value in row)))


def _markdown_cell(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return re.sub(r"\r\n|[\r\n]", "<br>", escaped)


def _parquet(result: QueryResult, stream: BinaryIO) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = [_arrow_type(column.type, pa) for column in result.columns]
    schema = pa.schema(list(zip(unique_names(result.columns), types, strict=True)))
    count = 0
    copy = result.csv_copier(header=False) if all(column.type in _PARSED for column in result.columns) else None
    batches = _converted(result, schema) if copy is None else _copied(copy, schema)
    with contextlib.closing(batches), pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for table in _grouped(batches, schema):
            writer.write_table(table)
            count += table.num_rows
    return count


def _grouped(batches: Iterator[Any], schema: Any) -> Iterator[Any]:
    """Tables of the size of a row group, or what is left."""
    import pyarrow as pa

    held: list[Any] = []
    for batch in batches:
        held.append(batch)
        if sum(one.num_rows for one in held) >= _GROUP or sum(one.nbytes for one in held) >= _GROUP_BYTES:
            yield pa.Table.from_batches(held, schema)
            held = []
    if held:
        yield pa.Table.from_batches(held, schema)


def _converted(result: QueryResult, schema: Any) -> Generator[Any]:
    """Any result's rows, converted value by value."""
    import pyarrow as pa

    for rows in _batches(result.rows(), _BATCH):
        arrays = [
            pa.array([text(v) for v in values] if pa.types.is_string(field.type) else values, type=field.type)
            for values, field in zip(zip(*rows, strict=True), schema, strict=True)
        ]
        yield pa.record_batch(arrays, schema=schema)


_PARSED = frozenset(
    {"smallint", "integer", "bigint", "real", "double precision", "numeric", "boolean", "date", "uuid"}
    | {"text", "character varying", "character", "timestamp without time zone", "timestamp with time zone"}
)
"""Types whose text in CSV Arrow's parser reads as it was meant."""


def _copied(copy: Callable[[Writable], int], schema: Any) -> Generator[Any]:
    """The rows as Arrow reads the server's CSV, while the server writes it."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    names = [str(number) for number in range(len(schema))]
    receiving, sending = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # beyond what the system allows
            fcntl.fcntl(sending, fcntl.F_SETPIPE_SZ, _BLOCK)

    def send() -> None:
        with os.fdopen(sending, "wb", buffering=_BLOCK) as pipe:
            copy(pipe)

    with os.fdopen(receiving, "rb", buffering=_BLOCK) as pipe, ThreadPoolExecutor(1, "copy") as pool:
        sent = pool.submit(send)
        try:
            reader = pa_csv.open_csv(
                pipe,
                read_options=pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=_BLOCK),
                parse_options=pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
                convert_options=pa_csv.ConvertOptions(
                    column_types={name: field.type for name, field in zip(names, schema, strict=True)},
                    null_values=[""],
                    true_values=["true"],
                    false_values=["false"],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
            for batch in reader:
                yield batch.rename_columns(schema.names)
        except pa.ArrowInvalid as error:
            pipe.close()
            if not sent.done() or sent.exception() is None:
                with contextlib.suppress(OSError):
                    sent.result()
                if "Empty CSV" in str(error):
                    return
                raise UsageError(
                    f"a value does not fit the column's type in Parquet: {error}",
                    hint="cast that column to text, or export CSV",
                ) from error
        except BaseException:
            pipe.close()  # or the sender waits for a reader
            raise
        sent.result()


def _arrow_type(name: str, pa: Any) -> Any:
    known = {
        "boolean": pa.bool_(),
        "smallint": pa.int16(),
        "integer": pa.int32(),
        "bigint": pa.int64(),
        "real": pa.float32(),
        "double precision": pa.float64(),
        "date": pa.date32(),
        "timestamp without time zone": pa.timestamp("us"),
        "timestamp with time zone": pa.timestamp("us", tz="UTC"),
        "bytea": pa.binary(),
    }
    return known.get(name, pa.string())


def _batches(rows: Iterator[Sequence[Any]], count: int) -> Iterator[list[Sequence[Any]]]:
    """So many rows at a time; what came before an error is handed over before the error."""
    batch: list[Sequence[Any]] = []
    try:
        for row in rows:
            batch.append(row)
            if len(batch) == count:
                yield batch
                batch = []
    except LakectlError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _each(rows: Iterator[Sequence[Any]], act: Callable[[Sequence[Any]], object]) -> int:
    count = 0
    for row in rows:
        act(row)
        count += 1
    return count


def _float(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _interval(value: datetime.timedelta) -> str:
    """ISO 8601: ``P1DT2H3M4.5S``."""
    if value < datetime.timedelta(0):
        return "-" + _interval(-value)
    hours, rest = divmod(value.seconds, 3600)
    minutes, whole = divmod(rest, 60)
    part = f"{whole}.{value.microseconds:06d}".rstrip("0").rstrip(".")
    time = f"{hours}H" * bool(hours) + f"{minutes}M" * bool(minutes) + f"{part}S" * (part != "0")
    return f"P{value.days}D" * bool(value.days) + f"{'' if value.days else 'P'}T{time}" * bool(time) or "PT0S"


class Limited:
    """The first rows of another result."""

    def __init__(self, result: QueryResult, limit: int) -> None:
        self._result = result
        self._limit = limit

    @property
    def columns(self) -> tuple[QueryColumn, ...]:
        return self._result.columns

    @property
    def status(self) -> str:
        return self._result.status

    def rows(self) -> Iterator[Sequence[Any]]:
        return islice(self._result.rows(), self._limit)

    def csv_copier(self, *, header: bool, limit: int | None = None) -> Callable[[Writable], int] | None:
        return self._result.csv_copier(header=header, limit=min(self._limit, limit or self._limit))

    def __enter__(self) -> Limited:
        return self

    def __exit__(self, *exc: object) -> None:
        self._result.__exit__(*exc)
