"""Reader of spreadsheets: xlsx, xlsb, xls and ods, one sheet being one table.

A sheet is drawn for eyes, so the table in it is looked for: blank and title rows above the header are skipped (and
noted), columns and rows without any value dropped, a value merged over several rows given to each of them. Formulas
count by their cached value; an error value (``#N/A``) is null. calamine reads the sheet's cells whole, in about 50
bytes a cell; everything after it streams.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, Final

import pyarrow as pa

from etl_container.errors import UnreadableObjectError
from etl_container.formats.base import Description, Kind, RawBatch, ReadOptions, Source
from etl_container.formats.compression import MAX_RATIO, LocalCopy

BATCH_ROWS: Final = 8_192
"""Rows in a batch."""

MAX_INFLATED_BYTES: Final = 4 << 30
"""Bytes of XML that a workbook may inflate to; Excel's largest sheets stay below."""

_LOOKED_AT: Final = 100
"""Rows at the top of a sheet that are looked at for the header."""

_Row = list[Any]


def open_excel(source: Source, options: ReadOptions, found: str) -> ExcelReader:
    """The table in a workbook: the sheet ``options.sheet``, else the first visible one with a value in it.

    ``options.skip_lines`` skips that many rows of the sheet, and ``options.header`` says whether the first row then
    holds labels; without them the header is looked for.

    Raises:
        UnreadableObjectError: damaged, protected by a password, no such sheet, or nothing in any sheet.
    """
    return ExcelReader(source, options, found)


class ExcelReader:
    """A table in a workbook. See :class:`~etl_container.formats.base.TableReader`."""

    def __init__(self, source: Source, options: ReadOptions, found: str) -> None:
        self._name = source.name
        self._format = found
        self._notes: list[str] = []
        workbook = _workbook(source)
        sheets = [sheet.name for sheet in workbook.sheets_metadata if _is_worksheet(sheet)]
        visible = [sheet.name for sheet in workbook.sheets_metadata if _is_worksheet(sheet) and _is_visible(sheet)]
        self._sheet_name, self._sheet = self._choose(workbook, sheets, visible, options.sheet)
        self._others = tuple(name for name in sheets if name != self._sheet_name)
        if self._others and options.sheet is None:
            shown = ", ".join(self._others[:5]) + (" …" if len(self._others) > 5 else "")
            self._notes.append(
                f"Sheet {self._sheet_name!r} was read; the workbook also holds {shown}: name one by read.sheet."
            )
        self._merges = _vertical_merges(self._sheet)
        self._first_row = 1 << 30
        self._find_table(options)

    @property
    def description(self) -> Description:
        return Description(
            format=self._format, table=self._sheet_name, others=self._others, has_labels=self._header_row is not None
        )

    @property
    def labels(self) -> tuple[str, ...]:
        return self._labels

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self._notes)

    def batches(self) -> Iterator[RawBatch]:
        rows = self._records()
        first_record = 0
        while batch := [row for _, row in islice(rows, BATCH_ROWS)]:
            columns, kinds = [], []
            for values in zip(*batch, strict=True):
                column, kind = _column(values)
                columns.append(column)
                kinds.append(kind)
            yield RawBatch(pa.RecordBatch.from_arrays(columns, names=list(self._labels)), tuple(kinds), first_record)
            first_record += len(batch)

    def locate(self, records: Iterable[int]) -> Iterator[tuple[int, int | None, str | None]]:
        """The line is the sheet's row; the text is the row's cells as CSV."""
        rows = self._records()
        at = 0
        for record in records:
            found = next(islice(rows, record - at, None), None)
            at = record + 1
            if found is None:
                return
            number, row = found
            text = io.StringIO()
            csv.writer(text, lineterminator="").writerow(["" if cell is None else _text(cell) for cell in row])
            yield record, number, text.getvalue()

    def _choose(self, workbook: Any, sheets: list[str], visible: list[str], wanted: str | None) -> tuple[str, Any]:
        if wanted is not None and wanted not in sheets:
            raise UnreadableObjectError(
                f"{self._name} has no sheet {wanted!r}.",
                hint=f"Set read.sheet to one of its sheets: {', '.join(sheets)}.",
            )
        for name in [wanted] if wanted is not None else [*visible, *sheets]:
            sheet = _guarded(self._name, partial(workbook.get_sheet_by_name, name))
            if any(_has_value(row) for row in sheet.iter_rows()):
                return name, sheet
        what = f"sheet {wanted!r}" if wanted is not None else "workbook"
        raise UnreadableObjectError(f"{self._name} is empty: the {what} has no value in any cell.")

    def _find_table(self, options: ReadOptions) -> None:
        """Find the header, the first row of data and the columns in use."""
        skip = options.skip_lines or 0
        top = [(number, row) for number, row in islice(self._rows(), skip, skip + _LOOKED_AT) if _has_value(row)]
        if not top:
            raise UnreadableObjectError(
                f"{self._name} is empty: its sheet {self._sheet_name!r} has no row after {skip}."
            )
        start = 0 if options.skip_lines is not None else _first_table_row([row for _, row in top])
        number, first = top[start]
        is_header = (
            options.header if options.header is not None else _is_header(first, [row for _, row in top[start + 1 :]])
        )
        self._header_row = number if is_header else None
        self._first_row = number + 1 if is_header else number
        if start:
            skipped = [next(_text(cell) for cell in row if cell is not None) for _, row in top[:start]]
            self._notes.append(
                f"Sheet {self._sheet_name!r}: {start} row{'s' if start > 1 else ''} above the table skipped: "
                f"{'; '.join(text[:80] for text in skipped[:5])}."
            )
        used = [cell is not None for cell in first]
        for _, row in self._data_rows():
            used = [known or cell is not None for known, cell in zip(used, row, strict=True)]
        self._used = [index for index, is_used in enumerate(used) if is_used]
        headers = first if is_header else [None] * len(first)
        self._labels = tuple(
            f"column_{place}" if headers[index] is None else _label(headers[index]) or f"column_{place}"
            for place, index in enumerate(self._used, 1)
        )
        if any(number >= self._first_row for number in self._merges):
            self._notes.append(
                f"Sheet {self._sheet_name!r}: values merged over several rows were given to each of them."
            )

    def _records(self) -> Iterator[tuple[int, _Row]]:
        """Rows with a value, under the columns in use, each with its 1-based row number in the sheet."""
        for number, row in self._data_rows():
            yield number, [row[index] for index in self._used]

    def _data_rows(self) -> Iterator[tuple[int, _Row]]:
        for number, row in self._rows():
            if number >= self._first_row and _has_value(row):
                yield number, row

    def _rows(self) -> Iterator[tuple[int, _Row]]:
        """All rows, 1-based, with None for empty cells."""
        held: dict[int, tuple[Any, int]] = {}
        for number, raw in enumerate(self._sheet.iter_rows(), 1):
            row = [None if cell == "" else cell for cell in raw]
            for column, (value, last) in list(held.items()):
                if number > last:
                    del held[column]
                elif row[column] is None:
                    row[column] = value
            for column, last in self._merges.get(number, ()):
                if number >= self._first_row and column < len(row) and row[column] is not None:
                    held[column] = (row[column], last)
            yield number, row


