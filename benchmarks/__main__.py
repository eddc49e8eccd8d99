"""The performance harness: ``make bench`` runs all of it and writes docs/benchmarks.md with a plot.

``python -m benchmarks load --megabytes 1000 --tools psql lakectl duckdb`` runs one part and only prints.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from benchmarks import cat, corpus, export, files, growth, load, measure, report, stages


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    harnesses = ["all", "load", "flights", "nested", "export", "files", "growth", "cat", "corpus", "stages"]
    parser.add_argument("what", nargs="?", default="all", choices=harnesses, help="one part; else all but the corpus")
    parser.add_argument("--megabytes", type=int, nargs="*", default=[30, 100], help="sizes of the file, in 10^6 bytes")
    parser.add_argument("--files", type=int, nargs="*", default=[1000, 5000], help="files: how many of 20 rows each")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved runs of each command")
    parser.add_argument("--scale", type=float, default=0.1, help="growth: part of the full number of rows")
    parser.add_argument("--shapes", nargs="*", default=list(growth.SIZES), choices=list(growth.SIZES), help="growth")
    parser.add_argument("--directory", action="append", default=[], help="corpus: walk this one, not what is fetched")
    parser.add_argument("--messages", metavar="FILE", help="corpus: write every message there")
    tools = sorted({name for contest in load.CONTESTS.values() for name in contest.contenders})
    parser.add_argument("--tools", nargs="*", default=[], choices=tools, help="load, nested: which; else the usual")
    chosen = parser.parse_args()
    if chosen.what == "corpus":
        corpus.main(chosen.directory, chosen.messages)
        return
    found = []
    for table in _tables(chosen):
        found.append(table)
        print(table.text(), flush=True)
    if chosen.what == "all":
        report.write(found)
    if chosen.what in {"all", "cat", "stages"}:
        for megabytes in chosen.megabytes if chosen.what != "all" else [max(chosen.megabytes)]:
            if chosen.what != "stages":
                cat.main(megabytes, chosen.rounds)
            if chosen.what != "cat":
                stages.main(megabytes, chosen.rounds)


def _tables(chosen: argparse.Namespace) -> Iterator[measure.Table]:
    """One table after the other, as they are measured."""
    everything = chosen.what == "all"
    largest, few = max(chosen.megabytes), max(1, chosen.rounds // 2)
    if everything or chosen.what == "flights":
        yield load.main("flights", 0, chosen.rounds)
    for megabytes in chosen.megabytes:
        if chosen.what == "load" or (everything and megabytes < largest):
            yield load.main("table", megabytes, chosen.rounds, chosen.tools)
        if chosen.what == "nested":
            yield load.main("nested", megabytes, chosen.rounds, chosen.tools)
        if chosen.what == "export":
            yield export.main(megabytes, chosen.rounds)
    if everything:
        yield load.main("table", largest, few, list(load.TABLE.contenders))
        yield load.main("nested", largest, few)
        yield export.main(3 * largest, chosen.rounds)
    if everything or chosen.what == "files":
        for count in chosen.files:
            yield files.main(count, few if everything else chosen.rounds)
    if everything or chosen.what == "growth":
        for shape in chosen.shapes:
            yield growth.main(shape, chosen.scale, 1 if everything else chosen.rounds)


if __name__ == "__main__":
    sys.exit(main())
