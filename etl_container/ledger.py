"""The ledger: who claims an object version, what is loaded, what failed. Every statement is in ``sql/queries.sql``.

A run is made visible by :func:`begin` before its load begins and holds an advisory lock for as long as its connection
lives; a run that says "running" without that lock is dead, and whoever looks first says so (:func:`bury`). All that
changes what is loaded happens inside the load's own transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct, field

from etl_container.datasets import Dataset, LoadMode
from etl_container.errors import LakectlError, NotFoundError
from etl_container.formats.base import Reject
from etl_container.objects import ObjectRef
from etl_container.schema import Evolution, without_nul
from etl_container.warehouse import Session, translated

_RUN_SPACE = 0x1A4E
"""The first key of the advisory locks that say "this run is alive"."""

DIED = "the process that ran it died"
"""The error of a run that ended without a word, as ``bury_dead_runs`` writes it."""

_PAGE = 1000
"""Rejects written by one statement."""


class Claim(Struct, frozen=True):
    """The right to load an object version, or the reason why there is nothing to do."""

    verdict: Literal["load", "already_loaded", "superseded"]
    replaces: tuple[int, ...] = ()
    """The runs whose rows the load takes away."""
    by: int | None = None
    """The run that has loaded this version, or a newer one."""


class Outcome(Struct, frozen=True):
    """How a run ended."""

    state: str
    rows: int = 0
    rejects: int = 0
    seconds: float = 0.0
    error: LakectlError | None = None
    transform: str | None = None
    """The transform's file and the digest of its content."""
    source: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()
    changes: Sequence[str] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    replaced: Sequence[int] = ()


class Run(Struct, frozen=True):
    """One run, as the ledger has it."""

    id: int
    kind: str
    bucket: str
    key: str
    version: str
    dataset: str
    table: str
    state: str
    rows: int | None
    rejects: int | None
    started: datetime
    seconds: float | None
    error: str | None
    hint: str | None
    exit_code: int | None
    transform: str | None
    source: Mapping[str, Any] | None
    notes: Sequence[str]
    changes: Sequence[str]
    replaced: Sequence[int]


def get_run(session: Session, run: int) -> Run:
    """One run; raises NotFoundError."""
    found = session.run("get_run", run=run)
    if not found:
        raise NotFoundError(f"no run {run}", hint="lakectl runs")
    return Run(*found[0])


def list_runs(
    session: Session, *, dataset: str | None = None, key: str | None = None, limit: int | None = None
) -> list[Run]:
    """Runs, newest first."""
    return [Run(*row) for row in session.run("list_runs", dataset=dataset, key=key, limit=limit)]


def begin(
    session: Session, refs: Sequence[ObjectRef], dataset: Dataset, media_types: Sequence[str | None]
) -> list[int]:
    """Record versions of different objects of one bucket and a new run of each; commits at once.

    Args:
        media_types: of each object, as its content tells it; None: by its name.

    Returns:
        The runs' ids, in the order of ``refs``.
    """
    told = [
        {
            "key": ref.key,
            "version": ref.version,
            "ordinal": ref.ordinal,
            "size": ref.size,
            "digest": ref.digest,
            "media_type": media_type or ref.media_type,
            "landed": ref.landed.isoformat(),
        }
        for ref, media_type in zip(refs, media_types, strict=True)
    ]
    with session.transaction():
        session.run("record_objects", bucket=refs[0].bucket, dataset=dataset.name, objects=_json(told))
        runs = begin_within(session, refs, dataset, kind="load")
        session.run("hold_runs", space=_RUN_SPACE, runs=runs)
    return runs


def release(session: Session, runs: Sequence[int]) -> None:
    """Say that runs need their sign of life no more; for connections that live on."""
    session.run("release_runs", space=_RUN_SPACE, runs=list(runs))


def results(session: Session, runs: Sequence[int | None]) -> dict[int, tuple[int, int, str | None]]:
    """The rows and rejects of runs, and the transform that each applied (:func:`etl_container.transform.mark`)."""
    known = [run for run in runs if run is not None]
    found = session.run("results_of_runs", runs=known) if known else []
    return {run: (int(rows or 0), int(rejects or 0), transform) for run, rows, rejects, transform in found}


