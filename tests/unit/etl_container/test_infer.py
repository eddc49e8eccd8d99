from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_container.datasets import parse_read
from etl_container.errors import ConfigError
from etl_container.formats.base import Kind, RawBatch
from etl_container.formats.options import ReadOptions
from etl_container.infer import FitError, Inference, Target, TypeBreak, fit
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


def test_a_late_number_with_more_digits_is_no_reject_of_a_column_that_shall_be_numeric() -> None:
    inference = inferred(["0.5", "1"])
    wanted = Target(PgType.NUMERIC, strict=True, scale=inference.scales[0])
    later = batch(["0.25", "1e-3", "7", "x"], first=2)
    with pytest.raises(TypeBreak) as broken:
        inference.cast(later, [wanted])
    assert broken.value.breaks[0].value == "0.25"
    inference.observe(later)
    wanted = Target(PgType.NUMERIC, strict=True, scale=3)
    done = inference.cast(later, [wanted])
    assert [str(value.as_py()) for value in done.batch.column(0)] == ["0.250", "0.001", "7.000"]
    assert [failure.value for failure in done.failures] == ["x"]


def test_values_are_read_as_the_column_says() -> None:
    day, later = dt.date(2024, 4, 3), dt.date(2024, 4, 13)
    assert read(["03/04/2024", "13/04/2024", "NA"]) == [day, later, None]
    assert read(["04/03/2024", "04/13/2024"] * 300) == [day, later] * 300
    assert read(["3/4/2024 3:04 PM", "13/4/2024 12:05 am"]) == [
        dt.datetime(2024, 4, 3, 15, 4),
        dt.datetime(2024, 4, 13, 0, 5),
    ]
    assert read(["Apr 3, 2024", "3 April 2024"]) == [day, day]
    assert read(["1.234,56", "-7", ""]) == [1234.56, -7.0, None]
    assert read(["$1,234.50", "-$2"]) == [1234.5, -2.0]
    assert read(["12 %", "7%"]) == [12, 7]
    assert read([" 15:04", "3:04:05.5"]) == [dt.time(15, 4), dt.time(3, 4, 5, 500000)]
    assert read(["2024-01-02 03:04:05 +01:00", "2024-01-02 03:04:05.1234567Z"]) == [
        dt.datetime(2024, 1, 2, 2, 4, 5, tzinfo=dt.UTC),
        dt.datetime(2024, 1, 2, 3, 4, 5, 123456, tzinfo=dt.UTC),
    ]
    assert read(["2024-07-02 03:04", "2024-01-02T03:04Z"], timezone="Europe/Zurich") == [
        dt.datetime(2024, 7, 2, 1, 4, tzinfo=dt.UTC),
        dt.datetime(2024, 1, 2, 3, 4, tzinfo=dt.UTC),
    ]
    assert read(["1.50", "9007199254740993"]) == [Decimal("1.50"), Decimal("9007199254740993.00")]
    assert read(["0.1", "2"], exact_decimals=True) == [Decimal("0.1"), Decimal("2.0")]
    assert (
        read(["123E4567-e89b-12d3-a456-426614174000", None, " 123e4567-e89b-12d3-a456-426614174000"])[::2]
        == [bytes.fromhex("123e4567e89b12d3a456426614174000")] * 2
    )


def test_text_keeps_every_character_but_nul() -> None:
    assert read([" a ", "", "NA", None, "007"]) == [" a ", "", "NA", None, "007"]
    inference = inferred(["a\0b", "c"])
    assert inference.cast(batch(["a\0b", "c"]), inference.targets).batch.column(0).to_pylist() == ["ab", "c"]
    assert inference.notes == ("column c0: NUL characters removed",)


def test_the_users_nulls_are_null_in_every_column() -> None:
    assert read(["x", "none", "999"], nulls=("999", "none")) == ["x", None, None]


def test_null_tokens_of_a_text_column_are_told() -> None:
    inference = inferred(["N1", "NA", "NA", "N2"])
    assert inference.notes == ("column c0 holds 2 'NA' kept as text; set nulls = [\"NA\"]",)


def test_null_tokens_of_other_columns_are_told_too() -> None:
    assert inferred(["1", "NA", "-", "NA", "2"]).notes == ("column c0: 'NA', '-' read as null",)


