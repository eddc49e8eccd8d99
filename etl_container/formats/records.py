"""Records out of delimited text whatever its state: the tolerant path's parser.

Well-formed records are read as RFC 4180 says. Where a quote does not stand where it should, every reading of its line
is tried, and the one that gives the table's width wins; so the damage of a stray quote ends with its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from etl_container.formats.base import Dialect

MAX_QUOTED = 32 << 20
"""A quoted value that is not closed within so many characters is no quoted value: its quote is a stray one."""

MAX_READINGS = 64
"""So many ways to read a line with doubtful quotes are tried."""
MANY_LINES = 20
"""A quoted value of more lines, nearly all of them records on their own, was opened by a stray quote."""

Cells = list[str | None]
"""The values of one record; None is an empty value that was not quoted."""


class Record(Struct):
    """One record as the tolerant path found it. Positions count characters in the text it was parsed from."""

    cells: Cells
    line: int
    """0-based physical line in that text."""
    start: int
    end: int
    """Where its text ends, before the line end."""
    stray: bool = False
    """Whether a quote in it had to be taken as an ordinary character."""
    after_blank: bool = False
    """Whether a blank line stands right above it."""


class RecordParser:
    """Splits text into records by a dialect, one by one, whatever the state of the text."""

    def __init__(self, dialect: Dialect, width: int | None) -> None:
        self._dialect = dialect
        self._width = width
        delimiter, quote, escape = dialect.delimiter, dialect.quote, dialect.escape
        self._spaces = delimiter == " "
        d = " +" if self._spaces else re.escape(delimiter)
        self._split = re.compile(d)
        blank = "" if delimiter in {" ", "\t"} else r"[ \t]*"
        if quote is not None:
            q = re.escape(quote)
            body = rf"[^{q}]++|{q}{q}"
            if escape is not None and escape != quote:
                e = re.escape(escape)
                body = rf"[^{q}{e}]++|{e}.|{q}{q}"
            after = rf"{blank}(?={d}|[\r\n]|\Z)"
            self._quoted = re.compile(rf"{blank}{q}((?:{body})*+){q}{after}", re.DOTALL)
            self._body = re.compile(rf"{blank}{q}(?:{body})*+", re.DOTALL)
            self._lenient = re.compile(rf"{blank}{q}([^\r\n]*?){q}{after}")
            self._opens = re.compile(rf"{blank}{q}")
        plain = rf"(?:{re.escape(escape)}.|(?!{d})[^\r\n])*+" if escape else rf"(?:(?!{d})[^\r\n])*+"
        if len(delimiter) == 1:  # the same, quicker
            c, e = re.escape(delimiter), re.escape(escape or "")
            plain = rf"(?:{e}.|[^{c}{e}\r\n]++|{e}\Z)*+" if escape else rf"[^{c}\r\n]*+"
        self._plain = re.compile(plain, re.DOTALL)
        self._line = re.compile(r"[^\r\n]*+")

    def records(self, text: str, *, final: bool) -> tuple[list[Record], int, int]:
        """The complete records of ``text``, and how many characters and lines they took, blank lines included.

        ``final`` says that nothing follows the text, so that its last record is complete.
        """
        records: list[Record] = []
        position, line, size, blank = 0, 0, len(text), False
        quote, escape = self._dialect.quote, self._dialect.escape
        while position < size:
            end = self._line.match(text, position).end()  # type: ignore[union-attr]
            if end >= size - 1 and not final:
                break
            content = text[position:end]
            lines = 1
            if not content or (content.isspace() and (self._width != 1 or not content.strip("\r\n"))):
                if content and self._dialect.delimiter in content and not self._spaces:
                    records.append(Record(self._split_plain(content), line, position, end, after_blank=blank))
                blank = True
            elif (quote is None or quote not in content) and (escape is None or escape not in content):
                records.append(Record(self._split_plain(content), line, position, end, after_blank=blank))
                blank = False
            else:
                found = self._with_quotes(text, position, end, final=final)
                if found is None:
                    break
                cells, end, stray = found
                records.append(Record(cells, line, position, end, stray, blank))
                blank = False
                lines += line_ends(text[position:end])
            position = _after_line_end(text, end)
            line += lines
        return records, position, line

    def _split_plain(self, content: str) -> Cells:
        if self._spaces:
            return [cell or None for cell in self._split.split(content.strip(" "))]
        return [cell or None for cell in content.split(self._dialect.delimiter)]

    def _with_quotes(self, text: str, start: int, line_end: int, *, final: bool) -> tuple[Cells, int, bool] | None:
        """A record that holds quotes; None when more text is needed to know where it ends."""
        strict = self._walk(text, start, len(text))
        if strict is not None:
            cells, end = strict
            if end > line_end:
                if end >= len(text) - 1 and not final:
                    return None
                if self._swallows(text, start, line_end, end, len(cells)):
                    strict = None
            if strict is not None:
                return cells, end, False
        elif not final and len(text) - start < MAX_QUOTED and self._open_at_end(text, start):
            return None
        own = text[start:line_end]
        best: tuple[Cells, int] | None = None
        for cells, end in self._readings(own):
            if best is None or len(cells) == self._width:
                best = (cells, end)
            if len(cells) == self._width:
                break
        if best is None:  # pragma: no cover - a line has always one reading
            best = (self._split_plain(own), len(own))
        return best[0], line_end, True

    def _swallows(self, text: str, start: int, line_end: int, end: int, width: int) -> bool:
        """Whether a value over several lines is better read as a stray quote, because its lines are records.

        Well-formed text of the right width is what it says, but for a value that takes up many whole records.
        """
        if self._width is None or self._width < 2:
            return False
        inside = [line for line in re.split(r"[\r\n]+", text[line_end:end])[1:-1] if line]
        if width == self._width and len(inside) <= MANY_LINES:
            return False
        if not self._fits(text[start:line_end]):
            return False
        return width != self._width or sum(map(self._fits, inside)) > 0.9 * len(inside)

    def _fits(self, line: str) -> bool:
        """Whether some reading of a line has the table's width."""
        return any(len(cells) == self._width for cells, _ in self._readings(line))

    def _open_at_end(self, text: str, start: int) -> bool:
        """Whether the strict reading runs out of text inside a quoted value."""
        position = start
        while True:
            if self._opens.match(text, position):
                found = self._quoted.match(text, position)
                if found is None:
                    # Up to the end, or to a quote so near that what should follow it may be cut off.
                    until = self._body.match(text, position).end()  # type: ignore[union-attr]
                    return until + 1 + len(self._dialect.delimiter) >= len(text)
                position = found.end()
            else:
                position = self._plain.match(text, position).end()  # type: ignore[union-attr]
            after = self._split.match(text, position)
            if after is None:
                return position >= len(text)
            position = after.end()

    def _walk(self, text: str, start: int, stop: int) -> tuple[Cells, int] | None:
        """The record at ``start`` when every quote in it stands where it should."""
        cells: Cells = []
        position = start
        while True:
            if self._opens.match(text, position):
                found = self._quoted.match(text, position, stop)
                if found is None:
                    return None
                cells.append(self._unquote(found.group(1)))
                position = found.end()
            else:
                found = self._plain.match(text, position, stop)
                value = found.group() if found else ""
                cells.append(self._unescape(value) or None)
                position = found.end() if found else position
            after = self._split.match(text, position, stop)
            if after is None:
                return cells, position
            position = after.end()

    def _readings(self, own: str) -> Iterator[tuple[Cells, int]]:
        """Ways to read one line, its doubtful quotes being taken as quotes or as characters; likely ones first."""
        waiting: list[tuple[int, Cells]] = [(0, [])]
        for _ in range(MAX_READINGS):
            if not waiting:
                return
            position, cells = waiting.pop()
            while True:
                end = self._plain.match(own, position).end()  # type: ignore[union-attr]
                if not (self._dialect.quote and self._opens.match(own, position)):
                    cells.append(self._unescape(own[position:end]) or None)
                elif found := self._quoted.match(own, position):
                    cells.append(self._unquote(found.group(1)))
                    end = found.end()
                else:
                    lenient = self._lenient.match(own, position)
                    if lenient is None:
                        cells.append(own[position:end] or None)
                    else:
                        if len(waiting) < MAX_READINGS and (after := self._split.match(own, end)):
                            waiting.append((after.end(), [*cells, own[position:end] or None]))
                        cells.append(self._unquote(lenient.group(1)))
                        end = lenient.end()
                following = self._split.match(own, end)
                if following is None:
                    break
                position = following.end()
            yield cells, len(own)

    def _unquote(self, body: str) -> str:
        quote = self._dialect.quote or ""
        if self._dialect.escape:
            return self._unescape(body.replace(quote * 2, quote))
        return body.replace(quote * 2, quote)

    def _unescape(self, value: str) -> str:
        escape = self._dialect.escape
        if escape is None or escape not in value:
            return value
        return re.sub(re.escape(escape) + r"(.)", r"\1", value, flags=re.DOTALL)


def line_ends(text: str | bytes) -> int:
    """How many physical lines end in ``text``."""
    if isinstance(text, bytes):
        return text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _after_line_end(text: str, end: int) -> int:
    """The position after the line end at ``end``."""
    if text.startswith("\r\n", end):
        return end + 2
    return min(end + 1, len(text))