def _workbook(source: Source) -> Any:
    import python_calamine

    copy = LocalCopy(source)
    _refuse_bomb(copy.path, source.name)
    with open(copy.path, "rb") as stream:  # noqa: PTH123
        try:
            return _guarded(source.name, lambda: python_calamine.CalamineWorkbook.from_filelike(stream))
        except UnreadableObjectError as error:
            if what := _other_document(copy.path) if "Cannot detect file format" in error.message else "":
                raise UnreadableObjectError(
                    f"{source.name} looks like {what}, which is nothing that can be read.",
                    hint="Save it in a newer format (docx, pptx, pdf), and upload that.",
                ) from error
            raise


def _refuse_bomb(path: str, name: str) -> None:
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        inflated = sum(info.file_size for info in archive.infolist())
        stored = sum(info.compress_size for info in archive.infolist())
    if inflated > MAX_INFLATED_BYTES or (inflated > 256 << 20 and inflated > MAX_RATIO * stored):
        raise UnreadableObjectError(
            f"{name} would inflate to {inflated >> 20:,} MiB: it is too large for a workbook, or a decompression bomb.",
            hint="Save its sheets as CSV and upload those.",
        )


def _guarded(name: str, call: Callable[[], Any]) -> Any:
    """What ``call`` into calamine gives, its failures in our words; a panic in it is one file's, not ours."""
    import python_calamine

    try:
        return call()
    except python_calamine.PasswordError as error:
        raise UnreadableObjectError(
            f"{name} is protected by a password.", hint="Save it without one and upload that."
        ) from error
    except (python_calamine.CalamineError, OSError, ValueError) as error:
        raise _damaged(name, error) from error
    except BaseException as error:
        # pyo3 raises a Rust panic as a BaseException of its own, which cannot be imported.
        if type(error).__name__ != "PanicException":
            raise
        raise _damaged(name, error) from error


_OTHERS: Final = (
    ("Workbook", ""),
    ("WordDocument", "a Word document"),
    ("PowerPoint Document", "a PowerPoint presentation"),
    ("EncryptedPackage", "an encrypted Office document"),
    ("VisioDocument", "a Visio drawing"),
    ("Quill", "a Publisher document"),
)
"""Streams of OLE compound files, whose directory may be anywhere in them."""


