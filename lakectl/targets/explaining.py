"""One sentence of cause, then the facts: why an object or a run is as it is. Pure, but for counting its rejects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lakectl.targets.base import Explanation

if TYPE_CHECKING:
    from etl_container.ledger import Run
    from etl_container.objects import ObjectRef
    from etl_container.warehouse import Session


def explain_run(run: Run, session: Session) -> Explanation:
    """Why a run ended as it did."""
    facts = _run_facts(run)
    sample = session.run("rejects_of_run", run=run.id, limit=3)
    facts += [("reject", f"line {line}: {reason}" if line else str(reason)) for line, reason in sample]
    return Explanation(f"run {run.id}", _cause(run), tuple(facts), run.hint or _next_step(run))


def explain_object(ref: ObjectRef, versions: int, state: str, runs: Sequence[Run]) -> Explanation:
    """Why the newest version of an object is in its state."""
    own = [run for run in runs if run.version == ref.version]
    if state == "pending" and own and own[0].state == "failed":
        state = "failed"  # its run died, and nobody has written that down yet
    facts = [
        ("version", f"{ref.version[:21]} ({versions} in the raw zone)"),
        ("size", f"{ref.size:,} bytes"),
        ("landed", ref.landed.isoformat(timespec="seconds")),
        ("state", state),
    ]
    if not own:
        cause = f"{ref.key} is in the raw zone, and no run has touched its newest version yet"
        return Explanation(ref.key, cause, tuple(facts), f"lakectl run {ref.key}")
    newest = own[0]
    deciding = next((run for run in own if run.state != "already_loaded"), newest)
    facts += _run_facts(deciding)
    if len(own) > 1:
        facts.append(("attempts", f"{len(own)}"))
    return Explanation(ref.key, _cause(deciding), tuple(facts), deciding.hint or _next_step(deciding))


def _cause(run: Run) -> str:
    rows = f"{run.rows or 0:,} rows"
    match run.state:
        case "loaded":
            rejects = f"; rejected records: {run.rejects:,}" if run.rejects else ""
            verb = "were brought back into" if run.kind == "restore" else "are in"
            return f"{rows} of {run.key} {verb} table {run.table}{rejects}"
        case "already_loaded":
            return f"{run.key} was loaded before with the same content: nothing to do"
        case "superseded":
            return f"a newer version of {run.key} has replaced its {rows}"
        case "undone":
            return f"its {rows} were taken away by an undo"
        case "running":
            return f"it is loading {run.key} into table {run.table}"
        case _:
            return run.error or "it failed without a word"


def _run_facts(run: Run) -> list[tuple[str, str]]:
    facts = [
        ("run", str(run.id)),
        ("key", run.key),
        ("state", run.state),
        ("started", run.started.isoformat(timespec="seconds")),
    ]
    if run.seconds is not None:
        facts.append(("seconds", f"{float(run.seconds):.2f}"))
    if run.exit_code:
        facts.append(("exit code", str(run.exit_code)))
    if run.source:
        read = [run.source.get("format"), run.source.get("compression"), run.source.get("encoding")]
        facts.append(("read as", ", ".join(str(part) for part in read if part)))
    if run.transform:
        facts.append(("transform", run.transform))
    if run.replaced:
        facts.append(("replaced runs", ", ".join(map(str, run.replaced))))
    facts += [("table", change) for change in run.changes]
    facts += [("note", note) for note in run.notes]
    return facts


def _next_step(run: Run) -> str | None:
    if run.state == "failed":
        return f"lakectl run {run.key}"
    if run.state == "loaded" and run.rejects:
        return f"lakectl rejects {run.dataset}"
    return None
