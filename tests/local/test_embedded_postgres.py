"""The embedded PostgreSQL: started on demand, shared, repaired, and never left behind."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest

from etl_container.errors import (
    InfrastructureError,
    NotFoundError,
    PermissionDeniedError,
    WarehouseUnavailableError,
)
from lakectl.targets.embedded_postgres import EmbeddedPostgres

ROOT = os.geteuid() == 0

USE_UNTIL_STDIN_ENDS = """
import sys
from pathlib import Path
from lakectl.targets.embedded_postgres import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1])) as server:
    print(server.status().pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A place that every user may enter, with one cluster that the tests share, one after the other."""
    with tempfile.TemporaryDirectory(prefix="lakectl-tests-") as name:
        place = Path(name)
        place.chmod(0o711)
        yield place
        EmbeddedPostgres(place / 'it\'s a läke, "shared"' / "postgres").remove()


@pytest.fixture
def place() -> Iterator[Path]:
    """A fresh place that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="lakectl-tests-") as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


@pytest.fixture
def root(made: Path) -> Iterator[Path]:
    root = made / 'it\'s a läke, "shared"' / "postgres"
    yield root
    EmbeddedPostgres(root).stop()


def user(root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USE_UNTIL_STDIN_ENDS, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def executable_by_nobody() -> str:
    """This interpreter; or, where it lives in root's home, the system's of the same version."""
    for python in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
        try:
            subprocess.run([python, "-V"], user="nobody", extra_groups=[], capture_output=True, check=True)
        except OSError:
            continue
        return python
    pytest.skip("no Python of this version that another user may execute")


def stand_in(place: Path, name: str, script: str) -> None:
    program = place / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def server_pid(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def finish(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    for process in processes:
        assert process.wait(20) == 0
        assert process.stdout is not None
        process.stdout.close()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        stream.close()


def pid_of(server: EmbeddedPostgres) -> int:
    pid = server.status().pid
    assert pid is not None
    return pid


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def within(seconds: float, promise: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not promise():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def ask(dsn: str, question: str) -> object:
    connection = psycopg2.connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(question)
            row = cursor.fetchone()
            return row[0] if row else None
    finally:
        connection.close()


def test_it_runs_while_it_is_used_and_not_a_moment_longer(root: Path) -> None:
    server = EmbeddedPostgres(root)
    dsn = server.acquire()
    assert ask(dsn, "SELECT current_user || '@' || current_database()") == "lake@lake"
    status = server.status()
    assert (status.initialised, status.running) == (True, True)
    assert status.pid is not None
    assert status.socket_directory is not None
    assert status.size is not None
    assert status.size > 10_000_000
    assert status.version == str(ask(dsn, "SELECT current_setting('server_version_num')::int / 10000"))
    server.release()
    assert not alive(status.pid)
    assert not status.socket_directory.exists()
    after = server.status()
    assert (after.initialised, after.running, after.pid) == (True, False, None)


def test_acquire_and_release_may_be_repeated(root: Path) -> None:
    server = EmbeddedPostgres(root)
    server.release()
    assert server.acquire() == server.acquire() == server.dsn
    server.release()
    server.release()
    with pytest.raises(NotFoundError):
        _ = server.dsn
    with server:
        assert ask(server.dsn, "SELECT 1") == 1


def test_what_was_committed_is_there_the_next_time(root: Path) -> None:
    with EmbeddedPostgres(root) as server:
        connection = psycopg2.connect(server.dsn)
        connection.autocommit = True
        connection.cursor().execute("CREATE TABLE kept AS SELECT 42 AS answer")
        connection.close()
    with EmbeddedPostgres(root) as server:
        assert ask(server.dsn, "SELECT answer FROM kept") == 42


def test_it_sorts_alike_everywhere_and_listens_on_no_network(root: Path) -> None:
    with EmbeddedPostgres(root) as server:
        settings = {
            name: ask(server.dsn, f"SHOW {name}")
            for name in ("listen_addresses", "fsync", "full_page_writes", "wal_level", "server_encoding", "timezone")
        }
        assert settings == {
            "listen_addresses": "",
            "fsync": "on",
            "full_page_writes": "on",
            "wal_level": "minimal",
            "server_encoding": "UTF8",
            "timezone": "UTC",
        }
        ordered = "SELECT string_agg(x, '' ORDER BY x) FROM unnest(ARRAY['ä', 'b', 'Z', 'a']) AS x"
        assert ask(server.dsn, ordered) == "Zabä"
        assert ask(server.dsn, "SELECT upper('ä')") == "Ä"
        sockets = server.status().socket_directory
        assert sockets is not None
        assert sockets.stat().st_mode & 0o777 == 0o700
        listening = psutil.Process(pid_of(server)).net_connections("inet")
        assert listening == []


def test_its_environment_holds_no_secret_of_ours(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("PGPORT", "1")
    with EmbeddedPostgres(root) as server:
        process = psutil.Process(pid_of(server))
        assert "AWS_SECRET_ACCESS_KEY" not in process.environ()
        assert "AWS_SECRET_ACCESS_KEY" not in process.parent().environ()  # type: ignore[union-attr]


def test_two_processes_share_one_server(root: Path) -> None:
    other = user(root)
    with EmbeddedPostgres(root) as server:
        pid = pid_of(server)
        assert server_pid(other) == pid
        finish(other)
        assert ask(server.dsn, "SELECT 1") == 1
    assert not alive(pid)


def test_eight_processes_starting_at_once_in_a_new_lake_get_one_server(place: Path) -> None:
    users = [user(place / "postgres") for _ in range(8)]
    pids = {server_pid(each) for each in users}
    assert len(pids) == 1
    finish(*users)
    assert within(3, lambda: not any(alive(pid) for pid in pids))
    assert sorted(path.name for path in (place / "postgres").glob("data*")) == ["data"]


def test_coming_while_it_stops_is_safe(root: Path) -> None:
    failures: list[BaseException] = []

    def come_and_go() -> None:
        try:
            for _ in range(5):
                with EmbeddedPostgres(root) as server:
                    assert ask(server.dsn, "SELECT 1") == 1
                time.sleep(random.uniform(0, 0.03))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert within(2, lambda: not EmbeddedPostgres(root).status().running)


def test_threads_may_share_one_instance(root: Path) -> None:
    server = EmbeddedPostgres(root)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(server.acquire())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    server.release()
    assert not server.status().running


def test_killing_the_only_user_ends_the_server(root: Path) -> None:
    lone = user(root)
    pid = server_pid(lone)
    kill(lone)
    assert within(3, lambda: not alive(pid))


def test_killing_one_of_two_users_leaves_the_server_to_the_other(root: Path) -> None:
    doomed = user(root)
    pid = server_pid(doomed)
    with EmbeddedPostgres(root) as server:
        kill(doomed)
        time.sleep(0.2)
        assert ask(server.dsn, "SELECT 1") == 1
        assert pid_of(server) == pid


def test_a_server_whose_keeper_was_killed_is_adopted_and_still_stops(root: Path) -> None:
    lone = user(root)
    pid = server_pid(lone)
    os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
    time.sleep(0.05)
    newcomer = user(root)
    assert server_pid(newcomer) == pid
    finish(newcomer)
    assert alive(pid)
    kill(lone)
    assert within(3, lambda: not alive(pid))


def test_the_last_user_stops_a_server_whose_keeper_was_killed(root: Path) -> None:
    with EmbeddedPostgres(root) as server:
        pid = pid_of(server)
        keeper = psutil.Process(pid).ppid()
        os.kill(keeper, signal.SIGKILL)
        assert within(10, lambda: not alive(keeper))
    assert within(10, lambda: not alive(pid))


def test_a_keeper_that_dies_while_the_last_user_leaves_leaves_no_server(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedPostgres(root)
    server.acquire()
    pid = pid_of(server)
    keeper = psutil.Process(pid).ppid()
    os.kill(keeper, signal.SIGKILL)
    assert within(10, lambda: not alive(keeper))
    really = EmbeddedPostgres._has_keeper
    seems_to_live = iter([True])
    monkeypatch.setattr(EmbeddedPostgres, "_has_keeper", lambda self: next(seems_to_live, False) or really(self))
    server.release()
    assert within(10, lambda: not alive(pid))


def test_a_killed_server_is_started_again(root: Path) -> None:
    with EmbeddedPostgres(root) as server:
        pid = pid_of(server)
        busy = psycopg2.connect(server.dsn)
        os.kill(pid, signal.SIGKILL)
        within(2, lambda: not alive(pid))
        assert ask(server.acquire(), "SELECT 1") == 1
        assert pid_of(server) != pid
        busy.close()


def test_a_killed_server_is_started_again_although_a_backend_is_too_busy_to_notice(root: Path) -> None:
    with EmbeddedPostgres(root) as server:
        pid = pid_of(server)
        busy = psycopg2.connect(server.dsn, async_=1)
        while busy.poll() != psycopg2.extensions.POLL_OK:
            time.sleep(0.005)
        busy.cursor().execute("SELECT count(*) FROM generate_series(1, 10000000000) AS n WHERE n % 7 = 8")
        time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        within(2, lambda: not alive(pid))
        if sys.platform == "linux":
            assert ask(server.acquire(), "SELECT 1") == 1
        busy.close()


def test_a_pid_file_that_names_a_stranger_is_seen_through(root: Path) -> None:
    with EmbeddedPostgres(root) as server:
        pid_file = (server.data / "postmaster.pid").read_text().split("\n")
    owner = server.data.stat().st_uid
    stranger = subprocess.Popen(["sleep", "60"], user=owner if ROOT else None)
    try:
        (server.data / "postmaster.pid").write_text("\n".join([str(stranger.pid), *pid_file[1:]]))
        shutil.chown(server.data / "postmaster.pid", owner)
        assert not server.status().running
        with server:
            assert ask(server.dsn, "SELECT 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_killing_it_while_the_cluster_is_made_leaves_nothing_half_made(place: Path) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    generator = random.Random(seed)
    root = place / "postgres"
    for attempt in range(3):
        doomed = user(root)
        within(5, lambda: any(root.glob("data*")))
        time.sleep(generator.uniform(0, 0.8) if attempt else 0)
        kill(doomed)
        assert not (root / "data").exists() or (root / "data" / "PG_VERSION").exists()
    with EmbeddedPostgres(root) as server:
        assert ask(server.dsn, "SELECT current_database()") == "lake"
        assert [path.name for path in root.glob("data*")] == ["data"]


def test_two_lakes_do_not_collide_and_a_copy_is_a_lake_of_its_own(root: Path, place: Path) -> None:
    with EmbeddedPostgres(root):
        pass
    shutil.copytree(root, place / "copy")
    with EmbeddedPostgres(root) as original:
        shutil.copy2(original.data / "postmaster.pid", place / "copy" / "data")
        with EmbeddedPostgres(place / "copy") as copy:
            assert pid_of(copy) != pid_of(original)
            assert ask(copy.dsn, "SHOW data_directory") == str(copy.data)
            assert ask(original.dsn, "SHOW data_directory") == str(original.data)
        shutil.rmtree(place / "copy")  # at once: a released server writes nothing any more
        assert ask(original.dsn, "SELECT 1") == 1


def test_stop_ends_it_under_its_users_and_they_can_acquire_it_again(root: Path) -> None:
    with EmbeddedPostgres(root) as server:
        pid = pid_of(server)
        EmbeddedPostgres(root).stop()
        assert not alive(pid)
        assert ask(server.acquire(), "SELECT 1") == 1


@pytest.mark.skipif(not ROOT, reason="only root runs the server as someone else")
def test_under_root_data_that_the_servers_user_cannot_reach_live_elsewhere(place: Path) -> None:
    place.chmod(0o700)
    server = EmbeddedPostgres(place / "postgres")
    with server:
        assert psutil.Process(pid_of(server)).uids().real != 0
        target = server.data.resolve()
        assert ask(server.dsn, "SHOW data_directory") == str(target)
        assert not target.is_relative_to(place)
    assert place.stat().st_mode & 0o777 == 0o700
    server.remove()
    assert not target.parent.exists()


@pytest.mark.skipif(not ROOT, reason="only root can become another user")
def test_a_normal_user_has_it_too(place: Path) -> None:
    home = place / "home"
    home.mkdir()
    shutil.chown(home, "nobody")
    python = executable_by_nobody()
    told = subprocess.run(
        [python, "-c", USE_UNTIL_STDIN_ENDS, str(home / "lake" / "postgres")],
        user="nobody",
        group=home.stat().st_gid,
        extra_groups=[],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(home), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert not alive(int(told.stdout))
    assert (home / "lake" / "postgres" / "data").owner() == "nobody"


@pytest.mark.skipif(not ROOT, reason="root would be needed to make a directory of someone else")
def test_a_socket_directory_made_by_someone_else_is_not_used(
    root: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = place / "trap"
    trap.mkdir()
    (place / f"lakectl-{os.geteuid()}").symlink_to(trap)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with EmbeddedPostgres(root) as server:
        sockets = server.status().socket_directory
        assert sockets is not None
        assert not sockets.is_relative_to(place)
        assert list(trap.iterdir()) == []


def test_a_long_temporary_directory_still_gives_a_short_socket_path(
    root: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = place / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with EmbeddedPostgres(root) as server:
        assert ask(server.dsn, "SELECT 1") == 1


def test_the_log_is_cut_off_when_a_server_starts(root: Path) -> None:
    server = EmbeddedPostgres(root)
    with server:
        pass
    server.log.write_bytes(b"old\n" * 400_000)
    with server:
        pass
    assert server.log.stat().st_size < 10_000


def test_the_log_keeps_no_data_of_a_failed_statement(root: Path) -> None:
    with EmbeddedPostgres(root) as server:
        connection = psycopg2.connect(server.dsn)
        cursor = connection.cursor()
        cursor.execute("CREATE TEMPORARY TABLE t (name text PRIMARY KEY)")
        with pytest.raises(psycopg2.errors.UniqueViolation):
            cursor.execute("INSERT INTO t VALUES ('Ada Lovelace'), ('Ada Lovelace')")
        connection.close()
        assert "duplicate key" in server.log.read_text()
        assert "Lovelace" not in server.log.read_text()


def test_data_of_another_major_version_is_refused_with_the_way_out(root: Path) -> None:
    server = EmbeddedPostgres(root)
    with server:
        version = (server.data / "PG_VERSION").read_text()
    try:
        (server.data / "PG_VERSION").write_text("12\n")
        with pytest.raises(InfrastructureError, match="made by PostgreSQL 12") as caught:
            server.acquire()
        assert "LAKE_POSTGRES_BIN" in str(caught.value.hint)
    finally:
        (server.data / "PG_VERSION").write_text(version)


def test_a_server_that_does_not_start_tells_its_last_words(root: Path) -> None:
    server = EmbeddedPostgres(root)
    with server:
        pass
    settings = server.data / "postgresql.auto.conf"
    before = settings.read_text()
    try:
        settings.write_text("work_mem = 'a lot'\n")
        with pytest.raises(WarehouseUnavailableError, match='invalid value for parameter "work_mem"') as caught:
            server.acquire()
        assert caught.value.exit_code == 7
        assert str(server.log) in str(caught.value.hint)
    finally:
        settings.write_text(before)
    with server:
        assert ask(server.dsn, "SELECT 1") == 1


def test_missing_programs_are_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKE_POSTGRES_BIN", str(place))
    with pytest.raises(InfrastructureError, match="no postgres in it"):
        EmbeddedPostgres(place / "postgres").acquire()
    assert not (place / "postgres" / "data").exists()


def test_a_full_disk_is_called_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Stand-ins that fail as PostgreSQL's own do, since filling a disk takes privileges.
    stand_in(place, "postgres", "echo 'postgres (PostgreSQL) 18.4'")
    stand_in(place, "initdb", "echo 'initdb: error: could not write: No space left on device' >&2; exit 1")
    monkeypatch.setenv("LAKE_POSTGRES_BIN", str(place / "bin"))
    with pytest.raises(InfrastructureError, match="is full"):
        EmbeddedPostgres(place / "postgres").acquire()
    assert list((place / "postgres").glob("data*")) == []


def test_programs_too_old_for_a_new_cluster_are_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(place, "postgres", "echo 'postgres (PostgreSQL) 15.8'")
    stand_in(place, "initdb", "exit 1")
    monkeypatch.setenv("LAKE_POSTGRES_BIN", str(place / "bin"))
    with pytest.raises(InfrastructureError, match="needs 17 or later"):
        EmbeddedPostgres(place / "postgres").acquire()


def test_a_place_where_no_directory_can_be_made_is_an_error_of_ours(place: Path) -> None:
    (place / "file").write_text("")
    with pytest.raises(InfrastructureError, match="file"):
        EmbeddedPostgres(place / "file" / "postgres").acquire()


def test_status_starts_and_makes_nothing(place: Path) -> None:
    status = EmbeddedPostgres(place / "postgres").status()
    assert (status.initialised, status.running, status.size, status.version) == (False, False, None, None)
    assert not (place / "postgres").exists()


@pytest.mark.skipif(ROOT, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written_is_told(place: Path) -> None:
    place.chmod(0o500)
    with pytest.raises(PermissionDeniedError, match="Permission denied"):
        EmbeddedPostgres(place / "postgres").acquire()
    place.chmod(0o700)


def test_a_socket_address_is_short_enough_for_every_system(root: Path) -> None:
    with EmbeddedPostgres(root) as server, socket.socket(socket.AF_UNIX) as probe:
        sockets = server.status().socket_directory
        assert sockets is not None
        assert len(os.fsencode(sockets)) <= 103 - len("/.s.PGSQL.5432")
        probe.connect(str(sockets / ".s.PGSQL.5432"))