def test_what_made_a_column_text_is_told_where_it_might_have_been_more() -> None:
    assert inferred(["1", "2", "x7", "3"]).reasons == ("column c0: text, since 'x7' is unlike the values above it",)
    assert inferred(["NA", "00501", "10001"]).reasons == ("column c0: text, since '00501' begins with a zero",)
    assert inferred(["Ann", "1", "Bob"]).reasons == ()
    late = inferred(["1", "2"])
    late.observe(batch(["3", None, "4"], first=2))
    late.observe(batch(["5", "2024-01-02", "x"], first=5))
    assert late.reasons == ("column c0: text, since '2024-01-02' is unlike the values above it",)


def test_another_column_proves_the_decimal_sign_and_the_order_of_dates() -> None:
    assert inferred(["1,234"], ["1.5"]).types[0] == PgType.BIGINT
    assert inferred(["1,234"], ["1,5"]).types[0] == PgType.DOUBLE
    assert inferred(["1,234"], ["1,5"], ["1.5"]).types[0] == PgType.TEXT
    assert inferred(["1.234"], ["1,5"]).types[0] == PgType.BIGINT
    assert inferred(["03/04/2024"], ["31/01/2024"]).types[0] == PgType.DATE
    assert inferred(["03/04/2024"], date_order="mdy").types[0] == PgType.DATE


def test_the_user_says_what_the_decimal_sign_is() -> None:
    assert inferred(["1,234"]).types[0] == PgType.TEXT
    assert inferred(["1,234"], decimal=".").types[0] == PgType.BIGINT
    assert inferred(["1,234"], decimal=",").types[0] == PgType.DOUBLE
    assert inferred(["1.234"], decimal=",").types[0] == PgType.BIGINT
    assert inferred(["1,234"], ["1,5"], decimal=".").types[0] == PgType.BIGINT


@pytest.mark.parametrize("value", ["03/04/24", "3 Jan 24", "31.12.99"])
def test_a_year_of_two_digits_stays_text_since_its_century_is_not_in_the_file(value: str) -> None:
    assert inferred([value, value]).types == (PgType.TEXT,)


def test_dates_of_mail_headers_stay_text() -> None:
    assert inferred(["Mon, 20 Nov 1995 19:12:08 -0500"]).types == (PgType.TEXT,)


@pytest.mark.parametrize(
    ("kind", "values", "wanted"),
    [
        (Kind.STRING, ["1", "2"], PgType.TEXT),
        (Kind.STRING, ["true"], PgType.TEXT),
        (Kind.STRING, ["2024-01-02", ""], PgType.DATE),
        (Kind.STRING, ["31/01/2024"], PgType.TEXT),
        (Kind.NUMBER, ["1", "2.5"], PgType.DOUBLE),
        (Kind.NUMBER, ["18446744073709551615"], PgType.NUMERIC),
        (Kind.BOOLEAN, ["true", "false"], PgType.BOOLEAN),
        (Kind.TEMPORAL, ["2024-01-02T03:04:05"], PgType.TIMESTAMP),
        (Kind.NESTED, ['{"a": 1}'], PgType.JSONB),
        (Kind.NESTED | Kind.NUMBER, ["[1]", "5"], PgType.JSONB),
        (Kind.NUMBER | Kind.STRING, ["5", "x"], PgType.TEXT),
        (Kind.VERBATIM, ["5"], PgType.TEXT),
    ],
)
def test_typed_formats_say_what_a_text_can_be(kind: Kind, values: list[str | None], wanted: PgType) -> None:
    assert type_of(values, kind) == wanted


def test_kinds_that_differ_between_batches_are_joined() -> None:
    inference = inferred(["5"], kind=Kind.NUMBER)
    targets = inference.targets
    for later in (batch(["x"], kind=Kind.STRING), batch(["[1]"], kind=Kind.NESTED), batch(["6"], kind=Kind.STRING)):
        with pytest.raises(TypeBreak):
            inference.cast(later, targets)
    inference.observe(batch(["[1]"], kind=Kind.NESTED))
    assert inference.types == (PgType.JSONB,)
    as_json = [
        inference.cast(batch(["x"], kind=kind), inference.targets).batch.column(0)[0].as_py()
        for kind in (Kind.STRING, Kind.NESTED)
    ]
    assert as_json == ['"x"', "x"]


def test_jsonb_has_no_nul() -> None:
    assert read(['{"a": "x\\u0000y"}', '{"a": "\\\\u0000"}'], Kind.NESTED) == ['{"a": "xy"}', '{"a": "\\\\u0000"}']