def _other_document(path: str) -> str:
    """What an OLE compound file is when it is no workbook."""
    with open(path, "rb") as stream:  # noqa: PTH123
        data = stream.read(64 << 20)
    if not data.startswith(b"\xd0\xcf\x11\xe0"):
        return ""
    return next(
        (what for stream, what in _OTHERS if stream.encode("utf-16-le") in data), "a document of another program"
    )


def _damaged(name: str, error: BaseException) -> UnreadableObjectError:
    return UnreadableObjectError(
        f"{name} is damaged: it cannot be read as a workbook ({str(error)[:300]}).",
        hint="Open it in a spreadsheet program and save it again, or transfer it again.",
    )


def _is_worksheet(sheet: Any) -> bool:
    return str(sheet.typ).endswith("WorkSheet")


def _is_visible(sheet: Any) -> bool:
    return str(sheet.visible).endswith(".Visible")


def _vertical_merges(sheet: Any) -> dict[int, list[tuple[int, int]]]:
    """``(column, last row)`` of each range merged over several rows, by its first row; columns as rows have them."""
    merges: dict[int, list[tuple[int, int]]] = {}
    # Rows come from the sheet's first on, columns only from the first in use.
    first_column = sheet.start[1]
    for (top, left), (bottom, _) in sheet.merged_cell_ranges or ():
        if bottom > top and left >= first_column:
            merges.setdefault(top + 1, []).append((left - first_column, bottom + 1))
    return merges


def _has_value(row: Iterable[Any]) -> bool:
    return any(cell is not None and cell != "" for cell in row)


# --- where the table begins ------------------------------------------------------------------------------------------


def _first_table_row(rows: list[_Row]) -> int:
    """The index of the first row that is about as wide as most rows are: what is above it are titles and remarks."""
    widths = [sum(cell is not None for cell in row) for row in rows]
    counts = Counter(widths)
    usual = max(counts, key=lambda width: (counts[width], width))
    return next(index for index, width in enumerate(widths) if width * 3 >= usual * 2)


def _is_header(first: _Row, others: list[_Row]) -> bool:
    """Whether ``first`` holds labels: texts all through, save for years and dates that head columns of other things."""
    cells = [cell for cell in first if cell is not None]
    if all(isinstance(cell, str) for cell in cells):
        # A lone row of texts could be either; labels differ from one another, values often repeat.
        return bool(others) or len(set(cells)) == len(cells)
    if not isinstance(cells[0], str) or len(set(map(_text, cells))) < len(cells):
        return False
    for index, cell in enumerate(first):
        if cell is None or isinstance(cell, str):
            continue
        year = isinstance(cell, int | float) and not isinstance(cell, bool) and cell in range(1800, 2201)
        below = [row[index] for row in others if row[index] is not None]
        if year:
            if below and all(isinstance(value, int | float) and value in range(1800, 2201) for value in below):
                return False
        elif not isinstance(cell, dt.date) or any(isinstance(value, dt.date) for value in below):
            return False
    return True


# --- cells to columns ------------------------------------------------------------------------------------------------


def _column(values: Iterable[Any]) -> tuple[Any, Kind]:
    values = list(values)
    types = set(map(type, values))
    types.discard(type(None))
    kind = Kind(0)
    for python_type in types:
        kind |= _KINDS[python_type]
    if types == {dt.date, dt.datetime}:
        # One column of timestamps, of which calamine gives those at midnight as dates.
        values = [dt.datetime.combine(value, dt.time()) if type(value) is dt.date else value for value in values]
    return pa.array([None if value is None else _text(value) for value in values], pa.string()), kind


def _label(value: Any) -> str:
    return _text(value).replace("\0", "\N{REPLACEMENT CHARACTER}").strip()


def _text(value: Any) -> str:
    """A cell as text: whole numbers without a fraction, dates and times in ISO 8601."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        # Excel keeps 15 digits; beyond that a whole number is no longer known to its last digit.
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, dt.timedelta):
        seconds = round(value.total_seconds())
        sign = "-" if seconds < 0 else ""
        minutes, second = divmod(abs(seconds), 60)
        return f"{sign}{minutes // 60:02}:{minutes % 60:02}:{second:02}"
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return str(value)


_KINDS: Final[dict[type, Kind]] = {
    str: Kind.STRING,
    int: Kind.NUMBER,
    float: Kind.NUMBER,
    bool: Kind.BOOLEAN,
    dt.date: Kind.TEMPORAL,
    dt.datetime: Kind.TEMPORAL,
    dt.time: Kind.STRING,
    dt.timedelta: Kind.STRING,
}
