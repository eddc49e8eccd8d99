from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from lakectl import shell
from lakectl.errors import UsageError
from lakectl.targets.base import ColumnInfo, QueryColumn, TableInfo
from lakectl.ui import Screen


class Result:
    columns = (QueryColumn("n", "bigint"), QueryColumn("name", "text"))
    status = "SELECT 1"

    def csv_copier(self, *, header: bool, limit: int | None = None) -> None:
        return None

    def rows(self) -> Iterator[Sequence[Any]]:
        yield (1, None)

    def __enter__(self) -> Result:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class Lake:
    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []

    def query(self, sql: str, _parameters: dict[str, str], *, write: bool = False) -> Result:
        self.asked.append((sql, write))
        return Result()

    def tables(self) -> list[TableInfo]:
        return [TableInfo("flights", (ColumnInfo("n", "bigint", "N"),), 5), TableInfo("other", (), 0)]


@pytest.fixture
def lake() -> Lake:
    return Lake()


@pytest.fixture
def prompt(lake: Lake) -> shell.Shell:
    return shell.Shell(Screen(), lake)  # type: ignore[arg-type]


def test_every_statement_of_a_text_is_run(prompt, lake, capsys):
    assert prompt.run("select 1;\nselect ';';") is True
    assert lake.asked == [("select 1", False), ("select ';'", False)]
    assert capsys.readouterr().out.count("n  name") == 2


@pytest.mark.parametrize("word", ["\\q", "quit", "exit;"])
def test_it_can_be_left(word, prompt):
    assert prompt.run(word) is False


def test_dt_lists_tables_and_d_their_columns(prompt, capsys):
    prompt.run("\\dt")
    assert capsys.readouterr().out.splitlines()[2].split() == ["flights", "5", "0", "B"]
    prompt.run("\\d flights")
    assert capsys.readouterr().out.splitlines()[2].split() == ["flights", "n", "bigint", "N"]


def test_x_writes_rows_as_lines(prompt, capsys):
    prompt.run("\\x")
    prompt.run("select 1;")
    assert "n       1" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["\\nonsense", "\\d nowhere"])
def test_what_is_not_there_is_told(text, prompt):
    with pytest.raises(UsageError):
        prompt.run(text)


@pytest.mark.parametrize(
    ("text", "done"), [("", True), ("\\dt", True), ("select 1", False), ("select 1;", True), ("quit", True)]
)
def test_enter_begins_a_new_line_until_the_semicolon(text, done):
    assert shell.finished(text) is done


def test_what_is_typed_over_two_lines_is_run_once_and_remembered(lake, tmp_path, capsys):
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    lake.names = lambda: ["flights"]  # type: ignore[attr-defined]
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text("select 1,\r2;\r\\nonsense\r\\q\r")
        shell.interact(Screen(), lake, history=tmp_path / ".lake" / "history")  # type: ignore[arg-type]
    assert lake.asked == [("select 1,\n2", False)]
    assert "error: there is no command \\nonsense" in capsys.readouterr().err
    assert "select 1,\n+2;" in (tmp_path / ".lake" / "history").read_text()
