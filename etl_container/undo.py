"""Take exactly one run's rows away, and bring back what it had replaced. One transaction, like a load.

Rows are found by their lineage column. What was replaced is made again from the raw zone, which keeps every version:
by loading the older version of the object (``replace_object``, ``replace_table``), or, where rows of many objects were
merged into one another, by building the table again from all of its runs but this one.
"""

from __future__ import annotations

import contextlib
import time

from msgspec import Struct
from msgspec.structs import replace

from etl_container import ledger
from etl_container import transform as transforms
from etl_container.datasets import Dataset, LoadMode
from etl_container.errors import UsageError
from etl_container.loading import Loader
from etl_container.objects import ObjectRef, ObjectStore
from etl_container.pipeline import LakeRules
from etl_container.sources import source_of
from etl_container.warehouse import Session


class Undone(Struct, frozen=True):
    """What an undo did."""

    run: int
    table: str
    removed: int
    """Rows taken away."""
    restored: int
    """Rows brought back."""
    restored_version: str | None


def undo(session: Session, run: int, lake: LakeRules, store: ObjectStore) -> Undone:
    """Undo one loaded run.

    Raises:
        NotFoundError: no such run, or the older version is not in the raw zone any more.
        UsageError: the run's rows are not in the table (it failed, was superseded or undone already).
    """
    found = ledger.get_run(session, run)
    with session.transaction():
        session.run("lock_keys", bucket=found.bucket, keys=[found.key])
        session.run("lock_table", table=found.table)
        found = ledger.get_run(session, run)
        _refuse(session, found)
        dataset = replace(lake.dataset_of(found.key), table=found.table)
        session.run("undo_run", run=run)
        session.run("forget_mended", run=run)
        if dataset.mode is LoadMode.MERGE:
            return _rebuilt(session, found, dataset, lake, store)
        removed = session.delete_runs(found.table, [run]) if session.table_exists(found.table) else 0
        restored, version = 0, None
        for bucket, key, version, older in session.run("versions_of_runs", runs=list(found.replaced)):
            ref = store.find(key, version)
            assert ref.bucket == bucket
            restored += _restored(session, ref, older, dataset, lake, store)
            ledger.settle(session, bucket, key)
        ledger.settle(session, found.bucket, found.key)
        return Undone(run, found.table, removed, restored, version)


def _refuse(session: Session, found: ledger.Run) -> None:
    if found.state == "loaded":
        return
    hint = None
    if found.state == "superseded":
        newer = session.run("newer_run_of_key", bucket=found.bucket, key=found.key, run=found.id)
        hint = f"its rows were replaced by run {newer[0][0]}: lakectl undo {newer[0][0]}" if newer else None
    raise UsageError(f"run {found.id} has no rows to take away: it is {found.state}", hint=hint)


def _restored(
    session: Session, ref: ObjectRef, older: int, dataset: Dataset, lake: LakeRules, store: ObjectStore
) -> int:
    """Load an older version again, as a run of its own; its rows."""
    started = time.monotonic()
    (run,) = ledger.begin_within(session, [ref], dataset, kind="restore")
    mode = LoadMode.APPEND if dataset.mode is LoadMode.APPEND else LoadMode.REPLACE_OBJECT
    with contextlib.closing(_loader(session, ref, replace(dataset, mode=mode), lake, store, run)) as loader:
        loaded = loader.load(())
        rejects = ledger.keep_rejects(session, run, loader.rejects.located(loader.reader))
    ledger.finish(
        session,
        {
            run: ledger.Outcome(
                "loaded",
                loaded.rows,
                rejects,
                time.monotonic() - started,
                transform=transforms.mark(lake.transforms_dir, dataset.name),
                source=loaded.source,
                notes=[f"brought back what run {older} had loaded", *loaded.notes],
                changes=loaded.changes,
                replaced=ledger.get_run(session, older).replaced,
            )
        },
    )
    return loaded.rows


def _rebuilt(session: Session, found: ledger.Run, dataset: Dataset, lake: LakeRules, store: ObjectStore) -> Undone:
    """Build a merged table again from all of its other runs, in their order."""
    before = session.count_rows(dataset.table, found.id)
    session.truncate(dataset.table)
    restored = 0
    newest: dict[str, ObjectRef] = {}
    for run, _bucket, key, version in session.run("replay_of_table", table=dataset.table):
        ref = newest[key] = store.find(key, version)
        with contextlib.closing(_loader(session, ref, dataset, lake, store, run)) as loader:
            rows = loader.load(()).rows
        session.run("recount_run", run=run, rows=rows)
        restored += rows
        if key == found.key:
            ledger.supersede_versions(session, [ref])
            ledger.decide(session, [ref], "loaded", [run])
    older = newest.get(found.key)
    return Undone(found.id, dataset.table, before, restored, older.version if older else None)


def _loader(
    session: Session, ref: ObjectRef, dataset: Dataset, lake: LakeRules, store: ObjectStore, run: int
) -> Loader:
    return Loader(
        session,
        dataset,
        source_of(ref, store),
        transforms.load(lake.transforms_dir, dataset.name, key=ref.key, version=ref.version),
        lake.root,
        run,
        mended=ledger.mended(session, [ref])[0],
    )
