from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from etl_container.report import Landing, Loading, Notice
from lakectl import ui
from lakectl.errors import NotFoundError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc\r", "a\\tb\\nc\\r"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202ecba", "abc\\u202ecba"),
        ("[bold]not markup[/bold] :smile:", "[bold]not markup[/bold] :smile:"),
        ("日本 é", "日本 é"),
        ("\udce9", "\\udce9"),
    ],
)
def test_control_characters_are_shown_and_the_rest_left_alone(text, shown):
    assert ui.visible(text) == shown


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), max_size=8), st.integers(40, 120))
def test_a_table_never_exceeds_the_terminal(rows, width):
    for line in ui.table_lines(("one", "two", "three"), rows, width=width):
        assert cell_len(line) <= width
        assert "\n" not in line


def test_only_the_widest_column_is_cut():
    lines = list(ui.table_lines(("a", "b"), [("short", "x" * 100)], width=30))
    assert lines[2] == "short  " + "x" * 22 + "…"


def test_a_table_in_a_pipe_is_whole():
    assert list(ui.table_lines(("a",), [("x" * 500,)]))[2] == "x" * 500


def test_wide_characters_keep_the_columns_aligned():
    lines = list(ui.table_lines(("name", "n"), [("日本", 1), ("x", 22)], right=(False, True)))
    assert {cell_len(line) for line in lines} == {8}


def test_a_table_streams_its_rows():
    def rows():
        for number in range(10**9):
            yield (number,)

    lines = ui.table_lines(("n",), rows())
    assert [next(lines) for _ in range(3)][2] == "0".ljust(3).rstrip()


def test_bars_are_in_proportion():
    lines = list(ui.bar_lines([("a", 8), ("b", 4), ("c", -1), ("d", None)], width=31))
    assert lines[0].count("█") == 2 * lines[1].count("█") > 0
    assert "█" not in lines[2] + lines[3]
    assert all(cell_len(line) <= 31 for line in lines)


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_000_000, "2.0 MB"), (5e15, "5000.0 TB")]
)
def test_sizes_are_for_people(count, shown):
    assert ui.size(count) == shown


def test_an_error_says_what_and_the_next_step_on_stderr(capsys):
    ui.Screen().error(NotFoundError("no file [red]x\x1b[0m", hint="ls"))
    captured = capsys.readouterr()
    assert captured.err == "error: no file [red]x\\x1b[0m\nhint: ls\n"
    assert captured.out == ""


def test_with_json_there_is_exactly_one_document(capsys):
    screen = ui.Screen(json=True)
    screen.document({"a": 1})
    screen.error(NotFoundError("late"))
    assert json.loads(capsys.readouterr().out) == {"a": 1}


@pytest.mark.parametrize("items", [[], [1], [{"a": "ü\x1b"}, {"a": None}]])
def test_a_streamed_list_is_one_document(items, capsys):
    ui.Screen(json=True).array(iter(items))
    assert json.loads(capsys.readouterr().out) == items


def test_long_errors_are_not_wrapped_into_pieces(capsys):
    ui.Screen().error(NotFoundError("x" * 300))
    assert capsys.readouterr().err == f"error: {'x' * 300}\n"


def test_quiet_leaves_out_remarks_and_keeps_errors(capsys):
    screen = ui.Screen(quiet=True)
    screen.remark("by the way")
    with screen.progress({"raw/t/a.csv": 10}, "loading") as on_event:
        on_event(Notice("waiting"))
    screen.error(NotFoundError("gone"))
    assert capsys.readouterr().err == "error: gone\n"


def test_without_a_terminal_progress_is_its_notices(capsys):
    with ui.Screen().progress({"raw/t/a.csv": 10}, "loading") as on_event:
        on_event(Notice("waiting for another load"))
    assert capsys.readouterr().err == "waiting for another load\n"


def test_progress_counts_files_their_speed_and_the_time_left():
    now = [0.0]
    work = ui.Work({f"raw/t/{i}.csv": 99 for i in range(10)}, ("landing", "loading"), clock=lambda: now[0])
    for i in range(10):
        now[0] += 1
        work.follow(Landing(f"raw/t/{i}.csv", 50, 100))
        work.follow(Landing(f"raw/t/{i}.csv", 100, 100))
    assert (work.stage, work.share) == ("landing", pytest.approx(0.2))
    assert work.figures == "9 of 10 files, 1 files/s, 40.0 s left"
    for i in range(5):
        work.follow(Loading(f"raw/t/{i}.csv", 7, 100, 100))
        now[0] += 4
        work.finish(f"raw/t/{i}.csv", "loading")
    assert (work.stage, work.share) == ("loading", pytest.approx(0.6))
    assert work.figures == "5 of 10 files, 0 files/s, 20.0 s left"
    assert work.description == "loading raw/t/4.csv · 7 rows"


def test_progress_of_one_file_is_told_in_bytes():
    now = [0.0]
    work = ui.Work({"raw/t/a.csv": 10_000_000}, ("loading",), clock=lambda: now[0])
    now[0] = 2.0
    work.follow(Loading("raw/t/a.csv", 1000, 2_500_000, 10_000_000))
    assert work.figures == "2.5 MB of 10.0 MB, 1.2 MB/s, 6.0 s left"


def test_files_that_are_loaded_already_or_fail_count_as_done():
    work = ui.Work({f"raw/t/{i}.csv": 0 for i in range(4)}, ("landing", "loading"), clock=lambda: 0.0)
    work.finish("raw/t/0.csv", "landing")
    for i in range(1, 4):
        work.finish(f"raw/t/{i}.csv", "loading")
    assert work.figures.startswith("3 of 4 files")
    assert work.share == pytest.approx(0.8)


def test_without_a_terminal_long_work_is_told_of_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(ui, "LINE_SECONDS", 0.0)
    with ui.Screen().progress({"raw/t/a.csv": 1, "raw/t/b.csv": 1}, "loading") as on_event:
        on_event(Loading("raw/t/a.csv", 1, 1, 2))
    assert re.fullmatch(r"loading: 0 of 2 files, [0-9.]+ s left\n", capsys.readouterr().err)


def test_no_one_is_asked_without_a_terminal():
    assert ui.Screen(ask=True).ask("name", "default") == "default"
