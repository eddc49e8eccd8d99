"""The dispatcher: messages in, ETL tasks out. Standard library and boto3; read it from top to bottom.

    S3 notification ──┐                      ┌─► no room, throttled: the message goes back and waits
    work order ───────┼─► read ─► pack ─► start ─► one Fargate task for many small objects
    task stopped ─────┘     └─► done, once more (a work order, later), or parked

What arrives, wrapped in messages of the event queue (or, where S3 calls the function itself, bare):

* notifications of S3: at least once, in any order, keys encoded as in a form. A second delivery finds the task of the
  first by its client token; what slips through, the ledger in the warehouse makes harmless.
* work orders, ``{"lake_work": {"objects" | "manifest", "attempt", "trace", "again"}}``: from ``lakectl run`` and
  ``retry``, and the dispatcher's own for a next attempt.
* "ECS Task State Change" of a stopped task of this lake.

A message is either done (its task runs, or there is nothing to do), given back (it will be delivered again), or parked
in the dead-letter queue, where it lies as a work order, so that moving it back tries it again. Anything unforeseen is a
bug: it ends the call, counts as an error of the function, raises its alarm, and every message comes again.
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

ATTEMPTS = 3
"""Tasks that are started for the same work before it is parked."""

FIRST_DELAY = 60
"""Seconds before the second attempt; doubled for each further one."""

DONE = (0, 6)
"""Exit codes after which nothing is left to do: loaded; or the data was rejected, which the ledger tells."""

HOPELESS = (2, 3, 4)
"""Exit codes that the same task would end with again: usage, configuration, permission. Parked at once."""

NOT_THE_OBJECTS = (5, 7)
"""Exit codes that no object is to blame for: infrastructure, warehouse. The next attempt gets the same objects."""

PARTS = 8
"""A task that died over its objects is tried again in so many parts: one poisonous object does not block the others."""

TASK_BYTES = 256 * 1024**2
"""Objects are packed into one task up to so many bytes; a larger object has a task of its own."""

TASK_OBJECTS = 500
"""Objects are packed into one task up to this number."""

OVERRIDES_LIMIT = 8192
"""Characters of RunTask's overrides (ECS API reference, TaskOverride)."""

MESSAGE_LIMIT = 200_000
"""Characters of a message's list of objects, below SQS's 256 KiB."""

FIRST_WAIT = 15
"""Seconds until a message that found no room is delivered again; so many more each further time."""

LONGEST_WAIT = 900
"""Seconds until a message is delivered again that found no room very often: 1,000 deliveries take over ten days."""

REFUSALS = 5
"""Deliveries after which a message that AWS refuses to act on is parked. New roles may be refused for some seconds."""

STARTED_BY = "lake/"
"""What ECS is told of who started a task, with the trace behind it; others' tasks are left to them."""

LAST_MOMENT = 10_000
"""Milliseconds before the function's time is up in which nothing new is started."""

THROTTLED = ("ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException", "ServerException")

_CONFIG = Config(retries={"mode": "adaptive", "max_attempts": 6})
ecs = boto3.client("ecs", config=_CONFIG)
sqs = boto3.client("sqs", config=_CONFIG)
s3 = boto3.client("s3", config=_CONFIG)

Object = dict[str, Any]
"""One object version as the container takes it: key, version, sequencer, size, etag."""


class NoRoomError(Exception):
    """Nothing can be started now; the same will work later."""


class UnreadableError(Exception):
    """A message that means nothing to the dispatcher."""


@dataclass(frozen=True, slots=True)
class Work:
    """The objects of one task."""

    objects: tuple[Object, ...]
    attempt: int = 1
    trace: str = ""
    """The same for every attempt; made of the objects where nobody gave one."""
    again: bool = False
    """Load also what is loaded."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the queue, and the work that it asks for."""

    record: dict[str, Any]
    work: Work
    packable: bool
    """Newly arrived objects may share a task; a work order is a task as it stands."""


