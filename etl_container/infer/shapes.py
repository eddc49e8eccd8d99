"""What a text looks like, and what a column of such texts is. Pure: no Arrow.

A value has exactly one :class:`Shape` (``classify``), whatever its neighbours are. A column's :class:`State` is the
union of its values' shapes plus a few maxima: adding values is a join (commutative, associative, idempotent), so no
order of rows and no cut into batches can change it. What the column *is* (``resolve``) is a function of the state.
"""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from etl_container.formats.options import ReadOptions
from etl_container.schema import PgType

SPACES = " \t\r\n\f\v\u00a0\ufeff"
"""What may surround a value of a type other than text."""

NULL_TOKENS = (
    *("NA", "N/A", "n/a", "na", "N.A.", "#N/A", "#NA", "<NA>", "null", "NULL", "Null", "None", "none", "NONE", "nil"),
    *("nan", "NaN", "NAN", "-nan", "-NaN", "NaT", "-", "--", "---", "\u2013", "\u2014", "?", ".", "\\N", "(null)"),
    *("#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!"),
)
"""Texts that are nulls in a column whose other values all are of one type other than text."""

TOKENS = frozenset(NULL_TOKENS)

LONGEST = 64
"""Characters: no longer text is anything but text, or a plain number."""

EXACT = 2**53
"""Every integer up to this is exact in a double precision."""


class Shape:
    """What one value looks like (exactly one of the shapes), and what its magnitude adds: bits of plain integers.

    Not an ``enum.Flag``, whose operators cost 2 µs each.
    """

    EMPTY = 1 << 0
    TOKEN = 1 << 1
    INT = 1 << 2
    POINT = 1 << 3
    """``1.5``, ``.5``, ``12345.678``"""
    POINT3 = 1 << 4
    """``1.234``: a fraction, or thousands where the comma is the decimal sign"""
    EXP = 1 << 5
    INF = 1 << 6
    COMMA = 1 << 7
    """``1,5``"""
    COMMA3 = 1 << 8
    """``1,234``: thousands, or a fraction where the comma is the decimal sign"""
    US_INT = 1 << 9
    """``1,234,567``"""
    US_FRACTION = 1 << 10
    """``1,234.5``"""
    EU_INT = 1 << 11
    EU_FRACTION = 1 << 12
    SPACE_INT = 1 << 13
    """``1 234``: thousands only where another value of the column leaves no doubt"""
    HARD_INT = 1 << 14
    """the same with a no-break space"""
    SPACE_POINT = 1 << 15
    SPACE_COMMA = 1 << 16
    QUOTE_INT = 1 << 17
    """``1'234``"""
    QUOTE_POINT = 1 << 18
    BOOL = 1 << 19
    DATE = 1 << 20
    STAMP = 1 << 21
    STAMPZ = 1 << 22
    ZONE_WORD = 1 << 23
    """a zone after a space, or ``UTC``"""
    YEAR_FIRST = 1 << 24
    """``2024/3/4``, ``2024-3-4``, ``2024.03.04``"""
    SAME_ORDER = 1 << 25
    """``03/04/2024``: either order"""
    DAY_FIRST = 1 << 26
    MONTH_FIRST = 1 << 27
    NAMED_MONTH = 1 << 28
    """``3 Jan 2024``, ``03-Jan-2024``, ``Jan 3, 2024``"""
    TIME = 1 << 29
    UUID = 1 << 30
    OTHER = 1 << 31
    # What the magnitude of a number, or a part of a date, adds:
    LONG = 1 << 32
    """five or more digits before the decimal sign, ungrouped"""
    INEXACT = 1 << 33
    """an integer that a double cannot hold"""
    BIG = 1 << 34
    """an integer beyond 64 bits"""
    CLOCK = 1 << 35
    """a date that is not in ISO form has a time of day"""
    NANOS = 1 << 36
    """a fraction of a second finer than a microsecond"""


