"""The end of a lake: what ``destroy`` leaves, and what ``--keep-data`` keeps for the next deploy."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e import ground
from tests.e2e.conftest import TRIPS, Stage

LISTED: tuple[tuple[str, str, str, str], ...] = (
    ("s3", "list_buckets", "Buckets", "Name"),
    ("ecr", "describe_repositories", "repositories", "repositoryName"),
    ("rds", "describe_db_clusters", "DBClusters", "DBClusterIdentifier"),
    ("rds", "describe_db_instances", "DBInstances", "DBInstanceIdentifier"),
    ("rds", "describe_db_cluster_snapshots", "DBClusterSnapshots", "DBClusterSnapshotIdentifier"),
    ("rds", "describe_db_subnet_groups", "DBSubnetGroups", "DBSubnetGroupName"),
    ("secretsmanager", "list_secrets", "SecretList", "Name"),
    ("logs", "describe_log_groups", "logGroups", "logGroupName"),
    ("iam", "list_roles", "Roles", "RoleName"),
    ("sqs", "list_queues", "QueueUrls", ""),
    ("sns", "list_topics", "Topics", "TopicArn"),
    ("lambda", "list_functions", "Functions", "FunctionName"),
    ("lambda", "list_event_source_mappings", "EventSourceMappings", "UUID"),
    ("events", "list_rules", "Rules", "Name"),
    ("ecs", "list_clusters", "clusterArns", ""),
    ("ecs", "list_task_definitions", "taskDefinitionArns", ""),
    ("codebuild", "list_projects", "projects", ""),
    ("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
    ("cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName"),
    ("ec2", "describe_vpcs", "Vpcs", "VpcId"),
    ("ec2", "describe_subnets", "Subnets", "SubnetId"),
    ("ec2", "describe_security_groups", "SecurityGroups", "GroupId"),
    ("ec2", "describe_route_tables", "RouteTables", "RouteTableId"),
    ("ec2", "describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
    ("ec2", "describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId"),
)
"""Service, call, list and name of everything that a lake consists of."""


def inventory(client: Callable[[str], Any]) -> set[str]:
    """All that there is in the account, and every stack that is not deleted."""
    found = set()
    for service, call, listed, name in LISTED:
        for item in getattr(client(service), call)().get(listed, []):
            found.add(f"{service} {call} {item[name] if name else item}")
    for stack in client("cloudformation").list_stacks()["StackSummaries"]:
        if stack["StackStatus"] != "DELETE_COMPLETE":
            found.add(f"stack {stack['StackName']}")
    return found


@pytest.fixture
def pier(account: None, tmp_path: Any) -> Stage:
    """A stage that is not deployed."""
    return Stage(tmp_path, "pier")


def test_destroy_leaves_nothing_and_what_it_keeps_is_taken_back_by_the_next_deploy(pier: Stage) -> None:
    before = inventory(pier.client)
    pier.run("deploy", "--yes", patience=600)
    raw, artifacts = pier.outputs["RawBucket"], pier.outputs["ArtifactBucket"]
    fill(pier, raw)

    kept = pier.run("destroy", "--keep-data", "--confirm", "dev", "--json").json
    assert kept["survivors"] == []
    assert {raw, artifacts} < set(kept["kept"])
    there = {item.rpartition(" ")[2] for item in inventory(pier.client) - before}
    assert there == set(kept["kept"])  # the buckets and the database's last snapshot, no more and no less

    plan = pier.run("deploy", "--plan").told
    assert "taking kept buckets back in" in plan
    assert f"{raw} is kept from before" in " ".join(plan.split())
    pier.run("deploy", "--yes", patience=600)
    pier.run("run")
    assert pier.count("trips") == 1000
    assert pier.query("select count(*) as n from gone") == [{"n": 1}]

    fill(pier, raw)
    gone = pier.run("destroy", "--confirm", "dev", "--json").json
    assert (gone["survivors"], gone["kept"]) == ([], [])
    assert inventory(pier.client) - before == set()
    again = pier.run("destroy", "--confirm", "dev")
    assert "is not there" in again.out


def fill(stage: Stage, bucket: str) -> None:
    """Versions, a deleted object, an unfinished upload, a second image."""
    s3 = stage.client("s3")
    stage.run("upload", stage.file("trips.csv", TRIPS), stage.file("gone.csv", "id\n1\n"))
    s3.put_object(Bucket=bucket, Key="raw/trips/trips.csv", Body=TRIPS.encode())
    s3.put_object(Bucket=bucket, Key="notes/deleted.txt", Body=b"was here")
    s3.delete_object(Bucket=bucket, Key="notes/deleted.txt")
    s3.create_multipart_upload(Bucket=bucket, Key="raw/trips/never.csv")
    image = stage.client("cloudformation").describe_stacks(StackName=stage.stack)["Stacks"][0]["Parameters"]
    uri = next(item["ParameterValue"] for item in image if item["ParameterKey"] == "ImageUri")
    repository = uri.partition("@")[0]
    environment = os.environ | ground.client_environment()
    token = stage.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, _, password = base64.b64decode(token).decode().partition(":")
    login = ["docker", "login", "--username", user, "--password-stdin", repository.partition("/")[0]]
    subprocess.run(login, input=password.encode(), env=environment, check=True, capture_output=True)
    small = f"{repository}:another"
    nothing = ["docker", "import", "-", small]
    subprocess.run(nothing, input=bytes(10240), env=environment, check=True, capture_output=True)  # an empty tar
    for command in (("push", small), ("rmi", small)):
        subprocess.run(["docker", *command], env=environment, check=True, capture_output=True)
