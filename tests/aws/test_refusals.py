"""What AWS says when it says no, in our words."""

from __future__ import annotations

from typing import Any

import pytest
from botocore import exceptions as foreign

from lakectl.aws import refusals
from lakectl.aws.refusals import Login, RefusedError
from lakectl.errors import BusyError, ConfigError, InfrastructureError, LakectlError, PermissionDeniedError
from tests.aws.conftest import Stubbed

SSO = Login("work", "sso")


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [
        ("ExpiredToken", PermissionDeniedError, "aws sso login --profile work"),
        ("RequestExpired", PermissionDeniedError, "aws sso login --profile work"),
        ("UnrecognizedClientException", PermissionDeniedError, "aws sso login --profile work"),
        ("AccessDenied", PermissionDeniedError, "the rights that lakectl needs: lakectl iam policy"),
        ("UnauthorizedOperation", PermissionDeniedError, "the rights that lakectl needs: lakectl iam policy"),
        ("ThrottlingException", BusyError, "run the same command again"),
        ("SlowDown", BusyError, "run the same command again"),
        ("OptInRequired", InfrastructureError, "enable the region, or name another"),
        ("SomethingElse", RefusedError, None),
    ],
)
def test_each_refusal_has_its_error_and_its_next_step(
    stubbed: Stubbed, code: str, kind: type[LakectlError], hint: str | None
) -> None:
    stubbed.refuse("sqs", "list_queues", code, "because")
    with pytest.raises(kind) as caught:
        stubbed.aws.call("sqs", "list_queues")
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("error", "login", "kind", "hint"),
    [
        (foreign.SSOTokenLoadError(error_msg="x"), SSO, PermissionDeniedError, "aws sso login --profile work"),
        (foreign.UnauthorizedSSOTokenError(), SSO, PermissionDeniedError, "aws sso login --profile work"),
        (
            foreign.TokenRetrievalError(provider="sso", error_msg="x"),
            SSO,
            PermissionDeniedError,
            "aws sso login --profile work",
        ),
        (foreign.NoCredentialsError(), SSO, PermissionDeniedError, "aws sso login --profile work"),
        (foreign.NoCredentialsError(), Login(), PermissionDeniedError, "--profile NAME"),
        (foreign.LoginRefreshRequired(), Login("work", "login"), PermissionDeniedError, "aws login --profile work"),
        (foreign.ProfileNotFound(profile="work"), SSO, ConfigError, "aws configure list-profiles"),
        (foreign.NoRegionError(), SSO, ConfigError, "--region"),
        (foreign.EndpointConnectionError(endpoint_url="x"), SSO, InfrastructureError, "network"),
        (foreign.ReadTimeoutError(endpoint_url="x"), SSO, BusyError, "again"),
    ],
)
def test_failures_on_this_side_of_the_wire_are_told_too(
    error: foreign.BotoCoreError, login: Login, kind: type[LakectlError], hint: str
) -> None:
    ours = refusals.of_core_error(error, login, "s3.put_object")
    assert type(ours) is kind
    assert hint in (ours.hint or "")


def test_a_mistake_of_ours_stays_a_bug() -> None:
    assert refusals.of_core_error(foreign.ParamValidationError(report="x"), SSO, "x") is None


def test_expired_keys_of_the_environment_get_other_advice() -> None:
    assert "AWS_SESSION_TOKEN" in Login(None, "environment").command


def _refused(code: str, said: str) -> RefusedError:
    return RefusedError(said, code=code, said=said, operation="x")


def test_postgres_speaks_through_the_data_api() -> None:
    said: Any = refusals.sql_refusal(
        _refused("DatabaseErrorException", 'ERROR: relation "x" does not exist; Position: 15; SQLState: 42P01')
    )
    assert (said.message, said.state, said.position) == ('relation "x" does not exist', "42P01", 15)
    assert refusals.sql_refusal(_refused("BadRequestException", "Database name is not correct")) is None


def test_the_fragile_texts_are_known() -> None:
    assert refusals.says_no_such_stack(_refused("ValidationError", "Stack with id x does not exist"))
    assert refusals.says_nothing_to_change("The submitted information didn't contain changes. Submit different …")
    assert refusals.says_nothing_to_change("No updates are to be performed.")
    assert refusals.says_too_large(
        _refused("BadRequestException", "Database returned more than the allowed response size limit")
    )
    assert refusals.says_waking(_refused("DatabaseResumingException", ""))
    assert refusals.says_not_terminable(
        _refused("ValidationError", "Stack [x] cannot be deleted while TerminationProtection is enabled")
    )
