"""The dispatcher, a Lambda function: its feed from the queue is opened and closed here."""

from __future__ import annotations

import time
from collections.abc import Callable

from lakectl.aws.refusals import RefusedError
from lakectl.aws.session import Aws
from lakectl.errors import DeadlineError


def pause(aws: Aws, mapping: str, *, sleep: Callable[[float], None] = time.sleep, within: float = 120.0) -> bool:
    """Close an event source mapping and wait until it is closed; False when there is none."""
    waited = 0.0
    try:
        state = aws.call("lambda", "update_event_source_mapping", UUID=mapping, Enabled=False).get("State", "")
        while state not in ("Disabled", ""):
            if waited > within:
                raise DeadlineError("the dispatcher does not stop reading its queue", hint="run the same command again")
            sleep(2.0)
            waited += 2.0
            state = aws.call("lambda", "get_event_source_mapping", UUID=mapping).get("State", "")
    except RefusedError as refusal:
        if refusal.code == "ResourceNotFoundException":
            return False
        raise
    return True


def state(aws: Aws, mapping: str) -> str | None:
    """``Enabled``, ``Disabled`` …; None when there is none."""
    try:
        return str(aws.call("lambda", "get_event_source_mapping", UUID=mapping).get("State", ""))
    except RefusedError as refusal:
        if refusal.code == "ResourceNotFoundException":
            return None
        raise
