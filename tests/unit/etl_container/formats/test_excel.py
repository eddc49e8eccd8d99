"""A sheet's table is found and read as what its cells are."""

from __future__ import annotations

import base64
import datetime as dt
import io
import zipfile
import zlib
from typing import Any

import openpyxl
import pytest
from openpyxl.utils.datetime import CALENDAR_MAC_1904, CALENDAR_WINDOWS_1900

from etl_container.errors import UnreadableObjectError
from etl_container.formats import excel, open_table
from etl_container.formats.base import Kind, RawBatch, ReadOptions, Reject, Source, TableReader

Workbook = openpyxl.Workbook


class Rejects:
    def add(self, reject: Reject) -> None:
        raise AssertionError(reject)


def opened(data: bytes, name: str = "t.xlsx", **options: object) -> TableReader:
    return open_table(Source(name, len(data), lambda: io.BytesIO(data)), ReadOptions(**options), Rejects())


def opened_here(data: bytes) -> TableReader:
    """In this process, where a limit can be changed."""
    return excel.open_excel(Source("t.xlsx", len(data), lambda: io.BytesIO(data)), ReadOptions(), "xlsx")


def rows_of(data: bytes, **options: object) -> list[list[str | None]]:
    return [list(row.values()) for batch in opened(data, **options).batches() for row in batch.data.to_pylist()]


def saved(workbook: Workbook) -> bytes:
    buffer = io.BytesIO()
    workbook.save(buffer)
    return buffer.getvalue()


def sheet_of(*rows: list[Any]) -> bytes:
    workbook = Workbook()
    for row in rows:
        workbook.active.append(row)
    return saved(workbook)


# Sheet "old": id, name, when / 1, ä, 2024-01-02 03:04:05 / 2.5, b, 2024-01-03; written by xlwt 1.3.
XLS = zlib.decompress(
    base64.b85decode(
        "c-"
        "rk)O=uHA6#izDG(Wa!Qd6}ROQ=}2wg>Sdfp)7_drGNZ{6Wyf1X9{0k_w^+t=1d`!IR>p5D#9eUi?2OUKE6i9t1&1RJ`;gD0pbIzInT=X^"
        "qf;7Fy<8=FOWo^Jd<@dGoXTdOBE~yxUsB0`$Uxvf)Ktg-"
        "lTL+Jyk9-Y_I<=N?Li!m@(bLlar&!sCWlZaIf?zDv+>$N7vX@R8C{oWx)@lMF8*cC!sJA#La(DsY1&ezdSvO-xTPUCs11w|v61k0qCx_E"
        "6iRID%<?uydys#fP+ZuJc3od!KdQvt&D(@j^!N`76R~>%y+waBOs?RJ1wkQ2@>KKr)le$?`hfBp2c^p*tGw?(Yw$Qjv5zGB#F3h{B<O??"
        "xE-"
        "X0Q9FVI^N$xd6$3%$K|WBKOd2R+D?H$ggTnU>wGAUS4^u!XBrraUeUIn8ikl8E~SNF`S^POe~$G>~t!bp{V*yDejX;0&gLKd0R*WFRgl_"
        "2{bYv<OLQW3ukYAeG`oj>Bm?y&c}v%xNMRZ!N3KnLCSuZ_Sm$OHMTLm$i1#-zLjZ+jHSF|sM%unO>mn_T-"
        "!n8>|ngrH&^gmh|kaLf6$iyq;DmDYM^vBH1$rOL_2vcLHhEUK$qwe*RM%D)a_hY8_@@*Eq`oE9xY(mZdfO1Bj(^^HptX0N$-"
        "eXCC&1c)D{c0&uKoE1=-"
        "88y<lzW9S8YKkS5vmGP1U?;Y*+FL95b(#y!k9%pT0yk)Ai}G_wBDa}B*(6Yj~Tw4wfn4+;tj3JMAe3JS{@!o1(}1=4BV_vO{nZT;7oqf}"
        "PENmeWlAWP3F`ZU~&4COhTsVRQez$NUy#3FU<|Ai6<Y4jXM5NA6^YK~v}*b$ZQvuMS@zgt4Jj$f|D&i_3APxiFpAp"
    )
)


def ods(rows: str) -> bytes:
    """A smallest OpenDocument spreadsheet (OASIS OpenDocument 1.3, part 3, sections 9.1 and 19.385)."""
    namespaces = " ".join(
        f'xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{prefix}:1.0"' for prefix in ("office", "table", "text")
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "META-INF/manifest.xml",
            '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>',
        )
        archive.writestr(
            "content.xml",
            f"<office:document-content {namespaces}><office:body><office:spreadsheet><table:table table:name='S'>"
            f"{rows}</table:table></office:spreadsheet></office:body></office:document-content>",
        )
    return buffer.getvalue()


