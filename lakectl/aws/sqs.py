"""Queues: how much waits in them, what is parked, and its way back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lakectl.aws.session import Aws
from lakectl.errors import InfrastructureError

_HELD = 60
"""Seconds for which a message that is being looked at is hidden from others."""


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages a queue holds, approximately (SQS's own word)."""

    waiting: int
    in_flight: int
    delayed: int


@dataclass(frozen=True, slots=True)
class Message:
    """A received message; hidden from others for a minute."""

    id: str
    receipt: str
    body: str
    received: int = 1

    @property
    def document(self) -> Mapping[str, Any] | None:
        """The body as JSON; None when it is not an object."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return None
        return value if isinstance(value, dict) else None


class Queue:
    """One queue, by its URL."""

    def __init__(self, aws: Aws, url: str) -> None:
        self._aws = aws
        self.url = url

    def depth(self) -> Depth:
        """How much waits."""
        names = (
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        )
        found = self._aws.call("sqs", "get_queue_attributes", QueueUrl=self.url, AttributeNames=list(names))
        values = found.get("Attributes", {})
        return Depth(*(int(values.get(name, 0)) for name in names))

    def send(self, document: Mapping[str, Any]) -> None:
        """Put a message."""
        self._aws.call("sqs", "send_message", QueueUrl=self.url, MessageBody=json.dumps(document))

    def receive(self, limit: int = 1000) -> Iterator[Message]:
        """Messages until the queue seems empty; each is hidden for a minute, and not deleted."""
        seen: set[str] = set()
        while len(seen) < limit:
            answer = self._aws.call(
                "sqs",
                "receive_message",
                QueueUrl=self.url,
                MaxNumberOfMessages=10,
                VisibilityTimeout=_HELD,
                WaitTimeSeconds=1,
                AttributeNames=["ApproximateReceiveCount"],
            )
            messages = answer.get("Messages", ())
            if not messages:
                return
            for item in messages:
                if item["MessageId"] in seen:
                    continue
                seen.add(item["MessageId"])
                count = int(item.get("Attributes", {}).get("ApproximateReceiveCount", 1))
                yield Message(item["MessageId"], item["ReceiptHandle"], item["Body"], count)

    def release(self, message: Message) -> None:
        """Let others see a message again, now."""
        self._aws.call(
            "sqs",
            "change_message_visibility",
            QueueUrl=self.url,
            ReceiptHandle=message.receipt,
            VisibilityTimeout=0,
        )

    def delete(self, message: Message) -> None:
        """Take a message away for good."""
        self._aws.call("sqs", "delete_message", QueueUrl=self.url, ReceiptHandle=message.receipt)

    def move(self, target: Queue, *, chosen: Callable[[Message], bool] = lambda _message: True) -> int:
        """Send the chosen messages to another queue, each deleted here when it is there; how many.

        Killed in between, a message may be in both, never in none: the receiver has to take duplicates anyway.
        """
        count = 0
        held = []
        for message in self.receive():
            if not chosen(message):
                held.append(message)
                continue
            try:
                self._aws.call("sqs", "send_message", QueueUrl=target.url, MessageBody=message.body)
            except InfrastructureError:
                self.release(message)
                raise
            self.delete(message)
            count += 1
        for message in held:
            self.release(message)
        return count
