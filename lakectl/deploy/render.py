"""From a stage's settings to CloudFormation text. Pure: no file but the templates, no network, no clock.

    [stage.NAME] ──parse_stage──► StageSettings ──render──► Rendered(bootstrap, pipeline)
                                       └─ names: every literal name in the account, within AWS's limits

The templates in ``infra_templates/`` hold every resource and its reasons; this module, what they are filled with. Names
are literal because CloudFormation re-adopts a retained bucket only under a literal name (ImportExistingResources), and
because a least-privilege policy can then name what it allows.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import hashlib
import ipaddress
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from types import MappingProxyType
from typing import Any, Final

from lakectl.errors import ConfigError

MAX_INLINE_TEMPLATE: Final = 51_200
"""Bytes of a template body in an API call; a longer one travels through S3 (CloudFormation quotas)."""

MAX_MANAGED_POLICY: Final = 6_144
"""Characters of a managed policy, blanks not counted (IAM quotas)."""

CONTAINER: Final = "etl"
"""The container's name in the task definition."""


class Trigger(enum.StrEnum):
    """How an object's arrival reaches the dispatcher."""

    QUEUE = "queue"
    """S3 → SQS → Lambda: 14 days of durability, visible backlog, many small objects in one task."""
    DIRECT = "direct"
    """S3 → Lambda; what fails goes to the same queue."""


class Network(enum.StrEnum):
    """Where tasks run. The database is isolated either way."""

    PUBLIC = "public"
    """A public subnet, no ingress, a public address while the task runs."""
    PRIVATE = "private"
    """No way to the internet; VPC endpoints that are paid by the hour."""


class Architecture(enum.StrEnum):
    """Of the task and therefore of the image."""

    ARM64 = "arm64"
    AMD64 = "amd64"


_RETENTIONS: Final = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
"""Days that CloudWatch Logs accepts (PutRetentionPolicy)."""

_FARGATE_GIB: Final[Mapping[int, range]] = MappingProxyType(
    {
        512: range(1, 5),
        1024: range(2, 9),
        2048: range(4, 17),
        4096: range(8, 31),
        8192: range(16, 61, 4),
        16384: range(32, 121, 8),
    }
)
"""CPU units → GiB of memory (Fargate task sizes); 256 units take 512 MiB, 1 GiB or 2 GiB."""


def _setting(default: Any, help: str, **rules: Any) -> Any:  # noqa: A002
    """A field that may stand in ``[stage.NAME]``; rules: low, high, choices, pattern, hint."""
    return field(default=default, metadata={"help": help, **rules})


