"""The control plane's branches of the error tree; the root and the shared branches live in ``etl_container.errors``.

The tree, as the control plane sees it::

    LakectlError                        1  never raised itself
    ├── UsageError                      2  a wrong flag, argument or combination
    ├── NotFoundError                   3  no such file, object, run, dataset, stage
    │   └── ConfigError                 3  lake.toml (or an environment variable) is wrong
    │       └── NotDeployedError        3  the stage is not there (yet)
    ├── PermissionDeniedError           4  credentials or permission, of a file or an account
    ├── InfrastructureError             5  a service failed
    │   └── BusyError                   5  … because someone else holds it (retryable)
    ├── DataError                       6  the data cannot be loaded as it is
    │   ├── UnreadableObjectError       6  no reader can make a table of the bytes
    │   ├── TransformError              6  the user's transform raised
    │   ├── SchemaFrozenError           6  the policy forbids what the file needs
    │   └── TooManyRejectsError         6  beyond what the contract tolerates
    ├── WarehouseUnavailableError       7  the database cannot be reached (retryable)
    ├── DeadlineError                   8  timed out (retryable)
    └── InterruptedByUserError        130  Ctrl-C, or SIGTERM

An exception outside this tree is a bug: it keeps its traceback and exits 1.
"""

from __future__ import annotations

from etl_container.errors import (
    BusyError,
    ConfigError,
    DataError,
    DeadlineError,
    InfrastructureError,
    InterruptedByUserError,
    LakectlError,
    NotFoundError,
    PermissionDeniedError,
    SchemaFrozenError,
    TooManyRejectsError,
    TransformError,
    UnreadableObjectError,
    UsageError,
    WarehouseUnavailableError,
)

__all__ = [
    "BusyError",
    "ConfigError",
    "DataError",
    "DeadlineError",
    "InfrastructureError",
    "InterruptedByUserError",
    "LakectlError",
    "NotDeployedError",
    "NotFoundError",
    "PermissionDeniedError",
    "SchemaFrozenError",
    "TooManyRejectsError",
    "TransformError",
    "UnreadableObjectError",
    "UsageError",
    "WarehouseUnavailableError",
]


class NotDeployedError(ConfigError):
    """The stage that was asked for is not deployed."""
