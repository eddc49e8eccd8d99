"""The walk of one file, from the raw zone into its table. Start reading here.

    claim ─► read ─► cast ─► transform ─► check ─► COPY ─► ledger ─► commit
              └──────── rejects ◄───────────┘

Everything from the claim to the ledger is one transaction: an object version is in its table once, whole, or not at
all, and the newest version of a key wins, whoever is killed and whenever. What each step is, is told in the room that
does it: ``objects`` (raw zone), ``formats`` (reading), ``infer`` (types), ``transform``, ``contract``, ``shaping`` (one
batch), ``loading`` (one pass after the other), ``warehouse`` (PostgreSQL), ``ledger`` (what is loaded).
"""

from __future__ import annotations

import contextlib
import functools
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from etl_container import ledger
from etl_container import transform as transforms
from etl_container.datasets import Dataset, LoadMode
from etl_container.errors import (
    BusyError,
    DataError,
    InterruptedByUserError,
    LakectlError,
    TooManyRejectsError,
    WarehouseUnavailableError,
)
from etl_container.formats.base import Source
from etl_container.loading import Loaded, Loader
from etl_container.objects import ObjectRef, ObjectStore
from etl_container.report import Loading, LoadReport, OnEvent, silent
from etl_container.warehouse import Session

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


@dataclass(slots=True)
class _Attempt:
    """What must survive a failed load, so that it can be told and its rejects kept."""

    run: int
    started: float
    loader: Loader | None = None
    transform: str | None = None

    def close(self) -> None:
        if self.loader is not None:
            self.loader.close()


def process_object(
    ref: ObjectRef,
    lake: LakeRules,
    store: ObjectStore,
    session: Session,
    *,
    again: bool = False,
    on_event: OnEvent = silent,
) -> LoadReport:
    """Bring one object version into its table, exactly once.

    Args:
        ref: the object version.
        lake: the owner's decisions about datasets.
        store: where the bytes are.
        session: the warehouse; the caller's, so that many objects share a connection.
        again: load it even if it is loaded: the transform or the contract may have changed.
        on_event: gets :class:`Loading` after every batch.

    Returns:
        The report; a broken object is a report in state ``failed``, not an exception.

    Raises:
        WarehouseUnavailableError: the warehouse is gone, so that not even the failure could be recorded.
        KeyboardInterrupt: passed through, after the failure was recorded.
    """
    dataset = lake.dataset_of(ref.key)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _process(ref, dataset, lake, store, session, again, on_event)
        except BusyError:
            if attempt == ATTEMPTS:
                raise
            time.sleep(0.05 * 2**attempt)
    raise AssertionError("unreachable")


def _process(
    ref: ObjectRef,
    dataset: Dataset,
    lake: LakeRules,
    store: ObjectStore,
    session: Session,
    again: bool,
    on_event: OnEvent,
) -> LoadReport:
    media_type = _media_type(ref, store)
    attempt = _Attempt(ledger.begin(session, ref, dataset, media_type=media_type), time.monotonic())
    try:
        with session.transaction():
            claim = ledger.claim(session, ref, dataset, again=again)
            if claim.verdict != "load":
                return _nothing_to_do(session, ref, dataset, lake, attempt, claim)
            loaded = _load(ref, dataset, lake, store, session, attempt, claim.replaces, on_event)
            return _publish(session, ref, dataset, attempt, claim, loaded)
    except BusyError:
        ledger.forget(session, attempt.run)
        raise
    except LakectlError as error:
        return _failed(session, ref, dataset, attempt, error)
    except KeyboardInterrupt:
        stopped = InterruptedByUserError("interrupted", hint=f"run it again: lakectl run {ref.key}")
        with contextlib.suppress(WarehouseUnavailableError):
            _failed(session, ref, dataset, attempt, stopped)
        raise
    finally:
        attempt.close()
        if not session.broken:
            ledger.release(session, attempt.run)


