"""Fixtures for every test: a real PostgreSQL, the embedded one, and in it a fresh database for each test."""

from __future__ import annotations

import itertools
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from lakectl.targets.embedded_postgres import EmbeddedPostgres

_numbers = itertools.count(1)

# A job that a shell starts in the background, as some runners of continuous integration do, ignores SIGINT, and so
# would every command that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """The embedded server of this test session (of this xdist worker), stopped and removed at its end.

    Its data is not under pytest's own temporary directory, which is closed to the user that root's server runs as.
    """
    with tempfile.TemporaryDirectory(prefix="lakectl-tests-") as name:
        place = Path(name)
        place.chmod(0o711)
        server = EmbeddedPostgres(place / "postgres")
        try:
            yield server.acquire()
        finally:
            server.remove()


@pytest.fixture
def warehouse_dsn(postgres_dsn: str) -> Iterator[str]:
    """A fresh, empty database, as a libpq URI; dropped at the end, whoever is still connected to it."""
    name = f"test_{next(_numbers)}"
    _administer(postgres_dsn, f'CREATE DATABASE "{name}"')
    try:
        yield postgres_dsn.replace("@/lake?", f"@/{name}?")
    finally:
        _administer(postgres_dsn, f'DROP DATABASE "{name}" WITH (FORCE)')


def _administer(dsn: str, statement: str) -> None:
    connection = psycopg2.connect(make_dsn(dsn, dbname="postgres"))
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()
