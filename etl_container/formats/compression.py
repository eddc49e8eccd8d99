"""The compression layer: what an object is wrapped in is taken off before any reader sees it.

gzip, zstd, bzip2 and xz streams and zip archives are known by their first bytes, never by their names, and may wrap
one another (a zip of ``.csv.gz`` files) up to :data:`MAX_LAYERS` deep. Everything streams: a :class:`Source` goes in,
a :class:`Source` comes out whose ``open`` inflates while it is read. Bytes that cannot be inflated to the end
(truncated, damaged, encrypted) raise :class:`UnreadableObjectError` at the read that meets them, so that a load which
saw only the first half of an object can never be taken for a whole one.

A zip archive with several members is one table (the first member a reader can use, or ``options.member``) and the
names of the others. Office documents are zip archives too; they are left as they are for their own readers.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import importlib
import io
import lzma
import os
import re
import shutil
import sys
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, Protocol, cast

from msgspec import Struct
from msgspec.structs import replace

from etl_container.errors import UnreadableObjectError
from etl_container.formats.base import ReadOptions, Source

MAX_LAYERS: Final = 3
"""How many compressions may wrap one another."""

MAX_RATIO: Final = 1_100
"""Bytes out per byte in beyond which a stream is taken for a bomb (deflate cannot exceed 1,032: zlib.net/zlib_tech)."""

RATIO_GRACE: Final = 4 << 30
"""Bytes that any stream may inflate to before :data:`MAX_RATIO` is looked at."""

XZ_MEMORY: Final = 256 << 20
"""Bytes of memory that an xz stream may ask for (``xz -9`` asks for 65 MiB)."""

_CHUNK: Final = 256 << 10
_HEAD: Final = 64 << 10
_ZIP_MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08PK\x03\x04")


class _Decompressor(Protocol):
    """What bz2, lzma and zstd decompressors have in common, and :class:`_Gunzip` adds for zlib."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class _Gunzip:
    """One gzip member: zlib's object with the interface of the others."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        out = self._zlib.decompress(self._zlib.unconsumed_tail + data, max(max_length, 0))
        # A full answer may leave more output inside zlib even when all the input is eaten.
        self.needs_input = not self._zlib.unconsumed_tail and len(out) != max_length
        return out


def _zstd() -> Any:
    """The zstd module: the standard library's from Python 3.14 on, its backport before."""
    return importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


class _Codec(Struct, frozen=True):
    """One stream compression: how to know it, and how to undo it."""

    name: str
    magic: re.Pattern[bytes]
    suffixes: tuple[str, ...]
    new: Callable[[], _Decompressor]
    padding: bool = False
    """True when zero bytes may follow the last stream (gzip on tapes, xz by its specification)."""


_CODECS: Final = (
    _Codec("gzip", re.compile(rb"\x1f\x8b\x08"), (".gz", ".gzip", ".tgz", ".bgz"), _Gunzip, padding=True),
    _Codec(
        "zstd",
        re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", re.DOTALL),
        (".zst", ".zstd"),
        lambda: cast(_Decompressor, _zstd().ZstdDecompressor()),
    ),
    _Codec(
        "bzip2",
        re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", re.DOTALL),
        (".bz2", ".bzip2"),
        bz2.BZ2Decompressor,
    ),
    _Codec(
        "xz",
        re.compile(rb"\xfd7zXZ\x00", re.DOTALL),
        (".xz",),
        lambda: cast(_Decompressor, lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_MEMORY)),
        padding=True,
    ),
)


class Unwrapped(Struct, frozen=True):
    """An object with its compression taken off."""

    source: Source
    compression: str | None = None
    """``gzip``, ``zstd``, ``bzip2``, ``xz``, ``zip``; outermost first and joined by ``+`` when several wrap."""
    member: str | None = None
    """The zip member that ``source`` is."""
    others: tuple[str, ...] = ()
    """The other zip members that may hold tables."""
    document: str | None = None
    """What document ``source`` is (``xlsx``, ``ods``, ``docx`` …) when it only uses zip as its container."""


def decompress(source: Source, options: ReadOptions) -> tuple[Source, str | None]:
    """``source`` without its compression, and that compression's name (None when there is none).

    Raises:
        UnreadableObjectError: see :func:`unwrap`.
    """
    unwrapped = unwrap(source, options)
    return unwrapped.source, unwrapped.compression


