"""Parsers of untrusted bytes, in a process of their own: a library that fails, hangs or swells costs one file only.

What is parsed here are the binary formats (``excel``, ``columnar``, ``kind_reader``); text is read by the load itself.
The parent keeps a child for each file that is being read and uses it again for the next; a child that died is
replaced. A child has no secret in its environment, no core dump, and a limit on its memory; the parent ends it when
nothing came for :data:`PATIENCE` seconds, and more for a large file.

The child answers with a line of JSON each, which may announce a record batch: that many bytes of an Arrow IPC stream
follow it.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import io
import json
import os
import select
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
from msgspec import to_builtins
from msgspec.structs import asdict

from etl_container.errors import UnreadableObjectError
from etl_container.formats.base import Description, Kind, RawBatch, ReadOptions, Source, TableReader
from etl_container.formats.compression import LocalCopy

PATIENCE: Final = 25.0
"""Seconds without a result after which a parser counts as hanging."""
PACE: Final = 1 << 20
"""Bytes of a file that give its parser a second more."""
MEMORY: Final = 3 << 30
"""Bytes of address space for the child."""
MAX_BATCH: Final = 512 << 20
"""Bytes of one batch."""

_ROOT: Final = str(Path(__file__).resolve().parents[2])
_SERVE: Final = (
    f"import sys; sys.path.insert(0, {_ROOT!r}); from etl_container.formats import confined; confined.serve()"
)
_INHERITED: Final = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "LD_LIBRARY_PATH")
_LOCATED: Final = 100_000
"""Records that are located at once."""
_THREADS: Final = 4
_MACHINE: Final = frozenset({errno.ENOSPC, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.ENOENT})
"""Failures of the machine, not of the file."""


def open_confined(source: Source, options: ReadOptions, found: str) -> ConfinedReader:
    """The table, or what is no table, of a file whose format is ``found``.

    Raises:
        UnreadableObjectError: the parser refused the file, crashed, hung, or needed too much memory; so may the
            reader's ``batches``.
    """
    return ConfinedReader(source, options, found)


class ConfinedReader:
    """A reader whose work is done in a child. See :class:`~etl_container.formats.base.TableReader`."""

    def __init__(self, source: Source, options: ReadOptions, found: str) -> None:
        self._name = source.name
        self._found = found
        self._copy = LocalCopy(source)
        self._patience = PATIENCE + Path(self._copy.path).stat().st_size / PACE
        self._request = {
            "found": found,
            "name": source.name,
            "path": self._copy.path,
            "options": asdict(options),
            "alarm": int(self._patience) + 5,
        }
        self._worker: _Worker | None = None
        self._forgotten: weakref.finalize[[_Worker], ConfinedReader] | None = None
        opened = self._opened()
        self._description = Description(**{**opened["description"], "others": tuple(opened["description"]["others"])})
        self._labels = tuple(opened["labels"])
        self._notes = tuple(opened["notes"])

    @property
    def description(self) -> Description:
        return self._description

    @property
    def labels(self) -> tuple[str, ...]:
        return self._labels

    @property
    def notes(self) -> tuple[str, ...]:
        return self._notes

    def batches(self) -> Iterator[RawBatch]:
        for answer, data in self._answers({"do": "batches"}):
            if data is not None:
                batch = pa.ipc.open_stream(data).read_next_batch()
                yield RawBatch(batch, tuple(Kind(kind) for kind in answer["kinds"]), answer["first"])
            else:
                self._notes = tuple(answer["notes"])

    def locate(self, records: Iterable[int]) -> Iterator[tuple[int, int | None, str | None]]:
        """As the format's own reader says."""
        wanted = iter(records)
        while some := list(islice(wanted, _LOCATED)):
            for answer, _ in self._answers({"do": "locate", "records": some}):
                if "at" in answer:
                    record, line, text = answer["at"]
                    yield record, line, text

    def _opened(self) -> dict[str, Any]:
        worker = _borrowed()
        with _given_back(worker, unless_done=True):
            worker.ask(self._request)
            answer, _ = self._answer(worker)
        self._worker = worker
        self._forgotten = weakref.finalize(self, _returned, worker)
        self._forgotten.atexit = False
        return answer

    def _answers(self, request: dict[str, Any]) -> Iterator[tuple[dict[str, Any], pa.Buffer | None]]:
        """What the child says to ``request`` about the opened file, up to its last word (``done``)."""
        if self._worker is None:
            self._opened()
        worker, self._worker = self._worker, None
        assert worker is not None
        assert self._forgotten is not None
        self._forgotten.detach()
        with _given_back(worker):
            worker.ask(request)
            done = False
            while not done:
                answer, data = self._answer(worker)
                done = answer.get("done", False)
                yield answer, data

    def _answer(self, worker: _Worker) -> tuple[dict[str, Any], pa.Buffer | None]:
        try:
            answer, data = worker.answer(self._patience)
        except _GaveUp as error:
            worker.end()
            raise UnreadableObjectError(
                f"{self._name} cannot be read as {self._found}: {error}.",
                hint="The file is kept in the raw zone; nothing of it was loaded.",
            ) from None
        if "error" not in answer:
            return answer, data
        if answer.get("last"):
            worker.end()
        if "errno" in answer:
            raise OSError(answer["errno"], answer["error"])
        raise UnreadableObjectError(answer["error"], hint=answer["hint"])


