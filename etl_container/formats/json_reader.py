"""Reader of JSON in every shape that files have: lines, an array, documents one after another, one object, an envelope.

Two scanners cut the bytes into blocks of whole records without parsing them: :class:`_Lines` at line ends and
:class:`_Values` at the commas of the outermost array (or where an outermost object closes), so that an array of any
size streams. A block is parsed by orjson as RFC 8259 has it. Only the records that orjson cannot keep exactly (numbers
beyond 64 bits or a double's digits, lone surrogates, NUL) or refuses are looked at again, one by one, by the standard
library's parser; what that refuses too is a reject and never ends the load. ``json_columns`` turns parsed records into
string columns with their :class:`Kind`, and lets blocks whose records look like those before them skip the dicts.

Numbers keep their value: integers of any size, decimals of any length. A lone surrogate and U+0000, which RFC 8259
allows and PostgreSQL cannot hold, become U+FFFD with a note. Of a repeated key the last value counts, as in
PostgreSQL's jsonb. NaN, Infinity, comments and single quotes are not JSON.
"""

from __future__ import annotations

import codecs
import contextlib
import gc
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, DecimalException
from itertools import islice
from typing import Any, BinaryIO, Final, cast

import msgspec
import numpy as np
import orjson

from etl_container.arrays import integers
from etl_container.errors import ConfigError, UnreadableObjectError
from etl_container.formats.base import Description, RawBatch, ReadOptions, Reject, RejectSink, Source
from etl_container.formats.compression import read_fully
from etl_container.formats.json_columns import Columns, Decoder, ExactNumber

BLOCK_BYTES: Final = 2 << 20
"""Bytes of JSON that are parsed into one batch (more when a single record is larger)."""

MAX_RECORD_BYTES: Final = 64 << 20
"""Bytes that one record may have: it is parsed whole, which takes several times as much memory."""

_HEAD_BYTES: Final = 1 << 20

_ENVELOPES: Final = frozenset(
    {"data", "results", "result", "items", "records", "rows", "features", "value", "values", "entries", "objects"}
    | {"documents", "docs", "elements", "list", "content", "events", "hits"}
)
"""Keys under which services wrap their records."""


def open_json(source: Source, options: ReadOptions, rejects: RejectSink, found: str) -> JsonReader:
    """The table in a JSON file.

    Args:
        source: the bytes, decompressed; UTF-8, or UTF-16/32 (known by byte order mark or zero bytes), or what
            ``options.encoding`` says.
        options: ``flatten`` turns nested objects into columns ``a.b``; ``exact_decimals`` keeps every digit.
        rejects: where records go that are not JSON.
        found: ``jsonl`` when each line is a record, ``json`` otherwise.

    Raises:
        UnreadableObjectError: there is nothing but whitespace in it.
        ConfigError: ``options.encoding`` is unknown.
    """
    return JsonReader(source, options, rejects, found)