def test_a_strict_target_fails_the_rows_that_are_none_of_it() -> None:
    inference = inferred(["1", "x", "3"], ["a", "b", "c"])
    result = inference.cast(
        batch(["1", "x", "3"], ["5", "6", "c"], first=100),
        [Target(PgType.BIGINT, strict=True), Target(PgType.BIGINT, strict=True)],
    )
    assert result.batch.to_pydict() == {"c0": [1], "c1": [5]}
    assert [(f.record, f.position, f.value) for f in result.failures] == [(101, 0, "x"), (102, 1, "c")]
    assert [result.ordinal(0)] == [100]


@pytest.mark.parametrize(
    ("wanted", "values", "expected", "rows"),
    [
        (PgType.BIGINT, ["007", "+5", "1.5", "NA", "99999999999999999999"], [7, 5, None], [2, 4]),
        (PgType.DOUBLE, ["007.5", "inf", "x", ""], [7.5, float("inf"), None], [2]),
        (PgType.BOOLEAN, ["t", "NO", "1", "2", "true"], [True, False, True, True], [3]),
        (
            PgType.DATE,
            ["2024-01-02", "31/01/2024", "2024-02-30", "2024-01-02 00:00"],
            [dt.date(2024, 1, 2), dt.date(2024, 1, 31), dt.date(2024, 1, 2)],
            [2],
        ),
        (
            PgType.TIMESTAMPTZ,
            ["2024-01-02 03:04Z", "2024-01-02 03:04"],
            [dt.datetime(2024, 1, 2, 3, 4, tzinfo=dt.UTC)],
            [1],
        ),
        (PgType.TEXT, ["x", None, "5"], ["x", None, "5"], []),
        (PgType.JSONB, ['{"a":1}', "{", "NaN", "5"], ['{"a":1}', "5"], [1, 2]),
        (
            PgType.UUID,
            ["{123e4567-e89b-12d3-a456-426614174000}", "x"],
            [bytes.fromhex("123e4567e89b12d3a456426614174000")],
            [1],
        ),
    ],
)
def test_a_strict_target_takes_what_postgresql_takes(
    wanted: PgType, values: list[str | None], expected: list[Any], rows: list[int]
) -> None:
    assert strict(values, wanted) == (expected, rows)


def test_strict_numeric_has_a_scale() -> None:
    assert strict(["1.5", "1.25", "2"], PgType.NUMERIC, 1) == ([Decimal("1.5"), Decimal("2.0")], [1])


def test_a_wider_target_takes_the_text() -> None:
    inference = inferred(["1", "007"[2:]])
    wide = batch(["1", "2"])
    assert inference.cast(wide, [Target(PgType.TEXT)]).batch.column(0).to_pylist() == ["1", "2"]
    assert inference.cast(wide, [Target(PgType.DOUBLE)]).batch.column(0).to_pylist() == [1.0, 2.0]
    assert inference.cast(wide, [None]).batch.num_rows == 2


def test_a_column_that_comes_later_breaks_unless_it_is_empty() -> None:
    inference = inferred(["1"])
    targets = inference.targets
    assert inference.cast(batch(["2"], [None]), targets).batch.num_columns == 1
    with pytest.raises(TypeBreak):
        inference.cast(batch(["2"], ["x"]), targets)
    inference.observe(batch(["2"], ["x"]))
    assert inference.cast(batch(["3"]), inference.targets).batch.to_pydict() == {"c0": [3], "c1": [None]}


def test_a_column_of_nulls_breaks_when_it_gets_a_value_unless_it_is_fixed() -> None:
    inference = inferred([None])
    with pytest.raises(TypeBreak):
        inference.cast(batch(["5"]), inference.targets)
    assert inference.cast(batch(["5"]), [Target(PgType.TEXT, fixed=True)]).batch.column(0).to_pylist() == ["5"]


# ---- native types ----------------------------------------------------------------------------------------------------