@dataclass(frozen=True, slots=True)
class StageSettings:
    """Everything the lake's owner decided about one stage in AWS; the defaults need no decision at all.

    ``account`` and ``region`` are facts of the session rather than decisions: whoever renders for a real account fills
    them in with ``dataclasses.replace``. Without them the templates say ``${AWS::AccountId}`` and ``${AWS::Region}``.
    """

    lake: str
    stage: str
    account: str | None = None
    """The account's 12 digits, when they are known."""
    region: str | None = _setting(None, "The AWS region.", pattern=r"[a-z]{2,4}(-[a-z]+)+-\d", hint="eu-west-1")
    profile: str | None = _setting(None, "The profile of the AWS configuration.")
    expected_account: str | None = _setting(
        None, "The 12 digits of the only account this stage may touch.", pattern=r"\d{12}", hint="12 digits"
    )
    trigger: Trigger = _setting(Trigger.QUEUE, "How an arriving object starts the work.")
    network: Network = _setting(Network.PUBLIC, "Where tasks run.")
    kms: bool = _setting(False, "Encrypt everything with a key of the lake's own ($1 a month) instead of AWS's.")
    min_acu: float = _setting(0.0, "Smallest capacity of the database, in ACU; 0 lets it pause.", low=0, high=256)
    max_acu: float = _setting(4.0, "Greatest capacity of the database, in ACU.", low=1, high=256)
    auto_pause: int = _setting(600, "Seconds without a connection until the database pauses.", low=300, high=86_400)
    task_cpu: int = _setting(1024, "CPU units of a task; 1024 is one vCPU.", choices=(256, *_FARGATE_GIB))
    task_memory: int = _setting(4096, "MiB of memory of a task.", low=512, high=122_880)
    task_disk: int = _setting(20, "GiB of a task's own disk; 20 are free.", low=20, high=200)
    architecture: Architecture = _setting(Architecture.ARM64, "Of the task and its image.")
    spot: bool = _setting(False, "Run tasks on spare capacity: about 70 % cheaper, and they may be interrupted.")
    max_tasks: int = _setting(4, "Tasks at the same time; more work waits in the queue.", low=1, high=500)
    deadline: int = _setting(7200, "Seconds that a task may take before it ends itself.", low=60, high=86_400)
    batch_window: int = _setting(5, "Seconds to gather small objects into one task.", low=0, high=300)
    log_retention: int = _setting(30, "Days that logs are kept.", choices=_RETENTIONS)
    backup_days: int = _setting(7, "Days of point-in-time backups of the database.", low=1, high=35)
    deletion_protection: bool = _setting(True, "AWS refuses to delete the database until this is lifted.")
    termination_protection: bool | None = _setting(None, "AWS refuses to delete the stack; default: on for prod*.")
    alarm_email: str | None = _setting(None, "Where alarms are sent.", pattern=r"[^@\s\"']+@[^@\s\"']+", hint="a@b.c")
    cidr: str = _setting("10.42.0.0/16", "The addresses of the lake's own network, /16 to /24.")
    engine_version: str = _setting("17.9", "Aurora PostgreSQL, major.minor.", pattern=r"1[6-8]\.\d{1,2}", hint="17.9")
    permissions_boundary: str | None = _setting(
        None, "The ARN of a policy that bounds every role.", pattern=r"arn:[\w-]+:iam::\d{12}:policy/[\w+=,.@/-]+"
    )
    tags: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({}),
        metadata={"help": "Tags for every resource, beside lake:name and lake:stage."},
    )

    @property
    def names(self) -> Names:
        """Every literal name of this stage in the account."""
        return Names.of(self)

    @property
    def all_tags(self) -> Mapping[str, str]:
        """The tags of the stacks, which CloudFormation hands on to the resources."""
        return MappingProxyType(
            {**self.tags, "lake:name": slug(self.lake) or self.names.prefix, "lake:stage": self.stage}
        )

    @property
    def protected(self) -> bool:
        """Whether AWS shall refuse to delete the stacks."""
        if self.termination_protection is not None:
            return self.termination_protection
        return self.stage.startswith("prod")

    @property
    def platform(self) -> str:
        """What image builders call the architecture."""
        return f"linux/{self.architecture}"

    @property
    def partition(self) -> str:
        """The first part of an ARN after ``arn:``, by region."""
        families = {"cn": "aws-cn", "us-gov": "aws-us-gov", "us-iso": "aws-iso", "us-isob": "aws-iso-b"}
        return families.get((self.region or "").rsplit("-", 2)[0], "aws")

    @property
    def subnets(self) -> tuple[str, str, str, str]:
        """Address blocks: tasks in two availability zones, the database in two."""
        network = ipaddress.IPv4Network(self.cidr)
        blocks = network.subnets(new_prefix=max(24, network.prefixlen + 2))
        first, second, third, fourth = (str(next(blocks)) for _ in range(4))
        return first, second, third, fourth


@dataclass(frozen=True, slots=True)
class Names:
    """Every literal name of a stage. All begin with ``prefix``, so that one glance and one policy find them all."""

    prefix: str
    """``lake-<name>-<stage>``, at most 24 characters: buckets append 39 (S3 allows 63)."""
    stack: str
    bootstrap_stack: str
    raw_bucket: str
    artifact_bucket: str
    repository: str
    family: str
    cluster: str
    function: str
    queue: str
    dead_queue: str
    database: str
    builder: str
    rule: str
    topic: str
    dashboard: str
    key_alias: str
    task_role: str
    execution_role: str
    dispatch_role: str
    build_role: str
    dispatch_log: str
    task_log: str
    build_log: str
    database_log: str

    @classmethod
    def of(cls, settings: StageSettings) -> Names:
        prefix = short_prefix(settings.lake, settings.stage)
        account = settings.account or settings.expected_account or "${AWS::AccountId}"
        region = settings.region or "${AWS::Region}"
        return cls(
            prefix=prefix,
            stack=prefix,
            bootstrap_stack=f"{prefix}-bootstrap",
            raw_bucket=f"{prefix}-raw-{account}-{region}",
            artifact_bucket=f"{prefix}-artifacts-{account}-{region}",
            repository=f"{prefix}-etl",
            family=f"{prefix}-etl",
            cluster=prefix,
            function=f"{prefix}-dispatch",
            queue=f"{prefix}-events",
            dead_queue=f"{prefix}-parked",
            database=prefix,
            builder=f"{prefix}-image",
            rule=f"{prefix}-stopped",
            topic=f"{prefix}-alarms",
            # A dashboard's name and a role's are known in the whole account, whatever the region.
            dashboard=f"{prefix}-{region}",
            key_alias=f"alias/{prefix}",
            task_role=f"{prefix}-{region}-task",
            execution_role=f"{prefix}-{region}-start",
            dispatch_role=f"{prefix}-{region}-dispatch",
            build_role=f"{prefix}-{region}-build",
            dispatch_log=f"/lake/{prefix}/dispatch",
            task_log=f"/lake/{prefix}/etl",
            build_log=f"/lake/{prefix}/build",
            database_log=f"/aws/rds/cluster/{prefix}/postgresql",
        )