class JsonReader:
    """A table in JSON. See :class:`~etl_container.formats.base.TableReader`."""

    def __init__(self, source: Source, options: ReadOptions, rejects: RejectSink, found: str) -> None:
        self._source = source
        self._options = options
        self._rejects = rejects
        self._format = found
        self._columns = Columns(source.name, flatten=options.flatten)
        self._parser = _Parser(exact_decimals=options.exact_decimals)
        self._notes: list[str] = []
        with source.open() as stream:
            self._encoding = _encoding(stream.read(4) or b"", options)
        head = self._head()
        if not head.strip():
            raise UnreadableObjectError(f"{source.name} is empty: it has nothing but whitespace.")
        self._envelope = _envelope(head, whole=len(head) < _HEAD_BYTES) if found == "json" else None
        if self._envelope is not None:
            key, _, others = self._envelope
            left_out = f" Left out: {', '.join(others)}." if others else ""
            self._notes.append(f"The records were taken from the array under the key {key!r}.{left_out}")

    @property
    def description(self) -> Description:
        return Description(format=self._format, encoding=self._encoding)

    @property
    def labels(self) -> tuple[str, ...]:
        return self._columns.labels

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self._notes, *self._parser.notes())

    def batches(self) -> Iterator[RawBatch]:
        ordinal = 0
        for block in self._blocks():
            with _without_cycle_collection():
                batch = self._batch(block, ordinal)
            if batch is not None:
                yield batch
            ordinal += len(block)

    def _batch(self, block: _Block, ordinal: int) -> RawBatch | None:
        delicate = self._parser.is_delicate(block.data)
        if not delicate and (records := self._alike(block)) is not None:
            return RawBatch(*self._columns.of_alike(records), ordinal)
        values, ordinals = self._parse(block, ordinal, delicate)
        if not values:
            return None
        data, kinds = self._columns.of_values(values)
        return RawBatch(data, kinds, ordinal, None if ordinals is None else integers(np.array(ordinals, np.int64)))

    def _alike(self, block: _Block) -> list[Any] | None:
        """The block's records, where they all look like records before them."""
        decoder = self._columns.decoder
        if decoder is None:
            return None
        try:
            return block.parse(decoder)
        except (msgspec.DecodeError, ValueError, RecursionError):
            self._columns.unlike()
            return None

    def locate(self, records: Iterable[int]) -> Iterator[tuple[int, int | None, str | None]]:
        wanted = iter(records)
        record = next(wanted, None)
        ordinal = 0
        for block in self._blocks() if record is not None else ():
            while record is not None and record < ordinal + len(block):
                index = record - ordinal
                yield record, block.line_of(index), block.text_of(index)
                record = next(wanted, None)
            ordinal += len(block)
            if record is None:
                return

    def _parse(self, block: _Block, ordinal: int, delicate: bool) -> tuple[list[Any], list[int] | None]:
        """The block's records, and their ordinals when some were rejected."""
        if not delicate:
            with contextlib.suppress(orjson.JSONDecodeError):
                return block.parse(_ANY), None
        values, ordinals = [], []
        for index in range(len(block)):
            try:
                value = self._parser.parse(block.element(index))
            except ValueError as error:
                reason = f"not JSON: {error}"
                text, line = block.text_of(index), block.line_of(index)
                self._rejects.add(Reject(reason, record=ordinal + index, line=line, text=text))
            else:
                values.append(value)
                ordinals.append(ordinal + index)
        return values, None if len(values) == len(block) else ordinals

    def _blocks(self) -> Iterator[_Block]:
        with _utf8(self._source.open(), self._encoding) as stream:
            if self._format == "jsonl":
                yield from _Lines(stream, self._source.name).blocks()
            elif self._envelope is not None:
                yield from _Values(stream, self._source.name).blocks(self._envelope[1])
            else:
                yield from _Values(stream, self._source.name).blocks()

    def _head(self) -> bytes:
        with _utf8(self._source.open(), self._encoding) as stream:
            return read_fully(stream, _HEAD_BYTES)


