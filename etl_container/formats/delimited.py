"""Delimited text (CSV, TSV and all their relatives) as a stream of text columns.

The story of one file:

1. ``open_delimited`` reads the first megabyte and asks :mod:`etl_container.formats.encoding` how it is encoded and
   :mod:`etl_container.formats.dialect` how it is written and where its table begins.
2. The text streams by in blocks of UTF-8 that end where a record ends. What is well formed of a block, which a look
   at its quotes proves, goes to Arrow's parser whole: the *fast path*, in :mod:`etl_container.formats.arrow_csv`. What
   follows is taken apart record by record in :class:`RecordParser`, a small piece at a time: the *tolerant path*. So a
   clean file never pays for a messy one, and one bad line in a large file costs one small piece. The next block is read
   and parsed in a thread of its own while the caller works on the one before; everything that leaves a trace (notes,
   rejects) happens in the caller's thread.
3. Records that do not have the table's width are *odd*. They wait until a proper record follows (then they are padded,
   trimmed or rejected) or the file ends (then they are a footer).

Only this module, ``arrow_csv`` and ``encoding`` touch the bytes; nothing here decides what a value means.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from etl_container.arrays import integers, strings
from etl_container.errors import ConfigError, UnreadableObjectError
from etl_container.formats import dialect as dialects
from etl_container.formats.arrow_csv import ArrowParser, Taken, arrow_parser
from etl_container.formats.base import (
    Description,
    Expected,
    Kind,
    RawBatch,
    ReadOptions,
    Reject,
    RejectSink,
    Source,
    TableReader,
)
from etl_container.formats.encoding import Encoding, find_encoding, to_text, utf8_blocks
from etl_container.formats.records import Cells, Record, RecordParser, line_ends

SAMPLE_BYTES = 1 << 20
"""How much of the file the dialect is decided on."""
FIRST_BYTES = 512 << 10
"""How much is parsed first: types are guessed from it, and nothing is loaded before."""
BLOCK_BYTES = 2 << 20
"""How much is parsed at a time where all is well; each block is twice as large as the one before until then."""
PIECE_BYTES = 256 << 10
"""How much is taken apart record by record at a time, and the fast path's next try after that."""
MAX_LINE_BYTES = 128 << 20
"""A longer line is no record of a delimited text."""
MAX_COLUMNS = 100_000
"""More are no table: the delimiter is wrong, or the line ends are missing."""
MAX_WAITING = 1000
"""How many odd records may wait for what follows them."""
LOOK_AT = frozenset({8, 64, 512})
"""With how many records waiting it is asked whether they are another table."""
LONG_RUN = 6
"""So many records of one other width, the first of them a header by its types, are another table."""
MAX_TABLES = 100
"""So many tables of one file are told apart."""
MAX_ALIGNED = 200
"""Up to how many cells a row is tried against its columns' types cell by cell."""
_DOS_END = re.compile(rb"(?:^|[\r\n])\x1a\Z")
"""Ctrl-Z on a line of its own: where DOS says that a text ends."""
MAX_PADDED = 10
"""So many remarks as wide as the table may stand below it; more are rows."""
NOTED_LINES = 5
"""How many lines a note names before it only counts."""


def open_delimited(source: Source, options: ReadOptions, rejects: RejectSink) -> TableReader:
    """Open ``source`` as a delimited text: every column a string, unquoted empty values null.

    Raises:
        UnreadableObjectError: it is empty, or not text.
        ConfigError: an option cannot be used.
    """
    member = re.fullmatch(r"table_(\d+)", options.member) if options.member else None
    number = int(member.group(1)) if member else 1
    if not number:
        raise ConfigError(f"There is no table {options.member!r}.", hint="The first table is called table_1.")
    starts = [0]
    # What a small file holds besides is told at once; of a large one, when its end has been read.
    small = _is_small(source)
    while len(starts) < (MAX_TABLES if small else number) and not options.one_table:
        held = _HeldRejects()
        reader = _DelimitedReader(source, options, held, starts[-1], len(starts))
        batches = list(reader.batches()) if small else []
        following = reader.next_line if small else reader.find_next()
        if following is None:
            if small and len(starts) == number == 1:
                reader.replay(batches, held.rejects, rejects)
                return reader
            break
        starts.append(following)
    if number > len(starts):
        raise UnreadableObjectError(
            f"{source.name} holds no table {options.member!r}.", hint="preview names the tables of a file."
        )
    reader = _DelimitedReader(source, options, rejects, starts[number - 1], number)
    reader.others = tuple(f"table_{other}" for other in range(1, len(starts) + 1) if other != number)
    return reader


