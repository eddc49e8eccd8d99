"""Documents: their text, page by page, with title, author and language.

What a page is: of a PDF a page, of a presentation a slide; the others have no pages of their own and are cut at
paragraphs into pieces of about :data:`PIECE` characters, so that no row grows with the document.
"""

from __future__ import annotations

import contextlib
import re
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from etl_container.formats.kinds.language import language_of
from etl_container.formats.kinds.markup import read_html

PIECE: Final = 60_000
"""Characters of one piece of a document without pages."""
MAX_BYTES: Final = 256 << 20
"""Bytes of a document that is read whole."""
MAX_INFLATED: Final = 512 << 20
"""Bytes that a zipped document may inflate to."""


def rows(path: str, found: str) -> Iterator[dict[str, Any]]:
    """A row per page."""
    if found == "pdf":
        yield from _pdf(path)
        return
    if found in {"docx", "pptx", "odt"}:
        _refuse_bomb(path)
    read = {"txt": _txt, "html": _html, "rtf": _rtf, "docx": _docx, "pptx": _pptx, "odt": _odt}[found]
    pages, facts = read(path)
    language = facts.pop("language", None) or language_of("\n".join(pages)[:8000])
    for number, text in enumerate(pages, start=1):
        yield _page(number, text, pages=len(pages), language=language, **facts)


def _page(
    number: int,
    text: str,
    *,
    pages: int,
    title: str | None = None,
    author: str | None = None,
    language: str | None = None,
    created_at: str | None = None,
) -> dict[str, Any]:
    text = text.replace("\x00", "").encode("utf-8", "replace").decode()
    return {
        "page": number,
        "text": text,
        "title": title or None,
        "author": author or None,
        "language": language,
        "words": len(re.findall(r"\w+", text)),
        "pages": pages,
        "created_at": created_at,
    }


def _pdf(path: str) -> Iterator[dict[str, Any]]:
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    reader = PdfReader(path)
    if reader.is_encrypted and not reader.decrypt(""):
        raise ValueError("it is protected by a password")
    facts: dict[str, Any] = {}
    try:
        known = reader.metadata
        if known is not None:
            facts = {"title": known.title, "author": known.author, "created_at": _moment(known.creation_date)}
    except Exception:  # noqa: BLE001  what is said about a document is worth less than the document
        facts = {}
    facts = {name: None if value is None else str(value) for name, value in facts.items()}
    pages = len(reader.pages)
    for number, page in enumerate(reader.pages, start=1):
        try:
            text = page.extract_text()
        except (PyPdfError, ValueError, KeyError, TypeError, IndexError, AttributeError, ArithmeticError):
            if pages == 1:
                raise
            text = ""  # one bad page of several
        yield _page(number, text, pages=pages, language=language_of(text), **facts)


def _moment(value: object) -> str | None:
    return value.replace(tzinfo=None).isoformat() if isinstance(value, datetime) else None


def _txt(path: str) -> tuple[list[str], dict[str, Any]]:
    from etl_container.formats.encoding import find_encoding

    data = _bytes(path)
    encoding = find_encoding(data[: 1 << 20], whole=len(data) <= 1 << 20, name="it")
    text = data[encoding.bom :].decode(encoding.codec, "replace")
    heading = re.match(r"\s*#\s+(.+)", text) or re.match(r"\s*(\S.*)\n[=]{3,}\s*\n", text)
    return _pieces(text), {"title": heading[1].strip() if heading else None}


def _html(path: str) -> tuple[list[str], dict[str, Any]]:
    page = read_html(_bytes(path))
    return _pieces(page.text), {"title": page.title, "author": page.author, "language": page.language}


def _rtf(path: str) -> tuple[list[str], dict[str, Any]]:
    from striprtf.striprtf import rtf_to_text

    raw = _bytes(path).decode("latin-1")
    info = {name: re.search(rf"\\{name} ([^{{}}\\]{{1,300}})", raw) for name in ("title", "author")}
    facts = {name: found[1].strip() if found else None for name, found in info.items()}
    read: Any = rtf_to_text
    return _pieces(read(raw, encoding="cp1252", errors="replace")), facts


def _docx(path: str) -> tuple[list[str], dict[str, Any]]:
    from docx import Document
    from docx.table import Table

    try:
        document = Document(path)
    except (ValueError, KeyError):  # templates and macros, which the library refuses; parts that are missing
        return _word_xml(path)
    lines: list[str] = []
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            lines += ["\t".join(cell.text for cell in row.cells) for row in block.rows]
        else:
            lines.append(block.text)
    return _pieces("\n".join(lines)), _core(document.core_properties)


