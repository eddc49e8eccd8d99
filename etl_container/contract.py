"""What a dataset promises, held against its rows: a row that breaks a rule is put aside, with the reason in words.

Three kinds of promise, three times to check them:

- of the columns: those that are required are there (when a :class:`Checker` is made, before a row is moved);
- of a row: not null, minimum, maximum, pattern, allowed values, and a pandera schema of the user's (batch by batch);
- of the object as a whole: how many rows, how fresh (:meth:`Checker.finish`).

Types are the caster's business (``infer``), and unique keys the database's, which alone sees the whole table.

The built-in rules run as Arrow kernels on the batch as it is, without a data frame: pandera is imported only where the
user has a schema of their own, and :func:`to_pandera` gives the same rules as a pandera schema to take elsewhere.
Nothing here changes a value: what a pandera schema coerces or parses is thrown away, only its verdict is used.

How a rule reads a bound: a *date* as the maximum of a timestamp means all of that day; a time without a zone is UTC;
a number is compared exactly, also with integers beyond 2^53; on a text column a number or date is compared with the
number or date that the text says, and a text that says none breaks the rule; NaN is within no bounds.
"""

from __future__ import annotations

import copy
import math
import re
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from etl_container import usercode
from etl_container.datasets import ColumnRule, Contract
from etl_container.errors import ConfigError, ContractError, LakectlError
from etl_container.schema import PgType, TableSchema

if TYPE_CHECKING:
    import pyarrow as pa

_INT64 = (-(2**63), 2**63 - 1)
_MANY = 100
"""How many broken promises of a user's schema about whole batches are told; more say nothing new."""

_COMPARABLE = {
    PgType.BIGINT: "number",
    PgType.DOUBLE: "number",
    PgType.NUMERIC: "number",
    PgType.DATE: "date",
    PgType.TIMESTAMP: "date",
    PgType.TIMESTAMPTZ: "date",
    PgType.TIME: "time",
}


class Violation(Struct, frozen=True):
    """One row that breaks the contract; where it breaks several rules, ``reason`` tells them all.

    Attributes:
        reason: in plain words, such as ``value 7 is above the maximum 5``.
        row: the row's position in the batch.
        record: the ordinal of its record in the object, where known.
        column: the name of the first column at fault; None when a rule is about several columns.
        value: that column's value as text; None for a null.
    """

    reason: str
    row: int
    record: int | None = None
    column: str | None = None
    value: str | None = None


