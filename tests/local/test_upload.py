"""Files in, rows out: what a load promises, on a real PostgreSQL."""

from __future__ import annotations

import gzip
import json
from datetime import date

import psycopg2
import pytest

from etl_container.errors import UsageError
from tests.local.conftest import Lake, csv_text

TRIPS = csv_text("id,city,fare", ["1,Bern,10.5", "2,Genève,20", "3,,30.25"])


def test_a_file_becomes_a_table_with_its_types_and_labels(lake: Lake) -> None:
    report = lake.upload("a.csv", csv_text("Trip ID,City,Größe (m²),When", ["1,Bern,1.5,2024-01-02"]))
    assert (report.state, report.rows, report.rejects) == ("loaded", 1, 0)
    assert lake.types() == {"trip_id": "bigint", "city": "text", "grosse_m2": "double precision", "when": "date"}
    (info,) = lake.target.tables()
    assert [column.label for column in info.columns] == ["Trip ID", "City", "Größe (m²)", "When"]
    assert lake.sql('select trip_id, city, grosse_m2, "when" from t') == [(1, "Bern", 1.5, date(2024, 1, 2))]


def test_uploading_the_same_file_twice_loads_it_once(lake: Lake) -> None:
    first = lake.upload("a.csv", TRIPS)
    second = lake.upload("a.csv", TRIPS)
    assert (first.state, second.state) == ("loaded", "already_loaded")
    assert second.run == first.run
    assert lake.value("select count(*) from t") == 3
    assert [run.state for run in lake.target.runs()] == ["already_loaded", "loaded"]


def test_a_changed_file_replaces_only_its_own_rows(lake: Lake) -> None:
    lake.upload("a.csv", TRIPS)
    lake.upload("b.csv", csv_text("id,city,fare", ["9,Chur,1"]))
    changed = lake.upload("a.csv", TRIPS.replace("2,Genève", "7,Genève"))
    assert changed.state == "loaded"
    assert lake.sql("select id from t order by id") == [(1,), (3,), (7,), (9,)]
    assert lake.states("raw/t/a.csv") == ["superseded", "loaded"]


def test_undo_takes_a_runs_rows_away_and_brings_back_what_it_replaced(lake: Lake) -> None:
    lake.upload("a.csv", TRIPS)
    second = lake.upload("a.csv", TRIPS.replace("2,Genève", "7,Genève"))
    assert second.run
    undone = lake.target.undo(second.run)
    assert (undone.removed, undone.restored) == (3, 3)
    assert lake.sql("select id from t order by id") == [(1,), (2,), (3,)]
    assert lake.states("raw/t/a.csv") == ["loaded", "undone"]
    with pytest.raises(UsageError, match="no rows to take away: it is undone"):
        lake.target.undo(second.run)


def test_rows_of_every_run_are_told_apart_by_the_lineage_column(lake: Lake) -> None:
    first = lake.upload("a.csv", TRIPS)
    second = lake.upload("b.csv", csv_text("id,city,fare", ["9,Chur,1"]))
    by_run = "select _lake_run::text, count(*) from t group by 1 order by min(id)"
    assert lake.sql(by_run) == [(first.run, 3), (second.run, 1)]
    with pytest.raises(psycopg2.errors.NotNullViolation), psycopg2.connect(lake.dsn) as connection:
        connection.cursor().execute("insert into t (id) values (10)")  # the first run is no default of other rows
    connection.close()


def test_the_index_over_the_lineage_is_made_when_an_object_is_first_replaced(lake: Lake) -> None:
    indexes = "select count(*) from pg_index where indrelid = 't'::regclass"
    lake.upload("a.csv", TRIPS)
    lake.upload("b.csv", csv_text("id,city,fare", ["9,Chur,1"]))
    assert lake.value(indexes) == 0
    for fare in ("2", "3"):
        lake.upload("b.csv", csv_text("id,city,fare", [f"9,Chur,{fare}"]))
        assert lake.value(indexes) == 1
        assert lake.sql("select id, fare from t where id = 9") == [(9, float(fare))]


def test_a_table_that_its_owner_dropped_is_made_anew_by_a_new_version(lake: Lake) -> None:
    lake.upload("a.csv", TRIPS)
    with psycopg2.connect(lake.dsn) as connection, connection.cursor() as cursor:
        cursor.execute("drop table t")
    connection.close()
    report = lake.upload("a.csv", TRIPS.replace("2,Genève", "7,Genève"))
    assert lake.sql("select id, _lake_run::text from t order by id") == [(i, report.run) for i in (1, 3, 7)]