class _HeldRejects:
    """Keeps the rejects of a table that is read before anybody asked for it."""

    def __init__(self) -> None:
        self.rejects: list[Reject] = []

    def add(self, reject: Reject) -> None:
        self.rejects.append(reject)


def _is_small(source: Source) -> bool:
    with source.open() as stream:
        left = SAMPLE_BYTES + 1
        while left and (more := stream.read(left)):
            left -= len(more)
    return left > 0


class _Blocks:
    """A text as UTF-8 bytes, of which the reader looks at as much as it needs and takes what it understood."""

    def __init__(self, name: str, stream: BinaryIO, encoding: Encoding, wrong: list[int]) -> None:
        self._name = name
        self._stream = stream
        self._blocks = utf8_blocks(stream, encoding, BLOCK_BYTES, wrong)
        self.data = b""
        self.ended = False
        self.line = 0
        """Physical lines taken so far."""
        self.offset = 0
        """Bytes taken so far, of the text as UTF-8."""

    def want(self, size: int) -> None:
        """Have at least ``size`` bytes at hand, unless the text ends."""
        if self.ended or len(self.data) >= size:
            return
        parts, have = [self.data], len(self.data)
        while have < size:
            block = next(self._blocks, None)
            if block is None:
                self.ended = True
                break
            parts.append(block)
            have += len(block)
        self.data = b"".join(parts)
        if self.ended and _DOS_END.search(self.data[-2:]):
            self.data = self.data[:-1]

    def want_line(self, least: int) -> None:
        """Have at least ``least`` bytes at hand for the line at hand, unless the text ends.

        Raises:
            UnreadableObjectError: that is more than a line may have.
        """
        if least > MAX_LINE_BYTES:
            raise UnreadableObjectError(
                f"{self._name}: line {self.line + 1} is longer than {MAX_LINE_BYTES >> 20} MiB.",
                hint="This is not a delimited text, or its line ends are missing.",
            )
        self.want(least)

    def take(self, size: int, lines: int) -> None:
        self.data = self.data[size:]
        self.offset += size
        self.line += lines

    def skip_lines(self, count: int) -> None:
        """Take ``count`` physical lines."""
        ends = re.compile(rb"\r\n|\n|\r(?=[^\n])")
        while count:
            self.want(BLOCK_BYTES)
            if not self.data:
                break
            taken = end = 0
            for found in itertools.islice(ends.finditer(self.data), count):
                taken, end = taken + 1, found.end()
            if not taken and self.ended:
                taken, end = 1, len(self.data)
            if taken:
                self.take(end, taken)
                count -= taken
            else:
                self.want_line(2 * len(self.data))

    def close(self) -> None:
        self._stream.close()


class _Notes(Struct):
    """Sentences for the user; what happens on many lines is told once, with the first lines and a count."""

    sentences: list[str] = field(default_factory=list)
    counted: dict[str, tuple[int, list[int], int | None]] = field(default_factory=dict)

    def at(self, what: str, line: int) -> None:
        count, lines, last = self.counted.get(what, (0, [], None))
        if line == last:
            return
        if len(lines) < NOTED_LINES:
            lines.append(line)
        self.counted[what] = (count + 1, lines, line)

    def all(self) -> tuple[str, ...]:
        told = []
        for what, (count, lines, _last) in self.counted.items():
            named = ", ".join(str(line) for line in lines)
            more = f" and {count - len(lines)} more" if count > len(lines) else ""
            told.append(f"{what}: line{'s' if count > 1 else ''} {named}{more}")
        return (*self.sentences, *told)


class _Odd(Struct, frozen=True):
    """A record without the table's width, and where it stands."""

    cells: Cells
    ordinal: int
    line: int
    text: str
    after_blank: bool


