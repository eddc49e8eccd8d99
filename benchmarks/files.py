"""Loading many small files: ``lakectl`` against ``psql`` and DuckDB, each with one connection to the same server.

A folder of files of 20 rows and 5 columns, made anew from a seed. ``upload`` lands and loads it, ``run-local`` loads
what is in the raw zone. ``psql`` gets one ``\\copy`` a file in one session and one transaction, into a table that has
its types already: what a connection can do at all. DuckDB's extension inserts all files by one statement. Neither keeps
a ledger. Whole processes, in turn; counts and sums are compared, and the ledger is held against the files.

``mixed`` is lakectl's alone: objects of three datasets that take turns, one in ten with a column more, one in a hundred
broken.
"""

from __future__ import annotations

import random
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import load, measure
from lakectl.targets.embedded_postgres import EmbeddedPostgres

ROWS = 20
TYPES = {"id": "bigint", "at": "timestamp", "station": "text", "temperature": "double precision", "note": "text"}
BROKEN = b"\x7fELF" + b"\0" * 1000


@dataclass(frozen=True, slots=True)
class Expected:
    """What the tables must have in the end."""

    files: int
    """Without the broken ones."""
    rows: int
    ids: int
    """The sum of the column ``id``."""


def write(folder: Path, files: int) -> Expected:
    """One dataset, one layout."""
    chance = random.Random(measure.SEED)
    (folder / "plain").mkdir(parents=True)
    for number in range(files):
        (folder / "plain" / f"{number:06d}.csv").write_text(_content(chance, number))
    rows = files * ROWS
    return Expected(files, rows, rows * (rows - 1) // 2)


def write_mixed(folder: Path, files: int) -> Expected:
    """Three datasets, two layouts, some files that are broken."""
    chance = random.Random(measure.SEED)
    good = ids = 0
    for number in range(files):
        path = folder / f"mixed_{number % 3}" / f"{number:06d}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 100 == 50:
            path.write_bytes(BROKEN)
            continue
        path.write_text(_content(chance, number, more=number % 10 == 9))
        good += 1
        ids += sum(range(number * ROWS, (number + 1) * ROWS))
    return Expected(good, good * ROWS, ids)


def _content(chance: random.Random, number: int, *, more: bool = False) -> str:
    lines = [",".join([*TYPES, *(["more"] if more else [])])]
    for row in range(ROWS):
        at = f"2024-{chance.randrange(1, 13):02d}-{chance.randrange(1, 29):02d} {chance.randrange(24):02d}:30:00"
        note = chance.choice(["", "ok", '"check, again"'])
        cells = [number * ROWS + row, at, f"S{chance.randrange(100):03d}", f"{chance.uniform(-20, 40):.2f}", note]
        lines.append(",".join(map(str, [*cells, *([row] if more else [])])))
    return "\n".join(lines) + "\n"


def main(files: int, rounds: int) -> measure.Table:
    """Measure a number of files."""
    with load.lake() as place:
        plain, mixed = write(place / "files", files), write_mixed(place / "mixed", files)
        paths = sorted((place / "files" / "plain").iterdir())
        script = "\n".join(f"\\copy psql from '{path}' with (format csv, header)" for path in paths)
        (place / "copy.sql").write_text(script)
        with EmbeddedPostgres(place / ".lake" / "postgres") as server:
            runs, server_cpu = _compare(place, server.dsn, plain, mixed, rounds)
    rows = []
    for name, done in runs.items():
        middle, theirs = measure.median(done), statistics.median(server_cpu[name])
        cpu = (f"{1000 * middle.cpu / files:.2f}", f"{1000 * theirs / files:.2f}")
        rows.append((name, f"{middle.wall:.2f}", f"{files / middle.wall:,.0f}", *cpu, f"{middle.memory / 1e6:.0f}"))
    title = f"{files:,} files of {ROWS} rows, medians of {rounds} interleaved runs"
    columns = ("", "seconds", "files a second", "CPU ms a file", "of the server", "MB of memory")
    return measure.Table(title, columns, rows, {name: measure.median(done).wall for name, done in runs.items()})


def _compare(
    place: Path, dsn: str, plain: Expected, mixed: Expected, rounds: int
) -> tuple[dict[str, list[measure.Run]], dict[str, list[float]]]:
    cursor = load.connected(dsn)
    cursor.execute("alter role current_user set search_path = public")
    folder, raw = place / "files" / "plain", place / ".lake" / "raw"
    landed = (path.relative_to(place / "mixed") for path in (place / "mixed").rglob("*.csv"))
    keys = [f"raw/{path}" for path in sorted(landed, key=lambda path: path.name)]
    columns = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
    commands = {
        "lakectl upload": [*load.LAKECTL, "upload", str(folder)],
        "lakectl run-local": [*load.LAKECTL, "run-local"],
        "lakectl run-local, mixed": [*load.LAKECTL, "run-local", *keys],
        "psql": [load.psql(), dsn, "-qX", "-1", "-c", f"create table psql ({columns})", "-f", str(place / "copy.sql")],
        "duckdb": load.TABLE.contenders["duckdb"].command(load.Bench(place, folder / "*.csv", dsn)),
    }
    if load.TABLE.contenders["duckdb"].missing:
        del commands["duckdb"]
    tables = {"psql": ["psql"], "duckdb": ["duckdb"], "lakectl run-local, mixed": [f"mixed_{i}" for i in range(3)]}
    seconds: dict[str, list[float]] = {}

    def once(name: str) -> measure.Run:
        load.reset(cursor)
        if name == "lakectl upload":
            shutil.rmtree(raw, ignore_errors=True)
        if name.endswith("mixed"):
            measure.run([*load.LAKECTL, "upload", "--no-wait", str(place / "mixed")], cwd=place)
        before = _cpu(place)
        run = measure.run(commands[name], cwd=place, code=6 if name.endswith("mixed") else 0)
        time.sleep(0.2)  # until its connection has ended
        seconds.setdefault(name, []).append(_cpu(place) - before)
        expected = mixed if name.endswith("mixed") else plain
        everything = " union all ".join(f"select id from {table}" for table in tables.get(name, ["plain"]))
        cursor.execute(f"select count(*), sum(id) from ({everything}) t")
        assert cursor.fetchone() == (expected.rows, expected.ids), name
        if name.startswith("lakectl"):
            cursor.execute("select count(*), sum(rows) from lake.runs where state = 'loaded'")
            assert cursor.fetchone() == (expected.files, expected.rows), name
            cursor.execute("select count(*) from lake.objects where state = 'loaded'")
            assert cursor.fetchone() == (expected.files,), name
        return run

    return measure.interleaved(commands, rounds, once), seconds


def _cpu(place: Path) -> float:
    """CPU seconds that the server's processes have used so far, those that have ended as well."""
    server = psutil.Process(int(next(place.rglob("postmaster.pid")).read_text().split()[0]))
    used = [server.cpu_times(), *(child.cpu_times() for child in server.children())]
    ended = used[0].children_user + used[0].children_system
    return float(sum(one.user + one.system for one in used) + ended)
