"""The walk of one file, from the raw zone into its table. Start reading here.

    claim ─► read ─► cast ─► transform ─► check ─► COPY ─► ledger ─► commit
              └──────── rejects ◄───────────┘

Everything from the claim to the ledger is one transaction: an object version is in its table once, whole, or not at
all, and the newest version of a key wins, whoever is killed and whenever. What each step is, is told in the room that
does it: ``objects`` (raw zone), ``sources`` (their bytes), ``formats`` (reading), ``infer`` (types), ``transform``,
``contract``, ``shaping`` (one batch), ``loading`` (one pass after the other), ``warehouse`` (PostgreSQL), ``ledger``
(what is loaded).

An object walks :func:`_alone`. Small objects of one table walk :func:`_together`, each step for all of them: one claim,
one COPY, one commit for up to :data:`GROUP`, since these cost more than reading a file of twenty rows does. What is
broken costs nothing but itself; what changes the table's shape, or what the server refuses, walks alone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from etl_container import ledger
from etl_container import transform as transforms
from etl_container.datasets import Dataset, LoadMode
from etl_container.errors import (
    BusyError,
    DataError,
    DeadlineError,
    InterruptedByUserError,
    LakectlError,
    NotFoundError,
    TooManyRejectsError,
    UsageError,
    WarehouseUnavailableError,
)
from etl_container.formats.base import Source
from etl_container.loading import Loaded, Loader, described, may_share, write
from etl_container.objects import ObjectRef, ObjectStore
from etl_container.report import Loading, LoadReport, OnEvent, silent
from etl_container.schema import TableSchema
from etl_container.sources import Meter, source_of
from etl_container.warehouse import Session

GROUP = 100
"""Objects that are loaded together, at most: as many loads may be lost with a process that is killed."""

GROUP_BYTES = 4 << 20
"""Bytes of the objects that are loaded together, at most."""

HELD_BYTES = 32 << 20
"""Arrow bytes that wait to be written together, at most: what is compressed grows."""

HEAD_BYTES = 4096
"""As much of an object tells its media type."""

ATTEMPTS = 5
"""How often a load that met another one's lock in the wrong order is tried (PostgreSQL ends one of the two)."""


class LakeRules(Protocol):
    """What the pipeline asks of a lake: the owner's decisions."""

    @property
    def root(self) -> Path: ...

    @property
    def transforms_dir(self) -> Path: ...

    def dataset_of(self, key: str) -> Dataset: ...


class _Walk(Struct, frozen=True):
    """What the objects of a group have in common."""

    dataset: Dataset
    lake: LakeRules
    store: ObjectStore
    session: Session
    again: bool
    on_event: OnEvent
    transform: str | None
    """The transform that is applied, as a run records it."""


class _Attempt(Struct):
    """One object on its walk: what must survive a failed load, so that it can be told and its rejects kept."""

    ref: ObjectRef
    source: Source
    meter: Meter
    run: int = 0
    claim: ledger.Claim = ledger.Claim("load")
    loader: Loader | None = None
    loaded: Loaded | None = None
    error: LakectlError | None = None
    seconds: float = 0.0
    """That were its own alone."""

    def restart(self) -> None:
        """Forget what was read of it."""
        if self.loader is not None:
            self.loader.close()
        self.loader = self.loaded = self.error = None
        self.seconds = 0.0


def process_objects(
    refs: Iterable[ObjectRef],
    lake: LakeRules,
    store: ObjectStore,
    session: Session,
    *,
    again: bool = False,
    on_event: OnEvent = silent,
) -> Iterator[LoadReport]:
    """Bring object versions into their tables, each exactly once.

    Args:
        refs: the object versions; small ones of one table that follow one another are loaded together.
        lake: the owner's decisions about datasets.
        store: where the bytes are.
        session: the warehouse; the caller's, so that many objects share a connection.
        again: load them even if they are loaded: the transform or the contract may have changed.
        on_event: gets :class:`Loading` after every batch.

    Yields:
        A report for each, in their order, once it is committed; a broken object is a report in state ``failed``, not
        an exception.

    Raises:
        WarehouseUnavailableError: the warehouse is gone, so that not even the failure could be recorded.
        KeyboardInterrupt: passed through, after the failure was recorded.
    """
    for dataset, group in _groups(refs, lake):
        mark = transforms.mark(lake.transforms_dir, dataset.name)
        walk = _Walk(dataset, lake, store, session, again, on_event, mark)
        done: list[LoadReport] = []
        try:
            _process(walk, [_attempt(ref, store) for ref in group], done)
        finally:
            yield from done


