"""Stacks: described, changed by change sets only, followed event by event, and named when they are stuck.

A change set is prepared (nothing changes yet), shown, and executed or discarded. What CloudFormation found wrong with a
template is in its events, not in its answer: :meth:`Stacks.prepare` fetches it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from lakectl.aws.refusals import (
    RefusedError,
    says_changed_elsewhere,
    says_no_such_stack,
    says_not_terminable,
    says_nothing_to_change,
    says_validation_failed,
)
from lakectl.aws.session import Aws
from lakectl.errors import BusyError, DeadlineError, InfrastructureError, NotFoundError, PermissionDeniedError

BODY_LIMIT = 51_200
"""Bytes of a template in a call; a larger one travels through S3.
Source: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html"""

_POLL = 2.0
_PREPARED_WITHIN = 300.0

Standing = Literal["absent", "usable", "busy", "stuck"]


class StackNotFoundError(NotFoundError):
    """There is no stack of that name."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a stack's status means for the next command."""

    standing: Standing
    sentence: str
    """Completes "stack X …"."""
    remedy: Literal["", "wait", "delete", "continue", "delete_again"] = ""


SITUATIONS: Mapping[str, Situation] = {
    "CREATE_COMPLETE": Situation("usable", "is complete"),
    "UPDATE_COMPLETE": Situation("usable", "is complete"),
    "IMPORT_COMPLETE": Situation("usable", "is complete"),
    "UPDATE_ROLLBACK_COMPLETE": Situation("usable", "is as it was before its last, failed update"),
    "IMPORT_ROLLBACK_COMPLETE": Situation("usable", "is as it was before its last, failed import"),
    "CREATE_IN_PROGRESS": Situation("busy", "is being created", "wait"),
    "UPDATE_IN_PROGRESS": Situation("busy", "is being updated", "wait"),
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": Situation("busy", "is updated and cleans up", "wait"),
    "IMPORT_IN_PROGRESS": Situation("busy", "is taking resources in", "wait"),
    "ROLLBACK_IN_PROGRESS": Situation("busy", "could not be created and is being taken back", "wait"),
    "UPDATE_ROLLBACK_IN_PROGRESS": Situation("busy", "could not be updated and is being taken back", "wait"),
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": Situation("busy", "was taken back and cleans up", "wait"),
    "IMPORT_ROLLBACK_IN_PROGRESS": Situation("busy", "gives imported resources back", "wait"),
    "DELETE_IN_PROGRESS": Situation("busy", "is being deleted", "wait"),
    "DELETE_COMPLETE": Situation("absent", "is deleted"),
    "REVIEW_IN_PROGRESS": Situation("stuck", "is an empty shell: its first change set was never executed", "delete"),
    "CREATE_FAILED": Situation("stuck", "could not be created", "delete"),
    "ROLLBACK_COMPLETE": Situation("stuck", "could not be created; it is empty and cannot be updated", "delete"),
    "ROLLBACK_FAILED": Situation("stuck", "could not be created, and not be taken back either", "delete"),
    "IMPORT_ROLLBACK_FAILED": Situation("stuck", "could not give imported resources back", "continue"),
    "UPDATE_FAILED": Situation("stuck", "stopped in the middle of an update", "continue"),
    "UPDATE_ROLLBACK_FAILED": Situation("stuck", "could not be updated, and not be taken back either", "continue"),
    "DELETE_FAILED": Situation("stuck", "could not be deleted", "delete_again"),
}
"""Every status there is (botocore's ``StackStatus``); a test holds the two together."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack as it stands."""

    name: str
    id: str
    status: str
    reason: str | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    protected: bool = False
    """Termination protection."""

    @property
    def situation(self) -> Situation:
        """What its status means."""
        return SITUATIONS.get(self.status, Situation("stuck", f"is in the unknown state {self.status}"))


@dataclass(frozen=True, slots=True)
class PropertyChange:
    """One property of one resource, before and after, where CloudFormation tells."""

    path: str
    before: str | None
    after: str | None
    recreation: Literal["Never", "Conditionally", "Always"]


