"""SQS to Lambda: messages are gathered until the batching window closes or the batch is full, not ten at a time."""

from __future__ import annotations

import time
from typing import Any

from ministack.services import lambda_svc, sqs

from emulator.roles import may_read

_AT_ONCE = 10
"""Messages that the plain function takes at most."""

_plain_receive = sqs._receive_messages_for_esm
_opened: dict[str, float] = {}
"""When a queue's window was opened, by its address."""


def mend() -> None:
    sqs._receive_messages_for_esm = _receive


def _receive(address: str, size: int) -> list[Any]:
    """Nothing, until a message has waited for the window or there are as many as asked for."""
    mapping = _mapping(address)
    waiting = _visible(address)
    if not waiting or not may_read(mapping, mapping["EventSourceArn"]):
        _opened.pop(address, None)
        return []
    opened = _opened.setdefault(address, time.monotonic())
    if waiting < size and time.monotonic() - opened < float(mapping.get("MaximumBatchingWindowInSeconds") or 0):
        return []
    _opened.pop(address, None)
    gathered: list[Any] = []
    while len(gathered) < size and (some := _plain_receive(address, min(size - len(gathered), _AT_ONCE))):
        gathered += some
    return gathered


def _visible(address: str) -> int:
    now = time.time()
    return sum(message["visible_at"] <= now for message in list(sqs._get_q(address)["messages"]))


def _mapping(address: str) -> dict[str, Any]:
    """The mapping that reads a queue: one reads each of ours."""
    arn = sqs._get_q(address)["attributes"]["QueueArn"]
    return next(it for *_, it in lambda_svc._iter_all_esms() if it.get("EventSourceArn") == arn)
