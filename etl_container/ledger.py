"""The ledger: who claims an object version, what is loaded, what failed. Every statement is in ``sql/queries.sql``.

A run is made visible by :func:`begin` before its load begins and holds an advisory lock for as long as its connection
lives; a run that says "running" without that lock is dead, and whoever looks first says so (:func:`bury`). All that
changes what is loaded happens inside the load's own transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from psycopg2.extras import execute_values

from etl_container.datasets import Dataset, LoadMode
from etl_container.errors import LakectlError, NotFoundError
from etl_container.formats.base import Reject
from etl_container.objects import ObjectRef
from etl_container.schema import Evolution
from etl_container.warehouse import Session, translated

_RUN_SPACE = 0x1A4E
"""The first key of the advisory locks that say "this run is alive"."""

_PAGE = 1000
"""Rejects written by one statement."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to load an object version, or the reason why there is nothing to do."""

    verdict: Literal["load", "already_loaded", "superseded"]
    replaces: tuple[int, ...] = ()
    """The runs whose rows the load takes away."""
    by: int | None = None
    """The run that has loaded this version, or a newer one."""


@dataclass(frozen=True, slots=True)
class Outcome:
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


@dataclass(frozen=True, slots=True)
class Run:
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
    session: Session, ref: ObjectRef, dataset: Dataset, *, kind: str = "load", media_type: str | None = None
) -> int:
    """Record an object version and a new run of it; commits at once. Returns the run's id."""
    where = _where(ref)
    session.run(
        "record_object",
        **where,
        ordinal=ref.ordinal,
        dataset=dataset.name,
        size=ref.size,
        digest=ref.digest,
        media_type=media_type or ref.media_type,
        landed=ref.landed,
    )
    with session.transaction():
        run = int(session.run("begin_run", **where, kind=kind, dataset=dataset.name, table=dataset.table)[0][0])
        session.run("hold_run", space=_RUN_SPACE, run=run % (1 << 31))
    return run


def release(session: Session, run: int) -> None:
    """Say that a run needs its sign of life no more; for connections that live on."""
    session.execute("select pg_advisory_unlock(%s, %s)", (_RUN_SPACE, run % (1 << 31)))


def forget(session: Session, run: int) -> None:
    """Take back a run that never began: another load was in the way."""
    session.execute("delete from lake.runs where id = %s and state = 'running'", (run,))


def result(session: Session, run: int | None) -> tuple[int, int, str | None]:
    """The rows and rejects of a run, and the transform that it applied (see :func:`etl_container.transform.mark`)."""
    found = session.run("get_run_result", run=run)
    return (int(found[0][0] or 0), int(found[0][1] or 0), found[0][2]) if found else (0, 0, None)


def bury(session: Session) -> None:
    """Mark the runs whose process died as failed."""
    dead = [row[0] for row in session.run("bury_dead_runs", space=_RUN_SPACE)]
    if dead:
        session.run("fail_objects_of_runs", runs=dead)


def begin_within(session: Session, ref: ObjectRef, dataset: Dataset, *, kind: str) -> int:
    """A new run inside the caller's transaction, seen by others when that commits."""
    return int(session.run("begin_run", **_where(ref), kind=kind, dataset=dataset.name, table=dataset.table)[0][0])


def claim(session: Session, ref: ObjectRef, dataset: Dataset, *, again: bool) -> Claim:
    """Decide, under the key's lock, whether this version is to be loaded. Call inside the load's transaction.

    Args:
        again: load it even if it is loaded (the transform or the contract may have changed).
    """
    session.run("lock_key", bucket=ref.bucket, key=ref.key)
    if dataset.mode is LoadMode.REPLACE_TABLE:
        # The objects of one table replace one another: what is loaded may change until the table is ours.
        session.run("lock_table", table=dataset.table)
    for version, ordinal, digest, run in session.run("loaded_version", bucket=ref.bucket, key=ref.key):
        if version == ref.version and not again:
            return Claim("already_loaded", by=run)
        if ordinal > ref.ordinal:
            return Claim("superseded", by=run)
        if digest is not None and digest == ref.digest and not again:
            session.run("supersede_versions", bucket=ref.bucket, key=ref.key, version=ref.version)
            decide(session, ref, "loaded", run)
            return Claim("already_loaded", by=run)
    if dataset.mode is LoadMode.REPLACE_TABLE:
        runs = session.run("runs_of_table", table=dataset.table)
    else:
        only = ref.version if dataset.mode is LoadMode.APPEND else None
        runs = session.run("runs_with_rows", bucket=ref.bucket, key=ref.key, version=only)
    return Claim("load", tuple(row[0] for row in runs))


