"""What the policy evaluator is asked about, where ministack asks too little.

RunTask is checked on the task definition, ``iam:PassRole`` on its roles, ``ecs:TagResource`` on the task; what happens
in a cluster knows ``ecs:cluster``; batches of messages need what single messages need; whoever uses the Data API must
be allowed to read the secret; log calls are about ``LOG-GROUP-ARN:*``.
"""

from __future__ import annotations

import contextvars
import json
import sys
from typing import Any

from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import error_response_json, get_account_id, get_region
from ministack.services import ecs

from emulator.tasks import replace_run_task

_plain_resource = iam_actions.extract_resource_arn
_plain_action = iam_actions.extract_iam_action
_plain_context = iam_actions.request_tag_context
_denied: contextvars.ContextVar[tuple[str, str, str] | None] = contextvars.ContextVar("denied", default=None)


def mend() -> None:
    global _run_task, _plain_data_api  # noqa: PLW0603
    iam_actions.extract_iam_action = _permission
    iam_actions.extract_resource_arn = _resource
    iam_actions.request_tag_context = _context
    _run_task = ecs._run_task
    replace_run_task(_checked_run_task)
    application = sys.modules["ministack.app"]
    # The listener speaks plain HTTP on this machine in place of TLS, so every caller came over TLS.
    iam_evaluator._request_origin = contextvars.ContextVar("origin", default=("127.0.0.1", True))
    application.pin_request_origin = lambda address, _secure: iam_evaluator._request_origin.set((address, True))
    _plain_data_api = application._enforce_rds_data
    application._enforce_rds_data = _data_api


def _permission(*request: Any, **named: Any) -> Any:
    action = _plain_action(*request, **named)
    if isinstance(action, str) and action.startswith("sqs:"):
        return action.removesuffix("Batch")
    return action


def _resource(
    service: str, method: str, path: str, headers: dict[str, str], body: bytes, query: Any, region: str, account: str
) -> str:
    got = str(_plain_resource(service, method, path, headers, body, query, region, account))
    action = _action(headers)
    if service == "ecs" and action == "RunTask":
        return _task_definition(headers, json.loads(body or b"{}"), region, account)
    if service == "logs" and ":log-group:" in got and not action.startswith(("Tag", "Untag", "ListTags")):
        streams = ("PutLogEvents", "GetLogEvents", "DeleteLogStream")
        stream = json.loads(body or b"{}").get("logStreamName") if action in streams else None
        return f"{got}:log-stream:{stream}" if stream else f"{got}:*"
    return got


def _task_definition(headers: dict[str, str], data: dict[str, Any], region: str, account: str) -> str:
    """The ARN that RunTask is about; on the way, whether the caller may pass its roles."""
    name = data.get("taskDefinition", "").rsplit("task-definition/", 1)[-1]
    if ":" not in name:
        revisions = [key for key in ecs._task_defs if key.rsplit(":", 1)[0] == name]
        name = max(revisions, key=lambda key: int(key.rsplit(":", 1)[1]), default=name)
    definition, overrides = ecs._task_defs.get(name) or {}, data.get("overrides") or {}
    for kind in ("taskRoleArn", "executionRoleArn"):
        if role := overrides.get(kind) or definition.get(kind):
            passed = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
            denied = iam_evaluator.enforce(
                _access_key(headers), "iam:PassRole", "iam", region, resource_arn=role, service_context=passed
            )
            if denied is not None:
                _denied.set((getattr(denied, "principal_arn", "?"), "iam:PassRole", role))
    if data.get("propagateTags") or data.get("tags") or data.get("enableECSManagedTags"):
        task = f"arn:aws:ecs:{region}:{account}:task/{data.get('cluster', 'default').rsplit('/', 1)[-1]}/new"
        created = {"ecs:CreateAction": "RunTask"}
        denied = iam_evaluator.enforce(
            _access_key(headers), "ecs:TagResource", "ecs", region, resource_arn=task, service_context=created
        )
        if denied is not None:
            _denied.set((getattr(denied, "principal_arn", "?"), "ecs:TagResource", task))
    return f"arn:aws:ecs:{region}:{account}:task-definition/{name}"


def _context(service: str, action: str, body: bytes, query: Any) -> dict[str, Any]:
    got = dict(_plain_context(service, action, body, query) or {})
    if action in ("ecs:RunTask", "ecs:ListTasks", "ecs:DescribeTasks", "ecs:StopTask"):
        cluster = json.loads(body or b"{}").get("cluster", "default")
        prefix = f"arn:aws:ecs:{get_region()}:{get_account_id()}:cluster/"
        got["ecs:cluster"] = cluster if cluster.startswith("arn:") else prefix + cluster
    return got


def _checked_run_task(data: dict[str, Any]) -> Any:
    denied = _denied.get()
    if denied:
        _denied.set(None)
        text = f"User: {denied[0]} is not authorized to perform: {denied[1]} on resource: {denied[2]} because no "
        return error_response_json("AccessDeniedException", f"{text}identity-based policy allows it", 400)
    return _run_task(data)


def _data_api(method: str, path: str, headers: dict[str, str], body: bytes, query: Any, request: str) -> Any:
    denied = _plain_data_api(method, path, headers, body, query, request)
    if denied:
        return denied
    try:
        arn = json.loads(body or b"{}").get("secretArn")
    except ValueError:
        arn = None
    check = sys.modules["ministack.app"]._enforce_data_plane
    needs = ("secretsmanager", "secretsmanager:GetSecretValue", headers, query, request)
    return arn and check(*needs, resource_arn=arn, named_resource=arn)


def _action(headers: dict[str, str]) -> str:
    return headers.get("x-amz-target", "").rsplit(".", 1)[-1]


def _access_key(headers: dict[str, str]) -> str:
    return str(sys.modules["ministack.app"].extract_access_key_id(headers, {}))
