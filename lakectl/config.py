"""What the operator decided: flags, environment and ``lake.toml`` become one frozen :class:`Lake`.

Reading goes in one direction: find the directory, read the file, lay the environment and the flags over it, and keep
for each value where it came from (``lakectl config show``). Nothing here connects to anything.

Precedence: flag > environment (``LAKE_*``, ``AWS_*``) > ``lake.toml`` > default.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from etl_container.datasets import Dataset, dataset_of_key, parse_dataset
from etl_container.schema import table_name
from lakectl.errors import ConfigError, LakectlError, NotFoundError, PermissionDeniedError

FILE_NAME: Final = "lake.toml"
STATE_NAME: Final = ".lake"
LOCAL: Final = "local"
"""The stage that is always there."""


@dataclass(frozen=True, slots=True)
class SettingSpec:
    """One setting of a lake: where it may come from and what it means. The reference pages are made of these."""

    key: str
    help: str
    default: str
    flag: str | None = None
    environment: tuple[str, ...] = ()
    """In order of precedence."""
    toml: str | None = None
    secret: bool = False


SETTINGS: Final = (
    SettingSpec(
        "directory",
        "Where the lake is: the nearest directory upwards with a lake.toml, else the directory itself.",
        "the current directory",
        flag="-C",
        environment=("LAKE_DIR",),
    ),
    SettingSpec("name", "The lake's name.", "the directory's name", environment=("LAKE_NAME",), toml="name"),
    SettingSpec(
        "stage",
        "Which stage commands work on.",
        "the stage last deployed from this directory, else local",
        flag="--stage",
        environment=("LAKE_STAGE",),
    ),
    SettingSpec(
        "warehouse",
        "The PostgreSQL that holds the tables of the local stage, as postgresql://user:password@host:port/database.",
        "an embedded PostgreSQL in .lake/",
        environment=("LAKE_WAREHOUSE",),
        toml="warehouse",
        secret=True,
    ),
    SettingSpec(
        "profile",
        "The AWS profile (stages in an account only).",
        "the AWS default",
        flag="--profile",
        environment=("LAKE_PROFILE", "AWS_PROFILE"),
        toml="stage.NAME.profile",
    ),
    SettingSpec(
        "region",
        "The AWS region (stages in an account only).",
        "the profile's",
        flag="--region",
        environment=("LAKE_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"),
        toml="stage.NAME.region",
    ),
    SettingSpec(
        "expected_account",
        "The 12 digits of the only AWS account that this stage may touch.",
        "any",
        toml="stage.NAME.expected_account",
    ),
)
_SPECS: Final = {spec.key: spec for spec in SETTINGS}
_TOP_LEVEL: Final = ("name", "warehouse", "dataset", "stage")


@dataclass(frozen=True, slots=True)
class Setting:
    """One value as it is in force, and its origin. Secrets are masked already."""

    key: str
    value: str | None
    origin: str
    """``flag --stage``, ``environment LAKE_STAGE``, ``lake.toml``, ``.lake/stage`` or ``default``."""


@dataclass(frozen=True, slots=True)
class Lake:
    """One project: a directory, its named datasets, its stages."""

    root: Path
    """Absolute."""
    stage: str = LOCAL
    name: str = ""
    file: Path | None = None
    """The ``lake.toml``, where there is one."""
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    """Those that ``lake.toml`` speaks of; :meth:`dataset` answers for every name."""
    warehouse: str | None = field(default=None, repr=False)
    """The DSN of the local stage's warehouse, with its password; None: the embedded PostgreSQL."""
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The ``[stage.NAME]`` tables as they stand in the file."""
    profile: str | None = None
    region: str | None = None
    settings: tuple[Setting, ...] = ()
    """Each value in force with its origin."""

    @property
    def state_dir(self) -> Path:
        """Local state: raw objects, the embedded database, the shell's history."""
        return self.root / STATE_NAME

    @property
    def transforms_dir(self) -> Path:
        """Where ``<dataset>.py`` and ``<dataset>.sql`` are looked for."""
        return self.root / "transforms"

    def dataset(self, name: str) -> Dataset:
        """The settings of a dataset: those of ``lake.toml``, else the defaults."""
        return self.datasets.get(name) or Dataset(name=name, table=table_name(name))

    def dataset_of(self, key: str) -> Dataset:
        """The settings of the dataset that an object's key belongs to; raises ConfigError for a foreign key."""
        return self.dataset(dataset_of_key(key))


