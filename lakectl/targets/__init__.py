"""The local and the AWS implementation behind a stage. :func:`open_target` is the only place that asks which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakectl.config import LOCAL, Lake

if TYPE_CHECKING:
    from lakectl.targets.base import Target


def open_target(lake: Lake) -> Target:
    """The target of the lake's stage; close it.

    A stage in an account says with its first question whether it is there (NotDeployedError).
    """
    if lake.stage != LOCAL:
        from lakectl.targets.aws import AwsTarget

        return AwsTarget(lake)
    from lakectl.targets.local import LocalTarget

    return LocalTarget(lake)