def test_undo_of_a_first_load_leaves_an_empty_table_and_uploading_again_loads_it(lake: Lake) -> None:
    first = lake.upload("a.csv", TRIPS)
    assert first.run
    assert lake.target.undo(first.run).removed == 3
    assert lake.value("select count(*) from t") == 0
    again = lake.upload("a.csv", TRIPS)
    assert again.state == "loaded"
    assert lake.value("select count(*) from t") == 3
    assert lake.states("raw/t/a.csv") == ["undone", "loaded"]


def test_undoing_twice_walks_back_two_versions(lake: Lake) -> None:
    for letter in "abc":
        lake.upload("a.csv", csv_text("x", [letter]))
    newest = lake.target.runs()[0].run
    lake.target.undo(newest)
    assert lake.value("select x from t") == "b"
    lake.target.undo(lake.target.runs()[0].run)
    assert lake.value("select x from t") == "a"
    assert lake.states("raw/t/a.csv") == ["loaded", "undone", "undone"]


def test_a_superseded_run_names_the_run_to_undo_first(lake: Lake) -> None:
    first = lake.upload("a.csv", TRIPS)
    second = lake.upload("a.csv", TRIPS + "4,Olten,1\n")
    assert first.run
    with pytest.raises(UsageError, match="it is superseded") as caught:
        lake.target.undo(first.run)
    assert caught.value.hint is not None
    assert f"lakectl undo {second.run}" in caught.value.hint


def test_content_a_then_b_then_a_again_ends_with_a_loaded(lake: Lake) -> None:
    a, b = csv_text("x", ["1"]), csv_text("x", ["2"])
    states = [lake.upload("a.csv", content).state for content in (a, b, a)]
    assert states == ["loaded", "loaded", "loaded"]
    assert lake.value("select x from t") == 1
    assert lake.states("raw/t/a.csv") == ["superseded", "superseded", "loaded"]


def test_after_an_undo_the_content_that_came_back_is_already_loaded(lake: Lake) -> None:
    a, b = csv_text("x", ["1"]), csv_text("x", ["2"])
    lake.upload("a.csv", a)
    second = lake.upload("a.csv", b)
    assert second.run
    lake.target.undo(second.run)
    assert lake.upload("a.csv", a).state == "already_loaded"
    assert lake.value("select x from t") == 1
    assert lake.upload("a.csv", b).state == "loaded"
    assert lake.value("select x from t") == 2


def test_an_older_version_arriving_late_is_superseded(lake: Lake) -> None:
    key = lake.land("a.csv", csv_text("x", ["1"]))
    lake.land("a.csv", csv_text("x", ["2"]))
    old, new = lake.target.store.versions(key)
    (newer,) = lake.target.load([(key, new.version)])
    (older,) = lake.target.load([(key, old.version)])
    assert (newer.state, older.state) == ("loaded", "superseded")
    assert lake.value("select x from t") == 2
    assert lake.states(key) == ["superseded", "loaded"]


def test_a_new_column_is_added_and_a_missing_one_is_null(lake: Lake) -> None:
    lake.upload("a.csv", csv_text("id,old", ["1,x"]))
    report = lake.upload("b.csv", csv_text("id,new", ["2,2024-05-06"]))
    assert report.changes == ("add column new date",)
    assert lake.sql("select id, old, new from t order by id") == [(1, "x", None), (2, None, date(2024, 5, 6))]


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ("1", "1.5", "double precision"),
        ("1", "9223372036854775808", "numeric"),
        ("1", "x", "text"),
        ("1.5", "x", "text"),
        ("2024-01-01", "2024-01-01 10:00:00", "timestamp without time zone"),
        ("true", "maybe", "text"),
        ("", "5", "bigint"),
    ],
)
def test_a_later_file_widens_a_column(lake: Lake, first: str, second: str, kind: str) -> None:
    lake.upload("a.csv", csv_text("id,v", [f"1,{first}"]))
    report = lake.upload("b.csv", csv_text("id,v", [f"2,{second}"]))
    assert lake.types()["v"] == kind
    assert any("widen column v" in change for change in report.changes)
    assert lake.value("select count(*) from t") == 2


