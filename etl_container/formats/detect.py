"""What the bytes are, told from the bytes.

The first bytes decide; a file's name only breaks a tie between readings that both fit. So a CSV named ``.json`` is
read as the CSV it is, and a picture named ``.csv`` is refused with what it looks like and what to do.
"""

from __future__ import annotations

import json
import mimetypes
import re
from typing import Final

from etl_container.errors import ConfigError, UnreadableObjectError
from etl_container.formats.base import ReadOptions

_OPEN_DOCUMENT: Final = "application/vnd.oasis.opendocument."
_OFFICE: Final = (
    ("xl/workbook.xml", "xlsx"),
    ("xl/workbook.bin", "xlsb"),
    ("word/document.xml", "docx"),
    ("ppt/presentation.xml", "pptx"),
    ("META-INF/container.xml", "epub"),
    ("AndroidManifest.xml", "apk"),
    ("META-INF/MANIFEST.MF", "jar"),
)

FORMATS: Final = (
    "delimited",
    "jsonl",
    "json",
    "parquet",
    "arrow",
    "feather",
    "orc",
    "avro",
    "xlsx",
    "xls",
    "xlsb",
    "ods",
    *("eml", "mbox", "msg"),
    *("txt", "html", "pdf", "docx", "pptx", "odt", "rtf"),
    *("image", "sound", "archive"),
)
"""What :func:`detect` can answer: tables first, then what is not a table."""

_ALIASES: Final = {
    "csv": "delimited",
    "tsv": "delimited",
    "psv": "delimited",
    "ndjson": "jsonl",
    "jsonlines": "jsonl",
    "geojson": "json",
    "ipc": "arrow",
    "excel": "xlsx",
    "xlsm": "xlsx",
    "pq": "parquet",
    "mail": "eml",
    "text": "txt",
    "md": "txt",
    "htm": "html",
    **dict.fromkeys(("png", "jpg", "jpeg", "gif", "bmp", "tiff", "webp", "avif"), "image"),
    **dict.fromkeys(("mp3", "wav", "flac", "ogg", "opus", "aiff", "m4a", "mp4", "wma"), "sound"),
    **dict.fromkeys(("zip", "tar"), "archive"),
}

_EXCEL: Final = frozenset({"xlsx", "xls", "xlsb", "ods"})

_TABLES: Final = (
    (b"PAR1", "parquet"),
    (b"ARROW1\x00\x00", "arrow"),
    (b"FEA1", "feather"),
    (b"ORC", "orc"),
    (b"Obj\x01", "avro"),
)

_KINDS: Final = (
    (rb"\x89PNG\r\n", "image", "image/png"),
    (rb"\xff\xd8\xff", "image", "image/jpeg"),
    (rb"GIF8[79]a", "image", "image/gif"),
    (rb"BM....\x00\x00\x00\x00", "image", "image/bmp"),
    (rb"II\*\x00|MM\x00\*", "image", "image/tiff"),
    (rb"RIFF....WEBP", "image", "image/webp"),
    (rb"....ftypavi[fs]", "image", "image/avif"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "image", "image/jp2"),
    (rb"8BPS\x00\x01", "image", "image/vnd.adobe.photoshop"),
    (rb"\x00\x00[\x01\x02]\x00[\x01-\x40]\x00", "image", "image/vnd.microsoft.icon"),
    (rb"P[1-7]\s+(?:#[^\n]*\n\s*)*\d+\s+\d+\s", "image", "image/x-portable-anymap"),
    (rb"DDS ", "image", "image/vnd-ms.dds"),
    (rb"icns....ic|icns....TOC ", "image", "image/icns"),
    (rb"\x01\xda[\x00\x01][\x01\x02]", "image", "image/sgi"),
    (rb"qoif", "image", "image/qoi"),
    (rb"\x0a[\x00\x02-\x05]\x01[\x01\x02\x04\x08]", "image", "image/x-pcx"),
    (rb"BLP[12]", "image", "image/x-blp"),
    (rb".{4}[\x11\x12]\xaf.{6}[\x08\x00]\x00", "image", "video/x-fli"),
    (rb"RIFF....WAVE", "sound", "audio/wav"),
    (rb"FORM....AIF[FC]", "sound", "audio/aiff"),
    (rb"ID3[\x02-\x04]|\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef]", "sound", "audio/mpeg"),
    (rb"fLaC\x00", "sound", "audio/flac"),
    (rb"OggS\x00", "sound", "audio/ogg"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "sound", "audio/x-ms-wma"),
    (rb"....ftyp(?!hei|mif|msf)", "sound", "video/mp4"),
    (rb"%PDF-", "pdf", "application/pdf"),
    (rb"\{\\rtf", "rtf", "application/rtf"),
    (rb".{257}ustar[\x00 ]", "archive", "application/x-tar"),
    (rb"\s*(?:<\?xml[^>]*>\s*)?<(?:!DOCTYPE\s+html|html[\s>])", "html", "text/html"),
)
_KINDS_RE: Final = tuple((re.compile(m, re.DOTALL | re.IGNORECASE), found, media) for m, found, media in _KINDS)

