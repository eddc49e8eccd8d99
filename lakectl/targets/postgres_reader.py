"""Reading the warehouse for ``query``: read-only unless told, streamed, errors with the place in the SQL marked."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg2
from psycopg2 import sql

from etl_container.errors import DataError, LakectlError, UsageError
from etl_container.warehouse import connect, translate
from lakectl import sqltext
from lakectl.targets.base import QueryColumn, Rows, Writable

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

T = TypeVar("T")


PAGE = 5000
"""Rows fetched from the server at a time."""

_STREAMS = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*(select|with|values|table)\b", re.IGNORECASE | re.DOTALL)
"""What a server-side cursor may be declared for; everything else answers at once."""


class PostgresResult:
    """The result of one statement; see :class:`lakectl.targets.base.QueryResult`."""

    def __init__(
        self,
        connection: Connection,
        cursor: Cursor,
        answer: Sequence[Sequence[Any]],
        sql: str,
        bound: bytes | None,
        page: int,
    ) -> None:
        self._connection = connection
        self._cursor = cursor
        self._answer = answer
        self._sql = sql
        self._bound = bound
        self._rows = page
        self.columns = tuple(
            QueryColumn(column.name, _TYPES.get(column.type_code, "text")) for column in cursor.description or ()
        )
        self.status = cursor.statusmessage or ""

    def rows(self) -> Rows:
        """All rows; the first page is here when this returns, so that most errors come before any output."""
        return iter(self._answer) if self._cursor.name is None else self._pages(self._page())

    def _pages(self, page: Sequence[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        while page:
            yield from page
            page = self._page()

    def _page(self) -> Sequence[Sequence[Any]]:
        with told(self._sql):
            return _interruptibly(self._connection, lambda: self._cursor.fetchmany(self._rows))

    def csv_copier(self, *, header: bool, limit: int | None = None) -> Callable[[Writable], int] | None:
        """COPY, unless a type's text there is not what a writer of rows makes of it, such as an interval or JSON."""
        if self._bound is None or any(column.type not in _COPIED for column in self.columns):
            return None
        names = [sql.Identifier(f"c{number}") for number in range(len(self.columns))]
        values = [
            sql.SQL(f"{_COPIED[column.type]} as {{1}}").format(name, sql.Identifier(column.name))
            for name, column in zip(names, self.columns, strict=True)
        ]
        statement = sql.SQL(
            "copy (select {} from (\n{}\n) as q ({}) limit {}) to stdout (format csv, header {})"
        ).format(
            sql.SQL(", ").join(values),
            sql.SQL(self._bound.decode()),
            sql.SQL(", ").join(names),
            sql.Literal(limit),
            sql.Literal(header),
        )

        def copy(stream: Writable) -> int:
            with self._connection.cursor() as cursor:
                with told(self._sql):
                    text = statement.as_string(cursor)
                    _interruptibly(self._connection, lambda: cursor.copy_expert(text, stream))
                return cursor.rowcount

        return copy

    def __enter__(self) -> PostgresResult:
        return self

    def __exit__(self, *exc: object) -> None:
        """Commit what a statement wrote; an error or an interrupt rolls it back."""
        try:
            if exc[0] is None and not self._connection.closed:
                with told(self._sql):
                    self._connection.commit()
        finally:
            self._connection.close()


def run(dsn: str, sql: str, parameters: Mapping[str, str], *, write: bool, limit: int | None = None) -> PostgresResult:
    """Run one statement on a connection of its own, closed with the result.

    Raises:
        UsageError: PostgreSQL refuses the statement; the message marks the place.
        WarehouseUnavailableError: no connection.
    """
    bound = sqltext.bind(sql, parameters.keys())
    connection = connect(dsn, application="lakectl query")
    try:
        with told(bound):
            connection.set_session(readonly=not write, autocommit=False)
            streamed = _STREAMS.match(sql) is not None and not write
            cursor = connection.cursor(name="query") if streamed else connection.cursor()
            _interruptibly(connection, lambda: cursor.execute(bound, dict(parameters) or None))
            answer: list[tuple[Any, ...]] = []
            statement = None
            if streamed:
                cursor.fetchmany(0)  # what the columns are; no row is made yet
                with connection.cursor() as other:
                    statement = other.mogrify(bound, dict(parameters) or None)
            elif cursor.description is not None:
                answer = cursor.fetchall()
        return PostgresResult(connection, cursor, answer, bound, statement, min(PAGE, limit or PAGE))
    except BaseException:
        connection.close()
        raise


def _interruptibly(connection: Connection, act: Callable[[], T]) -> T:
    """A blocking call of the driver that Ctrl-C ends at once, on the server, too.

    The driver waits in C, where Python's signal handlers do not run; in a thread of its own, this one can be woken.
    """
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(act)
        try:
            return waiting.result()
        except KeyboardInterrupt:
            connection.cancel()
            raise


@contextlib.contextmanager
def told(sql: str) -> Iterator[None]:
    """A statement's error as the user's, with the line of the SQL and a caret under the place."""
    try:
        yield
    except psycopg2.Error as error:
        ours = translate(error)
        if error.pgcode == "25006":
            raise UsageError(
                f"the query would write: {error.diag.message_primary}", hint="add --write if that is what you want"
            ) from error
        if ours is not None and error.pgcode != "42501" and not isinstance(ours, DataError):
            raise ours from error
        if error.pgcode is None:
            raise
        raise _wrong(error, sql) from error


def _wrong(error: psycopg2.Error, sql: str) -> LakectlError:
    said = [error.diag.message_primary or str(error).strip()]
    if error.diag.message_detail:
        said.append(error.diag.message_detail)
    position = error.diag.statement_position
    if position is not None:
        offset = int(position) - 1
        prefix = re.match(r"DECLARE .*? FOR ", error.diag.internal_query or "", re.DOTALL)
        offset -= len(prefix[0]) if prefix else _declared(error)
        said.append(sqltext.marked(sql, offset))
    hint = error.diag.message_hint or sqltext.ADVICE.get(error.pgcode or "")
    return UsageError("\n".join(filter(None, said)), hint=hint)


def _declared(error: psycopg2.Error) -> int:
    """The length of what the driver puts before the statement to make a cursor of it."""
    name = getattr(error.cursor, "name", None)
    return 0 if name is None else len(f'DECLARE "{name}" CURSOR WITHOUT HOLD FOR ')


_COPIED: Mapping[str, str] = {
    **dict.fromkeys(("smallint", "integer", "bigint", "oid", "numeric", "real", "double precision"), "{0}"),
    **dict.fromkeys(("text", "character varying", "character", "uuid", "bytea", "date"), "{0}"),
    **dict.fromkeys(("timestamp without time zone", "time without time zone"), "{0}"),
    "boolean": "{0}::text",
    "timestamp with time zone": "replace({0}::text, '+00', '+00:00')",
}
"""What the server writes of a column's values, by type; the connection's clock is in UTC."""

_TYPES: Mapping[int, str] = {
    16: "boolean",
    17: "bytea",
    20: "bigint",
    21: "smallint",
    23: "integer",
    25: "text",
    26: "oid",
    114: "json",
    700: "real",
    701: "double precision",
    1042: "character",
    1043: "character varying",
    1082: "date",
    1083: "time without time zone",
    1114: "timestamp without time zone",
    1184: "timestamp with time zone",
    1186: "interval",
    1700: "numeric",
    2950: "uuid",
    3802: "jsonb",
}
"""Names of PostgreSQL's built-in types by OID, https://github.com/postgres/postgres/blob/REL_17_STABLE/src/include/catalog/pg_type.dat."""
