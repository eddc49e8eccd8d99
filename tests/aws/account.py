"""An account in this process: the real dispatcher, the real ETL and a real PostgreSQL between doubles of the services.

S3 is moto's. Queues, tasks, logs and what only describes itself are small doubles on one clock. Nothing happens until
somebody sleeps: then events travel, the dispatcher is called, tasks start, run and stop, so every order of things can
be had on purpose.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import itertools
import json
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from etl_container.__main__ import main as run_etl
from lakectl.deploy.render import StageSettings

if TYPE_CHECKING:
    from tests.aws.conftest import PostgresDataApi

ACCOUNT = "123456789012"
REGION = "eu-central-1"
STARTS_AFTER, RUNS_FOR = 10.0, 6.0
"""Seconds until a task runs, and until what it does is done."""


def refusal(code: str, message: str = "because") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Operation")


@dataclass
class QueuedMessage:
    id: str
    body: str
    visible_at: float
    receives: int = 0


@dataclass
class RunningTask:
    arn: str
    environment: dict[str, str]
    started_by: str
    created: float
    started: float | None = None
    status: str = "PROVISIONING"
    exit_code: int | None = None
    stop_code: str | None = None
    reason: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        variables = [{"name": name, "value": value} for name, value in self.environment.items()]
        return {
            "taskArn": self.arn,
            "clusterArn": "cluster",
            "lastStatus": self.status,
            "startedBy": self.started_by,
            "stopCode": self.stop_code,
            "stoppedReason": self.reason,
            "containers": [{"name": "etl"} | ({} if self.exit_code is None else {"exitCode": self.exit_code})],
            "createdAt": datetime.fromtimestamp(self.created, UTC),
            **({} if self.started is None else {"startedAt": datetime.fromtimestamp(self.started, UTC)}),
            "overrides": {"containerOverrides": [{"name": "etl", "environment": variables}]},
        }


class Double:
    """A service: its operations are methods, its listings one page."""

    def get_paginator(self, operation: str) -> Any:
        double = self

        class Pages:
            def paginate(self, **arguments: Any) -> Iterator[dict[str, Any]]:
                yield getattr(double, operation)(**arguments)

        return Pages()


@dataclass
class Context:
    def get_remaining_time_in_millis(self) -> int:
        return 60_000


@dataclass
class Fate:
    """What becomes of the next tasks, instead of running."""

    stop_code: str
    exit_code: int | None = None
    reason: str | None = None


@dataclass
class Account:
    """One deployed stage and everything that happens in it.

    Attributes:
        database: the Data API, on a real database.
        etl_dsn: how a task connects to the same database.
        dispatcher: the module of the Lambda.
        s3: moto's client.
        lose_events: S3 tells nobody of what is put meanwhile.
        dispatching: the queue is read.
        fates: of the next tasks that would run, in order; None: it runs.
        no_room: RunTask's ``failures``.
        trouble: raised by the next call of ``service.operation``.
        services: doubles of a test's own, by service.
    """

    settings: StageSettings
    database: PostgresDataApi
    etl_dsn: str
    dispatcher: ModuleType
    s3: Any
    etl_environment: dict[str, str] = field(default_factory=dict)
    lose_events: bool = False
    dispatching: bool = True
    fates: list[Fate | None] = field(default_factory=list)
    no_room: str | None = None
    trouble: dict[str, ClientError] = field(default_factory=dict)
    services: dict[str, Any] = field(default_factory=dict)
    skew: float = 0.0
    queues: dict[str, list[QueuedMessage]] = field(default_factory=dict)
    tasks: list[RunningTask] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    _seen: set[tuple[str, str]] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.queues = {self.outputs["QueueUrl"]: [], self.outputs["DeadQueueUrl"]: []}

    # -- time ----------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """What messages and log lines are stamped with; never behind the machine's own time."""
        return time.time() + self.skew

    def clock(self) -> float:
        """Seconds slept so far, without what a slow machine takes: the order of things is the same there."""
        return self.skew

    def sleep(self, seconds: float) -> None:
        self.skew += seconds
        self._tell_of_puts()
        if self.dispatching:
            self._dispatch()
        for task in [task for task in self.tasks if task.status != "STOPPED"]:
            self._advance(task)

    def pass_time(self, seconds: float, step: float = 5.0) -> None:
        """Let so much time pass, in steps."""
        end = self.clock() + seconds
        while self.clock() < end:
            self.sleep(step)

    # -- what the stack says of itself ---------------------------------------------------------------------------------

    @property
    def outputs(self) -> dict[str, str]:
        names = self.settings.names
        return {
            "RawBucket": names.raw_bucket,
            "ArtifactBucket": names.artifact_bucket,
            "ClusterName": names.cluster,
            "TaskFamily": names.family,
            "TaskDefinitionArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{names.family}:1",
            "Subnets": "subnet-a,subnet-b",
            "SecurityGroup": "sg-task",
            "AssignPublicIp": "ENABLED",
            "CapacityProvider": "FARGATE",
            "QueueUrl": f"https://sqs/{names.queue}",
            "DeadQueueUrl": f"https://sqs/{names.dead_queue}",
            "EventSourceMapping": "0" * 36,
            "DatabaseArn": f"arn:aws:rds:{REGION}:{ACCOUNT}:cluster:{names.database}",
            "DatabaseIdentifier": names.database,
            "DatabaseName": "lake",
            "MasterSecretArn": "master",
            "ReaderSecretArn": "reader",
            "TaskLogGroup": names.task_log,
            "DispatchLogGroup": names.dispatch_log,
        }

    def client(self, service: str) -> Any:
        made = {
            "s3": lambda: self.s3,
            "sqs": lambda: Sqs(self),
            "ecs": lambda: Ecs(self),
            "logs": lambda: LogStore(self),
            "rds-data": lambda: self.database,
        }
        return Watched(self, service, lambda: self.services.get(service) or made.get(service, lambda: Rest(self))())

    # -- what happens --------------------------------------------------------------------------------------------------

    def _tell_of_puts(self) -> None:
        bucket = self.outputs["RawBucket"]
        listed = self.s3.list_object_versions(Bucket=bucket, Prefix="raw/").get("Versions", [])
        for item in reversed(listed):
            name = (item["Key"], item["VersionId"])
            if name in self._seen:
                continue
            self._seen.add(name)
            if not self.lose_events:
                self.notify(*name, size=item["Size"])

    def notify(self, key: str, version: str, *, size: int = 1, times: int = 1, sequencer: str | None = None) -> None:
        """The event of a put."""
        thing = {
            "key": urllib.parse.quote_plus(key),
            "versionId": version,
            "size": size,
            "eTag": "e",
            "sequencer": sequencer or f"{next(self._numbers):016X}",
        }
        record = {
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": self.outputs["RawBucket"]}, "object": thing},
        }
        for _ in range(times):
            self.send(self.outputs["QueueUrl"], {"Records": [record]})

    def send(self, url: str, body: object, delay: float = 0.0) -> None:
        text = body if isinstance(body, str) else json.dumps(body, default=str)
        self.queues[url].append(QueuedMessage(f"m{next(self._numbers)}", text, self.now() + delay))

    def receive(self, url: str, count: int, hide: float) -> list[QueuedMessage]:
        found = [message for message in self.queues[url] if message.visible_at <= self.now()][:count]
        for message in found:
            message.visible_at = self.now() + hide
            message.receives += 1
        return found

    def _dispatch(self) -> None:
        url = self.outputs["QueueUrl"]
        messages = self.receive(url, 500, 360)
        if not messages:
            return
        records = [
            {
                "eventSource": "aws:sqs",
                "messageId": message.id,
                "receiptHandle": message.id,
                "body": message.body,
                "attributes": {"ApproximateReceiveCount": str(message.receives)},
            }
            for message in messages
        ]
        with self._heard(self.outputs["DispatchLogGroup"], "2026/11/20/[$LATEST]1"):
            answer = self.dispatcher.handler({"Records": records}, Context())
        failed = {item["itemIdentifier"] for item in answer["batchItemFailures"]}
        done = {message.id for message in messages} - failed
        self.queues[url] = [message for message in self.queues[url] if message.id not in done]

    def _advance(self, task: RunningTask) -> None:
        age = self.clock() - task.created
        if task.status == "PROVISIONING" and age >= STARTS_AFTER:
            fate = self.fates.pop(0) if self.fates else None
            if fate is not None:
                self._stop(task, fate)
                return
            task.status, task.started = "RUNNING", self.clock()
        if task.status == "RUNNING" and age >= STARTS_AFTER + RUNS_FOR:
            self._stop(task, Fate("EssentialContainerExited", self._run(task)))

    def _run(self, task: RunningTask) -> int:
        environment = {
            "LAKE_NAME": "flights",
            "LAKE_STAGE": "dev",
            "LAKE_BUCKET": self.outputs["RawBucket"],
            "LAKE_DB_AUTH": "password",
            "LAKE_WAREHOUSE": self.etl_dsn,
            "AWS_REGION": REGION,
            **self.etl_environment,
            **task.environment,
        }
        with self._heard(self.outputs["TaskLogGroup"], f"etl/etl/{task.arn.rpartition('/')[2]}"):
            return run_etl(environment)

    def _stop(self, task: RunningTask, fate: Fate) -> None:
        task.status, task.stop_code, task.exit_code = "STOPPED", fate.stop_code, fate.exit_code
        task.reason = fate.reason or "Essential container in task exited"
        self.send(self.outputs["QueueUrl"], {"detail-type": "ECS Task State Change", "detail": task.facts})

    @contextlib.contextmanager
    def _heard(self, group: str, stream: str) -> Iterator[None]:
        """What is printed meanwhile, as lines of a log."""
        text = io.StringIO()
        try:
            with contextlib.redirect_stdout(text):
                yield
        finally:
            for line in text.getvalue().splitlines():
                at = int(self.now() * 1000)
                known = {"logGroupName": group, "logStreamName": stream, "timestamp": at, "message": line}
                self.lines.append({**known, "eventId": str(next(self._numbers))})

    def said(self, group: str) -> list[dict[str, Any]]:
        """The structured lines of a log group."""
        texts = [line["message"] for line in self.lines if line["logGroupName"] == self.outputs[group]]
        return [json.loads(text) for text in texts if text.startswith("{")]


