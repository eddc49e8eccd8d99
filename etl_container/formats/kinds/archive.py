"""Archives (zip, tar) that hold no table: a row per member. Nothing is written to disk.

A member's digest is taken of its bytes, up to :data:`MAX_INFLATED` of all members together: an archive that inflates
to more is refused, and so is one of more than :data:`MAX_MEMBERS` members.
"""

from __future__ import annotations

import hashlib
import mimetypes
import tarfile
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, Any, Final

MAX_MEMBERS: Final = 100_000
MAX_INFLATED: Final = 2 << 30
"""Bytes that all members together may inflate to."""
MAX_RATIO: Final = 1_100
"""Bytes out per byte in beyond which a member is a bomb: deflate cannot exceed 1,032."""


def rows(path: str, found: str) -> Iterator[dict[str, Any]]:
    """A row per member that is a file."""
    del found
    for name, facts, stream in members(path):
        digest = hashlib.sha256()
        with stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        yield {"path": name, **facts, "media_type": mimetypes.guess_type(name)[0], "digest": digest.hexdigest()}


def members(path: str) -> Iterator[tuple[str, dict[str, Any], IO[bytes]]]:
    """The name, facts and bytes of every file in an archive.

    Raises:
        ValueError: more members or bytes than the limits allow, or a member that is encrypted.
    """
    found = _zip_members(path) if zipfile.is_zipfile(path) else _tar_members(path)
    total = 0
    for count, (name, facts, stream) in enumerate(found, start=1):
        total += facts["size"]
        if count > MAX_MEMBERS:
            raise ValueError(f"it has more than {MAX_MEMBERS:,} members")
        if total > MAX_INFLATED:
            raise ValueError(f"it inflates to more than {MAX_INFLATED >> 20} MB")
        yield name, facts, stream


def _zip_members(path: str) -> Iterator[tuple[str, dict[str, Any], IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                raise ValueError(f"its member {info.filename!r} is encrypted")
            if info.file_size > MAX_RATIO * max(info.compress_size, 1) and info.file_size > 1 << 20:
                raise ValueError(f"its member {info.filename!r} claims to inflate {MAX_RATIO} times or more")
            facts = {"size": info.file_size, "packed_size": info.compress_size, "modified_at": _moment(*info.date_time)}
            yield info.filename, facts, archive.open(info)


def _tar_members(path: str) -> Iterator[tuple[str, dict[str, Any], IO[bytes]]]:
    with tarfile.open(path, "r:") as archive:
        for info in archive:
            if not info.isfile():
                continue
            moment = datetime.fromtimestamp(min(max(info.mtime, 0), 32_503_680_000), UTC).replace(tzinfo=None)
            stream = archive.extractfile(info)
            assert stream is not None
            yield info.name, {"size": info.size, "packed_size": info.size, "modified_at": moment.isoformat()}, stream


def _moment(*parts: int) -> str | None:
    try:
        return datetime(*parts).isoformat()  # type: ignore[arg-type]
    except ValueError:
        return None
