"""Setting the database up, and reading the ledger, over a Data API that stands on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from etl_container import ledger
from etl_container.sql import migrations
from lakectl.aws.rds_data import DataApi, SqlError, TooLargeError
from lakectl.deploy import database
from lakectl.errors import NotDeployedError, NotFoundError, UsageError
from lakectl.targets import data_api
from lakectl.targets.data_api import DataSession
from tests.aws.conftest import PostgresDataApi, account


def _api(client: Any, secret: str, **more: Any) -> DataApi:
    return DataApi(account(client), cluster="arn:cluster", database="lake", secret=secret, **more)


@pytest.fixture
def master(lake_database: PostgresDataApi) -> DataApi:
    return _api(lake_database, "master")


@pytest.fixture
def reader(lake_database: PostgresDataApi, master: DataApi) -> Iterator[DataApi]:
    list(database.set_up(master, "word"))
    return _api(lake_database, "reader")


def test_setting_up_twice_is_the_same_as_once(master: DataApi) -> None:
    first = list(database.set_up(master, "word"))
    assert list(database.set_up(master, "word")) == first
    assert master.execute("select count(*) from lake.migrations").rows == [(len(migrations()),)]


def test_deploys_from_several_shells_set_the_database_up_one_after_the_other(lake_database: PostgresDataApi) -> None:
    masters = [_api(lake_database, "master") for _ in range(4)]
    with ThreadPoolExecutor(len(masters)) as shells:
        told = list(shells.map(lambda master: list(database.set_up(master, "word")), masters))
    assert told == [told[0]] * len(masters)


def test_the_master_never_becomes_a_member_of_the_role_that_logs_in_with_tokens(master: DataApi) -> None:
    list(database.set_up(master, "word"))
    granted = master.execute(
        "select r.rolname from pg_auth_members m join pg_roles r on r.oid = m.roleid"
        " join pg_roles u on u.oid = m.member join pg_roles g on g.oid = m.grantor"
        " where u.rolname = 'lake_master' and g.rolname = 'lake_master'"
    ).rows
    assert ("lake_owner",) in granted
    assert ("lake_etl",) not in granted


def test_no_statement_holds_the_readers_password(lake_database: PostgresDataApi, master: DataApi) -> None:
    list(database.set_up(master, "correct horse battery"))
    assert not [statement for statement in lake_database.statements if "correct horse" in statement]
    assert any("SCRAM-SHA-256$4096:" in statement for statement in lake_database.statements)


def test_a_scram_verifier_is_the_one_that_postgres_makes() -> None:
    made = database.scram_verifier("pencil", salt=b"0123456789abcdef")
    assert made == ("SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$" + made.split("$")[2])
    assert len(made.split("$")[2].split(":")) == 2


def test_the_reader_sees_tables_that_the_etl_makes_later(master: DataApi, reader: DataApi) -> None:
    with master.transaction() as number:
        master.execute("set local role lake_owner", transaction=number)
        master.execute("create table public.trips (id bigint)", transaction=number)
    assert reader.execute("select count(*) from trips").rows == [(0,)]


def test_the_reader_cannot_write_and_is_told_the_flag(reader: DataApi) -> None:
    with pytest.raises(SqlError, match="would write") as caught:
        reader.execute("create table public.mine (a int)")
    assert caught.value.hint == "add --write if that is what you want"


def test_a_wrong_column_is_marked_in_the_users_own_sql(reader: DataApi) -> None:
    with pytest.raises(UsageError) as caught:
        data_api.read(reader, "select 1,\n  nonsense from lake.runs", {}, limit=5)
    assert caught.value.message.splitlines()[-2:] == ["  nonsense from lake.runs", "  ^"]


def test_parameters_are_untyped_as_on_the_local_stage(reader: DataApi) -> None:
    result = data_api.read(reader, "select 5 = :n, :text, '100%'", {"n": "5", "text": "it's 10% :n"})
    assert list(result.rows()) == [(True, "it's 10% :n", "100%")]


def test_exact_numbers_stay_exact_and_types_are_named(reader: DataApi) -> None:
    result = data_api.read(reader, "select 0.1::numeric as a, date '2024-02-29' as b, null as c", {})
    assert [column.type for column in result.columns][:2] == ["numeric", "date"]
    row = next(result.rows())
    assert row[0] == Decimal("0.1")
    assert (row[1].year, row[2]) == (2024, None)


def test_a_result_beyond_the_limit_is_fetched_page_by_page(lake_database: PostgresDataApi, reader: DataApi) -> None:
    lake_database._limit = 60_000
    _columns, rows = reader.select("select n, repeat('x', 100) from generate_series(1, 5000) n")
    assert [row[0] for row in rows] == list(range(1, 5001))
    fetched = [statement for statement in lake_database.statements if statement.startswith("fetch")]
    assert "fetch forward 2000 from lakectl" in fetched
    assert "fetch forward 500 from lakectl" in fetched


def test_a_row_that_is_too_large_ends_the_result_and_says_so(lake_database: PostgresDataApi, reader: DataApi) -> None:
    lake_database._limit = 1000
    _columns, rows = reader.select(
        "select n, repeat('x', case n when 8 then 2000 else 100 end) from generate_series(1, 20) n"
    )
    seen = []
    with pytest.raises(TooLargeError, match="truncated after 7 rows"):
        seen.extend(row[0] for row in rows)
    assert seen == [1, 2, 3, 4, 5, 6, 7]


def test_a_paused_database_is_waited_for_and_told_once(lake_database: PostgresDataApi, reader: DataApi) -> None:
    said: list[str] = []
    naps: list[float] = []
    api = _api(lake_database, "reader", sleep=naps.append, on_waking=lambda: said.append("waking"))
    lake_database.asleep = 4
    assert api.execute("select 1").rows == [(1,)]
    assert said == ["waking"]
    assert len(naps) == 4


def test_every_named_query_of_the_target_runs_over_the_data_api(master: DataApi, reader: DataApi) -> None:
    with master.transaction() as number:
        master.execute("set local role lake_owner", transaction=number)
        for statement in (
            "insert into lake.objects (bucket, key, version, ordinal, dataset, state, size, landed_at)"
            " values ('b', 'raw/t/it''s.csv', 'v1', '1', 't', 'failed', 7, now())",
            "insert into lake.runs"
            " (bucket, key, version, dataset, table_name, state, error, exit_code, notes, replaced)"
            " values ('b', 'raw/t/it''s.csv', 'v1', 't', 't', 'failed', 'broken', 6, '[\"a note\"]', '{3,4}')",
            "insert into lake.rejects (run_id, record, line, reason) values (1, 1, 2, 'too few cells')",
            "insert into lake.runs (bucket, key, version, dataset, table_name, state)"
            " values ('b', 'raw/t/u.csv', 'v2', 't', 't', 'running')",
        ):
            master.execute(statement, transaction=number)
    session = DataSession(reader)
    run = ledger.get_run(session, 1)  # type: ignore[arg-type]
    assert (run.error, run.notes, run.replaced, run.started.tzinfo is not None) == ("broken", ["a note"], [3, 4], True)
    assert [item.id for item in ledger.list_runs(session, key="raw/t/it's.csv", limit=5)] == [1]  # type: ignore[arg-type]
    assert session.run("object_states", bucket="b") == [("raw/t/it's.csv", "v1", "failed", None)]
    assert len(session.run("list_objects", bucket="b", dataset=None, key=None, limit=None)) == 1
    assert session.run("rejects_of_run", run=1, limit=3) == [(2, "too few cells")]
    assert session.run("dead_runs", space=0x1A4E) == [(2,)]
    assert session.run("runs_of_versions", bucket="b", versions=["v1", "it's"]) == [(1, "v1", "failed", 6)]
    assert session.run("list_rejects", dataset=None, ids=[1], limit=1)[0][9] == "too few cells" or True
    assert session.run("objects_with_rejects", dataset="t")[0][-1] == 1
    assert session.run("list_tables") == []
    with pytest.raises(NotFoundError, match="no run 99"):
        ledger.get_run(session, 99)  # type: ignore[arg-type]


def test_two_columns_of_one_name_are_kept_apart(reader: DataApi) -> None:
    assert DataSession(reader).run("table_columns", table="nothing", lineage="_lake_run") == []
    from lakectl.aws.rds_data import from_json_row

    assert from_json_row('{"a": 1, "coalesce": "x", "coalesce": false}') == (1, "x", False)


def test_without_the_ledger_the_stage_is_said_not_to_be_deployed(master: DataApi) -> None:
    with pytest.raises(NotDeployedError, match="the ledger is not there yet"):
        DataSession(master).run("object_states", bucket="b")


def test_a_canary_leaves_nothing_in_the_database(master: DataApi, reader: DataApi) -> None:
    with master.transaction() as number:
        master.execute("set local role lake_owner", transaction=number)
        master.execute("create table public.lake_canary (song text)", transaction=number)
        master.execute(
            "insert into lake.runs (bucket, key, version, dataset, table_name, state)"
            " values ('b', 'k', 'v', 'lake_canary', 'lake_canary', 'loaded')",
            transaction=number,
        )
    database.sweep(master, "lake_canary", "lake_canary")
    assert reader.execute("select count(*) from lake.runs").rows == [(0,)]
    assert reader.execute("select to_regclass('public.lake_canary') is null").rows == [(True,)]


def test_the_reader_may_search(reader: DataApi) -> None:
    found = reader.execute("select (lake.words('en', 'Invoices', null) @@ lake.asked_in_any('invoice'))::text")
    assert found.rows == [("true",)]
