"""The emulated account and one lake in it, driven by the commands that an operator types.

These tests need root, Docker and minutes, so they run by ``make e2e`` alone (``LAKECTL_E2E=1``). The account is brought
up when it is not there; ``make e2e`` takes it down at the end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import ground

collect_ignore_glob = ["emulator/*"]
if not os.environ.get("LAKECTL_E2E"):
    collect_ignore_glob.append("test_*.py")

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


WINDOW = 1
"""Seconds in which the stage's dispatcher gathers messages."""


TRIPS = "id,city,fare\n" + "".join(f"{number},c{number % 7},{number / 10}\n" for number in range(1000))


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def told(self) -> str:
        """Results and remarks."""
        return self.out + self.err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Stage:
    """One stage of one lake in the account."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.name = name
        self.stack = f"lake-{name}-dev"
        self.configure()

    def configure(self, **settings: str | int) -> None:
        """Write ``lake.toml``; the batching window is one second, not five, for the sake of the tests' time."""
        told = {"region": ground.REGION, "architecture": ARCHITECTURE, "batch_window": WINDOW, **settings}
        lines = [f'name = "{self.name}"', "[stage.dev]", *(f"{key} = {json.dumps(it)}" for key, it in told.items())]
        (self.root / "lake.toml").write_text("\n".join(lines) + "\n")

    def run(
        self, *arguments: str, code: int | None = 0, patience: float = 240, environment: Mapping[str, str] | None = None
    ) -> Done:
        """Run ``lakectl`` on the stage; ``code``: the exit code it must have, None for any.

        Args:
            environment: variables beside those of the account.
        """
        command = [sys.executable, "-m", "lakectl", *arguments, "--stage", "dev", "--no-input"]
        began = time.monotonic()
        told = os.environ | ground.client_environment() | (environment or {})
        done = subprocess.run(
            command, cwd=self.root, env=told, capture_output=True, text=True, timeout=patience, check=False
        )
        if code is not None:
            assert done.returncode == code, f"lakectl {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return Done(done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    def file(self, name: str, text: str | bytes) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return name

    def query(self, sql: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.run("query", sql, "--format", "json").json
        return found

    def count(self, table: str) -> int:
        return int(self.query(f"select count(*) as n from {table}")[0]["n"])

    def states(self, key: str) -> list[str]:
        """The states of a key's runs, oldest first."""
        runs = self.run("runs", "--json").json
        return [run["state"] for run in reversed(runs) if run["key"] == key]

    def client(self, service: str) -> Any:
        import boto3

        kept = ground.client_environment()
        return boto3.client(
            service,
            endpoint_url=kept["AWS_ENDPOINT_URL"],
            region_name=ground.REGION,
            aws_access_key_id=kept["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=kept["AWS_SECRET_ACCESS_KEY"],
        )

    @property
    def outputs(self) -> dict[str, str]:
        stack = self.client("cloudformation").describe_stacks(StackName=self.stack)["Stacks"][0]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def tasks(self) -> list[dict[str, Any]]:
        """Every task that the account remembers of this stage."""
        ecs, cluster = self.client("ecs"), self.outputs["ClusterName"]
        arns = [
            arn
            for status in ("RUNNING", "STOPPED")
            for arn in ecs.list_tasks(cluster=cluster, desiredStatus=status)["taskArns"]
        ]
        found = []
        for start in range(0, len(arns), 100):
            found += ecs.describe_tasks(cluster=cluster, tasks=arns[start : start + 100])["tasks"]
        return found


def until(ready: Callable[[], Any], *, patience: float = 60, pause: float = 0.3) -> Any:
    """What ``ready`` says, once it says something."""
    deadline = time.monotonic() + patience
    while True:
        if found := ready():
            return found
        assert time.monotonic() < deadline, f"not within {patience} s"
        time.sleep(pause)


@pytest.fixture(scope="session")
def account() -> None:
    """The emulated account."""
    ground.up()


@pytest.fixture(scope="session")
def stage(account: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A deployed stage, the same for all tests; destroyed at the end."""
    made = Stage(tmp_path_factory.mktemp("lake"), "harbour")
    done = made.run("deploy", "--yes", "--json", patience=600)
    print("\nfirst deploy, by step:")
    for step in done.json["steps"]:
        print(f"{step['seconds']:8.1f} s  {step['sentence']}")
    yield made
    made.run("destroy", "--confirm", "dev", "--yes")


@pytest.fixture
def no_image() -> Iterator[Path]:
    """While a test holds it, no task can pull its image."""
    fault = ground.STATE / "no-image"
    fault.write_text("the registry has no such digest")
    yield fault
    fault.unlink(missing_ok=True)
