"""The commands on a stage in AWS: the real dispatcher, the real ETL and a real PostgreSQL, in an account of doubles."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import pytest

from etl_container import ledger
from etl_container.objects_s3 import S3Store
from etl_container.warehouse import Session
from lakectl import config
from lakectl.aws.refusals import RefusedError
from lakectl.deploy import facts
from lakectl.targets.aws import AwsTarget
from lakectl.targets.following import in_order
from tests.aws.account import ACCOUNT, REGION, Fate, refusal
from tests.aws.stages import Stage

TRIPS = "id,city,fare\n" + "".join(f"{number},c{number % 7},{number / 10}\n" for number in range(1000))
KEY = "raw/trips/trips.csv"


def test_upload_follows_an_object_through_every_hop(stage: Stage) -> None:
    done = stage("upload", stage.file("trips.csv", TRIPS))
    for hop in ("is in the raw zone", "its event came", "is running", "run 1 loads it"):
        assert hop in done.err
    assert re.search(r"put 0\.0 s → event [\d.]+ s → task [\d.]+ s → run [\d.]+ s → rows [\d.]+ s", done.out)
    assert stage.count("trips") == 1000


def test_the_hops_are_in_the_json_in_their_order(stage: Stage) -> None:
    (report,) = stage("upload", stage.file("trips.csv", TRIPS), "--json").document["objects"]
    assert list(report["hops"]) == ["put", "event", "task", "run", "rows"]
    assert sorted(report["hops"].values()) == list(report["hops"].values())


def test_an_object_whose_event_is_lost_is_asked_for_and_loaded(stage: Stage) -> None:
    stage.account.lose_events = True
    done = stage("upload", stage.file("trips.csv", TRIPS))
    assert "no event has come; asking the dispatcher for it" in done.err
    assert stage.count("trips") == 1000


def test_what_the_bucket_has_and_the_ledger_lacks_is_told_and_loaded_by_one_command(stage: Stage) -> None:
    stage.account.lose_events = True
    for number in range(3):
        stage.put(f"raw/trips/{number}.csv", TRIPS)
    stage.account.pass_time(60)
    status = stage("status")
    assert "3 objects not loaded, and nothing on its way: lakectl run" in status.told
    assert stage("status", "--json").document["objects"] == {"pending": 3}
    assert "no event of raw/trips/0.csv has reached the dispatcher" in stage("explain", "raw/trips/0.csv").told
    stage("run")
    assert stage.count("trips") == 3000
    assert "not loaded" not in stage("status").told
    assert "nothing to do" in stage("run").err


def test_an_event_that_waits_for_room_is_explained(stage: Stage) -> None:
    stage.account.no_room = "RESOURCE:CPU"
    stage("upload", stage.file("trips.csv", TRIPS), "--no-wait")
    stage.account.pass_time(10)
    told = stage("explain", KEY).told
    assert f"the event of {KEY} waits in the queue" in told
    assert "the dispatcher says: RESOURCE:CPU" in told
    stage.account.no_room = None
    stage.account.pass_time(120)
    assert "1,000 rows of" in stage("explain", KEY).told


def test_a_queue_that_nobody_reads_is_explained(stage: Stage) -> None:
    stage.account.dispatching = False
    stage("upload", stage.file("trips.csv", TRIPS), "--no-wait")
    stage.account.pass_time(10)
    assert "the dispatcher does not read its queue (Disabled)" in stage("explain", KEY).told
    assert "does not read its queue" in stage("status").told


def test_a_task_that_never_starts_is_named_and_retried_and_then_parked(stage: Stage) -> None:
    never = Fate("TaskFailedToStart", reason="CannotPullContainerError: no such digest")
    stage.account.fates = [never] * 3
    stage("upload", stage.file("trips.csv", TRIPS), "--no-wait")
    stage.account.pass_time(30)
    first = stage("explain", KEY).told
    assert "the task never started: CannotPullContainerError: no such digest" in first
    assert "it is tried again 60 s after that, as attempt 2" in first
    stage.account.pass_time(400)
    told = stage("explain", KEY).told
    assert f"{KEY} is parked: CannotPullContainerError: no such digest, after 3 attempts" in told
    assert f"lakectl retry {KEY}" in told
    assert "1 parked event:" in stage("status").told
    listed = stage("retry", "--list", "--json").document["parked"]
    assert [item["keys"] for item in listed] == [[KEY]]
    assert "no such digest" in listed[0]["cause"]
    assert "1 event sent back" in stage("retry", KEY).out
    stage.account.pass_time(60)
    assert stage.count("trips") == 1000
    assert "nothing is parked" in stage("retry", "--list").err


def test_waiting_for_an_upload_ends_when_it_is_parked(stage: Stage) -> None:
    stage.account.fates = [Fate("UserInitiated", 143, "stopped by an operator")]
    done = stage("upload", stage.file("trips.csv", TRIPS), "--json", code=5)
    (report,) = done.document["objects"]
    assert report["state"] == "failed"
    assert "the work is parked: stopped by an operator" in report["error"]
    assert f"lakectl retry {KEY}" in report["hint"]


def test_a_task_that_dies_is_retried_while_upload_waits(stage: Stage) -> None:
    stage.account.fates = [Fate("EssentialContainerExited", 137, "OutOfMemoryError")]
    done = stage("upload", stage.file("trips.csv", TRIPS))
    assert "is stopped: the task was killed: out of memory" in done.err
    assert stage.count("trips") == 1000


def test_a_run_whose_task_was_killed_is_failed_for_explain_as_for_runs(stage: Stage) -> None:
    version = stage.put(KEY, TRIPS)
    stage.account.fates = [Fate("EssentialContainerExited", 137, "OutOfMemoryError: container killed")]
    ref = S3Store(stage.account.outputs["RawBucket"], sleep=lambda _: None).find(KEY, version)
    with Session(stage.account.etl_dsn) as session:
        ledger.begin(session, [ref], config.load(stage.root).dataset_of(KEY), [None])
        assert f"it is loading {KEY}" in stage("explain", KEY).told
    stage.account.pass_time(20)
    assert [run["state"] for run in stage("runs", "--json").document] == ["failed"]
    for subject in (KEY, "1"):
        told = stage("explain", subject, "--json").document
        assert (
            told["cause"]
            == f"run 1 of {KEY} failed in its task: the task was killed: out of memory, or stopped by force"
        )
        assert told["hint"].startswith("it is tried again 60 s after that, as attempt 2")
        assert told["facts"]["state"] == "failed"
    assert "pending" not in stage("explain", KEY).told
    stage.account.pass_time(120)
    assert "1,000 rows of" in stage("explain", KEY).told
    assert f"run 1 of {KEY} failed in its task" in stage("explain", "1").told


def test_a_broken_file_fails_once_with_its_reason(stage: Stage) -> None:
    done = stage("upload", stage.file("broken.parquet", b"PAR1" + bytes(400)), "--json", code=6)
    (report,) = done.document["objects"]
    assert report["error"]
    told = stage("explain", "raw/broken/broken.parquet").told
    assert " ".join(report["error"].split()) in told
    assert len(stage.account.tasks) == 1


def test_the_same_event_five_times_loads_once(stage: Stage) -> None:
    stage.account.lose_events = True
    version = stage.put(KEY, TRIPS)
    stage.account.notify(KEY, version, size=len(TRIPS), times=5)
    stage.account.pass_time(60)
    assert stage.count("trips") == 1000
    assert [run["state"] for run in stage("runs", "--json").document].count("loaded") == 1


def test_run_works_on_failed_named_and_all_objects(stage: Stage) -> None:
    stage.file("transforms/trips.py", "def transform(df):\n    return df\n")
    stage("upload", stage.file("trips.csv", TRIPS))
    again = stage("run", KEY, "--json").document["objects"]
    assert [item["state"] for item in again] == ["loaded"]
    assert stage.count("trips") == 1000
    stage("run", "--all", "--dataset", "trips")
    assert stage.count("trips") == 1000
    assert "nothing to do" in stage("run", "--failed").err


def test_undo_takes_the_rows_of_a_run_away_and_brings_back_what_it_replaced(stage: Stage) -> None:
    stage("upload", stage.file("trips.csv", TRIPS))
    stage("upload", stage.file("trips.csv", "id,city,fare\n1,x,2.5\n"))
    assert stage.count("trips") == 1
    done = stage("undo", "2", "--json").document
    assert (done["removed"], done["restored"]) == (1, 1000)
    assert stage.count("trips") == 1000
    assert "no run 99" in stage("undo", "99", code=3).err


def test_rejects_are_listed_exported_mended_and_loaded(stage: Stage) -> None:
    (stage.root / "lake.toml").write_text(
        (stage.root / "lake.toml").read_text()
        + '[dataset.trips.contract.columns]\nfare = { type = "numeric", max = 50 }\n'
    )
    stage.account.etl_environment["LAKE_BUNDLE"] = stage.bundle()
    stage("upload", stage.file("trips.csv", TRIPS))
    found = stage("rejects", "trips", "--json").document
    assert len(found) == 499
    export = str(stage.root / "mend.csv")
    stage("rejects", "trips", "--export", export)
    with Path(export).open(newline="") as stream:
        records = list(csv.DictReader(stream))
    with Path(export).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(records[0]))
        writer.writeheader()
        writer.writerows({**record, "fare": "7.5"} for record in records)
    (report,) = stage("rejects", "trips", "--retry", export, "--json").document["retried"]
    assert (report["loaded"], report["still_rejected"]) == (499, 0)
    assert stage.count("trips") == 1000
    (again,) = stage("rejects", "trips", "--retry", export, "--json").document["retried"]
    assert (again["dataset"], again["loaded"], again["still_rejected"]) == ("trips", 0, 0)
    assert stage.count("trips") == 1000


@pytest.mark.parametrize(
    ("text", "told", "code"),
    [
        ("_reject,id,_surplus\n9,1,\n", "line 2: there is no reject 9 of dataset trips", 2),
        (
            "_reject,id,_surplus\n1,1,too much\n",
            "nothing mended in it: 1 of its records still have cells in _surplus",
            2,
        ),
        ("id\n1\n", "has no column _reject: it is not an export", 2),
        (None, "no file", 3),
    ],
)
def test_an_export_that_mends_nothing_is_refused_and_nothing_is_loaded(
    stage: Stage, text: str | None, told: str, code: int
) -> None:
    stage("upload", stage.file("trips.csv", "id,city\n1,a\n2,b,surplus\n"))
    export = stage.root / "mend.csv"
    if text is not None:
        export.write_text(text)
    assert told in stage("rejects", "trips", "--retry", str(export), code=code).told
    assert len(stage("runs", "--json").document) == 1


def test_logs_are_told_in_the_order_of_time_and_by_run(stage: Stage) -> None:
    stage("upload", stage.file("trips.csv", TRIPS))
    stage("upload", stage.file("more.csv", TRIPS))
    told = stage("logs").out
    assert told.index("dispatched") < told.index("starting") < told.index("done")
    lines = stage("logs", "--run", "2", "--json").document
    assert lines
    assert len({line["stream"] for line in lines}) == 1
    assert any("more.csv" in line["text"] for line in lines)
    assert "no run 9" in stage("logs", "--run", "9", code=3).err
    assert "expected an age" in stage("logs", "--since", "soon", code=2).err


def test_doctor_goes_through_everything_that_a_stage_rests_on(stage: Stage) -> None:
    checks = {check["name"]: check for check in stage("doctor", "--json", code=None).document["checks"]}
    wanted = ("credentials", "stack", "quota", "database", "query", "dispatcher", "parked events", "raw zone")
    assert all(checks[name]["ok"] for name in wanted)
    stage.account.trouble["rds.describe_db_clusters"] = refusal("AccessDenied", "not yours")
    failing = {check["name"]: check for check in stage("doctor", "--json", code=None).document["checks"]}
    assert failing["database"]["fix"] == "the rights that lakectl needs: lakectl iam policy"


def test_an_expired_session_is_told_with_the_command_that_renews_it(stage: Stage) -> None:
    stage.account.trouble["cloudformation.describe_stacks"] = refusal("ExpiredToken")
    assert "the AWS session has expired" in stage("status", code=4).err


def test_a_database_that_pauses_is_waited_for_and_said_to_wake(stage: Stage) -> None:
    stage("upload", stage.file("trips.csv", TRIPS))
    stage.account.database.asleep = 3
    assert stage("query", "select 1 as one").told.startswith("one 1")


def test_a_result_beyond_a_megabyte_comes_whole_and_a_row_beyond_64_kib_ends_it_loudly(stage: Stage) -> None:
    stage.account.database._limit = 60_000
    done = stage("query", "select n, repeat('x', 100) as t from generate_series(1, 3000) n", "--format", "csv")
    assert len(done.out.splitlines()) == 3001
    big = "select n, repeat('x', case n when 8 then 90000 else 1 end) as t from generate_series(1, 20) n"
    cut = stage("query", big, "--format", "csv", code=5)
    assert len(cut.out.splitlines()) == 8
    assert "truncated after 7 rows" in cut.err
    assert "--via DSN" in cut.err


def test_a_query_goes_directly_where_via_says(stage: Stage, warehouse_dsn: str) -> None:
    stage("upload", stage.file("trips.csv", TRIPS))
    calls = list(stage.account.calls)
    done = stage("query", "select count(*) as n from trips", "--via", warehouse_dsn, "--format", "json")
    assert done.document == [{"n": 1000}]
    assert stage.account.calls == calls


@pytest.fixture
def nearby(warehouse_dsn: str) -> Iterator[str]:
    """Another warehouse than the stage's, on this machine."""
    name = "nearby"
    admin = psycopg2.connect(warehouse_dsn)
    admin.autocommit = True
    with admin.cursor() as cursor:
        cursor.execute(f'drop database if exists "{name}" with (force)')
        cursor.execute(f'create database "{name}"')
    yield re.sub(r"@/\w+\?", f"@/{name}?", warehouse_dsn)
    with admin.cursor() as cursor:
        cursor.execute(f'drop database "{name}" with (force)')
    admin.close()