class Watched:
    """A client that fails where it shall."""

    def __init__(self, account: Account, service: str, client: Callable[[], Any]) -> None:
        self._account = account
        self._service = service
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client(), name)
        if not callable(found):
            return found

        def call(*args: Any, **arguments: Any) -> Any:
            wanted = args[0] if name == "get_paginator" else name
            self._account.calls.append(f"{self._service}.{wanted}")
            error = self._account.trouble.pop(f"{self._service}.{wanted}", None)
            if error is not None:
                raise error
            return found(*args, **arguments)

        return call


class Sqs(Double):
    def __init__(self, account: Account) -> None:
        self._account = account

    def get_queue_attributes(self, *, QueueUrl: str, **_: Any) -> dict[str, Any]:
        messages, now = self._account.queues[QueueUrl], self._account.now()
        waiting = sum(message.visible_at <= now for message in messages)
        delayed = sum(message.visible_at > now and not message.receives for message in messages)
        counts = {"": waiting, "NotVisible": len(messages) - waiting - delayed, "Delayed": delayed}
        return {"Attributes": {f"ApproximateNumberOfMessages{name}": str(count) for name, count in counts.items()}}

    def send_message(self, *, QueueUrl: str, MessageBody: str, DelaySeconds: int = 0) -> dict[str, Any]:
        self._account.send(QueueUrl, MessageBody, DelaySeconds)
        return {"MessageId": "sent"}

    def receive_message(self, *, QueueUrl: str, MaxNumberOfMessages: int, VisibilityTimeout: int, **_: Any) -> Any:
        found = self._account.receive(QueueUrl, MaxNumberOfMessages, VisibilityTimeout)
        return {
            "Messages": [
                {
                    "MessageId": message.id,
                    "ReceiptHandle": message.id,
                    "Body": message.body,
                    "Attributes": {"ApproximateReceiveCount": str(message.receives)},
                }
                for message in found
            ]
        }

    def change_message_visibility(self, *, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int) -> None:
        for message in self._account.queues[QueueUrl]:
            if message.id == ReceiptHandle:
                message.visible_at = self._account.now() + VisibilityTimeout

    def change_message_visibility_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        for entry in Entries:
            self.change_message_visibility(
                QueueUrl=QueueUrl, ReceiptHandle=entry["ReceiptHandle"], VisibilityTimeout=entry["VisibilityTimeout"]
            )
        return {}

    def delete_message(self, *, QueueUrl: str, ReceiptHandle: str) -> dict[str, Any]:
        messages = self._account.queues[QueueUrl]
        messages[:] = [message for message in messages if message.id != ReceiptHandle]
        return {}


