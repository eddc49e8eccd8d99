"""The reference pages of the half that is in an account: drawn from the templates, priced from the one table."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, get_type_hints

from lakectl.deploy import costs, drawing, render

_TITLE = """\
# A stage in AWS

Drawn from the templates as they are rendered for a stage with the defaults. Every arrow is something that they say: a
notification, an event source, a redrive, a rule's target, an alarm, or a right of a role. `lakectl` is whoever holds
`lakectl iam policy --operator`.
"""
_RIGHTS = """
## Rights

What each role may do, told by who takes the role; nothing else is allowed to it.

| who | what for | actions | on |
|---|---|---|---|"""
_COSTS = """\
# Costs

List prices of {region}, {as_of}, in US dollars, from `lakectl/deploy/prices.json`; no tax, discount or free tier.
`lakectl cost` says the same for the settings of your stage.

## A month in which nothing happens

| stage | $ a month |
|---|---:|"""
_PRICED: dict[str, dict[str, Any]] = {
    "the defaults": {},
    '`network = "private"`': {"network": "private"},
    "`kms = true`": {"kms": True},
    "`min_acu = 0.5` (the database never pauses)": {"min_acu": 0.5},
}


def architecture() -> str:
    """What a stage is made of, from its rendered templates."""
    usual = _picture()
    other = _picture(network="private", trigger="direct", kms=True)
    text = [
        _TITLE,
        f"```mermaid\n{usual.mermaid()}\n```\n",
        '## With `network = "private"`, `trigger = "direct"` and `kms = true`\n',
        f"```mermaid\n{other.mermaid()}\n```\n",
        "## Resources\n\nEvery resource of both stacks, with the first sentence of its comment in the template.\n",
        "| group | resource | type | why |\n|---|---|---|---|",
        *(f"| {group} | {name} | {kind} | {_cell(why)} |" for group, name, kind, why in usual.table()),
        _RIGHTS,
    ]
    for right in usual.rights():
        where = ", ".join(name if name.isalnum() else f"`{name}`" for name in right.resources)
        text.append(f"| {right.principal} | {right.sid} | {', '.join(right.actions)} | {_cell(where)} |")
    return "\n".join(text) + "\n"


def prices() -> str:
    """What a stage costs, from the table of prices."""
    stages = {title: render.parse_stage("flights", "dev", table) for title, table in _PRICED.items()}
    idle = {title: costs.idle(stage) for title, stage in stages.items()}
    first = idle["the defaults"]
    text = [
        _COSTS.format(region=first.region, as_of=first.as_of),
        *(f"| {title} | {cost.total:.2f} |" for title, cost in idle.items()),
        "\nThe defaults, item by item:\n\n| what | $ a month | why |\n|---|---:|---|",
        *(f"| {item.what} | {item.monthly_usd:.2f} | {item.why} |" for item in first.items),
        "\n## Work\n\n| what | $ | why |\n|---|---:|---|",
        *(f"| {item.what} | {item.usd:.5f} | {item.why} |" for item in costs.work(stages["the defaults"])),
    ]
    return "\n".join(text) + "\n"


def stage_keys(
    type_name: Callable[[Any], str], choices: Callable[[type[enum.StrEnum]], str]
) -> dict[str, tuple[str, ...]]:
    """What ``[stage.NAME]`` knows: value, default and meaning of each key."""
    hints = get_type_hints(render.StageSettings)

    def kind(item: dataclasses.Field[Any]) -> str:
        rules, hint = item.metadata, hints[item.name]
        if isinstance(hint, type) and issubclass(hint, enum.StrEnum):
            return choices(hint)
        if rules.get("choices"):
            return ", ".join(map(str, rules["choices"]))
        name = {"Mapping": "table of texts", "float": "number"}.get(getattr(hint, "__name__", ""), type_name(hint))
        return f"{name}, {rules['low']:,} to {rules['high']:,}" if "low" in rules else name

    def default(item: dataclasses.Field[Any]) -> str:
        unset = item.default is None or item.default is dataclasses.MISSING
        return "none" if unset else f"`{item.default}`".lower()

    return {
        item.name: (kind(item), default(item), str(item.metadata["help"]))
        for item in dataclasses.fields(render.StageSettings)
        if item.metadata
    }


def _picture(**table: Any) -> drawing.Picture:
    settings = render.parse_stage("flights", "dev", table)
    return drawing.Picture(dataclasses.replace(settings, account="111122223333", region="eu-central-1"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
