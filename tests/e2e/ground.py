"""The ground that the end-to-end tests stand on: a container engine, base images and an emulated AWS account.

``up`` makes a clean Debian machine (as root; nothing but its own packages and PyPI) into one that runs what a
CloudFormation stack creates, for real; ``down`` takes away what ``up`` started, by pid. Both may be run again::

    packages ─► docker daemon ─► base images ─► emulator's environment ─► emulator

No container registry is needed: the base images are built from Debian's packages, under the names that the Dockerfile
and the emulator ask for. What is started listens on the loopback interface and on Docker's own bridge only.

    python ground.py up      start, and print the time of each step
    python ground.py env     shell lines that point AWS clients at the emulator
    python ground.py down    stop

``up`` ends with 69 where this machine cannot be that ground: not root, no packages to be had, no container engine
that starts. Whatever goes wrong after that is a failure.

The environment decides: ``LAKECTL_E2E_STATE`` (a folder for virtual environment, logs and pids), ``PORT``,
``SUITE`` (the Debian suite inside the images).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
STATE = Path(os.environ.get("LAKECTL_E2E_STATE", Path(tempfile.gettempdir()) / "lakectl-e2e"))
PORT = int(os.environ.get("PORT", "4566"))
SUITE = os.environ.get("SUITE", "trixie")
EMULATOR = "ministack[full]==1.5.33"
"""Pinned: the package ``emulator`` reaches into it."""
ACCOUNT = "000000000000"
REGION = "us-east-1"
UNABLE = 69
"""EX_UNAVAILABLE of sysexits.h."""
NETWORK = "lakectl-e2e"
"""Docker's bridge for tasks and databases: on one of our own, databases have names, as TLS verification needs."""
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
HOSTS_MARK = "# lakectl-e2e"

PYTHON_NAMES = ("public.ecr.aws/docker/library/python:3.12-slim", "public.ecr.aws/docker/library/python:3.13-slim")
POSTGRES_NAMES = ("postgres:15-alpine", "postgres:16-alpine", "postgres:17-alpine")


def up() -> None:
    """Everything, in order; exits with :data:`UNABLE` where the machine is not made for it."""
    STATE.mkdir(parents=True, exist_ok=True)
    try:
        if os.geteuid():
            raise SystemExit("a container engine wants root here")
        with timed("packages"):
            install_packages()
        with timed("docker daemon"):
            start_docker()
        with timed("base images"):
            build_base_images()
        with timed("emulator's environment"):
            install_emulator()
    except (SystemExit, OSError, subprocess.CalledProcessError) as error:
        print(f"{error}\nno ground for end-to-end tests on this machine", file=sys.stderr)
        stop("dockerd", patience=20)
        raise SystemExit(UNABLE) from error
    with timed("emulator"):
        start_emulator()


def down() -> None:
    """The emulator with its containers, then the daemon with the images of lakes, if they are ours."""
    stop_emulator()
    if running("dockerd"):
        remove_images()
    stop("dockerd", patience=20)


# -- packages ----------------------------------------------------------------------------------------------------------


PROGRAMS = {"docker.io": "dockerd", "debootstrap": "debootstrap", "iproute2": "ip"}
BUILDERS = {"buildah": "buildah"}
"""For single tests, which say so when a machine cannot have them."""


def install_packages() -> None:
    """Docker, debootstrap and buildah from Debian, where they are missing."""
    install(missing(PROGRAMS))
    try:
        install(missing(BUILDERS))
    except SystemExit as error:
        print(f"{error}\nits tests are left out", file=sys.stderr)


def missing(programs: dict[str, str]) -> list[str]:
    """The packages whose program is not there."""
    return [package for package, program in programs.items() if found(program) is None]


def install(packages: list[str]) -> None:
    if packages:
        run("apt-get", "update", "-qq")
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages, environment=environment)


