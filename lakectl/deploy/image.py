"""The ETL's image: its build context from the installed package, and whichever builder this machine has.

    docker → podman → finch → buildah → (no engine answers) CodeBuild, from a zip in S3

The platform is always said, the task's own. The tag is the digest of the context and the platform: equal sources are
never built twice. What the task will run is the digest that the registry itself tells after the push.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from lakectl.errors import InfrastructureError, NotFoundError, UsageError

CODEBUILD: Final = "codebuild"
ENGINES: Final = ("docker", "podman", "finch", "buildah")
"""In order of preference."""
BUILDERS: Final = (*ENGINES, CODEBUILD)

_ALIVE: Mapping[str, tuple[str, ...]] = {
    "docker": ("docker", "version", "--format", "{{.Server.Version}}"),
    "podman": ("podman", "version", "--format", "{{.Version}}"),
    "finch": ("finch", "info"),
    "buildah": ("buildah", "version"),
}
"""What an engine answers only when it can build (docker's client alone cannot)."""
_KEPT_LINES = 20


class Credentials(Protocol):
    """A registry login; see :class:`lakectl.aws.ecr.RegistryLogin`."""

    @property
    def registry(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def password(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine that answers."""

    name: str
    buildkit: bool = False
    """Attestations have to be switched off, or Lambda and Fargate see an image index with an unknown platform."""


Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


def find_engine(wanted: str | None = None, *, run: Run = _run) -> Engine | None:
    """The first engine that answers; None: none does, or CodeBuild is wanted.

    Args:
        wanted: one of :data:`BUILDERS`, or None for the first that answers.
        run: runs a short command.

    Raises:
        UsageError: no such builder.
        NotFoundError: the engine that was asked for does not answer.
    """
    if wanted == CODEBUILD:
        return None
    if wanted is not None and wanted not in ENGINES:
        raise UsageError(f"there is no builder {wanted!r}", hint=f"one of {', '.join(BUILDERS)}")
    for name in (wanted,) if wanted else ENGINES:
        if run(_ALIVE[name]).returncode == 0:
            buildkit = name == "finch" or (name == "docker" and run(("docker", "buildx", "version")).returncode == 0)
            return Engine(name, buildkit)
    if wanted:
        raise NotFoundError(f"{wanted} does not answer on this machine", hint=f"start it, or: --build-with {CODEBUILD}")
    return None


def files() -> dict[str, bytes]:
    """The build context: the installed ``etl_container`` package, its requirements, and the Dockerfile at the top."""
    from etl_container import context as package

    found = dict(package.files())
    found["Dockerfile"] = found["etl_container/Dockerfile"]
    return found


def tag_of(content: Mapping[str, bytes], platform: str) -> str:
    """The tag of a context's image: 40 hexadecimal digits."""
    digest = hashlib.sha256(platform.encode())
    for name in sorted(content):
        digest.update(b"\0" + name.encode() + b"\0" + hashlib.sha256(content[name]).digest())
    return digest.hexdigest()[:40]


def context(into: Path, content: Mapping[str, bytes] | None = None) -> None:
    """Write the build context to an empty folder."""
    for name, data in (files() if content is None else content).items():
        path = into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def build_command(engine: Engine, image: str, platform: str, folder: str) -> list[str]:
    """The command that builds a context."""
    plain = ["--provenance=false", "--sbom=false"] if engine.buildkit else []
    match engine.name:
        case "docker" if engine.buildkit:
            verb = ["docker", "buildx", "build", "--load"]
        case "buildah":
            verb = ["buildah", "build", "--format", "docker"]
        case name:
            verb = [name, "build"]
    return [*verb, "--platform", platform, *plain, "-t", image, folder]


def build_and_push(
    engine: Engine, repository_uri: str, tag: str, platform: str, login: Credentials, content: Mapping[str, bytes]
) -> Iterator[str]:
    """Build and push with an engine of this machine; yields its lines.

    Raises:
        InfrastructureError: the build or the push failed; the engine's last lines are told.
    """
    image = f"{repository_uri}:{tag}"
    with tempfile.TemporaryDirectory(prefix="lakectl-image-") as name, tempfile.TemporaryDirectory() as private:
        folder = Path(name)
        context(folder, content)
        environment = dict(os.environ)
        if engine.name == "docker" and not engine.buildkit:
            environment["DOCKER_BUILDKIT"] = "0"
        if engine.name in ("podman", "buildah"):
            environment["REGISTRY_AUTH_FILE"] = f"{private}/auth.json"
        yield from _lines(build_command(engine, image, platform, name), environment, "build")
        yield f"log in to {login.registry}"
        _login(engine, login, environment)
        try:
            yield from _lines([engine.name, "push", image], environment, "push")
        finally:
            if engine.name in ("docker", "finch"):
                subprocess.run(
                    [engine.name, "logout", login.registry], env=environment, capture_output=True, check=False
                )


def _login(engine: Engine, login: Credentials, environment: Mapping[str, str]) -> None:
    """The password goes through standard input: a command line is public."""
    done = subprocess.run(
        [engine.name, "login", "--username", login.user, "--password-stdin", login.registry],
        input=login.password,
        text=True,
        env=dict(environment),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise InfrastructureError(
            f"{engine.name} cannot log in to {login.registry}: {said[-400:]}", hint=f"--build-with {CODEBUILD}"
        )


def _lines(command: Sequence[str], environment: Mapping[str, str], verb: str) -> Iterator[str]:
    last: list[str] = []
    process = subprocess.Popen(
        list(command),
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            text = line.rstrip()
            if text:
                last = [*last[-_KEPT_LINES + 1 :], text]
                yield text
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        if process.stdout is not None:
            process.stdout.close()
    if code:
        raise InfrastructureError(
            f"{command[0]} could not {verb} the image (exit code {code}):\n" + "\n".join(last),
            hint="exec format errors: the engine lacks emulation for the platform; "
            f"set architecture in [stage.NAME], or --build-with {CODEBUILD}",
        )


def pull(name: str, uri: str, login: Credentials) -> None:
    """Fetch an image by its digest.

    Raises:
        InfrastructureError: the registry refuses, or has no such image; the engine's last lines are told.
    """
    with tempfile.TemporaryDirectory() as private:
        environment = dict(os.environ)
        if name == "podman":
            environment["REGISTRY_AUTH_FILE"] = f"{private}/auth.json"
        _login(Engine(name), login, environment)
        for _line in _lines([name, "pull", "--quiet", uri], environment, "pull"):
            pass


def free_space() -> int:
    """Bytes free where engines keep images, roughly: on this machine's root."""
    return shutil.disk_usage("/").free