@dataclass(frozen=True, slots=True)
class Rendered:
    """The two stacks of a stage, ready for CloudFormation."""

    bootstrap: str
    pipeline: str
    parameters: tuple[str, ...]
    """The names that the pipeline stack must be given."""


def slug(text: str) -> str:
    """Lower-case letters, digits and single hyphens, nothing else; empty when nothing of the text can be kept."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def short_prefix(lake: str, stage: str) -> str:
    """``lake-<name>-<stage>``; where that has more than 24 characters, cut and made unique with a digest."""
    full = f"lake-{slug(lake)}-{slug(stage)}"
    if len(full) <= 24 and slug(lake) and slug(stage):
        return full
    digest = hashlib.sha256(f"{lake}\n{stage}".encode()).hexdigest()[:6]
    tail = "-".join(filter(None, (digest, slug(stage)[:6].strip("-"))))
    return "-".join(filter(None, ("lake", slug(lake)[: 24 - 5 - 1 - len(tail)].strip("-"), tail)))


# -- settings ----------------------------------------------------------------------------------------------------------


def parse_stage(lake: str, stage: str, table: object) -> StageSettings:
    """One ``[stage.NAME]`` table.

    Args:
        lake: the lake's name.
        stage: the stage's name.
        table: as it stands in ``lake.toml``.

    Raises:
        ConfigError: an unknown key, a value of the wrong kind or beyond AWS's limits; the message names table and key.
    """
    where = f"stage.{stage}"
    if not isinstance(table, Mapping):
        raise ConfigError(f"[{where}] must be a table, not {table!r}")
    known = {f.name: f for f in dataclasses.fields(StageSettings) if f.metadata}
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"it knows {', '.join(known)}"
            raise ConfigError(f"[{where}] {key}: no such setting", hint=hint)
    taken = {key: _checked(where, known[key], value) for key, value in table.items()}
    settings = StageSettings(lake=lake, stage=stage, **taken)
    _check_together(where, settings)
    return settings


def _checked(where: str, spec: dataclasses.Field[Any], value: Any) -> Any:
    """One value, held against its field's kind and rules."""
    name, rules, declared = spec.name, spec.metadata, str(spec.type)
    if name == "tags":
        return _checked_tags(where, value)
    if name == "expected_account" and type(value) is int:
        value = f"{value:012d}"
    if declared in ("Trigger", "Network", "Architecture"):
        kind = {"Trigger": Trigger, "Network": Network, "Architecture": Architecture}[declared]
        if value not in list(kind):
            raise ConfigError(f"[{where}] {name} = {value!r}: expected one of {', '.join(kind)}")
        return kind(value)
    wanted = {"str": "text in quotes", "bool": "true or false", "int": "a whole number", "float": "a number"}
    base = declared.removesuffix(" | None")
    kinds: dict[str, tuple[type, ...]] = {"str": (str,), "bool": (bool,), "int": (int,), "float": (int, float)}
    if type(value) not in kinds[base]:
        raise ConfigError(f"[{where}] {name} = {value!r}: expected {wanted[base]}")
    if (choices := rules.get("choices")) and value not in choices:
        raise ConfigError(f"[{where}] {name} = {value!r}: expected one of {', '.join(map(str, choices))}")
    if "low" in rules and not rules["low"] <= value <= rules["high"]:
        raise ConfigError(f"[{where}] {name} = {value!r}: expected {rules['low']:,} to {rules['high']:,}")
    if "pattern" in rules and not re.fullmatch(rules["pattern"], value):
        raise ConfigError(f"[{where}] {name} = {value!r} cannot be used", hint=f"for instance {rules.get('hint', '')}")
    return float(value) if base == "float" else value


def _checked_tags(where: str, value: Any) -> Mapping[str, str]:
    """At most 40 tags (AWS allows 50, CloudFormation and the lake need some), in letters that every service takes."""
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise ConfigError(f"[{where}] tags = {value!r}: expected a table of texts", hint='tags = { team = "data" }')
    for key, text in value.items():
        plain = re.fullmatch(r"[\w .:/=+@-]{1,128}", key) and re.fullmatch(r"[\w .:/=+@-]{0,256}", text)
        if not plain or key.lower().startswith(("aws:", "lake:")):
            raise ConfigError(
                f"[{where}] tags: {key} = {text!r} cannot be a tag",
                hint="letters, digits, spaces and _ . : / = + - @; keys that begin with aws: or lake: are taken",
            )
    if len(value) > 40:
        raise ConfigError(f"[{where}] tags: {len(value)} of them; AWS allows no more than 40 here")
    return MappingProxyType(dict(value))


