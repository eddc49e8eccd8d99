"""The warehouse: connections, transactions, tables, and rows on their way in.

This room knows PostgreSQL and its driver; it knows neither files nor the ledger's meaning. Foreign exceptions are
translated here, once (:func:`translated`). Rows travel as binary COPY: Arrow batches are encoded by ``pgpq`` in the
caller's thread while a second thread feeds the server, so client and server work at the same time.
"""

from __future__ import annotations

import contextlib
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.extensions
from psycopg2 import errorcodes, sql

from etl_container import sql as sql_files
from etl_container.errors import (
    BusyError,
    DataError,
    DeadlineError,
    InfrastructureError,
    LakectlError,
    PermissionDeniedError,
    WarehouseUnavailableError,
)
from etl_container.schema import RUN_COLUMN, WORDS_MARK, Change, ColumnSchema, Evolution, PgType, TableSchema

if TYPE_CHECKING:
    import pyarrow as pa
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

SCHEMA = "public"
"""Where the tables of the datasets are."""

COPY_CHUNK = 1 << 20
"""Encoded bytes handed to the server at a time; larger batches are cut. Bounds memory together with the queue."""

_QUEUE_CHUNKS = 4

_REFUSED = re.compile(r"FATAL:.*(authentication failed|no pg_hba\.conf entry|does not exist|permission denied)")
_REFUSED_ROWS = frozenset(
    {
        errorcodes.CHECK_VIOLATION,
        errorcodes.EXCLUSION_VIOLATION,
        errorcodes.FOREIGN_KEY_VIOLATION,
        errorcodes.NOT_NULL_VIOLATION,
        errorcodes.RAISE_EXCEPTION,
    }
)
"""What a constraint or trigger that the owner has put on a table says of a row."""
_WAKE_PAUSE = 2.0
_HBA_PATIENCE = 30.0
"""Seconds; see :func:`awaken`."""

_LIVE_TYPES: Mapping[str, PgType] = {
    **{str(kind): kind for kind in PgType},
    "smallint": PgType.BIGINT,
    "integer": PgType.BIGINT,
    "real": PgType.DOUBLE,
    "json": PgType.JSONB,
}
"""What a column of a table that someone else made is widened to before rows go in."""


def connect(dsn: str, *, application: str = "lakectl") -> Connection:
    """A connection in autocommit mode, its clock in UTC.

    Raises:
        WarehouseUnavailableError: no server answers there.
        PermissionDeniedError: it does, and refuses the user.
    """
    with translated():
        connection = psycopg2.connect(
            dsn, connect_timeout=10, application_name=application, options="-c timezone=UTC -c client_encoding=UTF8"
        )
    connection.autocommit = True
    return connection