def unwrap(source: Source, options: ReadOptions) -> Unwrapped:
    """Take off every compression that ``source`` is wrapped in.

    Only the first bytes of each layer are read here; damage further in raises while the result is read.

    Raises:
        UnreadableObjectError: an encrypted, empty or damaged archive, no such member, too many layers.
    """
    result = Unwrapped(source)
    for _ in range(MAX_LAYERS + 1):
        head = read_head(result.source)
        if head.startswith(_ZIP_MAGIC):
            result = _open_zip(result, options)
            if result.document is not None:
                return result
        elif codec := next((c for c in _CODECS if c.magic.match(head)), None):
            result = _inflated(result, codec)
        else:
            return result
    raise UnreadableObjectError(
        f"{source.name} is compressed more than {MAX_LAYERS} times over.",
        hint="Decompress it and upload what is inside.",
    )


def read_head(source: Source, size: int = _HEAD) -> bytes:
    """The first ``size`` bytes of ``source``, or all of it when it is shorter."""
    with source.open() as stream:
        return read_fully(stream, size)


def read_fully(stream: IO[bytes], size: int) -> bytes:
    """``size`` bytes, however short the stream's single reads are; fewer only at its end."""
    data = stream.read(size) or b""
    if len(data) == size or not data:
        return data
    parts = [data]
    missing = size - len(data)
    while missing and (data := stream.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


# --- streams ---------------------------------------------------------------------------------------------------------


def _inflated(outer: Unwrapped, codec: _Codec) -> Unwrapped:
    source = outer.source

    def open_() -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_Inflating(source.open(), codec, source.name), _CHUNK))

    inner = Source(name=_without_suffix(source.name, codec.suffixes), size=None, open=open_)
    return replace(outer, source=inner, compression=_joined(outer.compression, codec.name))


def _joined(outer: str | None, inner: str) -> str:
    return inner if outer is None else f"{outer}+{inner}"


def _without_suffix(name: str, suffixes: tuple[str, ...]) -> str:
    for suffix in suffixes:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)] + (".tar" if suffix == ".tgz" else "")
    return name


