"""The dispatcher: what arrives becomes tasks, nothing is lost, nothing runs twice. AWS is stubbed call by call."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber

CLUSTER = "arn:aws:ecs:eu-west-1:123456789012:cluster/lake-flights-dev"
DEFINITION = "arn:aws:ecs:eu-west-1:123456789012:task-definition/lake-flights-dev-etl:7"
TASK = "arn:aws:ecs:eu-west-1:123456789012:task/lake-flights-dev/0123456789abcdef0123456789abcdef"
QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/lake-flights-dev-events"
PARKED = "https://sqs.eu-west-1.amazonaws.com/123456789012/lake-flights-dev-parked"
BUCKET = "lake-flights-dev-raw-123456789012-eu-west-1"
ARTIFACTS = "lake-flights-dev-artifacts-123456789012-eu-west-1"

ENVIRONMENT = {
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "CLUSTER": CLUSTER,
    "TASK_DEFINITION": DEFINITION,
    "FAMILY": "lake-flights-dev-etl",
    "CONTAINER": "etl",
    "SUBNETS": "subnet-a,subnet-b",
    "SECURITY_GROUP": "sg-task",
    "PUBLIC_IP": "ENABLED",
    "CAPACITY": "FARGATE",
    "MAX_TASKS": "4",
    "QUEUE_URL": QUEUE,
    "PARKED_URL": PARKED,
    "BUCKET": BUCKET,
    "ARTIFACT_BUCKET": ARTIFACTS,
    "ACCOUNT": "123456789012",
}


class Context:
    """Lambda's context, as far as the dispatcher looks."""

    def __init__(self, milliseconds: int = 60_000) -> None:
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


