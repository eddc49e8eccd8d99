"""Bytes of any encoding in, UTF-8 blocks out.

The delimited reader works on UTF-8 only. This room finds out how a text is encoded (a byte order mark, UTF-8 itself,
UTF-16/32 by where their zero bytes lie, else the chardet library's verdict) and re-codes it block by block.
A byte that its encoding cannot explain never ends a load: it is read as Windows-1252 (what such a byte most often is;
in UTF-16 and UTF-32 as U+FFFD, being part of a character), and counted.
"""

from __future__ import annotations

import codecs
import re
import threading
import unicodedata
from collections.abc import Iterator
from typing import BinaryIO

from msgspec import Struct

from etl_container.errors import ConfigError, UnreadableObjectError

_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_TEXT_CONTROLS = frozenset(b"\t\n\r\f\v\x00\x1a\x1b\x1c\x1d\x1e\x1f\x85\x07\x08")
MAGIC = (
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Microsoft Office document"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"PAR1", "a Parquet file"),
)


LEGACY = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874"),
    *("iso8859-2", "iso8859-5", "iso8859-7", "koi8-r", "koi8-u", "cp866", "cp850", "mac-roman"),
    *("cp932", "euc-jp", "gb18030", "big5", "cp949"),
)
"""The encodings that data files are met in, besides Unicode's; ISO 8859-1 and -15 hide in Windows-1252."""
WESTERN_SIGNS = frozenset("‘’“”„‚–—…•€£¥§©®™°±²³¹µ¶·«»¿¡¼½¾×÷ªº\xa0\xad†‡‰‹›¢¬´¨¸")
BESIDE_LETTERS = frozenset("‘’“”„‚–—…•·«»¿¡\xa0\xad‹›")
"""The signs of these that stand within or before words."""
FEW = 3
"""So few bytes above ASCII tell no language."""
NEARLY = 0.65
"""Windows-1252, where a text reads well in it, need only be this likely beside the likeliest encoding."""


class Encoding(Struct, frozen=True):
    """How a text is encoded: Python's name of the codec, and the length of the byte order mark before it."""

    codec: str
    bom: int = 0

    @property
    def remedy(self) -> str:
        """What becomes of a byte that is wrong in it, as the user is told."""
        return "replaced by U+FFFD" if self.codec.startswith(_WIDE) else "read as Windows-1252"

    @property
    def label(self) -> str:
        """The name that the user sees."""
        return f"{self.codec}-sig" if self.codec == "utf-8" and self.bom else self.codec


def find_encoding(head: bytes, *, whole: bool, name: str, given: str | None = None) -> Encoding:
    """How ``head``, the first bytes of an object, is encoded. ``whole`` says that there is nothing after it.

    Raises:
        ConfigError: ``given`` is not the name of an encoding.
        UnreadableObjectError: the bytes are not text.
    """
    bom = next(((codec, len(mark)) for mark, codec in _BOMS if head.startswith(mark)), None)
    if given is not None:
        try:
            codec = codecs.lookup(given.strip().lower()).name
        except LookupError:
            raise ConfigError(
                f"There is no encoding called {given!r}.", hint="Use a name such as utf-8, windows-1252 or shift_jis."
            ) from None
        plain = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(codec, codec)
        if bom is not None and (bom[0] == plain or (codec in {"utf-16", "utf-32"} and bom[0].startswith(codec))):
            return Encoding(*bom)
        return Encoding(plain)
    if bom is not None:
        return Encoding(*bom)
    for magic, kind in MAGIC:
        if head.startswith(magic):
            raise UnreadableObjectError(f"{name} is {kind}, not text.", hint="Give it the right extension.")
    wide = _wide(head)
    if wide is not None:
        return Encoding(wide)
    _refuse_binary(head, name)
    if _is_utf8(head, whole=whole):
        return Encoding("utf-8")
    return Encoding(_by_charset(head))


def utf8_blocks(stream: BinaryIO, encoding: Encoding, size: int, wrong: list[int]) -> Iterator[bytes]:
    """The text of ``stream`` as blocks of UTF-8, about ``size`` bytes each, without its byte order mark.

    UTF-8 itself passes unchecked. For other codecs ``wrong[0]`` counts the bytes that had to be guessed.
    """
    if encoding.bom:
        _read_exactly(stream, encoding.bom)
    if encoding.codec in {"utf-8", "ascii"}:
        while block := stream.read(size):
            yield block
        return

    decoder = codecs.getincrementaldecoder(encoding.codec)(_GUESS)
    while True:
        block = stream.read(size)
        with _Guesses() as guessed:
            text = decoder.decode(block, final=not block)
        wrong[0] += len(guessed)
        yield text.encode("utf-8", "replace")
        if not block:
            return


_GUESS = "etl-container-guess"
_WIDE = ("utf-16", "utf-32")
"""In these a wrong byte is part of a character that was cut, not a character of another encoding."""
_local = threading.local()


class _Guesses:
    """Collects where, in the bytes decoded within it by this thread, the wrong ones stand."""

    def __enter__(self) -> list[int]:
        _local.guessed = []
        return _local.guessed  # type: ignore[no-any-return]

    def __exit__(self, *_: object) -> None:
        _local.guessed = []


