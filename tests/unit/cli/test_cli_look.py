from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest


def keys_of(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize(
    ("words", "free"),
    [
        (["tables"], set()),
        (["objects"], set()),
        (["runs"], set()),
        (["explain", "7"], {"line"}),
        (["status"], {"tables", "loaded"}),
        (["rejects"], set()),
        (["undo", "7"], set()),
        (["upload", "a.csv"], set()),
        (["run-local", "a.csv"], set()),
        (["run"], set()),
        (["preview", "ragged.csv"], set()),
        (["doctor"], set()),
        (["config", "show"], {"trips"}),
        (["init", "new"], set()),
        (["cat", "a.csv", "--output-dir", "out"], set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_json_has_the_documented_keys_and_no_other(words, free, lakectl, tmp_path: Path):
    (tmp_path / "a.csv").write_text("n,m\n1,2\n")
    (tmp_path / "ragged.csv").write_text("n,m\n" + "1,2\n" * 20 + "3,4,5,6\n" + "1,2\n" * 20)
    (tmp_path / "lake.toml").write_text("[dataset.trips]\n")
    path = [word for word in words if word in ("config", "show")] or words[:1]
    shape = lakectl(*path, "--help").out.partition("With --json:")[2].partition("with --export")[0]
    documented = set(
        re.findall(r'"([a-z_]+)"(?=[:,}\]]|\s*$)', re.sub(r':\s*(\["[^\]]*"\]|"[^"]*")', ":", shape), re.M)
    )
    documented -= {"name", "value"} if words[0] in ("explain", "status") else set()
    assert keys_of(lakectl(*words, "--json").document) - free == documented


def test_tables_lists_columns_and_never_takes_a_name_for_markup(lakectl):
    done = lakectl("tables")
    assert "n bigint, name text" in done.out
    assert "336,776" in done.out


def test_objects_are_filtered_and_limited_by_the_target(lakectl):
    lakectl("objects", "--dataset", "a", "--limit", "5")
    assert lakectl.target.asked == [("objects", "a", 5)]


def test_an_empty_lake_says_what_to_do_and_nothing_on_stdout(lakectl):
    lakectl.prepare.append(lambda target: setattr(target, "objects_found", []))
    done = lakectl("objects")
    assert done.out == ""
    assert "lakectl upload FILE" in done.err
    assert lakectl("objects", "--quiet").err == ""
    assert lakectl("objects", "--json").document == []


def test_explain_says_the_cause_first(lakectl):
    done = lakectl("explain", "raw/a/a.csv")
    assert done.out.splitlines() == ["It failed because of a comma.", "line  3"]
    assert done.err == "hint: lakectl rejects\n"


def test_explaining_what_is_not_there_exits_3(lakectl):
    done = lakectl("explain", "nothing", "--json")
    assert done.code == 3
    assert done.document == {"error": {"message": "there is no run nothing", "hint": "lakectl runs", "exit_code": 3}}


def test_status_warns_of_problems(lakectl):
    done = lakectl("status")
    assert "1 loaded" in done.out
    assert "warning: mind the gap" in done.err


def test_doctor_exits_5_when_a_check_fails(lakectl, monkeypatch, tmp_path):
    monkeypatch.setenv("LAKE_WAREHOSE", "x")
    done = lakectl("doctor")
    assert done.code == 5
    assert "FAIL  environment: LAKE_WAREHOSE: not read by lakectl\n      fix: did you mean LAKE_WAREHOUSE?" in done.out


def test_doctor_tells_a_broken_lake_toml(lakectl, tmp_path):
    (tmp_path / "lake.toml").write_text("x = = 1\n")
    done = lakectl("doctor", "--json")
    assert done.code == 5
    assert [check["name"] for check in done.document["checks"] if not check["ok"]] == ["settings"]


def test_init_writes_what_config_can_read_and_overwrites_nothing(lakectl, tmp_path):
    (tmp_path / ".gitignore").write_text("mine\n")
    done = lakectl("init", "--json")
    assert done.document["kept"] == [".gitignore"]
    assert (tmp_path / ".gitignore").read_text() == "mine\n"
    settings = {item["key"]: item for item in lakectl("config", "show", "--json").document["settings"]}
    assert settings["name"] == {"key": "name", "value": tmp_path.name, "origin": "lake.toml"}


def test_config_show_hides_the_password(lakectl, monkeypatch):
    monkeypatch.setenv("LAKE_WAREHOUSE", "postgresql://me:s3cret@h/db")
    done = lakectl("config", "show")
    assert "postgresql://me:***@h/db" in done.out
    assert "s3cret" not in done.out + done.err
