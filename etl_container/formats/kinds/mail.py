"""E-mail: one message (.eml), a mailbox of them (.mbox, streamed), or one of Outlook's (.msg).

Headers as RFC 5322 and RFC 2047 have them, as far as the sender kept to them; text in whatever encoding it claims, or
else as it can be read. Attachments are listed with size and SHA-256; ``upload --unpack`` lands them as objects.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import decode_header
from email.message import Message
from email.utils import formataddr, getaddresses, parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from etl_container.formats.kinds.language import language_of
from etl_container.formats.kinds.markup import text_of_html

MAX_MESSAGE: Final = 256 << 20
"""Bytes of one message."""
MAX_TEXT: Final = 16 << 20
"""Characters of a body that are kept."""


# Outlook's names of code pages, of which Python knows but a few.
codecs.register(lambda name: codecs.lookup(f"cp{name[8:]}") if re.fullmatch(r"windows_\d+", name) else None)


def rows(path: str, found: str) -> Iterator[dict[str, Any]]:
    """A row per message."""
    if found == "msg":
        yield _outlook(path)
        return
    with Path(path).open("rb") as stream:
        if found == "mbox":
            for raw in _messages(stream):
                yield _row(message_from_bytes(raw, policy=policy.compat32))
            return
        yield _row(message_from_bytes(stream.read(MAX_MESSAGE), policy=policy.compat32))


def attachments(path: str, found: str) -> Iterator[tuple[str, bytes]]:
    """The name and bytes of every attachment; of a mailbox, below the number of its message.

    Raises:
        ValueError: a message of Outlook's that is damaged.
    """
    if found == "msg":
        yield from _outlook_attachments(path)
        return
    with Path(path).open("rb") as stream:
        if found == "mbox":
            for number, raw in enumerate(_messages(stream), start=1):
                yield from ((f"{number}/{name}", data) for name, data in _attached(raw))
            return
        yield from _attached(stream.read(MAX_MESSAGE))


def _attached(raw: bytes) -> Iterator[tuple[str, bytes]]:
    for part in message_from_bytes(raw, policy=policy.compat32).walk():
        if _is_attachment(part):
            yield _filename(part), _payload(part)


def _outlook_attachments(path: str) -> Iterator[tuple[str, bytes]]:
    from oxmsg import Message as OutlookMessage

    try:
        found = [(one.file_name or "unnamed", one.file_bytes or b"") for one in OutlookMessage.load(path).attachments]
    except Exception as error:  # whatever the library raises on bad bytes is the file's fault
        raise ValueError(str(error) or type(error).__name__) from error
    yield from found


def _messages(stream: BinaryIO) -> Iterator[bytes]:
    """The messages of a mailbox: each begins after a blank line with ``From ``; within, it is ``>From `` (mboxrd)."""
    lines: list[bytes] = []
    size, blank = 0, True
    for line in stream:
        if blank and line.startswith(b"From ") and re.search(rb"\d{4}|\d\d:\d\d", line):
            if lines:
                yield b"".join(lines)
            lines, size, blank = [], 0, False
            continue
        blank = line in (b"\n", b"\r\n")
        size += len(line)
        if size <= MAX_MESSAGE:
            lines.append(line[1:] if re.match(rb">+From ", line) else line)
    if lines:
        yield b"".join(lines)


def _row(message: Message) -> dict[str, Any]:
    text, html = _bodies(message)
    body = text if text.strip() else text_of_html(html)
    return {
        "subject": _text(message.get("Subject")),
        "sender": _addresses(message, "From") or _text(message.get("Sender")),
        "recipients": _addresses(message, "To"),
        "cc": _addresses(message, "Cc"),
        "sent_at": _when(message.get("Date")),
        "body": body[:MAX_TEXT] or None,
        "html": html[:MAX_TEXT] or None,
        "language": language_of(body),
        "message_id": _id(message.get("Message-ID")),
        "in_reply_to": _id(message.get("In-Reply-To")),
        "reference_ids": re.findall(r"<[^<>\s]+>", str(message.get("References") or "")) or None,
        "headers": [[name, _text(value)] for name, value in message.items()][:1000],
        "attachments": [
            {
                "name": _filename(part),
                "media_type": part.get_content_type(),
                "size": len(data),
                "digest": hashlib.sha256(data).hexdigest(),
            }
            for part in message.walk()
            if _is_attachment(part)
            for data in [_payload(part)]
        ]
        or None,
    }


def _bodies(message: Message) -> tuple[str, str]:
    """The first plain text and the first HTML that are no attachments."""
    found = {"text/plain": "", "text/html": ""}
    for part in message.walk():
        kind = part.get_content_type()
        if kind in found and not found[kind] and not part.is_multipart() and not _is_attachment(part):
            found[kind] = _decoded(part)
    return found["text/plain"], found["text/html"]


def _is_attachment(part: Message) -> bool:
    if part.is_multipart() and part.get_content_type() != "message/rfc822":
        return False
    disposition = str(part.get("Content-Disposition") or "").lower()
    named = part.get_filename() is not None
    return disposition.startswith("attachment") or named or part.get_content_maintype() not in {"text", "multipart"}


def _payload(part: Message) -> bytes:
    if part.is_multipart():
        inner = part.get_payload(0)
        return inner.as_bytes() if isinstance(inner, Message) else b""
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _decoded(part: Message) -> str:
    data = _payload(part)
    for codec in (part.get_content_charset(), "utf-8", "cp1252"):
        try:
            return data.decode(str(codec))
        except (LookupError, UnicodeError, ValueError):
            continue
    return data.decode("latin-1")


def _text(value: object) -> str | None:
    """A header's value in plain text: encoded words decoded, folds undone."""
    if value is None:
        return None
    raw = str(value)
    try:
        parts = decode_header(raw)
        text = "".join(part if isinstance(part, str) else _word(part, codec) for part, codec in parts)
    except Exception:  # noqa: BLE001  a broken header is kept as it stands
        text = raw
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return re.sub(r"\s*\r?\n\s+", " ", text).strip()


