"""Deploys that are cut short; minutes long: ``make e2e E2E="-m slow"``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e import ground
from tests.e2e.conftest import Stage

CTRL_C, KILL = signal.SIGINT, signal.SIGKILL
POINTS = {
    "looking at the account": (CTRL_C, r"stage dev \(account"),
    "the first stack's change set": (KILL, r"\[1/7\] create stack"),
    "the first stack's events": (CTRL_C, r"change set: \d+ to create"),
    "the image being built": (KILL, r"with docker"),
    "the login to the registry": (CTRL_C, r"log in to"),
    "the image being pushed": (KILL, r"The push refers to"),
    "the transforms being uploaded": (CTRL_C, r"\[3/7\] upload transforms"),
    "the second stack's events": (KILL, r"\[5/7\] create stack.*\n.*change set: \d+ to create"),
    "the database's schema": (CTRL_C, r"users and rights"),
    "the canary on its way": (KILL, r"\[7/7\] send a canary.*\n.*sent"),
}
"""What a deploy from nothing is at when it has said this, and how it ends there."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_deploy_interrupted_anywhere_is_finished_by_the_next_one(account: None, tmp_path: Path) -> None:
    """Ctrl-C and kill -9 in turn, at ten points of a deploy from nothing."""
    stage = Stage(tmp_path, "jetty")
    for point, (word, said) in POINTS.items():
        code, step = cut_short(stage, word, said)
        done = stage.run("deploy", "--yes", patience=600)
        assert stage.run("deploy", "--yes", "--json").json["changed"] is False
        stage.run("upload", stage.file("after.csv", "id\n1\n2\n"))
        assert stage.count("after") == 2
        gone = stage.run("destroy", "--confirm", "dev", "--json").json
        assert gone["survivors"] == []
        print(f"{word.name:7} at {point:30} exit {code:4}, in «{step[:40]}»; then done in {done.seconds:.1f} s")


def cut_short(stage: Stage, word: signal.Signals, said: str) -> tuple[int, str]:
    """Begin a deploy and end it as soon as it has said something; its exit code, and the step that it was in."""
    listening = ["env", "--default-signal=INT"]  # a background job of a shell, and whatever it starts, ignores Ctrl-C
    command = [*listening, sys.executable, "-m", "lakectl", "deploy", "--yes", "--stage", "dev", "--no-input"]
    environment = os.environ | ground.client_environment()
    started = subprocess.Popen(
        command,
        cwd=stage.root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert started.stdout is not None
    heard = ""
    for line in started.stdout:
        heard += line
        if re.search(said, heard):
            break
    # A terminal sends Ctrl-C to the builder, too; kill -9 takes the command alone.
    os.killpg(started.pid, word) if word == CTRL_C else started.kill()
    heard += started.communicate(timeout=120)[0]
    assert started.returncode == (130 if word == CTRL_C else -KILL), heard
    steps = re.findall(r"^\[.*", heard, re.MULTILINE)
    return started.returncode, steps[-1] if steps else "preflight"
