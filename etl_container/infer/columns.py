"""Whole columns: texts to typed Arrow arrays by Arrow's and NumPy's kernels, and the state of a column of texts.

Every function here does for a column what ``shapes`` and ``values`` define for one value; Arrow's parsers take more
than these do (leading zeros, hex, ``+1``, 0/1 as booleans), so each fast parser looks for that first. On a clean column
nothing else runs; a column with nulls' tokens or spaces is cleaned; what is still left goes value by value.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from etl_container.arrays import (
    Mask,
    booleans,
    buffers,
    int32s,
    integers,
    nullified,
    scalar,
    strings,
    to_mask,
    valid_mask,
)
from etl_container.infer import shapes
from etl_container.infer.shapes import NOTHING, NULL_TOKENS, SPACES, Reading, Shape, State
from etl_container.infer.types import Target, arrow_type
from etl_container.infer.values import Misfit, canonical, number_pattern
from etl_container.schema import PgType

_TOKENS = strings(["", *NULL_TOKENS])
_FIRST_DAY = -719162
"""0001-01-01 as days since 1970."""
_DAY = 86_400_000_000

_HEAD = 32
"""So many values are looked at one by one before whole columns are."""
_FEW = 512
"""So many values are not worth a dictionary."""


def has_byte(texts: pa.StringArray, byte: int) -> bool:
    """Whether any value has this byte (0 is a third of the cost of any other)."""
    offsets, data = buffers(texts)
    part = data[offsets[0] : offsets[-1]]
    if part.size == 0:
        return False
    return bool(part.min() == 0) if byte == 0 else bool((part == byte).any())


def cleaned(texts: pa.StringArray, *, trim: bool = True) -> pa.StringArray:
    """Without the spaces around values, and null where a value stands for null."""
    if trim:
        texts = pc.utf8_trim(texts, characters=SPACES)
    absent = pc.is_in(texts, value_set=_TOKENS)
    return nullified(texts, absent) if pc.any(absent).as_py() else texts


def matches(texts: pa.StringArray, pattern: str) -> Mask:
    """Which values match the pattern as a whole; null does not."""
    return to_mask(pc.match_substring_regex(texts, f"^(?:{pattern})$"))


# ---- fast parsers: the typed array, or None when a value is anything but plain -------------------------------------


def parse(texts: pa.StringArray, target: Target, *, exact: bool, timezone: str | None = None) -> pa.Array | None:  # noqa: PLR0911, PLR0912
    """The plainly written values of the target's type; None when any value is not plainly that.

    ``exact``: an integer that a double would round is not a double.
    """
    try:
        match target.type:
            case PgType.BIGINT:
                return None if odd_numbers(texts, fraction=False) else pc.cast(texts, pa.int64())
            case PgType.DOUBLE:
                return _double(texts, exact)
            case PgType.NUMERIC:
                return None if odd_numbers(texts, fraction=True) else pc.cast(texts, arrow_type(target))
            case PgType.BOOLEAN:
                short = pc.min(pc.binary_length(texts)).as_py()
                return None if short is not None and short < 4 else pc.cast(texts, pa.bool_())
            case PgType.DATE:
                return _since_year_one(pc.cast(texts, pa.date32()), np.int32, 1)
            case PgType.TIMESTAMP:
                return _since_year_one(pc.cast(texts, pa.timestamp("us")), np.int64, _DAY)
            case PgType.TIMESTAMPTZ:
                return _zoned(texts, timezone)
            case PgType.TIME:
                short = pc.min(pc.binary_length(texts)).as_py()
                if short is not None and short < 5:
                    return None
                moments = pc.binary_join_element_wise(scalar("1970-01-01"), texts, scalar(" "))
                return pc.cast(pc.cast(moments, pa.timestamp("us")), pa.time64("us"))
            case PgType.UUID:
                return uuids(texts)
            case PgType.BYTEA:
                return pc.cast(texts, pa.binary())
            case _:
                return texts
    except pa.ArrowInvalid:
        return None


def odd_numbers(texts: pa.StringArray, *, fraction: bool) -> bool:
    """Whether a value is written as Arrow takes a number and we do not: ``007``, ``+7``, ``0x1f``, ``-01.5``."""
    offsets, data = buffers(texts)
    if data.size == 0 or len(texts) == 0:
        return False
    starts = offsets[:-1]
    lengths = offsets[1:] - starts
    # mode="clip" because an empty last value starts where the data ends; it is also three times faster.
    first = data.take(starts, mode="clip")
    rows = np.flatnonzero((first <= 48) & (lengths > 1))
    if rows.size == 0:
        return False
    start, length, lead = starts[rows], lengths[rows], first[rows]
    second = data.take(start + 1, mode="clip")
    negative_zero = (lead == 45) & (second == 48) & (length > 2)
    if fraction:
        odd = (lead == 43) | ((lead == 48) & _is_digit(second))
        if negative_zero.any():
            odd |= negative_zero & _is_digit(data.take(start + 2, mode="clip"))
    else:
        odd = (lead == 43) | (lead == 48) | negative_zero
    if not odd.any():
        return False
    # A null may cover a text that is not looked at (see nullified).
    return not texts.null_count or bool((odd & valid_mask(texts)[rows]).any())


def _is_digit(chars: npt.NDArray[np.uint8]) -> Mask:
    return (chars - np.uint8(48)) < 10


def _double(texts: pa.StringArray, exact: bool) -> pa.Array | None:
    if odd_numbers(texts, fraction=True):
        return None
    numbers = pc.cast(texts, pa.float64())
    low, high = extremes(numbers, np.float64)
    if not (low > -shapes.EXACT and high < shapes.EXACT):
        # NaN (which is a null token here), infinite, or too large to be exact: look at those.
        if pc.any(pc.is_nan(numbers)).as_py():
            return None
        values = np.frombuffer(numbers.buffers()[1], np.float64)[numbers.offset : numbers.offset + len(numbers)]
        large = pc.filter(texts, booleans((np.abs(values) >= shapes.EXACT) & valid_mask(numbers)))
        if _infinite_or_inexact(large, exact):
            return None
    return numbers


def _infinite_or_inexact(large: pa.StringArray, exact: bool) -> bool:
    for text in pc.unique(large).to_pylist():
        if text is None:
            continue
        state = shapes.classify(text)
        if not state.shapes & shapes.PLAIN or (exact and state.shapes & Shape.INEXACT):
            return True
    return False


def exact(array: pa.Array) -> bool:
    """Whether values parsed from plain text stand for it: no double that may be rounded, none before the year 1."""
    match array.type:
        case kind if pa.types.is_floating(kind):
            low, high = extremes(array, np.float64)
            return bool(low > -shapes.EXACT and high < shapes.EXACT)  # false for NaN
        case kind if pa.types.is_date32(kind):
            return bool(extremes(array, np.int32)[0] >= _FIRST_DAY)
        case kind if pa.types.is_timestamp(kind):
            # UTC may be a day off.
            return bool(extremes(array, np.int64)[0] >= (_FIRST_DAY + (0 if kind.tz is None else 2)) * _DAY)
        case _:
            return True


def extremes(array: pa.Array, kind: type[np.generic]) -> tuple[Any, Any]:
    """The least and the greatest value of a parsed array, 0 where it is null (as Arrow leaves it), or NaN."""
    values = np.frombuffer(array.buffers()[1], kind)[array.offset : array.offset + len(array)]
    return (values.min(), values.max()) if values.size else (0, 0)


def _since_year_one(array: pa.Array, kind: type[np.generic], unit: int) -> pa.Array | None:
    values = np.frombuffer(array.buffers()[1], kind)[: len(array)]
    return None if values.size and values.min() < _FIRST_DAY * unit else array


def _zoned(texts: pa.StringArray, timezone: str | None) -> pa.Array | None:
    utc = pa.timestamp("us", "UTC")
    if timezone is None:
        moments = pc.cast(texts, utc)
    else:
        naive = matches(texts, f"{shapes.DAY_PATTERN}(?:[ T]{shapes.CLOCK_PATTERN})?")
        local = pc.cast(nullified(texts, booleans(~naive)), pa.timestamp("us"))
        placed = pc.assume_timezone(local, timezone, ambiguous="earliest", nonexistent="latest").cast(utc)
        moments = pc.coalesce(placed, pc.cast(nullified(texts, booleans(naive)), utc))
    # The year is that of the text: UTC may be a day off, which PostgreSQL holds too.
    low, _ = extremes(moments, np.int64)
    early = low < (_FIRST_DAY + 2) * _DAY and pc.any(pc.starts_with(texts, "0000")).as_py()
    return None if early else moments


_NIBBLES = np.full(256, 255, np.uint8)
for _digit, _char in enumerate("0123456789abcdef"):
    _NIBBLES[ord(_char)] = _NIBBLES[ord(_char.upper())] = _digit
_HYPHENS = (8, 13, 18, 23)
_HEX = [place for place in range(36) if place not in _HYPHENS]


def uuids(texts: pa.StringArray) -> pa.Array | None:
    """16 bytes for each uuid; None when a value is none."""
    present = texts.drop_null() if texts.null_count else texts
    offsets, data = buffers(present)
    if len(present) and not (np.diff(offsets) == 36).all():
        return None
    grid = data[offsets[0] : offsets[-1]].reshape(len(present), 36)
    nibbles = _NIBBLES[grid[:, _HEX]]
    if (nibbles > 15).any() or (grid[:, _HYPHENS] != ord("-")).any():
        return None
    octets = np.ascontiguousarray((nibbles[:, 0::2] << 4) | nibbles[:, 1::2])
    packed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(present), [None, pa.py_buffer(octets)])
    if not texts.null_count:
        return packed
    places = np.cumsum(valid_mask(texts)) - 1
    return packed.take(integers(places, valid_mask(texts)))


# ---- any column ------------------------------------------------------------------------------------------------------


def convert(  # noqa: PLR0911, PLR0912
    texts: pa.StringArray, reading: Reading, target: Target, *, exact: bool, string: bool = False, effort: int = 0
) -> tuple[pa.Array, dict[int, Misfit], int]:
    """The column as the target's type, the rows that are none of it, and the effort that it took.

    ``effort`` is what an earlier batch took, so that less is not tried: 0 nothing, 1 null tokens, 2 anything. Rows at
    fault are null in the result.
    """
    easy = reading.plain or target.type in (PgType.BOOLEAN, PgType.UUID, PgType.TIME)
    zone = reading.timezone
    if target.type is PgType.BYTEA:
        return pc.cast(texts, pa.binary()), {}, 0
    if target.type is PgType.JSONB:
        return (*_one_by_one(texts, reading, target, exact=exact, string=string), 2)
    if string and target.type in (PgType.BIGINT, PgType.DOUBLE, PgType.NUMERIC, PgType.BOOLEAN) and not target.strict:
        easy = False
    if easy and effort == 0 and (array := parse(texts, target, exact=exact, timezone=zone)) is not None:
        return array, {}, 0
    if easy and effort <= 1:
        # Nulls' tokens are common, and most often all that is special.
        texts = cleaned(texts, trim=False)
        if (array := _tried(texts, target, exact=exact, timezone=zone)) is not None:
            return array, {}, 1
    if len(texts) > _FEW:
        codes = texts.dictionary_encode()
        if len(codes.dictionary) * 4 < len(texts):
            array, found, _ = convert(codes.dictionary, reading, target, exact=exact, string=string, effort=2)
            if not found:
                return array.take(codes.indices), {}, 2
            indices = int32s(codes.indices)
            rows = np.flatnonzero(np.isin(indices, list(found)) & valid_mask(codes.indices))
            return array.take(codes.indices), {int(row): found[int(indices[row])] for row in rows}, 2
    texts = cleaned(texts)
    if easy and (array := _tried(texts, target, exact=exact, timezone=zone)) is not None:
        return array, {}, 2
    # What is written in the column's own way goes by kernels, the rest value by value.
    plain = _plainly(texts, reading, target, string=string)
    array = parse(plain, target, exact=exact, timezone=zone)
    if array is None:
        return (*_one_by_one(texts, reading, target, exact=exact, string=string), 2)
    if plain.null_count == texts.null_count:
        return array, {}, 2
    rows = np.flatnonzero(to_mask(pc.and_(pc.is_valid(texts), pc.is_null(plain))))
    others, misfits = _one_by_one(texts.take(integers(rows)), reading, target, exact=exact, string=string)
    if others.null_count < len(others):
        places = np.zeros(len(texts), np.int64)
        places[rows] = np.arange(rows.size)
        known = np.zeros(len(texts), np.bool_)
        known[rows] = True
        array = pc.coalesce(array, others.take(integers(places, known)))
    return array, {int(rows[row]): misfit for row, misfit in misfits.items()}, 2


def _tried(texts: pa.StringArray, target: Target, *, exact: bool, timezone: str | None = None) -> pa.Array | None:
    """As ``parse``, but the first values alone first: Arrow takes 1 µs for each value that fails."""
    if len(texts) > _FEW and parse(texts.slice(0, 2 * _HEAD), target, exact=exact, timezone=timezone) is None:
        return None
    return parse(texts, target, exact=exact, timezone=timezone)


def _plainly(texts: pa.StringArray, reading: Reading, target: Target, *, string: bool) -> pa.StringArray:  # noqa: PLR0911
    """The texts that are written in the column's way, as Arrow parses them; null for all others."""
    match target.type:
        case PgType.BIGINT | PgType.DOUBLE | PgType.NUMERIC:
            if string and not target.strict:
                return pa.nulls(len(texts), pa.string())
            return _plain_numbers(texts, reading, fraction=target.type is not PgType.BIGINT)
        case PgType.DATE | PgType.TIMESTAMP | PgType.TIMESTAMPTZ:
            if reading.order in ("dmy", "mdy", "ymd"):
                return _plain_dates(texts, reading, string=string)
            return _plain_iso(texts)
        case PgType.TIME:
            texts = _only(texts, matches(texts, shapes.TIME_PATTERN))
            return pc.replace_substring_regex(texts, "^([0-9]:)", r"0\1")
        case PgType.BOOLEAN:
            return _only(texts, matches(texts, shapes.BOOL_PATTERN))
        case _:
            return _only(texts, matches(texts, shapes.UUID_PATTERN))