class _GaveUp(Exception):  # noqa: N818  told to the user as an error of the tree
    """The child has nothing to say any more."""


class _Worker:
    """A child, from the parent's side."""

    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-E", "-c", _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Every thread of the C library's allocator would reserve address space of its own.
            env={**environment, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1", "MALLOC_ARENA_MAX": "2"},
            start_new_session=True,
        )
        self._rest = b""

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: dict[str, Any]) -> None:
        """Send a request; a child that is gone is noticed by :meth:`answer`."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def answer(self, patience: float) -> tuple[dict[str, Any], pa.Buffer | None]:
        """The next answer, with the batch that it announces.

        Raises:
            _GaveUp: none came within ``patience`` seconds, or the child died.
        """
        import orjson

        while b"\n" not in self._rest:
            self._wait(patience)
            data = os.read(self._handle, 1 << 16)
            if not data:
                raise self._died()
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = orjson.loads(line)
        return answer, self._buffer(answer["bytes"], patience) if "bytes" in answer else None

    def _buffer(self, size: int, patience: float) -> pa.Buffer:
        buffer = pa.allocate_buffer(size)
        view = memoryview(buffer).cast("B")
        at = min(size, len(self._rest))
        view[:at] = self._rest[:at]
        self._rest = self._rest[at:]
        while at < size:
            self._wait(patience)
            read = os.readv(self._handle, [view[at:]])
            if not read:
                raise self._died()
            at += read
        return buffer

    @property
    def _handle(self) -> int:
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def _wait(self, patience: float) -> None:
        if not select.select([self._handle], [], [], patience)[0]:
            raise _GaveUp(f"its parser was stopped after {patience:.0f} s without a result")

    def _died(self) -> _GaveUp:
        code = self._process.wait()
        return _GaveUp(f"its parser crashed (signal {-code})" if code < 0 else "its parser died")

    def end(self) -> None:
        """Stop the child, whatever it does; safe to call again."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


_lock = threading.RLock()  # a reader may be forgotten while its own thread holds it
_idle: list[_Worker] = []


def _borrowed() -> _Worker:
    with _lock:
        while _idle:
            worker = _idle.pop()
            if worker.alive:
                return worker
            worker.end()
    return _Worker()


def _returned(worker: _Worker) -> None:
    """Keep a child for the next file; one that was ended is of no more use, one that is kept stays so."""
    with _lock:
        if worker.alive and worker not in _idle:
            _idle.append(worker)


@contextlib.contextmanager
def _given_back(worker: _Worker, *, unless_done: bool = False) -> Iterator[None]:
    """The child is free again when its work is done or refused; broken off in the middle, it ends."""
    try:
        yield
    except (UnreadableObjectError, OSError):
        _returned(worker)
        raise
    except BaseException:
        worker.end()
        raise
    else:
        if not unless_done:
            _returned(worker)


@atexit.register
def stop() -> None:
    """End the children that wait for a file."""
    with _lock:
        while _idle:
            _idle.pop().end()


# -- the child ---------------------------------------------------------------------------------------------------------