def engine(dsn: str) -> Any:
    """An SQLAlchemy engine on the same warehouse, for notebooks and ``pandas.read_sql``."""
    import sqlalchemy

    return sqlalchemy.create_engine("postgresql+psycopg2://", creator=lambda: psycopg2.connect(dsn))


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Let driver errors out as ours; what has no translation is a bug and stays as it is."""
    try:
        yield
    except psycopg2.Error as error:
        ours = translate(error)
        if ours is None:
            raise
        raise ours from error


def translate(error: psycopg2.Error) -> LakectlError | None:  # noqa: PLR0911  a table of cases
    """The error of ours that a driver's error means, by its SQLSTATE.

    Source: https://www.postgresql.org/docs/17/errcodes-appendix.html
    """
    code = error.pgcode or ""
    text = (error.diag.message_primary or str(error)).strip()
    if code in ("28000", "28P01", "42501"):
        return PermissionDeniedError(f"the warehouse refused: {text}")
    if code in (errorcodes.DEADLOCK_DETECTED, errorcodes.SERIALIZATION_FAILURE, errorcodes.LOCK_NOT_AVAILABLE):
        return BusyError(f"another load is in the way: {text}", hint="run the same command again")
    if code == errorcodes.QUERY_CANCELED:
        return DeadlineError(f"the warehouse gave up: {text}")
    if code in (errorcodes.DISK_FULL, errorcodes.OUT_OF_MEMORY, errorcodes.TOO_MANY_CONNECTIONS):
        return InfrastructureError(f"the warehouse is out of resources: {text}")
    if code in (errorcodes.TOO_MANY_COLUMNS, errorcodes.PROGRAM_LIMIT_EXCEEDED):
        return DataError(
            f"the table cannot hold this: {text}",
            hint="a row has at most 1,600 columns and 8 kB of numbers: leave some out in a transform",
        )
    if code in _REFUSED_ROWS:
        return DataError(
            f"the table refuses a row: {text}{f' ({error.diag.message_detail})' if error.diag.message_detail else ''}",
            hint="mend the file, or change the table's constraint or trigger",
        )
    lost = isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError))
    if lost and not code and _REFUSED.search(text):  # a refused login has no SQLSTATE in the driver
        return PermissionDeniedError(f"the warehouse refused: {text}")
    if code.startswith(("08", "57P")) or (lost and not code):
        return WarehouseUnavailableError(f"the warehouse cannot be reached: {text}", hint="lakectl doctor")
    return None


def awaken(
    dsn: Callable[[], str],
    *,
    patience: float = 120.0,
    on_wait: Callable[[str], None] = lambda _text: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Session:
    """A session on a warehouse that may be asleep: Aurora resumes from zero capacity in 15 s, after a day in 30 s.

    Args:
        dsn: makes a connection string; called for every attempt, since a token grows old.
        patience: seconds to wait in all.
        on_wait: is told once that there is something to wait for.

    Raises:
        WarehouseUnavailableError: it did not wake in time.
        PermissionDeniedError: it refuses the user. A waking cluster may answer "no pg_hba.conf entry" for a moment.
    """
    began, waited = clock(), False
    while True:
        try:
            return Session(dsn)
        except (WarehouseUnavailableError, PermissionDeniedError) as error:
            passing = isinstance(error, WarehouseUnavailableError) or "no pg_hba.conf entry" in error.message
            allowed = patience if isinstance(error, WarehouseUnavailableError) else min(patience, _HBA_PATIENCE)
            if not passing or clock() - began + _WAKE_PAUSE > allowed:
                raise
        if not waited:
            on_wait("waking the database")
            waited = True
        sleep(_WAKE_PAUSE)


class Session:
    """One connection with the ledger in place, and what a load does on it.

    A session serves one thread. Outside of :meth:`transaction` every statement commits by itself.
    """

    def __init__(self, dsn: str | Callable[[], str]) -> None:
        self._dsn: Callable[[], str] = dsn if callable(dsn) else lambda: dsn
        self.connection = connect(self._dsn())
        with translated():
            self._migrate()

    def reconnect(self) -> None:
        """A new connection in place of one that is gone; raises WarehouseUnavailableError."""
        self.connection.close()
        self.connection = connect(self._dsn())

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back by the server."""
        self.connection.close()

    def cancel(self) -> None:
        """Ask the server to stop what this connection is doing; may be called from another thread."""
        with contextlib.suppress(psycopg2.Error):
            self.connection.cancel()

    @property
    def broken(self) -> bool:
        """Whether the connection is gone."""
        return bool(self.connection.closed)

    def run(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a named query of ``sql/queries.sql``; its rows, or none."""
        return self.execute(sql_files.query(name), parameters)

    def execute(
        self, statement: str | sql.Composable, parameters: Mapping[str, Any] | Sequence[Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """Run one statement; its rows, or none."""
        with translated(), self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description is not None else []

    def stream(self, name: str, **parameters: Any) -> Iterator[tuple[Any, ...]]:
        """The rows of a named query through a server-side cursor, a page at a time."""
        with translated(), self.connection.cursor(name="stream", withhold=True) as cursor:
            cursor.itersize = 1000
            cursor.execute(sql_files.query(name), parameters)
            yield from cursor

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        self.execute("begin")
        try:
            yield
            self.execute("commit")
        except BaseException:
            self._quietly("rollback")
            raise

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """All or nothing, within a transaction; locks taken inside are let go with it."""
        self.execute("savepoint load")
        try:
            yield
            self.execute("release savepoint load")
        except BaseException:
            self._quietly("rollback to savepoint load")
            raise

    def _quietly(self, statement: str) -> None:
        """Undo what can be undone on a connection that may be gone: the server then has undone it already."""
        with contextlib.suppress(psycopg2.Error), self.connection.cursor() as cursor:
            cursor.execute(statement)

    def _migrate(self) -> None:
        """Bring the ledger's schema to the newest migration; two processes may try at once."""
        newest = max(number for number, _ in sql_files.migrations())
        if self._migration() == newest:
            return
        with self.transaction():
            self.execute("select pg_advisory_xact_lock(hashtextextended('lake.migrations', 0))")
            self.execute(sql_files.text("schema.sql"))
            have = self._migration()
            if have > newest:
                raise InfrastructureError(
                    f"the warehouse's ledger is of a newer lakectl (migration {have}, this one knows {newest})",
                    hint="pip install --upgrade lakectl",
                )
            for number, statements in sql_files.migrations():
                if number > have:
                    self.execute(statements)
                    self.execute("insert into lake.migrations (number) values (%s)", (number,))

    def _migration(self) -> int:
        if not self.run("ledger_exists")[0][0]:
            return -1
        return int(self.run("newest_migration")[0][0])

    # -- tables ------------------------------------------------------------------------------------------

    def table_schema(self, table: str) -> TableSchema | None:
        """The data columns of a live table; None when there is no such table.

        A column in which no load ever saw a value has type None: it may still become anything.

        Raises:
            DataError: a column has a type that loads cannot write.
        """
        found = self.run("table_columns", table=table, lineage=RUN_COLUMN)
        if not found:
            return None
        columns = []
        for name, live, label, only_nulls in found:
            kind = _LIVE_TYPES.get(live, PgType.TEXT if live.startswith(("character", "numeric(")) else None)
            if live.startswith("numeric("):
                kind = PgType.NUMERIC
            if kind is None:
                raise DataError(
                    f"column {name} of table {table} is of type {live}, which loads cannot write",
                    hint="load into a table of its own: set table = … in [dataset.…] of lake.toml",
                )
            columns.append(ColumnSchema(name, None if only_nulls else kind, label))
        return TableSchema(tuple(columns))

    def shared_schema(self, table: str) -> TableSchema | None:
        """As :meth:`table_schema`, and until the transaction's end no other load changes it."""
        self.run("share_table", table=table)
        return self.table_schema(table)

    def apply(self, table: str, evolution: Evolution) -> None:
        """Carry an evolution out: create the table (see :meth:`add_lineage`), add columns, widen types."""
        creates = [change for change in evolution.changes if change.kind == "create"]
        target = sql.Identifier(SCHEMA, table)
        if creates:
            columns = sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.Identifier(change.column), sql.SQL(str(change.type))) for change in creates
            )
            self.execute(sql.SQL("create table {} ({})").format(target, columns))
        for change in evolution.changes:
            self._alter(target, change)
        comments = [
            sql.SQL("comment on column {}.{} is {}").format(
                target, sql.Identifier(change.column), sql.Literal(change.label)
            )
            for change in evolution.changes
            if change.kind in ("create", "add") and change.label
        ]
        if comments:
            self.execute(sql.SQL("; ").join(comments))

    def _alter(self, target: sql.Identifier, change: Change) -> None:
        name, kind = sql.Identifier(change.column), sql.SQL(str(change.type))
        if change.kind == "add":
            self.execute(sql.SQL("alter table {} add column {} {}").format(target, name, kind))
        elif change.kind == "widen":
            value = sql.SQL("null::{}").format(kind) if change.was is None else sql.SQL("{}::{}").format(name, kind)
            self.execute(sql.SQL("alter table {} alter column {} type {} using {}").format(target, name, kind, value))

    def adopt(self, table: str, names: Sequence[str]) -> None:
        """Bring a table that someone else made to the column types that loads write, and give it the lineage column."""
        target = sql.Identifier(SCHEMA, table)
        self.execute(
            sql.SQL("alter table {} add column if not exists {} bigint not null default 0").format(
                target, sql.Identifier(RUN_COLUMN)
            )
        )
        for name, live, _label, _only_nulls in self.run("table_columns", table=table, lineage=RUN_COLUMN):
            wanted = _LIVE_TYPES.get(live, PgType.NUMERIC if live.startswith("numeric(") else PgType.TEXT)
            if name in names and live != str(wanted):
                self._alter(target, Change("widen", name, wanted, was=wanted))

    def add_lineage(self, table: str, run: int) -> None:
        """Give a new table its lineage column: ``run`` wrote every row that is there.

        PostgreSQL keeps the value once, beside the column, for all rows (its manual, ALTER TABLE, Notes): it costs
        nothing, while the same value in every row of a COPY costs what any column does.
        """
        target, lineage = sql.Identifier(SCHEMA, table), sql.Identifier(RUN_COLUMN)
        self.execute(
            sql.SQL("alter table {} add column {} bigint not null default {}").format(target, lineage, sql.Literal(run))
        )
        self.execute(sql.SQL("alter table {} alter column {} drop default").format(target, lineage))

    def lineage_indexed(self, table: str) -> bool:
        """Whether the rows of a run are found without reading the whole table."""
        return bool(self.run("lineage_indexed", table=table, lineage=RUN_COLUMN)[0][0])

    def ensure_lineage_index(self, table: str) -> None:
        """The index by which the rows of a run are found, unless it is there; under the table's exclusive lock."""
        if not self.lineage_indexed(table):
            self.execute(
                sql.SQL("create index on {} using brin ({}) with (autosummarize = on)").format(
                    sql.Identifier(SCHEMA, table), sql.Identifier(RUN_COLUMN)
                )
            )

    def delete_runs(self, table: str, runs: Sequence[int]) -> int:
        """Take the rows of some runs away; how many they were."""
        with translated(), self.connection.cursor() as cursor:
            cursor.execute(
                sql.SQL("delete from {} where {} = any(%s)").format(
                    sql.Identifier(SCHEMA, table), sql.Identifier(RUN_COLUMN)
                ),
                (list(runs),),
            )
            return cursor.rowcount

    def count_rows(self, table: str, run: int) -> int:
        """How many rows of a table a run wrote."""
        counted = sql.SQL("select count(*) from {} where {} = %s").format(
            sql.Identifier(SCHEMA, table), sql.Identifier(RUN_COLUMN)
        )
        return int(self.execute(counted, (run,))[0][0])

    def count_all(self, table: str) -> int:
        """How many rows a table has."""
        counted = sql.SQL("select count(*) from {}").format(sql.Identifier(SCHEMA, table))
        return int(self.execute(counted)[0][0])

    def table_exists(self, table: str) -> bool:
        """Whether there is a table of that name."""
        return bool(self.execute("select to_regclass(%s) is not null", (f'{SCHEMA}."{_escaped(table)}"',))[0][0])

    def truncate(self, table: str) -> None:
        """Take every row away, within the transaction."""
        self.execute(sql.SQL("delete from {}").format(sql.Identifier(SCHEMA, table)))

    # -- rows ------------------------------------------------------------------------------------------

    def copy(self, table: str, batches: Iterable[pa.RecordBatch], types: Mapping[str, PgType], run: int | None) -> int:
        """Copy Arrow batches (field names are column names) into a table; the number of rows.

        Every row gets ``run`` as its lineage; None: the table has no lineage column yet. Types are those of the table's
        columns; the batches' Arrow types must be their storage types (see ``infer``).
        """
        constant = None if run is None else (RUN_COLUMN, run)
        return copy_in(self.connection, sql.Identifier(SCHEMA, table), batches, types, constant=constant)

    def copy_together(
        self, table: str, batches: Iterable[tuple[int, pa.RecordBatch]], types: Mapping[str, PgType]
    ) -> int:
        """As :meth:`copy` by one COPY for batches of one schema, each with the run that is its rows' lineage."""
        import pyarrow as pa

        lineage = [_with_constant(batch, (RUN_COLUMN, run)) for run, batch in batches]
        table_of_all = pa.Table.from_batches(lineage).combine_chunks()
        return copy_in(
            self.connection,
            sql.Identifier(SCHEMA, table),
            table_of_all.to_batches(),
            {**types, RUN_COLUMN: PgType.BIGINT},
            constant=None,
        )

    # -- tables with a key: through a staging table --------------------------------------------------------------------

    def stage(self, table: str, batches: Iterable[pa.RecordBatch], types: Mapping[str, PgType], ordinal: str) -> int:
        """Copy batches into a temporary table shaped like ``table``, plus ``ordinal`` (the record); its rows."""
        self.execute(
            sql.SQL("create temporary table lake_stage (like {}, {} bigint) on commit drop").format(
                sql.Identifier(SCHEMA, table), sql.Identifier(ordinal)
            )
        )
        self.execute(sql.SQL("alter table lake_stage drop column {}").format(sql.Identifier(RUN_COLUMN)))
        return copy_in(
            self.connection, sql.Identifier("lake_stage"), batches, {**types, ordinal: PgType.BIGINT}, constant=None
        )

    def staged_key_faults(
        self, table: str, key: Sequence[str], ordinal: str, *, nulls: bool, live: bool, keep_last: bool
    ) -> Iterator[tuple[int, str, str]]:
        """Remove from the stage what breaks a key; ``(record, value, reason)`` of each removed row.

        ``nulls``: a null in the key is a fault. ``live``: so is a key that another object's row has already.
        ``keep_last``: of rows with the same key the last one stays without fault (merge), else the first.
        """
        columns = sql.SQL(", ").join(map(sql.Identifier, key))
        value = sql.SQL("concat_ws(', ', {})").format(columns)
        where_null = sql.SQL(" or ").join(sql.SQL("{} is null").format(sql.Identifier(name)) for name in key)
        order = sql.SQL("desc" if keep_last else "asc")
        number = sql.Identifier(ordinal)
        if nulls:
            for record, text in self.execute(
                sql.SQL("delete from lake_stage where {} returning {}, {}").format(where_null, number, value)
            ):
                yield record, text, f"null in the key ({', '.join(key)})"
        repeated = sql.SQL(
            "delete from lake_stage s using (select ctid as place, row_number() over w as nth, first_value({n}) over w "
            "as first from lake_stage where not ({nulls}) window w as (partition by {key} order by {n} {order})) d "
            "where s.ctid = d.place and d.nth > 1 returning {n}, {value}, d.first"
        ).format(n=number, nulls=where_null, key=columns, order=order, value=value)
        for record, text, first in self.execute(repeated):
            if not keep_last:
                yield record, text, f"the key ({', '.join(key)}) = ({text}) repeats record {first + 1}"
        if live:
            same = sql.SQL(" and ").join(sql.SQL("s.{0} = t.{0}").format(sql.Identifier(name)) for name in key)
            taken = sql.SQL("delete from lake_stage s using {} t where {} returning s.{}, {}, t.{}").format(
                sql.Identifier(SCHEMA, table),
                same,
                number,
                sql.SQL("concat_ws(', ', {})").format(
                    sql.SQL(", ").join(sql.SQL("s.{}").format(sql.Identifier(name)) for name in key)
                ),
                sql.Identifier(RUN_COLUMN),
            )
            for record, text, run in self.execute(taken):
                yield record, text, f"the key ({', '.join(key)}) = ({text}) is in the table already, from run {run}"

    def unstage(self, table: str, names: Sequence[str], run: int, merge_on: Sequence[str] = ()) -> int:
        """Move the staged rows into the table, or merge them on a key; how many they were."""
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        statement = sql.SQL("insert into {} ({}, {}) select {}, %s from lake_stage").format(
            sql.Identifier(SCHEMA, table), columns, sql.Identifier(RUN_COLUMN), columns
        )
        if merge_on:
            updates = sql.SQL(", ").join(
                sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name))
                for name in (*names, RUN_COLUMN)
                if name not in merge_on
            )
            on = sql.SQL(", ").join(map(sql.Identifier, merge_on))
            statement += sql.SQL(" on conflict ({}) do update set {}").format(on, updates)
        with translated(), self.connection.cursor() as cursor:
            cursor.execute(statement, (run,))
            rows = cursor.rowcount
            cursor.execute("drop table lake_stage")  # one transaction may load several objects
            return rows

    def ensure_words_index(self, table: str, kind: str, words: Sequence[str]) -> None:
        """The full-text index over a kind's rows, unless it is there or the table lacks the columns that it needs.

        ``words`` are the column of the heading and those of the content.
        """
        target = sql.Identifier(SCHEMA, table)
        columns = dict(
            self.execute(
                "select attname::text, format_type(atttypid, atttypmod) from pg_attribute "
                "where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped",
                (f'{SCHEMA}."{_escaped(table)}"',),
            )
        )
        heading, *content = words
        if any(columns.get(name) != "text" for name in (heading, *content)):
            return
        mark = f"{WORDS_MARK}{kind}"
        found = self.execute(
            "select 1 from pg_index where indrelid = to_regclass(%s) and obj_description(indexrelid, 'pg_class') = %s",
            (f'{SCHEMA}."{_escaped(table)}"', mark),
        )
        if found:
            return
        name = f"{_cut_name(table, 50)}_{kind}_words"
        text = sql.SQL(" || ' ' || ").join(sql.SQL("coalesce({}, '')").format(sql.Identifier(each)) for each in content)
        language = sql.Identifier("language") if columns.get("language") == "text" else sql.SQL("null::text")
        self.execute(
            sql.SQL("create index {} on {} using gin (lake.words({}, {}, {}))").format(
                sql.Identifier(name), target, language, sql.Identifier(heading), text
            )
        )
        self.execute(sql.SQL("comment on index {} is {}").format(sql.Identifier(SCHEMA, name), sql.Literal(mark)))

    def ensure_unique_index(self, table: str, key: Sequence[str]) -> None:
        """A unique index over the key, unless one over just these columns is there.

        Raises:
            DataError: the rows that are in the table already repeat the key.
        """
        names = self.execute(
            "select array(select a.attname::text from unnest(i.indkey) k join pg_attribute a "
            "on a.attrelid = i.indrelid and a.attnum = k order by 1) from pg_index i "
            "where i.indrelid = to_regclass(%s) and i.indisunique and i.indpred is null and i.indexprs is null",
            (f'{SCHEMA}."{_escaped(table)}"',),
        )
        if any(found[0] == sorted(key) for found in names):
            return
        try:
            with translated():
                self.execute(
                    sql.SQL("create unique index on {} ({})").format(
                        sql.Identifier(SCHEMA, table), sql.SQL(", ").join(map(sql.Identifier, key))
                    )
                )
        except psycopg2.errors.UniqueViolation as error:
            raise DataError(
                f"table {table} already has rows that repeat the key ({', '.join(key)}): {error.diag.message_detail}",
                hint="remove them, or change the key in lake.toml",
            ) from error


