"""A plan, carried out step by step. Every step looks first and can be done again: interrupted, the next run goes on.

Yields :class:`Event`; whoever called draws them. The one question that may come up on the way, whether a change set may
replace or remove what holds data, goes to ``approve``.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, assert_never

from lakectl.aws import builds, databases, functions, tags
from lakectl.aws.cloudformation import BODY_LIMIT, ChangeSet, Stack, StackEvent, Stacks
from lakectl.aws.ecr import Repository
from lakectl.aws.ecs import Tasks, why_stopped
from lakectl.aws.rds_data import DataApi
from lakectl.aws.refusals import RefusedError
from lakectl.aws.s3 import Bucket
from lakectl.deploy import database, facts, image
from lakectl.deploy.facts import Parts, Stage
from lakectl.deploy.model import (
    LATER,
    PRECIOUS,
    ApplySchema,
    ApplyStack,
    AwaitStack,
    Canary,
    ContinueRollback,
    DeleteBucket,
    DeleteLogs,
    DeleteSnapshots,
    DeleteStack,
    DeregisterTasks,
    EmptyBucket,
    EmptyRepository,
    Event,
    LiftProtection,
    PauseDispatch,
    Plan,
    PropertyDiff,
    ProtectStack,
    PushImage,
    ResourceDiff,
    Step,
    StopTasks,
    UnprotectDatabase,
    UploadArtifact,
    Wanted,
    canary_mark,
    schema_mark,
)
from lakectl.errors import DeadlineError, InfrastructureError, LakectlError, UsageError

CANARY = "lake_canary"
"""The canary's dataset and table."""
_CANARY_WITHIN = 600.0

Approve = Callable[[tuple[ResourceDiff, ...]], bool]


@dataclass(frozen=True, slots=True)
class Work:
    """What the steps need besides themselves."""

    stage: Stage
    wanted: Wanted
    parts: Parts = field(repr=False)
    approve: Approve = lambda _changes: False
    """Asked when a change set replaces or removes something precious."""
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    @property
    def stacks(self) -> Stacks:
        return Stacks(self.stage.aws, sleep=self.sleep, clock=self.clock)

    @property
    def artifacts(self) -> Bucket:
        return Bucket(self.stage.aws, self.wanted.artifact_bucket)


def execute(plan: Plan, work: Work) -> Iterator[Event]:
    """Carry a plan out; events as they happen.

    Raises:
        LakectlError: a step failed; what was done stays, and the same command goes on from there.
    """
    for number, step in enumerate(plan.steps, 1):
        started = work.clock()
        yield Event("begin", step, number=number)
        for text in _do(step, work):
            yield Event("progress", step, text, number)
        yield Event("done", step, number=number, seconds=work.clock() - started)


def _do(step: Step, work: Work) -> Iterator[str]:  # noqa: PLR0911, PLR0912  a table of steps
    match step:
        case AwaitStack():
            return _await(step, work)
        case ContinueRollback():
            return _continue(step, work)
        case DeleteStack():
            return _delete(step, work)
        case ApplyStack():
            return _apply(step, work)
        case PushImage():
            return _push(step, work)
        case UploadArtifact():
            return _upload(step, work)
        case ApplySchema():
            return _schema(step, work)
        case ProtectStack():
            return _protect(step.stack, work, on=True)
        case LiftProtection():
            return _protect(step.stack, work, on=False)
        case Canary():
            return _canary(work)
        case PauseDispatch():
            return _pause(step, work)
        case StopTasks():
            return _stop(step, work)
        case UnprotectDatabase():
            return _unprotect(step, work)
        case EmptyBucket():
            return _empty_bucket(step, work)
        case EmptyRepository():
            return _empty_repository(step, work)
        case DeleteBucket():
            return _delete_bucket(step, work)
        case DeleteSnapshots():
            return _delete_snapshots(step, work)
        case DeregisterTasks():
            return _deregister(step, work)
        case DeleteLogs():
            return _delete_logs(step, work)
        case _:
            assert_never(step)


# -- stacks ------------------------------------------------------------------------------------------------------------


