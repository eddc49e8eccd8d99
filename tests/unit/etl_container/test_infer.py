from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_container.formats.base import Kind, RawBatch
from etl_container.formats.options import ReadOptions
from etl_container.infer import Inference, Target, TypeBreak
from etl_container.infer.columns import observe
from etl_container.infer.shapes import TOKENS, State, classify, classify_string
from etl_container.schema import PgType


def batch(*columns: list[str | None], kind: Kind = Kind.TEXT, first: int = 0) -> RawBatch:
    arrays = [pa.array(values, pa.string()) for values in columns]
    data = pa.RecordBatch.from_arrays(arrays, names=[f"c{i}" for i in range(len(arrays))])
    return RawBatch(data, (kind,) * len(arrays), first)


def inferred(*columns: list[str | None], kind: Kind = Kind.TEXT, **options: Any) -> Inference:
    inference = Inference(ReadOptions(**options))
    inference.observe(batch(*columns, kind=kind))
    return inference


def type_of(values: list[str | None], kind: Kind = Kind.TEXT, **options: Any) -> PgType | None:
    return inferred(values, kind=kind, **options).types[0]


def read(values: list[str | None], kind: Kind = Kind.TEXT, **options: Any) -> list[Any]:
    inference = inferred(values, kind=kind, **options)
    return inference.cast(batch(values, kind=kind), inference.targets).batch.column(0).to_pylist()


def strict(values: list[str | None], wanted: PgType, scale: int | None = None, **options: Any) -> tuple[Any, Any]:
    inference = inferred(values, **options)
    result = inference.cast(batch(values), [Target(wanted, strict=True, scale=scale)])
    return result.batch.column(0).to_pylist(), [failure.row for failure in result.failures]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["1", "-20", "0", "9223372036854775807", "-9223372036854775808"], PgType.BIGINT),
        (["1", "9223372036854775808"], PgType.NUMERIC),
        (["1", "1" * 38], PgType.NUMERIC),
        (["1", "1" * 39], PgType.TEXT),
        (["007", "8"], PgType.TEXT),
        (["-01", "8"], PgType.TEXT),
        (["0x1f", "8"], PgType.TEXT),
        (["+41791234567"], PgType.TEXT),
        (["1.5", "2"], PgType.DOUBLE),
        (["-0.5", "0", "0.25"], PgType.DOUBLE),
        (["01.5", "2"], PgType.TEXT),
        (["-00.5", "2"], PgType.TEXT),
        ([".5", "5."], PgType.DOUBLE),
        (["1e5", "2"], PgType.DOUBLE),
        (["1e400", "2"], PgType.TEXT),
        (["1.5", "9007199254740992"], PgType.DOUBLE),
        (["1.5", "9007199254740993"], PgType.NUMERIC),
        (["1.5", "inf"], PgType.DOUBLE),
        (["inf"], PgType.TEXT),
        (["1.5", "nan"], PgType.DOUBLE),
        (["1_000"], PgType.TEXT),
        (["٣"], PgType.TEXT),
        (["true", "FALSE", "True"], PgType.BOOLEAN),
        (["true", "1"], PgType.TEXT),
        (["t", "f"], PgType.TEXT),
        (["2024-01-02"], PgType.DATE),
        (["2024-02-30"], PgType.TEXT),
        (["0000-01-01"], PgType.TEXT),
        (["20240102"], PgType.BIGINT),
        (["2024-01-02", "2024-01-02 03:04"], PgType.TIMESTAMP),
        (["2024-01-02T03:04:05.123456"], PgType.TIMESTAMP),
        (["2024-01-02T03:04:05.123456789"], PgType.TIMESTAMP),
        (["2024-01-02 24:00:00"], PgType.TEXT),
        (["2024-01-02T03:04:05Z", "2024-01-02 03:04:05+01", "2024-01-02 03:04:05.5-0130"], PgType.TIMESTAMPTZ),
        (["2024-01-02T03:04:05Z", "2024-01-02T03:04:05"], PgType.TEXT),
        (["2024-01-02 03:04:05 UTC", "2024-01-02 03:04:05 +01:00"], PgType.TIMESTAMPTZ),
        (["15:04", "3:04:05.5"], PgType.TIME),
        (["25:04"], PgType.TEXT),
        (["123e4567-e89b-12d3-a456-426614174000", "123E4567-E89B-12D3-A456-426614174000"], PgType.UUID),
        (["123e4567-e89b-12d3-a456-42661417400g"], PgType.TEXT),
        (["03/04/2024", "13/04/2024"], PgType.DATE),
        (["03/04/2024", "04/13/2024"], PgType.DATE),
        (["13/04/2024", "04/13/2024"], PgType.TEXT),
        (["03/04/2024"], PgType.TEXT),
        (["31/04/2024"], PgType.TEXT),
        (["3.4.2024 12:30"], PgType.TIMESTAMP),
        (["2024/3/4"], PgType.DATE),
        (["2024-3-4", "2024-10-12"], PgType.DATE),
        (["3 Jan 2024", "Jan 3, 2024", "03-feb-2024"], PgType.DATE),
        (["1,5", "2"], PgType.DOUBLE),
        (["1.234,56", "2"], PgType.DOUBLE),
        (["1.234.567", "2"], PgType.BIGINT),
        (["1,234,567", "2,345"], PgType.BIGINT),
        (["1,234"], PgType.TEXT),
        (["1,234.5", "2,345"], PgType.DOUBLE),
        (["1.234"], PgType.DOUBLE),
        (["1,234,567", "12345"], PgType.TEXT),
        (["1 234,5"], PgType.DOUBLE),
        (["1 234"], PgType.TEXT),
        (["1'234.50"], PgType.DOUBLE),
        (["$5", "$1,234"], PgType.BIGINT),
        (["$5", "6"], PgType.TEXT),
        (["5 €", "6,50 €"], PgType.DOUBLE),
        (["5%", "6.5 %"], PgType.DOUBLE),
        (["NA", "1"], PgType.BIGINT),
        (["NA", "x"], PgType.TEXT),
        (["NA"], PgType.TEXT),
        (["", "1"], PgType.BIGINT),
        ([None, None], None),
        ([" 1 ", "2"], PgType.BIGINT),
        (["1", "2024-01-02"], PgType.TEXT),
    ],
)
def test_a_column_of_texts_has_the_type_of_its_values(values: list[str | None], wanted: PgType | None) -> None:
    assert type_of(values) == wanted
    # … also when each value comes many times, so that whole-column kernels decide it
    assert type_of(values * 60) == wanted
    assert type_of(values[:1] * 100 + values) == wanted
    assert len(read(values * 60)) == 60 * len(values)


