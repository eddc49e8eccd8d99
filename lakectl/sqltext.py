"""SQL as text: where statements end, where ``:name`` stands for a value, and how an error in it is shown.

Never looks into strings or comments.

The lexical rules are PostgreSQL's: https://www.postgresql.org/docs/17/sql-syntax-lexical.html.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping

from lakectl.errors import UsageError

_TOKEN = re.compile(
    r"""
      (?P<comment>--[^\n]*)
    | (?P<open_comment>/\*)
    | (?P<escaped>(?<![A-Za-z0-9_$])[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z))
    | (?P<string>'(?:[^']|'')*(?:'|\Z))
    | (?P<identifier>"(?:[^"]|"")*(?:"|\Z))
    | (?P<dollar>(?<![A-Za-z0-9_$])\$(?:[A-Za-z_][A-Za-z0-9_]*)?\$)
    | (?P<cast>::|:=)
    | (?P<parameter>(?<![\w\]):])(?<!\$):(?P<name>[A-Za-z_]\w*))
    | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)


def _tokens(sql: str) -> Iterator[tuple[str, int, int]]:
    """``(kind, start, end)`` of everything that is not plain SQL, comments and strings whole."""
    position = 0
    while match := _TOKEN.search(sql, position):
        kind, start, end = match.lastgroup or "", match.start(), match.end()
        if match["open_comment"]:
            kind, end = "comment", _end_of_comment(sql, end)
        elif match["dollar"]:
            close = sql.find(match["dollar"], end)
            kind, end = "string", len(sql) if close < 0 else close + len(match["dollar"])
        elif match["parameter"]:
            kind = "parameter"
        yield kind, start, end
        position = end


def _end_of_comment(sql: str, position: int) -> int:
    """Comments nest in PostgreSQL."""
    depth = 1
    while depth and (match := re.compile(r"/\*|\*/").search(sql, position)):
        depth += 1 if match[0] == "/*" else -1
        position = match.end()
    return position if depth == 0 else len(sql)


def bind(sql: str, given: Collection[str], *, place: Callable[[str], str] = "%({})s".format) -> str:
    """The statement with each ``:name`` written the driver's way; without values, the statement as it is.

    With values, percent signs are doubled, as psycopg2 wants them.

    Args:
        sql: one statement.
        given: the names that have values.
        place: a name in the driver's notation; psycopg2's unless told.

    Raises:
        UsageError: a name without a value, or a value without a name.
    """
    percent = "%%" if given else "%"
    pieces: list[str] = []
    used: set[str] = set()
    position = 0
    for kind, start, end in _tokens(sql):
        pieces.append(sql[position:start].replace("%", percent))
        name = sql[start + 1 : end]
        if kind == "parameter":
            used.add(name)
            pieces.append(place(name))
        else:
            pieces.append(sql[start:end].replace("%", percent))
        position = end
    pieces.append(sql[position:].replace("%", percent))
    if missing := sorted(used - set(given)):
        raise UsageError(f"the parameter :{missing[0]} has no value", hint=f"-p {missing[0]}=VALUE")
    if unused := sorted(set(given) - used):
        raise UsageError(f"the statement has no parameter :{unused[0]}", hint=f"leave out -p {unused[0]}=…")
    return "".join(pieces)


def statements(sql: str) -> list[str]:
    """The statements of a text, without the semicolons; those of blanks and comments alone are left out."""
    found: list[str] = []
    begin, meaningful, position = 0, False, 0
    for kind, start, end in _tokens(sql):
        meaningful = meaningful or bool(sql[position:start].strip()) or kind not in ("comment", "end")
        if kind == "end":
            if meaningful:
                found.append(sql[begin:start].strip())
            begin, meaningful = end, False
        position = end
    if meaningful or sql[position:].strip():
        found.append(sql[begin:].strip())
    return found


def is_complete(sql: str) -> bool:
    """Whether a typed text ends with a semicolon that is not inside a string or comment."""
    last = None
    for kind, _start, end in _tokens(sql):
        if kind != "comment":
            last = (kind, end)
    if last is None or last[0] != "end":
        return False
    return not re.sub(r"(?s)--[^\n]*|/\*.*?\*/", "", sql[last[1] :]).strip()


ADVICE: Mapping[str, str] = {"42P01": "lakectl tables", "42703": "lakectl tables"}
"""What to type next, by SQLSTATE, where PostgreSQL has no advice: for a table and a column that are not there."""


def marked(sql: str, offset: int) -> str:
    """The line of the SQL that an error is on, with a caret under the place; empty when it is outside."""
    if not 0 <= offset <= len(sql):
        return ""
    start = sql.rfind("\n", 0, offset) + 1
    end = sql.find("\n", offset)
    line = sql[start : end if end >= 0 else len(sql)]
    return f"{line}\n{' ' * (offset - start)}^"
