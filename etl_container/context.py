"""The image's build context: this package as it is installed, and the versions that it is installed with.

An image runs what the machine that built it has tested: the direct dependencies are those that ``pyproject.toml`` gives
the package, the versions are those that are installed here, the indirect ones included. So equal sources make equal
contexts, and a context can be made without a checkout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Final

from etl_container.errors import InfrastructureError

DISTRIBUTION: Final = "lakectl"

NEEDED: Final = (
    *("backports.zstd", "boto3", "chardet", "duckdb", "fastavro", "msgspec", "orjson", "pandas", "pandera", "pgpq"),
    *("psycopg2-binary", "pyarrow", "python-calamine"),
    *("lxml", "pillow", "py3langid", "pypdf", "python-docx", "python-oxmsg", "python-pptx", "striprtf", "tinytag"),
)
"""The dependencies that the data plane imports; the others are the command line's."""

_LEFT_OUT = ("__pycache__", ".pyc", ".DS_Store")


def files() -> dict[str, bytes]:
    """Every file of the context by its path, in order; ``etl_container/Dockerfile`` is among them.

    Raises:
        InfrastructureError: the package is not installed as a distribution, so that its versions are not known.
    """
    package = Path(__file__).parent
    found = {
        f"etl_container/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in package.rglob("*")
        if path.is_file() and not _left_out(path.relative_to(package))
    }
    found["requirements.txt"] = _lines(requirements())
    found["constraints.txt"] = _lines(constraints())
    found[".dockerignore"] = b"**/__pycache__\n**/*.pyc\n"
    return dict(sorted(found.items()))


def write(into: Path) -> Path:
    """Write the context to a directory; returns it."""
    for name, content in files().items():
        target = into / PurePosixPath(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return into


def requirements() -> list[str]:
    """The direct dependencies, each at its installed version, with the marker that ``pyproject.toml`` gives it."""
    markers = {_plain(name): marker for name, marker in _required(DISTRIBUTION)}
    lines = []
    for name in NEEDED:
        version, marker = _version(name), markers.get(_plain(name), "")
        if version is not None:
            lines.append(f"{name}=={version}" + (f"; {marker}" if marker else ""))
    return lines


def constraints() -> list[str]:
    """The version of everything that the requirements may bring along, where it is installed."""
    seen: dict[str, str] = {}
    waiting = list(NEEDED)
    while waiting:
        name = _plain(waiting.pop())
        version = _version(name)
        if name in seen or version is None:
            continue
        seen[name] = version
        waiting += [other for other, marker in _required(name) if "extra ==" not in marker]
    return [f"{name}=={seen[name]}" for name in sorted(seen)]


def _required(distribution: str) -> Iterator[tuple[str, str]]:
    """Name and marker of what a distribution requires."""
    try:
        required = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        if distribution == DISTRIBUTION:
            raise InfrastructureError(
                "the image's requirements are not known: lakectl is not installed", hint="pip install lakectl"
            ) from None
        return
    for line in required:
        name = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)
        if name is not None:
            yield name[0], line.partition(";")[2].strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _plain(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _left_out(path: Path) -> bool:
    return any(part in _LEFT_OUT or part.endswith(_LEFT_OUT) for part in path.parts)


def _lines(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