def _only(texts: pa.StringArray, where: Mask) -> pa.StringArray:
    return texts if where.all() else nullified(texts, booleans(~where))


def _plain_numbers(texts: pa.StringArray, reading: Reading, *, fraction: bool) -> pa.StringArray:
    if reading.affix != "_":
        before, behind = reading.affix.split("_")
        sign = "".join(f"\\{char}" if char == "$" else char for char in before or behind)
        pattern = rf"^(-?){sign} ?([^ ].*)$" if before else rf"^(-?)(.*[^ -]) ?{sign}$"
        texts = _only(texts, matches(texts, pattern[1:-1]))
        texts = pc.replace_substring_regex(texts, pattern, r"\1\2")
    texts = _only(texts, matches(texts, number_pattern(reading, fraction)))
    if reading.group in (",", "."):
        texts = pc.replace_substring(texts, reading.group, "")
    elif reading.group:
        texts = pc.replace_substring_regex(texts, "[ \u00a0\u202f'\u2019]", "")
    return texts if reading.decimal == "." else pc.replace_substring(texts, ",", ".")


def _plain_iso(texts: pa.StringArray) -> pa.StringArray:
    texts = _only(texts, matches(texts, "|".join(pattern for _, pattern in shapes.ISO_PATTERNS)))
    texts = pc.replace_substring_regex(texts, r"(\.[0-9]{6})[0-9]{1,3}", r"\1")
    texts = pc.replace_substring_regex(texts, "(?:z| ?UTC| ?GMT| Z)$", "Z")
    return pc.replace_substring_regex(texts, " ([+-][0-9:]+)$", r"\1")


