from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lakectl.cli.app import COMMANDS

PATHS = [name for name in COMMANDS if name not in ("config", "iam")] + ["config show", "iam policy"]


@pytest.mark.parametrize("path", PATHS)
def test_every_command_has_a_summary_examples_and_its_json(path, lakectl):
    done = lakectl(*path.split(), "--help")
    assert done.code == 0
    summary = done.out.split("\n\n")[1]
    assert re.fullmatch(r"[A-Z].+\.", summary)
    assert "\n" not in summary
    assert re.search(rf"\nExamples:\n  .*lakectl {path}", done.out)
    assert "\nWith --json:\n  " in done.out


def test_h_is_help(lakectl):
    assert lakectl("query", "-h").out == lakectl("query", "--help").out != ""


def test_no_command_at_all_shows_the_help(lakectl):
    done = lakectl()
    assert (done.code, done.err) == (0, "")
    assert all(f"\n  {name} " in done.out for name in COMMANDS)


def test_a_wrong_command_is_a_usage_error_with_a_suggestion(lakectl):
    done = lakectl("uplaod", "x.csv")
    assert done.code == 2
    assert done.err == "error: there is no command 'uplaod'\nhint: did you mean lakectl upload?\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["upload", "--datset", "x", "f.csv"], "did you mean --dataset?"),
        (["query", "--limit", "many"], "lakectl query --help"),
        (["explain"], "lakectl explain --help"),
        (["undo", "1", "2"], "lakectl undo --help"),
        (["config", "shwo"], "did you mean 'show'?"),
    ],
)
def test_a_wrong_command_line_exits_2_and_says_what_to_type(words, told, lakectl):
    done = lakectl(*words)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert told in done.err


def test_with_json_a_wrong_command_line_is_one_document(lakectl):
    done = lakectl("upload", "--json", "--nonsense")
    assert done.code == 2
    assert done.document["error"]["exit_code"] == 2


@pytest.mark.parametrize("words", [["--json", "tables"], ["tables", "--json"]])
def test_a_global_flag_may_stand_before_or_after_the_command(words, lakectl):
    assert lakectl(*words).document[0]["table"] == "flights"


def test_c_runs_as_if_started_there(lakectl, tmp_path: Path):
    (tmp_path / "there").mkdir()
    assert lakectl("config", "show", "-C", "there", "--json").document["settings"][0] == {
        "key": "directory",
        "value": str(tmp_path / "there"),
        "origin": "flag -C",
    }


def test_a_stage_in_an_account_without_a_region_exits_3_and_says_how_to_name_one(lakectl, monkeypatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "LAKE_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    done = lakectl("tables", "--stage", "dev")
    assert done.code == 3
    assert "no AWS region is set" in done.err
    assert "--region" in done.err


def test_a_bug_keeps_its_traceback_and_asks_to_be_reported(lakectl, monkeypatch):
    from lakectl import config

    monkeypatch.setattr(config, "load", lambda *_args, **_flags: 1 / 0)
    done = lakectl("tables", "--json")
    assert done.code == 1
    assert "Traceback" in done.err
    assert "please report it" in done.err
    assert done.document["error"]["exit_code"] == 1


def test_debug_shows_the_traceback_of_an_error(lakectl):
    assert "Traceback" not in lakectl("explain", "nothing").err
    assert "Traceback" in lakectl("explain", "nothing", "--debug").err


def test_the_target_is_closed_when_a_command_fails(lakectl):
    assert lakectl("explain", "nothing").code == 3
    assert lakectl.target.closed == 1


def test_help_and_version_import_nothing_heavy():
    script = (
        "import sys\n"
        "from lakectl.cli.app import main\n"
        "main(['--help']); main(['upload', '--help']); main(['--version'])\n"
        "heavy = {'pandas', 'pyarrow', 'sqlalchemy', 'boto3', 'duckdb', 'numpy', 'psycopg2', 'rich.console'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
