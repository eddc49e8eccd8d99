"""The performance harness measures what it says: seeded data, whole commands, and only tools whose tables are right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import data, load, measure, report


@pytest.mark.parametrize("kind", list(data.KINDS))
def test_equal_orders_make_equal_files_of_as_many_rows(kind: str, tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    rows = data.KINDS[kind][1] + 7
    assert [data.write(kind, file, rows=rows) for file in files] == [rows, rows]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes().count(b"\n") == rows + (kind != "nested")


@pytest.mark.parametrize(
    ("order", "tools"),
    [("load", ["lakectl", "psql", "lakectl-parquet", "duckdb"]), ("nested", ["lakectl", "lakectl-flatten", "dlt"])],
)
def test_a_comparison_tells_each_tools_figures_and_what_is_left_out(order: str, tools: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LAKE_BENCH_PEERS"}
    command = [sys.executable, "-m", "benchmarks", order, "--megabytes", "1", "--rounds", "1", "--tools", *tools]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == tools[:-1]
    assert f"left out: {tools[-1]}, since" in done.stderr


def test_a_tool_that_loads_other_values_is_no_competitor() -> None:
    load._check({"lakectl": (2, 3.0), "other": (2, 3.0)}, "other", 2)
    for wrong in ((2, 3.1), (1, 3.0)):
        with pytest.raises(AssertionError):
            load._check({"lakectl": (2, 3.0), "other": wrong}, "other", 2)


def test_ratios_are_those_of_runs_beside_each_other() -> None:
    ours = [measure.Run(wall, 1.0, 10**6) for wall in (1.0, 2.0, 9.0)]
    theirs = [measure.Run(wall, 1.0, 10**6) for wall in (2.0, 4.0, 4.5)]
    table = measure.compared("t", {"ours": ours, "theirs": theirs}, ["theirs"])
    assert table.rows[0] == ("ours", "2.00", "1.00", "1", "0.50")


def test_the_page_has_every_table_also_without_a_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PAGE", tmp_path / "page.md")
    monkeypatch.setenv("LAKE_BENCH_PEERS", str(tmp_path))
    report.write([measure.Table("one", ("", "seconds"), [("lakectl", "1.00")], {"lakectl": 1.0})])
    text = (tmp_path / "page.md").read_text()
    assert "| lakectl | 1.00 |" in text
    assert "svg" not in text
