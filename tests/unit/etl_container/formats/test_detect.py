"""The content decides what a file is; its name only breaks ties; what is no table is refused with its name."""

from __future__ import annotations

import contextlib
import io
import random
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_container.errors import ConfigError, UnreadableObjectError
from etl_container.formats import open_table
from etl_container.formats.base import ReadOptions, Reject, Source
from etl_container.formats.detect import FORMATS, detect, media_type


class Rejects:
    def add(self, reject: Reject) -> None:
        raise AssertionError(reject)


def found(head: bytes, name: str = "t.csv", **options: object) -> str:
    return detect(head, name, ReadOptions(**options))


@pytest.mark.parametrize("name", ["t.csv", "t.json", "t.jsonl", "t.parquet", "t.xlsx", "t", "t.gz"])
@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"a,b\n1,2\n", "delimited"),
        (b"a\tb\n1\t2\n", "delimited"),
        (b'"a","b"\n"1","2"\n', "delimited"),
        ("käse;größe\n1;2\n".encode("latin-1"), "delimited"),
        ("a,b\n1,2\n".encode("utf-16"), "delimited"),
        ("a,b\n1,2\n".encode("utf-16-le"), "delimited"),
        ("名前,都市\n花子,東京\n".encode("shift-jis"), "delimited"),
        (b"a,b\n1,\x00\n2,3\n", "delimited"),
        (b"ORC,PAR\n1,2\n", "delimited"),
        (b"BMI,age\n22,33\n", "delimited"),
        (b'{"a":1}\n{"a":2}\n', "jsonl"),
        (b'{"a":1}\n{"a":\n{"a":3}\n{"a":4}\n', "jsonl"),
        (b'{"a":1}\n{"a":"cut off', "jsonl"),
        (b'[{"a":1},{"a":2}]', "json"),
        (b'[\n  {"a": 1},\n  {"a": 2', "json"),
        (b'{"data": [{"a": 1}]}', "json"),
        (b"[1, 2, 3]", "json"),
        (b'\xef\xbb\xbf [{"a":1}]', "json"),
        ('[{"a":1}]'.encode("utf-16"), "json"),
        (b"PAR1\x15\x04", "parquet"),
        (b"ARROW1\x00\x00\xff\xff", "arrow"),
        (b"\xff\xff\xff\xff\x10\x02\x00\x00\x10\x00", "arrow"),
        (b"FEA1\x00", "feather"),
        (b"ORC\x0a\x05\x00\x01\x02\x03\x04\x05\x06\x07\x08\x0e\x0f\x10\x11\x12", "orc"),
        (b"Obj\x01\x04", "avro"),
    ],
)
def test_the_content_decides_whatever_the_name(head: bytes, expected: str, name: str) -> None:
    assert found(head, name) == expected


def test_the_name_breaks_a_tie() -> None:
    lines = b'"x"\n"y"\n'
    assert found(lines, "t.csv") == "delimited"
    assert found(lines, "t.jsonl") == "jsonl"
    broken = b'{"a": oops}\n'
    assert found(broken, "t.jsonl") == "jsonl"
    assert found(b'{\n "a": [\n1,', "t.jsonl") == "json"
    for header in (b"[x],[y]\n1,2\n", b"{id},{name}\n1,2\n"):
        assert found(header, "t.csv") == "delimited"


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"\x7fELF\x02\x01\x01" + bytes(9), "an ELF program"),
        (b"SQLite format 3\x00", "an SQLite database"),
        (b"7z\xbc\xaf'\x1c", "a 7-Zip archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "WordDocument".encode("utf-16-le"), "a Word document"),
        (b"<?xml version='1.0'?><a/>", "an XML document"),
        (random.Random(3).randbytes(4096), "binary data"),
        (bytes(4096), "binary data"),
    ],
)
def test_what_is_no_table_is_refused_with_what_it_looks_like(head: bytes, what: str) -> None:
    with pytest.raises(UnreadableObjectError, match=what) as caught:
        found(head, "table.csv")
    assert "table.csv" in caught.value.message
    assert caught.value.hint is not None


