"""What a process of the data plane must know: read once from its environment, frozen, picklable.

:class:`Settings` say where things are: the bucket, the bundle, the warehouse. A laptop makes them from its stage, a
container from its environment, a cluster ships them to its workers, which open their own connections. :class:`Order`
says what one task is to do. ``VARIABLES`` is the contract with the task definition and the dispatcher; the reference
page is made of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from etl_container.errors import ConfigError
from etl_container.objects_s3 import AuroraLogin, S3Store

BUNDLED_AUTHORITY: Final = "/etc/ssl/certs/rds-global-bundle.pem"
"""Where the image has the certificates of RDS."""

Action = Literal["load", "reload", "undo"]


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable of the container."""

    name: str
    help: str
    default: str | None = None
    """None: it must be set."""


VARIABLES: Final = (
    Variable("LAKE_NAME", "The lake's name.", "lake"),
    Variable("LAKE_STAGE", "The stage's name.", "local"),
    Variable("LAKE_BUCKET", "The bucket of the raw zone."),
    Variable("LAKE_ACCOUNT", "The account that must own the buckets, 12 digits.", ""),
    Variable("LAKE_BUNDLE", "The transforms and dataset settings: s3://BUCKET/bundles/SHA256.zip.", ""),
    Variable("LAKE_DB_AUTH", "iam: log in to Aurora with a signed token. password: LAKE_WAREHOUSE says all.", "iam"),
    Variable("LAKE_DB_HOST", "Aurora's endpoint (iam).", ""),
    Variable("LAKE_DB_PORT", "Its port (iam).", "5432"),
    Variable("LAKE_DB_NAME", "The database (iam).", "lake"),
    Variable("LAKE_DB_USER", "The database user (iam).", "lake_etl"),
    Variable("LAKE_DB_CA", "The certificates that may sign the server's (iam).", BUNDLED_AUTHORITY),
    Variable("LAKE_WAREHOUSE", "postgresql://… (password).", ""),
    Variable("LAKE_WAKE", "Seconds that a sleeping database is waited for.", "120"),
    Variable("LAKE_DEADLINE", "Seconds after which a task stops itself; 0: never.", "0"),
    Variable("LAKE_ACTION", "load, reload (also what is loaded already) or undo.", "load"),
    Variable("LAKE_AGAIN", "1 means reload.", ""),
    Variable("LAKE_OBJECTS", 'What to load: a JSON list of {"key", "version", "sequencer", "size", "etag"}.', ""),
    Variable("LAKE_MANIFEST", "The same list as an object, s3://….", ""),
    Variable("LAKE_RUN", "The run to undo.", ""),
    Variable("LAKE_ATTEMPT", "Which attempt this is.", "1"),
    Variable("LAKE_TRACE", "The id that all attempts at the same work share.", ""),
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object that is to be loaded, as the event or the operator named it."""

    key: str
    version: str | None = None
    """None: the newest."""
    sequencer: str | None = None
    etag: str | None = None
    size: int = 0
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Order:
    """What one task is to do."""

    action: Action = "load"
    objects: tuple[Wanted, ...] = ()
    manifest: str | None = None
    """``s3://…`` of the list of objects, when it was too long for the environment."""
    run: int | None = None
    attempt: int = 1
    trace: str = ""
    deadline: float = 0.0
    """Seconds from the start; 0: none."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where a lake's things are."""

    name: str
    stage: str
    store: S3Store
    bundle: str | None = None
    """``s3://…/<sha256>.zip``; None: no transforms, and the defaults for every dataset."""
    login: AuroraLogin | None = None
    warehouse: str | None = field(default=None, repr=False)
    """A connection string with its password; used when there is no ``login``."""
    wake: float = 120.0
    """Seconds that a sleeping database is waited for."""

    def dsn(self) -> str:
        """A connection string that opens the warehouse now."""
        if self.login is not None:
            return self.login.dsn()
        assert self.warehouse is not None
        return self.warehouse


def from_environment(environment: Mapping[str, str]) -> tuple[Settings, Order]:
    """The settings and the order of a container.

    Raises:
        ConfigError: a variable is missing or makes no sense; the message names it.
    """
    known = {variable.name: environment.get(variable.name) or variable.default for variable in VARIABLES}
    missing = [name for name, value in known.items() if value is None]
    if missing:
        raise ConfigError(f"the environment lacks {', '.join(missing)}", hint="lakectl deploy sets it")
    values = {name: str(value) for name, value in known.items()}
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    login, warehouse = _database(values, region)
    settings = Settings(
        name=values["LAKE_NAME"],
        stage=values["LAKE_STAGE"],
        store=S3Store(values["LAKE_BUCKET"], values["LAKE_ACCOUNT"] or None, region),
        bundle=values["LAKE_BUNDLE"] or None,
        login=login,
        warehouse=warehouse,
        wake=_number(values, "LAKE_WAKE"),
    )
    return settings, _order(values)


def wanted(listed: object, where: str) -> tuple[Wanted, ...]:
    """A list of objects as the dispatcher and the operator write it; raises ConfigError."""
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise ConfigError(f"{where}: expected a JSON list of objects")
    found = []
    for entry in listed:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("key"), str):
            raise ConfigError(f"{where}: {entry!r} is not an object with a key")
        texts = {name: entry.get(name) or None for name in ("version", "sequencer", "etag")}
        version = None if texts["version"] == "null" else texts["version"]
        found.append(Wanted(entry["key"], version, texts["sequencer"], texts["etag"], int(entry.get("size") or 0)))
    return tuple(found)


