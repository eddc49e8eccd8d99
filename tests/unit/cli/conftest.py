"""A target in memory, and a fixture that runs a command line against it as the process would."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from etl_container.datasets import dataset_of_key
from etl_container.report import LoadReport, OnEvent, silent
from etl_container.schema import table_name
from lakectl import targets
from lakectl.cli.app import main
from lakectl.config import Lake
from lakectl.errors import DataError, NotFoundError, PermissionDeniedError, UsageError
from lakectl.targets.base import (
    Check,
    ColumnInfo,
    Explanation,
    Landed,
    ObjectInfo,
    QueryColumn,
    RejectInfo,
    RetryReport,
    RunInfo,
    StatusReport,
    TableInfo,
    UndoReport,
)
from tests.outcome import Outcome

WHEN = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


class FakeResult:
    def __init__(self, columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[Any]], status: str = "") -> None:
        self.columns = tuple(QueryColumn(*column) for column in columns)
        self._rows = rows
        self.status = status
        self.closed = False

    def csv_copier(self, *, header: bool, limit: int | None = None) -> None:
        return None

    def rows(self) -> Iterator[Sequence[Any]]:
        return iter(self._rows)

    def __enter__(self) -> FakeResult:
        return self

    def __exit__(self, *exc: object) -> None:
        self.closed = True


class FakeTarget:
    """Remembers what it was asked; a file whose text contains ``broken`` fails to load."""

    stage = "local"

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.contents: dict[str, bytes] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.closed = 0
        self.results: list[FakeResult] = []
        self.objects_found = [ObjectInfo("raw/a/a.csv", "1", "a", "loaded", 2, 1, 12, "text/csv", "7", WHEN)]
        self.interrupt = False

    landers = 1

    def land(self, path: str | None, key: str, *, on_event: OnEvent = silent) -> Landed:
        if path is None:
            content = sys.stdin.buffer.read()
        else:
            try:
                content = Path(path).read_bytes()
            except FileNotFoundError:
                raise NotFoundError(f"there is no file {path}") from None
            except PermissionError:
                raise PermissionDeniedError(f"{path} may not be read") from None
        if not content:
            raise DataError(f"{path} is empty", hint="fill it")
        self.contents[key] = content
        return Landed(key, "1", len(content), created=True)

    def load(self, objects: Sequence[tuple[str, str | None]], *, on_event: OnEvent = silent) -> Iterator[LoadReport]:
        self.asked.append(("load", list(objects)))
        if self.interrupt:
            raise KeyboardInterrupt
        for key, version in objects:
            dataset = dataset_of_key(key)
            content = self.contents.get(key, b"")
            if b"broken" in content:
                yield LoadReport(
                    key, version or "1", dataset, table_name(dataset), "failed", run="9", error="no table", exit_code=6
                )
            elif b"unreachable" in content:
                yield LoadReport(
                    key, version or "1", dataset, table_name(dataset), "failed", error="no connection", exit_code=7
                )
            else:
                yield LoadReport(
                    key,
                    version or "1",
                    dataset,
                    table_name(dataset),
                    "loaded",
                    rows=content.count(b"\n") - 1,
                    seconds=0.25,
                    run="8",
                    changes=("add column [red]b[/red] text",),
                    notes=("short rows padded: line 3",),
                )

    def reload(self, objects: Sequence[tuple[str, str | None]], *, on_event: OnEvent = silent) -> Iterator[LoadReport]:
        self.asked.append(("reload", list(objects)))
        yield from self.load(objects)

    raw_zone = "raw"

    def load_here(
        self,
        objects: Sequence[tuple[str, str | None]],
        warehouse: str | None,
        *,
        container: bool = False,
        on_event: OnEvent = silent,
    ) -> Iterator[LoadReport]:
        self.asked.append(("elsewhere", warehouse))
        yield from self.load(objects)

    def rehearse(self, path: str | None, key: str) -> LoadReport:
        self.asked.append(("rehearse", path, key))
        return LoadReport(key, "", dataset_of_key(key), table_name(dataset_of_key(key)), "loaded", rows=2)

    def missing(self, *, dataset: str | None = None) -> list[tuple[str, str]]:
        return [("raw/late/late.csv", "1")]

    def select(
        self, *, keys: Sequence[str], dataset: str | None, failed: bool, everything: bool
    ) -> list[tuple[str, str]]:
        self.asked.append(("select", list(keys), dataset, failed, everything))
        return [(key, "1") for key in keys] or [("raw/late/late.csv", "1")]

    def query(
        self, sql: str, parameters: dict[str, str], *, write: bool = False, limit: int | None = None
    ) -> FakeResult:
        self.asked.append(("query", sql, parameters, write, limit))
        return self._result()

    def query_raw(self, sql: str, parameters: dict[str, str]) -> FakeResult:
        self.asked.append(("query_raw", sql, parameters))
        return self._result()

    def _result(self) -> FakeResult:
        if not self.results:
            raise UsageError("relation does not exist")
        return self.results[-1]

    def names(self) -> list[str]:
        return ["flights", "origin"]

    def tables(self) -> list[TableInfo]:
        columns = (ColumnInfo("n", "bigint", "N"), ColumnInfo("name", "text", "[bold]Name"))
        return [TableInfo("flights", columns, 336776, 65536, "flights", 1, WHEN)]

    def objects(self, *, dataset: str | None = None, limit: int | None = None) -> list[ObjectInfo]:
        self.asked.append(("objects", dataset, limit))
        return self.objects_found

    def runs(self, *, dataset: str | None = None, limit: int | None = None) -> list[RunInfo]:
        return [RunInfo("7", "raw/a/a.csv", "1", "failed", None, None, WHEN, 1.5, "no table", "a", "look", 6)]

    def rejects(self, dataset: str | None = None, *, limit: int | None = None) -> Iterator[RejectInfo]:
        self.asked.append(("rejects", dataset, limit))
        yield RejectInfo(1, "7", "a", "raw/a/a.csv", 3, "n", "x\x1b[31m", "not a number", "x\x1b[31m,y", "open")

    def export_rejects(self, dataset: str | None, path: str) -> int:
        self.asked.append(("export", dataset, path))
        return 37

    def retry_rejects(self, dataset: str | None, path: str | None, *, on_event: OnEvent = silent) -> list[RetryReport]:
        self.asked.append(("retry", dataset, path))
        return [RetryReport(dataset or "a", 36, 1, "8")]

    def explain(self, subject: str) -> Explanation:
        if subject == "nothing":
            raise NotFoundError("there is no run nothing", hint="lakectl runs")
        return Explanation(subject, "It failed because of a comma.", (("line", "3"),), "lakectl rejects")

    def undo(self, run: str, *, on_event: OnEvent = silent) -> UndoReport:
        return UndoReport(run, "a", 2, 1, "0")

    def status(self) -> StatusReport:
        return StatusReport(
            "local", "embedded PostgreSQL", "ready", (("tables", "1"),), {"loaded": 1}, ("mind the gap",)
        )

    def checks(self) -> Iterable[Check]:
        yield Check("embedded PostgreSQL", ok=True, detail="17.0")

    def close(self) -> None:
        self.closed += 1


@dataclass
class CommandLine:
    """Runs command lines; ``target`` is the fake that they met last."""

    capture: Any
    prepare: list[Callable[[FakeTarget], None]] = field(default_factory=list)
    targets: list[FakeTarget] = field(default_factory=list)

    @property
    def target(self) -> FakeTarget:
        return self.targets[-1]

    def __call__(self, *words: str, stdin: bytes | None = None) -> Outcome:
        before = sys.stdin
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin or b""), encoding="utf-8")
        try:
            code = main(list(words))
        finally:
            sys.stdin = before
        captured = self.capture.readouterr()
        return Outcome(code, captured.out, captured.err)

    def answering(self, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]], status: str = "") -> None:
        """The result that the next query gets."""
        self.prepare.append(lambda target: target.results.append(FakeResult(columns, rows, status)))


@pytest.fixture
def lakectl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[CommandLine]:
    line = CommandLine(capsys)

    def open_target(lake: Lake) -> Any:
        if lake.stage != "local":
            return real(lake)
        target = FakeTarget(lake)
        for step in line.prepare:
            step(target)
        line.targets.append(target)
        return target

    real = targets.open_target
    monkeypatch.setattr(targets, "open_target", open_target)
    monkeypatch.chdir(tmp_path)
    for name in ("LAKE_STAGE", "LAKE_WAREHOUSE", "LAKE_DIR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    handler = signal.getsignal(signal.SIGTERM)
    yield line
    signal.signal(signal.SIGTERM, handler)
