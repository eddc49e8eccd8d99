"""Whole processes, measured by the operating system: wall seconds, CPU seconds, peak memory. And tables of them."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SEED = 20_240_501
"""Of all data that is made."""


@dataclass(frozen=True, slots=True)
class Run:
    """One finished process."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds, user and system."""
    memory: int
    """Peak resident bytes of the process itself."""


@dataclass(frozen=True, slots=True)
class Table:
    """What a harness found."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    bars: dict[str, float]
    """What its plot shows: seconds by name; empty for none."""

    def text(self) -> str:
        """For a terminal."""
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = []
        for first, *others in [self.columns, *self.rows]:
            cells = [cell.rjust(size) for cell, size in zip(others, widths[1:], strict=True)]
            lines.append("  ".join([first.ljust(widths[0]), *cells]))
        return "\n  ".join([self.title, *lines])

    def markdown(self) -> str:
        """For the documentation."""
        lines = [self.columns, ("---", *["---:"] * (len(self.columns) - 1)), *self.rows]
        return "\n".join([f"**{self.title}**", "", *(f"| {' | '.join(line)} |" for line in lines)])


def generate(kind: str, path: Path, *, rows: int | None = None, megabytes: int | None = None) -> int:
    """A file of ``benchmarks.data``, made in a process of its own; its rows.

    A child's peak memory is never less than what its parent has when it is born, so this process stays small.
    """
    size = ["--rows", str(rows)] if rows is not None else ["--megabytes", str(megabytes)]
    command = [sys.executable, "-m", "benchmarks.data", kind, str(path), *size]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def run(command: Sequence[str], *, cwd: Path, environment: Mapping[str, str] | None = None, code: int = 0) -> Run:
    """Run one command to its end; an exit code other than ``code`` raises.

    Python runs from compiled modules, as an installed package does, whatever this process was told.
    """
    all_of_it = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=cwd, env={**all_of_it, **(environment or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != code:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {said.decode(errors='replace')[-500:]}")
    return Run(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def median(runs: Sequence[Run]) -> Run:
    """The median of each figure."""
    return Run(
        statistics.median(one.wall for one in runs),
        statistics.median(one.cpu for one in runs),
        int(statistics.median(one.memory for one in runs)),
    )


def ratio(ours: Sequence[Run], theirs: Sequence[Run]) -> float:
    """The median of the ratios of wall seconds, pair by pair, which holds when the machine's speed drifts."""
    return statistics.median(a.wall / b.wall for a, b in zip(ours, theirs, strict=True))


def interleaved(names: Iterable[str], rounds: int, once: Callable[[str], Run]) -> dict[str, list[Run]]:
    """Each of the names in turn, round after round."""
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, done in runs.items():
            done.append(once(name))
    return runs


def compared(title: str, runs: Mapping[str, Sequence[Run]], baselines: Sequence[str]) -> Table:
    """Medians, and each one's time as a multiple of that of each baseline."""
    rows = []
    for name, done in runs.items():
        middle = median(done)
        ratios = (f"{ratio(done, runs[baseline]):.2f}" for baseline in baselines)
        rows.append((name, f"{middle.wall:.2f}", f"{middle.cpu:.2f}", f"{middle.memory / 1e6:.0f}", *ratios))
    columns = ("", "seconds", "CPU seconds", "MB of memory", *(f"x {baseline}" for baseline in baselines))
    return Table(title, columns, rows, {name: median(done).wall for name, done in runs.items()})
