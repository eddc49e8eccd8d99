"""``python -m lakectl`` and the ``lakectl`` command."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process; returns its exit code."""
    from lakectl.cli.app import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
