"""A clean CSV read and written again: ``lakectl cat`` against plain Arrow (``read_csv`` and ``write_csv``).

Whole processes in turn, start-up included. Arrow is told nothing and finds nothing out: it takes the file for UTF-8
with commas. It is run in three ways: as its documentation has it (types inferred, the whole table in memory, all
cores), the same with every column text, and as a stream of text batches on one core. What detection costs is measured
within this process: opening the reader against reading all its batches, and against the whole command.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from benchmarks import measure

_COLUMNS = "names = open(sys.argv[1]).readline().strip().replace('\"', '').split(',');"
_AS_TEXT = "pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))"
_IMPORT = "import sys; import pyarrow as pa; import pyarrow.csv as pa_csv;"
PEERS = {
    "Arrow, types inferred": f"{_IMPORT} pa_csv.write_csv(pa_csv.read_csv(sys.argv[1]), sys.argv[2])",
    "Arrow, all text": (
        f"{_IMPORT} {_COLUMNS} pa_csv.write_csv(pa_csv.read_csv(sys.argv[1], convert_options={_AS_TEXT}), sys.argv[2])"
    ),
    "Arrow, text stream": (
        f"{_IMPORT} {_COLUMNS} r = pa_csv.open_csv(sys.argv[1], convert_options={_AS_TEXT});"
        "w = pa_csv.CSVWriter(sys.argv[2], r.schema); [w.write_batch(b) for b in r]; w.close()"
    ),
}
LAKECTL = [sys.executable, "-m", "lakectl"]


def main(megabytes: int, rounds: int) -> None:
    """Measure one size and print a table."""
    with tempfile.TemporaryDirectory(prefix="lakectl-bench-") as name:
        place = Path(name)
        file = place / "bench.csv"
        rows = measure.generate("table", file, megabytes=megabytes)
        commands = {"lakectl cat": [*LAKECTL, "cat", "bench.csv", "--output", "ours.csv"]}
        commands |= {
            peer: [sys.executable, "-c", code, "bench.csv", f"peer{number}.csv"]
            for number, (peer, code) in enumerate(PEERS.items())
        }
        runs: dict[str, list[measure.Run]] = {name: [] for name in commands}
        for _ in range(rounds):
            for what, command in commands.items():
                runs[what].append(measure.run(command, cwd=place))
        _compare(place, rows)
        print(f"{file.stat().st_size / 1e6:,.0f} MB CSV, {rows:,} rows, medians of {rounds} interleaved runs")
        for what, done in runs.items():
            middle = measure.median(done)
            ratio = measure.ratio(runs["lakectl cat"], done)
            cpu = f"{middle.wall:6.2f} s   {middle.cpu:6.2f} s CPU   {middle.memory / 1e6:5.0f} MB"
            print(f"  {what:22s}{cpu}   cat takes {ratio:4.2f} of its time")
        opening, reading = _detection(file, rounds)
        whole = measure.median(runs["lakectl cat"]).cpu
        print(
            f"  detection {opening * 1e3:.0f} ms CPU: {opening / reading:.1%} of reading ({reading * 1e3:.0f} ms), "
            f"{opening / whole:.1%} of the command"
        )


def _compare(place: Path, rows: int) -> None:
    """All wrote the same values."""
    import pyarrow.csv as pa_csv

    ours, peer = (pa_csv.read_csv(place / file) for file in ("ours.csv", "peer0.csv"))
    assert ours.num_rows == rows
    assert ours.equals(peer)


def _detection(file: Path, rounds: int) -> tuple[float, float]:
    """CPU seconds of finding out how the file is written, and of reading all of it; medians."""
    from etl_container.formats.base import ReadOptions, Source
    from etl_container.formats.delimited import open_delimited
    from etl_container.rejects import RejectSpool

    source = Source(file.name, file.stat().st_size, lambda: file.open("rb"), str(file))
    opening, reading = [], []
    for _ in range(rounds + 1):
        started = time.process_time()
        reader = open_delimited(source, ReadOptions(), RejectSpool())
        opened = time.process_time()
        for _batch in reader.batches():
            pass
        opening.append(opened - started)
        reading.append(time.process_time() - started)
    # The first round pays for imports.
    return sorted(opening[1:])[rounds // 2], sorted(reading[1:])[rounds // 2]