class Ecs(Double):
    def __init__(self, account: Account) -> None:
        self._account = account

    def run_task(self, *, clientToken: str, overrides: dict[str, Any], startedBy: str, **_: Any) -> dict[str, Any]:
        account = self._account
        if account.no_room is not None:
            return {"tasks": [], "failures": [{"reason": account.no_room}]}
        arn = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/lake/{hashlib.sha256(clientToken.encode()).hexdigest()[:32]}"
        known = next((task for task in account.tasks if task.arn == arn), None)
        if known is None:
            (container,) = overrides["containerOverrides"]
            environment = {item["name"]: item["value"] for item in container["environment"]}
            known = RunningTask(arn, environment, startedBy, account.clock())
            account.tasks.append(known)
        return {"tasks": [known.facts], "failures": []}

    def list_tasks(self, *, desiredStatus: str = "RUNNING", **_: Any) -> dict[str, Any]:
        stopped = desiredStatus == "STOPPED"
        return {"taskArns": [task.arn for task in self._account.tasks if (task.status == "STOPPED") is stopped]}

    def list_task_definitions(self, **_: Any) -> dict[str, Any]:
        return {"taskDefinitionArns": []}

    def describe_tasks(self, *, tasks: list[str], **_: Any) -> dict[str, Any]:
        return {"tasks": [task.facts for task in self._account.tasks if task.arn in tasks]}