PLAIN = Shape.INT | Shape.POINT | Shape.POINT3 | Shape.EXP | Shape.INF
US = Shape.US_INT | Shape.US_FRACTION
EU = Shape.EU_INT | Shape.EU_FRACTION
SPACED = Shape.SPACE_INT | Shape.HARD_INT | Shape.SPACE_POINT | Shape.SPACE_COMMA
QUOTED = Shape.QUOTE_INT | Shape.QUOTE_POINT
NUMBER = PLAIN | Shape.COMMA | Shape.COMMA3 | US | EU | SPACED | QUOTED
ISO = Shape.DATE | Shape.STAMP | Shape.STAMPZ | Shape.ZONE_WORD
ORDERED = Shape.SAME_ORDER | Shape.DAY_FIRST | Shape.MONTH_FIRST
TEMPORAL = ISO | Shape.YEAR_FIRST | ORDERED | Shape.NAMED_MONTH
_FAMILIES = (NUMBER, Shape.BOOL, TEMPORAL, Shape.TIME, Shape.UUID)
ADDED = Shape.LONG | Shape.INEXACT | Shape.BIG | Shape.CLOCK | Shape.NANOS
ABSENT = Shape.EMPTY | Shape.TOKEN
STRING_SHAPES = ABSENT | TEMPORAL | Shape.UUID | ADDED | Shape.OTHER
"""What a string of a typed format can be."""

# The grammar of numbers, in the subset that Python's re and RE2 share. Order matters: the first that matches is it.
_U = "-?(?:0|[1-9][0-9]*)"
_G = "-?[1-9][0-9]{0,2}"
NUMBER_PATTERNS: tuple[tuple[int, str], ...] = (
    (Shape.INT, _U),
    (Shape.POINT3, _G + r"\.[0-9]{3}"),
    (Shape.POINT, rf"(?:{_U}\.[0-9]*|-?\.[0-9]+)"),
    (Shape.EXP, rf"(?:{_U}(?:\.[0-9]*)?|-?\.[0-9]+)[eE][+-]?[0-9]{{1,3}}"),
    (Shape.INF, r"-?(?:[iI][nN][fF]|[iI]nfinity|INFINITY)"),
    (Shape.COMMA3, _G + ",[0-9]{3}"),
    (Shape.COMMA, rf"(?:{_U}|-)?,[0-9]+"),
    (Shape.US_INT, _G + "(?:,[0-9]{3}){2,}"),
    (Shape.US_FRACTION, _G + r"(?:,[0-9]{3})+\.[0-9]+"),
    (Shape.EU_INT, _G + r"(?:\.[0-9]{3}){2,}"),
    (Shape.EU_FRACTION, _G + r"(?:\.[0-9]{3})+,[0-9]+"),
    (Shape.SPACE_INT, _G + "(?: [0-9]{3})+"),
    (Shape.HARD_INT, _G + "(?:[\u00a0\u202f][0-9]{3})+"),
    (Shape.SPACE_POINT, _G + r"(?:[ \x{00a0}\x{202f}][0-9]{3})+\.[0-9]+"),
    (Shape.SPACE_COMMA, _G + r"(?:[ \x{00a0}\x{202f}][0-9]{3})+,[0-9]+"),
    (Shape.QUOTE_INT, _G + "(?:['\u2019][0-9]{3})+"),
    (Shape.QUOTE_POINT, _G + r"(?:['\x{2019}][0-9]{3})+\.[0-9]+"),
)
_SYMBOL = (
    r"US\$|R\$|C\$|A\$|[$€£¥₹₽₩₺₴₫฿₪]|"
    r"USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR|Kč|zł|kr"
)
_AFFIXED = re.compile(rf"(-?)(?:({_SYMBOL}) ?(-?)([^ ].*)|(.*[^ -]) ?({_SYMBOL}|%))", re.ASCII)

