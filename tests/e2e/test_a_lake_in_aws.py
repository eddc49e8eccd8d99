"""A lake in the account, when things go well: deploy, upload, query, update, and how long that takes."""

from __future__ import annotations

import statistics
import time

from tests.e2e.conftest import TRIPS, WINDOW, Stage, until


def test_a_second_deploy_without_a_change_does_nothing_in_seconds(stage: Stage) -> None:
    done = stage.run("deploy", "--yes", "--json")
    assert done.json["changed"] is False
    assert done.seconds < 15


def test_an_uploaded_file_is_rows_in_the_warehouse(stage: Stage) -> None:
    done = stage.run("upload", stage.file("trips.csv", TRIPS), "--json")
    report = done.json["objects"][0]
    assert (report["state"], report["rows"], report["table"]) == ("loaded", 1000, "trips")
    assert stage.query("select count(*) as n, sum(fare) as s from trips where id < 500") == [{"n": 500, "s": 12475.0}]


def test_a_changed_transform_ships_without_building_an_image(stage: Stage) -> None:
    before = stage.run("status").out
    stage.file("transforms/slow.py", "import time\n\ndef transform(df):\n    time.sleep(6)\n    return df\n")
    done = stage.run("deploy", "--yes", "--json", "--skip-canary")
    assert done.json["changed"] is True
    assert not any("build" in step["sentence"] and step["seconds"] > 5 for step in done.json["steps"])
    line = next(line for line in before.splitlines() if line.startswith("image"))
    assert line in stage.run("status").out


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