def test_a_late_value_breaks_the_guess_and_names_its_record() -> None:
    inference = inferred(["1", "2"])
    targets = inference.targets
    with pytest.raises(TypeBreak) as broken:
        inference.cast(batch(["3", "x"], first=10), targets)
    assert [(b.position, b.record, b.value) for b in broken.value.breaks] == [(0, 11, "x")]
    assert inference.types == (PgType.BIGINT,)


# ---- properties ------------------------------------------------------------------------------------------------------

VALUES = {
    "int": ["1", "-20", "0", "-0", "12345", "999", "9007199254740993", "9223372036854775808", "007", "+1", "0x1f"],
    "point": ["1.5", "-0.25", ".5", "5.", "1.234", "-12.345", "12345.678", "0.123", "1e5", "-1.5E-3", "01.5", "1e400"],
    "odd": ["inf", "-inf", "nan", "NaN", "-", "NA", "", "  ", " 1 ", "\t2.5", "?", "1_0", "-", "--5", "1..2", "."],
    "mark": [
        "1,5",
        "1,234",
        "1.234,56",
        "1.234.567",
        "1,234,567",
        "1,234.5",
        "1 234",
        "1 234,5",
        "1'234",
        "1\u00a0234",
    ],
    "sign": ["$5", "-$5", "$-5.25", "$1,234", "5 €", "6,50 €", "5%", "6.5 %", "EUR 7", "- 5", "$", "%"],
    "bool": ["true", "FALSE", "True", "t", "1", "0", "yes"],
    "iso": ["2024-01-02", "2024-02-30", "0000-01-01", "9999-12-31", "2024-1-2", "20240102", "2024-12-31 23:59"],
    "stamp": [
        "2024-01-02 03:04",
        "2024-01-02T03:04:05.5",
        "2024-01-02 03",
        "2024-01-02 24:00",
        "2024-01-02 03:04:05.1234567",
    ],
    "zone": ["2024-01-02T03:04:05Z", "2024-01-02 03:04+01", "2024-01-02 03:04:05 UTC", "2024-01-02 03:04:05.1234567Z"],
    "edge": [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00",
        "2024-01-02 03:04z",
        "2024-01-02 03:04:05 +0100",
    ],
    "day": [
        "03/04/2024",
        "13/04/2024",
        "04/13/2024",
        "31/04/2024",
        "3.4.2024",
        "13-4-2024",
        "3/4/2024 3:04 PM",
        "2024/3/4",
    ],
    "month": [
        "3 Jan 2024",
        "Jan 3, 2024",
        "03-feb-2024",
        "30 Feb 2024",
        "Sept 5, 2024 13:00",
        "2024.03.04",
        "2024-3/4",
    ],
    "time": ["15:04", "3:04:05.5", "25:00", "15:04:05"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000", "123E4567-E89B-12D3-A456-42661417400g"],
    "text": ["x", "a b", "\0", "é", "1" * 70, "0." + "1" * 70, "x" * 200],
}


@st.composite
def columns_of_texts(draw: st.DrawFn) -> list[str | None]:
    families = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=2))
    pool = [value for family in families for value in VALUES[family]]
    chosen = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=5))
    values: list[str | None] = draw(st.lists(st.sampled_from([*chosen, None]), min_size=1, max_size=12))
    # long columns are decided by whole-column kernels, short ones value by value
    return values[:1] * draw(st.sampled_from([0, 40])) + values + values[-1:] * draw(st.sampled_from([0, 40]))


