"""The raw zone: immutable objects, each a key with ordered versions.

``FolderStore`` keeps them in a folder, one directory per key and one file per version::

    <root>/raw/trips/2024-01.csv/00000001-9f86d081884c7d65…   (first put)
    <root>/raw/trips/2024-01.csv/00000002-60303ae22b998861…   (second put)

The number orders the puts of a key, the digest tells equal content. A version file is complete as soon as it is there
(written aside, synced, renamed), and never changes afterwards. ``objects_s3.S3Store`` is the same over a bucket.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mimetypes
import os
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from msgspec import Struct

from etl_container.errors import NotFoundError, PermissionDeniedError, UsageError

CHUNK = 1 << 20
"""Bytes copied at a time."""

_VERSION = re.compile(r"(\d{8})-([0-9a-f]{64})")


class ObjectRef(Struct, frozen=True):
    """One version of one object in the raw zone."""

    bucket: str
    key: str
    version: str
    ordinal: str
    """Orders the versions of a key; greater is newer. Compared byte by byte."""
    size: int
    """Bytes."""
    digest: str | None = None
    """SHA-256 of the content, hexadecimal, where the store knows it."""
    landed: datetime = datetime.fromtimestamp(0, UTC)

    @property
    def name(self) -> str:
        """The file's name: the last part of the key."""
        return PurePosixPath(self.key).name

    @property
    def media_type(self) -> str | None:
        """By the name's extension."""
        return mimetypes.guess_type(self.name)[0]


class ObjectStore(Protocol):
    """Where raw objects are read from."""

    def open(self, ref: ObjectRef) -> BinaryIO:
        """A stream over the object's bytes, from the start."""

    def local_path(self, ref: ObjectRef) -> Path | None:
        """The object as a file on this machine, where it is one."""

    def find(self, key: str, version: str | None = None) -> ObjectRef:
        """One version of a key, the newest when None; raises NotFoundError."""

    def list(self, prefix: str = "raw/") -> Iterator[ObjectRef]:
        """The newest version of every key that starts with ``prefix``, by key."""


def check_key(key: str) -> None:
    """Refuse a key that could leave the landing zone.

    Raises:
        UsageError: the key is absolute, has empty, ``.`` or ``..`` parts, a NUL, or is longer than S3's 1,024 bytes.
    """
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in key or parts[0] != "raw" or len(parts) < 2:
        raise UsageError(f"{key!r} cannot be a key", hint="keys look like raw/<dataset>/<file>")
    if len(key.encode()) > 1024:
        raise UsageError(f"the key {key[:60]}… has more than 1,024 bytes", hint="shorten the file or folder name")


class FolderStore:
    """A folder as the raw zone; several processes may use it at once."""

    bucket = "local"

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(
        self,
        stream: BinaryIO,
        key: str,
        *,
        fresh: Callable[[str], bool] = lambda _digest: False,
        on_bytes: Callable[[int], None] = lambda _count: None,
    ) -> tuple[ObjectRef, bool]:
        """Land a stream under a key; the version, and whether it is a new one.

        Content equal to the newest version's makes no new one, unless ``fresh(digest)`` says that it shall (it was
        undone). ``on_bytes`` gets the bytes copied so far. Peak memory is one chunk.
        """
        check_key(key)
        home = self.root / key
        aside = self.root / "tmp"
        try:
            aside.mkdir(parents=True, exist_ok=True)
            home.mkdir(parents=True, exist_ok=True)
        except PermissionError as error:
            raise PermissionDeniedError(f"cannot write to {error.filename}: {error.strerror}") from error
        _sweep(aside)
        part = aside / f"{os.getpid()}-{uuid.uuid4().hex}"
        try:
            digest, _size = _copy(stream, part, on_bytes)
            with _locked(home):
                newest = self._newest(home)
                if newest is not None and newest[1] == digest and not fresh(digest):
                    return self._ref(key, home, newest), False
                number = 1 if newest is None else newest[0] + 1
                part.rename(home / f"{number:08d}-{digest}")
                _sync(home)
            return self._ref(key, home, (number, digest)), True
        finally:
            part.unlink(missing_ok=True)

    def open(self, ref: ObjectRef) -> BinaryIO:
        try:
            return (self.root / ref.key / ref.version).open("rb", buffering=0)
        except FileNotFoundError:
            raise NotFoundError(f"{ref.key} has no version {ref.version} in the raw zone") from None

    def local_path(self, ref: ObjectRef) -> Path | None:
        return self.root / ref.key / ref.version

    def find(self, key: str, version: str | None = None) -> ObjectRef:
        check_key(key)
        home = self.root / key
        found = self._newest(home) if version is None else _parse(version)
        if found is None or not (home / _name(found)).is_file():
            what = key if version is None else f"version {version} of {key}"
            raise NotFoundError(f"no {what} in the raw zone", hint="lakectl objects")
        return self._ref(key, home, found)

    def versions(self, key: str) -> list[ObjectRef]:
        """Every version of a key, oldest first."""
        home = self.root / key
        return [self._ref(key, home, found) for found in sorted(_versions_in(home))]

    def list(self, prefix: str = "raw/") -> Iterator[ObjectRef]:
        start = self.root / "raw"
        for folder, folders, files in os.walk(start):
            folders.sort()
            newest = max(filter(None, map(_parse, files)), default=None)
            key = Path(folder).relative_to(self.root).as_posix()
            if newest is not None and key.startswith(prefix):
                yield self._ref(key, Path(folder), newest)

    def _newest(self, home: Path) -> tuple[int, str] | None:
        return max(_versions_in(home), default=None)

    def _ref(self, key: str, home: Path, found: tuple[int, str]) -> ObjectRef:
        name = _name(found)
        facts = (home / name).stat()
        landed = datetime.fromtimestamp(facts.st_mtime, UTC)
        return ObjectRef(self.bucket, key, name, name, facts.st_size, found[1], landed)


def _name(found: tuple[int, str]) -> str:
    return f"{found[0]:08d}-{found[1]}"


def _parse(name: str) -> tuple[int, str] | None:
    match = _VERSION.fullmatch(name)
    return None if match is None else (int(match[1]), match[2])


def _versions_in(home: Path) -> list[tuple[int, str]]:
    try:
        with os.scandir(home) as entries:
            return [found for entry in entries if entry.is_file() and (found := _parse(entry.name))]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _copy(stream: BinaryIO, part: Path, on_bytes: Callable[[int], None]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with part.open("xb", buffering=0) as out:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            out.write(chunk)
            size += len(chunk)
            on_bytes(size)
        os.fsync(out.fileno())
    return digest.hexdigest(), size


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One process at a time orders the versions of a key; the kernel drops the lock with its holder."""
    handle = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sync(home: Path) -> None:
    handle = os.open(home, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(aside: Path) -> None:
    """Remove what killed processes left half copied."""
    for leftover in aside.iterdir():
        owner = leftover.name.partition("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            leftover.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
