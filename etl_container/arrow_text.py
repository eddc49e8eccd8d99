"""Arrow text made of Python text, without ``pa.array`` and ``pa.scalar``: these import pandas, a third of a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def strings(values: Sequence[str | None]) -> Any:
    """A string array of ``values``; None is null."""
    texts = [value or "" for value in values]
    data = "".join(texts)
    encoded = data.encode()
    ascii_only = len(encoded) == len(data)
    lengths = [len(text) for text in texts] if ascii_only else [len(text.encode()) for text in texts]
    offsets = np.zeros(len(texts) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    valid = None
    if None in values:
        bits = np.fromiter((value is not None for value in values), np.bool_, len(texts))
        valid = pa.py_buffer(np.packbits(bits, bitorder="little"))
    return pa.Array.from_buffers(pa.string(), len(texts), [valid, pa.py_buffer(offsets), pa.py_buffer(encoded)])


def scalar(text: str) -> Any:
    """A string scalar."""
    return strings([text])[0]


def integers(values: Any) -> Any:
    """An int64 array over a numpy array of that type."""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])
