"""The command line as a process, on a real warehouse."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow.parquet as pq
import pytest

from lakectl.targets import postgres_reader


class Lakectl:
    """``lakectl`` in a directory, with a warehouse of its own."""

    def __init__(self, directory: Path, dsn: str) -> None:
        self.directory = directory
        self.environment = {**os.environ, "LAKE_WAREHOUSE": dsn}
        self.environment.pop("LAKE_STAGE", None)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "lakectl", *words],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, code: int = 0) -> str:
        process = self.start(*words)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        return out


@pytest.fixture
def lakectl(tmp_path: Path, warehouse_dsn: str) -> Lakectl:
    return Lakectl(tmp_path, warehouse_dsn)


def test_the_first_commands_in_an_empty_directory_work(lakectl: Lakectl, tmp_path: Path) -> None:
    (tmp_path / "flights.csv").write_text("Carrier,Delay\nUA,5\nAA,-2\n")
    loaded = json.loads(lakectl("upload", "flights.csv", "--json"))["objects"][0]
    assert (loaded["state"], loaded["rows"], loaded["table"]) == ("loaded", 2, "flights")
    assert lakectl("query", "select sum(delay) from flights where carrier <> :no", "-p", "no=AA") == "sum\n5\n"
    assert json.loads(lakectl("tables", "--json"))[0]["columns"][0] == {
        "name": "carrier",
        "type": "text",
        "label": "Carrier",
    }
    assert json.loads(lakectl("upload", "flights.csv", "--json"))["objects"][0]["state"] == "already_loaded"
    lakectl("undo", loaded["run"])
    assert lakectl("query", "select count(*) from flights") == "count\n0\n"


def test_a_reader_that_has_enough_ends_the_query_quietly(lakectl: Lakectl) -> None:
    process = lakectl.start("query", "select generate_series(1, 5000000)")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "generate_series\n"
    process.stdout.close()
    assert (process.wait(timeout=30), process.stderr.read()) == (0, "")
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told_as_one(lakectl: Lakectl) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lakectl", "query", "select 1"],
            cwd=lakectl.directory,
            env=lakectl.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        5,
        "error: cannot write the output: No space left on device",
    )
    assert "Traceback" not in done.stderr


def test_sigterm_ends_a_query_at_once_here_and_on_the_server(lakectl: Lakectl, warehouse_dsn: str) -> None:
    process = lakectl.start("query", "select pg_sleep(50)")
    connection = psycopg2.connect(warehouse_dsn)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:

            def running() -> bool:
                cursor.execute(
                    "select count(*) from pg_stat_activity where datname = current_database() "
                    "and application_name = 'lakectl query' and wait_event = 'PgSleep'"
                )
                return bool(cursor.fetchone()[0])  # type: ignore[index]

            until = time.monotonic() + 30
            while not running() and time.monotonic() < until:
                time.sleep(0.05)
            assert running()
            process.send_signal(signal.SIGTERM)
            _out, err = process.communicate(timeout=20)
            assert process.returncode == 130
            assert err.startswith("error: interrupted")
            while running() and time.monotonic() < until:
                time.sleep(0.05)
            assert not running()
    finally:
        connection.close()


def test_ctrl_c_reaches_a_waiting_query(warehouse_dsn: str) -> None:
    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    started = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with (
            pytest.raises(KeyboardInterrupt),
            postgres_reader.run(warehouse_dsn, "select pg_sleep(50)", {}, write=False) as result,
        ):
            result.rows()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - started < 20


MESSY_TYPES = (
    "n,x,at,zoned,day,clock,flag,id,text,empty\n"
    "1,1.5,2024-01-01 10:00:00,2024-01-01T10:00:00Z,2024-01-01,10:00,true,6f1c9e0e-5f0b-4d43-9d6a-000000000001,ä,\n"
    "-2,NA,2024-01-02 10:00:00.5,2024-01-01T10:00:00+02:00,2024-01-02,23:59:59,false,"
    '6f1c9e0e-5f0b-4d43-9d6a-000000000002,"b, c",\n'
    ",,,,,,,,,\n3,2.25,,,,,,,d,\n"
)


MESSY_JSON = (
    '{"n":1,"x":1.5,"id":"6f1c9e0e-5f0b-4d43-9d6a-000000000001","o":{"k":[1,"ä"]},"flag":true,"mixed":1}\n'
    '{"n":-2,"x":null,"id":null,"o":null,"at":"2024-01-01T10:00:00Z","mixed":"a"}\n'
    '{}\nno JSON\n{"n":12345678901234567890123,"x":2.0,"id":"6f1c9e0e-5f0b-4d43-9d6a-000000000002","o":[]}\n'
)


@pytest.mark.parametrize(("name", "content"), [("t.csv", MESSY_TYPES), ("t.jsonl", MESSY_JSON)])
def test_a_load_without_a_transform_imports_neither_pandas_nor_pydantic(
    lakectl: Lakectl, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    code = (
        f"import sys; from lakectl.cli.app import main; status = main(['upload', '{name}', '--quiet']);"
        "heavy = {'pandas', 'pandera', 'pydantic', 'duckdb', 'sqlalchemy', 'boto3'};"
        "print(sorted(heavy & set(sys.modules))); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=lakectl.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert lakectl("query", "select count(*), count(n), count(x), count(id) from t") == (
        "count,count,count,count\n4,3,2,2\n"
    )


def test_a_dataset_named_like_a_table_of_postgresqls_own_is_still_found(lakectl: Lakectl, tmp_path: Path) -> None:
    (tmp_path / "pg_class.csv").write_text("x\n7\n")
    loaded = json.loads(lakectl("upload", "pg_class.csv", "--json"))["objects"][0]
    assert loaded["table"] == "_pg_class"
    assert lakectl("query", "select x from _pg_class") == "x\n7\n"


@pytest.mark.parametrize("sql", ["select 1\nfrom nothere", "select\nnothere from pg_class"])
def test_a_name_that_is_not_there_is_marked_and_the_next_step_told(lakectl: Lakectl, sql: str) -> None:
    process = lakectl.start("query", sql)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    line = sql.splitlines()[1]
    assert f"{line}\n{' ' * line.index('nothere')}^" in err
    assert "hint: lakectl tables" in err


KINDS = """select n::bigint as n, n::smallint as small, n / 3.0::float8 as x, (n / 4)::numeric(8, 3) as exact,
    case when n % 2 = 0 then '' when n % 3 = 0 then null else E'line\\n"' || n || '", ä' end as words,
    n % 2 = 0 as flag, date '2024-02-28' + n as day, timestamp '2024-01-01 10:00:00.5' + n * interval '1 day' as at,
    timestamptz '2024-01-01 10:00:00+02' as zoned, '6f1c9e0e-5f0b-4d43-9d6a-000000000001'::uuid as id
    from generate_series(1, 7) n order by n desc"""


def test_what_the_server_exports_is_what_the_rows_are(lakectl: Lakectl, tmp_path: Path) -> None:
    def export(form: str, sql: str, *more: str) -> Any:
        lakectl("query", sql, "--output", f"out.{form}", *more)
        if form == "csv":
            with (tmp_path / "out.csv").open(newline="") as file:
                return list(csv.reader(file))
        return pq.read_table(tmp_path / f"out.{form}")

    by_rows = f"select *, interval '1 day' as long from ({KINDS}) q"  # an interval goes value by value
    for more in ((), ("--limit", "3")):
        copied, written = export("csv", KINDS, *more), export("csv", by_rows, *more)
        at = copied[0].index("at")
        for line in written[1:]:
            line[at] = line[at].rstrip("0")  # 10:00:00.500000
        assert copied == [line[:-1] for line in written]
        assert len(copied) == (4 if more else 8)
        assert export("parquet", KINDS, *more).equals(export("parquet", by_rows, *more).drop_columns(["long"]))
    assert export("parquet", KINDS)["words"].to_pylist()[:3] == ['line\n"7", ä', "", 'line\n"5", ä']
    assert export("parquet", "select null::text as a union all select ''")["a"].to_pylist() == [None, ""]
    assert export("parquet", "select 1 as a where false").num_rows == 0


def test_an_error_in_the_middle_of_an_export_leaves_no_file(lakectl: Lakectl, tmp_path: Path) -> None:
    for name in ("out.csv", "out.parquet"):
        lakectl("query", "select 1 / (n - 300000) as x from generate_series(1, 400000) n", "--output", name, code=2)
        assert list(tmp_path.glob("*out*")) == []
    lakectl("query", "select date 'infinity' as day", "--output", "out.parquet", code=2)
    assert list(tmp_path.glob("*out*")) == []


@pytest.mark.parametrize("words", [("cat", "strange.txt"), ("cat", "strange.txt", "--output", "o.csv")])
def test_a_reader_that_leaves_is_no_failure_even_where_remarks_go_the_same_way(
    lakectl: Lakectl, words: tuple[str, ...]
) -> None:
    rows = "".join(f"{i};{i / 4}\n" for i in range(50_000))
    (lakectl.directory / "strange.txt").write_text(f"a report\n\nn;x\n{rows}\ntotal;\n")
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "lakectl", *words],
        cwd=lakectl.directory,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
    )
    os.close(writer)
    os.close(reader)
    assert process.wait(60) == 0
    if "--output" in words:
        assert len((lakectl.directory / "o.csv").read_text().splitlines()) == 50_002
