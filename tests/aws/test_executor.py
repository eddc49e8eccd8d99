"""Steps of a plan against an account that answers call by call: CodeBuild, and stacks that are stuck."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lakectl import config
from lakectl.deploy import executor, facts, image
from lakectl.deploy.facts import Stage
from lakectl.deploy.model import ApplyStack, AwaitStack, ContinueRollback, DeleteStack, Plan, PushImage, Step
from lakectl.errors import BusyError, DeadlineError, InfrastructureError, PermissionDeniedError
from tests.aws.conftest import ACCOUNT, REGION, Stubbed
from tests.aws.test_clients import NOW, _event

STACK = "lake-flights-dev"
STACK_ID = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK}/1"
DIGEST = f"sha256:{'d' * 64}"
BUILD = f"{STACK}-image:1"


@pytest.fixture
def work(stubbed: Stubbed, tmp_path: Path, naps: list[float]) -> executor.Work:
    (tmp_path / "lake.toml").write_text(f'name = "flights"\n[stage.dev]\nregion = "{REGION}"\n')
    lake = config.load(tmp_path, stage="dev", environment={})
    settings = dataclasses.replace(facts.settings_of(lake), account=ACCOUNT, region=REGION)
    stage = Stage(lake, settings, stubbed.aws)
    wanted, parts = facts.wanted_of(stage)
    ticks: Iterator[int] = iter(range(1, 10_000))
    return executor.Work(stage, wanted, parts, sleep=naps.append, clock=lambda: float(next(ticks)))


def done(step: Step, work: executor.Work) -> list[str]:
    return [event.text for event in executor.execute(Plan((step,)), work) if event.kind == "progress"]


def stack(status: str, **outputs: str) -> dict[str, Any]:
    known = [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]
    found = {"StackName": STACK, "StackId": STACK_ID, "StackStatus": status, "CreationTime": NOW, "Outputs": known}
    return {"Stacks": [found]}


# -- no engine for containers -----------------------------------------------------------------------------------------


BOOTSTRAPPED = stack("CREATE_COMPLETE", BuilderName="b", RepositoryUri="r")


def push(work: executor.Work) -> PushImage:
    wanted = work.wanted
    return PushImage(wanted.repository, wanted.image_tag, wanted.platform, None)


def test_without_any_engine_codebuild_builds_the_image_from_a_zip(
    stubbed: Stubbed, work: executor.Work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    sent: dict[str, Any] = {}
    stubbed.aws.client("s3").meta.events.register_first(
        "provide-client-params.s3.PutObject", lambda params, **_: sent.update(params)
    )
    wanted = work.wanted
    described = {"repositoryName": wanted.repository, "imageIds": [{"imageTag": wanted.image_tag}]}
    stubbed.on("ecr").add_client_error("describe_images", "ImageNotFoundException", expected_params=described)
    outputs = {"RepositoryUri": "repo", "BuilderName": f"{STACK}-image"}
    stubbed.on("cloudformation").add_response("describe_stacks", stack("CREATE_COMPLETE", **outputs))
    stubbed.on("s3").add_response("put_object", {"VersionId": "1"})
    builds = stubbed.on("codebuild")
    builds.add_response("start_build", {"build": {"id": BUILD}})
    for phase in ("QUEUED", "PRE_BUILD", "BUILD", "BUILD", "COMPLETED"):
        status = "SUCCEEDED" if phase == "COMPLETED" else "IN_PROGRESS"
        answer = {"builds": [{"currentPhase": phase, "buildStatus": status}]}
        builds.add_response("batch_get_builds", answer, {"ids": [BUILD]})
    started: dict[str, Any] = {}
    stubbed.aws.client("codebuild").meta.events.register_first(
        "provide-client-params.codebuild.StartBuild", lambda params, **_: started.update(params)
    )
    image_facts = {"imageDetails": [{"imageDigest": DIGEST, "imageTags": [wanted.image_tag]}]}
    stubbed.on("ecr").add_response("describe_images", image_facts, described)

    told = done(push(work), work)

    assert told[0] == "no container engine answers here: CodeBuild builds it"
    assert told[1:5] == ["QUEUED", "PRE_BUILD", "BUILD", "COMPLETED"]
    assert DIGEST[:19] in told[-1]
    with zipfile.ZipFile(io.BytesIO(sent["Body"])) as context:
        assert context.read("Dockerfile").startswith(b"#") or b"FROM" in context.read("Dockerfile")
        assert set(context.namelist()) == set(image.files())
    assert (sent["Bucket"], sent["ExpectedBucketOwner"]) == (wanted.artifact_bucket, ACCOUNT)
    assert started["sourceLocationOverride"] == f"{wanted.artifact_bucket}/{sent['Key']}"
    assert started["environmentVariablesOverride"] == [
        {"name": "IMAGE_TAG", "value": wanted.image_tag, "type": "PLAINTEXT"}
    ]


def test_the_builder_of_the_stack_pushes_the_tag_that_deploy_asks_for(work: executor.Work) -> None:
    from lakectl.deploy import diff

    project = diff.load(work.wanted.bootstrap)["Resources"]["Builder"]["Properties"]
    commands = project["Source"]["BuildSpec"]
    assert 'docker push "$REPOSITORY:$IMAGE_TAG"' in commands
    assert "--password-stdin" in commands
    assert {item["Name"] for item in project["Environment"]["EnvironmentVariables"]} == {"REPOSITORY", "PLATFORM"}
    assert project["Environment"]["Type"] == "ARM_CONTAINER"


def test_an_image_that_is_there_is_not_built_again(stubbed: Stubbed, work: executor.Work) -> None:
    stubbed.on("ecr").add_response("describe_images", {"imageDetails": [{"imageDigest": DIGEST}]})
    assert done(push(work), work) == ["it is there already"]


def test_a_build_that_codebuild_lost_is_an_error_not_an_image(
    stubbed: Stubbed, work: executor.Work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    stubbed.refuse("ecr", "describe_images", "ImageNotFoundException")
    outputs = {"RepositoryUri": "repo", "BuilderName": "image"}
    stubbed.on("cloudformation").add_response("describe_stacks", stack("CREATE_COMPLETE", **outputs))
    stubbed.on("s3").add_response("put_object", {"VersionId": "1"})
    stubbed.on("codebuild").add_response("start_build", {"build": {"id": BUILD}})
    stubbed.on("codebuild").add_response("batch_get_builds", {"builds": [{"buildStatus": "SUCCEEDED"}]})
    stubbed.refuse("ecr", "describe_images", "ImageNotFoundException")
    with pytest.raises(InfrastructureError, match="the image was pushed, and"):
        done(push(work), work)


def test_a_build_that_hangs_is_given_up(
    stubbed: Stubbed, work: executor.Work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    slow = dataclasses.replace(work, clock=iter(range(0, 10**6, 2000)).__next__)
    stubbed.refuse("ecr", "describe_images", "ImageNotFoundException")
    stubbed.on("cloudformation").add_response(
        "describe_stacks", stack("CREATE_COMPLETE", BuilderName="b", RepositoryUri="r")
    )
    stubbed.on("s3").add_response("put_object", {"VersionId": "1"})
    stubbed.on("codebuild").add_response("start_build", {"build": {"id": BUILD}})
    for _ in range(2):
        stubbed.on("codebuild").add_response("batch_get_builds", {"builds": [{"buildStatus": "IN_PROGRESS"}]})
    with pytest.raises(DeadlineError, match="not done after 40 minutes"):
        done(push(work), slow)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ExpiredTokenException", PermissionDeniedError),
        ("AccessDeniedException", PermissionDeniedError),
        ("ThrottlingException", BusyError),
        ("AccountLimitExceededException", InfrastructureError),
    ],
)
def test_codebuild_that_refuses_is_told_in_our_words(
    stubbed: Stubbed,
    work: executor.Work,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    code: str,
    kind: type[Exception],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    stubbed.refuse("ecr", "describe_images", "ImageNotFoundException")
    stubbed.on("cloudformation").add_response(
        "describe_stacks", stack("CREATE_COMPLETE", BuilderName="b", RepositoryUri="r")
    )
    stubbed.on("s3").add_response("put_object", {"VersionId": "1"})
    stubbed.refuse("codebuild", "start_build", code, "no")
    with pytest.raises(kind):
        done(push(work), work)


# -- stacks that are stuck ---------------------------------------------------------------------------------------------


class Told:
    """CloudFormation's answers about one stack, in their order."""

    def __init__(self, stubbed: Stubbed) -> None:
        self.stub = stubbed.on("cloudformation")

    def is_(self, status: str) -> None:
        self.stub.add_response("describe_stacks", stack(status))

    def gone(self) -> None:
        self.stub.add_client_error("describe_stacks", "ValidationError", f"Stack with id {STACK} does not exist")

    def events(self, *events: dict[str, Any]) -> None:
        self.stub.add_response("describe_stack_events", {"StackEvents": list(events)})

    def resources(self, **statuses: tuple[str, str]) -> None:
        found = [
            {
                "LogicalResourceId": name,
                "PhysicalResourceId": name.lower(),
                "ResourceType": kind,
                "ResourceStatus": status,
                "LastUpdatedTimestamp": NOW,
            }
            for name, (kind, status) in statuses.items()
        ]
        self.stub.add_response("list_stack_resources", {"StackResourceSummaries": found})

    def takes(self, operation: str, **expected: Any) -> None:
        self.stub.add_response(operation, {}, expected)


