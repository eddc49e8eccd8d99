"""The lake that a container works for: dataset settings and transforms, out of a bundle named by its own SHA-256."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from etl_container.datasets import Dataset, dataset_of_key, parse_dataset
from etl_container.errors import ConfigError
from etl_container.schema import table_name


@dataclass(frozen=True, slots=True)
class BundledLake:
    """The owner's decisions, unpacked; see :class:`etl_container.pipeline.LakeRules`."""

    root: Path
    datasets: Mapping[str, Dataset] = field(default_factory=dict)

    @property
    def transforms_dir(self) -> Path:
        return self.root / "transforms"

    def dataset_of(self, key: str) -> Dataset:
        """The settings of the dataset that a key belongs to; raises ConfigError for a foreign key."""
        name = dataset_of_key(key)
        return self.datasets.get(name) or Dataset(name=name, table=table_name(name))


def unpack(content: bytes, name: str, into: Path) -> BundledLake:
    """Unpack a bundle.

    Args:
        content: the zip.
        name: its key; the file's stem is the SHA-256 that the content must have.
        into: an empty directory.

    Raises:
        ConfigError: it is not the bundle that was deployed, or not a bundle.
    """
    wanted, got = PurePosixPath(name).stem, hashlib.sha256(content).hexdigest()
    if got != wanted:
        raise ConfigError(
            f"the bundle {name} has the SHA-256 {got[:16]}…: it is not what was deployed", hint="lakectl deploy"
        )
    root = into.resolve()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.infolist():
                if not (root / entry.filename).resolve().is_relative_to(root):
                    raise ConfigError(f"the bundle {name} reaches out of its directory: {entry.filename}")
            archive.extractall(root)
    except zipfile.BadZipFile as error:
        raise ConfigError(f"the bundle {name} is no zip: {error}", hint="lakectl deploy") from None
    return BundledLake(root, _datasets(root / "datasets.json"))


def _datasets(file: Path) -> dict[str, Dataset]:
    tables: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {name: parse_dataset(name, table) for name, table in tables.items()}
