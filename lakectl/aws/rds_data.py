"""SQL over HTTPS: the RDS Data API, with its limits turned into behaviour.

* A paused cluster wakes on the first statement; it is asked again until it does (about 15 s, longer after a day).
* A result of more than 1 MiB is refused: it is fetched again page by page through a cursor, and a page that is still
  too large is halved. A single row of more than 64 KiB cannot be had at all: the result ends there, and says so.
* 45 seconds for a statement.
* Values are sent as literals that are quoted here: that is what psycopg2 does, so a parameter means the same on every
  stage (the Data API would send ``'5'`` as text, which PostgreSQL does not compare with a number).

Source of the limits: https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/data-api.limitations.html
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from datetime import time as clock_time
from decimal import Decimal
from typing import Any

from lakectl.aws.refusals import RefusedError, says_too_large, says_waking, sql_refusal
from lakectl.aws.session import Aws
from lakectl.errors import (
    DeadlineError,
    InfrastructureError,
    LakectlError,
    PermissionDeniedError,
    UsageError,
    WarehouseUnavailableError,
)

WAKES_WITHIN = 120.0
"""Seconds that a paused cluster is given."""
_PAGE = 2_000
_PAGE_BYTES = 400_000
"""What a page aims at: less than half of what is allowed, since only text lengths are known here."""
_CURSOR = "lakectl"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an answer; ``type`` is PostgreSQL's name for it, where the Data API tells."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What one statement gave."""

    columns: tuple[Column, ...]
    rows: list[tuple[Any, ...]]
    updated: int = 0


class TooLargeError(InfrastructureError):
    """The result does not fit into one answer of the Data API."""


