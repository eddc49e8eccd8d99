"""The stage's own image on this machine: the deployed code on an object of the lake, into a warehouse near by.

The image is pulled by the digest that the stack names and gets the environment that a task gets, but for the warehouse.
Credentials and connection strings travel in this process's environment, never on the engine's command line.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl_container.report import LoadReport, Notice, OnEvent
from lakectl.aws.ecr import Repository
from lakectl.deploy import image
from lakectl.errors import InfrastructureError, NotFoundError

if TYPE_CHECKING:
    from lakectl.targets.aws import AwsTarget

ENGINES = ("docker", "podman", "finch")
"""Those that run containers; buildah only builds."""
_STATES = frozenset({"loaded", "already_loaded", "superseded", "failed"})
_LAST_LINES = 10
_PATIENCE = "10"
"""Seconds: a warehouse near by does not sleep."""


def load(
    target: AwsTarget, pairs: Sequence[tuple[str, str]], warehouse: str, on_event: OnEvent
) -> Iterator[LoadReport]:
    """A report of each object version, as the container tells it.

    Raises:
        NotFoundError: no engine that runs containers answers, or the stack names no image.
        InfrastructureError: the image could not be had, or the container ended without a word.
    """
    uri = target.stack.parameters.get("ImageUri", "")
    if "@" not in uri:
        raise NotFoundError(f"stage {target.stage} names no image", hint=f"lakectl deploy --stage {target.stage}")
    engine = _engine()
    login = Repository(target.opened.aws, target.opened.settings.names.repository).login()
    on_event(Notice(f"{engine} runs {uri.rpartition('@')[2][:19]}"))
    image.pull(engine, uri, login)
    objects = [{"key": key, "version": version} for key, version in pairs]
    environment = _environment(target, warehouse, objects)
    yield from _reports(_command(engine, uri, target.opened.settings.platform, environment, warehouse), environment)


def _engine() -> str:
    for name in ENGINES:
        try:
            return str(image.find_engine(name).name)  # type: ignore[union-attr]
        except NotFoundError:
            continue
    raise NotFoundError("no engine that runs containers answers on this machine", hint=f"start {', '.join(ENGINES)}")


def _environment(target: AwsTarget, warehouse: str, objects: Sequence[Mapping[str, str]]) -> dict[str, str]:
    outputs, opened = target.outputs, target.opened
    bundle = target.stack.parameters.get("BundleKey")
    return {
        "LAKE_NAME": target.lake.name,
        "LAKE_STAGE": target.stage,
        "LAKE_ACCOUNT": opened.aws.account,
        "LAKE_BUCKET": outputs["RawBucket"],
        "LAKE_BUNDLE": f"s3://{outputs['ArtifactBucket']}/{bundle}" if bundle else "",
        "LAKE_DB_AUTH": "password",
        "LAKE_WAREHOUSE": warehouse,
        "LAKE_OBJECTS": json.dumps(objects),
        "LAKE_WAKE": _PATIENCE,
        "AWS_REGION": opened.aws.region,
        **{name: value for name, value in os.environ.items() if name.startswith("AWS_ENDPOINT_URL")},
        **opened.aws.credentials(),
    }


def _command(engine: str, uri: str, platform: str, environment: Mapping[str, str], warehouse: str) -> list[str]:
    """As the task definition has it: read-only, no capability, /tmp to write to. Values come from our environment."""
    command = [engine, "run", "--rm", "--platform", platform, "--network", "host", "--read-only", "--tmpfs", "/tmp"]  # noqa: S108  the container's own
    command += ["--cap-drop", "ALL"]
    for name in environment:
        command += ["--env", name]
    socket = urllib.parse.parse_qs(urllib.parse.urlsplit(warehouse).query).get("host", [""])[0]
    if socket.startswith("/"):
        owner = Path(socket).stat()  # the embedded server's socket is its owner's alone
        command += ["--volume", f"{socket}:{socket}", "--user", f"{owner.st_uid}:{owner.st_gid}"]
    return [*command, uri]


def _reports(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[LoadReport]:
    """The container's lines as reports; its last words when it had none."""
    said: list[str] = []
    count, done = 0, None
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        complaints = threading.Thread(target=said.extend, args=(process.stderr,), daemon=True)
        complaints.start()
        try:
            for line in process.stdout:
                fact = _document(line)
                if fact is None:
                    said.append(line)
                elif fact.get("event") in _STATES and "key" in fact:
                    count += 1
                    yield _report(fact)
                elif fact.get("event") == "done":
                    done = fact
        except BaseException:
            process.terminate()
            raise
        finally:
            process.wait()
            complaints.join()
    if done is None:
        last = "".join(said[-_LAST_LINES:]).strip()
        raise InfrastructureError(f"the container ended with {process.returncode} and no last word:\n{last}")
    if done.get("error") and not count:
        raise InfrastructureError(f"the container failed: {done['error']}", hint=done.get("hint"))


def _document(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _report(fact: Mapping[str, Any]) -> LoadReport:
    known = set(LoadReport.__struct_fields__)
    values = {name: value for name, value in fact.items() if name in known}
    values |= {name: tuple(values.get(name) or ()) for name in ("changes", "notes")}
    return LoadReport(**{**values, "state": fact["event"]})
