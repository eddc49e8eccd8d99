"""What AWS says when it says no, as errors of ours. Every match on a code or on a fragile text is in this file.

Credentials come first: an expired SSO session looks like five different exceptions, and each of them ends in the one
command that mends it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from botocore import exceptions as foreign

from lakectl.errors import (
    BusyError,
    ConfigError,
    InfrastructureError,
    LakectlError,
    PermissionDeniedError,
)

_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
_WRONG_CREDENTIALS: Final = frozenset(
    {
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "AuthFailure",
        "InvalidAccessKeyId",
        "IncompleteSignature",
        "MissingAuthenticationToken",
    }
)
_DENIED: Final = frozenset(
    {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedAccess", "AllAccessDisabled", "403"}
)
_THROTTLED: Final = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "ProvisionedThroughputExceededException",
        "SlowDown",
        "PriorRequestNotComplete",
    }
)
_DOWN: Final = frozenset(
    {"ServiceUnavailable", "ServiceUnavailableException", "InternalError", "InternalFailure", "InternalServerError"}
)
_NOT_ENABLED: Final = frozenset({"OptInRequired", "RegionDisabledException", "InvalidRegion"})


class RefusedError(InfrastructureError):
    """A service said no for a reason of its own; ``code`` and ``said`` are its words.

    Attributes:
        code: the service's error code (``ValidationError``, ``NoSuchKey`` …).
        said: its message, as it came.
        operation: ``service.operation`` of the call.
    """

    def __init__(self, message: str, *, code: str, said: str, operation: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.said = said
        self.operation = operation

    def saying(self, message: str, *, hint: str | None = None) -> RefusedError:
        """The same refusal in better words."""
        return RefusedError(message, code=self.code, said=self.said, operation=self.operation, hint=hint)


@dataclass(frozen=True, slots=True)
class Login:
    """How the caller's credentials came about, so that the advice fits: which command renews them."""

    profile: str | None = None
    kind: str | None = None
    """``sso``, ``login``, ``environment``, ``process``, ``role``, ``keys`` or None."""

    @property
    def command(self) -> str:
        """What to type to have valid credentials again."""
        name = f" --profile {self.profile}" if self.profile and self.profile != "default" else ""
        match self.kind:
            case "sso":
                return f"aws sso login{name}"
            case "login":
                return f"aws login{name}"
            case "environment":
                return "export fresh AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
            case _:
                return f"aws configure{name} (access keys), or aws configure sso{name}"


@contextlib.contextmanager
def translated(login: Login, operation: str) -> Iterator[None]:
    """Let botocore's exceptions out as ours; what has no translation is a bug and stays as it is."""
    try:
        yield
    except foreign.ClientError as error:
        raise of_client_error(error, login, operation) from error
    except foreign.BotoCoreError as error:
        ours = of_core_error(error, login, operation)
        if ours is None:
            raise
        raise ours from error


def of_client_error(error: foreign.ClientError, login: Login, operation: str) -> LakectlError:  # noqa: PLR0911
    """The error of ours that a service's answer means, by its code."""
    answer = error.response.get("Error", {})
    code, said = str(answer.get("Code", "Unknown")), str(answer.get("Message") or "no reason given").strip()
    if code in _EXPIRED:
        return PermissionDeniedError("the AWS session has expired", hint=login.command)
    if code in _WRONG_CREDENTIALS:
        return PermissionDeniedError(f"AWS does not accept the credentials: {said}", hint=login.command)
    if code in _DENIED:
        return PermissionDeniedError(
            f"not allowed: {operation}: {said}",
            hint="the rights that lakectl needs: lakectl iam policy",
        )
    if code in _THROTTLED:
        return BusyError(f"AWS asks for a slower pace ({operation}: {said})", hint="run the same command again")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _DOWN or status >= 500:
        # A service's own name for a 5xx is of interest to the caller: a paused database answers so, too.
        return RefusedError(f"{operation} failed in AWS: {said}", code=code, said=said, operation=operation)
    if code in _NOT_ENABLED:
        return InfrastructureError(
            f"the account cannot use this service or region yet: {said}", hint="enable the region, or name another"
        )
    return RefusedError(f"{operation}: {said} ({code})", code=code, said=said, operation=operation)


