"""The fast path of delimited text: blocks that are proven well formed, read by Arrow's CSV parser whole.

A look at the quotes of a block tells up to where it is well formed; Arrow parses that much in one go, and the reader
(:mod:`etl_container.formats.delimited`) takes the rest apart record by record. What Arrow would read differently (a
lone carriage return, NUL bytes, a backslash as escape) never comes here.

Columns come as text. Once the caller says what types it expects, those come typed out of Arrow's parser as far as every
value of a block is plainly written, which saves making texts of them first.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from msgspec import Struct

from etl_container.arrays import Mask, booleans, buffers, nullified, one_chunk, scalar, valid_mask
from etl_container.formats import dialect as dialects
from etl_container.formats.base import Expected

MAX_NOTES = 64
"""So many rows at the end of a text are looked at for remarks that are as wide as the table."""
MAX_GAPS = 50
"""At so many blank lines in a block it is looked whether another table follows; more are how the file is written."""
MAX_DOUBTS = 3
"""So many blocks may turn out to need their texts before columns come as text again."""

_FAILED_COLUMN = re.compile(r"In CSV column #(\d+):")

Words = npt.NDArray[np.uint64]


class Taken(Struct, frozen=True):
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
    csv: bytes | memoryview | None
    """Its lines as RFC 4180 has them, where they stand so in the file."""
    written: Callable[[], Sequence[Any]] | None
    """Reads the columns as text, where some are typed."""

    def texts(self) -> Sequence[Any]:
        """The columns as text."""
        return self.columns if self.written is None else self.written()


def arrow_parser(layout: dialects.Layout, *, one_table: bool) -> ArrowParser | None:
    """The fast path for a layout, or None when Arrow cannot read it."""
    dialect = layout.dialect
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
    return ArrowParser(layout, one_table=one_table)


class ArrowParser:
    """Reads blocks of a text of one layout."""

    def __init__(self, layout: dialects.Layout, *, one_table: bool) -> None:
        dialect = layout.dialect
        self._layout = layout
        self._width = len(layout.labels)
        self._one_table = one_table
        self._delimiter = dialect.delimiter.encode()
        self._quote = dialect.quote.encode() if dialect.quote else None
        self._plain = dialect.delimiter == "," and dialect.quote in {'"', None}
        self._told = [(j, scalar(label)) for j, label in enumerate(layout.header[0]) if label] if layout.header else []
        self._expected: dict[int, pa.DataType] = {}
        self._null_tokens: tuple[str, ...] = ()
        self._spotted: frozenset[int] = frozenset()
        self._doubts = 0

    def expect(self, expected: Expected) -> None:
        """Give columns as these types from now on where their values are plainly written."""
        labels = dict(enumerate(self._layout.header[0])) if self._layout.header else {}
        # A label that is a value might be one of the rows' own, and the header that stands there again go unseen.
        self._expected = {j: kind for j, kind in expected.types.items() if not dialects.is_value(labels.get(j, ""))}
        self._null_tokens, self._spotted = expected.null_tokens, expected.spotted & set(self._expected)

    def parse(self, data: bytes, final: bool) -> Taken | None:
        """The beginning of a block, which starts with a record and may be the last; None when it is not well formed."""
        marks = _Marks(data, self._delimiter, self._quote)
        stop, whole = len(data), True
        if (bad := marks.first_bad(final=final)) is not None:
            stop, whole = bad, False
        cut = stop if final and whole else marks.cut(stop)
        if not cut:
            return None
        returns = data.count(b"\r", 0, cut) if data.find(b"\r", 0, cut) >= 0 else 0
        if data.find(b"\0", 0, cut) >= 0 or (returns and returns != data.count(b"\r\n", 0, cut)):
            return None
        # Without a line end Arrow takes an empty last cell for a quoted one.
        block = memoryview(data)[:cut] if data[cut - 1] == 10 else data[:cut] + b"\n"
        read = self._read(block, data, marks, final=final)
        if read is None:
            return None
        columns, ragged, typed = read
        if final and whole and self._width > 2 and not self._one_table and (left := _rows_of_notes(columns)):
            end = _before_records(data[:cut], left, marks)
            return self.parse(data[:end], False) if end else None
        odd = _with_lines(block, ragged, marks) if ragged else []
        lines = marks.lines(cut) + (data[cut - 1] != 10)
        rows = len(columns[0])
        doubtful = not self._one_table and self._suspect(block, columns, rows=rows + len(ragged), lines=lines)
        csv = None
        if self._plain and (self._quote or data.find(b'"', 0, cut) < 0) and not odd:
            csv = _as_csv(data, block, rows=rows, lines=lines, returns=returns)
        written = functools.partial(self._written, block) if typed else None
        return Taken(columns, cut, lines, odd, doubtful, whole, csv, written)

    def _read(
        self, block: bytes | memoryview, data: bytes, marks: _Marks, *, final: bool
    ) -> tuple[list[Any], list[tuple[int, str]], bool] | None:
        """Arrow's columns, the rows of another width, and whether some columns are typed; None when it fails."""
        expected = self._expected
        null_tokens: tuple[str, ...] = ()
        if self._spotted and marks.quotes is None and not final:
            null_tokens = self._null_tokens
        elif self._spotted:
            expected = {j: kind for j, kind in expected.items() if j not in self._spotted}
        if any(map(_is_number, expected.values())) and marks.odd_number():
            expected = {j: kind for j, kind in expected.items() if not _is_number(kind)}
        ascii_only = data.isascii()
        if expected:
            try:
                columns, ragged = self._arrow(block, expected, ascii_only, null_tokens)
            except pa.ArrowInvalid as error:
                # The value that stands there is told when it is cast; other blocks do without the column.
                found = _FAILED_COLUMN.search(str(error))
                failed = int(found.group(1)) if found else None
                kept = self._expected if failed in expected else {}
                self._expected = {j: kind for j, kind in kept.items() if j != failed}
            else:
                # A row of null tokens is a row, an empty one perhaps none: the texts tell which it is.
                if not ragged and not (null_tokens and _empty_rows(columns)):
                    return columns, ragged, True
                self._doubt()
        try:
            columns, ragged = self._arrow(block, {}, ascii_only)
        except pa.ArrowInvalid:
            return None
        return columns, ragged, False

    def _arrow(
        self,
        block: bytes | memoryview,
        types: Mapping[int, pa.DataType],
        ascii_only: bool,
        null_tokens: tuple[str, ...] = (),
    ) -> tuple[list[Any], list[tuple[int, str]]]:
        """Arrow's columns and the rows of another width; ``null_tokens`` only for a block without quotes."""
        ragged: list[tuple[int, str]] = []

        def keep(row: Any) -> str:
            ragged.append((row.number - 1, row.text))
            return "skip"

        names = [str(j) for j in range(self._width)]
        table = pa_csv.read_csv(
            pa.py_buffer(block),
            read_options=pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(block) + 1),
            parse_options=pa_csv.ParseOptions(
                delimiter=self._layout.dialect.delimiter,
                quote_char=self._layout.dialect.quote or False,
                newlines_in_values=False,
                invalid_row_handler=keep,
            ),
            convert_options=pa_csv.ConvertOptions(
                check_utf8=not ascii_only,
                column_types={name: types.get(j, pa.string()) for j, name in enumerate(names)},
                null_values=["", *null_tokens],
                strings_can_be_null=not null_tokens,
                quoted_strings_can_be_null=False,
            ),
        )
        columns = [one_chunk(column) for column in table.columns]
        if null_tokens:  # which are texts in a column of texts
            columns = [_empty_as_null(column) if column.type == pa.string() else column for column in columns]
        return columns, ragged

    def _written(self, block: bytes | memoryview) -> Sequence[Any]:
        self._doubt()
        return self._arrow(block, {}, ascii_only=False)[0]

    def _doubt(self) -> None:
        """Types were of no use for a block."""
        self._doubts += 1
        if self._doubts >= MAX_DOUBTS:
            self._expected = {}

    def _repeated(self, columns: Sequence[Any]) -> bool:
        """Whether the header stands among the rows again."""
        mask = None
        for j, label in self._told:
            if columns[j].type != pa.string():
                return False  # the label is no value of this type
            here = pc.equal(columns[j], label)
            mask = here if mask is None else pc.and_(mask, here)
            if not pc.any(mask).as_py():
                return False
        return mask is not None

    def _suspect(self, block: bytes | memoryview, columns: Sequence[Any], *, rows: int, lines: int) -> bool:
        """Whether another table may begin in the block."""
        if self._width > 1 and self._repeated(columns):
            return True
        typed = self._layout.typed
        if self._width > 1 and typed and rows < lines:
            after_blank = itertools.islice(re.finditer(rb"\n\r?\n([^\r\n]+)", block), MAX_GAPS)
            for found in after_blank:
                cells = found.group(1).decode("utf-8", "replace").split(self._layout.dialect.delimiter)
                if not any(dialects.is_value(cells[j].strip("\"'")) for j in typed if j < len(cells)):
                    return True
        return False