def bury(session: Session) -> None:
    """Mark the runs whose process died as failed, and their objects: both, or whoever looks next does it."""
    with session.transaction():
        dead = [row[0] for row in session.run("bury_dead_runs", space=_RUN_SPACE)]
        fail(session, dead)


def begin_within(session: Session, refs: Sequence[ObjectRef], dataset: Dataset, *, kind: str) -> list[int]:
    """New runs inside the caller's transaction, seen by others when that commits; ids in the order of ``refs``."""
    begun = session.run("begin_runs", **_where(refs), kind=kind, dataset=dataset.name, table=dataset.table)
    ids = {(key, version): int(run) for run, key, version in begun}
    return [ids[ref.key, ref.version] for ref in refs]


def claim(session: Session, refs: Sequence[ObjectRef], dataset: Dataset, *, again: bool) -> list[Claim]:
    """Decide, under the keys' locks, which versions are to be loaded. Call inside the load's transaction.

    Args:
        refs: versions of different objects; of one only where the objects of the table replace one another.
        again: load them even if they are loaded (the transform or the contract may have changed).
    """
    where = {"bucket": refs[0].bucket, "keys": [ref.key for ref in refs]}
    session.run("lock_keys", **where)
    if dataset.mode is LoadMode.REPLACE_TABLE:
        # The objects of one table replace one another: what is loaded may change until the table is ours.
        session.run("lock_table", table=dataset.table)
    loaded = {key: found for key, *found in session.run("loaded_versions", **where)}
    verdicts = [_verdict(session, ref, *loaded[ref.key], again=again) if ref.key in loaded else None for ref in refs]
    if dataset.mode is LoadMode.REPLACE_TABLE:
        table = tuple(row[0] for row in session.run("runs_of_table", table=dataset.table))
        return [verdict or Claim("load", table) for verdict in verdicts]
    written: dict[str, list[tuple[str, int]]] = {}
    for key, version, run in session.run("runs_with_rows", **where):
        written.setdefault(key, []).append((version, run))
    appending = dataset.mode is LoadMode.APPEND
    return [
        verdict
        or Claim(
            "load",
            tuple(run for version, run in written.get(ref.key, ()) if not appending or version == ref.version),
        )
        for ref, verdict in zip(refs, verdicts, strict=True)
    ]


def _verdict(
    session: Session, ref: ObjectRef, version: str, ordinal: str, digest: str | None, run: int, *, again: bool
) -> Claim | None:
    """Why there is nothing to do, given the version of the key that is loaded; None when there is."""
    if version == ref.version and not again:
        return Claim("already_loaded", by=run)
    if ordinal > ref.ordinal:
        return Claim("superseded", by=run)
    if digest is not None and digest == ref.digest and not again:
        supersede_versions(session, [ref])
        decide(session, [ref], "loaded", [run])
        return Claim("already_loaded", by=run)
    return None


def supersede(session: Session, runs: Sequence[int]) -> None:
    """Runs whose rows are gone, and the object versions they had loaded."""
    if runs:
        session.run("supersede_runs", runs=list(runs))


def supersede_versions(session: Session, refs: Sequence[ObjectRef]) -> None:
    """Older loaded versions of the keys, whose rows may stay (append, merge)."""
    if refs:
        session.run("supersede_versions", **_where(refs))


def settle(session: Session, bucket: str, key: str) -> None:
    """After rows went or came back: the newest version of the key that has rows is the loaded one."""
    for version, run in session.run("newest_with_rows", bucket=bucket, key=key):
        where = {"bucket": bucket, "keys": [key], "versions": [version]}
        session.run("supersede_versions", **where)
        session.run("decide_objects", **where, state="loaded", runs=[run])


def decide(session: Session, refs: Sequence[ObjectRef], state: str, runs: Sequence[int | None]) -> None:
    """Set the state of object versions, each by the run that decided it."""
    if refs:
        session.run("decide_objects", **_where(refs), state=state, runs=list(runs))


def fail(session: Session, runs: Sequence[int]) -> None:
    """Set the state of the object versions whose loads failed, unless they are loaded."""
    if runs:
        session.run("fail_objects_of_runs", runs=list(runs))


