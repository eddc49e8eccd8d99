"""Columns that already have a type (Parquet, Arrow, a transform's result): which column type, and how they get there.

What has no exact counterpart in PostgreSQL: nanoseconds are cut to microseconds; durations and intervals become text
that PostgreSQL's ``interval`` reads (``-26:03:04.5``, ``P1M2DT3S``); structs, lists and maps become JSON text, in
which bytes are base64, decimals keep every digit and NaN is null; uint64 becomes numeric; dates and times that are
plain counts (date64, time32) lose nothing.
"""

from __future__ import annotations

import base64
import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from etl_container.infer.types import FitError, Target, arrow_type
from etl_container.schema import PgType, without_nul

_UTC = pa.timestamp("us", "UTC")


def type_of(kind: pa.DataType) -> PgType | None:  # noqa: PLR0911 - a table
    """The column type for an Arrow type; None for Arrow's null type."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        special = {"arrow.uuid": PgType.UUID, "arrow.json": PgType.JSONB}.get(kind.extension_name)
        return special or type_of(kind.storage_type)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return type_of(kind.value_type)
    if types.is_null(kind):
        return None
    if types.is_boolean(kind):
        return PgType.BOOLEAN
    if types.is_integer(kind):
        return PgType.NUMERIC if kind == pa.uint64() else PgType.BIGINT
    if types.is_floating(kind):
        return PgType.DOUBLE
    if types.is_decimal(kind):
        return PgType.NUMERIC if 0 <= kind.scale <= 38 else PgType.TEXT
    if types.is_timestamp(kind):
        return PgType.TIMESTAMP if kind.tz is None else PgType.TIMESTAMPTZ
    if types.is_date(kind):
        return PgType.DATE
    if types.is_time(kind):
        return PgType.TIME
    if types.is_nested(kind):
        return PgType.JSONB
    if is_binary(kind):
        return PgType.BYTEA
    return PgType.TEXT


def type_of_values(array: pa.Array) -> PgType | None:
    """The column type for an array: as :func:`type_of`, save that decimals of more than 38 digits are text."""
    kind = unwrapped(array).type if pa.types.is_dictionary(array.type) else array.type
    if pa.types.is_decimal256(kind) and kind.precision > 38:
        try:
            unwrapped(array).cast(pa.decimal128(38, kind.scale))
        except pa.ArrowInvalid:
            return PgType.TEXT
    return type_of(array.type)


def is_binary(kind: pa.DataType) -> bool:
    """Bytes in any of Arrow's layouts."""
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Texts in any of Arrow's layouts."""
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def scale_of(kind: pa.DataType) -> int:
    """The digits after the decimal point that a numeric of this Arrow type needs."""
    return int(kind.scale) if pa.types.is_decimal(kind) else 0


