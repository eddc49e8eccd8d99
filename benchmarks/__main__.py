"""``make bench``: every harness with its usual sizes. ``python -m benchmarks load --megabytes 1000`` runs one."""

from __future__ import annotations

import argparse

from benchmarks import cat, corpus, load, stages


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "what", nargs="?", choices=["load", "cat", "corpus", "stages"], help="one harness; all of them when left out"
    )
    parser.add_argument("--megabytes", type=int, nargs="*", default=[30, 100], help="sizes of the file, in 10^6 bytes")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved runs of each command")
    parser.add_argument("--directory", action="append", default=[], help="corpus: walk this one, not what is fetched")
    parser.add_argument("--messages", metavar="FILE", help="corpus: write every message there")
    parser.add_argument(
        "--tools", nargs="*", default=list(load.USUAL), choices=list(load.CONTENDERS), help="load: which"
    )
    chosen = parser.parse_args()
    if chosen.what == "corpus":
        corpus.main(chosen.directory, chosen.messages)
        return
    for megabytes in chosen.megabytes:
        if chosen.what in {"load", None}:
            load.main(megabytes, chosen.rounds, chosen.tools)
        if chosen.what in {"cat", None}:
            cat.main(megabytes, chosen.rounds)
        if chosen.what in {"stages", None}:
            stages.main(megabytes, chosen.rounds)


if __name__ == "__main__":
    main()
