"""Arrow arrays made of Python and NumPy values, and back, without ``pa.array``, ``pa.scalar`` and ``to_numpy``.

Each of these three imports pandas the first time, a third of a second that a load without a transform need not spend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]


def strings(values: Sequence[str | None]) -> Any:
    """A string array of ``values``; None is null."""
    where = present(values)
    texts = cast("Sequence[str]", values) if where is None else [value or "" for value in values]
    data = "\0".join(texts).encode()
    if data.count(0) < len(texts):
        return split(data, 0, len(texts), where)
    # A text has a NUL of its own, or there is none.
    offsets = np.zeros(len(texts) + 1, np.int32)
    np.cumsum([len(text.encode()) for text in texts], out=offsets[1:])
    return _string_array(offsets, "".join(texts).encode(), where)


def split(data: bytes, separator: int, count: int, where: Mask | None = None) -> Any:
    """The string array of the ``count`` texts between separators, null where ``where`` is false.

    No text has the separator in it; one may stand behind the last.
    """
    codes = np.frombuffer(data, np.uint8)
    between = codes == separator
    ends = np.flatnonzero(between)[: count - 1]
    texts = codes[~between]
    offsets = np.zeros(count + 1, np.int32)
    offsets[1:count] = ends - np.arange(len(ends))
    offsets[count] = len(texts)
    return _string_array(offsets, texts, where)


def _string_array(offsets: npt.NDArray[np.int32], data: Any, where: Mask | None) -> Any:
    valid = None if where is None else _bits(where)
    return pa.Array.from_buffers(pa.string(), len(offsets) - 1, [valid, pa.py_buffer(offsets), pa.py_buffer(data)])


def present(values: Sequence[object]) -> Mask | None:
    """Where there is a value; None if everywhere."""
    return np.fromiter((value is not None for value in values), np.bool_, len(values)) if None in values else None


def scalar(text: str) -> Any:
    """A string scalar."""
    return strings([text])[0]


def integers(values: Any, where: Mask | None = None) -> Any:
    """An int64 array over a numpy array of that type, null where ``where`` is not true."""
    valid = None if where is None else _bits(where)
    return pa.Array.from_buffers(pa.int64(), len(values), [valid, pa.py_buffer(np.ascontiguousarray(values))])


def numbered(first: int, count: int) -> Any:
    """The int64 array of ``count`` numbers from ``first`` on."""
    return integers(np.arange(first, first + count, dtype=np.int64))


def repeated(value: int, count: int) -> Any:
    """The int64 array of ``count`` times the same number."""
    return integers(np.full(count, value, np.int64))


def booleans(mask: Mask) -> Any:
    """A boolean array of a numpy mask."""
    return pa.Array.from_buffers(pa.bool_(), len(mask), [None, _bits(mask)])


def to_mask(array: Any) -> Mask:
    """A boolean Arrow array as numpy mask, null as False."""
    mask = _unpacked(array.buffers()[1], array)
    return mask & _unpacked(array.buffers()[0], array) if array.null_count else mask


def valid_mask(array: Any) -> Mask:
    """Where any Arrow array has a value."""
    return to_mask(pc.is_valid(array))


def buffers(texts: Any) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """The offsets (one more than there are values) and the bytes of a string array."""
    _, offsets, data = texts.buffers()
    if offsets is None or offsets.size == 0:
        return np.zeros(len(texts) + 1, np.int32), np.zeros(0, np.uint8)
    values = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return values, np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)


def one_chunk(column: Any) -> Any:
    """A chunked array as one array, without the copy that ``combine_chunks`` makes of a single chunk."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def nullified(texts: Any, where: Any) -> Any:
    """The same string array, null where ``where`` (a boolean Arrow array) is true. Copies no text."""
    valid = pc.and_not(pc.is_valid(texts), where)
    _, offsets, data = texts.buffers()
    if texts.offset:
        offsets = offsets.slice(texts.offset * 4)
    return pa.StringArray.from_buffers(len(texts), offsets, data, valid.buffers()[1])


def int32s(array: Any) -> npt.NDArray[np.int32]:
    """The values of an int32 array, whatever they are where it is null."""
    return np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array)]


def _bits(mask: Mask) -> Any:
    return pa.py_buffer(np.packbits(mask, bitorder="little"))


def _unpacked(buffer: Any, array: Any) -> Mask:
    if buffer is None or not len(array):
        return np.zeros(len(array), np.bool_)
    first, skipped = divmod(array.offset, 8)
    bits = np.frombuffer(buffer, np.uint8)[first:]
    return np.unpackbits(bits, count=skipped + len(array), bitorder="little")[skipped:].view(np.bool_)
