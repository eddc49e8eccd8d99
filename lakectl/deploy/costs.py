"""What a stage costs: in a month when nothing happens, and for a piece of work. List prices, no call to AWS.

The prices are in ``prices.json`` with their date and region (AWS's public price pages). They are to judge a setting by
(``network = "private"`` costs more than everything else together), not to check a bill by: no tax, discount or free
tier is in them but where an item says so.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from lakectl.deploy.render import Network, StageSettings

ENDPOINTS = 3
"""Interface endpoints of a private network: ecr.api, ecr.dkr, logs."""

ZONES = 2
"""Availability zones, each of which has every endpoint."""

SECRETS = 2
"""The master's and the reader's."""

IMAGE_GB = 0.3
"""An ETL image in ECR, compressed."""


@dataclass(frozen=True, slots=True)
class CostItem:
    """One line of the bill."""

    what: str
    monthly_usd: float
    why: str


@dataclass(frozen=True, slots=True)
class IdleCost:
    """A month in which nothing is uploaded and nobody asks."""

    items: tuple[CostItem, ...]
    region: str
    """Whose list prices these are; other regions differ by some per cent."""
    as_of: dt.date

    @property
    def total(self) -> float:
        """US dollars a month."""
        return sum(item.monthly_usd for item in self.items)


@dataclass(frozen=True, slots=True)
class WorkCost:
    """What is paid only while something happens."""

    what: str
    usd: float
    why: str


def idle(settings: StageSettings) -> IdleCost:
    """The monthly cost of a stage at rest, dearest item first."""
    data = _data()
    price: Mapping[str, float] = data["prices"]
    hours = data["hours_in_a_month"]
    items = [
        CostItem("secrets", SECRETS * price["secret_month"], "the database's master and its read-only user"),
        CostItem("database storage", price["aurora_storage_gb_month"], "per GB of tables; counted as 1 GB"),
        CostItem("raw objects", price["s3_storage_gb_month"], "per GB of files, all versions; counted as 1 GB"),
        CostItem("images", IMAGE_GB * price["ecr_storage_gb_month"], f"one image of {IMAGE_GB} GB"),
        CostItem(
            "queues, alarms, dashboard", 0.0, "about 650,000 requests, 4 alarms, 1 dashboard: within what is free"
        ),
    ]
    if settings.min_acu:
        capacity = settings.min_acu * price["acu_hour"] * hours
        items.append(
            CostItem("database capacity", capacity, f"{settings.min_acu:g} ACU always on; min_acu = 0 pauses it")
        )
    else:
        pause = f"paused {settings.auto_pause} s after the last connection"
        items.append(CostItem("database capacity", 0.0, pause))
    if settings.network is Network.PRIVATE:
        endpoints = ENDPOINTS * ZONES * price["interface_endpoint_month"]
        why = f'{ENDPOINTS} endpoints in {ZONES} zones; network = "public" has none'
        items.append(CostItem("interface endpoints", endpoints, why))
    if settings.kms:
        items.append(
            CostItem("key", price["key_month"], "the lake's own; each of its first two rotations adds as much")
        )
    items.sort(key=lambda item: -item.monthly_usd)
    return IdleCost(tuple(items), data["region"], dt.date.fromisoformat(data["as_of"]))


def work(settings: StageSettings) -> tuple[WorkCost, ...]:
    """What a task and the woken database cost."""
    price: Mapping[str, float] = _data()["prices"]
    chip = settings.architecture.value
    cpu, memory = settings.task_cpu / 1024, settings.task_memory / 1024
    hour = cpu * price[f"fargate_{chip}_vcpu_hour"] + memory * price[f"fargate_{chip}_gb_hour"]
    hour += max(settings.task_disk - 20, 0) * price["fargate_disk_gb_hour"]
    if settings.network is Network.PUBLIC:
        hour += price["public_ipv4_hour"]
    size = f"{cpu:g} vCPU, {memory:g} GB, {chip}; at least one minute is billed"
    low = max(settings.min_acu, 0.5)
    awake = low * price["acu_hour"] * settings.auto_pause / 3600
    costs = [
        WorkCost("one minute of a task", hour / 60, size + ("; spot is about 70 % cheaper" if settings.spot else "")),
        WorkCost("one ACU of the database for an hour", price["acu_hour"], "it scales by the second, by load"),
    ]
    if not settings.min_acu:
        costs.append(
            WorkCost("waking the database once", awake, f"{low:g} ACU for {settings.auto_pause} s until it pauses")
        )
    return tuple(costs)


@functools.cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(
        resources.files("lakectl.deploy").joinpath("prices.json").read_text(encoding="utf-8")
    )
    return data
