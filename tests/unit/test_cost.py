"""What a clean file costs, counted in function calls: the same on every machine, however busy.

The fast path works on whole columns, so its calls grow with blocks and columns, not with rows. A change that sends a
clean column value by value, or a block record by record, makes a hundred times as many.
"""

from __future__ import annotations

import contextlib
import cProfile
import pstats
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from etl_container import warehouse
from etl_container.datasets import Dataset
from etl_container.formats.base import ReadOptions, Source
from etl_container.formats.delimited import open_delimited
from etl_container.infer import Inference
from etl_container.rejects import RejectSpool
from etl_container.shaping import OutputTypes, Shaper

ROWS = 100_000


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(5)
    at = np.datetime64("2024-01-01T00:00:00") + np.arange(ROWS).astype("timedelta64[s]")
    words = np.array(["alpha", "with, comma", 'with "quote"', ""])
    table = pa.table(
        {
            "id": np.arange(ROWS),
            "at": at,
            "x": rng.random(ROWS),
            "n": rng.integers(0, 100_000, ROWS),
            "word": words[rng.integers(0, 4, ROWS)],
            "tokens": np.where(rng.random(ROWS) < 0.1, "NA", rng.integers(1, 9, ROWS).astype(str)),
        }
    )
    path = tmp_path_factory.mktemp("cost") / "clean.csv"
    pa_csv.write_csv(table, path, pa_csv.WriteOptions(quoting_style="needed"))
    return path


def calls(act: Callable[[], Any]) -> tuple[Any, int]:
    """What a function gives, and how many calls it made in this thread."""
    profile = cProfile.Profile()
    profile.enable()
    made = act()
    profile.disable()
    return made, int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


def test_a_clean_file_costs_calls_by_the_block_not_by_the_row(file: Path) -> None:
    source = Source(file.name, file.stat().st_size, lambda: file.open("rb", buffering=0), str(file))
    with contextlib.closing(RejectSpool()) as rejects:
        reader = open_delimited(source, ReadOptions(), rejects)
        batches, parse = calls(lambda: list(reader.batches()))
        inference = Inference(ReadOptions())
        _, observe = calls(lambda: [inference.observe(batch) for batch in batches])
        shaper = Shaper(Dataset("t", "t"), inference, reader.labels, None, OutputTypes({}, {}, {}), None, rejects)
        shaper.plan(None)
        shaped, cast = calls(lambda: [one.data for batch in batches for one in shaper.shape(batch)])
        data, encode = calls(lambda: b"".join(warehouse.encoded(shaped, shaper.types, ("_lake_run", 1))))
        assert sum(batch.num_rows for batch in shaped) == ROWS
        assert len(rejects) == 0
    assert len(batches) <= 5
    assert len(data) > file.stat().st_size
    per_block = {
        name: count / len(batches)
        for name, count in {"parse": parse, "observe": observe, "cast": cast, "encode": encode}.items()
    }
    limits = {"parse": 1000, "observe": 5000, "cast": 2000, "encode": 500}
    assert all(per_block[name] < limit for name, limit in limits.items()), per_block
