"""From parsed JSON records to string columns, as :class:`~etl_container.formats.base.RawBatch` has them.

There are two ways with one result. :meth:`Columns.of_values` takes whatever a JSON parser gives: dicts with any keys.
It remembers which keys there were, with which types of values; from then on :attr:`Columns.decoder` parses records of
just these keys and types into msgspec's structs, which :meth:`Columns.of_alike` turns into columns in a third of the
time. A record with anything new in it fails there, and its block goes the first way, which knows it from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter, itemgetter
from types import NoneType
from typing import Any, Final, Union

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl_container.arrays import booleans, integers, present, scalar, split, strings
from etl_container.errors import UnreadableObjectError
from etl_container.formats.base import Kind
from etl_container.schema import MAX_COLUMNS

MAX_UNLIKE: Final = 8
"""After so many blocks in a row that had something new in them, the rest of the file goes the general way."""

_VALUE: Final = "value"
"""The label of records that are no objects."""


class ExactNumber:
    """A number that neither a 64-bit integer nor a double can hold, as it is written."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


@dataclass(frozen=True, slots=True)
class Decoder:
    """A JSON parser: of the text of one record, and of that of an array of records."""

    one: Callable[[bytes], Any]
    many: Callable[[bytes], list[Any]]


class Columns:
    """The labels met so far, and how records become columns under them.

    Args:
        name: the object's, for messages.
        flatten: nested objects become columns ``a.b``.
    """

    def __init__(self, name: str, *, flatten: bool) -> None:
        self._name = name
        self._flatten = flatten
        self._labels: dict[str, None] = {}
        self._known: _Known | None = _Known()
        self._unlike = 0
        self.decoder: Decoder | None = None
        """Parses records in which all is known, for :meth:`of_alike`; raises for others."""

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self._labels)

    def of_values(self, values: list[Any]) -> tuple[Any, tuple[Kind, ...]]:
        """A record batch with one string column per label, and the kinds of the columns' values.

        Raises:
            UnreadableObjectError: there are more keys than a table can have columns.
        """
        records = _as_records(values)
        self._learn(values, records)
        if self._flatten:
            records = [_flattened(record) for record in records]
        shapes = dict.fromkeys(map(tuple, records))
        for shape in shapes:
            self._labels.update(dict.fromkeys(shape))
        if not self._labels:
            self._labels[_VALUE] = None
        if len(self._labels) > MAX_COLUMNS:
            raise UnreadableObjectError(
                f"{self._name} has records with more than {MAX_COLUMNS:,} different keys: too many for a table.",
                hint="Put the keys that vary into one nested object, which becomes a jsonb column.",
            )
        in_all = set.intersection(*map(set, islice(shapes, 100))) if len(shapes) <= 100 else set()
        return self._batch(
            {
                label: list(map(itemgetter(label), records))
                if label in in_all
                else [record.get(label) for record in records]
                for label in self._labels
            },
            len(records),
        )

    def of_alike(self, records: list[Any]) -> tuple[Any, tuple[Kind, ...]]:
        """As :meth:`of_values`, of what :attr:`decoder` made."""
        assert self._known is not None
        self._unlike = 0
        return self._batch(dict(self._known.columns(records)), len(records))

    def unlike(self) -> None:
        """Count a block that the decoder has refused, in a row of such."""
        self._unlike += 1

    def _batch(self, values: dict[str, list[Any]], rows: int) -> tuple[Any, tuple[Kind, ...]]:
        arrays, kinds = [], []
        for label in self._labels:
            array, kind = _column(values[label]) if label in values else (pa.nulls(rows, pa.string()), Kind(0))
            arrays.append(array)
            kinds.append(kind)
        return pa.RecordBatch.from_arrays(arrays, names=list(self._labels)), tuple(kinds)

    def _learn(self, values: list[Any], records: list[dict[str, Any]]) -> None:
        if self._known is None:
            return
        if values is not records or self._unlike > MAX_UNLIKE:
            self._known = self.decoder = None
        elif self._known.learn(records, flatten=self._flatten):
            self.decoder = self._known.decoder()


