"""Log groups: read from a moment on, followed as they grow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lakectl.aws.refusals import RefusedError
from lakectl.aws.session import Aws

_POLL = 1.5
_LATE = 20_000
"""Milliseconds that an event may come late: CloudWatch takes some seconds to let a new line be found."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One event of a log stream."""

    id: str
    at: datetime
    group: str
    stream: str
    text: str


class Logs:
    """The log groups of one account and region."""

    def __init__(self, aws: Aws, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._aws = aws
        self._sleep = sleep

    def read(
        self, group: str, *, since: int, until: int | None = None, stream: str | None = None, pattern: str | None = None
    ) -> list[LogLine]:
        """Lines in the order of their time; none when the group is not there.

        Args:
            group: the log group.
            since: milliseconds since 1970, inclusive.
            until: exclusive; None: no end.
            stream: only streams that begin so.
            pattern: CloudWatch's filter pattern; a word or text in double quotes is looked for as it is.
        """
        try:
            found = self._aws.pages(
                "logs",
                "filter_log_events",
                "events",
                logGroupName=group,
                startTime=since,
                endTime=until,
                logStreamNamePrefix=stream,
                filterPattern=pattern,
            )
            lines = [
                LogLine(
                    str(item.get("eventId") or (item.get("logStreamName"), item["timestamp"], item.get("message"))),
                    datetime.fromtimestamp(item["timestamp"] / 1000, UTC),
                    group,
                    item.get("logStreamName", ""),
                    item.get("message", "").rstrip("\n"),
                )
                for item in found
                if stream is None or item.get("logStreamName", "").startswith(stream)
            ]
        except RefusedError as refusal:
            if refusal.code == "ResourceNotFoundException":
                return []
            raise
        return sorted(lines, key=lambda line: line.at)

    def follow(
        self,
        groups: Sequence[str],
        *,
        since: int,
        stream: str | None = None,
        until: Callable[[], bool] = lambda: False,
    ) -> Iterator[LogLine]:
        """Lines of several groups as they come, each once, until ``until()`` says so after a look."""
        seen: dict[str, int] = {}
        start = since
        while True:
            last = until()
            lines = [line for group in groups for line in self.read(group, since=start, stream=stream)]
            for line in sorted(lines, key=lambda line: line.at):
                if line.id not in seen:
                    seen[line.id] = int(line.at.timestamp() * 1000)
                    yield line
            if last:
                return
            newest = max(seen.values(), default=start)
            start = max(since, newest - _LATE)
            seen = {key: at for key, at in seen.items() if at >= start}
            self._sleep(_POLL)
