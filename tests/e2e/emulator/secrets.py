"""Secrets Manager: ``Ref`` of a secret is its ARN, and generated strings obey their options."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from ministack.services import secretsmanager
from ministack.services.cloudformation import drift, provisioners

_plain_string = provisioners._sm_secret_string


def mend() -> None:
    provisioners._sm_secret_string = _string
    handlers = provisioners._RESOURCE_HANDLERS["AWS::SecretsManager::Secret"]
    handlers.update(
        create=_by_arn(handlers["create"], None),
        update=_by_arn(handlers["update"], 0),
        delete=_by_arn(handlers["delete"], 0),
    )
    read, fields = drift._DRIFT_READERS["AWS::SecretsManager::Secret"]
    drift._DRIFT_READERS["AWS::SecretsManager::Secret"] = (
        lambda name, properties: read(secretsmanager._resolve(name)[0] or name, properties),
        fields,
    )


def _string(properties: dict[str, Any]) -> Any:
    wanted = properties.get("GenerateSecretString")
    if properties.get("SecretString") is not None or not isinstance(wanted, dict):
        return _plain_string(properties)
    options: dict[str, Any] = {}
    for key, value in wanted.items():
        if key == "PasswordLength":
            options[key] = int(value)
        elif key == "ExcludeCharacters":
            options[key] = value
        elif key not in ("SecretStringTemplate", "GenerateStringKey"):
            options[key] = provisioners._cfn_bool(value)
    word = json.loads(secretsmanager._get_random_password(options)[2])["RandomPassword"]
    if not wanted.get("GenerateStringKey"):
        return word
    return json.dumps({**json.loads(wanted.get("SecretStringTemplate") or "{}"), wanted["GenerateStringKey"]: word})


def _by_arn(function: Callable[..., Any], position: int | None) -> Callable[..., Any]:
    """The same handler, its physical id an ARN outside and a name inside."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        given = list(arguments)
        if position is not None and str(given[position]).startswith("arn:"):
            given[position] = secretsmanager._resolve(given[position])[0] or given[position]
        got = function(*given, **named)
        return (got[1]["Id"], got[1]) if isinstance(got, tuple) else got

    return wrapped
