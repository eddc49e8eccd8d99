"""Small objects that are loaded together: each is in its table and in the ledger as if it had come alone."""

from __future__ import annotations

import dataclasses
import gzip
import os
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest

from etl_container import pipeline
from etl_container.errors import NotFoundError
from etl_container.report import Event, Loading, LoadReport
from lakectl import config
from lakectl.targets.local import LocalTarget
from tests.local.conftest import Lake, csv_text


def land_numbered(lake: Lake, count: int, dataset: str = "t") -> list[tuple[str, None]]:
    return [(lake.land(f"{i}.csv", f"id,v\n{i},{i * i}\n", dataset), None) for i in range(count)]


def transactions(lake: Lake, table: str = "t") -> int:
    """How many transactions loaded what is in a table."""
    return int(
        lake.value(
            f"select count(distinct xmin::text) from lake.runs where table_name = '{table}' and state = 'loaded'"
        )
    )


def test_small_objects_share_a_transaction_and_have_a_run_each(lake: Lake) -> None:
    objects = land_numbered(lake, 60)
    reports = list(lake.target.load(objects))
    assert [report.key for report in reports] == [key for key, _ in objects]
    assert {(report.state, report.rows) for report in reports} == {("loaded", 1)}
    assert transactions(lake) == 2, "the first one makes the table"
    assert lake.sql("select _lake_run from t order by id") == [(int(report.run or 0),) for report in reports]
    assert lake.sql("select state, rows, count(*) from lake.runs group by 1, 2") == [("loaded", 1, 60)]
    assert {report.state for report in lake.target.load(objects)} == {"already_loaded"}
    assert lake.sql("select count(*), sum(v) from t") == [(60, sum(i * i for i in range(60)))]


def test_a_new_version_replaces_its_own_rows_only_when_loaded_together(lake: Lake) -> None:
    objects = land_numbered(lake, 5)
    before = [report.run for report in lake.target.load(objects)]
    for i in (1, 3):
        lake.land(f"{i}.csv", f"id,v\n{i},-1\n{i},-2\n")
    reports = list(lake.target.load(objects))
    assert [report.state for report in reports] == ["loaded" if i in (1, 3) else "already_loaded" for i in range(5)]
    rows = {i: [i * i] for i in range(5)} | {1: [-2, -1], 3: [-2, -1]}
    assert lake.sql("select id, array_agg(v order by v) from t group by 1 order by 1") == [
        (i, rows[i]) for i in range(5)
    ]
    assert lake.target.undo(reports[3].run or "").restored == 1
    assert lake.sql("select v from t where id = 3") == [(9,)]
    assert before[0] == reports[0].run
    assert lake.states("raw/t/1.csv") == ["superseded", "loaded"]


