"""A table of any format, written again in a clean one: original labels, original texts, nothing guessed.

What the readers padded and repaired is padded and repaired here; a file without a header gets none. CSV is the fast
path: lines that are clean CSV in the file already, which the reader proved, are passed on as they are; of others the
fields of a batch are joined as Arrow strings, whose bytes are the lines, and only fields that hold a delimiter, a quote
or a line end are quoted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl_container.arrays import scalar
from etl_container.formats.base import Kind, RawBatch, TableReader

FORMATS = ("csv", "tsv", "json", "jsonl", "markdown", "parquet")
_GROWING = frozenset({"json", "jsonl"})
"""Formats whose later records may have more columns than the first."""


def rewrite(
    open_reader: Callable[[], TableReader], form: str, stream: BinaryIO, *, after: Sequence[str] | None = None
) -> tuple[TableReader, int]:
    """Write a table in ``form`` (one of :data:`FORMATS`).

    Args:
        open_reader: opens the table; called twice when its columns are only known at its end.
        form: how to write.
        stream: where to write; not closed.
        after: the labels of the table that was written to the same stream before: equal ones are not repeated.

    Returns:
        The reader, for its notes, and the number of rows.

    Raises:
        UnreadableObjectError: as ``open_reader`` and its batches do.
    """
    reader = open_reader()
    if reader.description.format in _GROWING and form != "jsonl":
        for _ in reader.batches():
            pass
        labels = reader.labels
        reader = open_reader()
    else:
        labels = reader.labels
    batches = reader.batches()
    first = next(batches, None)
    if first is not None and len(labels) < first.data.num_columns:
        labels = tuple(first.data.schema.names)
    header = labels if reader.description.has_labels and tuple(after or ()) != tuple(labels) else None
    rows = _counted(batches if first is None else _chain(first, batches))
    match form:
        case "csv" | "tsv":
            _delimited(rows, labels, header, "," if form == "csv" else "\t", stream)
        case "json" | "jsonl":
            _json(rows, labels, stream, array=form == "json")
        case "markdown":
            _markdown(rows, labels, stream)
        case "parquet":
            _parquet(rows, labels, stream)
        case _:
            raise ValueError(form)
    return reader, rows.count


class _counted:  # noqa: N801 — an iterator with a count
    def __init__(self, batches: Iterator[RawBatch]) -> None:
        self._batches = batches
        self.count = 0

    def __iter__(self) -> Iterator[RawBatch]:
        for batch in self._batches:
            self.count += batch.data.num_rows
            yield batch


def _chain(first: RawBatch, rest: Iterator[RawBatch]) -> Iterator[RawBatch]:
    yield first
    yield from rest


# ---- delimited ------------------------------------------------------------------------------------------------------


def _delimited(
    batches: _counted, labels: Sequence[str], header: Sequence[str] | None, delimiter: str, stream: BinaryIO
) -> None:
    special = (b'"', delimiter.encode(), b"\n", b"\r")
    if header:
        stream.write((delimiter.join(_field(label, delimiter, len(header) == 1) for label in header) + "\n").encode())
    for batch in batches:
        if batch.csv is not None and delimiter == ",":
            stream.write(batch.csv)  # clean already
            continue
        if not batch.data.num_rows:
            continue
        columns = [_quoted(_strings(column), special) for column in _padded(batch.data, len(labels))]
        if len(columns) == 1:
            # A lone empty field would be an empty line, which readers skip.
            filled = pc.fill_null(columns[0], scalar(""))
            columns = [pc.if_else(pc.equal(filled, scalar("")), scalar('""'), columns[0])]
        stream.write(_lines(columns, delimiter))


def _lines(columns: Sequence[Any], delimiter: str) -> memoryview:
    """The rows as bytes: the data of a string array is one value after the other, so lines joined are lines written."""
    joined = pc.binary_join_element_wise(*columns, scalar(delimiter), null_handling="replace", null_replacement="")
    ended = pc.binary_join_element_wise(joined, scalar(""), scalar("\n"))
    return _bytes(ended)


def _bytes(texts: Any) -> memoryview:
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return memoryview(b"")
    whole = memoryview(offsets)
    at = whole.cast("q") if pa.types.is_large_string(texts.type) else whole.cast("i")
    return memoryview(data)[at[texts.offset] : at[texts.offset + len(texts)]]


def _quoted(texts: Any, special: Sequence[bytes]) -> Any:
    """The values as fields: those that hold a special byte between quotes, their own quotes doubled.

    Every byte that has to be added is a quote, so they are all put in at once, wherever in the column they belong.
    """
    if pa.types.is_large_string(texts.type):
        texts = texts.cast(pa.string())
    raw = bytes(_bytes(texts))
    present = [mark for mark in special if mark in raw]
    if not present:
        return texts
    data = np.frombuffer(raw, np.uint8)
    size = len(texts)
    starts = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + size + 1]
    starts = starts - starts[0]
    quoted = data == ord('"')
    odd = quoted
    for mark in present:
        if mark != b'"':
            odd = odd | (data == mark[0])
    rows = _per_row(odd, starts) > 0
    added = 2 * rows.astype(np.int32)
    quotes = np.empty(0, np.int32)
    if b'"' in present:
        quotes = np.flatnonzero(quoted).astype(np.int32)
        added += _per_row(quoted, starts)
    before = np.sort(np.concatenate([starts[:-1][rows], starts[1:][rows], quotes]), kind="stable")
    places = before + np.arange(len(before), dtype=np.int32)
    whole = np.full(len(data) + len(before), ord('"'), np.uint8)
    own = np.ones(len(whole), np.bool_)
    own[places] = False
    whole[own] = data
    offsets = starts.copy()
    offsets[1:] += np.cumsum(added, dtype=np.int32)
    valid = pc.is_valid(texts).buffers()[1] if texts.null_count else None
    return pa.Array.from_buffers(pa.string(), size, [valid, pa.py_buffer(offsets), pa.py_buffer(whole)])


def _per_row(marked: Any, starts: Any) -> Any:
    """How many bytes of each row are marked."""
    until = np.zeros(len(marked) + 1, np.int32)
    np.cumsum(marked, dtype=np.int32, out=until[1:])
    return np.diff(until[starts])


def _field(text: str, delimiter: str, alone: bool) -> str:
    if (alone and not text) or any(mark in text for mark in ('"', delimiter, "\n", "\r")):
        return '"' + text.replace('"', '""') + '"'
    return text


def _padded(data: Any, width: int) -> list[Any]:
    missing = [pa.nulls(data.num_rows, pa.string())] * (width - data.num_columns)
    return [*data.columns, *missing]


def _strings(column: Any) -> Any:
    """A column as the texts that stand for its values."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column
    if pa.types.is_dictionary(kind):
        return _strings(column.dictionary_decode())
    if (
        pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_date32(kind)
        or pa.types.is_null(kind)
        or pa.types.is_floating(kind)
    ):
        return column.cast(pa.string())
    return pa.array([None if value is None else _text(value) for value in column.to_pylist()], pa.string())


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, dict | list | tuple):
        return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else _text(value)


