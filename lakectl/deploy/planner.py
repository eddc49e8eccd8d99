"""From what is wanted and what is there to the steps between. Pure: tables of facts in, plans out.

The order of a first deploy is what the account dictates: the image repository before the image, the image before the
task that runs it, the database before its users, everything before the canary.
"""

from __future__ import annotations

from dataclasses import dataclass

from lakectl.deploy import diff
from lakectl.deploy.model import (
    LATER,
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
    Facts,
    LiftProtection,
    PauseDispatch,
    Plan,
    ProtectStack,
    PushImage,
    ResourceDiff,
    StackFacts,
    Step,
    StopTasks,
    UnprotectDatabase,
    UploadArtifact,
    Wanted,
    canary_mark,
    schema_mark,
)
from lakectl.errors import InfrastructureError, UsageError

_USABLE = frozenset(
    {
        "CREATE_COMPLETE",
        "UPDATE_COMPLETE",
        "IMPORT_COMPLETE",
        "UPDATE_ROLLBACK_COMPLETE",
        "IMPORT_ROLLBACK_COMPLETE",
    }
)
_DEAD = {
    "REVIEW_IN_PROGRESS": "it is an empty shell whose first change set was never executed",
    "CREATE_FAILED": "it could not be created",
    "ROLLBACK_COMPLETE": "it could not be created, and an empty stack cannot be updated",
    "ROLLBACK_FAILED": "it could not be created, and not be taken back either",
    "DELETE_FAILED": "its deletion was begun and could not be finished",
}
_HALTED = {
    "UPDATE_ROLLBACK_FAILED": "its update failed, and taking it back failed, too",
    "UPDATE_FAILED": "it stopped in the middle of an update",
    "IMPORT_ROLLBACK_FAILED": "it could not give imported resources back",
}


def plan(wanted: Wanted, facts: Facts) -> Plan:
    """The steps from what is there to what is wanted; none when they are the same.

    Raises:
        InfrastructureError: a stack is in a state that no step leads out of.
        UsageError: a stack of that name belongs to another lake or stage.
    """
    _check_ours(wanted, facts)
    if facts.bootstrap.status is None and facts.pipeline.status in _USABLE:
        raise InfrastructureError(
            f"stack {facts.pipeline.name} is there and its {facts.bootstrap.name} is not",
            hint="lakectl destroy --keep-data, then lakectl deploy: buckets and a snapshot of the database stay",
        )
    _check_whole(wanted, facts)
    steps: list[Step] = []
    notes: list[str] = []
    bootstrap = _mended(facts.bootstrap, steps, notes)
    pipeline = _mended(facts.pipeline, steps, notes)

    new = wanted.artifact_bucket in facts.orphans and bootstrap.status is None
    if _differs(bootstrap, wanted.bootstrap, {}, wanted):
        steps.append(_apply(bootstrap, "bootstrap", wanted.bootstrap, {}, wanted, adopt=new))

    image = wanted.image_uri
    if image is None and facts.image_digest is not None and facts.bootstrap.outputs.get("RepositoryUri"):
        image = f"{facts.bootstrap.outputs['RepositoryUri']}@{facts.image_digest}"
    if image is None:
        steps.append(PushImage(wanted.repository, wanted.image_tag, wanted.platform, wanted.builder))
    for key, what in ((wanted.bundle_key, "bundle"), (wanted.handler_key, "handler")):
        if key not in facts.uploaded:
            steps.append(UploadArtifact(wanted.artifact_bucket, key, what))  # type: ignore[arg-type]

    parameters = {
        "ImageUri": image or LATER,
        "BundleKey": wanted.bundle_key,
        "HandlerKey": wanted.handler_key,
        "EngineVersion": _newer(wanted.engine_version, facts.engine_version),
        "KeyArn": bootstrap.outputs.get("KeyArn", LATER),
    }
    parameters = {name: value for name, value in parameters.items() if name in wanted.parameters}
    apply = None
    if _differs(pipeline, wanted.pipeline, parameters, wanted):
        adopt = pipeline.status is None and wanted.raw_bucket in facts.orphans
        if adopt:
            notes.append(
                f"{wanted.raw_bucket} is kept from before: lakectl run loads its objects into the new database"
            )
        apply = _apply(pipeline, "pipeline", wanted.pipeline, parameters, wanted, adopt=adopt)
        steps.append(apply)

    fresh = pipeline.status is None
    if fresh or facts.schema_mark != schema_mark(pipeline.outputs, wanted.migration):
        steps.append(ApplySchema(wanted.migration))
    steps += [ProtectStack(stack.name) for stack in (bootstrap, pipeline) if wanted.protected and not stack.protected]
    if fresh or LATER in parameters.values() or facts.canary_mark != canary_mark(pipeline.outputs, parameters):
        steps.append(Canary())
    changes: tuple[ResourceDiff, ...] = ()
    if apply is not None and apply.kind == "UPDATE" and pipeline.template is not None:
        changes = diff.compare(pipeline.template, wanted.pipeline, dict(pipeline.parameters), parameters)
    if bootstrap.status is not None and bootstrap.template is not None:
        changes = (*diff.compare(bootstrap.template, wanted.bootstrap, {}, {}), *changes)
    return Plan(tuple(steps), changes, tuple(notes))


