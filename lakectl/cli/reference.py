"""The reference pages, written from the code: ``make docs`` writes them, ``make check`` fails when one is stale.

``python -m lakectl.cli.reference [--check] [DIR]``
"""

from __future__ import annotations

import enum
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import typer
from msgspec import structs

from etl_container import datasets, errors, schema
from etl_container.formats import options
from lakectl import config
from lakectl import errors as ours
from lakectl.cli import reference_aws
from lakectl.cli.app import COMMANDS, app
from lakectl.cli.common import Help

_WIDTH = 100
_MADE = "<!-- Made from the code by `make docs`; do not edit. -->\n\n"


def pages() -> dict[str, str]:
    """File name → text of every page."""
    makers: dict[str, Callable[[], str]] = {
        "commands.md": commands,
        "json.md": json_shapes,
        "exit-codes.md": exit_codes,
        "settings.md": settings,
        "environment.md": environment,
        "architecture.md": reference_aws.architecture,
        "costs.md": reference_aws.prices,
    }
    return {name: _MADE + make() for name, make in makers.items()}


def commands() -> str:
    """The help of every command, as it is printed."""
    text = ["# Commands\n\nThe help of each command, as `lakectl COMMAND --help` prints it.\n"]
    for path, command, context in _walk():
        text.append(f"## {path}\n\n```text\n{_help(command, context)}\n```\n")
    return "\n".join(text)


def json_shapes() -> str:
    """The JSON document of every command."""
    text = [
        "# JSON\n\nWith `--json` a command prints exactly one JSON document on stdout and nothing else. Numbers are"
        " JSON numbers, exact\nnumbers (numeric) strings, times ISO 8601, absent values null. When a command fails"
        " before it has a result, the document is\n\n```text\n"
        '{"error": {"message", "hint", "exit_code"}}\n```\n\nKeys may be added; none is taken away.\n'
    ]
    for path, command, _context in _walk():
        shape = Help(command.help or "").json
        if shape:
            text.append(f"## {path}\n\n```text\n{inspect.cleandoc(shape)}\n```\n")
    return "\n".join(text)


def exit_codes() -> str:
    """The exit codes, from the error tree."""
    rows: dict[int, list[tuple[str, str, bool]]] = {}
    for kind in _tree(errors.LakectlError):
        summary = (inspect.getdoc(kind) or "").partition("\n")[0].rstrip(".").replace("``", "`")
        rows.setdefault(kind.exit_code, []).append((kind.__name__, summary, kind.retryable))
    rows.pop(1, None)
    text = [
        "# Exit codes\n\nThe same in the command line and in the container.\n",
        "| code | error | meaning | worth trying again |\n|---:|---|---|---|",
        "| 0 | | Done, or nothing to do | |",
        "| 1 | | A bug: please report it with its traceback | |",
    ]
    text += [
        f"| {code} | {name} | {summary} | {'yes' if retryable else ''} |"
        for code in sorted(rows)
        for name, summary, retryable in rows[code]
    ]
    text.append(
        "\nOf several objects the most severe failure counts; every failure is printed with its cause and the next"
        " step. An error is\ntold on stderr as `error: what and why` and `hint: the next command`."
    )
    return "\n".join(text) + "\n"


def settings() -> str:
    """What ``lake.toml`` knows, from the dataclasses that it is parsed into."""
    text = [
        "# Settings\n\n`lake.toml` is looked for in the current directory and its parents. It is optional, and so is"
        " every key.\nPrecedence: flag, environment, `lake.toml`, default. `lakectl config show` prints each value in"
        " force with its origin.\n",
        "## Of the lake\n\n| key in lake.toml | flag | environment | default | meaning |\n|---|---|---|---|---|",
    ]
    text += [
        f"| {_code(spec.toml)} | {_code(spec.flag)} | {', '.join(map(_code, spec.environment))} "
        f"| {spec.default} | {spec.help} |"
        for spec in config.SETTINGS
    ]
    dataset_keys: dict[str, tuple[str, ...]] = {
        "table": ("text", "the dataset's name, made an identifier", "The table that the rows go to."),
        "mode": (_choices(datasets.LoadMode), "replace_object", _choice_help(datasets.LoadMode)),
        "key": ("columns", "the contract's primary key", "The columns that identify a row for `merge`."),
        "schema_policy": (_choices(schema.SchemaPolicy), "evolve", _choice_help(schema.SchemaPolicy)),
    }
    contract_keys: dict[str, tuple[str, ...]] = {
        "primary_key": ("columns", "none", "Unique and not null."),
        "unique": ("lists of columns", "none", "Sets of columns whose values together may not repeat in the table."),
        "min_rows": ("integer", "none", "Rows that an object must have at least."),
        "max_rows": ("integer", "none", "Rows that an object may have at most."),
        "rejects": ('count or share (`50`, `"1%"`)', "any number", "How many rejects are tolerated."),
        "schema": ("`file.py:NAME`", "none", "A pandera schema of your own, relative to the lake's directory."),
        "freshness": ('`{column, within = "36h"}`', "none", "How old the newest value of a column may be at the load."),
        "columns.NAME": ("type or table", "none", "Rules of one column, below."),
    }
    rule_keys: dict[str, tuple[str, ...]] = {
        "type": ("type", "inferred", "The column's type; a value that does not fit is a reject."),
        "required": ("boolean", "true", "The column must be in every object."),
        "not_null": ("boolean", "false", "A null is a reject."),
        "unique": ("boolean", "false", "A value that repeats in the table is a reject."),
        "min": ("value", "none", "The least value allowed."),
        "max": ("value", "none", "The greatest value allowed."),
        "pattern": ("regular expression", "none", "What the whole text must match."),
        "allowed": ("list of values", "none", "The values allowed; null is ruled by `not_null`."),
    }
    text += _section("[stage.NAME]", reference_aws.stage_keys(_type_name, _choices))
    text += _section("[dataset.NAME]", dataset_keys)
    text += _section("[dataset.NAME.read]", dict(_fields(options.ReadOptions)))
    text += _section("[dataset.NAME.contract]", contract_keys)
    text += _section("[dataset.NAME.contract.columns.NAME]", rule_keys)
    return "\n".join(text) + "\n"


