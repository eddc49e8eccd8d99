"""A dataset's settings: which table, how to read, what is promised, how to load. Pure data, parsed from ``lake.toml``.

Both planes use it: ``lakectl.config`` parses the file on the laptop, the container gets the same tables as JSON in its
environment. Nothing here opens a file or a connection.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from msgspec import Struct, field

from etl_container.errors import ConfigError
from etl_container.formats.options import ReadOptions
from etl_container.schema import PgType, SchemaPolicy, identifier, table_name

RAW_PREFIX = "raw/"
"""The landing zone: every key of an object starts with it."""


class LoadMode(enum.StrEnum):
    """What loading an object does to the rows that are there."""

    REPLACE_OBJECT = "replace_object"
    """An object's new version replaces the rows of its older ones (default)."""
    APPEND = "append"
    """Rows are only ever added, also by a new version of an object."""
    MERGE = "merge"
    """Rows with the same key are replaced, whichever object they came from (upsert)."""
    REPLACE_TABLE = "replace_table"
    """The object is the whole table."""


class Tolerance(Struct, frozen=True):
    """How many rejects a load may have: an absolute count or a share of the records."""

    count: int | None = None
    share: float | None = None
    """0.01 for ``1%``."""

    def allows(self, rejects: int, records: int) -> bool:
        if self.count is not None:
            return rejects <= self.count
        if self.share is not None:
            return rejects <= self.share * records
        return True

    def __str__(self) -> str:
        if self.count is not None:
            return str(self.count)
        return "any number" if self.share is None else f"{self.share * 100:g}%"


class ColumnRule(Struct, frozen=True):
    """What a contract says of one column."""

    type: PgType | None = None
    required: bool = True
    not_null: bool = False
    unique: bool = False
    minimum: Any = None
    maximum: Any = None
    pattern: str | None = None
    """A regular expression that the whole text must match."""
    allowed: tuple[Any, ...] | None = None
    """The values allowed; null is ruled by ``not_null``."""


class Contract(Struct, frozen=True):
    """What a dataset promises. Every rule that a record breaks makes it a reject; the table-wide ones fail the load."""

    columns: Mapping[str, ColumnRule] = field(default_factory=dict)
    """By column name (normalised)."""
    primary_key: tuple[str, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()
    """Sets of columns whose values together may not repeat in the table."""
    min_rows: int | None = None
    """Of one object."""
    max_rows: int | None = None
    fresh_column: str | None = None
    """A date or timestamp column whose newest value may not be older than ``fresh_within`` at the load."""
    fresh_within: float | None = None
    """Seconds."""
    tolerate: Tolerance = Tolerance()
    schema: str | None = None
    """A pandera schema of the user's own: ``file.py:NAME``, relative to the lake's directory."""

    @property
    def keys(self) -> tuple[tuple[str, ...], ...]:
        """Every set of columns that must be unique in the table, the primary key first."""
        single = tuple((name,) for name, rule in self.columns.items() if rule.unique)
        return tuple(dict.fromkeys(key for key in (self.primary_key, *self.unique, *single) if key))


class Dataset(Struct, frozen=True):
    """Everything the lake's owner decided about one dataset; the defaults need no decision at all."""

    name: str
    table: str
    mode: LoadMode = LoadMode.REPLACE_OBJECT
    key: tuple[str, ...] = ()
    """The columns that identify a row for ``merge``."""
    policy: SchemaPolicy = SchemaPolicy.EVOLVE
    read: ReadOptions = ReadOptions()
    contract: Contract = Contract()


def dataset_of_key(key: str) -> str:
    """The dataset of an object: the first folder under ``raw/``, or the file's stem when there is none.

    Raises:
        ConfigError: the key is not under ``raw/``.
    """
    if not key.startswith(RAW_PREFIX) or key == RAW_PREFIX:
        raise ConfigError(f"the key {key!r} is not in the landing zone", hint=f"keys start with {RAW_PREFIX}<dataset>/")
    parts = PurePosixPath(key[len(RAW_PREFIX) :]).parts
    return parts[0] if len(parts) > 1 else stem_of(parts[0])


def stem_of(filename: str) -> str:
    """The file's name without its extensions: ``flights.csv.gz`` → ``flights``."""
    stem = filename
    while (suffix := PurePosixPath(stem).suffix) and re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]{0,8}", suffix):
        stem = stem[: -len(suffix)]
    return stem or filename