_NOT_TABLES: Final = (
    (rb"RIFF....AVI ", "an AVI video"),
    (rb"....ftyp", "a HEIF image"),
    (rb"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (rb"wvpk", "a WavPack sound"),
    (rb"MAC ", "a Monkey's Audio sound"),
    (rb"MPCK|MP\+", "a Musepack sound"),
    (rb"TTA1", "a True Audio sound"),
    (rb"DSD |FRM8", "a DSD sound"),
    (rb"tBaK", "a TAK sound"),
    (rb"OFR ", "an OptimFROG sound"),
    (rb"ADIF|\xff[\xf0\xf1\xf8\xf9]", "an AAC sound"),
    (rb"\x0b\x77", "an AC-3 sound"),
    (rb"MThd", "a MIDI file"),
    (rb"SIMPLE  =", "a FITS image"),
    (rb"\xd7\xcd\xc6\x9a|\x01\x00\x09\x00\x00\x03", "a Windows metafile"),
    (rb"%!PS-Adobe|\xc5\xd0\xd3\xc6", "a PostScript document"),
    (rb"\x7fELF", "an ELF program"),
    (rb"MZ.{58,300}PE\x00\x00", "a Windows program"),
    (rb"\xfe\xed\xfa[\xce\xcf]|[\xce\xcf]\xfa\xed\xfe", "a macOS program"),
    (rb"\xca\xfe\xba\xbe\x00\x00", "a Java class or macOS program"),
    (rb"\x00asm\x01", "a WebAssembly module"),
    (rb"SQLite format 3\x00", "an SQLite database"),
    (rb".{8}DUCK[\x00-\xff]\x00", "a DuckDB database"),
    (rb"PGDMP", "a PostgreSQL dump"),
    (rb"PARE", "an encrypted Parquet file"),
    (rb"\x89HDF\r\n", "an HDF5 file"),
    (rb"CDF[\x01\x02\x05]", "a NetCDF file"),
    (rb"\x93NUMPY", "a NumPy array"),
    (rb"\x80[\x02-\x05](?:\x95|c|\}|\]|\()", "a Python pickle"),
    (rb"\$FL[23]@\(#\)", "an SPSS file"),
    (rb"<stata_dta>", "a Stata file"),
    (rb"\x00{12}\xc2\xea\x81\x60", "a SAS data set"),
    (rb"7z\xbc\xaf'\x1c", "a 7-Zip archive"),
    (rb"Rar!\x1a\x07", "a RAR archive"),
    (rb"\x1f\x9d", "a compress (.Z) file"),
    (rb"\x04\x22\x4d\x18", "an LZ4 file"),
    (rb"LZIP", "an lzip file"),
    (rb"\xff\x06\x00\x00sNaPpY", "a Snappy file"),
    (rb"wOF[F2]|\x00\x01\x00\x00\x00|OTTO\x00", "a font"),
    (rb"\s*<\?xml[\s ]", "an XML document"),
    (rb"\s*<svg[\s>]", "an SVG image"),
)
_NOT_TABLES_RE: Final = tuple((re.compile(magic, re.DOTALL | re.IGNORECASE), what) for magic, what in _NOT_TABLES)
_OFFICE_NAMES: Final = {
    "odp": "an OpenDocument presentation",
    "opendocument": "an OpenDocument file that is no spreadsheet",
    "epub": "an EPUB book",
    "apk": "an Android package",
    "jar": "a Java archive",
}

_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

_BOMS: Final = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)

_CONTROLS: Final = (
    bytes(c for c in range(32) if c not in b"\x00\t\n\x0b\x0c\r\x1a\x1b\x1c\x1d\x1e\x1f\x01\x02") + b"\x7f"
)
"""Bytes that no text has: not whitespace, not a separator that real files use, not NUL (which damaged text has)."""


