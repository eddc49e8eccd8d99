"""What ``make bench`` found, as docs/benchmarks.md with a plot beside it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.measure import Table

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PLOT = PAGE.with_suffix(".svg")

_PLOT = """
import json, sys
import matplotlib
matplotlib.use("svg")
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lakectl", "font.size": 9})
from matplotlib import pyplot
charts = json.load(sys.stdin)
sizes = [len(chart["bars"]) + 1.5 for chart in charts]
figure, axes = pyplot.subplots(len(charts), figsize=(8, sum(sizes) * 0.32), height_ratios=sizes, squeeze=False)
for axis, chart in zip(axes[:, 0], charts):
    names, seconds = list(chart["bars"]), list(chart["bars"].values())
    bars = axis.barh(names, seconds, color=["#2a6f97" if "lakectl" in name else "#b8c4cc" for name in names])
    axis.bar_label(bars, [f" {one:.2f} s" for one in seconds])
    axis.invert_yaxis()
    axis.set_title(chart["title"], loc="left", fontsize=9, fontweight="bold")
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.xaxis.set_visible(False)
figure.tight_layout()
figure.savefig(sys.argv[1], metadata={"Date": None})
"""


def write(tables: Sequence[Table]) -> None:
    """Write the page, and its plot where matplotlib is in the peers' environment."""
    plotted = _plot([table for table in tables if table.bars])
    parts = [
        "# Benchmarks",
        "Written by `make bench`; [performance.md](performance.md) says what is measured and where the time goes.",
        f"{_machine()}. Whole commands, one after the other in turn; medians; a ratio is the median of the ratios of "
        "runs beside each other. Counts and sums of each tool's table were the same.",
        *([f"![seconds of each tool]({PLOT.name})"] if plotted else []),
        *(table.markdown() for table in tables),
    ]
    PAGE.write_text("\n\n".join(parts) + "\n")
    print(f"written: {PAGE.name}{f', {PLOT.name}' if plotted else ''}", file=sys.stderr)


def _plot(tables: Sequence[Table]) -> bool:
    python = Path(os.environ.get("LAKE_BENCH_PEERS", "/nonexistent")) / "bin" / "python"
    charts = json.dumps([{"title": table.title, "bars": table.bars} for table in tables])
    try:
        subprocess.run([str(python), "-c", _PLOT, str(PLOT)], input=charts, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no plot: {error}", file=sys.stderr)
        return False
    return True


def _machine() -> str:
    """What the figures were found on, and how busy it was."""
    memory, load = psutil.virtual_memory().total / 2**30, os.getloadavg()[2]
    return f"{platform.system()}, {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB, load {load:.1f}"
