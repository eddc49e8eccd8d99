"""Uploads, loads again and undos of a few keys, many at once, in any order: the table has what the ledger says."""

from __future__ import annotations

import dataclasses
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lakectl import config
from lakectl.errors import LakectlError
from lakectl.targets.local import LocalTarget
from tests.local.conftest import Lake

KEYS = ("raw/t/a.csv", "raw/t/b.csv", "raw/t/c.csv")
WORKERS = 4
STEPS = 12
"""Of each worker."""


class Operator:
    """One person at a terminal of their own, who does things at random."""

    def __init__(self, lake: Lake, number: int, seed: int) -> None:
        self.lake = lake
        self.number = number
        self.chance = random.Random(f"{seed} {number}")
        self.target = LocalTarget(dataclasses.replace(config.load(lake.root), warehouse=lake.dsn))

    def work(self) -> None:
        try:
            for step in range(STEPS):
                self.chance.choice((self.upload, self.upload, self.again, self.undo))(step)
        finally:
            self.target.close()

    def upload(self, step: int) -> None:
        """A new content, or one that was there before."""
        content = self.chance.choice((f"{self.number}-{step}", "always the same"))
        rows = 50 + self.chance.randrange(50)
        text = "content,i\n" + "".join(f"{content} of {rows},{i}\n" for i in range(rows))
        key = self.chance.choice(KEYS)
        landed = self.target.land(str(self.lake.write(f"files/{self.number}.csv", text)), key)
        (report,) = self.target.load([(key, landed.version)])
        assert report.state in {"loaded", "already_loaded", "superseded"}, report

    def again(self, _step: int) -> None:
        chosen = [(key, None) for key in KEYS if any(ref.key == key for ref in self.target.store.list())]
        for report in self.target.reload(chosen):
            assert report.state in {"loaded", "superseded"}, report

    def undo(self, _step: int) -> None:
        loaded = [run.run for run in self.target.runs() if run.state == "loaded"]
        if loaded:
            try:
                self.target.undo(self.chance.choice(loaded))
            except LakectlError as error:
                assert "no rows to take away" in error.message  # noqa: PT017  somebody else was there before


def work_at_once(lake: Lake, settings: str) -> int:
    """Let the operators loose on a dataset with these settings; the seed."""
    seed = int(os.environ.get("LAKE_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed} (LAKE_TEST_SEED={seed} repeats it)")
    lake.configure(f"[dataset.t]\n{settings}\n")
    lake.upload("a.csv", "content,i\nfirst,1\n")
    barrier = threading.Barrier(WORKERS)

    def work(number: int) -> None:
        operator = Operator(lake, number, seed)
        barrier.wait()
        operator.work()

    with ThreadPoolExecutor(WORKERS) as pool:
        for done in [pool.submit(work, number) for number in range(WORKERS)]:
            done.result()
    return seed


@pytest.mark.parametrize("mode", ["replace_object", "append", "replace_table"])
def test_whatever_many_operators_do_at_once_the_table_has_what_the_ledger_says(lake: Lake, mode: str) -> None:
    seed = work_at_once(lake, f'mode = "{mode}"')
    said = dict(lake.sql("select id, rows from lake.runs where state = 'loaded' and rows > 0"))
    assert dict(lake.sql("select _lake_run, count(*) from t group by 1")) == said, seed
    assert not lake.sql("select key from lake.objects where state = 'loaded' group by key having count(*) > 1"), seed
    assert not lake.sql("select id from lake.runs where state = 'running'"), seed
    for key, version, run in lake.sql("select key, version, run_id from lake.objects where state = 'loaded'"):
        with lake.target.store.open(lake.target.store.find(key, version)) as stream:
            text = stream.read().decode()
        rows = lake.sql(f"select content, i from t where _lake_run = {run} order by i")
        assert "content,i\n" + "".join(f"{content},{i}\n" for content, i in rows) == text, (seed, key, version)


def test_whatever_many_operators_do_at_once_a_merged_table_is_its_runs_one_after_the_other(lake: Lake) -> None:
    seed = work_at_once(lake, 'mode = "merge"\nkey = ["i"]')
    expected: dict[int, str] = {}
    for key, version in lake.sql("select key, version from lake.runs where state = 'loaded' order by id"):
        with lake.target.store.open(lake.target.store.find(key, version)) as stream:
            lines = stream.read().decode().splitlines()[1:]
        expected |= {int(number): content for content, number in (line.rsplit(",", 1) for line in lines)}
    assert {number: content for content, number in lake.sql("select content, i from t")} == expected, seed
    assert not lake.sql("select key from lake.objects where state = 'loaded' group by key having count(*) > 1"), seed