# -- the two doors -----------------------------------------------------------------------------------------------------


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Called by the queue with up to 500 messages, or by S3 itself with one notification."""
    records = event.get("Records") or [{}]
    if records[0].get("eventSource") == "aws:sqs":
        return {"batchItemFailures": [{"itemIdentifier": name} for name in from_queue(records, Room(context))]}
    from_s3(event, Room(context))
    return {}


def from_queue(records: list[dict[str, Any]], room: Room) -> list[str]:
    """Do what the messages ask for; the ids of those that shall be delivered again."""
    messages: list[Message] = []
    given_back: list[dict[str, Any]] = []
    for record in records:
        try:
            messages += understood(record)
        except UnreadableError as error:
            park(record["body"], {"reason": str(error)})
        except ClientError as error:
            given_back += refused([record], error)
    for packed in packs(messages):
        try:
            start(joined(message.work for message in packed), room)
        except NoRoomError as error:
            say("busy", reason=str(error), messages=len(packed))
            given_back += [message.record for message in packed]
        except ClientError as error:
            given_back += refused([message.record for message in packed], error)
    come_again(given_back, room)
    return [record["messageId"] for record in given_back]


def from_s3(event: dict[str, Any], room: Room) -> None:
    """Start the work of one notification. What finds no room stands in the queue from now on.

    What fails otherwise is Lambda's to try again twice, and then to put into the same queue.
    """
    objects = tuple(arrived(event))
    if not objects:
        return
    work = joined([Work(objects)])
    try:
        start(work, room)
    except NoRoomError as error:
        say("busy", reason=str(error), messages=1)
        order(work, delay=30)


# -- reading -----------------------------------------------------------------------------------------------------------


def understood(record: dict[str, Any]) -> list[Message]:
    """The work that a message asks for: none, where it only told something.

    Raises:
        UnreadableError: it is no message that the dispatcher knows.
    """
    try:
        body = json.loads(record["body"])
        if "requestPayload" in body:  # S3's own call of the function failed, and Lambda put it here
            body = body["requestPayload"]
        if "lake_work" in body:
            return [Message(record, ordered(body["lake_work"]), packable=False)]
        if body.get("detail-type") == "ECS Task State Change":
            stopped(body["detail"])
            return []
        if "Records" not in body and body.get("Event") != "s3:TestEvent":
            raise UnreadableError("neither an S3 notification, nor a work order, nor a stopped task")
        objects = tuple(arrived(body))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableError(f"{type(error).__name__}: {error}") from error
    return [Message(record, Work(objects), packable=True)] if objects else []


def arrived(notification: dict[str, Any]) -> Iterator[Object]:
    """The objects of a notification, all of its records. Folders and empty objects hold nothing to load."""
    for record in notification.get("Records", []):
        bucket, thing = record["s3"]["bucket"]["name"], record["s3"]["object"]
        key, size = urllib.parse.unquote_plus(thing["key"]), int(thing.get("size", 0))
        if not record["eventName"].removeprefix("s3:").startswith("ObjectCreated"):
            say("skipped", key=key, reason=record["eventName"])
        elif bucket != os.environ["BUCKET"]:
            say("skipped", key=key, reason=f"it is in {bucket}")
        elif key.endswith(("/", "_$folder$")) or size == 0:
            say("skipped", key=key, reason="a folder or an empty object")
        else:
            yield {
                "key": key,
                "version": thing.get("versionId"),
                "sequencer": thing.get("sequencer"),
                "size": size,
                "etag": thing.get("eTag"),
            }


def ordered(body: dict[str, Any]) -> Work:
    """A work order; a long list of objects is in a manifest."""
    objects = read_manifest(body["manifest"]) if "manifest" in body else body["objects"]
    if not objects or not all(isinstance(thing["key"], str) for thing in objects):
        raise UnreadableError("a work order without objects")
    trace = str(body.get("trace") or fingerprint(objects)[:32])
    return Work(tuple(objects), int(body.get("attempt", 1)), trace, bool(body.get("again")))


# -- packing -----------------------------------------------------------------------------------------------------------


def packs(messages: list[Message]) -> Iterator[list[Message]]:
    """Which messages share a task. A message is in one pack only, so that it succeeds or comes again as a whole."""
    pack: list[Message] = []
    held = count = 0
    for message in sorted((m for m in messages if m.packable), key=lambda m: (weight(m) > TASK_BYTES, *age(m))):
        if pack and (held + weight(message) > TASK_BYTES or count + len(message.work.objects) > TASK_OBJECTS):
            yield pack
            pack, held, count = [], 0, 0
        pack.append(message)
        held += weight(message)
        count += len(message.work.objects)
    if pack:
        yield pack
    yield from ([message] for message in messages if not message.packable)


def weight(message: Message) -> int:
    """Bytes of a message's objects."""
    return sum(thing["size"] for thing in message.work.objects)