def _groups(refs: Iterable[ObjectRef], lake: LakeRules) -> Iterator[tuple[Dataset, list[ObjectRef]]]:
    """The objects in their order, those together that may be loaded together; a large one is a group of its own."""
    dataset: Dataset | None = None
    group: list[ObjectRef] = []
    keys: set[str] = set()
    room = 0
    try:
        for ref in refs:
            mine = lake.dataset_of(ref.key)
            joins = len(group) < GROUP and ref.size <= room and ref.key not in keys
            joins = joins and mine == dataset and mine.mode is not LoadMode.REPLACE_TABLE
            if dataset is not None and not joins:
                yield dataset, group
                dataset = None
            if dataset is None:
                dataset, group, keys, room = mine, [], set(), GROUP_BYTES
            group.append(ref)
            keys.add(ref.key)
            room -= ref.size
    except (NotFoundError, UsageError):
        if dataset is not None:
            yield dataset, group  # what was named before the one that is not there
        raise
    if dataset is not None:
        yield dataset, group


def _process(walk: _Walk, waiting: list[_Attempt], done: list[LoadReport]) -> None:
    """Load a group, together as far as that goes; adds the reports to ``done`` as they become true."""
    session = walk.session
    media_types = [_media_type(attempt) for attempt in waiting]
    runs = ledger.begin(session, [attempt.ref for attempt in waiting], walk.dataset, media_types)
    for attempt, run in zip(waiting, runs, strict=True):
        attempt.run = run
    alone = 0
    try:
        while waiting:
            if len(waiting) > 1 and not alone:
                reports, alone = _tried_together(walk, waiting)
            else:
                reports, alone = [_alone(walk, waiting[0])], max(alone - 1, 0)
            done += reports
            for attempt in waiting[: len(reports)]:
                attempt.restart()
            del waiting[: len(reports)]
    except DeadlineError as error:
        done += _failed(walk, waiting, error)
    except KeyboardInterrupt:
        again = f"lakectl run {waiting[0].ref.key}" if len(waiting) == 1 else "lakectl run --failed"
        with contextlib.suppress(WarehouseUnavailableError):
            done += _failed(walk, waiting, InterruptedByUserError("interrupted", hint=f"run it again: {again}"))
        raise
    finally:
        for attempt in waiting:
            attempt.restart()
        if not session.broken:
            ledger.release(session, runs)


def _tried_together(walk: _Walk, waiting: Sequence[_Attempt]) -> tuple[list[LoadReport], int]:
    """The reports of those first ones that were loaded together, and how many have to go on alone."""
    try:
        return _together(walk, waiting), 1
    except DeadlineError:
        raise
    except Exception:  # noqa: BLE001  whatever it is: the object that it is about will tell it, alone
        if walk.session.broken:
            walk.session.reconnect()
        return [], len(waiting)


def _together(walk: _Walk, waiting: Sequence[_Attempt]) -> list[LoadReport]:
    """Load the first ones in one transaction, up to the first that has to go alone."""
    session, dataset = walk.session, walk.dataset
    began, room = time.monotonic(), HELD_BYTES
    with session.transaction():
        mended = _claim(walk, waiting)
        live = session.shared_schema(dataset.table) if may_share(dataset) else None
        replacing = live is not None and any(attempt.claim.replaces for attempt in waiting)
        if replacing and not session.lineage_indexed(dataset.table):
            live = None  # the first one that replaces another makes the index, alone
        joined: list[_Attempt] = []
        for attempt, cells in zip(waiting, mended, strict=True):
            if attempt.claim.verdict == "load" and not _joins(walk, attempt, cells, live, room):
                break
            joined.append(attempt)
            room -= sum(data.nbytes for data in attempt.loader.held) if attempt.loader is not None else 0
        if may_share(dataset):
            good = [attempt for attempt in joined if attempt.error is None]
            replaced = [run for attempt in good for run in attempt.claim.replaces]
            write(session, dataset, [attempt.loader for attempt in good if attempt.loader is not None], replaced)
        return _publish(walk, joined, began)


def _joins(
    walk: _Walk, attempt: _Attempt, mended: Mapping[int, Sequence[str | None]], live: TableSchema | None, room: int
) -> bool:
    """Load an object beside others: up to its COPY, or where rows have a key to its end; False: it has to go alone."""
    started = time.monotonic()
    attempt.restart()
    try:
        if not may_share(walk.dataset):
            with walk.session.savepoint():
                _load(walk, attempt, mended)
        elif live is not None:
            attempt.loader = _loader(walk, attempt, mended)
            attempt.loaded = attempt.loader.hold(live, room)
            if attempt.loaded is not None:
                _keep_promises(walk, attempt)
    except (BusyError, DeadlineError, WarehouseUnavailableError):
        raise
    except LakectlError as error:
        attempt.error = error
    attempt.seconds = time.monotonic() - started
    return attempt.loaded is not None or attempt.error is not None


