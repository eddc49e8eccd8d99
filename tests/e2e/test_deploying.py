"""Deploys that are cut short; minutes long: ``make e2e E2E="-m slow"``."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e import ground
from tests.e2e.conftest import Stage

POINTS = 10


@pytest.mark.slow
def test_a_deploy_interrupted_anywhere_is_finished_by_the_next_one(account: None, tmp_path: Path) -> None:
    """Ctrl-C and kill -9 in turn, once in each tenth of a deploy from nothing."""
    seed = int(os.environ.get("SEED", "20261124"))
    print(f"\nSEED={seed}")
    chance = random.Random(seed)
    stage = Stage(tmp_path, "jetty")
    stage.run("deploy", "--yes", patience=600)
    stage.run("destroy", "--confirm", "dev")
    whole = stage.run("deploy", "--yes", patience=600).seconds
    stage.run("destroy", "--confirm", "dev")
    print(f"a whole deploy: {whole:.1f} s")
    for point in range(POINTS):
        word = signal.SIGKILL if point % 2 else signal.SIGINT
        moment = whole * (point + chance.random()) / POINTS
        code, reached = cut_short(stage, word, moment)
        assert code in ((-signal.SIGKILL, 0) if point % 2 else (130, 0)), reached
        done = stage.run("deploy", "--yes", patience=600)
        assert stage.run("deploy", "--yes", "--json").json["changed"] is False
        stage.run("upload", stage.file("after.csv", "id\n1\n2\n"))
        assert stage.count("after") == 2
        gone = stage.run("destroy", "--confirm", "dev", "--json").json
        assert gone["survivors"] == []
        print(f"{word.name:8} after {moment:5.1f} s: exit {code:4}, at «{reached}»; then done in {done.seconds:.1f} s")


def cut_short(stage: Stage, word: signal.Signals, moment: float) -> tuple[int, str]:
    """Begin a deploy and end it; its exit code, and the last thing that it said."""
    command = [sys.executable, "-m", "lakectl", "deploy", "--yes", "--stage", "dev", "--no-input"]
    environment = os.environ | ground.client_environment()
    log = stage.root / "interrupted.log"
    with log.open("wb") as out:
        started = subprocess.Popen(command, cwd=stage.root, env=environment, stdout=out, stderr=out)
        time.sleep(moment)
        started.send_signal(word)
        code = started.wait(120)
    steps = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("[")]
    return code, steps[-1][:60] if steps else "nothing"
