"""What a rejects command line asks for, and how mending is shown."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from lakectl import shapes
from lakectl.errors import DataError, UsageError
from lakectl.targets.base import Target
from lakectl.ui import Screen
from lakectl.words import plural

SHOWN = 100
"""Rejects listed for people unless ``--limit`` says otherwise."""


@dataclass(frozen=True, slots=True)
class List:
    """``rejects [DATASET]``."""

    dataset: str | None


@dataclass(frozen=True, slots=True)
class Export:
    """``rejects [DATASET] --export FILE``."""

    dataset: str | None
    path: str


@dataclass(frozen=True, slots=True)
class Retry:
    """``rejects [DATASET] [FILE] --retry``."""

    dataset: str | None
    path: str | None


def ask(arguments: Sequence[str], *, export: str | None, retry: bool) -> List | Export | Retry:
    """What the words mean.

    Raises:
        UsageError: too many of them, or flags that contradict each other.
    """
    if export is not None and retry:
        raise UsageError("--export and --retry are two steps", hint="export, mend the file, then --retry with it")
    most = 2 if retry else 1
    if len(arguments) > most:
        raise UsageError(
            f"{arguments[most]!r} is one argument too many", hint="lakectl rejects trips fixed.csv --retry"
        )
    if not retry:
        dataset = arguments[0] if arguments else None
        return List(dataset) if export is None else Export(dataset, export)
    if len(arguments) == 2:
        return Retry(arguments[0], arguments[1])
    if len(arguments) == 1 and _is_file(arguments[0]):
        return Retry(None, arguments[0])
    return Retry(arguments[0] if arguments else None, None)


def show(screen: Screen, target: Target, dataset: str | None, limit: int | None) -> None:
    """List rejects, newest first."""
    if screen.json:
        screen.array(shapes.reject(fact) for fact in target.rejects(dataset, limit=limit))
        return
    room = SHOWN if limit is None else limit
    found = list(islice(target.rejects(dataset, limit=room + 1), room + 1))
    if not found:
        screen.remark("no rejects")
        return
    screen.table(
        ("key", "line", "column", "value", "reason", "text"),
        [(fact.key, fact.line, fact.column, fact.value, fact.reason, fact.text) for fact in found[:room]],
        right=(False, True),
    )
    if len(found) > room and limit is None:
        screen.remark(f"the newest {SHOWN}; all of them with: lakectl rejects --json, or --export FILE")


def export(screen: Screen, target: Target, asked: Export) -> None:
    """Write the open rejects to a file."""
    count = target.export_rejects(asked.dataset, asked.path)
    if screen.json:
        screen.document({"file": asked.path, "rejects": count})
        return
    screen.line(f"{plural(count, 'reject')} written to {asked.path}")
    name = f" {asked.dataset}" if asked.dataset else ""
    screen.remark(f"mend them there, then: lakectl rejects{name} {asked.path} --retry")


def retry(screen: Screen, target: Target, asked: Retry) -> int:
    """Load rejects again; returns the exit code: 6 when some are rejected still."""
    with screen.progress({}, "loading") as on_event:
        reports = target.retry_rejects(asked.dataset, asked.path, on_event=on_event)
    if screen.json:
        screen.document({"retried": [shapes.retry(report) for report in reports]})
    for report in reports:
        if not screen.json:
            screen.line(
                f"{report.dataset}: {plural(report.loaded, 'row')} loaded, {report.still_rejected:,} rejected still"
            )
        if report.still_rejected:
            screen.hint(f"lakectl rejects {report.dataset}")
    if not reports:
        screen.remark("no rejects to retry")
    return DataError.exit_code if any(report.still_rejected for report in reports) else 0


def undo(screen: Screen, target: Target, run: str) -> None:
    """Take a run's rows away."""
    with screen.progress({}, "loading") as on_event:
        report = target.undo(run, on_event=on_event)
    if screen.json:
        screen.document(shapes.undo(report))
        return
    screen.line(f"undone  run {report.run}: {plural(report.removed, 'row')} taken from {report.table}")
    if report.restored_version is not None:
        screen.line(f"    {plural(report.restored, 'row')} of version {report.restored_version} brought back")


def _is_file(word: str) -> bool:
    """A lone word with --retry is a file when there is one, or when it looks like nothing else."""
    return os.sep in word or word.lower().endswith(".csv") or os.path.isfile(word)