def _apply(step: ApplyStack, work: Work) -> Iterator[str]:
    stacks = work.stacks
    found = stacks.find(step.stack)
    if found is not None and found.situation.standing == "busy":
        yield f"somebody else is at it: it {found.situation.sentence}"
        yield from _await(AwaitStack(step.stack, found.situation.sentence), work)
        found = stacks.find(step.stack)
    if found is not None and found.situation.remedy == "delete":
        yield from _delete(DeleteStack(step.stack, found.situation.sentence), work)
        found = None
    kind: Literal["CREATE", "UPDATE"] = "CREATE" if found is None else "UPDATE"
    parameters = {**step.parameters, **_late(step, work)}
    body, url = _template(step, work)
    change_set = stacks.prepare(
        step.stack, kind=kind, body=body, url=url, parameters=parameters, tags=step.tags, adopt=step.adopt
    )
    if change_set is None:
        yield "nothing to change"
        return
    _ask(change_set, work)
    counts = _counted(change_set)
    yield f"change set: {counts}"
    before = stacks.newest_event(step.stack) if found is not None else None
    stacks.execute(change_set)
    target = stacks.describe(step.stack)
    yield from map(_event_text, _worth_telling(stacks.follow(target.id, after=before)))
    _check(stacks, stacks.describe(target.id), step)


def _template(step: ApplyStack, work: Work) -> tuple[str | None, str | None]:
    """The template as the call takes it; the pipeline's is kept in the artifact bucket for rollback, too."""
    if step.role == "bootstrap":
        return step.template, None
    key = template_key(step.template)
    if work.artifacts.head(key) is None:
        work.artifacts.write(key, step.template.encode())
    if len(step.template.encode()) <= BODY_LIMIT:
        return step.template, None
    region = work.stage.aws.region
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return None, f"https://{work.wanted.artifact_bucket}.s3.{region}.{suffix}/{key}"


def template_key(template: str) -> str:
    """Where a template is kept in the artifact bucket."""
    return f"templates/{hashlib.sha256(template.encode()).hexdigest()}.yaml"


def _late(step: ApplyStack, work: Work) -> Mapping[str, str]:
    """The parameters that earlier steps have decided."""
    late = [name for name, value in step.parameters.items() if value == LATER]
    if not late:
        return {}
    outputs = work.stacks.describe(work.wanted.bootstrap_stack).outputs
    values = {}
    if "ImageUri" in late:
        digest = Repository(work.stage.aws, work.wanted.repository).digest(work.wanted.image_tag)
        if digest is None:
            raise InfrastructureError("the image is not in the repository", hint="lakectl deploy builds it again")
        values["ImageUri"] = f"{outputs['RepositoryUri']}@{digest}"
    if "KeyArn" in late:
        values["KeyArn"] = outputs["KeyArn"]
    return values


def _ask(change_set: ChangeSet, work: Work) -> None:
    """What loses data needs a word; without it the change set is discarded and nothing has happened."""
    losses = tuple(
        ResourceDiff(
            "remove" if change.action == "Remove" else "modify",
            change.logical_id,
            change.type,
            change.replaces,
            tuple(PropertyDiff(prop.path, prop.before, prop.after) for prop in change.properties),
        )
        for change in change_set.changes
        if change_set.kind == "UPDATE"
        and change.type in PRECIOUS
        and (change.replaces != "never" or change.action == "Remove")
    )
    if losses and not work.approve(losses):
        work.stacks.discard(change_set.stack, change_set.id)
        told = ", ".join(f"{loss.logical_id} ({PRECIOUS[loss.type]})" for loss in losses)
        raise UsageError(
            f"the change would replace or remove {told}; nothing was changed",
            hint="if that is meant: run it at a terminal and type the stage's name",
        )


def _counted(change_set: ChangeSet) -> str:
    verbs = {"Add": "to create", "Modify": "to change", "Remove": "to delete", "Import": "to take back in"}
    counts = {verb: sum(change.action == action for change in change_set.changes) for action, verb in verbs.items()}
    return ", ".join(f"{count} {verb}" for verb, count in counts.items() if count) or "changes of outputs or tags"


def _check(stacks: Stacks, stack: Stack, step: ApplyStack) -> None:
    if stack.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"):
        return
    causes = [f"{event.logical_id}: {event.reason}" for event in stacks.failures(stack.id) if event.reason]
    why = "\n".join(causes[:3]) or stack.reason or "no reason given"
    hint = "mend the cause, then run lakectl deploy again"
    if stack.situation.remedy == "delete":
        hint = "mend the cause, then run lakectl deploy again: it deletes what is left of the stack first"
    raise InfrastructureError(f"stack {stack.name} {stack.situation.sentence} ({stack.status}):\n{why}", hint=hint)


