"""How a delimited text is written, and where its table lies, found out from its beginning.

Two questions, in this order:

1. *Which dialect?* Every plausible delimiter and quote is tried on the first lines. A dialect is good when it cuts the
   lines into records of one width (pattern), of more than one cell, and when the cells look like values: numbers,
   dates, words, and no left-over delimiters and quotes (type). The score is the product, after van den Burg, Nazábal
   and Sutton, "Wrangling messy CSV files by detecting row and type patterns", Data Min. Knowl. Disc. 33 (2019).
2. *Which lines?* With the dialect known: lines above the table, the header's rows, the first record. The evidence is
   how many cells are filled, and whether a row's cells look like the values below them.

Nothing here reads a file, and nothing here is sure: ``ReadOptions`` overrides each decision.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from etl_container.errors import ConfigError
from etl_container.formats.base import Dialect, ReadOptions
from etl_container.formats.records import Record, RecordParser

SCORED_CHARACTERS = 24_000
"""How much of the text the candidates are scored on."""
STRUCTURE_CHARACTERS = 64_000
"""How much of the text the table's place is decided on."""
MAX_HEADER_ROWS = 8
WORD_GAPS = frozenset({" ", ":"})
"""Delimiters that every text is full of: only an even number in each line makes them one."""
SINGLES = (",", ";", "\t", "|", " ", ":", "^", "~", "\x01", "\x1f", "\x1e", "¦", "§", "¬")
DISCOUNT = {" ": 0.8, ":": 0.5, "^": 0.9, "~": 0.9}
"""Characters that stand in ordinary text need better evidence."""
ONE_CELL = 0.25
"""What a dialect is worth at most that cuts nothing."""
_RUN = re.compile(r"[,;|~^:!#@&*$\t ]{2,4}")
_COMMENT = ("#", "//", "%%", "--")

_NUMBER = (
    r"[-+(]?\s?[$€£¥]?\s?[-+]?(?:\d{1,3}(?:[ ,.'\u00a0\u202f]\d{3})+|\d+)?(?:[.,]?\d+)?\.?"
    r"(?:[eE][-+]?\d+)?\)?\s?(?:%|[$€£¥]|USD|EUR|GBP)?"
)
_DATE = (
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|[A-Za-z]{3,9}[- ]\d{1,2},? \d{4}"
    r"|\d{1,2}[- /.]?[A-Za-z]{3,9}\.?[- /.,]{0,2}\d{2,4}"
)
_MONTH = r"\d{1,2}-[A-Z][a-z]{2}|[A-Z][a-z]{2}-\d{2}"
_TIME = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+|,\d{3,6})?)?(?:\s?[AaPp]\.?[Mm]\.?)?(?:\s?(?:Z|[-+]\d{2}:?\d{2}))?"
_VALUE = re.compile(rf"(?=.*\d)(?:{_NUMBER})|{_DATE}|{_MONTH}|{_TIME}|(?:{_DATE})[T ,]+{_TIME}")
_NULL = re.compile(r"[-–—.?*]+|n/?a|nan|null|none|nil|#n/a|\\n|inf|-inf", re.IGNORECASE)
_OTHER_TYPE = re.compile(
    r"(?:https?|ftp|s3)://\S+|[\w.+-]+@[\w-]+\.[\w.-]+|true|false|yes|no|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|\d{1,3}(?:\.\d{1,3}){3}",
    re.IGNORECASE,
)
_WORDS = re.compile(r"[\w \-./'’&()%$€£+#:*?!@°²³=\[\]\\<>{}]+")


class Layout(Struct, frozen=True):
    """Where a table lies in a text and how it is written."""

    dialect: Dialect
    labels: tuple[str, ...]
    """One per column, joined with a space where the header has several rows; made up when it has none."""
    header: tuple[tuple[str, ...], ...]
    """The header's rows, cell by cell."""
    data_line: int
    """Physical lines before the first data record."""
    notes: tuple[str, ...] = ()
    typed: tuple[int, ...] = ()
    """The columns that hold numbers, dates or times (as far as the text's beginning shows)."""