@pytest.fixture
def told(stubbed: Stubbed) -> Told:
    return Told(stubbed)


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS", "CREATE_FAILED", "ROLLBACK_FAILED"])
def test_what_could_not_be_created_is_deleted_plainly(told: Told, work: executor.Work, status: str) -> None:
    told.is_(status)
    told.events(_event(1, STACK, "AWS::CloudFormation::Stack", status))
    told.resources()
    told.takes("delete_stack", StackName=STACK_ID)
    told.is_("DELETE_COMPLETE")
    told.events(_event(2, STACK, "AWS::CloudFormation::Stack", "DELETE_COMPLETE"))
    told.is_("DELETE_COMPLETE")
    assert f"{STACK} delete complete" in done(DeleteStack(STACK, "it is empty"), work)


def test_what_cannot_be_deleted_is_left_behind_and_named(told: Told, work: executor.Work) -> None:
    told.is_("DELETE_FAILED")
    told.events(_event(1, "Vpc", "AWS::EC2::VPC", "DELETE_FAILED", "has dependencies"))
    told.resources(Vpc=("AWS::EC2::VPC", "DELETE_FAILED"))
    told.takes("delete_stack", StackName=STACK_ID)
    told.is_("DELETE_FAILED")
    told.events(_event(2, "Vpc", "AWS::EC2::VPC", "DELETE_FAILED", "has dependencies"))
    told.is_("DELETE_FAILED")
    told.events(_event(2, "Vpc", "AWS::EC2::VPC", "DELETE_FAILED", "has dependencies"))
    told.resources(Vpc=("AWS::EC2::VPC", "DELETE_FAILED"))
    told.takes("delete_stack", StackName=STACK_ID, RetainResources=["Vpc"])
    told.is_("DELETE_COMPLETE")
    told.events()
    told.is_("DELETE_COMPLETE")
    said = done(DeleteStack(STACK, "its deletion could not be finished"), work)
    assert "what cannot be deleted stays behind: Vpc" in said
    assert "Vpc delete failed: has dependencies" in said


