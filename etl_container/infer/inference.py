"""A load's columns, from the first batch to the last: what was seen of each, what it is, and the batches typed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct, field
from msgspec.structs import replace

from etl_container.arrays import booleans, nullified, numbered, strings, valid_mask
from etl_container.formats.base import Expected, Kind, RawBatch
from etl_container.formats.options import ReadOptions
from etl_container.infer import columns, native, shapes
from etl_container.infer.shapes import ABSENT, ADDED, NOTHING, NULL_TOKENS, Hints, Reading, Shape, State
from etl_container.infer.types import (
    Break,
    CastResult,
    CellFailure,
    FitError,
    Target,
    TypeBreak,
    arrow_type,
)
from etl_container.infer.values import Misfit
from etl_container.schema import PgType, join

_TYPED_TEXT = Kind.STRING | Kind.TEMPORAL
_UNTYPED = Kind.TEXT | Kind.VERBATIM
_NONE = Kind(0)
_PARSED = frozenset({PgType.BIGINT, PgType.DOUBLE, PgType.DATE, PgType.TIMESTAMP, PgType.TIMESTAMPTZ})
"""What Arrow's CSV parser makes of plainly written values as ``columns.parse`` does."""


class _Column(Struct):
    """What is remembered of one column."""

    label: str
    state: State = NOTHING
    kinds: Kind = _NONE
    natives: frozenset[PgType] = frozenset()
    native_scale: int = 0
    effort: int = 0
    """What its batches take to cast, see ``columns.convert``."""
    tokens: Counter[str] = field(default_factory=Counter)
    """Null tokens: they stay text where the column is text."""
    misfit: str | None = None
    """The value that made the column text, where those before it were of another type."""
    nul: bool = False
    cut: bool = False
    """Nanoseconds were cut."""

    @property
    def known_digits(self) -> int:
        """The most digits after the decimal point that a value has had so far."""
        return max(self.native_scale, self.state.point_scale, self.state.comma_scale)

    def reading(self, options: ReadOptions, hints: Hints) -> Reading:
        """What the column is."""
        if not self.natives:
            return self._text_reading(options, hints)
        kinds = sorted(self.natives)
        if self.kinds:
            text = self._text_reading(options, hints).type
            kinds += [text] if text is not None else []
        joined = reduce(join, kinds, None)
        return Reading(joined, max(self.native_scale, self.state.point_scale))

    def _text_reading(self, options: ReadOptions, hints: Hints) -> Reading:
        kinds = self.kinds
        if not kinds:
            return Reading(None)
        if Kind.NESTED in kinds:
            return Reading(PgType.JSONB)
        if kinds == Kind.TEXT:
            return shapes.resolve(self.state, options, hints)
        if kinds in (Kind.NUMBER, Kind.BOOLEAN) or not kinds & ~_TYPED_TEXT:
            return shapes.resolve(self.state, options)
        return Reading(PgType.TEXT)


class _Plan(Struct, frozen=True):
    """What ``cast`` does with each column, for these targets."""

    targets: tuple[Target | None, ...]
    casts: tuple[tuple[int, _Column, Reading, Target, pa.DataType], ...]
    schema: pa.Schema


