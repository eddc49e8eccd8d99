"""AWS without AWS: an account whose clients are stubbed, and a Data API that stands on a real PostgreSQL."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import psycopg2
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from psycopg2.extensions import make_dsn

from lakectl.aws.refusals import Login
from lakectl.aws.session import Aws, Identity
from tests.aws.account import ACCOUNT, REGION
from tests.aws.stages import stage


class Stubbed:
    """An account with a stubbed client for each service; every prepared answer must be asked for."""

    def __init__(self) -> None:
        self.stubs: dict[str, Stubber] = {}
        self.aws = Aws(Identity(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/me", REGION), self._make, Login("work", "sso"))

    def _make(self, service: str) -> Any:
        client = boto3.client(
            service,
            region_name=REGION,
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="secret",
            config=Config(retries={"max_attempts": 1}),
        )
        self.stubs[service] = Stubber(client)
        self.stubs[service].activate()
        return client

    def on(self, service: str) -> Stubber:
        self.aws.client(service)
        return self.stubs[service]

    def refuse(self, service: str, operation: str, code: str, message: str = "", status: int = 400) -> None:
        self.on(service).add_client_error(operation, code, message, status)


@pytest.fixture
def stubbed() -> Iterator[Stubbed]:
    made = Stubbed()
    yield made
    for stub in made.stubs.values():
        stub.assert_no_pending_responses()


@pytest.fixture
def naps() -> list[float]:
    """What was slept, instead of sleeping."""
    return []


class PostgresDataApi:
    """The ``rds-data`` client's calls on a real PostgreSQL, with the service's own limits and error texts."""

    def __init__(self, connect: Callable[[str], Any], *, limit: int = 1 << 20) -> None:
        self._connect = connect
        self._limit = limit
        self._numbers = itertools.count(1)
        self._open: dict[str, Any] = {}
        self.statements: list[str] = []
        self.asleep = 0
        """How often it still answers that it is resuming."""

    def execute_statement(self, *, sql: str, secretArn: str, transactionId: str | None = None, **_: Any) -> Any:
        self._wake()
        self.statements.append(sql)
        connection = self._open[transactionId] if transactionId else self._connect(secretArn)
        try:
            with connection.cursor() as cursor:
                try:
                    cursor.execute(sql)
                except psycopg2.Error as error:
                    if not transactionId:
                        connection.rollback()
                    place = f"; Position: {error.diag.statement_position}" if error.diag.statement_position else ""
                    said = f"ERROR: {error.diag.message_primary}{place}; SQLState: {error.pgcode}"
                    raise _refusal("DatabaseErrorException", said) from error
                if cursor.description is None:
                    return {"numberOfRecordsUpdated": max(cursor.rowcount, 0), "records": []}
                rows = cursor.fetchall()
                if sum(len(str(value)) for row in rows for value in row) > self._limit:
                    raise _refusal(
                        "BadRequestException", "Database returned more than the allowed response size limit of 1 MB"
                    )
                return {
                    "columnMetadata": [
                        {"name": column.name, "label": column.name, "typeName": _TYPES.get(column.type_code, "text")}
                        for column in cursor.description
                    ],
                    "records": [[_field(value) for value in row] for row in rows],
                }
        finally:
            if not transactionId:
                connection.commit()
                connection.close()

    def begin_transaction(self, *, secretArn: str, **_: Any) -> Any:
        self._wake()
        number = f"t{next(self._numbers)}"
        self._open[number] = self._connect(secretArn)
        return {"transactionId": number}

    def commit_transaction(self, *, transactionId: str, **_: Any) -> Any:
        connection = self._open.pop(transactionId)
        connection.commit()
        connection.close()
        return {}

    def rollback_transaction(self, *, transactionId: str, **_: Any) -> Any:
        connection = self._open.pop(transactionId)
        connection.rollback()
        connection.close()
        return {}

    def _wake(self) -> None:
        if self.asleep:
            self.asleep -= 1
            raise _refusal("DatabaseResumingException", "The Aurora DB instance is resuming after being auto-paused.")


def _refusal(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "ExecuteStatement")


_TYPES = {
    16: "bool",
    20: "int8",
    23: "int4",
    25: "text",
    701: "float8",
    1043: "varchar",
    1082: "date",
    1114: "timestamp",
    1184: "timestamptz",
    1700: "numeric",
    3802: "jsonb",
}


def _field(value: Any) -> Any:
    match value:
        case None:
            return {"isNull": True}
        case bool():
            return {"booleanValue": value}
        case int():
            return {"longValue": value}
        case float():
            return {"doubleValue": value}
        case dict() | list():
            return {"stringValue": json.dumps(value)}
        case _:
            return {"stringValue": str(value).removesuffix("+00:00")}


@pytest.fixture
def lake_database(postgres_dsn: str, warehouse_dsn: str) -> Iterator[PostgresDataApi]:
    """A fresh database whose master is no superuser, as on Aurora; ``secretArn`` names the user: master or reader."""
    name = warehouse_dsn.partition("@/")[2].partition("?")[0]
    admin = psycopg2.connect(warehouse_dsn)
    admin.autocommit = True
    with admin.cursor() as cursor:
        cursor.execute("select 1 from pg_roles where rolname = 'lake_master'")
        if not cursor.fetchone():
            cursor.execute("create role lake_master login createrole createdb")
            cursor.execute("create role rds_iam")
            cursor.execute("grant rds_iam to lake_master with admin option")
        cursor.execute(f'alter database "{name}" owner to lake_master')

    def connect(secret: str) -> Any:
        user = {"master": "lake_master", "reader": "lake_reader"}[secret]
        connection = psycopg2.connect(warehouse_dsn, options="-c timezone=UTC")
        with connection.cursor() as cursor:
            cursor.execute(f"set session authorization {user}")
            cursor.execute(
                "select setconfig from pg_db_role_setting s join pg_roles r on r.oid = s.setrole"
                " where r.rolname = %s and s.setdatabase = 0",
                (user,),
            )
            for (settings,) in cursor.fetchall():
                for setting in settings:
                    cursor.execute("select set_config(%s, %s, false)", setting.split("=", 1))
        connection.commit()
        return connection

    yield PostgresDataApi(connect)
    with admin.cursor() as cursor:
        cursor.execute("select rolname from pg_roles where rolname in ('lake_reader', 'lake_etl', 'lake_owner')")
        for (role,) in cursor.fetchall():
            cursor.execute(f"reassign owned by {role} to current_user")
            cursor.execute(f"drop owned by {role}")
        for role in ("lake_reader", "lake_etl", "lake_owner"):
            cursor.execute(f"drop role if exists {role}")
        cursor.execute(f'alter database "{name}" owner to current_user')
    admin.close()


def account(client: Any) -> Aws:
    """An account whose every client is this one."""
    return Aws(Identity(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/me", REGION), lambda _service: client)


__all__ = ["ACCOUNT", "REGION", "PostgresDataApi", "Stubbed", "account", "make_dsn", "stage"]