DAY_PATTERN = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
CLOCK_PATTERN = r"(?:[01][0-9]|2[0-3])(?::[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?)?"
_NANO = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{7,9}"
_OFFSET = r"[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?"
_LOOSE_CLOCK = r"[ T,]{1,2}[0-9]{1,2}:[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?(?: ?[AaPp]\.?[Mm]\.?)?"
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)"
)
ISO_PATTERNS: tuple[tuple[int, str], ...] = (
    (Shape.DATE, DAY_PATTERN),
    (Shape.STAMP, rf"{DAY_PATTERN}[ T]{CLOCK_PATTERN}"),
    (Shape.STAMPZ, rf"{DAY_PATTERN}[ T]{CLOCK_PATTERN}(?:Z|{_OFFSET})"),
    (Shape.STAMP | Shape.NANOS, rf"{DAY_PATTERN}[ T]{_NANO}"),
    (Shape.STAMPZ | Shape.NANOS, rf"{DAY_PATTERN}[ T]{_NANO}(?:Z|{_OFFSET})"),
    (Shape.STAMPZ | Shape.ZONE_WORD, rf"{DAY_PATTERN}[ T]{CLOCK_PATTERN}(?:z| {_OFFSET}| ?UTC| ?GMT| Z)"),
)
UUID_PATTERN = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
BOOL_PATTERN = "[tT][rR][uU][eE]|[fF][aA][lL][sS][eE]"
TIME_PATTERN = r"(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?"
STRICT_CLOCK_PATTERN = (
    r"[ T,]{1,2}(?:(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?"
    r"|(?:0?[1-9]|1[0-2]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)? ?[AaPp]\.?[Mm]\.?)"
)
"""A time of day that exists, after a date that is not in ISO form."""
YEAR_FIRST_DAY = "(?P<a>[0-9]{4})(?P<s>[-/.])(?P<b>[0-9]{1,2})[-/.](?P<c>[0-9]{1,2})"
ORDERED_DAY = "(?P<a>[0-9]{1,2})(?P<s>[-/.])(?P<b>[0-9]{1,2})[-/.](?P<c>[0-9]{4})"
NAMED_DAY = (
    rf"(?i:(?:(?P<d>[0-9]{{1,2}})[ -/](?P<m>{_MONTH})[ -/]|(?P<n>{_MONTH})\.? (?P<e>[0-9]{{1,2}}),? )"
    rf"(?P<c>[0-9]{{4}}))"
)
YEAR_FIRST_PATTERN = f"{YEAR_FIRST_DAY}(?P<t>{_LOOSE_CLOCK})?"
ORDERED_PATTERN = f"{ORDERED_DAY}(?P<t>{_LOOSE_CLOCK})?"
NAMED_PATTERN = f"{NAMED_DAY}(?P<t>{_LOOSE_CLOCK})?"


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\x\{([0-9a-f]{4})\}", r"\\u\1", pattern), re.ASCII)


_NUMBER = _compiled("|".join(f"(?P<n{place}>{pattern})" for place, (_, pattern) in enumerate(NUMBER_PATTERNS)))
_ISO = [(shape, _compiled(pattern)) for shape, pattern in ISO_PATTERNS]
_UUID, _BOOL, _TIME = _compiled(UUID_PATTERN), _compiled(BOOL_PATTERN), _compiled(TIME_PATTERN)
YEAR_FIRST_TEXT, ORDERED_TEXT, NAMED = (
    _compiled(YEAR_FIRST_PATTERN),
    _compiled(ORDERED_PATTERN),
    _compiled(NAMED_PATTERN),
)


class State(Struct, frozen=True):
    """Everything that is remembered of a column's texts. ``a | b`` is the state of both columns' values together."""

    shapes: int = 0
    affixes: frozenset[str] = frozenset()
    """The currency and percent signs of the numbers: ``$_``, ``_€``, ``_%``; ``_`` is a number without."""
    marks: frozenset[str] = frozenset()
    """The separators of dates that are not in ISO form."""
    digits: int = 0
    """The most digits before the decimal sign."""
    point_scale: int = 0
    """The most digits after a decimal point."""
    comma_scale: int = 0
    """The most digits after a decimal comma."""

    def __or__(self, other: State) -> State:
        if self == other:
            return self
        return State(
            self.shapes | other.shapes,
            self.affixes | other.affixes,
            self.marks | other.marks,
            max(self.digits, other.digits),
            max(self.point_scale, other.point_scale),
            max(self.comma_scale, other.comma_scale),
        )

    @property
    def hopeless(self) -> bool:
        """No further value can make this anything but text."""
        shapes = self.shapes
        if shapes & Shape.OTHER or len(self.affixes) > 1:
            return True
        return len([family for family in _FAMILIES if shapes & family]) > 1