def _plain_dates(texts: pa.StringArray, reading: Reading, *, string: bool) -> pa.StringArray:
    """Dates of an order other than ISO, in ISO form."""
    if string:
        return _plain_iso(texts)
    order = reading.order
    pattern = shapes.YEAR_FIRST_PATTERN if order == "ymd" else shapes.ORDERED_PATTERN
    texts = _only(texts, matches(texts, pattern.replace("[-/.]", f"[{reading.mark}]")))
    parts = "^([0-9]{1,4})[-/.]([0-9]{1,2})[-/.]([0-9]{1,4})[ T,]*"
    places = {"ymd": r"\1-0\2-0\3 ", "dmy": r"\3-0\2-0\1 ", "mdy": r"\3-0\1-0\2 "}[order]
    texts = pc.replace_substring_regex(texts, parts, places)
    texts = pc.replace_substring_regex(texts, "-0([0-9]{2})", r"-\1")
    texts = pc.replace_substring_regex(texts, " $", "")
    texts = pc.replace_substring_regex(texts, " ([0-9]):", r" 0\1:")
    texts = pc.replace_substring_regex(texts, r"(\.[0-9]{6})[0-9]{1,3}", r"\1")
    if not pc.any(pc.match_substring_regex(texts, "[AaPp]")).as_py():
        return texts
    texts = pc.replace_substring_regex(texts, " 12(:[0-9:.]+) ?[Aa].*$", r" 00\1")
    texts = pc.replace_substring_regex(texts, " ((?:0[1-9]|1[01]):[0-9:.]+) ?[Aa].*$", r" \1")
    for hour in range(1, 12):
        texts = pc.replace_substring_regex(texts, f" {hour:02d}(:[0-9:.]+) ?[Pp].*$", rf" {hour + 12}\1")
    return pc.replace_substring_regex(texts, " (12:[0-9:.]+) ?[Pp].*$", r" \1")