NATIVE = [
    (pa.array([1, None], pa.int8()), PgType.BIGINT, [1, None]),
    (pa.array([2**64 - 1], pa.uint64()), PgType.NUMERIC, [Decimal(2**64 - 1)]),
    (pa.array([1.5, float("inf")], pa.float16()), PgType.DOUBLE, [1.5, float("inf")]),
    (pa.array([Decimal("1.50")], pa.decimal128(5, 2)), PgType.NUMERIC, [Decimal("1.50")]),
    (pa.array([Decimal("1.50")], pa.decimal256(50, 2)), PgType.NUMERIC, [Decimal("1.50")]),
    (pa.array(["x", "x", None]).dictionary_encode(), PgType.TEXT, ["x", "x", None]),
    (pa.array(["x"], pa.large_string()), PgType.TEXT, ["x"]),
    (pa.array([b"x"], pa.binary(1)), PgType.BYTEA, [b"x"]),
    (pa.array([1_500], pa.timestamp("ns")), PgType.TIMESTAMP, [dt.datetime(1970, 1, 1, microsecond=1)]),
    (
        pa.array([-(1 << 63), -1, -1000, None], pa.timestamp("ns")),
        PgType.TIMESTAMP,
        [
            dt.datetime(1677, 9, 21, 0, 12, 43, 145224),
            dt.datetime(1969, 12, 31, 23, 59, 59, 999999),
            dt.datetime(1969, 12, 31, 23, 59, 59, 999999),
            None,
        ],
    ),
    (pa.array([Decimal("1" * 39)], pa.decimal256(50, 2)), PgType.TEXT, ["1" * 39 + ".00"]),
    (
        pa.array([1], pa.timestamp("s", "Europe/Zurich")),
        PgType.TIMESTAMPTZ,
        [dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)],
    ),
    (pa.array([86_400_000], pa.date64()), PgType.DATE, [dt.date(1970, 1, 2)]),
    (pa.array([1_500], pa.time64("ns")), PgType.TIME, [dt.time(microsecond=1)]),
    (pa.array([3_661_500], pa.duration("ms")), PgType.TEXT, ["01:01:01.5"]),
    (pa.array([{"a": Decimal("1.10"), "b": [1, None]}, None]), PgType.JSONB, ['{"a":1.10,"b":[1,null]}', None]),
    (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), PgType.JSONB, ['{"k":1}']),
    (pa.nulls(2), None, [None, None]),
]


@pytest.mark.parametrize(("array", "wanted", "expected"), NATIVE, ids=lambda value: str(getattr(value, "type", "")))
def test_native_types_are_kept(array: pa.Array, wanted: PgType | None, expected: list[Any]) -> None:
    raw = RawBatch(pa.RecordBatch.from_arrays([array], names=["c"]), (Kind(0),))
    inference = Inference(ReadOptions())
    inference.observe(raw)
    assert inference.types == (wanted,)
    assert inference.cast(raw, inference.targets).batch.column(0).to_pylist() == expected


def test_a_typed_value_that_does_not_fit_is_named() -> None:
    with pytest.raises(FitError) as error:
        fit(pa.array([1.0, 2.5, 3.0]), Target(PgType.BIGINT))
    assert (error.value.row, error.value.value) == (1, "2.5")
    assert fit(pa.array(["1", "2"]), Target(PgType.BIGINT)).to_pylist() == [1, 2]
    assert fit(pa.array([1, 2]), Target(PgType.TEXT)).to_pylist() == ["1", "2"]


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


@pytest.mark.parametrize("setting", [{"decimal": ";"}, {"date_order": "ymd"}])
def test_a_decimal_sign_or_an_order_of_dates_that_there_is_not_is_a_clear_error(setting: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        parse_read("sales", setting)


DATES = (
    *("2024-1-2", "2024-12-31", "2024-12-31 23:59", "2024-01-02T03:04:05", "2024-01-02 03:04:05.1234567"),
    *("2024-1-2 3:04", "2024-1-2 11:59 PM", "2024-12-31 11:59 PM", "2024-12-31,10:00", "2024-12-31 7:05"),
    *("2024/1/2", "2024/01/02 10:00", "2024.1.2", "03/04/2024", "13/04/2024 10:00", "2024-12-31T10:00Z", "3 Jan 2024"),
)


@pytest.mark.parametrize("first", DATES)
def test_dates_of_two_forms_are_seen_alike_by_kernels_and_one_by_one(first: str) -> None:
    for second in DATES:
        expected = classify(first) | classify(second)
        found = observe(pa.array([first] * 60 + [second] * 3, pa.string()), State())
        assert found.hopeless == expected.hopeless
        assert found.hopeless or found == expected, (first, second)