NOTHING = State()
TEXT = State(Shape.OTHER)


def classify(text: str) -> State:
    """The state of one untyped text (CSV)."""
    if len(text) > LONGEST:
        return _number(text.strip(SPACES), "_") or TEXT
    return _classified(text)


@lru_cache(maxsize=8192)
def _classified(text: str) -> State:
    text = text.strip(SPACES)
    if not text:
        return State(Shape.EMPTY)
    if text in TOKENS:
        return State(Shape.TOKEN)
    return _number(text, "_") or _affixed(text) or _temporal(text) or _word(text) or TEXT


def classify_date(text: str) -> State:
    """The state of a text that is known to be no number and to have no spaces around it."""
    return _temporal(text) or TEXT


def classify_string(text: str) -> State:
    """The state of one string of a typed format: never a number, never a boolean; dates in ISO form only."""
    if len(text) > LONGEST:
        return TEXT
    text = text.strip(SPACES)
    if not text:
        return State(Shape.EMPTY)
    if text in TOKENS:
        return State(Shape.TOKEN)
    if _UUID.fullmatch(text):
        return State(Shape.UUID)
    return _iso(text) or TEXT


def _word(text: str) -> State | None:
    for shape, pattern in ((Shape.BOOL, _BOOL), (Shape.UUID, _UUID), (Shape.TIME, _TIME)):
        if pattern.fullmatch(text):
            return State(shape)
    return None


def _number(text: str, affix: str) -> State | None:
    match = _NUMBER.fullmatch(text)
    if match is None or match.lastgroup is None:
        return None
    shape = NUMBER_PATTERNS[int(match.lastgroup[1:])][0]
    return replace(_measured(shape, text), affixes=frozenset((affix,)))


def _measured(shape: int, text: str) -> State:
    """The state of a number that is known to have this shape."""
    body = text.lstrip("-")
    if shape == Shape.INT:
        return integer_state(int(text))
    if shape == Shape.INF:
        return State(shape)
    if shape == Shape.EXP:
        mantissa, exponent = re.split("[eE]", body)
        if float(text) in (float("inf"), float("-inf")):
            return TEXT
        whole, _, fraction = mantissa.partition(".")
        power = int(exponent)
        return State(shape, digits=max(len(whole) + power, 1), point_scale=max(len(fraction) - power, 0))
    if shape in (Shape.US_INT, Shape.EU_INT, Shape.SPACE_INT, Shape.HARD_INT, Shape.QUOTE_INT):
        whole = re.sub("[^0-9]", "", body)
        return State(shape | _size(int(whole)), digits=len(whole))
    comma = shape in (Shape.COMMA, Shape.COMMA3, Shape.EU_FRACTION, Shape.SPACE_COMMA)
    whole, _, fraction = body.rpartition("," if comma else ".")
    count = max(sum(char.isdigit() for char in whole), 1)
    long = Shape.LONG if shape in (Shape.POINT, Shape.COMMA) and count >= 5 else 0
    scale = 0 if shape in (Shape.POINT3, Shape.COMMA3) else len(fraction)
    return State(shape | long, digits=count, point_scale=0 if comma else scale, comma_scale=scale if comma else 0)


def integer_state(value: int) -> State:
    """The state of a plainly written integer."""
    long = Shape.LONG if abs(value) >= 10_000 else 0
    return State(Shape.INT | long | _size(value), frozenset(("_",)), digits=len(str(abs(value))))


def _size(value: int) -> int:
    size = Shape.INEXACT if abs(value) > EXACT else 0
    return size if -(2**63) <= value < 2**63 else size | Shape.BIG


def split_affix(text: str) -> tuple[str, str] | None:
    """The affix (``$_``, ``_%``) and the number without it; None when there is none."""
    match = _AFFIXED.fullmatch(text)
    if match is None:
        return None
    sign, before, inner, after, body, behind = match.groups()
    if before:
        return (f"{before}_", sign + inner + after) if not (sign and inner) else None
    return f"_{behind}", sign + body