class Checker:
    """Checks one pass over one object; makes no use of what it saw beyond a few counters.

    Args:
        contract: the promises.
        columns: the columns that will be checked, with their types.
        directory: the lake's directory, where the contract's own schema file is; None forbids one.

    Raises:
        ContractError: a required column is missing, or a rule makes no sense for the type its column has.
        ConfigError: the user's own schema cannot be found or is none.
    """

    def __init__(self, contract: Contract, columns: TableSchema, directory: Path | None) -> None:
        self._contract = contract
        _require(contract, columns)
        self._rules = [
            check
            for name, rule in contract.columns.items()
            if (column := columns.get(name)) is not None
            for check in _checks(name, rule, column.type or PgType.TEXT, name in contract.primary_key)
        ]
        self._rules += [
            _NotNull(name) for name in contract.primary_key if name not in contract.columns and columns.get(name)
        ]
        self._schema = None if contract.schema is None else _UserSchema(contract.schema, directory)
        self._newest: Any = None
        self._broken: dict[str, str] = {}

    def check(
        self,
        batch: pa.RecordBatch,
        records: pa.Int64Array | None,
        text_of: Callable[[int, str], str | None] | None = None,
    ) -> tuple[pa.BooleanArray, list[Violation]]:
        """Hold a batch against the rules.

        Args:
            batch: rows in storage types; field names are column names.
            records: the ordinal of each row's record, where known.
            text_of: gives ``(row, column)`` as it stands in the file, for the violations; else the value's own text.

        Returns:
            Which rows are good (True), without nulls, and one violation for each of the others, by row.
        """
        import numpy as np
        import pyarrow.compute as pc

        from etl_container.arrays import booleans, integers

        faults: dict[int, list[tuple[str | None, Any, str]]] = {}
        names = set(batch.schema.names)
        for rule in self._rules:
            if rule.column not in names:
                continue
            array = batch.column(rule.column)
            rows = pc.indices_nonzero(rule.broken(array))
            for row, plain in zip(rows.to_pylist(), array.take(rows).to_pylist(), strict=True):
                value = _text(plain, array.type)
                if text_of is not None and (original := text_of(row, rule.column)) is not None:
                    value = original
                faults.setdefault(row, []).append((rule.column, value, rule.reason(value)))
        if self._schema is not None:
            kept = [row for row in range(batch.num_rows) if row not in faults] if faults else None
            for row, column, value, reason in self._schema.faults(batch, kept, records, self._breaks):
                faults.setdefault(row, []).append((column, value, reason))
        if not faults:
            self._track(batch)
            return booleans(np.ones(batch.num_rows, dtype=bool)), []
        good = np.ones(batch.num_rows, dtype=bool)
        good[list(faults)] = False
        mask = booleans(good)
        self._track(batch.filter(mask))
        rows = sorted(faults)
        of = [None] * len(rows) if records is None else records.take(integers(np.array(rows, np.int64))).to_pylist()
        return mask, [
            Violation(_joined(faults[row]), row, record, faults[row][0][0], faults[row][0][1])
            for row, record in zip(rows, of, strict=True)
        ]

    def finish(self, rows: int, now: datetime) -> list[str]:
        """The promises about the object as a whole that do not hold, in words.

        Args:
            rows: how many rows of the object were kept.
            now: the time of the load, with a zone.
        """
        contract = self._contract
        broken = list(self._broken.values())
        if contract.min_rows is not None and rows < contract.min_rows:
            broken.append(f"it has {rows:,} rows, fewer than the {contract.min_rows:,} promised (min_rows)")
        if contract.max_rows is not None and rows > contract.max_rows:
            broken.append(f"it has {rows:,} rows, more than the {contract.max_rows:,} promised (max_rows)")
        if contract.fresh_column is not None and contract.fresh_within is not None:
            if self._newest is None:
                broken.append(f"column {contract.fresh_column} has no value, so nothing says how fresh it is")
            elif (age := (now - _moment(self._newest)).total_seconds()) > contract.fresh_within:
                broken.append(
                    f"the newest {contract.fresh_column} is {self._newest}, {_duration(age)} old; "
                    f"at most {_duration(contract.fresh_within)} is promised (freshness)"
                )
        return broken

    def _track(self, good: pa.RecordBatch) -> None:
        import pyarrow.compute as pc

        name = self._contract.fresh_column
        if name is not None and name in good.schema.names:
            newest = pc.max(good.column(name)).as_py()
            if newest is not None and (self._newest is None or newest > self._newest):
                self._newest = newest

    def _breaks(self, promise: str, told: str) -> None:
        if len(self._broken) < _MANY:
            self._broken.setdefault(promise, told)


def _require(contract: Contract, columns: TableSchema) -> None:
    has = ", ".join(columns.names) or "no columns"
    needed = [name for name, rule in contract.columns.items() if rule.required]
    missing = [name for name in [*needed, *contract.primary_key] if columns.get(name) is None]
    if missing:
        listed = ", ".join(dict.fromkeys(missing))
        raise ContractError(
            f"the contract requires {'columns' if len(set(missing)) > 1 else 'column'} {listed}; the file has {has}",
            hint="mend the file, or set required = false for what may be missing",
        )
    fresh = contract.fresh_column
    if fresh is None:
        return
    column = columns.get(fresh)
    if column is None:
        raise ContractError(f"the contract's freshness is told by column {fresh}; the file has {has}")
    if column.type not in (PgType.DATE, PgType.TIMESTAMP, PgType.TIMESTAMPTZ):
        raise ContractError(
            f"the contract's freshness is told by column {fresh}, which is {column.type or 'empty'} in this file",
            hint="it must be a date or a timestamp",
        )


# -- the built-in rules ------------------------------------------------------------------------------------------------


