"""Several loads at once: no error, all rows, the newest version wins."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from etl_container.report import LoadReport
from lakectl import config
from lakectl.targets.local import LocalTarget
from tests.local.conftest import Lake, csv_text


def at_once(lake: Lake, jobs: list[Callable[[LocalTarget], LoadReport]]) -> list[LoadReport]:
    """Run jobs at the same time, each on a target (and connection) of its own."""
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[LocalTarget], LoadReport]) -> LoadReport:
        target = LocalTarget(dataclasses.replace(config.load(lake.root), warehouse=lake.dsn))
        try:
            barrier.wait()
            return job(target)
        finally:
            target.close()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result() for future in [pool.submit(run, job) for job in jobs]]


def upload(key: str, path: str) -> Callable[[LocalTarget], LoadReport]:
    def job(target: LocalTarget) -> LoadReport:
        landed = target.land(path, key)
        (report,) = target.load([(key, landed.version)])
        return report

    return job


def test_two_uploads_of_one_key_at_once_end_with_the_newest_version(lake: Lake) -> None:
    for round_ in range(8):
        values = [f"a{round_}", f"b{round_}"]
        texts = [csv_text("v,i", [f"{value},{i}" for i in range(2000)]) for value in values]
        files = [str(lake.write(f"{value}.csv", text)) for value, text in zip(values, texts, strict=True)]
        reports = at_once(lake, [upload("raw/t/x.csv", file) for file in files])
        assert {report.state for report in reports} <= {"loaded", "superseded"}
        newest = max(report.version for report in reports)
        loaded = [info for info in lake.target.objects() if info.state == "loaded"]
        assert [info.version for info in loaded] == [newest]
        winner = lake.target.store.find("raw/t/x.csv", newest)
        with lake.target.store.open(winner) as stream:
            value = stream.read().decode().splitlines()[1].split(",")[0]
        assert lake.sql("select v, count(*) from t group by v") == [(value, 2000)]


def test_twenty_uploads_of_different_keys_into_one_new_table_load_all_rows(lake: Lake) -> None:
    jobs = []
    for number in range(20):
        extra = f",column_{number % 4}" if number % 4 else ""
        text = csv_text(f"id{extra}", [f"{number * 1000 + i}{',7' if extra else ''}" for i in range(500)])
        jobs.append(upload(f"raw/t/{number}.csv", str(lake.write(f"{number}.csv", text))))
    reports = at_once(lake, jobs)
    assert {(report.state, report.rows) for report in reports} == {("loaded", 500)}
    assert lake.sql("select count(*), count(distinct id) from t") == [(10_000, 10_000)]
    assert set(lake.types()) == {"id", "column_1", "column_2", "column_3"}


def test_concurrent_loads_that_widen_one_column_lose_nothing(lake: Lake) -> None:
    values = ["1", "1.5", "word", "9223372036854775808", "2024-01-01", "true"]
    jobs = []
    for number, value in enumerate(values):
        path = lake.write(f"{number}.csv", csv_text("id,v", [f"{i},{value}" for i in range(300)]))
        jobs.append(upload(f"raw/t/{number}.csv", str(path)))
    reports = at_once(lake, jobs)
    assert {report.state for report in reports} == {"loaded"}
    assert lake.types()["v"] == "text"
    assert lake.value("select count(*) from t") == 300 * len(values)


def test_the_same_object_processed_five_times_at_once_is_loaded_once(lake: Lake) -> None:
    key = lake.land("a.csv", csv_text("x", str, 3000))

    def job(target: LocalTarget) -> LoadReport:
        (report,) = target.load([(key, None)])
        return report

    reports = at_once(lake, [job] * 5)
    assert sorted(report.state for report in reports) == ["already_loaded"] * 4 + ["loaded"]
    assert lake.value("select count(*) from t") == 3000
