"""The user's transforms: loaded in isolation, applied to batches, their mistakes told with file, line and rows."""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import sys
import uuid
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from etl_container import transform
from etl_container.errors import ConfigError, InterruptedByUserError, TransformError

BATCH = pa.RecordBatch.from_pydict({"id": [1, 2, 3], "name": ["ann", None, "cid"], "miles": [1.5, 2.5, None]})
RECORDS = pa.array([10, 11, 13], pa.int64())


def python(directory: Path, code: str, dataset: str = "trips", **context: str) -> transform.Transform:
    (directory / "transforms").mkdir(exist_ok=True)
    (directory / "transforms" / f"{dataset}.py").write_text(code)
    loaded = transform.load(directory / "transforms", dataset, **context)
    assert loaded is not None
    return loaded


def sql(directory: Path, code: str, dataset: str = "trips") -> transform.Transform:
    (directory / "transforms").mkdir(exist_ok=True)
    (directory / "transforms" / f"{dataset}.sql").write_text(code)
    loaded = transform.load(directory / "transforms", dataset)
    assert loaded is not None
    return loaded


# -- loading ---------------------------------------------------------------------------------------------------------


def test_a_dataset_without_a_file_has_no_transform(tmp_path: Path) -> None:
    assert transform.load(tmp_path, "trips") is None
    assert transform.load(tmp_path / "missing", "trips") is None
    assert transform.load(tmp_path, "..") is None


def test_two_transforms_of_one_dataset_are_refused(tmp_path: Path) -> None:
    (tmp_path / "trips.py").write_text("def transform(df): return df")
    (tmp_path / "trips.sql").write_text("select 1")
    with pytest.raises(ConfigError, match=r"trips\.py and .*trips\.sql"):
        transform.load(tmp_path, "trips")


def test_a_transform_is_marked_by_its_name_and_content_without_being_run(tmp_path: Path) -> None:
    code = "def transform(df):\n    return df\n"
    mark = f"trips.py@{hashlib.sha256(code.encode()).hexdigest()[:12]}"
    assert transform.mark(tmp_path / "transforms", "trips") is None
    loaded = python(tmp_path, code)
    assert loaded.name == "trips.py"
    assert transform.mark(tmp_path / "transforms", "trips") == mark
    (tmp_path / "transforms" / "trips.py").write_text("def broken(")
    assert transform.mark(tmp_path / "transforms", "trips") != mark
    assert loaded.whole_file is False
    assert python(tmp_path, "whole_file = True\n" + code).whole_file is True


@pytest.mark.parametrize("dataset", ["my-data", "2024.v1", "reisen für alle", "json"])
def test_any_dataset_name_can_have_a_transform(tmp_path: Path, dataset: str) -> None:
    loaded = python(tmp_path, "def transform(df): return df.head(1)", dataset)
    assert loaded.apply(BATCH, RECORDS)[0].num_rows == 1


def test_siblings_are_imported_afresh_and_nothing_leaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "transforms" / "tools").mkdir(parents=True)
    (tmp_path / "transforms" / "tools" / "__init__.py").write_text("from .deep import two\n")
    (tmp_path / "transforms" / "tools" / "deep.py").write_text("two = 2\n")
    (tmp_path / "transforms" / "lake_helpers.py").write_text("one = 1\n")
    code = """
from __future__ import annotations
from dataclasses import dataclass
import lake_helpers
from lake_helpers import one
from . import lake_helpers as same
from transforms.lake_helpers import one as again
import tools.deep
from tools import deep

@dataclass
class Row:
    id: ClassVar[int] = 1

def transform(df):
    import lake_helpers as late
    assert late is same is lake_helpers and deep is tools.deep
    return df.assign(total=late.one + tools.two + again)
"""
    before_path, before_modules = list(sys.path), {name for name in sys.modules if "_lake_user" not in name}
    first = python(tmp_path, code)
    assert first.apply(BATCH, RECORDS)[0]["total"].to_pylist() == [4, 4, 4]
    (tmp_path / "transforms" / "lake_helpers.py").write_text("one = 101\n")
    second = python(tmp_path, code)
    assert second.apply(BATCH, RECORDS)[0]["total"].to_pylist() == [204, 204, 204]
    assert first.apply(BATCH, RECORDS)[0]["total"].to_pylist() == [4, 4, 4]
    assert sys.path == before_path
    added = {name for name in sys.modules if "_lake_user" not in name} - before_modules
    assert not {"lake_helpers", "tools", "transforms", "trips"} & added
    assert not list(tmp_path.rglob("__pycache__"))
    del first, second
    assert not [name for name in sys.modules if "_lake_user" in name]


