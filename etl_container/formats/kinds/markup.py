"""HTML as text, with its title, author and language."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "br",
        "dd",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "td",
        "th",
        "tr",
        "ul",
        "title",
    ]
)
_SILENT = frozenset({"script", "style", "noscript", "template", "head"})


@dataclass(frozen=True, slots=True)
class Page:
    """What an HTML page says."""

    text: str
    title: str | None = None
    author: str | None = None
    language: str | None = None


def read_html(data: bytes | str) -> Page:
    """The text of a page, a line per block, and what its head says of it. Never raises on bad markup."""
    from lxml import etree, html

    if not data.strip():
        return Page("")
    parser = html.HTMLParser(no_network=True, remove_comments=True, remove_pis=True, huge_tree=False)
    try:
        root = html.document_fromstring(data, parser=parser)
    except (etree.LxmlError, ValueError):
        if isinstance(data, bytes):
            raise
        return read_html(data.encode("utf-8", "replace"))
    parts: list[str] = []
    body = root.find("body")
    _collect(root if body is None else body, parts)
    text = re.sub(r"[ \t\xa0]+", " ", "".join(parts))
    text = re.sub(r" ?\n ?", "\n", re.sub(r"\n\s*\n\s*", "\n\n", text)).strip()
    title = root.findtext(".//title")
    authors = root.xpath(".//meta[translate(@name,'AUTHOR','author')='author']/@content")
    language = (root.get("lang") or "").split("-")[0].lower()
    return Page(
        text,
        " ".join(title.split()) if title else None,
        str(authors[0]) if authors else None,
        language if len(language) == 2 else None,
    )


def text_of_html(data: str) -> str:
    """The text of a page; empty where there is none."""
    try:
        return read_html(data).text
    except Exception:  # noqa: BLE001  a body that is no HTML has no text; the HTML itself is kept
        return ""


def _collect(root: object, parts: list[str]) -> None:
    from lxml import etree

    for event, node in etree.iterwalk(root, events=("start", "end")):
        tag = node.tag if isinstance(node.tag, str) else ""
        silent = tag in _SILENT or any(up.tag in _SILENT for up in node.iterancestors("script", "style", "template"))
        if event == "start":
            if tag in _BLOCKS:
                parts.append("\n")
            if node.text and tag and not silent:
                parts.append(node.text.replace("\n", " "))
        else:
            if tag in _BLOCKS:
                parts.append("\n")
            if node.tail and node is not root:
                parts.append(node.tail.replace("\n", " "))