def _await(step: AwaitStack, work: Work) -> Iterator[str]:
    found = work.stacks.find(step.stack)
    if found is None:
        return
    before = work.stacks.newest_event(found.id)
    yield from map(_event_text, _worth_telling(work.stacks.follow(found.id, after=before)))
    after = work.stacks.find(found.id)
    if after is not None and after.situation.standing == "stuck" and after.situation.remedy != "delete":
        raise InfrastructureError(f"stack {after.name} {after.situation.sentence}", hint="run the same command again")


def _continue(step: ContinueRollback, work: Work) -> Iterator[str]:
    """First as it is, since the cause may be gone; then without the resources that are in the way."""
    stacks = work.stacks
    for skip in ((), step.skip) if step.skip else ((),):
        found = stacks.describe(step.stack)
        if found.situation.standing == "usable":
            return
        before = stacks.newest_event(found.id)
        if skip:
            yield f"leaving as they are: {', '.join(skip)}"
        stacks.continue_rollback(step.stack, skip)
        yield from map(_event_text, _worth_telling(stacks.follow(found.id, after=before)))
    if (found := stacks.describe(step.stack)).situation.standing != "usable":
        raise InfrastructureError(
            f"stack {step.stack} {found.situation.sentence}: {found.reason or 'no reason given'}",
            hint="mend the resource that it names, then run the same command again",
        )


def _delete(step: DeleteStack, work: Work) -> Iterator[str]:
    """Plainly; then leaving behind what cannot be deleted, unless it is the database; then by force."""
    stacks = work.stacks
    found = stacks.find(step.stack)
    if found is None:
        yield "it is gone"
        return
    for attempt in ("plain", "retain", "force"):
        before = stacks.newest_event(found.id)
        left_over = [item for item in stacks.resources(found.id) if item[3] == "DELETE_FAILED"]
        stuck = [logical for logical, *_ in left_over]
        if attempt == "retain" and not stuck:
            continue
        if attempt != "plain" and any(kind.startswith("AWS::RDS::") for _, _, kind, _ in left_over):
            # Left behind, a database goes on costing money, and no stack would ever delete it.
            why = "\n".join(f"{event.logical_id}: {event.reason}" for event in stacks.failures(found.id)[:3])
            raise InfrastructureError(
                f"the database of stack {step.stack} cannot be deleted:\n{why}", hint="run the same command again"
            )
        if attempt != "plain":
            yield f"what cannot be deleted stays behind: {', '.join(stuck) or 'nothing known'}"
        stacks.delete(found.id, retain=stuck if attempt == "retain" else (), force=attempt == "force")
        yield from map(_event_text, _worth_telling(stacks.follow(found.id, after=before)))
        left = stacks.find(found.id)
        if left is None:
            return
        found = left
    raise InfrastructureError(
        f"stack {step.stack} {found.situation.sentence}: {found.reason or 'no reason given'}",
        hint="delete what it names in the console, then run the same command again",
    )


def _protect(stack: str, work: Work, *, on: bool) -> Iterator[str]:
    if work.stacks.find(stack) is not None:
        work.stacks.protect(stack, on)
    yield from ()


def _worth_telling(events: Iterator[StackEvent]) -> Iterator[StackEvent]:
    """Ends and failures; that something began is no news."""
    return (event for event in events if not event.status.endswith("IN_PROGRESS") or event.reason)


def _event_text(event: StackEvent) -> str:
    status = event.status.lower().replace("_", " ")
    told = f": {event.reason}" if event.reason and (event.failed or "IN_PROGRESS" in event.status) else ""
    return f"{event.logical_id} {status}{told}"


# -- image and artifacts -----------------------------------------------------------------------------------------------


def _push(step: PushImage, work: Work) -> Iterator[str]:
    aws = work.stage.aws
    repository = Repository(aws, step.repository)
    if repository.digest(step.tag) is not None:
        yield "it is there already"
        return
    outputs = work.stacks.describe(work.wanted.bootstrap_stack).outputs
    engine = image.find_engine(step.builder)
    if engine is None:
        yield "no container engine answers here: CodeBuild builds it" if step.builder is None else "CodeBuild builds it"
        yield from _build_remotely(step, work, outputs)
    else:
        yield f"with {engine.name}"
        content = work.parts.image
        yield from image.build_and_push(
            engine, outputs["RepositoryUri"], step.tag, step.platform, repository.login(), content
        )
    digest = repository.digest(step.tag)
    if digest is None:
        raise InfrastructureError(
            f"the image was pushed, and {step.repository} has no {step.tag[:12]}", hint="lakectl deploy"
        )
    yield f"the repository has it as {digest[:19]}…"


