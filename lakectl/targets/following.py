"""One object through every hop of the lake in AWS: put → event → task → run → rows, as a timeline while it happens.

What is loaded the ledger says, and only the ledger; tasks and the dispatcher's log are looked at to say where an object
is meanwhile, and why it gets no further.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from etl_container import ledger
from etl_container.report import LoadReport, Notice, OnEvent
from lakectl.aws.ecs import Task, Tasks, why_stopped
from lakectl.aws.logs import Logs
from lakectl.config import Lake
from lakectl.errors import DeadlineError
from lakectl.targets.data_api import DataSession

FINAL_CODES = frozenset({0, 2, 3, 4, 6})
"""Exit codes that the dispatcher does not retry; see ``infra_templates/trigger/handler.py``."""
_TOLD_ONE_BY_ONE = 3
"""With more objects than this, only tasks are told, not each object's hops."""
_CHUNK = 200


@dataclass(slots=True)
class _Object:
    """One object version on its way."""

    key: str
    version: str
    since: int
    """Runs up to this id are old news."""
    hops: dict[str, float] = field(default_factory=dict)
    """Seconds since the beginning, by hop."""


class Follower:
    """Waits for object versions.

    Args:
        lake: for the datasets' names.
        bucket: of the raw zone.
        session: the ledger.
        tasks: of the stage's cluster.
        family: of the stage's tasks.
        logs: the account's.
        dispatch_log: the dispatcher's log group.
        sleep: waits between two looks.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        lake: Lake,
        bucket: str,
        session: DataSession,
        tasks: Tasks,
        family: str,
        logs: Logs,
        dispatch_log: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lake = lake
        self._bucket = bucket
        self._session = session
        self._tasks = tasks
        self._family = family
        self._logs = logs
        self._dispatch_log = dispatch_log
        self._sleep = sleep
        self._clock = clock

    def newest_runs(self, versions: Sequence[str]) -> dict[str, int]:
        """The newest run of each version, where there is one."""
        return {version: number for number, version, _state, _code in self._runs(versions)}

    def follow(
        self, objects: Sequence[tuple[str, str]], *, since: Mapping[str, int], within: float, on_event: OnEvent
    ) -> Iterator[LoadReport]:
        """One report for each object version as soon as its run is over.

        Args:
            objects: key and version.
            since: runs up to this id do not count, by version.
            within: seconds.
            on_event: gets the timeline as notices.

        Raises:
            DeadlineError: some are not there in time.
        """
        waiting = {version: _Object(key, version, since.get(version, 0)) for key, version in objects}
        started = self._clock()
        began = int(datetime.now(UTC).timestamp() * 1000) - 60_000
        seen: dict[str, str] = {}
        looked = started
        while waiting:
            for number, version, state, code in self._runs(list(waiting)):
                item = waiting.get(version)
                if item is None or number <= item.since:
                    continue
                self._told(item, f"run {number} loads it", started, on_event, many=len(objects))
                if state == "running":
                    continue
                if state == "failed" and code not in FINAL_CODES:
                    item.since = number
                    run = ledger.get_run(self._session, number)  # type: ignore[arg-type]
                    on_event(Notice(f"{item.key}: {run.error}; it is tried again"))
                    continue
                del waiting[version]
                yield self._report(number, item, self._clock() - started)
            if not waiting:
                return
            waited = self._clock() - started
            if waited > within:
                raise DeadlineError(
                    f"{next(iter(waiting.values())).key} is not loaded after {waited:.0f} s"
                    + (f", and {len(waiting) - 1} others" if len(waiting) > 1 else ""),
                    hint=f"lakectl explain {next(iter(waiting.values())).key}; lakectl logs --since 1h",
                )
            if self._clock() - looked > 4:
                looked = self._clock()
                yield from self._look(waiting, seen, began, started, on_event, len(objects))
            self._sleep(1.0 if waited < 30 else 3.0)

    def _runs(self, versions: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(versions), _CHUNK):
            chunk = list(versions[start : start + _CHUNK])
            yield from self._session.run("runs_of_versions", bucket=self._bucket, versions=chunk)

    def _told(self, item: _Object, hop: str, started: float, on_event: OnEvent, *, many: int) -> None:
        if hop in item.hops:
            return
        item.hops[hop] = round(self._clock() - started, 1)
        if many <= _TOLD_ONE_BY_ONE:
            on_event(Notice(f"  +{item.hops[hop]:5.1f} s  {item.key}: {hop}"))

    def _look(
        self,
        waiting: dict[str, _Object],
        seen: dict[str, str],
        began: int,
        started: float,
        on_event: OnEvent,
        many: int,
    ) -> Iterator[LoadReport]:
        """Where the objects are that no run has finished yet; a report for one that is parked."""
        by_key = {item.key: item for item in waiting.values()}
        for line in self._logs.read(self._dispatch_log, since=began):
            fact = _document(line.text)
            item = by_key.get(str(fact.get("key"))) if fact else None
            if fact is None or item is None:
                continue
            if fact.get("event") == "dispatched":
                self._told(
                    item, f"handed to task {str(fact.get('task')).rpartition('/')[2][:8]}", started, on_event, many=many
                )
            elif fact.get("event") == "parked" and item.version in waiting:
                del waiting[item.version]
                yield self._parked(item, str(fact.get("reason") or fact.get("cause") or "it failed too often"))
        for task in self._relevant():
            if seen.get(task.arn) == task.status:
                continue
            seen[task.arn] = task.status
            told = f": {why_stopped(task)}" if task.status == "STOPPED" and task.exit_code != 0 else ""
            on_event(Notice(f"  +{self._clock() - started:5.1f} s  task {task.id[:8]} is {task.status.lower()}{told}"))

    def _relevant(self) -> list[Task]:
        return self._tasks.list(family=self._family)

    def _report(self, number: int, item: _Object, seconds: float) -> LoadReport:
        run = ledger.get_run(self._session, number)  # type: ignore[arg-type]
        return report_of(run, item.hops, seconds)

    def _parked(self, item: _Object, why: str) -> LoadReport:
        dataset = self._lake.dataset_of(item.key)
        return LoadReport(
            key=item.key,
            version=item.version,
            dataset=dataset.name,
            table=dataset.table,
            state="failed",
            error=f"the work is parked: {why}",
            hint="lakectl retry, when the cause is mended",
            exit_code=5,
            timings=item.hops,
        )


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
        timings=hops or {},
    )


def _document(text: str) -> dict[str, Any] | None:
    start = text.find("{")
    if start < 0:
        return None
    try:
        value = json.loads(text[start:])
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