def _check_whole(wanted: Wanted, facts: Facts) -> None:
    """No update of a stack brings back what was deleted behind its back."""
    if not facts.lost:
        return
    again = "lakectl destroy --keep-data, lakectl deploy, then lakectl run, which makes every table again"
    if f"bucket {wanted.raw_bucket}" in facts.lost:
        again = (
            "save the tables (lakectl query … --output FILE), then lakectl destroy, lakectl deploy, and upload again"
        )
    raise InfrastructureError(
        f"{' and '.join(facts.lost)} was deleted by hand: CloudFormation believes it is there, and cannot mend it",
        hint=again,
    )


@dataclass(frozen=True, slots=True)
class Doomed:
    """The names of what a stage's destruction touches besides its stacks and buckets."""

    prefix: str
    cluster: str
    database: str
    family: str


def plan_destroy(wanted: Wanted, facts: Facts, names: Doomed, *, keep_data: bool) -> Plan:
    """The steps to nothing: stop, empty, delete; with ``keep_data`` the buckets and a last snapshot stay.

    Raises:
        UsageError: a stack of that name belongs to another lake or stage.
    """
    _check_ours(wanted, facts)
    pipeline, bootstrap = facts.pipeline, facts.bootstrap
    steps: list[Step] = [
        AwaitStack(stack.name, f"is busy ({stack.status})")
        for stack in (pipeline, bootstrap)
        if (stack.status or "").endswith("_IN_PROGRESS") and stack.status != "REVIEW_IN_PROGRESS"
    ]
    if pipeline.status is not None:
        steps += [PauseDispatch(pipeline.name), StopTasks(names.cluster)]
        steps += [LiftProtection(pipeline.name)] if pipeline.protected else []
        steps += [UnprotectDatabase(names.database)]
        steps += [] if keep_data else [EmptyBucket(wanted.raw_bucket)]
        steps += [DeleteStack(pipeline.name, "raw zone, dispatcher, tasks, database")]
        steps += [DeregisterTasks(names.family)]
    if not keep_data and (pipeline.status is not None or wanted.raw_bucket in facts.orphans):
        steps += [DeleteBucket(wanted.raw_bucket), DeleteSnapshots(names.database)]
    if bootstrap.status is not None:
        steps += [LiftProtection(bootstrap.name)] if bootstrap.protected else []
        steps += [EmptyRepository(wanted.repository)]
        steps += [] if keep_data else [EmptyBucket(wanted.artifact_bucket)]
        steps += [DeleteStack(bootstrap.name, "artifact bucket, image repository, builder")]
    if not keep_data and (bootstrap.status is not None or wanted.artifact_bucket in facts.orphans):
        steps += [DeleteBucket(wanted.artifact_bucket)]
    if steps:
        groups = (f"/lake/{names.prefix}/", f"/aws/lambda/{names.prefix}-", f"/aws/rds/cluster/{names.database}/")
        steps += [DeleteLogs(groups)]
    kept = f"{wanted.raw_bucket}, {wanted.artifact_bucket} and a final snapshot of {names.database} are kept"
    return Plan(tuple(steps), (), (kept,) if keep_data and steps else ())


def _check_ours(wanted: Wanted, facts: Facts) -> None:
    """Lake ``a-b`` with stage ``c`` and lake ``a`` with stage ``b-c`` would have the same names."""
    for stack in (facts.bootstrap, facts.pipeline):
        theirs = {key: stack.tags[key] for key in ("lake:name", "lake:stage") if key in stack.tags}
        if any(wanted.tags.get(key) != value for key, value in theirs.items()):
            raise UsageError(
                f"stack {stack.name} is of lake {theirs.get('lake:name')}, stage {theirs.get('lake:stage')}",
                hint="choose another name in lake.toml, or another stage",
            )


def _mended(stack: StackFacts, steps: list[Step], notes: list[str]) -> StackFacts:
    """Append the steps that make a stack usable; the stack as it is after them."""
    status = stack.status
    if status is None or status in _USABLE:
        return stack
    notes += [f"{stack.name}: {cause}" for cause in stack.causes]
    if status in _DEAD:
        steps.append(DeleteStack(stack.name, _DEAD[status]))
        return StackFacts(stack.name)
    if status in _HALTED:
        steps.append(ContinueRollback(stack.name, stack.failed, _HALTED[status]))
        return stack
    if status in ("DELETE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"):
        why = "is being deleted" if status == "DELETE_IN_PROGRESS" else "could not be created and is being taken back"
        steps.append(AwaitStack(stack.name, why))
        return StackFacts(stack.name)
    if status.endswith("_IN_PROGRESS"):
        steps.append(AwaitStack(stack.name, f"is busy ({status})"))
        return stack
    raise InfrastructureError(f"stack {stack.name} is in the unknown state {status}", hint="look at it in the console")


def _differs(stack: StackFacts, template: str, parameters: dict[str, str], wanted: Wanted) -> bool:
    if stack.status is None or stack.template is None:
        return True
    if stack.template.strip() != template.strip() or dict(stack.tags) != dict(wanted.tags):
        return True
    return any(stack.parameters.get(name) != value for name, value in parameters.items())


def _apply(
    stack: StackFacts, role: str, template: str, parameters: dict[str, str], wanted: Wanted, *, adopt: bool
) -> ApplyStack:
    return ApplyStack(
        stack=stack.name,
        role="bootstrap" if role == "bootstrap" else "pipeline",
        kind="CREATE" if stack.status is None else "UPDATE",
        template=template,
        parameters=parameters,
        tags=wanted.tags,
        adopt=adopt,
    )


def _newer(template: str, live: str | None) -> str:
    """Aurora upgrades minor versions on its own, and CloudFormation cannot go back."""

    def numbers(version: str) -> tuple[int, ...]:
        return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))

    return max(template, live or template, key=numbers)