def _cut_name(name: str, size: int) -> str:
    return name.encode()[:size].decode(errors="ignore")


def _escaped(name: str) -> str:
    return name.replace('"', '""')


def copy_in(
    connection: Connection,
    target: sql.Identifier,
    batches: Iterable[pa.RecordBatch],
    types: Mapping[str, PgType],
    *,
    constant: tuple[str, int] | None,
) -> int:
    """Binary COPY of Arrow batches of one schema; the number of rows. ``constant`` adds one bigint column."""
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        return 0
    names = [*first.schema.names, *([constant[0]] if constant else [])]
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        target, sql.SQL(", ").join(map(sql.Identifier, names))
    )
    rows = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        for batch in _chain(first, iterator):
            rows += batch.num_rows
            yield batch

    with translated(), connection.cursor() as cursor:
        _feed(cursor, statement.as_string(cursor), encoded(counted(), types, constant))
    return rows


def encoded(
    batches: Iterable[pa.RecordBatch], types: Mapping[str, PgType], constant: tuple[str, int] | None = None
) -> Iterator[bytes]:
    """Batches of one schema in the binary form of COPY, a few megabytes at a time."""
    encoder: Any = None
    for batch in batches:
        for piece in _cut(batch):
            full = _with_constant(piece, constant)
            if encoder is None:
                encoder = _encoder(full.schema, types)
                yield encoder.write_header()
            yield encoder.write_batch(full)
    if encoder is not None:
        yield encoder.finish()


