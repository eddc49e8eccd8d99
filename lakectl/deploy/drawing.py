"""A drawing of a stage, made of its rendered templates: who tells, starts, reads and writes whom. Pure.

Nothing is drawn that the templates do not say: arrows are notifications, event sources, redrives, rule targets and
alarms, and the rights of roles (of the people's policy, too) in a word each. Rights without a word are told by
:meth:`Picture.rights` only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lakectl.deploy import diff, render
from lakectl.deploy.render import StageSettings

PEOPLE = "lakectl"
"""Who holds the operator's policy."""

_SHAPES: Mapping[str, tuple[str, str]] = {
    "AWS::S3::Bucket": ("[(", ")]"),
    "AWS::SQS::Queue": ("[[", "]]"),
    "AWS::Lambda::Function": ("(", ")"),
    "AWS::ECS::TaskDefinition": ("(", ")"),
    "AWS::RDS::DBCluster": ("[(", ")]"),
    "AWS::SecretsManager::Secret": ("[", "]"),
    "AWS::Events::Rule": ("{{", "}}"),
    "AWS::SNS::Topic": ("[[", "]]"),
    "AWS::ECR::Repository": ("[(", ")]"),
    "AWS::CodeBuild::Project": ("(", ")"),
    "AWS::KMS::Key": ("[", "]"),
}
"""What is drawn, and how; everything else is in the table of resources."""

_SERVICES: Mapping[str, str] = {
    "AWS::S3::Bucket": "s3",
    "AWS::SQS::Queue": "sqs",
    "AWS::Lambda::Function": "lambda",
    "AWS::ECS::TaskDefinition": "ecs",
    "AWS::RDS::DBCluster": "rds",
    "AWS::SecretsManager::Secret": "secretsmanager",
    "AWS::ECR::Repository": "ecr",
    "AWS::CodeBuild::Project": "codebuild",
}
_NAMED_BY = ("BucketName", "QueueName", "FunctionName", "Family", "DBClusterIdentifier", "RepositoryName", "Name")