class SqlError(UsageError):
    """PostgreSQL refuses the statement.

    Attributes:
        state: SQLSTATE, or None.
        position: where in the statement, from 1, or None.
    """

    def __init__(self, message: str, *, state: str | None, position: int | None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.state = state
        self.position = position


class DataApi:
    """One database, reached with one secret.

    Args:
        aws: the account.
        cluster: the Aurora cluster's ARN.
        database: its name.
        secret: the ARN of the secret with user and password.
        sleep: waits between two tries.
        clock: monotonic seconds.
        on_waking: called once when the database has to wake up.
    """

    def __init__(
        self,
        aws: Aws,
        *,
        cluster: str,
        database: str,
        secret: str,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        on_waking: Callable[[], None] = lambda: None,
    ) -> None:
        self._aws = aws
        self._where = {"resourceArn": cluster, "secretArn": secret}
        self._database = database
        self._sleep = sleep
        self._clock = clock
        self.on_waking = on_waking
        self._told = False
        self._answered = False

    def execute(self, sql: str, *, transaction: str | None = None) -> Answer:
        """One statement.

        Raises:
            SqlError: PostgreSQL refuses it.
            TooLargeError: the result is larger than 1 MiB.
            DeadlineError: it took more than 45 seconds.
            WarehouseUnavailableError: the database did not wake up in two minutes.
        """
        answer = self._awake(
            "execute_statement",
            sql=sql,
            database=self._database,
            includeResultMetadata=True,
            resultSetOptions={"decimalReturnType": "STRING", "longReturnType": "LONG"},
            transactionId=transaction,
        )
        columns = tuple(
            Column(item.get("label") or item.get("name") or "", _type_name(item))
            for item in answer.get("columnMetadata") or ()
        )
        rows = [
            tuple(_value(field, column.type) for field, column in zip(record, columns, strict=True))
            for record in answer.get("records") or ()
        ]
        return Answer(columns, rows, int(answer.get("numberOfRecordsUpdated") or 0))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[str]:
        """A transaction's id; committed at the end, rolled back by an error."""
        number = str(self._awake("begin_transaction", database=self._database)["transactionId"])
        try:
            yield number
        except BaseException:
            with contextlib.suppress(LakectlError):
                self._call("rollback_transaction", transactionId=number)
            raise
        self._call("commit_transaction", transactionId=number)

    def select(self, sql: str) -> tuple[tuple[Column, ...], Iterator[tuple[Any, ...]]]:
        """A query's columns and rows, however many there are.

        Raises:
            SqlError: PostgreSQL refuses it.
            TooLargeError: (from the iterator) a row is larger than the Data API can hand over.
        """
        try:
            answer = self.execute(sql)
        except TooLargeError:
            pages = self._pages(sql)
            first = next(pages, Answer((), []))
            return first.columns, _chained(first, pages)
        return answer.columns, iter(answer.rows)

    def _pages(self, sql: str) -> Iterator[Answer]:
        with self.transaction() as number:
            self.execute("set transaction read only", transaction=number)
            self.execute(f"declare {_CURSOR} scroll cursor for {sql}", transaction=number)
            done, size = 0, _PAGE
            while True:
                try:
                    page = self.execute(f"fetch forward {size} from {_CURSOR}", transaction=number)
                except TooLargeError:
                    if size == 1:
                        raise TooLargeError(
                            f"the result is truncated after {done:,} rows: row {done + 1:,} is larger than the Data API"
                            " hands over (64 KiB)",
                            hint="select less of its columns, left(column, 1000), or connect directly: --via DSN",
                        ) from None
                    size = max(size // 2, 1)
                    self.execute(f"move absolute {done} in {_CURSOR}", transaction=number)
                    continue
                yield page
                done += len(page.rows)
                if len(page.rows) < size:
                    return
                weight = sum(len(str(value)) for row in page.rows for value in row)
                if weight * 2 < _PAGE_BYTES:
                    size = min(size * 2, 20_000)

    def _awake(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """A call that waits for a paused cluster."""
        deadline = self._clock() + WAKES_WITHIN
        pause = 1.0
        timeouts = 0
        while True:
            try:
                answer = self._call(operation, **arguments)
            except _WakingError as waking:
                if self._clock() > deadline:
                    raise WarehouseUnavailableError(
                        f"the database did not wake up within {WAKES_WITHIN:.0f} s: {waking}",
                        hint="lakectl status; then run the same command again",
                    ) from waking
            except DeadlineError:
                # Waking eats into the 45 s of the first statement; a second time it is the statement's own fault.
                timeouts += 1
                if timeouts > 1 or self._answered:
                    raise
            else:
                self._answered = True
                return answer
            if not self._told:
                self._told = True
                self.on_waking()
            self._sleep(pause)
            pause = min(pause * 1.5, 5.0)

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        given = {**self._where, **arguments}
        try:
            return self._aws.call("rds-data", operation, **given)
        except RefusedError as refusal:
            raise self._translated(refusal) from refusal

    @staticmethod
    def _translated(refusal: RefusedError) -> LakectlError:  # noqa: PLR0911  a table of cases
        if says_waking(refusal):
            return _WakingError(refusal.said)
        if says_too_large(refusal):
            return TooLargeError("the result is larger than the Data API hands over at once (1 MiB)")
        if refusal.code == "StatementTimeoutException":
            return DeadlineError(
                "the statement took longer than the 45 s of the Data API", hint="connect directly: --via DSN"
            )
        said = sql_refusal(refusal)
        if said is None:
            return refusal.saying(f"the database refuses: {refusal.said}", hint="lakectl doctor")
        if said.state in ("28000", "28P01"):
            return PermissionDeniedError(
                f"the warehouse refused: {said.message}", hint="lakectl deploy mends the users"
            )
        if said.state == "25006":
            return SqlError(
                f"the query would write: {said.message}",
                state=said.state,
                position=None,
                hint="add --write if that is what you want",
            )
        return SqlError(said.message, state=said.state, position=said.position)


class _WakingError(WarehouseUnavailableError):
    """The cluster is paused and begins to resume."""


def _chained(first: Answer, pages: Iterator[Answer]) -> Iterator[tuple[Any, ...]]:
    yield from first.rows
    for page in pages:
        yield from page.rows


def literal(value: object) -> str:  # noqa: PLR0911  one line a type
    """A value as SQL text, the way psycopg2 writes it.

    Raises:
        UsageError: PostgreSQL has no text with a NUL in it.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() | Decimal():
            return f"{value}::numeric" if isinstance(value, Decimal) else repr(value)
        case datetime():
            return f"'{value.isoformat()}'::timestamptz"
        case list() | tuple():
            if all(isinstance(item, int) for item in value):
                return "'{" + ",".join(map(str, value)) + "}'::bigint[]"
            return "array[" + ",".join(literal(item) for item in value) + "]::text[]"
        case str():
            if "\0" in value:
                raise UsageError("a value has a NUL character in it, which PostgreSQL cannot hold")
            return "'" + value.replace("'", "''") + "'"
        case _:
            raise TypeError(f"no literal for {type(value).__name__}")


def identifier(name: str) -> str:
    """A quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


_ALIASES = {
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "serial": "integer",
    "bigserial": "bigint",
    "float4": "real",
    "float8": "double precision",
    "bool": "boolean",
    "varchar": "text",
    "bpchar": "character",
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "timetz": "time with time zone",
    "time": "time without time zone",
}


def _type_name(item: dict[str, Any]) -> str:
    name = str(item.get("typeName") or "text").lower()
    return _ALIASES.get(name, name)


def _value(field: dict[str, Any], kind: str) -> Any:
    """One field of a record, as Python's own type."""
    if field.get("isNull"):
        return None
    if "stringValue" in field:
        return _from_text(field["stringValue"], kind)
    if "arrayValue" in field:
        return _array(field["arrayValue"])
    for key in ("longValue", "doubleValue", "booleanValue", "blobValue"):
        if key in field:
            return field[key]
    return None


def _array(value: dict[str, Any]) -> list[Any]:
    for key in ("stringValues", "longValues", "doubleValues", "booleanValues"):
        if key in value:
            return list(value[key])
    return [_array(item) for item in value.get("arrayValues", ())]


def _from_text(text: str, kind: str) -> Any:  # noqa: PLR0911  one line a type
    """A text of the Data API by its column's type; times come in UTC, without an offset."""
    with contextlib.suppress(ValueError, ArithmeticError):
        match kind:
            case "numeric":
                return Decimal(text)
            case "timestamp with time zone":
                moment = datetime.fromisoformat(text)
                return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            case "timestamp without time zone":
                return datetime.fromisoformat(text)
            case "date":
                return date.fromisoformat(text)
            case "time without time zone":
                return clock_time.fromisoformat(text)
            case "json" | "jsonb":
                return json.loads(text)
            case _:
                return text
    return text


def rows_as_json(sql: str) -> str:
    """A query whose rows come as one JSON text each: types, arrays and nulls survive any driver."""
    return f"select row_to_json(q)::text from ({sql}) q"  # noqa: S608  a statement around a statement of ours


def from_json_row(text: str, moments: Sequence[str] = ("started_at", "landed_at", "updated")) -> tuple[Any, ...]:
    """A row of :func:`rows_as_json`; columns named in ``moments`` become aware datetimes. Equal names stay apart."""
    pairs: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=_Pairs)
    return tuple(
        _moment(value) if name in moments and isinstance(value, str) else _plain(value) for name, value in pairs
    )


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its keys in order, doubles included."""


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {key: _plain(item) for key, item in value}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