def _chain(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Pieces whose encoded form has about :data:`COPY_CHUNK` bytes."""
    if batch.num_rows == 0:
        return
    encoded = batch.get_total_buffer_size() + 4 * batch.num_rows * batch.num_columns
    rows = max(1, int(batch.num_rows * COPY_CHUNK / max(encoded, COPY_CHUNK)))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _with_constant(batch: pa.RecordBatch, constant: tuple[str, int] | None) -> pa.RecordBatch:
    if constant is None:
        return batch
    import pyarrow as pa

    from etl_container.arrays import repeated

    name, value = constant
    columns = [*batch.columns, repeated(value, batch.num_rows)]
    return pa.RecordBatch.from_arrays(columns, names=[*batch.schema.names, name])


def _encoder(schema: pa.Schema, types: Mapping[str, PgType]) -> Any:
    import pgpq
    import pgpq.encoders
    import pgpq.schema

    builders: dict[str, Any] = {}
    for field in schema:
        if types.get(field.name) is PgType.JSONB:
            builders[field.name] = pgpq.encoders.StringEncoderBuilder.new_with_output(field, pgpq.schema.Jsonb())
        else:
            builders[field.name] = pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(field)
    return pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(schema, builders)


class _Abort:
    """Tells the copying thread that the source failed; the server then forgets the COPY."""


class _SourceFailed(Exception):  # noqa: N818
    """Raised inside the driver's read call; never leaves this module."""


class _Pipe:
    """What the driver reads from: chunks that another thread puts in."""

    def __init__(self) -> None:
        self.queue: queue.Queue[bytes | _Abort] = queue.Queue(_QUEUE_CHUNKS)

    def read(self, _size: int) -> bytes:
        chunk = self.queue.get()
        if isinstance(chunk, _Abort):
            raise _SourceFailed
        return chunk


def _feed(cursor: Cursor, statement: str, chunks: Iterable[bytes]) -> None:
    """Run COPY in a thread of its own while this one makes the chunks; an error on either side ends both.

    Whatever the server or the driver says surfaces here, after the thread has ended.
    """
    pipe, ended, failures = _Pipe(), threading.Event(), list[BaseException]()

    def copy() -> None:
        try:
            cursor.copy_expert(statement, pipe, size=COPY_CHUNK)  # type: ignore[arg-type]
        except BaseException as error:  # noqa: BLE001  handed to the thread that waits
            failures.append(error)
        finally:
            ended.set()

    def put(chunk: bytes | _Abort) -> None:
        while not ended.is_set():
            with contextlib.suppress(queue.Full):
                pipe.queue.put(chunk, timeout=0.1)
                return

    thread = threading.Thread(target=copy, name="copy", daemon=True)
    thread.start()
    try:
        for chunk in chunks:
            if ended.is_set():
                break
            if chunk:
                put(chunk)
        put(b"")
    except BaseException:
        put(_Abort())
        thread.join()
        raise
    thread.join()
    if failures:
        raise failures[0]