def load(
    cwd: Path,
    *,
    stage: str | None = None,
    profile: str | None = None,
    region: str | None = None,
    environment: Mapping[str, str] | None = None,
    directory_origin: str = "default",
) -> Lake:
    """The lake at ``cwd``.

    Args:
        cwd: where to start looking for ``lake.toml``: there, then in each parent. Without one, ``cwd`` is the lake.
        stage: the ``--stage`` flag.
        profile: the ``--profile`` flag.
        region: the ``--region`` flag.
        environment: ``os.environ`` unless given.
        directory_origin: what to call the origin of ``cwd``.

    Raises:
        NotFoundError: no such directory.
        PermissionDeniedError: the file may not be read.
        ConfigError: the file or a variable is wrong; the message names file, line, table and key.
    """
    env = os.environ if environment is None else environment
    if not cwd.is_dir():
        raise NotFoundError(f"there is no directory {cwd}", hint="name an existing one with -C DIR")
    file = _find(cwd.resolve())
    root = file.parent if file else cwd.resolve()
    values, text = _read(file) if file else ({}, "")
    chosen = _Chooser(env)
    try:
        _check_top_level(values)
        datasets = {name: parse_dataset(name, table) for name, table in _tables(values, "dataset").items()}
        stages = {name: MappingProxyType(_stage(name, table)) for name, table in _tables(values, "stage").items()}
        stage_name = chosen.take("stage", flag=stage, remembered=_last_deployed(root), default=LOCAL) or LOCAL
        table: Mapping[str, Any] = stages.get(stage_name, {})
        name = chosen.take("name", file_value=_text(values, "name"), default=root.name or "lake") or "lake"
        warehouse = chosen.take("warehouse", file_value=_text(values, "warehouse"))
        chosen_profile = chosen.take("profile", flag=profile, file_value=table.get("profile"))
        chosen_region = chosen.take("region", flag=region, file_value=table.get("region"))
        chosen.take("expected_account", file_value=table.get("expected_account"))
    except ConfigError as error:
        if file is None or error.message.startswith("the variable"):
            raise
        raise placed(error, file, text) from None
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", stage_name):
        raise ConfigError(f"{stage_name!r} is not a stage's name", hint="lower-case letters, digits and hyphens: dev")
    if warehouse is not None and not re.match(r"postgres(ql)?(\+psycopg2)?://", warehouse):
        raise ConfigError(
            f"the warehouse ({chosen.origin('warehouse')}) is not a PostgreSQL address",
            hint="postgresql://user:password@host:5432/database",
        )
    where = Setting("directory", str(root), f"{file}" if file and file.parent != cwd.resolve() else directory_origin)
    return Lake(
        root=root,
        stage=stage_name,
        name=name,
        file=file,
        datasets=MappingProxyType(datasets),
        warehouse=warehouse,
        stages=MappingProxyType(stages),
        profile=chosen_profile,
        region=chosen_region,
        settings=(where, *chosen.settings),
    )


def masked(dsn: str) -> str:
    """A DSN without its password, for people to see."""
    dsn = re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", dsn)
    return re.sub(r"(?i)((?:password|sslpassword|passfile)=)[^&\s]+", r"\1***", dsn)


def remember_stage(lake: Lake) -> None:
    """Make ``lake.stage`` the one that the next command here works on."""
    lake.state_dir.mkdir(exist_ok=True)
    (lake.state_dir / "stage").write_text(f"{lake.stage}\n", encoding="utf-8")


def _find(start: Path) -> Path | None:
    return next((path for folder in (start, *start.parents) if (path := folder / FILE_NAME).is_file()), None)