def test_cells_come_as_text_with_the_kind_of_each_column() -> None:
    data = sheet_of(
        ["whole", "part", "text", "flag", "day", "moment", "time", "mixed"],
        [1, 1.5, "007", True, dt.date(2024, 1, 2), dt.datetime(2024, 1, 2, 3, 4, 5), dt.time(3, 4), 1],
        [2.0, 1e20, " x ", False, dt.date(2024, 1, 3), dt.datetime(2024, 1, 3), None, "a"],
    )
    reader = opened(data, "misleading.csv")
    (batch,) = reader.batches()
    assert reader.description.format == "xlsx"
    assert batch.kinds == (
        Kind.NUMBER,
        Kind.NUMBER,
        Kind.STRING,
        Kind.BOOLEAN,
        Kind.TEMPORAL,
        Kind.TEMPORAL,
        Kind.STRING,
        Kind.NUMBER | Kind.STRING,
    )
    assert rows_of(data) == [
        ["1", "1.5", "007", "true", "2024-01-02", "2024-01-02T03:04:05", "03:04:00", "1"],
        ["2", "1e+20", " x ", "false", "2024-01-03", "2024-01-03T00:00:00", None, "a"],
    ]


def test_title_rows_are_skipped_with_a_note() -> None:
    data = sheet_of(
        ["Report 2024"], [], ["by", "someone"], [], ["id", "name", "x", "y"], [1, "a", 2, 3], [2, "b", 4, 5]
    )
    reader = opened(data)
    assert reader.labels == ("id", "name", "x", "y")
    assert "2 rows above the table skipped: Report 2024; by" in reader.notes[0]
    assert rows_of(data) == [["1", "a", "2", "3"], ["2", "b", "4", "5"]]


def test_rows_can_be_found_again_by_their_number_in_the_sheet() -> None:
    data = sheet_of([], ["id", "name"], [1, "a,b"], [], [3, "c"])
    assert list(opened(data).locate([0, 1])) == [(0, 3, '1,"a,b"'), (1, 5, "3,c")]


def test_empty_columns_and_rows_are_dropped_and_a_column_without_a_label_is_named() -> None:
    workbook = Workbook()
    sheet = workbook.active
    for place, value in {"C3": "id", "E3": "name", "C4": 1, "E4": "a", "F4": "extra", "C7": 2, "E7": "b"}.items():
        sheet[place] = value
    reader = opened(saved(workbook))
    assert reader.labels == ("id", "name", "column_3")
    assert rows_of(saved(workbook)) == [["1", "a", "extra"], ["2", "b", None]]


def test_a_value_merged_over_rows_is_given_to_each() -> None:
    workbook = Workbook()
    sheet = workbook.active
    for place, value in {"B2": "region", "C2": "n", "B3": "north", "C3": 1, "C4": 2, "B5": "south", "C5": 3}.items():
        sheet[place] = value
    sheet.merge_cells("B3:B4")
    reader = opened(saved(workbook))
    assert rows_of(saved(workbook)) == [["north", "1"], ["north", "2"], ["south", "3"]]
    assert "merged" in reader.notes[-1]


@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        ([["country", 2019, 2020], ["a", 1.5, 2.5], ["b", 3.5, 4.5]], ("country", "2019", "2020")),
        ([["item", dt.date(2024, 1, 1), dt.date(2024, 2, 1)], ["a", 1, 2]], ("item", "2024-01-01", "2024-02-01")),
        ([["a", 1.5, 2], ["b", 3.5, 4]], ("column_1", "column_2", "column_3")),
        ([["a", 2019], ["b", 2020]], ("column_1", "column_2")),
        ([[1, 2], [3, 4]], ("column_1", "column_2")),
        ([["a", "b"], ["c", "d"]], ("a", "b")),
    ],
)
def test_a_header_is_told_from_data(rows: list[list[Any]], labels: tuple[str, ...]) -> None:
    reader = opened(sheet_of(*rows))
    assert reader.labels == labels
    assert reader.description.has_labels is (labels[0] != "column_1")


def test_the_user_overrules_the_header() -> None:
    data = sheet_of(["a", "b"], ["c", "d"], [1, 2])
    assert rows_of(data, header=False) == [["a", "b"], ["c", "d"], ["1", "2"]]
    assert opened(data, skip_lines=1).labels == ("c", "d")


def test_a_formula_counts_by_its_cached_value() -> None:
    plain = sheet_of(["n", "double"], [3, 6], [4, 8])
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(plain)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "xl/worksheets/sheet1.xml":
                changed = data.replace(b"<v>6</v>", b"<f>A2*2</f><v>6</v>").replace(b"<v>8</v>", b"<f>A3*2</f><v>8</v>")
                assert changed.count(b"<f>") == 2
                data = changed
            new.writestr(name, data)
    assert rows_of(buffer.getvalue()) == [["3", "6"], ["4", "8"]]


def test_hidden_rows_and_columns_are_data() -> None:
    workbook = Workbook()
    for row in (["a", "b", "c"], [1, 2, 3], [4, 5, 6]):
        workbook.active.append(row)
    workbook.active.row_dimensions[2].hidden = True
    workbook.active.column_dimensions["B"].hidden = True
    assert rows_of(saved(workbook)) == [["1", "2", "3"], ["4", "5", "6"]]


