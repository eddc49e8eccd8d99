"""``python -m lakectl`` and the ``lakectl`` command."""

from __future__ import annotations

import atexit
import os
import sys

from etl_container import tuning


def main() -> int:
    """Run the command line of this process and leave it; returns the exit code where it cannot leave by itself."""
    tuning.before_imports()
    from lakectl.cli.app import main as run

    code = run()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return code  # the interpreter tells what it could not write
    # Taking every module apart at the end takes the interpreter 40 ms.
    atexit._run_exitfuncs()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
