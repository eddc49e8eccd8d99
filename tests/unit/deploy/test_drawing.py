"""The drawing says what the templates say: an arrow for each hop, and none for a right that is not there."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest

from lakectl.deploy import drawing, render
from lakectl.deploy.drawing import Picture


def picture(**table: Any) -> Picture:
    settings = render.parse_stage("flights", "dev", table)
    return Picture(dataclasses.replace(settings, account="111122223333", region="eu-central-1"))


def pairs(found: Picture) -> set[tuple[str, str]]:
    return {(arrow.source, arrow.target) for arrow in found.arrows()}


def test_the_way_of_an_object_is_drawn_hop_by_hop() -> None:
    way = ["lakectl", "RawBucket", "EventQueue", "Dispatcher", "TaskDefinition", "DatabaseCluster"]
    assert set(itertools.pairwise(way)) <= pairs(picture())
    assert {("TaskDefinition", "StoppedTasks"), ("StoppedTasks", "EventQueue"), ("EventQueue", "ParkedQueue")} <= pairs(
        picture()
    )


def test_a_direct_trigger_leaves_the_queue_out() -> None:
    found = pairs(picture(trigger="direct"))
    assert ("RawBucket", "Dispatcher") in found
    assert ("RawBucket", "EventQueue") not in found


def test_the_database_and_the_tasks_are_in_the_network_and_nothing_else_is() -> None:
    text = picture().mermaid()
    within = text[text.index("subgraph Vpc") : text.index("  end")]
    assert "TaskDefinition" in within
    assert "DatabaseCluster" in within
    assert "Dispatcher" not in within
    assert "RawBucket" not in within


@pytest.mark.parametrize(
    ("right", "arrow"),
    [
        ("rds-db:connect", ("TaskDefinition", "DatabaseCluster")),
        ("ecs:RunTask", ("Dispatcher", "TaskDefinition")),
        ("s3:GetObject, s3:GetObjectVersion", ("TaskDefinition", "RawBucket")),
    ],
)
def test_without_the_right_there_is_no_arrow(
    right: str, arrow: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert arrow in pairs(picture())
    real = render.render

    def without(settings: render.StageSettings) -> render.Rendered:
        made = real(settings)
        assert right in made.pipeline
        return dataclasses.replace(made, pipeline=made.pipeline.replace(right, "x:Nothing"))

    monkeypatch.setattr(drawing.render, "render", without)
    assert arrow not in pairs(picture())


def test_nobody_but_the_task_may_log_in_to_the_database() -> None:
    holders = {right.principal for right in picture().rights() if "rds-db:connect" in right.actions}
    assert holders == {"TaskDefinition"}


def test_no_task_may_write_to_a_bucket() -> None:
    writes = [action for right in picture().rights() if right.principal == "TaskDefinition" for action in right.actions]
    assert not [action for action in writes if action.startswith("s3:") and not action.startswith("s3:Get")]


def test_every_resource_of_both_stacks_is_in_the_table() -> None:
    found = picture(network="private", kms=True)
    assert [name for _, name, _, _ in found.table()] == list(found.resources)