def _affixed(text: str) -> State | None:
    split = split_affix(text)
    return None if split is None else _number(split[1], split[0])


def _iso(text: str) -> State | None:
    for shape, pattern in _ISO:
        if pattern.fullmatch(text):
            return State(shape) if real_date(int(text[:4]), int(text[5:7]), int(text[8:10])) else TEXT
    return None


def real_date(year: int, month: int, day: int) -> bool:
    """Whether there is such a day in the years 1 to 9999."""
    try:
        dt.date(year, month, day)
    except ValueError:
        return False
    return True


def _temporal(text: str) -> State | None:
    if (iso := _iso(text)) is not None:
        return iso
    if match := YEAR_FIRST_TEXT.fullmatch(text):
        shape = Shape.YEAR_FIRST if real_date(*(int(match[part]) for part in "abc")) else Shape.OTHER
    elif match := ORDERED_TEXT.fullmatch(text):
        a, b, year = (int(match[part]) for part in "abc")
        day_first, month_first = real_date(year, b, a), real_date(year, a, b)
        shape = {
            (True, True): Shape.SAME_ORDER,
            (True, False): Shape.DAY_FIRST,
            (False, True): Shape.MONTH_FIRST,
            (False, False): Shape.OTHER,
        }[day_first, month_first]
    elif match := NAMED.fullmatch(text):
        month = MONTHS.index((match["m"] or match["n"])[:3].lower()) + 1
        day = int(match["d"] or match["e"])
        return _clocked(Shape.NAMED_MONTH if real_date(int(match["c"]), month, day) else Shape.OTHER, match["t"], "")
    else:
        return None
    separators = set(re.findall("[-/.]", text[: match.end("c")]))
    return _clocked(shape if len(separators) == 1 else Shape.OTHER, match["t"], match["s"])


def _clocked(shape: int, clock: str | None, mark: str) -> State:
    if shape == Shape.OTHER or (clock and loose_time(clock) is None):
        return TEXT
    nanos = Shape.NANOS if clock and re.search(r"\.[0-9]{7}", clock) else 0
    return State(shape | nanos | (Shape.CLOCK if clock else 0), marks=frozenset((mark,) if mark else ()))


def loose_time(clock: str) -> str | None:
    """``3:04 PM`` as ``15:04:00``; None when there is no such time of day."""
    match = re.fullmatch(r"[ T,]*([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(\.[0-9]{1,6})?[0-9]*)?(?: ?([AaPp])\S*)?", clock)
    if match is None:
        return None
    hour = int(match[1])
    if match[5]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if match[5] in "Pp" else 0)
    return f"{hour:02d}:{match[2]}:{match[3] or '00'}{match[4] or ''}" if hour < 24 else None


class Hints(NamedTuple):
    """What the other columns of the file say."""

    decimal: str | None = None
    date_order: str | None = None


NO_HINTS = Hints()


class Reading(Struct, frozen=True):
    """How a column's texts are read. The default is the plain way: ``-1234.5``, ISO 8601, ``true``."""

    type: PgType | None
    """None while there are only nulls."""
    scale: int = 0
    """Digits after the decimal sign, for numeric."""
    open: bool = False
    """Text only because the values seen so far leave it open what they are."""
    decimal: str = "."
    group: str = ""
    """The thousands separator: ``,``, ``.``, a space or an apostrophe; empty for none."""
    affix: str = "_"
    order: str = "iso"
    """Of dates: ``iso``, ``ymd``, ``dmy``, ``mdy``, ``named``."""
    mark: str = ""
    """The separator of dates that are not in ISO form."""
    timezone: str | None = None
    """The zone of timestamps that say none."""
    notes: tuple[str, ...] = field(default=())

    @property
    def plain(self) -> bool:
        """Nothing about it is special."""
        return (self.decimal, self.group, self.affix, self.order, self.timezone) == (".", "", "_", "iso", None)


def _text(*notes: str, open: bool = False) -> Reading:  # noqa: A002 - the field's name
    return Reading(PgType.TEXT, open=open, notes=notes)


