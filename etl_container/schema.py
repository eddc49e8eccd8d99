"""Columns and their types: names that PostgreSQL takes, the widening order, and how a live table must change.

Pure: no I/O, no Arrow, no SQL driver. ``infer`` decides what type a file's values have, this room decides what becomes
of the table, ``warehouse`` carries it out.

The widening order (an arrow says "every value of the left can be written as the right")::

    boolean ─────────────────────────────┐
    uuid ────────────────────────────────┤
    bigint ─► double precision ─► numeric ┼─► text
    date ─► timestamp ───────────────────┤
    timestamp with time zone ────────────┤
    jsonb ───────────────────────────────┘

``bigint → numeric`` directly where an integer needs more than 53 bits beside fractions, since a double would round it.
"""

from __future__ import annotations

import enum
import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field

MAX_IDENTIFIER_BYTES = 63
"""PostgreSQL truncates longer names: NAMEDATALEN - 1, https://www.postgresql.org/docs/17/limits.html."""

MAX_COLUMNS = 1600
"""PostgreSQL's limit on the columns of a table (same page); wide types lower it."""

RUN_COLUMN = "_lake_run"
"""The lineage column of every table: the id of the run that wrote the row."""

WORDS_MARK = "lakectl search: "
"""How the comment on a full-text index begins; the kind of the rows that it is over follows."""

RESERVED_NAMES = frozenset({RUN_COLUMN, "ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})
"""Names a data column may not have: ours, and PostgreSQL's system columns."""


class PgType(enum.StrEnum):
    """The column types that a load creates."""

    BOOLEAN = "boolean"
    BIGINT = "bigint"
    DOUBLE = "double precision"
    NUMERIC = "numeric"
    DATE = "date"
    TIME = "time without time zone"
    TIMESTAMP = "timestamp without time zone"
    TIMESTAMPTZ = "timestamp with time zone"
    UUID = "uuid"
    JSONB = "jsonb"
    BYTEA = "bytea"
    TEXT = "text"


_WIDENS_TO: Mapping[PgType, tuple[PgType, ...]] = {
    PgType.BIGINT: (PgType.DOUBLE, PgType.NUMERIC),
    PgType.DOUBLE: (PgType.NUMERIC,),
    PgType.DATE: (PgType.TIMESTAMP,),
}


def join(left: PgType | None, right: PgType | None) -> PgType | None:
    """The narrowest type that holds the values of both; None stands for a column of nulls only."""
    if left is None or right is None or left == right:
        return left if right is None else right
    for narrow, wide in ((left, right), (right, left)):
        if wide in _WIDENS_TO.get(narrow, ()):
            return wide
    return PgType.TEXT


def column_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Safe, unique column names for the labels of a file, in order.

    Lower case; letters and digits of any script are kept, everything else becomes one underscore; accents of Latin
    letters are dropped; never empty, never a digit first, never a name of ours or of PostgreSQL's system columns; at
    most 63 bytes of UTF-8, cut on a character. Repeated names get ``_2``, ``_3`` … in order of appearance.
    """
    taken: set[str] = set(RESERVED_NAMES)
    names: list[str] = []
    for position, label in enumerate(labels, start=1):
        name = identifier(label) or f"column_{position}"
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            suffix = f"_{number}"
            candidate = _cut(name, MAX_IDENTIFIER_BYTES - len(suffix)) + suffix
        taken.add(candidate)
        names.append(candidate)
    return tuple(names)


@functools.lru_cache(maxsize=4096)
def identifier(label: str) -> str:
    """One label as an identifier (see :func:`column_names`); empty when no letter or digit is in it."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", label) if not ("\u0300" <= char <= "\u036f"))
    plain = unicodedata.normalize("NFC", plain)
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", plain)
    name = re.sub(r"[^\w]+", "_", plain.casefold().replace("%", " percent ").replace("#", " number ")).strip("_")
    if name and name[0].isdigit():
        name = f"_{name}"
    return _cut(name, MAX_IDENTIFIER_BYTES)


