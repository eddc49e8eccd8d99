"""Least privilege: the roles of the template suffice (every other test here runs under them), and nothing can be taken.

Each action of each role is taken away by itself, and the smallest flow that needs it must be refused by its name. The
actions are those of the rendered template: a new one without a flow fails here.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import itertools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lakectl.deploy import diff, render
from tests.e2e.conftest import TRIPS, WINDOW, Stage, until

ROLES = {"dispatcher": "DispatcherRole", "task": "TaskRole", "execution": "ExecutionRole"}
KEY = "raw/rights/rights.csv"
Flow = Callable[[Stage], str]
_numbers = itertools.count()


def templates_actions() -> list[tuple[str, str, str]]:
    """Role, statement and action of every permission in the rendered template."""
    settings = render.parse_stage("harbour", "dev", {"region": "us-east-1"})
    resources = diff.load(render.render(settings).pipeline)["Resources"]
    return [
        (role, statement["Sid"], action)
        for role, name in ROLES.items()
        for policy in resources[name]["Properties"]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
        for action in _listed(statement["Action"])
    ]


def _listed(actions: str | list[str]) -> list[str]:
    return [actions] if isinstance(actions, str) else actions


@contextlib.contextmanager
def without(stage: Stage, role: str, sid: str, action: str) -> Iterator[None]:
    """The deployed role, short of one action."""
    iam = stage.client("iam")
    resources = stage.client("cloudformation").describe_stack_resource
    told = resources(StackName=stage.stack, LogicalResourceId=ROLES[role])["StackResourceDetail"]
    name = {"RoleName": told["PhysicalResourceId"]}
    (policy,) = iam.list_role_policies(**name)["PolicyNames"]
    whole = iam.get_role_policy(**name, PolicyName=policy)["PolicyDocument"]
    short = copy.deepcopy(whole)
    for statement in short["Statement"]:
        if statement["Sid"] == sid:
            statement["Action"] = [it for it in _listed(statement["Action"]) if it != action]
    short["Statement"] = [statement for statement in short["Statement"] if statement["Action"]]
    iam.put_role_policy(**name, PolicyName=policy, PolicyDocument=json.dumps(short))
    try:
        yield
    finally:
        iam.put_role_policy(**name, PolicyName=policy, PolicyDocument=json.dumps(whole))


# -- flows of the dispatcher -------------------------------------------------------------------------------------------


def invoke(stage: Stage, body: object) -> str:
    """Call the dispatcher with one message; what it answered, logged and raised."""
    record = {
        "messageId": "m0",
        "receiptHandle": "none",
        "body": body if isinstance(body, str) else json.dumps(body),
        "attributes": {"ApproximateReceiveCount": "1"},
        "eventSource": "aws:sqs",
    }
    client = stage.client("lambda")
    name = stage.outputs["DispatchFunction"]
    answer = client.invoke(FunctionName=name, Payload=json.dumps({"Records": [record]}), LogType="Tail")
    return answer["Payload"].read().decode() + "\n" + base64.b64decode(answer.get("LogResult", "")).decode()


def arrived(stage: Stage, *keys: str, version: str | None = None) -> dict[str, Any]:
    """A notification; its sequencer is new each time, so that it is a task of its own."""
    bucket, sequencer = stage.outputs["RawBucket"], f"{time.time_ns():x}{next(_numbers)}"
    entities = [{"key": key, "size": 10, "versionId": version, "sequencer": sequencer} for key in keys]
    record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}
    return {"Records": [{**record, "s3": {"bucket": {"name": bucket}, "object": entity}} for entity in entities]}


def stopped(stage: Stage, *, cluster: str | None = None, **more: object) -> dict[str, Any]:
    """A stopped task, as EventBridge tells."""
    arn = cluster or stage.outputs["ClusterArn"]
    task = f"{arn.replace(':cluster/', ':task/')}/{next(_numbers):032x}"
    container = {"name": "etl", "exitCode": 7}
    detail = {"taskArn": task, "clusterArn": arn, "startedBy": "lake/x", "containers": [container], **more}
    return {"detail-type": "ECS Task State Change", "detail": detail}


def one_task(stage: Stage) -> str:
    return invoke(stage, arrived(stage, "raw/rights/nothing.csv"))


def many_objects(stage: Stage) -> str:
    return invoke(stage, arrived(stage, *(f"raw/rights/{'long' * 30}/{number}.csv" for number in range(100))))


def a_manifest(stage: Stage) -> str:
    address = f"s3://{stage.outputs['ArtifactBucket']}/manifests/{'0' * 64}.json"
    return invoke(stage, {"lake_work": {"manifest": address, "attempt": 1, "trace": "t"}})


def a_stopped_task_without_overrides(stage: Stage) -> str:
    return invoke(stage, stopped(stage))


def a_failed_task(stage: Stage) -> str:
    objects = json.dumps([{"key": "raw/rights/nothing.csv", "version": None, "sequencer": "1", "size": 1}])
    environment = [{"name": "LAKE_OBJECTS", "value": objects}, {"name": "LAKE_ATTEMPT", "value": "1"}]
    return invoke(
        stage, stopped(stage, overrides={"containerOverrides": [{"name": "etl", "environment": environment}]})
    )


def a_message_given_back(stage: Stage) -> str:
    nowhere = stage.outputs["ClusterArn"] + "-nowhere"
    return invoke(stage, stopped(stage, cluster=nowhere))


def a_strange_message(stage: Stage) -> str:
    return invoke(stage, "rubbish")


def reading(stage: Stage) -> str:
    """How the dispatcher's last look at its queue went."""
    mapping = stage.client("lambda").get_event_source_mapping(UUID=stage.outputs["EventSourceMapping"])
    return str(mapping.get("LastProcessingResult"))


