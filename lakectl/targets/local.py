"""Stage ``local``: a folder is the bucket, an embedded PostgreSQL (or any DSN) the warehouse, this process the task.

Everything about one object happens in ``etl_container``, unchanged; this room opens its doors and asks the ledger.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from etl_container.objects import FolderStore, ObjectRef, check_key
from etl_container.report import Landing, LoadReport, Notice, OnEvent, silent
from lakectl.config import LOCAL, Lake, masked
from lakectl.errors import (
    DataError,
    LakectlError,
    NotFoundError,
    PermissionDeniedError,
    UnreadableObjectError,
    UsageError,
    WarehouseUnavailableError,
)
from lakectl.targets.base import (
    Check,
    ColumnInfo,
    Explanation,
    Landed,
    ObjectInfo,
    QueryResult,
    RejectInfo,
    RetryReport,
    RunInfo,
    StatusReport,
    TableInfo,
    UndoReport,
    ledger_problems,
)
from lakectl.words import plural

if TYPE_CHECKING:
    from etl_container.ledger import Run
    from etl_container.mending import Replacement
    from etl_container.warehouse import Session
    from lakectl.targets.embedded_postgres import EmbeddedPostgres


class LocalTarget:
    """The lake on this machine; see :class:`lakectl.targets.base.Target`. Opens the warehouse when first needed."""

    stage = LOCAL
    landers = 1
    """Threads that wait for one disk only cost each other's time."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.store = FolderStore(lake.state_dir)
        self._server: EmbeddedPostgres | None = None
        self._session: Session | None = None
        self._dsn: str | None = None

    # -- the warehouse ------------------------------------------------------------------------------------------

    def _warehouse(self, on_event: OnEvent = silent) -> str:
        if self._dsn is None:
            if self.lake.warehouse is not None:
                self._dsn = self.lake.warehouse
            else:
                self._server = self._embedded()
                self._dsn = self._server.acquire(on_event=lambda text: on_event(Notice(text)))
        return self._dsn

    def _embedded(self) -> EmbeddedPostgres:
        from lakectl.targets.embedded_postgres import EmbeddedPostgres

        return EmbeddedPostgres(self.lake.state_dir / "postgres")

    def _open(self, on_event: OnEvent = silent) -> Session:
        from etl_container import ledger
        from etl_container.warehouse import Session

        if self._session is None or self._session.broken:
            self._session = Session(self._warehouse(on_event))
            ledger.bury(self._session)
        return self._session

    @property
    def _empty(self) -> bool:
        """Whether there is no warehouse yet: looking around must not make one."""
        return self.lake.warehouse is None and self._server is None and not self._embedded().status().initialised

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
        if self._server is not None:
            self._server.release()
            self._server = None
        self._dsn = None

    # -- objects in ------------------------------------------------------------------------------------------

    @property
    def where(self) -> str:
        return str(self.lake.root)

    @property
    def raw_zone(self) -> str:
        return str(self.lake.state_dir / "raw")

    def land(self, path: str | None, key: str, *, on_event: OnEvent = silent) -> Landed:
        check_key(key)
        stream, total = _opened(path)
        try:
            ref, created = self.store.put(
                stream,
                key,
                fresh=lambda digest: self._is_undone(key, digest),
                on_bytes=lambda done: on_event(Landing(key, done, total)),
            )
        finally:
            if path is not None:
                stream.close()
        return Landed(ref.key, ref.version, ref.size, created)

    def _is_undone(self, key: str, digest: str) -> bool:
        """Whether the newest version, of the same content, was undone: putting it again is a new put."""
        newest = self.store.find(key)
        found = self._open().run("object_state", bucket=newest.bucket, key=key, version=newest.version)
        return bool(found) and found[0][0] == "undone"

    def load(self, objects: Sequence[tuple[str, str | None]], *, on_event: OnEvent = silent) -> Iterator[LoadReport]:
        return self._process(objects, self._open(on_event), on_event, again=False)

    def reload(self, objects: Sequence[tuple[str, str | None]], *, on_event: OnEvent = silent) -> Iterator[LoadReport]:
        return self._process(objects, self._open(on_event), on_event, again=True)

    def load_here(
        self,
        objects: Sequence[tuple[str, str | None]],
        warehouse: str | None,
        *,
        container: bool = False,
        on_event: OnEvent = silent,
    ) -> Iterator[LoadReport]:
        from etl_container.warehouse import Session

        if container:
            raise UsageError(
                "the image reads objects of a bucket, and the local stage has none", hint="--stage dev --container"
            )
        if warehouse is None:
            yield from self.load(objects, on_event=on_event)
            return
        with Session(warehouse) as session:
            yield from self._process(objects, session, on_event, again=False)

    def _process(
        self, objects: Sequence[tuple[str, str | None]], session: Session, on_event: OnEvent, *, again: bool
    ) -> Iterator[LoadReport]:
        from etl_container.pipeline import process_objects

        refs = (self.store.find(key, version) for key, version in self._by_table(objects))
        return process_objects(refs, self.lake, self.store, session, again=again, on_event=on_event)

    def _by_table(self, objects: Sequence[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
        """Objects of one table one after the other, in the order they were named in."""
        tables: dict[str, list[tuple[str, str | None]]] = {}
        for one in objects:
            tables.setdefault(self.lake.dataset_of(one[0]).table, []).append(one)
        return [one for found in tables.values() for one in found]

    def rehearse(self, path: str | None, key: str) -> LoadReport:
        from etl_container.pipeline import rehearse

        if path is None:
            return rehearse(self.store.find(key), self.lake, self.store, self._open())
        file = Path(path)
        if not file.is_file():
            raise NotFoundError(f"no file {path}")
        facts = file.stat()
        ref = ObjectRef(self.store.bucket, key, "rehearsal", "~", facts.st_size, None, datetime.now(UTC))
        return rehearse(ref, self.lake, _OneFile(file), self._open())

    def missing(self, *, dataset: str | None = None) -> list[tuple[str, str]]:
        known = {(key, version) for key, version, _state, _digest in self._states()}
        found = [
            ref
            for ref in self.store.list()
            if (ref.key, ref.version) not in known and (dataset is None or self._dataset(ref.key) == dataset)
        ]
        return [(ref.key, ref.version) for ref in sorted(found, key=lambda ref: ref.landed)]

    def select(
        self, *, keys: Sequence[str], dataset: str | None, failed: bool, everything: bool
    ) -> list[tuple[str, str]]:
        states = {(key, version): state for key, version, state, _digest in self._states()}
        named = [self.store.find(key) for key in keys]
        refs = named if keys else sorted(self.store.list(), key=lambda ref: (ref.landed, ref.key))
        chosen = []
        for ref in refs:
            state = states.get((ref.key, ref.version), "pending")
            if dataset is not None and self._dataset(ref.key) != dataset:
                continue
            if failed and state != "failed":
                continue
            if not (keys or failed or everything or dataset) and state != "pending":
                continue
            if everything and state == "undone":
                continue
            chosen.append((ref.key, ref.version))
        if dataset is not None and not any(self._dataset(ref.key) == dataset for ref in refs):
            raise NotFoundError(f"no object of dataset {dataset} in the raw zone", hint="lakectl objects")
        return chosen

    def _states(self) -> list[tuple[str, str, str, str | None]]:
        if self._empty:
            return []
        return cast(
            "list[tuple[str, str, str, str | None]]", self._open().run("object_states", bucket=self.store.bucket)
        )

    def _dataset(self, key: str) -> str:
        return self.lake.dataset_of(key).name

    # -- questions ------------------------------------------------------------------------------------------

    def query(
        self, sql: str, parameters: dict[str, str], *, write: bool = False, limit: int | None = None
    ) -> QueryResult:
        from lakectl.targets import postgres_reader

        return postgres_reader.run(self._warehouse(), sql, parameters, write=write, limit=limit)

    def query_raw(self, sql: str, parameters: dict[str, str]) -> QueryResult:
        from lakectl.targets import raw_reader

        return raw_reader.run(self.lake, self.store, sql, parameters)

    def names(self) -> list[str]:
        found: dict[str, None] = {}
        for schema, table, columns in self._open().run("names_for_completion"):
            found[table if schema == "public" else f"{schema}.{table}"] = None
            found.update(dict.fromkeys(columns))
        return list(found)

    def tables(self) -> list[TableInfo]:
        if self._empty:
            return []
        session = self._open()
        infos = []
        for table, dataset, objects, updated, size in session.run("list_tables"):
            columns = tuple(
                ColumnInfo(name, kind, label or None)
                for name, kind, label, _nulls in session.run("table_columns", table=table, lineage="_lake_run")
            )
            rows = session.count_all(table)
            infos.append(TableInfo(table, columns, rows, int(size or 0), dataset, int(objects), updated))
        return infos

    def objects(self, *, dataset: str | None = None, limit: int | None = None) -> list[ObjectInfo]:
        ledger = (
            ()
            if self._empty
            else self._open().run("list_objects", bucket=self.store.bucket, dataset=dataset, key=None, limit=None)
        )
        infos = [
            ObjectInfo(key, version, name, state, rows, rejects, size, media, run and str(run), landed)
            for key, version, _ordinal, name, state, rows, rejects, size, media, run, landed in ledger
        ]
        known = {(info.key, info.version) for info in infos}
        infos += [
            ObjectInfo(ref.key, ref.version, name, "pending", None, None, ref.size, ref.media_type, None, ref.landed)
            for ref in self.store.list()
            if (ref.key, ref.version) not in known and (name := self._dataset(ref.key)) == (dataset or name)
        ]
        infos.sort(key=lambda info: (info.landed or datetime.min.replace(tzinfo=UTC), info.key), reverse=True)
        return infos[:limit]

    def runs(self, *, dataset: str | None = None, limit: int | None = None) -> list[RunInfo]:
        return [] if self._empty else [_run_info(run) for run in self._runs(dataset=dataset, limit=limit)]

    def _runs(self, *, dataset: str | None = None, key: str | None = None, limit: int | None = None) -> list[Run]:
        """Runs as the ledger has them, newest first."""
        from etl_container import ledger

        return ledger.list_runs(self._open(), dataset=dataset, key=key, limit=limit)

    def _run(self, number: int) -> Run:
        from etl_container import ledger

        return ledger.get_run(self._open(), number)

    def status(self) -> StatusReport:
        objects: dict[str, int] = {}
        for info in self.objects():
            objects[info.state] = objects.get(info.state, 0) + 1
        facts = [("raw zone", self.raw_zone)]
        if self.lake.warehouse is None:
            server = self._embedded().status()
            warehouse = f"embedded PostgreSQL {server.version or ''}".strip()
            facts.append(("data directory", str(self.lake.state_dir / "postgres")))
        else:
            warehouse = masked(self.lake.warehouse or "")
        empty = self._empty
        tables = self.tables()
        facts.append(("tables", f"{len(tables)}, {sum(table.rows for table in tables):,} rows"))
        rejected = () if empty else self._open().run("objects_with_rejects", dataset=None)
        problems = ledger_problems(objects.get("failed", 0), sum(count for *_, count in rejected))
        if pending := objects.get("pending"):
            problems.append(f"{plural(pending, 'object')} not loaded yet: lakectl run")
        state = "not created yet" if empty else "ready"
        return StatusReport(self.stage, warehouse, state, tuple(facts), objects, tuple(problems))

    def explain(self, subject: str) -> Explanation:
        from lakectl.targets.explaining import explain_object, explain_run

        if subject.isdigit() and not self._empty:
            return explain_run(self._run(int(subject)), self._open())
        key = subject if subject.startswith("raw/") else self._key_like(subject)
        versions = self.store.versions(key)
        if not versions:
            raise NotFoundError(f"no object {subject} in the raw zone", hint="lakectl objects")
        states = {version: state for at, version, state, _ in self._states() if at == key}
        runs = [] if self._empty else self._runs(key=key, limit=20)
        return explain_object(versions[-1], len(versions), states.get(versions[-1].version, "pending"), runs)

    def _key_like(self, subject: str) -> str:
        found = [ref.key for ref in self.store.list() if ref.key.endswith(f"/{subject}")]
        if len(found) > 1:
            raise UsageError(f"{subject} could be {' or '.join(found[:5])}", hint="give the whole key")
        if not found:
            raise NotFoundError(f"no object {subject} in the raw zone", hint="lakectl objects")
        return found[0]

    # -- rejects and second thoughts -----------------------------------------------------------------------------------

    def rejects(self, dataset: str | None = None, *, limit: int | None = None) -> Iterator[RejectInfo]:
        found = () if self._empty else self._open().run("list_rejects", dataset=dataset, limit=limit)
        for row in found:
            yield RejectInfo(
                id=row[0],
                run=str(row[1]),
                dataset=row[2],
                key=row[4],
                line=row[7],
                column=row[8],
                value=row[9],
                reason=row[10],
                text=row[11],
                state="open",
            )

    def export_rejects(self, dataset: str | None, path: str) -> int:
        from etl_container import mending

        session = self._open()
        names = {row[3] for row in session.run("objects_with_rejects", dataset=dataset)}
        if len(names) > 1:
            raise UsageError(
                f"there are rejects of several datasets ({', '.join(sorted(names))}), whose columns differ",
                hint=f"lakectl rejects {min(names)} --export {path}",
            )
        rows = session.stream("list_rejects", dataset=dataset, limit=None)
        fields = ("id", "run", "dataset", "bucket", "key", "version", "record", "line", "column", "value", "reason")
        named = (dict(zip((*fields, "text", "source"), row, strict=True)) for row in rows)
        try:
            return mending.export(named, Path(path))
        except PermissionError as error:
            raise PermissionDeniedError(f"cannot write {path}: {error.strerror}") from error

    def retry_rejects(self, dataset: str | None, path: str | None, *, on_event: OnEvent = silent) -> list[RetryReport]:
        session = self._open(on_event)
        before = {
            (key, version): count
            for _bucket, key, version, _name, _run, count in session.run("objects_with_rejects", dataset=dataset)
        }
        chosen = list(before) if path is None else self._mend(session, Path(path), dataset)
        reports = []
        for report in self._again(chosen, on_event):
            if report.state == "failed":
                raise DataError(report.error or "failed", hint=report.hint)
            if report.state == "superseded":
                raise UsageError(
                    f"a newer version of {report.key} is loaded: its rejects are other ones", hint="lakectl rejects"
                )
            count = before.get((report.key, report.version), 0)
            reports.append(RetryReport(report.dataset, max(0, count - report.rejects), report.rejects, report.run))
        return reports

    def _again(self, chosen: Sequence[tuple[str, str]], on_event: OnEvent) -> Iterator[LoadReport]:
        """Load object versions again, one after the other: the first that fails ends it."""
        session = self._open()
        for pair in chosen:
            yield from self._process([pair], session, on_event, again=True)

    def _mend(self, session: Session, path: Path, dataset: str | None) -> list[tuple[str, str]]:
        """Put the records of an export in place of the broken ones; the object versions concerned."""
        from etl_container import ledger

        concerned: dict[tuple[str, str], None] = {}
        with session.transaction():
            for one in self._replacements(path, dataset):
                ledger.mend(session, one.bucket, one.key, one.version, one.record, one.cells)
                concerned[one.key, one.version] = None
        return list(concerned)

    def _replacements(self, path: Path, dataset: str | None) -> Iterator[Replacement]:
        from etl_container import mending

        session = self._open()
        return mending.replacements(
            path, dataset, lambda number: session.run("get_reject", reject=number, dataset=dataset)
        )

    def undo(self, run: str, *, on_event: OnEvent = silent) -> UndoReport:
        from etl_container.undo import undo

        if not run.isdigit():
            raise UsageError(f"{run!r} is not a run", hint="lakectl runs")
        done = undo(self._open(on_event), int(run), self.lake, self.store)
        return UndoReport(str(done.run), done.table, done.removed, done.restored, done.restored_version)

    # -- doctor ------------------------------------------------------------------------------------------

    def checks(self) -> Iterable[Check]:
        yield self._check_space()
        yield self._check_warehouse()
        yield self._check_transforms()
        yield self._check_pending()

    def _check_space(self) -> Check:
        place = self.lake.state_dir if self.lake.state_dir.exists() else self.lake.root
        free = shutil.disk_usage(place).free
        gigabytes = f"{free / 1e9:.1f} GB free at {place}"
        return Check("disk space", free > 1e9, gigabytes, None if free > 1e9 else "make room: loads need about 2x")

    def _check_warehouse(self) -> Check:
        if self._empty:
            return Check("warehouse", ok=True, detail="not created yet: the first upload does")
        try:
            version = self._open().execute("show server_version")[0][0]
        except LakectlError as error:
            return Check("warehouse", ok=False, detail=error.message, fix=error.hint)
        where = masked(self.lake.warehouse) if self.lake.warehouse else "embedded"
        return Check("warehouse", ok=True, detail=f"PostgreSQL {version}, {where}")

    def _check_transforms(self) -> Check:
        from etl_container import transform

        folder = self.lake.transforms_dir
        names = sorted({file.stem for file in folder.glob("*") if file.suffix in (".py", ".sql")})
        for name in names:
            if name.startswith("_"):
                continue
            try:
                transform.load(folder, name)
            except LakectlError as error:
                return Check("transforms", ok=False, detail=error.message, fix=error.hint)
        return Check("transforms", ok=True, detail=f"{len(names)} in {folder}")

    def _check_pending(self) -> Check:
        try:
            missing = self.missing()
        except WarehouseUnavailableError:
            return Check("raw zone", ok=False, detail="unknown: the warehouse does not answer", fix="see above")
        if missing:
            return Check("raw zone", ok=False, detail=f"{plural(len(missing), 'object')} not loaded", fix="lakectl run")
        return Check("raw zone", ok=True, detail="every object was seen by a run")


class _OneFile:
    """An object store of one file that was never landed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, _ref: ObjectRef) -> BinaryIO:
        return self.path.open("rb", buffering=0)

    def local_path(self, _ref: ObjectRef) -> Path | None:
        return self.path

    def find(self, key: str, version: str | None = None) -> ObjectRef:
        raise NotFoundError(f"no {key} {version or ''}")

    def list(self, _prefix: str = "raw/") -> Iterator[ObjectRef]:
        return iter(())


def _opened(path: str | None) -> tuple[BinaryIO, int | None]:
    """A file to land, and its size."""
    if path is None:
        return sys.stdin.buffer, None
    try:
        stream = Path(path).open("rb", buffering=0)  # noqa: SIM115  closed by the caller
    except FileNotFoundError:
        raise NotFoundError(f"no file {path}") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a directory") from None
    except PermissionError:
        raise PermissionDeniedError(f"{path} may not be read", hint=f"chmod +r {path}") from None
    size = Path(path).stat().st_size
    if size == 0:
        stream.close()
        raise UnreadableObjectError(f"{path} is empty: nothing to land")
    return stream, size


def _run_info(run: Run) -> RunInfo:
    return RunInfo(
        run=str(run.id),
        key=run.key,
        version=run.version,
        state=run.state,  # type: ignore[arg-type]
        rows=run.rows,
        rejects=run.rejects,
        started=run.started,
        seconds=None if run.seconds is None else float(run.seconds),
        error=run.error,
        dataset=run.dataset,
        hint=run.hint,
        exit_code=run.exit_code,
        notes=tuple(run.notes),
        changes=tuple(run.changes),
        transform=run.transform,
    )
