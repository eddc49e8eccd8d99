"""A lake in the account: what an operator sees when things go well, twice, out of order, and wrong."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
import urllib.parse
from pathlib import Path

from tests.e2e.conftest import WINDOW, Stage, until

TRIPS = "id,city,fare\n" + "".join(f"{number},c{number % 7},{number / 10}\n" for number in range(1000))


def notify(stage: Stage, key: str, version: str, *, sequencer: str, times: int = 1) -> None:
    """The event of an object, as S3 puts it on the queue."""
    bucket, queue = stage.outputs["RawBucket"], stage.outputs["QueueUrl"]
    size = stage.client("s3").head_object(Bucket=bucket, Key=key, VersionId=version)["ContentLength"]
    entity = {"key": urllib.parse.quote_plus(key), "size": size, "versionId": version, "sequencer": sequencer}
    record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}}}
    record["s3"]["object"] = entity  # type: ignore[index]
    for _ in range(times):
        stage.client("sqs").send_message(QueueUrl=queue, MessageBody=json.dumps({"Records": [record]}))


def test_a_second_deploy_without_a_change_does_nothing_in_seconds(stage: Stage) -> None:
    done = stage.run("deploy", "--yes", "--json")
    assert done.json["changed"] is False
    assert done.seconds < 15


def test_an_uploaded_file_is_rows_in_the_warehouse(stage: Stage) -> None:
    done = stage.run("upload", stage.file("trips.csv", TRIPS), "--json")
    report = done.json["objects"][0]
    assert (report["state"], report["rows"], report["table"]) == ("loaded", 1000, "trips")
    assert stage.query("select count(*) as n, sum(fare) as s from trips where id < 500") == [{"n": 500, "s": 12475.0}]


def test_the_same_event_delivered_five_times_loads_once(stage: Stage) -> None:
    stage.run("upload", stage.file("again.csv", TRIPS))
    bucket, key = stage.outputs["RawBucket"], "raw/again/again.csv"
    version = stage.client("s3").head_object(Bucket=bucket, Key=key)["VersionId"]
    notify(stage, key, version, sequencer="0055AED6DCD90281E5", times=5)
    until(lambda: "already_loaded" in stage.states(key))
    assert stage.count("again") == 1000
    assert stage.states(key).count("loaded") == 1


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
    assert stage.query('select id from "order" order by id') == [{"id": 2}, {"id": 3}]


def _drained(stage: Stage, wanted: int) -> bool:
    """Take the events of S3 away, to deliver them by hand."""
    sqs, url = stage.client("sqs"), stage.outputs["QueueUrl"]
    found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", [])
    for message in found:
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    _drained.count = getattr(_drained, "count", 0) + len(found)  # type: ignore[attr-defined]
    return _drained.count >= wanted  # type: ignore[attr-defined,no-any-return]


def test_a_changed_transform_ships_without_building_an_image(stage: Stage) -> None:
    before = stage.run("status").out
    stage.file("transforms/slow.py", "import time\n\ndef transform(df):\n    time.sleep(6)\n    return df\n")
    done = stage.run("deploy", "--yes", "--json", "--skip-canary")
    assert done.json["changed"] is True
    assert not any("build" in step["sentence"] and step["seconds"] > 5 for step in done.json["steps"])
    line = next(line for line in before.splitlines() if line.startswith("image"))
    assert line in stage.run("status").out


def test_a_task_killed_in_the_middle_of_a_load_leaves_no_row_and_the_next_run_loads_all(stage: Stage) -> None:
    key = "raw/slow/slow.csv"
    stage.run("upload", stage.file("slow.csv", TRIPS), "--no-wait")
    until(lambda: stage.states(key) == ["running"])
    containers = ["docker", "ps", "-q", "--filter", f"label=com.amazonaws.ecs.cluster={stage.outputs['ClusterArn']}"]
    running = subprocess.run(containers, capture_output=True, text=True, check=True).stdout.split()
    assert len(running) == 1
    subprocess.run(["docker", "kill", *running], capture_output=True, check=True)
    until(lambda: stage.states(key) == ["failed"])
    assert "killed" in stage.run("explain", key).out
    stage.run("run", key)
    assert stage.states(key)[-1] == "loaded"
    assert stage.count("slow") == 1000


def test_a_task_that_cannot_start_is_explained_and_runs_when_it_can(stage: Stage, no_image: Path) -> None:
    key = "raw/late/late.csv"
    stage.run("upload", stage.file("late.csv", TRIPS), "--no-wait")
    until(lambda: [task for task in stage.tasks() if task.get("stopCode") == "TaskFailedToStart"])
    assert "no such digest" in stage.run("explain", key).out
    no_image.unlink()
    stage.run("run", key)
    assert stage.count("late") == 1000


def test_a_broken_file_ends_with_its_reason_and_is_not_tried_again(stage: Stage) -> None:
    whole = b"PAR1" + bytes(400)
    done = stage.run("upload", stage.file("broken.parquet", whole), "--json", code=6)
    report = done.json["objects"][0]
    assert report["state"] == "failed"
    assert report["error"]
    assert report["error"] in " ".join(stage.run("explain", "raw/broken/broken.parquet").out.split())
    assert stage.states("raw/broken/broken.parquet") == ["failed"]


def test_two_hundred_small_files_at_once_share_few_tasks(stage: Stage) -> None:
    for number in range(200):
        stage.file(f"many/{number:03}.csv", f"id,n\n{number},{number * 2}\n")
    before = len(stage.tasks())
    began = time.monotonic()
    stage.run("upload", "many", patience=400)
    started = len(stage.tasks()) - before
    print(f"\n200 small files: {started} tasks, {time.monotonic() - began:.1f} s")
    assert stage.query("select count(*) as n, count(distinct id) as d, sum(n) as s from many") == [
        {"n": 200, "d": 200, "s": "39800"}
    ]
    assert started <= 40


def test_twenty_files_one_after_the_other_are_rows_soon(stage: Stage) -> None:
    seconds = []
    s3, bucket = stage.client("s3"), stage.outputs["RawBucket"]
    stage.run("upload", stage.file("warm.csv", TRIPS))
    arn, secret = stage.outputs["DatabaseArn"], stage.outputs["ReaderSecretArn"]
    data = stage.client("rds-data")
    for number in range(20):
        key, began = f"raw/warm/{number}.csv", time.monotonic()
        s3.put_object(Bucket=bucket, Key=key, Body=TRIPS.encode())

        def loaded(key: str = key) -> bool:
            sql = f"select count(*) from lake.objects where key = '{key}' and state = 'loaded'"
            got = data.execute_statement(resourceArn=arn, secretArn=secret, database="lake", sql=sql)
            return bool(got["records"][0][0]["longValue"])

        until(loaded, pause=0.05)
        seconds.append(time.monotonic() - began)
    cuts = statistics.quantiles(seconds, n=20)
    told = f"p50 {statistics.median(seconds):.2f} s, p95 {cuts[-1]:.2f} s"
    print(f"\nput to rows, 20 files, batching window {WINDOW} s: {told}")
    assert statistics.median(seconds) < 20


def test_destroy_leaves_nothing(stage: Stage) -> None:
    stage.run("destroy", "--confirm", "dev", "--yes")
    names = stage.client("s3").list_buckets()["Buckets"]
    assert not [bucket for bucket in names if bucket["Name"].startswith(stage.stack)]
    stacks = stage.client("cloudformation").list_stacks(
        StackStatusFilter=["CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_FAILED"]
    )
    assert not [stack for stack in stacks["StackSummaries"] if stack["StackName"].startswith(stage.stack)]
    groups = stage.client("logs").describe_log_groups()["logGroups"]
    assert not [group for group in groups if stage.stack in group["logGroupName"]]
