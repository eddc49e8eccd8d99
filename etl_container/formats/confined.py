"""Parsers of untrusted bytes, in a process of their own: a library that fails, hangs or swells costs one file only.

The parent starts one child for all its files and feeds it requests; the child answers with one JSON document a line.
The child has no secret in its environment, no core dump, and a limit on its memory; the parent ends it when nothing
came for :data:`PATIENCE` seconds. A child that died is replaced at the next file.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from etl_container.errors import UnreadableObjectError

PATIENCE: Final = 25.0
"""Seconds without a row after which a parser counts as hanging."""
MEMORY: Final = 2 << 30
"""Bytes of address space for the child."""
MAX_ROW: Final = 96 << 20
"""Bytes of one row, as JSON."""

_ROOT: Final = str(Path(__file__).resolve().parents[2])
_SERVE: Final = (
    f"import sys; sys.path.insert(0, {_ROOT!r}); from etl_container.formats import confined; confined.serve()"
)
_INHERITED: Final = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "LD_LIBRARY_PATH")


def rows(kind: str, path: str, name: str, *, found: str) -> Iterator[dict[str, Any]]:
    """The rows that the parser of ``kind`` makes of the file ``path``; ``found`` is its format, ``name`` for messages.

    Raises:
        UnreadableObjectError: the parser refused the file, crashed, hung, or needed too much memory.
    """
    with _lock:
        worker = _worker()
        finished = False
        try:
            worker.ask({"kind": kind, "path": path, "found": found})
            while True:
                answer = worker.answer(name, found)
                if "row" in answer:
                    yield answer["row"]
                elif "error" in answer:
                    finished = True
                    raise UnreadableObjectError(
                        f"{name} cannot be read as {found}: {answer['error']}.",
                        hint="Open it with a program of its kind; transfer it again if that fails too.",
                    )
                else:
                    finished = True
                    return
        finally:
            if not finished:
                worker.end()


class _Worker:
    """The child, from the parent's side."""

    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-E", "-c", _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**environment, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"},
            start_new_session=True,
        )
        self._rest = b""

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self, name: str, found: str) -> dict[str, Any]:
        import orjson

        assert self._process.stdout is not None
        handle = self._process.stdout.fileno()
        parts = [self._rest]
        size = len(self._rest)
        while b"\n" not in parts[-1]:
            if not select.select([handle], [], [], PATIENCE)[0]:
                self.end()
                raise _gave_up(name, found, f"its parser was stopped after {PATIENCE:g} s without a result")
            data = os.read(handle, 1 << 20)
            if not data:
                code = self._process.wait()
                raise _gave_up(name, found, f"its parser crashed (signal {-code})" if code < 0 else "its parser died")
            parts.append(data)
            size += len(data)
            if size > MAX_ROW:
                self.end()
                raise _gave_up(name, found, f"one row of it is larger than {MAX_ROW >> 20} MB")
        line, _, self._rest = b"".join(parts).partition(b"\n")
        answer: dict[str, Any] = orjson.loads(line)
        return answer

    def end(self) -> None:
        """Stop the child, whatever it does; safe to call again."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                stream.close()


_lock = threading.RLock()
_workers: list[_Worker] = []


def _worker() -> _Worker:
    if _workers and not _workers[0].alive:
        _workers.pop().end()
    if not _workers:
        _workers.append(_Worker())
    return _workers[0]


@atexit.register
def stop() -> None:
    """End the child, if there is one."""
    while _workers:
        _workers.pop().end()


def _gave_up(name: str, found: str, what: str) -> UnreadableObjectError:
    return UnreadableObjectError(
        f"{name} cannot be read as {found}: {what}.", hint="The file is kept in the raw zone; nothing of it was loaded."
    )


# -- the child ---------------------------------------------------------------------------------------------------------


def serve() -> None:
    """Answer requests until there are none: the child's main function."""
    import warnings

    import orjson

    _limit()
    warnings.simplefilter("ignore")
    sys.setrecursionlimit(3000)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is not an answer
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            for row in _parser(request["kind"])(request["path"], request["found"]):
                out.write(orjson.dumps({"row": row}, default=str, option=orjson.OPT_NON_STR_KEYS) + b"\n")
                out.flush()
            answer: dict[str, Any] = {"done": True}
        except MemoryError:
            answer = {"error": f"it needs more than {MEMORY >> 30} GB of memory"}
        except Exception as error:  # noqa: BLE001  whatever the libraries raise on bad bytes is the file's fault
            said = (
                " ".join(str(error).replace(request["path"], "it").split())[:200].rstrip(".")
                or "its bytes make no sense"
            )
            answer = {"error": f"{said} ({type(error).__name__})" if type(error) is not ValueError else said}
        out.write(orjson.dumps(answer) + b"\n")
        out.flush()


def _limit() -> None:
    import resource

    wanted = [(resource.RLIMIT_CORE, 0)]
    if sys.platform == "linux":  # macOS takes the limit and does not hold it
        wanted.append((resource.RLIMIT_AS, MEMORY))
    for what, most in wanted:
        _soft, hard = resource.getrlimit(what)
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _parser(kind: str) -> Any:
    import importlib

    return importlib.import_module(f"etl_container.formats.kinds.{kind}").rows