def test_a_value_that_breaks_a_guess_late_in_the_file_widens_the_type_and_loses_no_row(lake: Lake) -> None:
    count = 300_000
    text = csv_text("id,v", lambda i: f"{i},{'oops' if i == 250_000 else i % 7}", count)
    report = lake.upload("a.csv", text)
    assert (report.rows, report.rejects) == (count, 0)
    assert lake.types() == {"id": "bigint", "v": "text"}
    assert lake.value("select v from t where id = 250000") == "oops"
    assert "column v widened from bigint to text: line 250,002 has 'oops'" in report.notes
    assert lake.value("select count(*) from t where v = '3'") == sum(
        1 for i in range(count) if i % 7 == 3 and i != 250_000
    )


def test_a_break_within_the_first_batch_is_told_too(lake: Lake) -> None:
    report = lake.upload("a.csv", csv_text("id,v", lambda i: f"{i},{'oops' if i == 5000 else i}", 6000))
    assert report.notes == ("column v widened from bigint to text: line 5,002 has 'oops'",)
    assert lake.value("select count(*) from t") == 6000


def test_the_note_of_a_null_token_kept_as_text_counts_every_one_of_the_file(lake: Lake) -> None:
    rows = [f"{i}," + ("NA" if i % 3 else "word") for i in range(90_000)]
    report = lake.upload("a.csv", csv_text("id,v", rows))
    assert report.notes == ("column v holds 60,000 'NA' kept as text; set nulls = [\"NA\"]",)
    assert lake.value("select count(*) from t where v = 'NA'") == 60_000


def test_a_break_beyond_the_sample_starts_again_wider_and_says_where(lake: Lake) -> None:
    pad = "x" * 200
    text = csv_text("id,v,pad", lambda i: f"{i},{'1.5' if i == 70_000 else i % 7},{pad}", 80_000)
    report = lake.upload("a.csv", text)
    assert (report.rows, report.rejects) == (80_000, 0)
    assert lake.types()["v"] == "double precision"
    assert report.notes == ("column v widened from bigint to double precision: line 70,002 has '1.5'",)
    assert lake.value("select sum(v) from t") == sum(1.5 if i == 70_000 else i % 7 for i in range(80_000))


def test_a_frozen_schema_refuses_new_columns_and_rejects_misfits(lake: Lake) -> None:
    lake.configure('[dataset.t]\nschema_policy = "freeze"\n')
    lake.upload("a.csv", csv_text("id,v", ["1,1"]))
    refused = lake.upload("b.csv", csv_text("id,v,w", ["2,2,2"]))
    assert (refused.state, refused.exit_code) == ("failed", 6)
    assert refused.error is not None
    assert "w" in refused.error
    partly = lake.upload("c.csv", csv_text("id,v", ["3,3", "4,x"]))
    assert (partly.state, partly.rows, partly.rejects) == ("loaded", 1, 1)
    assert lake.types() == {"id": "bigint", "v": "bigint"}


def test_the_discard_policy_leaves_new_columns_out(lake: Lake) -> None:
    lake.configure('[dataset.t]\nschema_policy = "discard"\n')
    lake.upload("a.csv", csv_text("id", ["1"]))
    report = lake.upload("b.csv", csv_text("id,w", ["2,9"]))
    assert report.rows == 1
    assert lake.types() == {"id": "bigint"}


def test_append_keeps_the_rows_of_older_versions(lake: Lake) -> None:
    lake.configure('[dataset.t]\nmode = "append"\n')
    lake.upload("a.csv", csv_text("x", ["1"]))
    second = lake.upload("a.csv", csv_text("x", ["2"]))
    assert lake.sql("select x from t order by x") == [(1,), (2,)]
    assert second.run
    lake.target.undo(second.run)
    assert lake.sql("select x from t") == [(1,)]


def test_merge_replaces_rows_with_the_same_key_and_undo_brings_them_back(lake: Lake) -> None:
    lake.configure('[dataset.t]\nmode = "merge"\nkey = "id"\n')
    lake.upload("a.csv", csv_text("id,v", ["1,one", "2,two", "2,zwei"]))
    second = lake.upload("b.csv", csv_text("id,v", ["2,deux", "3,trois"]))
    assert lake.sql("select id, v from t order by id") == [(1, "one"), (2, "deux"), (3, "trois")]
    assert second.run
    lake.target.undo(second.run)
    assert lake.sql("select id, v from t order by id") == [(1, "one"), (2, "zwei")]


