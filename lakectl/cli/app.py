"""The root of the command line: which commands there are, the global flags, and how errors leave the process.

Commands are imported when they are asked for, so that each one starts with what it needs and nothing else.
"""

from __future__ import annotations

import importlib
import re
import signal
import sys
import threading
from types import FrameType
from typing import Annotated, Any

import typer

from lakectl.cli.common import GLOBAL_FLAGS, LakeCommand, LakeGroup, Session, share_flags
from lakectl.errors import InterruptedByUserError, UsageError

COMMANDS = {
    "init": "project:init",
    "upload": "load:upload",
    "run-local": "load:run_local",
    "run": "load:run",
    "preview": "files:preview",
    "cat": "files:cat",
    "query": "query:query",
    "search": "search:search",
    "tables": "look:tables",
    "objects": "look:objects",
    "runs": "look:runs",
    "explain": "look:explain",
    "rejects": "mend:rejects",
    "undo": "mend:undo",
    "status": "look:status",
    "doctor": "project:doctor",
    "config": "project:config_app",
    "deploy": "deploy:deploy",
    "rollback": "deploy:rollback",
    "destroy": "deploy:destroy",
    "logs": "operate:logs",
    "retry": "operate:retry",
    "cost": "operate:cost",
    "iam": "operate:iam_app",
}
"""Name → module and function, in the order in which help lists them."""


class RootGroup(LakeGroup):
    """Finds commands by :data:`COMMANDS`, imports them on demand, suggests the nearest for a wrong one."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in self.commands:
            found = single = _find(cmd_name)
            if not isinstance(found, typer.Typer):
                single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
                single.command(cmd_name, cls=LakeCommand)(found)
            command = typer.main.get_command(single)
            command.name = cmd_name
            share_flags(command, [param for param in self.params if param.name in GLOBAL_FLAGS])
            self.commands[cmd_name] = command
        return self.commands[cmd_name]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        # Only the summaries: making sixteen commands to print one line of each would double the time of help.
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(name)) for name in COMMANDS])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS and not ctx.resilient_parsing:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 1, cutoff=0.5)
            raise UsageError(
                f"there is no command {args[0]!r}",
                hint=f"did you mean lakectl {near[0]}?" if near else "lakectl --help lists the commands",
            )
        return super().resolve_command(ctx, args)


def _find(name: str) -> Any:
    """A command's function, or the Typer of a group."""
    module, _, attribute = COMMANDS[name].partition(":")
    return getattr(importlib.import_module(f"lakectl.cli.{module}"), attribute)


def _summary(name: str) -> str:
    found: Any = _find(name)
    function = getattr(getattr(found, "registered_callback", None), "callback", found)
    return str(function.__doc__).partition("\n")[0].rstrip(".")


app = typer.Typer(
    cls=RootGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"lakectl {version('lakectl')}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    directory: Annotated[str | None, typer.Option("-C", metavar="DIR", help="Run as if started in DIR.")] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", "-s", metavar="NAME", help="Where the lake lives: local, dev, prod …")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no remarks.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Answer every question with yes.")] = False,
    no_input: Annotated[bool, typer.Option("--no-input", help="Never ask: take the defaults.")] = False,
    profile: Annotated[str | None, typer.Option("--profile", metavar="NAME", help="The AWS profile.")] = None,
    region: Annotated[str | None, typer.Option("--region", metavar="NAME", help="The AWS region.")] = None,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Files in, SQL out: a data lake on this machine.

    Upload files of any kind and query them as PostgreSQL tables. Nothing has to be configured.

    Examples:
        lakectl upload flights.csv
        lakectl query "select count(*) from flights"
        lakectl preview strange-file.txt
        lakectl COMMAND --help
    """
    ctx.obj = Session(directory, stage, json, quiet, debug, yes, no_input, profile, region)
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


class Terminated(KeyboardInterrupt):
    """SIGTERM: the same as Ctrl-C to everything that cleans up."""


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


def main(arguments: list[str] | None = None) -> int:
    """Run one command line; returns the exit code (see ``lakectl.errors``)."""
    words = sys.argv[1:] if arguments is None else arguments
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    # Until the flags are parsed, a usage error can only be told by looking at the words themselves.
    session = Session(json="--json" in words, debug="--debug" in words)
    try:
        code = typer.main.get_command(app)(words, prog_name="lakectl", standalone_mode=False)
    except UsageError as error:
        session.screen.error(error)
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        session.screen.error(InterruptedByUserError("interrupted; nothing was changed"))
        return InterruptedByUserError.exit_code
    except typer.TyperException as error:
        session.screen.error(_usage_error(error))
        return UsageError.exit_code
    return code if isinstance(code, int) else 0


def _usage_error(error: typer.TyperException) -> UsageError:
    """The parser's complaint in our form: what, and the command whose help says more."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "lakectl"
    message = error.format_message().strip()
    hint = f"{path} --help"
    if match := re.search(r"\s*(?:Did you mean:?|\(Possible options:)\s*(.*?)[?)]*$", message):
        message, hint = message[: match.start()], f"did you mean {match[1]}? ({path} --help)"
    return UsageError(message[:1].lower() + message[1:].rstrip("."), hint=hint)
