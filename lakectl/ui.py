"""Everything the operator sees: tables, progress, questions, errors and JSON documents.

Results go to stdout; progress, remarks, questions and errors to stderr. Nothing that comes from a file is ever taken
for markup, and control characters are shown, not obeyed. Colour and bars only on a terminal, and never with
``NO_COLOR`` or ``TERM=dumb``.

Rich is imported where it draws: a command whose results are plain lines starts 20 ms sooner without it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from etl_container.report import Event, Landing, Loading, Notice, OnEvent
from lakectl.errors import LakectlError

if TYPE_CHECKING:
    from rich.console import Console

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_WIDTHS_FROM = 1000
"""Rows looked at to find the widths of a table; later rows are cut to these."""
_NARROWEST = 8
LINE_SECONDS = 10.0
"""Between two lines of progress where there is no terminal."""
BAR_SECONDS = 0.1
"""Between two looks of the bar."""


def visible(text: str) -> str:
    """Text with its control characters, line ends and direction marks written out, on one line."""

    def escape(match: re.Match[str]) -> str:
        char = match[0]
        code = ord(char)
        return _NAMED.get(char) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")

    return _UNSAFE.sub(escape, text)


def number(value: float | None) -> str:
    """A count with thousands separators; empty for None."""
    return "" if value is None else f"{value:,}"


def size(count: float) -> str:
    """Bytes for people: ``1.4 MB`` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def seconds(value: float | None) -> str:
    """A duration for people: ``0.4 s``, ``2 min 5 s``."""
    if value is None:
        return ""
    return f"{value:.1f} s" if value < 60 else f"{int(value // 60)} min {int(value % 60)} s"


def moment(value: datetime | None) -> str:
    """A time in this machine's zone, to the second."""
    return "" if value is None else value.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def table_lines(
    labels: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[bool] = (), width: int | None = None
) -> Iterator[str]:
    """A table as lines, without colour; streamed, so that a million rows need no memory.

    Args:
        labels: the column headings.
        rows: cells; None is an empty cell, anything else is written with ``str``.
        right: which columns are aligned to the right.
        width: columns of the terminal to fit into by cutting the widest cells (marked with ``…``); None: no limit.
    """
    from rich.cells import cell_len, set_cell_size

    right = [*right, *[False] * (len(labels) - len(right))]
    cells = ([visible("" if cell is None else str(cell)) for cell in row] for row in rows)
    first = list(islice(cells, _WIDTHS_FROM))
    heads = [visible(label) for label in labels]
    widths = [max([cell_len(head), *(cell_len(row[n]) for row in first)]) for n, head in enumerate(heads)]
    unlimited = width is None
    if width is not None:
        _narrow(widths, width - 2 * (len(widths) - 1))

    def line(row: Sequence[str]) -> str:
        out = []
        for cell, room, to_right in zip(row, widths, right, strict=True):
            gap = room - cell_len(cell)
            shown = cell if gap >= 0 or unlimited else set_cell_size(cell, room - 1) + "…"
            out.append(" " * gap + shown if to_right else shown + " " * gap)
        return "  ".join(out).rstrip()

    yield line(heads)
    yield "  ".join("─" * room for room in widths)
    for row in chain(first, cells):
        yield line(row)


def _narrow(widths: list[int], room: int) -> None:
    """Take from the widest column until the table fits, or none is left that may give."""
    while sum(widths) > room:
        widest = max(range(len(widths)), key=widths.__getitem__)
        second = max([w for n, w in enumerate(widths) if n != widest and w < widths[widest]], default=0)
        target = max(_NARROWEST, second, widths[widest] - (sum(widths) - room))
        if target >= widths[widest]:
            target = widths[widest] - 1
        if target < _NARROWEST:
            return
        widths[widest] = target