def is_value(cell: str) -> bool:
    """Whether a cell looks like a number, a date or a time: what stands in a column, not above it."""
    return _is_value(cell) if len(cell) <= 64 else False


@lru_cache(maxsize=8192)
def _is_value(cell: str) -> bool:
    return _VALUE.fullmatch(cell.strip()) is not None


def is_null(cell: str | None) -> bool:
    """Whether a cell is empty or one of the usual signs for nothing."""
    return not cell or (len(cell) < 8 and _is_null(cell)) or cell.isspace()


@lru_cache(maxsize=8192)
def _is_null(cell: str) -> bool:
    return _NULL.fullmatch(cell.strip()) is not None


def detect(sample: str, options: ReadOptions, *, whole: bool, first_line: int = 0) -> Layout:
    """The layout of the text that begins with ``sample``; ``whole`` says that there is nothing after it.

    ``first_line`` physical lines are no part of the table (other tables stand in them).

    Raises:
        ConfigError: an option cannot be used.
    """
    for what, value in (("quote", options.quote), ("escape", options.escape)):
        if value is not None and len(value) > 1:
            raise ConfigError(f"The {what} must be one character, not {value!r}.")
    if options.delimiter == "":
        raise ConfigError("The delimiter must not be empty.", hint="Leave the setting out to have it detected.")
    skipped = first_line + (options.skip_lines or 0)
    text = _without_lines(sample, skipped)
    notes: list[str] = []
    told = None
    if directive := re.match(r"\ufeff?\"?sep=(\\t|[^\r\n\"]{1,2})\"?(?:\r\n|\r|\n)", text, re.IGNORECASE):
        told = directive.group(1).replace("\\t", "\t")
        text = text[directive.end() :]
        skipped += 1
        notes.append(f"line {skipped} names the delimiter: {told!r}")
    dialect = _dialect(_head(text, SCORED_CHARACTERS, whole=whole), options, told)
    head = _head(text, STRUCTURE_CHARACTERS, whole=whole)
    records = _records(head, dialect)
    if any(record.stray for record in records):
        records = _records(head, dialect, _width(records))
    return _structure(records, dialect, options, skipped, notes)


def _without_lines(text: str, count: int) -> str:
    position = 0
    for _ in range(count):
        found = re.compile(r"\r\n|\n|\r").search(text, position)
        if found is None:
            return ""
        position = found.end()
    return text[position:]


def _head(text: str, size: int, *, whole: bool) -> str:
    """The first lines of ``text``: about ``size`` characters, or thirty lines where these are longer."""
    if len(text) <= size:
        if whole:
            return text
        size = len(text)
    cut = max(text.rfind("\n", 0, size), text.rfind("\r", 0, size))
    lines = re.compile(r"[^\r\n]*+(?:\r\n|\n|\r)")
    at_least = 0
    for _ in range(30):
        found = lines.match(text, at_least)
        if found is None or found.end() > 8 * size:
            break
        at_least = found.end()
    cut = max(cut + 1, at_least)
    return text[:cut] if cut else text


def _records(text: str, dialect: Dialect, width: int | None = None) -> list[Record]:
    return RecordParser(dialect, width).records(text, final=True)[0]


# Which dialect