class _Span(Struct, frozen=True):
    """A stretch of the text that was parsed at once: where to look for a record again."""

    record: int
    line: int
    offset: int
    fast: bool = False


class _Step(Struct, frozen=True):
    """The next stretch of the text: Arrow's reading of it, or None where the tolerant path must read on."""

    line: int
    """Physical lines before it."""
    offset: int
    taken: Taken | None


class _Ahead:
    """Walks the blocks of a text one step ahead of its reader, in a thread."""

    def __init__(self, blocks: _Blocks, arrow: ArrowParser | None) -> None:
        self._blocks = blocks
        self._arrow = arrow
        self._window = FIRST_BYTES
        self._thread: ThreadPoolExecutor | None = None
        self._coming: Future[_Step | None] | None = None

    def next(self) -> _Step | None:
        """The next step, None at the text's end.

        When it has nothing taken, the caller takes what it wants off the blocks before it asks again.
        """
        step = self._coming.result() if self._coming is not None else self._step()
        self._coming = None
        # Nothing lies ahead of a text's end, nor of a piece that the caller has yet to take.
        if step is not None and step.taken is not None and (self._blocks.data or not self._blocks.ended):
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
            self._coming = self._thread.submit(self._step)
        return step

    def close(self) -> None:
        """Wait for the step under way, if any, and drop it."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._thread = self._coming = None

    def _step(self) -> _Step | None:
        blocks = self._blocks
        blocks.want(self._window if self._arrow is not None else PIECE_BYTES)
        if not blocks.data:
            return None
        line, offset = blocks.line, blocks.offset
        if self._arrow is not None:
            # What is left of the block before may come on top.
            whole = len(blocks.data) < 2 * self._window
            taken = self._arrow.parse(blocks.data if whole else blocks.data[: self._window], blocks.ended and whole)
            if taken is not None and not taken.suspect:
                blocks.take(taken.size, taken.lines)
                self._window = min(BLOCK_BYTES, 2 * self._window) if taken.whole else PIECE_BYTES
                return _Step(line, offset, taken)
            self._window = PIECE_BYTES
        return _Step(line, offset, None)


class _Builder:
    """Collects proper rows, in order, into one batch."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = list(labels)
        self._columns: list[list[Any]] = [[] for _ in labels]
        self._rows: list[Cells] = []
        self._ordinals: list[tuple[int, int]] = []
        self._taken: Taken | None = None
        """Arrow's reading of a block, where it is all there is so far."""
        self.count = 0

    def block(self, taken: Taken, first: int) -> None:
        """All rows of a block."""
        if self.count:
            self.columns(taken.texts(), first)
        else:
            self._taken = taken
            self._add(first, len(taken.columns[0]))

    def columns(self, arrays: Sequence[Any], first: int) -> None:
        """Some rows, as text."""
        self._open()
        self._spill()
        for column, array in zip(self._columns, arrays, strict=True):
            column.append(array)
        self._add(first, len(arrays[0]))

    def row(self, cells: Cells, ordinal: int) -> None:
        self._open()
        self._rows.append(cells)
        self._add(ordinal, 1)

    def _open(self) -> None:
        """Have what was a block of its own as text that more can be added to."""
        if self._taken is not None:
            taken, self._taken = self._taken, None
            self._columns = [[array] for array in taken.texts()]

    def _add(self, first: int, size: int) -> None:
        if self._ordinals and sum(self._ordinals[-1]) == first:
            self._ordinals[-1] = (self._ordinals[-1][0], self._ordinals[-1][1] + size)
        else:
            self._ordinals.append((first, size))
        self.count += size

    def _spill(self) -> None:
        if self._rows:
            for column, values in zip(self._columns, zip(*self._rows, strict=True), strict=True):
                column.append(strings(values))
            self._rows = []

    def build(self) -> RawBatch | None:
        if not self.count:
            return None
        self._spill()
        first = self._ordinals[0][0]
        if self._taken is not None:
            batch = self._of_block(self._taken, first)
        else:
            arrays = [column[0] if len(column) == 1 else pa.concat_arrays(column) for column in self._columns]
            records = None
            if len(self._ordinals) > 1:
                ordinals = [np.arange(first, first + size, dtype=np.int64) for first, size in self._ordinals]
                records = integers(np.concatenate(ordinals))
            batch = self._batch(arrays, first, records)
        self._taken = None
        self._columns = [[] for _ in self._columns]
        self._ordinals = []
        self.count = 0
        return batch

    def _of_block(self, taken: Taken, first: int) -> RawBatch:
        batch = self._batch(taken.columns, first)
        texts = taken.written
        return replace(batch, csv=taken.csv, written=None if texts is None else (lambda: self._batch(texts(), first)))

    def _batch(self, arrays: Sequence[Any], first: int, records: Any = None) -> RawBatch:
        data = pa.RecordBatch.from_arrays(list(arrays), names=self._labels)
        return RawBatch(data, (Kind.TEXT,) * len(arrays), first, records)


