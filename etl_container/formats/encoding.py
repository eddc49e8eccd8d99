"""Bytes of any encoding in, UTF-8 blocks out.

The delimited reader works on UTF-8 only. This room finds out how a text is encoded (a byte order mark, UTF-8 itself,
UTF-16/32 by where their zero bytes lie, else the charset-normalizer library's verdict) and re-codes it block by block.
A byte that its encoding cannot explain never ends a load: it is read as Windows-1252 (what such a byte most often is),
and counted.
"""

from __future__ import annotations

import codecs
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

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
    *("iso8859_2", "iso8859_5", "iso8859_7", "koi8_r", "cp866", "cp850", "mac_roman"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949"),
)
"""The encodings that data files are met in, besides Unicode's; ISO 8859-1 and -15 hide in Windows-1252."""
MULTIBYTE = frozenset({"cp932", "euc_jp", "gb18030", "big5", "cp949"})
WESTERN_SIGNS = frozenset("‘’“”„‚–—…•€£¥§©®™°±²³¹µ¶·«»¿¡¼½¾×÷ªº\xa0\xad†‡‰‹›¢¬´¨¸")
BESIDE_LETTERS = frozenset("‘’“”„‚–—…•·«»¿¡\xa0\xad‹›")
"""The signs of these that stand within or before words."""
FEW = 10
"""So few bytes above ASCII tell no language."""
CLEARLY = 0.03
"""By so much another encoding must read more like a language (0 to 1) than Windows-1252, where that reads well."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a text is encoded: Python's name of the codec, and the length of the byte order mark before it."""

    codec: str
    bom: int = 0

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
    """Whether it is UTF-8, but for a wrong byte here and there (at most one in a hundred of the non-ASCII ones)."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        pass
    else:
        return True
    text = head.decode("utf-8", "replace")
    wrong = text.count("�")
    right = sum(1 for c in text if c > "\x7f") - wrong
    return right >= 100 * wrong


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
    """The legacy encoding of a text: Windows-1252 where it reads well so, else what charset-normalizer finds best."""
    from charset_normalizer import from_bytes

    lines = [line for line in head.splitlines(keepends=True) if not line.isascii()]
    sample = b"".join(lines)[:65536]
    western = _is_western(sample)
    found = list(from_bytes(sample, cp_isolation=list(LEGACY)))
    if not found:
        return "cp1252"
    best = found[0]
    if western and sum(byte > 0x7F for byte in sample) < FEW:
        return "cp1252"
    if western and best.encoding not in MULTIBYTE:
        own = next((match for match in found if match.encoding == "cp1252"), None)
        if own is None or best.coherence <= own.coherence + CLEARLY:
            return "cp1252"
    return codecs.lookup(best.encoding).name


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