def _read(file: Path) -> tuple[dict[str, Any], str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except PermissionError as error:
        raise PermissionDeniedError(f"{file} may not be read: {error.strerror}", hint=f"chmod u+r {file}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{file}:{line}: not UTF-8 text", hint="save the file as UTF-8") from None
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        reason = re.sub(r"\s*\(at [^)]*\)", "", str(error))
        line = int(place[1]) if place else text.count("\n") + 1
        raise ConfigError(
            f"{file}:{line}: {_lower_first(reason)}", hint="see https://toml.io for the notation"
        ) from None


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _check_top_level(values: Mapping[str, Any]) -> None:
    for key in values:
        if key not in _TOP_LEVEL:
            near = difflib.get_close_matches(key, _TOP_LEVEL, 1)
            raise ConfigError(
                f"{key}: no such setting",
                hint=f"did you mean {near[0]}?" if near else f"it knows {', '.join(_TOP_LEVEL)}",
            )


def _tables(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    tables = values.get(key, {})
    if not isinstance(tables, Mapping):
        raise ConfigError(f"{key} = {tables!r}: expected tables", hint=f"[{key}.NAME]")
    return tables


def _text(values: Mapping[str, Any], key: str) -> str | None:
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{key}: expected text in quotes")
    return value


def _stage(name: str, table: object) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise ConfigError(f"[stage.{name}] must be a table, not {table!r}")
    for key in ("profile", "region"):
        if key in table and not isinstance(table[key], str):
            raise ConfigError(f"[stage.{name}] {key} = {table[key]!r}: expected text in quotes")
    stage = dict(table)
    if "expected_account" in stage:
        stage["expected_account"] = str(stage["expected_account"])
        if not re.fullmatch(r"\d{12}", stage["expected_account"]):
            raise ConfigError(f"[stage.{name}] expected_account = {table['expected_account']!r}: expected 12 digits")
    return stage


def _last_deployed(root: Path) -> str | None:
    try:
        return (root / STATE_NAME / "stage").read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def placed(error: ConfigError, file: Path, text: str) -> LakectlError:
    """The same error with file and line, found by the table and key that its message begins with."""
    match = re.match(r"(?:\[(?P<table>[^\]]+)\]\s*)?(?P<key>[\w-]+)?", error.message)
    table, key = (match["table"], match["key"]) if match else (None, None)
    lines = text.splitlines()
    start = 0
    if table:
        header = re.compile(r"\s*\[\s*" + r"\s*\.\s*".join(f"[\"']?{re.escape(p)}[\"']?" for p in table.split(".")))
        start = next((n for n, line in enumerate(lines) if header.match(line)), -1)
    found = start
    if key and start >= 0:
        assignment = re.compile(rf"\s*\[?[\"']?{re.escape(key)}[\"']?\s*[.=\]]")
        found = next((n for n in range(start, len(lines)) if assignment.match(lines[n])), start)
    place = f"{file}:{found + 1}" if found >= 0 and (table or key) else str(file)
    return ConfigError(f"{place}: {error.message}", hint=error.hint)


class _Chooser:
    """Picks each value by precedence and writes down its origin."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.settings: list[Setting] = []

    def take(
        self,
        key: str,
        *,
        flag: str | None = None,
        file_value: Any = None,
        remembered: str | None = None,
        default: str | None = None,
    ) -> str | None:
        spec = _SPECS[key]
        value, origin = flag, f"flag {spec.flag}"
        if value is None:
            for variable in spec.environment:
                if self._environment.get(variable):
                    value, origin = self._environment[variable], f"environment {variable}"
                    break
        if value is None and file_value is not None:
            value, origin = str(file_value), FILE_NAME
        if value is None and remembered is not None:
            value, origin = remembered, f"{STATE_NAME}/stage"
        if value is None:
            value, origin = default, "default"
        shown = spec.default if value is None else masked(value) if spec.secret else value
        self.settings.append(Setting(key, shown, origin))
        return value

    def origin(self, key: str) -> str:
        return next(setting.origin for setting in self.settings if setting.key == key)
