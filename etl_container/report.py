"""What a load has to say: events while it runs, one report at its end. Frozen facts, drawn elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct, field

LoadState = Literal["loaded", "already_loaded", "superseded", "failed"]


class LoadReport(Struct, frozen=True):
    """How one object version fared."""

    key: str
    version: str
    dataset: str
    table: str
    state: LoadState
    rows: int = 0
    """Rows of this object version in the table."""
    rejects: int = 0
    seconds: float = 0.0
    run: str | None = None
    error: str | None = None
    hint: str | None = None
    exit_code: int = 0
    retryable: bool = False
    changes: tuple[str, ...] = ()
    """What became of the table, as sentences: created, columns added, types widened."""
    notes: tuple[str, ...] = ()
    """What the reader and the type inference want the user to know."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds by stage of the pipeline; stages overlap."""
    hops: Mapping[str, float] = field(default_factory=dict)
    """Seconds from the beginning to each hop in an account (put, event, task, run, rows), as it was seen."""


class Landing(Struct, frozen=True):
    """Bytes on their way into the raw zone."""

    key: str
    done: int
    """Bytes so far."""
    total: int | None


class Loading(Struct, frozen=True):
    """A load on its way."""

    key: str
    rows: int
    done: int
    """Bytes of the object read so far."""
    total: int | None
    """The object's size in bytes."""


class Notice(Struct, frozen=True):
    """Something the user should know now: waking the database, waiting for another load."""

    text: str


Event = Landing | Loading | Notice
OnEvent = Callable[[Event], None]


def silent(_event: Event) -> None:
    """Drops every event."""