def resolve(state: State, options: ReadOptions, hints: Hints = NO_HINTS) -> Reading:
    """What a column in this state is."""
    shapes = state.shapes & ~ADDED & ~ABSENT
    if not shapes:
        if state.shapes & Shape.TOKEN:
            return _text(open=True)
        return _text(open=True) if state.shapes & Shape.EMPTY else Reading(None)
    if state.hopeless:
        return _text()
    if shapes & NUMBER:
        return _resolve_number(state, shapes, options, hints)
    if shapes & TEMPORAL:
        return _resolve_temporal(state, shapes, options, hints)
    return Reading({Shape.BOOL: PgType.BOOLEAN, Shape.TIME: PgType.TIME, Shape.UUID: PgType.UUID}[shapes])


def decimal_evidence(state: State) -> str | None:
    """The decimal sign that the column's values prove; None when they prove none (or two)."""
    if state.hopeless:
        return None
    point = state.shapes & (Shape.POINT | Shape.EXP | US | Shape.SPACE_POINT | Shape.QUOTE_POINT)
    comma = state.shapes & (Shape.COMMA | EU | Shape.SPACE_COMMA)
    return None if bool(point) == bool(comma) else "." if point else ","


def order_evidence(state: State) -> str | None:
    """The order of day and month that the column's values prove; None when they prove none (or two)."""
    if state.hopeless or state.shapes & TEMPORAL & ~ORDERED:
        return None
    day = bool(state.shapes & Shape.DAY_FIRST) or "." in state.marks
    month = bool(state.shapes & Shape.MONTH_FIRST)
    return None if day == month else "dmy" if day else "mdy"


def _resolve_number(state: State, shapes: int, options: ReadOptions, hints: Hints) -> Reading:  # noqa: PLR0911
    affix = next(iter(state.affixes))
    separators = _separators(state, shapes, affix, hints)
    if isinstance(separators, Reading):
        return separators
    decimal, group = separators
    unusual = group or decimal == ","
    if (group and state.shapes & Shape.LONG) or (unusual and shapes & (Shape.EXP | Shape.INF)):
        return _text()
    if group == "'" and decimal == ",":
        return _text()
    if shapes & Shape.SPACE_INT and not shapes & (Shape.HARD_INT | Shape.SPACE_POINT | Shape.SPACE_COMMA):
        return _text("numbers in groups of three such as 1 234 kept as text", open=True)
    if shapes == Shape.INF:
        return _text(open=True)
    notes = _number_notes(decimal, group, affix)
    if decimal == ".":
        fraction = shapes & (
            Shape.POINT | Shape.POINT3 | Shape.EXP | Shape.US_FRACTION | Shape.SPACE_POINT | Shape.QUOTE_POINT
        )
        scale = max(state.point_scale, 3 if shapes & Shape.POINT3 else 0)
    else:
        fraction = shapes & (Shape.COMMA | Shape.COMMA3 | Shape.EU_FRACTION | Shape.SPACE_COMMA)
        scale = max(state.comma_scale, 3 if shapes & Shape.COMMA3 else 0)
    digits = max(state.digits, 6 if shapes & (Shape.POINT3 | Shape.COMMA3) and group else 0)
    reading = Reading(PgType.BIGINT, 0, False, decimal, group, affix, notes=notes)
    if not fraction and not shapes & Shape.INF:
        if not state.shapes & Shape.BIG:
            return reading
        wanted, scale = PgType.NUMERIC, 0
    else:
        exact = options.exact_decimals or state.shapes & Shape.INEXACT
        wanted = PgType.NUMERIC if exact else PgType.DOUBLE
    if wanted is PgType.NUMERIC and (digits + scale > 38 or shapes & Shape.INF):
        return _text("numbers of more than 38 digits kept as text")
    # A double's digits count, too: a contract may want the column as numeric.
    return replace(reading, type=wanted, scale=scale if digits + scale <= 38 else 0)


