"""Two CloudFormation templates with their parameters, compared resource by resource. Pure.

CloudFormation's own change sets say more, but making one is a write; ``deploy --plan`` shall need no rights beyond
reading. Parameters are put in their places first, so that a new image shows as what it changes: the task definition.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from lakectl.deploy.model import PropertyDiff, ResourceDiff

CreateOnly = Callable[[str], frozenset[str]]
"""The properties of a type whose change makes a new resource."""


def compare(
    before: str, after: str, parameters_before: Mapping[str, str], parameters_after: Mapping[str, str]
) -> tuple[ResourceDiff, ...]:
    """What would become of each resource, additions first; replacements are found by :func:`with_replacements`."""
    old = _resources(before, parameters_before)
    new = _resources(after, parameters_after)
    added = [ResourceDiff("add", name, _type(new[name])) for name in new if name not in old]
    changed = []
    for name, resource in new.items():
        if name not in old or old[name] == resource:
            continue
        if _type(old[name]) != _type(resource):
            changed.append(ResourceDiff("modify", name, _type(resource), "yes"))
            continue
        changed.append(ResourceDiff("modify", name, _type(resource), "never", tuple(_paths(old[name], resource))))
    removed = [ResourceDiff("remove", name, _type(old[name])) for name in old if name not in new]
    return (*added, *changed, *removed)


def with_replacements(changes: tuple[ResourceDiff, ...], create_only: CreateOnly) -> tuple[ResourceDiff, ...]:
    """The same with ``replaces`` told, where a type's public schema says that a property cannot be changed in place."""

    def told(change: ResourceDiff) -> ResourceDiff:
        if change.action != "modify" or change.replaces == "yes":
            return change
        fixed = create_only(change.type)
        hit = any(path.path.split(".")[0] in fixed for path in change.properties)
        verdict: Literal["yes", "never"] = "yes" if hit else "never"
        return replace(change, replaces=verdict)

    return tuple(map(told, changes))


def load(text: str) -> dict[str, Any]:
    """A template, YAML or JSON, with the short forms (``!Ref``, ``!Sub`` …) as CloudFormation's functions."""
    import yaml

    value = yaml.load(text, Loader=_loader())  # noqa: S506  a SafeLoader with CloudFormation's tags
    return value if isinstance(value, dict) else {}


def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Knows ``!GetAtt`` and its kind."""

    def construct(loader: Any, suffix: str, node: Any) -> Any:
        value: Any
        if isinstance(node, yaml.ScalarNode):
            value = loader.construct_scalar(node)
        elif isinstance(node, yaml.SequenceNode):
            value = loader.construct_sequence(node, deep=True)
        else:
            value = loader.construct_mapping(node, deep=True)
        if suffix == "GetAtt" and isinstance(value, str):
            value = value.split(".", 1)
        return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}

    Loader.add_multi_constructor("!", construct)
    Loader.add_constructor("tag:yaml.org,2002:timestamp", _as_text)
    return Loader


def _as_text(loader: Any, node: Any) -> Any:
    return loader.construct_scalar(node)


def _resources(text: str, given: Mapping[str, str]) -> dict[str, Any]:
    template = load(text)
    defaults = {
        name: str(spec["Default"])
        for name, spec in (template.get("Parameters") or {}).items()
        if isinstance(spec, dict) and "Default" in spec
    }
    values = {**defaults, **given}
    return {name: _filled(resource, values) for name, resource in (template.get("Resources") or {}).items()}


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    """The same with every parameter in its place."""
    if isinstance(value, dict):
        if set(value) == {"Ref"} and value["Ref"] in values:
            return values[value["Ref"]]
        if set(value) == {"Fn::Sub"} and isinstance(value["Fn::Sub"], str):
            text = value["Fn::Sub"]
            for name, given in values.items():
                text = text.replace("${" + name + "}", given)
            return {"Fn::Sub": text}
        return {key: _filled(item, values) for key, item in value.items()}
    return [_filled(item, values) for item in value] if isinstance(value, list) else value


def _type(resource: Any) -> str:
    return str(resource.get("Type", "?")) if isinstance(resource, dict) else "?"


def _paths(old: Any, new: Any) -> list[PropertyDiff]:
    """The properties that differ, each as its path below ``Properties``, or with its own name for the others."""
    found: list[PropertyDiff] = []
    for part in sorted({*old, *new} - {"Type", "Metadata"}):
        if part == "Properties":
            _walk(old.get(part) or {}, new.get(part) or {}, "", found)
        elif old.get(part) != new.get(part):
            found.append(PropertyDiff(part, _text(old.get(part)), _text(new.get(part))))
    return found


def _walk(old: Any, new: Any, path: str, found: list[PropertyDiff]) -> None:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict) and not _is_function(old) and not _is_function(new):
        for key in dict.fromkeys((*old, *new)):
            _walk(old.get(key), new.get(key), f"{path}.{key}" if path else str(key), found)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for position, (one, other) in enumerate(zip(old, new, strict=True)):
            _walk(one, other, f"{path}.{position}", found)
    else:
        found.append(PropertyDiff(path, _text(old), _text(new)))


def _is_function(value: dict[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)).startswith(("Fn::", "Ref"))


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict) and set(value) == {"Fn::Sub"} and isinstance(value["Fn::Sub"], str):
        return str(value["Fn::Sub"])
    return json.dumps(value, ensure_ascii=False, default=str)