def test_a_sibling_imports_a_sibling_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "transforms").mkdir()
    (tmp_path / "transforms" / "lake_rates.py").write_text("rate = 3\n")
    (tmp_path / "transforms" / "lake_helpers.py").write_text("from lake_rates import rate\n")
    loaded = python(tmp_path, "import lake_helpers\ndef transform(df): return df.assign(total=lake_helpers.rate)")
    assert loaded.apply(BATCH, RECORDS)[0]["total"].to_pylist() == [3, 3, 3]


def test_a_transform_named_like_a_library_hides_nothing(tmp_path: Path) -> None:
    python(tmp_path, "def transform(df): return df", "calendar")
    loaded = python(tmp_path, "import calendar\ndef transform(df): return df.assign(m=calendar.month_name[1])")
    assert loaded.apply(BATCH, RECORDS)[0]["m"].to_pylist() == ["January"] * 3


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("x = 1\ndef transform(df:\n    return df", r"transforms/trips\.py, line 2: SyntaxError"),
        (
            "import os\nimport no_such_module_here",
            r"transforms/trips\.py, line 2: ModuleNotFoundError: No module named",
        ),
        ("a = 1\nb = a / 0", r"transforms/trips\.py, line 2: ZeroDivisionError: division by zero\n    b = a / 0"),
        ("import sys\nsys.exit(0)", r"transforms/trips\.py, line 2: the transform called exit\(0\)"),
    ],
)
def test_a_file_that_cannot_be_imported_is_told_with_its_line(tmp_path: Path, code: str, told: str) -> None:
    with pytest.raises(TransformError, match=told):
        python(tmp_path, code)


