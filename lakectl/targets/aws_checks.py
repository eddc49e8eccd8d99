"""Doctor's checks of a stage in AWS, in the order in which things rest on one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lakectl.aws import databases, functions, quotas
from lakectl.deploy import image
from lakectl.errors import LakectlError
from lakectl.targets.base import Check
from lakectl.words import plural

if TYPE_CHECKING:
    from lakectl.targets.aws import AwsTarget


def checks(target: AwsTarget) -> Iterator[Check]:
    """Each made when asked for; what the others rest on ends them when it fails."""
    for name, make in (("credentials", _credentials), ("stack", _stack)):
        made = _made(name, make, target)
        yield made
        if not made.ok:
            return
    for name, make in (
        ("builder", _builder),
        ("quota", _quota),
        ("database", _database),
        ("query", _query),
        ("dispatcher", _dispatcher),
        ("parked events", _parked),
        ("raw zone", _raw),
    ):
        yield _made(name, make, target)


def _made(name: str, make: Callable[[AwsTarget], Check], target: AwsTarget) -> Check:
    try:
        return make(target)
    except LakectlError as error:
        fix = f"lakectl deploy --stage {target.stage}" if error.hint == "lakectl doctor" else error.hint
        return Check(name, ok=False, detail=error.message, fix=fix)


def _credentials(target: AwsTarget) -> Check:
    who = target.opened.aws.identity
    return Check("credentials", ok=True, detail=f"{who.arn} in {who.region}")


def _stack(target: AwsTarget) -> Check:
    stack = target.stack
    ok = stack.situation.standing == "usable"
    fix = None if ok else f"lakectl deploy --stage {target.stage}"
    return Check("stack", ok, f"{stack.name} {stack.situation.sentence} ({stack.status})", fix)


def _builder(target: AwsTarget) -> Check:
    del target
    engine = image.find_engine()
    return Check("builder", ok=True, detail=engine.name if engine else "no container engine here; CodeBuild builds")


def _quota(target: AwsTarget) -> Check:
    settings = target.opened.settings
    code = quotas.FARGATE_SPOT_VCPUS if settings.spot else quotas.FARGATE_VCPUS
    value = quotas.quota(target.opened.aws, *code)
    needed = settings.task_cpu / 1024
    if value is None:
        return Check("quota", ok=True, detail="the Fargate quota may not be asked")
    fix = None if value >= needed else f"raise quota {code[1]} in Service Quotas, or set a smaller task_cpu"
    return Check("quota", value >= needed, f"{value:g} Fargate vCPUs at once; a task takes {needed:g}", fix)


def _database(target: AwsTarget) -> Check:
    found = databases.Databases(target.opened.aws).find(target.outputs["DatabaseIdentifier"])
    if found is None:
        return Check("database", ok=False, detail="there is none", fix=f"lakectl deploy --stage {target.stage}")
    fix = None if found.status == "available" else "wait, then look again"
    return Check("database", found.status == "available", f"{found.name}: {found.status}, {found.version}", fix)


def _query(target: AwsTarget) -> Check:
    (version,) = target._reader.api.execute("show server_version").rows[0]
    return Check("query", ok=True, detail=f"PostgreSQL {version} answers over the Data API")


def _dispatcher(target: AwsTarget) -> Check:
    mapping = target.outputs.get("EventSourceMapping")
    state = functions.state(target.opened.aws, mapping) if mapping else "invoked by the bucket"
    ok = state in ("Enabled", "Enabling", "Creating", "Updating", "invoked by the bucket")
    return Check("dispatcher", ok, f"its feed is {state}", None if ok else f"lakectl deploy --stage {target.stage}")


def _parked(target: AwsTarget) -> Check:
    count = target.parked.depth().waiting
    return Check("parked events", count == 0, f"{count}", None if count == 0 else "lakectl retry --list")


def _raw(target: AwsTarget) -> Check:
    missing = target.missing()
    if missing:
        return Check("raw zone", ok=False, detail=f"{plural(len(missing), 'object')} not loaded", fix="lakectl run")
    return Check("raw zone", ok=True, detail="every object was seen by a run")
