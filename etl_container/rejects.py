"""Records that could not become rows: collected during a load, completed with line and text, kept in the ledger.

One record is one reject, however many of its values are at fault. The spool keeps a few in memory and the rest in a
temporary file, plus 16 bytes a reject, so that a million of them cost no memory worth speaking of.
"""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Iterator
from typing import BinaryIO

from msgspec.structs import asdict, replace

from etl_container.formats.base import Reject, TableReader

_UNKNOWN = (1 << 63) - 1
"""Sorts records without an ordinal behind all others."""

MEMORY = 1 << 20
"""Bytes of rejects kept in memory before a file takes them."""


class RejectSpool:
    """A :class:`~etl_container.formats.base.RejectSink` that can be read back in the order of the records."""

    def __init__(self) -> None:
        self._file: BinaryIO = tempfile.SpooledTemporaryFile(MEMORY)  # type: ignore[assignment]  # noqa: SIM115
        self._offsets = array("q")
        self._records = array("q")

    def __del__(self) -> None:
        # The file goes with the spool, quietly: Python would warn of a file that was never closed.
        self._file.close()

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, reject: Reject) -> None:
        """Keep one more. A second reject of the same record right after the first is joined to it."""
        self._offsets.append(self._file.tell())
        self._records.append(_UNKNOWN if reject.record is None else reject.record)
        self._file.write(json.dumps(asdict(reject), ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")

    def close(self) -> None:
        """Let the temporary file go."""
        self._file.close()

    def clear(self) -> None:
        """Forget all: the load starts again."""
        self._file.seek(0)
        self._file.truncate()
        del self._offsets[:]
        del self._records[:]

    def __iter__(self) -> Iterator[Reject]:
        """By record; rejects of one record as one, those without an ordinal last."""
        order = sorted(range(len(self._offsets)), key=self._records.__getitem__)
        current: Reject | None = None
        for index in order:
            self._file.seek(self._offsets[index])
            reject = Reject(**json.loads(self._file.readline().decode("utf-8", "surrogatepass")))
            if current is not None and reject.record is not None and reject.record == current.record:
                current = _joined(current, reject)
                continue
            if current is not None:
                yield current
            current = reject
        if current is not None:
            yield current
        self._file.seek(0, 2)

    def count(self) -> int:
        """How many records were rejected."""
        known = [record for record in self._records if record != _UNKNOWN]
        return len(set(known)) + len(self._records) - len(known)

    def located(self, reader: TableReader | None) -> Iterator[Reject]:
        """The rejects with line and text, which ``reader`` looks up for those that lack them."""
        if reader is None:
            yield from self
            return
        wanted = (reject.record for reject in self if reject.record is not None and reject.line is None)
        found = iter(reader.locate(sorted(set(wanted))))
        place = next(found, None)
        for reject in self:
            record = reject.record
            if record is None or reject.line is not None:
                yield reject
                continue
            while place is not None and place[0] < record:
                place = next(found, None)
            if place is not None and place[0] == record:
                yield replace(reject, line=place[1], text=reject.text or place[2])
            else:
                yield reject


def _joined(first: Reject, second: Reject) -> Reject:
    reason = first.reason
    more = f"{second.column}: {second.reason}" if second.column else second.reason
    if more not in reason:
        reason = f"{reason}; {more}"
    return replace(first, reason=reason, line=first.line or second.line, text=first.text or second.text)
