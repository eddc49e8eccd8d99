"""What AWS's own services do in a role's name: Lambda reads the queue and writes the log, ECS pulls the image.

ministack does these as itself; here the role is asked first, as in an account.
"""

from __future__ import annotations

import os
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id, get_region
from ministack.services import ecs, lambda_svc

_READING = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
_LOGGING = ("logs:CreateLogStream", "logs:PutLogEvents")
_PULLING = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")

_plain_emit = lambda_svc._emit_lambda_logs


def mend() -> None:
    lambda_svc._emit_lambda_logs = _emit


def missing(role: str, actions: tuple[str, ...], resource: str) -> str | None:
    """The first of the actions that a role may not do, or None."""
    account, name = get_account_id(), role.rsplit("/", 1)[-1]
    policies = iam_evaluator._gather_role_policies(name, account)
    for action in actions:
        asked = iam_evaluator.EvalContext(
            principal_arn=f"arn:aws:sts::{account}:assumed-role/{name}/service",
            principal_type="AssumedRole",
            principal_account=account,
            action=action,
            resource_arn=resource,
            region=get_region(),
        )
        if iam_evaluator.evaluate(asked, policies).decision != "Allow":
            return action
    return None


def may_read(mapping: dict[str, Any], queue: str) -> bool:
    """Whether a function's role may take messages; why not is told by the mapping."""
    _, config = lambda_svc._get_func_record_for_qualifier(mapping["FunctionName"], None)
    lacks = missing(config["Role"], _READING, queue)
    if lacks:
        mapping["LastProcessingResult"] = f"PROBLEM: the function's role is not authorized to perform: {lacks}"
    return lacks is None


def _emit(function: dict[str, Any], *rest: Any, **named: Any) -> None:
    config = function.get("config") or function
    group = (config.get("LoggingConfig") or {}).get("LogGroup") or f"/aws/lambda/{config['FunctionName']}"
    if missing(config["Role"], _LOGGING, _group(group)) is None:
        _plain_emit(function, *rest, **named)


def may_start(role: str, image: str, options: dict[str, Any]) -> None:
    """Raises what Fargate says where the execution role lacks a right on image or log."""
    repository = image.split("/", 1)[-1].partition("@")[0].partition(":")[0]
    arn = f"arn:aws:ecr:{get_region()}:{get_account_id()}:repository/{repository}"
    lacks = missing(role, ("ecr:GetAuthorizationToken",), "*") or missing(role, _PULLING, arn)
    if lacks is None and (group := options.get("awslogs-group")):
        lacks = missing(role, _LOGGING, _group(group))
    if lacks:
        reason = f"{role} is not authorized to perform: {lacks}"
        raise ecs._ImagePullError(f"ResourceInitializationError: unable to pull image or write its log: {reason}")


def _group(name: str) -> str:
    return f"arn:aws:logs:{get_region()}:{get_account_id()}:log-group:{name}:log-stream:{os.getpid()}"