def of_core_error(  # noqa: PLR0911, PLR0912  a table of cases
    error: foreign.BotoCoreError, login: Login, operation: str
) -> LakectlError | None:
    """The error of ours that a failure on this side of the wire means."""
    match error:
        case foreign.SSOError() | foreign.TokenRetrievalError():
            at = f" of profile {login.profile}" if login.profile else ""
            command = login.command if login.kind == "sso" else Login(login.profile, "sso").command
            return PermissionDeniedError(f"the SSO session{at} has expired or was never begun", hint=command)
        case foreign.LoginError():
            return PermissionDeniedError(
                "the login session has expired or was never begun", hint=Login(login.profile, "login").command
            )
        case foreign.ProfileNotFound():
            return ConfigError(
                f"there is no AWS profile {login.profile!r}", hint="aws configure list-profiles shows those there are"
            )
        case foreign.NoCredentialsError() | foreign.NoAuthTokenError():
            if login.kind == "sso":
                return PermissionDeniedError("the SSO session has expired or was never begun", hint=login.command)
            return PermissionDeniedError(
                "there are no AWS credentials", hint=f"{login.command}; or name a profile: --profile NAME"
            )
        case foreign.PartialCredentialsError():
            return PermissionDeniedError(f"the AWS credentials are incomplete: {error}", hint=login.command)
        case foreign.CredentialRetrievalError():
            return PermissionDeniedError(f"the AWS credentials could not be had: {error}", hint=login.command)
        case foreign.NoRegionError():
            return ConfigError("no AWS region is set", hint="--region eu-central-1, or region in [stage.NAME]")
        case foreign.InvalidRegionError():
            return ConfigError(f"not an AWS region: {error}", hint="--region eu-central-1")
        case foreign.EndpointConnectionError() | foreign.ConnectTimeoutError() | foreign.ProxyConnectionError():
            return InfrastructureError(f"no connection to AWS ({operation}): {error}", hint="check network and proxy")
        case foreign.SSLError():
            return InfrastructureError(
                f"no trusted connection to AWS ({operation}): {error}", hint="AWS_CA_BUNDLE names your proxy's CA"
            )
        case foreign.HTTPClientError() | foreign.ResponseStreamingError():
            return BusyError(f"the connection to AWS broke ({operation}): {error}", hint="run the same command again")
        case _:
            return None


# -- fragile texts, each in one place ---------------------------------------------------------------------------------


def says_no_such_stack(refusal: RefusedError) -> bool:
    """CloudFormation has no code for it: ``ValidationError: Stack with id X does not exist``."""
    return refusal.code == "ValidationError" and "does not exist" in refusal.said


def says_nothing_to_change(reason: str) -> bool:
    """How a change set says that it is empty; it is FAILED then."""
    return bool(re.search(r"didn't contain changes|no updates are to be performed|no changes", reason, re.IGNORECASE))


def says_validation_failed(reason: str | None) -> bool:
    """A stack's event that only points to others: ``Validation failed with 1 error(s). Call DescribeEvents …``."""
    return bool(re.search(r"validation fail", reason or "", re.IGNORECASE))


def says_not_terminable(refusal: RefusedError) -> bool:
    """``ValidationError: Stack [X] cannot be deleted while TerminationProtection is enabled``."""
    return refusal.code == "ValidationError" and "TerminationProtection" in refusal.said


def says_changed_elsewhere(refusal: RefusedError) -> bool:
    """Another shell works on the stack: it is busy, or the change set or the stack is not what it was a moment ago.

    ``ValidationError: Stack:arn… is in UPDATE_IN_PROGRESS state and can not be updated``.
    """
    codes = ("ChangeSetNotFound", "ChangeSetNotFoundException", "InvalidChangeSetStatus", "AlreadyExistsException")
    return refusal.code in codes or bool(re.search(r"\b[A-Z_]+_IN_PROGRESS\b state", refusal.said))


def says_too_large(refusal: RefusedError) -> bool:
    """The Data API's answer to a result of more than 1 MiB, or a row of more than 64 KiB.

    Source: https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/data-api-troubleshooting.html
    """
    return bool(re.search(r"more than the allowed response size|response size limit|result.*too large", refusal.said))


def says_waking(refusal: RefusedError) -> bool:
    """A paused Aurora Serverless v2 cluster that begins to resume."""
    if refusal.code in ("DatabaseResumingException", "DatabaseUnavailableException", "ServiceUnavailableError"):
        return True
    return bool(re.search(r"is resuming after being auto-paused|Communications link failure", refusal.said))


@dataclass(frozen=True, slots=True)
class SqlRefusal:
    """PostgreSQL's complaint, as the Data API passes it on."""

    message: str
    state: str | None
    """SQLSTATE."""
    position: int | None
    """1 is the first character of the statement."""


def sql_refusal(refusal: RefusedError) -> SqlRefusal | None:
    """``ERROR: relation "x" does not exist; Position: 15; SQLState: 42P01``, where it is one."""
    if not refusal.code.startswith(("DatabaseError", "BadRequest", "UnsupportedResult")):
        return None
    state = re.search(r"SQLState:?\s*(\w{5})", refusal.said)
    position = re.search(r"Position:\s*(\d+)", refusal.said)
    if state is None and "ERROR:" not in refusal.said and not refusal.code.startswith("DatabaseError"):
        return None
    text = re.split(r";?\s*(?:Position:|SQLState:)", refusal.said)[0]
    text = re.sub(r"^(?:.*?\bERROR:\s*)", "", text.strip(), flags=re.DOTALL).strip(" ;\n")
    return SqlRefusal(text or refusal.said, state[1] if state else None, int(position[1]) if position else None)
