"""The fast path of delimited text: blocks that are proven well formed, read by Arrow's CSV parser whole.

A look at the quotes of a block tells up to where it is well formed; Arrow parses that much in one go, and the reader
(:mod:`etl_container.formats.delimited`) takes the rest apart record by record. What Arrow would read differently (a
lone carriage return, NUL bytes, a backslash as escape) never comes here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from etl_container.arrays import scalar, valid_mask
from etl_container.formats import dialect as dialects

MAX_NOTES = 64
"""So many rows at the end of a text are looked at for remarks that are as wide as the table."""
MAX_GAPS = 50
"""At so many blank lines in a block it is looked whether another table follows; more are how the file is written."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What the fast path made of the first ``size`` bytes of a block."""

    columns: Sequence[Any]
    size: int
    lines: int
    odd: Sequence[tuple[int, int, str, bool]]
    """Records without the table's width: index among all records, 0-based line in the block, text, and whether a blank
    line stands above."""
    suspect: bool
    """Whether another table may begin in it."""
    whole: bool
    """Whether nothing that is not well formed follows in the block."""
    csv: bytes | None
    """Its lines as RFC 4180 has them, where they stand so in the file."""


def arrow_parser(layout: dialects.Layout, *, one_table: bool) -> Callable[[bytes, bool], Taken | None] | None:
    """The fast path for a layout, or None when Arrow cannot read it.

    The function returned takes a block and whether it is the last, and gives None when the block is not well formed.
    """
    dialect, width = layout.dialect, len(layout.labels)
    delimiter, quote = dialect.delimiter, dialect.quote
    if (
        len(delimiter.encode()) != 1
        or delimiter == " "
        or dialect.escape is not None
        or dialect.line_terminator == "\r"
    ):
        return None
    if quote is not None and len(quote.encode()) != 1:
        return None
    names = [f"c{i}" for i in range(width)]
    convert = pa_csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    quote_byte = quote.encode() if quote else None
    plain = delimiter == "," and quote in {'"', None}

    def parse(data: bytes, final: bool) -> Taken | None:
        quotes = _quotes(data, quote_byte, delimiter) if quote_byte and quote_byte in data else None
        stop, whole = len(data), True
        if quotes is not None and (bad := _first_bad(quotes, final=final)) is not None:
            stop, whole = bad, False
        cut = stop if final and whole else _cut(data, quotes, stop)
        if not cut:
            return None
        block = data if cut == len(data) else data[:cut]
        if b"\x00" in block or (b"\r" in block and block.count(b"\r") != block.count(b"\r\n")):
            return None
        if not block.endswith(b"\n"):
            block += b"\n"  # or Arrow takes an empty last cell for a quoted one
        ragged: list[tuple[int, str]] = []

        def keep(row: Any) -> str:
            ragged.append((row.number - 1, row.text))
            return "skip"

        try:
            table = pa_csv.read_csv(
                pa.py_buffer(block),
                read_options=pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(block) + 1),
                parse_options=pa_csv.ParseOptions(
                    delimiter=delimiter,
                    quote_char=quote or False,
                    newlines_in_values=False,
                    invalid_row_handler=keep,
                ),
                convert_options=convert,
            )
        except pa.ArrowInvalid:
            return None
        columns = [column.chunk(0) if column.num_chunks == 1 else column.combine_chunks() for column in table.columns]
        if final and whole and width > 2 and not one_table and (left := _rows_of_notes(columns)):
            end = _before_records(block, left, quotes)
            return parse(data[:end], False) if end else None
        odd = _with_lines(block, ragged, quotes) if ragged else []
        lines = int(np.count_nonzero(np.frombuffer(block, np.uint8) == 10))  # ten times as fast as bytes.count
        doubtful = not one_table and suspect(block, columns, rows=len(columns[0]) + len(ragged), lines=lines)
        csv = _as_csv(block, len(columns[0]), lines) if plain and (quote or b'"' not in block) and not odd else None
        return Taken(columns, cut, lines, odd, doubtful, whole, csv)

    told = [(j, scalar(label)) for j, label in enumerate(layout.header[0]) if label] if layout.header else []

    def repeated(columns: Sequence[Any]) -> bool:
        """Whether the header stands among the rows again."""
        mask = None
        for j, label in told:
            here = pc.equal(columns[j], label)
            mask = here if mask is None else pc.and_(mask, here)
            if not pc.any(mask).as_py():
                return False
        return mask is not None

    def suspect(block: bytes, columns: Sequence[Any], *, rows: int, lines: int) -> bool:
        if width > 1 and repeated(columns):
            return True
        if width > 1 and layout.typed and rows < lines:
            after_blank = itertools.islice(re.finditer(rb"\n\r?\n([^\r\n]+)", block), MAX_GAPS)
            for found in after_blank:
                cells = found.group(1).decode("utf-8", "replace").split(delimiter)
                if not any(dialects.is_value(cells[j].strip("\"'")) for j in layout.typed if j < len(cells)):
                    return True
        return False

    return parse


