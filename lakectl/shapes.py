"""The JSON that scripts may rely on: each fact as the dictionary that ``--json`` prints.

Each command's help says its shape; a test holds the two together.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from lakectl.targets.base import (
    Check,
    Explanation,
    Landed,
    ObjectInfo,
    RejectInfo,
    RetryReport,
    RunInfo,
    StatusReport,
    TableInfo,
    UndoReport,
)

if TYPE_CHECKING:
    from etl_container.preview import Preview
    from etl_container.report import LoadReport
    from lakectl.searching import Hit

Shape = dict[str, Any]


def load_report(report: LoadReport) -> Shape:
    """What became of one object in ``upload``, ``run`` and ``run-local``."""
    return {
        "key": report.key,
        "version": report.version,
        "dataset": report.dataset,
        "table": report.table,
        "state": report.state,
        "rows": report.rows,
        "rejects": report.rejects,
        "seconds": round(report.seconds, 3),
        "run": report.run,
        "error": report.error,
        "hint": report.hint,
        "changes": list(report.changes),
        "notes": list(report.notes),
        "hops": dict(report.hops),
    }


def landed(fact: Landed, dataset: str, table: str) -> Shape:
    """An object that was landed and not waited for."""
    return {
        "key": fact.key,
        "version": fact.version,
        "dataset": dataset,
        "table": table,
        "state": "pending",
        "rows": None,
        "rejects": None,
        "seconds": None,
        "run": None,
        "error": None,
        "hint": None,
        "changes": [],
        "notes": [],
        "hops": {},
    }


def preview(fact: Preview, changes: tuple[str, ...] | None) -> Shape:
    """The document of ``preview``."""
    return {
        "format": fact.format,
        "compression": fact.compression,
        "encoding": fact.encoding,
        "dialect": None if fact.dialect is None else asdict(fact.dialect),
        "table": fact.table,
        "others": list(fact.others),
        "columns": [{"name": column.name, "label": column.label, "type": column.type} for column in fact.columns],
        "rows": fact.rows,
        "rejects": fact.rejects,
        "first_rejects": [
            {"line": one.line, "column": one.column, "value": one.value, "reason": one.reason, "text": one.text}
            for one in fact.first_rejects
        ],
        "notes": list(fact.notes),
        "sample": [list(row) for row in fact.sample],
        "ddl": fact.ddl,
        "changes": None if changes is None else list(changes),
    }


def written(path: str, output: str | None, table: str | None, rows: int, error: str | None = None) -> Shape:
    """One table of ``cat``."""
    return {"path": path, "output": output, "table": table, "rows": rows, "error": error}


def table(fact: TableInfo) -> Shape:
    """One table of ``tables``."""
    return {
        "table": fact.table,
        "columns": [{"name": column.name, "type": column.type, "label": column.label} for column in fact.columns],
        "rows": fact.rows,
        "size": fact.size,
        "dataset": fact.dataset,
        "objects": fact.objects,
        "updated": _time(fact.updated),
    }


def object_(fact: ObjectInfo) -> Shape:
    """One object version of ``objects``."""
    return {
        "key": fact.key,
        "version": fact.version,
        "dataset": fact.dataset,
        "state": fact.state,
        "rows": fact.rows,
        "rejects": fact.rejects,
        "size": fact.size,
        "media_type": fact.media_type,
        "run": fact.run,
        "landed": _time(fact.landed),
    }


def run(fact: RunInfo) -> Shape:
    """One run of ``runs``."""
    return {
        "run": fact.run,
        "key": fact.key,
        "version": fact.version,
        "dataset": fact.dataset,
        "state": fact.state,
        "rows": fact.rows,
        "rejects": fact.rejects,
        "started": _time(fact.started),
        "seconds": None if fact.seconds is None else round(fact.seconds, 3),
        "error": fact.error,
        "hint": fact.hint,
        "exit_code": fact.exit_code,
        "changes": list(fact.changes),
        "notes": list(fact.notes),
    }


def reject(fact: RejectInfo) -> Shape:
    """One record of ``rejects``."""
    return {
        "id": fact.id,
        "run": fact.run,
        "dataset": fact.dataset,
        "key": fact.key,
        "line": fact.line,
        "column": fact.column,
        "value": fact.value,
        "reason": fact.reason,
        "text": fact.text,
        "state": fact.state,
    }


def retry(fact: RetryReport) -> Shape:
    """One dataset of ``rejects --retry``."""
    return {"dataset": fact.dataset, "loaded": fact.loaded, "still_rejected": fact.still_rejected, "run": fact.run}


def undo(fact: UndoReport) -> Shape:
    """The document of ``undo``."""
    return {
        "run": fact.run,
        "table": fact.table,
        "removed": fact.removed,
        "restored": fact.restored,
        "restored_version": fact.restored_version,
    }


def explanation(fact: Explanation) -> Shape:
    """The document of ``explain``."""
    return {"subject": fact.subject, "cause": fact.cause, "facts": dict(fact.facts), "hint": fact.hint}


def status(fact: StatusReport) -> Shape:
    """The document of ``status``."""
    return {
        "stage": fact.stage,
        "warehouse": fact.warehouse,
        "state": fact.state,
        "facts": dict(fact.facts),
        "objects": dict(fact.objects),
        "problems": list(fact.problems),
    }


def hit(fact: Hit) -> Shape:
    """One row that ``search`` found."""
    return {
        "table": fact.table,
        "kind": fact.kind,
        "key": fact.key,
        "run": fact.run,
        "page": fact.page,
        "title": fact.title,
        "rank": round(fact.rank, 6),
        "snippet": fact.snippet,
    }


def check(fact: Check) -> Shape:
    """One check of ``doctor``."""
    return {"name": fact.name, "ok": fact.ok, "detail": fact.detail, "fix": fact.fix}


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()