def _check_together(where: str, settings: StageSettings) -> None:
    """What no value alone can tell."""
    low, high = settings.min_acu, settings.max_acu
    if low % 0.5 or high % 0.5 or low > high:
        raise ConfigError(f"[{where}] min_acu = {low:g}, max_acu = {high:g}: expected steps of 0.5, min up to max")
    gibs = _FARGATE_GIB.get(settings.task_cpu)
    fits = settings.task_memory in (512, 1024, 2048) if gibs is None else settings.task_memory % 1024 == 0
    if not fits or (gibs is not None and settings.task_memory // 1024 not in gibs):
        allowed = [512, 1024, 2048] if gibs is None else [gib * 1024 for gib in gibs]
        raise ConfigError(
            f"[{where}] task_memory = {settings.task_memory}: "
            f"Fargate does not pair it with task_cpu = {settings.task_cpu}",
            hint=f"one of {', '.join(map(str, allowed))}",
        )
    try:
        network = ipaddress.IPv4Network(settings.cidr)
    except ValueError as error:
        raise ConfigError(f"[{where}] cidr = {settings.cidr!r}: {error}", hint="for instance 10.42.0.0/16") from None
    if not 16 <= network.prefixlen <= 24 or not network.is_private:
        raise ConfigError(f"[{where}] cidr = {settings.cidr!r}: expected a private network, /16 to /24")


# -- rendering ---------------------------------------------------------------------------------------------------------


def render(settings: StageSettings) -> Rendered:
    """The two templates of a stage, as YAML text with its comments, without anchors or aliases."""
    parameters = ("ImageUri", "BundleKey", "HandlerKey", "EngineVersion", *(("KeyArn",) if settings.kms else ()))
    return Rendered(
        bootstrap=_filled("bootstrap.yaml.j2", settings),
        pipeline=_filled("pipeline.yaml.j2", settings),
        parameters=parameters,
    )


def handler_source() -> str:
    """The Lambda's code: one file, which its zip calls ``handler.py``."""
    return resources.files("infra_templates").joinpath("trigger", "handler.py").read_text(encoding="utf-8")


def deployer_policy(settings: StageSettings) -> str:
    """What a principal needs to create, update and delete this stage, beside :func:`operator_policy`; IAM's JSON."""
    return _policy("deployer-policy.json.j2", settings)


def deployer_policies(settings: StageSettings) -> tuple[str, ...]:
    """:func:`deployer_policy` cut into documents that fit into managed policies (IAM: 6,144 characters, no blanks)."""
    parts: list[list[Any]] = [[]]
    for statement in json.loads(deployer_policy(settings))["Statement"]:
        if len(json.dumps([*parts[-1], statement], separators=(",", ":"))) > MAX_MANAGED_POLICY - 50:
            parts.append([])
        parts[-1].append(statement)
    return tuple(json.dumps({"Version": "2012-10-17", "Statement": part}, indent=2) + "\n" for part in parts)


def operator_policy(settings: StageSettings) -> str:
    """What a principal needs for the daily commands (upload, run, query, logs, retry …), as IAM's JSON."""
    return _policy("operator-policy.json.j2", settings)


def _policy(template: str, settings: StageSettings) -> str:
    known = dataclasses.replace(settings, account=settings.account or settings.expected_account or "*")
    known = dataclasses.replace(known, region=settings.region or "*")
    document = json.loads(_filled(template, known))
    return json.dumps(document, indent=2) + "\n"


def _filled(template: str, settings: StageSettings) -> str:
    import jinja2

    environment = jinja2.Environment(  # noqa: S701 - YAML and JSON, no HTML; texts are quoted by the filters below
        loader=jinja2.FunctionLoader(
            lambda name: resources.files("infra_templates").joinpath(name).read_text(encoding="utf-8")
        ),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = _quoted
    return environment.get_template(template).render(
        s=settings, n=settings.names, account=settings.account, region=settings.region, container=CONTAINER
    )


def _quoted(text: object) -> str:
    """A text as YAML, with ``!Sub`` only where there is something to substitute (cfn-lint W1020)."""
    encoded = json.dumps(str(text), ensure_ascii=False)
    return f"!Sub {encoded}" if "${" in encoded else encoded