def _dialect(text: str, options: ReadOptions, told: str | None) -> Dialect:
    line_terminator = _line_terminator(text)
    if options.escape is not None and options.escape == (options.quote or '"'):
        options = replace(options, escape=None)  # a doubled quote, as always
    given = (options.delimiter or "").replace("\\t", "\t") or told
    if given is not None:
        delimiters = [given]
    else:
        delimiters = [d for d in SINGLES if d in text]
        multiples = _multiples(text, delimiters)
        inner = {mark for multiple in multiples if len(multiple.strip()) > 1 for mark in multiple.strip()}
        delimiters = multiples + [d for d in delimiters if d not in inner]
        delimiters.append("")
    scored: list[tuple[float, Dialect]] = [(-1.0, Dialect(line_terminator=line_terminator))]
    whole_lines = [line for line in re.split(r"[\r\n]+", text[:8000]) if line.strip()]
    values = sum(is_value(line) for line in whole_lines)
    unused = next(d for d in (",", ";", "\t", "|", "\x1f", "\x1e", "\x1d") if d not in text or d == "\x1d")
    for delimiter in delimiters:
        if delimiter in {" ", ":"} and given is None and values * 2 > len(whole_lines):
            continue
        for quote in _quotes(text, delimiter, options):
            dialect = Dialect(delimiter or unused, quote, options.escape or None, line_terminator)
            best_yet = max(scored, key=lambda pair: pair[0])[0]
            if not delimiter and best_yet > ONE_CELL:
                continue
            score = _score(text, dialect, best_yet)
            if options.escape is None and quote is not None and "\\" + quote in text:
                escaped = Dialect(delimiter or unused, quote, "\\", line_terminator)
                if _escapes(text, dialect, escaped):
                    dialect = escaped
                    score = _score(text, dialect, best_yet)
            scored.append((score, dialect))
    best = max(scored, key=lambda pair: pair[0])[1]
    if best.delimiter in WORD_GAPS and not _cuts_all(text, best):
        # Sentences of as many words each are no columns where another delimiter cuts every line, the header's too.
        others = [other for _, other in scored[1:] if other.delimiter not in WORD_GAPS and _cuts_all(text, other)]
        best = max(others, key=lambda other: _score(text, other), default=best)
    return best


def _cuts_all(text: str, dialect: Dialect) -> bool:
    """Whether every line has the same number of cells, more than one, and nothing is left over."""
    records = _records(text, dialect)
    widths = {len(record.cells) for record in records}
    return len(records) > 2 and len(widths) == 1 and widths != {1} and not any(record.stray for record in records)


def _line_terminator(text: str) -> str:
    both = text.count("\r\n")
    counts = {"\r\n": both, "\n": text.count("\n") - both, "\r": text.count("\r") - both}
    most = max(counts, key=lambda end: counts[end])
    return most if counts[most] else "\n"


def _multiples(text: str, singles: Sequence[str]) -> list[str]:
    """Delimiters of several characters: none of their characters stands anywhere else outside quotes.

    Which quotes these are is not known yet, so any way to leave quoted values out will do.
    """
    found: list[str] = []
    for quoted in (r'"(?:[^"]|"")*"', r'"(?:[^"\\]|\\.|"")*"', r"'(?:[^']|'')*'", r"'(?:[^'\\]|\\.|'')*'"):
        if quoted[0] in text and ("\\" not in quoted or "\\" in text):
            plain = re.sub(quoted, quoted[0] * 2, text, flags=re.DOTALL)
            found += [run for run in _multiples_outside(plain, singles) if run not in found]
    return found or _multiples_outside(text, singles)


def _multiples_outside(plain: str, singles: Sequence[str]) -> list[str]:
    lines = [line for line in re.split(r"[\r\n]+", plain) if line.strip()]
    runs = Counter(run for line in lines[:100] for run in set(_RUN.findall(line)))
    found = []
    candidates = {run for run, count in runs.most_common(8) if count * 2 > len(lines[:100])}
    candidates |= {single * 2 for single in singles if single not in {" ", "\t", ","}}
    candidates |= {single + " " for single in singles if single in {",", ";", "|"}}
    for run in candidates:
        marks = set(run) - {" "}
        if not marks or set(run) == {","} or (run.startswith(" ") and not run.endswith(" ")):
            continue
        uses = plain.count(run)
        rest = plain.replace(run, "\x00")
        left = sum(rest.count(mark) for mark in marks)
        if uses >= len(lines) * 0.8 and left <= uses * 0.02:
            found.append(run)
    return found