def _word(data: bytes, codec: str | None) -> str:
    try:
        return data.decode(codec or "utf-8")
    except (LookupError, UnicodeError):
        return data.decode("cp1252", "replace")


def _addresses(message: Message, header: str) -> str | None:
    return _listed([_text(value) or "" for value in message.get_all(header, [])])


def _listed(values: list[str]) -> str | None:
    """Addresses as ``Name <mailbox>, mailbox``; what is no address stays as it is."""
    found = [f"{name} <{address}>" if name else address for name, address in getaddresses(values) if name or address]
    return ", ".join(found) or (" ".join(values).strip() or None)


def _when(value: object) -> str | None:
    """The date of a message in UTC, as ISO 8601; a date without a zone is taken for UTC (RFC 5322, 3.3: -0000)."""
    try:
        moment = parsedate_to_datetime(str(value))
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    try:
        return moment.astimezone(UTC).isoformat()
    except (OverflowError, ValueError):
        return None


def _id(value: object) -> str | None:
    found = re.search(r"<[^<>\s]+>", str(value or ""))
    return found[0] if found else None


def _filename(part: Message) -> str:
    name = _text(part.get_filename())
    return name or f"unnamed{'.eml' if part.get_content_type() == 'message/rfc822' else ''}"


def _outlook_text(message: Any, name: str) -> str:
    """One of a message's texts; in the code page of the West where it is not in the one that the message claims."""
    try:
        return str(getattr(message, name) or "")
    except UnicodeDecodeError as error:
        return error.object.decode("cp1252", "replace")


def _outlook(path: str) -> dict[str, Any]:
    from oxmsg import Message as OutlookMessage

    message = OutlookMessage.load(path)
    body, html = _outlook_text(message, "body"), _outlook_text(message, "html_body")
    if not body.strip() and html:
        body = text_of_html(html)
    headers = dict(message.message_headers)
    sent = message.sent_date
    if isinstance(sent, datetime):
        sent = sent.replace(tzinfo=UTC) if sent.tzinfo is None else sent
    return {
        "subject": _outlook_text(message, "subject") or None,
        "sender": _listed([_text(message.sender) or ""]),
        "recipients": _listed([formataddr((one.name, one.email_address)) for one in message.recipients]),
        "cc": _listed([_text(headers.get("Cc")) or ""]),
        "sent_at": sent.isoformat() if sent else _when(headers.get("Date")),
        "body": body[:MAX_TEXT] or None,
        "html": html[:MAX_TEXT] or None,
        "language": language_of(body),
        "message_id": _id(headers.get("Message-ID")),
        "in_reply_to": _id(headers.get("In-Reply-To")),
        "reference_ids": re.findall(r"<[^<>\s]+>", headers.get("References", "")) or None,
        "headers": [[name, value] for name, value in headers.items()],
        "attachments": [
            {
                "name": one.file_name,
                "media_type": one.mime_type,
                "size": one.size,
                "digest": hashlib.sha256(one.file_bytes or b"").hexdigest(),
            }
            for one in message.attachments
        ]
        or None,
    }
