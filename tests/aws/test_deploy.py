"""deploy, rollback and destroy as commands, in an account of doubles: database, canary and S3 are real."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lakectl.deploy import diff, executor
from tests.aws.account import REGION, Account, Double, Rest, refusal
from tests.aws.stages import Stage

DIGEST = f"sha256:{'b' * 64}"
ENGINE = """#!{python}
import os, sys
if sys.argv[1] == "login":
    sys.stdin.read()
if sys.argv[1] == "push":
    open(os.environ["PUSHED"], "a").write(sys.argv[2].rpartition(":")[2] + "\\n")
"""


@dataclass
class CloudFormation(Double):
    """Stacks that come to be at once."""

    account: Account
    stacks: dict[str, dict[str, Any]] = field(default_factory=dict)
    prepared: dict[str, dict[str, Any]] = field(default_factory=dict)

    def describe_stacks(self, *, StackName: str) -> dict[str, Any]:
        name = StackName.rpartition("/")[2]
        if name not in self.stacks and StackName.startswith("arn:"):  # a deleted stack is known by its id
            gone = {"StackName": name, "StackStatus": "DELETE_COMPLETE", "CreationTime": datetime.now(UTC)}
            return {"Stacks": [gone]}
        if name not in self.stacks:
            raise refusal("ValidationError", f"Stack with id {name} does not exist")
        made = self.stacks[name]
        outputs = self.account.outputs if "bootstrap" not in name else self._bootstrap()
        facts = {
            "StackName": name,
            "StackId": f"arn:stack/{name}",
            "StackStatus": made["status"],
            "CreationTime": datetime.now(UTC),
            "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()],
            "Parameters": made["Parameters"],
            "Tags": made["Tags"],
        }
        return {"Stacks": [facts]}

    def _bootstrap(self) -> dict[str, str]:
        names = self.account.settings.names
        return {
            "RepositoryUri": f"registry/{names.repository}",
            "RepositoryName": names.repository,
            "BuilderName": names.builder,
            "ArtifactBucket": names.artifact_bucket,
        }

    def get_template(self, *, StackName: str, **_: Any) -> dict[str, Any]:
        return {"TemplateBody": self.stacks[StackName]["TemplateBody"]}

    def create_change_set(self, *, StackName: str, **facts: Any) -> dict[str, Any]:
        body = facts.get("TemplateBody")
        if body is None:
            bucket, _, key = facts["TemplateURL"].removeprefix("https://").partition("/")
            found = self.account.s3.get_object(Bucket=bucket.partition(".")[0], Key=key)
            body = found["Body"].read().decode()
        self.prepared[StackName] = {**facts, "TemplateBody": body, "status": f"{facts['ChangeSetType']}_COMPLETE"}
        return {"Id": StackName}

    def describe_change_set(self, *, StackName: str, **_: Any) -> dict[str, Any]:
        before = self.stacks.get(StackName, {}).get("TemplateBody")
        changed = diff.compare(before or "{}", self.prepared[StackName]["TemplateBody"], {}, {})
        verbs = {"add": "Add", "remove": "Remove"}
        changes = [
            {"Action": verbs.get(one.action, "Modify"), "LogicalResourceId": one.logical_id, "ResourceType": one.type}
            for one in changed
        ]
        return {"Status": "CREATE_COMPLETE", "Changes": [{"ResourceChange": change} for change in changes]}

    def delete_change_set(self, **_: Any) -> dict[str, Any]:
        return {}

    def execute_change_set(self, *, StackName: str, **_: Any) -> dict[str, Any]:
        self.stacks[StackName] = self.prepared.pop(StackName)
        made = diff.load(self.stacks[StackName]["TemplateBody"])["Resources"]
        names = self.account.settings.names
        for logical, bucket in (("RawBucket", names.raw_bucket), ("ArtifactBucket", names.artifact_bucket)):
            if logical in made and bucket not in self._buckets():
                where = {"LocationConstraint": REGION}
                self.account.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
                enabled = {"Status": "Enabled"}
                self.account.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=enabled)
        given = {item["ParameterKey"]: item["ParameterValue"] for item in self.stacks[StackName]["Parameters"]}
        if "BundleKey" in given:
            self.account.etl_environment["LAKE_BUNDLE"] = f"s3://{names.artifact_bucket}/{given['BundleKey']}"
        return {}

    def _buckets(self) -> set[str]:
        return {bucket["Name"] for bucket in self.account.s3.list_buckets()["Buckets"]}

    def describe_stack_events(self, **_: Any) -> dict[str, Any]:
        return {"StackEvents": []}

    def list_stack_resources(self, **_: Any) -> dict[str, Any]:
        return {"StackResourceSummaries": []}

    def describe_type(self, *, TypeName: str, **_: Any) -> dict[str, Any]:
        fixed = {"AWS::RDS::DBCluster": ["/properties/DBClusterIdentifier", "/properties/KmsKeyId"]}
        return {"Schema": json.dumps({"createOnlyProperties": fixed.get(TypeName, [])})}

    def update_termination_protection(self, **_: Any) -> dict[str, Any]:
        return {}

    def delete_stack(self, *, StackName: str, **_: Any) -> dict[str, Any]:
        self.stacks.pop(StackName.rpartition("/")[2], None)
        return {}


@dataclass
class Registry(Double):
    pushed: Path

    def describe_images(self, *, imageIds: list[dict[str, str]], **_: Any) -> dict[str, Any]:
        (wanted,) = imageIds
        if self.pushed.exists() and wanted.get("imageTag") in self.pushed.read_text().split():
            return {"imageDetails": [{"imageDigest": DIGEST}]}
        raise refusal("ImageNotFoundException")

    def get_authorization_token(self) -> dict[str, Any]:
        return {"authorizationData": [{"authorizationToken": "QVdTOndvcmQ=", "proxyEndpoint": "https://registry"}]}

    def list_images(self, **_: Any) -> dict[str, Any]:
        return {"imageIds": [{"imageDigest": DIGEST}] if self.pushed.exists() else []}

    def batch_delete_image(self, **_: Any) -> dict[str, Any]:
        self.pushed.unlink(missing_ok=True)
        return {}


class Rds(Rest):
    """The database lives as long as its stack, or longer."""

    def __init__(self, account: Account, stacks: dict[str, Any]) -> None:
        super().__init__(account)
        self._stacks = stacks
        self.left_behind = False

    def describe_db_clusters(self, **asked: Any) -> dict[str, Any]:
        if "lake-flights-dev" in self._stacks or self.left_behind:
            return super().describe_db_clusters(**asked)
        raise refusal("DBClusterNotFoundFault")


@pytest.fixture
def cloud(stage: Stage, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> CloudFormation:
    """Nothing is there yet."""
    account, folder = stage.account, tmp_path_factory.mktemp("bin")
    for bucket in (account.outputs["RawBucket"], account.outputs["ArtifactBucket"]):
        account.s3.delete_bucket(Bucket=bucket)
    engine = folder / "podman"
    engine.write_text(ENGINE.replace("{python}", sys.executable))
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))  # no other engine, whatever this machine has
    monkeypatch.setenv("PUSHED", str(folder / "pushed"))
    made = CloudFormation(account)
    account.services = {
        "cloudformation": made,
        "ecr": Registry(folder / "pushed"),
        "rds": Rds(account, made.stacks),
    }
    defaults = (lambda _changes: False, account.sleep, account.clock)
    monkeypatch.setattr(executor.Work.__init__, "__defaults__", defaults)
    return made


def test_a_first_deploy_ends_with_a_canary_and_a_second_one_does_nothing(stage: Stage, cloud: CloudFormation) -> None:
    plan = stage("deploy", "--plan").out
    assert "create stack lake-flights-dev" in plan
    assert "idle cost: about $0.95 a month" in plan
    assert not cloud.stacks
    done = stage("deploy", "--yes")
    assert "stage dev is ready" in done.out
    for told in ("with podman", "users and rights", "arrived after", "removed"):
        assert told in done.err
    assert stage("tables", "--json").document == []
    assert stage("objects", "--json").document == []
    again = stage("deploy", "--yes")
    assert "nothing to do: the stage is as it should be" in again.out


def test_a_changed_transform_ships_without_an_image_and_rollback_brings_the_old_one_back(
    stage: Stage, cloud: CloudFormation
) -> None:
    stage("deploy", "--yes")
    stage("upload", stage.file("trips.csv", "id\n1\n"))
    stage.file("transforms/trips.py", "def transform(df):\n    df['twice'] = df['id'] * 2\n    return df\n")
    plan = stage("deploy", "--plan").out
    assert "build the image" not in plan
    assert "~ TaskDefinition" in plan
    changed = stage("deploy", "--yes", "--json").document
    assert [step["step"] for step in changed["steps"]] == ["UploadArtifact", "ApplyStack"]
    stage("run", "raw/trips/trips.csv")
    assert stage.rows("select twice from trips") == [{"twice": 2}]
    listed = stage("rollback", "--list", "--json").document
    assert len(listed) == 2
    before = cloud.stacks["lake-flights-dev"]["Parameters"]
    stage("rollback", "--yes")
    after = cloud.stacks["lake-flights-dev"]["Parameters"]
    told = {item["ParameterKey"]: item["ParameterValue"] for item in after}
    assert told["BundleKey"] == listed[1]["bundle"]
    assert [item for item in before if item not in after] == [
        {"ParameterKey": "BundleKey", "ParameterValue": listed[0]["bundle"]}
    ]


@pytest.mark.parametrize(
    "call",
    [
        "cloudformation.create_change_set",
        "cloudformation.execute_change_set",
        "ecr.get_authorization_token",
        "s3.put_object",
        "secretsmanager.get_secret_value",
        "rds-data.execute_statement",
        "rds-data.begin_transaction",
        "ecs.list_tasks",
    ],
)
def test_a_deploy_that_broke_off_anywhere_is_finished_by_the_next(
    stage: Stage, cloud: CloudFormation, call: str
) -> None:
    stage.account.trouble[call] = refusal("ThrottlingException", "Rate exceeded")
    broken = stage("deploy", "--yes", code=None)
    assert call not in stage.account.trouble
    if broken.code:
        assert "run the same command again" in broken.err
    assert "stage dev is ready" in stage("deploy", "--yes").out or not broken.code
    assert "nothing to do" in stage("deploy", "--yes").out
    assert stage("objects", "--json").document == []


def test_a_change_that_would_lose_the_database_is_not_made_by_yes_alone(stage: Stage, cloud: CloudFormation) -> None:
    stage("deploy", "--yes", "--skip-canary")
    cluster = cloud.stacks["lake-flights-dev"]
    cluster["TemplateBody"] = cluster["TemplateBody"].replace(
        'DBClusterIdentifier: "lake-flights-dev"\n      Engine:', 'DBClusterIdentifier: "older"\n      Engine:'
    )
    plan = stage("deploy", "--plan").out
    assert "± DatabaseCluster" in plan
    assert "LOSES the database with every table" in plan
    assert "not confirmed; nothing was changed" in stage("deploy", "--yes", code=2).err


def test_destroy_leaves_nothing_and_keeps_what_it_is_told_to_keep(stage: Stage, cloud: CloudFormation) -> None:
    stage("deploy", "--yes")
    stage("upload", stage.file("trips.csv", "id\n1\n"))
    assert "--confirm dev" in stage("destroy", code=2).err
    kept = stage("destroy", "--confirm", "dev", "--keep-data", "--json").document
    assert not cloud.stacks
    assert set(kept["kept"]) >= {stage.account.outputs["RawBucket"], stage.account.outputs["ArtifactBucket"]}
    adopted = stage("deploy", "--plan").out
    assert "taking kept buckets back in" in adopted
    stage("deploy", "--yes", "--skip-canary")
    gone = stage("destroy", "--confirm", "dev", "--json").document
    assert gone["survivors"] == []
    assert not cloud._buckets()


def test_what_is_left_after_a_destroy_is_named_and_no_success(stage: Stage, cloud: CloudFormation) -> None:
    stage("deploy", "--yes", "--skip-canary")
    stage.account.services["rds"].left_behind = True
    done = stage("destroy", "--confirm", "dev", code=5)
    assert "survivor  database lake-flights-dev" in done.out
    assert "may still be there" in done.err


def test_a_raw_zone_that_was_deleted_by_hand_is_told_by_every_command(stage: Stage, cloud: CloudFormation) -> None:
    stage("deploy", "--yes")
    bucket = stage.account.outputs["RawBucket"]
    s3 = stage.account.s3
    left = s3.list_object_versions(Bucket=bucket)
    for item in (*left.get("Versions", ()), *left.get("DeleteMarkers", ())):
        s3.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
    s3.delete_bucket(Bucket=bucket)
    told = stage("deploy", "--yes", code=5).told
    assert f"bucket {bucket} was deleted by hand" in told
    assert "save the tables" in told
    for words in (("status",), ("objects",), ("run",)):
        told = stage(*words, code=3).told
        assert f"the bucket of s3://{bucket}/raw/ is not there" in told
        assert "hint: lakectl doctor" in told
    assert (
        f"bucket {bucket} is not there hint: lakectl doctor"
        in stage("upload", stage.file("a.csv", "id\n1\n"), code=5).told
    )
    checks = {check["name"]: check for check in stage("doctor", "--json", code=5).document["checks"]}
    assert (checks["raw zone"]["ok"], checks["raw zone"]["fix"]) == (False, "lakectl deploy --stage dev")
    gone = stage("destroy", "--confirm", "dev", "--keep-data", "--json").document
    assert gone["kept"] == [stage.account.outputs["ArtifactBucket"]]
