"""What is not a table becomes rows, and a parser that fails, hangs or swells costs its file only."""

from __future__ import annotations

import array
import collections
import hashlib
import io
import math
import os
import random
import struct
import tarfile
import time
import wave
import zipfile
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from etl_container.errors import UnreadableObjectError
from etl_container.formats import confined, open_table
from etl_container.formats.base import ReadOptions, Reject, Source
from tests.unit.etl_container.formats.test_excel import XLS


class Rejects:
    def add(self, reject: Reject) -> None:
        raise AssertionError(reject)


def batches(data: bytes, name: str) -> Iterator[pa.RecordBatch]:
    reader = open_table(Source(name, len(data), lambda: io.BytesIO(data)), ReadOptions(), Rejects())
    yield from (batch.data for batch in reader.batches())


def rows(data: bytes, name: str) -> list[dict[str, Any]]:
    return [row for batch in batches(data, name) for row in batch.to_pylist()]


def row(data: bytes, name: str) -> dict[str, Any]:
    (only,) = rows(data, name)
    return only


@pytest.fixture(autouse=True, scope="module")
def _no_child_left() -> Iterator[None]:
    yield
    confined.stop()


def message(body: str = "Please find the overdue invoices attached, dear colleague.") -> EmailMessage:
    made = EmailMessage()
    made["From"] = "Zoë Löve <zoe@example.org>"
    made["To"] = "bob@example.org, Carol <carol@example.org>"
    made["Subject"] = "Grüße aus Zürich"
    made["Date"] = "Tue, 24 Nov 2026 10:00:00 +0100"
    made["Message-ID"] = "<1@example.org>"
    made["In-Reply-To"] = "<0@example.org>"
    made["References"] = "<a@example.org> <0@example.org>"
    made.set_content(body)
    return made


# E-mail


def test_a_message_is_a_row_with_its_headers_and_text() -> None:
    got = row(message().as_bytes(), "a.eml")
    assert got["subject"] == "Grüße aus Zürich"
    assert got["sender"] == "Zoë Löve <zoe@example.org>"
    assert got["recipients"] == "bob@example.org, Carol <carol@example.org>"
    assert got["sent_at"].isoformat() == "2026-11-24T09:00:00+00:00"
    assert got["body"].strip() == "Please find the overdue invoices attached, dear colleague."
    assert got["language"] == "en"
    assert (got["message_id"], got["in_reply_to"]) == ("<1@example.org>", "<0@example.org>")
    assert got["reference_ids"] == '["<a@example.org>","<0@example.org>"]'


def test_attachments_are_listed_and_a_body_of_html_is_read() -> None:
    mail = EmailMessage()
    mail["From"] = "a@example.org"
    mail["Subject"] = "x"
    mail.set_content("<html><body><p>Hello <b>there</b></p><script>no()</script></body></html>", subtype="html")
    mail.add_attachment(b"12345", maintype="application", subtype="pdf", filename="ü.pdf")
    got = row(mail.as_bytes(), "a.eml")
    assert got["body"] == "Hello there"
    assert "<script>" in got["html"]
    digest = hashlib.sha256(b"12345").hexdigest()
    assert got["attachments"] == (f'[{{"name":"ü.pdf","media_type":"application/pdf","size":5,"digest":"{digest}"}}]')


def test_a_mailbox_is_a_row_for_each_message() -> None:
    mails = [message(f"Message number {n}\n>From here on\n") for n in range(3)]
    box = b"".join(b"From z@example.org Tue Nov 24 10:00:00 2026\n" + mail.as_bytes() + b"\n" for mail in mails)
    got = rows(box, "a.mbox")
    assert [one["body"].split("\n")[0] for one in got] == [f"Message number {n}" for n in range(3)]
    assert got[1]["body"].split("\n")[1] == "From here on"