def _rows_of_notes(columns: Sequence[Any]) -> int:
    """How many of the last rows of a table's end are empty or hold one cell, if a filled one stands below an empty one.

    Remarks below a table look so where a spreadsheet wrote it; the tolerant path tells them from rows.
    """
    size = len(columns[0])
    first = max(0, size - MAX_NOTES)
    filled = np.zeros(size - first, np.int64)
    for column in columns:
        filled += valid_mask(column.slice(first))
    sparse = int(np.argmax(filled[::-1] > 1)) if (filled > 1).any() else len(filled)
    empty = np.flatnonzero(filled[len(filled) - sparse :] == 0)
    return sparse if len(empty) and (filled[len(filled) - sparse + int(empty[0]) :] == 1).any() else 0


def _before_records(block: bytes, count: int, quotes: _Quotes | None) -> int:
    """Where the last ``count`` records of a well-formed block begin."""
    end = len(block)
    while count and end:
        start = block.rfind(b"\n", 0, end - 1) + 1
        while start and quotes is not None and np.searchsorted(quotes.positions, start) % 2:
            start = block.rfind(b"\n", 0, start - 1) + 1
        count -= bool(block[start:end].strip(b"\r\n "))
        end = start
    return end


def _as_csv(block: bytes, rows: int, lines: int) -> bytes | None:
    """A well-formed block with commas as RFC 4180 lines; None when it is not quite such."""
    if b"\r" in block:
        return block.replace(b"\r\n", b"\n") if rows == lines else None  # or some stand within values
    if rows == lines or not (b"\n\n" in block or block.startswith(b"\n")):
        return block  # no blank lines
    return None


@dataclass(frozen=True, slots=True)
class _Quotes:
    """Where the quotes of a block are, and up to which byte they stand where they should."""

    positions: Any
    good: Any


def _quotes(data: bytes, quote: bytes, delimiter: str) -> _Quotes:
    """Find all quotes of a block that starts outside any quoted value.

    In well-formed text they alternate: one that opens (after a delimiter, a line end, or the one that closed just
    before: a doubled quote) and one that closes (before any of these).
    """
    array = np.frombuffer(data, np.uint8)
    byte = quote[0]
    allowed = np.zeros(256, np.bool_)
    allowed[[ord(delimiter), 10, 13, byte]] = True
    positions = np.flatnonzero(array == byte)
    good = np.empty(len(positions), np.bool_)
    opens, closes = positions[0::2], positions[1::2]
    good[0::2] = allowed[array[opens - 1]]
    if positions[0] == 0:
        good[0] = True
    last = closes + 1
    if len(last) and last[-1] == len(array):
        last[-1] -= 1  # the quote itself, which is allowed
    good[1::2] = allowed[array[last]]
    return _Quotes(positions, good)


def _first_bad(quotes: _Quotes, *, final: bool) -> int | None:
    """Where the first quoted value begins that is not well formed; None when all are."""
    if not quotes.good.all():
        pair = int(np.argmin(quotes.good)) // 2
        return int(quotes.positions[2 * pair])
    if final and len(quotes.positions) % 2:
        return int(quotes.positions[-1])  # never closed
    return None


def _cut(data: bytes, quotes: _Quotes | None, stop: int) -> int:
    """The end of the last whole record that ends before ``stop``; 0 when there is none."""
    cut = data.rfind(b"\n", 0, stop)
    while quotes is not None and cut >= 0:
        before = int(np.searchsorted(quotes.positions, cut))
        if before % 2 == 0:
            break
        cut = data.rfind(b"\n", 0, int(quotes.positions[before - 1]))
    return cut + 1


def _with_lines(
    block: bytes, ragged: Sequence[tuple[int, str]], quotes: _Quotes | None
) -> list[tuple[int, int, str, bool]]:
    """Add to each ragged row of a block the line on which it starts, and whether the one above is blank."""
    array = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(array == 10)
    starts = np.concatenate(([0], ends + 1))
    if quotes is not None:
        starts_outside = np.searchsorted(quotes.positions, starts) % 2 == 0
    else:
        starts_outside = np.ones(len(starts), np.bool_)
    lines = np.arange(len(starts))
    inside = starts < len(array)
    starts, lines = starts[inside & starts_outside], lines[inside & starts_outside]
    first = array[starts]
    after = array[np.minimum(starts + 1, len(array) - 1)]
    blank = (first == 10) | ((first == 13) & (after == 10))
    after_blank = np.concatenate(([False], blank[:-1]))[~blank]
    lines = lines[~blank]
    return [(row, int(lines[row]), text, bool(after_blank[row])) for row, text in ragged]


__all__ = ["Taken", "arrow_parser"]
