"""kill -9 at any moment of a load, then the same command again: exactly the rows of the file, none twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from etl_container import ledger
from etl_container import sql as sql_files
from etl_container.warehouse import Session
from lakectl.targets.embedded_postgres import EmbeddedPostgres
from tests.local.conftest import Lake

KILLS = 50
ROWS = 20_000


@pytest.fixture
def place() -> Iterator[Path]:
    """A lake with an embedded server of its own, outside pytest's directory, which is closed to root's server."""
    with tempfile.TemporaryDirectory(prefix="lakectl-crash-") as name:
        root = Path(name)
        root.chmod(0o711)
        yield root
        EmbeddedPostgres(root / ".lake" / "postgres").remove()


def lakectl(place: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LAKE_")}
    command = [sys.executable, "-m", "lakectl", "-C", str(place), *arguments]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def run(place: Path, *arguments: str) -> str:
    """A command to its end, which must be good; what it said."""
    process = lakectl(place, *arguments)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return said


def seeded() -> tuple[int, random.Random]:
    """The seed of the moments of this run, which is printed, and the moments."""
    seed = int(os.environ.get("LAKE_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed} (LAKE_TEST_SEED={seed} repeats it)")
    return seed, random.Random(seed)


def content(round_: int) -> tuple[str, int]:
    """A file whose rows tell its version, and the sum of its second column."""
    lines = ["id,v,text"]
    lines += [f"{i},{i + round_},some text of row {i} in version {round_}" for i in range(ROWS)]
    return "\n".join(lines) + "\n", sum(i + round_ for i in range(ROWS))


@pytest.mark.timeout(400)
def test_kill_9_at_fifty_random_moments_leaves_exactly_the_rows_of_the_file(place: Path) -> None:
    seed, moments = seeded()
    file = place / "t.csv"
    text, _total = content(0)
    file.write_text(text)
    run(place, "upload", str(file))
    with EmbeddedPostgres(place / ".lake" / "postgres") as server:
        # The server stays up between the commands, so that the moments fall into loads rather than starts.
        connection = psycopg2.connect(server.dsn)
        connection.autocommit = True
        cursor = connection.cursor()
        started = time.monotonic()
        text, total = content(1)
        file.write_text(text)
        run(place, "upload", str(file))
        usual = time.monotonic() - started
        killed = 0
        for round_ in range(2, KILLS + 2):
            text, total = content(round_)
            file.write_text(text)
            process = lakectl(place, "upload", str(file))
            time.sleep(moments.uniform(0.2, 0.95) * usual)
            killed += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.communicate()
            cursor.execute("select count(*), count(distinct id), sum(v) - sum(id) from t")
            rows, distinct, versions = cursor.fetchone() or (0, 0, 0)
            assert rows == distinct == ROWS, f"half a load after kill {round_}, seed {seed}"
            assert versions % ROWS == 0, f"rows of two versions after kill {round_}, seed {seed}"

            started = time.monotonic()
            run(place, "upload", str(file))
            usual = (usual + time.monotonic() - started) / 2
            cursor.execute("select count(*), count(distinct id), sum(v) from t")
            assert cursor.fetchone() == (ROWS, ROWS, total), f"after kill {round_}, seed {seed}"
        cursor.execute("select count(*) from lake.objects where state = 'loaded'")
        assert cursor.fetchone() == (1,)
        connection.close()
    print(f"{killed} of {KILLS} processes were killed before their end")
    assert killed > KILLS // 2
    states = [found["state"] for found in json.loads(run(place, "runs", "--json"))]
    assert "running" not in states
    assert "failed" in states


@pytest.mark.timeout(300)
def test_kill_9_among_many_small_files_leaves_each_whole_or_not_at_all(place: Path) -> None:
    seed, moments = seeded()
    folder = place / "t"
    folder.mkdir()

    def write(version: int) -> None:
        for i in range(300):
            (folder / f"{i}.csv").write_text("file,v\n" + f"{i},{version}\n" * 10)

    write(0)
    with EmbeddedPostgres(place / ".lake" / "postgres") as server:
        run(place, "upload", str(folder))
        connection = psycopg2.connect(server.dsn)
        connection.autocommit = True
        cursor = connection.cursor()
        write(1)
        started = time.monotonic()
        run(place, "upload", str(folder))
        usual, killed = time.monotonic() - started, 0
        for version in range(2, 10):
            write(version)
            process = lakectl(place, "upload", str(folder))
            time.sleep(moments.uniform(0.3, 0.95) * usual)
            killed += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.communicate()
            cursor.execute("select count(*), count(distinct v) from t group by file")
            assert cursor.fetchall() == [(10, 1)] * 300, f"half a file, seed {seed}"
            cursor.execute("select id, rows from lake.runs where state = 'loaded' order by 1")
            said = cursor.fetchall()
            cursor.execute("select _lake_run, count(*) from t group by 1 order by 1")
            assert cursor.fetchall() == said, f"the ledger is not the table's, seed {seed}"
        run(place, "upload", str(folder))
        cursor.execute("select v, count(*) from t group by v")
        assert cursor.fetchall() == [(9, 3000)], f"seed {seed}"
        cursor.execute("select state, count(*) from lake.objects where state in ('pending', 'loaded') group by 1")
        assert cursor.fetchall() == [("loaded", 300)]
        connection.close()
    assert killed > 4


def test_a_process_that_dies_while_it_buries_dead_runs_leaves_that_to_the_next_one(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = lake.land("a.csv", "x\n1\n")
    with Session(lake.dsn) as session:
        (run,) = ledger.begin(session, [lake.target.store.find(key)], lake.target.lake.dataset_of(key), [None])

    def dies(session: Session, name: str, **parameters: object) -> list[tuple[object, ...]]:
        if name == "fail_objects_of_runs":
            raise KeyboardInterrupt
        return session.execute(sql_files.query(name), parameters)

    with monkeypatch.context() as patch, Session(lake.dsn) as session:
        patch.setattr(Session, "run", dies)
        with pytest.raises(KeyboardInterrupt):
            ledger.bury(session)
    (found,) = lake.target.objects()
    assert (found.state, found.run) == ("failed", str(run))
    assert [told.state for told in lake.target.runs()] == ["failed"]


def test_ctrl_c_among_many_small_files_leaves_a_lake_that_the_next_upload_finishes(place: Path) -> None:
    folder = place / "t"
    folder.mkdir()
    for i in range(600):
        (folder / f"{i:03d}.csv").write_text("file,v\n" + f"{i},1\n" * 10)
    process = lakectl(place, "upload", str(folder))
    assert process.stdout is not None
    assert process.stdout.readline()  # "creating the embedded database"
    assert process.stdout.readline().startswith("loaded  ")
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    counts = "select count(*), count(distinct file), (select sum(rows) from lake.runs where state = 'loaded') from t"
    rows, files, told = map(int, run(place, "query", "--format", "csv", counts).splitlines()[-1].split(","))
    assert rows == 10 * files == told
    assert 0 < files < 600
    run(place, "upload", str(folder))
    assert run(place, "query", "--format", "csv", counts).splitlines()[-1] == "6000,600,6000"


def test_processes_at_once_share_one_embedded_server_and_leave_none_behind(place: Path) -> None:
    files = []
    for number in range(12):
        file = place / f"{number}.csv"
        file.write_text("id,v\n" + "".join(f"{number * 100 + i},{i}\n" for i in range(100)))
        files.append(file)
    processes = [lakectl(place, "upload", "--dataset", "t", str(file)) for file in files]
    twice = [lakectl(place, "upload", "--dataset", "same", str(files[0])) for _ in range(2)]
    for process in (*processes, *twice):
        said, _ = process.communicate()
        assert process.returncode == 0, said
    counted = run(place, "query", "--format", "csv", "select (select count(*) from t), (select count(*) from same)")
    assert counted.splitlines()[-1] == "1200,100"
    assert not EmbeddedPostgres(place / ".lake" / "postgres").status().running