class LogStore(Double):
    def __init__(self, account: Account) -> None:
        self._account = account

    def filter_log_events(
        self,
        *,
        logGroupName: str,
        startTime: int,
        logStreamNamePrefix: str = "",
        filterPattern: str | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        text = json.loads(filterPattern) if filterPattern else ""
        return {
            "events": [
                line
                for line in self._account.lines
                if line["logGroupName"] == logGroupName
                and line["timestamp"] >= startTime
                and line["logStreamName"].startswith(logStreamNamePrefix)
                and text in line["message"]
            ]
        }

    def describe_log_groups(self, **_: Any) -> dict[str, Any]:
        return {"logGroups": []}


class Rest(Double):
    """What only tells of itself."""

    def get_authorization_token(self) -> dict[str, Any]:
        token = base64.b64encode(b"AWS:planted-registry-word").decode()
        return {"authorizationData": [{"authorizationToken": token, "proxyEndpoint": "https://registry"}]}

    def __init__(self, account: Account) -> None:
        self._account = account

    def describe_stacks(self, *, StackName: str) -> dict[str, Any]:
        outputs = [{"OutputKey": key, "OutputValue": value} for key, value in self._account.outputs.items()]
        stack = {
            "StackName": StackName,
            "StackId": f"arn:stack/{StackName}",
            "StackStatus": "UPDATE_COMPLETE",
            "CreationTime": datetime.now(UTC),
            "Outputs": outputs,
            "Parameters": [{"ParameterKey": "ImageUri", "ParameterValue": f"repo@sha256:{'a' * 64}"}],
        }
        return {"Stacks": [stack]}

    def describe_db_clusters(self, *, DBClusterIdentifier: str) -> dict[str, Any]:
        cluster = {
            "DBClusterIdentifier": DBClusterIdentifier,
            "DBClusterArn": self._account.outputs["DatabaseArn"],
            "Status": "available",
            "EngineVersion": "17.9",
            "ServerlessV2ScalingConfiguration": {"MinCapacity": 0.0, "MaxCapacity": 4.0},
        }
        return {"DBClusters": [cluster]}

    def describe_db_cluster_snapshots(self, **_: Any) -> dict[str, Any]:
        return {"DBClusterSnapshots": []}

    def modify_db_cluster(self, **_: Any) -> dict[str, Any]:
        return {}

    def get_secret_value(self, **_: Any) -> dict[str, Any]:
        return {"SecretString": json.dumps({"username": "lake_reader", "password": "planted-reader-word"})}

    def get_resources(self, **_: Any) -> dict[str, Any]:
        return {"ResourceTagMappingList": []}

    def update_event_source_mapping(self, *, Enabled: bool, **_: Any) -> dict[str, Any]:
        self._account.dispatching = Enabled
        return {"State": "Enabled" if Enabled else "Disabled"}

    def get_event_source_mapping(self, **_: Any) -> dict[str, Any]:
        return {"State": "Enabled" if self._account.dispatching else "Disabled"}

    def get_service_quota(self, **_: Any) -> dict[str, Any]:
        return {"Quota": {"Value": 6.0}}
