"""How a process is set up before it works."""

from __future__ import annotations

import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
from etl_container import tuning
if sys.argv[1] == "keep":
    tuning.keep_freed_blocks()
def load():
    held = [bytes(size << 20) + b"x" for size in (2, 3, 2, 3)]  # some blocks at once, all of them written
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return before
load()
before = load()
for _ in range(50):
    load()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_freed_blocks_stay_with_the_process() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", _FAULTS, how], check=True, capture_output=True).stdout)
        for how in ("keep", "give back")
    }
    assert faults["keep"] < 100
    assert faults["give back"] > 10_000


def test_what_the_user_has_set_stays() -> None:
    code = "import os; from etl_container.tuning import *; before_imports(); print(os.environ['MIMALLOC_ALLOW_THP'])"
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={"MIMALLOC_ALLOW_THP": "1"}
    )
    assert run.stdout == "1\n"
