"""How a delimited text is written: found out from its first megabyte."""

from __future__ import annotations

from dataclasses import dataclass, field

from etl_container.formats.base import Dialect, ReadOptions


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a table lies in a text and how it is written."""

    dialect: Dialect
    labels: tuple[str, ...]
    data_line: int
    """Physical lines before the first data record."""
    notes: tuple[str, ...] = ()
    others: tuple[str, ...] = field(default=())


def detect(sample: str, options: ReadOptions, *, whole: bool) -> Layout:
    """The layout of the text that begins with ``sample``; ``whole`` says that there is nothing after it."""
    line_end = sample.find("\n")
    first = sample if line_end < 0 else sample[:line_end]
    delimiter = options.delimiter or max(",\t;|", key=first.count)
    labels = tuple(cell.strip('"') for cell in first.rstrip("\r").split(delimiter))
    return Layout(Dialect(delimiter=delimiter, line_terminator="\r\n" if first.endswith("\r") else "\n"), labels, 1)