class _DelimitedReader:
    """The reader of one table in one delimited text."""

    def __init__(self, source: Source, options: ReadOptions, rejects: RejectSink, first_line: int, number: int) -> None:
        self._source = source
        self._options = options if number == 1 else replace(options, skip_lines=None)
        self._number = number
        self._first_line = first_line
        self.next_line: int | None = None
        """The physical lines before the table that follows this one, once it was met."""
        self.others: tuple[str, ...] = ()
        """The names of the other tables in the file, as far as known."""
        self._rejects = rejects
        self._replayed: tuple[Sequence[RawBatch], Sequence[Reject]] | None = None
        self._notes = _Notes()
        self._wrong = [0]
        self._spans: list[_Span] = []
        self._waiting: list[_Odd] = []
        self._empty: list[tuple[int, int]] = []
        """Rows of nothing but empty cells that wait for what follows: first ordinals and counts."""
        head, whole = self._head()
        if not head.strip():
            raise UnreadableObjectError(
                f"{source.name} is empty: there is nothing to load.", hint="Check how the file was made."
            )
        self._encoding = find_encoding(head, whole=whole, name=source.name, given=options.encoding)
        text, wrong = self._sample(whole)
        if not text.strip("\x00 \t\r\n\ufeff"):
            raise UnreadableObjectError(
                f"{source.name} is empty: it holds nothing but blanks.", hint="Check how the file was made."
            )
        self._layout = dialects.detect(text, self._options, whole=whole)
        self._labels = self._layout.labels
        self._notes.sentences.extend(self._layout.notes)
        for line in wrong:  # those in the rows are noted as they are read
            if line <= self._layout.data_line:
                self._notes.at(self._wrong_bytes, first_line + line)
        self._dialect = self._layout.dialect
        width = len(self._labels)
        if width > MAX_COLUMNS:
            found = f"{width:,} columns{'' if whole else ' or more'}"
            raise UnreadableObjectError(
                f"{source.name} has {found}; at most {MAX_COLUMNS:,} can be read.",
                hint="Its line ends are missing, or name the delimiter: [dataset.NAME.read] delimiter = …",
            )
        self._parser = RecordParser(self._dialect, width)
        self._strict = RecordParser(self._dialect, 1 if width == 1 else None)
        """For what is known to be well formed: it weighs no other reading."""
        self._arrow = arrow_parser(self._layout, one_table=options.one_table)

    @property
    def description(self) -> Description:
        """What was found out about the file."""
        name = self._source.name.lower()
        known = ("csv", "tsv", "txt", "tab", "psv")
        extension = next((part for part in reversed(name.split(".")) if part in known), None)
        return Description(
            table=f"table_{self._number}" if self._number > 1 or self.others else None,
            others=self.others,
            format=extension or ("tsv" if self._dialect.delimiter == "\t" else "csv"),
            encoding=self._encoding.label,
            dialect=self._dialect,
            has_labels=self._dialect.header,
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The original column labels."""
        return self._labels

    @property
    def notes(self) -> tuple[str, ...]:
        """What was skipped, padded and repaired."""
        return self._notes.all()

    def _head(self) -> tuple[bytes, bool]:
        with self._source.open() as stream:
            head = b""
            while len(head) <= SAMPLE_BYTES and (more := stream.read(SAMPLE_BYTES + 1 - len(head))):
                head += more
        return head[:SAMPLE_BYTES], len(head) <= SAMPLE_BYTES

    @property
    def _wrong_bytes(self) -> str:
        return f"bytes wrong in {self._encoding.label}, {self._encoding.remedy}"

    def _sample(self, whole: bool) -> tuple[str, list[int]]:
        """The text's beginning without NUL characters, and the lines in it that hold wrong bytes."""
        blocks = self._open()
        try:
            blocks.skip_lines(self._first_line)
            blocks.want(SAMPLE_BYTES)
            data = blocks.data
            if not (whole and blocks.ended):
                cut = max(data.rfind(b"\n"), data.rfind(b"\r", 0, len(data) - 1))
                data = data[: cut + 1] if cut > 0 else data
        finally:
            blocks.close()
        text, wrong = to_text(data)
        return text.replace("\x00", ""), [line_ends(data[:at]) + 1 for at in wrong[:NOTED_LINES]]

    def _open(self) -> _Blocks:
        self._wrong = [0]
        return _Blocks(self._source.name, self._source.open(), self._encoding, self._wrong)

    def expect(self, expected: Expected) -> None:
        """Let columns of what is read from now on come typed where they plainly can."""
        if self._arrow is not None:
            self._arrow.expect(expected)

    def batches(self) -> Iterator[RawBatch]:
        """The records, in the file's order."""
        if self._replayed is None:
            return self._read()
        batches, held = self._replayed
        for reject in held:
            self._rejects.add(reject)
        return iter(batches)

    def _read(self) -> Iterator[RawBatch]:
        blocks = self._open()
        builder = _Builder(self._labels)
        ahead = _Ahead(blocks, self._arrow)
        try:
            blocks.skip_lines(self._first_line + self._layout.data_line)
            ordinal = 0
            while self.next_line is None:
                step = ahead.next()
                if step is None:
                    break
                fast = step.taken is not None
                self._spans.append(_Span(ordinal, step.line, step.offset, fast))
                if step.taken is not None:
                    ordinal = self._fast(step.taken, step.line, ordinal, builder)
                else:
                    ordinal = self._tolerant(blocks, ordinal, builder)
                if not self._waiting or builder.count > 65536:
                    batch = builder.build()
                    if batch is not None:
                        yield batch
            ahead.close()
            self._spans.append(_Span(ordinal, blocks.line, blocks.offset))
            self._settle(builder, at_end=True)
            if self._empty:
                count = sum(count for _, count in self._empty)
                self._notes.sentences.append(f"{count} empty row{'s' if count > 1 else ''} below the table skipped")
            if self.next_line is not None:
                following = f"table_{self._number + 1}"
                if following not in self.others:
                    self.others += (following,)
                self._notes.sentences.append(
                    f"another table begins on line {self.next_line + 1}; it is called {following}"
                )
            batch = builder.build()
            if batch is not None:
                yield batch
        finally:
            ahead.close()
            blocks.close()
        if count := self._wrong[0]:
            told = "1 byte is" if count == 1 else f"{count} bytes are"
            remedy = f"{'was' if count == 1 else 'were'} {self._encoding.remedy}"
            self._notes.sentences.append(f"{told} wrong in {self._encoding.label} and {remedy}")

    def replay(self, batches: Sequence[RawBatch], held: Sequence[Reject], rejects: RejectSink) -> None:
        """Give from now on what was read already."""
        self._replayed = (batches, held)
        self._rejects = rejects

    def find_next(self) -> int | None:
        """Read to this table's end; the physical lines before the next table, or None when there is none."""
        for _ in self.batches():
            pass
        return self.next_line

    def _fast(self, taken: Taken, line: int, ordinal: int, builder: _Builder) -> int:
        # Rows of Arrow's batch and odd rows interleave: an odd row's index counts both kinds.
        done = index = 0
        for odd_row, odd_line, text, after_blank in taken.odd:
            size = odd_row - index
            if size:
                self._settle(builder, at_end=False)
                if self.next_line is not None:
                    return ordinal
                self._emit(taken, done, size, ordinal, builder)
                done += size
                ordinal += size
            index = odd_row + 1
            records, _, _ = self._strict.records(text, final=True)
            for record in records:
                self._hold(_Odd(record.cells, ordinal, line + odd_line + 1, text, after_blank), builder)
                ordinal += 1
                if self.next_line is not None:
                    return ordinal
        size = len(taken.columns[0]) - done
        if size:
            self._settle(builder, at_end=False)
            if self.next_line is not None:
                return ordinal
            self._emit(taken, done, size, ordinal, builder)
            ordinal += size
        return ordinal

    def _emit(self, taken: Taken, start: int, size: int, ordinal: int, builder: _Builder) -> None:
        """Pass on some of Arrow's rows, but for the empty ones at their end, which wait."""
        end = start + size
        while end > start and not any(column[end - 1].is_valid for column in taken.columns):
            end -= 1
        if end > start:
            self._flush_empty(builder)
            if end - start == len(taken.columns[0]):
                builder.block(taken, ordinal)
            else:
                builder.columns([column.slice(start, end - start) for column in taken.texts()], ordinal)
        if end < start + size:
            self._hold_empty(ordinal + end - start, start + size - end)

    def _hold_empty(self, first: int, count: int) -> None:
        if self._empty and sum(self._empty[-1]) == first:
            self._empty[-1] = (self._empty[-1][0], self._empty[-1][1] + count)
        else:
            self._empty.append((first, count))

    def _flush_empty(self, builder: _Builder) -> None:
        for first, count in self._empty:
            for ordinal in range(first, first + count):
                builder.row([None] * len(self._labels), ordinal)
        self._empty = []

    def _tolerant(self, blocks: _Blocks, ordinal: int, builder: _Builder) -> int:
        size = PIECE_BYTES
        while True:
            final = blocks.ended and len(blocks.data) <= size
            raw = blocks.data if final else _whole_characters(blocks.data[:size])
            clean = raw.replace(b"\x00", b"") if b"\x00" in raw else raw
            text, wrong = to_text(clean)
            records, position, lines = self._parser.records(text, final=final)
            if position or final or not clean:
                break
            size *= 2
            blocks.want_line(size)
        taken = len(clean) if position == len(text) and final else _byte_length(clean, text, position)
        first, line, last = blocks.line + 1, blocks.line + 1, 0
        for at in wrong:
            if at < taken:
                line += line_ends(clean[last:at])
                last = at
                self._notes.at(self._wrong_bytes, line)
        if clean is not raw:
            taken, nul_lines = _with_nuls(raw, taken)
            for line in nul_lines:
                self._notes.at("NUL bytes dropped", first + line)
        blocks.take(taken, lines)
        for index, record in enumerate(records):
            following = records[index + 1] if index + 1 < len(records) else None
            self._take(record, following, text, first + record.line, ordinal, builder)
            if self.next_line is not None:
                return ordinal
            ordinal += 1
        return ordinal

    def _take(
        self, record: Record, following: Record | None, text: str, line: int, ordinal: int, builder: _Builder
    ) -> None:
        """Take one record that the tolerant path found: a row, an empty one, an odd one, or another table's header."""
        cells = record.cells
        if record.stray:
            self._notes.at("a stray quote taken as it stands", line)
        if len(cells) != len(self._labels):
            self._hold(_Odd(cells, ordinal, line, text[record.start : record.end], record.after_blank), builder)
        elif self._begins_table(record, following):
            gap = next((odd.line for odd in self._waiting if odd.after_blank), line)
            self._waiting = [odd for odd in self._waiting if odd.line < gap]
            self.next_line = gap - 1
        elif any(cell is not None for cell in cells):
            if (self._empty or self._waiting) and not self._options.one_table and _is_note(cells):
                self._hold(_Odd(cells, ordinal, line, text[record.start : record.end], record.after_blank), builder)
                return
            self._settle(builder, at_end=False)
            if self.next_line is None:
                self._flush_empty(builder)
                builder.row(cells, ordinal)
        elif self._waiting:
            self._hold(_Odd(cells, ordinal, line, "", record.after_blank), builder)
        else:
            self._hold_empty(ordinal, 1)

    def _begins_table(self, record: Record, following: Record | None) -> bool:
        """Whether a record of the table's width is the header of another table below this one."""
        if len(record.cells) < 2 or self._options.one_table:
            return False
        header = self._layout.header
        if header and (record.cells[0] or "") == header[0][0] and tuple(c or "" for c in record.cells) == header[0]:
            return True
        if not record.after_blank and not any(odd.after_blank for odd in self._waiting):
            return False
        typed = self._layout.typed
        if not typed or not dialects.breaks_types(record.cells, typed):
            return False
        return following is not None and not dialects.breaks_types(following.cells, typed)

    def _hold(self, odd: _Odd, builder: _Builder) -> None:
        self._waiting.append(odd)
        if len(self._waiting) in LOOK_AT:
            self._look_for_table(LONG_RUN)
        if len(self._waiting) > MAX_WAITING:
            self._settle(builder, at_end=False)

    def _look_for_table(self, enough: int) -> None:
        """See whether the records that wait are another table; it takes ``enough`` of them without a blank line."""
        if self._options.one_table:
            return
        for start, head in enumerate(self._waiting):
            rows: list[Cells] = []
            for odd in self._waiting[start : start + 50]:
                if len(odd.cells) != len(head.cells):
                    break
                rows.append(odd.cells)
            if len(rows) >= (2 if head.after_blank else enough) and dialects.heads_table(rows):
                first = start
                while first > 0 and not self._waiting[first].after_blank and len(self._waiting[first - 1].cells) == 1:
                    first -= 1  # its title
                self.next_line = self._waiting[first].line - 1
                self._waiting = self._waiting[:first]
                return

    def _settle(self, builder: _Builder, *, at_end: bool) -> None:
        """Decide on the odd records that wait: they are rows to repair, or what stands below the table."""
        if not self._waiting:
            return
        if self.next_line is None:
            self._look_for_table(3 if at_end else LONG_RUN)
        at_end = (at_end or self.next_line is not None) and not self._options.one_table
        waiting, self._waiting = self._waiting, []
        end = self._end_of_table(waiting) if at_end else len(waiting)
        waiting, below = waiting[:end], waiting[end:]
        if waiting:
            self._flush_empty(builder)
        for odd in waiting:
            if len(odd.cells) == 1 and (odd.cells[0] or "").startswith("#"):
                self._notes.at("comments skipped", odd.line)
            else:
                self._repair(odd, builder)
        if below:
            told = " / ".join(odd.text.strip()[:100] for odd in below if odd.text)[:300]
            lines = f"{len(below)} line{'s' if len(below) > 1 else ''}"
            self._notes.sentences.append(f"{lines} below the table skipped, from line {below[0].line} on: {told}")

    def _end_of_table(self, waiting: Sequence[_Odd]) -> int:
        """How many of the last records are the table's; below stand remarks, after a blank line of any width."""
        end = len(waiting)
        while end and (self._is_remark(waiting[end - 1]) or self._is_prose(waiting[end - 1])):
            end -= 1
        while end < len(waiting) and not (waiting[end].after_blank or all(map(self._is_remark, waiting[end:]))):
            end += 1
        padded = sum(len(odd.cells) == len(self._labels) and any(odd.cells) for odd in waiting[end:])
        return end if padded <= MAX_PADDED else len(waiting)

    def _is_prose(self, odd: _Odd) -> bool:
        """Whether a record holds texts where values belong, and no value there."""
        texts, values = dialects.tell(odd.cells, self._layout.typed)
        return texts > 0 and values == 0

    def _is_remark(self, odd: _Odd) -> bool:
        """Whether a record at the end of a table is not one of its rows: a single text."""
        filled = [cell for cell in odd.cells if cell]
        wide = len(self._labels) > 2 or odd.after_blank
        return len(self._labels) > 1 and wide and len(filled) <= 1 and not any(map(dialects.is_value, filled))

    def _repair(self, odd: _Odd, builder: _Builder) -> None:
        width = len(self._labels)
        cells = odd.cells
        if len(cells) == width:  # of one filled cell at most
            builder.row(cells, odd.ordinal)
            return
        if len(cells) < width:
            self._notes.at("short rows padded with nulls", odd.line)
            builder.row(self._padded(cells), odd.ordinal)
            return
        trimmed = self._trimmed(cells)
        if trimmed is not None:
            self._notes.at("surplus empty cells dropped", odd.line)
            builder.row(trimmed, odd.ordinal)
        else:
            reason = f"{len(cells)} cells where the table has {width} columns"
            self._rejects.add(Reject(reason, record=odd.ordinal, line=odd.line, text=odd.text))

    def _padded(self, cells: Cells) -> Cells:
        """A short row with nulls at its end; or one cell earlier, where that alone brings its values to their types."""
        missing = len(self._labels) - len(cells)
        padded = [*cells, *([None] * missing)]
        typed = self._layout.typed
        if missing != 1 or len(cells) > MAX_ALIGNED or not dialects.conflicts(padded, typed):
            return padded
        for at in range(len(cells) - 1, 0, -1):
            shifted = [*cells[:at], None, *cells[at:]]
            if not dialects.conflicts(shifted, typed):
                return shifted
        return padded

    def _trimmed(self, cells: Cells) -> Cells | None:
        """A long row without as many empty cells as it has too many: the last ones, unless types tell better."""
        surplus = len(cells) - len(self._labels)
        empty = [at for at, cell in enumerate(cells) if not cell]
        last = empty[len(empty) - surplus :]
        if len(empty) < surplus:
            return None
        best = [cell for at, cell in enumerate(cells) if at not in set(last)]
        typed = self._layout.typed
        if surplus == 1 and len(cells) <= MAX_ALIGNED and dialects.conflicts(best, typed):
            for drop in reversed(empty):
                other = [cell for at, cell in enumerate(cells) if at != drop]
                if not dialects.conflicts(other, typed):
                    return other
        if last[0] != len(self._labels) and dialects.conflicts(best, typed):
            return None
        return best

    def locate(self, records: Iterable[int]) -> Iterator[tuple[int, int | None, str | None]]:
        """Where each of the ascending ``records`` stands in the file, and its text there."""
        wanted = iter(records)
        record = next(wanted, None)
        if record is None:
            return
        blocks = self._open()
        try:
            for span, following in zip(self._spans, self._spans[1:], strict=False):
                if record >= following.record:
                    continue
                while blocks.offset < span.offset:
                    blocks.want(min(BLOCK_BYTES, span.offset - blocks.offset))
                    blocks.take(min(len(blocks.data), span.offset - blocks.offset), 0)
                size = following.offset - span.offset
                blocks.want(size)
                text, _ = to_text(blocks.data[:size].replace(b"\x00", b""))
                found, _, _ = (self._strict if span.fast else self._parser).records(text, final=True)
                while record is not None and record < following.record:
                    index = record - span.record
                    if index < len(found):
                        at = found[index]
                        yield record, span.line + at.line + 1, text[at.start : at.end]
                    else:
                        yield record, None, None
                    record = next(wanted, None)
                if record is None:
                    return
        finally:
            blocks.close()


def _whole_characters(data: bytes) -> bytes:
    """``data`` without an unfinished UTF-8 character at its end."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return data
        if byte >= 0xC0:
            need = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-back] if need > back else data
    return data


def _is_note(cells: Cells) -> bool:
    """Whether a row of a table's width may say something about it, as spreadsheets write it: some words, no value."""
    present = [cell for cell in cells if cell is not None]
    return len(cells) > 2 and len(present) == 1 and " " in present[0].strip() and not dialects.is_value(present[0])


def _with_nuls(raw: bytes, taken: int) -> tuple[int, list[int]]:
    """How many bytes of ``raw`` made the first ``taken`` others than NUL, and the 0-based lines of the NULs there."""
    array = np.frombuffer(raw, np.uint8)
    others = np.flatnonzero(array)
    size = int(others[taken]) if taken < len(others) else len(raw)
    following = np.append(array[1:], 0)
    ends = np.flatnonzero((array == 10) | ((array == 13) & (following != 10)))
    return size, [int(line) for line in np.unique(np.searchsorted(ends, np.flatnonzero(array[:size] == 0)))]


def _byte_length(data: bytes, text: str, position: int) -> int:
    """How many bytes of ``data`` made the first ``position`` characters of ``text``, which end with a line end."""
    if len(data) == len(text):
        return position
    lines = line_ends(text[:position])
    at = 0
    for found in re.finditer(rb"\r\n|\n|\r", data):
        lines -= 1
        if lines == 0:
            at = found.end()
            break
    return at


__all__ = ["open_delimited"]