def unwrapped(array: pa.Array) -> pa.Array:
    """The array without extension type, dictionary, runs or chunks."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    while True:
        kind = array.type
        if isinstance(kind, pa.BaseExtensionType):
            array = array.storage
        elif pa.types.is_dictionary(kind):
            array = array.dictionary_decode()
        elif pa.types.is_run_end_encoded(kind):
            array = pc.run_end_decode(array)
        else:
            return array


def fit(array: pa.Array, target: Target) -> pa.Array:
    """A typed array in its target's storage type.

    Raises:
        FitError: a value does not fit; it names the first.
    """
    wanted = arrow_type(target)
    if array.type.equals(wanted):
        return array
    is_uuid = type_of(array.type) is PgType.UUID
    array = unwrapped(array)
    kind = array.type
    if kind.equals(wanted):
        return array
    if pa.types.is_null(kind):
        return pa.nulls(len(array), wanted)
    if target.type is PgType.TEXT:
        return to_text(array, is_uuid=is_uuid)
    if target.type is PgType.JSONB:
        return to_json(array)
    try:
        return _cast(array, wanted, target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _first_misfit(array, wanted, target, error) from None


def _cast(array: pa.Array, wanted: pa.DataType, target: Target) -> pa.Array:  # noqa: PLR0911
    kind = array.type
    types = pa.types
    if is_text(kind):
        from etl_container.infer.columns import parse

        parsed = parse(pc.cast(array, pa.string()), target, exact=False)
        if parsed is None:
            raise pa.ArrowInvalid(f"not {target.type}")
        return parsed
    if target.type in (PgType.TIMESTAMP, PgType.TIMESTAMPTZ) and (types.is_timestamp(kind) or types.is_date(kind)):
        zone = kind.tz if types.is_timestamp(kind) else None
        if types.is_timestamp(kind) and (zone is None) != (target.type is PgType.TIMESTAMP):
            raise pa.ArrowInvalid("with and without a time zone are not the same")
        # Nanoseconds are cut (rounded down, also before 1970); coarser units must not overflow.
        if types.is_timestamp(kind) and kind.unit == "ns":
            return _cut_to_micros(array).cast(wanted)
        return array.cast(pa.timestamp("us", zone)).cast(wanted)
    if target.type is PgType.TIME and types.is_time64(kind) and kind.unit == "ns":
        return pc.cast(array, wanted, safe=False)
    if target.type is PgType.NUMERIC and types.is_floating(kind):
        raise pa.ArrowInvalid("a double is no exact numeric")
    if target.type is PgType.NUMERIC and types.is_integer(kind):
        array = array.cast(pa.decimal128(38 if kind == pa.uint64() else 19, 0)) if kind == pa.uint64() else array
    if target.type is PgType.UUID and is_binary(kind):
        return array.cast(pa.binary(16))
    if target.type is PgType.DOUBLE and types.is_integer(kind):
        return pc.cast(array, wanted, safe=False)
    return array.cast(wanted)


def _cut_to_micros(array: pa.Array) -> pa.Array:
    """Nanoseconds rounded down; Arrow's own floor overflows at the earliest of them."""
    nanos = array.view(pa.int64())
    micros = pc.divide(nanos, 1000)
    cut = pc.less(pc.subtract(nanos, pc.multiply(micros, 1000)), 0)
    return pc.if_else(cut, pc.subtract(micros, 1), micros).view(pa.timestamp("us"))


def _first_misfit(array: pa.Array, wanted: pa.DataType, target: Target, error: Exception) -> FitError:
    """The first value that cannot be cast; found by halving."""
    low, high = 0, len(array)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _cast(array.slice(low, middle - low), wanted, target)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            high = middle
        else:
            low = middle
    value = to_text(array.slice(low, 1))[0].as_py() if len(array) else None
    return FitError(low, str(value), f"no {target.type} ({str(error).splitlines()[0][:120]})")


def to_text(array: pa.Array, *, is_uuid: bool = False) -> pa.StringArray:  # noqa: PLR0911
    """Any array as texts that PostgreSQL would read back as the value."""
    array = unwrapped(array)
    kind = array.type
    types = pa.types
    if is_text(kind):
        return array.cast(pa.string())
    if types.is_null(kind):
        return pa.nulls(len(array), pa.string())
    if types.is_nested(kind):
        return to_json(array)
    if is_binary(kind):
        values = array.to_pylist()
        if is_uuid:
            return pa.array([None if value is None else str(uuid.UUID(bytes=value)) for value in values], pa.string())
        return pa.array([None if value is None else "\\x" + value.hex() for value in values], pa.string())
    if types.is_duration(kind):
        return _durations(array)
    if types.is_interval(kind):
        return pa.array([None if value is None else _interval(value) for value in array.to_pylist()], pa.string())
    if types.is_timestamp(kind):
        naive = array.cast(pa.timestamp("us"), safe=False) if kind.tz is None else array.cast(_UTC, safe=False)
        text = pc.cast(naive.cast(pa.timestamp("us")), pa.string())
        text = pc.replace_substring_regex(text, r"\.?0*$", "") if _all_whole(text) else text
        return text if kind.tz is None else pc.binary_join_element_wise(text, "Z", "")
    if types.is_float16(kind):
        array = array.cast(pa.float32())
    return pc.cast(array, pa.string())