def serve() -> None:
    """Answer requests until there are none: the child's main function."""
    import warnings

    _limit()
    warnings.simplefilter("ignore")
    sys.setrecursionlimit(3000)
    pa.set_cpu_count(min(_THREADS, pa.cpu_count()))
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is not an answer
    reader: TableReader | None = None
    request: dict[str, Any] = {}
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        try:
            if "do" not in asked:
                request, reader = asked, None  # the last one's memory goes before the next is opened
                signal.alarm(request["alarm"])  # ends the child, also when the parent is there no more
                reader = _reader(request)
                _say(out, _told(reader))
                continue
            assert reader is not None
            signal.alarm(request["alarm"])
            _answer(out, reader, asked, request["alarm"])
        except MemoryError:
            # What is left of the memory is not known.
            _say(out, {**_failed(request, f"it needs more than {MEMORY >> 30} GB of memory"), "last": True})
            return
        except Exception as error:  # noqa: BLE001  whatever the libraries raise on bad bytes is the file's fault
            _say(out, _why(request, error))
        finally:
            signal.alarm(0)


def _answer(out: BinaryIO, reader: TableReader, asked: dict[str, Any], alarm: int) -> None:
    if asked["do"] == "locate":
        for at in reader.locate(asked["records"]):
            _say(out, {"at": at})
            signal.alarm(alarm)
    else:
        for batch in reader.batches():
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.data.schema) as stream:
                stream.write_batch(batch.data)
            data = sink.getvalue()
            if data.size > MAX_BATCH:
                raise ValueError(f"a row of it is larger than {MAX_BATCH >> 20} MB")
            said = {"bytes": data.size, "kinds": [kind.value for kind in batch.kinds], "first": batch.first_record}
            _say(out, said, data)
            signal.alarm(alarm)
    _say(out, {"done": True, "notes": reader.notes})


def _say(out: BinaryIO, answer: dict[str, Any], data: pa.Buffer | None = None) -> None:
    """Write an answer; how long the parent takes to read it is no hang of the child."""
    import orjson

    signal.alarm(0)
    out.write(orjson.dumps(answer) + b"\n")
    if data is not None:
        out.write(memoryview(data))
    out.flush()


def _told(reader: TableReader) -> dict[str, Any]:
    return {"description": to_builtins(reader.description), "labels": reader.labels, "notes": reader.notes}


def _why(request: dict[str, Any], error: Exception) -> dict[str, Any]:
    if isinstance(error, UnreadableObjectError):
        return {"error": error.message, "hint": error.hint}
    if isinstance(error, OSError) and error.errno in _MACHINE:
        return {"errno": error.errno, "error": error.strerror}
    said = " ".join(str(error).replace(request["path"], "it").split())[:200].rstrip(".")
    if type(error) is ValueError and said:
        return _failed(request, said)
    if not said or not isinstance(error, OSError | EOFError | NotImplementedError):
        said = f"{type(error).__name__}: {said}".rstrip(": ")
    return _failed(request, f"it is damaged, or of a variety that its library does not know ({said})")


def _failed(request: dict[str, Any], why: str) -> dict[str, Any]:
    return {
        "error": f"{request['name']} cannot be read as {request['found']}: {why}.",
        "hint": "Open it with a program of its kind; transfer it again if that fails too.",
    }


def _limit() -> None:
    import resource

    wanted = [(resource.RLIMIT_CORE, 0)]
    if sys.platform == "linux":  # macOS takes the limit and does not hold it
        wanted.append((resource.RLIMIT_AS, MEMORY))
    for what, most in wanted:
        _soft, hard = resource.getrlimit(what)
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _reader(request: dict[str, Any]) -> TableReader:
    path, found = request["path"], request["found"]
    source = Source(request["name"], Path(path).stat().st_size, lambda: io.FileIO(path), path)
    options = ReadOptions(**request["options"])
    if found in ("xlsx", "xls", "xlsb", "ods"):
        from etl_container.formats.excel import open_excel

        return open_excel(source, options, found)
    from etl_container.formats.kinds import KIND_OF

    if found in KIND_OF:
        from etl_container.formats.kind_reader import open_kind

        return open_kind(source, found)
    from etl_container.formats.columnar import open_columnar

    return open_columnar(source, options, found)