def _one_by_one(
    texts: pa.StringArray, reading: Reading, target: Target, *, exact: bool, string: bool
) -> tuple[pa.Array, dict[int, Misfit]]:
    codes = texts.dictionary_encode()
    scale = reading.scale if target.scale is None else target.scale
    values = [
        canonical(text, target.type, reading, scale, strict=target.strict, exact=exact, string=string)
        for text in codes.dictionary.to_pylist()
    ]
    plain = strings([None if isinstance(value, Misfit) else value for value in values])
    array = parse(plain.take(codes.indices), target, exact=False, timezone=reading.timezone)
    if array is None:
        raise AssertionError(f"canonical texts of {target.type} do not parse: {plain.to_pylist()[:5]}")
    misfits: dict[int, Misfit] = {}
    if any(isinstance(value, Misfit) for value in values):
        for row, code in enumerate(codes.indices.to_pylist()):
            if code is not None and isinstance(value := values[code], Misfit):
                misfits[row] = value
    return array, misfits


# ---- observing -------------------------------------------------------------------------------------------------------


def observe(texts: pa.StringArray, known: State, *, string: bool = False) -> State:
    """The state of the column's values, joined to what is known of it."""
    state = known
    if state.hopeless:
        return state
    if not state.shapes:
        state |= _states(texts.slice(0, _HEAD), string)
        if state.hopeless or len(texts) <= _HEAD:
            return state
    quick = _quick(texts, state, string)
    if quick is not None:
        return state | quick
    absent = pc.is_in(texts, value_set=_TOKENS)
    if pc.any(absent).as_py():
        for token in pc.unique(pc.filter(texts, absent)).to_pylist():
            state |= State(Shape.TOKEN if token else Shape.EMPTY)
        texts = pc.filter(texts, pc.invert(absent)).drop_null()
        quick = _quick(texts, state, string)
        if quick is not None:
            return state | quick
    trimmed = pc.utf8_trim(texts, characters=SPACES)
    for shape, absent in (
        (Shape.EMPTY, pc.equal(trimmed, scalar(""))),
        (Shape.TOKEN, pc.is_in(trimmed, value_set=_TOKENS.slice(1))),
    ):
        if pc.any(absent).as_py():
            state |= State(shape)
            trimmed = nullified(trimmed, absent)
    rest = trimmed.drop_null()
    quick = _quick(rest, state, string)
    if quick is not None:
        return state | quick
    return _scan(rest, state, string)


