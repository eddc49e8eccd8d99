"""One value at a time: what a text means as a value of a type. Pure, slow, and the definition of what is right.

Columns go through Arrow's kernels (``columns``); only the few values that those cannot take come here.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Final

from etl_container.infer import shapes
from etl_container.infer.shapes import SPACES, TOKENS, Reading, Shape
from etl_container.schema import PgType


class Misfit:
    """The value is none of the type, and why.

    Attributes:
        reason: a sentence.
        digits: after the decimal point, where a numeric column with so many of them would hold the value; else 0.
    """

    def __init__(self, reason: str, digits: int = 0) -> None:
        self.reason = reason
        self.digits = digits


_TRUE = frozenset(("true", "t", "yes", "y", "on", "1"))
_FALSE = frozenset(("false", "f", "no", "n", "off", "0"))
_NAMES: Final = {
    PgType.BOOLEAN: "a boolean",
    PgType.BIGINT: "an integer",
    PgType.DOUBLE: "a number",
    PgType.NUMERIC: "a number",
    PgType.DATE: "a date",
    PgType.TIME: "a time of day",
    PgType.TIMESTAMP: "a timestamp",
    PgType.TIMESTAMPTZ: "a timestamp with a zone",
    PgType.UUID: "a uuid",
    PgType.JSONB: "JSON",
    PgType.BYTEA: "bytes",
    PgType.TEXT: "text",
}


def not_a(kind: PgType, detail: str = "") -> Misfit:
    """``not an integer``."""
    return Misfit(f"not {_NAMES[kind]}{detail}")


@lru_cache(maxsize=256)
def number_pattern(reading: Reading, fraction: bool) -> str:
    """The texts without affix that are numbers in this reading, in the common subset of Python's re and RE2."""
    point = reading.decimal == "."
    whole = "0|[1-9][0-9]*" if not reading.group else "0|[1-9][0-9]{0,3}"
    grouped = ""
    if reading.group:
        sign = {",": ",", ".": r"\.", " ": r"[ \x{00a0}\x{202f}]", "'": r"['\x{2019}]"}[reading.group]
        grouped = f"[1-9][0-9]{{0,2}}(?:{sign}[0-9]{{3}})+"
    if not fraction:
        return f"-?(?:{whole}|{grouped})" if grouped else f"-?(?:{whole})"
    if not point:
        return f"-?(?:(?:{whole}{'|' + grouped if grouped else ''})(?:,[0-9]+)?|,[0-9]+)"
    if grouped:
        return rf"-?(?:(?:{whole})(?:\.[0-9]*)?|{grouped}(?:\.[0-9]+)?|\.[0-9]+)"
    return rf"-?(?:(?:(?:{whole})(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{{1,3}})?|[iI][nN][fF]|[iI]nfinity|INFINITY)"


@lru_cache(maxsize=256)
def _number(reading: Reading, fraction: bool) -> re.Pattern[str]:
    pattern = number_pattern(reading, fraction)
    return re.compile(re.sub(r"\\x\{([0-9a-f]{4})\}", r"\\u\1", pattern), re.ASCII)


def ungrouped(text: str, reading: Reading) -> str:
    """A number of this reading as ``-1234.5``."""
    if reading.group:
        text = re.sub({",": ",", ".": r"\.", " ": "[ \u00a0\u202f]", "'": "['\u2019]"}[reading.group], "", text)
    return text if reading.decimal == "." else text.replace(",", ".")


