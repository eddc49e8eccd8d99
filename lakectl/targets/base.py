"""What every stage can do, in the product's words. ``local.py`` does it on this machine, ``aws.py`` in an account.

The commands talk to this protocol alone and never ask which stage they are on. Everything returned is a frozen fact;
``ui`` draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

from msgspec import Struct

from etl_container.report import LoadReport, OnEvent, silent
from lakectl.words import plural

Rows = Iterator[Sequence[Any]]


class Landed(Struct, frozen=True):
    """An object in the raw zone."""

    key: str
    version: str
    size: int
    """Bytes."""
    created: bool
    """False when the newest version already had this content."""


class ObjectInfo(Struct, frozen=True):
    """One object version, as the ledger and the raw zone know it."""

    key: str
    version: str
    dataset: str
    state: Literal["pending", "loaded", "superseded", "failed", "undone"]
    rows: int | None
    rejects: int | None
    size: int
    media_type: str | None
    run: str | None
    landed: datetime | None = None


class RunInfo(Struct, frozen=True):
    """One attempt to process one object version."""

    run: str
    key: str
    version: str
    state: Literal["running", "loaded", "already_loaded", "superseded", "failed", "undone"]
    rows: int | None
    rejects: int | None
    started: datetime
    seconds: float | None
    error: str | None
    dataset: str = ""
    hint: str | None = None
    exit_code: int | None = None
    notes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    transform: str | None = None


class ColumnInfo(Struct, frozen=True):
    """A column of a table in the warehouse."""

    name: str
    type: str
    label: str | None = None


class TableInfo(Struct, frozen=True):
    """A table in the warehouse. ``columns`` leaves the lineage column out."""

    table: str
    columns: tuple[ColumnInfo, ...]
    rows: int
    size: int = 0
    """Bytes on disk, indexes included."""
    dataset: str | None = None
    objects: int = 0
    updated: datetime | None = None


class RejectInfo(Struct, frozen=True):
    """A record that could not become a row."""

    id: int
    run: str
    dataset: str
    key: str
    line: int | None
    column: str | None
    value: str | None
    reason: str
    text: str | None
    state: Literal["open", "resolved"]


class Explanation(Struct, frozen=True):
    """Why something is as it is: one sentence of cause, the facts, and the next step."""

    subject: str
    cause: str
    facts: tuple[tuple[str, str], ...]
    hint: str | None = None


class UndoReport(Struct, frozen=True):
    """What an undo did."""

    run: str
    table: str
    removed: int
    """Rows taken away."""
    restored: int
    """Rows brought back."""
    restored_version: str | None


class RetryReport(Struct, frozen=True):
    """What became of retried rejects."""

    dataset: str
    loaded: int
    still_rejected: int
    run: str | None


class StatusReport(Struct, frozen=True):
    """A stage at a glance."""

    stage: str
    warehouse: str
    """Where, without any secret."""
    state: str
    """``ready``, ``stopped``, ``not created`` …"""
    facts: tuple[tuple[str, str], ...]
    objects: dict[str, int]
    """How many current objects are in each state."""
    problems: tuple[str, ...]


def ledger_problems(failed: int, rejects: int) -> list[str]:
    """What the ledger says the operator has to look at, with the next command."""
    problems = []
    if failed:
        problems.append(f"{plural(failed, 'failed object version')}: lakectl objects, lakectl explain KEY")
    if rejects:
        problems.append(f"{plural(rejects, 'open reject')}: lakectl rejects")
    return problems


class Check(Struct, frozen=True):
    """One of doctor's checks."""

    name: str
    ok: bool
    detail: str
    fix: str | None = None


class QueryColumn(Struct, frozen=True):
    """A column of a result; ``type`` is PostgreSQL's name for it."""

    name: str
    type: str


class Writable(Protocol):
    """What bytes are written to."""

    def write(self, data: bytes, /) -> object: ...


class QueryResult(Protocol):
    """A streamed result: columns at once, rows as they come. Close it (a context manager)."""

    @property
    def columns(self) -> tuple[QueryColumn, ...]: ...

    @property
    def status(self) -> str:
        """PostgreSQL's command tag, for statements without rows (``UPDATE 3``)."""

    def rows(self) -> Rows: ...

    def csv_copier(self, *, header: bool, limit: int | None = None) -> Callable[[Writable], int] | None:
        """What writes all rows as CSV the way the server does, and tells their number; None where it cannot.

        A null is nothing, an empty text ``""``.
        """

    def __enter__(self) -> QueryResult: ...

    def __exit__(self, *exc: object) -> None: ...


