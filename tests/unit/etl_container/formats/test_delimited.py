"""The delimited reader: what comes out of clean and of messy files, on the fast path and the tolerant one."""

import io
import os
import random
from dataclasses import dataclass, field

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl_container.errors import ConfigError, UnreadableObjectError
from etl_container.formats.base import Kind, RawBatch, ReadOptions, Reject, Source, TableReader
from etl_container.formats.delimited import BLOCK_BYTES, open_delimited
from etl_container.formats.dialect import is_value

Row = list[str | None]


@dataclass
class Rejects:
    seen: list[Reject] = field(default_factory=list)

    def add(self, reject: Reject) -> None:
        self.seen.append(reject)


@dataclass
class Loaded:
    reader: TableReader
    rows: list[Row]
    records: list[int]
    rejects: list[Reject]

    @property
    def labels(self) -> tuple[str, ...]:
        return self.reader.labels

    @property
    def notes(self) -> str:
        return "\n".join(self.reader.notes)


def rows_of(batch: RawBatch) -> list[Row]:
    return [list(row) for row in zip(*(column.to_pylist() for column in batch.data.columns), strict=True)]


def load(data: bytes | str, name: str = "x.csv", **options: object) -> Loaded:
    raw = data.encode() if isinstance(data, str) else data
    rejects = Rejects()
    reader = open_delimited(Source(name, len(raw), lambda: io.BytesIO(raw)), ReadOptions(**options), rejects)  # type: ignore[arg-type]
    rows: list[Row] = []
    records: list[int] = []
    for batch in reader.batches():
        assert batch.kinds == (Kind.TEXT,) * len(reader.labels)
        assert all(field.type == pa.string() for field in batch.data.schema)
        rows += rows_of(batch)
        records += [batch.ordinal(row) for row in range(batch.data.num_rows)]
    return Loaded(reader, rows, records, rejects.seen)


# Clean files


def test_a_clean_file_is_read_as_text_with_its_labels() -> None:
    got = load('id,Name of it\n1,x\n2,"a, ""b"""\n3,\n4,""\n')
    assert got.labels == ("id", "Name of it")
    assert got.rows == [["1", "x"], ["2", 'a, "b"'], ["3", None], ["4", ""]]
    assert (got.notes, got.rejects) == ("", [])
    described = got.reader.description
    assert (described.format, described.encoding, described.has_labels, described.others) == ("csv", "utf-8", True, ())


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [("a.tsv", "a\tb\n1\t2\n", "tsv"), ("a.txt", "a|b\n1|2\n", "txt"), ("a", "a\tb\n1\t2\n", "tsv")],
)
def test_the_format_is_named_by_extension_or_delimiter(name: str, text: str, kind: str) -> None:
    assert load(text, name).reader.description.format == kind


def test_a_file_without_its_last_line_end_keeps_its_last_row() -> None:
    assert load('a,b\n1,"x"\n2,').rows == [["1", "x"], ["2", None]]


def test_repeated_labels_stay() -> None:
    assert load("a,a\n1,2\n").labels == ("a", "a")


def test_a_header_alone_gives_labels_and_no_batches() -> None:
    got = load("a,b,c\n")
    assert (got.labels, got.rows) == (("a", "b", "c"), [])


@pytest.mark.parametrize("data", [b"", b" \n\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\n"])
def test_an_empty_file_says_so(data: bytes) -> None:
    with pytest.raises(UnreadableObjectError, match=r"x\.csv is empty: "):
        load(data)


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, bytes(range(256)) * 40, b"%PDF-1.4\n"])
def test_bytes_that_are_no_text_say_so(data: bytes) -> None:
    with pytest.raises(UnreadableObjectError, match="not text"):
        load(data)


# Records that are not as they should be


def test_a_short_row_is_padded_and_noted() -> None:
    got = load("a,b,c\n1,2,3\n4,5\n6,7,8\n")
    assert got.rows == [["1", "2", "3"], ["4", "5", None], ["6", "7", "8"]]
    assert got.notes == "short rows padded with nulls: line 3"


