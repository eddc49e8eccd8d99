"""Every error that a user of lakectl can meet, and its exit code.

The tree (the control plane's branches live in ``lakectl.errors``)::

    LakectlError                        1  never raised itself
    ├── UsageError                      2  a wrong flag, argument or combination
    ├── NotFoundError                   3  no such file, object, run, dataset, stage
    │   └── ConfigError                 3  lake.toml (or an environment variable) is wrong
    ├── PermissionDeniedError           4  credentials or permission, of a file or an account
    ├── InfrastructureError             5  a service failed
    │   └── BusyError                   5  … because someone else holds it (retryable)
    ├── DataError                       6  the data cannot be loaded as it is
    │   ├── UnreadableObjectError       6  no reader can make a table of the bytes
    │   ├── TransformError              6  the user's transform raised
    │   ├── ContractError               6  the file as a whole cannot keep its contract
    │   ├── SchemaFrozenError           6  the policy forbids what the file needs
    │   └── TooManyRejectsError         6  beyond what the contract tolerates
    ├── WarehouseUnavailableError       7  the database cannot be reached (retryable)
    ├── DeadlineError                   8  timed out (retryable)
    └── InterruptedByUserError        130  Ctrl-C

An exception outside this tree is a bug: it keeps its traceback and exits 1.
"""

from __future__ import annotations

from typing import ClassVar


class LakectlError(Exception):
    """What went wrong, why, and (``hint``) the next thing to type.

    Attributes:
        message: one or two sentences, in the user's words, without a traceback.
        hint: the next command or change, or None.
        exit_code: the process exit code; see the table in the module docstring.
        retryable: the same call may succeed later without any change.
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(LakectlError):
    """The command line asks for something that makes no sense."""

    exit_code = 2


class NotFoundError(LakectlError):
    """A file, object, run, dataset or stage that does not exist."""

    exit_code = 3


class ConfigError(NotFoundError):
    """``lake.toml`` or an environment variable has a value that cannot be used."""


class PermissionDeniedError(LakectlError):
    """Credentials are missing, expired or not enough; or a file may not be read."""

    exit_code = 4


class InfrastructureError(LakectlError):
    """A service that the lake stands on failed."""

    exit_code = 5


class BusyError(InfrastructureError):
    """Someone else holds what this command needs; try again later."""

    retryable = True


class DataError(LakectlError):
    """The data cannot be loaded as it is."""

    exit_code = 6


class UnreadableObjectError(DataError):
    """No reader can make a table of these bytes."""


class TransformError(DataError):
    """The user's transform raised; the message names its file and line."""


class ContractError(DataError):
    """A column that the contract requires is missing, or is of a kind that its rules make no sense for."""


class SchemaFrozenError(DataError):
    """The dataset's schema policy forbids the change that the file needs."""


class TooManyRejectsError(DataError):
    """More records were rejected than the contract tolerates; nothing was published."""


class WarehouseUnavailableError(LakectlError):
    """The warehouse cannot be reached, or went away."""

    exit_code = 7
    retryable = True


class DeadlineError(LakectlError):
    """The work did not finish in the time it was given."""

    exit_code = 8
    retryable = True


class InterruptedByUserError(LakectlError):
    """Ctrl-C, or SIGTERM."""

    exit_code = 130