def test_a_sibling_that_fails_is_named(tmp_path: Path) -> None:
    (tmp_path / "transforms").mkdir()
    (tmp_path / "transforms" / "lake_helpers.py").write_text("\n\nboom()\n")
    with pytest.raises(TransformError, match=r"transforms/lake_helpers\.py, line 3: NameError"):
        python(tmp_path, "import lake_helpers")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("x = 1", "has no function named transform"),
        ("transform = 3", "has no function named transform"),
        ("def transform(): pass", "cannot be called with a data frame"),
        ("def transform(a, b, c): pass", "cannot be called with a data frame"),
        ("async def transform(df): pass", "must not be async"),
        ("whole_file = 'yes'\ndef transform(df): return df", "whole_file = 'yes'"),
    ],
)
def test_a_module_without_a_usable_transform_is_a_setting_to_mend(tmp_path: Path, code: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        python(tmp_path, code)
    assert told in caught.value.message
    assert caught.value.hint


# -- applying ----------------------------------------------------------------------------------------------------------


def test_an_untouched_frame_comes_back_without_a_copy(tmp_path: Path) -> None:
    table, records = python(tmp_path, "def transform(df): return df").apply(BATCH, RECORDS)
    assert table.schema.equals(BATCH.schema)
    assert table.to_batches()[0].equals(BATCH)
    assert table["id"].chunk(0).buffers()[1].address == BATCH["id"].buffers()[1].address
    assert records.equals(RECORDS)


@pytest.mark.parametrize(
    ("body", "ids", "records"),
    [
        ("df[df['id'] != 2]", [1, 3], [10, 13]),
        ("df.sort_values('id', ascending=False)", [3, 2, 1], [13, 11, 10]),
        ("df.assign(name=df['name'].str.upper())", [1, 2, 3], [10, 11, 13]),
        ("pd.concat([df, df])", [1, 2, 3, 1, 2, 3], [10, 11, 13, 10, 11, 13]),
        ("df[df['id'] != 2].reset_index()", [1, 3], [10, 13]),
        ("df[df['id'] != 1].reset_index(drop=True)", [2, 3], None),
        ("df.iloc[::-1].set_index('id')", [3, 2, 1], None),
        ("pd.concat([df, pd.DataFrame({'id': [9]})])", [1, 2, 3, 9], None),
        ("df.groupby('id').size().to_frame('n')", [1, 2, 3], None),
        ("df.groupby('id', as_index=False).first()", [1, 2, 3], None),
        ("df.groupby(['id', 'name'], dropna=False).size().to_frame('n')", [1, 2, 3], None),
        ("df.head(0)", [], []),
    ],
)
def test_rows_that_keep_their_index_keep_their_record(
    tmp_path: Path, body: str, ids: list[int], records: list[int] | None
) -> None:
    table, kept = python(tmp_path, f"import pandas as pd\ndef transform(df):\n    return {body}").apply(BATCH, RECORDS)
    assert table["id"].to_pylist() == ids
    assert (None if kept is None else kept.to_pylist()) == records
    assert "_record" not in table.column_names


def test_the_columns_that_a_user_makes_become_arrow_columns(tmp_path: Path) -> None:
    code = """
import datetime as dt, decimal, uuid
import numpy as np, pandas as pd

def transform(df):
    return df.assign(
        int=np.array([1, 2, 3]),
        gap=np.array([1.0, np.nan, 3.0]),
        when=pd.to_datetime(["2024-01-01", None, "2024-01-03 10:00"], format="ISO8601"),
        zoned=pd.to_datetime(["2024-01-01T00:00:00Z"] * 3),
        category=pd.Categorical(["a", None, "b"]),
        number=pd.Categorical([10, 20, 10]),
        nothing=pd.Series([None, None, None], dtype=object, index=df.index),
        text=pd.Series(["x", None, "z"], dtype=object, index=df.index),
        date=pd.Series([dt.date(2024, 1, 1), None, dt.date(2024, 1, 3)], dtype=object, index=df.index),
        exact=pd.Series([decimal.Decimal("1.10"), None, decimal.Decimal("2")], dtype=object, index=df.index),
        big=pd.Series([2**70, None, -1], dtype=object, index=df.index),
        uid=pd.Series([uuid.UUID(int=1), None, uuid.UUID(int=2)], dtype=object, index=df.index),
        nested=pd.Series([{"a": 1}, None, {"a": 2}], dtype=object, index=df.index),
        period=pd.period_range("2024-01", periods=3, freq="M"),
        flag=pd.array([True, None, False], dtype="boolean"),
        sparse=pd.arrays.SparseArray([0, 0, 1]),
        native=pd.array(["p", None, "q"], dtype="string"),
    )
"""
    table, records = python(tmp_path, code).apply(BATCH, RECORDS)
    assert records.equals(RECORDS)
    assert table.slice(0, 2).drop_columns(["id", "name", "miles"]).to_pydict() == {
        "int": [1, 2],
        "gap": [1.0, None],
        "when": [dt.datetime(2024, 1, 1), None],
        "zoned": [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)] * 2,
        "category": ["a", None],
        "number": [10, 20],
        "nothing": [None, None],
        "text": ["x", None],
        "date": [dt.date(2024, 1, 1), None],
        "exact": [decimal.Decimal("1.10"), None],
        "big": [decimal.Decimal(2**70), None],
        "uid": [uuid.UUID(int=1).bytes, None],
        "nested": [{"a": 1}, None],
        "period": ["2024-01", "2024-02"],
        "flag": [True, None],
        "sparse": [0, 0],
        "native": ["p", None],
    }
    assert pa.types.is_null(table.schema.field("nothing").type)
    assert not any(pa.types.is_dictionary(kind) for kind in table.schema.types)


