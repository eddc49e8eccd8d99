"""What is wanted, from the checkout; what is there, from the account. Reading only: ``deploy --plan`` ends here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from etl_container import sql as ledger_sql
from lakectl import config
from lakectl.aws import quotas
from lakectl.aws.cloudformation import Stacks
from lakectl.aws.databases import Databases
from lakectl.aws.ecr import Repository
from lakectl.aws.s3 import Bucket
from lakectl.aws.session import Aws, connect
from lakectl.config import LOCAL, Lake
from lakectl.deploy import bundle as bundles
from lakectl.deploy import diff, image, render
from lakectl.deploy.model import Deployment, Facts, StackFacts, Wanted
from lakectl.deploy.render import StageSettings
from lakectl.errors import ConfigError, InfrastructureError, NotFoundError, PermissionDeniedError, UsageError

SCHEMA_MARK = "deploys/schema"
CANARY_MARK = "deploys/canary"
_HISTORY = "deploys/"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a lake in an account, opened."""

    lake: Lake
    settings: StageSettings
    aws: Aws


@dataclass(frozen=True, slots=True)
class Parts:
    """What a deploy sends: the image's build context and two zips."""

    image: Mapping[str, bytes] = field(repr=False)
    bundle: bundles.Artifact
    handler: bundles.Artifact


def settings_of(lake: Lake) -> StageSettings:
    """The settings of the lake's stage, without account and region.

    Raises:
        UsageError: the local stage is nothing to deploy.
        ConfigError: ``[stage.NAME]`` is wrong; or it is missing, and other stages are there.
    """
    if lake.stage == LOCAL:
        raise UsageError("the local stage needs no deploy", hint="lakectl deploy --stage dev")
    if lake.stages and lake.stage not in lake.stages:
        raise ConfigError(
            f"{lake.file} has no stage {lake.stage}; it has {', '.join(sorted(lake.stages))}",
            hint=f"--stage {min(lake.stages)}; or add [stage.{lake.stage}], all of its settings are optional",
        )
    try:
        settings = render.parse_stage(lake.name, lake.stage, dict(lake.stages.get(lake.stage, {})))
    except ConfigError as error:
        if lake.file is None:
            raise
        raise config.placed(error, lake.file, lake.file.read_text(encoding="utf-8-sig")) from None
    return dataclasses.replace(settings, region=lake.region or settings.region)


def overruled_region(lake: Lake) -> str | None:
    """That the region is another than the stage's own in ``lake.toml``, where it is: easily forgotten."""
    own = lake.stages.get(lake.stage, {}).get("region")
    if own in (None, lake.region):
        return None
    origin = next((setting.origin for setting in lake.settings if setting.key == "region"), "default")
    return f"region {lake.region} comes from {origin}; lake.toml has {own} for stage {lake.stage}"


def open_stage(lake: Lake) -> Stage:
    """Open the account of the lake's stage: who we are, whether we may, where.

    Raises:
        PermissionDeniedError: no credentials, or those of another account.
        ConfigError: no region, no such profile, wrong settings.
    """
    settings = settings_of(lake)
    aws = connect(profile=lake.profile, region=settings.region, expected_account=settings.expected_account)
    return Stage(lake, dataclasses.replace(settings, account=aws.account, region=aws.region), aws)


def wanted_of(stage: Stage, *, builder: str | None = None) -> tuple[Wanted, Parts]:
    """What this checkout and these settings ask for."""
    settings, names = stage.settings, stage.settings.names
    rendered = render.render(settings)
    content = image.files()
    parts = Parts(content, bundles.bundle(stage.lake), bundles.handler(render.handler_source()))
    default = diff.load(rendered.pipeline).get("Parameters", {}).get("EngineVersion", {}).get("Default")
    wanted = Wanted(
        stage=stage.lake.stage,
        bootstrap=rendered.bootstrap,
        pipeline=rendered.pipeline,
        bootstrap_stack=names.bootstrap_stack,
        pipeline_stack=names.stack,
        repository=names.repository,
        artifact_bucket=names.artifact_bucket,
        raw_bucket=names.raw_bucket,
        image_tag=image.tag_of(content, settings.platform),
        platform=settings.platform,
        bundle_key=parts.bundle.key,
        handler_key=parts.handler.key,
        engine_version=str(default or settings.engine_version),
        tags=dict(settings.all_tags),
        parameters=rendered.parameters,
        migration=max(number for number, _ in ledger_sql.migrations()),
        protected=settings.protected,
        builder=builder,
    )
    return wanted, parts


