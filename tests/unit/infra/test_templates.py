"""The rendered templates hold what the lake promises. Each promise is a test; the golden files show the whole."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakectl.deploy import render
from lakectl.deploy.render import StageSettings

from .lakes import ACCOUNT, LAKES, lake, variant, variants

GOLDEN = Path(__file__).parents[2] / "golden"
VARIANTS = variants()


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short functions: !Ref X is {"Ref": "X"}, !GetAtt A.B is {"Fn::GetAtt": "A.B"}."""


def _function(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    name = suffix if suffix == "Ref" else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    assert isinstance(node, yaml.SequenceNode)
    return {name: loader.construct_sequence(node, deep=True)}


Loader.add_multi_constructor("!", _function)  # type: ignore[no-untyped-call]


def read(text: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(text, Loader)
    return document


def both(settings: StageSettings) -> dict[str, dict[str, Any]]:
    """Every resource of both stacks by its logical id."""
    rendered = render.render(settings)
    return {**read(rendered.bootstrap)["Resources"], **read(rendered.pipeline)["Resources"]}


RESOURCES = {name: both(settings) for name, settings in VARIANTS.items()}


def of_type(resources: dict[str, Any], kind: str) -> dict[str, Any]:
    return {name: found["Properties"] for name, found in resources.items() if found["Type"] == kind}


def statements(node: Any) -> Iterator[dict[str, Any]]:
    """Every policy statement under a node."""
    if isinstance(node, dict):
        if "Effect" in node and "Action" in node:
            yield node
        for child in node.values():
            yield from statements(child)
    elif isinstance(node, list):
        for child in node:
            yield from statements(child)


def actions(statement: dict[str, Any]) -> list[str]:
    action = statement["Action"]
    return [action] if isinstance(action, str) else action


def rights(role: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A role's statements by their Sid."""
    return {statement["Sid"]: statement for statement in statements(role["Policies"])}


each_variant = pytest.mark.parametrize("name", VARIANTS)
default = RESOURCES["public-queue-plain"]
direct = RESOURCES["public-direct-plain"]
private = RESOURCES["private-queue-plain"]
keyed = RESOURCES["public-queue-key"]


# -- the whole ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAKES)
@pytest.mark.parametrize("part", ["bootstrap", "pipeline"])
def test_the_rendered_templates_are_the_golden_ones(name: str, part: str) -> None:
    """After a wanted change: LAKE_GOLDEN=write pytest tests/unit/infra, and read the difference."""
    file = GOLDEN / name / f"{part}.yaml"
    text = getattr(render.render(lake(name)), part)
    if os.environ.get("LAKE_GOLDEN") == "write":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == text


def test_stages_of_one_lake_and_lakes_of_one_account_share_no_name() -> None:
    stages = [("flights", "dev"), ("flights", "prod"), ("trips", "dev"), ("flights-dev", "x")]
    taken: dict[str, tuple[str, str]] = {}
    for lake_name, stage in stages:
        settings = dataclasses.replace(render.parse_stage(lake_name, stage, {}), account=ACCOUNT, region="eu-west-1")
        for name in set(dataclasses.astuple(settings.names)):
            assert taken.setdefault(name, (lake_name, stage)) == (lake_name, stage), name


@each_variant
def test_a_template_fits_into_one_api_call(name: str) -> None:
    rendered = render.render(VARIANTS[name])
    assert len(rendered.bootstrap.encode()) < render.MAX_INLINE_TEMPLATE
    assert len(rendered.pipeline.encode()) < render.MAX_INLINE_TEMPLATE


@each_variant
def test_no_template_has_anchors_aliases_or_left_over_marks(name: str) -> None:
    rendered = render.render(VARIANTS[name])
    for text in (rendered.bootstrap, rendered.pipeline):
        tokens = list(yaml.scan(text))
        assert not any(isinstance(token, yaml.AnchorToken | yaml.AliasToken) for token in tokens)
        assert "{%" not in text
        assert "{{" not in text
        assert "{#" not in text


@each_variant
def test_the_pipeline_asks_for_the_parameters_that_are_announced(name: str) -> None:
    rendered = render.render(VARIANTS[name])
    assert set(read(rendered.pipeline)["Parameters"]) == set(rendered.parameters)
    assert "Parameters" not in read(rendered.bootstrap)


def test_rendering_is_the_same_every_time() -> None:
    assert render.render(lake("locked")) == render.render(lake("locked"))


@each_variant
def test_every_reference_leads_to_something(name: str) -> None:
    rendered = render.render(VARIANTS[name])
    for text in (rendered.bootstrap, rendered.pipeline):
        known = {*read(text)["Resources"], *read(text).get("Parameters", {})}
        used = set(re.findall(r"!(?:Ref|GetAtt) ([A-Z]\w+)(?!\w*::)", text)) - {"AWS"}
        assert used <= known


# -- names -------------------------------------------------------------------------------------------------------------

LONG = [
    ("flights", "dev"),
    ("A very long name of a lake with many words", "a-stage-with-a-long-name"),
    ("x" * 200, "production"),
    ("données d'été", "dev"),
    ("日本", "prod"),
    ("lake", "dev"),
    ("3", "d"),
]


@pytest.mark.parametrize(("title", "stage"), LONG)
@pytest.mark.parametrize("region", ["us-east-1", "ap-southeast-2", "us-isof-south-1"])
def test_every_name_keeps_its_services_limit(title: str, stage: str, region: str) -> None:
    settings = dataclasses.replace(render.parse_stage(title, stage, {}), account="1" * 12, region=region)
    names = settings.names
    for bucket in (names.raw_bucket, names.artifact_bucket):
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", bucket)
    for role in (names.task_role, names.execution_role, names.dispatch_role, names.build_role, names.function):
        assert len(role) <= 64
    assert re.fullmatch(r"lake(-[a-z0-9]+)+", names.prefix)
    assert len(names.prefix) <= 24
    assert len(names.queue) <= 80
    assert len(f"{names.database}-writer") <= 63
    assert len(names.rule) <= 64
    assert len(names.bootstrap_stack) <= 128


def test_two_long_names_with_the_same_beginning_stay_apart() -> None:
    first, second = (render.short_prefix(f"{'customer-analytics-' * 3}{end}", "prod") for end in "ab")
    assert first != second


def test_a_short_name_is_told_in_full() -> None:
    names = variant().names
    assert names.stack == "lake-flights-dev"
    assert names.bootstrap_stack == "lake-flights-dev-bootstrap"
    assert names.raw_bucket == "lake-flights-dev-raw-123456789012-eu-west-1"


def test_buckets_have_literal_names_so_that_they_can_be_re_adopted() -> None:
    for bucket in of_type(default, "AWS::S3::Bucket").values():
        assert isinstance(bucket["BucketName"], str)
        assert "${" not in bucket["BucketName"]


def test_without_an_account_the_template_asks_cloudformation_for_it() -> None:
    buckets = of_type(RESOURCES["default"], "AWS::S3::Bucket")
    assert buckets["RawBucket"]["BucketName"] == {"Fn::Sub": "lake-flights-dev-raw-${AWS::AccountId}-${AWS::Region}"}


# -- rights ------------------------------------------------------------------------------------------------------------


@each_variant
def test_nobody_is_allowed_a_wildcard_of_actions(name: str) -> None:
    allowed = [s for s in statements(RESOURCES[name]) if s["Effect"] == "Allow"]
    assert allowed
    assert [action for s in allowed for action in actions(s) if "*" in action] == []


@each_variant
def test_every_resource_is_allowed_only_where_aws_knows_no_narrower_one(name: str) -> None:
    roles = of_type(RESOURCES[name], "AWS::IAM::Role").values()
    wide = {
        action for role in roles for s in statements(role["Policies"]) if s["Resource"] == "*" for action in actions(s)
    }
    assert wide == {"ecr:GetAuthorizationToken", "ecs:ListTasks"}


def test_the_dispatcher_may_run_our_task_on_our_cluster_only() -> None:
    right = rights(default["DispatcherRole"]["Properties"])["RunOurTask"]
    assert right["Resource"]["Fn::Sub"].endswith(":task-definition/lake-flights-dev-etl:*")
    assert right["Condition"] == {"ArnEquals": {"ecs:cluster": {"Fn::GetAtt": "Cluster.Arn"}}}


def test_the_dispatcher_may_hand_two_roles_to_tasks_only() -> None:
    right = rights(default["DispatcherRole"]["Properties"])["HandRolesToTasks"]
    assert right["Resource"] == [{"Fn::GetAtt": "TaskRole.Arn"}, {"Fn::GetAtt": "ExecutionRole.Arn"}]
    assert right["Condition"] == {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}


def test_the_task_can_read_raw_objects_and_log_in_as_one_user_and_nothing_else() -> None:
    found = {action for s in rights(default["TaskRole"]["Properties"]).values() for action in actions(s)}
    assert found == {"s3:GetObject", "s3:GetObjectVersion", "rds-db:connect"}
    login = rights(default["TaskRole"]["Properties"])["LogInToTheDatabase"]
    assert login["Resource"]["Fn::Sub"].endswith(":dbuser:${DatabaseCluster.DBClusterResourceId}/lake_etl")


def test_the_landing_bucket_refuses_writes_of_the_task() -> None:
    policy = default["RawBucketPolicy"]["Properties"]["PolicyDocument"]
    (denied,) = [s for s in policy["Statement"] if s["Sid"] == "TasksNeverWrite"]
    assert denied["Principal"] == {"AWS": {"Fn::GetAtt": "TaskRole.Arn"}}
    assert "s3:PutObject" in denied["Action"]


def test_the_execution_role_reaches_one_repository_and_one_log_group() -> None:
    found = rights(default["ExecutionRole"]["Properties"])
    assert found["Pull"]["Resource"]["Fn::Sub"].endswith(":repository/lake-flights-dev-etl")
    assert found["Log"]["Resource"] == {"Fn::GetAtt": "TaskLogGroup.Arn"}


@each_variant
def test_services_assume_roles_for_this_account_only(name: str) -> None:
    for role in of_type(RESOURCES[name], "AWS::IAM::Role").values():
        (trust,) = statements(role["AssumeRolePolicyDocument"])
        if trust["Principal"]["Service"] != "lambda.amazonaws.com":  # Lambda sends no source account to IAM
            assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}


def test_every_role_is_bounded_where_a_boundary_is_set() -> None:
    for role in of_type(RESOURCES["production"], "AWS::IAM::Role").values():
        assert role["PermissionsBoundary"] == "arn:aws:iam::123456789012:policy/boundary"


@pytest.mark.parametrize("settings", [variant(), variant(kms=True), render.parse_stage("flights", "dev", {})])
def test_printed_policies_fit_into_iam_and_hold_no_wildcard_of_actions(settings: StageSettings) -> None:
    documents = [*render.deployer_policies(settings), render.operator_policy(settings)]
    assert len(documents) == 3
    for document in documents:
        assert len(re.sub(r"\s", "", document)) <= render.MAX_MANAGED_POLICY
        assert [action for s in statements(json.loads(document)) for action in actions(s) if "*" in action] == []
        assert "${" not in document


def test_the_deployers_policy_in_parts_is_the_whole() -> None:
    whole = json.loads(render.deployer_policy(variant()))["Statement"]
    parts = [s for part in render.deployer_policies(variant()) for s in json.loads(part)["Statement"]]
    assert parts == whole


# -- raw bucket and artifacts ------------------------------------------------------------------------------------------


@each_variant
def test_buckets_are_private_versioned_encrypted_and_speak_tls_only(name: str) -> None:
    resources = RESOURCES[name]
    buckets = of_type(resources, "AWS::S3::Bucket")
    assert set(buckets) == {"RawBucket", "ArtifactBucket"}
    for id_, bucket in buckets.items():
        assert all(bucket["PublicAccessBlockConfiguration"].values())
        assert len(bucket["PublicAccessBlockConfiguration"]) == 4
        assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
        assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
        assert bucket["BucketEncryption"]
        policy = resources[f"{id_}Policy"]["Properties"]["PolicyDocument"]["Statement"]
        assert any(
            s["Effect"] == "Deny" and s["Condition"] == {"Bool": {"aws:SecureTransport": "false"}} for s in policy
        )


@each_variant
def test_what_holds_data_survives_the_stack(name: str) -> None:
    resources = RESOURCES[name]
    for bucket in ("RawBucket", "ArtifactBucket"):
        assert resources[bucket]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert resources[bucket]["UpdateReplacePolicy"] == "Retain"
    assert resources["DatabaseCluster"]["DeletionPolicy"] == "Snapshot"
    assert resources["DatabaseCluster"]["UpdateReplacePolicy"] == "Snapshot"
    if "Key" in resources:
        assert resources["Key"]["DeletionPolicy"] == "RetainExceptOnCreate"


@each_variant
def test_raw_objects_and_their_versions_are_never_expired(name: str) -> None:
    rules = RESOURCES[name]["RawBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert [rule["Id"] for rule in rules] == ["abandoned-uploads"]


def test_the_permission_to_notify_is_there_before_the_notification() -> None:
    assert default["RawBucket"]["DependsOn"] == ["EventQueuePolicy"]
    assert direct["RawBucket"]["DependsOn"] == ["DispatcherFromS3"]


# -- hops --------------------------------------------------------------------------------------------------------------


def test_by_default_objects_arrive_in_the_queue() -> None:
    notification = default["RawBucket"]["Properties"]["NotificationConfiguration"]
    (queue,) = notification["QueueConfigurations"]
    assert queue["Queue"] == {"Fn::GetAtt": "EventQueue.Arn"}
    assert queue["Filter"]["S3Key"]["Rules"] == [{"Name": "prefix", "Value": "raw/"}]
    assert "LambdaConfigurations" not in notification


def test_a_direct_trigger_calls_the_dispatcher_and_its_failures_go_to_the_same_queue() -> None:
    notification = direct["RawBucket"]["Properties"]["NotificationConfiguration"]
    assert notification["LambdaConfigurations"][0]["Function"] == {"Fn::GetAtt": "Dispatcher.Arn"}
    assert "QueueConfigurations" not in notification
    failures = direct["DispatcherFailures"]["Properties"]["DestinationConfig"]["OnFailure"]
    assert failures == {"Destination": {"Fn::GetAtt": "EventQueue.Arn"}}
    assert "DispatcherSource" in direct


@each_variant
def test_a_message_stays_hidden_for_six_times_the_functions_time(name: str) -> None:
    resources = RESOURCES[name]
    hidden = resources["EventQueue"]["Properties"]["VisibilityTimeout"]
    window = resources["DispatcherSource"]["Properties"]["MaximumBatchingWindowInSeconds"]
    assert hidden >= 6 * resources["Dispatcher"]["Properties"]["Timeout"] + window


@each_variant
def test_messages_are_kept_for_14_days_and_come_again_while_tasks_are_taken(name: str) -> None:
    resources = RESOURCES[name]
    for queue in of_type(resources, "AWS::SQS::Queue").values():
        assert queue["MessageRetentionPeriod"] == 14 * 86_400
    assert resources["EventQueue"]["Properties"]["RedrivePolicy"] == {
        "deadLetterTargetArn": {"Fn::GetAtt": "ParkedQueue.Arn"},
        "maxReceiveCount": 1000,
    }


@each_variant
def test_the_source_reports_single_failures_and_bounds_concurrency(name: str) -> None:
    source = RESOURCES[name]["DispatcherSource"]["Properties"]
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert source["ScalingConfig"] == {"MaximumConcurrency": 2}
    assert "ReservedConcurrentExecutions" not in RESOURCES[name]["Dispatcher"]["Properties"]
    assert source["MaximumBatchingWindowInSeconds"] > 0 or source["BatchSize"] <= 10


@each_variant
def test_the_dispatcher_stays_outside_the_network(name: str) -> None:
    assert "VpcConfig" not in RESOURCES[name]["Dispatcher"]["Properties"]


def test_stopped_tasks_of_this_lake_are_told_to_the_dispatcher() -> None:
    rule = default["StoppedTasks"]["Properties"]
    assert rule["EventPattern"]["detail"]["lastStatus"] == ["STOPPED"]
    assert rule["EventPattern"]["detail"]["group"] == ["family:lake-flights-dev-etl"]
    (target,) = rule["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": "EventQueue.Arn"}


def test_queues_are_not_encrypted_with_a_key_that_events_cannot_use() -> None:
    for queue in of_type(default, "AWS::SQS::Queue").values():
        assert queue["SqsManagedSseEnabled"] is True
    for queue in of_type(keyed, "AWS::SQS::Queue").values():
        assert queue["KmsMasterKeyId"] == {"Ref": "KeyArn"}
    (events,) = [s for s in statements(keyed["Key"]) if s["Sid"] == "EventsIntoQueuesAndTopic"]
    assert events["Principal"]["Service"] == ["s3.amazonaws.com", "events.amazonaws.com", "cloudwatch.amazonaws.com"]


@each_variant
def test_the_dispatchers_environment_is_what_its_code_reads(name: str) -> None:
    variables = set(RESOURCES[name]["Dispatcher"]["Properties"]["Environment"]["Variables"])
    assert variables == set(re.findall(r"os\.environ\[[\"'](\w+)[\"']\]", render.handler_source()))


# -- network -----------------------------------------------------------------------------------------------------------


@each_variant
def test_the_database_is_isolated(name: str) -> None:
    resources = RESOURCES[name]
    for route in of_type(resources, "AWS::EC2::Route").values():
        assert route["RouteTableId"] == {"Ref": "TaskRoutes"}
    assert resources["DatabaseWriter"]["Properties"]["PubliclyAccessible"] is False
    group = resources["DatabaseSecurityGroup"]["Properties"]
    assert [rule["SourceSecurityGroupId"] for rule in group["SecurityGroupIngress"]] == [{"Ref": "TaskSecurityGroup"}]
    assert [rule["CidrIp"] for rule in group["SecurityGroupEgress"]] == ["127.0.0.1/32"]


@each_variant
def test_tasks_take_no_connection_and_reach_tls_and_the_database_only(name: str) -> None:
    group = RESOURCES[name]["TaskSecurityGroup"]["Properties"]
    assert "SecurityGroupIngress" not in group
    assert [rule["FromPort"] for rule in group["SecurityGroupEgress"]] == [443, 5432, 5432]


@each_variant
def test_tasks_and_database_span_two_zones(name: str) -> None:
    subnets = of_type(RESOURCES[name], "AWS::EC2::Subnet")
    zones = {id_: subnet["AvailabilityZone"]["Fn::Select"][0] for id_, subnet in subnets.items()}
    assert zones == {"TaskSubnetA": 0, "TaskSubnetB": 1, "DatabaseSubnetA": 0, "DatabaseSubnetB": 1}
    assert len({subnet["CidrBlock"] for subnet in subnets.values()}) == 4


def test_a_private_network_has_endpoints_instead_of_a_gateway() -> None:
    assert of_type(private, "AWS::EC2::InternetGateway") == {}
    assert of_type(private, "AWS::EC2::Route") == {}
    services = {e["ServiceName"]["Fn::Sub"].split("}.")[1] for e in of_type(private, "AWS::EC2::VPCEndpoint").values()}
    assert services == {"s3", "ecr.api", "ecr.dkr", "logs"}
    assert private["Dispatcher"]["Properties"]["Environment"]["Variables"]["PUBLIC_IP"] == "DISABLED"


@each_variant
def test_there_is_never_a_nat_gateway(name: str) -> None:
    assert of_type(RESOURCES[name], "AWS::EC2::NatGateway") == {}


# -- tasks -------------------------------------------------------------------------------------------------------------


@each_variant
def test_the_container_is_not_root_and_writes_to_tmp_only(name: str) -> None:
    (container,) = RESOURCES[name]["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    assert container["User"] == "10001:10001"
    assert container["ReadonlyRootFilesystem"] is True
    assert container["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}
    assert [mount["ContainerPath"] for mount in container["MountPoints"]] == ["/tmp"]


def test_the_platform_of_task_and_builder_is_the_same() -> None:
    for settings, chip, builder in (
        (variant(), "ARM64", "ARM_CONTAINER"),
        (variant(architecture="amd64"), "X86_64", "LINUX_CONTAINER"),
    ):
        resources = both(settings)
        assert resources["TaskDefinition"]["Properties"]["RuntimePlatform"]["CpuArchitecture"] == chip
        assert resources["Builder"]["Properties"]["Environment"]["Type"] == builder


def test_an_image_is_named_by_its_digest() -> None:
    pattern = read(render.render(variant()).pipeline)["Parameters"]["ImageUri"]["AllowedPattern"]
    assert re.search(pattern, f"1.dkr.ecr.eu-west-1.amazonaws.com/lake@sha256:{'a' * 64}")
    assert not re.search(pattern, "1.dkr.ecr.eu-west-1.amazonaws.com/lake:latest")


def test_an_image_in_use_never_expires() -> None:
    rules = json.loads(default["Repository"]["Properties"]["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]
    assert [rule["selection"]["tagStatus"] for rule in rules] == ["untagged"]
    assert default["Repository"]["Properties"]["ImageTagMutability"] == "IMMUTABLE"


def test_old_revisions_of_the_task_stay_for_tasks_in_flight_and_rollback() -> None:
    assert default["TaskDefinition"]["UpdateReplacePolicy"] == "Retain"


def test_spot_capacity_is_a_setting() -> None:
    variables = RESOURCES["spot-unwindowed"]["Dispatcher"]["Properties"]["Environment"]["Variables"]
    assert variables["CAPACITY"] == "FARGATE_SPOT"


# -- database ----------------------------------------------------------------------------------------------------------


def test_an_idle_database_pauses() -> None:
    scaling = default["DatabaseCluster"]["Properties"]["ServerlessV2ScalingConfiguration"]
    assert scaling == {"MinCapacity": 0.0, "MaxCapacity": 4.0, "SecondsUntilAutoPause": 600}


def test_a_database_that_is_always_on_is_told_nothing_of_pausing() -> None:
    scaling = RESOURCES["production"]["DatabaseCluster"]["Properties"]["ServerlessV2ScalingConfiguration"]
    assert scaling == {"MinCapacity": 0.5, "MaxCapacity": 16.0}


@each_variant
def test_the_database_is_encrypted_protected_and_has_no_password_of_ours(name: str) -> None:
    database = RESOURCES[name]["DatabaseCluster"]["Properties"]
    assert database["StorageEncrypted"] is True
    assert database["DeletionProtection"] is True
    assert database["ManageMasterUserPassword"] is True
    assert "MasterUserPassword" not in database
    assert database["EnableIAMDatabaseAuthentication"] is True
    assert database["EnableHttpEndpoint"] is True
    assert database["EngineLifecycleSupport"] == "open-source-rds-extended-support-disabled"
    assert RESOURCES[name]["DatabaseParameters"]["Properties"]["Parameters"]["rds.force_ssl"] == "1"


def test_the_engines_version_can_follow_what_aws_upgraded() -> None:
    assert default["DatabaseCluster"]["Properties"]["EngineVersion"] == {"Ref": "EngineVersion"}


# -- watching ----------------------------------------------------------------------------------------------------------


@each_variant
def test_every_log_group_is_declared_with_a_retention(name: str) -> None:
    groups = of_type(RESOURCES[name], "AWS::Logs::LogGroup")
    assert set(groups) == {"BuildLogGroup", "DispatcherLogGroup", "TaskLogGroup", "DatabaseLogGroup"}
    for group in groups.values():
        assert group["RetentionInDays"] == VARIANTS[name].log_retention


@each_variant
def test_four_alarms_and_a_dashboard_watch(name: str) -> None:
    alarms = of_type(RESOURCES[name], "AWS::CloudWatch::Alarm")
    assert {id_: alarm["MetricName"] for id_, alarm in alarms.items()} == {
        "ParkedAlarm": "ApproximateNumberOfMessagesVisible",
        "WaitingAlarm": "ApproximateAgeOfOldestMessage",
        "DispatcherAlarm": "Errors",
        "CapacityAlarm": "ACUUtilization",
    }
    body = RESOURCES[name]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    assert len(json.loads(body)["widgets"]) == 4


def test_alarms_can_publish_to_their_topic() -> None:
    """CloudWatch may not use alias/aws/sns, so the topic has the lake's key or none."""
    assert "KmsMasterKeyId" not in default["AlarmTopic"].get("Properties", {})
    assert keyed["AlarmTopic"]["Properties"]["KmsMasterKeyId"] == {"Ref": "KeyArn"}


def test_alarms_are_mailed_where_an_address_is_set() -> None:
    assert RESOURCES["production"]["AlarmMail"]["Properties"]["Endpoint"] == "data@example.com"
    assert "AlarmMail" not in default


# -- the lake's own key ------------------------------------------------------------------------------------------------


def test_with_a_key_everything_at_rest_is_encrypted_with_it() -> None:
    ours = ({"Ref": "KeyArn"}, {"Fn::GetAtt": "Key.Arn"})
    for bucket in of_type(keyed, "AWS::S3::Bucket").values():
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"] in ours
    for group in of_type(keyed, "AWS::Logs::LogGroup").values():
        assert group["KmsKeyId"] in ours
    assert keyed["Repository"]["Properties"]["EncryptionConfiguration"]["KmsKey"] in ours
    assert keyed["DatabaseCluster"]["Properties"]["KmsKeyId"] in ours
    assert keyed["DatabaseCluster"]["Properties"]["MasterUserSecret"]["KmsKeyId"] in ours
    assert keyed["ReaderSecret"]["Properties"]["KmsKeyId"] in ours
    assert keyed["Dispatcher"]["Properties"]["KmsKeyArn"] in ours


def test_roles_use_keys_of_this_lake_only() -> None:
    for role in ("TaskRole", "DispatcherRole"):
        condition = rights(keyed[role]["Properties"])["UseTheLakesKey"]["Condition"]
        assert condition == {
            "StringEquals": {"aws:ResourceTag/lake:name": "flights", "aws:ResourceTag/lake:stage": "dev"}
        }


def test_without_a_key_there_is_none() -> None:
    assert of_type(default, "AWS::KMS::Key") == {}
    assert "kms:" not in render.render(variant()).pipeline