def test_surplus_empty_cells_are_dropped_and_noted() -> None:
    got = load("a,b\n1,2\n3,4,,\n5,6\n")
    assert got.rows == [["1", "2"], ["3", "4"], ["5", "6"]]
    assert got.notes == "surplus empty cells dropped: line 3"


def test_an_empty_cell_too_many_is_dropped_where_the_types_tell() -> None:
    got = load(
        "n,word,price,when,note\n" + "1,x,2.5,2024-01-01,\n" * 9 + "1,,x,2.5,2024-01-01,\n" + "1,x,2.5,2024-01-01,\n"
    )
    assert got.rows[9] == ["1", "x", "2.5", "2024-01-01", None]


def test_surplus_values_are_rejected_with_line_and_text() -> None:
    got = load('a,b\n1,2\n\n"x\ny",4,5\n6,7\n')
    assert got.rows == [["1", "2"], ["6", "7"]]
    assert got.records == [0, 2]
    (reject,) = got.rejects
    assert (reject.record, reject.line, reject.text) == (1, 4, '"x\ny",4,5')
    assert reject.reason == "3 cells where the table has 2 columns"


def test_notes_stay_short_however_many_rows_they_tell_of() -> None:
    got = load("a,b,c\n" + "1,2,3\n4,5\n" * 3000)
    assert len(got.rows) == 6000
    assert got.notes == "short rows padded with nulls: lines 3, 5, 7, 9, 11 and 2995 more"


def test_blank_lines_are_no_records() -> None:
    got = load("a,b\n\n1,2\n   \n3,4\n\n")
    assert (got.rows, got.records) == ([["1", "2"], ["3", "4"]], [0, 1])


def test_empty_rows_stay_within_the_table_and_go_below_it() -> None:
    got = load("a,b\n1,2\n,\n3,4\n,\n,\n")
    assert got.rows == [["1", "2"], [None, None], ["3", "4"]]
    assert got.notes == "2 empty rows below the table skipped"


def test_a_footer_with_delimiters_in_it_is_a_note_below_a_blank_line() -> None:
    got = load("id,name,amount\n1,a,2.5\n2,b,3.5\n3,c,4.5\n\nSource: the office\nAll rights reserved, 2024\n")
    assert [row[0] for row in got.rows] == ["1", "2", "3"]
    told = "2 lines below the table skipped, from line 6 on: Source: the office / All rights reserved, 2024"
    assert got.notes == told


@pytest.mark.parametrize("rows", [2, 200])
def test_remarks_as_wide_as_the_table_are_notes_below_an_empty_row(rows: int) -> None:
    text = "id,name,amount\n" + "1,a,2.5\n" * rows + ',,\nSource: the office,,\n,,\n"Drawn up, in 2024",,\n'
    got = load(text)
    assert got.rows == [["1", "a", "2.5"]] * rows
    assert "Source: the office" in got.notes
    assert "Drawn up" in got.notes
    assert load(text + "3,c,4.5\n").rows[rows:] == [
        [None] * 3,
        ["Source: the office", None, None],
        [None] * 3,
        ["Drawn up, in 2024", None, None],
        ["3", "c", "4.5"],
    ]
    assert len(load(text, one_table=True).rows) == rows + 4


@pytest.mark.parametrize("below", [["Bob"], ["Ann Smith"] * 11, ["12"], ["2024-01-02"]])
def test_names_and_values_below_an_empty_row_stay_rows(below: list[str]) -> None:
    text = "id,name,amount\n" + "1,a,2.5\n" * 9 + ",,\n"
    for place in range(3):
        cells = [[None if at != place else name for at in range(3)] for name in below]
        got = load(text + "".join(",".join(cell or "" for cell in row) + "\n" for row in cells))
        assert got.rows[10:] == cells


def test_a_short_row_below_a_blank_line_stays_a_row() -> None:
    got = load("id,name,amount\n1,a,2.5\n2,b,3.5\n3,c,4.5\n\n4,d\n")
    assert got.rows[-1] == ["4", "d", None]


