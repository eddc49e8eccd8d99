"""From an object's bytes to a stream of Arrow record batches, whatever the format.

The stages, in the order in which :func:`open_table` walks them: take the compression off (``compression``), tell the
format from the content (``detect``), and hand the bytes to the reader for it: ``delimited`` and ``json_reader`` here,
``columnar``, ``excel`` and ``kind_reader`` (what is not a table) in a process of their own (``confined``), for what
they parse is binary and may be damaged. Each reader keeps the promise written down in ``base``. Readers are imported
when they are needed: reading a CSV pays for no Parquet library.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

if TYPE_CHECKING:
    from etl_container.formats.base import (
        Description,
        Expected,
        RawBatch,
        ReadOptions,
        RejectSink,
        Source,
        TableReader,
    )
    from etl_container.formats.compression import Unwrapped

__all__ = ["list_tables", "open_table"]

_TRUSTED_BYTES = 16 << 20
"""Bytes from which on Parquet is read in this process: in the other a large file costs 5 % more, and what is made to do
harm is small."""


def open_table(source: Source, options: ReadOptions, rejects: RejectSink) -> TableReader:
    """The table in ``source``, ready to be read.

    Args:
        source: the object's bytes as they were landed.
        options: the user's word on how to read; every None is found out.
        rejects: where records go that cannot become rows, while the reader's ``batches`` are consumed.

    Raises:
        UnreadableObjectError: the bytes are empty, damaged, or no table; so may ``batches`` later.
        ConfigError: an option that cannot be used.
    """
    from etl_container.formats.compression import read_head, unwrap
    from etl_container.formats.detect import detect
    from etl_container.tuning import keep_freed_blocks

    keep_freed_blocks()
    unwrapped = unwrap(source, options)
    inner = unwrapped.source
    found = detect(read_head(inner), inner.name, options, document=unwrapped.document)
    return _Table(_reader(found, inner, options, rejects), unwrapped)


def _reader(found: str, source: Source, options: ReadOptions, rejects: RejectSink) -> TableReader:
    if found == "delimited":
        from etl_container.formats.delimited import open_delimited

        return open_delimited(source, options, rejects)
    if found in ("json", "jsonl"):
        from etl_container.formats.json_reader import open_json

        return open_json(source, options, rejects, found)
    if found == "parquet" and source.path is not None and Path(source.path).stat().st_size > _TRUSTED_BYTES:
        from etl_container.formats.columnar import open_columnar

        return open_columnar(source, options, found)
    from etl_container.formats.confined import open_confined

    return open_confined(source, options, found)


def list_tables(source: Source, options: ReadOptions, rejects: RejectSink) -> tuple[str, ...]:
    """Every table in ``source`` that can be asked for by name (``read.sheet``, ``read.member``), in the file's order.

    An object that holds just one table without a name gives an empty tuple.

    Raises:
        UnreadableObjectError: see :func:`open_table`.
    """
    description = open_table(source, options, rejects).description
    return ((description.table,) if description.table is not None else ()) + description.others


class _Table:
    """A reader's table with what the compression layer knows about it put into its description."""

    def __init__(self, reader: TableReader, unwrapped: Unwrapped) -> None:
        self._reader = reader
        self._unwrapped = unwrapped

    @property
    def description(self) -> Description:
        inner = self._reader.description
        return replace(
            inner,
            compression=self._unwrapped.compression,
            table=inner.table if inner.table is not None else self._unwrapped.member,
            others=inner.others + self._unwrapped.others,
        )

    @property
    def labels(self) -> tuple[str, ...]:
        return self._reader.labels

    @property
    def notes(self) -> tuple[str, ...]:
        others = self._unwrapped.others
        if not others:
            return self._reader.notes
        shown = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
        note = f"The archive's member {self._unwrapped.member} was read; it also holds {len(others)} more: {shown}."
        return (note, *self._reader.notes)

    def batches(self) -> Iterator[RawBatch]:
        return self._reader.batches()

    def expect(self, expected: Expected) -> None:
        from etl_container.formats.base import expect

        expect(self._reader, expected)

    def locate(self, records: Iterable[int]) -> Iterator[tuple[int, int | None, str | None]]:
        return self._reader.locate(records)