def supersede(session: Session, runs: Sequence[int]) -> None:
    """Runs whose rows are gone, and the object versions they had loaded."""
    if runs:
        session.run("supersede_runs", runs=list(runs))


def supersede_versions(session: Session, ref: ObjectRef) -> None:
    """Older loaded versions of the key, whose rows may stay (append, merge)."""
    session.run("supersede_versions", bucket=ref.bucket, key=ref.key, version=ref.version)


def settle(session: Session, bucket: str, key: str) -> None:
    """After rows went or came back: the newest version of the key that has rows is the loaded one."""
    for version, run in session.run("newest_with_rows", bucket=bucket, key=key):
        where = {"bucket": bucket, "key": key, "version": version}
        session.run("supersede_versions", **where)
        session.run("decide_object", **where, state="loaded", run=run)


def decide(session: Session, ref: ObjectRef, state: str, run: int | None) -> None:
    """Set the state of an object version."""
    session.run("decide_object", **_where(ref), state=state, run=run)


def fail(session: Session, ref: ObjectRef, run: int) -> None:
    """Set the state of an object version whose load failed, unless it is loaded."""
    session.run("fail_object", **_where(ref), run=run)


def finish(session: Session, run: int, outcome: Outcome) -> None:
    """Write the end of a run."""
    error = outcome.error
    session.run(
        "finish_run",
        run=run,
        state=outcome.state,
        rows=outcome.rows,
        rejects=outcome.rejects,
        seconds=outcome.seconds,
        error=_clean(error.message) if error else None,
        hint=_clean(error.hint) if error else None,
        exit_code=error.exit_code if error else 0,
        retryable=error.retryable if error else None,
        transform=outcome.transform,
        source=None if outcome.source is None else _json(outcome.source),
        notes=_json(list(outcome.notes)),
        changes=_json(list(outcome.changes)),
        timings=_json({name: round(seconds, 4) for name, seconds in outcome.timings.items()}),
        replaced=list(outcome.replaced),
    )


def keep_rejects(session: Session, run: int, rejects: Iterable[Reject]) -> int:
    """Write rejects to the ledger, a page at a time; how many they were."""
    count = 0

    def rows() -> Iterable[tuple[Any, ...]]:
        nonlocal count
        for reject in rejects:
            count += 1
            texts = map(_clean, (reject.column, reject.value, reject.reason, reject.text))
            yield (run, reject.record, reject.line, *texts)

    with translated(), session.connection.cursor() as cursor:
        execute_values(
            cursor,
            "insert into lake.rejects (run_id, record, line, column_name, value, reason, text) values %s",
            rows(),
            page_size=_PAGE,
        )
    return count


def mended(session: Session, ref: ObjectRef) -> dict[int, list[str | None]]:
    """The records of an object version that a user has mended: the text of their cells, by ordinal."""
    return {int(record): cells for record, cells in session.run("mended_records", **_where(ref))}


def mend(session: Session, bucket: str, key: str, version: str, record: int, cells: Sequence[str | None]) -> None:
    """Keep a user's word for a broken record; it stands in for it at every later load of that version."""
    session.run("mend_record", bucket=bucket, key=key, version=version, record=record, cells=_json(list(cells)))


def adopt_mended(session: Session, ref: ObjectRef, run: int) -> None:
    """Mended records that this run loaded first are forgotten when it is undone."""
    session.run("adopt_mended", **_where(ref), run=run)


def remember_columns(session: Session, table: str, evolution: Evolution, nulls: frozenset[str], run: int) -> None:
    """Keep the labels of new columns, and whether a value was ever seen in them."""
    added = {change.column for change in evolution.changes if change.kind in ("create", "add", "widen")}
    for position, column in enumerate(evolution.result.columns):
        if column.name in added or (column.type is None and column.name not in nulls):
            session.run(
                "remember_column",
                table=table,
                column=column.name,
                position=position,
                label=column.label,
                only_nulls=column.name in nulls,
                run=run,
            )


def _where(ref: ObjectRef) -> dict[str, str]:
    return {"bucket": ref.bucket, "key": ref.key, "version": ref.version}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str).replace("\\u0000", "")


def _clean(text: str | None) -> str | None:
    """PostgreSQL stores neither NUL nor lone surrogates in text."""
    if text is None:
        return None
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