def test_a_database_is_never_left_behind(told: Told, work: executor.Work) -> None:
    told.is_("DELETE_FAILED")
    told.events()
    told.resources(DatabaseCluster=("AWS::RDS::DBCluster", "DELETE_FAILED"))
    told.takes("delete_stack", StackName=STACK_ID)
    told.is_("DELETE_FAILED")
    told.events()
    told.is_("DELETE_FAILED")
    told.events()
    told.resources(DatabaseCluster=("AWS::RDS::DBCluster", "DELETE_FAILED"))
    told.events(_event(3, "DatabaseCluster", "AWS::RDS::DBCluster", "DELETE_FAILED", "deletion protection"))
    with pytest.raises(InfrastructureError, match="DatabaseCluster: deletion protection"):
        done(DeleteStack(STACK, "its deletion could not be finished"), work)


def test_a_stuck_rollback_goes_on_as_it_is_and_then_without_what_is_in_the_way(told: Told, work: executor.Work) -> None:
    told.is_("UPDATE_ROLLBACK_FAILED")
    told.events()
    told.takes("continue_update_rollback", StackName=STACK)
    told.is_("UPDATE_ROLLBACK_FAILED")
    told.events()
    told.is_("UPDATE_ROLLBACK_FAILED")
    told.events()
    told.takes("continue_update_rollback", StackName=STACK, ResourcesToSkip=["Dispatcher"])
    told.is_("UPDATE_ROLLBACK_COMPLETE")
    told.events()
    told.is_("UPDATE_ROLLBACK_COMPLETE")
    said = done(ContinueRollback(STACK, ("Dispatcher",), "its update failed"), work)
    assert "leaving as they are: Dispatcher" in said