def gather(stage: Stage, wanted: Wanted) -> Facts:
    """Look at everything that the plan depends on. No call changes anything, none wakes the database."""
    aws = stage.aws
    stacks = Stacks(aws)
    bootstrap = _stack(stacks, wanted.bootstrap_stack)
    pipeline = _stack(stacks, wanted.pipeline_stack)
    artifacts = Bucket(aws, wanted.artifact_bucket)
    orphans, lost = set(), []
    for stack, bucket in ((bootstrap, artifacts), (pipeline, Bucket(aws, wanted.raw_bucket))):
        exists = bucket.exists()
        if stack.template is None and exists:
            orphans.add(bucket.name)
        if stack.template is not None and not exists:
            lost.append(f"bucket {bucket.name}")
    there = bootstrap.status is not None
    database = stage.settings.names.database
    cluster = Databases(aws).find(database) if pipeline.status is not None else None
    if pipeline.template is not None and cluster is None:
        lost.append(f"database {database}")
    return Facts(
        account=aws.account,
        region=aws.region,
        bootstrap=bootstrap,
        pipeline=pipeline,
        image_digest=Repository(aws, wanted.repository).digest(wanted.image_tag) if there else None,
        uploaded=frozenset(
            key for key in (wanted.bundle_key, wanted.handler_key) if there and artifacts.head(key) is not None
        ),
        orphans=frozenset(orphans),
        lost=tuple(lost),
        engine_version=cluster.version if cluster is not None else None,
        schema_mark=_mark(artifacts, SCHEMA_MARK) if there else None,
        canary_mark=_mark(artifacts, CANARY_MARK) if there else None,
    )


def _mark(artifacts: Bucket, key: str) -> str | None:
    found = artifacts.read(key)
    return None if found is None else found.decode()


def _stack(stacks: Stacks, name: str) -> StackFacts:
    found = stacks.find(name)
    if found is None:
        return StackFacts(name)
    stuck = found.situation.standing == "stuck"
    failures = stacks.failures(found.id) if stuck else []
    return StackFacts(
        name=name,
        status=found.status,
        reason=found.reason,
        outputs=found.outputs,
        parameters=found.parameters,
        tags=found.tags,
        template=stacks.template(name) if found.situation.standing == "usable" else None,
        protected=found.protected,
        causes=tuple(f"{event.logical_id}: {event.reason}" for event in failures[:3] if event.reason),
        failed=tuple(dict.fromkeys(event.logical_id for event in failures)),
    )


def preflight(stage: Stage) -> list[str]:
    """What is worth knowing before the first deploy: an account that is too small."""
    notes = []
    code = quotas.FARGATE_SPOT_VCPUS if stage.settings.spot else quotas.FARGATE_VCPUS
    vcpus = quotas.quota(stage.aws, *code)
    needed = stage.settings.task_cpu / 1024
    if vcpus is not None and vcpus < needed:
        notes.append(
            f"the account may run {vcpus:g} Fargate vCPUs at once, and one task needs {needed:g}: raise the quota"
            f" {code[1]} in Service Quotas, or set a smaller task_cpu in [stage.{stage.lake.stage}]"
        )
    elif vcpus is not None and vcpus < needed * stage.settings.max_tasks:
        notes.append(
            f"the account may run {vcpus:g} Fargate vCPUs at once: {int(vcpus // needed)} tasks, not the"
            f" {stage.settings.max_tasks} of max_tasks; more work waits in the queue"
        )
    return notes


# -- what was deployed before ----------------------------------------------------------------------------------------


def history(stage: Stage) -> list[Deployment]:
    """Finished deploys, newest first."""
    artifacts = Bucket(stage.aws, stage.settings.names.artifact_bucket)
    try:
        keys = [key for key in artifacts.keys(_HISTORY) if key.endswith(".json")]
    except InfrastructureError:
        return []
    found = []
    for key in sorted(keys, reverse=True)[:50]:
        text = artifacts.read(key)
        if text is not None:
            known: dict[str, Any] = json.loads(text)
            fields = {spec.name for spec in dataclasses.fields(Deployment)}
            found.append(Deployment(**{name: value for name, value in known.items() if name in fields}))
    return found


def remember(stage: Stage, deployment: Deployment) -> None:
    """Add a finished deploy to the history."""
    key = f"{_HISTORY}{deployment.at.replace(':', '')}.json"
    content = json.dumps(dataclasses.asdict(deployment), indent=1).encode()
    Bucket(stage.aws, stage.settings.names.artifact_bucket).write(key, content)


def earlier(stage: Stage, wanted: Wanted, which: str | None = None) -> Wanted:
    """What an earlier deploy wanted: the newest that differs from the one in force, or the one named by its time.

    Raises:
        NotFoundError: there is none.
    """
    past = history(stage)
    if which is not None:
        chosen = next((item for item in past if item.at.startswith(which)), None)
        if chosen is None:
            raise NotFoundError(f"there is no deploy of {which}", hint="lakectl rollback --list")
    else:
        chosen = next((item for item in past[1:] if item.same != past[0].same), None)
        if chosen is None:
            raise NotFoundError("there is no earlier deploy to go back to", hint="lakectl rollback --list")
    template = Bucket(stage.aws, wanted.artifact_bucket).read(chosen.template)
    if template is None:
        raise NotFoundError(f"the template of {chosen.at} is not kept any more", hint="lakectl rollback --list")
    return dataclasses.replace(
        wanted,
        pipeline=template.decode(),
        image_uri=chosen.image,
        bundle_key=chosen.bundle,
        handler_key=chosen.handler,
    )


def create_only(stage: Stage) -> diff.CreateOnly:
    """Asks the registry which properties cannot be changed in place; each type once."""
    stacks = Stacks(stage.aws)
    known: dict[str, frozenset[str]] = {}

    def of(resource_type: str) -> frozenset[str]:
        if resource_type not in known:
            try:
                known[resource_type] = stacks.create_only(resource_type)
            except (InfrastructureError, PermissionDeniedError):
                known[resource_type] = frozenset()
        return known[resource_type]

    return of