def _states(texts: pa.StringArray, string: bool) -> State:
    classify = shapes.classify_string if string else shapes.classify
    state = NOTHING
    for text in texts.to_pylist():
        if text is not None:
            state |= classify(text)
            if state.hopeless:
                break
    return state


def _quick(texts: pa.StringArray, state: State, string: bool) -> State | None:
    """The state of a column all of whose values are plainly of the kind seen so far; None when they are not."""
    kind = state.shapes & ~shapes.ADDED & ~shapes.ABSENT
    if state.affixes - {"_"}:
        return None
    if kind and not kind & ~(Shape.INT | Shape.POINT | Shape.POINT3 | Shape.EXP) and not string:
        return _quick_number(texts, kind)
    single = {
        Shape.BOOL: PgType.BOOLEAN,
        Shape.DATE: PgType.DATE,
        Shape.UUID: PgType.UUID,
        Shape.STAMPZ: PgType.TIMESTAMPTZ,
        Shape.STAMP: PgType.TIMESTAMP,
        Shape.TIME: PgType.TIME,
    }.get(kind)
    if single is None:
        return None
    if kind == Shape.STAMP:
        # Arrow takes a date for a timestamp; a date is another shape.
        short = pc.min(pc.binary_length(texts)).as_py()
        if short is not None and short <= 10:
            return None
    parsed = _tried(texts, Target(single), exact=True)
    return None if parsed is None else State(kind)


