from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

COLUMNS = [("n", "bigint"), ("price", "numeric"), ("name", "text"), ("at", "timestamp with time zone")]
ROWS = [
    (1, Decimal("10.50"), 'a "b", c', datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
    (2, None, "", None),
]


def test_a_pipe_gets_csv_that_tells_null_from_empty(lakectl):
    lakectl.answering(COLUMNS, ROWS)
    done = lakectl("query", "select 1")
    assert done.out == 'n,price,name,at\n1,10.50,"a ""b"", c",2024-01-02 03:04:05+00:00\n2,,"",\n'


def test_json_keeps_exact_numbers_as_text_and_times_as_iso(lakectl):
    lakectl.answering(COLUMNS, ROWS)
    done = lakectl("query", "select 1", "--format", "json")
    assert done.document == [
        {"n": 1, "price": "10.50", "name": 'a "b", c', "at": "2024-01-02T03:04:05+00:00"},
        {"n": 2, "price": None, "name": "", "at": None},
    ]
    assert lakectl("query", "select 1", "--json").document == done.document


def test_jsonl_has_a_row_a_line(lakectl):
    lakectl.answering(COLUMNS, ROWS)
    lines = lakectl("query", "select 1", "--format", "jsonl").out.splitlines()
    assert [json.loads(line)["n"] for line in lines] == [1, 2]


def test_json_loses_no_column_of_a_repeated_name(lakectl):
    lakectl.answering([("n", "bigint"), ("n", "bigint")], [(1, 2)])
    assert lakectl("query", "select 1", "--json").document == [{"n": 1, "n_2": 2}]


def test_json_of_no_rows_is_an_empty_list(lakectl):
    lakectl.answering(COLUMNS, [])
    assert lakectl("query", "select 1", "--json").document == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        (2**70, 2**70),
        (1.5, 1.5),
        (True, True),
        (date(2024, 1, 2), "2024-01-02"),
        (timedelta(days=1, hours=2, seconds=3), "P1DT2H3S"),
        (memoryview(b"\x00\xff"), "\\x00ff"),
        ({"a": [Decimal("1.10"), None]}, {"a": ["1.10", None]}),
        (["x", 1], ["x", 1]),
    ],
)
def test_every_kind_of_value_has_a_json_form(value, expected, lakectl):
    lakectl.answering([("v", "x")], [(value,)])
    assert lakectl("query", "select 1", "--json").document == [{"v": expected}]


def test_markdown_escapes_what_would_end_a_cell(lakectl):
    lakectl.answering([("a|b", "text"), ("n", "bigint")], [("x|y\nz", 1)])
    done = lakectl("query", "select 1", "--format", "markdown")
    assert done.out == "| a\\|b | n |\n| --- | ---: |\n| x\\|y<br>z | 1 |\n"


def test_parquet_has_typed_columns_and_exact_numbers_as_text(lakectl, tmp_path):
    import pyarrow.parquet as pq

    lakectl.answering(COLUMNS, ROWS)
    assert lakectl("query", "select 1", "--output", "out.parquet").code == 0
    table = pq.read_table(tmp_path / "out.parquet")
    assert [str(field.type) for field in table.schema] == ["int64", "string", "string", "timestamp[us, tz=UTC]"]
    assert table.column("price").to_pylist() == ["10.50", None]
    assert table.column("at").to_pylist()[0] == ROWS[0][3]


def test_the_table_shows_control_characters_and_aligns_numbers(lakectl):
    lakectl.answering([("name", "text"), ("n", "bigint")], [("a\x1b[31m\nb", 5), ("[red]", 1000), (None, None)])
    done = lakectl("query", "select 1", "--format", "table")
    assert [line.split() for line in done.out.splitlines()] == [
        ["name", "n"],
        ["─" * 12, "─" * 4],
        ["a\\x1b[31m\\nb", "5"],
        ["[red]", "1000"],
        [],
    ]


def test_a_failed_query_leaves_no_output_file(lakectl, tmp_path):
    def rows():
        yield (1,)
        raise KeyboardInterrupt

    lakectl.answering([("n", "bigint")], rows())
    assert lakectl("query", "select 1", "--output", "out.csv").code == 130
    assert list(tmp_path.iterdir()) == []


def test_parameters_write_and_limit_reach_the_target(lakectl):
    lakectl.answering([("n", "bigint")], [(1,), (2,), (3,)])
    done = lakectl("query", "select :a ;", "-p", "a=x=y", "--write", "--limit", "2")
    assert lakectl.target.asked == [("query", "select :a", {"a": "x=y"}, True, 2)]
    assert done.out == "n\n1\n2\n"
    assert lakectl.target.results[0].closed


def test_sql_comes_from_a_file_or_from_standard_input(lakectl, tmp_path):
    lakectl.answering([("n", "bigint")], [(1,)])
    (tmp_path / "q.sql").write_text("-- a remark\nselect 2;\n")
    lakectl("query", "-f", "q.sql")
    assert lakectl.target.asked[0][1] == "-- a remark\nselect 2"
    lakectl("query", stdin=b"select 3")
    assert lakectl.target.asked[0][1] == "select 3"


def test_raw_asks_the_raw_objects(lakectl):
    lakectl.answering([("n", "bigint")], [(1,), (2,)])
    assert lakectl("query", "--raw", "select 1", "--limit", "1").out == "n\n1\n"
    assert lakectl.target.asked == [("query_raw", "select 1", {})]


def test_a_statement_without_rows_prints_its_tag(lakectl):
    lakectl.answering([], [], "UPDATE 3")
    assert lakectl("query", "update t set a = 1", "--write").out == "UPDATE 3\n"


@pytest.mark.parametrize(
    "words",
    [
        ["select 1; select 2"],
        ["-- nothing"],
        ["select 1", "--format", "xml"],
        ["select 1", "--output", "out.xml"],
        ["select 1", "-p", "novalue"],
        ["select 1", "-p", "a=1", "-p", "a=2"],
        ["select 1", "-f", "q.sql"],
        ["select 1", "--raw", "--write"],
    ],
)
def test_what_makes_no_sense_exits_2(words, lakectl):
    done = lakectl("query", *words)
    assert done.code == 2
    assert done.err.startswith("error: ")


def test_a_chart_draws_a_bar_for_each_row(lakectl, monkeypatch):
    monkeypatch.setenv("COLUMNS", "41")
    lakectl.answering([("carrier", "text"), ("n", "bigint")], [("UA", 200), ("AA", 100), ("none", None)])
    lines = lakectl("query", "select 1", "--chart").out.splitlines()
    assert lines[0].startswith("UA    200  █")
    assert lines[0].count("█") == 2 * lines[1].count("█")
    assert lines[2] == "none"


def test_a_chart_needs_a_label_and_a_number(lakectl):
    lakectl.answering([("a", "text"), ("b", "text")], [("x", "y")])
    assert lakectl("query", "select 1", "--chart").code == 2


def test_csv_reads_back_the_same(lakectl):
    values = ["plain", 'q"uote', "new\nline", "cr\rlf\r\n", "comma,", " space ", "tab\t", "ünï", "\\."]
    lakectl.answering([("v", "text"), ("w", "text")], [(value, value) for value in values])
    done = lakectl("query", "select 1")
    assert list(csv.reader(io.StringIO(done.out, newline="")))[1:] == [[value, value] for value in values]