def rehearse(ref: ObjectRef, lake: LakeRules, store: ObjectStore, session: Session) -> LoadReport:
    """Everything but the commit: what loading this object would do. Leaves no trace in the ledger."""
    dataset = lake.dataset_of(ref.key)
    attempt = _Attempt(0, time.monotonic())
    try:
        with session.transaction():
            claim = ledger.claim(session, ref, dataset, again=True)
            loaded = _load(ref, dataset, lake, store, session, attempt, claim.replaces, silent)
            raise _RehearsedError  # noqa: TRY301
    except _RehearsedError:
        return _report(ref, dataset, attempt, "loaded", loaded)
    except LakectlError as error:
        return _report(ref, dataset, attempt, "failed", error=error)
    finally:
        attempt.close()


class _RehearsedError(Exception):
    """Rolls a rehearsal back."""


def _media_type(ref: ObjectRef, store: ObjectStore) -> str | None:
    """What the object is by its first bytes; None where they cannot be had, which the load itself will tell."""
    from etl_container.formats.detect import media_type

    try:
        with store.open(ref) as stream:
            return media_type(stream.read(HEAD_BYTES), ref.name)
    except (LakectlError, OSError):
        return None


def _load(
    ref: ObjectRef,
    dataset: Dataset,
    lake: LakeRules,
    store: ObjectStore,
    session: Session,
    attempt: _Attempt,
    replaces: tuple[int, ...],
    on_event: OnEvent,
) -> Loaded:
    """Read, cast, transform, check, COPY; then hold the result against what the contract says of the whole."""
    transform = transforms.load(lake.transforms_dir, dataset.name, key=ref.key, version=ref.version)
    attempt.transform = transforms.mark(lake.transforms_dir, dataset.name)
    meter = _Meter()
    attempt.loader = loader = Loader(
        session,
        dataset,
        source_of(ref, store, meter),
        transform,
        lake.root,
        attempt.run,
        mended=ledger.mended(session, ref),
        on_rows=lambda rows: on_event(Loading(ref.key, rows, meter.done, ref.size)),
    )
    loaded = loader.load(replaces)
    rejected = loader.rejects.count()
    tolerate = dataset.contract.tolerate
    if not tolerate.allows(rejected, loaded.records):
        raise TooManyRejectsError(
            f"{rejected:,} of {loaded.records:,} records of {ref.key} were rejected; "
            f"the contract of {dataset.name} tolerates {tolerate}. Nothing was published",
            hint=f"lakectl rejects {dataset.name}",
        )
    if rejected and not loaded.rows:
        raise TooManyRejectsError(
            f"all {rejected:,} records of {ref.key} were rejected. Nothing was published",
            hint=f"lakectl rejects {dataset.name}",
        )
    if broken := loader.broken_promises(loaded.rows, datetime.now(UTC)):
        raise DataError(
            f"{ref.key} breaks the contract of {dataset.name}: {'; '.join(broken)}. Nothing was published",
            hint=f"mend the file, or [dataset.{dataset.name}.contract] in lake.toml",
        )
    return loaded


def _publish(
    session: Session, ref: ObjectRef, dataset: Dataset, attempt: _Attempt, claim: ledger.Claim, loaded: Loaded
) -> LoadReport:
    """Commit the record with the rows: rejects, what was replaced, the object's state, the run's end."""
    assert attempt.loader is not None
    rejects = ledger.keep_rejects(session, attempt.run, attempt.loader.rejects.located(attempt.loader.reader))
    if dataset.mode is not LoadMode.MERGE:
        ledger.supersede(session, claim.replaces)
    ledger.supersede_versions(session, ref)
    ledger.adopt_mended(session, ref, attempt.run)
    ledger.decide(session, ref, "loaded", attempt.run)
    report = _report(ref, dataset, attempt, "loaded", loaded, rejects=rejects)
    ledger.finish(session, attempt.run, _outcome(report, attempt, loaded, replaced=claim.replaces))
    return report


def _nothing_to_do(
    session: Session, ref: ObjectRef, dataset: Dataset, lake: LakeRules, attempt: _Attempt, claim: ledger.Claim
) -> LoadReport:
    """Another run has loaded this version, or a newer one."""
    assert claim.verdict != "load"
    if claim.verdict == "superseded":
        ledger.decide(session, ref, "superseded", claim.by)
    done, rejects = Loaded(), 0
    if claim.verdict == "already_loaded":
        done.rows, rejects, applied = ledger.result(session, claim.by)
        now = transforms.mark(lake.transforms_dir, dataset.name)
        if applied != now:
            done.notes.append(
                f"it was loaded with transform {applied or 'none'}, now there is {now or 'none'}: "
                f"lakectl run {ref.key} loads it again"
            )
    report = _report(ref, dataset, attempt, claim.verdict, done, rejects=rejects, run=claim.by)
    ledger.finish(session, attempt.run, _outcome(report, attempt))
    return report


