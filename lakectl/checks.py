"""Doctor's checks that hold for every stage; the target brings its own. Ordered: what others rest on comes first."""

from __future__ import annotations

import difflib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from lakectl.config import SETTINGS, Lake
from lakectl.errors import LakectlError
from lakectl.targets.base import Check, Target

OLDEST_PYTHON = (3, 11)


def all_checks(load: Callable[[], Lake], open_target: Callable[[Lake], Target]) -> Iterator[Check]:
    """Each check made when asked for; a lake that cannot be read ends them."""
    yield python_check()
    yield shadow_check(os.environ.get("PATH", ""), Path(sys.argv[0]))
    yield variables_check(dict(os.environ))
    try:
        lake = load()
    except LakectlError as error:
        yield Check("settings", ok=False, detail=error.message, fix=error.hint)
        return
    named = f"{lake.file}" if lake.file else f"no lake.toml; the defaults hold in {lake.root}"
    yield Check("settings", ok=True, detail=named)
    try:
        target = open_target(lake)
    except LakectlError as error:
        yield Check("stage", ok=False, detail=error.message, fix=error.hint)
        return
    try:
        yield from target.checks()
    finally:
        target.close()


def python_check() -> Check:
    """The interpreter is new enough."""
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= OLDEST_PYTHON
    return Check("python", ok, f"{version} at {sys.executable}", None if ok else "install Python 3.11 or newer")


def shadow_check(search_path: str, running: Path) -> Check:
    """No other ``lakectl`` comes first on PATH: lakeFS has a command of that name, too."""
    ours = {Path(sys.executable).parent / "lakectl", running.absolute()}
    first = shutil.which("lakectl", path=search_path)
    if first is None:
        return Check("command", ok=True, detail="lakectl is not on PATH; python -m lakectl works")
    if any(_same(Path(first), mine) for mine in ours):
        return Check("command", ok=True, detail=first)
    return Check(
        "command",
        ok=False,
        detail=f"{first} comes first on PATH and is not this program (lakeFS has a lakectl, too)",
        fix=f"export PATH={Path(sys.executable).parent}:$PATH",
    )


def variables_check(environment: dict[str, str]) -> Check:
    """No ``LAKE_…`` variable is misspelt."""
    known = sorted({name for spec in SETTINGS for name in spec.environment if name.startswith("LAKE_")})
    strange = sorted(name for name in environment if name.startswith("LAKE_") and name not in known)
    if not strange:
        return Check("environment", ok=True, detail="every LAKE_… variable is known")
    near = difflib.get_close_matches(strange[0], known, 1)
    return Check(
        "environment",
        ok=False,
        detail=f"{', '.join(strange)}: not read by lakectl",
        fix=f"did you mean {near[0]}?" if near else f"unset {strange[0]}; known are {', '.join(known)}",
    )


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