_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|d|w)\s*")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}

_TYPE_WORDS: Mapping[str, PgType] = {
    **{str(kind): kind for kind in PgType},
    **{"bool": PgType.BOOLEAN, "int": PgType.BIGINT, "integer": PgType.BIGINT, "int8": PgType.BIGINT},
    **{"float": PgType.DOUBLE, "double": PgType.DOUBLE, "float8": PgType.DOUBLE, "decimal": PgType.NUMERIC},
    **{"timestamp": PgType.TIMESTAMP, "timestamptz": PgType.TIMESTAMPTZ, "time": PgType.TIME},
    **{"json": PgType.JSONB, "string": PgType.TEXT, "varchar": PgType.TEXT, "bytes": PgType.BYTEA},
}


class _Table:
    """One table of the settings, read key by key, so that an unknown key is an error that names its neighbours."""

    def __init__(self, where: str, values: object) -> None:
        if not isinstance(values, Mapping):
            raise ConfigError(f"[{where}] must be a table, not {values!r}")
        self.where = where
        self.values: dict[str, Any] = dict(values)
        self.known: list[str] = []

    def take(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        self.known.append(key)
        value = self.values.pop(key, default)
        wrong_bool = isinstance(value, bool) and kind in (int, (int, float))
        if value is not default and (wrong_bool or not isinstance(value, kind)):
            wanted = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            raise ConfigError(f"[{self.where}] {key} = {value!r}: expected {wanted}")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        """A column name or a list of them."""
        value = self.take(key, (str, list), [])
        listed = [value] if isinstance(value, str) else value
        if not all(isinstance(item, str) for item in listed):
            raise ConfigError(f"[{self.where}] {key} = {value!r}: expected column names")
        return tuple(identifier(item) for item in listed)

    def choice(self, key: str, kind: type[enum.StrEnum], default: Any) -> Any:
        value = self.take(key, str, str(default))
        try:
            return kind(value)
        except ValueError:
            raise ConfigError(f"[{self.where}] {key} = {value!r}: expected one of {', '.join(kind)}") from None

    def end(self) -> None:
        if self.values:
            raise ConfigError(
                f"[{self.where}] does not know {', '.join(sorted(self.values))}",
                hint=f"it knows {', '.join(self.known)}",
            )


def parse_dataset(name: str, values: object) -> Dataset:
    """One ``[dataset.NAME]`` table.

    Raises:
        ConfigError: an unknown key or a value of the wrong kind; the message names table, key and value.
    """
    table = _Table(f"dataset.{name}", values)
    mode: LoadMode = table.choice("mode", LoadMode, LoadMode.REPLACE_OBJECT)
    contract = parse_contract(name, table.take("contract", dict, {}))
    key = table.names("key") or contract.primary_key
    dataset = Dataset(
        name=name,
        table=table_name(table.take("table", str, "") or name),
        mode=mode,
        key=key,
        policy=table.choice("schema_policy", SchemaPolicy, SchemaPolicy.EVOLVE),
        read=parse_read(name, table.take("read", dict, {})),
        contract=contract,
    )
    table.end()
    if mode is LoadMode.MERGE and not key:
        raise ConfigError(
            f"[dataset.{name}] mode = 'merge' needs a key", hint=f'add key = ["column", …] to [dataset.{name}]'
        )
    return dataset


MAX_HEADER_ROWS = 100


def parse_read(name: str, values: object) -> ReadOptions:
    """One ``[dataset.NAME.read]`` table; raises ConfigError as :func:`parse_dataset`."""
    table = _Table(f"dataset.{name}.read", values)
    kinds: dict[str, Any] = {"str": str, "bool": bool, "int": int, "bool | int": (bool, int)}
    taken: dict[str, Any] = {}
    for option, annotation in ReadOptions.__annotations__.items():
        kind = kinds.get(annotation.removesuffix(" | None"))
        value = table.take(option, kind or list, None)
        if value is not None:
            taken[option] = tuple(str(item) for item in value) if kind is None else value
    table.end()
    if not 0 <= taken.get("header", 0) <= MAX_HEADER_ROWS:
        raise ConfigError(f"dataset.{name}.read.header is {taken['header']}", hint=f"at most {MAX_HEADER_ROWS} records")
    if taken.get("skip_lines", 0) < 0:
        raise ConfigError(
            f"dataset.{name}.read.skip_lines is {taken['skip_lines']}", hint="a number of lines from 0 on"
        )
    for key, choices in (("decimal", (",", ".")), ("date_order", ("dmy", "mdy"))):
        if taken.get(key) not in (None, *choices):
            raise ConfigError(f"dataset.{name}.read.{key} is {taken[key]!r}", hint=f'"{choices[0]}" or "{choices[1]}"')
    return ReadOptions(**taken)


def parse_contract(name: str, values: object) -> Contract:
    """One ``[dataset.NAME.contract]`` table; raises ConfigError as :func:`parse_dataset`."""
    table = _Table(f"dataset.{name}.contract", values)
    rules: dict[str, ColumnRule] = {}
    for label, rule in table.take("columns", dict, {}).items():
        rules[identifier(label)] = _parse_rule(f"dataset.{name}.contract.columns.{label}", rule)
    unique = table.take("unique", list, [])
    groups = tuple(tuple(identifier(str(c)) for c in ([g] if isinstance(g, str) else g)) for g in unique)
    fresh = table.take("freshness", dict, {})
    fresh_table = _Table(f"dataset.{name}.contract.freshness", fresh)
    contract = Contract(
        columns=rules,
        primary_key=table.names("primary_key"),
        unique=groups,
        min_rows=table.take("min_rows", int),
        max_rows=table.take("max_rows", int),
        fresh_column=identifier(fresh_table.take("column", str, "")) or None,
        fresh_within=_seconds(fresh_table, "within"),
        tolerate=_tolerance(table),
        schema=table.take("schema", str),
    )
    fresh_table.end()
    table.end()
    return contract


def _parse_rule(where: str, values: object) -> ColumnRule:
    table = _Table(where, {"type": values} if isinstance(values, str) else values)
    word = table.take("type", str)
    if word is not None and word.lower() not in _TYPE_WORDS:
        raise ConfigError(f"[{where}] type = {word!r}: no such type", hint=f"one of {', '.join(sorted(_TYPE_WORDS))}")
    pattern = table.take("pattern", str)
    if pattern is not None:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"[{where}] pattern = {pattern!r} is not a regular expression: {error}") from None
    allowed = table.take("allowed", list)
    rule = ColumnRule(
        type=None if word is None else _TYPE_WORDS[word.lower()],
        required=table.take("required", bool, True),
        not_null=table.take("not_null", bool, False),
        unique=table.take("unique", bool, False),
        minimum=table.take("min", object),
        maximum=table.take("max", object),
        pattern=pattern,
        allowed=None if allowed is None else tuple(allowed),
    )
    table.end()
    return rule


def _seconds(table: _Table, key: str) -> float | None:
    text = table.take(key, str)
    if text is None:
        return None
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ConfigError(f"[{table.where}] {key} = {text!r} is not a duration", hint="for instance 36h, 2d, 90m")
    return float(match[1]) * _SECONDS[match[2]]


def _tolerance(table: _Table) -> Tolerance:
    value = table.take("rejects", (int, str))
    if value is None:
        return Tolerance()
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", str(value))
    if match is None or (not match[2] and "." in match[1]):
        raise ConfigError(f"[{table.where}] rejects = {value!r}", hint='a count such as 50, or a share such as "1%"')
    return Tolerance(share=float(match[1]) / 100) if match[2] else Tolerance(count=int(match[1]))
