"""A stage in AWS: S3 is the raw zone, Aurora the warehouse, Fargate the engine.

What is loaded is asked of the ledger, over the Data API, with the same named SQL that the container runs. What has to
touch rows (loads, undo) is done by tasks: the laptop has no way into the database's network, and needs none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import getpass
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from msgspec.structs import asdict, replace

from etl_container.objects import ObjectRef, check_key
from etl_container.report import Landing, LoadReport, Notice, OnEvent, silent
from lakectl.aws import databases, functions
from lakectl.aws.cloudformation import Stack, StackNotFoundError, Stacks
from lakectl.aws.ecs import Placement, Tasks, why_stopped
from lakectl.aws.logs import Logs
from lakectl.aws.rds_data import DataApi, literal
from lakectl.aws.refusals import RefusedError
from lakectl.aws.s3 import Bucket, digest_of
from lakectl.aws.sqs import Queue
from lakectl.config import LOCAL, Lake
from lakectl.deploy import database, facts
from lakectl.deploy.facts import Stage
from lakectl.errors import (
    DataError,
    InfrastructureError,
    NotDeployedError,
    NotFoundError,
    PermissionDeniedError,
    UnreadableObjectError,
    UsageError,
)
from lakectl.targets import data_api, in_container
from lakectl.targets.base import (
    Check,
    ColumnInfo,
    Explanation,
    Landed,
    QueryResult,
    StatusReport,
    TableInfo,
    UndoReport,
    ledger_problems,
)
from lakectl.targets.data_api import DataSession
from lakectl.targets.dispatch_log import DispatchLog
from lakectl.targets.following import Follower
from lakectl.targets.local import LocalTarget
from lakectl.words import plural

if TYPE_CHECKING:
    from etl_container.ledger import Run
    from etl_container.objects_s3 import S3Store

_ORDER = 50
"""Objects in one work order: SQS takes 256 KiB, and the dispatcher 8,192 characters before it writes a manifest."""
_GRACE = 1200.0
"""Seconds beyond the task's own deadline that a load is waited for: queueing, start, and two retries."""


class RawZone:
    """The raw bucket with the questions that the ledger's readers ask; bytes come through the data plane's store."""

    def __init__(self, stage: Stage, bucket: str) -> None:
        self._stage = stage
        self.bucket = bucket
        self.s3 = Bucket(stage.aws, bucket)

    @functools.cached_property
    def store(self) -> S3Store:
        """The container's own reader of the bucket."""
        from etl_container.objects_s3 import S3Store

        return S3Store(self.bucket, self._stage.aws.account, self._stage.aws.region, self._stage.lake.profile)

    def find(self, key: str, version: str | None = None) -> ObjectRef:
        check_key(key)
        return self.store.find(key, version)

    def open(self, ref: ObjectRef) -> BinaryIO:
        return self.store.open(ref)

    def local_path(self, ref: ObjectRef) -> Path | None:
        return self.store.local_path(ref)

    def list(self, prefix: str = "raw/") -> Iterator[ObjectRef]:
        return self.store.list(prefix)

    def versions(self, key: str) -> Sequence[ObjectRef]:
        """Every version of a key, oldest first."""
        found = [item for item in self.s3.versions(key) if item.key == key]
        ordered = sorted(found, key=lambda item: (item.latest, item.modified))
        return [
            ObjectRef(self.bucket, item.key, item.version, "", item.size, item.digest, item.modified)
            for item in ordered
        ]