def _quotes(text: str, delimiter: str, options: ReadOptions) -> list[str | None]:
    """The quotes worth trying with a delimiter."""
    if options.quote is not None:
        return [options.quote or None]
    d = re.escape(delimiter) if delimiter else "(?!)"
    blank = "" if delimiter == " " else " ?"
    found: list[str | None] = ['"']
    for quote in ("'", "`"):
        if quote not in text:
            continue
        opens = len(re.findall(rf"(?:{d}|^|(?<=[\r\n])){blank}{quote}", text))
        closes = len(re.findall(rf"{quote}{blank}(?:{d}|$|(?=[\r\n]))", text))
        if min(opens, closes) >= 2 and abs(opens - closes) * 3 <= opens + closes:
            found.append(quote)
    return found


def _escapes(text: str, plain: Dialect, escaped: Dialect) -> bool:
    """Whether reading backslashes as escapes mends more records than it breaks."""
    without = sum(record.stray for record in _records(text, plain))
    return 2 * sum(record.stray for record in _records(text, escaped)) < without


def _score(text: str, dialect: Dialect, best_yet: float = -1.0) -> float:
    """How good a dialect is, between 0 and 1; 0 where its cells need not be looked at to say that it is not better."""
    records = _records(text, dialect)
    plain = [record for record in records if not (record.cells[0] or "").startswith("#")]
    records = plain if len(plain) > 1 else records
    if not records:
        return 0.0
    # Remarks above a table are many lines at times, but short ones: lines and characters count half each.
    widths: Counter[int] = Counter()
    characters = sum(record.end - record.start for record in records) or 1
    for record in records:
        widths[len(record.cells)] += 1 / len(records) + (record.end - record.start) / characters  # type: ignore[assignment]
    width = max(widths, key=lambda w: (widths[w], w))
    pattern = widths[width] / 2
    if any(record.after_blank for record in records[1:]):
        pattern = max(pattern, 0.95 * _in_tables(records) / len(records))
    if pattern < 0.9 and not _quotes_meet(text, records, dialect):
        if dialect.delimiter in WORD_GAPS:
            pattern **= 3
        elif pattern < 0.5:
            pattern **= 2
    parts = (width - 1) / width if width > 1 else ONE_CELL
    strays = sum(record.stray for record in records) / len(records)
    at_most = pattern * parts * (1 - strays / 2) * DISCOUNT.get(dialect.delimiter, 1.0)
    if at_most < best_yet:
        return 0.0
    proper = (cell for record in records if len(record.cells) == width for cell in record.cells[:80])
    cells = [cell for cell in proper if cell and not cell.isspace()][:3000]
    type_score = sum(_goodness(cell, dialect) for cell in cells) / len(cells) if cells else 0.3
    return at_most * type_score


def _in_tables(records: Sequence[Record]) -> int:
    """How many records stand in blocks between blank lines that are tables of a width each."""
    regular = 0
    for block in _blocks(records):
        widths = Counter(len(record.cells) for record in block)
        width, times = widths.most_common(1)[0]
        if width > 1 and times >= 3 and len(block) - times <= 1:
            regular += times
    return regular


def _quotes_meet(text: str, records: Sequence[Record], dialect: Dialect) -> bool:
    """Whether most records hold quoted values right beside a delimiter, which ordinary text does not."""
    if dialect.quote is None:
        return False
    beside = (dialect.delimiter + dialect.quote, dialect.quote + dialect.delimiter)
    quoted = sum(
        not record.stray and all(mark in text[record.start : record.end] for mark in beside) for record in records
    )
    return quoted * 2 > len(records)


def _goodness(cell: str, dialect: Dialect) -> float:
    """How much a cell looks like one whole value."""
    return _good(cell) if len(cell) <= 200 else _good(cell[:100] + cell[-100:])


@lru_cache(maxsize=16384)
def _good(cell: str) -> float:
    bare = cell.strip()
    discount = 1.0 if bare == cell else 0.9
    if is_value(bare) or _OTHER_TYPE.fullmatch(bare) or is_null(bare):
        return discount
    if bare[0] in "\"'" or bare[-1] == '"':
        return 0.1
    if _WORDS.fullmatch(bare):
        return 0.9 * discount
    if any(mark in bare for mark in ";\t|"):
        return 0.3
    return (0.6 if "," in bare or "\n" in bare else 0.7) * discount