def _quick_number(texts: pa.StringArray, kind: int) -> State | None:
    if kind == Shape.INT:
        integers = _tried(texts, Target(PgType.BIGINT), exact=True)
        if integers is None:
            return None
        bounds = pc.min_max(integers).as_py()
        if bounds["min"] is None:
            return NOTHING
        return shapes.integer_state(bounds["min"]) | shapes.integer_state(bounds["max"])
    numbers = _tried(texts, Target(PgType.DOUBLE), exact=True)
    if numbers is None or has_byte(texts, ord("e")) or has_byte(texts, ord("E")) or has_byte(texts, ord("i")):
        return None
    if has_byte(texts, ord("I")):
        return None
    return _points(texts)


def _points(texts: pa.StringArray) -> State:
    """The state of plain numbers without exponents."""
    if texts.null_count:
        texts = texts.drop_null()
    offsets, data = buffers(texts)
    if len(texts) == 0:
        return NOTHING
    starts, ends = offsets[:-1], offsets[1:]
    negative = (data.take(starts, mode="clip") == 45).astype(np.int32)
    dots = (np.flatnonzero(data[offsets[0] : offsets[-1]] == 46) + offsets[0]).astype(np.int32)
    rows = np.searchsorted(offsets, dots, side="right") - 1
    digits = ends - starts - negative
    digits[rows] = before = dots - starts[rows] - negative[rows]
    most = max(int(digits.max()), 1)
    found = (Shape.INT if rows.size < len(texts) else 0) | (Shape.LONG if most >= 5 else 0)
    scale = 0
    if rows.size:
        after = ends[rows] - dots - 1
        lead = data.take(starts[rows] + negative[rows], mode="clip")
        three = (after == 3) & (before >= 1) & (before <= 3) & (lead != 48)
        if three.any():
            found |= Shape.POINT3
        if not three.all():
            found |= Shape.POINT
            scale = int(after[~three].max())
    return State(found, frozenset(("_",)), digits=most, point_scale=scale)


def _scan(rest: pa.StringArray, state: State, string: bool) -> State:
    """The state of values (trimmed, none absent) whatever they look like."""
    while len(rest) and not state.hopeless:
        state |= _states(rest.slice(0, _HEAD), string)
        if state.hopeless:
            break
        left = rest.slice(_HEAD)
        if not string and state.shapes & shapes.NUMBER:
            state, left = _scan_numbers(left, state)
        if state.shapes & shapes.ISO or (not string and state.shapes & Shape.YEAR_FIRST):
            # An ISO date fits the pattern of dates like 2024-1-2, too, and is none of them.
            state, left = _scan_iso(left, state)
        if not string and state.shapes & (shapes.ORDERED | Shape.YEAR_FIRST | Shape.NAMED_MONTH):
            state, left = _scan_dates(left, state)
        if len(left) > len(rest) // 2:
            # No kernel knows them: one by one, each distinct one once.
            return state | _states(pc.unique(left), string)
        rest = left
    return state