def _guess(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    _local.guessed.append(error.start)
    if error.encoding.startswith(_WIDE):
        return "\N{REPLACEMENT CHARACTER}", error.end
    return repair(error.object[error.start : error.end]), error.end


codecs.register_error(_GUESS, _guess)


def repair(wrong: bytes) -> str:
    """Bytes that are wrong in their encoding, as the characters they most likely were."""
    return wrong.decode("cp1252", "replace")


def to_text(block: bytes) -> tuple[str, list[int]]:
    """UTF-8 as text, wrong bytes repaired; with the positions of these bytes."""
    with _Guesses() as guessed:
        return block.decode("utf-8", _GUESS), list(guessed)


def _read_exactly(stream: BinaryIO, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := stream.read(count - len(data))):
        data += more
    return data


def _is_utf8(head: bytes, *, whole: bool) -> bool:
    """Whether it is UTF-8, but for a wrong byte here and there (at most one to four characters beyond ASCII).

    Other encodings make well-formed sequences of UTF-8 by chance only: in Thai, where they do so most often, one for
    five wrong bytes.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(head)
    except UnicodeDecodeError:
        pass
    else:
        # What ends within a character was cut off there, unless nothing before that speaks for UTF-8.
        return not (whole and decoder.getstate()[0]) or not text.isascii()
    text = head.decode("utf-8", "replace")
    wrong = text.count("\N{REPLACEMENT CHARACTER}")
    right = sum(1 for c in text if c > "\x7f") - wrong
    return right >= 4 * wrong


def _wide(head: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte order mark: ASCII letters leave zero bytes in fixed places."""
    part = head[: 4096 - 4096 % 4]
    part = part[: len(part) - len(part) % 4]
    if len(part) < 8 or b"\x00" not in part:
        return None
    zeros = [part[i::4].count(0) / (len(part) // 4) for i in range(4)]
    low = 0.3
    if zeros[1] > 0.9 and zeros[2] > 0.9 and zeros[3] > 0.9 and zeros[0] < low:
        return "utf-32-le"
    if zeros[0] > 0.9 and zeros[1] > 0.9 and zeros[2] > 0.9 and zeros[3] < low:
        return "utf-32-be"
    even, odd = (zeros[0] + zeros[2]) / 2, (zeros[1] + zeros[3]) / 2
    if odd > 0.5 and even < 0.05:
        return "utf-16-le"
    if even > 0.5 and odd < 0.05:
        return "utf-16-be"
    return None


def _refuse_binary(head: bytes, name: str) -> None:
    """Many control bytes mean that it is no text at all; a few zero bytes are only dirt."""
    part = head[:65536]
    controls = sum(part.count(bytes([b])) for b in range(32) if b not in _TEXT_CONTROLS)
    zeros = part.count(0)
    if controls > max(2, len(part) // 100) or zeros > len(part) // 4:
        raise UnreadableObjectError(
            f"{name} is not text: {controls + zeros} of its first {len(part)} bytes are control bytes.",
            hint="Name the format if the extension is wrong ([dataset.NAME.read] format = …).",
        )


def _by_charset(head: bytes) -> str:
    """The legacy encoding of a text: Windows-1252 where it reads well so, else what chardet finds likeliest."""
    import chardet

    lines = [line for line in head.splitlines(keepends=True) if not line.isascii()]
    if len(lines) > 1 and not lines[-1].endswith((b"\n", b"\r")):
        lines.pop()  # may end within a character
    sample = b"".join(lines)[:65536]
    western = _is_western(sample)
    if western and sum(byte > 0x7F for byte in sample) < FEW:
        return "cp1252"
    found = chardet.detect_all(sample, ignore_threshold=True, include_encodings=LEGACY, compat_names=False)
    likely = [(codecs.lookup(each["encoding"]).name, each["confidence"]) for each in found if each["encoding"]]
    sound = ((codec, rank) for codec, rank in likely if not _mixes_scripts(sample[:8000].decode(codec, "replace")))
    best, confidence = next(sound, ("cp1252", 0.0))
    own = max((rank for codec, rank in likely if codec == "cp1252"), default=0.0)
    return "cp1252" if western and own >= NEARLY * confidence else best


def _mixes_scripts(text: str) -> bool:
    """Whether most words beyond ASCII hold Latin letters beside those of another script, as no language has it."""
    words = [word for word in re.findall(r"[^\W\d_]+", text) if not word.isascii()]
    mixed = 0
    for word in words:
        latin = [char <= "z" or unicodedata.name(char, "").startswith("LATIN") for char in word]
        mixed += any(latin) and not all(latin)
    return mixed * 2 > len(words)


def _is_western(sample: bytes) -> bool:
    """Whether the bytes above ASCII are, in Windows-1252, what Western European text holds where it stands."""
    text = sample.decode("cp1252", "replace")
    odd = total = letters = 0
    for before, char, after in zip(" " + text, text, text[1:] + " ", strict=False):
        if char <= "\x7f":
            letters += char.isalpha()
            continue
        total += 1
        if char.isalpha():
            # A capital within a word, or the signs that Western words lack.
            odd += (char.isupper() and before.islower()) or char in "ƒªºþðÞÐ"
        else:
            within = after.isalpha() and (before.isalpha() or char in "£¦¯¼¾")
            odd += char not in WESTERN_SIGNS or (within and char not in BESIDE_LETTERS)
    return odd * 20 <= total <= letters