def bar_lines(rows: Iterable[Sequence[Any]], *, width: int) -> Iterator[str]:
    """A horizontal bar for each ``(label, number)``; negative numbers and nulls get none.

    Raises:
        ValueError: the second value of a row is not a number.
    """
    from rich.cells import cell_len, set_cell_size

    pairs = [(visible("" if label is None else str(label)), None if n is None else float(n)) for label, n in rows]
    names = max((cell_len(name) for name, _ in pairs), default=0)
    names = min(names, max(width // 3, _NARROWEST))
    texts = ["" if value is None else f"{value:,.6g}" if value % 1 else f"{value:,.0f}" for _, value in pairs]
    figures = max(map(len, texts), default=0)
    room = max(width - names - figures - 4, _NARROWEST)
    largest = max((value for _, value in pairs if value is not None), default=0)
    for (name, value), text in zip(pairs, texts, strict=True):
        eighths = round(max(value or 0, 0) / largest * room * 8) if largest > 0 else 0
        bar = "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]
        label = name if cell_len(name) <= names else set_cell_size(name, names - 1) + "…"
        yield f"{label}{' ' * (names - cell_len(label))}  {text:>{figures}}  {bar}".rstrip()


class Work:
    """How far landing and loading are; a load is taken to cost four times what landing the same object does.

    Args:
        objects: keys and sizes in bytes; 0 where they are not known.
        stages: what happens to each object, in order.
        clock: seconds.
    """

    _COSTS: ClassVar[Mapping[str, int]] = {"landing": 1, "loading": 4}

    def __init__(
        self, objects: Mapping[str, int], stages: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock = clock
        self.stage = stages[0] if stages else "loading"
        """What goes on now."""
        self._stages = stages
        self._objects = objects
        self._sizes = sum(objects.values()) + len(objects)
        self._total = self._sizes * sum(self._COSTS[stage] for stage in stages) or 1
        self._before = 0
        """Cost of the stages that are over."""
        self._began = self._stage_began = clock()
        self._key, self._part, self._rows = "", 0.0, 0
        """The object at hand, how much of it is done (0 to 1), and its rows so far."""
        self._open = False
        """Whether the stage goes on with it."""
        self._files = self._done = 0
        """Objects that the stage is done with, and their sizes."""

    def follow(self, event: Event) -> None:
        """Take an event in."""
        if not isinstance(event, Landing | Loading):
            return
        self._enter("landing" if isinstance(event, Landing) else "loading")
        if self.stage == "landing" and self._open and event.key != self._key:
            self.finish(self._key, "landing")
        self._key, self._open = event.key, True
        self._rows = event.rows if isinstance(event, Loading) else 0
        self._part = min(event.done / event.total, 1.0) if event.total else 0.0

    def finish(self, key: str, stage: str) -> None:
        """A stage is done with an object."""
        self._enter(stage)
        self._files += 1
        self._done += self._objects.get(key, 0) + 1
        if key == self._key:
            self._open, self._part = False, 0.0

    def _enter(self, stage: str) -> None:
        if stage != self.stage and stage in self._stages:
            self._before = self._sizes * self._COSTS[self.stage]
            self.stage, self._stage_began = stage, self.clock()
            self._files = self._done = 0
            self._open, self._part = False, 0.0

    @property
    def share(self) -> float:
        """How much of all is done, from 0 to 1."""
        part = self._part * (self._objects.get(self._key, 0) + 1)
        return min((self._before + (self._done + part) * self._COSTS[self.stage]) / self._total, 1.0)

    @property
    def description(self) -> str:
        """What goes on now, for people."""
        rows = f" · {self._rows:,} rows" if self._rows else ""
        return f"{self.stage} {visible(self._key)[-48:]}{rows}"

    @property
    def figures(self) -> str:
        """How many files or bytes are done, how fast, and how long the rest will take."""
        spent, now = self.clock() - self._began, self.clock() - self._stage_began
        if len(self._objects) > 1:
            done = f"{self._files:,} of {len(self._objects):,} files"
            speed = f", {self._files / now:,.0f} files/s" if self._files and now else ""
        else:
            whole = self._objects.get(self._key, 0)
            done = f"{size(self._part * whole)} of {size(whole)}" if whole else f"{self._part:.0%}"
            speed = f", {size(self._part * whole / now)}/s" if whole and now else ""
        left = f", {seconds(spent / self.share - spent)} left" if self.share else ""
        return f"{done}{speed}{left}"


class Screen:
    """One invocation's view of the terminal.

    Args:
        json: results are one JSON document; everything for people is left out of stdout.
        quiet: no progress and no remarks.
        ask: questions may be asked (when stdin and stderr are terminals, too).
    """

    def __init__(self, *, json: bool = False, quiet: bool = False, ask: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self._ask = ask
        self._documents = 0
        self._bar: Any = None
        self._work: Work | None = None

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return shutil.get_terminal_size((100, 24)).columns

    @property
    def on_terminal(self) -> bool:
        """Whether results are looked at rather than piped."""
        return sys.stdout.isatty()

    def line(self, text: str = "") -> None:
        """One line of a result."""
        if self._bar is not None and self.on_terminal:
            from rich.text import Text

            self._bar.console.print(Text(text), soft_wrap=True, highlight=False)
        else:
            sys.stdout.write(f"{text}\n")

    def document(self, value: Any) -> None:
        """The JSON document that ``--json`` promised."""
        self._documents += 1
        json.dump(value, sys.stdout, ensure_ascii=False, indent=2, default=_plain)
        sys.stdout.write("\n")

    def array(self, items: Iterable[Any]) -> None:
        """The JSON document where it is a list that may not fit into memory."""
        self._documents += 1
        begun = False
        for item in items:
            sys.stdout.write(",\n  " if begun else "[\n  ")
            json.dump(item, sys.stdout, ensure_ascii=False, default=_plain)
            begun = True
        sys.stdout.write("\n]\n" if begun else "[]\n")

    def table(self, labels: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[bool] = ()) -> None:
        """A table of facts; cut to the terminal's width there, whole in a pipe."""
        lines = table_lines(labels, rows, right=right, width=self.width if self.on_terminal else None)
        coloured = self.on_terminal and _coloured(sys.stdout)
        for position, line in enumerate(lines):
            style = {0: "1", 1: "2"}.get(position) if coloured else None
            self.line(f"\x1b[{style}m{line}\x1b[0m" if style else line)

    def facts(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Names and values, aligned."""
        from rich.cells import cell_len

        known = [(name, visible(value)) for name, value in pairs]
        room = max((cell_len(name) for name, _ in known), default=0)
        for name, value in known:
            self.line(f"{name}{' ' * (room - cell_len(name))}  {value}")

    def paragraph(self, text: str) -> None:
        """A sentence of a result; its lines are kept."""
        self.line(_readable(text))

    def hint(self, text: str) -> None:
        """The next step, on stderr."""
        self._say(("hint: ", "cyan"), _readable(text))

    def paged(self, lines: Iterable[str]) -> None:
        """Lines, through the pager when they are looked at and do not fit on the screen."""
        if not self.on_terminal or not sys.stdin.isatty():
            for line in lines:
                sys.stdout.write(f"{line}\n")
            return
        lines = iter(lines)
        height = shutil.get_terminal_size((100, 24)).lines
        first = list(islice(lines, height))
        if len(first) < height:
            for line in first:
                sys.stdout.write(f"{line}\n")
            return
        _page(chain(first, lines))

    def remark(self, text: str) -> None:
        """Something worth knowing, on stderr."""
        if not self.quiet:
            self._say((text, "dim"))

    def warn(self, text: str) -> None:
        """Something that went not quite as expected, on stderr."""
        self._say(("warning: ", "yellow"), text)

    def error(self, error: LakectlError, *, document: bool = True) -> None:
        """What, why and the next step, on stderr; with ``json`` also as the document, unless there was one.

        Args:
            error: what went wrong.
            document: False when the result's own document will tell of it.
        """
        self._say(("error: ", "bold red"), _readable(error.message))
        if error.hint:
            self._say(("hint: ", "cyan"), _readable(error.hint))
        if self.json and document and not self._documents:
            self.document({"error": {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}})

    def bug(self, trace: str) -> None:
        """An exception that nobody foresaw: keep its traceback and ask for it."""
        sys.stderr.write(trace)
        last = trace.strip().rpartition("\n")[2]
        hint = "please report it with the traceback above: the command, and if possible the file"
        self._say(("error: ", "bold red"), f"this is a bug in lakectl: {_readable(last)}")
        self._say(("hint: ", "cyan"), hint)
        if self.json and not self._documents:
            self.document({"error": {"message": f"a bug: {last}", "hint": hint, "exit_code": 1}})

    def can_ask(self) -> bool:
        """Whether anyone is there to answer."""
        return self._ask and sys.stdin.isatty() and sys.stderr.isatty()

    def ask(self, question: str, default: str) -> str:
        """An answer, or the default when no one can be asked."""
        if not self.can_ask():
            return default
        sys.stderr.write(f"{question} [{default}]: ")
        sys.stderr.flush()
        return sys.stdin.readline().strip() or default

    @contextlib.contextmanager
    def progress(self, objects: Mapping[str, int], *stages: str) -> Iterator[OnEvent]:
        """One bar over all the work, on a terminal; elsewhere the notices, and a line now and then.

        Args:
            objects: the keys of all objects, each with its bytes; 0 where they are not known.
            stages: what happens to each: ``landing``, ``loading`` or both.
        """
        if self.quiet or self.json:
            yield self._notices
            return
        work = Work(objects, stages)
        if not sys.stderr.isatty():
            with self._shown(work, LINE_SECONDS, lambda: self.remark(f"{work.stage}: {work.figures}")) as on_event:
                yield on_event
            return
        from rich.progress import BarColumn, Progress, TextColumn

        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=_console(sys.stderr),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        task = bar.add_task("", total=1.0, figures="")

        def draw() -> None:
            bar.update(task, completed=work.share, description=work.description, figures=work.figures)

        self._bar = bar
        try:
            with bar, self._shown(work, BAR_SECONDS, draw) as on_event:
                yield on_event
        finally:
            self._bar = None

    @contextlib.contextmanager
    def _shown(self, work: Work, every: float, show: Callable[[], None]) -> Iterator[OnEvent]:
        """Follow the events, and show how far the work is every so many seconds."""
        due = work.clock() + every

        def on_event(event: Event) -> None:
            nonlocal due
            self._notices(event)
            work.follow(event)
            if work.clock() >= due:
                due = work.clock() + every
                show()

        self._work = work
        try:
            yield on_event
        finally:
            self._work = None

    def finished(self, key: str, stage: str) -> None:
        """A stage is done with one of the objects of the progress, however it fared."""
        if self._work is not None:
            self._work.finish(key, stage)

    def _notices(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.remark(event.text)

    def _say(self, *parts: str | tuple[str, str]) -> None:
        """A line on stderr: texts, each alone or with its style."""
        from rich.text import Text

        text = Text.assemble(*parts)
        console = self._bar.console if self._bar is not None else _console(sys.stderr)
        try:
            console.print(text, soft_wrap=True, highlight=False)
        except BrokenPipeError:
            silence(sys.stderr)  # nobody listens any more; the work goes on


def silence(stream: TextIO) -> None:
    """Let a stream whose reader has gone end in nothing: what Python still flushes at exit must not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _readable(text: str) -> str:
    """Several lines are kept, other control characters are shown."""
    return "\n".join(visible(line) for line in text.splitlines())


def _coloured(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    class Ours(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the process with exit code 1

    return Ours(file=stream, markup=False, emoji=False, highlight=False, no_color=not _coloured(stream))


def _page(lines: Iterable[str]) -> None:
    import shlex
    import subprocess

    command = shlex.split(os.environ.get("PAGER") or "less")
    environment = {**os.environ, "LESS": os.environ.get("LESS", "-SFRX")}
    try:
        pager = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, text=True, encoding="utf-8")
    except OSError:
        for line in lines:
            sys.stdout.write(f"{line}\n")
        return
    with contextlib.suppress(BrokenPipeError), pager:
        if pager.stdin is not None:
            for line in lines:
                pager.stdin.write(f"{line}\n")


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)