def _scan_numbers(rest: pa.StringArray, state: State) -> tuple[State, pa.StringArray]:
    """Numbers, by their skeletons: a number's shape depends on where its digits are, not on which they are."""
    plain = matches(rest, "-?(?:0|[1-9][0-9]{0,37})")
    if plain.any():
        bounds = pc.min_max(pc.cast(pc.filter(rest, booleans(plain)), pa.decimal128(38, 0))).as_py()
        state |= shapes.integer_state(int(bounds["min"])) | shapes.integer_state(int(bounds["max"]))
        rest = pc.filter(rest, booleans(~plain))
    # Exponents are left out, their value matters; and so are integers that a double may round.
    written = (
        matches(rest, "[^0-9eEiInN]*(?:[0-9][^0-9eEiInN]?){1,15}[^0-9eEiInN]*") if len(rest) else np.zeros(0, bool)
    )
    if written.any():
        state |= _states(pc.unique(_skeletons(pc.filter(rest, booleans(written)))), string=False)
        rest = pc.filter(rest, booleans(~written))
    return state, rest


def _skeletons(texts: pa.StringArray) -> pa.StringArray:
    """Each text with every digit as 1, but for a zero that is its first digit."""
    offsets, data = buffers(texts)
    digits = _is_digit(data)
    skeleton = np.where(digits, np.uint8(49), data)
    places = np.flatnonzero(digits)
    first = places.take(np.searchsorted(places, offsets[:-1]), mode="clip") if places.size else places
    zeros = first[data[first] == 48]
    skeleton[zeros] = 48
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(offsets.copy()), pa.py_buffer(skeleton))


def _scan_dates(rest: pa.StringArray, state: State) -> tuple[State, pa.StringArray]:
    """Dates that are not in ISO form: each distinct day once, the time of day by patterns."""
    clock = shapes.STRICT_CLOCK_PATTERN
    days = (
        (Shape.YEAR_FIRST, shapes.YEAR_FIRST_DAY),
        (shapes.ORDERED, shapes.ORDERED_DAY),
        (Shape.NAMED_MONTH, shapes.NAMED_DAY),
    )
    patterns = [re.sub(r"\?P<\w>", "?:", pattern) for shape, pattern in days if state.shapes & shape]
    found = matches(rest, rf"(?:{'|'.join(patterns)})(?:{clock})?") if len(rest) else np.zeros(0, bool)
    if not found.any():
        return state, rest
    dates = pc.filter(rest, booleans(found))
    timed = pc.match_substring(dates, ":")
    if pc.any(timed).as_py():
        if pc.any(pc.match_substring_regex(dates, r":[0-9]{2}\.[0-9]{7}")).as_py():
            state |= State(Shape.NANOS)
        # One time of day stands for all, in a form that makes no ISO timestamp of its day.
        dates = pc.replace_substring_regex(dates, "[ T,]{1,2}[0-9]{1,2}:.*$", ",0:00")
    for day in pc.unique(dates).to_pylist():
        state |= shapes.classify_date(day)
    return state, pc.filter(rest, booleans(~found))


def _scan_iso(rest: pa.StringArray, state: State) -> tuple[State, pa.StringArray]:
    for shape, pattern in shapes.ISO_PATTERNS:
        if len(rest) == 0:
            break
        found = matches(rest, pattern)
        if not found.any():
            continue
        days = pc.unique(pc.utf8_slice_codeunits(pc.filter(rest, booleans(found)), 0, 10)).to_pylist()
        real = all(shapes.real_date(int(day[:4]), int(day[5:7]), int(day[8:])) for day in days)
        state |= State(shape if real else Shape.OTHER)
        rest = pc.filter(rest, booleans(~found))
    return state, rest