class _Bomb:
    """Counts bytes in and out, and objects when the ratio is absurd."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.bytes_in = 0
        self.bytes_out = 0

    def check(self) -> None:
        if self.bytes_out > RATIO_GRACE and self.bytes_out > MAX_RATIO * self.bytes_in:
            raise UnreadableObjectError(
                f"{self._name} inflates to more than {MAX_RATIO} times its size: it looks like a decompression bomb.",
                hint="If it is what it should be, decompress it yourself and upload the result.",
            )


class _Inflating(io.RawIOBase):
    """A stream of (possibly several, concatenated) compressed streams, inflated while it is read."""

    def __init__(self, raw: BinaryIO, codec: _Codec, name: str) -> None:
        super().__init__()
        self._raw = raw
        self._codec = codec
        self._name = name
        self._decompressor = codec.new()
        self._pending = b""
        self._bomb = _Bomb(name)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        try:
            data = self._inflate(len(buffer))
        except (zlib.error, lzma.LZMAError, OSError, EOFError, _zstd_error()) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise UnreadableObjectError(
                f"{self._name} is damaged: its {self._codec.name} stream cannot be decompressed ({error}).",
                hint="Transfer the file again; nothing of it was loaded.",
            ) from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()

    def _inflate(self, size: int) -> bytes:
        while True:
            if self._decompressor.eof and not self._next_stream():
                return b""
            chunk = b""
            if self._decompressor.needs_input:
                chunk, self._pending = self._pending or self._read(), b""
                if not chunk:
                    raise UnreadableObjectError(
                        f"{self._name} is truncated: its {self._codec.name} stream ends before its end mark.",
                        hint="Transfer the file again; nothing of it was loaded.",
                    )
            data = self._decompressor.decompress(chunk, size)
            if data:
                self._bomb.bytes_out += len(data)
                self._bomb.check()
                return data

    def _read(self) -> bytes:
        data = self._raw.read(_CHUNK) or b""
        self._bomb.bytes_in += len(data)
        return data

    def _next_stream(self) -> bool:
        """Begin the next stream of several; False at the end of the object."""
        rest = self._pending or self._decompressor.unused_data
        self._pending = b""
        while True:
            if self._codec.padding:
                rest = rest.lstrip(b"\x00")
            # The longest magic has ten bytes; a short read must not pass for rubbish.
            if len(rest) >= 10 or not (more := self._read()):
                break
            rest += more
        if not rest:
            return False
        if not self._codec.magic.match(rest):
            raise UnreadableObjectError(
                f"{self._name} is damaged: bytes that are not {self._codec.name} follow its data.",
                hint="Transfer the file again; nothing of it was loaded.",
            )
        self._decompressor = self._codec.new()
        self._pending = rest
        return True


def _zstd_error() -> type[Exception]:
    return cast(type[Exception], _zstd().ZstdError)


# --- zip archives ----------------------------------------------------------------------------------------------------

_TABLE_SUFFIXES: Final = (
    *(".csv", ".tsv", ".tab", ".psv", ".txt", ".dat", ".json", ".jsonl", ".ndjson", ".geojson"),
    *(".parquet", ".pq", ".arrow", ".feather", ".ipc", ".orc", ".avro", ".xlsx", ".xls", ".xlsb", ".xlsm", ".ods"),
    *(".gz", ".zst", ".zstd", ".bz2", ".xz", ".zip"),
)


def _archive_kind(archive: zipfile.ZipFile) -> str | None:
    names = archive.namelist()
    mimetype = ""
    if "mimetype" in names:
        with contextlib.suppress(*_ZIP_ERRORS), _sound_offsets(), archive.open("mimetype") as member:
            mimetype = member.read(200).decode("ascii", "replace").strip()
    from etl_container.formats.detect import office_kind

    return office_kind(names, mimetype)


_ZIP_ERRORS: Final = (zipfile.BadZipFile, RuntimeError, EOFError, zlib.error, lzma.LZMAError, ValueError, KeyError)
"""What zipfile raises for damaged, encrypted or unsupported members (NotImplementedError is a RuntimeError)."""


@contextlib.contextmanager
def _sound_offsets() -> Iterator[None]:
    """A directory may point before the archive's first byte; zipfile seeks there and only the system objects."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise zipfile.BadZipFile("an offset in it points nowhere") from error


@contextlib.contextmanager
def _zip_file(path: str, name: str) -> Iterator[zipfile.ZipFile]:
    try:
        with _sound_offsets():
            archive = zipfile.ZipFile(path)
    except _ZIP_ERRORS as error:
        raise UnreadableObjectError(
            f"{name} starts like a zip archive but its directory cannot be read ({error}); it may be truncated.",
            hint="Transfer the file again.",
        ) from error
    with archive:
        yield archive


def _open_zip(outer: Unwrapped, options: ReadOptions) -> Unwrapped:
    """The one member of the archive that is the table; or the document that the archive is."""
    archive_name = outer.source.name
    copy = LocalCopy(outer.source)
    with _zip_file(copy.path, archive_name) as archive:
        if document := _archive_kind(archive):
            return replace(outer, source=_of_copy(copy, outer.source), document=document)
        members = [info.filename for info in archive.infolist() if _may_be_table(info)]
    if not members:
        raise UnreadableObjectError(f"{archive_name} is a zip archive without any file in it that has bytes.")

    def member(name: str) -> Source:
        return Source(
            name=name.rsplit("/", 1)[-1],
            size=None,
            open=lambda: _open_member(copy, archive_name=archive_name, name=name),
        )

    if options.member is not None and outer.member is None:
        chosen = _named(members, options.member, archive_name)
    else:
        found = _first_readable(members, member, options)
        if found is None:
            return replace(outer, source=_of_copy(copy, outer.source), document="archive")
        chosen = found
    return replace(
        outer,
        source=member(chosen),
        compression=_joined(outer.compression, "zip"),
        member=chosen,
        others=outer.others + tuple(name for name in members if name != chosen),
    )


def _may_be_table(info: zipfile.ZipInfo) -> bool:
    parts = info.filename.split("/")
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return not info.is_dir() and not hidden and info.file_size > 0


