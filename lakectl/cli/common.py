"""What every command shares: the session made of the global flags, and the shape of a command's help.

A global flag may stand before or after the command: the root declares each one once, and every command gets a copy
that writes into the same :class:`Session`.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from lakectl.errors import InfrastructureError, InterruptedByUserError, LakectlError, NotFoundError

if TYPE_CHECKING:
    from lakectl.config import Lake
    from lakectl.targets.base import Target
    from lakectl.ui import Screen

GLOBAL_FLAGS = ("directory", "stage", "json", "quiet", "debug", "yes", "no_input", "profile", "region")


@dataclass(slots=True)
class Session:
    """The global flags of one invocation, and what is made of them once."""

    directory: str | None = None
    stage: str | None = None
    json: bool = False
    quiet: bool = False
    debug: bool = False
    yes: bool = False
    no_input: bool = False
    profile: str | None = None
    region: str | None = None
    _screen: Screen | None = field(default=None, repr=False)

    @property
    def screen(self) -> Screen:
        """Where results and remarks go."""
        if self._screen is None:
            from lakectl.ui import Screen

            ask = not (self.yes or self.no_input or self.json)
            self._screen = Screen(json=self.json, quiet=self.quiet, ask=ask)
        return self._screen

    def enter(self) -> None:
        """Go where ``-C`` says."""
        if self.directory is not None:
            if not Path(self.directory).is_dir():
                raise NotFoundError(f"there is no directory {self.directory}", hint="name an existing one with -C DIR")
            os.chdir(self.directory)

    def lake(self) -> Lake:
        """The lake that this invocation works on."""
        from lakectl import config

        variable = os.environ.get("LAKE_DIR")
        flag, from_env = self.directory is not None, self.directory is None and bool(variable)
        return config.load(
            Path(variable) if from_env and variable else Path.cwd(),
            stage=self.stage,
            profile=self.profile,
            region=self.region,
            directory_origin="flag -C" if flag else "environment LAKE_DIR" if from_env else "default",
        )

    @contextlib.contextmanager
    def target(self, lake: Lake | None = None) -> Iterator[Target]:
        """The stage, opened; closed at the end whatever happens."""
        from lakectl import targets

        lake = lake or self.lake()
        target = targets.open_target(lake)
        try:
            if lake.stage != "local":
                self.screen.remark(f"stage {lake.stage} ({target.where})")
            yield target
        finally:
            target.close()


def session_of(ctx: typer.Context) -> Session:
    """The session of a running command."""
    root = ctx.find_root()
    if not isinstance(root.obj, Session):
        root.obj = Session()
    return root.obj


def share_flags(command: Any, flags: list[Any]) -> None:
    """Give a command (and its subcommands) the global flags of the root."""
    for child in getattr(command, "commands", {}).values():
        share_flags(child, flags)
    taken = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    for flag in flags:
        if taken.isdisjoint(flag.opts):
            own = copy.copy(flag)
            own.expose_value = False
            own.callback = _store
            command.params.append(own)


def _store(ctx: typer.Context, param: Any, value: Any) -> None:
    if value not in (None, False):
        setattr(session_of(ctx), param.name, value)


class Help:
    """A command's docstring in its parts: summary, description, ``Examples:`` and ``JSON:``."""

    def __init__(self, text: str) -> None:
        parts = {"": ""}
        current = ""
        for line in text.splitlines():
            if line.strip() in ("Examples:", "JSON:"):
                current = line.strip()[:-1]
                parts[current] = ""
            else:
                parts[current] += f"{line}\n"
        self.summary, _, self.description = (piece.strip("\n") for piece in parts[""].strip().partition("\n\n"))
        self.examples = parts.get("Examples", "").strip("\n")
        self.json = parts.get("JSON", "").strip("\n")


