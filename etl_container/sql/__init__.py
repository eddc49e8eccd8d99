"""SQL where SQL is read: the ledger's schema, its migrations and the named queries.

A named query begins with ``-- name: what_it_is`` and one line of description; ``query("what_it_is")`` is its text.
"""

from __future__ import annotations

import functools
import re
from importlib import resources


def text(name: str) -> str:
    """A file of this folder."""
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


@functools.cache
def _queries() -> dict[str, str]:
    parts = re.split(r"^-- name: (\w+)\n", text("queries.sql"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], (body.strip() for body in parts[2::2]), strict=True))


def query(name: str) -> str:
    """One of ``queries.sql`` by its name."""
    return _queries()[name]


def migrations() -> list[tuple[int, str]]:
    """``(number, SQL)`` of every migration, in order."""
    folder = resources.files(__name__).joinpath("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(int(name[:3]), folder.joinpath(name).read_text(encoding="utf-8")) for name in names]