def _as_records(values: list[Any]) -> list[dict[str, Any]]:
    """Objects as they are; anything else under the label ``value``; null as a record of nulls."""
    if set(map(type, values)) == {dict}:
        return values
    return [value if type(value) is dict else {} if value is None else {_VALUE: value} for value in values]


def _flattened(record: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    _flatten_into(flat, record, "")
    return flat


def _flatten_into(flat: dict[str, Any], record: dict[str, Any], prefix: str) -> None:
    for key, value in record.items():
        if type(value) is dict:
            _flatten_into(flat, value, f"{prefix}{key}.")
        else:
            label = prefix + key
            while label in flat:
                label += "_"
            flat[label] = value


# --- records that look like those before them -------------------------------------------------------------------------


@dataclass(slots=True)
class _Known:
    """What stood in one place of the records: which types of values, and the members of its objects."""

    types: set[type] = field(default_factory=set)
    members: dict[str, _Known] | None = None
    """By key; None where no objects stood, or they are one value each."""
    struct: Any = None
    """Takes an object with any of these keys, in any order, whose values are of the types that stood there."""

    def learn(self, records: list[dict[str, Any]], *, flatten: bool) -> bool:
        """Whether there was anything new in these records."""
        new = self.members is None
        members = self.members = self.members or {}
        for key in dict.fromkeys(key for shape in dict.fromkeys(map(tuple, records)) for key in shape):
            known = members.setdefault(key, _Known())
            values = [record[key] for record in records if key in record]
            types = set(map(type, values))
            new = new or not types <= known.types
            known.types |= types
            if flatten and dict in types:
                new = known.learn([value for value in values if type(value) is dict], flatten=True) or new
        return new

    def decoder(self) -> Decoder | None:
        """What parses records in which nothing is new.

        None where two places share a label, or an object to flatten may stand where another value does.
        """
        labels = list(self._labels(""))
        if len(set(labels)) < len(labels) or not self._build():
            return None
        return Decoder(msgspec.json.Decoder(self.struct).decode, msgspec.json.Decoder(list[self.struct]).decode)  # type: ignore[name-defined]

    def _labels(self, prefix: str) -> Iterator[str]:
        for key, known in (self.members or {}).items():
            yield prefix + key
            yield from known._labels(f"{prefix}{key}.")

    def _build(self) -> bool:
        assert self.members is not None
        fields: list[tuple[str, Any, Any]] = []
        for number, known in enumerate(self.members.values()):
            if known.members is None:
                fields.append((f"f{number}", _annotation(known.types), None))
                continue
            if known.types - {dict, NoneType} or not known._build():
                return False
            kind = known.struct | None if NoneType in known.types else known.struct
            fields.append((f"f{number}", kind, msgspec.field(default_factory=known.struct)))
        names = {f"f{number}": key for number, key in enumerate(self.members)}
        try:
            self.struct = msgspec.defstruct("Record", fields, rename=names, gc=False, forbid_unknown_fields=True)
        except ValueError:  # a key with a quote, a backslash or a control character
            return False
        return True

    def columns(self, records: list[Any], prefix: str = "") -> Iterator[tuple[str, list[Any]]]:
        """The label and the values of each column, of what :attr:`struct` has taken."""
        for number, (key, known) in enumerate((self.members or {}).items()):
            values = list(map(attrgetter(f"f{number}"), records))
            if known.members is None:
                yield prefix + key, values
                continue
            if NoneType in known.types:
                empty = known.struct()
                values = [empty if value is None else value for value in values]
            yield from known.columns(values, f"{prefix}{key}.")


def _annotation(types: set[type]) -> Any:
    """The values that a field may have, null always among them, for msgspec."""
    if types & {dict, list}:
        return Any
    # Whatever number stands there keeps being what it is: 1.0 is no integer, and 1 no double.
    numbers = {int, float} if types & {int, float, ExactNumber} else set()
    return Union[(*(types - {ExactNumber} | numbers), None)]


# --- values to columns ------------------------------------------------------------------------------------------------
# Without pa.array, see ``arrays``. No text has a NUL in it any more: PostgreSQL could not hold it.


def _column(values: list[Any]) -> tuple[Any, Kind]:
    types = set(map(type, values))
    types.discard(type(None))
    kind = Kind(0)
    for python_type in types:
        kind |= _KINDS[python_type]
    if not types:
        return pa.nulls(len(values), pa.string()), kind
    if len(types) == 1:
        return _BUILDERS[types.pop()](values), kind
    if Kind.NESTED in kind:
        return _json_texts(values), kind
    return strings([None if value is None else _PLAIN[type(value)](value) for value in values]), kind


def _integers(values: list[Any]) -> Any:
    where = present(values)
    try:
        numbers = np.array(values if where is None else [value or 0 for value in values], np.int64)
    except OverflowError:
        return strings([None if value is None else str(value) for value in values])
    return integers(numbers, where).cast(pa.string())


def _doubles(values: list[Any]) -> Any:
    numbers = np.array(values, np.float64)  # null becomes NaN, which JSON has not
    valid = booleans(~np.isnan(numbers)).buffers()[1]
    array = pa.Array.from_buffers(pa.float64(), len(numbers), [valid, pa.py_buffer(numbers)])
    texts = array.cast(pa.string())
    if (np.floor(numbers) == numbers).any():
        # 1.0 keeps its point: a column of doubles must not turn into integers.
        bare = pc.invert(pc.match_substring_regex(texts, "[.en]"))
        texts = pc.if_else(bare, pc.binary_join_element_wise(texts, _POINT, _NOTHING), texts)
    return texts


def _booleans(values: list[Any]) -> Any:
    return strings([None if value is None else "true" if value else "false" for value in values])


def _json_texts(values: list[Any]) -> Any:
    where = present(values)
    try:
        return split(_ENCODER.encode_lines(values), ord("\n"), len(values), where)
    except RecursionError:
        return split(b"\n".join(map(_deep_text, values)), ord("\n"), len(values), where)


def _raw(value: Any) -> Any:
    if isinstance(value, ExactNumber):
        return msgspec.Raw(value.text.encode())
    raise TypeError(type(value))


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_raw)
_POINT: Final = scalar(".0")
_NOTHING: Final = scalar("")


