"""Contracts: every rule told in words, exact at its edges, and the same as its pandera schema."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_container.contract import Checker, Violation, to_pandera
from etl_container.datasets import ColumnRule, Contract, parse_contract
from etl_container.errors import ConfigError, ContractError
from etl_container.schema import ColumnSchema, PgType, TableSchema

STORAGE = {
    PgType.BIGINT: pa.int64(),
    PgType.DOUBLE: pa.float64(),
    PgType.NUMERIC: pa.decimal128(20, 2),
    PgType.BOOLEAN: pa.bool_(),
    PgType.DATE: pa.date32(),
    PgType.TIME: pa.time64("us"),
    PgType.TIMESTAMP: pa.timestamp("us"),
    PgType.TIMESTAMPTZ: pa.timestamp("us", tz="UTC"),
    PgType.UUID: pa.binary(16),
    PgType.TEXT: pa.string(),
    PgType.JSONB: pa.string(),
    PgType.BYTEA: pa.binary(),
}


def columns(**types: PgType) -> TableSchema:
    return TableSchema(tuple(ColumnSchema(name, kind, name) for name, kind in types.items()))


def one(kind: PgType, values: list[Any], **rule: Any) -> tuple[list[bool], list[Violation]]:
    """What one rule says of one column ``v``."""
    checker = Checker(Contract(columns={"v": ColumnRule(**rule)}), columns(v=kind), None)
    mask, violations = checker.check(pa.RecordBatch.from_pydict({"v": pa.array(values, STORAGE[kind])}), None)
    return mask.to_pylist(), violations


def reasons(kind: PgType, values: list[Any], **rule: Any) -> list[str]:
    return [violation.reason for violation in one(kind, values, **rule)[1]]


# -- before a row ------------------------------------------------------------------------------------------------------


def test_a_missing_required_column_is_named_with_those_that_there_are() -> None:
    contract = Contract(columns={"a": ColumnRule(), "b": ColumnRule(), "c": ColumnRule(required=False)})
    with pytest.raises(ContractError, match=r"requires column b; the file has a, z"):
        Checker(contract, columns(a=PgType.TEXT, z=PgType.TEXT), None)


def test_a_key_column_must_be_there_and_not_null() -> None:
    contract = Contract(primary_key=("id",))
    with pytest.raises(ContractError, match="requires column id"):
        Checker(contract, columns(a=PgType.TEXT), None)
    mask, violations = Checker(contract, columns(id=PgType.BIGINT), None).check(
        pa.RecordBatch.from_pydict({"id": [1, None]}), pa.array([7, 9], pa.int64())
    )
    assert mask.to_pylist() == [True, False]
    assert violations == [Violation("null in a not-null column", 1, 9, "id", None)]


@pytest.mark.parametrize(
    ("kind", "rule", "told"),
    [
        (PgType.BIGINT, {"minimum": dt.date(2024, 1, 1)}, "bigint in this file, which cannot be compared with min"),
        (PgType.BOOLEAN, {"maximum": 3}, "boolean in this file"),
        (PgType.UUID, {"maximum": "x"}, "uuid in this file"),
        (PgType.DATE, {"maximum": 20240101}, "date in this file"),
        (PgType.BYTEA, {"pattern": "x"}, "holds bytes"),
    ],
)
def test_a_rule_that_makes_no_sense_for_the_type_is_refused(kind: PgType, rule: dict[str, Any], told: str) -> None:
    with pytest.raises(ContractError, match=told):
        one(kind, [], **rule)


def test_a_bound_that_is_none_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="max = True is no bound"):
        one(PgType.BIGINT, [], maximum=True)


# -- the rules of a row ------------------------------------------------------------------------------------------------


def test_reasons_are_plain_words() -> None:
    assert reasons(PgType.BIGINT, [5, 7, None], maximum=5) == ["value 7 is above the maximum 5"]
    assert reasons(PgType.DOUBLE, [0.5], minimum=1) == ["value 0.5 is below the minimum 1"]
    assert reasons(PgType.TEXT, ["A1", "B"], pattern="A[0-9]") == ["value B does not match A[0-9]"]
    assert reasons(PgType.TEXT, ["a", "c"], allowed=("a", "b")) == ["value c is not one of: a, b"]
    assert reasons(PgType.TEXT, ["a", None], not_null=True) == ["null in a not-null column"]
    assert reasons(PgType.TEXT, ["12", "x"], maximum=20) == [
        "value x is not a number, so it is not within the maximum 20"
    ]
    many = reasons(PgType.BIGINT, [0], allowed=tuple(range(1, 500)))
    assert many[0].endswith("9, 10 … (499 in all)")


@pytest.mark.parametrize(
    ("kind", "values", "rule", "good"),
    [
        (PgType.BIGINT, [4, 5, 6], {"minimum": 5}, [False, True, True]),
        (PgType.BIGINT, [4, 5, 6], {"minimum": 4.5, "maximum": 5.9}, [False, True, False]),
        (PgType.BIGINT, [2**53, 2**53 + 1], {"maximum": 2**53}, [True, False]),
        (PgType.BIGINT, [1], {"maximum": 2**70}, [True]),
        (PgType.BIGINT, [1, None], {"minimum": 2**70}, [False, True]),
        (PgType.BIGINT, [1, 6], {"maximum": "5"}, [True, False]),
        (
            PgType.DOUBLE,
            [0.1, 0.1 + 2e-17, 0.11, float("nan"), None],
            {"maximum": 0.1},
            [True, False, False, False, True],
        ),
        (PgType.DOUBLE, [float("inf"), 2.0**53, 2.0**53 + 2], {"maximum": 2**53 + 1}, [False, True, False]),
        (PgType.NUMERIC, [Decimal("0.10"), Decimal("0.11")], {"maximum": 0.1}, [True, False]),
        (PgType.NUMERIC, [Decimal("0.10"), Decimal("0.11")], {"minimum": 0.105}, [False, True]),
        (PgType.NUMERIC, [Decimal("0.10")], {"maximum": 1e30}, [True]),
        (PgType.NUMERIC, [Decimal("0.10")], {"maximum": -1e30}, [False]),
        (PgType.DATE, [dt.date(2024, 1, 1), dt.date(2024, 1, 2)], {"maximum": dt.date(2024, 1, 1)}, [True, False]),
        (PgType.DATE, [dt.date(2024, 1, 1), dt.date(2024, 1, 2)], {"minimum": "2024-01-01T12:00:00"}, [False, True]),
        (
            PgType.TIMESTAMP,
            [dt.datetime(2024, 1, 1, 23, 59, 59, 999999), dt.datetime(2024, 1, 2)],
            {"maximum": "2024-01-01"},
            [True, False],
        ),
        (PgType.TIMESTAMP, [dt.datetime(9999, 12, 31, 23)], {"maximum": dt.date(9999, 12, 31)}, [True]),
        (
            PgType.TIMESTAMPTZ,
            [dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.datetime(2024, 1, 1, 1, tzinfo=dt.UTC)],
            {"maximum": "2024-01-01T02:00:00+02:00"},
            [True, False],
        ),
        (PgType.TIME, [dt.time(8), dt.time(9)], {"maximum": dt.time(8, 30)}, [True, False]),
        (PgType.TEXT, ["9", "10", " 7 ", "007", "x", None], {"maximum": 9}, [True, False, True, True, False, True]),
        (PgType.TEXT, ["2024-01-01", "2024-02-30", "n/a"], {"minimum": "2023-01-01"}, [True, False, False]),
        (PgType.TEXT, ["a", "m", "z"], {"minimum": "b", "maximum": "n"}, [False, True, False]),
        (PgType.TEXT, ["ab", "xab", "abx", "ab\n", ""], {"pattern": "a|ab"}, [True, False, False, False, False]),
        (PgType.TEXT, ["A1", "A١", "A-"], {"pattern": r"A\d"}, [True, True, False]),
        (PgType.TEXT, ["AA", "AB"], {"pattern": r"(A)\1"}, [True, False]),
        (PgType.TEXT, ["é", "-"], {"pattern": r"[^\W]"}, [True, False]),
        (PgType.TEXT, ["x{,2}", "xx"], {"pattern": r"x{,2}"}, [False, True]),
        (PgType.BIGINT, [12345, 99], {"pattern": "[0-9]{5}"}, [True, False]),
        (PgType.TEXT, ["1", "01", "true"], {"allowed": (1, True)}, [True, False, True]),
        (PgType.BIGINT, [1, 2, None], {"allowed": ("1", 1.5)}, [True, False, True]),
        (PgType.DOUBLE, [0.1, 0.2], {"allowed": (0.1,)}, [True, False]),
        (PgType.NUMERIC, [Decimal("0.10"), Decimal("0.20")], {"allowed": (0.1, 0.123)}, [True, False]),
        (PgType.BOOLEAN, [True, False, None], {"allowed": (True,)}, [True, False, True]),
        (PgType.DATE, [dt.date(2024, 1, 1), dt.date(2024, 1, 2)], {"allowed": ("2024-01-01",)}, [True, False]),
        (
            PgType.TIMESTAMPTZ,
            [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)],
            {"allowed": ("2024-01-01T01:00+01:00",)},
            [True],
        ),
        (
            PgType.UUID,
            [uuid.UUID(int=1).bytes, uuid.UUID(int=2).bytes],
            {"allowed": (str(uuid.UUID(int=1)),)},
            [True, False],
        ),
        (PgType.UUID, [uuid.UUID(int=1).bytes, uuid.UUID(int=2).bytes], {"pattern": ".*1"}, [True, False]),
    ],
)
def test_rules_are_exact_at_their_edges(
    kind: PgType, values: list[Any], rule: dict[str, Any], good: list[bool]
) -> None:
    mask, violations = one(kind, values, **rule)
    assert mask == good
    assert [violation.row for violation in violations] == [row for row, kept in enumerate(good) if not kept]


def test_a_row_has_one_violation_that_tells_all_it_breaks() -> None:
    contract = Contract(columns={"a": ColumnRule(maximum=5), "b": ColumnRule(allowed=("x",)), "c": ColumnRule()})
    checker = Checker(contract, columns(a=PgType.BIGINT, b=PgType.TEXT, c=PgType.TEXT), None)
    batch = pa.RecordBatch.from_pydict({"a": [1, 9, 9], "b": ["x", "y", "x"], "c": ["", "", ""]})
    mask, violations = checker.check(batch, pa.array([100, 101, 102], pa.int64()))
    assert mask.to_pylist() == [True, False, False]
    assert violations == [
        Violation("value 9 is above the maximum 5; b: value y is not one of: x", 1, 101, "a", "9"),
        Violation("value 9 is above the maximum 5", 2, 102, "a", "9"),
    ]


def test_a_violation_tells_the_value_as_it_stands_in_the_file() -> None:
    checker = Checker(Contract(columns={"a": ColumnRule(maximum=5)}), columns(a=PgType.DOUBLE), None)
    batch = pa.RecordBatch.from_pydict({"a": [1.0, 9.0]})
    _, violations = checker.check(batch, None, lambda row, column: f"{column}{row}:9.000")
    assert violations == [
        Violation("value a1:9.000 is not a number, so it is not within the maximum 5", 1, None, "a", "a1:9.000")
    ]


def test_rules_of_columns_that_may_be_missing_are_skipped() -> None:
    contract = Contract(columns={"b": ColumnRule(required=False, not_null=True, maximum=3)})
    mask, violations = Checker(contract, columns(a=PgType.TEXT), None).check(
        pa.RecordBatch.from_pydict({"a": ["x"]}), None
    )
    assert (mask.to_pylist(), violations) == ([True], [])


def test_an_empty_batch_and_a_column_of_nulls_break_nothing() -> None:
    contract = Contract(columns={"a": ColumnRule(maximum=3, allowed=(1,), pattern="x")})
    checker = Checker(contract, columns(a=PgType.TEXT), None)
    assert checker.check(pa.RecordBatch.from_pydict({"a": pa.array([], pa.string())}), None)[1] == []
    for kind in (pa.null(), pa.string()):
        mask, _ = checker.check(pa.RecordBatch.from_pydict({"a": pa.nulls(3, kind)}), None)
        assert mask.to_pylist() == [True] * 3


# -- promises about the object as a whole ------------------------------------------------------------------------------

NOW = dt.datetime(2024, 5, 10, 12, tzinfo=dt.UTC)


def test_row_counts_are_held_to() -> None:
    checker = Checker(Contract(min_rows=10, max_rows=20), columns(a=PgType.TEXT), None)
    assert checker.finish(10, NOW) == checker.finish(20, NOW) == []
    assert checker.finish(9, NOW) == ["it has 9 rows, fewer than the 10 promised (min_rows)"]
    assert checker.finish(21, NOW) == ["it has 21 rows, more than the 20 promised (max_rows)"]


@pytest.mark.parametrize(
    ("kind", "value", "hours", "fresh"),
    [
        (PgType.DATE, dt.date(2024, 5, 9), 24, True),
        (PgType.DATE, dt.date(2024, 5, 8), 24, False),
        (PgType.TIMESTAMP, dt.datetime(2024, 5, 10, 11), 1, True),
        (PgType.TIMESTAMPTZ, dt.datetime(2024, 5, 10, 10, 59, tzinfo=dt.UTC), 1, False),
    ],
)
def test_freshness_is_the_newest_good_value(kind: PgType, value: Any, hours: float, fresh: bool) -> None:
    contract = Contract(columns={"n": ColumnRule(maximum=1)}, fresh_column="t", fresh_within=hours * 3600)
    checker = Checker(contract, columns(t=kind, n=PgType.BIGINT), None)
    rejected = NOW.replace(tzinfo=None) if kind is PgType.TIMESTAMP else NOW
    batch = pa.RecordBatch.from_pydict({"t": pa.array([value, None, rejected], STORAGE[kind]), "n": [1, 1, 2]})
    checker.check(batch, None)
    broken = checker.finish(2, NOW)
    assert (not broken) is fresh
    if broken:
        assert broken[0].startswith("the newest t is ")


def test_freshness_needs_a_column_that_can_tell_it() -> None:
    contract = Contract(fresh_column="t", fresh_within=60)
    with pytest.raises(ContractError, match="file has a"):
        Checker(contract, columns(a=PgType.TEXT), None)
    with pytest.raises(ContractError, match="which is text in this file"):
        Checker(contract, columns(t=PgType.TEXT), None)
    assert "has no value" in Checker(contract, columns(t=PgType.DATE), None).finish(0, NOW)[0]


# -- a schema of the user's own ----------------------------------------------------------------------------------------

CHECKS = """
import pandera.pandas as pa