class _Rule(Struct):
    """One rule of one column."""

    column: str

    def broken(self, array: pa.Array) -> pa.BooleanArray:
        """Which values break it; nulls only break :class:`_NotNull`."""
        raise NotImplementedError

    def reason(self, value: str | None) -> str:
        raise NotImplementedError


class _NotNull(_Rule):
    column: str

    def broken(self, array: pa.Array) -> pa.BooleanArray:
        return array.is_null()

    def reason(self, value: str | None) -> str:
        return "null in a not-null column"


class _Limit(_Rule):
    """A minimum or a maximum."""

    column: str
    bound: Any
    """As the contract says it."""
    upper: bool
    kind: str
    """What the bound says; see :func:`_kind`."""

    def broken(self, array: pa.Array) -> pa.BooleanArray:
        import pyarrow as pa
        import pyarrow.compute as pc

        if pa.types.is_null(array.type):
            return _none(array)
        if _is_text(array.type):
            return _broken_texts(self.bound, self.upper, array)
        limit = _storage_limit(self.bound, self.upper, array.type)
        if limit is None:
            return _none(array)
        strict, scalar = limit
        if scalar is None:
            return array.is_valid()
        compare = {
            (False, False): pc.greater_equal,
            (False, True): pc.greater,
            (True, False): pc.less_equal,
            (True, True): pc.less,
        }[self.upper, strict]
        # Not its opposite: NaN is within no bounds.
        return pc.fill_null(pc.invert(compare(array, scalar)), fill_value=False)

    def reason(self, value: str | None) -> str:
        word = "maximum" if self.upper else "minimum"
        shown = _shown(value)
        if value is not None:
            kind = self.kind
            if kind != "text" and not _says(kind, value):
                return f"value {shown} is not a {kind}, so it is not within the {word} {self.bound}"
        return f"value {shown} is {'above' if self.upper else 'below'} the {word} {self.bound}"


class _Pattern(_Rule):
    """The whole text matches a regular expression, as Python's ``re`` understands it."""

    column: str
    pattern: str

    def broken(self, array: pa.Array) -> pa.BooleanArray:
        import pyarrow as pa
        import pyarrow.compute as pc

        matches = re.compile(self.pattern).fullmatch
        if not _is_text(array.type):
            return _by_value(array, lambda value: matches(_text(value, array.type) or "") is None)
        if not _narrower_in_re2(self.pattern):
            return _by_value(array, lambda value: matches(value) is None)
        try:
            found = pc.match_substring_regex(array, rf"\A(?:{self.pattern})\z")
        except pa.ArrowInvalid:
            return _by_value(array, lambda value: matches(value) is None)
        unsure = pc.fill_null(pc.invert(found), fill_value=False)
        if not unsure.true_count:
            return unsure
        # RE2's \d, \w and \s are ASCII's, Python's are Unicode's: ask again where RE2 says no.
        verdict = _by_value(array.filter(unsure), lambda value: matches(value) is None)
        return pc.replace_with_mask(unsure, unsure, verdict)

    def reason(self, value: str | None) -> str:
        return f"value {_shown(value)} does not match {self.pattern}"


class _Allowed(_Rule):
    """The value is one of a list."""

    column: str
    values: tuple[Any, ...]

    def broken(self, array: pa.Array) -> pa.BooleanArray:
        import pyarrow as pa
        import pyarrow.compute as pc

        if pa.types.is_null(array.type):
            return _none(array)
        if _is_text(array.type):
            wanted = pa.array([_text(value, array.type) for value in self.values], array.type)
        elif pa.types.is_fixed_size_binary(array.type):
            texts = {str(value).lower() for value in self.values}
            return _by_value(array, lambda value: _text(value, array.type) not in texts)
        else:
            exact = (_exactly(value, array.type) for value in self.values)
            wanted = pa.array([value for value in exact if value is not None], array.type)
        return pc.and_(array.is_valid(), pc.invert(pc.is_in(array, value_set=wanted)))

    def reason(self, value: str | None) -> str:
        shown = [_text(allowed, None) or "" for allowed in self.values]
        listed = ", ".join(shown[:10]) + (f" … ({len(shown)} in all)" if len(shown) > 10 else "")
        return f"value {_shown(value)} is not one of: {listed}"


