from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lakectl.watching import settled_files

NOW = 1_700_000_000.0


class Clock:
    """A second passes with every tick; each step is done at the beginning of its tick."""

    def __init__(self, *steps: Callable[[], Iterable[Path] | None]) -> None:
        self.now = NOW
        self._steps = steps

    def __call__(self) -> float:
        return self.now

    def ticks(self) -> Iterator[list[str]]:
        for step in (*self._steps, *[lambda: None] * 3):
            yield [str(path) for path in step() or ()]
            self.now += 1.0

    def put(self, path: Path, text: str, *, age: float = 0.0) -> list[Path]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (self.now - age, self.now - age))
        return [path]


def names(folder: Path, clock: Clock, settle: float = 1.5) -> list[tuple[str, float]]:
    told = settled_files(str(folder), settle=settle, changes=clock.ticks(), now=clock)
    return [(os.path.relpath(path, folder), clock.now - NOW) for path in told]


def test_a_file_that_is_still_written_is_not_told(tmp_path):
    clock = Clock(
        lambda: clock.put(tmp_path / "a.csv", "1"),
        lambda: clock.put(tmp_path / "a.csv", "12"),
        lambda: clock.put(tmp_path / "a.csv", "123"),
    )
    assert names(tmp_path, clock) == [("a.csv", 4.0)]


def test_files_that_are_there_come_first_and_by_age(tmp_path):
    clock = Clock()
    clock.put(tmp_path / "young.csv", "1", age=100)
    clock.put(tmp_path / "sub/old.csv", "1", age=200)
    assert names(tmp_path, clock) == [("sub/old.csv", 0.0), ("young.csv", 0.0)]


def test_a_file_that_is_moved_in_is_told_at_once(tmp_path):
    clock = Clock(lambda: None, lambda: clock.put(tmp_path / "a.csv", "1", age=60))
    assert names(tmp_path, clock) == [("a.csv", 1.0)]


def test_each_file_is_told_once_and_again_when_it_changed(tmp_path):
    a = tmp_path / "a.csv"
    clock = Clock(
        lambda: clock.put(a, "1", age=60), lambda: [a], lambda: [a], lambda: clock.put(a, "22", age=50), lambda: [a]
    )
    assert names(tmp_path, clock) == [("a.csv", 0.0), ("a.csv", 3.0)]


def test_unfinished_hidden_and_empty_files_are_left_alone(tmp_path):
    clock = Clock()
    for name in ("a.csv.part", "b.tmp", "c.crdownload", ".hidden.csv", ".git/d.csv"):
        clock.put(tmp_path / name, "1", age=60)
    clock.put(tmp_path / "empty.csv", "", age=60)
    assert names(tmp_path, clock) == []


def test_a_renamed_download_is_told_under_its_new_name(tmp_path):
    part, done = tmp_path / "a.csv.part", tmp_path / "a.csv"

    def finish() -> list[Path]:
        part.rename(done)
        return [part, done]

    clock = Clock(lambda: clock.put(part, "1", age=60), finish)
    assert names(tmp_path, clock) == [("a.csv", 1.0)]


def test_a_file_that_goes_away_is_forgotten(tmp_path):
    clock = Clock(lambda: clock.put(tmp_path / "a.csv", "1"), (tmp_path / "a.csv").unlink)
    assert names(tmp_path, clock) == []


def test_the_file_system_itself_is_watched(tmp_path):
    def later() -> None:
        time.sleep(0.2)
        (tmp_path / "a.csv").write_text("1")

    writer = threading.Thread(target=later)
    writer.start()
    told = settled_files(str(tmp_path), settle=0.3)
    try:
        assert next(told) == str(tmp_path / "a.csv")
    finally:
        told.close()  # type: ignore[attr-defined]
        writer.join()