class Inference:
    """Decides the types of a file's columns and casts its batches to them.

    ``observe`` widens what is known; ``cast`` never does: a value that breaks a guess raises :class:`TypeBreak`, and
    the caller observes that batch and all that follow (observing a batch twice is harmless) and starts again.
    """

    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        self._columns: list[_Column] = []
        self._readings: tuple[Reading, ...] | None = None
        self._plan: _Plan | None = None
        self._nulls = strings(options.nulls) if options.nulls else None
        self._counted = 0
        """The first record whose null tokens are not counted yet."""

    def copy(self) -> Inference:
        """What is known now, apart from what this one goes on to learn."""
        twin = Inference(self._options)
        twin._columns = [replace(column, tokens=Counter(column.tokens)) for column in self._columns]
        twin._counted = self._counted
        return twin

    # ---- what is known ---------------------------------------------------------------------------------------------

    @property
    def types(self) -> tuple[PgType | None, ...]:
        """The type of each column, by position; None while it has only nulls."""
        return tuple(reading.type for reading in self.readings)

    @property
    def scales(self) -> tuple[int, ...]:
        """The digits after the decimal point that each column needs as numeric; 0 for those that are no numbers."""
        return tuple(reading.scale for reading in self.readings)

    @property
    def labels(self) -> tuple[str, ...]:
        """The original labels, by position."""
        return tuple(column.label for column in self._columns)

    @property
    def readings(self) -> tuple[Reading, ...]:
        """How each column is read, by position."""
        if self._readings is None:
            hints = self._hints()
            self._readings = tuple(column.reading(self._options, hints) for column in self._columns)
        return self._readings

    @property
    def targets(self) -> tuple[Target, ...]:
        """A target for each column as it was inferred; text for a column of nulls."""
        return tuple(
            Target(reading.type or PgType.TEXT, scale=reading.scale if reading.type is PgType.NUMERIC else None)
            for reading in self.readings
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about what was decided, and how to decide otherwise."""
        notes = []
        for column, reading in zip(self._columns, self.readings, strict=True):
            notes += [f"column {column.label}: {note}" for note in reading.notes]
            if column.tokens and reading.type is PgType.TEXT:
                token, count = column.tokens.most_common(1)[0]
                notes.append(f'column {column.label} holds {count:,} {token!r} kept as text; set nulls = ["{token}"]')
            elif column.tokens:
                told = ", ".join(repr(token) for token, _ in column.tokens.most_common(3))
                notes.append(f"column {column.label}: {told} read as null")
            if column.nul:
                notes.append(f"column {column.label}: NUL characters removed")
            if column.cut:
                notes.append(f"column {column.label}: nanoseconds cut to microseconds")
        return tuple(notes)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Sentences on columns that one value made text; a load tells so where it tells of the widening."""
        return tuple(
            f"column {column.label}: text, since {_why_text(column.misfit)}"
            for column, reading in zip(self._columns, self.readings, strict=True)
            if column.misfit is not None and reading.type is PgType.TEXT
        )

    def _hints(self) -> Hints:
        """What columns of untyped text prove to the others of the file; nothing where they contradict each other."""
        texts = [column.state for column in self._columns if column.kinds == Kind.TEXT]
        decimals = {sign for state in texts if (sign := shapes.decimal_evidence(state)) is not None}
        orders = {order for state in texts if (order := shapes.order_evidence(state)) is not None}
        return Hints(
            self._options.decimal or (decimals.pop() if len(decimals) == 1 else None),
            orders.pop() if len(orders) == 1 else None,
        )

    # ---- observing ---------------------------------------------------------------------------------------------------

    def observe(self, batch: RawBatch) -> None:
        """Widen what is known so that it holds the batch. Order and size of batches make no difference to the types."""
        batch = batch.as_written()
        fresh = batch.first_record >= self._counted
        for position, array in enumerate(batch.data.columns):
            if position == len(self._columns):
                self._columns.append(_Column(batch.data.schema.field(position).name))
            self._observe_column(self._columns[position], array, batch.kinds[position], fresh)
        self._seen(batch)
        self._readings = None
        self._plan = None

    def _seen(self, batch: RawBatch) -> None:
        rows = batch.data.num_rows
        if rows:
            self._counted = max(self._counted, batch.ordinal(rows - 1) + 1)

    def _observe_column(self, column: _Column, array: pa.Array, kind: Kind, fresh: bool) -> None:
        declared = Kind.DECLARED in kind
        kind &= ~Kind.DECLARED
        if array.type != pa.string():
            self._observe_native(column, array, declared)
            return
        texts = self._without_nulls(array)
        if texts.null_count == len(texts) and not declared:
            return
        column.kinds |= kind
        if Kind.NESTED in kind or (
            column.kinds not in (Kind.TEXT, Kind.NUMBER, Kind.BOOLEAN) and (column.kinds & ~_TYPED_TEXT)
        ):
            return
        before = column.state
        column.state = columns.observe(texts, before, string=not column.kinds & ~_TYPED_TEXT)
        if column.state.shapes & shapes.ABSENT:
            column.effort = max(column.effort, 1)
        if kind != Kind.TEXT:
            return
        if fresh and (column.state.hopeless or column.state.shapes & Shape.TOKEN):
            self._count_tokens(column, texts)
        if column.state.hopeless and not before.hopeless:
            column.misfit = _misfit(texts, before)

    def _observe_native(self, column: _Column, array: pa.Array, declared: bool) -> None:
        kind = native.type_of_values(array)
        if kind is None or (array.null_count == len(array) and not declared):
            return
        if kind is PgType.TEXT and array.type != pa.string() and native.is_text(array.type):
            kind = PgType.TEXT
        column.natives |= {kind}
        column.native_scale = max(column.native_scale, native.scale_of(array.type))
        column.cut = column.cut or has_nanos(array)

    def _count_tokens(self, column: _Column, texts: pa.StringArray) -> None:
        found = pc.is_in(texts, value_set=_TOKENS)
        if pc.any(found).as_py():
            for entry in pc.value_counts(pc.filter(texts, found)).to_pylist():
                column.tokens[entry["values"]] += entry["counts"]

    def _without_nulls(self, texts: pa.StringArray) -> pa.StringArray:
        """The texts, null where the user's word for null stands."""
        if self._nulls is None:
            return texts
        return nullified(texts, pc.is_in(texts, value_set=self._nulls))

    def expected(self, targets: Sequence[Target | None]) -> Expected:
        """The Arrow types in which a reader may give columns of untyped text for these targets.

        They are plainly written so far but for null tokens, and cast would do no more with them than Arrow's parser.
        """
        if self._nulls is not None:
            return Expected()
        found = {
            position: (column, wanted)
            for position, column, reading, target, wanted in self._plan_for(tuple(targets)).casts
            if column.kinds == Kind.TEXT
            and not column.natives
            and column.effort <= 1
            and reading.plain
            and target.type is reading.type
            and target.type in _PARSED
        }
        return Expected(
            {position: wanted for position, (_, wanted) in found.items()},
            NULL_TOKENS,
            frozenset(position for position, (column, _) in found.items() if column.effort),
        )

    # ---- casting -----------------------------------------------------------------------------------------------------

    def cast(self, batch: RawBatch, targets: Sequence[Target | None]) -> CastResult:
        """The batch's columns as their targets' storage types, in their order; None leaves a column out.

        Columns that the batch lacks are null. Rows with a value that is none of a strict target are not in the
        result; all failures of a row are told.

        Raises:
            TypeBreak: a value of a column that is not strict does not fit what was observed so far, or a number has
                more digits than any before.
        """
        plan = self._plan_for(tuple(targets))
        fresh = batch.first_record >= self._counted
        if batch.written is not None and not _as_expected(batch, plan):
            batch = batch.as_written()
        arrays: list[pa.Array] = []
        failures: list[CellFailure] = []
        breaks: list[Break] = []
        rows = batch.data.num_rows
        raw = batch.data.columns
        for position, column, reading, target, wanted in plan.casts:
            if position >= len(raw):
                arrays.append(pa.nulls(rows, wanted))
                continue
            if batch.written is not None and raw[position].type != pa.string():
                arrays.append(raw[position])
                continue
            array, misfits = self._cast_column(column, reading, raw[position], batch.kinds[position], target, fresh)
            arrays.append(array)
            for row, misfit in misfits.items():
                value = native.to_text(raw[position].slice(row, 1))[0].as_py()
                if not target.strict or misfit.digits > column.known_digits:
                    breaks.append(Break(position, column.label, batch.ordinal(row), value, reading.type))
                    break
                failures.append(CellFailure(batch.ordinal(row), row, position, column.label, value, misfit.reason))
        breaks += self._unknown_columns(batch, len(targets))
        if breaks:
            raise TypeBreak(breaks)
        self._seen(batch)
        typed = pa.RecordBatch.from_arrays(arrays, schema=plan.schema) if arrays else _empty(rows)
        if not failures:
            return CastResult(typed, batch.first_record, batch.records, [])
        keep = np.ones(rows, bool)
        keep[[failure.row for failure in failures]] = False
        records = batch.records
        if records is None:
            records = numbered(batch.first_record, rows)
        failures.sort(key=lambda failure: (failure.row, failure.position))
        mask = booleans(keep)
        return CastResult(typed.filter(mask), batch.first_record, records.filter(mask), failures)

    def _plan_for(self, targets: tuple[Target | None, ...]) -> _Plan:
        """What to do with each column; the same for every batch until something is observed."""
        if self._plan is None or self._plan.targets != targets:
            casts = []
            for position, target in enumerate(targets):
                if target is None:
                    continue
                known = position < len(self._columns)
                column = self._columns[position] if known else _Column("")
                reading = self.readings[position] if known else Reading(None)
                exact = (
                    target
                    if target.scale is not None or target.type is not PgType.NUMERIC
                    else replace(target, scale=reading.scale)
                )
                casts.append((position, column, reading, exact, arrow_type(exact)))
            schema = pa.schema([pa.field(column.label, wanted) for _, column, _, _, wanted in casts])
            self._plan = _Plan(targets, tuple(casts), schema)
        return self._plan

    def _unknown_columns(self, batch: RawBatch, known: int) -> list[Break]:
        """A break for each column with values that has no target yet."""
        breaks = []
        for position in range(known, batch.data.num_columns):
            array = batch.data.column(position)
            if array.null_count < len(array):
                row, value = _first_value(array)
                label = batch.data.schema.field(position).name
                breaks.append(Break(position, label, batch.ordinal(row), value, None))
        return breaks

    def _cast_column(
        self, column: _Column, reading: Reading, array: pa.Array, kind: Kind, target: Target, fresh: bool
    ) -> tuple[pa.Array, dict[int, Misfit]]:
        if array.type != pa.string():
            return self._cast_native(column, array, target)
        texts = self._without_nulls(array)
        settled = target.strict or target.fixed
        if texts.null_count == len(texts):
            return pa.nulls(len(texts), arrow_type(target)), {}
        if not settled and (broken := self._opened(column, reading, texts, kind)) is not None:
            return texts, broken
        if target.type is PgType.TEXT:
            if fresh and column.tokens:
                self._count_tokens(column, texts)
            return self._without_nul(column, texts), {}
        if target.type is PgType.JSONB and not (target.strict and kind.value & _UNTYPED.value):
            return self._json(column, texts, kind), {}
        exact = reading.type is PgType.DOUBLE and not settled
        string = not kind.value & ~_TYPED_TEXT.value
        typed, misfits, effort = columns.convert(
            texts, reading, target, exact=exact, string=string, effort=column.effort
        )
        column.effort = max(column.effort, effort)
        if target.type is PgType.JSONB:
            typed, found = native.json_without_nul(typed)
            column.nul = column.nul or found
        return typed, misfits

    def _opened(self, column: _Column, reading: Reading, texts: pa.StringArray, kind: Kind) -> dict[int, Misfit] | None:
        """A break, where the batch settles what was open: a column of nulls or of ambiguous values, a new kind."""
        if reading.type is not None and not reading.open and not kind.value & ~column.kinds.value:
            return None
        wider = _Column(column.label, column.state, column.kinds, column.natives, column.native_scale)
        self._observe_column(wider, texts, kind, fresh=False)
        hints = self._hints()
        if wider.reading(self._options, hints).type == reading.type:
            return None
        row, _ = _first_value(texts)
        return {row: Misfit("of another type")}

    def _cast_native(self, column: _Column, array: pa.Array, target: Target) -> tuple[pa.Array, dict[int, Misfit]]:
        wanted = arrow_type(target)
        column.cut = column.cut or has_nanos(array)
        if not (target.strict or target.fixed) and array.null_count < len(array):
            kind = native.type_of(array.type)
            if (
                kind is not None
                and join(column.reading(self._options, Hints()).type, kind)
                != column.reading(self._options, Hints()).type
            ):
                return pa.nulls(len(array), wanted), {_first_value(array)[0]: Misfit("of another type")}
        misfits: dict[int, Misfit] = {}
        while True:
            try:
                typed = native.fit(array, target)
            except FitError as error:
                misfits[error.row] = Misfit(error.reason)
                if not target.strict:
                    return pa.nulls(len(array), wanted), misfits
                keep = np.ones(len(array), bool)
                keep[list(misfits)] = False
                array = pc.if_else(booleans(keep), native.unwrapped(array), None)
            else:
                return self._without_nul(column, typed) if typed.type == pa.string() else typed, misfits

    def _without_nul(self, column: _Column, texts: pa.StringArray) -> pa.StringArray:
        if not columns.has_byte(texts, 0):
            return texts
        column.nul = True
        return pc.replace_substring(texts, "\0", "")

    def _json(self, column: _Column, texts: pa.StringArray, kind: Kind) -> pa.StringArray:
        """Texts of any kind as JSON: what a reader wrote as JSON stays, anything else becomes a JSON string."""
        if not kind & (Kind.NESTED | Kind.NUMBER | Kind.BOOLEAN):
            texts = native.quoted(texts)
        cleaned, found = native.json_without_nul(texts)
        column.nul = column.nul or found
        return self._without_nul(column, cleaned)


_TOKENS = strings(NULL_TOKENS)


def _as_expected(batch: RawBatch, plan: _Plan) -> bool:
    """Whether the columns that came typed are what casting their texts would give."""
    width = batch.data.num_columns
    typed = ((batch.data.column(position), wanted) for position, _, _, _, wanted in plan.casts if position < width)
    return all(array.type == pa.string() or (array.type == wanted and columns.exact(array)) for array, wanted in typed)


def _misfit(texts: pa.StringArray, state: State) -> str | None:
    """The first value that no type holds together with those in ``state`` and above it; None when it has none above."""
    for start in range(0, len(texts), 1024):
        for text in texts.slice(start, 1024).to_pylist():
            if text is None:
                continue
            joined = state | shapes.classify(text)
            if joined.hopeless:
                typed = state.shapes & ~ABSENT & ~ADDED
                return text if typed or _ZEROS.fullmatch(text) else None
            state = joined
    return None


def _why_text(misfit: str) -> str:
    shown = misfit if len(misfit) <= 40 else misfit[:40] + "…"
    return f"{shown!r} {'begins with a zero' if _ZEROS.fullmatch(misfit) else 'is unlike the values above it'}"


_ZEROS = re.compile(r"0[0-9]+")


def has_nanos(array: pa.Array) -> bool:
    """Whether a timestamp or time has a part finer than a microsecond."""
    kind = array.type
    if not ((pa.types.is_timestamp(kind) or pa.types.is_time64(kind)) and kind.unit == "ns"):
        return False
    counts = array.drop_null() if array.null_count else array
    values = np.frombuffer(counts.buffers()[1] or b"", np.int64)[counts.offset : counts.offset + len(counts)]
    return bool((values % 1000).any())


def _first_value(array: pa.Array) -> tuple[int, str]:
    row = int(np.argmax(valid_mask(array)))
    return row, native.to_text(array.slice(row, 1))[0].as_py()


def _empty(rows: int) -> pa.RecordBatch:
    """A batch of rows without columns."""
    return pa.RecordBatch.from_arrays([pa.nulls(rows)], names=[""]).select([])