def _checks(name: str, rule: ColumnRule, kind: PgType, key: bool) -> list[_Rule]:
    """The rules of one column, told apart from those that its type makes senseless."""
    rules: list[_Rule] = [_NotNull(name)] if rule.not_null or key else []
    for bound, upper in ((rule.minimum, False), (rule.maximum, True)):
        if bound is None or (isinstance(bound, float) and bound == (math.inf if upper else -math.inf)):
            continue
        word = "max" if upper else "min"
        if isinstance(bound, bool | list | dict) or (isinstance(bound, float) and not math.isfinite(bound)):
            raise ConfigError(
                f"column {name}: {word} = {bound!r} is no bound", hint="a number, a date, a time or a text"
            )
        said, wanted = _kind(bound), _COMPARABLE.get(kind)
        if kind is not PgType.TEXT and said != wanted:
            raise ContractError(
                f"column {name} is {kind} in this file, which cannot be compared with {word} = {bound} (a {said})",
                hint=f'declare the type the column should have: columns.{name}.type = "…"',
            )
        rules.append(_Limit(name, bound, upper, said))
    if kind is PgType.BYTEA and (rule.pattern is not None or rule.allowed is not None):
        raise ContractError(f"column {name} holds bytes in this file, which have no pattern and no allowed values")
    if rule.pattern is not None:
        rules.append(_Pattern(name, rule.pattern))
    if rule.allowed is not None:
        rules.append(_Allowed(name, rule.allowed))
    return rules


# -- values and bounds -------------------------------------------------------------------------------------------------


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float | Decimal):
        return Decimal(str(value))
    if isinstance(value, str):
        try:
            number = Decimal(value.strip())
        except InvalidOperation:
            return None
        return number if number.is_finite() else None
    return None


def _instant(value: object) -> date | datetime | None:
    """A date or a timestamp; a timestamp without a zone stays without."""
    if isinstance(value, date):
        return value
    if not isinstance(value, str) or not re.match(r"\s*\d{4}-\d\d-\d\d", value):
        return None
    text = value.strip()
    for parse in (date.fromisoformat, datetime.fromisoformat):
        try:
            return parse(text)
        except ValueError:
            continue
    return None


def _clock(value: object) -> time | None:
    if isinstance(value, time):
        return value
    if isinstance(value, str) and re.match(r"\s*\d\d:\d\d", value):
        try:
            return time.fromisoformat(value.strip())
        except ValueError:
            return None
    return None


def _kind(bound: object) -> str:
    """What a bound says: ``number``, ``date``, ``time`` or ``text``. The same for a TOML value and its JSON text."""
    if _number(bound) is not None:
        return "number"
    if _instant(bound) is not None:
        return "date"
    return "time" if _clock(bound) is not None else "text"


def _says(kind: str, text: str) -> bool:
    read = {"number": _number, "date": _instant, "time": _clock}[kind](text)
    return read is not None


def _aware(value: date | datetime) -> datetime:
    if not isinstance(value, datetime):
        value = datetime.combine(value, time.min)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _day_after(day: date) -> datetime | None:
    """The end of a day; None for the last day that Python knows."""
    return None if day >= date.max else _aware(day) + timedelta(days=1)


def _within(bound: Any, upper: bool, value: Any) -> bool:  # noqa: PLR0911
    """Whether one Python value keeps a bound; the plain meaning of the rule, for texts and for pandera."""
    kind = _kind(bound)
    if kind == "number":
        number, limit = _number(value), _number(bound)
        if number is None or limit is None or number.is_nan():
            return False
        if isinstance(value, float):
            number = Decimal(value) if math.isfinite(value) else number
            limit = Decimal(bound) if isinstance(bound, float) else limit
        return number <= limit if upper else number >= limit
    if kind == "date":
        instant, until = _instant(value), _instant(bound)
        if instant is None or until is None:
            return False
        if upper and not isinstance(until, datetime):
            return (after := _day_after(until)) is None or _aware(instant) < after
        return _aware(instant) <= _aware(until) if upper else _aware(instant) >= _aware(until)
    if kind == "time":
        clock, last = _clock(value), _clock(bound)
        if clock is None or last is None:
            return False
        clock, last = clock.replace(tzinfo=None), last.replace(tzinfo=None)
        return clock <= last if upper else clock >= last
    text, end = str(value).encode(), str(bound).encode()
    return text <= end if upper else text >= end