def _alone(walk: _Walk, attempt: _Attempt) -> LoadReport:
    """Load one object in a transaction of its own."""
    began = time.monotonic()
    for tried in range(1, ATTEMPTS + 1):
        attempt.restart()
        try:
            with walk.session.transaction():
                (cells,) = _claim(walk, [attempt])
                if attempt.claim.verdict == "load":
                    _load(walk, attempt, cells)
                return _publish(walk, [attempt], began)[0]
        except DeadlineError:
            raise
        except LakectlError as error:
            if not isinstance(error, BusyError) or tried == ATTEMPTS:
                return _failed(walk, [attempt], error, began)[0]
            time.sleep(0.05 * 2**tried)
    raise AssertionError("unreachable")


def rehearse(ref: ObjectRef, lake: LakeRules, store: ObjectStore, session: Session) -> LoadReport:
    """Everything but the commit: what loading this object would do. Leaves no trace in the ledger."""
    began = time.monotonic()
    dataset = lake.dataset_of(ref.key)
    mark = transforms.mark(lake.transforms_dir, dataset.name)
    walk = _Walk(dataset, lake, store, session, True, silent, mark)
    attempt = _attempt(ref, store)
    try:
        with session.transaction():
            (cells,) = _claim(walk, [attempt])
            attempt.claim = replace(attempt.claim, verdict="load")  # a newer version may be there
            _load(walk, attempt, cells)
            raise _RehearsedError  # noqa: TRY301
    except _RehearsedError:
        return _report(walk, attempt, time.monotonic() - began)
    except LakectlError as error:
        attempt.error = error
        return _report(walk, attempt, time.monotonic() - began)
    finally:
        attempt.restart()


class _RehearsedError(Exception):
    """Rolls a rehearsal back."""


# -- the steps ----------------------------------------------------------------------------------------


def _attempt(ref: ObjectRef, store: ObjectStore) -> _Attempt:
    meter = Meter()
    return _Attempt(ref, source_of(ref, store, meter), meter)


def _media_type(attempt: _Attempt) -> str | None:
    """What the object is by its first bytes; None where they cannot be had, which the load itself will tell."""
    from etl_container.formats.detect import media_type

    try:
        with attempt.source.open() as stream:
            return media_type(stream.read(HEAD_BYTES), attempt.ref.name)
    except (LakectlError, OSError):
        return None


def _claim(walk: _Walk, attempts: Sequence[_Attempt]) -> list[dict[int, list[str | None]]]:
    """What is to be done with each object, under the lock of its key; and the records of it that a user has mended."""
    refs = [attempt.ref for attempt in attempts]
    for attempt, claim in zip(attempts, ledger.claim(walk.session, refs, walk.dataset, again=walk.again), strict=True):
        attempt.claim = claim
    return ledger.mended(walk.session, refs)


def _load(walk: _Walk, attempt: _Attempt, mended: Mapping[int, Sequence[str | None]]) -> None:
    """Read, cast, transform, check, COPY; then hold the result against what the contract says of the whole."""
    attempt.loader = _loader(walk, attempt, mended)
    attempt.loaded = attempt.loader.load(attempt.claim.replaces)
    _keep_promises(walk, attempt)


def _loader(walk: _Walk, attempt: _Attempt, mended: Mapping[int, Sequence[str | None]]) -> Loader:
    ref, meter = attempt.ref, attempt.meter
    return Loader(
        walk.session,
        walk.dataset,
        attempt.source,
        transforms.load(walk.lake.transforms_dir, walk.dataset.name, key=ref.key, version=ref.version),
        walk.lake.root,
        attempt.run,
        mended=mended,
        on_rows=lambda rows: walk.on_event(Loading(ref.key, rows, meter.done, ref.size)),
    )


def _keep_promises(walk: _Walk, attempt: _Attempt) -> None:
    """Hold what was read against what the contract says of the object as a whole; raises DataError."""
    loader, loaded, key, dataset = attempt.loader, attempt.loaded, attempt.ref.key, walk.dataset
    assert loader is not None
    assert loaded is not None
    rejected = loader.rejects.count()
    tolerate = dataset.contract.tolerate
    if not tolerate.allows(rejected, loaded.records):
        raise TooManyRejectsError(
            f"{rejected:,} of {loaded.records:,} records of {key} were rejected; "
            f"the contract of {dataset.name} tolerates {tolerate}. Nothing was published",
            hint=f"lakectl rejects {dataset.name}",
        )
    if rejected and not loaded.rows:
        raise TooManyRejectsError(
            f"all {rejected:,} records of {key} were rejected. Nothing was published",
            hint=f"lakectl rejects {dataset.name}",
        )
    if broken := loader.broken_promises(loaded.rows, datetime.now(UTC)):
        raise DataError(
            f"{key} breaks the contract of {dataset.name}: {'; '.join(broken)}. Nothing was published",
            hint=f"mend the file, or [dataset.{dataset.name}.contract] in lake.toml",
        )


