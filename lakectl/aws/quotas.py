"""What a new account may be too small for."""

from __future__ import annotations

from lakectl.aws.refusals import RefusedError
from lakectl.aws.session import Aws
from lakectl.errors import InfrastructureError, PermissionDeniedError

FARGATE_VCPUS = ("fargate", "L-3032A538")
"""Fargate On-Demand vCPU resource count. Source: https://docs.aws.amazon.com/general/latest/gr/ecs-service.html"""
FARGATE_SPOT_VCPUS = ("fargate", "L-36FBB829")


def quota(aws: Aws, service: str, code: str) -> float | None:
    """A quota's value in this account; None when it cannot be asked (a right is missing, or no such service here)."""
    try:
        answer = aws.call("service-quotas", "get_service_quota", ServiceCode=service, QuotaCode=code)
    except (RefusedError, PermissionDeniedError, InfrastructureError):
        return None
    value = answer.get("Quota", {}).get("Value")
    return None if value is None else float(value)
