"""What is inside: the members of archives and the attachments of e-mails, as files to land beside what holds them.

Members are written under numbers in a directory of ours, never under names of theirs; their keys keep those names,
without anything that climbs out: ``raw/DATASET/photos.zip/2024/a.jpg``.
"""

from __future__ import annotations

import errno
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from etl_container.formats.kinds.archive import MAX_INFLATED, MAX_MEMBERS
from lakectl.errors import DataError, UnreadableObjectError
from lakectl.landing import Upload

MAX_NESTED = 2
"""How deep what was unpacked is unpacked again: an archive attached to an e-mail, and the archive in that."""


@dataclass(slots=True)
class _Counter:
    files: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        self.files += 1
        self.bytes += size
        if self.files > MAX_MEMBERS:
            raise ValueError(f"more than {MAX_MEMBERS:,} files are inside")
        if self.bytes > MAX_INFLATED:
            raise ValueError(f"more than {MAX_INFLATED >> 20} MB are inside")


def unpacked(
    uploads: Sequence[Upload],
    directory: Path,
    wanted: Callable[[Upload], bool],
    refused: list[tuple[Upload, DataError]],
) -> Iterator[Upload]:
    """``uploads``, each ``wanted`` one followed by what is inside of it, unpacked into ``directory``.

    ``refused`` gets those that are damaged, encrypted, or larger inside than the limits allow
    (``etl_container.formats.kinds.archive``); what was inside up to there is landed.
    """
    counter = _Counter()
    for upload in uploads:
        yield upload
        if wanted(upload):
            try:
                yield from _inside(upload, directory, counter, 1)
            except DataError as error:
                refused.append((upload, error))


def _inside(upload: Upload, directory: Path, counter: _Counter, depth: int) -> Iterator[Upload]:
    if upload.path is None or depth > MAX_NESTED:
        return
    try:
        for name, stream in _parts(upload.path):
            file = directory / str(counter.files)
            with stream, file.open("wb") as target:
                shutil.copyfileobj(stream, target, 1 << 20)
            size = file.stat().st_size
            counter.add(size)
            if size:
                inner = Upload(str(file), f"{upload.key}/{_safe(name)}", size)
                yield inner
                yield from _inside(inner, directory, counter, depth + 1)
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: it points before its start
            raise
        raise UnreadableObjectError(
            f"{upload.path} cannot be unpacked: {error}", hint="upload it without --unpack, or unpack it yourself"
        ) from error


def _parts(path: str) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and bytes of each file inside; nothing for what holds none, office documents included."""
    from etl_container.formats.base import ReadOptions, Source
    from etl_container.formats.compression import read_head, unwrap
    from etl_container.formats.detect import detect
    from etl_container.formats.kinds import KIND_OF, archive, mail

    source = Source(PurePosixPath(path).name, None, lambda: io.FileIO(path), path)
    if zipfile.is_zipfile(path):
        try:
            document = unwrap(source, ReadOptions()).document
        except UnreadableObjectError:
            document = None
        if document in (None, "archive"):
            yield from ((name, stream) for name, _facts, stream in archive.members(path))
        return
    try:
        found = detect(read_head(source), source.name, ReadOptions())
    except UnreadableObjectError:
        return
    if found == "archive":
        yield from ((name, stream) for name, _facts, stream in archive.members(path))
    elif KIND_OF.get(found) == "mail":
        yield from ((name, io.BytesIO(data)) for name, data in mail.attachments(path, found))


def _safe(name: str) -> str:
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(parts).replace("\x00", "") or "unnamed"
