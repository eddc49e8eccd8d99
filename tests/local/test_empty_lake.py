"""Looking around in a directory that holds no lake yet makes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl_container.errors import NotFoundError
from lakectl import config
from lakectl.targets.local import LocalTarget


def test_looking_around_creates_no_database(tmp_path: Path) -> None:
    target = LocalTarget(config.load(tmp_path))
    try:
        assert target.tables() == []
        assert target.objects() == []
        assert target.runs() == []
        assert target.missing() == []
        assert list(target.rejects()) == []
        assert target.status().state == "not created yet"
        assert all(check.ok for check in target.checks())
        with pytest.raises(NotFoundError, match="nothing"):
            target.explain("nothing.csv")
    finally:
        target.close()
    assert list(tmp_path.iterdir()) == []
