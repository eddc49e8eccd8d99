"""What the operating commands ask for, and how their answers are shown."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lakectl.aws.logs import LogLine, Logs
from lakectl.aws.sqs import Message
from lakectl.config import LOCAL, Lake
from lakectl.deploy import facts, render
from lakectl.errors import NotFoundError, UsageError
from lakectl.targets.aws import AwsTarget
from lakectl.ui import Screen, moment, visible
from lakectl.words import plural

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def aws_lake(lake: Lake) -> Lake:
    """Refuse the local stage."""
    if lake.stage == LOCAL:
        raise UsageError("the local stage has neither logs nor queues", hint="--stage dev; or lakectl runs")
    return lake


def age(text: str) -> float:
    """``90s``, ``30m``, ``2h``, ``3d`` as seconds; raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip())
    if match is None:
        raise UsageError(f"--since {text}: expected an age", hint="90s, 30m, 2h, 3d")
    return float(match[1]) * _UNITS[match[2]]


def _opened(screen: Screen, lake: Lake) -> AwsTarget:
    target = AwsTarget(lake)
    screen.remark(f"stage {lake.stage} ({target.where})")
    return target


def logs(screen: Screen, lake: Lake, *, follow: bool, run: str | None, age: float, raw: bool) -> None:
    """Lines of the dispatcher and the tasks."""
    target = _opened(screen, lake)
    outputs = target.outputs
    groups = [outputs["DispatchLogGroup"], outputs["TaskLogGroup"]]
    stream = None
    start = time.time() - age
    if run is not None:
        start, stream = _of_run(target, run)
        groups = [outputs["TaskLogGroup"]]
    source = Logs(target.opened.aws, sleep=target.sleep)
    since = int(start * 1000)
    if follow:
        _show(screen, source.follow(groups, since=since, stream=stream), raw=raw, lines=True)
        return
    found = [line for group in groups for line in source.read(group, since=since, stream=stream)]
    found.sort(key=lambda line: line.at)
    if screen.json:
        screen.document([_shape(line) for line in found])
        return
    _show(screen, found, raw=raw, lines=False)
    if not found:
        screen.remark("nothing was said in that time; look further back with --since 1d")


def _of_run(target: AwsTarget, run: str) -> tuple[float, str | None]:
    """When a run began, and the log stream of its task, found by the object's key in the tasks' logs."""
    if not run.isdigit():
        raise UsageError(f"{run!r} is not a run", hint="lakectl runs")
    known = next((item for item in target.runs() if item.run == run), None)
    if known is None:
        raise NotFoundError(f"no run {run}", hint="lakectl runs")
    start = known.started.timestamp() - 300
    group = target.outputs["TaskLogGroup"]
    lines = Logs(target.opened.aws).read(group, since=int(start * 1000), pattern=json.dumps(f'"run": "{run}"'))
    for line in lines:
        if f'"run": "{run}"' in line.text or f'"run":"{run}"' in line.text:
            return start, line.stream
    raise NotFoundError(f"no task has logged of run {run}", hint="logs are kept as long as log_retention says")


def _show(screen: Screen, found: Iterable[LogLine], *, raw: bool, lines: bool) -> None:
    for line in found:
        if screen.json and lines:
            sys.stdout.write(json.dumps(_shape(line)) + "\n")
            sys.stdout.flush()
            continue
        who = "dispatch" if line.group.endswith("/dispatch") else f"task {line.stream.rpartition('/')[2][:8]}"
        screen.line(f"{moment(line.at)}  {who:<13}  {visible(line.text if raw else gist(line.text))}")
        sys.stdout.flush()


def gist(text: str) -> str:
    """A structured line as its event and the facts that matter; any other line as it is."""
    start = text.find("{")
    if start < 0:
        return text
    try:
        fact = json.loads(text[start:])
    except ValueError:
        return text
    if not isinstance(fact, dict) or "event" not in fact:
        return text
    skipped = ("event", "reports", "timings", "columns", "changes", "notes", "level", "time", "at", "trace")
    told = " ".join(
        f"{name}={value if isinstance(value, str) and ' ' not in value else json.dumps(value, ensure_ascii=False)}"
        for name, value in fact.items()
        if name not in skipped and value not in (None, "", [], {})
    )
    return f"{fact['event']}  {told}".rstrip()


