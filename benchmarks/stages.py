"""What each stage of a load costs the client: detect, parse, cast, transform, encode, on one CSV, without a database.

CPU seconds of this process (all its threads) per 100 MB, each stage on what the one before has made of the same few
blocks. What a stage costs does not depend on how fast the disk or the server is.
"""

from __future__ import annotations

import contextlib
import gc
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.measure import generate

TRANSFORM = "def transform(df):\n    df['double'] = df['i5'] * 2\n    return df[df['i3'] >= 0]\n"


def main(megabytes: int, rounds: int) -> None:
    """Measure and print a table."""
    with tempfile.TemporaryDirectory(prefix="lakectl-bench-") as name:
        file = Path(name) / "bench.csv"
        generate("table", file, megabytes=megabytes)
        size = file.stat().st_size / 1e8
        print(f"{size * 100:,.0f} MB CSV, CPU seconds per 100 MB, least of {rounds} runs")
        for stage, seconds in measure(file, Path(name), rounds).items():
            print(f"  {stage:10s}{seconds / size:7.3f}")


def measure(file: Path, directory: Path, rounds: int) -> dict[str, float]:
    """CPU seconds of each stage for the whole file."""
    from etl_container import transform, warehouse
    from etl_container.arrays import numbered
    from etl_container.datasets import Dataset
    from etl_container.formats.base import ReadOptions, Source, expect
    from etl_container.formats.delimited import open_delimited
    from etl_container.infer import Inference
    from etl_container.rejects import RejectSpool
    from etl_container.shaping import OutputTypes, Shaper

    source = Source(file.name, file.stat().st_size, lambda: file.open("rb", buffering=0), str(file))
    (directory / "bench.py").write_text(TRANSFORM)
    best: dict[str, float] = {}

    def timed(stage: str, act: Callable[[], Any]) -> Any:
        gc.collect()
        started = time.process_time()
        done = act()
        seconds = time.process_time() - started
        best[stage] = min(best.get(stage, seconds), seconds)
        return done

    def once() -> None:
        with contextlib.closing(RejectSpool()) as rejects:
            reader = timed("detect", lambda: open_delimited(source, ReadOptions(), rejects))
            stream = reader.batches()
            first = next(stream)
            inference = Inference(ReadOptions())
            timed("observe", lambda: inference.observe(first))
            expect(reader, inference.expected(inference.targets))
            batches = [first, *timed("parse", lambda: list(stream))]
            shaper = Shaper(
                Dataset("bench", "bench"), inference, reader.labels, None, OutputTypes({}, {}, {}), directory, rejects
            )
            shaper.plan(None)
            shaped = timed("cast", lambda: [one.data for batch in batches for one in shaper.shape(batch)])
            user = transform.load(directory, "bench")
            assert user is not None
            timed("transform", lambda: _drain(user.apply(batch, numbered(0, batch.num_rows)) for batch in shaped))
            timed("encode", lambda: _drain(warehouse.encoded(shaped, shaper.types, ("_lake_run", 1))))

    for _ in range(rounds):
        once()
    return best


def _drain(items: Iterable[Any]) -> None:
    for _ in items:
        pass


__all__ = ["main", "measure"]
