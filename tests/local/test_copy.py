"""The copying thread: whatever goes wrong on either side surfaces, and nothing of the load stays."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg2
import pyarrow as pa
import pytest

from etl_container.errors import DataError, WarehouseUnavailableError
from etl_container.schema import PgType
from etl_container.warehouse import Session
from tests.local.conftest import Lake

ROWS = 20_000
TYPES = {"id": PgType.BIGINT}


def batches(count: int) -> Iterator[pa.RecordBatch]:
    for number in range(count):
        yield pa.record_batch({"id": pa.array(range(number * ROWS, (number + 1) * ROWS), pa.int64())})


@pytest.fixture
def session(warehouse_dsn: str) -> Iterator[Session]:
    with Session(warehouse_dsn) as session:
        session.execute("create table public.t (id bigint check (id <> 1000000), _lake_run bigint)")
        yield session


def test_what_the_server_refuses_in_the_middle_of_a_copy_surfaces(session: Session) -> None:
    with pytest.raises(DataError, match="check constraint"), session.transaction():
        session.copy("t", batches(1000), TYPES, 1)
    assert session.execute("select count(*) from public.t") == [(0,)]


def test_an_error_in_what_makes_the_rows_surfaces_and_the_connection_lives_on(session: Session) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield from batches(20)
        raise ZeroDivisionError("in a transform, say")

    with pytest.raises(ZeroDivisionError), session.transaction():
        session.copy("t", broken(), TYPES, 1)
    assert session.execute("select count(*) from public.t") == [(0,)]
    with session.transaction():
        assert session.copy("t", batches(2), TYPES, 2) == 2 * ROWS
    assert session.execute("select count(*), sum(id) from public.t") == [(2 * ROWS, sum(range(2 * ROWS)))]


def test_a_server_that_goes_away_in_the_middle_of_a_copy_surfaces(session: Session, warehouse_dsn: str) -> None:
    def cut_off() -> Iterator[pa.RecordBatch]:
        yield from batches(5)
        other = psycopg2.connect(warehouse_dsn)
        with other, other.cursor() as cursor:
            cursor.execute("select pg_terminate_backend(%s)", (session.connection.info.backend_pid,))
        other.close()
        yield from batches(2000)

    with pytest.raises(WarehouseUnavailableError), session.transaction():
        session.copy("t", cut_off(), TYPES, 1)
    session.reconnect()
    assert session.execute("select count(*) from public.t") == [(0,)]


def test_a_constraint_of_the_owners_fails_the_load_with_its_words(lake: Lake) -> None:
    lake.upload("a.csv", "id,fare\n1,10\n2,20\n")
    with psycopg2.connect(lake.dsn) as connection, connection.cursor() as cursor:
        cursor.execute("alter table t add constraint cheap check (fare < 100)")
    connection.close()
    report = lake.upload("b.csv", "id,fare\n3,30\n4,400\n")
    assert (report.state, report.exit_code) == ("failed", 6)
    assert report.error is not None
    assert "cheap" in report.error
    assert lake.sql("select id from t order by id") == [(1,), (2,)]
