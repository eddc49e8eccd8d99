"""Sound and video containers: how long, how made, by whom; and how loud, where the samples lie open (WAV, AIFF)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, Literal

MAX_SAMPLED: Final = 512 << 20
"""Bytes of samples that are looked at for peak and loudness."""
_BLOCK: Final = 1 << 20


def rows(path: str, found: str) -> Iterator[dict[str, Any]]:
    """One row."""
    from tinytag import TinyTag

    del found
    tag = TinyTag.get(path, tags=True, duration=True)
    known = {name: value for name, value in tag.as_dict().items() if name not in {"filename", "filesize"}}
    if tag.duration is None and tag.samplerate is None and not any(known.values()):
        raise ValueError("neither sound nor tags are found in it")
    peak, loudness = _levels(path)
    yield {
        "codec": _codec(path),
        "duration": _number(tag.duration),
        "sample_rate": tag.samplerate,
        "channels": tag.channels,
        "bit_depth": tag.bitdepth,
        "bitrate": _number(tag.bitrate),
        **{name: _text(getattr(tag, name)) for name in ("title", "artist", "album", "year", "genre", "comment")},
        "peak": peak,
        "loudness": loudness,
        "tags": known,
    }


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 6)


def _text(value: object) -> str | None:
    return None if value is None else str(value).replace("\x00", "").strip() or None


def _codec(path: str) -> str:
    """The container, and the coding where the first bytes tell it."""
    with open(path, "rb") as stream:  # noqa: PTH123
        head = stream.read(4096)
    if head.startswith(b"OggS"):
        return "opus" if b"OpusHead" in head else "vorbis" if b"\x01vorbis" in head else "ogg"
    if head[4:8] == b"ftyp":
        return "mp4"
    if head.startswith(b"RIFF"):
        return "pcm" if b"fmt " in head and _format(head) in {1, 3, 0xFFFE} else "wav"
    return {b"fLaC": "flac", b"FORM": "pcm"}.get(head[:4], "mp3")


def _format(head: bytes) -> int:
    at = head.index(b"fmt ") + 8
    return int.from_bytes(head[at : at + 2], "little")


def _levels(path: str) -> tuple[float | None, float | None]:
    """Peak and RMS of PCM samples, in dB of full scale (0 is the loudest that fits); None for other codings."""
    with open(path, "rb") as stream:  # noqa: PTH123
        layout = _wav(stream) or _aiff(stream)
        if layout is None:
            return None, None
        width, floating, size, order = layout
        most, squares, count = 0.0, 0.0, 0
        size = min(size, MAX_SAMPLED)
        step = _BLOCK - _BLOCK % (width * 8)
        while size > 0 and (block := stream.read(min(step, size))):
            size -= len(block)
            samples = _samples(block, width, floating, order)
            if samples is None:
                return None, None
            if len(samples):
                import numpy

                values = numpy.asarray(samples, dtype=numpy.float64)
                most = max(most, float(numpy.abs(values).max()))
                squares += float(numpy.dot(values, values))
                count += len(values)
    if not count or not math.isfinite(squares):
        return None, None
    full = 1.0 if floating else float(1 << (8 * width - 1))
    rms = math.sqrt(squares / count)
    return tuple(round(20 * math.log10(level / full), 2) if level else None for level in (most, rms))  # type: ignore[return-value]


_Layout = tuple[int, bool, int, Literal["little", "big"]]
"""Bytes per sample, whether they are floats, the bytes of all samples, and the order of a sample's bytes."""


def _wav(stream: BinaryIO) -> _Layout | None:
    """How PCM samples lie in a RIFF file; the stream stands before them then."""
    head = stream.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    width, coding = 0, 0
    for name, size in _chunks(stream, "little"):
        if name == b"fmt ":
            body = stream.read(size)
            coding = int.from_bytes(body[:2], "little")
            if coding == 0xFFFE:
                coding = int.from_bytes(body[24:26], "little")
            width = int.from_bytes(body[14:16], "little") // 8
        elif name == b"data":
            known = coding in {1, 3} and width in {1, 2, 3, 4, 8}
            return (width, coding == 3, size, "little") if known else None
    return None


def _aiff(stream: BinaryIO) -> _Layout | None:
    """The same of an AIFF or AIFF-C file ("Audio Interchange File Format", Apple, 1989 and 1991)."""
    stream.seek(0)
    head = stream.read(12)
    if head[:4] != b"FORM" or head[8:12] not in (b"AIFF", b"AIFC"):
        return None
    width, coding = 0, b""
    for name, size in _chunks(stream, "big"):
        if name == b"COMM":
            body = stream.read(size)
            width = -(-int.from_bytes(body[6:8], "big") // 8)
            coding = body[18:22] if head[8:12] == b"AIFC" else b"NONE"
        elif name == b"SSND":
            offset = int.from_bytes(stream.read(8)[:4], "big")
            stream.seek(offset, 1)
            known = coding in _AIFF_CODINGS and width in {2, 3, 4, 8}
            floating, order = _AIFF_CODINGS.get(coding, (False, "big"))
            return (width, floating, size - 8 - offset, order) if known else None
    return None


_AIFF_CODINGS: Final[dict[bytes, tuple[bool, Literal["little", "big"]]]] = {
    b"NONE": (False, "big"),
    b"twos": (False, "big"),
    b"sowt": (False, "little"),
    b"fl32": (True, "big"),
    b"fl64": (True, "big"),
}


def _chunks(stream: BinaryIO, order: Literal["little", "big"]) -> Iterator[tuple[bytes, int]]:
    """Name and size of each chunk, the stream standing at its body."""
    while len(chunk := stream.read(8)) == 8:
        size = int.from_bytes(chunk[4:], order)
        body = stream.tell()
        yield chunk[:4], size
        stream.seek(body + size + size % 2)


def _samples(block: bytes, width: int, floating: bool, order: Literal["little", "big"]) -> Any:
    """The samples as signed numbers; None where there are none of such a width."""
    import numpy

    block = block[: len(block) - len(block) % width]
    mark = "<" if order == "little" else ">"
    if floating:
        return numpy.frombuffer(block, f"{mark}f{width}") if width in {4, 8} else None
    if width in {2, 4}:
        return numpy.frombuffer(block, f"{mark}i{width}")
    raw = numpy.frombuffer(block, numpy.uint8)
    if width == 1:
        return raw.astype(numpy.int16) - 128
    if width == 3:
        parts = raw.reshape(-1, 3).astype(numpy.int32)
        low, high = (0, 2) if order == "little" else (2, 0)
        return ((parts[:, low] << 8 | parts[:, 1] << 16 | parts[:, high] << 24) >> 8).astype(numpy.int32)
    return None