@pytest.mark.parametrize(
    "raw",
    [
        b"Subject: =?utf-8?Q?broken\nFrom: a@example.org\nDate: never\n\nhello",
        b"Subject: \xff\xfe raw bytes\nFrom: a@example.org\nContent-Type: text/plain; charset=klingon\n\nh\xe9llo",
        b"From: <<<>>>\nSubject:\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\nno end",
        b"From: a@example.org\nSubject: x\nDate: Tue, 24 Nov 99999 10:00:00 +9999\n\n",
    ],
)
def test_a_message_that_breaks_the_rules_is_still_a_row(raw: bytes) -> None:
    got = row(raw, "a.eml")
    assert got["sent_at"] is None
    assert got["headers"] is not None


def compound(streams: dict[str, bytes]) -> bytes:
    """A compound file ([MS-CFB], version 3) of small streams, all directly below the root."""
    names = sorted(streams, key=lambda name: (len(name), name.upper()))
    mini = b"".join(streams[name] + bytes(-len(streams[name]) % 64) for name in names)
    mini_fat: list[int] = []
    starts = {}
    for name in names:
        starts[name] = len(mini_fat)
        sectors = -(-len(streams[name]) // 64)
        mini_fat += [*range(len(mini_fat) + 1, len(mini_fat) + sectors), 0xFFFFFFFE]
    none = 0xFFFFFFFF

    def entry(name: str, kind: int, *, right: int = none, child: int = none, start: int = 0, size: int = 0) -> bytes:
        text = name.encode("utf-16-le") + b"\0\0"
        links = struct.pack("<III", none, right, child)
        return (
            text.ljust(64, b"\0")
            + struct.pack("<HBB", len(text), kind, 1)
            + links
            + bytes(36)
            + struct.pack("<IQ", start, size)
        )

    directory = b""
    for number, name in enumerate(names, start=1):
        right = number + 1 if number < len(names) else none
        directory += entry(name, 2, right=right, start=starts[name], size=len(streams[name]))
    sizes = [len(names) // 4 + 1, -(-len(mini_fat) // 128), -(-len(mini) // 512)]
    first = [1, 1 + sizes[0], 1 + sizes[0] + sizes[1]]
    directory = entry("Root Entry", 5, child=1, start=first[2], size=len(mini)) + directory
    fat = [0xFFFFFFFD]
    for start, size in zip(first, sizes, strict=True):
        fat += [*range(start + 1, start + size), 0xFFFFFFFE]
    header = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    header += struct.pack("<IIIIIIIII", 0, 1, first[0], 0, 4096, first[1], sizes[1], 0xFFFFFFFE, 0)
    header += struct.pack("<I", 0) + b"\xff" * 432

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 512)

    tables = struct.pack(f"<{len(fat)}I", *fat).ljust(512, b"\xff")
    small = struct.pack(f"<{len(mini_fat)}I", *mini_fat)
    return header + tables + padded(directory) + small.ljust(sizes[1] * 512, b"\xff") + padded(mini)


def test_a_message_of_outlook_is_a_row() -> None:
    texts = {
        "0037": "Grüße",
        "1000": "Lieber Bob, anbei die Rechnungen für den letzten Monat.",
        "007D": "From: =?utf-8?q?Zo=C3=AB?= <zoe@example.org>\r\nDate: Tue, 24 Nov 2026 10:00:00 +0100\r\n"
        "Message-ID: <1@example.org>\r\nCc: carol@example.org\r\n\r\n",
    }
    streams = {f"__substg1.0_{tag}001F": text.encode("utf-16-le") for tag, text in texts.items()}
    entries = b"".join(
        struct.pack("<IIII", int(tag, 16) << 16 | 0x1F, 6, 2 * len(text) + 2, 0) for tag, text in texts.items()
    )
    streams["__properties_version1.0"] = bytes(32) + entries
    got = row(compound(streams), "a.msg")
    assert (got["subject"], got["message_id"], got["cc"]) == ("Grüße", "<1@example.org>", "carol@example.org")
    assert got["body"].startswith("Lieber Bob")
    assert got["sender"] == "Zoë <zoe@example.org>"
    assert got["sent_at"].isoformat() == "2026-11-24T09:00:00+00:00"


def test_a_message_of_outlook_in_a_code_page_that_it_does_not_claim_is_read() -> None:
    streams = {
        "__substg1.0_1000001E": "Schöne Grüße aus dem Süden".encode("cp1252"),
        "__properties_version1.0": bytes(32)
        + struct.pack("<IIII", 0x1000001E, 6, 27, 0)
        + struct.pack("<IIII", 0x3FFD0003, 6, 65001, 0),
    }
    assert row(compound(streams), "a.msg")["body"] == "Schöne Grüße aus dem Süden"


# Documents


def test_prose_is_a_row_with_its_language_and_words() -> None:
    got = row(b"# The title\n\nThe fox jumps over the lazy dog, as everybody knows.\n", "a.md")
    assert got["title"] == "The title"
    assert got["language"] == "en"
    assert got["words"] == 12
    assert (got["page"], got["pages"]) == (1, 1)


def test_a_long_text_comes_in_pieces_that_lose_nothing() -> None:
    words = [f"word{n}" for n in range(40_000)]
    text = ". ".join(" ".join(words[at : at + 10]) for at in range(0, len(words), 10))
    got = rows(text.encode(), "a.md")
    assert len(got) > 3
    assert max(len(one["text"]) for one in got) <= 60_000
    assert " ".join(one["text"] for one in got).replace(".", "").split() == words


def test_an_html_page_gives_its_text_title_author_and_language() -> None:
    page = (
        '<!DOCTYPE html><html lang="de-CH"><head><title>Ein  Titel</title><meta name="Author" content="Ada">'
        "<style>p{}</style></head><body><h1>Kopf</h1><p>Erster <i>Absatz</i></p><script>x()</script>Rest</body></html>"
    )
    got = row(page.encode(), "a.html")
    assert (got["title"], got["author"], got["language"]) == ("Ein Titel", "Ada", "de")
    assert got["text"].split() == ["Kopf", "Erster", "Absatz", "Rest"]


def pdf(pages: list[str], title: str = "A title") -> bytes:
    """A PDF of our own making: one line of text a page."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    kids = []
    font = f"{3 + 2 * len(pages)} 0 R"
    for number, text in enumerate(pages):
        at = 3 + 2 * number
        kids.append(f"{at} 0 R")
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {at + 1} 0 R"
            f" /Resources << /Font << /F1 {font} >> >> >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(pages)} >>"
    objects.append("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    objects.append(f"<< /Title ({title}) /Author (Ada) /CreationDate (D:20240102030405Z) >>")
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{content}\nendobj\n".encode()
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{offset:010} 00000 n \n".encode() for offset in offsets)
    out += f"trailer << /Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R >>\n".encode()
    out += f"startxref\n{start}\n%%EOF".encode()
    return bytes(out)


def test_a_pdf_is_a_row_for_each_page() -> None:
    got = rows(pdf(["Hello first page", "Second page here"]), "a.pdf")
    assert [(one["page"], one["text"].strip()) for one in got] == [(1, "Hello first page"), (2, "Second page here")]
    assert (got[0]["title"], got[0]["author"], got[0]["pages"]) == ("A title", "Ada", 2)
    assert got[0]["created_at"].isoformat() == "2024-01-02T03:04:05"


def test_word_and_powerpoint_give_text_and_properties() -> None:
    from docx import Document
    from pptx import Presentation

    document = Document()
    document.core_properties.title = "Report"
    document.add_paragraph("First paragraph")
    document.add_table(1, 2).rows[0].cells[1].text = "cell"
    file = io.BytesIO()
    document.save(file)
    got = row(file.getvalue(), "a.docx")
    assert got["title"] == "Report"
    assert got["text"].split() == ["First", "paragraph", "cell"]

    show = Presentation()
    for title in ("One", "Two"):
        show.slides.add_slide(show.slide_layouts[5]).shapes.title.text = title
    file = io.BytesIO()
    show.save(file)
    assert [(one["page"], one["text"]) for one in rows(file.getvalue(), "a.pptx")] == [(1, "One"), (2, "Two")]


def test_rtf_and_opendocument_give_text() -> None:
    assert (
        row(rb"{\rtf1\ansi {\info{\title Sch\'f6n}} Hello \b world\b0\par}", "a.rtf")["text"].strip() == "Hello world"
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.text")
        archive.writestr(
            "content.xml",
            '<o:d xmlns:o="o" xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0">'
            "<text:h>Head</text:h><text:p>Some <text:span>words</text:span></text:p></o:d>",
        )
    assert row(file.getvalue(), "a.odt")["text"] == "Head\nSome words"


def changed(document: Any, old: bytes, new: bytes) -> bytes:
    """A saved office document with ``old`` replaced in its parts."""
    file, made = io.BytesIO(), io.BytesIO()
    document.save(file)
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(made, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(old, new))
    return made.getvalue()


def test_a_template_of_word_is_read_though_its_library_refuses_it() -> None:
    from docx import Document

    document = Document()
    document.core_properties.title, document.core_properties.author = "Form", "Ada"
    document.add_paragraph("Please fill in the following lines.")
    got = row(changed(document, b"document.main+xml", b"template.main+xml"), "a.dotx")
    assert (got["title"], got["author"], got["text"]) == ("Form", "Ada", "Please fill in the following lines.")


def test_a_slide_show_is_read_though_its_library_refuses_it() -> None:
    from pptx import Presentation

    show = Presentation()
    show.core_properties.title = "Tides"
    for title in ("The first slide", "The second slide"):
        show.slides.add_slide(show.slide_layouts[5]).shapes.title.text = title
    got = rows(changed(show, b"presentation.main+xml", b"slideshow.main+xml"), "a.ppsx")
    assert [(one["page"], one["text"], one["title"]) for one in got] == [
        (1, "The first slide", "Tides"),
        (2, "The second slide", "Tides"),
    ]


# Images and sounds


def picture(size: tuple[int, int] = (64, 48), form: str = "PNG", **options: Any) -> bytes:
    from PIL import Image

    image = Image.linear_gradient("L").resize(size).convert("RGB")
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def test_an_image_tells_its_size_camera_time_and_place() -> None:
    from PIL import ExifTags, Image

    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112], exif[0x010E] = "ACME", "ACME One", 6, "Harbour at dawn"
    exif.get_ifd(ExifTags.IFD.Exif)[0x9003] = "2024:05:06 07:08:09"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "S", 2: (33.0, 51.0, 36.0), 3: "E", 4: (151.0, 12.0, 0.0)})
    got = row(picture(form="JPEG", exif=exif), "a.jpg")
    assert (got["format"], got["width"], got["height"], got["orientation"]) == ("JPEG", 64, 48, 6)
    assert (got["camera"], got["caption"]) == ("ACME One", "Harbour at dawn")
    assert got["taken_at"].isoformat() == "2024-05-06T07:08:09"
    assert (got["latitude"], got["longitude"]) == (-33.86, 151.2)
    assert got["thumbnail"].startswith(b"\xff\xd8\xff")


def test_near_duplicates_share_their_hash_and_others_do_not() -> None:
    from PIL import Image

    def distance(one: int, other: int) -> int:
        return ((one ^ other) & (1 << 64) - 1).bit_count()

    noise = Image.effect_noise((64, 64), 80)
    file = io.BytesIO()
    noise.save(file, "PNG")
    original = row(picture(), "a.png")["perceptual_hash"]
    smaller = row(picture((40, 30), "JPEG", quality=60), "b.jpg")["perceptual_hash"]
    other = row(file.getvalue(), "c.png")["perceptual_hash"]
    assert distance(original, smaller) <= 8
    assert distance(original, other) > 12


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM", "DDS", "ICO"])
def test_every_format_is_read_in_every_mode_that_it_has(form: str) -> None:
    from PIL import Image

    read = 0
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"):
        file = io.BytesIO()
        try:
            Image.new(mode, (32, 24)).save(file, form)
        except (OSError, KeyError, ValueError):
            continue  # the format has no such mode
        got = row(file.getvalue(), "a")
        assert got["width"] >= got["height"] > 0
        assert got["thumbnail"].startswith(b"\xff\xd8\xff")
        read += 1
    assert read >= 1


def test_a_sound_tells_its_length_and_how_loud_it_is() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(array.array("h", [round(16384 * math.sin(n / 5)) for n in range(16000)]).tobytes())
    got = row(file.getvalue(), "a.wav")
    assert (got["codec"], got["duration"], got["sample_rate"], got["channels"]) == ("pcm", 2.0, 8000, 1)
    assert got["peak"] == pytest.approx(-6.02, abs=0.02)
    assert got["loudness"] == pytest.approx(-9.03, abs=0.03)


def aiff(samples: bytes, coding: bytes = b"") -> bytes:
    """Sixteen bits at 8 kHz (80-bit float 0x400BFA00…), one channel."""
    rate = bytes.fromhex("400bfa00000000000000")
    common = struct.pack(">hIh", 1, len(samples) // 2, 16) + rate + (coding + b"\x00\x00" if coding else b"")
    sound = bytes(8) + samples
    chunks = b"COMM" + struct.pack(">I", len(common)) + common + b"SSND" + struct.pack(">I", len(sound)) + sound
    body = (b"AIFC" if coding else b"AIFF") + chunks
    return b"FORM" + struct.pack(">I", len(body)) + body


@pytest.mark.parametrize(("coding", "mark"), [(b"", ">"), (b"sowt", "<")])
def test_an_aiff_tells_how_loud_it_is_in_either_order_of_bytes(coding: bytes, mark: str) -> None:
    samples = [round(16384 * math.sin(n / 5)) for n in range(16000)]
    got = row(aiff(struct.pack(f"{mark}16000h", *samples), coding), "a.aiff")
    assert (got["codec"], got["duration"], got["sample_rate"], got["channels"]) == ("pcm", 2.0, 8000, 1)
    assert (got["peak"], got["loudness"]) == (pytest.approx(-6.02, abs=0.02), pytest.approx(-9.03, abs=0.03))


def test_tags_without_a_sound_are_a_row() -> None:
    title = b"TIT2" + struct.pack(">IH", 6, 0) + b"\x03Hello"
    got = row(b"ID3\x03\x00\x00" + bytes([0, 0, 0, len(title)]) + title, "a.mp3")
    assert (got["title"], got["duration"]) == ("Hello", None)


# Archives


def test_an_archive_without_a_table_is_a_row_for_each_member() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("in/a.png", picture())
        archive.writestr("b.eml", message().as_bytes())
    got = rows(file.getvalue(), "a.zip")
    assert [(one["path"], one["media_type"]) for one in got] == [("in/a.png", "image/png"), ("b.eml", "message/rfc822")]
    assert got[0]["digest"] == hashlib.sha256(picture()).hexdigest()

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info = tarfile.TarInfo("x/y.png")
        info.size = len(picture())
        tar.addfile(info, io.BytesIO(picture()))
    (only,) = rows(packed.getvalue(), "a.tar")
    assert (only["path"], only["size"]) == ("x/y.png", len(picture()))


def test_an_archive_with_a_table_is_that_table() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", picture())
        archive.writestr("t.csv", "a,b\n1,2\n")
    assert rows(file.getvalue(), "a.zip") == [{"a": "1", "b": "2"}]


def test_a_member_that_inflates_absurdly_is_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", picture())
        archive.writestr("zeros.bin", bytes(8 << 20))
    data = bytearray(file.getvalue())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (0xF0000000).to_bytes(4, "little")  # the directory lies about the size
    with pytest.raises(UnreadableObjectError, match=r"a\.zip cannot be read as archive"):
        rows(bytes(data), "a.zip")


# Limits


def test_an_image_of_absurd_size_is_refused() -> None:
    data = bytearray(picture())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    with pytest.raises(UnreadableObjectError, match="cannot be read as image"):
        rows(bytes(data), "a.png")


@pytest.fixture
def parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes the child use a parser of the test's own making."""

    def use(code: str) -> None:
        (tmp_path / "bad.py").write_text(f"import os, time\ndef rows(path, found):\n    {code}\n    yield {{}}\n")
        ours = f"sys.path.insert(0, {str(tmp_path)!r}); import bad; from etl_container.formats import kind_reader; "
        ours += "kind_reader._parser = lambda kind: bad.rows; "
        patched = confined._SERVE.replace("confined.serve()", ours + "confined.serve()")
        assert "bad.rows" in patched
        monkeypatch.setattr(confined, "_SERVE", patched)
        confined.stop()

    yield use
    confined.stop()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("os.abort()", r"crashed \(signal 6\)"),
        ("os._exit(3)", "its parser died"),
        ("bytearray(4 << 30)", "more than 3 GB of memory"),
        ("raise KeyError('x')", r"KeyError"),
        ("f = lambda: f(); f()", "RecursionError"),
        ("print('noise' * 100_000); raise ValueError('after the noise')", "after the noise"),
    ],
)
def test_a_parser_that_fails_costs_its_file_only(parser: Any, code: str, told: str) -> None:
    parser(code)
    with pytest.raises(UnreadableObjectError, match=told):
        rows(picture(), "x.png")