def _broken_texts(bound: Any, upper: bool, array: pa.Array) -> pa.BooleanArray:
    return _by_value(array, lambda value: not _within(bound, upper, value))


def _storage_limit(bound: Any, upper: bool, kind: pa.DataType) -> tuple[bool, pa.Scalar | None] | None:  # noqa: PLR0911
    """A bound in the type of the values it is compared with, without loss.

    Returns:
        (whether the bound itself is excluded, the bound); the bound is None where no value can keep it, and the whole
        is None where every value does.
    """
    import pyarrow as pa

    types = pa.types
    if types.is_floating(kind):
        return False, pa.scalar(_float_limit(bound, upper), kind)
    if types.is_integer(kind) or types.is_decimal(kind):
        number = _number(bound)
        assert number is not None
        scale, precision = (0, 19) if types.is_integer(kind) else (kind.scale, kind.precision)
        low, high = _INT64 if types.is_integer(kind) else (-(10**precision) + 1, 10**precision - 1)
        steps = int(number.scaleb(scale).to_integral_value(ROUND_FLOOR if upper else ROUND_CEILING))
        if steps > high:
            return None if upper else (False, None)
        if steps < low:
            return (False, None) if upper else None
        value = steps if types.is_integer(kind) else Decimal(steps).scaleb(-scale)
        return False, pa.scalar(value, kind)
    if types.is_time(kind):
        clock = _clock(bound)
        assert clock is not None
        return False, pa.scalar(clock.replace(tzinfo=None), kind)
    instant = _instant(bound)
    assert instant is not None
    whole_day = not isinstance(instant, datetime)
    if types.is_date(kind):
        at = _aware(instant)
        day = at.date()
        if not upper and at.time() != time.min:
            day += timedelta(days=1)
        return False, pa.scalar(day, kind)
    moment = _day_after(instant) if upper and whole_day else _aware(instant)
    if moment is None:
        return None
    return upper and whole_day, pa.scalar(moment if kind.tz else moment.replace(tzinfo=None), kind)


def _float_limit(bound: Any, upper: bool) -> float:
    """The outermost double that keeps the bound: an integer or decimal text may lie between two of them."""
    if isinstance(bound, float):
        return bound
    number = _number(bound)
    assert number is not None
    limit = float(number)
    if math.isinf(limit) or Decimal(limit) == number or isinstance(bound, str):
        return limit
    outside = Decimal(limit) > number if upper else Decimal(limit) < number
    return math.nextafter(limit, -math.inf if upper else math.inf) if outside else limit


def _exactly(value: Any, kind: pa.DataType) -> Any:  # noqa: PLR0911
    """An allowed value as one of the type ``kind``; None where that type has no such value."""
    import pyarrow as pa

    types = pa.types
    if types.is_boolean(kind):
        words = {"true": True, "false": False}
        return value if isinstance(value, bool) else words.get(str(value).lower())
    if types.is_integer(kind) or types.is_decimal(kind):
        number = _number(value)
        if number is None or not number.is_finite():
            return None
        scale, digits = (0, 19) if types.is_integer(kind) else (kind.scale, kind.precision)
        steps = number.scaleb(scale)
        if steps != steps.to_integral_value() or len(str(abs(int(steps)))) > digits:
            return None
        if types.is_integer(kind):
            return int(number) if _INT64[0] <= number <= _INT64[1] else None
        return Decimal(int(steps)).scaleb(-scale)
    if types.is_floating(kind):
        number = _number(value)
        return None if number is None else float(number)
    if types.is_time(kind):
        return _clock(value)
    instant = _instant(value)
    if instant is None:
        return None
    at = _aware(instant)
    if types.is_date(kind):
        return at.date() if at.time() == time.min else None
    return at if kind.tz else at.replace(tzinfo=None)