def test_an_object_of_the_stage_is_loaded_through_this_machine(
    stage: Stage, nearby: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.put(KEY, TRIPS)
    stage.put("raw/trips/more.csv", TRIPS)
    bucket = stage.account.outputs["RawBucket"]
    monkeypatch.setenv("LAKE_WAREHOUSE", nearby)
    dry = stage("run-local", f"s3://{bucket}/{KEY}", "--dry-run")
    assert "would load  raw/trips/trips.csv → trips  1,000 rows" in dry.out
    done = stage("run-local", f"s3://{bucket}/{KEY}")
    assert "loading into the warehouse of stage local" in done.err
    stage("run-local", "raw/trips/")
    found = stage("query", "select count(*) as n from trips", "--via", nearby, "--format", "json").document
    assert found == [{"n": 2000}]
    assert stage("runs", "--json").document == []
    assert "is not in s3://" in stage("run-local", "s3://other/raw/a/a.csv", code=2).err
    assert "lakectl upload" in stage("run-local", stage.file("f.csv", TRIPS), code=2).err


ENGINE = """#!/usr/bin/env python3
import json, os, sys
with open(os.environ["ENGINE_LOG"], "a") as log:
    kept = {name: value for name, value in os.environ.items() if name.startswith(("LAKE_", "AWS_"))}
    log.write(json.dumps({"words": sys.argv[1:], "environment": kept}) + "\\n")
if sys.argv[1] == "login":
    sys.stdin.read()
if sys.argv[1] == "run":
    code = int(os.environ.get("ENGINE_CODE", "0"))
    if code:
        sys.exit("exec format error")
    (wanted,) = json.loads(os.environ["LAKE_OBJECTS"])
    told = {"event": "loaded", **wanted, "dataset": "trips", "table": "trips", "rows": 3, "run": "9", "notes": ["a"]}
    print(json.dumps({"event": "starting"}))
    print(json.dumps(told))
    print(json.dumps({"event": "done", "exit_code": 0}))
"""


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A container engine that writes down what it was asked; its log."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "docker"
    script.write_text(ENGINE.replace("/usr/bin/env python3", sys.executable))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("ENGINE_LOG", str(folder / "log"))
    return folder / "log"


def test_the_deployed_image_loads_an_object_on_this_machine(stage: Stage, engine: Path, nearby: str) -> None:
    version = stage.put(KEY, TRIPS)
    done = stage("run-local", KEY, "--container", "--warehouse", nearby)
    assert "loaded  raw/trips/trips.csv → trips  3 rows" in done.out
    *_, ran = map(json.loads, engine.read_text().splitlines())
    assert ran["words"][0] == "run"
    assert ran["words"][-1] == f"repo@sha256:{'a' * 64}"
    for word in ("--read-only", "--platform", "linux/arm64"):
        assert word in ran["words"]
    assert json.loads(ran["environment"]["LAKE_OBJECTS"]) == [{"key": KEY, "version": version}]
    assert ran["environment"]["LAKE_WAREHOUSE"] == nearby
    assert not [word for word in ran["words"] if nearby in word]
    socket = Path(urllib.parse.parse_qs(urllib.parse.urlsplit(nearby).query)["host"][0])
    assert ran["words"][ran["words"].index("--volume") + 1] == f"{socket}:{socket}"
    owner = socket.stat()  # nobody else may use the embedded server's socket
    assert ran["words"][ran["words"].index("--user") + 1] == f"{owner.st_uid}:{owner.st_gid}"
    assert ran["environment"]["AWS_SECRET_ACCESS_KEY"] == os.environ["AWS_SECRET_ACCESS_KEY"]


def test_a_container_that_cannot_run_says_its_last_words(
    stage: Stage, engine: Path, nearby: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.put(KEY, TRIPS)
    monkeypatch.setenv("ENGINE_CODE", "1")
    failed = stage("run-local", KEY, "--container", "--warehouse", nearby, code=5)
    assert "exec format error" in failed.err


def test_no_secret_is_in_anything_that_is_said_or_kept(
    stage: Stage, engine: Path, nearby: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = {
        "AWS_SECRET_ACCESS_KEY": "planted-secret-key",
        "AWS_SESSION_TOKEN": "planted-session-token",
        "PGPASSWORD": "planted-database-word",
    }
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    keys = boto3.Session(
        **{name.lower(): planted[name] for name in planted if name.startswith("AWS")}, aws_access_key_id="id"
    )
    monkeypatch.setattr(facts.connect(), "_keys", keys.get_credentials)
    dsn = nearby.replace("@/", ":planted-dsn-word@/", 1)
    broken = "postgresql://me:planted-dsn-word@127.0.0.1:1/db?connect_timeout=1"
    said = []

    def heard(*words: str) -> None:
        for more in ((), ("--json",), ("--debug",)):
            done = stage(*words, *more, code=None)
            said.append(done.out + done.err)

    heard("upload", stage.file("trips.csv", TRIPS))
    heard("upload", stage.file("broken.parquet", b"PAR1" + bytes(400)))
    heard("run-local", KEY, "--container", "--warehouse", dsn)
    heard("run-local", KEY, "--warehouse", broken)
    heard("query", "select 1", "--via", dsn)
    heard("query", "select 1", "--via", broken)
    heard("query", "select nonsense", "--via", dsn)
    stage.account.trouble["rds-data.execute_statement"] = refusal("AccessDeniedException", "not allowed")
    heard("query", "select 1")
    monkeypatch.setenv("LAKE_WAREHOUSE", broken)
    for words in ("status", "doctor", "objects", "runs", "tables", "cost", "logs", "retry --list", "rejects"):
        heard(*words.split())
    heard("logs", "--raw")
    heard("config", "show")
    heard("explain", KEY)
    heard("explain", "raw/broken/broken.parquet")
    heard("iam", "policy")
    heard("rollback", "--list")
    heard("deploy", "--render", str(stage.root / "rendered"))
    monkeypatch.setenv("LAKE_STAGE", "local")
    for words in (("status",), ("doctor",), ("config", "show")):
        done = stage("--stage", "local", *words, code=None)
        said.append(done.out + done.err)
    asked = [" ".join(json.loads(line)["words"]) for line in engine.read_text().splitlines()]
    kept = [path.read_bytes().decode("latin-1") for path in stage.root.rglob("*") if path.is_file()]
    logged = [line["message"] for line in stage.account.lines]
    queued = [message.body for messages in stage.account.queues.values() for message in messages]
    statements = stage.account.database.statements
    everything = "\n".join([*said, *asked, *kept, *logged, *queued, *statements])
    assert len(said) > 60
    for secret in (*planted.values(), "planted-dsn-word", "planted-reader-word", "planted-registry-word"):
        assert secret not in everything


def test_policies_are_written_in_parts_that_iam_takes(stage: Stage) -> None:
    made = stage("iam", "policy", "--output", str(stage.root / "policies"), "--json").document
    assert made["files"] == ["deployer-1.json", "deployer-2.json", "operator.json"]
    documents = [json.loads((stage.root / "policies" / name).read_text()) for name in made["files"]]
    assert all(len(json.dumps(document, separators=(",", ":"))) <= 6144 for document in documents)
    whole = stage("iam", "policy").document["Statement"]
    assert [statement for document in documents[:2] for statement in document["Statement"]] == whole


def test_a_throttled_look_at_the_way_does_not_end_the_waiting(stage: Stage) -> None:
    stage.account.trouble["logs.filter_log_events"] = refusal("ThrottlingException", "Rate exceeded")
    done = stage("upload", stage.file("trips.csv", TRIPS), "--wait")
    assert "the way cannot be seen now: AWS asks for a slower pace" in done.err
    assert stage.count("trips") == 1000


def test_a_session_that_expires_while_upload_waits_is_told_and_the_same_command_goes_on(stage: Stage) -> None:
    path = stage.file("trips.csv", TRIPS)
    stage.account.trouble["ecs.describe_tasks"] = refusal("ExpiredTokenException")
    assert "the AWS session has expired" in stage("upload", path, code=4).err
    stage.account.pass_time(60)
    (report,) = stage("upload", path, "--json").document["objects"]
    assert (report["state"], report["rows"]) == ("already_loaded", 1000)


def test_logs_are_followed_until_ctrl_c_each_line_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage("upload", stage.file("trips.csv", TRIPS), "--no-wait")
    naps = iter(range(20))

    def sleep(seconds: float) -> None:
        if next(naps, None) is None:
            raise KeyboardInterrupt
        stage.account.sleep(seconds)

    clocks = {"sleep": sleep, "clock": stage.account.clock}
    monkeypatch.setattr(AwsTarget.__init__, "__kwdefaults__", clocks)
    done = stage("logs", "-f", "--json", code=130)
    lines = [json.loads(line)["text"] for line in done.out.splitlines() if line.startswith("{") and '"group"' in line]
    assert [json.loads(line)["event"] for line in lines if "done" in line] == ["done"]
    assert len(lines) == len(set(lines)) == len(stage.account.lines)


def test_cost_tells_of_idling_and_of_work(stage: Stage) -> None:
    told = stage("cost", "--json").document
    assert told["monthly_idle_usd"] == pytest.approx(sum(item["monthly_usd"] for item in told["items"]), abs=0.01)
    assert {"one minute of a task", "waking the database once"} <= {item["what"] for item in told["work"]}
    assert "one minute of a task" in stage("cost").out


def test_a_query_that_writes_needs_the_flag_and_is_done_as_the_owner(stage: Stage) -> None:
    stage("upload", stage.file("trips.csv", TRIPS))
    refused = stage("query", "update trips set city = 'x'", code=2)
    assert "add --write" in refused.err
    assert "UPDATE 1000" in stage("query", "update trips set city = 'x'", "--write").out
    assert stage.rows("select distinct city from trips") == [{"city": "x"}]
    assert "nonsense" in stage("query", "update trips set nonsense = 1", "--write", code=2).err


def test_what_cannot_be_landed_is_told_and_nothing_is_in_the_bucket(stage: Stage) -> None:
    assert "is empty: nothing to land" in stage("upload", stage.file("empty.csv", ""), code=6).err
    assert "no file" in stage("upload", "nowhere.csv", code=3).err
    assert stage("objects", "--json").document == []


def test_standard_input_lands_like_a_file(stage: Stage) -> None:
    done = stage("upload", "-", "--name", "piped.csv", stdin=TRIPS.encode())
    assert "raw/piped/piped.csv → piped  1,000 rows" in done.out
    assert stage.count("piped") == 1000


def test_the_same_file_again_is_already_loaded_and_after_undo_it_is_loaded_again(stage: Stage) -> None:
    path = stage.file("trips.csv", TRIPS)
    stage("upload", path)
    assert "already loaded  raw/trips/trips.csv" in stage("upload", path).out
    assert len(stage.account.tasks) == 1
    stage("undo", "1")
    assert "loaded  raw/trips/trips.csv → trips  1,000 rows" in stage("upload", path).out


def test_without_an_engine_a_container_cannot_be_run_and_that_is_said(
    stage: Stage, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, nearby: str
) -> None:
    stage.put(KEY, TRIPS)
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("nothing")))
    failed = stage("run-local", KEY, "--container", "--warehouse", nearby, code=3)
    assert "no engine that runs containers answers" in failed.err


def test_sql_on_the_raw_objects_and_words_in_documents_are_found_on_a_stage(stage: Stage) -> None:
    stage("upload", stage.file("trips.csv", TRIPS))
    counted = stage("query", "--raw", "select count(*) as n from trips", "--format", "json")
    assert counted.document == [{"n": 1000}]
    stage("upload", stage.file("letter.txt", "The invoice of the harbour is overdue.\n"))
    (hit,) = stage("search", "invoices", "--json").document
    assert hit["key"] == "raw/letter/letter.txt"


def test_ctrl_c_while_upload_waits_leaves_the_load_on_its_way(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(seconds: float) -> None:
        stage.account.sleep(seconds)
        if stage.account.tasks:
            raise KeyboardInterrupt

    path = stage.file("trips.csv", TRIPS)
    with monkeypatch.context() as patch:
        patch.setattr(AwsTarget.__init__, "__kwdefaults__", {"sleep": sleep, "clock": stage.account.clock})
        assert "the same command again goes on" in stage("upload", path, code=130).err
    again = stage("upload", path).out
    assert "loaded  raw/trips/trips.csv → trips  1,000 rows" in again
    assert stage.count("trips") == 1000


def test_a_stage_that_is_not_in_lake_toml_beside_others_is_a_slip_of_the_finger(stage: Stage) -> None:
    for words in (
        ("status",),
        ("deploy", "--yes"),
        ("destroy", "--confirm", "dve"),
        ("upload", stage.file("a.csv", "id\n1\n")),
    ):
        told = stage(*words, "--stage", "dve", code=3).told
        assert "lake.toml has no stage dve; it has dev" in told
        assert "--stage dev; or add [stage.dve]" in told


def test_a_stage_that_is_not_in_the_region_of_the_environment_is_told_where_it_should_be(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    stage.account.trouble["cloudformation.describe_stacks"] = refusal("ValidationError", "Stack x does not exist")
    told = stage("status", code=3).told
    assert "region eu-west-1 comes from environment AWS_REGION; lake.toml has eu-central-1 for stage dev" in told


def test_the_stage_is_named_with_account_and_region(stage: Stage) -> None:
    for words in (("status",), ("logs",), ("retry",)):
        assert stage(*words).err.startswith(f"stage dev (account {ACCOUNT}, {REGION})\n")


def test_an_upload_whose_stage_is_destroyed_meanwhile_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def follow(*_args: object, **_more: object) -> Iterator[Any]:
        stage.account.trouble["cloudformation.describe_stacks"] = refusal("ValidationError", "Stack x does not exist")
        raise RefusedError("no cluster", code="BadRequestException", said="no cluster", operation="rds-data.x")
        yield

    monkeypatch.setattr("lakectl.targets.aws.Follower.follow", follow)
    told = stage("upload", stage.file("trips.csv", TRIPS), code=3).told
    assert "stage 'dev' was destroyed in the meantime" in told


def test_work_that_is_parked_before_any_run_is_explained_in_the_words_of_its_task(stage: Stage) -> None:
    stage.account.etl_environment["LAKE_BUNDLE"] = f"s3://{stage.account.outputs['ArtifactBucket']}/bundles/gone.zip"
    stage("upload", stage.file("trips.csv", TRIPS), "--no-wait")
    stage.account.pass_time(30)
    cause = stage("explain", KEY, "--json").document["cause"]
    assert cause.startswith(f"{KEY} is parked: ")
    assert "exit code 3, after 1 attempt: there is no s3://" in cause
    assert "bundles/gone.zip" in cause


def test_a_hop_is_never_later_than_the_next() -> None:
    seen = {"put": 0.0, "run": 2.1, "event": 7.2, "task": 8.2, "rows": 3.1}
    assert in_order(seen) == {"put": 0.0, "event": 2.1, "task": 2.1, "run": 2.1, "rows": 3.1}


def test_a_wrong_setting_of_a_stage_is_told_with_its_place(stage: Stage) -> None:
    file = stage.root / "lake.toml"
    right = file.read_text()
    file.write_text(right + "max_accu = 2\n")
    told = stage("status", code=3).told
    assert f"{file}:4: [stage.dev] max_accu: no such setting" in told
    assert "did you mean max_acu?" in told
    file.write_text(right + 'max_acu = "lots"\n')
    assert f"{file}:4: [stage.dev] max_acu = 'lots': expected a number" in stage("status", code=3).told
