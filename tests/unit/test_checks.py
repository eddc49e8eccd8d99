from __future__ import annotations

import sys
from pathlib import Path

from lakectl import checks


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_another_lakectl_before_ours_is_told_with_the_fix(tmp_path):
    other, ours = program(tmp_path / "other/lakectl"), program(tmp_path / "ours/lakectl")
    check = checks.shadow_check(f"{other.parent}:{ours.parent}", ours)
    assert not check.ok
    assert str(other) in check.detail
    assert check.fix == f"export PATH={Path(sys.executable).parent}:$PATH"
    assert checks.shadow_check(f"{ours.parent}:{other.parent}", ours).ok


def test_a_link_to_our_own_program_is_ours(tmp_path):
    ours = program(tmp_path / "ours/lakectl")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/lakectl").symlink_to(ours)
    assert checks.shadow_check(str(tmp_path / "bin"), ours).ok