def _text(value: Any, kind: pa.DataType | None) -> str | None:
    """A value as its plain text."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return str(uuid.UUID(bytes=value)) if len(value) == 16 and getattr(kind, "byte_width", 0) == 16 else value.hex()
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date | time):
        return value.isoformat()
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _shown(value: str | None) -> str:
    return "null" if value is None else usercode.cut(value, 100)


def _moment(value: date | datetime) -> datetime:
    """When the newest value was true at the latest: a date holds until its day is over."""
    return _aware(value) if isinstance(value, datetime) else _day_after(value) or _aware(value)


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds:.4g} seconds"


# -- Arrow -------------------------------------------------------------------------------------------------------------


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _none(array: pa.Array) -> pa.BooleanArray:
    import pyarrow.compute as pc

    return pc.and_(array.is_null(), array.is_valid())


def _by_value(array: pa.Array, broken: Callable[[Any], bool]) -> pa.BooleanArray:
    """Ask Python, once for each distinct value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    encoded = array.dictionary_encode()
    verdicts = pa.array([broken(value) for value in encoded.dictionary.to_pylist()], pa.bool_())
    return pc.fill_null(verdicts.take(encoded.indices), fill_value=False)


_ELSEWHERE = re.compile(
    r"\\[DWSBbZzAGXxuUNpPQECKR0-9]"  # negated or positional classes, escapes that only one of the two knows
    r"|\(\?(?!:)"  # flags, lookarounds, names
    r"|\[:|\[\[|&&|--|~~|\|\|"  # POSIX classes and Python's reserved set operations
    r"|\{,|\}\+|[*+?]\+"  # {,n}; possessive repeats
)


def _narrower_in_re2(pattern: str) -> bool:
    """Whether all that RE2 matches with ``pattern``, Python's ``re`` matches too."""
    negated_class = "[^" in pattern and re.search(r"\\[A-Za-z]", pattern) is not None
    return not negated_class and _ELSEWHERE.search(pattern) is None


def _joined(faults: Sequence[tuple[str | None, Any, str]]) -> str:
    if len(faults) == 1:
        return faults[0][2]
    first, *others = faults
    told = [f"{column}: {reason}" if column and column != first[0] else reason for column, _, reason in others]
    return "; ".join([first[2], *told])


# -- pandera -----------------------------------------------------------------------------------------------------------