_WORDS: Mapping[str, str] = {
    "s3:PutObject": "writes",
    "s3:GetObject": "reads",
    "sqs:SendMessage": "sends",
    "ecs:RunTask": "starts",
    "rds-db:connect": "loads, with an IAM token",
    "rds-data:ExecuteStatement": "asks, over the Data API",
    "ecr:PutImage": "pushes",
    "ecr:BatchGetImage": "pulls",
    "secretsmanager:GetSecretValue": "reads",
}
"""A word for the rights that are drawn, in the order in which they are said."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """Something that goes from one resource to another."""

    source: str
    target: str
    words: str


@dataclass(frozen=True, slots=True)
class Right:
    """What a principal may do to what."""

    principal: str
    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]


class Picture:
    """The two templates of a stage, and its operator's policy, read.

    Args:
        settings: of a stage whose account and region are known.
    """

    def __init__(self, settings: StageSettings) -> None:
        rendered = render.render(settings)
        self.texts = (rendered.bootstrap, rendered.pipeline)
        self.resources: dict[str, Any] = {}
        for text in self.texts:
            self.resources |= diff.load(text)["Resources"]
        self._people: list[dict[str, Any]] = json.loads(render.operator_policy(settings))["Statement"]

    def type(self, name: str) -> str:
        return str(self.resources[name]["Type"])

    def _of_type(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, resource in self.resources.items():
            if resource["Type"] == kind:
                yield name, resource.get("Properties", {})

    # -- arrows ------------------------------------------------------------------------------------------------------

    def arrows(self) -> list[Arrow]:
        """Every arrow of the drawing; one for each pair, with all of its words."""
        words: dict[tuple[str, str], list[str]] = {}
        for arrow in (*self._notices(), *self._deliveries(), *self._endings(), *self._alarms(), *self._by_rights()):
            if self._drawn(arrow.source) and self._drawn(arrow.target) and arrow.source != arrow.target:
                words.setdefault((arrow.source, arrow.target), []).extend(arrow.words.split(", "))
        return [Arrow(*pair, ", ".join(dict.fromkeys(said))) for pair, said in words.items()]

    def _drawn(self, name: str) -> bool:
        return name == PEOPLE or (name in self.resources and self.type(name) in _SHAPES)

    def _notices(self) -> Iterator[Arrow]:
        for bucket, facts in self._of_type("AWS::S3::Bucket"):
            told = facts.get("NotificationConfiguration", {})
            for one in (*told.get("QueueConfigurations", ()), *told.get("LambdaConfigurations", ())):
                for target in self._named(one.get("Queue") or one.get("Function")):
                    yield Arrow(bucket, target, "object created")

    def _deliveries(self) -> Iterator[Arrow]:
        for _name, facts in self._of_type("AWS::Lambda::EventSourceMapping"):
            for source in self._named(facts["EventSourceArn"]):
                for target in self._named(facts["FunctionName"]):
                    yield Arrow(source, target, f"batches of up to {facts['BatchSize']}")
        for queue, facts in self._of_type("AWS::SQS::Queue"):
            redrive = facts.get("RedrivePolicy", {})
            for target in self._named(redrive.get("deadLetterTargetArn")):
                yield Arrow(queue, target, f"after {redrive['maxReceiveCount']} deliveries")

    def _endings(self) -> Iterator[Arrow]:
        for rule, facts in self._of_type("AWS::Events::Rule"):
            if "ECS Task State Change" in facts["EventPattern"].get("detail-type", ()):
                for family, _ in self._of_type("AWS::ECS::TaskDefinition"):
                    yield Arrow(family, rule, "stopped")
            for target in facts["Targets"]:
                for name in self._named(target["Arn"]):
                    yield Arrow(rule, name, "tells")

    def _alarms(self) -> Iterator[Arrow]:
        for _name, facts in self._of_type("AWS::CloudWatch::Alarm"):
            values = [dimension["Value"] for dimension in facts["Dimensions"]]
            for source in (name for value in values for name in self._named(value)):
                for target in (name for topic in facts["AlarmActions"] for name in self._named(topic)):
                    yield Arrow(source, target, "alarm")

    def _by_rights(self) -> Iterator[Arrow]:
        for right in self.rights():
            words = ", ".join(dict.fromkeys(word for action, word in _WORDS.items() if action in right.actions))
            if not words:
                continue
            for resource in right.resources:
                yield Arrow(right.principal, resource, words)

    # -- rights --------------------------------------------------------------------------------------------------------

    def rights(self) -> list[Right]:
        """What every role of the stage may do, told by who takes the role, and what the operator may."""
        holders = self._holders()
        of_roles = [
            self._right(holders.get(role, role), statement)
            for role, facts in self._of_type("AWS::IAM::Role")
            for policy in facts.get("Policies", ())
            for statement in policy["PolicyDocument"]["Statement"]
        ]
        return [*of_roles, *(self._right(PEOPLE, statement) for statement in self._people)]

    def _holders(self) -> dict[str, str]:
        """Who takes each role."""
        found = {}
        for name, resource in self.resources.items():
            facts = resource.get("Properties", {})
            for key in ("Role", "ServiceRole", "TaskRoleArn", "ExecutionRoleArn"):
                for role in self._named(facts.get(key)):
                    found[role] = name
        return found

    def _right(self, principal: str, statement: Mapping[str, Any]) -> Right:
        actions = statement["Action"]
        resources = statement["Resource"]
        listed = resources if isinstance(resources, list) else [resources]
        named = [name for item in listed for name in (self._named(item) or [_plain(item)])]
        return Right(
            principal,
            str(statement.get("Sid", "")),
            tuple([actions] if isinstance(actions, str) else actions),
            tuple(dict.fromkeys(named)),
        )

    def _named(self, value: Any) -> list[str]:
        """The resources that a property speaks of: by reference, or by the name that they are given."""
        if value is None:
            return []
        text = json.dumps(value)
        referred = re.findall(r'"Ref": "(\w+)"|"Fn::GetAtt": \["(\w+)"|\$\{(\w+)[.}]', text)
        found = [name for group in referred for name in group if name in self.resources]
        if found:
            return list(dict.fromkeys(found))
        text = re.sub(r"\$\{AWS::(\w+)\}", r"\1", text)
        match = re.search(r"arn:[^:]*:([\w-]+):[^:]*:[^:]*:([^\"]+)", text)
        if match is None:
            return []
        service, parts = match[1], re.split(r"[:/]", match[2])
        return [
            name
            for name, resource in self.resources.items()
            if _SERVICES.get(resource["Type"]) == service and (_name(resource) in parts or f"{name}-*" in parts)
        ]

    # -- text ----------------------------------------------------------------------------------------------------------

    def mermaid(self) -> str:
        """The drawing, as Mermaid's flowchart."""
        arrows = self.arrows()
        names = dict.fromkeys(name for arrow in arrows for name in (arrow.source, arrow.target))
        within = [name for name in names if name != PEOPLE and self._in_network(name)]
        lines = ["flowchart LR", f'  {PEOPLE}(["{PEOPLE}"])']
        lines += [f"  {self._node(name)}" for name in names if name != PEOPLE and name not in within]
        lines += ["  subgraph Vpc", *(f"    {self._node(name)}" for name in within), "  end"]
        lines += [f'  {arrow.source} -- "{arrow.words}" --> {arrow.target}' for arrow in arrows]
        return "\n".join(lines)

    def _node(self, name: str) -> str:
        left, right = _SHAPES[self.type(name)]
        return f'{name}{left}"{name}<br/><small>{self.type(name).removeprefix("AWS::")}</small>"{right}'

    def _in_network(self, name: str) -> bool:
        facts = self.resources[name].get("Properties", {})
        return "VpcSecurityGroupIds" in facts or facts.get("NetworkMode") == "awsvpc"

    def table(self) -> Iterator[tuple[str, str, str, str]]:
        """``(section, resource, type, why)`` of everything, as the templates' own comments say it."""
        for title, text in zip(("Bootstrap", ""), self.texts, strict=True):
            section, comment = title, ""
            inside = False
            for line in text.splitlines():
                if re.match(r"\w", line):
                    inside = line.startswith("Resources:")
                elif not inside:
                    continue
                elif heading := re.match(r"  # (?:====|----) (.+?) [=-]+$", line):
                    section, comment = heading[1], ""
                elif said := re.match(r"  # (.*)", line):
                    comment = " ".join(f"{comment} {said[1]}".split())
                elif named := re.match(r"  (\w+):", line):
                    yield section, named[1], self.type(named[1]).removeprefix("AWS::"), _first_sentence(comment)
                    comment = ""
                elif not line.strip():
                    comment = ""


def _name(resource: Mapping[str, Any]) -> str | None:
    facts = resource.get("Properties", {})
    value = next((facts[key] for key in _NAMED_BY if key in facts), None)
    return None if value is None else _plain(value)


def _plain(value: Any) -> str:
    return str(value["Fn::Sub"]) if isinstance(value, dict) and "Fn::Sub" in value else str(value)


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.])\s(?=[A-Z`])", text, maxsplit=1)[0]
