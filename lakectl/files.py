"""Files that the operator names, their errors in our words. A written file appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from lakectl.errors import InfrastructureError, LakectlError, NotFoundError, PermissionDeniedError, UsageError

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
