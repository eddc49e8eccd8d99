"""Fargate tasks: started, found, described, stopped.

An answer of 200 with ``failures`` is a failure; :meth:`Tasks.run` raises it in words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from lakectl.aws.session import Aws
from lakectl.errors import BusyError, DeadlineError, InfrastructureError, LakectlError

CONTAINER: Final = "etl"
_DESCRIBED = 100
"""Tasks in one DescribeTasks."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task, as ECS knows it; stopped ones are known for about an hour."""

    arn: str
    status: str
    """``PROVISIONING`` … ``RUNNING`` … ``STOPPED``."""
    started_by: str | None = None
    stop_code: str | None = None
    """``TaskFailedToStart``, ``EssentialContainerExited``, ``UserInitiated`` …"""
    reason: str | None = None
    exit_code: int | None = None
    container_reason: str | None = None
    """``OutOfMemoryError: …``, ``CannotPullContainerError: …``"""
    created: datetime | None = None
    started: datetime | None = None
    stopped: datetime | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    """What was given to this task beyond the task definition."""

    @property
    def id(self) -> str:
        """The last part of the ARN; also the last part of the log stream's name."""
        return self.arn.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how a task runs, from the stack's outputs."""

    cluster: str
    task_definition: str
    subnets: tuple[str, ...]
    security_group: str
    public_ip: str
    """``ENABLED`` or ``DISABLED``."""
    capacity: str = "FARGATE"


class Tasks:
    """The tasks of one cluster."""

    def __init__(
        self,
        aws: Aws,
        cluster: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._aws = aws
        self.cluster = cluster
        self._sleep = sleep
        self._clock = clock

    def run(self, placement: Placement, environment: Mapping[str, str], *, started_by: str, token: str) -> Task:
        """Start one task.

        Args:
            placement: where.
            environment: on top of the task definition's; at most 8,192 characters with the rest of the overrides.
            started_by: at most 128 characters.
            token: at most 64 characters; the same token again finds the same task for 24 hours.

        Raises:
            BusyError: no capacity, or the account's quota is used up.
            InfrastructureError: the task cannot be placed; the reason is told.
        """
        answer = self._aws.call(
            "ecs",
            "run_task",
            cluster=placement.cluster,
            taskDefinition=placement.task_definition,
            count=1,
            clientToken=token,
            startedBy=started_by,
            capacityProviderStrategy=[{"capacityProvider": placement.capacity, "weight": 1}],
            networkConfiguration={
                "awsvpcConfiguration": {
                    "subnets": list(placement.subnets),
                    "securityGroups": [placement.security_group],
                    "assignPublicIp": placement.public_ip,
                }
            },
            overrides={
                "containerOverrides": [
                    {
                        "name": CONTAINER,
                        "environment": [{"name": key, "value": value} for key, value in environment.items()],
                    }
                ]
            },
            propagateTags="TASK_DEFINITION",
            enableECSManagedTags=True,
        )
        if answer.get("failures"):
            raise told(answer["failures"])
        if not answer.get("tasks"):
            raise InfrastructureError("ECS started no task and gave no reason", hint="run the same command again")
        return _task(answer["tasks"][0])

    def describe(self, arns: Sequence[str]) -> list[Task]:
        """Tasks by their ARNs; those that ECS has forgotten are left out."""
        found: list[Task] = []
        for start in range(0, len(arns), _DESCRIBED):
            answer = self._aws.call(
                "ecs", "describe_tasks", cluster=self.cluster, tasks=list(arns[start : start + _DESCRIBED])
            )
            found += [_task(item) for item in answer.get("tasks", ())]
        return found

    def list(self, *, family: str | None = None, stopped: bool = False) -> list[Task]:
        """Tasks that run or are about to, or those that stopped within about the last hour."""
        status = "STOPPED" if stopped else "RUNNING"
        arns = self._aws.pages(
            "ecs", "list_tasks", "taskArns", cluster=self.cluster, family=family, desiredStatus=status
        )
        return self.describe(list(arns))

    def stop(self, arn: str, reason: str) -> None:
        """Ask a task to end: SIGTERM, then SIGKILL after its stop timeout."""
        self._aws.call("ecs", "stop_task", cluster=self.cluster, task=arn, reason=reason)

    def follow(self, arn: str, *, within: float, every: float = 2.0) -> Iterator[Task]:
        """A task each time its status has changed, the last time stopped.

        Raises:
            DeadlineError: it does not stop in time.
        """
        deadline = self._clock() + within
        last: str | None = None
        while True:
            found = self.describe([arn])
            if not found:
                raise InfrastructureError(f"ECS has no task {arn.rpartition('/')[2]} any more", hint="lakectl runs")
            if found[0].status != last:
                last = found[0].status
                yield found[0]
            if last == "STOPPED":
                return
            if self._clock() > deadline:
                raise DeadlineError(f"task {found[0].id} still runs after {within:.0f} s", hint="lakectl logs -f")
            self._sleep(every)


def told(failures: Sequence[Mapping[str, Any]]) -> LakectlError:
    """RunTask's ``failures`` in words.

    Source: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html
    """
    reason = str(failures[0].get("reason") or "no reason given")
    detail = f": {failures[0]['detail']}" if failures[0].get("detail") else ""
    text = f"the task was not started: {reason}{detail}"
    if "vCPU" in reason or "limit" in reason.lower():
        return BusyError(text, hint="raise the quota 'Fargate On-Demand vCPU resource count', or wait for other tasks")
    if "apacity" in reason or reason.startswith("RESOURCE"):
        return BusyError(text, hint="AWS has no room in these zones now; run the same command again")
    if reason in ("MISSING", "INACTIVE"):
        return InfrastructureError(text, hint="the cluster or task definition is gone: lakectl deploy")
    return InfrastructureError(text, hint="lakectl doctor")


def why_stopped(task: Task) -> str:
    """One sentence about a task that stopped."""
    words = task.container_reason or task.reason or ""
    if words.startswith("OutOfMemory") or task.exit_code == 137:
        return "the task was killed: out of memory, or stopped by force"
    if task.stop_code == "TaskFailedToStart":
        return f"the task never started: {words}"
    if task.stop_code == "UserInitiated":
        return f"the task was stopped by someone: {words}"
    if task.stop_code == "SpotInterruption":
        return "AWS took the Spot capacity back"
    if task.exit_code is None:
        return f"the task ended without an exit code: {words}"
    return f"the task ended with exit code {task.exit_code}"


def _task(facts: Mapping[str, Any]) -> Task:
    container: Mapping[str, Any] = next(
        (item for item in facts.get("containers", ()) if item.get("name") == CONTAINER), {}
    )
    overrides = (facts.get("overrides") or {}).get("containerOverrides") or [{}]
    return Task(
        arn=facts["taskArn"],
        status=facts.get("lastStatus", "PROVISIONING"),
        started_by=facts.get("startedBy"),
        stop_code=facts.get("stopCode"),
        reason=facts.get("stoppedReason"),
        exit_code=container.get("exitCode"),
        container_reason=container.get("reason"),
        created=facts.get("createdAt"),
        started=facts.get("startedAt"),
        stopped=facts.get("stoppedAt"),
        environment={item["name"]: item["value"] for item in overrides[0].get("environment", ())},
    )