def test_labels_that_are_not_text_become_text(tmp_path: Path) -> None:
    code = "def transform(df):\n    df = df[['id', 'miles']]\n    df.columns = [('a', 'b'), 7]\n    return df"
    assert python(tmp_path, code).apply(BATCH, RECORDS)[0].column_names == ["a_b", "7"]


@pytest.mark.parametrize(
    ("body", "told", "hint"),
    [
        ("None", "transform returned None", "return df"),
        ("df['id']", "pandas.Series", "to_frame"),
        ("[1]", "a builtins.list, not a pandas.DataFrame", "return a pandas.DataFrame"),
        ("df[['id', 'id']]", "more than one column id", "rename"),
        ("df[[]]", "3 rows without a column", "columns"),
        ("df.assign(m=pd.Series([1, 'x', None], dtype=object, index=df.index))", "it mixes int (1), str ('x')", "kind"),
        ("df.assign(m=pd.Series([10**80] * 3, dtype=object, index=df.index))", "column m", "kind"),
        ("df.assign(m=1j)", "column m of the returned frame", "kind"),
    ],
)
def test_what_is_no_table_is_refused_in_words(tmp_path: Path, body: str, told: str, hint: str) -> None:
    loaded = python(tmp_path, f"import pandas as pd\ndef transform(df):\n    return {body}")
    with pytest.raises(TransformError) as caught:
        loaded.apply(BATCH, RECORDS)
    assert told in caught.value.message
    assert "transforms/trips.py" in caught.value.message
    assert hint in (caught.value.hint or "")


def test_a_frame_without_rows_and_columns_is_no_rows(tmp_path: Path) -> None:
    table, _ = python(tmp_path, "import pandas as pd\ndef transform(df): return pd.DataFrame()").apply(BATCH, RECORDS)
    assert (table.num_rows, table.num_columns) == (0, 0)


def test_a_second_parameter_gets_the_context(tmp_path: Path) -> None:
    context = {"key": "raw/trips/a.csv", "version": "v1"}
    code = "def transform(df, {}): return df.assign(k=context.key, v=context.version, d=context.dataset)"
    for parameter in ("context", "context=None"):
        table, _ = python(tmp_path, code.format(parameter), **context).apply(BATCH, RECORDS)
        assert table.slice(0, 1).select(["k", "v", "d"]).to_pylist() == [
            {"k": "raw/trips/a.csv", "v": "v1", "d": "trips"}
        ]
    untouched = python(tmp_path, "def transform(df, factor=2): return df.assign(f=factor)", **context)
    assert untouched.apply(BATCH, RECORDS)[0]["f"].to_pylist() == [2, 2, 2]


def test_an_exception_names_file_line_and_the_rows_it_had(tmp_path: Path) -> None:
    code = "import lake_helpers\n\ndef transform(df):\n    df['x'] = 1\n    return lake_helpers.work(df)\n"
    (tmp_path / "transforms").mkdir()
    helper = "import pandas as pd\n\ndef work(df):\n    return pd.to_numeric(df['name'].astype(object))\n"
    (tmp_path / "transforms" / "lake_helpers.py").write_text(helper)
    batch = pa.RecordBatch.from_pydict({"id": [1, 2, 3, 4], "name": ["x" * 500, "b\nc", None, "d"]})
    with pytest.raises(TransformError) as caught:
        python(tmp_path, code).apply(batch, pa.array([0, 1, 2, 1234], pa.int64()))
    message = caught.value.message
    assert message.startswith("transforms/lake_helpers.py, line 4, in work: ValueError: Unable to parse string")
    assert "\n    return pd.to_numeric(df['name'].astype(object))\n" in message
    assert "records 1 to 1,235 (4 rows)" in message
    assert "  record | id | name\n" in message
    assert "x" * 23 + "…" in message
    assert "x" * 30 not in message.partition("it was given")[2]
    assert "b·c" in message
    assert caught.value.__cause__ is not None


