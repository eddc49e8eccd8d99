"""The interactive shell of ``lakectl query``: statements end with a semicolon, backslash commands as in psql."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lakectl import output, sqltext
from lakectl.errors import LakectlError, UsageError
from lakectl.targets.base import Target
from lakectl.ui import Screen, number, size, table_lines

KEYWORDS = """
all and any array as asc between by case cast coalesce count create cross current_date current_timestamp date_trunc
delete desc distinct else end except exists explain extract false filter first from full group grouping having ilike in
inner insert intersect interval into is join last lateral left like limit max min not null nulls offset on or order
outer over partition right row_number select set similar some string_agg sum then true union unique update using values
when where window with within avg
""".split()  # noqa: SIM905

HELP = (
    ("\\dt", "list the tables"),
    ("\\d", "list the tables with their columns"),
    ("\\d TABLE", "the columns of one table"),
    ("\\x", "turn wide rows into lines, and back"),
    ("\\?", "this help"),
    ("\\q", "leave (also Ctrl-D)"),
    ("SELECT …;", "run a statement; it may span lines and ends with a semicolon"),
)


class Shell:
    """What happens to each text that is typed; knows nothing of the keyboard."""

    def __init__(self, screen: Screen, target: Target, *, write: bool = False) -> None:
        self._screen = screen
        self._target = target
        self._write = write
        self._expanded = False

    def run(self, text: str) -> bool:
        """Run what was typed; False when it asks to leave."""
        text = text.strip()
        if text.startswith("\\") or text.rstrip(";").lower() in ("quit", "exit", "help"):
            return self._command(text)
        for statement in sqltext.statements(text):
            self._statement(statement)
        return True

    def _statement(self, sql: str) -> None:
        with self._target.query(sql, {}, write=self._write) as result:
            if not result.columns:
                self._screen.line(result.status)
                return
            labels = [column.name for column in result.columns]
            rows = ([output.text(value) for value in row] for row in result.rows())
            if self._expanded:
                self._screen.paged(
                    line
                    for n, row in enumerate(rows, start=1)
                    for line in (f"── row {n:,}", *table_lines(("column", "value"), zip(labels, row, strict=True)))
                )
                return
            right = [column.type in output.NUMERIC_TYPES for column in result.columns]
            width = self._screen.width if self._screen.on_terminal else None
            self._screen.paged(table_lines(labels, rows, right=right, width=width))

    def _command(self, text: str) -> bool:
        name, *arguments = text.rstrip(";").split()
        match name.lower():
            case "\\q" | "quit" | "exit":
                return False
            case "\\?" | "\\h" | "help":
                self._screen.facts(HELP)
            case "\\x":
                self._expanded = not self._expanded
                self._screen.line(f"rows as lines: {'on' if self._expanded else 'off'}")
            case "\\dt":
                found = self._target.tables()
                self._screen.table(
                    ("table", "rows", "size"),
                    [(table.table, number(table.rows), size(table.size)) for table in found],
                    right=(False, True, True),
                )
            case "\\d" | "\\d+":
                self._describe(arguments)
            case _:
                raise UsageError(f"there is no command {name}", hint="\\? lists them")
        return True

    def _describe(self, names: list[str]) -> None:
        tables = self._target.tables()
        wanted = [table for table in tables if not names or table.table in (name.strip('"') for name in names)]
        if names and not wanted:
            raise UsageError(f"there is no table {names[0]}", hint="\\dt lists them")
        rows = [(table.table, column.name, column.type, column.label) for table in wanted for column in table.columns]
        self._screen.table(("table", "column", "type", "label in the files"), rows)


def interact(screen: Screen, target: Target, *, history: Path, write: bool = False) -> None:
    r"""Read, run, show, until ``\\q`` or Ctrl-D. Ctrl-C gives up the line or the statement, not the shell."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import ThreadedCompleter
    from prompt_toolkit.history import FileHistory
    from prompt_toolkit.lexers import PygmentsLexer
    from pygments.lexers.sql import PostgresLexer

    history.parent.mkdir(parents=True, exist_ok=True)
    shell = Shell(screen, target, write=write)
    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(history)),
        lexer=PygmentsLexer(PostgresLexer),
        completer=ThreadedCompleter(_completer(target)),
        complete_while_typing=True,
        multiline=True,
        key_bindings=_bindings(),
        prompt_continuation=lambda width, _line, _soft: "→ ".rjust(width),
        enable_history_search=False,
    )
    screen.remark("end statements with a semicolon; \\? for help, \\q to leave")
    while True:
        try:
            text = session.prompt("lake> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        try:
            if not shell.run(text):
                return
        except LakectlError as error:
            screen.error(error, document=False)
        except KeyboardInterrupt:
            screen.remark("cancelled")


def finished(text: str) -> bool:
    """Whether Enter runs the text rather than beginning a new line."""
    text = text.strip()
    return not text or text.startswith("\\") or text.lower() in ("quit", "exit", "help") or sqltext.is_complete(text)


def _bindings() -> Any:
    from prompt_toolkit.filters import completion_is_selected, is_searching
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    bindings = KeyBindings()

    @bindings.add("enter", filter=~completion_is_selected & ~is_searching)
    def _enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if finished(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    return bindings


def _completer(target: Target) -> Any:
    """Tables, columns and keywords by their beginning; nothing is offered before a letter is typed."""
    from prompt_toolkit.completion import ConditionalCompleter, WordCompleter
    from prompt_toolkit.filters import Condition

    @Condition
    def begun() -> bool:
        from prompt_toolkit.application import get_app

        return bool(get_app().current_buffer.document.get_word_before_cursor())

    return ConditionalCompleter(WordCompleter([*target.names(), *KEYWORDS], ignore_case=True), begun)
