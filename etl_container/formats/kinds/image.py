"""Images: what they show is for others; this tells size, camera, time, place, and a hash that near duplicates share.

The perceptual hash is the difference hash of 8 × 8 pixels (Krawetz, "Kind of Like That", 2013), upright and grey:
``bit_count((a.perceptual_hash # b.perceptual_hash)::bit(64)) <= 8`` finds near duplicates.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from typing import Any, Final

THUMBNAIL: Final = 256
"""Pixels of a thumbnail's longer side."""
MAX_PIXELS: Final = 300_000_000
"""Pixels of an image that is looked into; beyond, it may be a decompression bomb."""

_CAPTION_TAGS: Final = (0x010E, 0x9C9B, 0x9C9F, 0x9C9E, 0x9286)
"""ImageDescription, XPTitle, XPSubject, XPKeywords, UserComment (Exif 2.32 and Microsoft's)."""


def rows(path: str, found: str) -> Iterator[dict[str, Any]]:
    """One row."""
    from PIL import Image

    del found
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    try:
        yield _facts(path)
    except Image.DecompressionBombError as error:
        raise ValueError(f"it has more than {MAX_PIXELS:,} pixels: too large, or a decompression bomb") from error


def _facts(path: str) -> dict[str, Any]:
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        first = image.tell()  # a layered image begins at 1
        exif = image.getexif()
        facts = {
            "format": image.format,
            "width": image.width,
            "height": image.height,
            "mode": image.mode,
            "frames": int(getattr(image, "n_frames", 1)),
            **_exif(exif),
            "colour_profile": _profile(image),
        }
        facts["caption"] = facts["caption"] or _written(image)
        image.draft("RGB", (THUMBNAIL * 2, THUMBNAIL * 2))
        image.seek(first)
        upright = ImageOps.exif_transpose(image)
        facts["perceptual_hash"] = _hash(upright)
        upright.thumbnail((THUMBNAIL, THUMBNAIL))
        packed = io.BytesIO()
        _flat(upright).save(packed, "JPEG", quality=80)
        facts["thumbnail"] = packed.getvalue()
    return facts


def _flat(image: Any) -> Any:
    """Without transparency, on white."""
    from PIL import Image

    if image.mode in {"I;16", "I;16B", "I", "F"}:
        low, high = image.getextrema()
        image = image.point(lambda value: (value - low) * (255.0 / ((high - low) or 1))).convert("L")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.getchannel("A"))
        return flat
    return image.convert("RGB")


def _hash(image: Any) -> int:
    """64 bits, each whether a pixel is brighter than its right neighbour; as a signed integer."""
    from PIL import Image

    grey = _flat(image).convert("L").resize((9, 8), Image.Resampling.LANCZOS)
    pixels = grey.tobytes()
    bits = 0
    for row in range(8):
        for column in range(8):
            bits = bits << 1 | (pixels[row * 9 + column] > pixels[row * 9 + column + 1])
    return bits - (1 << 64) if bits >> 63 else bits


def _exif(exif: Any) -> dict[str, Any]:
    from PIL import ExifTags

    detail = exif.get_ifd(ExifTags.IFD.Exif)
    place = exif.get_ifd(ExifTags.IFD.GPSInfo)
    maker, model = _plain(exif.get(0x010F)), _plain(exif.get(0x0110))
    camera = " ".join(str(part) for part in (maker, model) if part)
    if maker and model and str(model).startswith(str(maker)):
        camera = str(model)
    names = {**{ExifTags.TAGS.get(tag, str(tag)): _plain(value) for tag, value in [*exif.items(), *detail.items()]}}
    captions = [_plain(exif.get(tag, detail.get(tag))) for tag in _CAPTION_TAGS]
    orientation = exif.get(0x0112)
    return {
        "orientation": orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else None,
        "camera": camera or None,
        "taken_at": _moment(detail.get(0x9003) or exif.get(0x0132)),
        "latitude": _degrees(place.get(2), place.get(1), 90),
        "longitude": _degrees(place.get(4), place.get(3), 180),
        "caption": " ".join(str(each) for each in captions if each) or None,
        "exif": {name: value for name, value in names.items() if value is not None} or None,
    }


def _plain(value: Any) -> Any:
    """A tag's value as JSON can hold it; None for what is only bytes."""
    if isinstance(value, bytes):
        return _decoded(value)
    if isinstance(value, str):
        return value.strip("\0 ").encode("utf-8", "replace").decode() or None
    if isinstance(value, bool | int):
        return value
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value][:64]
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        number = math.nan
    return number if math.isfinite(number) else None


def _decoded(value: bytes) -> str | None:
    """Text in a tag of bytes: Exif's user comments begin with the name of their code, Microsoft's tags are UTF-16."""
    value = value[8:] if value[:8] in (b"ASCII\0\0\0", b"UNICODE\0") else value
    codec = "utf-16-le" if value[1:2] == b"\0" else "utf-8"
    text = value.decode(codec, "replace").strip("\0 ")
    return text if text and text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text else None


def _moment(value: Any) -> str | None:
    found = re.match(r"(\d{4})[:-](\d\d)[:-](\d\d) (\d\d:\d\d:\d\d)", str(_plain(value) or ""))
    if not found or found[1] == "0000":
        return None
    return f"{found[1]}-{found[2]}-{found[3]}T{found[4]}"


def _degrees(parts: Any, reference: Any, most: int) -> float | None:
    try:
        degrees, minutes, seconds = (float(part) for part in parts)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    value = degrees + minutes / 60 + seconds / 3600
    if not value <= most:
        return None
    return round(-value if str(_plain(reference)) in {"S", "W"} else value, 7)


def _profile(image: Any) -> str | None:
    from PIL import ImageCms

    data = image.info.get("icc_profile")
    if not data:
        return None
    try:
        return ImageCms.getProfileDescription(io.BytesIO(data)).strip() or None
    except ImageCms.PyCMSError:
        return None


def _written(image: Any) -> str | None:
    """What PNG, GIF and others say in text of their own."""
    names = ("Title", "Description", "Comment", "comment", "Keywords")
    said = [_plain(image.info.get(name)) for name in names]
    return " ".join(str(each) for each in said if each) or None