def table_name(label: str) -> str:
    """The table for a label, ``data`` when no letter or digit is in it.

    PostgreSQL's own tables begin with ``pg_`` and are found before the user's, so such a name gets an underscore.
    """
    name = identifier(label) or "data"
    return _cut(f"_{name}", MAX_IDENTIFIER_BYTES) if name.startswith("pg_") else name


_ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""NUL in JSON text, but no backslash before a text that looks like it."""


def without_nul(text: str) -> str:
    """JSON text without the escape of NUL, which jsonb refuses."""
    return _ESCAPED_NUL.sub(r"\1", text)


def _cut(name: str, size: int) -> str:
    return name.encode()[:size].decode(errors="ignore")


class ColumnSchema(Struct, frozen=True):
    """One column of a table: its name, type, and the label it has in the files (kept as the column's comment)."""

    name: str
    type: PgType | None
    """None while only nulls were seen: such a column is created as text when nothing better is known."""
    label: str = ""


class TableSchema(Struct, frozen=True):
    """The data columns of a table, in order; the lineage column is not among them."""

    columns: tuple[ColumnSchema, ...] = ()

    def get(self, name: str) -> ColumnSchema | None:
        return next((column for column in self.columns if column.name == name), None)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


class SchemaPolicy(enum.StrEnum):
    """What a dataset allows a file to change in its table."""

    EVOLVE = "evolve"
    """New columns are added, types widened."""
    FREEZE = "freeze"
    """A file with a new column is refused; a value that does not fit its column is a reject."""
    DISCARD = "discard"
    """New columns are left out; a value that does not fit becomes a reject."""


class Change(Struct, frozen=True):
    """One step of an evolution, as ``preview`` shows it and the warehouse carries it out."""

    kind: str
    """``create``, ``add``, ``widen``, ``missing`` (the file lacks it: null), ``discard`` or ``refuse``."""
    column: str
    type: PgType | None = None
    was: PgType | None = None
    label: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "create" | "add":
                return f"{self.kind} column {self.column} {self.type}"
            case "widen":
                return f"widen column {self.column} from {self.was} to {self.type}"
            case "missing":
                return f"column {self.column} is not in the file: null"
            case "discard":
                return f"leave out column {self.column}: the dataset's schema policy is discard"
            case _:
                return f"column {self.column} is new, and the dataset's schema policy is freeze"


class Evolution(Struct, frozen=True):
    """What a file does to its table."""

    changes: tuple[Change, ...]
    result: TableSchema
    """The table's schema afterwards."""
    load: tuple[str, ...] = field(default=())
    """The names of the file's columns that are loaded."""

    @property
    def refused(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.kind == "refuse")

    @property
    def ddl_needed(self) -> bool:
        return any(change.kind in ("create", "add", "widen") for change in self.changes)


def evolve(live: TableSchema | None, incoming: TableSchema, policy: SchemaPolicy) -> Evolution:
    """The changes that make ``live`` (None: no such table yet) hold the rows of ``incoming``."""
    creating = live is None or not live.columns
    columns = {column.name: column for column in live.columns} if live is not None else {}
    changes: list[Change] = []
    load: list[str] = []
    for column in incoming.columns:
        have = columns.get(column.name)
        if have is None:
            if not creating and policy is not SchemaPolicy.EVOLVE:
                kind = "refuse" if policy is SchemaPolicy.FREEZE else "discard"
                changes.append(Change(kind, column.name, column.type, label=column.label))
                continue
            added = ColumnSchema(column.name, column.type or PgType.TEXT, column.label)
            columns[column.name] = added
            changes.append(Change("create" if creating else "add", added.name, added.type, label=added.label))
        elif policy is SchemaPolicy.EVOLVE:
            wider = join(have.type, column.type)
            if wider != have.type:
                columns[column.name] = ColumnSchema(have.name, wider, have.label)
                changes.append(Change("widen", have.name, wider, was=have.type, label=have.label))
        load.append(column.name)
    present = set(incoming.names)
    changes += [Change("missing", name, column.type) for name, column in columns.items() if name not in present]
    return Evolution(tuple(changes), TableSchema(tuple(columns.values())), tuple(load))


def describe(changes: Iterable[Change]) -> list[str]:
    """The changes as sentences, those that do nothing to the table left out."""
    return [str(change) for change in changes if change.kind != "missing"]
