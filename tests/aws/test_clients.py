"""Each service, called as it wants to be called, and what its failures become."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from lakectl.aws import builds, functions, quotas, tags
from lakectl.aws.cloudformation import SITUATIONS, StackNotFoundError, Stacks
from lakectl.aws.databases import Databases, newer
from lakectl.aws.ecr import Repository
from lakectl.aws.ecs import Placement, Task, Tasks, told, why_stopped
from lakectl.aws.s3 import PART, Bucket, digest_of
from lakectl.aws.session import Aws, Identity, connect
from lakectl.aws.sqs import Queue
from lakectl.errors import BusyError, DeadlineError, InfrastructureError, PermissionDeniedError
from tests.aws.conftest import Stubbed

NOW = datetime(2026, 11, 20, tzinfo=UTC)
STACK_ID = "arn:aws:cloudformation:eu-central-1:123456789012:stack/lake/1"
PLACE = Placement("lake", "etl:1", ("subnet-1",), "sg-1", "ENABLED")


def _stack(status: str) -> dict[str, Any]:
    return {"Stacks": [{"StackName": "lake", "StackId": STACK_ID, "StackStatus": status, "CreationTime": NOW}]}


def _event(number: int, logical: str, kind: str, status: str, reason: str | None = None) -> dict[str, Any]:
    event = {
        "StackId": STACK_ID,
        "EventId": str(number),
        "StackName": "lake",
        "LogicalResourceId": logical,
        "ResourceType": kind,
        "Timestamp": NOW,
        "ResourceStatus": status,
    }
    return {**event, "ResourceStatusReason": reason} if reason else event


# -- stacks ------------------------------------------------------------------------------------------------------------


def test_every_status_of_a_stack_has_its_sentence() -> None:
    import botocore.session

    model = botocore.session.get_session().get_service_model("cloudformation")
    assert set(SITUATIONS) == set(model.shape_for("StackStatus").enum)


def test_a_missing_stack_is_not_found(stubbed: Stubbed) -> None:
    stubbed.refuse("cloudformation", "describe_stacks", "ValidationError", "Stack with id lake does not exist")
    with pytest.raises(StackNotFoundError):
        Stacks(stubbed.aws).describe("lake")


def test_an_empty_change_set_is_no_change_and_is_removed(stubbed: Stubbed) -> None:
    stub = stubbed.on("cloudformation")
    stub.add_response("create_change_set", {"Id": "cs", "StackId": STACK_ID})
    said = "The submitted information didn't contain changes. Submit different information to create a change set."
    stub.add_response("describe_change_set", {"Status": "FAILED", "StatusReason": said, "Changes": []})
    stub.add_response("delete_change_set", {}, {"StackName": "lake", "ChangeSetName": "cs"})
    made = Stacks(stubbed.aws).prepare("lake", kind="UPDATE", body="{}", parameters={}, tags={})
    assert made is None


def test_what_validation_finds_is_fetched_from_the_events(stubbed: Stubbed) -> None:
    stub = stubbed.on("cloudformation")
    stub.add_response("create_change_set", {"Id": "cs", "StackId": STACK_ID})
    stub.add_response("describe_change_set", {"Status": "FAILED", "StatusReason": "see events", "Changes": []})
    found = {"LogicalResourceId": "RawBucket", "ValidationStatus": "FAILED", "ValidationStatusReason": "name taken"}
    stub.add_response("describe_events", {"OperationEvents": [found]})
    stub.add_response("delete_change_set", {})
    with pytest.raises(InfrastructureError, match="RawBucket: name taken"):
        Stacks(stubbed.aws).prepare("lake", kind="CREATE", body="{}", parameters={}, tags={})


def test_a_change_set_is_waited_for_and_tells_replacements(stubbed: Stubbed, naps: list[float]) -> None:
    stub = stubbed.on("cloudformation")
    stub.add_response("create_change_set", {"Id": "cs", "StackId": STACK_ID})
    stub.add_response("describe_change_set", {"Status": "CREATE_IN_PROGRESS"})
    change = {
        "Action": "Modify",
        "LogicalResourceId": "Db",
        "ResourceType": "AWS::RDS::DBCluster",
        "Replacement": "True",
        "Details": [{"Target": {"Path": "/Properties/Name", "BeforeValue": "a", "AfterValue": "b"}}],
    }
    done = {"Status": "CREATE_COMPLETE", "Changes": [{"Type": "Resource", "ResourceChange": change}]}
    stub.add_response("describe_change_set", done)
    made = Stacks(stubbed.aws, sleep=naps.append).prepare("lake", kind="UPDATE", body="{}", parameters={}, tags={})
    assert made is not None
    assert (made.changes[0].replaces, made.changes[0].properties[0].path) == ("yes", "Name")
    assert len(naps) == 1


def test_events_come_once_each_oldest_first_until_the_stack_rests(stubbed: Stubbed, naps: list[float]) -> None:
    stub = stubbed.on("cloudformation")
    first, second = _event(1, "A", "T", "CREATE_COMPLETE"), _event(2, "B", "T", "CREATE_COMPLETE")
    stub.add_response("describe_stacks", _stack("CREATE_IN_PROGRESS"))
    stub.add_response("describe_stack_events", {"StackEvents": [first, _event(0, "old", "T", "X")]})
    stub.add_response("describe_stacks", _stack("CREATE_COMPLETE"))
    stub.add_response("describe_stack_events", {"StackEvents": [second, first]})
    followed = Stacks(stubbed.aws, sleep=naps.append).follow(STACK_ID, after="0")
    assert [event.logical_id for event in followed] == ["A", "B"]


def test_the_first_failure_is_the_cause_and_cancelled_ones_are_none(stubbed: Stubbed) -> None:
    kind = "AWS::CloudFormation::Stack"
    events = [
        _event(5, "lake", kind, "ROLLBACK_COMPLETE"),
        _event(4, "Other", "T", "CREATE_FAILED", "Resource creation cancelled"),
        _event(3, "Db", "T", "CREATE_FAILED", "no room"),
        _event(2, "lake", kind, "CREATE_IN_PROGRESS"),
        _event(1, "Db", "T", "DELETE_FAILED", "of an older operation"),
    ]
    stubbed.on("cloudformation").add_response("describe_stack_events", {"StackEvents": events})
    assert [event.reason for event in Stacks(stubbed.aws).failures(STACK_ID)] == ["no room"]


@pytest.mark.parametrize(
    ("operation", "code", "said"),
    [
        (
            "create_change_set",
            "ValidationError",
            "Stack:x is in UPDATE_IN_PROGRESS state and can not be updated.",
        ),
        ("create_change_set", "AlreadyExistsException", "Stack [lake] already exists"),
        ("describe_change_set", "ChangeSetNotFound", "ChangeSet [cs] does not exist"),
    ],
)
def test_a_stack_that_another_shell_changes_is_busy(stubbed: Stubbed, operation: str, code: str, said: str) -> None:
    if operation != "create_change_set":
        stubbed.on("cloudformation").add_response("create_change_set", {"Id": "cs", "StackId": STACK_ID})
    stubbed.refuse("cloudformation", operation, code, said)
    with pytest.raises(BusyError, match="somebody else is changing stack lake") as caught:
        Stacks(stubbed.aws).prepare("lake", kind="UPDATE", body="{}", parameters={}, tags={})
    assert "run this one again" in str(caught.value.hint)


def test_a_protected_stack_is_said_to_be_protected(stubbed: Stubbed) -> None:
    said = "Stack [lake] cannot be deleted while TerminationProtection is enabled"
    stubbed.refuse("cloudformation", "delete_stack", "ValidationError", said)
    with pytest.raises(BusyError, match="protected"):
        Stacks(stubbed.aws).delete("lake")


# -- tasks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("RESOURCE:CPU", BusyError),
        ("Capacity is unavailable at this time. Please try again later", BusyError),
        ("You've reached the limit on the number of vCPUs you can run concurrently", BusyError),
        ("MISSING", InfrastructureError),
    ],
)
def test_run_task_that_answers_with_failures_has_failed(stubbed: Stubbed, reason: str, kind: type[Exception]) -> None:
    stubbed.on("ecs").add_response("run_task", {"tasks": [], "failures": [{"arn": "x", "reason": reason}]})
    with pytest.raises(kind, match="the task was not started"):
        Tasks(stubbed.aws, "lake").run(PLACE, {"A": "b"}, started_by="me", token="t")


def test_the_reason_of_failures_is_kept_in_words() -> None:
    assert "no reason given" in str(told([{}]))


def test_a_throttled_run_task_is_busy(stubbed: Stubbed) -> None:
    stubbed.refuse("ecs", "run_task", "ThrottlingException", "Rate exceeded")
    with pytest.raises(BusyError, match="slower pace"):
        Tasks(stubbed.aws, "lake").run(PLACE, {}, started_by="me", token="t")


def test_a_task_that_does_not_end_is_given_up(stubbed: Stubbed, naps: list[float]) -> None:
    ticks = iter(range(0, 1000, 40))
    running = {"tasks": [{"taskArn": "a/b", "lastStatus": "RUNNING"}]}
    for _ in range(3):
        stubbed.on("ecs").add_response("describe_tasks", running)
    tasks = Tasks(stubbed.aws, "lake", sleep=naps.append, clock=lambda: float(next(ticks)))
    with pytest.raises(DeadlineError, match="still runs"):
        list(tasks.follow("a/b", within=100))


def test_why_a_task_stopped_is_one_sentence() -> None:
    pull = Task("a", "STOPPED", stop_code="TaskFailedToStart", container_reason="CannotPullContainerError: x")
    assert why_stopped(pull) == "the task never started: CannotPullContainerError: x"
    assert "out of memory" in why_stopped(Task("a", "STOPPED", exit_code=137))
    assert why_stopped(Task("a", "STOPPED", exit_code=6)) == "the task ended with exit code 6"


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_no_image_is_none_and_a_login_hides_its_password(stubbed: Stubbed) -> None:
    stubbed.refuse("ecr", "describe_images", "ImageNotFoundException")
    assert Repository(stubbed.aws, "etl").digest("tag") is None
    token = base64.b64encode(b"AWS:secret-word").decode()
    data = [{"authorizationToken": token, "proxyEndpoint": "https://1.dkr.ecr.eu-central-1.amazonaws.com"}]
    stubbed.on("ecr").add_response("get_authorization_token", {"authorizationData": data})
    login = Repository(stubbed.aws, "etl").login()
    assert (login.registry, login.password) == ("1.dkr.ecr.eu-central-1.amazonaws.com", "secret-word")
    assert "secret-word" not in repr(login)


def test_a_failed_build_says_phase_and_message(stubbed: Stubbed, naps: list[float]) -> None:
    stub = stubbed.on("codebuild")
    stub.add_response("start_build", {"build": {"id": "b:1"}})
    phase = {"phaseType": "BUILD", "phaseStatus": "FAILED", "contexts": [{"message": "exit status 1"}]}
    stub.add_response(
        "batch_get_builds", {"builds": [{"currentPhase": "BUILD", "buildStatus": "FAILED", "phases": [phase]}]}
    )
    with pytest.raises(InfrastructureError, match="failed in BUILD: exit status 1"):
        list(builds.build(stubbed.aws, "image", source="b/k", tag="t", sleep=naps.append))


def test_a_quota_that_may_not_be_asked_is_unknown(stubbed: Stubbed) -> None:
    stubbed.refuse("service-quotas", "get_service_quota", "AccessDeniedException")
    assert quotas.quota(stubbed.aws, *quotas.FARGATE_VCPUS) is None


def test_a_feed_that_is_gone_needs_no_pause(stubbed: Stubbed) -> None:
    stubbed.refuse("lambda", "update_event_source_mapping", "ResourceNotFoundException")
    assert functions.pause(stubbed.aws, "0" * 36) is False


def test_a_feed_is_waited_for_until_it_is_closed(stubbed: Stubbed, naps: list[float]) -> None:
    stub = stubbed.on("lambda")
    stub.add_response("update_event_source_mapping", {"State": "Disabling"})
    stub.add_response("get_event_source_mapping", {"State": "Disabling"})
    stub.add_response("get_event_source_mapping", {"State": "Disabled"})
    assert functions.pause(stubbed.aws, "0" * 36, sleep=naps.append)
    assert len(naps) == 2


def test_a_feed_that_does_not_close_is_given_up(stubbed: Stubbed, naps: list[float]) -> None:
    stub = stubbed.on("lambda")
    stub.add_response("update_event_source_mapping", {"State": "Disabling"})
    for _ in range(3):
        stub.add_response("get_event_source_mapping", {"State": "Disabling"})
    with pytest.raises(DeadlineError, match="does not stop reading"):
        functions.pause(stubbed.aws, "0" * 36, sleep=naps.append, within=5)


def test_a_database_is_found_unprotected_and_its_snapshots_deleted(stubbed: Stubbed) -> None:
    stub = stubbed.on("rds")
    stub.add_client_error("describe_db_clusters", "DBClusterNotFoundFault")
    rds = Databases(stubbed.aws)
    assert rds.find("lake") is None
    expected = {"DBClusterIdentifier": "lake", "DeletionProtection": False, "ApplyImmediately": True}
    stub.add_response("modify_db_cluster", {}, expected)
    rds.unprotect("lake")
    listed = {"DBClusterSnapshots": [{"DBClusterSnapshotIdentifier": "lake-final"}]}
    stub.add_response("describe_db_cluster_snapshots", listed)
    assert rds.snapshots("lake") == ["lake-final"]
    stub.add_client_error("delete_db_cluster_snapshot", "DBClusterSnapshotNotFoundFault")
    rds.delete_snapshot("lake-final")
    stub.add_client_error("delete_db_cluster_snapshot", "InvalidDBClusterSnapshotStateFault", "in use")
    with pytest.raises(InfrastructureError, match="in use"):
        rds.delete_snapshot("lake-final")


def test_a_repository_is_emptied_in_batches_and_a_missing_one_is_empty(stubbed: Stubbed) -> None:
    stub = stubbed.on("ecr")
    images = [{"imageDigest": f"sha256:{number:064x}", "imageTag": str(number)} for number in range(150)]
    stub.add_response("list_images", {"imageIds": images})
    for size in (100, 50):
        digests = [{"imageDigest": image["imageDigest"]} for image in images][:size]
        images = images[size:]
        stub.add_response("batch_delete_image", {}, {"repositoryName": "etl", "imageIds": digests})
    assert Repository(stubbed.aws, "etl").empty() == 150
    stub.add_client_error("list_images", "RepositoryNotFoundException")
    assert Repository(stubbed.aws, "etl").empty() == 0


def test_a_log_group_that_is_gone_needs_no_deletion(stubbed: Stubbed) -> None:
    stubbed.refuse("logs", "delete_log_group", "ResourceNotFoundException")
    tags.delete_log_group(stubbed.aws, "/lake/x/etl")
    stubbed.refuse("logs", "delete_log_group", "OperationAbortedException", "conflict")
    with pytest.raises(InfrastructureError, match="conflict"):
        tags.delete_log_group(stubbed.aws, "/lake/x/etl")


def test_parked_messages_are_moved_one_by_one_and_none_is_lost_when_sending_fails(stubbed: Stubbed) -> None:
    stub = stubbed.on("sqs")
    dead, live = Queue(stubbed.aws, "https://sqs/parked"), Queue(stubbed.aws, "https://sqs/events")
    held = [{"MessageId": str(number), "ReceiptHandle": f"r{number}", "Body": "{}"} for number in (1, 2)]
    stub.add_response("receive_message", {"Messages": held})
    stub.add_response("send_message", {"MessageId": "a"})
    stub.add_response("delete_message", {}, {"QueueUrl": dead.url, "ReceiptHandle": "r1"})
    stub.add_client_error("send_message", "QueueDoesNotExist", "gone")
    expected = {"QueueUrl": dead.url, "ReceiptHandle": "r2", "VisibilityTimeout": 0}
    stub.add_response("change_message_visibility", {}, expected)
    with pytest.raises(InfrastructureError, match="gone"):
        dead.move(live)


def test_versions_are_compared_by_number() -> None:
    assert newer("17.9", "17.10") == "17.10"


# -- buckets, on moto --------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="raw")
        client.put_bucket_versioning(Bucket="raw", VersioningConfiguration={"Status": "Enabled"})
        identity = Identity("123456789012", "arn:aws:iam::123456789012:user/me", "us-east-1")
        yield Bucket(Aws(identity, lambda _service: client), "raw")


def test_a_large_file_goes_up_in_parts_and_is_the_same_there(bucket: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(1024) * (PART // 1024 * 2 + 5))
    done: list[int] = []
    version = bucket.upload(path, "raw/a/large.bin", digest=digest_of(path), on_bytes=done.append)
    there = bucket.head("raw/a/large.bin", version)
    assert there is not None
    assert (there.digest, max(done)) == (digest_of(path), path.stat().st_size)
    assert hashlib.sha256(bucket.read("raw/a/large.bin") or b"").hexdigest() == digest_of(path)


def test_an_interrupted_upload_goes_on_with_the_same_upload(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(b"x" * (PART + 10))
    journal = tmp_path / "journal"
    real = Bucket._call

    def failing(self: Bucket, operation: str, **arguments: Any) -> dict[str, Any]:
        if operation == "complete_multipart_upload":
            raise InfrastructureError("the line is down")
        return real(self, operation, **arguments)

    monkeypatch.setattr(Bucket, "_call", failing)
    with pytest.raises(InfrastructureError, match="line is down"):
        bucket.upload(path, "raw/a/b", digest=digest_of(path), journal=journal)
    upload = next(journal.iterdir()).read_text()
    calls: list[tuple[str, Any]] = []

    def noting(self: Bucket, operation: str, **arguments: Any) -> dict[str, Any]:
        calls.append((operation, arguments.get("UploadId")))
        return real(self, operation, **arguments)

    monkeypatch.setattr(Bucket, "_call", noting)
    bucket.upload(path, "raw/a/b", digest=digest_of(path), journal=journal)
    assert ("complete_multipart_upload", upload) in calls
    assert "create_multipart_upload" not in [name for name, _ in calls]
    assert not list(journal.iterdir())


def test_a_file_that_changes_while_it_is_read_is_not_believed(bucket: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"b" * (PART + 1))
    with pytest.raises(InfrastructureError, match="changed while it was read"):
        bucket.upload(path, "raw/a/f", digest="0" * 64)
    assert bucket.head("raw/a/f") is None


def test_emptying_takes_every_version_and_marker(bucket: Bucket) -> None:
    for content in (b"1", b"2"):
        bucket.write("raw/a/x", content)
    bucket.remove("raw/a/x")
    assert bucket.empty() == 3
    bucket.delete()
    assert not bucket.exists()
    assert bucket.empty() == 0


def test_the_wrong_account_is_refused_before_anything_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws(), pytest.raises(PermissionDeniedError, match="may only touch 999999999999"):
        connect(region="us-east-1", expected_account="999999999999")
