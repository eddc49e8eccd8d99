"""A lake in the account, when things go wrong: what ledger, dead-letter queue, ``status`` and ``explain`` say."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import TRIPS, Stage, until


def notify(stage: Stage, key: str, version: str, *, sequencer: str, times: int = 1) -> None:
    """The event of an object, as S3 puts it on the queue."""
    bucket, queue = stage.outputs["RawBucket"], stage.outputs["QueueUrl"]
    size = stage.client("s3").head_object(Bucket=bucket, Key=key, VersionId=version)["ContentLength"]
    entity = {"key": urllib.parse.quote_plus(key), "size": size, "versionId": version, "sequencer": sequencer}
    record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}}}
    record["s3"]["object"] = entity  # type: ignore[index]
    for _ in range(times):
        stage.client("sqs").send_message(QueueUrl=queue, MessageBody=json.dumps({"Records": [record]}))


def order(stage: Stage, key: str, *, attempt: int) -> None:
    """A work order for an object's newest version, as the dispatcher writes it for a next attempt."""
    head = stage.client("s3").head_object(Bucket=stage.outputs["RawBucket"], Key=key)
    wanted = {"key": key, "version": head["VersionId"], "sequencer": None, "size": head["ContentLength"]}
    work = {"objects": [wanted], "attempt": attempt, "trace": f"{time.time_ns():032x}"}
    stage.client("sqs").send_message(QueueUrl=stage.outputs["QueueUrl"], MessageBody=json.dumps({"lake_work": work}))


def parked(stage: Stage) -> int:
    """Messages in the dead-letter queue."""
    wanted = ["ApproximateNumberOfMessages"]
    told = stage.client("sqs").get_queue_attributes(QueueUrl=stage.outputs["DeadQueueUrl"], AttributeNames=wanted)
    return int(told["Attributes"][wanted[0]])


def said(stage: Stage, key: str) -> dict[str, Any]:
    """What everything says of an object, printed for people as well."""
    objects = [item["state"] for item in stage.run("objects", "--json").json if item["key"] == key]
    told = {
        "ledger": {"objects": objects, "runs": stage.states(key)},
        "parked": parked(stage),
        "status": " ".join(stage.run("status").told.split()),
        "explain": " ".join(stage.run("explain", key).out.split()),
    }
    print(f"\n{key}: {json.dumps(told, indent=1)}")
    return told


def test_the_same_event_delivered_five_times_loads_once(stage: Stage) -> None:
    stage.run("upload", stage.file("again.csv", TRIPS))
    bucket, key = stage.outputs["RawBucket"], "raw/again/again.csv"
    version = stage.client("s3").head_object(Bucket=bucket, Key=key)["VersionId"]
    notify(stage, key, version, sequencer="0055AED6DCD90281E5", times=5)
    until(lambda: "already_loaded" in stage.states(key))
    assert stage.count("again") == 1000
    told = said(stage, key)
    assert told["ledger"]["runs"].count("loaded") == 1
    assert set(told["ledger"]["runs"]) == {"loaded", "already_loaded"}
    assert told["ledger"]["objects"] == ["loaded"]
    assert told["parked"] == 0
    assert "loaded" in told["explain"]


def test_of_two_versions_in_the_wrong_order_the_newest_put_wins(stage: Stage) -> None:
    outputs, key = stage.outputs, "raw/order/order.csv"
    mapping = stage.client("lambda")
    mapping.update_event_source_mapping(UUID=outputs["EventSourceMapping"], Enabled=False)
    time.sleep(1)
    s3, bucket = stage.client("s3"), outputs["RawBucket"]
    texts = (b"id\n1\n", b"id\n2\n3\n")
    versions = [s3.put_object(Bucket=bucket, Key=key, Body=text)["VersionId"] for text in texts]
    until(lambda: _drained(stage, 2))
    mapping.update_event_source_mapping(UUID=outputs["EventSourceMapping"], Enabled=True)
    notify(stage, key, versions[1], sequencer="0055AED6DCD90281E6")
    until(lambda: stage.states(key) == ["loaded"])
    notify(stage, key, versions[0], sequencer="0055AED6DCD90281E5")
    until(lambda: stage.states(key) == ["loaded", "superseded"])
    told = said(stage, key)
    assert told["ledger"]["objects"] == ["loaded", "superseded"]
    assert told["parked"] == 0
    assert stage.query('select id from "order" order by id') == [{"id": 2}, {"id": 3}]


