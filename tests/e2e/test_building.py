"""The image, on a machine that has no Docker: built, pushed and run all the same; ``make e2e E2E="-m slow"``."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import ground
from tests.e2e.conftest import TRIPS, Stage

BASE = ground.PYTHON_NAMES[0]


@pytest.fixture
def buildah_alone(account: None, tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose only container engine is buildah, with the base image in its storage, and nothing else.

    The account's registry speaks plain HTTP here, which buildah has to be told; Amazon's needs no such file. Isolation
    and driver are those that work inside of containers and virtual machines, too.
    """
    buildah = ground.found("buildah")
    if buildah is None:
        pytest.skip("buildah is not there, and could not be installed from Debian's packages")
    programs, storage = tmp_path / "bin", tmp_path / "storage"
    programs.mkdir()
    (programs / "buildah").symlink_to(buildah)
    settings = tmp_path / "storage.conf"
    settings.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{storage}"\nrunroot = "{tmp_path / "run"}"\n')
    registries = tmp_path / "home" / ".config" / "containers" / "registries.conf"
    registries.parent.mkdir(parents=True)
    registries.write_text(f'[[registry]]\nlocation = "{ground.REGISTRY}"\ninsecure = true\n')
    environment = {
        "PATH": str(programs),
        "BUILDAH_ISOLATION": "chroot",
        "CONTAINERS_STORAGE_CONF": str(settings),
        "HOME": str(tmp_path / "home"),
    }
    archive = tmp_path / "base.tar"
    subprocess.run(["docker", "save", "-o", str(archive), BASE], check=True)
    pull = [buildah, "pull", "--quiet", f"docker-archive:{archive}"]
    subprocess.run(pull, check=True, capture_output=True, env=environment)
    archive.unlink()
    yield environment
    shutil.rmtree(storage)


@pytest.mark.slow
def test_without_docker_buildah_builds_and_pushes_the_image_that_loads_a_file(
    buildah_alone: dict[str, str], tmp_path: Path
) -> None:
    root = tmp_path / "lake"
    root.mkdir()
    stage = Stage(root, "wharf")
    done = stage.run("deploy", "--yes", "--skip-canary", environment=buildah_alone, patience=600)
    assert "with buildah" in done.told
    print(f"\na first deploy with buildah: {done.seconds:.0f} s")
    stage.run("upload", "--wait", stage.file("trips.csv", TRIPS), environment=buildah_alone)
    assert stage.count("trips") == 1000
    stage.run("destroy", "--confirm", "dev", environment=buildah_alone)
