from __future__ import annotations

import csv
import gzip
import json

import pytest


def test_preview_needs_no_database(lakectl, tmp_path):
    (tmp_path / "a.csv").write_text("Some Name;n\nx;1\ny;2\n")
    document = lakectl("preview", "a.csv", "--json").document
    assert document["format"] == "csv"
    assert document["dialect"]["delimiter"] == ";"
    assert document["columns"] == [
        {"name": "some_name", "label": "Some Name", "type": "text"},
        {"name": "n", "label": "n", "type": "bigint"},
    ]
    assert (document["rows"], document["rejects"], document["changes"]) == (2, 0, None)
    assert document["sample"] == [["x", "1"], ["y", "2"]]
    assert '"n" bigint' in document["ddl"]
    assert lakectl.targets == []


def test_preview_types_the_whole_file_and_not_its_beginning(lakectl, tmp_path):
    (tmp_path / "a.csv").write_text("n\n" + "1\n" * 50_000 + "x\n")
    document = lakectl("preview", "a.csv", "--json").document
    assert (document["columns"][0]["type"], document["rows"]) == ("text", 50_001)


def test_preview_shows_what_the_live_table_would_become(lakectl, tmp_path):
    (tmp_path / "flights.csv").write_text("n,name,extra\n1.5,x,1\n")
    (tmp_path / "lake.toml").write_text('warehouse = "postgresql://h/db"\n')
    changes = lakectl("preview", "flights.csv", "--json").document["changes"]
    assert changes == ["widen column n from bigint to double precision", "add column extra bigint"]
    assert lakectl("preview", "flights.csv", "--json", "--offline").document["changes"] is None


def test_preview_for_people_shows_all_of_it(lakectl, tmp_path):
    (tmp_path / "a.csv").write_text("a;b\n1;[red]\n2\n")
    done = lakectl("preview", "a.csv")
    assert done.code == 0
    for told in ("semicolon", "bigint", 'CREATE TABLE "a"', "[red]", "note: "):
        assert told in done.out


def test_cat_gives_clean_csv_with_the_original_text(lakectl, tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b'No.;Some Name\r\n007;"x, ""y"""\r\n8\r\n'))
    done = lakectl("cat", "a.csv.gz")
    assert done.out == 'No.,Some Name\n007,"x, ""y"""\n8,\n'


def test_cat_has_no_header_where_the_file_has_none(lakectl, tmp_path):
    (tmp_path / "a.csv").write_text("1,2024-01-01,x\n2,2024-01-02,y\n3,2024-01-03,z\n")
    assert lakectl("cat", "a.csv").out == (tmp_path / "a.csv").read_text()


def test_cat_writes_columns_that_appear_late(lakectl, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n' * 30_000 + '{"a": 2, "b": {"c": true}}\n')
    lines = lakectl("cat", "a.jsonl").out.splitlines()
    assert lines[:2] == ["a,b", "1,"]
    assert json.loads(next(csv.reader(lines[-1:]))[1]) == {"c": True}


def test_cat_keeps_numbers_as_numbers_in_json(lakectl, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"n": 1.50, "s": "1", "t": true, "l": [1, 2], "z": null}\n')
    document = lakectl("cat", "a.jsonl", "--format", "json").document
    assert document == [{"n": 1.5, "s": "1", "t": True, "l": [1, 2], "z": None}]


@pytest.mark.parametrize("form", ["tsv", "jsonl", "markdown", "parquet"])
def test_cat_writes_other_formats_to_a_file(form, lakectl, tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,x\ty\n")
    assert lakectl("cat", "a.csv", "--format", form, "--output", "out").code == 0
    expected = {
        "tsv": b'a\tb\n1\t"x\ty"\n',
        "jsonl": b'{"a":"1","b":"x\\ty"}\n',
        "markdown": b"| a | b |\n| --- | --- |\n| 1 | x\ty |\n",
    }
    content = (tmp_path / "out").read_bytes()
    assert content.startswith(b"PAR1") if form == "parquet" else content == expected[form]


def test_cat_into_a_directory_survives_a_broken_file(lakectl, tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").write_text("")
    done = lakectl("cat", "empty.csv", "a.csv", "--output-dir", "out")
    assert done.code == 6
    assert "error: empty.csv is empty" in done.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.csv"]


def test_cat_of_an_equal_header_prints_it_once(lakectl, tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "b.csv").write_text("a,b\n3,4\n")
    assert lakectl("cat", "a.csv", "b.csv").out == "a,b\n1,2\n3,4\n"


def test_cat_reads_standard_input(lakectl):
    assert lakectl("cat", "-", stdin=b"a;b\n1;2\n").out == "a,b\n1,2\n"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: None, 3),
        (lambda path: path.write_bytes(b""), 6),
        (lambda path: path.write_bytes(bytes(range(256)) * 64), 6),
        (lambda path: path.mkdir(), 2),
    ],
    ids=["missing", "empty", "binary", "directory"],
)
@pytest.mark.parametrize("command", ["preview", "cat"])
def test_what_cannot_be_read_has_its_exit_code(command, make, code, lakectl, tmp_path):
    make(tmp_path / "a.csv")
    done = lakectl(command, "a.csv")
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ")


