"""The Data API saying no: asleep, too slow, too large, refused. Each answer with its error and its next step."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lakectl.aws.rds_data import DataApi, SqlError, TooLargeError
from lakectl.aws.refusals import RefusedError
from lakectl.errors import BusyError, DeadlineError, LakectlError, PermissionDeniedError, WarehouseUnavailableError
from tests.aws.conftest import Stubbed

ONE = {"columnMetadata": [{"label": "one", "typeName": "int4"}], "records": [[{"longValue": 1}]]}


def api(stubbed: Stubbed, naps: list[float], step: float = 1.0) -> DataApi:
    ticks: Iterator[float] = iter(number * step for number in range(10_000))
    return DataApi(
        stubbed.aws,
        cluster="arn:cluster-of-a-lake",
        database="lake",
        secret="arn:secret-of-a-reader",
        sleep=naps.append,
        clock=lambda: next(ticks),
    )


def asleep(stubbed: Stubbed, times: int, code: str = "DatabaseResumingException") -> None:
    for _ in range(times):
        stubbed.refuse("rds-data", "execute_statement", code, "resuming after being auto-paused")


@pytest.mark.parametrize("code", ["DatabaseResumingException", "DatabaseUnavailableException"])
def test_a_paused_database_is_asked_again_until_it_answers(stubbed: Stubbed, naps: list[float], code: str) -> None:
    asleep(stubbed, 5, code)
    stubbed.on("rds-data").add_response("execute_statement", ONE)
    assert api(stubbed, naps).execute("select 1").rows == [(1,)]
    assert len(naps) == 5
    assert max(naps) <= 5.0


def test_a_database_that_does_not_wake_in_two_minutes_is_unreachable(stubbed: Stubbed, naps: list[float]) -> None:
    asleep(stubbed, 3)
    with pytest.raises(WarehouseUnavailableError, match="did not wake up within 120 s") as caught:
        api(stubbed, naps, step=50.0).execute("select 1")
    assert (caught.value.exit_code, caught.value.retryable) == (7, True)


def test_waking_may_cost_the_first_statement_its_time_but_not_the_second(stubbed: Stubbed, naps: list[float]) -> None:
    asleep(stubbed, 1, "StatementTimeoutException")
    stubbed.on("rds-data").add_response("execute_statement", ONE)
    made = api(stubbed, naps)
    assert made.execute("select 1").rows == [(1,)]
    asleep(stubbed, 1, "StatementTimeoutException")
    with pytest.raises(DeadlineError, match="longer than the 45 s") as caught:
        made.execute("select pg_sleep(60)")
    assert caught.value.hint == "connect directly: --via DSN"


def test_a_statement_that_is_too_slow_twice_is_its_own_fault(stubbed: Stubbed, naps: list[float]) -> None:
    asleep(stubbed, 2, "StatementTimeoutException")
    with pytest.raises(DeadlineError):
        api(stubbed, naps).execute("select pg_sleep(60)")


@pytest.mark.parametrize(
    ("code", "said", "kind", "hint"),
    [
        (
            "BadRequestException",
            "Database returned more than the allowed response size limit",
            TooLargeError,
            None,
        ),
        (
            "DatabaseErrorException",
            "ERROR: cannot execute INSERT in a read-only transaction; SQLState: 25006",
            SqlError,
            "add --write if that is what you want",
        ),
        (
            "DatabaseErrorException",
            'FATAL: password authentication failed for user "lake_reader"; SQLState: 28P01',
            PermissionDeniedError,
            "lakectl deploy mends the users",
        ),
        ("ThrottlingException", "Rate exceeded", BusyError, "run the same command again"),
        ("ExpiredTokenException", "expired", PermissionDeniedError, "aws sso login --profile work"),
        ("AccessDeniedException", "no", PermissionDeniedError, "the rights that lakectl needs: lakectl iam policy"),
        ("ForbiddenException", "HttpEndpoint is not enabled", RefusedError, "lakectl doctor"),
    ],
)
def test_each_refusal_has_its_error_and_its_next_step(
    stubbed: Stubbed, naps: list[float], code: str, said: str, kind: type[LakectlError], hint: str | None
) -> None:
    stubbed.refuse("rds-data", "execute_statement", code, said)
    with pytest.raises(kind) as caught:
        api(stubbed, naps).execute("select 1")
    assert caught.value.hint == hint
    assert naps == []


def test_a_transaction_that_fails_is_rolled_back_and_its_own_error_is_told(stubbed: Stubbed, naps: list[float]) -> None:
    stub = stubbed.on("rds-data")
    stub.add_response("begin_transaction", {"transactionId": "t1"})
    stub.add_client_error("execute_statement", "DatabaseErrorException", "ERROR: no such thing; SQLState: 42P01")
    stub.add_client_error("rollback_transaction", "ThrottlingException", "Rate exceeded")
    made = api(stubbed, naps)
    with pytest.raises(SqlError, match="no such thing"), made.transaction() as number:
        made.execute("select 1 from nothing", transaction=number)
