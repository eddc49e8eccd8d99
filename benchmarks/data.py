"""Data for the benchmarks: seeded, made in pieces, so that a gigabyte costs no memory."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

SEED = 20_240_501
ROWS = 50_000
"""Rows made at a time."""

_WORDS = np.array(["alpha", "beta gamma", "with, comma", 'with "quote"', ""])


def piece(number: int) -> pa.Table:
    """The rows of one piece: a key, a timestamp, six integers, six floats, six texts with nulls."""
    rng = np.random.default_rng(SEED + number)
    start = np.datetime64("2024-01-01T00:00:00")
    columns: dict[str, object] = {
        "id": np.arange(number * ROWS, (number + 1) * ROWS),
        "at": start + rng.integers(0, 10**7, ROWS).astype("timedelta64[s]"),
    }
    columns |= {f"i{k}": rng.integers(0, 10 ** (k + 1), ROWS) for k in range(6)}
    columns |= {f"f{k}": (rng.random(ROWS) * 10**k).round(6) for k in range(6)}
    columns |= {f"s{k}": _WORDS[rng.integers(0, len(_WORDS), ROWS)] for k in range(6)}
    return pa.table(columns)


def write_csv(path: Path, megabytes: int) -> int:
    """A CSV of about so many megabytes (10^6 bytes); its rows."""
    written = number = 0
    with path.open("wb") as out:
        while written < megabytes * 1_000_000:
            sink = pa.BufferOutputStream()
            pyarrow.csv.write_csv(piece(number), sink, pyarrow.csv.WriteOptions(include_header=number == 0))
            written += out.write(sink.getvalue())
            number += 1
    return number * ROWS


if __name__ == "__main__":
    print(write_csv(Path(sys.argv[1]), int(sys.argv[2])))