# ---- the others -----------------------------------------------------------------------------------------------------


def _json(batches: _counted, labels: Sequence[str], stream: BinaryIO, *, array: bool) -> None:
    import orjson

    begun = False
    stream.write(b"[" if array else b"")
    for batch in batches:
        names = unique(labels if len(labels) >= batch.data.num_columns else batch.data.schema.names)
        columns = [
            _json_values(column, kind, orjson) for column, kind in zip(batch.data.columns, batch.kinds, strict=True)
        ]
        columns += [[None] * batch.data.num_rows] * (len(names) - len(columns))
        for row in zip(*columns, strict=True):
            if array:
                stream.write(b",\n " if begun else b"\n ")
            stream.write(orjson.dumps(dict(zip(names, row, strict=True))))
            stream.write(b"" if array else b"\n")
            begun = True
    if array:
        stream.write(b"\n]\n" if begun else b"]\n")


def _json_values(column: Any, kind: Kind, orjson: Any) -> list[Any]:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        if pa.types.is_integer(column.type) or pa.types.is_boolean(column.type) or pa.types.is_floating(column.type):
            return list(column.to_pylist())
        if pa.types.is_nested(column.type):
            return [_plain(value) for value in column.to_pylist()]
        return list(_strings(column).to_pylist())
    texts = column.to_pylist()
    if kind in (Kind.NUMBER, Kind.BOOLEAN, Kind.NESTED):
        return [None if text is None else orjson.Fragment(text) for text in texts]
    return list(texts)


def _markdown(batches: _counted, labels: Sequence[str], stream: BinaryIO) -> None:
    def line(cells: Sequence[str]) -> bytes:
        return ("| " + " | ".join(cells) + " |\n").encode()

    stream.write(line([_cell(label) for label in labels]))
    stream.write(line(["---"] * len(labels)))
    for batch in batches:
        columns = [_strings(column).to_pylist() for column in _padded(batch.data, len(labels))]
        for row in zip(*columns, strict=True):
            stream.write(line([_cell(value or "") for value in row]))


def _cell(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return escaped.replace("\r\n", "<br>").replace("\n", "<br>").replace("\r", "<br>")


def _parquet(batches: _counted, labels: Sequence[str], stream: BinaryIO) -> None:
    import pyarrow.parquet as pq

    names = unique(labels)
    writer: Any = None
    try:
        for batch in batches:
            columns = _padded(batch.data, len(names))
            if writer is None:
                types = [column.type for column in columns]
                schema = pa.schema(list(zip(names, types, strict=True)))
                writer = pq.ParquetWriter(stream, schema, compression="zstd")
            arrays = [column.cast(field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
        if writer is None:
            writer = pq.ParquetWriter(stream, pa.schema([(name, pa.string()) for name in names]), compression="zstd")
    finally:
        if writer is not None:
            writer.close()


def unique(labels: Sequence[str]) -> list[str]:
    """The labels, repeated ones numbered (``n``, ``n_2``): JSON and Parquet need each once."""
    taken: set[str] = set(labels)
    seen: set[str] = set()
    names: list[str] = []
    for label in labels:
        name, number = label, 1
        while name in seen or (number > 1 and name in taken):
            number += 1
            name = f"{label}_{number}"
        seen.add(name)
        names.append(name)
    return names