def workbook_of_four() -> bytes:
    workbook = Workbook()
    workbook.active.title = "blank"
    hidden = workbook.create_sheet("hidden")
    hidden.append(["h"])
    hidden.append([1])
    hidden.sheet_state = "hidden"
    for name in ("first", "second"):
        sheet = workbook.create_sheet(name)
        sheet.append([name])
        sheet.append([2])
    return saved(workbook)


def test_the_first_visible_sheet_with_a_value_is_the_table_and_the_others_are_told() -> None:
    description = opened(workbook_of_four()).description
    assert description.table == "first"
    assert description.others == ("blank", "hidden", "second")


@pytest.mark.parametrize(("name", "label"), [("second", "second"), ("hidden", "h")])
def test_any_sheet_can_be_asked_for(name: str, label: str) -> None:
    assert opened(workbook_of_four(), sheet=name).labels == (label,)


def test_a_sheet_that_is_not_there_or_is_empty_says_so() -> None:
    with pytest.raises(UnreadableObjectError, match="no sheet 'third'") as caught:
        opened(workbook_of_four(), sheet="third")
    assert "second" in str(caught.value.hint)
    with pytest.raises(UnreadableObjectError, match="no value"):
        opened(workbook_of_four(), sheet="blank")
    with pytest.raises(UnreadableObjectError, match="is empty"):
        opened(saved(Workbook()))


def test_an_old_excel_file_is_read() -> None:
    reader = opened(XLS, "misleading.csv")
    assert (reader.description.format, reader.description.table) == ("xls", "old")
    assert rows_of(XLS) == [["1", "ä", "2024-01-02T03:04:05"], ["2.5", "b", "2024-01-03T00:00:00"]]


def test_an_opendocument_sheet_is_read() -> None:
    cell = "<table:table-cell office:value-type='{}' {}><text:p>{}</text:p></table:table-cell>".format
    row = "<table:table-row>{}</table:table-row>".format
    data = ods(
        row(cell("string", "", "n") + cell("string", "", "day") + cell("string", "", "ok"))
        + row(
            cell("float", "office:value='1.5'", "1,50")
            + cell("date", "office:date-value='2024-01-02'", "02.01.24")
            + cell("boolean", "office:boolean-value='true'", "WAHR")
        )
    )
    reader = opened(data, "t.zip")
    assert reader.description.format == "ods"
    assert reader.labels == ("n", "day", "ok")
    assert rows_of(data)[0][0::2] == ["1.5", "true"]
    assert str(rows_of(data)[0][1]).startswith("2024-01-02")


@pytest.mark.parametrize("at", [0.2, 0.5, 0.8])
def test_a_damaged_workbook_is_an_error(at: float) -> None:
    data = bytearray(sheet_of(["id"], *[[number * 1.37] for number in range(3000)]))
    place = data.index(b"xl/worksheets/sheet1.xml") + 60
    for offset in range(40):
        data[place + int(at * 5000) + offset] ^= 0x5A
    with pytest.raises(UnreadableObjectError, match="damaged"):
        rows_of(bytes(data))
    with pytest.raises(UnreadableObjectError, match=r"t\.xls"):
        rows_of_xls_cut(at)


def rows_of_xls_cut(at: float) -> list[RawBatch]:
    return list(opened(XLS[: int(len(XLS) * at)], "t.xls").batches())


def test_a_workbook_that_inflates_absurdly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excel, "MAX_INFLATED_BYTES", 10_000)
    with pytest.raises(UnreadableObjectError, match="bomb"):
        opened_here(sheet_of(*[[number] for number in range(1000)]))


def test_a_long_sheet_comes_in_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excel, "BATCH_ROWS", 100)
    batches = list(opened_here(sheet_of(["n"], *[[number] for number in range(250)])).batches())
    assert [batch.first_record for batch in batches] == [0, 100, 200]
    assert [row["n"] for batch in batches for row in batch.data.to_pylist()] == [str(n) for n in range(250)]


@pytest.mark.parametrize("epoch", [CALENDAR_WINDOWS_1900, CALENDAR_MAC_1904])
def test_a_date_is_the_same_day_in_either_calendar_of_excel(epoch: dt.datetime) -> None:
    workbook = Workbook()
    workbook.epoch = epoch
    workbook.active.append(["day"])
    for day in (dt.date(1905, 1, 1), dt.date(2024, 2, 29), dt.date(2100, 3, 1)):
        workbook.active.append([day])
    assert rows_of(saved(workbook)) == [["1905-01-01"], ["2024-02-29"], ["2100-03-01"]]


@pytest.mark.parametrize(
    ("stream", "what"), [("VisioDocument", "a Visio drawing"), ("Other", "a document of another program")]
)
def test_a_compound_file_that_is_no_workbook_is_called_what_it_is(stream: str, what: str) -> None:
    data = base64.b64decode("0M8R4KGxGuE=") + bytes(80_000) + stream.encode("utf-16-le") + bytes(1000)
    with pytest.raises(UnreadableObjectError, match=what):
        opened(data, "t.bin")