def environment() -> str:
    """The environment variables."""
    text = [
        "# Environment variables\n\n`LAKE_…` is this program's prefix (`LAKECTL_…` belongs to another tool). A flag"
        " overrides its variable.\n",
        "| variable | overridden by | meaning |\n|---|---|---|",
    ]
    text += [
        f"| `{variable}` | {_code(spec.flag)} | {spec.help} |"
        for spec in config.SETTINGS
        for variable in spec.environment
    ]
    text += [
        "| `NO_COLOR` | | No colour, whatever its value. |",
        "| `PAGER` | | What long results on a terminal go through; `less` unless set. |",
        "| `COLUMNS` | | The width that tables are fitted to on a terminal. |",
    ]
    return "\n".join(text) + "\n"


def stale(directory: Path) -> list[str]:
    """The pages in ``directory`` that are missing or not what the code says."""
    return [
        name
        for name, text in pages().items()
        if not (directory / name).is_file() or (directory / name).read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` say which are stale; returns the exit code."""
    words = [word for word in arguments if word != "--check"]
    directory = Path(words[0] if words else "docs/reference")
    if "--check" in arguments:
        found = stale(directory)
        for name in found:
            sys.stderr.write(f"{directory / name} is stale: make docs\n")
        return 1 if found else 0
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (directory / name).write_text(text, encoding="utf-8")
    return 0


def _walk() -> Iterator[tuple[str, Any, Any]]:
    """``(path, command, context)`` of every command, in help's order."""
    root = typer.main.get_command(app)
    top: Any = _context(root, "lakectl", None)
    yield "lakectl", root, top
    for name in COMMANDS:
        command: Any = root.get_command(top, name)  # type: ignore[attr-defined]
        context = _context(command, name, top)
        children = getattr(command, "commands", {})
        if not children:
            yield f"lakectl {name}", command, context
        for child, inner in children.items():
            yield f"lakectl {name} {child}", inner, _context(inner, child, context)


def _context(command: Any, name: str, parent: Any) -> Any:
    return typer.Context(
        command, info_name=name, parent=parent, terminal_width=_WIDTH, max_content_width=_WIDTH, **_SETTINGS
    )


_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


def _help(command: Any, context: Any) -> str:
    return "\n".join(line.rstrip() for line in str(command.get_help(context)).splitlines())


def _tree(kind: type[errors.LakectlError]) -> Iterator[type[errors.LakectlError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ in (errors.__name__, ours.__name__):
            yield from _tree(child)


def _section(title: str, keys: dict[str, tuple[str, ...]]) -> list[str]:
    head = [f"\n## {title}\n\n| key | value | default | meaning |\n|---|---|---|---|"]
    return head + [f"| `{key}` | {' | '.join(cells)} |" for key, cells in keys.items()]


def _fields(kind: type) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each field of a struct with its type, default and the docstring below it."""
    source = inspect.getsource(kind)
    hints = get_type_hints(kind)
    for item in structs.fields(kind):
        found = re.search(rf'^    {item.name}:[^\n]*\n    """(.*?)"""', source, re.MULTILINE | re.DOTALL)
        meaning = " ".join(found[1].split()) if found else _READ_HELP.get(item.name, "")
        default = "found out" if item.default is None else str(item.default).lower()
        yield item.name, (_type_name(hints[item.name]), default, meaning.replace("|", "\\|").replace("``", "`"))


_READ_HELP = {
    "format": "`csv`, `tsv`, `json`, `jsonl`, `parquet`, `xlsx` …",
    "encoding": "`utf-8`, `windows-1252`, `shift_jis` …",
    "delimiter": "What separates the fields.",
    "quote": "What encloses a field; empty: nothing does.",
    "escape": "What makes the next character plain.",
    "skip_lines": "Lines before the table; 0: there are none.",
    "sheet": "The sheet of a workbook.",
    "member": "The file within an archive, or the table within a file (`table_2`).",
}


def _type_name(hint: Any) -> str:
    names = {"str": "text", "bool": "boolean", "int": "integer", "bool | int": "boolean or integer"}
    found = re.sub(r" \| None|<class '|'>", "", str(hint))
    return names.get(found, "list of texts" if "tuple" in found else found)


def _choices(kind: type[enum.StrEnum]) -> str:
    return ", ".join(f"`{item}`" for item in kind)


def _choice_help(kind: type[enum.StrEnum]) -> str:
    source = inspect.getsource(kind)
    found = re.findall(r'= "(\w+)"\n    """(.*?)"""', source, re.DOTALL)
    return " ".join(f"`{value}`: {' '.join(text.split())}" for value, text in found)


def _code(text: str | None) -> str:
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    os.environ.pop("COLUMNS", None)
    sys.exit(main(sys.argv[1:]))
