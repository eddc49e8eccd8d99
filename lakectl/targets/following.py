"""One object through every hop of the lake in AWS: put → event → task → run → rows, as a timeline while it happens.

What is loaded the ledger says, and only the ledger; tasks and the dispatcher's log are looked at to say where an object
is meanwhile, and why it gets no further.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from etl_container import ledger
from etl_container.report import LoadReport, Notice, OnEvent, silent
from lakectl.aws.ecs import Tasks, why_stopped
from lakectl.aws.sqs import Queue
from lakectl.config import Lake
from lakectl.errors import BusyError, DeadlineError, InfrastructureError
from lakectl.targets.data_api import DataSession
from lakectl.targets.dispatch_log import DispatchLog, Fact, cause_of, reason_of

FINAL_CODES = frozenset({0, 2, 3, 4, 6})
"""Exit codes that the dispatcher does not retry; see ``infra_templates/trigger/handler.py``."""
HOPS = ("put", "event", "task", "run", "rows")
"""In the order of the way."""
_TOLD_ONE_BY_ONE = 3
"""With more objects than this, only tasks are told, not each object's hops."""
_CHUNK = 200
_LOOK = 4.0
"""Seconds between two looks at the dispatcher's log and the tasks."""
_EARLIER = 60_000
"""Milliseconds before the beginning from which on the dispatcher's log is read."""
_PATIENCE = 60.0
"""Seconds without a word of an object after which the queue is looked at; doubled each time."""


@dataclass(slots=True)
class _Object:
    """One object version on its way."""

    key: str
    version: str
    since: int
    """Runs up to this id are old news."""
    hops: dict[str, float] = field(default_factory=dict)
    """Seconds since the beginning, by hop: put, event, task, run, rows."""
    task: str | None = None
    """The ARN of the task that has it."""
    trace: str | None = None
    """Of the work that it was ordered with; lines of other work are old news, too."""