def _empty_as_null(texts: pa.StringArray) -> pa.StringArray:
    offsets, _ = buffers(texts)
    empty = offsets[1:] == offsets[:-1]
    return nullified(texts, booleans(empty)) if empty.any() else texts


def _empty_rows(columns: Sequence[Any]) -> bool:
    """Whether some row is null in every column."""
    if not all(column.null_count for column in columns):
        return False
    filled = functools.reduce(np.logical_or, map(valid_mask, columns))
    return not filled.all()


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


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


def _before_records(data: bytes, count: int, marks: _Marks) -> int:
    """Where the last ``count`` records of a well-formed block begin."""
    end = len(data)
    while count and end:
        start = data.rfind(b"\n", 0, end - 1) + 1
        while start and marks.quoted(np.array([start])).any():
            start = data.rfind(b"\n", 0, start - 1) + 1
        count -= bool(data[start:end].strip(b"\r\n "))
        end = start
    return end


def _as_csv(
    data: bytes, block: bytes | memoryview, *, rows: int, lines: int, returns: int
) -> bytes | memoryview | None:
    """A well-formed block with commas as RFC 4180 lines; None when it is not quite such."""
    if returns:
        return bytes(block).replace(b"\r\n", b"\n") if rows == lines else None  # or some stand within values
    if rows == lines or not (data.find(b"\n\n", 0, len(block)) >= 0 or data.startswith(b"\n")):
        return block  # no blank lines
    return None


