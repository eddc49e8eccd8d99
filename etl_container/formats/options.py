"""The user's word on how to read a dataset: ``[dataset.NAME.read]`` in ``lake.toml``. Imports nothing heavy."""

from __future__ import annotations

from msgspec import Struct


class ReadOptions(Struct, frozen=True):
    """The user's word on how to read a dataset (``[dataset.NAME.read]``); None means: find out."""

    format: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    escape: str | None = None
    header: bool | int | None = None
    """Whether the first record holds the labels; in delimited text also the number of records that do."""
    skip_lines: int | None = None
    one_table: bool = False
    """Delimited text: all below the header is rows of this table; no footer and no other table is looked for."""
    sheet: str | None = None
    member: str | None = None
    nulls: tuple[str, ...] | None = None
    """Texts that mean null in every column, besides the empty one."""
    unpack: bool = False
    """Uploads land also the members of archives and the attachments of e-mails, as objects of their own."""
    flatten: bool = False
    """JSON: nested objects become columns ``a.b`` instead of jsonb."""
    exact_decimals: bool = False
    """Numbers with a fraction become numeric instead of double precision."""
    timezone: str | None = None
    """What zone a timestamp without one is in; None keeps it without."""
    date_order: str | None = None
    """``dmy`` or ``mdy`` for dates like 03/04/2024; None decides over the column."""
    decimal: str | None = None
    """``,`` or ``.``: the decimal sign where values such as 1,234 leave it open; None decides over the columns."""