# Which lines


def heads_table(rows: Sequence[Sequence[str | None]]) -> bool:
    """Whether the first of ``rows``, all of one width, is a header by the types of what follows."""
    top, width = _trimmed(rows[0]), len(rows[0])
    if len(top) < 2 or not all(cell and cell.strip() and not is_value(cell) for cell in top):
        return False
    if not any(_is_typed([row[j] for row in rows[1:]]) for j in range(width)):
        return False
    return _header_rows(rows, 0, width) > 0


def breaks_types(cells: Sequence[str | None], typed: Sequence[int]) -> bool:
    """Whether a row of the table's width looks like a header within it: texts where values belong, and no value."""
    texts, values = tell(cells, typed)
    return values == 0 and texts * 2 > len(typed) and all(cell and cell.strip() for cell in cells)


def conflicts(cells: Sequence[str | None], typed: Sequence[int]) -> int:
    """How many cells of a row are texts in columns of values."""
    return tell(cells, typed)[0]


def _structure(
    records: Sequence[Record], dialect: Dialect, options: ReadOptions, skipped: int, notes: list[str]
) -> Layout:
    if not records:
        return Layout(dialect, ("column_1",), (), skipped, tuple(notes))
    width = _first_block(records) or _width(records)
    records = [_without_mark(record, width) for record in records]
    first = 0 if options.skip_lines is not None else _first_row(records, width)
    rows = [record.cells for record in records]
    count = _header_rows(rows, first, width) if options.header is None else min(options.header, len(rows) - first)
    header_width = len(rows[first]) if count and first < len(rows) else 0
    if count == 1 and header_width > width and len(_trimmed(rows[first])) > width:
        width = len(_trimmed(rows[first]))
    header = tuple(tuple(_fitted(rows[first + k], width, rows[first + count :])) for k in range(count))
    header = tuple(row for row in header if any(row))
    if first:
        above = [" ".join(cell for cell in row if cell)[:100] for row in rows[:first]]
        told = " / ".join(line for line in above if line)[:300]
        count_lines = records[first].line
        notes.append(f"{count_lines} line{'s' if count_lines > 1 else ''} above the table skipped: {told}".rstrip(": "))
    if len(header) > 1:
        notes.append(f"the header has {len(header)} rows, joined")
    labels = _joined(header) if header else tuple(f"column_{i + 1}" for i in range(width))
    if first + count < len(records):
        data_line = skipped + records[first + count].line
    else:
        data_line = skipped + records[-1].line + 1
    dialect = Dialect(dialect.delimiter, dialect.quote, dialect.escape, dialect.line_terminator, bool(header))
    end = next((i for i in range(first + count + 2, len(records)) if records[i].after_blank), len(records))
    body = [row for row in rows[first + count : end] if len(row) == width][:500]
    typed = tuple(j for j in range(width) if _is_typed([row[j] for row in body], 0.9))
    return Layout(dialect, labels, header, data_line, tuple(notes), typed)


def _width(records: Sequence[Record]) -> int:
    """The table's number of columns: what most records have, or the most that several have in a short text."""
    widths = Counter(len(record.cells) for record in records[:500] if any(record.cells))
    if not widths:
        return len(records[0].cells)
    return max(widths, key=lambda w: (widths[w], w))


