"""Files that the operator names, their errors in our words. A written file appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from lakectl.errors import (
    DataError,
    InfrastructureError,
    LakectlError,
    NotFoundError,
    PermissionDeniedError,
    UsageError,
)

if TYPE_CHECKING:
    from etl_container.formats.base import Source

Writable = BinaryIO


def read_text(path: str) -> str:
    """The text of a file, or of standard input for ``-``.

    Raises:
        NotFoundError: no such file.
        PermissionDeniedError: it may not be read.
        UsageError: it is not UTF-8 text.
    """
    try:
        if path == "-":
            return sys.stdin.read()
        with open(path, encoding="utf-8-sig") as stream:
            return stream.read()
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise translated(error, path) from None


@contextlib.contextmanager
def written_whole(path: str) -> Iterator[BinaryIO]:
    """A stream whose content becomes ``path`` at the end, and nothing when it fails or is interrupted.

    Raises:
        NotFoundError: its directory does not exist.
        PermissionDeniedError: it may not be written.
        InfrastructureError: the disk is full, or another error of the system.
    """
    folder = os.path.dirname(path) or "."
    if os.path.exists(path) and not os.path.isfile(path):
        # A pipe or a device cannot be replaced, only written to.
        try:
            with open(path, "wb") as stream:
                yield stream
        except BrokenPipeError:
            raise
        except OSError as error:
            raise translated(error, path) from None
        return
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)[:100]}.", suffix=".part", dir=folder)
    except OSError as error:
        raise translated(error, path) from None
    try:
        with open(handle, "wb") as stream:
            yield stream
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise translated(error, path) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def translated(error: OSError, path: str) -> LakectlError:
    """An error of the operating system in our words."""
    reason = error.strerror or str(error)
    match error:
        case FileNotFoundError():
            folder = os.path.dirname(path) or "."
            return NotFoundError(f"there is no {'file' if os.path.isdir(folder) else 'directory for'} {path}")
        case PermissionError():
            return PermissionDeniedError(f"{path}: {reason}", hint=f"ls -l {path}")
        case IsADirectoryError() | NotADirectoryError():
            return UsageError(f"{path}: {reason}", hint="name a file")
        case _:
            return InfrastructureError(f"{path}: {reason}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def source(path: str, *, name: str | None = None) -> Iterator[Source]:
    """A file, a pipe, or standard input (``-``) as the readers take it: readable any number of times.

    Raises:
        NotFoundError: no such file.
        PermissionDeniedError: it may not be read.
        UsageError: it is a directory.
        DataError: it is empty.
    """
    from etl_container.formats.base import Source

    if path != "-" and os.path.isfile(path):
        with _readable(path):
            size = os.stat(path).st_size
        if not size:
            raise DataError(f"{path} is empty", hint="look at where it comes from; there is nothing in it to read")
        yield Source(name or os.path.basename(path), size, lambda: open(path, "rb"), path)  # noqa: SIM115 — a factory
        return
    with tempfile.NamedTemporaryFile(prefix="lakectl-") as copy:
        if path == "-":
            shutil.copyfileobj(sys.stdin.buffer, copy)
        else:
            with _readable(path) as stream:
                shutil.copyfileobj(stream, copy)
        copy.flush()
        if not copy.tell():
            raise DataError(f"{'standard input' if path == '-' else path} is empty")
        shown = name or ("standard input" if path == "-" else os.path.basename(path))
        yield Source(shown, copy.tell(), lambda: open(copy.name, "rb"), copy.name)  # noqa: SIM115 — a factory


def _readable(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise translated(error, path) from None