SCHEMA = pa.DataFrameSchema(
    {"id": pa.Column(int, pa.Check.ge(2), nullable=False), "name": pa.Column(str, nullable=True),
     "miles": pa.Column(float, pa.Check(lambda s: s < 9, error="short trips"), nullable=True)},
    checks=[pa.Check(lambda df: df["id"] != 4, name="not four"), pa.Check(lambda df: len(df) > 99, name="long enough")],
    drop_invalid_rows=True,
)

class Model(pa.DataFrameModel):
    id: int = pa.Field(ge=2, unique=True)
    name: str = pa.Field(nullable=True)
    day: str

class Coerced(pa.DataFrameModel):
    name: int = pa.Field(coerce=True)

class Failing(pa.DataFrameModel):
    @pa.dataframe_check
    def boom(cls, df):
        raise KeyError("no such thing")

nothing = 3
"""

BATCH = pa.RecordBatch.from_pydict({"id": [1, 2, 3, 4], "name": ["1", "b", "c", None], "miles": [1.0, 2.0, 10.0, 1.0]})
TYPES = {"id": PgType.BIGINT, "name": PgType.TEXT, "miles": PgType.DOUBLE}


def own(tmp_path: Path, name: str, **contract: Any) -> Checker:
    (tmp_path / "checks.py").write_text(CHECKS)
    return Checker(Contract(schema=f"checks.py:{name}", **contract), columns(**TYPES), tmp_path)


def test_a_schema_of_the_users_own_puts_rows_aside(tmp_path: Path) -> None:
    checker = own(tmp_path, "SCHEMA")
    mask, violations = checker.check(BATCH, pa.array([10, 11, 12, 13], pa.int64()))
    assert mask.to_pylist() == [False, True, False, False]
    assert [(v.record, v.column, v.value) for v in violations] == [
        (10, "id", "1"),
        (12, "miles", "10.0"),
        (13, None, None),
    ]
    assert "greater_than_or_equal_to(2)" in violations[0].reason
    assert "short trips" in violations[1].reason
    assert violations[2].reason == "the row fails the check not four"
    (broken,) = checker.finish(1, NOW)
    assert "long enough" in broken
    assert "first in records 11 to 14" in broken


def test_rows_that_a_rule_refused_are_not_asked_again(tmp_path: Path) -> None:
    checker = own(tmp_path, "SCHEMA", columns={"id": ColumnRule(minimum=2)})
    _, violations = checker.check(BATCH, None)
    assert [(v.row, v.reason.split(" ")[0]) for v in violations] == [(0, "value"), (2, "value"), (3, "the")]
    assert violations[0].reason == "value 1 is below the minimum 2"


def test_a_model_works_and_its_missing_column_is_a_broken_promise(tmp_path: Path) -> None:
    checker = own(tmp_path, "Model")
    twice = pa.concat_batches([BATCH, BATCH.slice(1, 1)])
    mask, violations = checker.check(twice, None)
    assert mask.to_pylist() == [False, False, True, True, False]
    assert violations[1].reason == "value 2 repeats"
    assert "day" in checker.finish(1, NOW)[0]
    assert len(checker.finish(1, NOW)) == 1


def test_coercion_gives_verdicts_and_changes_nothing(tmp_path: Path) -> None:
    checker = own(tmp_path, "Coerced")
    batch = BATCH.slice(0, 2)
    mask, violations = checker.check(batch, None)
    assert mask.to_pylist() == [True, False]
    assert violations[0].value == "b"
    assert batch.column("name").to_pylist() == ["1", "b"]


def test_a_check_that_raises_breaks_the_load_in_words(tmp_path: Path) -> None:
    checker = own(tmp_path, "Failing")
    mask, _ = checker.check(BATCH, None)
    assert mask.to_pylist() == [True] * 4
    assert "no such thing" in checker.finish(4, NOW)[0]


@pytest.mark.parametrize("name", ["missing", "nothing"])
def test_a_name_that_is_no_schema_is_a_wrong_setting(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"checks\.py has no .*{name}"):
        own(tmp_path, name)


def test_a_schema_file_that_is_not_there_or_broken_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file other\.py"):
        Checker(Contract(schema="other.py:S"), columns(**TYPES), tmp_path)
    with pytest.raises(ConfigError, match="names no schema"):
        Checker(Contract(schema="other.py"), columns(**TYPES), tmp_path)
    (tmp_path / "bad.py").write_text("\nimport nothing_like_this\n")
    with pytest.raises(ContractError, match=r"bad\.py, line 2: ModuleNotFoundError"):
        Checker(Contract(schema="bad.py:S"), columns(**TYPES), tmp_path)


# -- the same rules as pandera -----------------------------------------------------------------------------------------

VALUES: dict[PgType, st.SearchStrategy[Any]] = {
    PgType.BIGINT: st.integers(-5, 5) | st.integers(-(2**63), 2**63 - 1),
    PgType.DOUBLE: st.integers(-5, 5).map(float) | st.floats(allow_nan=False),
    PgType.NUMERIC: st.decimals(-5, 5, places=2),
    PgType.DATE: st.dates(dt.date(2024, 1, 1), dt.date(2024, 1, 5)),
    PgType.TIMESTAMP: st.datetimes(dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 3)),
    PgType.TIMESTAMPTZ: st.datetimes(dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 3), timezones=st.just(dt.UTC)),
    PgType.TEXT: st.text("ab1é\n٣", max_size=4) | st.integers(-9, 9).map(str) | st.dates().map(str),
    PgType.BOOLEAN: st.booleans(),
}
BOUNDS: dict[PgType, st.SearchStrategy[Any]] = {
    **VALUES,
    PgType.BIGINT: VALUES[PgType.BIGINT] | st.floats(-5, 5),
    PgType.DOUBLE: VALUES[PgType.DOUBLE].filter(lambda value: abs(value) != float("inf")) | VALUES[PgType.BIGINT],
    PgType.NUMERIC: st.floats(-5, 5) | st.integers(-5, 5) | st.decimals(-5, 5, places=3).map(str),
    PgType.DATE: VALUES[PgType.DATE] | VALUES[PgType.TIMESTAMP] | VALUES[PgType.DATE].map(str),
    PgType.TIMESTAMP: VALUES[PgType.TIMESTAMP] | VALUES[PgType.DATE],
    PgType.TIMESTAMPTZ: VALUES[PgType.TIMESTAMPTZ] | VALUES[PgType.DATE] | VALUES[PgType.TIMESTAMPTZ].map(str),
    PgType.TEXT: st.integers(-9, 9) | st.text("ab", min_size=1, max_size=2) | st.dates(),
}
PATTERNS = ["[ab]*", r"\d+", "a|ab", r"\w+", r"-?[0-9]+", r"[^a]*", r"[^\d]*", r"(a)\1?", ".*", r"a$|b", r"\S*"]


@st.composite
def cases(draw: st.DrawFn) -> tuple[PgType, list[Any], ColumnRule]:
    kind = draw(st.sampled_from(list(VALUES)))
    bound = st.none() | BOUNDS[kind] if kind is not PgType.BOOLEAN else st.none()
    allowed = st.lists(VALUES[kind] | VALUES[kind].map(str), max_size=4).map(tuple)
    rule = ColumnRule(
        not_null=draw(st.booleans()),
        minimum=draw(bound),
        maximum=draw(bound),
        pattern=draw(st.none() | st.sampled_from(PATTERNS)) if kind in (PgType.TEXT, PgType.BIGINT) else None,
        allowed=draw(st.none() | allowed),
    )
    return kind, draw(st.lists(st.none() | VALUES[kind], min_size=1, max_size=8)), rule


@settings(max_examples=80, deadline=None)
@given(cases())
def test_the_rules_agree_with_their_pandera_schema(case: tuple[PgType, list[Any], ColumnRule]) -> None:
    from pandera.errors import SchemaErrors

    kind, values, rule = case
    contract = Contract(columns={"v": rule})
    batch = pa.RecordBatch.from_pydict({"v": pa.array(values, STORAGE[kind])})
    mask, _ = Checker(contract, columns(v=kind), None).check(batch, None)
    refused: set[int] = set()
    try:
        frame = pa.Table.from_batches([batch]).to_pandas(types_mapper=pd.ArrowDtype)
        to_pandera(contract).validate(frame, lazy=True)
    except SchemaErrors as error:
        refused = {int(index) for index in error.failure_cases["index"]}  # a broken check has no index: it raises
    assert {row for row, kept in enumerate(mask.to_pylist()) if not kept} == refused


def test_keys_and_row_counts_are_in_the_pandera_schema() -> None:
    from pandera.errors import SchemaErrors

    contract = parse_contract("t", {"primary_key": ["a", "b"], "min_rows": 3, "max_rows": 4})
    frame = pa.table({"a": [1, 1, 2], "b": [1, 1, 2]}).to_pandas(types_mapper=pd.ArrowDtype)
    with pytest.raises(SchemaErrors) as caught:
        to_pandera(contract).validate(frame, lazy=True)
    assert set(caught.value.failure_cases["check"]) == {"unique a, b"}
    with pytest.raises(SchemaErrors):
        to_pandera(contract).validate(frame.head(1), lazy=True)
    to_pandera(contract).validate(frame.assign(b=[1, 2, 3]), lazy=True)


def test_built_in_rules_do_not_import_pandera() -> None:
    code = """
import sys, pyarrow as pa
from etl_container.contract import Checker
from etl_container.datasets import parse_contract
from etl_container.schema import *
contract = parse_contract("t", {"columns": {"a": {"min": 1, "max": 3, "allowed": [1, 2]}, "b": {"pattern": "x"}}})
schema = TableSchema((ColumnSchema("a", PgType.BIGINT), ColumnSchema("b", PgType.TEXT)))
print(Checker(contract, schema, None).check(pa.RecordBatch.from_pydict({"a": [1, 5], "b": ["x", "y"]}), None)[0])
print([name for name in ("pandera", "duckdb") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