def a_waiting_message(stage: Stage) -> str:
    """What the mapping says when there is something to read."""
    nothing = json.dumps({"Event": "s3:TestEvent"})
    stage.client("sqs").send_message(QueueUrl=stage.outputs["QueueUrl"], MessageBody=nothing)

    until(lambda: reading(stage).startswith("PROBLEM"), patience=20)
    return reading(stage)


def a_silent_log(stage: Stage) -> str:
    """The names of both rights where a call leaves no line in the log, else nothing."""
    logs, group = stage.client("logs"), stage.outputs["DispatchLogGroup"]
    mark = f"mark-{next(_numbers)}"
    invoke(stage, {"detail-type": "ECS Task State Change", "detail": {"taskArn": mark, "startedBy": "someone"}})
    lines = logs.filter_log_events(logGroupName=group)["events"]
    return "" if any(mark in line["message"] for line in lines) else "logs:CreateLogStream logs:PutLogEvents"


# -- flows of the task -------------------------------------------------------------------------------------------------


def a_load(stage: Stage) -> str:
    """One object by its version, through a task; why the task stopped, and what it logged."""
    said = invoke(stage, arrived(stage, KEY, version=_version(stage)))
    return said + _ended(stage, said)


def an_ordered_load(stage: Stage) -> str:
    """The same by a work order of ``run``, without a sequencer: which version is newest, the task asks the bucket."""
    wanted = {"key": KEY, "version": _version(stage), "sequencer": None, "size": None, "etag": None}
    said = invoke(
        stage, {"lake_work": {"objects": [wanted], "attempt": 1, "trace": f"{time.time_ns():x}", "again": True}}
    )
    return said + _ended(stage, said)


def _version(stage: Stage) -> str:
    return str(stage.client("s3").head_object(Bucket=stage.outputs["RawBucket"], Key=KEY)["VersionId"])


def _ended(stage: Stage, said: str) -> str:
    facts = [json.loads(line) for line in said.splitlines() if line.startswith('{"event": "dispatched"')]
    assert facts, said
    arn, ecs = facts[0]["task"], stage.client("ecs")

    def stopped_task() -> Any:
        (task,) = ecs.describe_tasks(cluster=stage.outputs["ClusterName"], tasks=[arn])["tasks"]
        return task if task["lastStatus"] == "STOPPED" else None

    task = until(stopped_task)
    group, stream = stage.outputs["TaskLogGroup"], f"etl/etl/{arn.rpartition('/')[2]}"
    logs = stage.client("logs")
    try:
        lines = logs.filter_log_events(logGroupName=group, logStreamNames=[stream])["events"]
    except logs.exceptions.ResourceNotFoundException:
        lines = []
    return str(task.get("stoppedReason")) + "\n".join(line["message"] for line in lines)


