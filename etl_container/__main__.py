"""The task's entry point: environment → settings → bundle, store, session → each object → one JSON line → exit code.

Everything that is said is a line of JSON on standard output, so that a log service can search it; one line for each
object with its report, and the last one tells how it all ended::

    {"event": "done", "action": "load", "exit_code": 0, "reports": [...], "peak_memory": 187654144, "seconds": {...}}

**Ends.** SIGTERM (a stopped task has 30 s or more) and the deadline interrupt the load at hand: its transaction is
rolled back, the failure recorded, the exit code 130 or 8. A second thread sees to it: it cancels the statement in which
the main thread may hang, and ends the process when even that does not help. Rows are safe either way, since the server
rolls back what nobody commits.

**Exit codes** are those of ``errors``. Of several objects' codes the one that deserves a retry wins over the one that
does not: what is loaded is skipped the next time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import asdict

from etl_container import tuning
from etl_container.bundled import BundledLake, unpack
from etl_container.errors import ConfigError, DeadlineError, LakectlError
from etl_container.report import Event, Landing, Loading, LoadReport, Notice
from etl_container.settings import Order, Settings, Wanted, from_environment, location, wanted

if TYPE_CHECKING:
    from etl_container.objects import ObjectRef
    from etl_container.warehouse import Session

SEVERITY: Final = (1, 130, 8, 7, 5, 4, 3, 2, 6, 0)
"""Exit codes, the most severe first: bugs and interruptions, then what may pass, then what stays."""

GRACE: Final = 20.0
"""Seconds that a rollback may take after SIGTERM or the deadline, before the process ends anyway."""

PROGRESS: Final = 10.0
"""Seconds between two lines about the same load."""

LINE: Final = 15_000
"""Characters of a line at most: container engines cut longer ones in pieces at 16 KiB."""


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Run one task; its exit code."""
    tuning.before_imports()
    task = _Task()
    order: Order | None = None
    try:
        settings, order = from_environment(environment)
        log("starting", stage=settings.stage, attempt=order.attempt, trace=order.trace, objects=len(order.objects))
        with task.interruptible(order.deadline), tempfile.TemporaryDirectory(prefix="lake-") as scratch:
            _work(settings, order, task, Path(scratch))
    except LakectlError as error:
        task.stopped(error)
    except KeyboardInterrupt:
        task.stopped(None)
    except Exception as error:  # noqa: BLE001  a bug: told with its traceback, here and nowhere else
        task.crashed(error)
    return task.done(order)


def _work(settings: Settings, order: Order, task: _Task, scratch: Path) -> None:
    """Open what is needed, then do what was ordered."""
    with task.timed("bundle"):
        lake = _lake(settings, scratch)
        objects = _objects(settings, order)
    with task.timed("connect"):
        session = _session(settings)
    with session:
        task.session = session
        if order.action == "undo":
            _undo(settings, order, lake, session, task)
            return
        task.left = len(objects)
        with task.timed("load"):
            for report in _reports(objects, settings, lake, session, again=order.action == "reload"):
                task.report(report)


def _reports(
    objects: Sequence[Wanted], settings: Settings, lake: BundledLake, session: Session, *, again: bool
) -> Iterator[LoadReport]:
    """Process the objects. What concerns one alone is a report; what stops all of them raises."""
    from etl_container.pipeline import process_objects

    refused = []

    def found() -> Iterator[ObjectRef]:
        for one in objects:
            try:
                lake.dataset_of(one.key)
                yield settings.store.find(one.key, one.version, sequencer=one.sequencer, etag=one.etag)
            except DeadlineError:
                raise
            except LakectlError as error:
                refused.append(_unprocessed(one, lake, error))

    yield from process_objects(found(), lake, settings.store, session, again=again, on_event=Told())
    yield from refused


def _undo(settings: Settings, order: Order, lake: BundledLake, session: Session, task: _Task) -> None:
    from etl_container.undo import undo

    assert order.run is not None
    with task.timed("undo"):
        task.undone = asdict(undo(session, order.run, lake, settings.store))
    task.undone["run"] = str(order.run)


def _lake(settings: Settings, scratch: Path) -> BundledLake:
    if settings.bundle is None:
        return BundledLake(scratch)
    bucket, key = location(settings.bundle, "LAKE_BUNDLE")
    return unpack(dataclasses.replace(settings.store, bucket=bucket).read(key), key, scratch)


def _objects(settings: Settings, order: Order) -> tuple[Wanted, ...]:
    if order.manifest is None:
        return order.objects
    bucket, key = location(order.manifest, "LAKE_MANIFEST")
    try:
        listed = json.loads(dataclasses.replace(settings.store, bucket=bucket).read(key))
    except ValueError as error:
        raise ConfigError(f"the manifest {order.manifest} is not JSON: {error}") from None
    return wanted(listed, order.manifest)


def _session(settings: Settings) -> Session:
    from etl_container import ledger
    from etl_container.warehouse import awaken

    session = awaken(settings.dsn, patience=settings.wake, on_wait=lambda text: log("notice", text=text))
    ledger.bury(session)
    return session


def _unprocessed(one: Wanted, lake: BundledLake, error: LakectlError) -> LoadReport:
    """The report of an object that no run could be begun for."""
    with contextlib.suppress(ConfigError):
        dataset = lake.dataset_of(one.key)
        return _failed(one, dataset.name, dataset.table, error)
    return _failed(one, "", "", error)


