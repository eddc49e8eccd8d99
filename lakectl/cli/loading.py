"""How a load is shown while it runs and told when it is done: one line for each object, its troubles on stderr."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from etl_container.report import LoadReport
from lakectl import landing, shapes
from lakectl.config import LOCAL, Lake
from lakectl.errors import DataError, LakectlError, NotFoundError, UsageError
from lakectl.targets.base import Target
from lakectl.ui import Screen, seconds, visible
from lakectl.words import plural

_WORDS = {"loaded": "loaded", "already_loaded": "already loaded", "superseded": "superseded", "failed": "failed"}


@contextlib.contextmanager
def with_contents(
    lake: Lake, uploads: Sequence[landing.Upload], always: bool
) -> Iterator[tuple[list[landing.Upload], list[LoadReport]]]:
    """The uploads with what is inside of them, where it is asked for or set; and a report of each that was refused."""
    from lakectl import unpacking

    def wanted(upload: landing.Upload) -> bool:
        return always or lake.dataset_of(upload.key).read.unpack

    if not any(map(wanted, uploads)):
        yield list(uploads), []
        return
    refused: list[tuple[landing.Upload, DataError]] = []
    with tempfile.TemporaryDirectory(prefix="lake-") as directory:
        found = list(unpacking.unpacked(uploads, Path(directory), wanted, refused))
        yield found, [landing.failure(lake, f"{upload.key}/…", error) for upload, error in refused]


def land_and_load(
    screen: Screen,
    target: Target,
    lake: Lake,
    uploads: Sequence[landing.Upload],
    refused: Sequence[LoadReport] = (),
) -> int:
    """Land and load with one bar over everything; returns the exit code."""
    with screen.progress(_sizes(uploads), "landing", "loading") as on_event:
        reports = _tell(screen, chain(refused, landing.land_and_load(target, lake, uploads, on_event=on_event)))
    return _finish(screen, reports)


def land_only(
    screen: Screen,
    target: Target,
    lake: Lake,
    uploads: Sequence[landing.Upload],
    refused: Sequence[LoadReport] = (),
) -> int:
    """Land without waiting; returns the exit code."""
    failures: list[LoadReport] = _tell(screen, refused)
    documents: list[shapes.Shape] = [shapes.load_report(report) for report in failures]
    with screen.progress(_sizes(uploads), "landing") as on_event:
        for outcome in landing.land(target, lake, uploads, on_event=on_event):
            if isinstance(outcome, LoadReport):
                failures.append(outcome)
                documents.append(shapes.load_report(outcome))
                _tell_one(screen, outcome)
            else:
                dataset = lake.dataset_of(outcome.key)
                documents.append(shapes.landed(outcome, dataset.name, dataset.table))
                if not screen.json:
                    screen.line(f"landed  {visible(outcome.key)}  version {outcome.version}")
    if screen.json:
        screen.document({"objects": documents})
    elif len(failures) - len(refused) < len(uploads):
        screen.remark("load them with: lakectl run")
    return landing.exit_code(failures)


def load(screen: Screen, target: Target, objects: Sequence[tuple[str, str | None]], *, again: bool) -> int:
    """Load objects that are in the raw zone, ``again`` also what is loaded; returns the exit code."""
    if not objects:
        screen.remark("nothing to do: every object is loaded")
        return _finish(screen, [])
    with screen.progress(dict.fromkeys((key for key, _ in objects), 0), "loading") as on_event:
        process = target.reload if again else target.load
        reports = _tell(screen, process(objects, on_event=on_event))
    return _finish(screen, reports)


def run_local(
    screen: Screen,
    target: Target,
    lake: Lake,
    subjects: Sequence[str],
    *,
    dataset: str | None,
    dry_run: bool,
    warehouse: str | None,
    container: bool,
) -> int:
    """Files are landed first, keys are taken as they are; nothing named: what is missing."""
    keys, prefixes, paths = _apart(target, lake, subjects)
    if lake.stage != LOCAL and paths:
        raise UsageError(
            f"{paths[0]} is not in stage {lake.stage}, whose objects run-local takes",
            hint=f"lakectl upload {paths[0]}; then lakectl run-local s3://BUCKET/KEY",
        )
    uploads = landing.plan(paths, dataset=dataset) if paths else []
    if dry_run:
        return _rehearse(screen, target, lake, uploads, keys)
    here = warehouse is not None or container or lake.stage != LOCAL
    if lake.stage != LOCAL and warehouse is None:
        screen.remark("loading into the warehouse of stage local; --warehouse names another")
    objects: list[tuple[str, str | None]] = [(key, None) for key in keys]
    if prefixes or not subjects:
        # What another warehouse lacks its own ledger tells, object by object.
        lacking = (
            target.select(keys=(), dataset=dataset, failed=False, everything=True)
            if here
            else target.missing(dataset=dataset)
        )
        objects += [pair for pair in lacking if not prefixes or pair[0].startswith(prefixes)]
    reports: list[LoadReport] = []
    sizes = dict.fromkeys((key for key, _ in objects), 0) | _sizes(uploads)
    with screen.progress(sizes, *(["landing"] if uploads else []), "loading") as on_event:
        for outcome in landing.land(target, lake, uploads, on_event=on_event):
            if isinstance(outcome, LoadReport):
                reports += _tell(screen, [outcome])
            else:
                objects.append((outcome.key, outcome.version))
        if objects and here:
            loads = target.load_here(objects, warehouse, container=container, on_event=on_event)
            reports += _tell(screen, loads)
        elif objects:
            reports += _tell(screen, target.load(objects, on_event=on_event))
    if not objects and not reports:
        screen.remark("nothing to do: every object is loaded")
    return _finish(screen, reports)


def watch(screen: Screen, target: Target, lake: Lake, directory: str, dataset: str | None, unpack: bool) -> int:
    """Load what is in the directory and what appears there, until Ctrl-C, which ends with a summary."""
    from lakectl import watching

    if not Path(directory).is_dir():
        raise NotFoundError(f"there is no directory {directory}", hint=f"mkdir {directory}")
    screen.remark(f"watching {directory}; Ctrl-C ends")
    reports: list[LoadReport] = []
    try:
        for path in watching.settled_files(directory):
            try:
                upload = landing.plan_within(directory, path, dataset=dataset)
                with (
                    with_contents(lake, [upload], unpack) as (uploads, refused),
                    screen.progress(_sizes(uploads), "landing", "loading") as on_event,
                ):
                    told = landing.land_and_load(target, lake, uploads, on_event=on_event)
                    reports += _tell(screen, chain(refused, told))
            except UsageError as error:
                screen.error(error, document=False)
    except KeyboardInterrupt:
        states = {state: sum(report.state == state for report in reports) for state in _WORDS}
        summary = ", ".join(f"{count} {_WORDS[state]}" for state, count in states.items() if count)
        screen.remark(f"watched {directory}: {summary or 'nothing appeared'}")
        if screen.json:
            screen.document({"objects": [shapes.load_report(landing.with_hint(report)) for report in reports]})
        return 130
    return landing.exit_code(reports)


def _apart(target: Target, lake: Lake, subjects: Sequence[str]) -> tuple[list[str], tuple[str, ...], list[str]]:
    """Keys of the lake, folders of its raw zone (as prefixes of keys), and paths."""
    keys: list[str] = []
    prefixes: list[str] = []
    paths: list[str] = []
    raw = (lake.state_dir / "raw").resolve()
    for subject in subjects:
        if subject.startswith(("s3://", "s3a://")):
            if lake.stage == LOCAL:
                raise UsageError(f"{subject} is in an AWS account", hint="name its stage: --stage dev")
            bucket, _, key = subject.split("://", 1)[1].partition("/")
            if f"s3://{bucket}" != target.raw_zone:
                raise UsageError(f"{subject} is not in {target.raw_zone}, the raw zone of stage {lake.stage}")
            (prefixes if key.endswith("/") else keys).append(key)
            continue
        found = Path(subject).resolve()
        if found.is_dir() and found.is_relative_to(raw):
            below = found.relative_to(raw).as_posix()
            prefixes.append("raw/" if below == "." else f"raw/{below}/")
        elif os.path.lexists(subject) or not f"{subject}/".startswith("raw/"):
            paths.append(subject)
        elif subject.endswith("/") or subject == "raw":
            prefixes.append(f"{subject.rstrip('/')}/")
        else:
            keys.append(subject)
    return keys, tuple(prefixes), paths


def _rehearse(
    screen: Screen, target: Target, lake: Lake, uploads: Sequence[landing.Upload], keys: Sequence[str]
) -> int:
    if not keys and not uploads:
        raise UsageError("--dry-run needs files or keys", hint="lakectl run-local flights.csv --dry-run")
    reports: list[LoadReport] = []
    for path, key in (*((upload.path or "", upload.key) for upload in uploads), *((None, key) for key in keys)):
        try:
            report = target.rehearse(path, key)
        except LakectlError as error:
            report = landing.failure(lake, key, error)
        reports += _tell(screen, [report], verb="would load")
    return _finish(screen, reports)


def _sizes(uploads: Sequence[landing.Upload]) -> dict[str, int]:
    return {upload.key: upload.size for upload in uploads}


def _tell(screen: Screen, reports: Iterable[LoadReport], *, verb: str | None = None) -> list[LoadReport]:
    told = []
    for report in reports:
        screen.finished(report.key, "loading" if report.version else "landing")
        told.append(landing.with_hint(report))
        _tell_one(screen, told[-1], verb=verb)
    return told


def _tell_one(screen: Screen, report: LoadReport, *, verb: str | None = None) -> None:
    if report.state == "failed":
        error = LakectlError(f"{visible(report.key)}: {report.error}", hint=report.hint)
        screen.error(error, document=False)
        return
    if screen.json:
        return
    word = verb if verb and report.state == "loaded" else _WORDS[report.state]
    where = f"{visible(report.key)} → {report.table}"
    figures = f"{plural(report.rows, 'row')}, {plural(report.rejects, 'reject')}, {seconds(report.seconds)}"
    screen.line(f"{word}  {where}  {figures}" + (f"  run {report.run}" if report.run and not verb else ""))
    if report.hops:
        screen.line(f"    {' → '.join(f'{hop} {at:.1f} s' for hop, at in report.hops.items())}")
    for change in report.changes:
        if not change.startswith("create column"):
            screen.line(f"    {visible(change)}")
    for note in report.notes:
        screen.line(f"    note: {visible(note)}")
    if report.rejects and not verb:
        screen.line(f"    see them with: lakectl rejects {report.dataset}")


def _finish(screen: Screen, reports: Sequence[LoadReport]) -> int:
    if screen.json:
        screen.document({"objects": [shapes.load_report(report) for report in reports]})
    elif len(reports) > 1:
        states = {state: sum(report.state == state for report in reports) for state in _WORDS}
        told = ", ".join(f"{count:,} {_WORDS[state]}" for state, count in states.items() if count)
        screen.remark(f"{plural(len(reports), 'object')}: {told}")
    return landing.exit_code(reports)