def _deep_text(value: Any) -> bytes:
    """JSON text of a value nested at any depth."""
    parts: list[bytes] = []
    waiting: list[tuple[bytes, Any]] = [(b"", value)]
    while waiting:
        before, item = waiting.pop()
        parts.append(before)
        if item is _END:
            continue
        if type(item) is dict:
            parts.append(b"{")
            inner = [((b"," if at else b"") + _ENCODER.encode(key) + b":", item[key]) for at, key in enumerate(item)]
            waiting += [(b"}", _END), *reversed(inner)]
        elif type(item) is list:
            parts.append(b"[")
            waiting += [(b"]", _END), *reversed([(b"," if at else b"", one) for at, one in enumerate(item)])]
        else:
            parts.append(_ENCODER.encode(item))
    return b"".join(parts)


_END: Final = object()

_KINDS: Final[dict[type, Kind]] = {
    str: Kind.STRING,
    int: Kind.NUMBER,
    float: Kind.NUMBER,
    ExactNumber: Kind.NUMBER,
    bool: Kind.BOOLEAN,
    dict: Kind.NESTED,
    list: Kind.NESTED,
}
_BUILDERS: Final[dict[type, Callable[[list[Any]], Any]]] = {
    str: strings,
    int: _integers,
    float: _doubles,
    ExactNumber: lambda values: strings([None if value is None else value.text for value in values]),
    bool: _booleans,
    dict: _json_texts,
    list: _json_texts,
}
_PLAIN: Final[dict[type, Callable[[Any], str]]] = {
    str: str,
    int: str,
    float: repr,
    ExactNumber: attrgetter("text"),
    bool: lambda value: "true" if value else "false",
}
