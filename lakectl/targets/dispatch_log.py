"""What the dispatcher has said, as facts: which task an object was handed to, why work waits, is retried or is parked.

Its lines name objects by key where they are about objects (``dispatched``, ``parked``), and the work by its ``trace``
or its task otherwise (``retry``); see ``infra_templates/trigger/handler.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lakectl.aws.logs import Logs
from lakectl.words import plural

Fact = dict[str, Any]
"""One line, with ``at``: when it was said."""

_LATE = 20_000
"""Milliseconds that a line may come late."""


@dataclass
class DispatchLog:
    """The dispatcher's log.

    Attributes:
        logs: the account's.
        group: the log group.
    """

    logs: Logs
    group: str
    _from: int = 0
    _seen: set[str] = field(default_factory=set)

    def news(self, since: int) -> Iterator[Fact]:
        """What was said since the last look; the first time since then (milliseconds since 1970)."""
        start = max(since, self._from - _LATE)
        for line in self.logs.read(self.group, since=start):
            if line.id in self._seen:
                continue
            self._seen.add(line.id)
            self._from = max(self._from, int(line.at.timestamp() * 1000))
            yield from _facts(line.text, line.at.isoformat(timespec="milliseconds"))

    def of_key(self, key: str, since: int) -> list[Fact]:
        """Everything that concerns one object, oldest first."""
        named = [fact for fact in self._found(key.rpartition("/")[2], since) if fact.get("key") == key]
        traces = list(dict.fromkeys(str(fact["trace"]) for fact in named if fact.get("trace")))
        tasks = {str(fact["task"]) for fact in named if fact.get("task")}
        about = [fact for trace in traces[-3:] for fact in self._found(trace, since) if fact.get("event") == "retry"]
        parked = [
            fact
            for fact in (self._found('"parked"', since) if tasks else ())
            if fact.get("event") == "parked" and not fact.get("key") and cause_of(fact).get("task") in tasks
        ]
        return sorted([*named, *about, *parked], key=lambda fact: str(fact["at"]))

    def last(self, event: str, since: int) -> Fact | None:
        """The newest line about an event, whatever it concerns."""
        found = [fact for fact in self._found(f'"{event}"', since) if fact.get("event") == event]
        return found[-1] if found else None

    def _found(self, text: str, since: int) -> Iterator[Fact]:
        for line in self.logs.read(self.group, since=since, pattern=json.dumps(text)):
            yield from _facts(line.text, line.at.isoformat(timespec="seconds"))


def cause_of(fact: Mapping[str, Any]) -> Mapping[str, Any]:
    """Why a task stopped or a message was refused, where the line says so."""
    cause = fact.get("cause")
    return cause if isinstance(cause, Mapping) else {}


def reason_of(fact: Mapping[str, Any]) -> str:
    """The cause of a line in words."""
    cause = cause_of(fact)
    if cause:
        told = {name: value for name, value in cause.items() if value not in (None, "")}
        reason = str(told.get("reason", ""))
        code = f"exit code {told['exit_code']}" if "exit_code" in told else ""
        attempts = f"after {plural(told['attempts'], 'attempt')}" if "attempts" in told else ""
        return ", ".join(part for part in (reason, code, attempts) if part) or str(dict(told))
    return str(fact.get("reason") or fact.get("error") or "no reason given")


def _facts(text: str, at: str) -> Sequence[Fact]:
    start = text.find("{")
    if start < 0:
        return ()
    try:
        value = json.loads(text[start:])
    except ValueError:
        return ()
    return ({**value, "at": at},) if isinstance(value, dict) else ()