@pytest.mark.parametrize("rows", [3, 8, 40])
def test_the_first_of_several_tables_is_read_below_its_title(rows: int) -> None:
    first = "".join(f"{i},{i * 2}\n" for i in range(rows))
    second = "".join(f"{i},x{i},{i * 2}\n" for i in range(rows))
    got = load(f"Table one\n\na,b\n{first}\n\nTable two\n\nx,y,z\n{second}")
    assert got.labels == ("a", "b")
    assert len(got.rows) == rows
    assert f"another table begins on line {rows + 8};" in got.notes


def test_a_footer_is_a_note() -> None:
    got = load("id,name,v\n1,a,2\n2,b,3\n\nTotal rows: 2\n")
    assert got.rows == [["1", "a", "2"], ["2", "b", "3"]]
    assert "Total rows: 2" in got.notes
    assert "line 5" in got.notes


def test_rows_keep_the_order_of_the_file_around_repaired_and_empty_ones() -> None:
    got = load("a,b,c\n1,2,3\n4,5\n,,\n6\n,,\n7,8,9\n")
    assert got.rows == [["1", "2", "3"], ["4", "5", None], [None] * 3, ["6", None, None], [None] * 3, ["7", "8", "9"]]
    assert got.records == list(range(6))


# Quotes


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        ('1,"x,2', ["1", '"x', "2"]),
        ('1,"say "hi" now",2', ["1", 'say "hi" now', "2"]),
        ('1,5" disk,2', ["1", '5" disk', "2"]),
        ('1,"x"y,2', ["1", '"x"y', "2"]),
        ('"1,x,"2, 3"', ['"1', "x", "2, 3"]),
    ],
)
def test_a_stray_quote_is_bounded_to_its_own_line(line: str, cells: Row) -> None:
    got = load(f'a,b,c\n3,y,4\n{line}\n5,"z",6\n7,8,9\n')
    assert got.rows == [["3", "y", "4"], cells, ["5", "z", "6"], ["7", "8", "9"]]


def test_a_stray_quote_does_not_swallow_the_rest_of_a_long_file() -> None:
    rows = [[str(i), f"name {i}", "x"] for i in range(100_000)]
    lines = ["id,name,kind", *(",".join(row) for row in rows)]
    lines[50_000] = '49999,"name 49999,x'
    rows[49_999] = ["49999", '"name 49999', "x"]
    got = load("\n".join(lines) + "\n")
    assert got.rows == rows
    assert "line 50001" in got.notes


def test_a_quoted_value_may_span_lines() -> None:
    got = load('id,text\n1,"one\ntwo, three\r\n\nfour"\n2,x\n')
    assert got.rows == [["1", "one\ntwo, three\r\n\nfour"], ["2", "x"]]