def _with_lines(
    block: bytes | memoryview, ragged: Sequence[tuple[int, str]], marks: _Marks
) -> list[tuple[int, int, str, bool]]:
    """Add to each ragged row of a block the line on which it starts, and whether the one above is blank."""
    array = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(array == 10)
    starts = np.concatenate(([0], ends + 1))
    lines = np.arange(len(starts))
    kept = starts < len(array)
    kept[kept] = ~marks.quoted(starts[kept])
    starts, lines = starts[kept], lines[kept]
    first = array[starts]
    after = array[np.minimum(starts + 1, len(array) - 1)]
    blank = (first == 10) | ((first == 13) & (after == 10))
    after_blank = np.concatenate(([False], blank[:-1]))[~blank]
    lines = lines[~blank]
    return [(row, int(lines[row]), text, bool(after_blank[row])) for row, text in ragged]


class _Marks:
    """Where delimiters, quotes and line ends stand in a block that begins outside any quoted value.

    All as bits, 64 to a word, so that what takes one operation a byte elsewhere takes one for 64 bytes here.
    """

    def __init__(self, data: bytes, delimiter: bytes, quote: bytes | None) -> None:
        self._data = data
        self._array = np.frombuffer(data, np.uint8)
        self._delimiter = delimiter[0]
        self.quotes = self._bits(self._array == quote[0]) if quote and quote in data else None

    def _bits(self, mask: Mask) -> Words:
        words = np.zeros((len(mask) + 63) // 64, "<u8")
        packed = np.packbits(mask, bitorder="little")
        words.view(np.uint8)[: len(packed)] = packed
        return words

    @functools.cached_property
    def _delimiters(self) -> Words:
        return self._bits(self._array == self._delimiter)

    @functools.cached_property
    def _ends(self) -> Words:
        return self._bits(self._array == 10)

    @functools.cached_property
    def _inside(self) -> Words:
        """Which bytes stand between an odd quote (it among them) and the next even one."""
        assert self.quotes is not None
        inside = self.quotes.copy()
        for shift in (1, 2, 4, 8, 16, 32):
            inside ^= inside << np.uint64(shift)
        carried = np.bitwise_xor.accumulate(inside >> np.uint64(63))
        inside[1:] ^= np.uint64(0) - carried[:-1]
        return inside

    def first_bad(self, *, final: bool) -> int | None:
        """Where the first quoted value begins that is not well formed; None when all are.

        In well-formed text quotes alternate: one that opens (after a delimiter, a line end, or the one that closed just
        before: a doubled quote) and one that closes (before any of these).
        """
        if self.quotes is None:
            return None
        allowed = self.quotes | self._delimiters | self._ends
        if b"\r" in self._data:
            allowed |= self._bits(self._array == 13)
        after = _next(allowed)
        word, bit = divmod(len(self._data) - 1, 64)
        after[word] |= np.uint64(1 << bit)
        inside = self._inside
        bad = self.quotes & ((inside & ~_previous(allowed)) | (~inside & ~after))
        if bad.any():
            return self._opening(_first(bad))
        last = _last(self.quotes, len(self._data))
        return last if final and _bit(inside, last) else None

    def _opening(self, quote: int) -> int:
        """The quote itself if it opens a value, or the one that opened it."""
        assert self.quotes is not None
        return quote if _bit(self._inside, quote) else _last(self.quotes, quote)

    def cut(self, stop: int) -> int:
        """The end of the last whole record that ends before ``stop``; 0 when there is none."""
        if self.quotes is None:
            return self._data.rfind(b"\n", 0, stop) + 1
        return _last(self._ends & ~self._inside, stop) + 1

    def lines(self, stop: int) -> int:
        """How many line ends stand before ``stop``."""
        word, bit = divmod(stop, 64)
        whole = int(np.bitwise_count(self._ends[:word]).sum())
        return whole + ((int(self._ends[word]) & ((1 << bit) - 1)).bit_count() if bit else 0)

    def quoted(self, places: npt.NDArray[np.int64]) -> Mask:
        """Which of these bytes stand within a quoted value, its first quote apart."""
        if self.quotes is None:
            return np.zeros(len(places), np.bool_)
        before = places - 1
        bits = self._inside[before >> 6] >> (before & 63).astype(np.uint64)
        inside: Mask = (places > 0) & ((bits & np.uint64(1)) == 1)
        return inside

    def odd_number(self) -> bool:
        """Whether some cell begins as Arrow takes a number and we do not: ``007``, ``+7``, ``0x1f``, ``-01.5``.

        And cells that begin with a blank, behind which such a number may stand.
        """
        array = self._array
        between = self._delimiters | self._ends
        if self.quotes is not None:
            between &= ~self._inside
        begins = _previous(between)
        if self.quotes is not None:
            begins |= _previous(begins & self.quotes, first=False)
        low = self._bits(array < 48)
        high = ~low
        if bit := len(array) % 64:
            high[-1] &= np.uint64((1 << bit) - 1)
        more = _next(high & ~self._delimiters)
        zeros = self._bits(array == 48) & more
        odd = begins & zeros
        signs = begins & low & ~(self._delimiters | self._ends)
        if self.quotes is not None:
            signs &= ~self.quotes
        if signs.any():
            if b"-" in self._data:
                odd |= _previous(begins & self._bits(array == 45), first=False) & zeros
            if b"+" in self._data:
                odd |= begins & self._bits(array == 43) & more
            if b" " in self._data:
                odd |= begins & self._bits(array == 32)
            if b"\t" in self._data:
                odd |= begins & self._bits(array == 9) & ~self._delimiters
        return bool(odd.any())


def _previous(words: Words, *, first: bool = True) -> Words:
    """At each place what stands one place before; ``first`` at the first."""
    shifted = words << np.uint64(1)
    shifted[1:] |= words[:-1] >> np.uint64(63)
    shifted[0] |= np.uint64(first)
    return shifted


def _next(words: Words) -> Words:
    """At each place what stands one place later."""
    shifted = words >> np.uint64(1)
    shifted[:-1] |= words[1:] << np.uint64(63)
    return shifted


def _bit(words: Words, place: int) -> bool:
    return bool(int(words[place // 64]) >> (place % 64) & 1)


def _first(words: Words) -> int:
    """The first place that is marked, of some."""
    word = int(np.argmax(words != 0))
    marked = int(words[word])
    return 64 * word + (marked & -marked).bit_length() - 1


def _last(words: Words, stop: int) -> int:
    """The last place before ``stop`` that is marked; -1 when there is none."""
    word, bit = divmod(stop, 64)
    if bit and (part := int(words[word]) & ((1 << bit) - 1)):
        return 64 * word + part.bit_length() - 1
    earlier = np.flatnonzero(words[:word])
    if not len(earlier):
        return -1
    word = int(earlier[-1])
    return 64 * word + int(words[word]).bit_length() - 1


__all__ = ["ArrowParser", "Taken", "arrow_parser"]
