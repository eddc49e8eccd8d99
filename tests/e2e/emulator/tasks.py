"""Fargate: what a task is given, what it is denied, and what is told of it.

A task gets its role's credentials and the region as environment variables (the SDK refuses a credentials endpoint that
is not on loopback), its image from the account's own registry, its limits and its file system as the task definition
says, a name server that knows the databases, and the RDS bundle of this account.
"""

from __future__ import annotations

import functools
import json
import os
import re
import secrets
import threading
import time
from pathlib import Path
from typing import Any

from ministack.core.responses import get_account_id, get_region
from ministack.services import ecs, eventbridge, sts

from emulator.databases import AUTHORITY
from emulator.roles import may_start

FAULT = Path(os.environ["E2E_STATE"]) / "no-image"
"""While this file is there no image can be pulled, for the reason that it holds."""

_plain_register = ecs._register_metadata
_plain_start = ecs._run_docker_container
_plain_kwargs = ecs._build_run_kwargs
_plain_run_task = ecs._run_task
_registry = re.compile(r"^\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com/")
_answers: dict[tuple[str, str, str], Any] = {}
_answering = threading.Lock()


def mend() -> None:
    ecs._register_metadata = _register
    ecs._build_run_kwargs = _confined
    ecs._run_docker_container = _start
    replace_run_task(_once)
    for name in ("_mark_task_pending", "_mark_task_running", "_mark_task_stopped"):
        setattr(ecs, name, _told(getattr(ecs, name)))


def replace_run_task(function: Any) -> None:
    """Put a function in RunTask's place, also where the service's tables hold the old one."""
    old = ecs._run_task
    ecs._run_task = function
    for table in [it for it in vars(ecs).values() if isinstance(it, dict) and it.get("RunTask") is old]:
        table["RunTask"] = function


# -- what a task is given ----------------------------------------------------------------------------------------------


def _register(
    task: str, cluster: str, definition: dict[str, Any], container: Any, launch: str, environment: dict[str, str],
    *rest: Any,
) -> Any:  # fmt: skip
    declared = dict(environment)
    token = _plain_register(task, cluster, definition, container, launch, environment, *rest)
    for name in ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN"):
        environment.pop(name, None)
    if role := definition.get("taskRoleArn"):
        environment.update(_credentials(task, role))
    region = get_region()
    environment.update(AWS_REGION=region, AWS_DEFAULT_REGION=region, AWS_EXECUTION_ENV="AWS_ECS_FARGATE")
    environment.update(declared)
    return token


def _credentials(task: str, role: str) -> dict[str, str]:
    """A session of the task's role, six hours long."""
    number, name = task.rsplit("/", 1)[-1].replace("-", ""), role.rsplit("/", 1)[-1]
    key, secret, token = f"ASIA{secrets.token_hex(8).upper()}", secrets.token_hex(20), secrets.token_urlsafe(200)
    session = {
        "Arn": f"arn:aws:sts::{get_account_id()}:assumed-role/{name}/{number}",
        "UserId": f"{name}:{number}",
        "SecretAccessKey": secret,
        "SessionToken": token,
        "Expiration": time.time() + 6 * 3600,
    }
    sts.register_session(key, session)
    return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token}


def _confined(container: dict[str, Any], definition: dict[str, Any], environment: dict[str, str], *rest: Any) -> Any:
    """The task definition's limits, as Fargate applies them."""
    options = _plain_kwargs(container, definition, environment, *rest)
    linux = container.get("linuxParameters") or {}
    memory = container.get("memory") or definition.get("memory")
    options["network"] = os.environ["E2E_NETWORK"]
    options["extra_hosts"] = {"host.docker.internal": os.environ["E2E_BRIDGE"]}
    options["read_only"] = bool(container.get("readonlyRootFilesystem"))
    options["user"] = container.get("user") or None
    options["init"] = bool(linux.get("initProcessEnabled"))
    options["cap_drop"] = (linux.get("capabilities") or {}).get("drop") or []
    if memory:
        options["mem_limit"] = options["memswap_limit"] = f"{memory}m"
    binds = list(options.get("volumes") or [])
    if bundle := environment.get("LAKE_DB_CA"):
        binds.append(f"{AUTHORITY}:{bundle}:ro")
    options["volumes"] = binds
    options["_role"] = definition.get("executionRoleArn", "")
    options["_scratch"] = [mount["containerPath"] for mount in container.get("mountPoints", [])]
    return options


def _start(docker: Any, container: dict[str, Any], options: dict[str, Any], **named: Any) -> Any:
    """Pull from the account's registry, mount scratch volumes, run."""
    may_start(options.pop("_role"), container["image"], (container.get("logConfiguration") or {}).get("options") or {})
    image = _pulled(docker, container["image"])
    container = dict(container, image=image.id)
    declared = (image.attrs.get("Config") or {}).get("Volumes") or {}
    for path in options.pop("_scratch", []):
        # As on Fargate: an empty volume is root's, unless the image declares the path and so lends its permissions.
        if path not in declared:
            options.setdefault("tmpfs", {})[path] = "mode=0755"
    return _plain_start(docker, container, options, **named)


def _pulled(docker: Any, image: str) -> Any:
    if FAULT.exists():
        raise ecs._ImagePullError(f"failed to resolve ref {image}: {FAULT.read_text()}")
    if not _registry.match(image):
        return docker.images.get(image)
    here = f"127.0.0.1:{os.environ.get('GATEWAY_PORT', '4566')}/{image.split('/', 1)[1]}"
    named = "@" in here or ":" in here.rsplit("/", 1)[-1]
    try:
        return docker.images.pull(here if named else f"{here}:latest")
    except Exception as error:
        reason = f"pull image manifest has been retried 1 time(s): failed to resolve ref {image}: {error}"
        raise ecs._ImagePullError(reason) from error


# -- what is told of it ------------------------------------------------------------------------------------------------


def _once(data: dict[str, Any]) -> Any:
    """The same ``clientToken`` gets the same answer; a task that names no group is in its family's."""
    definition = data.get("taskDefinition", "").rsplit("task-definition/", 1)[-1]
    data.setdefault("group", f"family:{definition.partition(':')[0]}")
    token = data.get("clientToken")
    if not token:
        return _plain_run_task(data)
    key = (get_account_id(), get_region(), token)
    with _answering:
        if key not in _answers:
            _answers[key] = _plain_run_task(data)
        return _answers[key]


def _told(function: Any) -> Any:
    """Tell EventBridge of a task's new state: ``ECS Task State Change``."""

    @functools.wraps(function)
    def wrapped(arn: str, task: dict[str, Any], *rest: Any, **named: Any) -> Any:
        before = task.get("lastStatus")
        got = function(arn, task, *rest, **named)
        if got is not False and task.get("lastStatus") != before:
            detail = json.loads(json.dumps(ecs._sanitize(task), default=str))
            for container in detail.get("containers", []):
                if container.get("exitCode") is None:
                    container.pop("exitCode", None)
            event = {"Source": "aws.ecs", "DetailType": "ECS Task State Change", "Resources": [arn]}
            entry = event | {"Detail": json.dumps(detail)}
            eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
        return got

    return wrapped