class Target(Protocol):
    """One stage of one lake."""

    stage: str
    landers: int
    """How many small files are landed at a time."""

    @property
    def where(self) -> str:
        """The account and the region, or the lake's directory."""

    @property
    def raw_zone(self) -> str:
        """Where the objects are: a folder, or ``s3://BUCKET``."""

    def land(self, path: str | None, key: str, *, on_event: OnEvent = silent) -> Landed:
        """Put a file (None: standard input) in the raw zone under ``key`` (``raw/<dataset>/<name>``).

        Called from so many threads at once as there are ``landers``, for different keys.

        Raises:
            NotFoundError: no such file.
            PermissionDeniedError: the file may not be read.
            DataError: the file is empty.
        """

    def load(self, objects: Sequence[tuple[str, str | None]], *, on_event: OnEvent = silent) -> Iterator[LoadReport]:
        """Process ``(key, version)`` pairs (None: the newest version); one report each, in order of completion.

        A broken object yields a ``failed`` report; only what stops all of them raises.
        """

    def reload(self, objects: Sequence[tuple[str, str | None]], *, on_event: OnEvent = silent) -> Iterator[LoadReport]:
        """As :meth:`load`, also what is loaded already: the transform or the contract may have changed."""

    def load_here(
        self,
        objects: Sequence[tuple[str, str | None]],
        warehouse: str | None,
        *,
        container: bool = False,
        on_event: OnEvent = silent,
    ) -> Iterator[LoadReport]:
        """The same on this machine, into the PostgreSQL of a DSN (None: the local stage's).

        Args:
            objects: key and version.
            warehouse: where to.
            container: in the stage's own image instead of this process.
            on_event: gets events.
        """

    def rehearse(self, path: str | None, key: str) -> LoadReport:
        """Everything but the commit, for ``run-local --dry-run``: what loading a file (None: the object) would do."""

    def missing(self, *, dataset: str | None = None) -> list[tuple[str, str]]:
        """``(key, version)`` of what the raw zone has and the ledger lacks, oldest first."""

    def select(
        self, *, keys: Sequence[str], dataset: str | None, failed: bool, everything: bool
    ) -> list[tuple[str, str]]:
        """``(key, version)`` of the objects that ``run`` was asked for; raises NotFoundError for an unknown key."""

    def query(
        self, sql: str, parameters: dict[str, str], *, write: bool = False, limit: int | None = None
    ) -> QueryResult:
        """Run one statement, read-only unless ``write``.

        Raises:
            UsageError: the SQL is wrong: PostgreSQL's message, the position marked.
            WarehouseUnavailableError: no connection.
        """

    def query_raw(self, sql: str, parameters: dict[str, str]) -> QueryResult:
        """SQL straight on the newest raw objects: each dataset is a relation, nothing is loaded."""

    def names(self) -> list[str]:
        """Schemas, tables and columns, for completion in the interactive shell."""

    def tables(self) -> list[TableInfo]: ...

    def objects(self, *, dataset: str | None = None, limit: int | None = None) -> list[ObjectInfo]: ...

    def runs(self, *, dataset: str | None = None, limit: int | None = None) -> list[RunInfo]: ...

    def rejects(self, dataset: str | None = None, *, limit: int | None = None) -> Iterator[RejectInfo]: ...

    def export_rejects(self, dataset: str | None, path: str) -> int:
        """Open rejects as CSV, in the file's own columns, to be mended in any editor; returns their number."""

    def retry_rejects(self, dataset: str | None, path: str | None, *, on_event: OnEvent = silent) -> list[RetryReport]:
        """Load the rejects again: as mended in ``path`` (an export), or as they are, after another fix."""

    def explain(self, subject: str) -> Explanation:
        """Why a key or run is as it is; raises NotFoundError."""

    def undo(self, run: str, *, on_event: OnEvent = silent) -> UndoReport: ...

    def status(self) -> StatusReport: ...

    def checks(self) -> Iterable[Check]:
        """Doctor's checks, in order, each made when asked for."""

    def close(self) -> None:
        """Let go of connections and of the embedded server."""
