"""cfn-lint finds nothing and checkov fails nothing, on every kind of rendered template (``make infra-check``).

Both take half a minute and a hundred packages, so they live in an environment of their own (``.venv-infra``, or
``LAKE_LINTERS=DIR/bin``), and what they have passed once is remembered by its digest until a template changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lakectl.deploy import render

from .lakes import variants

ROOT = Path(__file__).parents[3]
LINTERS = Path(os.environ.get("LAKE_LINTERS") or ROOT / ".venv-infra" / "bin")

pytestmark = pytest.mark.skipif(not (LINTERS / "checkov").exists(), reason="no linters here; make infra-check")


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every variant's two templates as files."""
    folder = tmp_path_factory.mktemp("templates")
    for name, settings in variants().items():
        rendered = render.render(settings)
        (folder / f"{name}-bootstrap.yaml").write_text(rendered.bootstrap, encoding="utf-8")
        (folder / f"{name}-pipeline.yaml").write_text(rendered.pipeline, encoding="utf-8")
    return folder


def digest(templates: Path) -> str:
    found = hashlib.sha256(str(LINTERS.resolve()).encode())
    for file in sorted(templates.iterdir()):
        found.update(file.name.encode() + file.read_bytes())
    return found.hexdigest()


def passed_before(config: pytest.Config, linter: str, templates: Path) -> bool:
    """Whether these very templates have passed; said, so that nobody takes it for a run."""
    cache = getattr(config, "cache", None)
    passed = cache is not None and cache.get(f"lakectl/{linter}", None) == digest(templates)
    if passed:
        print(f"\n{linter}: unchanged since it passed")
    return passed


def remember(config: pytest.Config, linter: str, templates: Path) -> None:
    cache = getattr(config, "cache", None)
    if cache is not None:
        cache.set(f"lakectl/{linter}", digest(templates))


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_cfn_lint_has_no_findings(templates: Path, pytestconfig: pytest.Config) -> None:
    if passed_before(pytestconfig, "cfn-lint", templates):
        return
    done = run(
        LINTERS / "cfn-lint", "--include-checks", "I", "--ignore-checks", "I3042", "--", *sorted(templates.iterdir())
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    print(f"\ncfn-lint: {len(list(templates.iterdir()))} templates of {len(variants())} lakes, 0 findings")
    remember(pytestconfig, "cfn-lint", templates)


def test_checkov_fails_nothing_and_skips_only_what_has_a_reason(templates: Path, pytestconfig: pytest.Config) -> None:
    if passed_before(pytestconfig, "checkov", templates):
        return
    done = run(
        *(LINTERS / "checkov", "--directory", templates, "--framework", "cloudformation"),
        *("--output", "json", "--skip-download"),
    )
    report: dict[str, Any] = json.loads(done.stdout)
    results = report["results"]
    assert [(c["check_id"], c["resource"], c["file_path"]) for c in results["failed_checks"]] == []
    assert results["parsing_errors"] == []
    assert all(check["check_result"].get("suppress_comment") for check in results["skipped_checks"])
    summary = report["summary"]
    assert summary["passed"] > 40 * len(variants())
    reasons = {(check["check_id"], check["check_result"]["suppress_comment"]) for check in results["skipped_checks"]}
    print(
        f"\ncheckov {summary['checkov_version']}: {summary['passed']} passed, {summary['failed']} failed,"
        f" {summary['skipped']} skipped for {len(reasons)} reasons that the templates give"
    )
    remember(pytestconfig, "checkov", templates)