def test_replace_table_makes_the_object_the_whole_table(lake: Lake) -> None:
    lake.configure('[dataset.t]\nmode = "replace_table"\n')
    lake.upload("a.csv", csv_text("x", ["1", "2"]))
    second = lake.upload("b.csv", csv_text("x", ["3"]))
    assert lake.sql("select x from t") == [(3,)]
    assert second.run
    lake.target.undo(second.run)
    assert lake.sql("select x from t order by x") == [(1,), (2,)]


def test_a_primary_key_rejects_repeated_and_null_keys_across_objects(lake: Lake) -> None:
    lake.configure('[dataset.t.contract]\nprimary_key = "id"\n')
    first = lake.upload("a.csv", csv_text("id,v", ["1,a", "1,b", ",c", "2,d"]))
    assert (first.rows, first.rejects) == (2, 2)
    second = lake.upload("b.csv", csv_text("id,v", ["2,x", "3,y"]))
    assert (second.rows, second.rejects) == (1, 1)
    reasons = sorted((reject.key, reject.line, reject.reason) for reject in lake.target.rejects())
    assert reasons == [
        ("raw/t/a.csv", 3, "the key (id) = (1) repeats record 1"),
        ("raw/t/a.csv", 4, "null in a not-null column"),
        ("raw/t/b.csv", 2, f"the key (id) = (2) is in the table already, from run {first.run}"),
    ]
    again = lake.upload("a.csv", csv_text("id,v", ["1,a2", "2,d2"]))
    assert (again.rows, again.rejects) == (2, 0)


def test_thirty_seven_broken_records_are_rejected_exported_mended_and_loaded(lake: Lake) -> None:
    def row(i: int) -> str:
        return f"{i},{i * 2},extra,cells" if i % 27 == 13 and i < 999 else f"{i},{i * 2}"

    text = csv_text("id,double", row, 1000)
    report = lake.upload("a.csv", text)
    assert (report.rows, report.rejects) == (963, 37)
    rejects = list(lake.target.rejects("t"))
    assert [reject.line for reject in rejects] == [i + 2 for i in range(999) if i % 27 == 13]
    assert rejects[0].text == "13,26,extra,cells"
    assert all(reject.reason for reject in rejects)

    export = lake.root / "out.csv"
    assert lake.target.export_rejects("t", str(export)) == 37
    mended = export.read_text().replace('"extra,cells"', "").replace("extra,cells", "")
    export.write_text(mended)
    (retried,) = lake.target.retry_rejects("t", str(export))
    assert (retried.loaded, retried.still_rejected) == (37, 0)
    assert lake.sql("select count(*), sum(id), sum(double) from t") == [(1000, 499500, 999000)]
    assert list(lake.target.rejects("t")) == []

    (reloaded,) = lake.target.reload([("raw/t/a.csv", None)])
    assert (reloaded.rows, reloaded.rejects) == (1000, 0)


def test_an_export_from_before_a_new_run_still_mends_and_an_unmended_one_says_what_is_missing(lake: Lake) -> None:
    lake.upload("a.csv", csv_text("id,v", ["1,2", "3,4,5"]))
    export = lake.root / "out.csv"
    lake.target.export_rejects(None, str(export))
    with pytest.raises(UsageError, match="1 of its records still have cells in _surplus"):
        lake.target.retry_rejects(None, str(export))
    list(lake.target.reload([("raw/t/a.csv", None)]))
    export.write_text(export.read_text().replace("3,4,5\n", "3,4,\n"))
    (retried,) = lake.target.retry_rejects(None, str(export))
    assert (retried.loaded, retried.still_rejected) == (1, 0)
    assert lake.sql("select id, v from t order by id") == [(1, 2), (3, 4)]


def test_a_type_in_the_contract_makes_misfits_rejects_with_line_column_value_and_reason(lake: Lake) -> None:
    lake.configure('[dataset.t.contract.columns]\nv = "int"\n')
    report = lake.upload("a.csv", csv_text("id,V", ["1,5", "2,x y", "3,7"]))
    assert (report.rows, report.rejects) == (2, 1)
    (reject,) = lake.target.rejects()
    assert (reject.line, reject.column, reject.value, reject.text) == (3, "V", "x y", "2,x y")
    assert lake.types()["v"] == "bigint"