def office_kind(names: list[str], mimetype: str = "") -> str | None:
    """What document a zip archive with these members is (``xlsx``, ``ods``, ``docx`` …); None for a plain archive."""
    if mimetype.startswith(_OPEN_DOCUMENT):
        kind = mimetype.removeprefix(_OPEN_DOCUMENT).split("-")[0]
        return {"spreadsheet": "ods", "text": "odt", "presentation": "odp"}.get(kind, "opendocument")
    present = {name.lower().lstrip("/") for name in names}
    return next((kind for member, kind in _OFFICE if member.lower() in present), None)


def detect(head: bytes, name: str, options: ReadOptions, *, document: str | None = None) -> str:
    """The format of an (already decompressed) object, one of :data:`FORMATS`.

    Args:
        head: its first bytes; 64 KiB are plenty.
        name: its name, looked at only where the bytes leave a choice, and for messages.
        options: ``format`` overrules everything but the choice among the spreadsheet formats.
        document: what a zip-based document is by its directory (``compression.unwrap``); None guesses.

    Raises:
        UnreadableObjectError: it is empty, or no table; the message says what it looks like.
        ConfigError: ``options.format`` is unknown.
    """
    if not head:
        raise UnreadableObjectError(
            f"{name} is empty: it has no bytes.", hint="Check where it came from; upload it again."
        )
    if options.format is not None:
        return _as_told(options.format, head, name, document)
    if found := _table_by_magic(head, name, document) or _kind_by_magic(head):
        return found
    if _extension(name) == "tga" and _is_binary(head):
        return "image"  # Targa has no mark of its own
    _refuse_what_is_no_table(head, name)
    return _text_format(head, name)


def _as_told(wanted: str, head: bytes, name: str, document: str | None) -> str:
    wanted = _ALIASES.get(wanted.lower(), wanted.lower())
    if wanted not in FORMATS:
        raise ConfigError(f"read.format {wanted!r} is unknown.", hint=f"Use one of: csv, {', '.join(FORMATS[1:])}.")
    if wanted in _EXCEL:
        found = _table_by_magic(head, name, document)
        return found if found in _EXCEL else wanted
    return wanted


def _table_by_magic(head: bytes, name: str, document: str | None) -> str | None:
    for magic, found in _TABLES:
        # "ORC" alone may begin a CSV's header.
        if head.startswith(magic) and (found != "orc" or _is_binary(head)):
            return found
    if (
        head[:4] == b"\xff\xff\xff\xff"
        and 0 < int.from_bytes(head[4:8], "little") < 1 << 28
        and head[8:12] != b"\xff" * 4
    ):
        return "arrow"
    if head.startswith(b"PK\x03\x04"):
        return _zip_document(head, name, document)
    if head.startswith(_OLE):
        return _ole_document(head, name)
    if head[:2] == b"\x09\x08" and head[2:4] in (b"\x08\x00", b"\x10\x00"):
        return "xls"
    return None


def _zip_document(head: bytes, name: str, document: str | None) -> str:
    """Which document a zip-based file is, from its directory or else from the member names that ``head`` holds."""
    if document is None:
        members = re.findall(rb"xl/workbook\.(?:xml|bin)|word/document\.xml|ppt/presentation\.xml", head)
        mimetype = re.search(rb"mimetype(application/vnd\.oasis\.opendocument\.[a-z]+)", head)
        document = office_kind([member.decode() for member in members], mimetype[1].decode() if mimetype else "")
    if document is None:
        document = _ALIASES.get(_extension(name), _extension(name))
        return document if document in {*_EXCEL, "docx", "pptx", "odt"} else "xlsx"
    if document in _OFFICE_NAMES:
        _refuse(name, _OFFICE_NAMES[document])
    return document


def _ole_document(head: bytes, name: str) -> str:
    """An OLE compound file: an old Excel workbook unless its directory names another application's stream."""
    if "__substg1.0".encode("utf-16-le") in head or _extension(name) == "msg":
        return "msg"
    for stream, what in (
        ("WordDocument", "a Word document"),
        ("PowerPoint Document", "a PowerPoint presentation"),
        ("EncryptedPackage", "an encrypted Office document"),
    ):
        if stream.encode("utf-16-le") in head:
            _refuse(name, what)
    return "xls"


def _kind_by_magic(head: bytes) -> str | None:
    """What is not a table and known by its first bytes; e-mails by their headers."""
    for magic, found, _media in _KINDS_RE:
        if magic.match(head):
            return found
    if re.match(rb"From \S+.*\d{4}\r?\n[!-9;-~]+:", head):
        return "mbox"
    lines = re.match(rb"(?:[!-9;-~]+:[^\n]*\n(?:[ \t][^\n]*\n)*){2,}", head)
    if lines is None:
        return None
    names = {name.lower() for name in re.findall(rb"^([!-9;-~]+):", lines[0], re.MULTILINE)}
    return "eml" if len(names & _MAIL_HEADERS) >= 2 and (names - {b"from", b"to", b"cc"}) & _MAIL_HEADERS else None