def finish(session: Session, outcomes: Mapping[int, Outcome]) -> None:
    """Write the ends of runs."""
    if outcomes:
        session.run("finish_runs", outcomes=_json([_ending(run, outcome) for run, outcome in outcomes.items()]))


def _ending(run: int, outcome: Outcome) -> dict[str, Any]:
    error = outcome.error
    return {
        "run": run,
        "state": outcome.state,
        "rows": outcome.rows,
        "rejects": outcome.rejects,
        "seconds": outcome.seconds,
        "error": _clean(error.message) if error else None,
        "hint": _clean(error.hint) if error else None,
        "exit_code": error.exit_code if error else 0,
        "retryable": error.retryable if error else None,
        "transform": outcome.transform,
        "source": outcome.source,
        "notes": list(outcome.notes),
        "changes": list(outcome.changes),
        "timings": {name: round(seconds, 4) for name, seconds in outcome.timings.items()},
        "replaced": list(outcome.replaced),
    }


def keep_rejects(session: Session, run: int, rejects: Iterable[Reject]) -> int:
    """Write rejects to the ledger, a page at a time; how many they were."""
    count = 0

    def rows() -> Iterable[tuple[Any, ...]]:
        nonlocal count
        for reject in rejects:
            count += 1
            texts = map(_clean, (reject.column, reject.value, reject.reason, reject.text))
            yield (run, reject.record, reject.line, *texts)

    from psycopg2.extras import execute_values

    with translated(), session.connection.cursor() as cursor:
        execute_values(
            cursor,
            "insert into lake.rejects (run_id, record, line, column_name, value, reason, text) values %s",
            rows(),
            page_size=_PAGE,
        )
    return count


def mended(session: Session, refs: Sequence[ObjectRef]) -> list[dict[int, list[str | None]]]:
    """The records of each object version that a user has mended: the text of their cells, by ordinal."""
    found: dict[tuple[str, str], dict[int, list[str | None]]] = {(ref.key, ref.version): {} for ref in refs}
    for key, version, record, cells in session.run("mended_records", **_where(refs)):
        found[key, version][int(record)] = cells
    return [found[ref.key, ref.version] for ref in refs]


def mend(session: Session, bucket: str, key: str, version: str, record: int, cells: Sequence[str | None]) -> None:
    """Keep a user's word for a broken record; it stands in for it at every later load of that version."""
    session.run("mend_record", bucket=bucket, key=key, version=version, record=record, cells=_json(list(cells)))


def adopt_mended(session: Session, refs: Sequence[ObjectRef], runs: Sequence[int]) -> None:
    """Mended records that these runs loaded first are forgotten when they are undone."""
    if refs:
        session.run("adopt_mended", **_where(refs), runs=list(runs))


def remember_columns(session: Session, table: str, evolution: Evolution, nulls: frozenset[str], run: int) -> None:
    """Keep the labels of new columns, and whether a value was ever seen in them."""
    added = {change.column for change in evolution.changes if change.kind in ("create", "add", "widen")}
    learned = [
        (position, column)
        for position, column in enumerate(evolution.result.columns)
        if column.name in added or (column.type is None and column.name in evolution.load and column.name not in nulls)
    ]
    if learned:
        session.run(
            "remember_columns",
            table=table,
            columns=[column.name for _, column in learned],
            positions=[position for position, _ in learned],
            labels=[column.label for _, column in learned],
            only_nulls=[column.name in nulls for _, column in learned],
            run=run,
        )


def _where(refs: Sequence[ObjectRef]) -> dict[str, Any]:
    """Object versions of one bucket, as statements take them."""
    return {
        "bucket": refs[0].bucket,
        "keys": [ref.key for ref in refs],
        "versions": [ref.version for ref in refs],
    }


def _json(value: Any) -> str:
    """JSON that PostgreSQL takes: without NUL characters, which it stores nowhere."""
    return without_nul(json.dumps(value, ensure_ascii=False, default=str))


def _clean(text: str | None) -> str | None:
    """PostgreSQL stores neither NUL nor lone surrogates in text."""
    if text is None:
        return None
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
