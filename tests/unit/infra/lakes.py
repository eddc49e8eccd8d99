"""The stages that the templates are rendered for in tests: three lakes, and every setting that changes a resource."""

from __future__ import annotations

import dataclasses
from typing import Any

from lakectl.deploy.render import StageSettings, parse_stage

ACCOUNT = "123456789012"

LAKES: dict[str, tuple[str, str, dict[str, Any], str | None, str | None]] = {
    "default": ("flights", "dev", {}, None, None),
    "locked": ("flights", "dev", {"network": "private", "kms": True, "trigger": "direct"}, ACCOUNT, "eu-west-1"),
    "production": (
        "Customer Analytics",
        "prod",
        {
            "min_acu": 0.5,
            "max_acu": 16,
            "task_cpu": 4096,
            "task_memory": 16384,
            "task_disk": 100,
            "architecture": "amd64",
            "max_tasks": 20,
            "log_retention": 365,
            "backup_days": 30,
            "alarm_email": "data@example.com",
            "permissions_boundary": f"arn:aws:iam::{ACCOUNT}:policy/boundary",
            "tags": {"team": "data"},
        },
        ACCOUNT,
        "ap-southeast-2",
    ),
}
"""What the golden files show: name, stage, [stage.NAME], account, region."""


def lake(name: str) -> StageSettings:
    """One of the three lakes."""
    title, stage, table, account, region = LAKES[name]
    return dataclasses.replace(parse_stage(title, stage, table), account=account, region=region)


def variant(**table: Any) -> StageSettings:
    """A stage of an account that is known, with these settings."""
    return dataclasses.replace(parse_stage("flights", "dev", table), account=ACCOUNT, region="eu-west-1")


def variants() -> dict[str, StageSettings]:
    """The three lakes, every network × trigger × key, and the settings that are left."""
    found = {name: lake(name) for name in LAKES}
    for network in ("public", "private"):
        for trigger in ("queue", "direct"):
            for kms in (False, True):
                name = f"{network}-{trigger}-{'key' if kms else 'plain'}"
                found[name] = variant(network=network, trigger=trigger, kms=kms)
    found["spot-unwindowed"] = variant(spot=True, batch_window=0, architecture="amd64", deletion_protection=True)
    return found