def _named(members: list[str], wanted: str, archive_name: str) -> str:
    for name in members:
        if wanted in (name, name.rsplit("/", 1)[-1]):
            return name
    shown = ", ".join(members[:10]) + (" …" if len(members) > 10 else "")
    raise UnreadableObjectError(
        f"{archive_name} has no member {wanted!r}.", hint=f"Set read.member to one of its members: {shown}."
    )


def _first_readable(members: list[str], member: Callable[[str], Source], options: ReadOptions) -> str | None:
    """The first member, in the archive's order, that is a table; files named like tables go before others.

    None when there is none: the archive itself is what can be read.
    """
    from etl_container.formats.detect import detect
    from etl_container.formats.kinds import KIND_OF

    named = [name for name in members if name.lower().endswith(_TABLE_SUFFIXES)]
    candidates = named + [name for name in members if name not in set(named)]
    for name in candidates[:100]:
        try:
            head = read_head(member(name))
            if is_compressed(head) or detect(head, name, options) not in KIND_OF:
                return name
        except UnreadableObjectError:
            if name in named and len(members) == 1:
                raise
    return None


def is_compressed(head: bytes) -> bool:
    """Whether ``head`` begins a stream or archive that :func:`unwrap` takes off (or a zip-based document)."""
    return head.startswith(_ZIP_MAGIC) or any(codec.magic.match(head) for codec in _CODECS)


def _open_member(copy: LocalCopy, *, archive_name: str, name: str) -> BinaryIO:
    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(_zip_file(copy.path, archive_name))
        info = archive.getinfo(name)
        if info.flag_bits & 0x1:
            raise UnreadableObjectError(
                f"{name} in {archive_name} is encrypted.", hint="Decrypt the archive and upload what is inside."
            )
        try:
            with _sound_offsets():
                raw = archive.open(info)
        except _ZIP_ERRORS as error:
            raise UnreadableObjectError(f"{name} in {archive_name} cannot be read ({error}).") from error
        member = _Member(raw, stack.pop_all(), f"{name} in {archive_name}", info.compress_size)
    return cast(BinaryIO, io.BufferedReader(member, _CHUNK))


class _Member(io.RawIOBase):
    """One member's bytes; its checksum is proved at its end (by zipfile)."""

    def __init__(self, raw: IO[bytes], archive: contextlib.ExitStack, name: str, compressed_size: int) -> None:
        super().__init__()
        self._archive = archive
        self._raw = raw
        self._name = name
        self._bomb = _Bomb(name)
        self._bomb.bytes_in = compressed_size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        try:
            with _sound_offsets():
                data = self._raw.read(len(buffer))
        except _ZIP_ERRORS as error:
            raise UnreadableObjectError(
                f"{self._name} is damaged: it cannot be decompressed ({error or 'it ends too early'}).",
                hint="Transfer the file again; nothing of it was loaded.",
            ) from error
        self._bomb.bytes_out += len(data)
        self._bomb.check()
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
            self._archive.close()
        super().close()


# --- local copies ----------------------------------------------------------------------------------------------------


class LocalCopy:
    """A path to the bytes of ``source`` for formats that seek: its own, or a temporary file's.

    The temporary file goes away with :meth:`close`, or when nothing refers to this object any more.

    Raises:
        UnreadableObjectError: the bytes cannot be decompressed to their end.
    """

    def __init__(self, source: Source) -> None:
        self._finalizer: weakref.finalize[[str], LocalCopy] | None = None
        if source.path is not None:
            self.path = source.path
            return
        handle, self.path = tempfile.mkstemp(prefix="lake-", suffix=Path(source.name).suffix[:16])
        self._finalizer = weakref.finalize(self, _remove, self.path)
        with os.fdopen(handle, "wb") as target, source.open() as stream:
            shutil.copyfileobj(stream, target, 1 << 20)

    def close(self) -> None:
        """Remove the temporary file, if there is one."""
        if self._finalizer is not None:
            self._finalizer()


def _of_copy(copy: LocalCopy, source: Source) -> Source:
    """``source`` as a file on this machine, which stays as long as the result does."""
    return replace(source, open=lambda: Path(copy.path).open("rb"), path=copy.path)


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


@contextlib.contextmanager
def local_copy(source: Source) -> Iterator[str]:
    """A path to the bytes of ``source`` for as long as the context lasts: its own, or a temporary file's."""
    copy = LocalCopy(source)
    try:
        yield copy.path
    finally:
        copy.close()