def test_somebody_elses_operation_is_waited_for(told: Told, work: executor.Work, naps: list[float]) -> None:
    told.is_("UPDATE_IN_PROGRESS")
    told.events(_event(1, "A", "T", "UPDATE_IN_PROGRESS"))
    told.is_("UPDATE_IN_PROGRESS")
    told.events(_event(1, "A", "T", "UPDATE_IN_PROGRESS"))
    told.is_("UPDATE_COMPLETE")
    told.events(_event(2, "A", "T", "UPDATE_COMPLETE"), _event(1, "A", "T", "UPDATE_IN_PROGRESS"))
    told.is_("UPDATE_COMPLETE")
    assert done(AwaitStack(STACK, "is busy"), work) == ["A update complete"]
    assert naps


def test_a_stack_that_became_busy_after_the_plan_was_made_is_waited_for(told: Told, work: executor.Work) -> None:
    told.is_("UPDATE_IN_PROGRESS")
    told.is_("UPDATE_COMPLETE")
    told.events()
    told.is_("UPDATE_COMPLETE")
    told.events()
    told.is_("UPDATE_COMPLETE")
    told.is_("UPDATE_COMPLETE")
    told.stub.add_response("create_change_set", {"Id": "cs", "StackId": "1"})
    nothing = {"Status": "FAILED", "StatusReason": "didn't contain changes", "Changes": []}
    told.stub.add_response("describe_change_set", nothing)
    told.takes("delete_change_set", StackName=STACK, ChangeSetName="cs")
    step = ApplyStack(STACK, "bootstrap", "UPDATE", "{}", {}, {}, adopt=False)
    assert done(step, work) == ["somebody else is at it: it is being updated", "nothing to change"]


def test_an_update_that_is_taken_back_says_the_first_cause(told: Told, work: executor.Work) -> None:
    step = ApplyStack(STACK, "bootstrap", "UPDATE", "{}", {}, {})
    kind = "AWS::CloudFormation::Stack"
    told.is_("UPDATE_COMPLETE")
    told.stub.add_response("create_change_set", {"Id": "cs", "StackId": STACK_ID})
    change = {"Action": "Modify", "LogicalResourceId": "Repository", "ResourceType": "AWS::ECR::Repository"}
    answer = {"Status": "CREATE_COMPLETE", "Changes": [{"Type": "Resource", "ResourceChange": change}]}
    told.stub.add_response("describe_change_set", answer)
    told.events(_event(0, STACK, kind, "UPDATE_COMPLETE"))
    told.takes("execute_change_set", StackName=STACK, ChangeSetName="cs")
    told.is_("UPDATE_IN_PROGRESS")
    events = [
        _event(4, STACK, kind, "UPDATE_ROLLBACK_COMPLETE"),
        _event(3, "Repository", "AWS::ECR::Repository", "UPDATE_FAILED", "no rights"),
        _event(2, STACK, kind, "UPDATE_IN_PROGRESS"),
        _event(0, STACK, kind, "UPDATE_COMPLETE"),
    ]
    told.is_("UPDATE_ROLLBACK_COMPLETE")
    told.events(*events)
    told.is_("UPDATE_ROLLBACK_COMPLETE")
    told.events(*events)
    with pytest.raises(InfrastructureError, match="Repository: no rights"):
        done(step, work)


def test_credentials_that_expire_while_a_stack_is_followed_name_the_login(told: Told, work: executor.Work) -> None:
    told.is_("UPDATE_IN_PROGRESS")
    told.events()
    told.is_("UPDATE_IN_PROGRESS")
    told.stub.add_client_error("describe_stack_events", "ExpiredToken", "expired")
    with pytest.raises(PermissionDeniedError) as caught:
        done(AwaitStack(STACK, "is busy"), work)
    assert caught.value.hint == "aws sso login --profile work"


def test_the_registrys_password_is_on_no_command_line(
    work: executor.Work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sys

    engine, log = tmp_path / "podman", tmp_path / "log"
    engine.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"open({str(log)!r}, 'a').write(json.dumps([sys.argv, sys.stdin.read() if 'login' in sys.argv else '',"
        " os.environ.get('REGISTRY_AUTH_FILE')]) + '\\n')\n"
    )
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = image.find_engine("podman")
    assert found is not None

    @dataclasses.dataclass
    class Login:
        registry = "registry"
        user = "AWS"
        password = base64.b64encode(hashlib.sha256(b"planted").digest()).decode()

    list(image.build_and_push(found, "registry/etl", "t", "linux/arm64", Login(), work.parts.image))
    asked = [json.loads(line) for line in log.read_text().splitlines()]
    assert [words[1] for words, *_ in asked[1:]] == ["build", "login", "push"]
    assert not [words for words, *_ in asked if Login.password in " ".join(words)]
    assert [text for words, text, _ in asked if words[1] == "login"] == [Login.password]
    assert all(private and not Path(private).exists() for *_, private in asked[1:])