def test_a_record_may_be_larger_than_a_block() -> None:
    huge = "long, " * (BLOCK_BYTES // 5) + "\nend"
    got = load(f'id,text\n1,x\n2,"{huge}"\n3,y\n')
    assert got.rows == [["1", "x"], ["2", huge], ["3", "y"]]
    assert next(iter(got.reader.locate([2])))[:2] == (2, 5)


def test_backslash_escapes_are_read_where_they_are_used() -> None:
    got = load('a,b\n1,"he said \\"hi\\" to me"\n2,"x, \\"y\\" z"\n')
    assert got.rows == [["1", 'he said "hi" to me'], ["2", 'x, "y" z']]


# Bytes


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_every_unicode_encoding_is_read(codec: str) -> None:
    got = load("id,name\n1,é\n2,日本\n3,x\n4,yy\n5,zzz\n".encode(codec))
    assert got.labels == ("id", "name")
    assert [row[1] for row in got.rows] == ["é", "日本", "x", "yy", "zzz"]


@pytest.mark.parametrize(
    ("codec", "values"),
    [
        ("cp1252", ["Müller – 3 €", "Größe", "„süß“"]),
        ("latin-1", ["Hélène", "François", "Zoë"]),
        ("cp1251", ["Иван", "Москва", "Санкт-Петербург"]),
        ("koi8-r", ["Иван", "Москва", "Санкт-Петербург"]),
        ("cp1253", ["Γιώργος", "Θεσσαλονίκη", "Αθήνα"]),
        ("cp1250", ["Wojciech Żółć", "Świętosława", "Jędrzej Białystok"]),
        ("cp1250", ["Plzeň, Žofie", "Třebíč, Šárka", "Žilina, Ľubomír"]),
        ("iso8859-2", ["Plzeň, Žofie", "Třebíč, Šárka", "Žilina, Ľubomír"]),
        ("cp1254", ["İstanbul, Ayşe", "İzmir, Oğuz", "Diyarbakır, Çağla", "Eskişehir, Gökçe", "Kırıkkale"]),
        ("cp1255", ["ירושלים, דוד", "תל אביב, שרה"]),
        ("cp1256", ["القاهرة, محمد", "الإسكندرية, فاطمة"]),
        ("shift_jis", ["山田太郎", "鈴木花子", "さとうカタカナ"]),
        ("gb18030", ["王小明在北京", "李华", "广州市天河区"]),
        ("big5", ["臺北市", "高雄", "新竹市東區"]),
        ("cp949", ["김철수", "부산광역시", "박민수"]),
    ],
)
def test_legacy_encodings_are_told_apart(codec: str, values: list[str]) -> None:
    text = "id;name\n" + "".join(f"{i};{value}\n" for i, value in enumerate(values))
    assert [row[1] for row in load(text.encode(codec)).rows] == values


def test_a_few_wrong_bytes_in_utf_8_leave_it_utf_8() -> None:
    got = load(b"id,name\n" + "1,é ü\n2,œuvre\n".encode() * 4 + b"9,\xff\xfe\n")
    assert [row[1] for row in got.rows] == ["é ü", "œuvre"] * 4 + ["ÿþ"]
    assert got.notes == "bytes wrong in utf-8, read as Windows-1252: line 10"


def test_an_encoding_may_be_given() -> None:
    assert load("a,b\n1,имя\n".encode("koi8-r"), encoding="KOI8-R").rows == [["1", "имя"]]
    with pytest.raises(ConfigError, match="nope"):
        load("a,b\n", encoding="nope")


def test_a_wrong_byte_late_in_the_file_costs_no_row() -> None:
    good = b"".join(b"%d,caf\xc3\xa9\n" % i for i in range(150_000))
    got = load(b"id,what\n" + good + b"150000,caf\xe9\n" + b"150001,x\n")
    assert len(got.rows) == 150_002
    assert [row[0] for row in got.rows] == [str(i) for i in range(150_002)]
    assert got.rows[150_000] == ["150000", "café"]
    assert "line 150002" in got.notes


def test_a_wrong_byte_in_the_header_is_noted_too() -> None:
    rows = "".join(f"{i},é\n" for i in range(200)).encode()
    got = load(b"id,caf\xe9\n" + rows)
    assert got.labels == ("id", "café")
    assert got.notes == "bytes wrong in utf-8, read as Windows-1252: line 1"


def test_nul_bytes_are_dropped_and_noted() -> None:
    got = load(b"a,b\n1,x\x00y\n2,\x00\n3,z\n")
    assert got.rows == [["1", "xy"], ["2", None], ["3", "z"]]
    assert got.notes == "NUL bytes dropped: lines 2, 3"


@pytest.mark.parametrize("data", ["a,b\n1,2\r\n3,4\r5,6\n", "a,b\r1,2\r3,4\r5,6\r"])
def test_every_line_end_ends_a_record(data: str) -> None:
    assert load(data).rows == [["1", "2"], ["3", "4"], ["5", "6"]]


# Several tables


TWO = "a,b\n1,2\n3,4\n\nc,d,e\n5,6,7\n8,9,10\n"


def test_the_first_of_several_tables_is_read_and_the_others_told() -> None:
    got = load(TWO)
    assert (got.labels, got.rows) == (("a", "b"), [["1", "2"], ["3", "4"]])
    assert got.reader.description.others == ("table_2",)
    assert "line 5" in got.notes


def test_another_table_is_read_by_its_name() -> None:
    got = load(TWO, member="table_2")
    assert (got.labels, got.rows) == (("c", "d", "e"), [["5", "6", "7"], ["8", "9", "10"]])
    assert (got.reader.description.table, got.reader.description.others) == ("table_2", ("table_1",))
    assert list(got.reader.locate([1])) == [(1, 7, "8,9,10")]
    with pytest.raises(UnreadableObjectError, match="table_3"):
        load(TWO, member="table_3")


def test_a_table_of_the_same_width_is_another_one_when_its_header_stands_below_a_blank_line() -> None:
    got = load("a,b\n1,2\n3,4\n\nc,d\n5,6\n7,8\n")
    assert got.rows == [["1", "2"], ["3", "4"]]
    assert load("a,b\n1,2\n3,4\n\nc,d\n5,6\n7,8\n", member="table_2").rows == [["5", "6"], ["7", "8"]]


def test_a_header_that_comes_again_begins_another_table() -> None:
    text = "id,name\n" + "1,x\n" * 60_000 + "id,name\n" + "2,y\n" * 3
    got = load(text)
    assert len(got.rows) == 60_000
    assert len(load(text, member="table_2").rows) == 3


# Finding records again


def test_locate_gives_line_and_text_of_each_record() -> None:
    text = '# note\nid,text\n1,"a\nb"\n\n2,x,extra\n3,y\n4\n'
    got = load(text)
    assert list(got.reader.locate([0, 1, 2, 3])) == [
        (0, 3, '1,"a\nb"'),
        (1, 6, "2,x,extra"),
        (2, 7, "3,y"),
        (3, 8, "4"),
    ]


def test_locate_finds_records_of_a_large_messy_file() -> None:
    lines = [f"{i},name {i}" for i in range(200_000)]
    lines[70_000] += ",x"
    lines[120_000] = '120000,"stray'
    got = load("id,name\n" + "\n".join(lines) + "\n")
    assert [reject.record for reject in got.rejects] == [70_000]
    assert len(got.rows) == 199_999
    wanted = [0, 69_999, 70_000, 70_001, 120_000, 120_001, 199_999]
    assert list(got.reader.locate(wanted)) == [(i, i + 2, lines[i]) for i in wanted]


def test_memory_does_not_grow_with_the_file() -> None:
    line = b"1,some text,2024-01-01\n"

    class Endless(io.RawIOBase):
        def __init__(self) -> None:
            self.left = 200

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            if not self.left:
                return 0
            self.left -= 1
            block = b"a,b,c\n" if self.left == 199 else line * (len(buffer) // len(line))
            buffer[: len(block)] = block
            return len(block)

    reader = open_delimited(Source("x.csv", None, lambda: io.BufferedReader(Endless(), 8192)), ReadOptions(), Rejects())
    before = pa.total_allocated_bytes()
    peak = max(pa.total_allocated_bytes() - before for _ in reader.batches())
    assert peak < 64 << 20


# Blocks


def csv_of(text: str) -> list[bytes | None]:
    raw = text.encode()
    source = Source("x.csv", len(raw), lambda: io.BytesIO(raw))
    return [batch.csv for batch in open_delimited(source, ReadOptions(), Rejects()).batches()]


def test_clean_lines_are_passed_on_as_they_are() -> None:
    assert csv_of('a,b\n1,"x, y"\n2,z') == [b'1,"x, y"\n2,z\n']
    assert csv_of('a,b\r\n1,"x"\r\n2,z\r\n') == [b'1,"x"\n2,z\n']
    assert csv_of('a,b\n1,"x\ny"\n2,z\n') == [b'1,"x\ny"\n2,z\n']


@pytest.mark.parametrize(
    "text",
    [
        "a;b\n1;2\n",
        "a,b\n1,2\n\n3,4\n",
        'a,b\r\n1,"x\r\ny"\r\n',
        "a,b\n1,2\n3\n4,5\n",
        "a,b\n1,'x, y'\n2,'z, z'\n3,'y, y'\n",
        "a,b\n1,2\n,\n",
        'a,b\n1,x"y\n2,"z"\n',
    ],
)
def test_lines_that_are_not_clean_csv_are_never_passed_on(text: str) -> None:
    assert set(csv_of(text)) == {None}


def test_what_is_well_formed_before_a_bad_line_and_after_it_keeps_its_place() -> None:
    rows = [[str(i), f"name, {i}"] for i in range(60_000)]
    lines = [f'{number},"{name}"' for number, name in rows]
    for at in (0, 7, 29_999, 30_000, 59_999):
        lines[at] = f'{at},"name "{at}'
        rows[at] = [str(at), f'"name "{at}']
    got = load("id,name\n" + "\n".join(lines) + "\n")
    assert got.rows == rows
    assert got.records == list(range(60_000))
    assert list(got.reader.locate([29_999, 30_000])) == [
        (29_999, 30_001, lines[29_999]),
        (30_000, 30_002, lines[30_000]),
    ]


# Any table in any dialect


@st.composite
def files(draw: st.DrawFn) -> tuple[dict[str, object], list[str], list[Row], str]:
    """A dialect, labels, rows, and the text that a careful writer makes of them."""
    delimiter = draw(st.sampled_from([",", ";", "\t", "|", "||", ", "]))
    quote = draw(st.sampled_from(['"', "'"]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    width = draw(st.integers(1, 5))
    cell = st.none() | st.text(st.sampled_from("ab1 ,;\t|\"'\\\n\r€é日"), max_size=6)
    rows = draw(st.lists(st.lists(cell, min_size=width, max_size=width), max_size=8))
    special = {quote, "\n", "\r", "#", *delimiter}

    def written(value: str | None) -> str:
        if value is None:
            return ""
        if not value or value != value.strip() or special & set(value):
            return quote + value.replace(quote, quote * 2) + quote
        return value

    labels = [f"col {i}" for i in range(width)]
    lines = [delimiter.join(map(written, row)) for row in [labels, *rows]]
    text = end.join(lines) + (end if draw(st.booleans()) else "")
    return {"delimiter": delimiter, "quote": quote, "header": True, "encoding": "utf-8"}, labels, rows, text


def expected(rows: list[Row], width: int) -> list[Row]:
    kept = [row for row in rows if width > 1 or row[0] is not None]  # a blank line is no record
    # What stands below the table: empty rows, and single texts below one of them.
    end = len(kept)
    while end and len(present := [cell for cell in kept[end - 1] if cell is not None]) <= 1:
        if present and (width < 3 or " " not in present[0].strip() or is_value(present[0])):
            break
        end -= 1
    below = next((at for at in range(end, len(kept)) if not any(cell is not None for cell in kept[at])), len(kept))
    return kept[:below]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(files())
def test_a_table_written_in_any_dialect_is_read_back_the_same(
    file: tuple[dict[str, object], list[str], list[Row], str],
) -> None:
    options, labels, rows, text = file
    got = load(text, **options)
    assert list(got.labels) == labels
    assert got.rows == expected(rows, len(labels))
    assert not got.rejects


WORDS = ("red", "green", "light", "alpha", "Oslo", "Ann", "Bob", "river", "stone", "é", "日本")
NOISE = "ab c,;\t|\"'\\\n\r€é日"


@dataclass
class Written:
    """A random table as a data file looks, in a random dialect."""

    delimiter: str
    quote: str
    escape: str | None
    header: bool
    codec: str
    labels: list[str]
    rows: list[Row]
    text: str


def cell_of(kind: str, rnd: random.Random) -> str:
    match kind:
        case "integer":
            return str(rnd.randint(-5, 10**6))
        case "float":
            return f"{rnd.uniform(-1000, 1000):.2f}"
        case "decimal comma":
            return f"{rnd.randint(0, 999)},{rnd.randint(0, 99):02}"
        case "date":
            return f"20{rnd.randint(10, 30)}-{rnd.randint(1, 12):02}-{rnd.randint(1, 28):02}"
        case "timestamp":
            return f"{cell_of('date', rnd)} {rnd.randint(0, 23):02}:{rnd.randint(0, 59):02}:00"
        case "boolean":
            return rnd.choice(["true", "false"])
        case "word":
            return rnd.choice(WORDS)
        case "name":
            return f"{rnd.choice(WORDS)} {rnd.choice(WORDS)}".title()
    return "".join(rnd.choice(NOISE) for _ in range(rnd.randint(0, 8)))


def random_table(rnd: random.Random) -> Written:
    """A table with at least one column of integers, in a dialect that its text lets one know.

    What no reader could know is left out, by these rules and no others:

    - Spaces that align columns are one delimiter however many they are, so a table with them has no empty cells.
    - A backslash is an escape on evidence only: an escaping file escapes a quote in three of its records.
    - An apostrophe is a quote on evidence only: a file that quotes so quotes all its texts, and holds no ``"``.
    - Without a header the first row is complete: one with few filled cells above fuller ones is a title.
    """
    delimiter = rnd.choice([",", ",", ";", "\t", "|", "||", ", ", "~", "^", "::", " "])
    quote = rnd.choice(['"', '"', '"', "'"])
    escape = rnd.choice([None, None, None, "\\"])
    header = rnd.random() < 0.8
    others = ("integer", "float", "decimal comma", "date", "timestamp", "boolean", "word", "name", "noise")
    kinds = ["integer", *(rnd.choice(others) for _ in range(rnd.randint(1, 7)))]
    needs_evidence = quote == "'" or escape is not None or delimiter == " "
    if needs_evidence:
        kinds.append("noise")
    rnd.shuffle(kinds)
    rows: list[Row] = [
        [None if delimiter != " " and rnd.random() < 0.08 else cell_of(kind, rnd) for kind in kinds]
        for _ in range(rnd.randint(3, 14))
    ]
    if not header:
        rows[0] = [cell_of(kind, rnd) for kind in kinds]
    if escape:
        for row in rnd.sample(rows, 3):
            at = kinds.index("noise")
            row[at] = (row[at] or "") + quote + "x"
    if quote == "'":
        rows = [[cell and cell.replace('"', "") for cell in row] for row in rows]
    quoted = {"word", "name", "noise"} if needs_evidence or rnd.random() < 0.3 else set()
    quote_all = rnd.random() < 0.3
    special = {quote, escape or quote, "\n", "\r", "#", *delimiter}

    def written(value: str | None, kind: str) -> str:
        if value is None:
            return ""
        if quote_all or kind in quoted or not value or value != value.strip() or special & set(value):
            body = value.replace(escape, escape * 2).replace(quote, escape + quote) if escape else None
            return quote + (body or value.replace(quote, quote * 2)) + quote
        return value

    labels = [f"{rnd.choice(WORDS)}{rnd.choice(' _')}{i}" for i in range(len(kinds))]
    lines = [delimiter.join(written(label, "word") for label in labels)] if header else []
    lines += [delimiter.join(map(written, row, kinds)) for row in rows]
    end = rnd.choice(["\n", "\r\n", "\r"])
    text = end.join(lines) + (end if rnd.random() < 0.7 else "")
    codec = rnd.choice(["utf-8"] * 4 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
    if not header:
        labels = [f"column_{i + 1}" for i in range(len(kinds))]
    return Written(delimiter, quote, escape, header, codec, labels, rows, text)


def read_back(seed: int, count: int) -> None:
    print(f"seed {seed}")
    wrong = []
    for number in range(count):
        table = random_table(random.Random(f"{seed}-{number}"))
        got = load(table.text.encode(table.codec))
        if (list(got.labels), got.rows) != (table.labels, expected(table.rows, len(table.labels))):
            wrong.append((number, table))
    assert not wrong, f"{len(wrong)} of {count}, the first: {wrong[:3]}"


def test_a_random_table_is_read_back_without_being_told_its_dialect() -> None:
    read_back(20240501, 300)


@pytest.mark.slow
def test_ten_thousand_random_tables_are_read_back_without_being_told_their_dialect() -> None:
    read_back(int(os.environ.get("SEED", "20240502")), 10_000)