OPTIONS = st.builds(
    ReadOptions,
    exact_decimals=st.booleans(),
    timezone=st.sampled_from([None, "Europe/Zurich"]),
    date_order=st.sampled_from([None, "dmy", "mdy"]),
    nulls=st.sampled_from([None, ("0", "x")]),
)
KINDS = st.sampled_from([Kind.TEXT, Kind.TEXT, Kind.STRING])


@settings(max_examples=150, deadline=None)
@given(values=columns_of_texts(), options=OPTIONS, kind=KINDS, data=st.data())
def test_types_do_not_depend_on_batches_or_order(
    values: list[str | None], options: ReadOptions, kind: Kind, data: st.DataObject
) -> None:
    whole = Inference(options)
    whole.observe(batch(values, kind=kind))
    cut = data.draw(st.integers(0, len(values)))
    parts = [values[cut:], values[:cut]]
    other = Inference(options)
    for part in parts:
        other.observe(batch(list(reversed(part)), kind=kind))
    assert other.types == whole.types
    assert other.scales == whole.scales


@settings(max_examples=150, deadline=None)
@given(values=columns_of_texts(), options=OPTIONS, kind=KINDS)
def test_what_was_observed_is_cast_without_a_break_or_a_loss(
    values: list[str | None], options: ReadOptions, kind: Kind
) -> None:
    inference = Inference(options)
    inference.observe(batch(values, kind=kind))
    result = inference.cast(batch(values, kind=kind), inference.targets)
    assert result.batch.num_rows == len(values)
    nulls = {None, *(options.nulls or ())}
    for value, null in zip(values, result.batch.column(0).is_null().to_pylist(), strict=True):
        absent = value in nulls
        if inference.types[0] is not PgType.TEXT:
            absent = absent or value is None or not value.strip() or value.strip() in TOKENS
        assert null == absent


@settings(max_examples=150, deadline=None)
@given(values=columns_of_texts(), options=OPTIONS, kind=KINDS, data=st.data())
def test_a_batch_that_is_cast_leaves_the_types_as_they_are(
    values: list[str | None], options: ReadOptions, kind: Kind, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(values)))
    inference = Inference(options)
    inference.observe(batch(values[:cut], kind=kind))
    before = inference.types
    later = batch(values[cut:], kind=kind, first=cut)
    try:
        inference.cast(later, inference.targets)
    except TypeBreak:
        assert inference.types == before
    else:
        inference.observe(later)
        assert inference.types == before


@settings(max_examples=150, deadline=None)
@given(values=columns_of_texts(), string=st.booleans())
def test_kernels_find_what_looking_at_each_value_finds(values: list[str | None], string: bool) -> None:
    expected = State()
    for value in values:
        if value is not None:
            expected |= (classify_string if string else classify)(value)
    found = observe(pa.array(values, pa.string()), State(), string=string)
    assert found.hopeless == expected.hopeless
    if not found.hopeless:
        assert found == expected