def test_a_parser_that_hangs_is_stopped(parser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confined, "PATIENCE", 1.0)
    parser("time.sleep(60)")
    started = time.monotonic()
    with pytest.raises(UnreadableObjectError, match="stopped after 1 s"):
        rows(picture(), "x.png")
    assert time.monotonic() - started < 10


def test_the_child_knows_no_secret(parser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("LAKE_WAREHOUSE", "postgresql://me:hush@db.example.org/x")
    parser("yield {'exif': dict(os.environ)}")
    got = rows(picture(), "x.png")[0]["exif"]
    assert "PATH" in got
    assert "hush" not in got


def test_a_file_read_half_does_not_disturb_the_next() -> None:
    box = b"".join(b"From z@example.org Tue Nov 24 10:00:00 2026\n" + message().as_bytes() + b"\n" for _ in range(50))
    reader = open_table(Source("a.mbox", len(box), lambda: io.BytesIO(box)), ReadOptions(), Rejects())
    next(iter(reader.batches()))
    assert row(message().as_bytes(), "a.eml")["subject"] == "Grüße aus Zürich"


def _samples() -> dict[str, bytes]:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(3)
        out.setframerate(8000)
        out.writeframes(bytes(6000))
    from docx import Document

    word, packed = io.BytesIO(), io.BytesIO()
    document = Document()
    document.add_paragraph("Hello there")
    document.save(word)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", picture())
        archive.writestr("b/c.eml", message().as_bytes())
    return {
        **_tables(),
        "a.docx": word.getvalue(),
        "a.zip": packed.getvalue(),
        "a.mbox": (b"From z@example.org Tue Nov 24 10:00:00 2026\n" + message().as_bytes() + b"\n") * 3,
        "a.gif": picture(form="GIF"),
        "a.webp": picture(form="WEBP"),
        "a.msg": compound({"__substg1.0_0037001F": "Hello".encode("utf-16-le"), "__properties_version1.0": bytes(48)}),
        "a.eml": message().as_bytes(),
        "a.pdf": pdf(["Hello there"]),
        "a.png": picture(),
        "a.jpg": picture(form="JPEG"),
        "a.tif": picture(form="TIFF"),
        "a.wav": file.getvalue(),
        "a.rtf": rb"{\rtf1\ansi Hello \b world\b0\par}",
        "a.html": b"<!DOCTYPE html><html><body><p>Hello</p></body></html>",
    }


def _tables() -> dict[str, bytes]:
    """A table in every binary format that holds one."""
    import fastavro
    import openpyxl
    import pyarrow as pa
    from pyarrow import feather, orc, parquet

    table = pa.table(
        {
            "n": range(300),
            "s": [f"text {n % 17} ü" if n % 5 else None for n in range(300)],
            "when": pa.array(range(300), pa.timestamp("us")),
            "l": [[n, n + 1] for n in range(300)],
            "o": [{"a": n, "b": str(n)} for n in range(300)],
        }
    )
    made = {name: io.BytesIO() for name in ("a.arrow", "b.arrow", "a.feather", "a.avro", "a.xlsx")}
    with pa.ipc.new_file(made["a.arrow"], table.schema) as writer:
        writer.write_table(table)
    packed = table.set_column(1, "s", table["s"].dictionary_encode())
    with pa.ipc.new_stream(made["b.arrow"], packed.schema) as writer:
        writer.write_table(packed)
    feather.write_feather(table, made["a.feather"], compression="zstd")
    for codec in ("snappy", "zstd", "none"):
        parquet.write_table(table, made.setdefault(f"{codec}.parquet", io.BytesIO()), compression=codec)
    for codec in ("uncompressed", "zlib"):
        orc.write_table(table, made.setdefault(f"{codec}.orc", io.BytesIO()), compression=codec)
    fields = [{"name": "n", "type": "long"}, {"name": "s", "type": ["null", "string"]}]
    schema = {"type": "record", "name": "row", "fields": fields}
    fastavro.writer(made["a.avro"], schema, table.select(["n", "s"]).to_pylist(), codec="deflate")
    workbook = openpyxl.Workbook()
    for each in table.select(["n", "s", "when"]).to_pylist():
        workbook.active.append(list(each.values()))
    workbook.save(made["a.xlsx"])
    return {"a.xls": XLS, **{name: file.getvalue() for name, file in made.items()}}


def _fuzz(cases: int) -> None:
    """A crash within the parsers' process is a refusal of one file; a hang, or any other exception, is a bug."""
    seed = int(os.environ.get("SEED", "20261124"))
    print(f"SEED={seed}")
    rng = random.Random(seed)
    samples = _samples()
    wrong: list[str] = []
    ends: collections.Counter[tuple[str, str]] = collections.Counter()
    for number in range(cases):
        name = rng.choice(sorted(samples))
        data = bytearray(samples[name])
        for _ in range(rng.randint(1, 12)):
            at = rng.randrange(len(data) or 1)
            match rng.randrange(4):
                case 0:
                    data[at : at + 1] = rng.randbytes(1)
                case 1:
                    del data[at : at + rng.randint(1, 40)]
                case 2:
                    data[at:at] = rng.randbytes(rng.randint(1, 8))
                case _:
                    data = data[: max(8, at)]
        try:
            for batch in batches(bytes(data), name):
                batch.validate(full=True)  # damaged years may be beyond those of Python's own type
            ends[name, "read"] += 1
        except UnreadableObjectError as error:
            ends[name, "crashed" if "crashed" in error.message else "refused"] += 1
            if "stopped after" in error.message:
                wrong.append(f"{number} {name}: {error.message}")
        except AssertionError as reject:  # it reads as a table by now
            if not isinstance(reject.args[0], Reject):
                raise
    for (name, end), count in sorted(ends.items()):
        print(f"{name:16} {end:8} {count:6}")
    assert not wrong


def test_damaged_files_are_read_or_refused() -> None:
    _fuzz(250)


@pytest.mark.slow
def test_ten_thousand_damaged_files_are_read_or_refused() -> None:
    _fuzz(10_000)