_MAIL_HEADERS: Final = frozenset(
    b"from to cc subject date received message-id mime-version return-path delivered-to reply-to content-type "
    b"in-reply-to references x-mailer".split()
)


def _refuse(name: str, what: str) -> None:
    raise UnreadableObjectError(
        f"{name} looks like {what}, which is nothing that can be read.",
        hint="The README lists what can; set read.format if this is one of them.",
    )


def _refuse_what_is_no_table(head: bytes, name: str) -> None:
    for magic, what in _NOT_TABLES_RE:
        if magic.match(head):
            _refuse(name, what)
    if _is_binary(head):
        _refuse(name, "binary data of an unknown kind")


def _is_binary(head: bytes) -> bool:
    """Whether bytes that are no text in any encoding are common."""
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            text = head[: len(head) // 4 * 4].decode(encoding, "replace")
            return _is_noise(text)
    # A short file has few bytes to judge by; a single stray control byte must not condemn it.
    controls = len(head) - len(head.translate(None, _CONTROLS))
    nuls = head.count(0)
    if controls <= max(2, len(head) // 50) and nuls <= max(2, len(head) // 10):
        return False
    return not any(_reads_as(head, encoding) for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"))


def _reads_as(head: bytes, encoding: str) -> bool:
    text = head[: len(head) // 4 * 4].decode(encoding, "replace")
    return bool(re.search(r"[\n,;\t|]", text)) and not _is_noise(text)


def _is_noise(text: str) -> bool:
    """More than 3 % of the characters are controls, unassigned, or could not be decoded."""
    bad = sum(1 for c in text if c == "\ufffd" or not (c.isprintable() or c in "\t\n\r\x0b\x0c\x00\ufeff\u3000\xa0"))
    return bad > max(2, len(text) * 0.03)


# --- text: delimited or JSON -----------------------------------------------------------------------------------------

_JSON_START: Final = re.compile(
    r'\s*(?:\{\s*(?:"(?:[^"\\\n]|\\.)*"\s*:|\})|\[\s*(?:[\[{"\]]|-?\d|true\b|false\b|null\b))'
)
_PAGE: Final = re.compile(r"\s*\[\s*\{")
_MEMBER: Final = re.compile(r'\s*\{\s*"(?:[^"\\\n]|\\.)*"\s*:')


def _text_format(head: bytes, name: str) -> str:
    text = decoded_head(head)
    if text.startswith("\x1e"):
        # RFC 7464: JSON text sequences.
        return "json"
    extension = _extension(name)
    json_named = extension in {"json", "jsonl", "ndjson", "geojson"}
    if _JSON_START.match(text) or (text[:64].lstrip()[:1] in ("{", "[") and (json_named or _many_json_lines(text))):
        if found := _json_format(text):
            is_lines = found == "json" and extension in {"jsonl", "ndjson"} and _breaks_within_line(text)
            return "jsonl" if is_lines else found
        if json_named:
            return "jsonl" if extension in {"jsonl", "ndjson"} else "json"
    # Lines of bare scalars are a one-column CSV unless the name claims otherwise.
    if json_named and (_all_scalar_lines(text) or _many_json_lines(text)):
        return "jsonl"
    if json_named and not _has_columns(text):
        return "json"  # a column of fragments is no CSV: the reader of JSON says what is wrong
    return "txt" if _is_prose(text, extension) else "delimited"


def _has_columns(text: str) -> bool:
    from etl_container.formats.dialect import detect as find_layout

    return len(find_layout(text[:24_000], ReadOptions(), whole=False).labels) > 1


def _is_prose(text: str, extension: str) -> bool:
    """Whether a text is to be read, not counted: marked up by its name, or sentences in a file named like text."""
    if extension in {"md", "markdown", "rst", "adoc", "tex"}:
        return True
    if extension not in {"txt", "text", ""}:
        return False
    lines = [line for line in text.splitlines() if line.strip()][:200]
    words = [len(re.findall(r"[^\W\d_]+", line)) for line in lines]
    if not lines or sum(words) < 5 * len(lines) or len(re.findall(r"[.!?](?:\s|$)", text)) * 8 < len(lines):
        return False
    from etl_container.formats.dialect import detect as find_layout

    layout = find_layout(text[:24_000], ReadOptions(), whole=False)
    return len(layout.labels) < 2 or not layout.typed


def media_type(head: bytes, name: str) -> str | None:
    """The media type of an object by its first bytes, else by its name."""
    for magic, _found, media in _KINDS_RE:
        if magic.match(head):
            return media
    media = next((media for start, media in _TABLE_MEDIA if head.startswith(start)), "")
    if not media:
        media = {"eml": "message/rfc822", "mbox": "application/mbox"}.get(_kind_by_magic(head) or "", "")
    guessed = mimetypes.guess_type(name)[0]
    if media == "application/zip":
        return _zip_media(head) or (guessed if (guessed and "openxml" in guessed) or "epub" in str(guessed) else media)
    if media:
        return guessed if media == "application/x-ole-storage" and guessed else media
    if _is_binary(head):
        return "application/octet-stream"
    return guessed if guessed and not guessed.startswith(("image/", "audio/", "video/")) else "text/plain"


def _zip_media(head: bytes) -> str | None:
    """What a zip-based document is, by the members that its first bytes name."""
    office = "application/vnd.openxmlformats-officedocument."
    if found := re.search(rb"mimetype(application/[\w.+-]+?)(?:PK|$)", head):
        return found[1].decode()
    for member, media in (
        (b"word/", office + "wordprocessingml.document"),
        (b"xl/", office + "spreadsheetml.sheet"),
        (b"ppt/", office + "presentationml.presentation"),
    ):
        if member in head:
            return media
    return None


_TABLE_MEDIA: Final = (
    (b"PAR1", "application/vnd.apache.parquet"),
    (b"ARROW1\x00\x00", "application/vnd.apache.arrow.file"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"PK\x03\x04", "application/zip"),
    (_OLE, "application/x-ole-storage"),
)


def decoded_head(head: bytes) -> str:
    """``head`` as text, by its byte order mark or else as (possibly cut and damaged) UTF-8 or UTF-16."""
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return head.decode(encoding, "ignore")
    if head[1:2] == b"\x00" and head[:1] in b"{[ \t\r\n":
        return head.decode("utf-32-le" if head[2:4] == b"\x00\x00" else "utf-16-le", "ignore")
    if head[:1] == b"\x00" and len(head) > 3:
        return head.decode("utf-16-be" if head[1] else "utf-32-be", "ignore")
    return head.decode("utf-8", "replace")


def _json_format(text: str) -> str | None:
    """``jsonl`` or ``json`` when the text reads as it, None when it only begins like it."""
    lines = [line for line in text.splitlines()[:-1] if line.strip()]
    last = text.splitlines()[-1]
    whole = [line for line in lines if _is_document(line)]
    if len(lines) >= 2 and len(whole) * 2 > len(lines):
        # Lines that are pages of records, [{…}, {…}], are opened like any other array.
        return "json" if all(_PAGE.match(line) for line in whole) else "jsonl"
    if len(lines) == 1 and whole and last.strip():
        # Two lines, the second perhaps cut off by the end of the head.
        return "json" if _PAGE.match(last) else "jsonl" if last.lstrip()[:1] in ("{", "[") else None
    start = len(text) - len(text.lstrip())
    try:
        value, end = json.JSONDecoder(strict=False, parse_int=str).raw_decode(text, start)
    except RecursionError:
        return "json"
    except json.JSONDecodeError as error:
        # Cut off by the end of the head, or broken late: JSON. Broken at once: something else.
        return "json" if _MEMBER.match(text) or (text[start : start + 1] == "[" and error.pos > start + 1) else None
    rest = text[end:].lstrip()
    if not isinstance(value, dict | list) or (rest and rest[0] not in "{[\x1e"):
        return None
    return "json"


def _breaks_within_line(text: str) -> bool:
    """Whether the first line is broken before its end, so that no document can go on behind it."""
    line = text.lstrip().partition("\n")[0].rstrip()
    try:
        json.loads(line, strict=False, parse_int=str)
    except json.JSONDecodeError as error:
        return error.pos < len(line)
    except RecursionError:
        pass
    return False


def _is_document(line: str) -> bool:
    line = line.strip()
    if line[:1] not in ("{", "[") or line[-1:] not in ("}", "]"):
        return False
    try:
        json.loads(line, strict=False, parse_int=str)
    except (ValueError, RecursionError):
        return False
    return True


def _many_json_lines(text: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip()][:200]
    return sum(map(_is_document, lines)) * 2 > len(lines)


def _all_scalar_lines(text: str) -> bool:
    lines = [line.strip() for line in text.splitlines() if line.strip()][:200]
    return all(
        re.fullmatch(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null', line) for line in lines
    )


def _extension(name: str) -> str:
    return name.rsplit(".", 1)[-1].lower() if "." in name else ""
