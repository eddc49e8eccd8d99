"""Which hop failed: what the ledger says of an object or a run, and what dispatcher, queue and ECS add to it."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from msgspec.structs import replace

from etl_container.ledger import DIED
from lakectl.aws import functions
from lakectl.aws.ecs import Task, why_stopped
from lakectl.aws.logs import Logs
from lakectl.errors import LakectlError
from lakectl.targets.base import Explanation
from lakectl.targets.dispatch_log import Fact, reason_of

if TYPE_CHECKING:
    from lakectl.targets.aws import AwsTarget

_LOOKED_BACK = timedelta(days=14)
_BUSY_LOOKED_BACK = timedelta(minutes=15)
_LAST_LINES = 5


def with_hops(target: AwsTarget, subject: str, known: Explanation) -> Explanation:
    """The explanation of the ledger with the facts of the hops, and a better cause when no run says one."""
    stated = dict(known.facts)
    key = subject if subject.startswith("raw/") else stated.get("key", known.subject)
    facts = list(known.facts)
    cause, hint = known.cause, known.hint
    since = int((datetime.now(UTC) - _LOOKED_BACK).timestamp() * 1000)
    said = _dispatcher(target, key, since)
    task = _task_of(said, stated.get("started"))
    facts += [("dispatcher", _sentence(fact)) for fact in said[-_LAST_LINES:]]
    stopped = _task(target, task) if task else None
    ended, log = None, []
    if stopped is not None:
        facts.append(("task", f"{stopped.id}: {stopped.status.lower()}"))
        if stopped.status == "STOPPED" and stopped.exit_code != 0:
            ended = why_stopped(stopped)
            facts.append(("stop reason", ended))
    if task and (ended or stated.get("state") == "failed"):
        log = _last_lines(target, task)
    if stated.get("state") in ("pending", None) and not subject.isdigit():
        cause, hint = _stuck(target, key, said, stopped)
        if word := _last_word(log):
            cause = f"{cause}: {word}"
    if stated.get("state") == "failed" and task:
        if known.cause == DIED:
            cause = f"run {stated['run']} of {key} failed in its task: {ended or DIED}"
        if said[-1].get("event") == "parked":
            hint = f"when the cause is mended: lakectl retry {key}"
        elif said[-1].get("event") == "retry":
            hint = _again(said[-1])
    facts += [("log", line[:300]) for line in log]
    return replace(known, cause=cause, facts=tuple(facts), hint=hint)


def _task_of(said: list[Fact], started: str | None) -> str | None:
    """The task that an object was handed to last, or last before a run began."""
    handed = [fact for fact in said if fact.get("event") == "dispatched" and fact.get("task")]
    began = None if started is None else datetime.fromisoformat(started)
    before = [fact for fact in handed if began is not None and datetime.fromisoformat(str(fact["at"])) <= began]
    chosen = before or handed
    return str(chosen[-1]["task"]) if chosen else None


def _again(fact: Fact) -> str:
    return f"it is tried again {fact.get('delay')} s after that, as attempt {fact.get('attempt')}; lakectl logs -f"


def _stuck(target: AwsTarget, key: str, said: list[Fact], stopped: Task | None) -> tuple[str, str]:
    """Why no run has touched an object: the hop that it has not passed."""
    last = said[-1] if said else {}
    match last.get("event"):
        case "parked":
            return f"{key} is parked: {reason_of(last)}", f"mend the cause, then: lakectl retry {key}"
        case "retry":
            why = why_stopped(stopped) if stopped is not None else reason_of(last)
            return f"{key} was handed to a task, and {why}", _again(last)
    if stopped is not None and stopped.status == "STOPPED":
        return f"{key} was handed to a task, and {why_stopped(stopped)}", "it is retried by itself; lakectl status"
    if stopped is not None:
        where = f"{key} was handed to task {stopped.id[-8:]}, which is {stopped.status.lower()}"
        return where, "wait, or lakectl logs -f"
    if said:
        return f"{key} was handed to a task that ECS has forgotten, and no run of it is known", f"lakectl run {key}"
    return _not_arrived(target, key)


def _not_arrived(target: AwsTarget, key: str) -> tuple[str, str]:
    """Between the bucket and the dispatcher."""
    mapping = target.outputs.get("EventSourceMapping")
    feed = functions.state(target.opened.aws, mapping) if mapping else "Enabled"
    depth = target.queue.depth()
    held = depth.waiting + depth.in_flight + depth.delayed
    if feed not in ("Enabled", "Enabling", "Creating", "Updating"):
        return (
            f"the dispatcher does not read its queue ({feed}), in which {held} messages are",
            f"lakectl deploy --stage {target.stage}",
        )
    if held:
        since = int((datetime.now(UTC) - _BUSY_LOOKED_BACK).timestamp() * 1000)
        busy = target.dispatch_log.last("busy", since) or target.dispatch_log.last("refused", since)
        why = f"; the dispatcher says: {reason_of(busy)}" if busy else ""
        return f"the event of {key} waits in the queue, with {held - 1} others{why}", "lakectl status"
    return f"no event of {key} has reached the dispatcher", f"lakectl run {key}"


def _dispatcher(target: AwsTarget, key: str, since: int) -> list[Fact]:
    """What the dispatcher has logged of a key, oldest first."""
    try:
        return target.dispatch_log.of_key(key, since)
    except LakectlError:
        return []


def _task(target: AwsTarget, arn: str) -> Task | None:
    try:
        found = target.tasks.describe([arn])
    except LakectlError:
        return None
    return found[0] if found else None


def _last_lines(target: AwsTarget, arn: str) -> list[str]:
    logs = Logs(target.opened.aws)
    stream = f"etl/etl/{arn.rpartition('/')[2]}"
    return [line.text for line in logs.read(target.outputs["TaskLogGroup"], since=0, stream=stream)[-_LAST_LINES:]]


def _last_word(lines: list[str]) -> str | None:
    """Why a task ended before it began a run, in its own words."""
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict) and said.get("event") == "done" and said.get("error"):
                return str(said["error"])
    return None


def _sentence(fact: Fact) -> str:
    at = fact["at"]
    match fact.get("event"):
        case "dispatched":
            return f"{at} handed to task {str(fact.get('task')).rpartition('/')[2]} (attempt {fact.get('attempt', 1)})"
        case "retry":
            return f"{at} to be tried again in {fact.get('delay')} s: {reason_of(fact)}"
        case other:
            return f"{at} {other}: {reason_of(fact)}"