class Account:
    """The three services, each answering the calls that a test expects, in their order."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.stubs = {name: Stubber(getattr(module, name)) for name in ("ecs", "sqs", "s3")}
        self.started: list[dict[str, Any]] = []
        self.sent: list[tuple[str, dict[str, Any], int | None]] = []
        self.hidden: list[dict[str, Any]] = []
        self._hooks: list[tuple[Any, Any]] = []
        for service, operation, keep in (
            ("ecs", "RunTask", self.started.append),
            ("sqs", "SendMessage", self._keep_message),
            ("sqs", "ChangeMessageVisibilityBatch", lambda params: self.hidden.extend(params["Entries"])),
        ):
            events = getattr(module, service).meta.events
            hook = self._hook(keep)
            events.register_first(f"provide-client-params.{service}.{operation}", hook)
            self._hooks.append((events, (f"provide-client-params.{service}.{operation}", hook)))
        for stub in self.stubs.values():
            stub.activate()

    @staticmethod
    def _hook(keep: Any) -> Any:
        def hook(params: dict[str, Any], **_: Any) -> None:
            keep(params)

        return hook

    def _keep_message(self, params: dict[str, Any]) -> None:
        body = params["MessageBody"]
        with contextlib.suppress(ValueError):
            body = json.loads(body)
        self.sent.append((params["QueueUrl"], body, params.get("DelaySeconds")))

    def close(self) -> None:
        for stub in self.stubs.values():
            stub.deactivate()
        for events, (name, hook) in self._hooks:
            events.unregister(name, hook)

    def done(self) -> None:
        for stub in self.stubs.values():
            stub.assert_no_pending_responses()

    # -- what is expected ----------------------------------------------------------------------------------------------

    def tasks_running(self, count: int = 0) -> None:
        arns = [f"{TASK[:-2]}{n:02d}" for n in range(count)]
        self.stubs["ecs"].add_response(
            "list_tasks",
            {"taskArns": arns},
            {"cluster": CLUSTER, "family": "lake-flights-dev-etl", "desiredStatus": "RUNNING"},
        )

    def task_starts(self, count: int = 1) -> None:
        for _ in range(count):
            self.stubs["ecs"].add_response("run_task", {"tasks": [{"taskArn": TASK}], "failures": []})

    def task_fails(self, reason: str) -> None:
        self.stubs["ecs"].add_response("run_task", {"tasks": [], "failures": [{"reason": reason}]})

    def refuses(self, operation: str, code: str, service: str = "ecs") -> None:
        self.stubs[service].add_client_error(operation, code, "no", 400)

    def takes_messages(self, count: int = 1) -> None:
        for _ in range(count):
            self.stubs["sqs"].add_response("send_message", {"MessageId": "sent"})

    def hides(self, batches: int = 1) -> None:
        for _ in range(batches):
            self.stubs["sqs"].add_response("change_message_visibility_batch", {"Successful": [], "Failed": []})

    def environment(self, number: int = 0) -> dict[str, str]:
        (container,) = self.started[number]["overrides"]["containerOverrides"]
        return {variable["name"]: variable["value"] for variable in container["environment"]}

    def objects(self, number: int = 0) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(self.environment(number)["LAKE_OBJECTS"])
        return listed


@pytest.fixture(scope="module")
def dispatcher() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.delenv("AWS_PROFILE", raising=False)
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        yield importlib.import_module("infra_templates.trigger.handler")


@pytest.fixture
def account(dispatcher: ModuleType) -> Iterator[Account]:
    account = Account(dispatcher)
    try:
        yield account
        account.done()
    finally:
        account.close()


def put(key: str, *, size: int = 10, version: str | None = "v1", sequencer: str = "0A", **other: Any) -> dict[str, Any]:
    """One record of a notification, as S3 writes it: the key encoded as in a form."""
    thing = {"key": key, "size": size, "eTag": "etag", "sequencer": sequencer}
    if version:
        thing["versionId"] = version
    record = {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": BUCKET}, "object": thing},
    }
    return {**record, **other}


def notification(*records: dict[str, Any]) -> dict[str, Any]:
    return {"Records": list(records)}


def queued(*bodies: Any, receives: int = 1) -> dict[str, Any]:
    """The event of a queue: one message for each body."""
    return {
        "Records": [
            {
                "messageId": f"m{n}",
                "receiptHandle": f"r{n}",
                "eventSource": "aws:sqs",
                "attributes": {"ApproximateReceiveCount": str(receives)},
                "body": body if isinstance(body, str) else json.dumps(body),
            }
            for n, body in enumerate(bodies)
        ]
    }


def given_back(answer: dict[str, Any]) -> list[str]:
    return [item["itemIdentifier"] for item in answer["batchItemFailures"]]


def thing(key: str, version: str = "v1") -> dict[str, Any]:
    return {"key": key, "version": version, "sequencer": "0A", "size": 10, "etag": "etag"}


def stop(
    code: int | None,
    *,
    objects: list[dict[str, Any]] | None = None,
    attempt: int = 1,
    why: str = "EssentialContainerExited",
    **other: Any,
) -> dict[str, Any]:
    """A stopped task, as EventBridge tells it."""
    container: dict[str, Any] = {"name": "etl"}
    if code is not None:
        container["exitCode"] = code
    listed = [thing("raw/a/1.csv")] if objects is None else objects
    environment = [
        {"name": "LAKE_OBJECTS", "value": json.dumps(listed)},
        {"name": "LAKE_ATTEMPT", "value": str(attempt)},
        {"name": "LAKE_TRACE", "value": "f" * 32},
    ]
    detail = {
        "clusterArn": CLUSTER,
        "taskArn": TASK,
        "lastStatus": "STOPPED",
        "stopCode": why,
        "stoppedReason": "Essential container in task exited",
        "startedBy": f"lake/{'f' * 32}",
        "containers": [container],
        "overrides": {"containerOverrides": [{"name": "etl", "environment": environment}]},
    }
    return {"detail-type": "ECS Task State Change", "source": "aws.ecs", "detail": {**detail, **other}}


# -- what arrives ------------------------------------------------------------------------------------------------------


def test_an_arrived_object_becomes_a_task(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(0)
    account.task_starts()
    answer = dispatcher.handler(queued(notification(put("raw/trips/1.csv"))), Context())
    assert given_back(answer) == []
    assert account.objects() == [thing("raw/trips/1.csv")]
    assert account.environment()["LAKE_ATTEMPT"] == "1"
    assert len(account.environment()["LAKE_TRACE"]) == 32
    (call,) = account.started
    assert call["cluster"] == CLUSTER
    assert call["taskDefinition"] == DEFINITION
    assert call["networkConfiguration"]["awsvpcConfiguration"] == {
        "subnets": ["subnet-a", "subnet-b"],
        "securityGroups": ["sg-task"],
        "assignPublicIp": "ENABLED",
    }
    assert call["startedBy"] == f"lake/{account.environment()['LAKE_TRACE']}"


def test_s3_may_call_the_function_itself(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(0)
    account.task_starts()
    assert dispatcher.handler(notification(put("raw/trips/1.csv")), Context()) == {}
    assert account.objects() == [thing("raw/trips/1.csv")]


def test_what_s3_could_not_hand_over_is_done_from_the_queue(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(0)
    account.task_starts()
    failed_call = {"requestContext": {"condition": "RetriesExhausted"}, "requestPayload": notification(put("raw/a/1"))}
    assert given_back(dispatcher.handler(queued(failed_call), Context())) == []
    assert account.objects() == [thing("raw/a/1")]


def test_every_record_of_a_notification_is_loaded(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(0)
    account.task_starts()
    dispatcher.handler(queued(notification(put("raw/a/1"), put("raw/a/2"), put("raw/b/3"))), Context())
    assert [found["key"] for found in account.objects()] == ["raw/a/1", "raw/a/2", "raw/b/3"]


@pytest.mark.parametrize(
    ("encoded", "key"),
    [
        ("raw/my+trips/a+b.csv", "raw/my trips/a b.csv"),
        ("raw/trips/1%2B1.csv", "raw/trips/1+1.csv"),
        ("raw/donn%C3%A9es/%E6%97%A5%E6%9C%AC.csv", "raw/données/日本.csv"),
        ("raw/trips/100%25.csv", "raw/trips/100%.csv"),
    ],
)
def test_keys_are_decoded_as_s3_encodes_them(dispatcher: ModuleType, account: Account, encoded: str, key: str) -> None:
    account.tasks_running(0)
    account.task_starts()
    dispatcher.handler(queued(notification(put(encoded))), Context())
    assert [found["key"] for found in account.objects()] == [key]


@pytest.mark.parametrize(
    "nothing",
    [
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": BUCKET},
        notification(put("raw/trips/")),
        notification(put("raw/trips/", size=5)),
        notification(put("raw/trips/empty.csv", size=0)),
        notification(put("raw/trips_$folder$")),
        notification(put("raw/trips/1.csv", eventName="ObjectRemoved:Delete")),
        notification(put("raw/1.csv", s3={"bucket": {"name": "another"}, "object": {"key": "raw/1.csv", "size": 1}})),
        {"Records": []},
    ],
)
def test_what_holds_nothing_to_load_starts_nothing(
    dispatcher: ModuleType, account: Account, nothing: dict[str, Any]
) -> None:
    assert given_back(dispatcher.handler(queued(nothing), Context())) == []
    assert account.started == []


def test_s3s_own_test_event_is_no_work(dispatcher: ModuleType, account: Account) -> None:
    assert dispatcher.handler({"Service": "Amazon S3", "Event": "s3:TestEvent"}, Context()) == {}
    assert account.started == []


def test_an_object_of_an_unversioned_bucket_has_no_version(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(0)
    account.task_starts()
    dispatcher.handler(queued(notification(put("raw/a/1", version=None))), Context())
    assert account.objects()[0]["version"] is None


@pytest.mark.parametrize(
    "body", ["not json", "[1]", '"text"', "7", "{}", '{"lake_work": {"objects": []}}', '{"Records": [1]}']
)
def test_an_unreadable_message_is_parked_as_it_came(dispatcher: ModuleType, account: Account, body: str) -> None:
    account.takes_messages()
    assert given_back(dispatcher.handler(queued(body), Context())) == []
    ((where, message, _),) = account.sent
    assert where == PARKED
    if "lake_work" not in body:
        assert message == (json.loads(body) if body != "not json" else body)


def test_an_unreadable_message_does_not_hold_up_the_others(dispatcher: ModuleType, account: Account) -> None:
    account.takes_messages()
    account.tasks_running(0)
    account.task_starts()
    assert given_back(dispatcher.handler(queued("nonsense", notification(put("raw/a/1"))), Context())) == []
    assert len(account.started) == 1


# -- many small objects, one task --------------------------------------------------------------------------------------


def test_small_objects_that_arrive_together_share_a_task(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(0)
    account.task_starts()
    answer = dispatcher.handler(queued(*(notification(put(f"raw/a/{n:02d}")) for n in range(20))), Context())
    assert given_back(answer) == []
    assert [found["key"] for found in account.objects()] == [f"raw/a/{n:02d}" for n in range(20)]


def test_a_big_object_has_a_task_of_its_own(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(0)
    account.task_starts(2)
    big = notification(put("raw/b/big", size=300 * 1024**2))
    dispatcher.handler(queued(notification(put("raw/a/1")), big, notification(put("raw/c/2"))), Context())
    assert [found["key"] for found in account.objects(0)] == ["raw/a/1", "raw/c/2"]
    assert [found["key"] for found in account.objects(1)] == ["raw/b/big"]


def test_a_task_takes_no_more_bytes_than_it_should(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(0)
    account.task_starts(2)
    dispatcher.handler(queued(*(notification(put(f"raw/a/{n}", size=100 * 1024**2)) for n in range(4))), Context())
    assert [len(account.objects(0)), len(account.objects(1))] == [2, 2]


def test_a_task_takes_no_more_objects_than_it_should(
    dispatcher: ModuleType, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "TASK_OBJECTS", 3)
    account.tasks_running(0)
    account.task_starts(3)
    dispatcher.handler(queued(*(notification(put(f"raw/a/{n}")) for n in range(7))), Context())
    assert [len(account.objects(n)) for n in range(3)] == [3, 3, 1]


def test_an_object_told_twice_at_once_is_in_its_task_once(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(0)
    account.task_starts()
    same = notification(put("raw/a/1"))
    dispatcher.handler(queued(same, same, notification(put("raw/a/1", version="v2", sequencer="0B"))), Context())
    assert [found["version"] for found in account.objects()] == ["v1", "v2"]


def test_versions_of_a_key_stand_in_the_order_of_their_sequencers(dispatcher: ModuleType, account: Account) -> None:
    """A shorter sequencer is padded on the right before they are compared: 0055A is newer than 00558FF."""
    account.tasks_running(0)
    account.task_starts()
    new, old = put("raw/a/1", version="new", sequencer="0055a"), put("raw/a/1", version="old", sequencer="00558FF")
    dispatcher.handler(queued(notification(new), notification(old)), Context())
    assert [found["version"] for found in account.objects()] == ["old", "new"]


def test_a_long_list_of_objects_travels_as_a_manifest(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(0)
    account.task_starts()
    account.stubs["s3"].add_response(
        "put_object",
        {},
        {
            "Bucket": ARTIFACTS,
            "Key": ANY,
            "Body": ANY,
            "ContentType": "application/json",
            "ExpectedBucketOwner": "123456789012",
        },
    )
    dispatcher.handler(queued(*(notification(put(f"raw/a/{n:03d}")) for n in range(200))), Context())
    environment = account.environment()
    assert "LAKE_OBJECTS" not in environment
    assert environment["LAKE_MANIFEST"].startswith(f"s3://{ARTIFACTS}/manifests/")
    assert environment["LAKE_MANIFEST"].endswith(".json")


@pytest.mark.parametrize("count", [40, 50, 55, 60, 80])
def test_the_overrides_never_exceed_what_ecs_takes(dispatcher: ModuleType, account: Account, count: int) -> None:
    account.tasks_running(0)
    account.task_starts()
    account.stubs["s3"].add_response("put_object", {})
    dispatcher.handler(queued(*(notification(put(f"raw/a/{n:03d}-%C3%A9.csv")) for n in range(count))), Context())
    assert len(json.dumps(account.started[0]["overrides"], separators=(",", ":"))) <= 8192
    if "LAKE_OBJECTS" in account.environment():
        account.stubs["s3"].deactivate()
        account.stubs["s3"] = Stubber(dispatcher.s3)


# -- the same event again ----------------------------------------------------------------------------------------------


def test_an_event_delivered_five_times_asks_for_one_task(dispatcher: ModuleType, account: Account) -> None:
    for _ in range(5):
        account.tasks_running(0)
        account.task_starts()
        dispatcher.handler(queued(notification(put("raw/a/1"))), Context())
    assert len({call["clientToken"] for call in account.started}) == 1


def test_the_token_tells_versions_puts_and_attempts_apart(dispatcher: ModuleType, account: Account) -> None:
    order = {"objects": [thing("raw/a/1")], "trace": "t" * 32}
    for body in (
        notification(put("raw/a/1")),
        notification(put("raw/a/1", version="v2")),
        notification(put("raw/a/1", sequencer="0B")),
        notification(put("raw/a/2")),
        {"lake_work": {**order, "attempt": 1}},
        {"lake_work": {**order, "attempt": 2}},
        {"lake_work": {**order, "trace": "u" * 32}},
    ):
        account.tasks_running(0)
        account.task_starts()
        dispatcher.handler(queued(body), Context())
    tokens = [call["clientToken"] for call in account.started]
    assert len(set(tokens)) == 7
    assert all(len(token) <= 64 and token.isascii() for token in tokens)


def test_a_conflicting_token_means_that_the_task_runs_already(
    dispatcher: ModuleType, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.tasks_running(0)
    account.refuses("run_task", "ConflictException")
    assert given_back(dispatcher.handler(queued(notification(put("raw/a/1"))), Context())) == []
    assert "already_started" in capsys.readouterr().out


# -- no room -----------------------------------------------------------------------------------------------------------


def test_no_more_tasks_are_started_than_may_run(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(3)
    account.task_starts(1)
    account.hides()
    big = [notification(put(f"raw/a/{n}", size=300 * 1024**2)) for n in range(3)]
    assert given_back(dispatcher.handler(queued(*big), Context())) == ["m1", "m2"]
    assert [entry["VisibilityTimeout"] for entry in account.hidden] == [15, 15]


def test_tasks_are_counted_over_all_pages(dispatcher: ModuleType, account: Account) -> None:
    account.stubs["ecs"].add_response("list_tasks", {"taskArns": [TASK] * 2, "nextToken": "more"})
    account.stubs["ecs"].add_response("list_tasks", {"taskArns": [TASK] * 2})
    account.hides()
    assert given_back(dispatcher.handler(queued(notification(put("raw/a/1"))), Context())) == ["m0"]


def test_a_message_waits_longer_each_time_but_not_for_ever(dispatcher: ModuleType, account: Account) -> None:
    for receives in (1, 2, 3, 5, 900):
        account.tasks_running(4)
        account.hides()
        dispatcher.handler(queued(notification(put("raw/a/1")), receives=receives), Context())
    assert [entry["VisibilityTimeout"] for entry in account.hidden] == [15, 30, 45, 75, 900]


def test_waiting_is_told_to_the_queue_ten_messages_at_a_time(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(4)
    account.hides(3)
    answer = dispatcher.handler(queued(*(notification(put(f"raw/a/{n:02d}")) for n in range(25))), Context())
    assert len(given_back(answer)) == 25
    assert len(account.hidden) == 25


def test_failures_in_a_200_are_failures(
    dispatcher: ModuleType, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.tasks_running(0)
    account.task_fails("Capacity is unavailable at this time")
    account.hides()
    assert given_back(dispatcher.handler(queued(notification(put("raw/a/1"))), Context())) == ["m0"]
    assert "Capacity is unavailable at this time" in capsys.readouterr().out


def test_after_a_failure_for_want_of_capacity_ecs_is_left_alone(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(0)
    account.task_fails("RESOURCE:FARGATE")
    account.hides()
    big = [notification(put(f"raw/a/{n}", size=300 * 1024**2)) for n in range(3)]
    assert given_back(dispatcher.handler(queued(*big), Context())) == ["m0", "m1", "m2"]


@pytest.mark.parametrize("code", ["ThrottlingException", "ServerException"])
def test_a_throttled_call_gives_the_message_back(dispatcher: ModuleType, account: Account, code: str) -> None:
    account.tasks_running(0)
    account.refuses("run_task", code)
    account.hides()
    assert given_back(dispatcher.handler(queued(notification(put("raw/a/1")), receives=50), Context())) == ["m0"]


def test_throttled_counting_gives_the_message_back(dispatcher: ModuleType, account: Account) -> None:
    account.refuses("list_tasks", "ThrottlingException")
    account.hides()
    assert given_back(dispatcher.handler(queued(notification(put("raw/a/1"))), Context())) == ["m0"]


def test_nothing_is_started_in_the_last_moment(dispatcher: ModuleType, account: Account) -> None:
    assert given_back(dispatcher.handler(queued(notification(put("raw/a/1"))), Context(5_000))) == ["m0"]


def test_a_queue_that_cannot_be_told_to_wait_is_no_failure(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(4)
    account.refuses("change_message_visibility_batch", "ThrottlingException", "sqs")
    assert given_back(dispatcher.handler(queued(notification(put("raw/a/1"))), Context())) == ["m0"]


def test_without_room_s3s_own_call_puts_the_work_on_the_queue(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(4)
    account.takes_messages()
    dispatcher.handler(notification(put("raw/a/1")), Context())
    ((where, body, delay),) = account.sent
    assert (where, delay) == (QUEUE, 30)
    assert body["lake_work"]["objects"] == [thing("raw/a/1")]
    assert body["lake_work"]["attempt"] == 1


def test_work_that_waited_in_the_queue_finds_the_task_of_the_first_call(
    dispatcher: ModuleType, account: Account
) -> None:
    account.tasks_running(4)
    account.takes_messages()
    dispatcher.handler(notification(put("raw/a/1")), Context())
    for event in (queued(account.sent[0][1]), notification(put("raw/a/1"))):
        account.tasks_running(0)
        account.task_starts()
        dispatcher.handler(event, Context())
    assert len({call["clientToken"] for call in account.started}) == 1


# -- AWS refuses -------------------------------------------------------------------------------------------------------


def test_a_refused_message_comes_again(dispatcher: ModuleType, account: Account) -> None:
    """A role that was made a moment ago may be refused for some seconds."""
    account.tasks_running(0)
    account.refuses("run_task", "AccessDeniedException")
    account.hides()
    assert given_back(dispatcher.handler(queued(notification(put("raw/a/1"))), Context())) == ["m0"]


def test_a_message_that_is_refused_again_and_again_is_parked(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(0)
    account.refuses("run_task", "AccessDeniedException")
    account.takes_messages()
    event = notification(put("raw/a/1"))
    assert given_back(dispatcher.handler(queued(event, receives=5), Context())) == []
    assert account.sent == [(PARKED, event, None)]


def test_one_refused_pack_does_not_stop_the_next(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(0)
    account.refuses("run_task", "InvalidParameterException")
    account.task_starts()
    account.hides()
    big = [notification(put(f"raw/a/{n}", size=300 * 1024**2)) for n in range(2)]
    assert given_back(dispatcher.handler(queued(*big), Context())) == ["m0"]


def test_when_s3_called_itself_a_refusal_is_lambdas_to_repeat(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(0)
    account.refuses("run_task", "AccessDeniedException")
    with pytest.raises(Exception, match="AccessDeniedException"):
        dispatcher.handler(notification(put("raw/a/1")), Context())


# -- work orders -------------------------------------------------------------------------------------------------------


def test_a_work_order_is_a_task_as_it_stands(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(0)
    account.task_starts(2)
    order = {"objects": [thing("raw/b/1"), thing("raw/b/2")], "attempt": 2, "trace": "t" * 32, "again": True}
    dispatcher.handler(queued({"lake_work": order}, notification(put("raw/a/1"))), Context())
    assert account.objects(0) == [thing("raw/a/1")]
    assert account.objects(1) == [thing("raw/b/1"), thing("raw/b/2")]
    assert account.environment(1)["LAKE_TRACE"] == "t" * 32
    assert account.environment(1)["LAKE_ATTEMPT"] == "2"
    assert account.environment(1)["LAKE_AGAIN"] == "1"
    assert "LAKE_AGAIN" not in account.environment(0)


def test_a_work_order_may_name_a_manifest(dispatcher: ModuleType, account: Account) -> None:
    account.tasks_running(0)
    account.task_starts()
    content = json.dumps([thing("raw/b/1")]).encode()
    account.stubs["s3"].add_response(
        "get_object",
        {"Body": StreamingBody(io.BytesIO(content), len(content))},
        {"Bucket": ARTIFACTS, "Key": "manifests/x.json", "ExpectedBucketOwner": "123456789012"},
    )
    dispatcher.handler(queued({"lake_work": {"manifest": f"s3://{ARTIFACTS}/manifests/x.json"}}), Context())
    assert account.objects() == [thing("raw/b/1")]


def test_a_manifest_of_another_bucket_is_not_read(dispatcher: ModuleType, account: Account) -> None:
    account.takes_messages()
    dispatcher.handler(queued({"lake_work": {"manifest": "s3://another/manifests/x.json"}}), Context())
    ((where, body, _),) = account.sent
    assert where == PARKED
    assert "no manifest of this lake" in body["cause"]["reason"]


# -- a task stopped ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 6])
def test_loaded_or_rejected_data_is_done(dispatcher: ModuleType, account: Account, code: int) -> None:
    assert given_back(dispatcher.handler(queued(stop(code)), Context())) == []
    assert account.sent == []


@pytest.mark.parametrize("code", [1, 5, 7, 8, 137, None])
def test_what_may_work_next_time_is_tried_again_after_a_minute(
    dispatcher: ModuleType, account: Account, code: int | None
) -> None:
    account.takes_messages()
    dispatcher.handler(queued(stop(code)), Context())
    ((where, body, delay),) = account.sent
    assert (where, delay) == (QUEUE, 60)
    assert body["lake_work"] == {
        "objects": [thing("raw/a/1.csv")],
        "attempt": 2,
        "trace": "f" * 32,
        "again": False,
    }
    assert body["cause"]["exit_code"] == code


def test_a_task_that_never_started_is_tried_again(dispatcher: ModuleType, account: Account) -> None:
    account.takes_messages()
    reason = "CannotPullContainerError: no such image"
    dispatcher.handler(queued(stop(None, why="TaskFailedToStart", stoppedReason=reason, containers=[])), Context())
    ((where, body, _),) = account.sent
    assert where == QUEUE
    assert body["cause"]["reason"] == reason


def test_each_further_attempt_waits_twice_as_long(dispatcher: ModuleType, account: Account) -> None:
    account.takes_messages()
    dispatcher.handler(queued(stop(5, attempt=2)), Context())
    ((_, body, delay),) = account.sent
    assert delay == 120
    assert body["lake_work"]["attempt"] == 3


def test_after_three_attempts_the_work_is_parked(dispatcher: ModuleType, account: Account) -> None:
    account.takes_messages()
    dispatcher.handler(queued(stop(5, attempt=3)), Context())
    ((where, body, _),) = account.sent
    assert where == PARKED
    assert body["cause"] == {
        "task": TASK,
        "exit_code": 5,
        "stop_code": "EssentialContainerExited",
        "reason": "Essential container in task exited",
        "attempts": 3,
    }


def test_every_parked_object_is_told_by_its_key(
    dispatcher: ModuleType, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.takes_messages()
    dispatcher.handler(queued(stop(5, attempt=3)), Context())
    (line,) = [fact for fact in map(json.loads, capsys.readouterr().out.splitlines()) if fact["event"] == "parked"]
    assert (line["key"], line["cause"]["task"]) == ("raw/a/1.csv", TASK)


def test_parked_work_that_is_moved_back_begins_anew(dispatcher: ModuleType, account: Account) -> None:
    """With a trace of its own; under the old one ECS would answer with the task that died."""
    account.takes_messages()
    dispatcher.handler(queued(stop(5, attempt=3)), Context())
    account.tasks_running(0)
    account.task_starts()
    dispatcher.handler(queued(account.sent[0][1]), Context())
    assert account.environment()["LAKE_ATTEMPT"] == "1"
    assert account.environment()["LAKE_TRACE"] != "f" * 32
    assert account.objects() == [thing("raw/a/1.csv")]


@pytest.mark.parametrize("code", [2, 3, 4])
def test_what_would_end_the_same_way_is_parked_at_once(dispatcher: ModuleType, account: Account, code: int) -> None:
    account.takes_messages()
    dispatcher.handler(queued(stop(code)), Context())
    assert account.sent[0][0] == PARKED


def test_a_task_that_somebody_stopped_is_parked(dispatcher: ModuleType, account: Account) -> None:
    account.takes_messages()
    dispatcher.handler(queued(stop(130, why="UserInitiated")), Context())
    assert account.sent[0][0] == PARKED


def test_an_interrupted_spot_task_is_tried_again_as_a_whole(dispatcher: ModuleType, account: Account) -> None:
    account.takes_messages()
    objects = [thing(f"raw/a/{n}") for n in range(20)]
    dispatcher.handler(queued(stop(130, why="SpotInterruption", objects=objects)), Context())
    assert len(account.sent[0][1]["lake_work"]["objects"]) == 20


def test_a_task_that_died_over_its_objects_is_tried_again_in_parts(dispatcher: ModuleType, account: Account) -> None:
    account.takes_messages(7)
    objects = [thing(f"raw/a/{n}") for n in range(20)]
    dispatcher.handler(queued(stop(137, objects=objects)), Context())
    parts = [body["lake_work"]["objects"] for _, body, _ in account.sent]
    assert [len(part) for part in parts] == [3, 3, 3, 3, 3, 3, 2]
    assert [found for part in parts for found in part] == objects


@pytest.mark.parametrize("code", [5, 7])
def test_objects_that_are_not_to_blame_stay_together(dispatcher: ModuleType, account: Account, code: int) -> None:
    account.takes_messages()
    dispatcher.handler(queued(stop(code, objects=[thing(f"raw/a/{n}") for n in range(20)])), Context())
    assert len(account.sent[0][1]["lake_work"]["objects"]) == 20


def test_a_stop_told_twice_asks_for_one_further_task(dispatcher: ModuleType, account: Account) -> None:
    account.takes_messages(2)
    dispatcher.handler(queued(stop(1), stop(1)), Context())
    for _, body, _ in list(account.sent):
        account.tasks_running(0)
        account.task_starts()
        dispatcher.handler(queued(body), Context())
    assert len({call["clientToken"] for call in account.started}) == 1


@pytest.mark.parametrize("missing", [None, {}, {"containerOverrides": []}, {"containerOverrides": [{"name": "etl"}]}])
def test_overrides_that_the_event_leaves_out_are_asked_from_ecs(
    dispatcher: ModuleType, account: Account, missing: dict[str, Any] | None
) -> None:
    told = stop(1)["detail"]["overrides"]
    account.stubs["ecs"].add_response(
        "describe_tasks",
        {"tasks": [{"taskArn": TASK, "overrides": told}]},
        {"cluster": CLUSTER, "tasks": [TASK]},
    )
    account.takes_messages()
    dispatcher.handler(queued(stop(1, overrides=missing)), Context())
    assert account.sent[0][1]["lake_work"]["objects"] == [thing("raw/a/1.csv")]


def test_a_stop_whose_work_ecs_has_forgotten_is_parked(dispatcher: ModuleType, account: Account) -> None:
    account.stubs["ecs"].add_response("describe_tasks", {"tasks": [], "failures": [{"reason": "MISSING"}]})
    account.takes_messages()
    event = stop(1, overrides=None)
    assert given_back(dispatcher.handler(queued(event), Context())) == []
    assert account.sent == [(PARKED, event, None)]


def test_a_task_that_somebody_else_started_is_left_to_them(dispatcher: ModuleType, account: Account) -> None:
    assert given_back(dispatcher.handler(queued(stop(1, startedBy="lakectl/ann")), Context())) == []
    assert account.sent == []


def test_a_task_without_objects_is_not_the_dispatchers(dispatcher: ModuleType, account: Account) -> None:
    account.stubs["ecs"].add_response("describe_tasks", {"tasks": [{"taskArn": TASK}]})
    assert given_back(dispatcher.handler(queued(stop(1, overrides=None)), Context())) == []
    assert account.sent == []


def test_a_stopped_task_with_a_manifest_is_tried_again_with_its_objects(
    dispatcher: ModuleType, account: Account
) -> None:
    content = json.dumps([thing("raw/b/1"), thing("raw/b/2")]).encode()
    account.stubs["s3"].add_response("get_object", {"Body": StreamingBody(io.BytesIO(content), len(content))})
    account.takes_messages()
    environment = [
        {"name": "LAKE_MANIFEST", "value": f"s3://{ARTIFACTS}/manifests/x.json"},
        {"name": "LAKE_ATTEMPT", "value": "1"},
        {"name": "LAKE_TRACE", "value": "e" * 32},
        {"name": "LAKE_AGAIN", "value": "1"},
    ]
    overrides = {"containerOverrides": [{"name": "etl", "environment": environment}]}
    dispatcher.handler(queued(stop(7, overrides=overrides)), Context())
    work = account.sent[0][1]["lake_work"]
    assert [found["key"] for found in work["objects"]] == ["raw/b/1", "raw/b/2"]
    assert work["again"] is True


def test_work_too_long_for_a_message_is_ordered_with_a_manifest(dispatcher: ModuleType, account: Account) -> None:
    account.stubs["s3"].add_response("put_object", {})
    account.takes_messages()
    objects = [thing(f"raw/a/{n}-{'x' * 400}") for n in range(450)]
    dispatcher.handler(queued(stop(7, objects=objects)), Context())
    work = account.sent[0][1]["lake_work"]
    assert "objects" not in work
    assert work["manifest"].startswith(f"s3://{ARTIFACTS}/manifests/")


def test_a_stop_that_cannot_be_put_on_the_queue_comes_again(dispatcher: ModuleType, account: Account) -> None:
    account.refuses("send_message", "ServiceUnavailable", "sqs")
    account.hides()
    assert given_back(dispatcher.handler(queued(stop(1)), Context())) == ["m0"]


# -- what it says ------------------------------------------------------------------------------------------------------


def test_every_dispatched_object_is_one_line_of_the_log(
    dispatcher: ModuleType, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.tasks_running(0)
    account.task_starts()
    dispatcher.handler(queued(notification(put("raw/a/1"), put("raw/a/2"))), Context())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["event"], line["key"], line["task"]) for line in lines] == [
        ("dispatched", "raw/a/1", TASK),
        ("dispatched", "raw/a/2", TASK),
    ]


def test_a_bug_ends_the_call_so_that_every_message_comes_again(
    dispatcher: ModuleType, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(dispatcher, "run_task", bug)
    account.tasks_running(0)
    with pytest.raises(RuntimeError, match="a bug"):
        dispatcher.handler(queued(notification(put("raw/a/1"))), Context())