def _shape(line: LogLine) -> dict[str, Any]:
    return {"at": line.at.isoformat(), "group": line.group, "stream": line.stream, "text": line.text}


def retry(screen: Screen, lake: Lake, keys: Sequence[str], *, show: bool) -> None:
    """Parked events: listed, or sent back."""
    target = _opened(screen, lake)
    if show:
        messages = list(target.parked.receive())
        for message in messages:
            target.parked.release(message)
        if screen.json:
            screen.document({"parked": [_parked(message) for message in messages]})
            return
        if not messages:
            screen.remark("nothing is parked")
            return
        rows = [(", ".join(keys_of(message)) or message.body[:60], cause_of(message)) for message in messages]
        screen.table(("objects", "cause"), rows)
        screen.hint("mend the cause, then: lakectl retry")
        return
    wanted = set(keys)
    count = target.parked.move(target.queue, chosen=lambda message: not wanted or bool(wanted & {*keys_of(message)}))
    if screen.json:
        screen.document({"retried": count})
    elif count:
        screen.line(f"{plural(count, 'event')} sent back to the dispatcher")
    elif keys:
        raise NotFoundError(f"nothing of {', '.join(keys)} is parked", hint="lakectl retry --list")
    else:
        screen.remark("nothing is parked")


def keys_of(message: Message) -> list[str]:
    """The keys that a parked message is about."""
    document = message.document or {}
    work = document.get("lake_work")
    if isinstance(work, Mapping):
        return [str(item.get("key")) for item in work.get("objects") or () if isinstance(item, Mapping)]
    records = document.get("Records")
    if isinstance(records, list):
        from urllib.parse import unquote_plus

        return [unquote_plus(item["s3"]["object"]["key"]) for item in records if "s3" in item]
    return []


def cause_of(message: Message) -> str:
    """Why it is parked."""
    document = message.document
    if document is None:
        return "it cannot be read"
    work = document.get("lake_work")
    cause = (work.get("cause") if isinstance(work, Mapping) else None) or document.get("cause")
    if isinstance(cause, Mapping):
        return ", ".join(
            f"{name} {value}" for name, value in cause.items() if value not in (None, "") and name != "task"
        )
    return str(cause or f"received {message.received} times without success")


def _parked(message: Message) -> dict[str, Any]:
    return {"id": message.id, "keys": keys_of(message), "cause": cause_of(message), "body": message.body}


def cost(screen: Screen, lake: Lake) -> None:
    """The idle cost, item by item, and that of a piece of work."""
    from lakectl.deploy import costs

    settings = facts.settings_of(lake)
    idle, work = costs.idle(settings), costs.work(settings)
    if screen.json:
        screen.document(
            {
                "stage": lake.stage,
                "region": idle.region,
                "as_of": str(idle.as_of),
                "monthly_idle_usd": round(idle.total, 2),
                "items": [dataclasses.asdict(item) for item in idle.items],
                "work": [dataclasses.asdict(item) for item in work],
            }
        )
        return
    rows = [(item.what, f"{item.monthly_usd:,.2f}", item.why) for item in idle.items]
    screen.table(("what", "$ a month", "why"), [*rows, ("total, idle", f"{idle.total:,.2f}", "")], right=(False, True))
    screen.line()
    screen.table(
        ("work", "$", "why"), [(item.what, f"{item.usd:,.4f}", item.why) for item in work], right=(False, True)
    )
    screen.remark(f"list prices of {idle.region}, {idle.as_of}; nothing is asked of the account")


def policy(lake: Lake, *, operator: bool) -> None:
    """A policy on stdout, the same with and without --json: it is JSON."""
    settings = facts.settings_of(lake)
    sys.stdout.write(render.operator_policy(settings) if operator else render.deployer_policy(settings))


def write_policies(screen: Screen, lake: Lake, directory: str) -> None:
    """Both policies as files, each small enough for a managed policy."""
    settings = facts.settings_of(lake)
    parts = render.deployer_policies(settings)
    texts = {f"deployer-{number}.json": text for number, text in enumerate(parts, 1)}
    texts["operator.json"] = render.operator_policy(settings)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    if screen.json:
        screen.document({"directory": directory, "files": sorted(texts)})
        return
    for name in texts:
        screen.line(f"written  {folder / name}")
    screen.hint(f"aws iam create-policy --policy-name NAME --policy-document file://{folder / 'operator.json'}")
