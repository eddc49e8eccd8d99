"""The local and the AWS implementation behind a stage. :func:`open_target` is the only place that asks which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakectl.config import LOCAL, Lake
from lakectl.errors import NotDeployedError

if TYPE_CHECKING:
    from lakectl.targets.base import Target


def open_target(lake: Lake) -> Target:
    """The target of the lake's stage; close it.

    Raises:
        NotDeployedError: the stage is not there.
    """
    if lake.stage != LOCAL:
        raise NotDeployedError(
            f"stage '{lake.stage}' is not deployed; this version runs the local stage",
            hint="leave --stage out, or say --stage local (LAKE_STAGE and .lake/stage count too: lakectl config show)",
        )
    from lakectl.targets.local import LocalTarget

    return LocalTarget(lake)