def _publish(walk: _Walk, attempts: Sequence[_Attempt], began: float) -> list[LoadReport]:
    """Commit the record with the rows: rejects, what was replaced, the objects' states, the ends of the runs."""
    session = walk.session
    failed = [attempt for attempt in attempts if attempt.error is not None]
    rest = [attempt for attempt in attempts if attempt.error is None]
    loaded = [attempt for attempt in rest if attempt.claim.verdict == "load"]
    late = [attempt for attempt in rest if attempt.claim.verdict == "superseded"]
    for attempt in attempts:
        if attempt.loader is not None and isinstance(attempt.error, DataError | None) and attempt.loader.rejects:
            ledger.keep_rejects(session, attempt.run, attempt.loader.rejects.located(attempt.loader.reader))
    if walk.dataset.mode is not LoadMode.MERGE:
        ledger.supersede(session, [run for attempt in loaded for run in attempt.claim.replaces])
    ledger.supersede_versions(session, [attempt.ref for attempt in loaded])
    ledger.adopt_mended(session, [attempt.ref for attempt in loaded], [attempt.run for attempt in loaded])
    ledger.decide(session, [attempt.ref for attempt in loaded], "loaded", [attempt.run for attempt in loaded])
    ledger.decide(session, [attempt.ref for attempt in late], "superseded", [attempt.claim.by for attempt in late])
    ledger.fail(session, [attempt.run for attempt in failed])
    _recall(walk, [attempt for attempt in rest if attempt.claim.verdict == "already_loaded"])
    shared = time.monotonic() - began - sum(attempt.seconds for attempt in attempts)
    reports = [_report(walk, attempt, attempt.seconds + shared / len(attempts)) for attempt in attempts]
    ends = {attempt.run: _outcome(walk, attempt, report) for attempt, report in zip(attempts, reports, strict=True)}
    ledger.finish(session, ends)
    return reports


def _recall(walk: _Walk, attempts: Sequence[_Attempt]) -> None:
    """What an earlier run has made of each object that is loaded already."""
    known = ledger.results(walk.session, [attempt.claim.by for attempt in attempts])
    for attempt in attempts:
        rows, rejects, applied = known.get(attempt.claim.by or 0, (0, 0, None))
        attempt.loaded = Loaded(rows=rows, records=rows + rejects)
        if applied != walk.transform:
            attempt.loaded.notes.append(
                f"it was loaded with transform {applied or 'none'}, now there is {walk.transform or 'none'}: "
                f"lakectl run {attempt.ref.key} loads it again"
            )


def _failed(
    walk: _Walk, attempts: Sequence[_Attempt], error: LakectlError, began: float | None = None
) -> list[LoadReport]:
    """Record failures in a transaction of their own, with every reject; on a new connection if the old one is gone."""
    if walk.session.broken:
        walk.session.reconnect()
    for attempt in attempts:
        attempt.error, attempt.claim = error, ledger.Claim("load")
    with walk.session.transaction():
        return _publish(walk, attempts, time.monotonic() if began is None else began)


# -- facts --------------------------------------------------------------------------------------------


def _report(walk: _Walk, attempt: _Attempt, seconds: float) -> LoadReport:
    error, verdict = attempt.error, attempt.claim.verdict
    loaded = attempt.loaded if error is None and attempt.loaded is not None else Loaded()
    run = attempt.run if error is not None or verdict == "load" else attempt.claim.by or attempt.run
    return LoadReport(
        key=attempt.ref.key,
        version=attempt.ref.version,
        dataset=walk.dataset.name,
        table=walk.dataset.table,
        state="failed" if error is not None else "loaded" if verdict == "load" else verdict,
        rows=loaded.rows,
        rejects=attempt.loader.rejects.count() if attempt.loader is not None else loaded.records - loaded.rows,
        seconds=round(seconds, 4),
        run=str(run) if run else None,
        error=error.message if error else None,
        hint=error.hint if error else None,
        exit_code=error.exit_code if error else 0,
        retryable=error.retryable if error else False,
        changes=tuple(loaded.changes),
        notes=tuple(loaded.notes),
        timings=loaded.timings,
    )


def _outcome(walk: _Walk, attempt: _Attempt, report: LoadReport) -> ledger.Outcome:
    reader = attempt.loader.reader if attempt.loader is not None else None
    return ledger.Outcome(
        state=report.state,
        rows=report.rows,
        rejects=report.rejects,
        seconds=report.seconds,
        error=attempt.error,
        transform=walk.transform if attempt.loader is not None else None,
        source=described(reader.description, reader.labels) if reader is not None else None,
        notes=report.notes,
        changes=report.changes,
        timings=report.timings,
        replaced=attempt.claim.replaces if report.state == "loaded" else (),
    )