def test_too_many_rejects_publish_nothing_and_keep_every_reject(lake: Lake) -> None:
    lake.configure('[dataset.t.contract]\nrejects = "1%"\n[dataset.t.contract.columns.v]\ntype = "int"\nmax = 50\n')
    report = lake.upload("a.csv", csv_text("id,v", lambda i: f"{i},{i}", 100))
    assert (report.state, report.exit_code, report.rows, report.rejects) == ("failed", 6, 0, 49)
    assert lake.value("select to_regclass('t') is null")
    rejects = list(lake.target.rejects())
    assert len(rejects) == 49
    assert (rejects[0].line, rejects[0].column, rejects[0].value, rejects[0].text) == (53, "v", "51", "51,51")
    (info,) = lake.target.objects()
    assert info.state == "failed"


def test_row_count_bounds_and_freshness_fail_the_load(lake: Lake) -> None:
    lake.configure("[dataset.t.contract]\nmin_rows = 2\n")
    few = lake.upload("a.csv", csv_text("x", ["1"]))
    assert (few.state, few.exit_code) == ("failed", 6)
    lake.configure('[dataset.t.contract.freshness]\ncolumn = "day"\nwithin = "2d"\n')
    stale = lake.upload("b.csv", csv_text("day", ["2001-02-03"]))
    assert (stale.state, stale.exit_code) == ("failed", 6)
    assert stale.error is not None
    assert "day" in stale.error


def test_a_python_transform_streams_and_its_output_makes_the_table(lake: Lake) -> None:
    lake.transform("t.py", "def transform(df):\n    df['double'] = df['x'] * 2\n    return df[df['x'] > 1]\n")
    report = lake.upload("a.csv", csv_text("x,name", ["1,a", "2,b", "3,c"]))
    assert report.rows == 2
    assert lake.sql("select x, name, double from t order by x") == [(2, "b", 4), (3, "c", 6)]
    assert lake.target.runs()[0].transform is not None


def test_what_is_loaded_already_tells_that_its_transform_has_changed_since(lake: Lake) -> None:
    text = csv_text("x", ["1"])
    lake.upload("a.csv", text)
    assert not lake.upload("a.csv", text).notes
    lake.transform("t.sql", "select x, x + 1 as y from t")
    again = lake.upload("a.csv", text)
    assert again.state == "already_loaded"
    assert len(again.notes) == 1
    assert "now there is t.sql@" in again.notes[0]
    assert "lakectl run raw/t/a.csv" in again.notes[0]
    list(lake.target.reload([("raw/t/a.csv", None)]))
    assert not lake.upload("a.csv", text).notes
    assert lake.sql("select x, y from t") == [(1, 2)]


def test_a_sql_transform_over_the_whole_file(lake: Lake) -> None:
    lake.transform("t.sql", "-- whole_file: true\nselect city, sum(n) as total from t group by city order by city\n")
    report = lake.upload("a.csv", csv_text("city,n", ["b,1", "a,2", "b,3"]))
    assert report.rows == 2
    assert lake.sql("select city, total from t order by city") == [("a", 2), ("b", 4)]


def test_an_exception_in_a_transform_names_its_file_and_line_and_leaves_the_old_rows(lake: Lake) -> None:
    lake.upload("a.csv", csv_text("x", ["1"]))
    lake.transform("t.py", "def transform(df):\n    df['y'] = 1\n    raise ValueError('no such luck')\n")
    report = lake.upload("a.csv", csv_text("x", ["2"]))
    assert (report.state, report.exit_code) == ("failed", 6)
    assert report.error is not None
    assert "t.py" in report.error
    assert "line 3" in report.error
    assert "no such luck" in report.error
    assert lake.sql("select x from t") == [(1,)]
    assert lake.states("raw/t/a.csv") == ["loaded", "failed"]


def test_json_lines_load_with_nested_values_as_jsonb(lake: Lake) -> None:
    rows = [{"id": 1, "tags": ["a", {"b": None}], "at": "2024-01-02T03:04:05Z"}, {"id": 2, "new": 1.5}]
    report = lake.upload("a.jsonl", "\n".join(map(json.dumps, rows)) + "\n{broken\n")
    assert (report.rows, report.rejects) == (2, 1)
    assert lake.types() == {
        "id": "bigint",
        "tags": "jsonb",
        "at": "timestamp with time zone",
        "new": "double precision",
    }
    assert lake.value("select tags -> 1 ? 'b' from t where id = 1") is True
    (reject,) = lake.target.rejects()
    assert (reject.line, reject.text) == (3, "{broken")