def found(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


# -- the container engine ----------------------------------------------------------------------------------------------


def start_docker() -> None:
    """A daemon, unless one answers; ports that containers publish are bound to the loopback interface."""
    if not succeeds("docker", "info"):
        start("dockerd", str(found("dockerd")), "--ip", "127.0.0.1")
        await_("the docker daemon", "dockerd", lambda: succeeds("docker", "info"))
    if not succeeds("docker", "network", "inspect", NETWORK):
        run("docker", "network", "create", NETWORK)


def gateway() -> str:
    """The host's address as containers see it, ``host.docker.internal``."""
    template = "{{(index .IPAM.Config 0).Gateway}}"
    address = output("docker", "network", "inspect", "bridge", "-f", template)
    return address or output("ip", "-4", "-o", "addr", "show", "docker0").split()[3].partition("/")[0]


# -- base images -------------------------------------------------------------------------------------------------------


def build_base_images() -> None:
    """Stand-ins for the official Python and PostgreSQL images; built once."""
    if not succeeds("docker", "image", "inspect", f"e2e/debian:{SUITE}"):
        import_debian()
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder) / "images"
        shutil.copytree(HERE / "images", context)
        certificates = context / "python" / "ca"
        certificates.mkdir()
        (certificates / ".keep").touch()
        for certificate in Path("/usr/local/share/ca-certificates").glob("*.crt"):
            shutil.copy(certificate, certificates)
        for name, tags in {"python": PYTHON_NAMES, "postgres": POSTGRES_NAMES}.items():
            image = f"e2e/{name}:{SUITE}"
            build = ("docker", "build", "-q", "--network", "host", "--build-arg", f"BASE=e2e/debian:{SUITE}")
            run(*build, "-t", image, str(context / name), environment=os.environ | {"DOCKER_BUILDKIT": "0"})
            for tag in tags:
                run("docker", "tag", image, tag)


def remove_images() -> None:
    """What deploys have built and tasks have pulled; base images stay, since they take minutes."""
    listed = output("docker", "image", "ls", "--format", "{{.ID}} {{.Repository}}").splitlines()
    ours = (REGISTRY, f"127.0.0.1:{PORT}/")
    built = sorted({image for image, _, name in (line.partition(" ") for line in listed) if name.startswith(ours)})
    if built:
        run("docker", "image", "rm", "-f", *built)
    run("docker", "image", "prune", "-f")


def import_debian() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        bootstrap = (str(found("debootstrap")), "--variant=minbase", "--include=ca-certificates")
        run(*bootstrap, SUITE, str(root), debian_mirror())
        for leftover in [*root.glob("var/cache/apt/archives/*.deb"), *root.glob("var/lib/apt/lists/*_*")]:
            leftover.unlink()
        packed = subprocess.Popen(
            ["tar", "-C", str(root), "--one-file-system", "--exclude=./proc/*", "--exclude=./sys/*", "-c", "."],
            stdout=subprocess.PIPE,
        )
        command = ["docker", "import", "-c", 'CMD ["bash"]', "-", f"e2e/debian:{SUITE}"]
        subprocess.run(command, stdin=packed.stdout, stdout=subprocess.DEVNULL, check=True)
        if packed.wait():
            raise SystemExit("tar could not pack the Debian root")


def debian_mirror() -> str:
    """The package mirror that this machine uses."""
    sources = [*Path("/etc/apt/sources.list.d").glob("*.sources"), *Path("/etc/apt").glob("sources.list")]
    for source in sources:
        if match := re.search(r"https?://\S+/debian/?(?=\s|$)", source.read_text(), re.MULTILINE):
            return match[0]
    return "http://deb.debian.org/debian"


# -- the emulator ------------------------------------------------------------------------------------------------------