def _first_block(records: Sequence[Record]) -> int | None:
    """The width of the first lines up to a blank one that are a table on their own, when only titles stand above."""
    # Names beside values, of which some stand above many a table, are two cells in a line.
    of_two = max(3, min(10, len(records) // 4))
    for block in _blocks(records):
        rows = [record.cells for record in block]
        while rows and _filled(rows[0]) < 2:
            rows = rows[1:]  # a title
        least = of_two if rows and len(rows[0]) == 2 else min(of_two, 4)
        if len(rows) >= least and len({len(row) for row in rows}) == 1 and heads_table(rows):
            return len(rows[0])
        if len(rows) > 1:
            return None
    return None


def _blocks(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """The records between blank lines."""
    start = 0
    for i, record in enumerate(records):
        if i and record.after_blank:
            yield records[start:i]
            start = i
    if start:
        yield records[start:]


def _without_mark(record: Record, width: int) -> Record:
    """A header behind a comment mark (``# x y z``), without the mark."""
    if len(record.cells) == width + 1 and record.cells[0] in {"#", "%", "//"}:
        return replace(record, cells=record.cells[1:])
    return record


def _trimmed(cells: Sequence[str | None]) -> list[str | None]:
    """``cells`` without the empty ones at the end."""
    end = len(cells)
    while end and not cells[end - 1]:
        end -= 1
    return list(cells[:end])


def _filled(cells: Sequence[str | None]) -> int:
    return sum(1 for cell in cells if cell and cell.strip())


def _first_row(records: Sequence[Record], width: int) -> int:
    """The index of the record where the table begins: its header, or its first row when it has none."""
    if width == 1:
        return 0
    rows = [record.cells for record in records]
    proper = [i for i, row in enumerate(rows[:200]) if len(row) == width]
    if not proper:
        return 0
    fills = sorted(filter(None, (_filled(rows[i]) for i in proper))) or [0]
    usual = fills[len(fills) // 2]
    if usual < 2:
        usual = fills[len(fills) * 9 // 10]  # most rows only go on with what stands above them
    first = proper[0]
    # A header may lack a delimiter, or have one too many.
    if first > 0 and first == 1 and abs(len(rows[0]) - width) <= max(1, width // 4) and len(rows[0]) > 1:
        above = rows[0]
        if _filled(above) >= usual * 0.6 and not any(is_value(cell) for cell in above if cell):
            return 0
    while first < len(rows) - 1:
        row = rows[first]
        if len(row) != width or _filled(row) == 0 or _is_title(row, usual, rows[first + 1 : first + 6]):
            first += 1
            continue
        if (row[0] or "").startswith(_COMMENT) and any(
            (below[0] or "").startswith(_COMMENT) for below in rows[first + 1 : first + 2]
        ):
            first += 1
            continue
        break
    return first


def _is_title(row: Sequence[str | None], usual: int, below: Sequence[Sequence[str | None]]) -> bool:
    """Whether a row of the table's width says something about the table: few of its cells are filled."""
    filled = _filled(row)
    if usual < 2 or filled > max(1, usual // 4):
        return False
    if any(is_value(cell) for cell in row if cell):
        return False
    if filled == 1 and not (row[0] or "").strip() and len(row) == 2:
        return False
    return any(_filled(other) >= max(2, usual * 0.6) for other in below)


def _header_rows(rows: Sequence[Sequence[str | None]], first: int, width: int) -> int:
    """How many rows from ``first`` on are the header's."""
    top = rows[first]
    below = [row for row in rows[first + 1 : first + 200] if len(row) == width]
    if not below:
        return 0 if any(is_value(cell) for cell in top if cell) else 1
    evidence = below[min(4, len(below) // 2) :] if len(below) > 2 else below
    typed = [j for j in range(width) if _is_typed([row[j] for row in evidence])]
    if not typed:
        return _text_header(rows, first, below)
    texts, values = tell(top, typed)
    if values and values >= texts and not _years(top, typed, evidence):
        return 0
    if not texts and not values:
        filled = [cell for cell in top if cell]
        return 1 if filled and not any(is_value(cell) for cell in filled) and len(filled) * 2 > width else 0
    count = 1
    while count < MAX_HEADER_ROWS and first + count < len(rows) - 1:
        row = rows[first + count]
        if row == top:
            count += 1
            continue
        if len(row) != width or any(is_value(cell) for cell in row if cell):
            break
        texts, values = tell(row, typed)
        fills_gaps = any(cell and not above for cell, above in zip(row, top, strict=False))
        blank = _filled(row) == 0 and any(not cell for cell in top)
        if blank and first + count + 1 < len(rows) and not any(is_value(c) for c in rows[first + count + 1] if c):
            count += 1
            continue
        full = texts * 2 > len(typed) and _filled(row) * 2 > width
        if values or not texts or not (full or (fills_gaps and (texts * 2 > len(typed) or not row[0]))):
            break
        count += 1
    return count


def _is_typed(column: Sequence[str | None], share: float = 0.7) -> bool:
    """Whether a column holds numbers, dates or times, but for a few of its cells."""
    present = {cell: count for cell, count in Counter(column).items() if cell is not None and not is_null(cell)}
    values = sum(count for cell, count in present.items() if is_value(cell))
    return bool(present) and values >= share * sum(present.values())


def tell(row: Sequence[str | None], typed: Sequence[int]) -> tuple[int, int]:
    """How many of a row's cells in typed columns are texts, and how many are values."""
    cells = [row[j] for j in typed if j < len(row)]
    values = sum(1 for cell in cells if cell and is_value(cell))
    texts = sum(1 for cell in cells if cell and cell.strip() and not is_value(cell) and not is_null(cell))
    return texts, values


def _years(top: Sequence[str | None], typed: Sequence[int], evidence: Sequence[Sequence[str | None]]) -> bool:
    """Whether the values in a row of labels are years, or a count of the columns, above other values."""
    cells = [(j, (top[j] or "").strip()) for j in typed if j < len(top) and is_value(top[j] or "")]
    if len(cells) < 2 or not all(re.fullmatch(r"\d{1,4}", cell) for _, cell in cells):
        return False
    numbers = [int(cell) for _, cell in cells]
    steps = {b - a for a, b in itertools.pairwise(numbers)}
    if len(steps) != 1 or abs(steps.pop()) not in {1, 5, 10}:
        return False
    texts = sum(1 for cell in top if cell and not is_value(cell))
    same = sum(1 for row in evidence[:20] for j, cell in cells if (row[j] or "").strip() == cell)
    years = all(1500 <= number <= 2200 for number in numbers)
    return (years or texts > 0) and same == 0


def _text_header(rows: Sequence[Sequence[str | None]], first: int, below: Sequence[Sequence[str | None]]) -> int:
    """Whether a table of nothing but text has a header: its first row is complete, and unlike what follows."""
    top = rows[first]
    if any(is_value(cell) for cell in top if cell):
        return 0
    count = 1
    while first + count < len(rows) and rows[first + count] == top and count < MAX_HEADER_ROWS:
        count += 1
    for j, label in enumerate(top):
        column = [row[j] for row in below if j < len(row) and row[j]]
        if not label or len(column) < 3:
            continue
        shapes = Counter(_shape(cell or "") for cell in column)
        shape, times = shapes.most_common(1)[0]
        if "9" in shape and times >= 0.9 * len(column) and _shape(label) == shape:
            return 0
        if sum(1 for cell in column if cell == label) > (0 if count == 1 else MAX_HEADER_ROWS):
            return 0
    return count


@lru_cache(maxsize=4096)
def _shape(cell: str) -> str:
    return re.sub(r"\d+", "9", re.sub(r"[^\W\d_]+", "A", cell[:100]))


def _fitted(cells: Sequence[str | None], width: int, below: Sequence[Sequence[str | None]]) -> list[str]:
    """A header row's cells as ``width`` texts."""
    texts = [cell or "" for cell in cells]
    if len(texts) == width - 1 and any(len(row) == width and (row[-1] or "").strip() for row in below[:50]):
        return ["", *texts]  # the column of row names has no label
    while len(texts) > width and "" in texts:
        del texts[len(texts) - 1 - texts[::-1].index("")]
    return texts[:width] + [""] * (width - len(texts))


def _joined(header: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """One label per column from the header's rows; a group's name goes to all the columns below it."""
    spread = []
    for depth, row in enumerate(header):
        cells, under = list(row), header[depth + 1 :]
        if sum(1 for cell in cells if cell) > 1:
            for j in range(1, len(cells)):
                if not cells[j] and cells[j - 1] and any(below[j] for below in under):
                    cells[j] = cells[j - 1]
        spread.append(cells)
    return tuple(" ".join(part for part in parts if part) for parts in zip(*spread, strict=True))