@pytest.mark.parametrize(("member", "kind"), [("word/document.xml", "docx"), ("ppt/presentation.xml", "pptx")])
def test_an_office_document_is_not_taken_for_an_archive_of_tables(member: str, kind: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(member, "<x/>")
    data = buffer.getvalue()
    reader = open_table(Source("t.csv", len(data), lambda: io.BytesIO(data)), ReadOptions(), Rejects())
    assert reader.description.format == kind


@pytest.mark.parametrize(
    ("head", "kind", "media"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "image", "image/png"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image", "image/jpeg"),
        (b"GIF89a\x01\x00", "image", "image/gif"),
        (b"%PDF-1.7\n", "pdf", "application/pdf"),
        (b"RIFF$\x00\x00\x00WAVEfmt ", "sound", "audio/wav"),
        (b"\x00\x00\x00\x20ftypM4A \x00\x00", "sound", "video/mp4"),
        (b"<!DOCTYPE html>\n<html>", "html", "text/html"),
        (b"{\\rtf1\\ansi x}", "rtf", "application/rtf"),
        (b"From: a@example.org\nSubject: x\n\nhello", "eml", "message/rfc822"),
        (b"Received: from a\n\tby b\nDate: today\n\n", "eml", "message/rfc822"),
        (b"From a@example.org Tue Nov 24 10:00:00 2026\nSubject: x\n\n", "mbox", "application/mbox"),
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "t", "t.json"])
def test_what_is_not_a_table_is_known_by_its_bytes(head: bytes, kind: str, media: str, name: str) -> None:
    assert found(head, name) == kind
    assert media_type(head, name) == media


@pytest.mark.parametrize(
    ("text", "name", "kind"),
    [
        ("# Notes\n\na,b\n1,2\n", "t.md", "txt"),
        ("The fox jumps over the lazy dog.\nIt runs, as it were, through the wood.\n", "t.txt", "txt"),
        ("The fox jumps over the lazy dog.\nIt runs, as it were, through the wood.\n", "t.csv", "delimited"),
        ("id,name\n1,the quick brown fox jumps over it.\n2,and so did all the other ones.\n", "t.txt", "delimited"),
        ("From: Bern\nTo: Basel\n", "t.csv", "delimited"),
        ("name:age\nanna:31\n", "t.csv", "delimited"),
    ],
)
def test_text_is_a_document_or_a_table_by_what_it_holds(text: str, name: str, kind: str) -> None:
    assert found(text.encode(), name) == kind


def test_an_empty_object_is_refused() -> None:
    with pytest.raises(UnreadableObjectError, match=r"t\.csv is empty"):
        found(b"")


def test_the_user_overrules_the_content() -> None:
    assert found(b'{"a":1}\n', format="csv") == "delimited"
    assert found(b"a,b\n", format="NDJSON") == "jsonl"
    with pytest.raises(ConfigError, match="'yaml' is unknown"):
        found(b"a,b\n", format="yaml")


@settings(max_examples=300, deadline=None)
@given(head=st.binary(min_size=1, max_size=300), prefix=st.sampled_from([b"", b"{", b"[", b"PK\x03\x04", b"\xff\xfe"]))
def test_any_bytes_are_a_known_format_or_refused(head: bytes, prefix: bytes) -> None:
    with contextlib.suppress(UnreadableObjectError):
        assert found(prefix + head, "t.json") in FORMATS


CELLS = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.lists(CELLS, min_size=2, max_size=3), min_size=3, max_size=6))
def test_no_text_is_taken_for_binary(rows: list[list[str]]) -> None:
    text = "id,name\n" + "\n".join(";".join(row) for row in rows)
    assert found(text.encode()) == "delimited"
    assert found(text.encode("utf-16")) == "delimited"