def _failed(one: Wanted, dataset: str, table: str, error: LakectlError) -> LoadReport:
    told = {"error": error.message, "hint": error.hint, "exit_code": error.exit_code, "retryable": error.retryable}
    return LoadReport(one.key, one.version or "", dataset, table, "failed", **told)  # type: ignore[arg-type]


# -- one task ----------------------------------------------------------------------------------------------------------


class _Task:
    """What the last line tells, and the interruptions."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.reports: list[LoadReport] = []
        self.left = 0
        """Objects that nothing was told of yet."""
        self.undone: dict[str, Any] | None = None
        self.session: Session | None = None
        self.seconds: dict[str, float] = {}
        self.error: LakectlError | None = None
        self.signal: int | None = None
        self.codes: list[int] = []

    def report(self, report: LoadReport) -> None:
        self.reports.append(report)
        self.left -= 1
        self.codes.append(report.exit_code)
        log(report.state, **{name: value for name, value in _plain(report).items() if name != "state"})
        if self.signal is not None:  # the pipeline made a report of the interruption: go no further
            raise KeyboardInterrupt

    def stopped(self, error: LakectlError | None) -> None:
        """Something ended all of it."""
        if self.signal is None and error is not None:
            self.error = error
            self.codes.append(error.exit_code)

    def crashed(self, error: Exception) -> None:
        self.codes.append(1)
        text = "".join(traceback.format_exception(error))
        log("bug", error=repr(error)[:1000], traceback=text[-LINE // 2 :])

    def done(self, order: Order | None) -> int:
        """Say how it ended; the exit code."""
        if self.signal is not None:
            self.codes = [8 if self.signal == signal.SIGALRM else 130]
        code = min(self.codes, key=SEVERITY.index, default=0)
        facts: dict[str, Any] = {"action": order.action if order else None, "exit_code": code}
        if order is not None:
            facts |= {"attempt": order.attempt, "trace": order.trace}
        if self.signal is not None:
            over = self.signal == signal.SIGALRM
            facts |= {"error": "the deadline has passed" if over else "the task was stopped", "hint": "lakectl retry"}
        elif self.error is not None:
            facts |= {"error": self.error.message, "hint": self.error.hint}
        if self.undone is not None:
            facts["undone"] = self.undone
        counts: dict[str, int] = {}
        for report in self.reports:
            counts[report.state] = counts.get(report.state, 0) + 1
        facts |= {"counts": counts, "unprocessed": self.left, "peak_memory": peak_memory()}
        facts["seconds"] = {name: round(it, 3) for name, it in self.seconds.items()}
        facts["seconds"]["total"] = round(time.monotonic() - self.started, 3)
        reports = [_short(report) for report in self.reports]
        if len(json.dumps(reports, ensure_ascii=False)) > LINE - 3000:
            facts["reports_left_out"] = len(reports)  # each has a line of its own above
            reports = []
        log("done", **facts, reports=reports)
        return code

    @contextlib.contextmanager
    def timed(self, step: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.monotonic() - began

    @contextlib.contextmanager
    def interruptible(self, deadline: float) -> Iterator[None]:
        """SIGTERM, SIGINT and the deadline end the block by an exception, soon, wherever it is."""
        read, write = os.pipe()
        os.set_blocking(write, False)
        before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, self._interrupt) for number in _SIGNALS}
        if deadline:
            signal.setitimer(signal.ITIMER_REAL, deadline)
        watch = threading.Thread(target=self._watch, args=(read,), name="watch", daemon=True)
        watch.start()
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)
            os.close(write)  # ends the watcher
            watch.join()
            os.close(read)

    def _interrupt(self, number: int, _frame: object) -> None:
        if self.signal is not None:
            return
        self.signal = number
        if number == signal.SIGALRM:
            raise DeadlineError("the task's deadline has passed", hint="raise the stage's deadline in lake.toml")
        raise KeyboardInterrupt

    def _watch(self, read: int) -> None:
        """Wait for a signal in a thread that nothing blocks; then see that the main thread comes to its end."""
        if not os.read(read, 1):
            return
        give_up, pause = time.monotonic() + GRACE, 0.5
        while time.monotonic() < give_up:
            if select.select([read], [], [], pause)[0] and not os.read(read, 64):
                return
            session, pause = self.session, 2.0
            if session is not None:
                session.cancel()
        log("notice", text="the rollback takes too long; the database will do it alone")
        os._exit(self.done(None))


_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)


class Told:
    """Progress as log lines, now and then."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, event: Event) -> None:
        match event:
            case Notice(text):
                log("notice", text=text)
            case Loading(key, rows, done, total) if time.monotonic() - self._last > PROGRESS:
                self._last = time.monotonic()
                log("loading", key=key, rows=rows, bytes=done, size=total)
            case Loading() | Landing():
                pass


def log(event: str, **facts: Any) -> None:
    """One line of JSON."""
    line = {"event": event, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **facts}
    text = json.dumps(line, ensure_ascii=False, default=str)
    if len(text) > LINE and "notes" in facts:
        text = json.dumps(line | {"notes": [], "changes": []}, ensure_ascii=False, default=str)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def peak_memory() -> int:
    """The most memory that this process has had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _plain(report: LoadReport) -> dict[str, Any]:
    facts = {name: value for name, value in asdict(report).items() if name != "hops"}
    return facts | {"timings": {name: round(seconds, 4) for name, seconds in report.timings.items()}}


def _short(report: LoadReport) -> dict[str, Any]:
    return {name: value for name, value in _plain(report).items() if name not in ("notes", "changes", "timings")}


if __name__ == "__main__":
    sys.exit(main())