class AwsTarget(LocalTarget):
    """A stage in AWS; see :class:`lakectl.targets.base.Target`. Nothing is asked of the account before it is needed.

    Args:
        lake: with the stage chosen.
        sleep: waits between two looks.
        clock: monotonic seconds.
    """

    landers = 8

    def __init__(
        self, lake: Lake, *, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.lake = lake
        self.stage = lake.stage
        self.sleep = sleep
        self._clock = clock
        self._landed: set[tuple[str, str]] = set()
        self._on_event: OnEvent = silent

    def close(self) -> None:
        """Nothing is held open."""

    @property
    def _empty(self) -> bool:
        """A deployed stage has its ledger from the beginning."""
        return False

    # -- what is deployed ------------------------------------------------------------------------------------------

    @functools.cached_property
    def opened(self) -> Stage:
        """The account; one call to STS."""
        return facts.open_stage(self.lake)

    @functools.cached_property
    def stack(self) -> Stack:
        """The pipeline's stack."""
        try:
            found = Stacks(self.opened.aws).describe(self.opened.settings.names.stack)
        except StackNotFoundError:
            found = None
        if found is None or "RawBucket" not in found.outputs:
            raise NotDeployedError(
                f"stage '{self.stage}' is not deployed in account {self.opened.aws.account}, {self.opened.aws.region}",
                hint=facts.overruled_region(self.lake) or f"lakectl deploy --stage {self.stage}",
            )
        return found

    @functools.cached_property
    def outputs(self) -> Any:
        """The stack's outputs."""
        return self.stack.outputs

    @functools.cached_property
    def store(self) -> Any:  # type: ignore[override]
        """The raw zone."""
        return RawZone(self.opened, self.outputs["RawBucket"])

    def _api(self, secret: str = "ReaderSecretArn") -> DataApi:  # noqa: S107  the name of an output
        return DataApi(
            self.opened.aws,
            cluster=self.outputs["DatabaseArn"],
            database=self.outputs["DatabaseName"],
            secret=self.outputs[secret],
            sleep=self.sleep,
            clock=self._clock,
            on_waking=lambda: self._on_event(Notice("waking the database; this takes about 15 seconds")),
        )

    @functools.cached_property
    def _reader(self) -> DataSession:
        return DataSession(self._api())

    def _open(self, on_event: OnEvent = silent) -> Any:
        if on_event is not silent:
            self._on_event = on_event
        return self._reader

    def _warehouse(self, on_event: OnEvent = silent) -> str:
        raise UsageError(
            f"the warehouse of stage {self.stage} has no address on this machine", hint="--warehouse DSN, or --via DSN"
        )

    @functools.cached_property
    def tasks(self) -> Tasks:
        """Those of the stage."""
        return Tasks(self.opened.aws, self.outputs["ClusterName"], sleep=self.sleep, clock=self._clock)

    @property
    def dispatch_log(self) -> DispatchLog:
        """What the dispatcher says."""
        return DispatchLog(Logs(self.opened.aws), self.outputs["DispatchLogGroup"])

    @property
    def queue(self) -> Queue:
        """What waits for the dispatcher."""
        return Queue(self.opened.aws, self.outputs["QueueUrl"])

    @property
    def parked(self) -> Queue:
        """What has failed too often."""
        return Queue(self.opened.aws, self.outputs["DeadQueueUrl"])

    # -- objects in ------------------------------------------------------------------------------------------

    @property
    def where(self) -> str:
        return f"account {self.opened.aws.account}, {self.opened.aws.region}"

    @property
    def raw_zone(self) -> str:
        return f"s3://{self.outputs['RawBucket']}"

    def land(self, path: str | None, key: str, *, on_event: OnEvent = silent) -> Landed:
        check_key(key)
        self._on_event = on_event
        if path is None:
            with tempfile.NamedTemporaryFile(prefix="lakectl-") as spool:
                while chunk := sys.stdin.buffer.read(1 << 20):
                    spool.write(chunk)
                spool.flush()
                return self._land(Path(spool.name), "standard input", key, on_event)
        return self._land(Path(path), path, key, on_event)

    def _land(self, path: Path, name: str, key: str, on_event: OnEvent) -> Landed:
        try:
            size = path.stat().st_size
            if path.is_dir():
                raise UsageError(f"{name} is a directory")
            if size == 0:
                raise UnreadableObjectError(f"{name} is empty: nothing to land")
            digest = digest_of(path)
        except FileNotFoundError:
            raise NotFoundError(f"no file {name}") from None
        except PermissionError:
            raise PermissionDeniedError(f"{name} may not be read", hint=f"chmod +r {name}") from None
        bucket: Bucket = self.store.s3
        newest = bucket.head(key)
        if newest is not None and newest.digest == digest and not self._is_undone_version(key, newest.version):
            on_event(Landing(key, size, size))
            return Landed(key, newest.version, size, created=False)
        version = bucket.upload(
            path,
            key,
            digest=digest,
            journal=self.lake.state_dir / "uploads",
            on_bytes=lambda done: on_event(Landing(key, done, size)),
        )
        self._landed.add((key, version))
        return Landed(key, version, size, created=True)

    def _is_undone_version(self, key: str, version: str) -> bool:
        found = self._reader.run("object_state", bucket=self.store.bucket, key=key, version=version)
        return bool(found) and found[0][0] == "undone"

    def load(self, objects: Sequence[tuple[str, str | None]], *, on_event: OnEvent = silent) -> Iterator[LoadReport]:
        """Wait for what was just landed; order the rest. What is loaded already is said at once."""
        self._on_event = on_event
        pairs = self._versions(objects)
        states = {(key, version): state for key, version, state, _digest in self._states()}
        rest: list[tuple[str, str]] = []
        for pair in pairs:
            if pair not in self._landed and states.get(pair) in ("loaded", "superseded"):
                yield self._already(*pair, states[pair])
            else:
                rest.append(pair)
        yield from self._wait(rest, [pair for pair in rest if pair not in self._landed], again=False)

    def reload(self, objects: Sequence[tuple[str, str | None]], *, on_event: OnEvent = silent) -> Iterator[LoadReport]:
        self._on_event = on_event
        pairs = self._versions(objects)
        yield from self._wait(pairs, pairs, again=True)

    def _versions(self, objects: Sequence[tuple[str, str | None]]) -> list[tuple[str, str]]:
        return [(key, version or self.store.find(key).version) for key, version in objects]

    def _already(self, key: str, version: str, state: str) -> LoadReport:
        from etl_container import ledger

        dataset = self.lake.dataset_of(key)
        runs = [run for run in ledger.list_runs(self._reader, key=key) if run.version == version]  # type: ignore[arg-type]
        done = next((run for run in runs if run.state in ("loaded", "superseded")), None)
        return LoadReport(
            key=key,
            version=version,
            dataset=dataset.name,
            table=dataset.table,
            state="already_loaded" if state == "loaded" else "superseded",
            rows=(done.rows if done else 0) or 0,
            rejects=(done.rejects if done else 0) or 0,
            run=str(done.id) if done else None,
        )

    def _wait(
        self, pairs: Sequence[tuple[str, str]], ordered: Sequence[tuple[str, str]], *, again: bool
    ) -> Iterator[LoadReport]:
        if not pairs:
            return
        follower = Follower(
            self.lake,
            self.store.bucket,
            self._reader,
            self.tasks,
            self.dispatch_log,
            self.queue,
            functools.partial(self._order, again=again),
            sleep=self.sleep,
            clock=self._clock,
        )
        within = self.opened.settings.deadline + _GRACE
        try:
            yield from follower.follow(pairs, ordered=ordered, within=within, on_event=self._on_event)
        except RefusedError as refusal:
            found = Stacks(self.opened.aws).find(self.stack.name)
            if found is not None and found.status != "DELETE_IN_PROGRESS":
                raise
            raise NotDeployedError(
                f"stage '{self.stage}' was destroyed in the meantime", hint=f"lakectl deploy --stage {self.stage}"
            ) from refusal

    def _order(self, pairs: Sequence[tuple[str, str]], *, again: bool) -> dict[str, str]:
        """Work orders to the queue that the events go to, so that one pace and one retry rule hold for both.

        Returns:
            the trace of each version's work.
        """
        traces: dict[str, str] = {}
        for start in range(0, len(pairs), _ORDER):
            trace = secrets.token_hex(16)
            objects = [
                {"key": key, "version": version, "sequencer": None, "size": None, "etag": None}
                for key, version in pairs[start : start + _ORDER]
            ]
            self.queue.send({"lake_work": {"objects": objects, "attempt": 1, "trace": trace, "again": again}})
            traces |= {version: trace for _, version in pairs[start : start + _ORDER]}
        return traces

    def load_here(
        self,
        objects: Sequence[tuple[str, str | None]],
        warehouse: str | None,
        *,
        container: bool = False,
        on_event: OnEvent = silent,
    ) -> Iterator[LoadReport]:
        if container:
            with self._nearby(warehouse, on_event) as dsn:
                yield from in_container.load(self, self._versions(objects), dsn, on_event)
            return
        from etl_container.warehouse import Session

        with self._nearby(warehouse, on_event) as dsn, Session(dsn) as session:
            yield from self._process(objects, session, on_event, again=False)

    @contextlib.contextmanager
    def _nearby(self, warehouse: str | None, on_event: OnEvent = silent) -> Iterator[str]:
        """A warehouse that this machine reaches; without a DSN the local stage's, since Aurora's network is closed."""
        if warehouse is not None:
            yield warehouse
            return
        local = LocalTarget(dataclasses.replace(self.lake, stage=LOCAL))
        try:
            yield local._warehouse(on_event)
        finally:
            local.close()

    def rehearse(self, path: str | None, key: str) -> LoadReport:
        from etl_container.pipeline import rehearse
        from etl_container.warehouse import Session

        if path is not None:
            raise UsageError(
                f"{path} is a file; stage {self.stage} has objects",
                hint=f"lakectl run-local --stage {LOCAL} {path} --dry-run",
            )
        with self._nearby(None) as dsn, Session(dsn) as session:
            return rehearse(self.store.find(key), self.lake, self.store, session)

    # -- questions ------------------------------------------------------------------------------------------

    def query(
        self, sql: str, parameters: dict[str, str], *, write: bool = False, limit: int | None = None
    ) -> QueryResult:
        if write:
            return data_api.write(self._api("MasterSecretArn"), sql, parameters, role=database.OWNER)
        return data_api.read(self._reader.api, sql, parameters, limit=limit)

    def tables(self) -> list[TableInfo]:
        session = self._reader
        found = session.run("list_tables")
        if not found:
            return []
        counts = " union all ".join(
            f"select {literal(table)} as name, count(*) as n from public.{_quoted(table)}"  # noqa: S608  quoted above
            for table, *_ in found
        )
        rows = dict(session.api.execute(counts).rows)
        infos = []
        for table, dataset, objects, updated, size in found:
            columns = tuple(
                ColumnInfo(name, kind, label or None)
                for name, kind, label, _nulls in session.run("table_columns", table=table, lineage="_lake_run")
            )
            infos.append(TableInfo(table, columns, int(rows[table]), int(size or 0), dataset, int(objects), updated))
        return infos

    def _runs(self, *, dataset: str | None = None, key: str | None = None, limit: int | None = None) -> list[Run]:
        return self._without_dead(super()._runs(dataset=dataset, key=key, limit=limit))

    def _run(self, number: int) -> Run:
        return self._without_dead([super()._run(number)])[0]

    def _without_dead(self, runs: list[Run]) -> list[Run]:
        """Runs whose task died are failed, though only the next task may write that down."""
        if not any(run.state == "running" for run in runs):
            return runs
        dead = {row[0] for row in self._reader.run("dead_runs", space=_RUN_SPACE)}
        return [_buried(run) if run.id in dead else run for run in runs]

    def status(self) -> StatusReport:
        outputs, aws = self.outputs, self.opened.aws
        found = databases.Databases(aws).find(outputs["DatabaseIdentifier"])
        waiting, parked = self.queue.depth(), self.parked.depth()
        running = self.tasks.list(family=outputs["TaskFamily"])
        feed = functions.state(aws, outputs["EventSourceMapping"]) if "EventSourceMapping" in outputs else None
        objects: dict[str, int] = {}
        for info in self.objects():
            objects[info.state] = objects.get(info.state, 0) + 1
        tables = self.tables()
        acu = "" if found is None or found.maximum is None else f", {found.minimum:g} to {found.maximum:g} ACU"
        known = [
            ("raw zone", f"{self.raw_zone}/raw/"),
            ("stack", f"{self.stack.name}: {self.stack.status}"),
            ("image", outputs.get("ImageUri") or self.stack.parameters.get("ImageUri", "").rpartition("@")[2][:19]),
            (
                "queue",
                f"{waiting.waiting} waiting, {waiting.in_flight} in flight, {waiting.delayed} to be retried later",
            ),
            ("parked", str(parked.waiting)),
            ("tasks", f"{len(running)} running"),
            ("tables", f"{len(tables)}, {sum(table.rows for table in tables):,} rows"),
        ]
        problems = []
        if self.stack.situation.standing != "usable":
            problems.append(f"the stack {self.stack.situation.sentence}: lakectl deploy")
        if feed not in (None, "Enabled"):
            problems.append(f"the dispatcher does not read its queue ({feed}): lakectl deploy")
        if parked.waiting:
            problems.append(f"{plural(parked.waiting, 'parked event')}: lakectl retry --list, then lakectl retry")
        rejected = self._reader.run("objects_with_rejects", dataset=None)
        problems += ledger_problems(objects.get("failed", 0), sum(count for *_, count in rejected))
        if objects.get("pending") and not (waiting.waiting or waiting.in_flight or waiting.delayed or running):
            problems.append(f"{plural(objects['pending'], 'object')} not loaded, and nothing on its way: lakectl run")
        warehouse = f"Aurora PostgreSQL {found.version}{acu}" if found else "no database"
        state = "ready" if found and found.status == "available" else found.status if found else "missing"
        return StatusReport(self.stage, warehouse, state, tuple(known), objects, tuple(problems))

    def explain(self, subject: str) -> Explanation:
        from lakectl.targets import aws_explaining

        known = super().explain(subject)
        return aws_explaining.with_hops(self, subject, known)

    # -- rejects and second thoughts -----------------------------------------------------------------------------------

    def _again(self, chosen: Sequence[tuple[str, str]], on_event: OnEvent) -> Iterator[LoadReport]:
        return self.reload(chosen, on_event=on_event)

    def _mend(self, session: Any, path: Path, dataset: str | None) -> list[tuple[str, str]]:
        """The mended records go to the ledger over the Data API; the loads are tasks."""
        concerned: dict[tuple[str, str], None] = {}
        writer = self._api("MasterSecretArn")
        with writer.transaction() as number:
            writer.execute(f"set local role {database.OWNER}", transaction=number)
            for one in self._replacements(path, dataset):
                values = asdict(one) | {"cells": json.dumps(list(one.cells), ensure_ascii=False)}
                writer.execute(data_api.named("mend_record", values), transaction=number)
                concerned[one.key, one.version] = None
        return list(concerned)

    def undo(self, run: str, *, on_event: OnEvent = silent) -> UndoReport:
        """A task undoes it: what it replaced is read again from the raw zone and copied in."""
        if not run.isdigit():
            raise UsageError(f"{run!r} is not a run", hint="lakectl runs")
        from etl_container import ledger

        self._open(on_event)
        ledger.get_run(self._reader, int(run))  # type: ignore[arg-type]
        said = self._task({"LAKE_ACTION": "undo", "LAKE_RUN": run}, f"undo-{run}", on_event)
        done = said.get("undone")
        if not isinstance(done, dict):
            code = int(said.get("exit_code") or 0)
            kind = {2: UsageError, 3: NotFoundError, 6: DataError}.get(code, InfrastructureError)
            raise kind(str(said.get("error") or f"the task ended with exit code {code}"), hint=said.get("hint"))
        return UndoReport(
            str(done["run"]), done["table"], int(done["removed"]), int(done["restored"]), done["restored_version"]
        )

    def _task(self, environment: dict[str, str], what: str, on_event: OnEvent) -> dict[str, Any]:
        """Run one task of our own and return its last word."""
        outputs = self.outputs
        placement = Placement(
            outputs["ClusterName"],
            outputs["TaskDefinitionArn"],
            tuple(outputs["Subnets"].split(",")),
            outputs["SecurityGroup"],
            outputs["AssignPublicIp"],
            outputs.get("CapacityProvider", "FARGATE"),
        )
        started = self.tasks.run(
            placement,
            {**environment, "LAKE_TRACE": secrets.token_hex(16)},
            started_by=f"lakectl/{getpass.getuser()}"[:36],
            token=f"{what}-{secrets.token_hex(8)}"[:64],
        )
        last = started
        for last in self.tasks.follow(started.arn, within=self.opened.settings.deadline + 300):
            on_event(Notice(f"task {last.id[:8]} is {last.status.lower()}"))
        said = last_word(Logs(self.opened.aws), outputs["TaskLogGroup"], f"etl/etl/{last.id}", sleep=self.sleep)
        if said is None:
            raise InfrastructureError(why_stopped(last), hint=f"lakectl logs --since 1h; task {last.id}")
        return said

    # -- doctor ------------------------------------------------------------------------------------------

    def checks(self) -> Iterable[Check]:
        from lakectl.targets import aws_checks

        yield from aws_checks.checks(self)


_RUN_SPACE = 0x1A4E
"""See ``etl_container.ledger``: the advisory locks that say "this run is alive"."""


def last_word(
    logs: Logs, group: str, stream: str, *, tries: int = 5, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any] | None:
    """The final line of a task's log, which may come a little after its end."""
    for attempt in range(tries):
        for line in reversed(logs.read(group, since=0, stream=stream)):
            with contextlib.suppress(ValueError):
                value = json.loads(line.text)
                if isinstance(value, dict) and value.get("event") == "done":
                    return cast("dict[str, Any]", value)
        if attempt < tries - 1:
            sleep(1.0)
    return None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _buried(run: Run) -> Run:
    from etl_container import ledger

    hint = f"it is retried by itself, or: lakectl run {run.key}"
    return replace(run, state="failed", rows=0, error=ledger.DIED, hint=hint, exit_code=1)
