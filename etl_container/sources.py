"""The bytes of an object version, as readers take them: fetched once where it is small, and metered."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import Any, BinaryIO

from etl_container.formats.base import Source
from etl_container.objects import ObjectRef, ObjectStore

SMALL_BYTES = 1 << 20
"""An object of so many bytes is fetched once, however often its readers look at its beginning."""


class Meter:
    """Counts the bytes that were read of an object; the greatest count of all passes."""

    done = 0


def source_of(ref: ObjectRef, store: ObjectStore, meter: Meter | None = None) -> Source:
    """The bytes of an object version, as readers take them; those of a small one are fetched once."""
    meter = meter or Meter()
    path = store.local_path(ref)
    small = ref.size <= SMALL_BYTES
    return Source(
        name=ref.name,
        size=ref.size,
        open=_Kept(ref, store, meter) if small else functools.partial(_metered, lambda: store.open(ref), meter),
        path=None if path is None else str(path),
    )


class _Kept:
    """Opens a small object any number of times."""

    def __init__(self, ref: ObjectRef, store: ObjectStore, meter: Meter) -> None:
        self._ref, self._store, self._meter = ref, store, meter
        self._content: bytes | None = None

    def __call__(self) -> BinaryIO:
        if self._content is None:
            with self._store.open(self._ref) as stream:
                self._content = b"".join(iter(lambda: stream.read(SMALL_BYTES), b""))
            self._meter.done = len(self._content)
        return io.BytesIO(self._content)


def _metered(opener: Callable[[], BinaryIO], meter: Meter) -> BinaryIO:
    return io.BufferedReader(_MeteredStream(opener(), meter), buffer_size=1 << 20)


class _MeteredStream(io.RawIOBase):
    """A binary stream that tells how far it was read."""

    def __init__(self, stream: BinaryIO, meter: Meter) -> None:
        self._stream = stream
        self._meter = meter
        self._here = 0

    def readinto(self, buffer: Any, /) -> int:
        count: int = self._stream.readinto(buffer)  # type: ignore[attr-defined]  # as every binary stream has
        self._here += count
        self._meter.done = max(self._meter.done, self._here)
        return count

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._here = self._stream.seek(offset, whence)
        return self._here

    def close(self) -> None:
        self._stream.close()
        super().close()
