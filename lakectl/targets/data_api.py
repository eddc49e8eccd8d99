"""The ledger and the tables over the RDS Data API: the same named SQL as in the container, read from another window.

:class:`DataSession` speaks as much of :class:`etl_container.warehouse.Session` as the ledger's readers need (``run`` by
name), so that ``ledger.get_run`` and the explanations are one code for every stage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etl_container import sql as sql_files
from lakectl import sqltext
from lakectl.aws.rds_data import Column, DataApi, SqlError, from_json_row, literal, rows_as_json
from lakectl.errors import NotDeployedError, UsageError
from lakectl.targets.base import QueryColumn, Rows

_PLACE = re.compile(r"%\((\w+)\)s(?:::[a-z]+(?:\[\])?)?")


def named(name: str, values: Mapping[str, Any]) -> str:
    """A query of ``sql/queries.sql`` with its values in place, for an interface without psycopg2's parameters."""
    return _PLACE.sub(lambda match: literal(values[match[1]]), sql_files.query(name))


class DataSession:
    """Named queries of the ledger, as the read-only user."""

    def __init__(self, api: DataApi) -> None:
        self.api = api

    def run(self, name: str, **values: Any) -> list[tuple[Any, ...]]:
        """A named query's rows, with Python's own types.

        Raises:
            NotDeployedError: the ledger is not there.
        """
        return list(self.stream(name, **values))

    def stream(self, name: str, **values: Any) -> Iterator[tuple[Any, ...]]:
        """The same, page by page where there are many."""
        try:
            _columns, rows = self.api.select(rows_as_json(named(name, values)))
            for (text,) in rows:
                yield from_json_row(text)
        except SqlError as error:
            if error.state in ("42P01", "3F000") and "lake." in str(error):
                raise NotDeployedError("the ledger is not there yet", hint="lakectl deploy") from error
            raise


class DataResult:
    """The result of one statement; see :class:`lakectl.targets.base.QueryResult`."""

    def __init__(self, columns: Sequence[Column], rows: Iterator[tuple[Any, ...]], status: str = "") -> None:
        self.columns = tuple(QueryColumn(column.name, column.type) for column in columns)
        self.status = status
        self._rows = rows

    def csv_copier(self, *, header: bool, limit: int | None = None) -> None:
        """There is no server here that writes CSV."""

    def rows(self) -> Rows:
        yield from self._rows

    def __enter__(self) -> DataResult:
        return self

    def __exit__(self, *_exc: object) -> None:
        return None


def read(api: DataApi, sql: str, parameters: Mapping[str, str], *, limit: int | None = None) -> DataResult:
    """One read-only statement.

    Raises:
        UsageError: PostgreSQL refuses it; the message marks the place.
    """
    bound = bind(sql, parameters)
    asked = bound
    if limit is not None and re.match(r"\s*(select|with|values|table)\b", bound, re.IGNORECASE):
        asked = f"select * from (\n{bound}\n) q limit {int(limit)}"  # noqa: S608  the user's own statement
    try:
        columns, rows = api.select(asked)
    except SqlError as error:
        raise marked(error, bound, len(asked) - len(bound) and len("select * from (\n")) from error
    return DataResult(columns, rows)


def write(api: DataApi, sql: str, parameters: Mapping[str, str], *, role: str) -> DataResult:
    """One statement that may change data, in a transaction of its own, as the role that owns the tables."""
    bound = bind(sql, parameters)
    with api.transaction() as number:
        api.execute(f"set local role {role}", transaction=number)
        try:
            answer = api.execute(bound, transaction=number)
        except SqlError as error:
            raise marked(error, bound) from error
    verb = bound.split(None, 1)[0].upper() if bound.split() else ""
    return DataResult(answer.columns, iter(answer.rows), f"{verb} {answer.updated}" if verb.isalpha() else "")


def bind(sql: str, parameters: Mapping[str, str]) -> str:
    """A statement with its ``:name`` as quoted literals: untyped, as with psycopg2, so that ``year = :y`` works."""
    if not parameters:
        return sqltext.bind(sql, ())
    doubled = sqltext.bind(sql, parameters.keys(), place=lambda name: literal(parameters[name]).replace("%", "%%"))
    return doubled.replace("%%", "%")


def marked(error: SqlError, sql: str, shift: int = 0) -> UsageError:
    """The complaint with the line of the SQL and a caret under the place."""
    said = [error.message]
    if error.position is not None:
        said.append(sqltext.marked(sql, error.position - 1 - shift))
    hint = error.hint or sqltext.ADVICE.get(error.state or "")
    return UsageError("\n".join(filter(None, said)), hint=hint)