def _separators(state: State, shapes: int, affix: str, hints: Hints) -> tuple[str, str] | Reading:
    """The decimal sign and the thousands separator, or why there are none."""
    point = bool(shapes & (Shape.POINT | Shape.EXP | US | Shape.SPACE_POINT | Shape.QUOTE_POINT))
    comma = bool(shapes & (Shape.COMMA | EU | Shape.SPACE_COMMA))
    groups = {sign for sign, family in ((",", US), (".", EU), (" ", SPACED), ("'", QUOTED)) if shapes & family}
    if (point and comma) or len(groups) > 1:
        return _text()
    decimal = "." if point else "," if comma else None
    if decimal is None:
        hint = hints.decimal or ("." if affix in ("$_", "£_", "US$_") else None)
        if shapes & Shape.COMMA3:
            decimal = "," if groups and not shapes & Shape.POINT3 else hint
            if decimal is None:
                why = "numbers such as 1,234 kept as text: the comma may be a thousands separator or a decimal sign"
                return _text(why, open=True)
        elif shapes & Shape.POINT3 and not groups:
            decimal = hint or "."
        else:
            decimal = "."
    if decimal == "," and shapes & Shape.POINT3:
        groups.add(".")
    if decimal == "." and shapes & Shape.COMMA3:
        groups.add(",")
    if len(groups) > 1:
        return _text()
    return decimal, next(iter(groups), "")


def _number_notes(decimal: str, group: str, affix: str) -> tuple[str, ...]:
    notes = []
    if decimal == ",":
        notes.append("decimal comma")
    if group:
        names = {",": "a comma", ".": "a point", " ": "a space", "'": "an apostrophe"}
        notes.append(f"{names[group]} separates thousands")
    if affix == "_%":
        notes.append("percent sign removed, the number is as written")
    elif affix != "_":
        notes.append(f"currency sign {affix.strip('_')} removed")
    return tuple(notes)


def _resolve_temporal(state: State, shapes: int, options: ReadOptions, hints: Hints) -> Reading:  # noqa: PLR0911
    nanos = ("fractions of a second beyond microseconds cut",) if state.shapes & Shape.NANOS else ()
    clock = bool(state.shapes & Shape.CLOCK)
    naive = PgType.TIMESTAMPTZ if options.timezone else PgType.TIMESTAMP
    zone = options.timezone
    mark = next(iter(state.marks), "")
    unpadded = shapes & Shape.YEAR_FIRST and state.marks == {"-"}
    if not shapes & ~(ISO | (Shape.YEAR_FIRST if unpadded else 0)):
        order = "ymd" if unpadded else "iso"
        if shapes & (Shape.STAMPZ | Shape.ZONE_WORD):
            if shapes & (Shape.DATE | Shape.STAMP | Shape.YEAR_FIRST):
                if zone is None:
                    return _text("timestamps with and without a zone kept as text: set timezone")
                return Reading(PgType.TIMESTAMPTZ, order=order, mark=mark, timezone=zone, notes=nanos)
            return Reading(PgType.TIMESTAMPTZ, order=order, mark=mark, notes=nanos)
        if shapes & Shape.STAMP or clock:
            return Reading(naive, order=order, mark=mark, timezone=zone, notes=nanos)
        return Reading(PgType.DATE, order=order, mark=mark)
    kind, zone = (naive, zone) if clock else (PgType.DATE, None)
    if shapes == Shape.YEAR_FIRST:
        return Reading(kind, order="ymd", mark=mark, timezone=zone, notes=nanos) if len(state.marks) == 1 else _text()
    if shapes == Shape.NAMED_MONTH:
        return Reading(kind, order="named", timezone=zone, notes=nanos)
    if shapes & ~ORDERED or len(state.marks) > 1:
        return _text()
    day = bool(shapes & Shape.DAY_FIRST) or "." in state.marks
    month = bool(shapes & Shape.MONTH_FIRST)
    if day and month:
        return _text("dates both day first and month first kept as text")
    order = "dmy" if day else "mdy" if month else options.date_order or hints.date_order or ""
    if not order:
        return _text("dates such as 03/04/2024 kept as text: either order fits all of them; set date_order", open=True)
    told = "day first" if order == "dmy" else "month first"
    return Reading(
        kind, order=order, mark=mark, timezone=zone, notes=(f"dates such as 03/04/2024 are read {told}", *nanos)
    )
