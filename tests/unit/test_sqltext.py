from __future__ import annotations

import pytest

from lakectl import sqltext
from lakectl.errors import UsageError


@pytest.mark.parametrize(
    ("sql", "bound"),
    [
        ("select :a", "select %(a)s"),
        ("select :a::text, x::a", "select %(a)s::text, x::a"),
        ("select ':a', :a", "select ':a', %(a)s"),
        ("select 'it''s :a', :a", "select 'it''s :a', %(a)s"),
        (r"select E'\':a', :a", r"select E'\':a', %(a)s"),
        ('select ":a", :a', 'select ":a", %(a)s'),
        ("select :a -- :b\n", "select %(a)s -- :b\n"),
        ("select :a /* :b /* :c */ :d */", "select %(a)s /* :b /* :c */ :d */"),
        ("select $$:b$$, $x$ $$ :b $x$, :a", "select $$:b$$, $x$ $$ :b $x$, %(a)s"),
        ("select a[1:b], :a", "select a[1:b], %(a)s"),
        ("select 100 % :a, 'x%'", "select 100 %% %(a)s, 'x%%'"),
        ("select (:a)", "select (%(a)s)"),
        ("select x=:a", "select x=%(a)s"),
        ("do :a; x := 1", "do %(a)s; x := 1"),
    ],
)
def test_names_are_bound_where_postgres_would_see_an_expression(sql, bound):
    assert sqltext.bind(sql, {"a"}) == bound


def test_without_values_the_statement_stays_as_it_is():
    assert sqltext.bind("select 'x%' like '%'", ()) == "select 'x%' like '%'"


def test_a_name_without_a_value_and_a_value_without_a_name_are_told():
    with pytest.raises(UsageError, match=":b has no value"):
        sqltext.bind("select :a, :b", {"a"})
    with pytest.raises(UsageError, match="no parameter :b"):
        sqltext.bind("select :a", {"a", "b"})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("select 1", ["select 1"]),
        ("select 1;", ["select 1"]),
        ("select 1; ; -- end\n", ["select 1"]),
        ("select ';'; select 2", ["select ';'", "select 2"]),
        ("select $$;$$; /* ; */ select 2;", ["select $$;$$", "/* ; */ select 2"]),
        ("", []),
        ("-- only a remark", []),
        ("select 'never closed;", ["select 'never closed;"]),
    ],
)
def test_statements_end_at_semicolons_outside_strings_and_comments(text, found):
    assert sqltext.statements(text) == found


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("select 1", False),
        ("select 1;", True),
        ("select 1; -- done", True),
        ("select ';", False),
        ("select 1; select 2", False),
        ("select 1 -- ;", False),
        ("select $$ ; ", False),
    ],
)
def test_enter_runs_only_a_complete_statement(text, complete):
    assert sqltext.is_complete(text) is complete
