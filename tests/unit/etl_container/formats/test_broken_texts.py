"""Delimited texts that are broken, cut off or hostile: each has a clear outcome, and none costs more than it should."""

from __future__ import annotations

import io

import pytest

from etl_container.errors import UnreadableObjectError
from etl_container.formats.base import Dialect, ReadOptions, Source
from etl_container.formats.delimited import MAX_COLUMNS, open_delimited
from etl_container.formats.records import RecordParser
from tests.unit.etl_container.formats.test_delimited import Rejects, load


class Endless(io.RawIOBase):
    """``start``, and after it one letter for ever; it counts what was read."""

    def __init__(self, start: bytes) -> None:
        self.start = start
        self.given = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        block, self.start = (self.start, b"") if self.start else (b"y" * size, b"")
        self.given += len(block)
        return block


@pytest.mark.parametrize(
    ("start", "line"), [(b"", 1), (b"a,b\n1,", 2), (b'a,b\n1,"', 2), (b"a,b\n" + b"1,2\n" * 9, 11)]
)
def test_a_line_without_end_is_an_error_that_names_it_and_not_all_memory(
    start: bytes, line: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl_container.formats.delimited.MAX_LINE_BYTES", 8 << 20)
    opened: list[Endless] = []

    def stream() -> Endless:
        opened.append(Endless(start))
        return opened[-1]

    with pytest.raises(UnreadableObjectError, match=rf"x\.csv: line {line} is longer than 8 MiB") as raised:
        for _ in open_delimited(Source("x.csv", None, stream), ReadOptions(), Rejects()).batches():  # type: ignore[arg-type]
            pass
    assert "line ends" in str(raised.value.hint)
    assert max(each.given for each in opened) <= 16 << 20


def test_more_columns_than_any_table_has_are_an_error_that_says_what_to_look_at() -> None:
    with pytest.raises(UnreadableObjectError, match=rf"has {MAX_COLUMNS + 1:,} columns; at most") as raised:
        load(b"," * MAX_COLUMNS + b"\n")
    assert "delimiter" in str(raised.value.hint)


def test_twenty_thousand_columns_are_a_table() -> None:
    labels = [f"label {n}" for n in range(20_000)]
    rows = [[str(n * m % 97) for n in range(20_000)] for m in range(5)]
    got = load("\n".join(",".join(row) for row in [labels, *rows]))
    assert (list(got.labels), got.rows) == (labels, rows)


@pytest.mark.parametrize("data", [b"\n" * 3_000_000, b"\r\n" * 1_500_000, b" " * 3_000_000, b"\x00" * 100 + b"\n"])
def test_nothing_but_blanks_is_an_empty_file(data: bytes) -> None:
    with pytest.raises(UnreadableObjectError, match=r"empty|not text"):
        load(data)


@pytest.mark.parametrize("data", ['"', '"' * 99_999, '"\n' * 50_000, '\n"', "\\" * 50_000, "; ; ;\n"])
def test_nothing_but_marks_is_a_table_of_texts(data: str) -> None:
    got = load(data)
    held = [*(got.labels if got.reader.description.has_labels else ()), *(cell for row in got.rows for cell in row)]
    assert not got.rejects
    assert set("".join(filter(None, held))) <= set(data)


@pytest.mark.parametrize(
    ("codec", "cut", "last"),
    [
        ("utf-16", 1, "日\N{REPLACEMENT CHARACTER}"),
        ("utf-16-le", 1, "日\N{REPLACEMENT CHARACTER}"),
        ("utf-32", 3, "日\N{REPLACEMENT CHARACTER}"),
        ("utf-8", 2, "日æ"),
    ],
)
def test_a_file_cut_within_a_character_keeps_all_its_rows_and_tells_of_it(codec: str, cut: int, last: str) -> None:
    got = load("id,name\n1,é\n2,ü\n3,日本".encode(codec)[:-cut])
    assert got.rows == [["1", "é"], ["2", "ü"], ["3", last]]
    assert "wrong in utf" in got.notes
    assert ("U+FFFD" in got.notes) == (codec != "utf-8")


def test_encodings_may_be_mixed_within_a_file() -> None:
    parts = [f"{n},{'Größe'}\n".encode("utf-8" if n < 900 else "cp1252") for n in range(1000)]
    got = load(b"id,name\n" + b"".join(parts))
    assert got.rows == [[str(n), "Größe"] for n in range(1000)]
    assert got.notes == "bytes wrong in utf-8, read as Windows-1252: lines 902, 903, 904, 905, 906 and 95 more"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_mark_of_dos_for_the_end_of_a_text_is_no_row(end: str) -> None:
    got = load(end.join(["a,b", "1,2", "3,4", "\x1a"]))
    assert (got.rows, got.notes) == ([["1", "2"], ["3", "4"]], "")
    assert load("a\nx\ny\x1a").rows == [["x"], ["y\x1a"]]


def test_a_quoted_value_whose_end_is_not_there_yet_is_waited_for() -> None:
    parser = RecordParser(Dialect("||", '"'), 2)
    text = '1||"a\nb"||\n'
    for cut in range(5, len(text)):
        records, taken, _ = parser.records(text[:cut], final=False)
        assert (records, taken) == ([], 0), text[:cut]


def test_many_stray_quotes_cost_each_its_own_line_only() -> None:
    looked = 0

    class Text(str):
        """Counts what is copied out of it."""

        __slots__ = ()

        def __getitem__(self, key: object) -> str:
            nonlocal looked
            part = super().__getitem__(key)  # type: ignore[index]
            looked += len(part)
            return part

    text = Text("".join(f'"x" "{n}",1\n' for n in range(2000)))
    records, _, _ = RecordParser(Dialect(",", '"'), 2).records(text, final=False)
    assert len(records) == 1999  # the last may go on
    assert looked < 10 * len(text)
