"""``python -m lakectl`` and the ``lakectl`` command."""

from __future__ import annotations

import os
import sys

# The threads that OpenBLAS starts with NumPy would spin while they wait for work: 60 ms of CPU at every start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def main() -> int:
    """Run the command line of this process; returns its exit code."""
    from lakectl.cli.app import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