def age(message: Message) -> tuple[str, str]:
    """Orders messages whatever order they came in: by key, and by sequencer, which compares padded on the right."""
    first = message.work.objects[0]
    return first["key"], (first["sequencer"] or "").upper().ljust(64, "0")


def joined(works: Iterable[Work]) -> Work:
    """One task's work out of several, each object version once."""
    several = list(works)
    objects = {(o["key"], o.get("version"), o.get("sequencer")): o for work in several for o in work.objects}
    merged = replace(several[0], objects=tuple(objects.values()))
    return merged if merged.trace else replace(merged, trace=fingerprint(merged.objects)[:32])


def fingerprint(objects: Iterable[Object]) -> str:
    """The same for the same object versions: 64 hexadecimal digits."""
    told = [[thing["key"], thing.get("version"), thing.get("sequencer")] for thing in objects]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


# -- starting ----------------------------------------------------------------------------------------------------------


class Room:
    """How many more tasks may run. Asked once a call; two calls at the same time may exceed the limit by a task."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._free: int | None = None
        self._reason = f"all {os.environ['MAX_TASKS']} tasks are running"

    def take(self) -> None:
        """Take the place of one task; raises NoRoomError where there is none, or no time left to start it."""
        if self.late():
            raise NoRoomError("the function's time is up")
        if self._free is None:
            self._free = int(os.environ["MAX_TASKS"]) - running()
        if self._free <= 0:
            raise NoRoomError(self._reason)
        self._free -= 1

    def late(self) -> bool:
        return bool(self._context.get_remaining_time_in_millis() < LAST_MOMENT)

    def close(self, reason: str) -> NoRoomError:
        """ECS has no capacity: nothing more is tried in this call."""
        self._free, self._reason = 0, reason
        return NoRoomError(reason)


def running() -> int:
    """Tasks of this lake that run or are about to."""
    pages = ecs.get_paginator("list_tasks").paginate(
        cluster=os.environ["CLUSTER"], family=os.environ["FAMILY"], desiredStatus="RUNNING"
    )
    return sum(len(page["taskArns"]) for page in pages)


def start(work: Work, room: Room) -> None:
    """One task for the work.

    The client token is made of the work and its attempt, and ECS remembers it for a day: asked twice, it answers with
    the same task; asked with other parameters (after a deploy), with ConflictException. Either way the work is started.

    Raises:
        NoRoomError: all tasks are taken, or ECS has no capacity, or throttles.
        ClientError: ECS refuses.
    """
    try:
        room.take()
        answer = run_task(work)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConflictException":
            say("already_started", trace=work.trace, attempt=work.attempt, tasks=error.response.get("resourceIds"))
            return
        if error.response["Error"]["Code"] in THROTTLED:
            raise room.close(str(error)) from error
        raise
    if failures := answer.get("failures"):  # a 200 that is none
        raise room.close("; ".join(f"{f.get('reason')} {f.get('detail') or ''}".strip() for f in failures))
    task = answer["tasks"][0]["taskArn"]
    for thing in work.objects:
        facts = {"key": thing["key"], "version": thing.get("version"), "attempt": work.attempt}
        say("dispatched", **facts, task=task, trace=work.trace)


def run_task(work: Work) -> dict[str, Any]:
    """ECS's answer to RunTask."""
    token = f"{fingerprint([{'key': work.trace}, *work.objects])[:40]}-{work.attempt}"
    network = {
        "subnets": os.environ["SUBNETS"].split(","),
        "securityGroups": [os.environ["SECURITY_GROUP"]],
        "assignPublicIp": os.environ["PUBLIC_IP"],
    }
    answer: dict[str, Any] = ecs.run_task(
        cluster=os.environ["CLUSTER"],
        taskDefinition=os.environ["TASK_DEFINITION"],
        capacityProviderStrategy=[{"capacityProvider": os.environ["CAPACITY"], "weight": 1}],
        networkConfiguration={"awsvpcConfiguration": network},
        overrides=overrides(work),
        count=1,
        clientToken=token,
        startedBy=STARTED_BY + work.trace,
        propagateTags="TASK_DEFINITION",
        enableECSManagedTags=True,
    )
    return answer