@contextlib.contextmanager
def _without_cycle_collection() -> Iterator[None]:
    """Parsed JSON has no cycles; looking for them in millions of new objects would take a sixth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# --- bytes to UTF-8 --------------------------------------------------------------------------------------------------


def _encoding(start: bytes, options: ReadOptions) -> str:
    """The name of the encoding: as told, by byte order mark, or by where the zero bytes are (RFC 4627, section 3)."""
    if options.encoding is not None:
        try:
            return codecs.lookup(options.encoding).name
        except LookupError as error:
            raise ConfigError(f"read.encoding {options.encoding!r} is unknown.", hint="Try utf-8 or cp1252.") from error
    for bom, encoding in ((b"\xff\xfe\x00\x00", "utf-32"), (b"\x00\x00\xfe\xff", "utf-32")):
        if start.startswith(bom):
            return encoding
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    zeros = tuple(byte == 0 for byte in start)
    patterns: dict[tuple[bool, ...], str] = {
        (False, True, True, True): "utf-32-le",
        (True, True, True, False): "utf-32-be",
        (False, True, False, True): "utf-16-le",
        (True, False, True, False): "utf-16-be",
    }
    return patterns.get(zeros, "utf-8")


def _utf8(stream: BinaryIO, encoding: str) -> BinaryIO:
    """``stream`` as UTF-8 without a byte order mark."""
    if encoding not in ("utf-8", "utf-8-sig"):
        return cast(BinaryIO, io.BufferedReader(_Transcoding(stream, encoding)))
    return cast(BinaryIO, io.BufferedReader(_WithoutMark(stream), 256 << 10))


class _WithoutMark(io.RawIOBase):
    """A UTF-8 stream without its byte order mark."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        start = read_fully(stream, 3)
        self._pending = b"" if start == codecs.BOM_UTF8 else start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._pending[: len(buffer)] or self._stream.read(len(buffer))
        self._pending = self._pending[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


class _Transcoding(io.RawIOBase):
    """A stream in another encoding, as UTF-8; what cannot be decoded becomes U+FFFD."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        super().__init__()
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._pending = b""
        self._first = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._pending:
            data = self._stream.read(64 << 10)
            text = self._decoder.decode(data, final=not data)
            if self._first and text:
                text, self._first = text.removeprefix("\ufeff"), False
            self._pending = text.encode("utf-8", "replace")
            if not data:
                break
        data, self._pending = self._pending[: len(buffer)], self._pending[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


_ANY: Final = Decoder(orjson.loads, orjson.loads)

# --- cutting into records --------------------------------------------------------------------------------------------


class _Block:
    """Some consecutive records, uncut: ``data`` from ``starts[i]`` to ``ends[i]`` is record ``i``."""

    def __init__(self, data: bytes, line: int, starts: Any, ends: Any, *, is_list: bool) -> None:
        self.data = data
        self._line = line
        self._starts = starts
        self._ends = ends
        self._is_list = is_list

    def __len__(self) -> int:
        return len(self._starts)

    def element(self, index: int) -> bytes:
        return self.data[self._starts[index] : self._ends[index]]

    def text_of(self, index: int) -> str:
        return self.element(index).strip().decode("utf-8", "replace")

    def line_of(self, index: int) -> int:
        """The 1-based line on which the record starts."""
        start, end = int(self._starts[index]), int(self._ends[index])
        element = self.data[start:end]
        begins = start + len(element) - len(element.lstrip())
        return self._line + self.data.count(b"\n", 0, begins)

    def parse(self, decoder: Decoder) -> list[Any]:
        """All records at once.

        Raises:
            orjson.JSONDecodeError: at least one of them is not JSON; or what the decoder raises.
        """
        if not self._is_list:
            data, one = self.data, decoder.one
            return [one(data[start:end]) for start, end in zip(self._starts, self._ends, strict=True)]
        values = decoder.many(b"".join((b"[", self.data, b"]")))
        if len(values) != len(self):
            raise orjson.JSONDecodeError("the records' bounds are not where they seem", "", 0)
        return values


class _LineBlock(_Block):
    """Some consecutive lines, each a record; blank ones are none."""

    def __init__(self, data: bytes, line: int) -> None:
        self.data = data
        self._line = line
        lines = data.split(b"\n")
        self._elements = [text for text in lines if text and not text.isspace()]
        self._lines = lines if len(self._elements) != len(lines) else None

    def __len__(self) -> int:
        return len(self._elements)

    def element(self, index: int) -> bytes:
        return self._elements[index]

    def line_of(self, index: int) -> int:
        if self._lines is None:
            return self._line + index
        numbers = (number for number, text in enumerate(self._lines) if text and not text.isspace())
        return self._line + next(islice(numbers, index, None))

    def parse(self, decoder: Decoder) -> list[Any]:
        return list(map(decoder.one, self._elements))


class _Lines:
    """Cuts a stream at line ends."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._line = 1

    def blocks(self) -> Iterator[_LineBlock]:
        parts: list[bytes] = []
        while data := read_fully(self._stream, BLOCK_BYTES):
            cut = data.rfind(b"\n") + 1
            if not cut:
                parts.append(data)
                if sum(map(len, parts)) > MAX_RECORD_BYTES:
                    raise _too_long(self._name, self._line)
                continue
            parts.append(data[: cut - 1])
            yield from self._block(b"".join(parts))
            parts = [data[cut:]]
        yield from self._block(b"".join(parts))

    def _block(self, data: bytes) -> Iterator[_LineBlock]:
        block = _LineBlock(data, self._line)
        self._line += data.count(b"\n") + 1
        if len(block):
            yield block


def _too_long(name: str, line: int) -> UnreadableObjectError:
    return UnreadableObjectError(
        f"{name} has a record of more than {MAX_RECORD_BYTES >> 20} MiB, which begins on line {line}.",
        hint="A bracket or quote may be missing there.",
    )


_WEIGHTS: Final = np.zeros(256, np.int8)
_WEIGHTS[list(b"{[")] = 1
_WEIGHTS[list(b"}]")] = -1
_IS_STRUCTURE: Final = np.zeros(256, bool)
_IS_STRUCTURE[list(b"{}[],")] = True
_SPACE: Final = b" \t\r\n"
_BETWEEN: Final = b" \t\r\n,\x1e"
"""What may stand between documents: whitespace, the record separator of RFC 7464, and commas."""


@dataclass(slots=True)
class _Structure:
    """Where the brackets and commas outside strings are, and how deep the text is after each."""

    positions: Any
    characters: Any
    depths: Any

    @classmethod
    def of(cls, data: bytes) -> _Structure:
        """Of ``data``, which begins outside any string and at depth 0."""
        if b"\\" in data:
            # Same length, no escapes: what a backslash protects is neither quote nor backslash any more.
            data = data.replace(b"\\\\", b"__").replace(b'\\"', b"__")
        codes = np.frombuffer(data, np.uint8)
        positions = np.flatnonzero(_IS_STRUCTURE[codes])
        quotes = np.flatnonzero(codes == ord('"'))
        ranks = np.searchsorted(quotes, positions)
        newlines = np.flatnonzero(codes == ord("\n"))
        if len(newlines):
            before = np.searchsorted(quotes, newlines)
            if (before & 1).any():
                # No JSON string spans lines, so a quote is missing: count them anew on every line.
                line_of = np.searchsorted(newlines, positions)
                ranks = ranks - np.concatenate(([0], before))[line_of]
        outside = (ranks & 1) == 0
        positions = positions[outside]
        characters = codes[positions]
        return cls(positions, characters, np.cumsum(_WEIGHTS[characters], dtype=np.int64))


class _Values:
    """Cuts a stream of JSON values, of which arrays are opened: their elements are the records."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._data = b""
        self._line = 1
        self._ended = False

    def blocks(self, array_at: int | None = None) -> Iterator[_Block]:
        """The records; those of one array only (an envelope's) when ``array_at`` is the offset behind its bracket."""
        if array_at is not None:
            self._more(array_at + 1)
            self._drop(array_at)
            yield from self._elements()
            self._skip_rest()
            return
        while self._at_value():
            if self._data[:1] == b"[":
                self._drop(1)
                yield from self._elements()
            else:
                yield from self._documents()

    def _at_value(self) -> bool:
        """Move to the next value; False at the end."""
        while True:
            rest = self._data.lstrip(_BETWEEN)
            self._drop(len(self._data) - len(rest))
            if rest or not self._more():
                return bool(rest)

    def _elements(self) -> Iterator[_Block]:
        """The elements of the array that the stream is in, and its closing bracket."""
        wanted = BLOCK_BYTES
        while True:
            self._more(wanted)
            structure = _Structure.of(self._data)
            ends = structure.positions[structure.depths == -1]
            closes = bool(len(ends))
            inside = structure.positions < ends[0] if closes else slice(None)
            commas = (structure.characters == ord(",")) & (structure.depths == 0)
            cuts = structure.positions[inside][commas[inside]]
            if closes or len(cuts):
                end = int(ends[0]) if closes else int(cuts[-1])
                yield from self._element_block(end, cuts if closes else cuts[:-1])
                self._drop(end + 1)
                wanted = BLOCK_BYTES
                if closes:
                    return
            elif self._ended:
                yield from self._damaged()
                return
            else:
                wanted = 2 * len(self._data) + BLOCK_BYTES

    def _element_block(self, end: int, cuts: Any) -> Iterator[_Block]:
        starts = np.concatenate(([0], cuts + 1))
        ends = np.concatenate((cuts, [end]))
        if not self._data[starts[-1] : end].strip(_WHITESPACE):
            # An empty array, or a comma behind its last element.
            starts, ends = starts[:-1], ends[:-1]
        if len(starts):
            yield _Block(self._data[: int(ends[-1])], self._line, starts, ends, is_list=True)

    def _documents(self) -> Iterator[_Block]:
        """The values up to an array or the end."""
        wanted = BLOCK_BYTES
        while True:
            self._more(wanted)
            structure = _Structure.of(self._data)
            closing = (structure.depths == 0) & (structure.characters != ord(","))
            ends = structure.positions[closing] + 1
            starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
            starts = [self._behind_gap(int(start)) for start in starts]
            array = next((i for i, start in enumerate(starts) if self._data[start : start + 1] == b"["), len(starts))
            if array:
                end = int(ends[array - 1])
                yield _Block(self._data[:end], self._line, starts[:array], ends[:array], is_list=False)
                self._drop(end)
                return
            rest = self._data.lstrip(_BETWEEN)
            if self._ended and rest[:1] not in (b"{", b"["):
                # Bare values at the end: numbers, words.
                data, line = self._data, self._line
                self._drop(len(data))
                tokens = [match.span() for match in re.finditer(rb'"(?:[^"\\]|\\.)*"|[^\s,]+', data)]
                yield _Block(data, line, [a for a, _ in tokens], [b for _, b in tokens], is_list=False)
                return
            if self._ended:
                yield from self._damaged()
                return
            wanted = 2 * len(self._data) + BLOCK_BYTES

    def _behind_gap(self, start: int) -> int:
        while self._data[start : start + 1] and self._data[start] in _BETWEEN:
            start += 1
        return start

    def _damaged(self) -> Iterator[_Block]:
        """What never closes, at the end of the file.

        With its last bracket in place it is an array that lost a bracket or quote somewhere; when its elements stand on
        lines of their own that costs one of them. Anything else is truncated, and no part of it may pass for a whole.
        """
        if not (self._data.rstrip().endswith(b"]") and _one_per_line(self._data)):
            raise UnreadableObjectError(
                f"{self._name} ends in the middle of the record that begins on line {self._record_line()}: it is "
                "truncated, or a bracket or quote is missing there.",
                hint="Transfer the file again, or repair that record; nothing of it was loaded.",
            )
        pending, self._data = self._data, b""
        lines = [line.strip().removesuffix(b",") for line in pending.split(b"\n")]
        yield _LineBlock(b"\n".join(b"" if line in (b"[", b"]") else line for line in lines), self._line)

    def _record_line(self) -> int:
        return self._line + self._data.count(b"\n", 0, len(self._data) - len(self._data.lstrip()))

    def _skip_rest(self) -> None:
        """Read the envelope to its end, so that a truncated one is seen."""
        last = self._data.rstrip()[-1:]
        while data := self._stream.read(BLOCK_BYTES):
            last = data.rstrip()[-1:] or last
        if last != b"}":
            raise UnreadableObjectError(
                f"{self._name} ends in the middle of its outermost object: it is truncated.",
                hint="Transfer the file again; nothing of it was loaded.",
            )

    def _more(self, wanted: int = 1) -> bool:
        """Have ``wanted`` bytes at hand, if there are as many; False when nothing could be added."""
        if len(self._data) > MAX_RECORD_BYTES:
            raise _too_long(self._name, self._record_line())
        missing = wanted - len(self._data)
        if missing <= 0:
            return False
        data = read_fully(self._stream, max(missing, BLOCK_BYTES))
        self._ended = self._ended or not data
        self._data += data
        return bool(data)

    def _drop(self, size: int) -> None:
        self._line += self._data.count(b"\n", 0, size)
        self._data = self._data[size:]


def _one_per_line(data: bytes) -> bool:
    """Whether most of the first lines are a record each, apart from a comma."""
    lines = [line.strip().removesuffix(b",") for line in data[: 1 << 20].split(b"\n")[:1000]]
    lines = [line for line in lines if line not in (b"", b"[", b"]")]
    return len(lines) > 1 and sum(map(_is_object, lines)) * 2 >= len(lines)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _envelope(head: bytes, *, whole: bool) -> tuple[str, int, tuple[str, ...]] | None:
    """The key of the one array of objects that a lone outermost object only wraps, the offset behind its bracket, and
    the other keys known.

    It is an envelope when the key is one that services use, or no other key is there, or the object is too large to
    be one row; and never when another array of objects is beside it.
    """
    text = head.decode("utf-8", "ignore")
    decoder = json.JSONDecoder(strict=False, parse_int=str)
    position = _skip(text, 0)
    if text[position : position + 1] != "{":
        return None
    if whole:
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            return None
        tables = [key for key, member in value.items() if _is_table(member)]
        if text[end:].strip() or len(tables) != 1 or not (len(value) == 1 or tables[0].lower() in _ENVELOPES):
            return None
    others: list[str] = []
    found: tuple[str, int] | None = None
    try:
        while text[position] != "}":
            position = _skip(text, position + 1)
            key, position = decoder.raw_decode(text, position)
            position = _skip(text, _skip(text, position) + 1)
            if found is None and _opens_table(text, position):
                found = (key, len(text[: position + 1].encode()))
                if not whole:
                    break
            else:
                others.append(key)
            _, position = decoder.raw_decode(text, position)
            position = _skip(text, position)
    except (ValueError, IndexError, RecursionError):
        return None
    return None if found is None else (*found, tuple(others))


def _skip(text: str, position: int) -> int:
    while text[position : position + 1] in (" ", "\t", "\r", "\n"):
        position += 1
    return position


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _opens_table(text: str, position: int) -> bool:
    return text[position : position + 1] == "[" and text[_skip(text, position + 1) :][:1] == "{"


# --- parsing, exactly ------------------------------------------------------------------------------------------------


_NUMERIC: Final = bytes(ord("0") if chr(c) in "0123456789.-" else ord(" ") for c in range(256))
_WHITESPACE: Final = b" \t\r\n"
_BEFORE_NUMBER: Final = (b"", b":", b",", b"[", b" ", b"\t", b"\r", b"\n")
_NUL: Final = b"\\u0000"


@dataclass(slots=True)
class _Parser:
    """Parses single records that orjson refuses, or reads only approximately."""

    exact_decimals: bool = False
    _replaced: int = 0
    _long_run: bytes = field(init=False)
    _number: re.Pattern[bytes] = field(init=False)

    def __post_init__(self) -> None:
        # A double keeps 15 significant digits of any decimal, and 17 digits give back any double.
        digits = 16 if self.exact_decimals else 18
        self._long_run = b"0" * (digits + 1)
        self._number = re.compile(
            rb"-?0\.0*[1-9]\d{%d,}|-?[1-9](?=\d*\.)[\d.]{%d,}|[1-9]\d{19,}|-[1-9]\d{18,}" % (digits - 1, digits)
        )

    def notes(self) -> Iterator[str]:
        if self._replaced:
            records = "record" if self._replaced == 1 else "records"
            yield f"U+0000 or a lone surrogate, unknown to PostgreSQL, became U+FFFD in {self._replaced} {records}."

    def is_delicate(self, data: bytes) -> bool:
        """Whether orjson may read some record in ``data`` only approximately. Costs about 1 ns a byte."""
        return _NUL in data or self._has_long_number(data)

    def _has_long_number(self, data: bytes) -> bool:
        runs = data.translate(_NUMERIC)
        at = runs.find(self._long_run)
        while at >= 0:
            if self._number.match(data, at) and data[at - 1 : at] in _BEFORE_NUMBER:
                return True
            end = runs.find(b" ", at)
            at = runs.find(self._long_run, end) if end >= 0 else -1
        return False

    def parse(self, data: bytes) -> Any:
        """One record, with every number exact.

        Raises:
            ValueError: it is not JSON; the message says why and where.
        """
        if not self._has_long_number(data):
            try:
                value = orjson.loads(data)
                return self._cleaned(value) if _NUL in data else value
            except orjson.JSONDecodeError as error:
                # Lone surrogates and numbers beyond a double's range are JSON all the same.
                if not re.search("surrogate|infinity", error.msg):
                    raise ValueError(_reason(data, error)) from error
        value = self._exact(data)
        return self._cleaned(value) if b"\\u" in data else value

    def _exact(self, data: bytes) -> Any:
        try:
            text = data.decode("utf-8").strip(" \t\r\n")
            return json.loads(text, parse_int=_integer, parse_float=self._decimal, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            raise ValueError(f"{error.msg} at character {error.pos + 1}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"byte {error.start + 1} is not UTF-8") from error
        except RecursionError:
            raise ValueError("it is nested too deeply") from None

    def _decimal(self, text: str) -> float | ExactNumber:
        number = float(text)
        try:
            exact = Decimal(text)
            if abs(number) == float("inf") or Decimal(repr(number)) != exact:
                digits = len(exact.normalize().as_tuple().digits)
                if self.exact_decimals or digits > 17 or abs(number) == float("inf"):
                    return ExactNumber(text)
        except DecimalException:  # an exponent beyond any machine's
            return ExactNumber(text)
        return number

    def _cleaned(self, value: Any) -> Any:
        cleaned = _clean(value)
        self._replaced += cleaned != value
        return cleaned


def _integer(text: str) -> int | ExactNumber:
    if len(text) < 19:
        return int(text)
    # Longer than any 64-bit number: int() would refuse thousands of digits, and take quadratic time for fewer.
    return ExactNumber(text) if len(text) > 21 or not -(1 << 63) <= int(text) < 1 << 64 else int(text)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _reason(data: bytes, error: orjson.JSONDecodeError) -> str:
    constant = re.search(rb"[:,\[\s](-?Infinity|NaN)\b", b" " + data)
    if constant and b'"' not in data[max(0, error.pos - 1) : error.pos]:
        return f"{constant[1].decode()} is not a JSON value"
    reason = error.msg.partition(": line")[0]
    return f"{reason} at character {error.pos + 1}"


_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def _clean(value: Any) -> Any:
    """``value`` with U+FFFD for every character that PostgreSQL cannot hold."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value
