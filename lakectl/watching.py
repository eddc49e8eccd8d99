"""Which files of a directory are completely written: each one is told once, and again only when it changed.

A file counts as written when its size and time have stood still for the settle time. One that is moved in brings an
old time along and counts at once. Names that programs use while they write (``*.part`` …) are never told.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

SETTLE: Final = 1.0
"""Seconds."""
_TICK: Final = 0.2
"""Seconds between looks at files that are not settled yet."""
_UNFINISHED: Final = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".download", ".swp", "~")

Stamp = tuple[int, int, int]
"""Size, time of change in nanoseconds, inode."""


def settled_files(
    directory: str,
    *,
    settle: float = SETTLE,
    changes: Iterable[Iterable[str]] | None = None,
    now: Callable[[], float] = time.time,
) -> Iterator[str]:
    """Paths under ``directory`` as they become complete: first those that are there, in the order of their times.

    Args:
        directory: looked at with its subfolders; hidden files and folders are left out.
        settle: seconds that a file must stand still.
        changes: the paths that changed since the last tick, tick by tick; the file system's own events unless given.
        now: the clock that files' times are compared with.
    """
    waiting: dict[str, tuple[Stamp, float]] = {}
    told: dict[str, Stamp] = {}
    ticks = iter(_events(directory) if changes is None else changes)
    first = True
    for changed in ticks:
        # Files that were there before the watch began are found by looking, in the first tick.
        for path in (*(_present(directory) if first else ()), *changed):
            stamp = _stamp(path)
            if stamp is not None and _eligible(directory, path) and told.get(path) != stamp:
                waiting.setdefault(path, (stamp, now()))
        first = False
        for path in sorted(waiting, key=lambda path: waiting[path][0][1]):
            before, since = waiting[path]
            stamp = _stamp(path)
            if stamp is None:
                del waiting[path]
            elif stamp != before:
                waiting[path] = (stamp, now())
            elif stamp[0] and (now() - since >= settle or now() - stamp[1] / 1e9 >= settle):
                del waiting[path]
                told[path] = stamp
                yield path


def _events(directory: str) -> Iterator[Iterable[str]]:
    from watchfiles import watch

    yield ()
    for changes in watch(
        directory, watch_filter=None, debounce=100, step=50, rust_timeout=int(_TICK * 1000), yield_on_timeout=True
    ):
        yield [path for _change, path in changes]


def _present(directory: str) -> Iterator[str]:
    for folder, subfolders, files in os.walk(directory):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for file in files:
            yield os.path.join(folder, file)


def _eligible(directory: str, path: str) -> bool:
    below = os.path.relpath(os.path.abspath(path), os.path.abspath(directory))
    hidden = any(part.startswith(".") for part in below.split(os.sep))
    return not hidden and not path.lower().endswith(_UNFINISHED)


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns, found.st_ino) if os.path.isfile(path) else None
