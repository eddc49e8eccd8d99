"""The database's users, rights and ledger, set up over the Data API as the master user. Safe to do again.

Three roles besides the master, whose password is used for set-up, ``query --write`` and mended rejects alone:
``lake_owner`` owns ledger and tables and cannot log in, ``lake_etl`` logs in with IAM tokens and is the owner then,
``lake_reader`` reads for ``lakectl query``. Who is a member of ``rds_iam``, even through another role, cannot log in
with a password any more; so the master is made a member of ``lake_owner``, never of ``lake_etl``. The reader's password
comes from its secret and is sent as the SCRAM verifier that PostgreSQL stores: no statement and no log holds it.
"""

# ruff: noqa: S608  every name in a statement is a constant of this file, every value a quoted literal

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
from collections.abc import Callable, Iterator

from etl_container import sql as ledger_sql
from lakectl import sqltext
from lakectl.aws.rds_data import Answer, DataApi, literal

OWNER = "lake_owner"
ETL = "lake_etl"
READER = "lake_reader"


def set_up(master: DataApi, reader_password: str) -> Iterator[str]:
    """Bring the database to what the container and ``query`` expect; yields what is being done.

    Raises:
        SqlError: PostgreSQL refuses a statement.
        WarehouseUnavailableError: the database does not wake up.
    """
    yield "users and rights"
    with _alone(master) as run:
        for name, login in ((OWNER, "nologin"), (ETL, "login"), (READER, "login")):
            if not run(f"select 1 from pg_roles where rolname = '{name}'").rows:
                run(f"create role {name} {login}")
        run(f"alter role {READER} login password {literal(scram_verifier(reader_password))}")
        run(f"alter role {READER} set default_transaction_read_only = on")
        if run("select 1 from pg_roles where rolname = 'rds_iam'").rows:
            run(f"grant rds_iam to {ETL}")
        run(f"grant {OWNER} to {ETL}")
        run(f"grant {OWNER} to current_user")
        database = str(run("select quote_ident(current_database())").rows[0][0])
        run(f"alter role {ETL} in database {database} set role = {OWNER}")
        run(f"grant connect, create, temporary on database {database} to {OWNER}")
        run(f"grant connect on database {database} to {ETL}, {READER}")
        run(f"grant usage, create on schema public to {OWNER}")
    yield "the ledger"
    with _alone(master) as run:
        run(f"set local role {OWNER}")
        for statement in sqltext.statements(ledger_sql.text("schema.sql")):
            run(statement)
        newest = int(run(ledger_sql.query("newest_migration")).rows[0][0])
        for version, text in ledger_sql.migrations():
            if version <= newest:
                continue
            for statement in sqltext.statements(text):
                run(statement)
            run(f"insert into lake.migrations (number) values ({version})")
    yield "rights of the reader"
    with _alone(master) as run:
        run(f"grant usage on schema public to {READER}")
        run(f"set local role {OWNER}")
        run(f"grant usage on schema lake to {READER}")
        for schema in ("lake", "public"):
            run(f"alter default privileges in schema {schema} grant select on tables to {READER}")
        run(f"grant select on all tables in schema lake to {READER}")
        owned = run(
            f"select quote_ident(tablename) from pg_tables where schemaname = 'public' and tableowner = '{OWNER}'"
        ).rows
        for (table,) in owned:
            run(f"grant select on public.{table} to {READER}")


@contextlib.contextmanager
def _alone(master: DataApi) -> Iterator[Callable[[str], Answer]]:
    """Runs statements in a transaction that waits for the one of a deploy in another shell."""
    with master.transaction() as number:
        master.execute("select pg_advisory_xact_lock(hashtext('lakectl deploy'))", transaction=number)
        yield lambda statement: master.execute(statement, transaction=number)


def scram_verifier(password: str, *, salt: bytes | None = None, iterations: int = 4096) -> str:
    """What PostgreSQL keeps of a password (SCRAM-SHA-256); it takes the verifier in place of the password.

    Source: RFC 5803, and https://www.postgresql.org/docs/17/catalog-pg-authid.html
    """
    salt = salt or os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")

    def text(value: bytes) -> str:
        return base64.b64encode(value).decode()

    return f"SCRAM-SHA-256${iterations}:{text(salt)}${text(stored)}:{text(server)}"


def sweep(master: DataApi, dataset: str, table: str) -> None:
    """Take every trace of a dataset out of the database: its table and what the ledger knows of it. Canaries only."""
    with master.transaction() as number:
        for statement in (
            f"drop table if exists public.{_quoted(table)}",
            f"delete from lake.mended m using lake.objects o where o.dataset = {literal(dataset)}"
            " and (m.bucket, m.key, m.version) = (o.bucket, o.key, o.version)",
            f"delete from lake.runs where dataset = {literal(dataset)}",
            f"delete from lake.objects where dataset = {literal(dataset)}",
            f"delete from lake.columns where table_name = {literal(table)}",
        ):
            master.execute(statement, transaction=number)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
