from __future__ import annotations

from pathlib import Path

from lakectl.cli import reference
from lakectl.cli.app import COMMANDS
from lakectl.config import SETTINGS

DOCS = Path(__file__).parents[3] / "docs" / "reference"


def test_the_reference_pages_say_what_the_code_says():
    assert reference.stale(DOCS) == []


def test_a_changed_or_missing_page_is_stale(tmp_path):
    assert reference.main([str(tmp_path)]) == 0
    assert reference.main(["--check", str(tmp_path)]) == 0
    (tmp_path / "json.md").write_text("old")
    (tmp_path / "settings.md").unlink()
    assert reference.stale(tmp_path) == ["json.md", "settings.md"]
    assert reference.main(["--check", str(tmp_path)]) == 1


def test_every_command_setting_and_exit_code_has_its_line():
    pages = reference.pages()
    assert all(f"\n## lakectl {name}" in pages["commands.md"] for name in COMMANDS)
    assert all(f"`{variable}`" in pages["environment.md"] for spec in SETTINGS for variable in spec.environment)
    assert all(f"\n| {code} |" in pages["exit-codes.md"] for code in (0, 1, 2, 3, 4, 5, 6, 7, 8, 130))
