"""Sound and video containers: how long, how made, by whom; and how loud, where the samples lie open (WAV, AIFF)."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

MAX_SAMPLED: Final = 512 << 20
"""Bytes of samples that are looked at for peak and loudness."""
_BLOCK: Final = 1 << 20


def rows(path: str, found: str) -> Iterator[dict[str, Any]]:
    """One row."""
    from tinytag import TinyTag

    del found
    tag = TinyTag.get(path, tags=True, duration=True)
    if tag.duration is None and tag.samplerate is None:
        raise ValueError("no sound is found in it")
    known = {name: value for name, value in tag.as_dict().items() if name not in {"filename", "filesize"}}
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
        layout = _wav(stream)
        if layout is None:
            return None, None
        width, floating, size = layout
        most, squares, count = 0.0, 0.0, 0
        size = min(size, MAX_SAMPLED)
        step = _BLOCK - _BLOCK % (width * 8)
        while size > 0 and (block := stream.read(min(step, size))):
            size -= len(block)
            samples = _samples(block, width, floating)
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


def _wav(stream: BinaryIO) -> tuple[int, bool, int] | None:
    """Bytes per sample, whether they are floats, and the bytes of all samples; the stream stands before them then."""
    head = stream.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    width, coding = 0, 0
    while len(chunk := stream.read(8)) == 8:
        size = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"fmt ":
            body = stream.read(size + size % 2)
            coding = int.from_bytes(body[:2], "little")
            if coding == 0xFFFE:
                coding = int.from_bytes(body[24:26], "little")
            width = int.from_bytes(body[14:16], "little") // 8
        elif chunk[:4] == b"data":
            return (width, coding == 3, size) if coding in {1, 3} and width in {1, 2, 3, 4, 8} else None
        else:
            stream.seek(size + size % 2, 1)
    return None


def _samples(block: bytes, width: int, floating: bool) -> Any:
    block = block[: len(block) - len(block) % width]
    code = ({4: "f", 8: "d"} if floating else {2: "h", 4: "i"}).get(width)
    if code is not None:
        samples = array(code, block)
        if sys.byteorder == "big":
            samples.byteswap()
        return samples
    import numpy

    raw = numpy.frombuffer(block, dtype=numpy.uint8)
    if width == 1 and not floating:
        return raw.astype(numpy.int16) - 128
    if width == 3 and not floating:
        parts = raw.reshape(-1, 3).astype(numpy.int32)
        return ((parts[:, 0] << 8 | parts[:, 1] << 16 | parts[:, 2] << 24) >> 8).astype(numpy.int32)
    return None
