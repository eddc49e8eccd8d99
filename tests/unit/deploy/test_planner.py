"""Facts in, plans out: every state that an account can be in when someone types deploy or destroy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lakectl.aws.cloudformation import SITUATIONS
from lakectl.deploy import planner
from lakectl.deploy.model import (
    LATER,
    ApplyStack,
    Facts,
    StackFacts,
    Wanted,
    canary_mark,
    schema_mark,
)
from lakectl.errors import InfrastructureError, UsageError

PIPELINE = """
Parameters:
  ImageUri: {Type: String}
  BundleKey: {Type: String}
  EngineVersion: {Type: String, Default: "17.9"}
Resources:
  Task: {Type: "AWS::ECS::TaskDefinition", Properties: {Image: !Ref ImageUri, Bundle: !Sub "s3://x/${BundleKey}"}}
  Db: {Type: "AWS::RDS::DBCluster", Properties: {EngineVersion: !Ref EngineVersion}}
"""
BOOTSTRAP = 'Resources: {Repository: {Type: "AWS::ECR::Repository"}}\n'
TAGS = {"lake:name": "x", "lake:stage": "dev"}
DIGEST = "sha256:" + "a" * 64
WANTED = Wanted(
    stage="dev",
    bootstrap=BOOTSTRAP,
    pipeline=PIPELINE,
    bootstrap_stack="lake-x-dev-bootstrap",
    pipeline_stack="lake-x-dev",
    repository="lake-x-dev-etl",
    artifact_bucket="artifacts",
    raw_bucket="raw",
    image_tag="f" * 40,
    platform="linux/arm64",
    bundle_key="bundles/1.zip",
    handler_key="handlers/1.zip",
    engine_version="17.9",
    tags=TAGS,
    parameters=("ImageUri", "BundleKey", "HandlerKey", "EngineVersion"),
    migration=1,
)
NAMES = planner.Doomed("lake-x-dev", "lake-x-dev", "lake-x-dev", "lake-x-dev-etl")
OUTPUTS = {"DatabaseArn": "db", "MasterSecretArn": "m", "ReaderSecretArn": "r", "RawBucket": "raw"}
PARAMETERS = {
    "ImageUri": f"repo@{DIGEST}",
    "BundleKey": "bundles/1.zip",
    "HandlerKey": "handlers/1.zip",
    "EngineVersion": "17.9",
}
EMPTY = Facts("123456789012", "eu-central-1", StackFacts("lake-x-dev-bootstrap"), StackFacts("lake-x-dev"))
DEPLOYED = Facts(
    account="123456789012",
    region="eu-central-1",
    bootstrap=StackFacts(
        "lake-x-dev-bootstrap", "CREATE_COMPLETE", outputs={"RepositoryUri": "repo"}, tags=TAGS, template=BOOTSTRAP
    ),
    pipeline=StackFacts(
        "lake-x-dev", "UPDATE_COMPLETE", outputs=OUTPUTS, parameters=PARAMETERS, tags=TAGS, template=PIPELINE
    ),
    image_digest=DIGEST,
    uploaded=frozenset({"bundles/1.zip", "handlers/1.zip"}),
    engine_version="17.9",
    schema_mark=schema_mark(OUTPUTS, 1),
    canary_mark=canary_mark(OUTPUTS, PARAMETERS),
)


def _steps(plan: Any) -> list[str]:
    return [type(step).__name__ for step in plan.steps]


def _pipeline(**changes: Any) -> Facts:
    return replace(DEPLOYED, pipeline=replace(DEPLOYED.pipeline, **changes))


def test_a_first_deploy_is_everything_in_the_order_that_the_account_dictates() -> None:
    plan = planner.plan(WANTED, EMPTY)
    assert _steps(plan) == [
        "ApplyStack",
        "PushImage",
        "UploadArtifact",
        "UploadArtifact",
        "ApplyStack",
        "ApplySchema",
        "Canary",
    ]
    apply = plan.steps[4]
    assert isinstance(apply, ApplyStack)
    assert (apply.kind, apply.parameters["ImageUri"], apply.adopt) == ("CREATE", LATER, False)


def test_without_a_change_there_is_nothing_to_do() -> None:
    plan = planner.plan(WANTED, DEPLOYED)
    assert (plan.steps, plan.diff) == ((), ())


def test_a_changed_transform_ships_without_an_image_and_without_a_canary() -> None:
    plan = planner.plan(replace(WANTED, bundle_key="bundles/2.zip"), DEPLOYED)
    assert _steps(plan) == ["UploadArtifact", "ApplyStack"]
    assert [change.logical_id for change in plan.diff] == ["Task"]
    assert plan.diff[0].properties[0].after == "s3://x/bundles/2.zip"


def test_changed_code_builds_an_image_and_sends_a_canary() -> None:
    plan = planner.plan(replace(WANTED, image_tag="e" * 40), replace(DEPLOYED, image_digest=None))
    assert _steps(plan) == ["PushImage", "ApplyStack", "Canary"]


def test_interrupted_after_the_push_only_the_rest_is_done() -> None:
    facts = replace(EMPTY, bootstrap=DEPLOYED.bootstrap, image_digest=DIGEST, uploaded=DEPLOYED.uploaded)
    assert _steps(planner.plan(WANTED, facts)) == ["ApplyStack", "ApplySchema", "Canary"]


def test_interrupted_before_the_canary_only_the_canary_is_sent() -> None:
    assert _steps(planner.plan(WANTED, replace(DEPLOYED, canary_mark=None))) == ["Canary"]


def test_another_database_is_set_up_again() -> None:
    assert _steps(planner.plan(WANTED, _pipeline(outputs={**OUTPUTS, "DatabaseArn": "other"}))) == [
        "ApplySchema",
        "Canary",
    ]


def test_a_newer_ledger_is_applied() -> None:
    assert _steps(planner.plan(replace(WANTED, migration=2), DEPLOYED)) == ["ApplySchema"]


def test_a_minor_upgrade_by_aws_is_not_taken_back() -> None:
    upgraded = replace(_pipeline(parameters={**PARAMETERS, "EngineVersion": "17.9"}), engine_version="17.10")
    plan = planner.plan(WANTED, upgraded)
    assert isinstance(plan.steps[0], ApplyStack)
    assert plan.steps[0].parameters["EngineVersion"] == "17.10"


def test_kept_buckets_are_taken_back_in() -> None:
    plan = planner.plan(WANTED, replace(EMPTY, orphans=frozenset({"raw", "artifacts"})))
    assert [step.adopt for step in plan.steps if isinstance(step, ApplyStack)] == [True, True]
    assert "lakectl run loads its objects" in plan.notes[0]


def test_production_is_protected() -> None:
    assert _steps(planner.plan(replace(WANTED, protected=True), DEPLOYED)) == ["ProtectStack", "ProtectStack"]


def test_a_removed_database_is_precious() -> None:
    wanted = replace(WANTED, pipeline=PIPELINE.partition("  Db:")[0])
    plan = planner.plan(wanted, DEPLOYED)
    assert [change.logical_id for change in plan.precious] == ["Db"]


@pytest.mark.parametrize(
    ("status", "first", "kind"),
    [
        ("ROLLBACK_COMPLETE", "DeleteStack", "CREATE"),
        ("REVIEW_IN_PROGRESS", "DeleteStack", "CREATE"),
        ("CREATE_FAILED", "DeleteStack", "CREATE"),
        ("ROLLBACK_FAILED", "DeleteStack", "CREATE"),
        ("DELETE_FAILED", "DeleteStack", "CREATE"),
        ("DELETE_IN_PROGRESS", "AwaitStack", "CREATE"),
        ("ROLLBACK_IN_PROGRESS", "AwaitStack", "CREATE"),
        ("CREATE_IN_PROGRESS", "AwaitStack", "UPDATE"),
        ("UPDATE_IN_PROGRESS", "AwaitStack", "UPDATE"),
        ("UPDATE_ROLLBACK_IN_PROGRESS", "AwaitStack", "UPDATE"),
        ("UPDATE_ROLLBACK_FAILED", "ContinueRollback", "UPDATE"),
        ("UPDATE_FAILED", "ContinueRollback", "UPDATE"),
    ],
)
def test_every_stuck_stack_is_mended_before_it_is_changed(status: str, first: str, kind: str) -> None:
    plan = planner.plan(WANTED, _pipeline(status=status, template=None, causes=("Db: no room",), failed=("Db",)))
    assert _steps(plan)[0] == first
    assert next(step.kind for step in plan.steps if isinstance(step, ApplyStack)) == kind
    if first != "AwaitStack":
        assert plan.notes == ("lake-x-dev: Db: no room",)


def test_the_plan_knows_every_status_that_cloudformation_has() -> None:
    for status, situation in SITUATIONS.items():
        if situation.standing == "absent":
            continue
        template = PIPELINE if situation.standing == "usable" else None
        plan = planner.plan(WANTED, _pipeline(status=status, template=template))
        assert bool(plan.steps) == (situation.standing != "usable"), status


def test_a_lost_bootstrap_stack_is_told_rather_than_made_over_a_living_lake() -> None:
    with pytest.raises(InfrastructureError, match="bootstrap is not"):
        planner.plan(WANTED, replace(DEPLOYED, bootstrap=StackFacts("lake-x-dev-bootstrap")))


@pytest.mark.parametrize(
    ("lost", "hint"),
    [
        (("bucket raw",), "save the tables"),
        (("bucket artifacts",), "lakectl destroy --keep-data, lakectl deploy, then lakectl run"),
        (("database lake-x-dev",), "lakectl destroy --keep-data, lakectl deploy, then lakectl run"),
    ],
)
def test_what_was_deleted_by_hand_is_told_rather_than_taken_for_there(lost: tuple[str, ...], hint: str) -> None:
    with pytest.raises(InfrastructureError, match=f"{lost[0]} was deleted by hand") as caught:
        planner.plan(WANTED, replace(DEPLOYED, lost=lost))
    assert hint in str(caught.value.hint)
    assert planner.plan_destroy(WANTED, replace(DEPLOYED, lost=lost), NAMES, keep_data=False).steps


def test_destroy_stops_then_empties_then_deletes() -> None:
    assert _steps(planner.plan_destroy(WANTED, DEPLOYED, NAMES, keep_data=False)) == [
        "PauseDispatch",
        "StopTasks",
        "UnprotectDatabase",
        "EmptyBucket",
        "DeleteStack",
        "DeregisterTasks",
        "DeleteBucket",
        "DeleteSnapshots",
        "EmptyRepository",
        "EmptyBucket",
        "DeleteStack",
        "DeleteBucket",
        "DeleteLogs",
    ]


def test_destroy_with_keep_data_touches_no_bucket_and_no_snapshot() -> None:
    plan = planner.plan_destroy(WANTED, DEPLOYED, NAMES, keep_data=True)
    assert not {"EmptyBucket", "DeleteBucket", "DeleteSnapshots"} & {*_steps(plan)}
    assert "kept" in plan.notes[0]


def test_destroying_what_is_not_there_does_nothing() -> None:
    assert planner.plan_destroy(WANTED, EMPTY, NAMES, keep_data=False).steps == ()


def test_interrupted_after_the_stacks_the_buckets_still_go() -> None:
    facts = replace(EMPTY, orphans=frozenset({"raw", "artifacts"}))
    assert _steps(planner.plan_destroy(WANTED, facts, NAMES, keep_data=False)) == [
        "DeleteBucket",
        "DeleteSnapshots",
        "DeleteBucket",
        "DeleteLogs",
    ]


def test_a_protected_stack_is_unprotected_first() -> None:
    steps = _steps(planner.plan_destroy(WANTED, _pipeline(protected=True), NAMES, keep_data=False))
    assert steps.index("LiftProtection") < steps.index("DeleteStack")


def test_every_step_says_in_one_line_what_it_does() -> None:
    plans = (planner.plan(WANTED, EMPTY), planner.plan_destroy(WANTED, DEPLOYED, NAMES, keep_data=False))
    for plan in plans:
        for step in plan.steps:
            assert step.sentence
            assert "\n" not in step.sentence


def test_a_stack_of_another_lake_with_the_same_name_is_not_touched() -> None:
    theirs = replace(DEPLOYED, pipeline=replace(DEPLOYED.pipeline, tags={"lake:name": "x-dev", "lake:stage": "y"}))
    with pytest.raises(UsageError, match="is of lake x-dev, stage y"):
        planner.plan(WANTED, theirs)
    with pytest.raises(UsageError, match="is of lake x-dev, stage y"):
        planner.plan_destroy(WANTED, theirs, NAMES, keep_data=False)