class _UserSchema:
    """A pandera schema of the user's own, asked for its verdict only."""

    def __init__(self, spec: str, directory: Path | None) -> None:
        file, colon, name = spec.rpartition(":")
        if not colon or not file or not name.isidentifier():
            raise ConfigError(f"schema = {spec!r} names no schema", hint='schema = "checks.py:NAME"')
        if directory is None or not (path := directory / file).is_file():
            raise ConfigError(f"schema = {spec!r}: there is no file {file} in the lake", hint="mend it in lake.toml")
        self._spec = spec
        self._path = path
        try:
            self._code = usercode.load(path)
        except LakectlError:
            raise
        except Exception as error:
            raise usercode.failure(ContractError, path, error, details="while it was imported") from error
        self._schema = self._found(getattr(self._code.module, name, None), name)
        self._prepared: tuple[Any, Any] | None = None

    def _found(self, found: Any, name: str) -> Any:
        import pandera.pandas as pandera

        if isinstance(found, type) and issubclass(found, pandera.DataFrameModel):
            return found.to_schema()
        if isinstance(found, pandera.DataFrameSchema):
            return found
        what = "has no" if found is None else "has no pandera schema for pandas named"
        raise ConfigError(
            f"schema = {self._spec!r}: {self._path.name} {what} {name}",
            hint="a pandera.pandas.DataFrameSchema, or a subclass of its DataFrameModel",
        )

    def faults(
        self,
        batch: pa.RecordBatch,
        rows: list[int] | None,
        records: pa.Int64Array | None,
        breaks: Callable[[str, str], None],
    ) -> list[tuple[int, str | None, str | None, str]]:
        """``(row, column, value, reason)`` of the rows (None: all) that the schema refuses.

        What it refuses about the batch as a whole goes to ``breaks``, as (promise, told).
        """
        import pandas as pd
        from pandera.errors import SchemaErrors

        table = _readable(batch if rows is None else batch.take(rows))
        frame = table.to_pandas(types_mapper=pd.ArrowDtype)
        if rows is not None:
            frame.index = pd.Index(rows)
        try:
            self._for(table.schema).validate(frame, lazy=True)
        except SchemaErrors as error:
            return self._told(error.failure_cases, batch, records, breaks)
        except Exception as error:
            raise usercode.failure(ContractError, self._path, error, details="while a batch was validated") from error
        return []

    def _told(
        self, cases: Any, batch: pa.RecordBatch, records: pa.Int64Array | None, breaks: Callable[[str, str], None]
    ) -> list[tuple[int, str | None, str | None, str]]:
        import pandas as pd

        faults: dict[tuple[int, str | None, str], tuple[int, str | None, str | None, str]] = {}
        listed = [cases[name].tolist() for name in ("schema_context", "column", "check", "failure_case", "index")]
        for context, column, check, case, index in zip(*listed, strict=True):
            name = str(column) if context == "Column" and column in batch.schema.names else None
            if pd.isna(index):
                of = f" of column {column}" if context == "Column" else ""
                at = _span(batch, records)
                promise = f"check {check}{of} of schema {self._spec}"
                breaks(promise, f"{promise} does not hold ({usercode.cut(str(case), 200)}){at}")
                continue
            row = int(index)
            if (row, name, str(check)) in faults:
                continue
            value = None if name is None else _text(batch.column(name)[row].as_py(), batch.schema.field(name).type)
            faults[row, name, str(check)] = (row, name, value, _refusal(str(check), value, name))
        return list(faults.values())

    def _for(self, schema: pa.Schema) -> Any:
        """The user's schema for Arrow-backed columns.

        A column that holds what ``int`` or ``str`` asks for is of that type, though pandas calls it ``int64[pyarrow]``.
        """
        if self._prepared is not None and self._prepared[0] == schema:
            return self._prepared[1]
        prepared = copy.deepcopy(self._schema)
        prepared.drop_invalid_rows = False
        for name, column in prepared.columns.items():
            column.drop_invalid_rows = False
            if column.dtype is not None and name in schema.names and _holds(column.dtype, schema.field(name).type):
                column.dtype = None
                column.coerce = False
        self._prepared = (schema, prepared)
        return prepared


def _holds(wanted: Any, kind: pa.DataType) -> bool:  # noqa: PLR0911
    """Whether Arrow values of ``kind`` are what the pandera type ``wanted`` means, whatever their layout."""
    import pandas as pd
    import pyarrow as pa

    dtype = getattr(wanted, "type", wanted)
    api, types = pd.api.types, pa.types
    if isinstance(dtype, pd.ArrowDtype):
        return bool(dtype.pyarrow_dtype == kind)
    try:
        if api.is_bool_dtype(dtype):
            return bool(types.is_boolean(kind))
        if api.is_integer_dtype(dtype):
            return bool(types.is_integer(kind))
        if api.is_float_dtype(dtype):
            return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))
        if api.is_datetime64_any_dtype(dtype):
            zoned = isinstance(dtype, pd.DatetimeTZDtype)
            return bool(types.is_timestamp(kind) and (kind.tz is not None) == zoned)
        if dtype is str or api.is_string_dtype(dtype):
            return _is_text(kind) or api.is_object_dtype(dtype)
    except TypeError:
        return False
    return False


def _readable(batch: pa.RecordBatch) -> pa.Table:
    """A batch as a user reads it: a uuid as its text."""
    import pyarrow as pa

    columns = [
        pa.array([_text(value, array.type) for value in array.to_pylist()], pa.string())
        if pa.types.is_fixed_size_binary(array.type)
        else array
        for array in batch.columns
    ]
    return pa.Table.from_arrays(columns, names=batch.schema.names)


def _refusal(check: str, value: str | None, column: str | None) -> str:
    if check == "not_nullable":
        return "null in a not-null column"
    if "uniqueness" in check or check == "field_uniqueness":
        return f"value {_shown(value)} repeats" if column else "the row repeats what must be unique"
    return f"value {_shown(value)} fails the check {check}" if column else f"the row fails the check {check}"


