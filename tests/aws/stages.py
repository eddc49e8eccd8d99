"""A deployed stage as a fixture: a lake's directory, its account of doubles, and the command line."""

from __future__ import annotations

import dataclasses
import importlib
import io
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from etl_container import objects_s3
from lakectl import config
from lakectl.aws.rds_data import DataApi
from lakectl.aws.session import Aws, Identity
from lakectl.cli.app import main
from lakectl.deploy import bundle, database, facts
from lakectl.deploy.render import parse_stage
from lakectl.targets.aws import AwsTarget
from tests.aws.account import ACCOUNT, REGION, Account
from tests.outcome import Outcome


@dataclass
class Stage:
    """A lake's directory, its deployed stage ``dev``, and the command line."""

    root: Path
    account: Account
    capture: pytest.CaptureFixture[str]

    def __call__(self, *words: str, code: int | None = 0, stdin: bytes = b"") -> Outcome:
        self.capture.readouterr()
        before = sys.stdin
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
        try:
            ended = main(["--stage", "dev", *words])
        finally:
            sys.stdin = before
        captured = self.capture.readouterr()
        if code is not None:
            assert ended == code, f"{captured.out}\n{captured.err}"
        return Outcome(ended, captured.out, captured.err)

    def file(self, name: str, content: str | bytes) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def put(self, key: str, content: str) -> str:
        """An object that somebody else puts."""
        made = self.account.s3.put_object(Bucket=self.account.outputs["RawBucket"], Key=key, Body=content.encode())
        return str(made["VersionId"])

    def bundle(self) -> str:
        """What deploy uploads of the directory's settings and transforms; its address."""
        made = bundle.bundle(config.load(self.root))
        bucket = self.account.outputs["ArtifactBucket"]
        self.account.s3.put_object(Bucket=bucket, Key=made.key, Body=made.content)
        return f"s3://{bucket}/{made.key}"

    def rows(self, sql: str) -> Any:
        return self("query", sql, "--format", "json").document

    def count(self, table: str) -> int:
        return int(self.rows(f"select count(*) as n from {table}")[0]["n"])


@pytest.fixture
def stage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lake_database: Any,
    warehouse_dsn: str,
) -> Iterator[Stage]:
    settings = dataclasses.replace(parse_stage("flights", "dev", {}), account=ACCOUNT, region=REGION)
    names = settings.names
    environment = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "CLUSTER": names.cluster,
        "TASK_DEFINITION": "etl:1",
        "FAMILY": names.family,
        "CONTAINER": "etl",
        "SUBNETS": "subnet-a,subnet-b",
        "SECURITY_GROUP": "sg-task",
        "PUBLIC_IP": "ENABLED",
        "CAPACITY": "FARGATE",
        "MAX_TASKS": "4",
        "QUEUE_URL": f"https://sqs/{names.queue}",
        "PARKED_URL": f"https://sqs/{names.dead_queue}",
        "BUCKET": names.raw_bucket,
        "ARTIFACT_BUCKET": names.artifact_bucket,
        "ACCOUNT": ACCOUNT,
    }
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "LAKE_STAGE", "LAKE_WAREHOUSE", "LAKE_DIR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with mock_aws():
        objects_s3._client.cache_clear()
        s3 = boto3.client("s3", region_name=REGION)
        for bucket in (names.raw_bucket, names.artifact_bucket):
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        dispatcher = importlib.import_module("infra_templates.trigger.handler")
        dsn = re.sub("//[^/]*@/", "//lake_etl@/", warehouse_dsn)
        account = Account(settings, lake_database, dsn, dispatcher, s3)
        for service in ("ecs", "sqs", "s3"):
            monkeypatch.setattr(dispatcher, service, account.client(service))
        identity = Identity(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/me", REGION)
        aws = Aws(identity, account.client, keys=boto3.Session().get_credentials)
        monkeypatch.setattr(facts, "connect", lambda **_: aws)
        clocks = {"sleep": account.sleep, "clock": account.clock}
        monkeypatch.setattr(AwsTarget.__init__, "__kwdefaults__", clocks)
        (tmp_path / "lake.toml").write_text(f'name = "flights"\n[stage.dev]\nregion = "{REGION}"\n')
        monkeypatch.chdir(tmp_path)
        list(database.set_up(DataApi(aws, cluster="c", database="lake", secret="master"), "planted-reader-word"))
        yield Stage(tmp_path, account, capsys)
        objects_s3._client.cache_clear()
    for number, handler in handlers.items():
        signal.signal(number, handler)
