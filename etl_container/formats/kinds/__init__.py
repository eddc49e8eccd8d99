"""What is not a table, as rows: e-mails, documents, images, sounds, archives.

One module per kind, each a generator: the path of a file goes in, one dict per row comes out, its keys being those of
:data:`COLUMNS`. They parse untrusted bytes with other people's libraries, so they run in a process of their own, with
limits (``confined``), and are imported there only. A row holds plain JSON values: text, numbers, booleans, ISO 8601
times, bytes, and objects or arrays for columns of JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "mail": {
        "subject": "text",
        "sender": "text",
        "recipients": "text",
        "cc": "text",
        "sent_at": "timestamptz",
        "body": "text",
        "html": "text",
        "language": "text",
        "message_id": "text",
        "in_reply_to": "text",
        "reference_ids": "json",
        "headers": "json",
        "attachments": "json",
    },
    "document": {
        "page": "bigint",
        "text": "text",
        "title": "text",
        "author": "text",
        "language": "text",
        "words": "bigint",
        "pages": "bigint",
        "created_at": "timestamp",
    },
    "image": {
        "format": "text",
        "width": "bigint",
        "height": "bigint",
        "mode": "text",
        "frames": "bigint",
        "orientation": "bigint",
        "camera": "text",
        "taken_at": "timestamp",
        "latitude": "double",
        "longitude": "double",
        "caption": "text",
        "colour_profile": "text",
        "perceptual_hash": "bigint",
        "exif": "json",
        "thumbnail": "bytea",
    },
    "sound": {
        "codec": "text",
        "duration": "double",
        "sample_rate": "bigint",
        "channels": "bigint",
        "bit_depth": "bigint",
        "bitrate": "double",
        "title": "text",
        "artist": "text",
        "album": "text",
        "year": "text",
        "genre": "text",
        "comment": "text",
        "peak": "double",
        "loudness": "double",
        "tags": "json",
    },
    "archive": {
        "path": "text",
        "size": "bigint",
        "packed_size": "bigint",
        "modified_at": "timestamp",
        "media_type": "text",
        "digest": "text",
    },
}
"""The columns of each kind's rows. ``duration`` is in seconds, ``bitrate`` in kbit/s, ``peak`` and ``loudness`` (RMS)
in dB of full scale, ``sample_rate`` in Hz, sizes in bytes, latitude and longitude in degrees (WGS 84)."""

KIND_OF: Final[Mapping[str, str]] = {
    **dict.fromkeys(("eml", "mbox", "msg"), "mail"),
    **dict.fromkeys(("txt", "html", "pdf", "docx", "pptx", "odt", "rtf"), "document"),
    "image": "image",
    "sound": "sound",
    "archive": "archive",
}
"""The kind of each format that :func:`~etl_container.formats.detect.detect` may answer besides tables."""

WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "mail": ("subject", "sender", "body"),
    "document": ("title", "text"),
    "image": ("caption", "camera"),
    "sound": ("title", "artist", "album", "comment"),
}
"""The columns that ``search`` looks into: the heading, which weighs more, and the content."""
