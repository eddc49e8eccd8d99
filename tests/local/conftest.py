"""A lake per test: its own directory, its own database in the session's server."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from etl_container.report import LoadReport
from lakectl import config
from lakectl.targets.local import LocalTarget


class Lake:
    """What the tests do with a lake, in a line each."""

    def __init__(self, root: Path, dsn: str) -> None:
        self.root = root
        self.dsn = dsn
        self.target = LocalTarget(dataclasses.replace(config.load(root), warehouse=dsn))

    def configure(self, toml: str) -> None:
        """Write lake.toml and read it."""
        (self.root / "lake.toml").write_text(toml)
        self.target.close()
        self.target = LocalTarget(dataclasses.replace(config.load(self.root), warehouse=self.dsn))

    def transform(self, name: str, code: str) -> None:
        folder = self.root / "transforms"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(code)

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def land(self, name: str, content: str | bytes, dataset: str = "t") -> str:
        key = f"raw/{dataset}/{name}"
        self.target.land(str(self.write(f"files/{name}", content)), key)
        return key

    def upload(self, name: str, content: str | bytes, dataset: str = "t") -> LoadReport:
        """Land and load one file."""
        key = self.land(name, content, dataset)
        (report,) = self.target.load([(key, None)])
        return report

    def sql(self, sql: str) -> list[tuple[Any, ...]]:
        with self.target.query(sql, {}) as result:
            return [tuple(row) for row in result.rows()]

    def value(self, sql: str) -> Any:
        return self.sql(sql)[0][0]

    def types(self, table: str = "t") -> dict[str, str]:
        (info,) = [info for info in self.target.tables() if info.table == table]
        return {column.name: column.type for column in info.columns}

    def states(self, key: str) -> list[str]:
        """The states of the versions of a key, oldest first."""
        found = [info for info in self.target.objects() if info.key == key]
        return [info.state for info in sorted(found, key=lambda info: info.version)]


@pytest.fixture
def lake(tmp_path: Path, warehouse_dsn: str) -> Iterator[Lake]:
    made = Lake(tmp_path, warehouse_dsn)
    yield made
    made.target.close()


def csv_text(header: str, rows: Sequence[str] | Callable[[int], str], count: int = 0) -> str:
    lines = rows if not callable(rows) else [rows(i) for i in range(count)]
    return "\n".join([header, *lines]) + "\n"
