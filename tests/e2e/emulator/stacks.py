"""CloudFormation: full and adopted buckets, what a change of one replaces, boundaries of roles, unknown types."""

from __future__ import annotations

import contextvars
from typing import Any

from ministack.services import iam, s3
from ministack.services.cloudformation import changesets, provisioners, stacks

_handlers = provisioners._RESOURCE_HANDLERS
_plain_bucket_delete = _handlers["AWS::S3::Bucket"]["delete"]
_plain_role_create = _handlers["AWS::IAM::Role"]["create"]

_plain_deploy = changesets._deploy_stack_async
_plain_validation = stacks._validation_errors
_adopted: contextvars.ContextVar[frozenset[str]] = contextvars.ContextVar("adopted", default=frozenset())

RECORDED: dict[str, dict[str, str]] = {
    "AWS::EC2::SecurityGroupIngress": {},
    "AWS::EC2::SecurityGroupEgress": {},
    "AWS::EC2::FlowLog": {},
    "AWS::SecretsManager::RotationSchedule": {},
    "AWS::SecretsManager::ResourcePolicy": {},
    "AWS::ECS::ClusterCapacityProviderAssociations": {},
}
"""Types that exist in name only, with their attributes."""


def mend() -> None:
    _handlers["AWS::S3::Bucket"]["delete"] = _delete_bucket
    _handlers["AWS::IAM::Role"]["create"] = _create_role
    provisioners._REPLACING_PROPERTIES.setdefault("AWS::S3::Bucket", ("BucketName",))
    changesets._deploy_stack_async = _deploy
    stacks._validation_errors = _validation_errors
    for kind, attributes in RECORDED.items():
        _handlers.setdefault(kind, _recorded(kind, attributes))


async def _deploy(*arguments: Any, **named: Any) -> Any:
    _adopted.set(frozenset(named.get("imports") or ()))
    return await _plain_deploy(*arguments, **named)


def _validation_errors(*arguments: Any, **named: Any) -> Any:
    """A bucket that the operation adopts is there, of course."""
    return [error for error in _plain_validation(*arguments, **named) if error[0] not in _adopted.get()]


def _delete_bucket(name: str, properties: dict[str, Any]) -> Any:
    bucket = s3._buckets.get(name)
    if bucket is not None and (bucket["objects"] or s3._bucket_has_versions(name)):
        raise ValueError(
            "The bucket you tried to delete is not empty. You must delete all versions in the bucket. "
            "(Service: S3, Status Code: 409)"
        )
    return _plain_bucket_delete(name, properties)


def _create_role(logical_id: str, properties: dict[str, Any], stack: str) -> Any:
    got = _plain_role_create(logical_id, properties, stack)
    if boundary := properties.get("PermissionsBoundary"):
        put = iam._put_role_permissions_boundary({"RoleName": got[0], "PermissionsBoundary": boundary})
        if put[0] >= 400:
            provisioners._rds_raise(put[0], put[2], "AWS::IAM::Role", "create")
    return got


def _recorded(kind: str, attributes: dict[str, str]) -> dict[str, Any]:
    def create(logical_id: str, _properties: dict[str, Any], stack: str) -> tuple[str, dict[str, str]]:
        provisioners.logger.warning("e2e: %s %s is only recorded", kind, logical_id)
        return provisioners._physical_name(stack, logical_id), dict(attributes)

    def update(name: str, _old: Any, _new: Any, _stack: str) -> tuple[str, dict[str, str]]:
        return name, dict(attributes)

    return {"create": create, "update": update, "delete": lambda _name, _properties: None}