def test_many_columns_do_not_flood_the_message(tmp_path: Path) -> None:
    wide = pa.RecordBatch.from_pydict({f"column_{n}": ["v" * 100] for n in range(300)})
    loaded = python(tmp_path, "def transform(df): raise ValueError('y' * 100_000)")
    with pytest.raises(TransformError) as caught:
        loaded.apply(wide, pa.array([4], pa.int64()))
    assert "it was given record 5 (1 rows)" in caught.value.message
    assert "more columns" in caught.value.message
    assert len(caught.value.message) < 1500


def test_leaving_is_told_but_an_interrupt_passes(tmp_path: Path) -> None:
    with pytest.raises(TransformError, match=r"trips\.py, line 1, in transform: the transform called exit\(0\)"):
        python(tmp_path, "def transform(df): raise SystemExit(0)").apply(BATCH, RECORDS)
    with pytest.raises(KeyboardInterrupt):
        python(tmp_path, "def transform(df): raise KeyboardInterrupt").apply(BATCH, RECORDS)

    def handler(_: object) -> None:
        raise SystemExit(143)

    signalled = python(tmp_path, "def transform(df): return df['id'].map(hook)")
    signalled._code.module.hook = handler  # type: ignore[attr-defined]
    with pytest.raises(SystemExit):
        signalled.apply(BATCH, RECORDS)

    def ours(_: object) -> None:
        raise InterruptedByUserError("stop")

    signalled._code.module.hook = ours  # type: ignore[attr-defined]
    with pytest.raises(InterruptedByUserError):
        signalled.apply(BATCH, RECORDS)


def test_a_whole_file_may_come_as_a_table_of_many_chunks(tmp_path: Path) -> None:
    table = pa.Table.from_batches([BATCH, BATCH])
    records = pa.chunked_array([[0, 1, 2], [3, 4, 5]], pa.int64())
    loaded = python(tmp_path, "whole_file = True\ndef transform(df): return df[df['id'] == 2]")
    made, kept = loaded.apply(table, records)
    assert (made["id"].to_pylist(), kept.to_pylist()) == ([2, 2], [1, 4])


def test_the_frame_has_arrow_backed_columns(tmp_path: Path) -> None:
    code = "def transform(df):\n    seen.append(df)\n    df['id'] = df['id'] + 1\n    return df"
    loaded = python(tmp_path, code)
    seen: list[pd.DataFrame] = []
    loaded._code.module.seen = seen  # type: ignore[attr-defined]
    loaded.apply(BATCH, RECORDS)
    assert all(isinstance(kind, pd.ArrowDtype) for kind in seen[0].dtypes)
    assert BATCH["id"].to_pylist() == [1, 2, 3]


# -- SQL ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relation", ["input", "trips", '"trips"'])
def test_a_select_makes_the_rows(tmp_path: Path, relation: str) -> None:
    loaded = sql(tmp_path, f"SELECT id * 2 AS double, upper(name) AS name FROM {relation} WHERE id <> 2;\n")
    table, records = loaded.apply(BATCH, RECORDS)
    assert table.to_pydict() == {"double": [2, 6], "name": ["ANN", "CID"]}
    assert records is None
    assert loaded.apply(BATCH.slice(1), RECORDS.slice(1))[0].to_pydict() == {"double": [6], "name": ["CID"]}


