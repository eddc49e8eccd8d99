"""The keeper: a small process that ends the embedded PostgreSQL when its last user is gone.

``embedded_postgres`` starts this file as a script (``python -I -S``, nothing but the standard library, so that it is
up in some 15 ms). It lives in a session of its own, out of reach of the terminal's Ctrl-C, and walks three steps:

1. Start ``postgres`` as its child, as an unprivileged user where it is root itself; or adopt a server whose former
   keeper was killed.
2. Wait for the exclusive lock of the users' file. Every process that uses the server holds that lock shared, and the
   kernel takes it back however the process ends, so the lock is granted at the moment when nobody is left.
3. Stop the server, still under that lock: who comes meanwhile waits for the lock instead of meeting a dying server.

Its own lock (the inherited ``keeper_fd``) says for as long as it lives that the server has a keeper.
"""

from __future__ import annotations

import _thread
import fcntl
import os
import sys
import time

_PATIENCE = 300.0
"""Seconds given to a fast shutdown, whose checkpoint may have much to write, before an immediate one."""


def main(argv: list[str]) -> int:
    """Start or adopt the server, wait for its last user, stop it.

    ``argv`` holds the descriptors of the users' and the keeper's lock files, the server's uid and gid (-1: our own),
    the pid to adopt (0: none), the socket directory, and the server's command line.
    """
    users_fd, keeper_fd, uid, gid, adopted = (int(word) for word in argv[1:6])
    socket_directory, command = argv[6], argv[7:]
    for descriptor in (users_fd, keeper_fd):
        os.set_inheritable(descriptor, False)  # the locks are ours and must not live on in the server
    os.umask(0o077)
    pid = adopted or _spawn(command, uid, gid)
    import signal  # only now: it takes half as long as all before it, while the server already starts

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # The machine shuts down: end the server in good order; the watcher then ends this process.
    signal.signal(signal.SIGTERM, lambda _number, _frame: _send(pid, signal.SIGINT))

    ended = _thread.allocate_lock()
    ended.acquire()
    stopping = False

    def watch() -> None:
        # A thread, because a signal that arrives just before flock() would not wake it.
        _wait(pid, child=not adopted)
        if not stopping:
            _remove(socket_directory)
            os._exit(0)  # the server is gone while it has users: the next one starts it again
        ended.release()

    _thread.start_new_thread(watch, ())
    fcntl.flock(users_fd, fcntl.LOCK_EX)
    stopping = True
    if not _stop(pid, signal.SIGINT, ended, _PATIENCE):
        _stop(pid, signal.SIGQUIT, ended, 30.0)
    _remove(socket_directory)
    return 0


def _spawn(command: list[str], uid: int, gid: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        if uid >= 0:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        os.execv(command[0], command)  # noqa: S606
    except OSError as error:
        os.write(2, f"cannot execute {command[0]}: {error.strerror}\n".encode(errors="replace"))
    finally:
        os._exit(127)


def _stop(pid: int, number: int, ended: _thread.LockType, patience: float) -> bool:
    # Asked again every second, since a server that is only just being executed may miss a signal; repeats do no harm.
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        _send(pid, number)
        if ended.acquire(timeout=1.0):
            return True
    return False


def _wait(pid: int, *, child: bool) -> None:
    if child:
        os.waitpid(pid, 0)
        return
    if sys.platform == "linux":
        import select

        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        except OSError:  # a kernel before 5.3
            pass
        else:
            select.select([handle], [], [])
            return
    while _send(pid, 0):
        time.sleep(0.1)


def _send(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _remove(socket_directory: str) -> None:
    try:
        for name in os.listdir(socket_directory):  # noqa: PTH208  (pathlib would double the start-up)
            os.unlink(f"{socket_directory}/{name}")  # noqa: PTH108
        os.rmdir(socket_directory)  # noqa: PTH106
    except OSError:
        pass  # tidiness only: the next server clears it before it starts


if __name__ == "__main__":
    sys.exit(main(sys.argv))
