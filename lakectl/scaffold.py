"""The files that ``lakectl init`` writes. Nothing that exists is touched."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lakectl.errors import UsageError
from lakectl.files import translated

_EXAMPLE = """
# A dataset is a folder of the raw zone and a table. None has to be named here; these are the defaults.
#
# [dataset.trips]
# table = "trips"
# mode = "replace_object"          # or append, merge (needs key), replace_table
# key = ["trip_id"]
# schema_policy = "evolve"         # or freeze, discard
#
# [dataset.trips.read]             # only what detection gets wrong
# delimiter = ";"
# encoding = "windows-1252"
#
# [dataset.trips.contract]
# primary_key = ["trip_id"]
# rejects = "1%"                   # tolerated; beyond it nothing is published
#
# [dataset.trips.contract.columns]
# distance = {type = "double", not_null = true, min = 0}
#
# A file transforms/trips.py with transform(df) or transforms/trips.sql is applied to every batch of trips.
"""
_KEEP = "# transforms/DATASET.py: def transform(df: pandas.DataFrame) -> pandas.DataFrame\n"
_IGNORED = ".lake/\n"


@dataclass(frozen=True, slots=True)
class Answers:
    """What init was told."""

    name: str
    warehouse: str = "embedded"


@dataclass(frozen=True, slots=True)
class Made:
    """What init did."""

    directory: str
    created: tuple[str, ...]
    kept: tuple[str, ...]


def default_name(directory: str) -> str:
    """The name of a lake that is not given one."""
    return Path(directory).resolve().name or "lake"


def create(directory: str, answers: Answers) -> Made:
    """Write the scaffold.

    Raises:
        PermissionDeniedError: the directory may not be written.
        UsageError: it is a file, or the warehouse is not an address.
    """
    root = Path(directory)
    toml = f"name = {json.dumps(answers.name, ensure_ascii=False)}\n"
    if answers.warehouse not in ("", "embedded"):
        if not answers.warehouse.startswith(("postgresql://", "postgres://")):
            raise UsageError(
                f"{answers.warehouse!r} is not a PostgreSQL address", hint="postgresql://user@host/database"
            )
        toml += f"warehouse = {json.dumps(answers.warehouse)}\n"
    files = {"lake.toml": toml + _EXAMPLE, "transforms/.gitkeep": _KEEP, ".gitignore": _IGNORED}
    created: list[str] = []
    kept: list[str] = []
    try:
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with path.open("x", encoding="utf-8") as stream:
                    stream.write(text)
                created.append(name)
            except FileExistsError:
                kept.append(name)
    except OSError as error:
        raise translated(error, str(root)) from None
    return Made(str(root.resolve()), tuple(created), tuple(kept))