def random_content(chance: random.Random, number: int) -> str | bytes:
    """A small file, now and then of another layout, with records that are broken, or no table at all."""
    kind = chance.random()
    if kind < 0.05:
        return b"\x7fELF" + b"\0" * 100
    if kind < 0.08:
        return "id,name,price\n"
    if kind < 0.1:
        return ""
    values: dict[str, Any] = {
        "id": lambda i: number * 100 + i,
        "name": lambda _i: chance.choice(["a", "b c", '"x, y"', "", "NA"]),
        "price": lambda _i: chance.choice([f"{chance.randrange(1000) / 100}", str(chance.randrange(9)), ""]),
        "day": lambda _i: f"2024-{chance.randrange(1, 13):02d}-{chance.randrange(1, 29):02d}",
    }
    labels = ["id", "name", "price", "day"] if kind < 0.6 else ["id", "price", "name"]
    if kind > 0.9:
        labels.append(f"more_{chance.randrange(3)}")
        values[labels[-1]] = lambda i: i % 2 == 0
    if kind > 0.95:
        values["price"] = lambda _i: "free"
    delimiter = "," if chance.random() < 0.8 else ";"
    rows = [delimiter.join(str(values[label](i)) for label in labels) for i in range(chance.randrange(1, 30))]
    if chance.random() < 0.2:
        rows.insert(len(rows) // 2, delimiter.join(["1"] * (len(labels) + 2)))
    return delimiter.join(labels) + "\n" + "\n".join(rows) + "\n"


@pytest.mark.parametrize(
    "promised", ["", "[dataset.{0}.contract]\nrejects = 0", "[dataset.{0}.contract.columns.id]\nmax = 12000"]
)
def test_objects_loaded_together_end_as_they_do_one_by_one(lake: Lake, promised: str) -> None:
    seed = int(os.environ.get("LAKE_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed} (LAKE_TEST_SEED={seed} repeats it)")
    chance = random.Random(seed)
    lake.configure("".join(f"{promised.format(name)}\n" for name in ("together", "single")))
    contents = [content for i in range(150) if (content := random_content(chance, i))]
    objects = {
        name: [(lake.land(f"{i}.csv", content, name), None) for i, content in enumerate(contents)]
        for name in ("together", "single")
    }
    together = list(lake.target.load(objects["together"]))
    single = [report for one in objects["single"] for report in lake.target.load([one])]

    def told(reports: list[Any]) -> list[tuple[Any, ...]]:
        return [
            (r.key.rpartition("/")[2], r.state, r.rows, r.rejects, r.changes, r.notes, r.exit_code) for r in reports
        ]

    assert told(together) == told(single), seed
    assert lake.types("together") == lake.types("single"), seed
    columns = ", ".join(lake.types("single"))
    rows = {name: lake.sql(f"select {columns} from {name} order by {columns}") for name in objects}
    assert rows["together"] == rows["single"], seed
    kept = {
        name: lake.sql(
            "select r.key, j.record, j.line, j.column_name, j.value, j.reason, j.text, r.source->'dialect', r.state "
            "from lake.runs r left join lake.rejects j on j.run_id = r.id "
            f"where r.dataset = '{name}' order by r.id, j.id"
        )
        for name in objects
    }
    assert [(key.rpartition("/")[2], *rest) for key, *rest in kept["together"]] == [
        (key.rpartition("/")[2], *rest) for key, *rest in kept["single"]
    ], seed


def test_an_object_that_the_server_refuses_fails_alone(lake: Lake) -> None:
    lake.upload("first.csv", "id,v\n-1,1\n")
    with psycopg2.connect(lake.dsn) as other, other.cursor() as cursor:
        cursor.execute("alter table t add check (v <> 49)")
    other.close()
    objects = land_numbered(lake, 12)
    reports = list(lake.target.load(objects))
    assert [report.key for report in reports if report.state == "failed"] == ["raw/t/7.csv"]
    assert "refuses a row" in (reports[7].error or "")
    assert lake.value("select count(*) from t") == 12
    assert lake.states("raw/t/7.csv") == ["failed"]


def test_a_transform_that_fails_on_one_object_fails_that_one(lake: Lake) -> None:
    lake.transform("t.py", "def transform(df, context):\n    assert '/7.' not in context.key\n    return df\n")
    reports = list(lake.target.load(land_numbered(lake, 12)))
    assert [report.key for report in reports if report.state == "failed"] == ["raw/t/7.csv"]
    assert lake.value("select count(*) from t") == 11
    assert transactions(lake) == 2


def test_an_object_that_grows_is_loaded_alone(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "HELD_BYTES", 20_000)
    objects = land_numbered(lake, 8)
    big = gzip.compress(csv_text("id,v", lambda i: f"{i},{i}", 5000).encode())
    objects.insert(4, (lake.land("big.csv.gz", big), None))
    assert {report.state for report in lake.target.load(objects)} == {"loaded"}
    assert lake.value("select count(*) from t") == 5008


@pytest.mark.parametrize(
    "mode", ['mode = "merge"\nkey = ["id"]', 'mode = "replace_table"', "[dataset.t.contract]\nprimary_key = ['id']"]
)
def test_objects_whose_table_has_a_key_are_loaded_one_after_the_other(lake: Lake, mode: str) -> None:
    lake.configure(f"[dataset.t]\n{mode}\n")
    lake.transform("t.py", "def transform(df, context):\n    assert 'bad' not in context.key\n    return df\n")
    objects = [(lake.land(f"{i}.csv", f"id,v\n1,{i}\n{i + 2},0\n"), None) for i in range(6)]
    bad = lake.land("bad.csv", "id,v\n77,7\n")
    assert [report.state for report in lake.target.load([objects[0], (bad, None)])] == ["loaded", "failed"]
    assert lake.value("select count(*) from t") == 2
    reports = list(lake.target.load(objects))
    expected: list[tuple[int, int]] = {
        "merge": [(1, 5), *((i + 2, 0) for i in range(6))],
        "replace_table": [(1, 5), (7, 0)],
        "contract": [(1, 0), *((i + 2, 0) for i in range(6))],
    }[next(word for word in ("merge", "replace_table", "contract") if word in mode)]
    assert [report.state for report in reports] == ["already_loaded", *["loaded"] * 5]
    assert lake.sql("select id, v from t order by id") == expected
    if mode.startswith('mode = "merge'):
        assert transactions(lake) == 2


def test_datasets_that_take_turns_are_loaded_together_each(lake: Lake) -> None:
    pairs = [(lake.land(f"{i}.csv", f"id\n{i}\n", name), None) for i in range(10) for name in ("a", "b", "c")]
    assert {report.state for report in lake.target.load(pairs)} == {"loaded"}
    for name in ("a", "b", "c"):
        assert lake.value(f"select count(*) from {name}") == 10
        assert transactions(lake, name) == 2


def test_the_objects_before_one_that_is_not_there_are_loaded(lake: Lake) -> None:
    objects = [*land_numbered(lake, 3), ("raw/t/missing.csv", None)]
    with pytest.raises(NotFoundError, match="missing"):
        list(lake.target.load(objects))
    assert lake.value("select count(*) from t") == 3


def test_an_interruption_loses_nothing_and_the_next_load_finishes(lake: Lake) -> None:
    lake.upload("first.csv", "id,v\n-1,1\n")
    objects = land_numbered(lake, 10)

    def stop(event: Event) -> None:
        if isinstance(event, Loading) and event.key == "raw/t/6.csv":
            raise KeyboardInterrupt

    told: list[LoadReport] = []
    with pytest.raises(KeyboardInterrupt):
        told.extend(lake.target.load(objects, on_event=stop))
    assert {(report.state, report.exit_code) for report in told} <= {("failed", 130)}
    assert lake.sql("select distinct exit_code from lake.runs where state = 'failed'") == [(130,)]
    assert lake.value("select count(*) from t") == 1
    assert not lake.sql("select from lake.runs where state = 'running'")
    chosen = lake.target.select(keys=(), dataset=None, failed=True, everything=False)
    assert sorted(chosen) == sorted((key, lake.target.store.find(key).version) for key, _ in objects)
    assert {report.state for report in lake.target.load(objects)} == {"loaded"}
    assert lake.sql("select count(*), count(distinct id) from t") == [(11, 11)]


def test_objects_whose_server_is_lost_on_the_way_are_loaded_all_the_same(lake: Lake) -> None:
    lake.upload("first.csv", "id,v\n-1,1\n")
    objects = land_numbered(lake, 6)
    session = lake.target._open()
    lost = []

    def lose(event: object) -> None:
        if isinstance(event, Loading) and event.key == "raw/t/3.csv" and not lost:
            lost.append(event)
            with psycopg2.connect(lake.dsn) as other, other.cursor() as cursor:
                cursor.execute("select pg_terminate_backend(%s)", (session.connection.info.backend_pid,))
            other.close()

    reports = list(lake.target.load(objects, on_event=lose))
    assert lost
    assert {report.state for report in reports} == {"loaded"}
    assert lake.sql("select id from t order by id") == [(i,) for i in range(-1, 6)]
    assert not lake.sql("select from lake.runs where state = 'running'")


def test_two_loads_of_the_same_objects_at_once_load_each_once(lake: Lake) -> None:
    lake.upload("first.csv", "id,v\n-1,1\n")
    objects = land_numbered(lake, 40)

    def load(order: list[tuple[str, None]]) -> list[str]:
        target = LocalTarget(dataclasses.replace(config.load(lake.root), warehouse=lake.dsn))
        try:
            return [report.state for report in target.load(order)]
        finally:
            target.close()

    with ThreadPoolExecutor(3) as pool:
        states = list(pool.map(load, [objects, objects[::-1], objects[20:] + objects[:20]]))
    assert sorted(state for found in states for state in found) == ["already_loaded"] * 80 + ["loaded"] * 40
    assert lake.sql("select count(*), count(distinct id) from t") == [(41, 41)]