def _span(batch: pa.RecordBatch, records: pa.Int64Array | None) -> str:
    import pyarrow.compute as pc

    if records is None or not len(records):
        return f", first in a batch of {batch.num_rows:,} rows"
    low, high = (bound.as_py() + 1 for bound in pc.min_max(records).values())
    return f", first in records {low:,} to {high:,}"


def to_pandera(contract: Contract, columns: TableSchema | None = None) -> Any:
    """The contract's rules as a ``pandera.pandas.DataFrameSchema``, to use where there is no lake.

    Args:
        contract: the rules; a schema of the user's own is not among them.
        columns: the columns that there are; without them a column that is not ``required`` may be missing.

    Returns:
        A schema for frames with Arrow-backed columns, as a transform sees them. Types are not among its checks, since
        the same values have several types in pandas. Unique keys are checked within the frame.
    """
    import pandera.pandas as pandera

    known = set(columns.names) if columns is not None else None
    made: dict[str, Any] = {}
    for name in dict.fromkeys([*contract.columns, *contract.primary_key]):
        rule = contract.columns.get(name, ColumnRule())
        if known is not None and name not in known and not rule.required:
            continue
        made[name] = pandera.Column(
            checks=[
                pandera.Check(test, element_wise=True, name=told, error=told) for told, test in _element_checks(rule)
            ],
            nullable=not rule.not_null and name not in contract.primary_key,
            required=rule.required or name in contract.primary_key,
        )
    return pandera.DataFrameSchema(made, checks=[*_frame_checks(contract, pandera.Check)])


def _element_checks(rule: ColumnRule) -> list[tuple[str, Callable[[Any], bool]]]:
    checks: list[tuple[str, Callable[[Any], bool]]] = []
    if rule.minimum is not None:
        checks.append((f"at least {rule.minimum}", lambda value: _within(rule.minimum, False, _plain(value))))
    if rule.maximum is not None:
        checks.append((f"at most {rule.maximum}", lambda value: _within(rule.maximum, True, _plain(value))))
    if (pattern := rule.pattern) is not None:
        matches = re.compile(pattern).fullmatch
        checks.append((f"matches {pattern}", lambda value: matches(_text(_plain(value), None) or "") is not None))
    if (allowed := rule.allowed) is not None:
        told = f"one of {', '.join(map(str, allowed))}"
        checks.append((told, lambda value: any(_same(wanted, _plain(value)) for wanted in allowed)))
    return checks


def _frame_checks(contract: Contract, check: Any) -> list[Any]:
    checks = [
        check(
            lambda frame, key=list(key): ~(frame.duplicated(key, keep=False) & frame[key].notna().all(axis=1)),
            name=f"unique {', '.join(key)}",
        )
        for key in contract.keys
    ]
    if (fewest := contract.min_rows) is not None:
        checks.append(check(lambda frame: len(frame) >= fewest, name=f"at least {fewest} rows"))
    if (most := contract.max_rows) is not None:
        checks.append(check(lambda frame: len(frame) <= most, name=f"at most {most} rows"))
    if (fresh := contract.fresh_column) is not None and (within := contract.fresh_within) is not None:
        checks.append(
            check(
                lambda frame: (datetime.now(UTC) - _moment(_plain(frame[fresh].max()))).total_seconds() <= within,
                name=f"newest {fresh} within {_duration(within)}",
            )
        )
    return checks


def _plain(value: Any) -> Any:
    """A value of pandas as one of Python."""
    return value.to_pydatetime(warn=False) if hasattr(value, "to_pydatetime") else value


def _same(wanted: Any, value: Any) -> bool:
    """Whether a value is the one that a contract allows."""
    if isinstance(value, bool):
        return wanted is value or str(wanted).lower() == _text(value, None)
    if isinstance(value, str):
        return _text(wanted, None) == value
    if isinstance(value, float):
        return (number := _number(wanted)) is not None and float(number) == value
    if isinstance(value, int | Decimal):
        return (number := _number(wanted)) is not None and number == value
    if isinstance(value, time):
        return _clock(wanted) == value
    instant = _instant(wanted)
    return instant is not None and _aware(instant) == _aware(value)
