"""Loading tables of unusual shape at three sizes: what a megabyte takes, and how much memory, must not grow with them.

``wide`` has 100 columns and up to a million rows, ``long`` 10 columns and up to 50 million rows, ``fat`` one text of
100 KB a row and up to 10,000 rows; all times ``scale``.
"""

from __future__ import annotations

from benchmarks import measure
from benchmarks.load import LAKECTL, connected, lake, reset
from lakectl.targets.embedded_postgres import EmbeddedPostgres

SIZES = {
    "wide": (100_000, 300_000, 1_000_000),
    "long": (5_000_000, 15_000_000, 50_000_000),
    "fat": (1_000, 3_000, 10_000),
}
"""Rows of each kind of file."""


def main(kind: str, scale: float, rounds: int) -> measure.Table:
    """Measure one kind of file at its three sizes."""
    rows = []
    for full in SIZES[kind]:
        count = max(1, int(full * scale))
        with lake() as place:
            file = place / f"{kind}.csv"
            measure.generate(kind, file, rows=count)
            size = file.stat().st_size / 1e6
            measure.run([*LAKECTL, "upload", "--no-wait", str(file)], cwd=place)
            file.unlink()
            with EmbeddedPostgres(place / ".lake" / "postgres") as server:
                cursor = connected(server.dsn)
                runs = []
                for _ in range(rounds):
                    reset(cursor)
                    runs.append(measure.run([*LAKECTL, "run-local", f"raw/{kind}/{kind}.csv"], cwd=place))
                    cursor.execute(f"select count(*), sum(id) from {kind}")
                    assert cursor.fetchone() == (count, count * (count - 1) // 2)
        middle = measure.median(runs)
        took = (f"{middle.wall:.2f}", f"{middle.wall / size * 100:.2f}", f"{middle.cpu / size * 100:.2f}")
        rows.append((f"{count:,}", f"{size:,.0f}", *took, f"{middle.memory / 1e6:.0f}"))
    columns = ("rows", "MB", "seconds", "seconds per 100 MB", "CPU seconds per 100 MB", "MB of memory")
    return measure.Table(f"Growth: {kind}, medians of {rounds} runs", columns, rows, {})
