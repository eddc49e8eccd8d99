"""kill -9 at any moment of a load, then the same command again: exactly the rows of the file, none twice."""

from __future__ import annotations

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

from lakectl.targets.embedded_postgres import EmbeddedPostgres

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


def content(round_: int) -> tuple[str, int]:
    """A file whose rows tell its version, and the sum of its second column."""
    lines = ["id,v,text"]
    lines += [f"{i},{i + round_},some text of row {i} in version {round_}" for i in range(ROWS)]
    return "\n".join(lines) + "\n", sum(i + round_ for i in range(ROWS))


@pytest.mark.timeout(400)
def test_kill_9_at_fifty_random_moments_leaves_exactly_the_rows_of_the_file(place: Path) -> None:
    seed = int(os.environ.get("LAKE_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed} (LAKE_TEST_SEED={seed} repeats it)")
    moments = random.Random(seed)
    file = place / "t.csv"
    text, _total = content(0)
    file.write_text(text)
    assert lakectl(place, "upload", str(file)).wait() == 0
    with EmbeddedPostgres(place / ".lake" / "postgres") as server:
        # The server stays up between the commands, so that the moments fall into loads rather than starts.
        connection = psycopg2.connect(server.dsn)
        connection.autocommit = True
        cursor = connection.cursor()
        started = time.monotonic()
        text, total = content(1)
        file.write_text(text)
        assert lakectl(place, "upload", str(file)).wait() == 0
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
            again = lakectl(place, "upload", str(file))
            said, _ = again.communicate()
            usual = (usual + time.monotonic() - started) / 2
            assert again.returncode == 0, f"seed {seed}: {said}"
            cursor.execute("select count(*), count(distinct id), sum(v) from t")
            assert cursor.fetchone() == (ROWS, ROWS, total), f"after kill {round_}, seed {seed}"
        cursor.execute("select count(*) from lake.objects where state = 'loaded'")
        assert cursor.fetchone() == (1,)
        connection.close()
    print(f"{killed} of {KILLS} processes were killed before their end")
    assert killed > KILLS // 2
    listed = lakectl(place, "runs", "--json")
    said, _ = listed.communicate()
    assert '"running"' not in said