def _build_remotely(step: PushImage, work: Work, outputs: Mapping[str, str]) -> Iterator[str]:
    from lakectl.deploy.bundle import zipped

    key = f"build/{step.tag}.zip"
    work.artifacts.write(key, zipped(work.parts.image))
    yield from builds.build(
        work.stage.aws,
        outputs["BuilderName"],
        source=f"{work.wanted.artifact_bucket}/{key}",
        tag=step.tag,
        sleep=work.sleep,
        clock=work.clock,
    )


def _upload(step: UploadArtifact, work: Work) -> Iterator[str]:
    artifact = work.parts.bundle if step.what == "bundle" else work.parts.handler
    if artifact.key != step.key:
        raise InfrastructureError(f"{step.key} is not in the artifact bucket any more", hint="lakectl deploy")
    Bucket(work.stage.aws, step.bucket).write(step.key, artifact.content)
    yield f"{len(artifact.content):,} bytes"


# -- database and canary -----------------------------------------------------------------------------------------------


def data_api(work: Work, outputs: Mapping[str, str], secret: str, on_waking: Callable[[], None]) -> DataApi:
    """The stage's database, as the user of a secret."""
    return DataApi(
        work.stage.aws,
        cluster=outputs["DatabaseArn"],
        database=outputs["DatabaseName"],
        secret=outputs[secret],
        sleep=work.sleep,
        clock=work.clock,
        on_waking=on_waking,
    )


def _schema(step: ApplySchema, work: Work) -> Iterator[str]:
    outputs = work.stacks.describe(work.wanted.pipeline_stack).outputs
    said: list[str] = []
    master = data_api(work, outputs, "MasterSecretArn", lambda: said.append("waking the database"))
    password = databases.secret(work.stage.aws, outputs["ReaderSecretArn"])["password"]
    for text in database.set_up(master, password):
        yield from said
        said.clear()
        yield text
    work.artifacts.write(facts.SCHEMA_MARK, schema_mark(outputs, step.migration).encode())


def _canary(work: Work) -> Iterator[str]:
    """One object from the bucket to the table, by the same way as every other; then no trace of it is left."""
    stack = work.stacks.describe(work.wanted.pipeline_stack)
    outputs = stack.outputs
    said: list[str] = []
    reader = data_api(work, outputs, "ReaderSecretArn", lambda: said.append("waking the database"))
    reader.execute("select 1")
    yield from said
    raw = Bucket(work.stage.aws, outputs["RawBucket"])
    key = f"raw/{CANARY}/{secrets.token_hex(8)}.csv"
    started = work.clock()
    version = raw.write(key, b"song,volume\ntweet,11\nchirp,7\n")
    yield "sent"
    try:
        yield from _watched(work, outputs, reader, raw.name, key)
        yield f"arrived after {work.clock() - started:.1f} s"
    except BaseException:
        with contextlib.suppress(LakectlError):
            raw.remove(key, version)
        raise
    raw.remove(key, version)
    master = data_api(work, outputs, "MasterSecretArn", lambda: None)
    database.sweep(master, CANARY, CANARY)
    raw.empty(prefix=f"raw/{CANARY}/")
    work.artifacts.write(facts.CANARY_MARK, canary_mark(outputs, stack.parameters).encode())
    yield "removed"


def _watched(work: Work, outputs: Mapping[str, str], reader: DataApi, bucket: str, key: str) -> Iterator[str]:
    """Until the canary's run is over; tells what its task does meanwhile."""
    tasks = Tasks(work.stage.aws, outputs["ClusterName"], sleep=work.sleep, clock=work.clock)
    started = looked = work.clock()
    seen: dict[str, str] = {}
    troubles: list[str] = []
    query = (
        f"select state, error from lake.runs where bucket = '{bucket}' and key = '{key}'"  # noqa: S608  names of ours
        " and state <> 'running' order by id desc limit 1"
    )
    while True:
        found = reader.execute(query).rows
        if found and found[0][0] == "loaded":
            return
        if found and found[0][0] == "failed":
            raise InfrastructureError(f"the canary was refused: {found[0][1]}", hint=f"lakectl explain {key}")
        if work.clock() - looked >= 4.0:
            looked = work.clock()
            for task in (*tasks.list(family=outputs["TaskFamily"]), *tasks.list(stopped=True)):
                if key not in task.environment.get("LAKE_OBJECTS", "") or seen.get(task.arn) == task.status:
                    continue
                seen[task.arn] = task.status
                why = f": {why_stopped(task)}" if task.status == "STOPPED" and task.exit_code != 0 else ""
                if why:
                    troubles.append(why_stopped(task))
                yield f"task {task.id[:8]} is {task.status.lower()}{why}"
        if len(troubles) >= 2 or work.clock() - started > _CANARY_WITHIN:
            why = troubles[-1] if troubles else f"nothing of it was seen for {_CANARY_WITHIN / 60:.0f} minutes"
            raise DeadlineError(f"the canary did not arrive: {why}", hint="lakectl logs --since 15m; lakectl doctor")
        work.sleep(1.0)


