"""What travels to the account besides the image: the user's transforms and settings, and the dispatcher's code.

Both are zips named by the SHA-256 of their bytes, made the same way every time: equal content, equal name, nothing to
upload and nothing to deploy.
"""

from __future__ import annotations

import hashlib
import io
import json
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any

from lakectl.config import Lake
from lakectl.errors import ConfigError

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest time that a zip can hold."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A zip and its name in the artifact bucket."""

    key: str
    digest: str
    """SHA-256, hexadecimal; part of the key."""
    content: bytes = field(repr=False)


def bundle(lake: Lake) -> Artifact:
    """The lake's datasets (as JSON), ``transforms/`` and the user's check files.

    Raises:
        ConfigError: a contract names a file outside the lake's directory, or one that is not there.
    """
    tables: Mapping[str, Any] = {}
    if lake.file is not None:
        tables = tomllib.loads(lake.file.read_text(encoding="utf-8-sig")).get("dataset", {})
    files = {"datasets.json": (json.dumps(tables, sort_keys=True, default=_plain, indent=1) + "\n").encode()}
    if lake.transforms_dir.is_dir():
        for path in sorted(lake.transforms_dir.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
                files[f"transforms/{path.relative_to(lake.transforms_dir).as_posix()}"] = path.read_bytes()
    for name, dataset in lake.datasets.items():
        schema = dataset.contract.schema
        if schema:
            relative = schema.partition(":")[0]
            path = (lake.root / relative).resolve()
            if not path.is_file() or not path.is_relative_to(lake.root.resolve()):
                raise ConfigError(
                    f"[dataset.{name}] schema = {schema!r}: no such file in {lake.root}", hint="a path below lake.toml"
                )
            files[path.relative_to(lake.root.resolve()).as_posix()] = path.read_bytes()
    return _artifact("bundles", files)


def handler(source: str) -> Artifact:
    """The Lambda's code."""
    return _artifact("handlers", {"handler.py": source.encode()})


def zipped(files: Mapping[str, bytes], *, executable: frozenset[str] = frozenset()) -> bytes:
    """A zip whose bytes depend on names and contents alone."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = (0o755 if name in executable else 0o644) << 16
            archive.writestr(entry, files[name])
    return out.getvalue()


def _artifact(folder: str, files: Mapping[str, bytes]) -> Artifact:
    content = zipped(files)
    digest = hashlib.sha256(content).hexdigest()
    return Artifact(f"{folder}/{digest}.zip", digest, content)


def _plain(value: object) -> str:
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} in lake.toml")