def test_a_table_that_is_not_in_the_file_is_a_usage_error(lakectl, tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    assert lakectl("preview", "a.csv", "--table", "Sheet9").code == 2


def test_preview_tells_why_a_column_is_text(lakectl, tmp_path):
    (tmp_path / "a.csv").write_text("id,zip\n" + "1,10001\n" * 50_000 + "2,00501\n")
    assert lakectl("preview", "a.csv", "--json").document["notes"] == [
        "column zip: text, since '00501' begins with a zero"
    ]


def test_preview_shows_no_more_of_a_value_than_is_worth_it(lakectl, tmp_path):
    (tmp_path / "a.csv").write_text(f"{'l' * 900},b\n{'v' * 900},1\n2,3\n{'x,' * 900}\n5,6\n")
    done = lakectl("preview", "a.csv")
    assert "v" * 200 + "…" in done.out
    assert max(map(len, done.out.splitlines())) < 500
    assert lakectl("preview", "a.csv", "--json").document["sample"][0][0] == "v" * 900


@pytest.mark.parametrize(
    ("setting", "text", "labels", "rows"),
    [
        ('encoding = "cp437"', b"a;b\n\xe9;1\n", "a,b", ["Θ,1"]),
        ('delimiter = ","', b"a;b,c\n1;2,3\n", "a;b,c", ["1;2,3"]),
        ('delimiter = "<>"', b"a<>b\n1<>2\n", "a,b", ["1,2"]),
        ('quote = "\'"', b"a,b\n'x',2\n", "a,b", ["x,2"]),
        ('quote = ""', b'a,b\n"x",2\n', "a,b", ['"x",2']),
        ('escape = "^"', b'a,b\n"x^"y",2\n', "a,b", ['x"y,2']),
        ('escape = ""', b'a,b\n"so \\"hi\\" so",1\n"x \\"y\\" z",2\n', "a,b", [r"so \"hi\" so,1", r"x \"y\" z,2"]),
        ("header = false", b"a,b\n1,2\n", "column_1,column_2", ["a,b", "1,2"]),
        ("header = true", b"1,2\n3,4\n", "1,2", ["3,4"]),
        ("header = 3", b"a,b\nc,d\ne,f\n1,2\n", "a c e,b d f", ["1,2"]),
        ("skip_lines = 1", b"x,y\na,b\n1,2\n", "a,b", ["1,2"]),
        ("skip_lines = 0", b"Title,\n,\na,b\n1,2\n3,4\n5,6\n", "Title a,b", ["1,2", "3,4", "5,6"]),
        ('member = "table_2"', b"a,b\n1,2\n3,4\n\nc,d,e\n5,6,7\n8,9,10\n", "c,d,e", ["5,6,7", "8,9,10"]),
        ("one_table = true", b"a,b\n1,2\n3,4\n\nc,d\n5,6\n\nTotal\n", "a,b", ["1,2", "3,4", "c,d", "5,6", "Total,"]),
    ],
)
def test_the_settings_overrule_each_decision_about_a_text(lakectl, tmp_path, setting, text, labels, rows):
    (tmp_path / "x.csv").write_bytes(text)

    def found() -> tuple[str, list[str]]:
        document = lakectl("preview", "x.csv", "--json").document
        told = [column["label"] for column in document["columns"]]
        return ",".join(told), [",".join(cell or "" for cell in row) for row in document["sample"]]

    before = found()
    (tmp_path / "lake.toml").write_text(f"[dataset.x.read]\n{setting}\n")
    assert found() == (labels, rows)
    assert before != (labels, rows)


@pytest.mark.parametrize(
    ("setting", "values", "kinds"),
    [
        ('nulls = ["missing"]', ("missing", "5"), ("text", "bigint")),
        ('date_order = "mdy"', ("03/04/2024", "04/05/2024"), ("text", "date")),
        ('decimal = ","', ("1,234", "2,345"), ("text", "double precision")),
        ('timezone = "Europe/Zurich"', ("2024-01-02 03:04", "2024-01-02 03:05"), None),
        ("exact_decimals = true", ("1.50", "2.25"), ("double precision", "numeric")),
    ],
)
def test_the_settings_overrule_each_decision_about_a_column(lakectl, tmp_path, setting, values, kinds):
    (tmp_path / "x.csv").write_text("id;v\n" + "".join(f"{n};{value}\n" for n, value in enumerate(values)))

    def kind() -> str:
        return lakectl("preview", "x.csv", "--json").document["columns"][1]["type"]

    before, _ = kind(), (tmp_path / "lake.toml").write_text(f"[dataset.x.read]\n{setting}\n")
    assert (before, kind()) == (kinds or ("timestamp without time zone", "timestamp with time zone"))


@pytest.mark.parametrize("setting", ["header = 900", "header = -1", "skip_lines = -1", 'header = "yes"'])
def test_a_setting_that_cannot_be_is_an_error_that_names_it(lakectl, tmp_path, setting):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    (tmp_path / "lake.toml").write_text(f"[dataset.x.read]\n{setting}\n")
    done = lakectl("preview", "x.csv")
    assert done.code == 3
    assert setting.split()[0] in done.err