FLOWS: dict[tuple[str, str, str], Flow] = {
    ("dispatcher", "Log", "logs:CreateLogStream"): a_silent_log,
    ("dispatcher", "Log", "logs:PutLogEvents"): a_silent_log,
    ("dispatcher", "WorkTheQueue", "sqs:ChangeMessageVisibility"): a_message_given_back,
    ("dispatcher", "WorkTheQueue", "sqs:DeleteMessage"): a_waiting_message,
    ("dispatcher", "WorkTheQueue", "sqs:GetQueueAttributes"): a_waiting_message,
    ("dispatcher", "WorkTheQueue", "sqs:ReceiveMessage"): a_waiting_message,
    ("dispatcher", "WorkTheQueue", "sqs:SendMessage"): a_failed_task,
    ("dispatcher", "Park", "sqs:SendMessage"): a_strange_message,
    ("dispatcher", "LongListsOfObjects", "s3:GetObject"): a_manifest,
    ("dispatcher", "LongListsOfObjects", "s3:PutObject"): many_objects,
    ("dispatcher", "RunOurTask", "ecs:RunTask"): one_task,
    ("dispatcher", "TagWhatWeRun", "ecs:TagResource"): one_task,
    ("dispatcher", "CountTasks", "ecs:ListTasks"): one_task,
    ("dispatcher", "SeeTasks", "ecs:DescribeTasks"): a_stopped_task_without_overrides,
    ("dispatcher", "HandRolesToTasks", "iam:PassRole"): one_task,
    ("task", "ReadRaw", "s3:GetObject"): an_ordered_load,
    ("task", "ReadRaw", "s3:GetObjectVersion"): a_load,
    ("task", "ReadBundleAndManifest", "s3:GetObject"): a_load,
    ("task", "LogInToTheDatabase", "rds-db:connect"): a_load,
    ("execution", "RegistryLogin", "ecr:GetAuthorizationToken"): a_load,
    ("execution", "Pull", "ecr:BatchCheckLayerAvailability"): a_load,
    ("execution", "Pull", "ecr:BatchGetImage"): a_load,
    ("execution", "Pull", "ecr:GetDownloadUrlForLayer"): a_load,
    ("execution", "Log", "logs:CreateLogStream"): a_load,
    ("execution", "Log", "logs:PutLogEvents"): a_load,
}


def test_every_action_of_the_template_has_a_flow_that_needs_it() -> None:
    assert set(templates_actions()) == set(FLOWS)


@pytest.fixture(scope="module")
def laden(stage: Stage) -> Iterator[Stage]:
    """The stage with one object, loaded once with all rights; at the end, nothing of these tests is on its way."""
    stage.run("upload", stage.file("rights.csv", TRIPS))
    yield stage
    until(lambda: not [task for task in stage.tasks() if task["lastStatus"] != "STOPPED"])
    time.sleep(2 * WINDOW + 1)  # the last task's end is told and dealt with
    for queue in ("QueueUrl", "DeadQueueUrl"):
        stage.client("sqs").purge_queue(QueueUrl=stage.outputs[queue])


@pytest.mark.parametrize(("role", "sid", "action"), list(FLOWS), ids=lambda part: part.replace(":", "-"))
def test_without_one_action_its_flow_is_refused(laden: Stage, role: str, sid: str, action: str) -> None:
    until(lambda: not reading(laden).startswith("PROBLEM"))
    with without(laden, role, sid, action):
        said = FLOWS[role, sid, action](laden)
    print("\n" + said[-1500:])
    assert SIGN.get((role, action), action) in said


SIGN = {
    ("task", "rds-db:connect"): "authentication failed",
    ("task", "s3:GetObjectVersion"): "these credentials may not read it",
    ("task", "s3:GetObject"): "may not read it",
}
"""What is said where the refusal does not name the action: PostgreSQL's own words, and a HEAD has no body."""