def location(address: str, where: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``; raises ConfigError."""
    match = re.fullmatch(r"s3://([^/]+)/(.+)", address)
    if match is None:
        raise ConfigError(f"{where} = {address!r} is not s3://BUCKET/KEY")
    return match[1], match[2]


def _order(values: Mapping[str, str]) -> Order:
    action: Any = "reload" if values["LAKE_AGAIN"] == "1" else values["LAKE_ACTION"]
    if action not in ("load", "reload", "undo"):
        raise ConfigError(f"LAKE_ACTION = {action!r}: expected load, reload or undo")
    if action == "undo" and not values["LAKE_RUN"].isdigit():
        raise ConfigError(f"LAKE_RUN = {values['LAKE_RUN']!r}: undo needs the number of a run")
    if action != "undo" and bool(values["LAKE_OBJECTS"]) == bool(values["LAKE_MANIFEST"]):
        raise ConfigError("set LAKE_OBJECTS or LAKE_MANIFEST: what is to be loaded")
    objects: tuple[Wanted, ...] = ()
    if values["LAKE_OBJECTS"]:
        try:
            objects = wanted(json.loads(values["LAKE_OBJECTS"]), "LAKE_OBJECTS")
        except json.JSONDecodeError as error:
            raise ConfigError(f"LAKE_OBJECTS is not JSON: {error}") from None
    return Order(
        action=action,
        objects=objects,
        manifest=values["LAKE_MANIFEST"] or None,
        run=int(values["LAKE_RUN"]) if values["LAKE_RUN"].isdigit() else None,
        attempt=int(_number(values, "LAKE_ATTEMPT")),
        trace=values["LAKE_TRACE"],
        deadline=_number(values, "LAKE_DEADLINE"),
    )


def _database(values: Mapping[str, str], region: str | None) -> tuple[AuroraLogin | None, str | None]:
    match values["LAKE_DB_AUTH"]:
        case "iam":
            if not values["LAKE_DB_HOST"]:
                raise ConfigError("the environment lacks LAKE_DB_HOST", hint="or set LAKE_DB_AUTH=password")
            port = int(_number(values, "LAKE_DB_PORT"))
            named = (values["LAKE_DB_NAME"], values["LAKE_DB_USER"], values["LAKE_DB_CA"])
            return AuroraLogin(values["LAKE_DB_HOST"], port, *named, region), None
        case "password":
            if not values["LAKE_WAREHOUSE"]:
                raise ConfigError("LAKE_DB_AUTH=password needs LAKE_WAREHOUSE")
            return None, values["LAKE_WAREHOUSE"]
        case other:
            raise ConfigError(f"LAKE_DB_AUTH = {other!r}: expected iam or password")


def _number(values: Mapping[str, str], name: str) -> float:
    try:
        number = float(values[name])
    except ValueError:
        raise ConfigError(f"{name} = {values[name]!r}: expected a number") from None
    if number < 0:
        raise ConfigError(f"{name} = {values[name]!r}: expected no negative number")
    return number
