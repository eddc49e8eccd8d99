"""Exporting a table: ``lakectl query --output`` against ``psql \\copy … to``, whole commands in turn.

The CSV files must be the same byte for byte, the Parquet file must have the same rows.
"""

from __future__ import annotations

import filecmp
import subprocess
import sys

from benchmarks import measure
from benchmarks.load import LAKECTL, connected, lake, psql
from lakectl.targets.embedded_postgres import EmbeddedPostgres

_COUNT = "import sys, pyarrow.parquet as p; print(p.ParquetFile(sys.argv[1]).metadata.num_rows)"
_QUERY = "select * from plain"


def main(megabytes: int, rounds: int) -> measure.Table:
    """Measure the export of a table made of a CSV of so many megabytes."""
    with lake() as place:
        file = place / "bench.csv"
        rows = measure.generate("table", file, megabytes=megabytes)
        measure.run([*LAKECTL, "upload", "--dataset", "plain", str(file)], cwd=place)
        file.unlink()
        with EmbeddedPostgres(place / ".lake" / "postgres") as server:
            connected(server.dsn).execute("vacuum analyze plain")
            written = {"psql": "psql.csv", "lakectl": "lakectl.csv", "lakectl-parquet": "lakectl.parquet"}
            copied = f"\\copy ({_QUERY}) to '{place / 'psql.csv'}' with (format csv, header)"

            def once(name: str) -> measure.Run:
                (place / written[name]).unlink(missing_ok=True)
                ours = [*LAKECTL, "query", _QUERY, "--output", written[name]]
                return measure.run([psql(), server.dsn, "-qX", "-c", copied] if name == "psql" else ours, cwd=place)

            runs = measure.interleaved(written, rounds, once)
            assert filecmp.cmp(place / "psql.csv", place / "lakectl.csv", shallow=False)
            # Elsewhere: the memory that this process has, its later children seem to have, too.
            count = [sys.executable, "-c", _COUNT, str(place / "lakectl.parquet")]
            assert int(subprocess.run(count, check=True, stdout=subprocess.PIPE).stdout) == rows
        size = (place / "psql.csv").stat().st_size / 1e6
    title = f"Export of {rows:,} rows ({size:,.0f} MB as CSV), medians of {rounds} interleaved runs"
    return measure.compared(title, runs, ["psql"])