def overrides(work: Work) -> dict[str, Any]:
    """The task's environment: its objects, or where to read them when they are too many for ECS."""

    def told(**objects: str) -> dict[str, Any]:
        variables = {**objects, "LAKE_ATTEMPT": str(work.attempt), "LAKE_TRACE": work.trace}
        if work.again:
            variables["LAKE_AGAIN"] = "1"
        environment = [{"name": name, "value": value} for name, value in variables.items()]
        return {"containerOverrides": [{"name": os.environ["CONTAINER"], "environment": environment}]}

    inline = told(LAKE_OBJECTS=compact(work.objects))
    if len(compact(inline)) <= OVERRIDES_LIMIT:
        return inline
    return told(LAKE_MANIFEST=write_manifest(work.objects))


# -- a task stopped ----------------------------------------------------------------------------------------------------


def stopped(detail: dict[str, Any]) -> None:
    """Done, once more, or parked.

    Raises:
        ClientError: the next attempt could not be put on the queue.
    """
    exits = [c.get("exitCode") for c in detail.get("containers") or [] if c.get("name") == os.environ["CONTAINER"]]
    code, stop = (exits or [None])[0], detail.get("stopCode")
    if code in DONE:
        say("finished", task=detail["taskArn"], exit_code=code)
        return
    if not detail.get("startedBy", STARTED_BY).startswith(STARTED_BY):
        say("skipped", task=detail["taskArn"], reason=f"it was started by {detail['startedBy']}")
        return
    work = work_of(detail)
    if work is None:
        say("skipped", task=detail["taskArn"], reason="a task without objects is not the dispatcher's")
        return
    cause = {
        "task": detail["taskArn"],
        "exit_code": code,
        "stop_code": stop,
        "reason": detail.get("stoppedReason"),
        "attempts": work.attempt,
    }
    if stop == "UserInitiated" or code in HOPELESS or work.attempt >= ATTEMPTS:
        # Moved back to the queue, it begins anew: with a trace of its own, so that the token finds no earlier task.
        fresh = replace(work, attempt=1, trace=fingerprint([{"key": detail["taskArn"]}])[:32])
        park(compact(described(fresh)), cause)
        return
    died_of_them = stop == "EssentialContainerExited" and code is not None and code not in NOT_THE_OBJECTS
    size = -(-len(work.objects) // PARTS) if died_of_them else len(work.objects)
    for start_at in range(0, len(work.objects), size):
        part = replace(work, objects=work.objects[start_at : start_at + size], attempt=work.attempt + 1)
        order(part, delay=FIRST_DELAY * 2 ** (work.attempt - 1), cause=cause)


def work_of(detail: dict[str, Any]) -> Work | None:
    """What a stopped task was started for, from the event or, where that leaves it out, from ECS; None: not ours."""
    environment = environment_of(detail)
    if environment is None:
        answer = ecs.describe_tasks(cluster=detail["clusterArn"], tasks=[detail["taskArn"]])
        if not answer["tasks"]:
            raise UnreadableError(f"ECS has forgotten what {detail['taskArn']} was started for")
        environment = environment_of(answer["tasks"][0]) or {}
    if "LAKE_OBJECTS" not in environment and "LAKE_MANIFEST" not in environment:
        return None
    listed = environment.get("LAKE_OBJECTS")
    objects = json.loads(listed) if listed else read_manifest(environment["LAKE_MANIFEST"])
    trace = environment.get("LAKE_TRACE") or fingerprint(objects)[:32]
    return Work(tuple(objects), int(environment.get("LAKE_ATTEMPT", "1")), trace, environment.get("LAKE_AGAIN") == "1")


def environment_of(task: dict[str, Any]) -> dict[str, str] | None:
    """The environment that a task was started with, beside its definition's; None where it is not told."""
    for container in (task.get("overrides") or {}).get("containerOverrides") or []:
        if container.get("environment"):
            return {variable["name"]: variable["value"] for variable in container["environment"]}
    return None


# -- the queues --------------------------------------------------------------------------------------------------------


def order(work: Work, *, delay: int, cause: dict[str, Any] | None = None) -> None:
    """Put a work order on the event queue; ``delay`` in seconds, at most 900."""
    body = described(work) | ({"cause": cause} if cause else {})
    sqs.send_message(QueueUrl=os.environ["QUEUE_URL"], MessageBody=compact(body), DelaySeconds=min(delay, 900))
    say("retry", trace=work.trace, attempt=work.attempt, objects=len(work.objects), delay=delay, cause=cause)


def park(body: str, cause: dict[str, Any]) -> None:
    """Put a message into the dead-letter queue, with its cause where it is a work order; each object is told of."""
    objects: list[Object] = []
    try:
        told = json.loads(body)
        if "lake_work" in told:
            body = compact({**told, "cause": cause})
            objects = told["lake_work"].get("objects", [])
        elif "Records" in told:
            objects = list(arrived(told))
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # unreadable, and parked as it came
    sqs.send_message(QueueUrl=os.environ["PARKED_URL"], MessageBody=body)
    for thing in objects:
        say("parked", key=thing["key"], version=thing.get("version"), cause=cause)
    if not objects:
        say("parked", cause=cause, body=body[:2000])


def refused(records: list[dict[str, Any]], error: ClientError) -> list[dict[str, Any]]:
    """AWS said no, and not for want of room. Which messages shall come again; those that came too often are parked."""
    hopeless = [record for record in records if receives(record) >= REFUSALS]
    say("refused", error=str(error), messages=len(records), parked=len(hopeless))
    for record in hopeless:
        park(record["body"], {"reason": str(error)})
    return [record for record in records if receives(record) < REFUSALS]


def come_again(records: list[dict[str, Any]], room: Room) -> None:
    """Let messages wait for 15 s, then 30, 45 … before they are delivered again; without this, for six minutes."""
    for at in range(0, len(records), 10):
        entries = [
            {
                "Id": str(number),
                "ReceiptHandle": record["receiptHandle"],
                "VisibilityTimeout": min(FIRST_WAIT * receives(record), LONGEST_WAIT),
            }
            for number, record in enumerate(records[at : at + 10])
        ]
        if room.late():
            return
        try:
            sqs.change_message_visibility_batch(QueueUrl=os.environ["QUEUE_URL"], Entries=entries)
        except (ClientError, BotoCoreError) as error:
            say("warning", error=str(error))
            return


def receives(record: dict[str, Any]) -> int:
    """How often a message was delivered."""
    return int(record["attributes"]["ApproximateReceiveCount"])


# -- long lists, words -------------------------------------------------------------------------------------------------


def described(work: Work) -> dict[str, Any]:
    """A work order as a message."""
    order_ = {"attempt": work.attempt, "trace": work.trace, "again": work.again}
    if len(compact(work.objects)) > MESSAGE_LIMIT:
        return {"lake_work": {**order_, "manifest": write_manifest(work.objects)}}
    return {"lake_work": {**order_, "objects": work.objects}}


def write_manifest(objects: tuple[Object, ...]) -> str:
    """Keep a list of objects in the artifact bucket; its address."""
    bucket, key = os.environ["ARTIFACT_BUCKET"], f"manifests/{fingerprint(objects)}.json"
    s3.put_object(
        Bucket=bucket,
        Key=key,
        Body=compact(objects).encode(),
        ContentType="application/json",
        ExpectedBucketOwner=os.environ["ACCOUNT"],
    )
    return f"s3://{bucket}/{key}"


def read_manifest(address: str) -> list[Object]:
    """A list of objects that was kept in the artifact bucket."""
    home = f"s3://{os.environ['ARTIFACT_BUCKET']}/"
    if not address.startswith(f"{home}manifests/"):
        raise UnreadableError(f"{address} is no manifest of this lake")
    answer = s3.get_object(
        Bucket=os.environ["ARTIFACT_BUCKET"],
        Key=address.removeprefix(home),
        ExpectedBucketOwner=os.environ["ACCOUNT"],
    )
    objects: list[Object] = json.loads(answer["Body"].read())
    return objects


def compact(document: Any) -> str:
    """JSON without blanks."""
    return json.dumps(document, separators=(",", ":"))


def say(event: str, **facts: Any) -> None:
    """One line of the log, as JSON."""
    print(json.dumps({"event": event, **facts}, default=str))