def canonical(  # noqa: PLR0911 - one return per type
    text: str, wanted: PgType, reading: Reading, scale: int, *, strict: bool, exact: bool, string: bool
) -> str | Misfit | None:
    """The text that Arrow parses to this value, None where it stands for null, a Misfit where it is none.

    ``strict`` takes every spelling that PostgreSQL takes, since somebody has said what the column is; else only what
    inference takes. ``exact`` refuses integers that a double would round. ``string``: from a typed format's string.
    """
    stripped = text.strip(SPACES)
    if wanted is PgType.JSONB:
        return _json(stripped)
    if not stripped or stripped in TOKENS:
        return None
    match wanted:
        case PgType.BIGINT | PgType.DOUBLE | PgType.NUMERIC:
            if string and not strict:
                return not_a(wanted)
            return _canonical_number(stripped, wanted, reading, scale, strict, exact)
        case PgType.BOOLEAN:
            word = stripped.lower()
            if string and not strict:
                return not_a(wanted)
            if word in (_TRUE if strict else ("true",)):
                return "true"
            return "false" if word in (_FALSE if strict else ("false",)) else not_a(wanted)
        case PgType.UUID:
            plain = re.sub(r"^\{|\}$|^urn:uuid:|-", "", stripped.lower()) if strict else stripped.replace("-", "")
            fits = re.fullmatch("[0-9a-fA-F]{32}", plain) and (strict or re.fullmatch(shapes.UUID_PATTERN, stripped))
            return (
                "-".join(plain[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
                if fits
                else (not_a(wanted))
            )
        case PgType.TIME:
            if not strict and not re.fullmatch(shapes.TIME_PATTERN, stripped, re.ASCII):
                return not_a(wanted)
            return shapes.loose_time(stripped) or not_a(wanted)
        case PgType.DATE | PgType.TIMESTAMP | PgType.TIMESTAMPTZ:
            return _canonical_temporal(stripped, wanted, reading, strict, string)
        case _:
            return text


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _json(text: str) -> str | Misfit | None:
    if not text:
        return None
    try:
        json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return not_a(PgType.JSONB)
    return text


def _canonical_number(  # noqa: PLR0911, PLR0912
    text: str, wanted: PgType, reading: Reading, scale: int, strict: bool, exact: bool
) -> str | Misfit:
    fraction = wanted is not PgType.BIGINT
    split = shapes.split_affix(text)
    affix, body = split or ("_", text)
    if affix != reading.affix and not strict:
        return not_a(wanted)
    if _number(reading, fraction).fullmatch(body):
        plain = ungrouped(body, reading)
    elif strict and re.fullmatch(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", body, re.ASCII):
        sign, digits = ("-" if body[0] == "-" else ""), body.lstrip("+-")
        plain = sign + re.sub("^0+(?=[0-9])", "", digits)
        if wanted is PgType.BIGINT and not digits.isdigit():
            return not_a(wanted)
    else:
        return not_a(wanted)
    if wanted is PgType.BIGINT:
        return plain if -(2**63) <= int(plain) < 2**63 else not_a(wanted, " of 64 bits")
    infinite = "n" in plain.lower()
    if wanted is PgType.DOUBLE:
        if not infinite and abs(float(plain)) == float("inf"):
            return not_a(wanted, " that double precision can hold")
        if exact and re.fullmatch("-?[0-9]+", plain) and abs(int(plain)) > shapes.EXACT:
            return not_a(wanted, " that double precision holds exactly")
        return plain
    try:
        value = Decimal(plain)
    except InvalidOperation:
        return not_a(wanted)
    if infinite:
        return not_a(wanted, " that numeric can hold")
    digits_after = max(-int(value.as_tuple().exponent), 0) if value.is_finite() else 0
    if digits_after > scale and value != value.quantize(Decimal(1).scaleb(-scale)):
        finer = not_a(wanted, f" with at most {scale} digits after the decimal point")
        return Misfit(finer.reason, digits_after)
    if value and value.adjusted() + 1 + scale > 38:
        return not_a(wanted, " of at most 38 digits")
    return f"{value:f}"


def _canonical_temporal(text: str, wanted: PgType, reading: Reading, strict: bool, string: bool) -> str | Misfit:  # noqa: PLR0911
    state = shapes.classify_string(text) if string else shapes.classify(text)
    shape = state.shapes & shapes.TEMPORAL
    if not shape:
        return not_a(wanted)
    orders = {
        Shape.SAME_ORDER: {"dmy", "mdy"},
        Shape.DAY_FIRST: {"dmy"},
        Shape.MONTH_FIRST: {"mdy"},
        Shape.YEAR_FIRST: {"ymd"},
        Shape.NAMED_MONTH: {"named"},
    }.get(shape, {"iso", "ymd"})
    if reading.order not in orders and not (strict and (len(orders) == 1 or "iso" in orders)):
        return not_a(wanted, "" if len(orders) == 1 else ": day first or month first?")
    if state.marks and reading.mark not in state.marks and not strict:
        return not_a(wanted)
    if "iso" in orders:
        day, clock = text[:10], text[10:].strip(" T")
    else:
        day, clock = _day_and_clock(text, reading.order if reading.order in orders else next(iter(orders)))
    match = re.fullmatch(r"([0-9:.]*) ?(.*)", clock)
    clock, zone = match.groups() if match else (clock, "")
    if wanted is PgType.DATE:
        midnight = not clock.strip("0:.") and not zone
        return day if (midnight and (strict or not clock)) else not_a(wanted, ": it has a time of day")
    whole, _, part = (clock or "00:00:00").partition(".")
    moment = f"{day} {whole}" + (f".{part[:6]}" if part else "")
    zone = "Z" if zone.upper() in ("Z", "UTC", "GMT") else zone
    if wanted is PgType.TIMESTAMPTZ:
        if not zone and reading.timezone is None:
            return not_a(wanted, ": it says no zone")
        return moment + zone
    return not_a(wanted, " without a zone") if zone else moment


def _day_and_clock(text: str, order: str) -> tuple[str, str]:
    """A date that is not in ISO form, as its ISO date and time of day (empty when it says none)."""
    if order == "named":
        match = shapes.NAMED.fullmatch(text)
        assert match is not None
        month = shapes.MONTHS.index((match["m"] or match["n"])[:3].lower()) + 1
        year, day = int(match["c"]), int(match["d"] or match["e"])
    else:
        match = (shapes.YEAR_FIRST_TEXT if order == "ymd" else shapes.ORDERED_TEXT).fullmatch(text)
        assert match is not None
        a, b, c = (int(match[part]) for part in "abc")
        year, month, day = {"ymd": (a, b, c), "dmy": (c, b, a), "mdy": (c, a, b)}[order]
    return f"{year:04d}-{month:02d}-{day:02d}", (shapes.loose_time(match["t"]) or "") if match["t"] else ""