def install_emulator() -> None:
    """A virtual environment of its own: neither the product nor its tests import it."""
    python, installed = STATE / "venv" / "bin" / "python", STATE / "venv" / "installed"
    if not installed.exists() or installed.read_text() != EMULATOR:
        venv.create(STATE / "venv", with_pip=True, clear=True)
        run(str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", EMULATOR, "boto3")
        installed.write_text(EMULATOR)


def start_emulator() -> None:
    """One process on the loopback interface and Docker's bridge; IAM policies are evaluated."""
    if running("emulator"):
        return
    if healthy():
        raise SystemExit(f"port {PORT} is taken by an emulator not started here, or by what is left of a killed one")
    remove_remains()
    name_registry()
    bridge = gateway()
    settings = {
        **{"GATEWAY_PORT": str(PORT), "AUTH": "true", "LOG_LEVEL": os.environ.get("LOG_LEVEL", "INFO")},
        **{"MINISTACK_ACCOUNT_ID": ACCOUNT, "MINISTACK_REGION": REGION, "MINISTACK_AUTOCREATE_AWS_MANAGED": "1"},
        **{"DOCKER_NETWORK": NETWORK, "MINISTACK_DOCKER_TIMEOUT": "60", "HOSTNAME": "", "IOT_MTLS_ENABLED": "0"},
        **{"S3_DATA_DIR": str(STATE / "s3"), "STATE_DIR": str(STATE / "state"), "TMPDIR": str(STATE)},
        **{"CLOUDTRAIL_RECORDING": "1", "E2E_STATE": str(STATE), "E2E_BRIDGE": bridge, "E2E_NETWORK": NETWORK},
        **{"PATH": f"{STATE / 'venv' / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(HERE)},
        **{"PYTHONDONTWRITEBYTECODE": "1"},
    }
    binds = (f"127.0.0.1:{PORT}", f"{bridge}:{PORT}", "127.0.0.1:80")
    start(
        "emulator",
        *(str(STATE / "venv" / "bin" / "python"), "-m", "hypercorn", "emulator:app", "--keep-alive", "75"),
        *(argument for address in binds for argument in ("--bind", address)),
        environment={name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | settings,
    )
    await_("the emulator", "emulator", healthy)
    (STATE / "env").write_text("".join(f"export {name}={value}\n" for name, value in client_environment().items()))


def client_environment() -> dict[str, str]:
    """What points an AWS client at the emulator: an endpoint and the account's root key."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{PORT}",
        "AWS_ACCESS_KEY_ID": ACCOUNT,
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "DOCKER_CONFIG": str(STATE / "docker-config"),
    }


def healthy() -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/_ministack/health", timeout=2):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def stop_emulator() -> None:
    """The process, then what it started."""
    stop("emulator")
    remove_remains()


def remove_remains() -> None:
    """Containers, volumes and state, of a killed emulator too: a new one would not know the databases' passwords."""
    if succeeds("docker", "info"):
        for kind, remove in ((("ps", "-aq"), ("rm", "-fv")), (("volume", "ls", "-q"), ("volume", "rm", "-f"))):
            if left := output("docker", *kind, "--filter", "name=ministack-").split():
                run("docker", *remove, *left)
    shutil.rmtree(STATE / "state", ignore_errors=True)
    shutil.rmtree(STATE / "s3", ignore_errors=True)
    forget_registry()


def name_registry() -> None:
    """Let ``docker push`` to the account's registry reach the emulator, on port 80 of the loopback interface."""
    hosts = Path("/etc/hosts")
    if HOSTS_MARK not in hosts.read_text():
        with hosts.open("a") as file:
            file.write(f"127.0.0.1 {REGISTRY} {HOSTS_MARK}\n")
    (STATE / "docker-config").mkdir(exist_ok=True)


def forget_registry() -> None:
    hosts = Path("/etc/hosts")
    lines = hosts.read_text().splitlines(keepends=True)
    kept = [line for line in lines if HOSTS_MARK not in line]
    if kept != lines:
        hosts.write_text("".join(kept))  # in place: the file may be a mount


# -- processes ---------------------------------------------------------------------------------------------------------


def start(name: str, *command: str, environment: dict[str, str] | None = None) -> None:
    """A process in a session of its own; its output and pid are in the state folder."""
    with (STATE / f"{name}.log").open("ab") as log:
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment
        )
    (STATE / f"{name}.pid").write_text(str(started.pid))


def running(name: str) -> int | None:
    """The pid of a process that we started and that lives."""
    try:
        pid = int((STATE / f"{name}.pid").read_text())
        os.kill(pid, 0)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return None
    state = Path(f"/proc/{pid}/stat")
    return None if state.exists() and ") Z " in state.read_text() else pid


def stop(name: str, *, patience: float = 8) -> None:
    pid = running(name)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + patience
        while running(name) and time.monotonic() < deadline:
            time.sleep(0.1)
        if running(name):
            os.kill(pid, signal.SIGKILL)
    (STATE / f"{name}.pid").unlink(missing_ok=True)


def await_(what: str, name: str, ready: object, *, patience: float = 60) -> None:
    """Wait until ``ready()``; show the log's end when the process died or takes too long."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and running(name):
        if callable(ready) and ready():
            return
        time.sleep(0.1)
    tail = (STATE / f"{name}.log").read_text(errors="replace").splitlines()[-20:]
    raise SystemExit("\n".join([*tail, f"{what} did not start; see {STATE / name}.log"]))


def run(*command: str, environment: dict[str, str] | None = None) -> None:
    """Run quietly; show everything when it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}\n{' '.join(command[:4])} … failed with {done.returncode}")


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def succeeds(*command: str) -> bool:
    return found(command[0]) is not None and not subprocess.run(command, check=False, capture_output=True).returncode


@contextlib.contextmanager
def timed(step: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    print(f"{step:<28} {time.monotonic() - started:6.1f} s", file=sys.stderr, flush=True)


def main() -> None:
    match sys.argv[1:]:
        case ["up"]:
            up()
        case ["down"]:
            down()
        case ["restart"]:
            stop_emulator()
            start_emulator()
        case ["env"]:
            print((STATE / "env").read_text(), end="")
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