def test_a_dataset_that_is_no_word_is_a_relation_in_quotes(tmp_path: Path) -> None:
    loaded = sql(tmp_path, 'SELECT count(*) AS n FROM "my-data"', "my-data")
    assert loaded.apply(BATCH, RECORDS)[0]["n"].to_pylist() == [3]


def test_a_leading_comment_asks_for_the_whole_file(tmp_path: Path) -> None:
    assert sql(tmp_path, "-- trips by day\n-- whole_file: true\nSELECT * FROM input").whole_file is True
    assert sql(tmp_path, "SELECT * FROM input\n-- whole_file: true").whole_file is False
    with pytest.raises(ConfigError, match="whole_file: maybe"):
        sql(tmp_path, "-- whole_file: maybe\nSELECT 1")


def test_types_of_sql_come_back_as_types_that_a_table_can_have(tmp_path: Path) -> None:
    query = """SELECT sum(id) AS total, 1.50::DECIMAL(9,2) AS exact, uuid() AS uid, INTERVAL 1 DAY AS span,
        'a'::ENUM('a', 'b') AS word, {'a': 1} AS nested, [1] AS list, DATE '2024-01-02' AS day,
        TIMESTAMPTZ '2024-01-02 00:00:00+02' AS moment, NULL AS nothing, TRUE AS flag FROM input"""
    table = sql(tmp_path, query).apply(BATCH, RECORDS)[0]
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds["total"] == "decimal128(38, 0)"
    assert kinds["uid"] == kinds["span"] == kinds["word"] == "string"
    row = table.to_pylist()[0]
    assert row["total"] == 6
    assert row["exact"] == decimal.Decimal("1.50")
    assert row["moment"] == dt.datetime(2024, 1, 1, 22, tzinfo=dt.UTC)
    assert (row["word"], row["span"], row["nothing"], row["flag"]) == ("a", "1 day", None, True)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM read_parquet('https://example.org/x.parquet')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM batch_of_python",
        "SELECT getenv('HOME') AS home",
    ],
)
def test_sql_reaches_neither_files_nor_network_nor_this_process(tmp_path: Path, query: str) -> None:
    batch_of_python = pa.table({"a": [1]})
    assert batch_of_python.num_rows
    with pytest.raises(TransformError, match=r"transforms/trips\.sql"):
        sql(tmp_path, query).apply(BATCH, RECORDS)


@pytest.mark.parametrize(
    "query",
    ["", "-- nothing\n", "SELECT 1; SELECT 2", "CREATE TABLE t AS SELECT 1", "SET threads = 9", "COPY input TO 'x'"],
)
def test_sql_that_is_not_one_select_is_refused(tmp_path: Path, query: str) -> None:
    with pytest.raises(ConfigError, match="must be one SELECT"):
        sql(tmp_path, query)


@pytest.mark.parametrize(
    ("query", "line", "told"),
    [
        ("SELECT id,\n  nosuch\nFROM input", 2, "nosuch"),
        ("-- one\n\nSELECT id,\n  name::INT AS n\nFROM input", 4, "Could not convert string 'ann'"),
        ("SELECT *\nFROM nowhere", 2, "nowhere"),
    ],
)
def test_a_failing_select_names_the_line_in_its_file(tmp_path: Path, query: str, line: int, told: str) -> None:
    with pytest.raises(TransformError) as caught:
        sql(tmp_path, query).apply(BATCH, RECORDS)
    assert caught.value.message.startswith(f"transforms/trips.sql, line {line}: ")
    assert told in caught.value.message
    assert "records 11 to 14 (3 rows)" in caught.value.message


def test_sql_that_does_not_parse_is_told_when_it_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(TransformError, match=r"transforms/trips\.sql, line 3: Parser Error: syntax error"):
        sql(tmp_path, "-- c\n\nSELECT * FRO input")


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TransformError, match="more than one column id"):
        sql(tmp_path, "SELECT id, id FROM input").apply(BATCH, RECORDS)
