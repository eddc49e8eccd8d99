"""CodeBuild: the builder of last resort, when no container engine answers on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from lakectl.aws.session import Aws
from lakectl.errors import DeadlineError, InfrastructureError

_POLL = 4.0


def build(
    aws: Aws,
    project: str,
    *,
    source: str,
    tag: str,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    within: float = 2400.0,
) -> Iterator[str]:
    """Build and push an image; yields each phase as it begins.

    Args:
        aws: the account.
        project: CodeBuild's.
        source: ``bucket/key`` of the zipped build context.
        tag: of the image.
        sleep: between two looks.
        clock: monotonic seconds.
        within: seconds, queueing included.

    Raises:
        InfrastructureError: the build failed; the phase and its message are told.
        DeadlineError: it is not done in time.
    """
    started = aws.call(
        "codebuild",
        "start_build",
        projectName=project,
        sourceTypeOverride="S3",
        sourceLocationOverride=source,
        environmentVariablesOverride=[{"name": "IMAGE_TAG", "value": tag, "type": "PLAINTEXT"}],
        idempotencyToken=f"{tag}-{int(time.time() // 60)}"[-64:],
    )
    number = started["build"]["id"]
    deadline = clock() + within
    phase = None
    while True:
        found = aws.call("codebuild", "batch_get_builds", ids=[number])["builds"][0]
        if found.get("currentPhase") and found["currentPhase"] != phase:
            phase = found["currentPhase"]
            yield str(phase)
        status = found.get("buildStatus", "IN_PROGRESS")
        if status == "SUCCEEDED":
            return
        if status != "IN_PROGRESS":
            failed: dict[str, Any] = next(
                (item for item in found.get("phases", ()) if item.get("phaseStatus") == "FAILED"), {}
            )
            said = "; ".join(item.get("message", "") for item in failed.get("contexts", ()) if item.get("message"))
            where = found.get("logs", {}).get("deepLink") or number
            raise InfrastructureError(
                f"CodeBuild could not build the image ({status.lower()} in {failed.get('phaseType', phase)}"
                f"{': ' + said if said else ''})",
                hint=f"its log: {where}",
            )
        if clock() > deadline:
            raise DeadlineError(f"CodeBuild is not done after {within / 60:.0f} minutes", hint="lakectl deploy")
        sleep(_POLL)