def _word_xml(path: str) -> tuple[list[str], dict[str, Any]]:
    """The paragraphs of the main part alone (ECMA-376, part 1, 17.3)."""
    word = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
    lines = [
        "".join("\t" if node.tag == f"{word}tab" else node.text or "" for node in block.iter(f"{word}t", f"{word}tab"))
        for block in _part(path, "word/document.xml").iter(f"{word}p")
    ]
    return _pieces("\n".join(lines)), _core_xml(path)


def _slides_xml(path: str) -> tuple[list[str], dict[str, Any]]:
    """The paragraphs of each slide (ECMA-376, part 1, 21.1.2), in the order of their numbers."""
    drawing = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
    with zipfile.ZipFile(path) as archive:
        found = [re.fullmatch(r"ppt/slides/slide(\d+)\.xml", name) for name in archive.namelist()]
    slides = sorted((int(match[1]), match[0]) for match in found if match)
    blocks = [list(_part(path, name).iter(f"{drawing}p")) for _, name in slides]
    return [
        "\n".join("".join(text.text or "" for text in block.iter(f"{drawing}t")) for block in slide) for slide in blocks
    ], _core_xml(path)


def _core_xml(path: str) -> dict[str, Any]:
    try:
        core = _part(path, "docProps/core.xml")
    except KeyError:
        return {}
    return {"title": core.findtext("{*}title"), "author": core.findtext("{*}creator")}


def _part(path: str, name: str) -> Any:
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    with zipfile.ZipFile(path) as archive:
        return etree.fromstring(archive.read(name), parser)


def _pptx(path: str) -> tuple[list[str], dict[str, Any]]:
    from pptx import Presentation

    try:
        show = Presentation(path)
    except (ValueError, KeyError):  # as in _docx
        return _slides_xml(path)
    pages = []
    for slide in show.slides:
        lines = []
        for shape in slide.shapes:
            if shape.has_text_frame:
                lines.append(shape.text_frame.text)
            elif getattr(shape, "has_table", False):
                lines += ["\t".join(cell.text for cell in row.cells) for row in shape.table.rows]
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            lines.append(slide.notes_slide.notes_text_frame.text)
        pages.append("\n".join(line for line in lines if line))
    return pages, _core(show.core_properties)


def _core(properties: Any) -> dict[str, Any]:
    return {"title": properties.title, "author": properties.author, "created_at": _moment(properties.created)}


def _odt(path: str) -> tuple[list[str], dict[str, Any]]:
    content, meta = _part(path, "content.xml"), None
    with contextlib.suppress(KeyError):
        meta = _part(path, "meta.xml")
    spaces = {
        "text": "urn:oasis:names:tc:opendocument:xmlns:text:1.0",
        "dc": "http://purl.org/dc/elements/1.1/",
        "meta": "urn:oasis:names:tc:opendocument:xmlns:meta:1.0",
    }
    blocks = content.xpath("//text:p | //text:h", namespaces=spaces)
    text = "\n".join("".join(block.itertext()) for block in blocks)
    facts: dict[str, Any] = {}
    if meta is not None:
        created = meta.findtext(".//meta:creation-date", namespaces=spaces)
        facts = {
            "title": meta.findtext(".//dc:title", namespaces=spaces),
            "author": meta.findtext(".//dc:creator", namespaces=spaces),
            "created_at": created[:19] if created and re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", created) else None,
        }
    return _pieces(text), facts


def _bytes(path: str) -> bytes:
    if Path(path).stat().st_size > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES >> 20} MB")
    return Path(path).read_bytes()


def _pieces(text: str) -> list[str]:
    """The text in pieces of about :data:`PIECE` characters, cut at a blank line, a line end or a space."""
    pieces, start = [], 0
    while len(text) - start > PIECE:
        end = start + PIECE
        for mark in ("\n\n", "\n", " "):
            found = text.rfind(mark, start + PIECE // 2, end)
            if found > 0:
                end = found + len(mark)
                break
        pieces.append(text[start:end].strip())
        start = end
    pieces.append(text[start:].strip())
    return pieces


def _refuse_bomb(path: str) -> None:
    with zipfile.ZipFile(path) as archive:
        size = sum(info.file_size for info in archive.infolist())
    if size > MAX_INFLATED:
        raise ValueError(f"it inflates to {size >> 20} MB, more than {MAX_INFLATED >> 20} MB")
