"""Which hop failed: what the ledger says of an object or a run, and what dispatcher, queue and ECS add to it."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lakectl.aws.ecs import Task, why_stopped
from lakectl.aws.logs import Logs
from lakectl.errors import LakectlError
from lakectl.targets.base import Explanation

if TYPE_CHECKING:
    from lakectl.targets.aws import AwsTarget

_LOOKED_BACK = timedelta(days=14)
_LAST_LINES = 5


def with_hops(target: AwsTarget, subject: str, known: Explanation) -> Explanation:
    """The explanation of the ledger with the facts of the hops, and a better cause when no run says one."""
    stated = dict(known.facts)
    key = subject if subject.startswith("raw/") else stated.get("key", known.subject)
    facts = list(known.facts)
    cause, hint = known.cause, known.hint
    since = int((datetime.now(UTC) - _LOOKED_BACK).timestamp() * 1000)
    said = _dispatcher(target, key, since)
    tasks = [str(fact["task"]) for fact in said if fact.get("event") == "dispatched" and fact.get("task")]
    facts += [("dispatcher", _sentence(fact)) for fact in said[-_LAST_LINES:]]
    stopped = _task(target, tasks[-1]) if tasks else None
    if stopped is not None:
        facts.append(("task", f"{stopped.id}: {stopped.status.lower()}"))
        if stopped.status == "STOPPED" and stopped.exit_code != 0:
            facts.append(("stop reason", why_stopped(stopped)))
    parked = [fact for fact in said if fact.get("event") == "parked"]
    if stated.get("state") in ("pending", None) and not subject.isdigit():
        cause, hint = _stuck(target, key, said, stopped, parked, cause, hint)
    if stated.get("state") == "failed" and tasks:
        facts += [("log", line) for line in _last_lines(target, tasks[-1])]
    return dataclasses.replace(known, cause=cause, facts=tuple(facts), hint=hint)


def _stuck(
    target: AwsTarget,
    key: str,
    said: list[dict[str, Any]],
    stopped: Task | None,
    parked: list[dict[str, Any]],
    cause: str,
    hint: str | None,
) -> tuple[str, str | None]:
    """Why no run has touched an object."""
    if parked:
        return f"{key} is parked: {_reason(parked[-1])}", "mend the cause, then: lakectl retry"
    if stopped is not None and stopped.status == "STOPPED":
        return f"{key} was handed to a task, and {why_stopped(stopped)}", "it is retried by itself; lakectl status"
    if stopped is not None:
        return (
            f"{key} was handed to task {stopped.id[:8]}, which is {stopped.status.lower()}",
            "wait, or lakectl logs -f",
        )
    if not said:
        depth = target.queue.depth()
        if depth.waiting or depth.in_flight:
            return f"the event of {key} waits in the queue, with {depth.waiting} others", "lakectl status"
        return f"no event of {key} has reached the dispatcher", f"lakectl run {key}"
    return cause, hint


def _dispatcher(target: AwsTarget, key: str, since: int) -> list[dict[str, Any]]:
    """What the dispatcher has logged of a key, oldest first."""
    logs = Logs(target.opened.aws)
    quoted = json.dumps(key)
    found = []
    try:
        lines = logs.read(target.outputs["DispatchLogGroup"], since=since, pattern=json.dumps(key.rpartition("/")[2]))
    except LakectlError:
        return []
    for line in lines:
        if quoted not in line.text:
            continue
        try:
            fact = json.loads(line.text[line.text.find("{") :])
        except ValueError:
            continue
        if isinstance(fact, dict) and fact.get("key") == key:
            found.append({**fact, "at": line.at.isoformat(timespec="seconds")})
    return found


def _task(target: AwsTarget, arn: str) -> Task | None:
    try:
        found = target.tasks.describe([arn])
    except LakectlError:
        return None
    return found[0] if found else None


def _last_lines(target: AwsTarget, arn: str) -> list[str]:
    logs = Logs(target.opened.aws)
    stream = f"etl/etl/{arn.rpartition('/')[2]}"
    return [
        line.text[:300] for line in logs.read(target.outputs["TaskLogGroup"], since=0, stream=stream)[-_LAST_LINES:]
    ]


def _sentence(fact: dict[str, Any]) -> str:
    at = fact.get("at", "")
    match fact.get("event"):
        case "dispatched":
            return f"{at} handed to task {str(fact.get('task')).rpartition('/')[2]} (attempt {fact.get('attempt', 1)})"
        case "parked":
            return f"{at} parked: {_reason(fact)}"
        case other:
            return f"{at} {other}: {_reason(fact)}"


def _reason(fact: dict[str, Any]) -> str:
    cause = fact.get("cause")
    if isinstance(cause, dict):
        return ", ".join(f"{name} {value}" for name, value in cause.items() if value not in (None, ""))
    return str(fact.get("reason") or fact.get("why") or cause or "no reason given")
