"""Finding documents, e-mails, images and sounds by what they say: one SQL statement, the same on every stage.

Loads give the tables of such objects a full-text index (``lake.words``, ``sql/migrations/002_search.sql``) whose
comment says of which kind the rows are. A search asks the catalogue for these, and then all their tables at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from etl_container.formats.kinds import WORDS
from etl_container.schema import WORDS_MARK
from lakectl.errors import NotFoundError, UsageError
from lakectl.targets.base import Target

_TABLES = f"""
select format('%I.%I', n.nspname, c.relname) as name, c.relname::text as label,
       substr(obj_description(i.indexrelid, 'pg_class'), {len(WORDS_MARK) + 1}) as kind,
       exists (select from pg_attribute a
               where a.attrelid = c.oid and a.attname = 'language' and not a.attisdropped)::int
from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
where obj_description(i.indexrelid, 'pg_class') like '{WORDS_MARK}%' order by 2, 3
"""  # noqa: S608  constants of ours


@dataclass(frozen=True, slots=True)
class Hit:
    """One row that a search found."""

    table: str
    kind: str
    key: str
    run: int
    page: int | None
    title: str | None
    rank: float
    """Greater is better; comparable within one search."""
    snippet: str
    """Where the words stand, between « and »."""


def search(target: Target, text: str, *, table: str | None = None, limit: int = 10) -> list[Hit]:
    """The best hits for ``text``, as ``websearch_to_tsquery`` reads it: words, "a phrase", or, -not.

    Raises:
        UsageError: there is nothing in ``text``.
        NotFoundError: ``table`` is none that can be searched.
        WarehouseUnavailableError: no connection.
    """
    if not text.strip():
        raise UsageError("there is nothing to search for", hint='lakectl search "overdue invoice"')
    with target.query(_TABLES, {}) as found:
        tables = [(str(name), str(label), str(kind), bool(int(has))) for name, label, kind, has in found.rows()]
    parts = [_hits(*one) for one in tables if one[2] in WORDS and table in (None, one[1])]
    if table is not None and not parts:
        names = ", ".join(sorted({label for _, label, kind, _ in tables if kind in WORDS})) or "none yet"
        raise NotFoundError(f"no table {table} holds anything to search", hint=f"tables that do: {names}")
    if not parts:
        return []
    with target.query(_statement(parts, limit), {"text": text}) as result:
        return [
            Hit(str(name), str(kind), str(key), int(run), None if page is None else int(page), title, float(rank), said)
            for name, kind, key, run, page, title, rank, said in result.rows()
        ]


def _hits(name: str, label: str, kind: str, has_language: bool) -> str:
    heading, *content = WORDS[kind]
    language = "language" if has_language else "null::text"
    text = " || ' ' || ".join(f"coalesce({column}, '')" for column in content)
    words = f"lake.words({language}, {heading}, {text})"
    literal = label.replace("'", "''")
    page = "page" if kind == "document" else "null::bigint"
    asked = f"lake.asked({language}, :text)"
    return f"""
    select '{literal}' as label, '{kind}' as kind, _lake_run as run, {page} as page, {heading} as title,
           coalesce({heading} || '. ', '') || {text} as content, {language} as language, {asked} as asked,
           ts_rank({words}, {asked}, 1) as rank
    from {name} where {words} @@ lake.asked_in_any(:text) and {words} @@ {asked}"""  # noqa: S608  quoted by format()


def _statement(parts: Sequence[str], limit: int) -> str:
    return f"""
select h.label, h.kind, r.key, h.run, h.page, h.title, h.rank,
       ts_headline(lake.dictionary(h.language), left(h.content, 200000), h.asked,
                   'MaxFragments=2, MinWords=6, MaxWords=18, StartSel=«, StopSel=»') as snippet
from (select * from ({" union all ".join(parts)}) every order by rank desc, run desc, page limit {int(limit)}) h
join lake.runs r on r.id = h.run order by h.rank desc, h.run desc, h.page"""  # noqa: S608