def test_a_header_without_rows_makes_an_empty_table(lake: Lake) -> None:
    report = lake.upload("a.csv", "id,name\n")
    assert (report.state, report.rows) == ("loaded", 0)
    assert list(lake.types()) == ["id", "name"]
    lake.upload("b.csv", csv_text("id,name", ["1,x"]))
    assert lake.types() == {"id": "bigint", "name": "text"}


def test_a_compressed_object_loads_as_the_plain_one(lake: Lake) -> None:
    assert lake.upload("a.csv.gz", gzip.compress(TRIPS.encode())).rows == 3


def test_what_is_no_table_fails_with_a_reason_and_stays_in_the_raw_zone(lake: Lake) -> None:
    report = lake.upload("a.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20)
    assert (report.state, report.exit_code) == ("failed", 6)
    assert report.error is not None
    assert "image" in report.error
    assert lake.target.store.find("raw/t/a.csv").size > 5000


def test_twenty_thousand_columns_are_refused_at_once_with_a_way_out(lake: Lake) -> None:
    text = csv_text(",".join(f"c{i}" for i in range(20_000)), [",".join("1" for _ in range(20_000))])
    report = lake.upload("a.csv", text)
    assert (report.state, report.exit_code) == ("failed", 6)
    assert report.error is not None
    assert "20,000 columns" in report.error
    assert report.hint is not None
    assert "melt" in report.hint
    assert report.seconds < 10


def test_a_rehearsal_tells_and_leaves_nothing(lake: Lake) -> None:
    lake.upload("a.csv", TRIPS)
    path = lake.write("files/b.csv", csv_text("id,extra", ["1,x"]))
    report = lake.target.rehearse(str(path), "raw/t/b.csv")
    assert (report.state, report.rows, report.changes) == ("loaded", 1, ("add column extra text",))
    assert list(lake.types()) == ["id", "city", "fare"]
    assert len(lake.target.runs()) == 1


def test_missing_lists_what_was_landed_and_never_loaded(lake: Lake) -> None:
    lake.upload("a.csv", TRIPS)
    key = lake.land("b.csv", TRIPS)
    assert [found for found, _version in lake.target.missing()] == [key]
    (pending,) = [info for info in lake.target.objects() if info.key == key]
    assert pending.state == "pending"
    assert "no run has touched" in lake.target.explain(key).cause


def test_explain_tells_the_cause_in_one_sentence(lake: Lake) -> None:
    lake.upload("a.csv", b"\x7fELF" + b"\0" * 100)
    explained = lake.target.explain("a.csv")
    assert "ELF" in explained.cause
    assert dict(explained.facts)["state"] == "failed"


def test_raw_queries_need_no_load(lake: Lake) -> None:
    lake.land("a.csv", TRIPS)
    lake.land("b.csv", csv_text("id,fare", ["4,1"]))
    with lake.target.query_raw("select count(*), sum(id) from t", {}) as result:
        assert list(result.rows()) == [(4, 10)]


def test_many_small_objects_load_as_a_group_each_for_itself(lake: Lake) -> None:
    contents = [f"id,v\n{i},{i * i}\n" for i in range(30)]
    contents[7] = "\0\1\2 no table at all \3\4"
    keys = [lake.land(f"{i}.csv", content) for i, content in enumerate(contents)]
    reports = list(lake.target.load([(key, None) for key in keys]))
    assert [report.key for report in reports] == keys
    assert {report.state for report in reports if report.key != keys[7]} == {"loaded"}
    assert (reports[7].state, reports[7].rows) == ("failed", 0)
    assert lake.sql("select count(*), sum(v) from t") == [(29, sum(i * i for i in range(30)) - 49)]
    assert lake.value("select count(*) from lake.objects where state = 'loaded'") == 29
    assert {report.state for report in lake.target.load([(key, None) for key in keys[8:]])} == {"already_loaded"}


def test_a_column_of_nulls_stays_open_when_an_object_lacks_it(lake: Lake) -> None:
    lake.upload("a.csv", "id,x\n1,\n")
    lake.upload("b.csv", "id\n2\n")
    lake.upload("c.csv", "id,x\n3,7\n")
    assert lake.types()["x"] == "bigint"
    assert lake.sql("select id, x from t order by id") == [(1, None), (2, None), (3, 7)]
