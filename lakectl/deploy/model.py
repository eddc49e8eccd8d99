"""What is wanted, what is there, and the steps between: frozen facts without any I/O.

``planner.plan(wanted, facts)`` makes a :class:`Plan`; ``executor.execute(plan)`` walks it and yields :class:`Event`.
Every step is safe to do again, and nothing is remembered between two runs but what the account itself shows:
interrupted at any point, the next ``deploy`` looks again and plans what is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

LATER = "(known when the image is there)"
"""Stands for a parameter that an earlier step of the plan decides."""

PRECIOUS: Mapping[str, str] = {
    "AWS::RDS::DBCluster": "the database with every table",
    "AWS::RDS::DBInstance": "the database's only instance (minutes without it)",
    "AWS::S3::Bucket": "a bucket with every object",
    "AWS::KMS::Key": "the key that everything is encrypted with",
    "AWS::ECR::Repository": "the repository with every image",
}
"""Types whose replacement or removal wants the stage's name typed."""

Role = Literal["bootstrap", "pipeline"]


@dataclass(frozen=True, slots=True)
class StackFacts:
    """One of the two stacks as it stands."""

    name: str
    status: str | None = None
    """None: there is none."""
    reason: str | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    template: str | None = field(default=None, repr=False)
    protected: bool = False
    causes: tuple[str, ...] = ()
    """Why it is stuck: the first failures of its last operation, as sentences."""
    failed: tuple[str, ...] = ()
    """The logical ids of the resources that made it so."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything about the account that the plan depends on; gathered by reading alone."""

    account: str
    region: str
    bootstrap: StackFacts
    pipeline: StackFacts
    image_digest: str | None = None
    """Of the wanted tag, in the repository."""
    uploaded: frozenset[str] = frozenset()
    """The wanted artifacts that are in the artifact bucket."""
    orphans: frozenset[str] = frozenset()
    """The lake's own buckets that exist without their stack."""
    lost: tuple[str, ...] = ()
    """What the stacks list and the account lacks: buckets and a database that somebody deleted by hand."""
    engine_version: str | None = None
    """Of the live database: minor upgrades happen on their own."""
    schema_mark: str | None = None
    """What the database was last set up for; see :func:`schema_mark`."""
    canary_mark: str | None = None
    """What a canary has last travelled through."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What this checkout and these settings ask for."""

    stage: str
    bootstrap: str = field(repr=False)
    """The template's text."""
    pipeline: str = field(repr=False)
    bootstrap_stack: str
    pipeline_stack: str
    repository: str
    artifact_bucket: str
    raw_bucket: str
    image_tag: str
    platform: str
    bundle_key: str
    handler_key: str
    engine_version: str
    tags: Mapping[str, str]
    parameters: tuple[str, ...]
    """Names of the pipeline's parameters."""
    migration: int
    """The newest migration of the ledger."""
    protected: bool = False
    builder: str | None = None
    """``docker``, ``podman``, ``finch``, ``buildah``, ``codebuild``; None: the first that answers."""
    image_uri: str | None = None
    """A fixed image (rollback): nothing is built."""


@dataclass(frozen=True, slots=True)
class PropertyDiff:
    """One property, before and after."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class ResourceDiff:
    """What would become of one resource."""

    action: Literal["add", "modify", "remove", "adopt"]
    logical_id: str
    type: str
    replaces: Literal["never", "maybe", "yes"] = "never"
    properties: tuple[PropertyDiff, ...] = ()

    @property
    def precious(self) -> str | None:
        """What would be lost, when this is a change that must be confirmed by name."""
        if self.replaces == "never" and self.action != "remove":
            return None
        return PRECIOUS.get(self.type)


# -- steps -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AwaitStack:
    """Someone else's operation goes first."""

    stack: str
    why: str

    @property
    def sentence(self) -> str:
        return f"wait for stack {self.stack}, which {self.why}"


@dataclass(frozen=True, slots=True)
class ContinueRollback:
    """Bring a stack whose rollback got stuck back to its last good state."""

    stack: str
    skip: tuple[str, ...]
    why: str

    @property
    def sentence(self) -> str:
        left = f", leaving {', '.join(self.skip)} as they are" if self.skip else ""
        return f"take the failed update of stack {self.stack} back{left}"


@dataclass(frozen=True, slots=True)
class DeleteStack:
    """Delete a stack; what cannot be deleted is kept on the second try, and forced on the third."""

    stack: str
    why: str

    @property
    def sentence(self) -> str:
        return f"delete stack {self.stack}: {self.why}"


@dataclass(frozen=True, slots=True)
class ApplyStack:
    """Create or update a stack through a change set."""

    stack: str
    role: Role
    kind: Literal["CREATE", "UPDATE"]
    template: str = field(repr=False)
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    adopt: bool = False
    """Take retained buckets back in."""

    @property
    def sentence(self) -> str:
        what = {
            "bootstrap": "artifact bucket, image repository, builder",
            "pipeline": "raw zone, dispatcher, tasks, database",
        }[self.role]
        verb = "create" if self.kind == "CREATE" else "update"
        return f"{verb} stack {self.stack} ({what}){', taking kept buckets back in' if self.adopt else ''}"


@dataclass(frozen=True, slots=True)
class PushImage:
    """Build the ETL's image for the task's platform and push it."""

    repository: str
    tag: str
    platform: str
    builder: str | None

    @property
    def sentence(self) -> str:
        where = f" with {self.builder}" if self.builder else ""
        return f"build the image of the ETL for {self.platform}{where} and push it as {self.tag[:12]}"