@dataclass(frozen=True, slots=True)
class ResourceChange:
    """What a change set would do to one resource."""

    action: str
    """``Add``, ``Modify``, ``Remove``, ``Import`` or ``Dynamic``."""
    logical_id: str
    physical_id: str | None
    type: str
    replaces: Literal["never", "maybe", "yes"]
    properties: tuple[PropertyChange, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """A prepared change: executed, or discarded, once."""

    id: str
    stack: str
    kind: Literal["CREATE", "UPDATE"]
    changes: tuple[ResourceChange, ...]


@dataclass(frozen=True, slots=True)
class StackEvent:
    """One thing that happened to one resource of a stack."""

    id: str
    at: datetime
    logical_id: str
    type: str
    status: str
    reason: str | None = None

    @property
    def failed(self) -> bool:
        """Whether this is a failure of its own, not the cancelling that follows one."""
        return self.status.endswith("FAILED") and "cancelled" not in (self.reason or "")


class Stacks:
    """The stacks of one account and region.

    Args:
        aws: the account.
        sleep: waits between two looks; tests wait for nothing.
        clock: monotonic seconds.
    """

    def __init__(
        self, aws: Aws, *, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._aws = aws
        self._sleep = sleep
        self._clock = clock

    # -- looking -------------------------------------------------------------------------------------------------

    def describe(self, name: str) -> Stack:
        """One stack, by name or id; raises StackNotFoundError."""
        try:
            answer = self._call("describe_stacks", StackName=name)
        except RefusedError as refusal:
            if says_no_such_stack(refusal):
                raise StackNotFoundError(f"there is no stack {name}", hint="lakectl deploy") from refusal
            raise
        facts = answer["Stacks"][0]
        return Stack(
            name=facts["StackName"],
            id=facts.get("StackId", name),
            status=facts["StackStatus"],
            reason=facts.get("StackStatusReason"),
            outputs={item["OutputKey"]: item["OutputValue"] for item in facts.get("Outputs", ())},
            parameters={item["ParameterKey"]: item.get("ParameterValue", "") for item in facts.get("Parameters", ())},
            tags={item["Key"]: item["Value"] for item in facts.get("Tags", ())},
            protected=bool(facts.get("EnableTerminationProtection")),
        )

    def find(self, name: str) -> Stack | None:
        """One stack; None when there is none, or no longer."""
        try:
            found = self.describe(name)
        except StackNotFoundError:
            return None
        return None if found.situation.standing == "absent" else found

    def template(self, name: str) -> str:
        """The template that a stack was made of, as it was sent."""
        body = self._call("get_template", StackName=name, TemplateStage="Original")["TemplateBody"]
        if isinstance(body, str):
            return body
        import json

        return json.dumps(body, indent=2)

    def resources(self, name: str) -> list[tuple[str, str, str, str]]:
        """``(logical id, physical id, type, status)`` of everything in a stack."""
        found = self._aws.pages("cloudformation", "list_stack_resources", "StackResourceSummaries", StackName=name)
        return [
            (
                item["LogicalResourceId"],
                item.get("PhysicalResourceId", ""),
                item["ResourceType"],
                item["ResourceStatus"],
            )
            for item in found
        ]

    def create_only(self, resource_type: str) -> frozenset[str]:
        """The properties of a resource type whose change makes a new resource, from the type's public schema.

        Empty when the registry cannot be asked (a right is missing, or it does not know the type).
        """
        import json

        try:
            answer = self._call("describe_type", Type="RESOURCE", TypeName=resource_type)
        except (RefusedError, PermissionDeniedError):
            return frozenset()
        schema = json.loads(answer.get("Schema") or "{}")
        paths = (*schema.get("createOnlyProperties", ()), *schema.get("conditionalCreateOnlyProperties", ()))
        return frozenset(path.removeprefix("/properties/").split("/")[0] for path in paths)

    # -- changing ------------------------------------------------------------------------------------------------

    def prepare(
        self,
        name: str,
        *,
        kind: Literal["CREATE", "UPDATE"],
        body: str | None = None,
        url: str | None = None,
        parameters: Mapping[str, str],
        tags: Mapping[str, str],
        adopt: bool = False,
    ) -> ChangeSet | None:
        """Make a change set and wait until it is ready; None when there is nothing to change.

        Args:
            name: of the stack.
            kind: whether the stack is there already.
            body: the template; or
            url: where in S3 it is.
            parameters: all of them.
            tags: of the stack, which hands them on to its resources.
            adopt: take resources that exist under the template's literal names into the stack (retained buckets).

        Raises:
            InfrastructureError: CloudFormation finds the template wrong; its validation events are in the message.
        """
        label = f"lakectl-{uuid.uuid4().hex[:12]}"
        made = self._call(
            "create_change_set",
            StackName=name,
            ChangeSetName=label,
            ChangeSetType=kind,
            TemplateBody=body,
            TemplateURL=url,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
            ImportExistingResources=adopt or None,
        )
        return self._prepared(name, made["Id"], kind)

    def _prepared(self, name: str, change_set: str, kind: Literal["CREATE", "UPDATE"]) -> ChangeSet | None:
        deadline = self._clock() + _PREPARED_WITHIN
        pause = 0.3
        while True:
            pages = self._described(name, change_set)
            status, reason = pages[0]["Status"], pages[0].get("StatusReason") or ""
            if status == "FAILED":
                if says_nothing_to_change(reason):
                    self.discard(name, change_set)
                    return None
                why = self._why(name, change_set) or reason
                self.discard(name, change_set)
                raise InfrastructureError(
                    f"CloudFormation refuses the change of stack {name}: {why}",
                    hint="lakectl deploy --render DIR writes the template for a closer look",
                )
            if status not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
                break
            if self._clock() > deadline:
                raise DeadlineError(f"the change set of stack {name} is not ready after 5 minutes")
            self._sleep(pause)
            pause = min(pause * 1.5, _POLL)
        changes = tuple(
            _change(item["ResourceChange"])
            for page in pages
            for item in page.get("Changes", ())
            if "ResourceChange" in item
        )
        return ChangeSet(change_set, name, kind, changes)

    def _described(self, name: str, change_set: str) -> list[dict[str, Any]]:
        pages = []
        token = None
        while True:
            page = self._call(
                "describe_change_set",
                StackName=name,
                ChangeSetName=change_set,
                IncludePropertyValues=True,
                NextToken=token,
            )
            pages.append(page)
            token = page.get("NextToken")
            if not token:
                return pages

    def _why(self, name: str, change_set: str) -> str | None:
        """What early validation found; it is in the events of the change set alone."""
        try:
            answer = self._call("describe_events", ChangeSetName=change_set, StackName=name)
        except (InfrastructureError, PermissionDeniedError):
            return None
        said = [
            f"{event.get('LogicalResourceId', name)}: {event['ValidationStatusReason']}"
            for event in answer.get("OperationEvents", ())
            if event.get("ValidationStatus") == "FAILED" and event.get("ValidationStatusReason")
        ]
        return "; ".join(said) or None

    def execute(self, change_set: ChangeSet) -> None:
        """Let a prepared change happen; follow it with :meth:`follow`."""
        self._call("execute_change_set", StackName=change_set.stack, ChangeSetName=change_set.id)

    def discard(self, name: str, change_set: str) -> None:
        """Forget a change set that is not executed."""
        self._call("delete_change_set", StackName=name, ChangeSetName=change_set)

    def continue_rollback(self, name: str, skip: Sequence[str] = ()) -> None:
        """Go on with a rollback that got stuck, leaving the resources ``skip`` as they are."""
        self._call("continue_update_rollback", StackName=name, ResourcesToSkip=list(skip) or None)

    def delete(self, stack_id: str, *, retain: Sequence[str] = (), force: bool = False) -> None:
        """Delete a stack; ``retain`` leaves resources behind, ``force`` those that cannot be deleted.

        Raises:
            BusyError: termination protection is on.
        """
        try:
            self._call(
                "delete_stack",
                StackName=stack_id,
                RetainResources=list(retain) or None,
                DeletionMode="FORCE_DELETE_STACK" if force else None,
            )
        except RefusedError as refusal:
            if says_not_terminable(refusal):
                raise BusyError(f"stack {stack_id} is protected against deletion", hint="lakectl destroy") from refusal
            raise

    def protect(self, name: str, on: bool) -> None:
        """Termination protection on or off."""
        self._call("update_termination_protection", StackName=name, EnableTerminationProtection=on)

    # -- following -----------------------------------------------------------------------------------------------

    def newest_event(self, stack_id: str) -> str | None:
        """The id of the newest event: where :meth:`follow` begins after it."""
        found = self._call("describe_stack_events", StackName=stack_id).get("StackEvents") or ()
        return found[0]["EventId"] if found else None

    def follow(self, stack_id: str, *, after: str | None = None, within: float = 5400.0) -> Iterator[StackEvent]:
        """Events as they happen, oldest first, until the stack is at rest.

        Args:
            stack_id: the id (a name ends to be known when its stack is deleted).
            after: the newest event that is old news.
            within: seconds.

        Raises:
            DeadlineError: the stack is still busy.
        """
        deadline = self._clock() + within
        seen = after
        while True:
            status = self.describe(stack_id).situation.standing
            for event in reversed(self._events_after(stack_id, seen)):
                seen = event.id
                yield event
            if status != "busy":
                return
            if self._clock() > deadline:
                raise DeadlineError(
                    f"stack {stack_id} is not at rest after {within / 60:.0f} minutes",
                    hint="run the same command again",
                )
            self._sleep(_POLL)

    def _events_after(self, stack_id: str, seen: str | None) -> list[StackEvent]:
        """Newest first."""
        found = []
        for item in self._aws.pages("cloudformation", "describe_stack_events", "StackEvents", StackName=stack_id):
            if item["EventId"] == seen:
                break
            found.append(
                StackEvent(
                    item["EventId"],
                    item["Timestamp"],
                    item["LogicalResourceId"],
                    item.get("ResourceType", ""),
                    item["ResourceStatus"],
                    item.get("ResourceStatusReason"),
                )
            )
        return found

    def failures(self, stack_id: str) -> list[StackEvent]:
        """The failures of the newest operation, the first (the cause) first; what validation found goes before all."""
        found: list[StackEvent] = []
        for event in self._events_after(stack_id, None):
            if event.type == "AWS::CloudFormation::Stack" and event.status in (
                "CREATE_IN_PROGRESS",
                "UPDATE_IN_PROGRESS",
                "DELETE_IN_PROGRESS",
                "REVIEW_IN_PROGRESS",
            ):
                break
            if event.failed and (event.type != "AWS::CloudFormation::Stack" or says_validation_failed(event.reason)):
                found.append(event)
        found.reverse()
        if found and found[0].type == "AWS::CloudFormation::Stack":
            return [*self._invalid(stack_id), *found]
        return found

    def _invalid(self, stack_id: str) -> list[StackEvent]:
        """What validation found wrong with the resources; it is in the events of the operation alone."""
        try:
            answer = self._call("describe_events", StackName=stack_id)
        except (InfrastructureError, PermissionDeniedError):
            return []
        return [
            StackEvent(
                item.get("EventId", ""),
                item["Timestamp"],
                item.get("LogicalResourceId", ""),
                item.get("ResourceType", ""),
                "VALIDATION_FAILED",
                f"{item['ValidationStatusReason']}{_at(item.get('ValidationPath'))}",
            )
            for item in answer.get("OperationEvents", ())
            if item.get("ValidationStatus") == "FAILED" and item.get("ValidationStatusReason")
        ]

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        try:
            return self._aws.call("cloudformation", operation, **arguments)
        except RefusedError as refusal:
            if says_changed_elsewhere(refusal):
                raise BusyError(
                    f"somebody else is changing stack {arguments.get('StackName')} at this moment",
                    hint="when the other command is done, run this one again: it goes on from there",
                ) from refusal
            raise


def _at(path: str | None) -> str:
    return f" (at {path})" if path else ""


def _change(facts: Mapping[str, Any]) -> ResourceChange:
    replaces: dict[str, Literal["never", "maybe", "yes"]] = {"True": "yes", "Conditional": "maybe"}
    properties = []
    for detail in facts.get("Details", ()):
        target = detail.get("Target", {})
        path = target.get("Path") or "/".join(filter(None, (target.get("Attribute"), target.get("Name"))))
        properties.append(
            PropertyChange(
                path.removeprefix("/").removeprefix("Properties/"),
                target.get("BeforeValue"),
                target.get("AfterValue"),
                target.get("RequiresRecreation", "Never"),
            )
        )
    return ResourceChange(
        facts["Action"],
        facts["LogicalResourceId"],
        facts.get("PhysicalResourceId"),
        facts["ResourceType"],
        replaces.get(str(facts.get("Replacement")), "never"),
        tuple(dict.fromkeys(properties)),
    )