# -- destroy -----------------------------------------------------------------------------------------------------------


def _pause(step: PauseDispatch, work: Work) -> Iterator[str]:
    found = work.stacks.find(step.stack)
    mapping = found.outputs.get("EventSourceMapping") if found is not None else None
    if mapping is None or not functions.pause(work.stage.aws, mapping, sleep=work.sleep):
        yield "there is none"


def _stop(step: StopTasks, work: Work) -> Iterator[str]:
    tasks = Tasks(work.stage.aws, step.cluster, sleep=work.sleep, clock=work.clock)
    try:
        running = tasks.list()
        for task in running:
            tasks.stop(task.arn, "the lake is being destroyed")
        yield f"{len(running)} running"
        for task in running:
            for _ in tasks.follow(task.arn, within=180):
                pass
    except RefusedError as refusal:
        if refusal.code != "ClusterNotFoundException":
            raise
        yield "there is no cluster"


def _unprotect(step: UnprotectDatabase, work: Work) -> Iterator[str]:
    rds = databases.Databases(work.stage.aws)
    found = rds.find(step.cluster)
    if found is None:
        yield "there is none"
        return
    rds.unprotect(step.cluster)


def _empty_bucket(step: EmptyBucket, work: Work) -> Iterator[str]:
    bucket = Bucket(work.stage.aws, step.bucket)
    if not bucket.exists():
        yield "it is gone"
        return
    yield f"{bucket.empty():,} versions deleted"


def _empty_repository(step: EmptyRepository, work: Work) -> Iterator[str]:
    yield f"{Repository(work.stage.aws, step.repository).empty():,} images deleted"


def _delete_bucket(step: DeleteBucket, work: Work) -> Iterator[str]:
    bucket = Bucket(work.stage.aws, step.bucket)
    if bucket.exists():
        bucket.empty()
        bucket.delete()
    else:
        yield "it is gone"


def _delete_snapshots(step: DeleteSnapshots, work: Work) -> Iterator[str]:
    rds = databases.Databases(work.stage.aws)
    for snapshot in rds.snapshots(step.cluster):
        rds.delete_snapshot(snapshot)
        yield snapshot


def _deregister(step: DeregisterTasks, work: Work) -> Iterator[str]:
    aws = work.stage.aws
    arns = list(aws.pages("ecs", "list_task_definitions", "taskDefinitionArns", familyPrefix=step.family))
    for arn in arns:
        aws.call("ecs", "deregister_task_definition", taskDefinition=arn)
    yield f"{len(arns)} revisions"


def _delete_logs(step: DeleteLogs, work: Work) -> Iterator[str]:
    for prefix in step.prefixes:
        for group in tags.log_groups(work.stage.aws, prefix):
            tags.delete_log_group(work.stage.aws, group)
            yield group


def survivors(work: Work) -> list[str]:
    """What still carries the lake's tags or names: ARNs and names, for people to look at."""
    aws, names = work.stage.aws, work.stage.settings.names
    buckets = (names.raw_bucket, names.artifact_bucket)
    found = [f"bucket {bucket}" for bucket in buckets if Bucket(aws, bucket).exists()]
    for prefix in (f"/lake/{names.prefix}/", f"/aws/rds/cluster/{names.database}/"):
        found += [f"log group {group}" for group in tags.log_groups(aws, prefix)]
    rds = databases.Databases(aws)
    if rds.find(names.database) is not None:
        found.append(f"database {names.database}")
    found += [f"snapshot {snapshot}" for snapshot in rds.snapshots(names.database)]
    for name in (names.stack, names.bootstrap_stack):
        if work.stacks.find(name) is not None:
            found.append(f"stack {name}")
    wanted = {key: value for key, value in work.stage.settings.all_tags.items() if key.startswith("lake:")}
    known = " ".join(found)
    gone = (":stack/", ":task-definition/", ":task/", ":function:", ":vpc", ":subnet", ":security-group", ":secret:")
    for arn in tags.tagged(aws, wanted):
        name = arn.rpartition(":")[2].rpartition("/")[2]
        if name not in known and not any(part in arn for part in gone):
            found.append(arn)
    return found


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