@dataclass(frozen=True, slots=True)
class UploadArtifact:
    """Put the transforms' bundle or the dispatcher's code in the artifact bucket."""

    bucket: str
    key: str
    what: Literal["bundle", "handler"]

    @property
    def sentence(self) -> str:
        what = "transforms and dataset settings" if self.what == "bundle" else "the dispatcher's code"
        return f"upload {what} ({self.key.rpartition('/')[2][:12]})"


@dataclass(frozen=True, slots=True)
class ApplySchema:
    """Users, rights and the ledger in the database."""

    migration: int

    @property
    def sentence(self) -> str:
        return f"set up the database: users, rights, ledger (migration {self.migration})"


@dataclass(frozen=True, slots=True)
class ProtectStack:
    """Termination protection on."""

    stack: str

    @property
    def sentence(self) -> str:
        return f"protect stack {self.stack} against deletion"


@dataclass(frozen=True, slots=True)
class Canary:
    """A small object that travels the whole way, and is removed."""

    @property
    def sentence(self) -> str:
        return "send a canary: one object the whole way into a table, then remove it"


@dataclass(frozen=True, slots=True)
class PauseDispatch:
    """No new work."""

    stack: str

    @property
    def sentence(self) -> str:
        return "stop the dispatcher from reading its queue"


@dataclass(frozen=True, slots=True)
class StopTasks:
    """End what runs."""

    cluster: str

    @property
    def sentence(self) -> str:
        return f"stop the running tasks of cluster {self.cluster}"


@dataclass(frozen=True, slots=True)
class LiftProtection:
    """Termination protection off."""

    stack: str

    @property
    def sentence(self) -> str:
        return f"lift the protection of stack {self.stack}"


@dataclass(frozen=True, slots=True)
class UnprotectDatabase:
    """Deletion protection off."""

    cluster: str

    @property
    def sentence(self) -> str:
        return f"lift the protection of database {self.cluster}"


@dataclass(frozen=True, slots=True)
class EmptyBucket:
    """Delete every version of every object."""

    bucket: str

    @property
    def sentence(self) -> str:
        return f"delete every version of every object in {self.bucket}"


@dataclass(frozen=True, slots=True)
class EmptyRepository:
    """Delete every image."""

    repository: str

    @property
    def sentence(self) -> str:
        return f"delete every image in {self.repository}"


@dataclass(frozen=True, slots=True)
class DeleteBucket:
    """Delete a bucket that its stack leaves behind on purpose."""

    bucket: str

    @property
    def sentence(self) -> str:
        return f"delete bucket {self.bucket}"


@dataclass(frozen=True, slots=True)
class DeleteSnapshots:
    """Delete the final snapshots that the database's deletion makes."""

    cluster: str

    @property
    def sentence(self) -> str:
        return f"delete the snapshots of database {self.cluster}"


@dataclass(frozen=True, slots=True)
class DeregisterTasks:
    """Old revisions of the task definition, which are kept for rollback."""

    family: str

    @property
    def sentence(self) -> str:
        return f"deregister every revision of task definition {self.family}"


@dataclass(frozen=True, slots=True)
class DeleteLogs:
    """Delete log groups that services made again after their stack was gone."""

    prefixes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        return "delete what is left of the logs"


Step = (
    AwaitStack
    | ContinueRollback
    | DeleteStack
    | ApplyStack
    | PushImage
    | UploadArtifact
    | ApplySchema
    | ProtectStack
    | Canary
    | PauseDispatch
    | StopTasks
    | LiftProtection
    | UnprotectDatabase
    | EmptyBucket
    | EmptyRepository
    | DeleteBucket
    | DeleteSnapshots
    | DeregisterTasks
    | DeleteLogs
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done, in order."""

    steps: tuple[Step, ...]
    diff: tuple[ResourceDiff, ...] = ()
    """What becomes of the resources, where an existing stack would change."""
    notes: tuple[str, ...] = ()
    """What is worth knowing: why a stack is stuck, what the account already has."""

    @property
    def precious(self) -> tuple[ResourceDiff, ...]:
        """Changes that lose data, or may."""
        return tuple(change for change in self.diff if change.precious)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened while a plan is carried out."""

    kind: Literal["begin", "progress", "done", "skip"]
    step: Step
    text: str = ""
    number: int = 0
    """Of the step, from 1."""
    seconds: float | None = None
    """With ``done``."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One finished deploy, as the artifact bucket remembers it; ``rollback`` goes back to one of these."""

    at: str
    """ISO 8601, UTC."""
    by: str
    lakectl: str
    image: str
    bundle: str
    handler: str
    template: str
    """Its key in the artifact bucket."""
    engine_version: str = ""

    @property
    def same(self) -> tuple[str, str, str, str]:
        """What makes two deployments equal."""
        return self.image, self.bundle, self.handler, self.template


def schema_mark(outputs: Mapping[str, str], migration: int) -> str:
    """What the database is set up for: another database or a newer ledger needs it again."""
    who = (outputs.get(name, "") for name in ("DatabaseArn", "MasterSecretArn", "ReaderSecretArn"))
    return "|".join((*who, str(migration)))


def canary_mark(outputs: Mapping[str, str], parameters: Mapping[str, str]) -> str:
    """What a canary proves: this database, image and dispatcher. A changed transform needs none."""
    parts = (outputs.get("DatabaseArn", ""), outputs.get("RawBucket", ""), outputs.get("ReaderSecretArn", ""))
    return "|".join((*parts, parameters.get("ImageUri", ""), parameters.get("HandlerKey", "")))