def write_help(command: Any, ctx: Any, formatter: Any) -> None:
    """The help of any command, in one order: usage, what it does, arguments, options, examples, JSON."""
    parts = Help(command.help or "")
    command.format_usage(ctx, formatter)
    for paragraph in (parts.summary, *parts.description.split("\n\n")):
        if paragraph.strip():
            formatter.write_paragraph()
            formatter.write_text(" ".join(paragraph.split()))
    shared = [param for param in command.get_params(ctx) if ctx.parent and param.name in (*GLOBAL_FLAGS, "help")]
    own = [param for param in command.get_params(ctx) if param not in shared]
    for title, params in (
        ("Arguments", [param for param in own if param.param_type_name == "argument"]),
        ("Options", [param for param in own if param.param_type_name == "option"]),
    ):
        _write_params(title, params, ctx, formatter)
    if hasattr(command, "format_commands"):
        command.format_commands(ctx, formatter)
    _write_params("Global options", shared, ctx, formatter)
    for title, text in (("Examples", parts.examples), ("With --json", parts.json)):
        if text:
            formatter.write(f"\n{title}:\n")
            indent = min((len(line) - len(line.lstrip()) for line in text.splitlines() if line.strip()), default=0)
            formatter.write("".join(f"  {line[indent:]}".rstrip() + "\n" for line in text.splitlines()))


def _write_params(title: str, params: list[Any], ctx: Any, formatter: Any) -> None:
    records = [
        # The parser would add the Python type of an argument, which says nothing to the operator.
        (param.metavar, param.help) if title == "Arguments" else record
        for param in params
        if (record := param.get_help_record(ctx)) is not None
    ]
    if records:
        with formatter.section(title):
            formatter.write_dl(records)


class LakeCommand(TyperCommand):
    """A command whose errors are told in the product's words."""

    def invoke(self, ctx: Any) -> Any:
        session = session_of(ctx)
        with told(session):
            session.enter()
            return super().invoke(ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        write_help(self, ctx, formatter)

    def get_short_help_str(self, limit: int = 45) -> str:
        return _short(Help(self.help or "").summary, limit)


class LakeGroup(TyperGroup):
    """A group of commands, with the same help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        write_help(self, ctx, formatter)

    def get_short_help_str(self, limit: int = 45) -> str:
        return _short(Help(self.help or "").summary, limit)


def _short(summary: str, limit: int) -> str:
    line = " ".join(summary.split()).rstrip(".")
    return line if len(line) <= limit else line[: max(limit - 1, 1)] + "…"


@contextlib.contextmanager
def told(session: Session) -> Iterator[None]:
    """Turn what a command raises into a message on stderr (and, with --json, a document) and an exit code.

    Raises:
        typer.Exit: with the error's exit code.
    """
    try:
        yield
        sys.stdout.flush()
    except (typer.Exit, typer.Abort, typer.TyperException):
        raise
    except LakectlError as error:
        if session.debug:
            traceback.print_exc()
        session.screen.error(error)
        raise typer.Exit(error.exit_code) from None
    except BrokenPipeError:
        from lakectl.ui import silence

        silence(sys.stdout)  # the reader (head, less) has what it wants
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        session.screen.error(
            InterruptedByUserError("interrupted; nothing was left half done", hint="the same command again goes on")
        )
        raise typer.Exit(InterruptedByUserError.exit_code) from None
    except OSError as error:
        if error.errno not in _FULL:
            _bug(session)
        place = error.filename or "the output"
        hint = "make room, or write elsewhere; then the same command again goes on"
        session.screen.error(InfrastructureError(f"cannot write {place}: {error.strerror}", hint=hint))
        raise typer.Exit(InfrastructureError.exit_code) from None
    except Exception:  # noqa: BLE001 — a bug: told as one, with its traceback
        _bug(session)


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""What a disk says that takes no more; no fault of ours."""


def _bug(session: Session) -> NoReturn:
    session.screen.bug(traceback.format_exc())
    raise typer.Exit(1) from None