def _failed(session: Session, ref: ObjectRef, dataset: Dataset, attempt: _Attempt, error: LakectlError) -> LoadReport:
    """Record a failure in a transaction of its own, with every reject; on a new connection if the old one is gone."""
    loader = attempt.loader
    report = _report(ref, dataset, attempt, "failed", error=error, rejects=loader.rejects.count() if loader else 0)
    if session.broken:
        session.reconnect()
    with session.transaction():
        if loader is not None and isinstance(error, DataError):
            ledger.keep_rejects(session, attempt.run, loader.rejects.located(loader.reader))
        ledger.fail(session, ref, attempt.run)
        ledger.finish(session, attempt.run, _outcome(report, attempt, error=error))
    return report


# -- facts --------------------------------------------------------------------------------------------


def _report(
    ref: ObjectRef,
    dataset: Dataset,
    attempt: _Attempt,
    state: str,
    loaded: Loaded | None = None,
    *,
    rejects: int | None = None,
    run: int | None = None,
    error: LakectlError | None = None,
) -> LoadReport:
    loaded = loaded or Loaded()
    counted = attempt.loader.rejects.count() if attempt.loader and rejects is None else rejects
    return LoadReport(
        key=ref.key,
        version=ref.version,
        dataset=dataset.name,
        table=dataset.table,
        state=state,  # type: ignore[arg-type]
        rows=loaded.rows,
        rejects=counted or 0,
        seconds=round(time.monotonic() - attempt.started, 4),
        run=str(run or attempt.run) if attempt.run else None,
        error=error.message if error else None,
        hint=error.hint if error else None,
        exit_code=error.exit_code if error else 0,
        retryable=error.retryable if error else False,
        changes=tuple(loaded.changes),
        notes=tuple(loaded.notes),
        timings=loaded.timings,
    )


def _outcome(
    report: LoadReport,
    attempt: _Attempt,
    loaded: Loaded | None = None,
    *,
    replaced: tuple[int, ...] = (),
    error: LakectlError | None = None,
) -> ledger.Outcome:
    return ledger.Outcome(
        state=report.state,
        rows=report.rows,
        rejects=report.rejects,
        seconds=report.seconds,
        error=error,
        transform=attempt.transform,
        source=loaded.source if loaded else _read_as(attempt),
        notes=report.notes,
        changes=report.changes,
        timings=report.timings,
        replaced=replaced,
    )


def _read_as(attempt: _Attempt) -> dict[str, object] | None:
    from etl_container.loading import described

    reader = attempt.loader.reader if attempt.loader else None
    return described(reader.description, reader.labels) if reader else None


# -- bytes --------------------------------------------------------------------------------------------


class _Meter:
    """Counts the bytes that were read of an object; the greatest count of all passes."""

    done = 0


def source_of(ref: ObjectRef, store: ObjectStore, meter: _Meter | None = None) -> Source:
    """The bytes of an object version, as readers take them."""
    meter = meter or _Meter()
    path = store.local_path(ref)
    return Source(
        name=ref.name,
        size=ref.size,
        open=functools.partial(_metered, lambda: store.open(ref), meter),
        path=None if path is None else str(path),
    )


def _metered(opener: Callable[[], BinaryIO], meter: _Meter) -> BinaryIO:
    return io.BufferedReader(_MeteredStream(opener(), meter), buffer_size=1 << 20)


class _MeteredStream(io.RawIOBase):
    """A binary stream that tells how far it was read."""

    def __init__(self, stream: BinaryIO, meter: _Meter) -> None:
        self._stream = stream
        self._meter = meter
        self._here = 0

    def readinto(self, buffer: Any, /) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._here += len(data)
        self._meter.done = max(self._meter.done, self._here)
        return len(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._here = self._stream.seek(offset, whence)
        return self._here

    def close(self) -> None:
        self._stream.close()
        super().close()