class Follower:
    """Waits for object versions.

    Args:
        lake: for the datasets' names.
        bucket: of the raw zone.
        session: the ledger.
        tasks: of the stage's cluster.
        log: the dispatcher's.
        queue: that the dispatcher reads.
        order: asks the dispatcher for objects; the trace of each version's work.
        sleep: waits between two looks.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        lake: Lake,
        bucket: str,
        session: DataSession,
        tasks: Tasks,
        log: DispatchLog,
        queue: Queue,
        order: Callable[[Sequence[tuple[str, str]]], Mapping[str, str]],
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lake = lake
        self._bucket = bucket
        self._session = session
        self._tasks = tasks
        self._log = log
        self._queue = queue
        self._order = order
        self._sleep = sleep
        self._clock = clock
        self._on_event: OnEvent = silent
        self._one_by_one = True
        self._started = 0.0
        self._began = 0
        self._statuses: dict[str, str] = {}
        self._said: set[str] = set()

    def follow(
        self,
        objects: Sequence[tuple[str, str]],
        *,
        ordered: Sequence[tuple[str, str]] = (),
        within: float,
        on_event: OnEvent,
    ) -> Iterator[LoadReport]:
        """One report for each object version as soon as its run is over.

        Args:
            objects: key and version.
            ordered: those of them that no event will tell of; the dispatcher is asked for them.
            within: seconds.
            on_event: gets the timeline as notices.

        Raises:
            DeadlineError: some are not there in time.
        """
        self._on_event, self._one_by_one = on_event, len(objects) <= _TOLD_ONE_BY_ONE
        self._started = looked = self._clock()
        self._began = int(datetime.now(UTC).timestamp() * 1000)
        known = {version: number for number, version, _state, _code in self._runs([name for _, name in ordered])}
        waiting = {version: _Object(key, version, known.get(version, 0)) for key, version in objects}
        self._ask(waiting, ordered)
        for item in waiting.values():
            self._told(item, "put", "is in the raw zone")
        patience = _PATIENCE
        while waiting:
            yield from self._finished(waiting)
            if not waiting:
                return
            waited = self._waited()
            if waited > within:
                raise DeadlineError(
                    f"{next(iter(waiting.values())).key} is not loaded after {waited:.0f} s"
                    + (f", and {len(waiting) - 1} others" if len(waiting) > 1 else ""),
                    hint=f"lakectl explain {next(iter(waiting.values())).key}; lakectl logs --since 1h",
                )
            if self._clock() - looked > _LOOK:
                looked = self._clock()
                yield from self._looked(waiting)
            if waited > patience:
                patience = 2 * patience
                self._ask_after(waiting)
            self._sleep(1.0 if waited < 30 else 3.0)

    def _finished(self, waiting: dict[str, _Object]) -> Iterator[LoadReport]:
        """A report of each whose run is over; they wait no more."""
        for number, version, state, code in self._runs(list(waiting)):
            item = waiting.get(version)
            if item is None or number <= item.since:
                continue
            self._told(item, "run", f"run {number} loads it")
            if state == "running":
                continue
            if state == "failed" and code not in FINAL_CODES:
                item.since = number
                run = ledger.get_run(self._session, number)  # type: ignore[arg-type]
                self._on_event(Notice(f"{item.key}: {run.error}; it is tried again"))
                continue
            seconds = self._waited()
            if state != "failed":
                item.hops["rows"] = round(seconds, 1)
            if self._one_by_one:
                yield from self._looked(waiting)  # the hops that it took between two looks
            del waiting[version]
            yield report_of(ledger.get_run(self._session, number), in_order(item.hops), seconds)  # type: ignore[arg-type]

    def _runs(self, versions: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(versions), _CHUNK):
            chunk = list(versions[start : start + _CHUNK])
            yield from self._session.run("runs_of_versions", bucket=self._bucket, versions=chunk)

    def _waited(self) -> float:
        return self._clock() - self._started

    def _since(self, fact: Fact) -> float:
        """When the dispatcher said something, as seconds since the beginning; its clock is not this machine's."""
        told = datetime.fromisoformat(str(fact["at"])).timestamp() - self._began / 1000
        return min(max(told, 0.0), self._waited())

    def _told(self, item: _Object, hop: str, sentence: str, at: float | None = None) -> None:
        if hop in item.hops:
            return
        item.hops[hop] = round(self._waited() if at is None else at, 1)
        if self._one_by_one:
            self._tell(f"{item.key}: {sentence}")

    def _tell(self, sentence: str) -> None:
        self._on_event(Notice(f"  +{self._waited():5.1f} s  {sentence}"))

    def _looked(self, waiting: dict[str, _Object]) -> Iterator[LoadReport]:
        """The same where it can be seen: the ledger alone decides, so a look that fails is told, and is no end."""
        try:
            yield from self._look(waiting)
        except (BusyError, InfrastructureError) as error:
            if error.message not in self._said:
                self._said.add(error.message)
                self._tell(f"the way cannot be seen now: {error.message}")

    def _look(self, waiting: dict[str, _Object]) -> Iterator[LoadReport]:
        """Where the objects are; a report for one that is parked."""
        for fact in self._log.news(self._began - _EARLIER):
            for item in self._concerned(fact, waiting):
                if fact.get("event") == "dispatched":
                    item.task = str(fact.get("task"))
                    self._told(item, "event", f"its event came, and task {_short(item.task)} has it", self._since(fact))
                elif fact.get("event") == "parked" and "rows" not in item.hops:
                    del waiting[item.version]
                    yield self._parked(item, reason_of(fact))
        for task in self._tasks.describe(list({item.task for item in waiting.values() if item.task})):
            if task.status == self._statuses.get(task.arn):
                continue
            self._statuses[task.arn] = task.status
            failed = task.status == "STOPPED" and task.exit_code != 0
            self._tell(f"task {task.id[-8:]} is {task.status.lower()}{f': {why_stopped(task)}' if failed else ''}")
            if task.started is not None and task.created is not None:
                after = (task.started - task.created).total_seconds()
                for item in waiting.values():
                    if item.task == task.arn and "event" in item.hops:
                        item.hops.setdefault("task", round(item.hops["event"] + after, 1))

    def _concerned(self, fact: Fact, waiting: dict[str, _Object]) -> list[_Object]:
        """The objects that a line of the dispatcher is about."""
        task = cause_of(fact).get("task")
        if task is not None or "key" not in fact:
            return [item for item in waiting.values() if task is not None and item.task == task]
        return [
            item
            for item in waiting.values()
            if item.key == fact["key"]
            and fact.get("version") in (None, "", item.version)
            and item.trace in (None, fact.get("trace"))
        ]

    def _ask(self, waiting: dict[str, _Object], objects: Sequence[tuple[str, str]]) -> None:
        if objects:
            for version, trace in self._order(objects).items():
                waiting[version].trace = trace

    def _ask_after(self, waiting: dict[str, _Object]) -> None:
        """Nothing is heard of an object for long: say where its event waits, or ask for it in the event's place."""
        unheard = [(item.key, item.version) for item in waiting.values() if not item.task]
        if not unheard:
            return
        depth = self._queue.depth()
        first = f"{unheard[0][0]}{f' and {len(unheard) - 1} others' if len(unheard) > 1 else ''}"
        if depth.waiting or depth.in_flight or depth.delayed:
            self._tell(
                f"{first}: still in the queue ({depth.waiting} waiting, {depth.in_flight} in flight,"
                f" {depth.delayed} to be retried later)"
            )
            return
        self._tell(f"{first}: no event has come; asking the dispatcher for it")
        self._ask(waiting, unheard)

    def _parked(self, item: _Object, why: str) -> LoadReport:
        dataset = self._lake.dataset_of(item.key)
        return LoadReport(
            key=item.key,
            version=item.version,
            dataset=dataset.name,
            table=dataset.table,
            state="failed",
            error=f"the work is parked: {why}",
            hint=f"lakectl explain {item.key}; when the cause is mended: lakectl retry {item.key}",
            exit_code=5,
            hops=item.hops,
        )


def in_order(hops: Mapping[str, float]) -> dict[str, float]:
    """The hops in the order of the way: what was seen after a later one had happened before it."""
    known = [hop for hop in HOPS if hop in hops]
    return {hop: min(hops[later] for later in known[place:]) for place, hop in enumerate(known)}


def _short(arn: str) -> str:
    return arn.rpartition("/")[2][-8:]


def report_of(run: ledger.Run, hops: Mapping[str, float] | None = None, seconds: float | None = None) -> LoadReport:
    """A finished run as a load's report."""
    state = run.state if run.state in ("loaded", "already_loaded", "superseded") else "failed"
    error = run.error if run.state != "undone" else "it was undone"
    return LoadReport(
        key=run.key,
        version=run.version,
        dataset=run.dataset,
        table=run.table,
        state=state,  # type: ignore[arg-type]
        rows=run.rows or 0,
        rejects=run.rejects or 0,
        seconds=seconds if seconds is not None else run.seconds or 0.0,
        run=str(run.id),
        error=error,
        hint=run.hint,
        exit_code=run.exit_code or 0,
        changes=tuple(run.changes),
        notes=tuple(run.notes),
        hops=hops or {},
    )