def _drained(stage: Stage, wanted: int) -> bool:
    """Take the events of S3 away, to deliver them by hand."""
    sqs, url = stage.client("sqs"), stage.outputs["QueueUrl"]
    found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", [])
    for message in found:
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    _drained.count = getattr(_drained, "count", 0) + len(found)  # type: ignore[attr-defined]
    return _drained.count >= wanted  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def slow_transform(stage: Stage) -> Iterator[None]:
    """The dataset ``slow`` takes its time."""
    path = stage.file("transforms/slow.py", "import time\n\ndef transform(df):\n    time.sleep(12)\n    return df\n")
    stage.run("deploy", "--yes", "--skip-canary")
    yield
    (stage.root / path).unlink()
    stage.run("deploy", "--yes", "--skip-canary")


def test_a_task_killed_in_the_middle_of_a_load_leaves_no_row_and_the_next_run_loads_all(
    stage: Stage, slow_transform: None
) -> None:
    key = "raw/slow/slow.csv"
    stage.run("upload", stage.file("slow.csv", TRIPS), "--no-wait")
    until(lambda: stage.states(key) == ["running"])
    containers = ["docker", "ps", "-q", "--filter", f"label=com.amazonaws.ecs.cluster={stage.outputs['ClusterArn']}"]
    running = subprocess.run(containers, capture_output=True, text=True, check=True).stdout.split()
    assert len(running) == 1
    subprocess.run(["docker", "kill", *running], capture_output=True, check=True)
    until(lambda: stage.states(key) == ["failed"])
    until(lambda: "1 to be retried later" in stage.run("status").out)
    told = said(stage, key)
    assert told["ledger"]["objects"] in (["pending"], ["failed"])  # until the next run, which is on its way
    assert told["parked"] == 0
    assert re.match(rf"run \d+ of {key} failed in its task: the task was killed", told["explain"])
    stage.run("run", key)
    assert stage.states(key)[-1] == "loaded"
    assert stage.count("slow") == 1000


def test_a_task_that_never_starts_is_tried_again_then_parked_and_loaded_by_retry(stage: Stage, no_image: Path) -> None:
    key = "raw/late/late.csv"
    stage.run("upload", stage.file("late.csv", TRIPS), "--no-wait")
    until(lambda: [task for task in stage.tasks() if task.get("stopCode") == "TaskFailedToStart"])
    told = said(stage, key)
    assert told["ledger"] == {"objects": ["pending"], "runs": []}
    assert told["parked"] == 0
    assert "no such digest" in told["explain"]
    order(stage, key, attempt=3)  # the last one, without the minutes between the attempts
    until(lambda: parked(stage) == 1)
    told = said(stage, key)
    assert "1 parked" in told["status"]
    assert "no such digest" in told["explain"]
    no_image.unlink()
    stage.run("retry")
    until(lambda: "loaded" in stage.states(key))
    assert stage.count("late") == 1000
    assert parked(stage) == 0


def test_a_broken_file_ends_with_its_reason_and_is_not_tried_again(stage: Stage) -> None:
    key = "raw/broken/broken.parquet"
    done = stage.run("upload", stage.file("broken.parquet", b"PAR1" + bytes(400)), "--json", code=6)
    report = done.json["objects"][0]
    assert report["state"] == "failed"
    told = said(stage, key)
    assert told["ledger"] == {"objects": ["failed"], "runs": ["failed"]}
    assert told["parked"] == 0
    assert report["error"]
    assert report["error"] in told["explain"]
    assert "failed object version" in told["status"]


def test_a_message_that_means_nothing_is_parked_and_told(stage: Stage) -> None:
    stage.client("sqs").send_message(QueueUrl=stage.outputs["QueueUrl"], MessageBody="good morning")
    until(lambda: parked(stage) == 1)
    assert "1 parked" in stage.run("status").told
    assert "good morning" in stage.run("retry", "--list").out
    stage.client("sqs").purge_queue(QueueUrl=stage.outputs["DeadQueueUrl"])