def _all_whole(texts: pa.StringArray) -> bool:
    """Whether no timestamp has a fraction of a second (Arrow writes ``.000000``)."""
    return bool(pc.all(pc.fill_null(pc.ends_with(texts, ".000000"), True)).as_py())


def _durations(array: pa.DurationArray) -> pa.StringArray:
    per_second = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}[array.type.unit]
    places = len(str(per_second)) - 1

    def told(count: int) -> str:
        sign, count = ("-" if count < 0 else ""), abs(count)
        seconds, part = divmod(count, per_second)
        fraction = f".{part:0{places}d}".rstrip("0") if part else ""
        return f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{fraction}"

    counts = array.view(pa.int64()).to_pylist()
    return pa.array([None if count is None else told(count) for count in counts], pa.string())


def _interval(value: Any) -> str:
    seconds = Decimal(value.nanoseconds) / 1_000_000_000
    return f"P{value.months}M{value.days}DT{seconds.normalize():f}S"


def to_json(array: pa.Array) -> pa.StringArray:
    """Each value as JSON text; null stays null."""
    array = unwrapped(array)
    plain = _jsonable(array.type)
    texts: list[str | None] = []
    try:
        values = array.to_pylist()
    except OverflowError:  # a time beyond Python's: nothing of it is lost as text
        values = array.cast(_with_times_as_text(array.type)).to_pylist()
    for value in values:
        if value is None:
            texts.append(None)
        else:
            shaped = value if plain else _reshaped(value, array.type)
            texts.append(orjson.dumps(shaped, default=_default, option=orjson.OPT_NON_STR_KEYS).decode())
    return pa.array(texts, pa.string())


def _with_times_as_text(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, _with_times_as_text(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(_with_times_as_text(kind.key_type), _with_times_as_text(kind.item_type))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(_with_times_as_text(kind.value_type))
    if types.is_duration(kind):
        return pa.int64()
    return pa.string() if types.is_temporal(kind) and not types.is_interval(kind) else kind


def _jsonable(kind: pa.DataType) -> bool:
    """Whether orjson writes ``to_pylist``'s values of this type as they should be: no map, no duration, inside."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return False
    if types.is_struct(kind):
        names = [field.name for field in kind]
        return len(set(names)) == len(names) and all(_jsonable(field.type) for field in kind)
    if types.is_map(kind):
        return False
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _jsonable(kind.value_type)
    return not types.is_nested(kind)


def _reshaped(value: Any, kind: pa.DataType) -> Any:
    """Maps (lists of pairs in Python) as objects, everywhere inside the value."""
    types = pa.types
    if value is None:
        return None
    if isinstance(kind, pa.BaseExtensionType):
        return _reshaped(value, kind.storage_type)
    if types.is_map(kind):
        pairs = value.items() if isinstance(value, dict) else value
        return {_key(key): _reshaped(item, kind.item_type) for key, item in pairs}
    if types.is_struct(kind):
        return {field.name: _reshaped(value.get(field.name), field.type) for field in kind}
    if types.is_nested(kind) and hasattr(kind, "value_type") and isinstance(value, list):
        return [_reshaped(item, kind.value_type) for item in value]
    return value


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    text = orjson.dumps(key, default=_default).decode()
    return text.strip('"')


def _default(value: Any) -> Any:  # noqa: PLR0911
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value:f}") if value.is_finite() else None
    if isinstance(value, int):
        return orjson.Fragment(str(value))
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)


def quoted(texts: pa.StringArray) -> pa.StringArray:
    """Each text as a JSON string."""
    return pa.array([None if text is None else orjson.dumps(text).decode() for text in texts.to_pylist()], pa.string())


def json_without_nul(texts: pa.StringArray) -> tuple[pa.StringArray, bool]:
    """JSON texts without the escape of NUL, which jsonb refuses; and whether there was any."""
    suspects = pc.match_substring(texts, "\\u0000")
    if not pc.any(suspects).as_py():
        return texts, False
    values = [
        without_nul(text) if text is not None and suspect else text
        for text, suspect in zip(texts.to_pylist(), suspects.to_pylist(), strict=True)
    ]
    cleaned = pa.array(values, pa.string())
    return cleaned, not cleaned.equals(texts)
