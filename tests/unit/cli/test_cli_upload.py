from __future__ import annotations

import os
from pathlib import Path

import pytest

from etl_container.report import LoadReport
from lakectl import landing
from lakectl.errors import NotFoundError, UsageError


def touch(path: Path, text: str = "n\n1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def keys(uploads: list[landing.Upload]) -> list[str]:
    return [upload.key for upload in uploads]


def test_a_file_lands_under_its_stem(tmp_path):
    assert keys(landing.plan([str(touch(tmp_path / "flights.csv.gz"))])) == ["raw/flights/flights.csv.gz"]


def test_a_dataset_overrides_the_stem(tmp_path):
    uploads = landing.plan([str(touch(tmp_path / "2024.csv"))], dataset="trips")
    assert keys(uploads) == ["raw/trips/2024.csv"]


def test_files_of_a_directory_go_to_its_name_and_those_below_to_the_first_folder(tmp_path):
    for name in ("b.csv", "a.csv", "x/1.csv", "x/y/2.csv", ".hidden", ".git/config"):
        touch(tmp_path / "inbox" / name)
    (tmp_path / "inbox" / "empty").mkdir()
    assert keys(landing.plan([str(tmp_path / "inbox")])) == [
        "raw/inbox/a.csv",
        "raw/inbox/b.csv",
        "raw/x/1.csv",
        "raw/x/y/2.csv",
    ]


def test_a_dataset_takes_a_whole_directory(tmp_path):
    touch(tmp_path / "inbox/x/1.csv")
    assert keys(landing.plan([str(tmp_path / "inbox")], dataset="trips")) == ["raw/trips/x/1.csv"]


def test_a_glob_in_quotes_is_expanded_in_order(tmp_path, monkeypatch):
    for name in ("b.csv", "a.csv", "c.txt"):
        touch(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert keys(landing.plan(["*.csv"])) == ["raw/a/a.csv", "raw/b/b.csv"]


def test_a_file_named_like_a_glob_is_taken_as_it_is(tmp_path, monkeypatch):
    touch(tmp_path / "a[1].csv")
    monkeypatch.chdir(tmp_path)
    assert keys(landing.plan(["a[1].csv"])) == ["raw/a[1]/a[1].csv"]


def test_the_same_file_twice_is_one_upload(tmp_path, monkeypatch):
    touch(tmp_path / "a.csv")
    monkeypatch.chdir(tmp_path)
    assert keys(landing.plan(["a.csv", "./a.csv", "*.csv"])) == ["raw/a/a.csv"]


def test_two_files_with_one_key_are_refused(tmp_path):
    one, two = touch(tmp_path / "x/a.csv"), touch(tmp_path / "y/a.csv")
    with pytest.raises(UsageError, match=r"would both be the object raw/a/a\.csv"):
        landing.plan([str(one), str(two)])


@pytest.mark.parametrize("what", ["missing.csv", "*.nothing", "folder"])
def test_what_is_not_there_is_not_found(what, tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError):
        landing.plan([what])


def test_a_name_that_is_not_utf8_is_told_clearly(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.csv"
    try:
        Path(os.fsdecode(path)).write_bytes(b"n\n1\n")
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    with pytest.raises(UsageError, match=r"caf\\xe9.csv is not UTF-8"):
        landing.plan([os.fsdecode(path)])


@pytest.mark.parametrize("dataset", ["", "a/b", "..", " "])
def test_a_dataset_is_one_folder_name(dataset, tmp_path):
    with pytest.raises(UsageError):
        landing.plan([str(touch(tmp_path / "a.csv"))], dataset=dataset)


def test_the_exit_code_is_that_of_the_worst_failure():
    def failed(code: int) -> LoadReport:
        return LoadReport("raw/a/a", "1", "a", "a", "failed", exit_code=code)

    loaded = LoadReport("raw/a/a", "1", "a", "a", "loaded")
    assert landing.exit_code([loaded]) == 0
    assert landing.exit_code([loaded, failed(6), failed(7), failed(3)]) == 7
    assert landing.exit_code([failed(6), failed(3)]) == 3


def test_upload_lands_loads_and_tells(lakectl, tmp_path):
    touch(tmp_path / "flights.csv", "n\n1\n2\n")
    done = lakectl("upload", "flights.csv")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "loaded  raw/flights/flights.csv → flights  2 rows, 0 rejects, 0.2 s  run 8"
    assert lines[1:] == ["    add column [red]b[/red] text", "    note: short rows padded: line 3"]
    assert done.err == ""


def test_one_broken_file_does_not_stop_the_others(lakectl, tmp_path):
    touch(tmp_path / "a.csv", "broken")
    touch(tmp_path / "b.csv", "")
    touch(tmp_path / "c.csv")
    done = lakectl("upload", "a.csv", "b.csv", "c.csv", "--json")
    assert done.code == 6
    assert {item["key"]: item["state"] for item in done.document["objects"]} == {
        "raw/a/a.csv": "failed",
        "raw/b/b.csv": "failed",
        "raw/c/c.csv": "loaded",
    }
    assert "error: raw/a/a.csv: no table\nhint: lakectl explain 9" in done.err
    assert "error: raw/b/b.csv: b.csv is empty\nhint: fill it" in done.err


def test_all_files_are_landed_before_any_is_loaded(lakectl, tmp_path):
    for name in ("a.csv", "b.csv"):
        touch(tmp_path / name)
    lakectl("upload", "a.csv", "b.csv")
    assert lakectl.target.asked == [("load", [("raw/a/a.csv", "1"), ("raw/b/b.csv", "1")])]


def test_no_wait_lands_and_loads_nothing(lakectl, tmp_path):
    touch(tmp_path / "a.csv")
    done = lakectl("upload", "a.csv", "--no-wait", "--json")
    assert done.document["objects"][0]["state"] == "pending"
    assert lakectl.target.asked == []
    assert lakectl.target.contents == {"raw/a/a.csv": b"n\n1\n"}


def test_standard_input_is_an_object_with_the_name_given(lakectl):
    done = lakectl("upload", "-", "--name", "trips.csv", "--json", stdin=b"n\n1\n")
    assert done.document["objects"][0]["key"] == "raw/trips/trips.csv"
    assert lakectl.target.contents == {"raw/trips/trips.csv": b"n\n1\n"}


def test_standard_input_needs_a_name(lakectl):
    assert lakectl("upload", "-").code == 2


@pytest.mark.parametrize(
    ("text", "code"), [(None, 3), ("", 6), ("broken", 6), ("unreachable", 7)], ids=["missing", "empty", "bad", "down"]
)
def test_each_failure_has_its_exit_code(text, code, lakectl, tmp_path):
    if text is not None:
        touch(tmp_path / "a.csv", text)
    assert lakectl("upload", "a.csv").code == code


def test_ctrl_c_exits_130_and_closes_the_target(lakectl, tmp_path):
    touch(tmp_path / "a.csv")
    lakectl.prepare.append(lambda target: setattr(target, "interrupt", True))
    done = lakectl("upload", "a.csv")
    assert done.code == 130
    assert done.err == "error: interrupted; nothing was left half done\nhint: the same command again goes on\n"
    assert lakectl.target.closed == 1


def test_run_local_rehearses_without_landing(lakectl, tmp_path):
    touch(tmp_path / "a.csv")
    done = lakectl("run-local", "a.csv", "--dry-run")
    assert done.out.startswith("would load  raw/a/a.csv → a  2 rows")
    assert lakectl.target.contents == {}


def test_run_local_without_arguments_loads_what_is_missing(lakectl):
    assert lakectl("run-local").code == 0
    assert lakectl.target.asked == [("load", [("raw/late/late.csv", "1")])]


@pytest.mark.parametrize(
    ("folder", "loaded"),
    [("raw/", True), ("raw", True), ("raw/late/", True), ("raw/other/", False), (".lake/raw", True)],
)
def test_a_folder_of_the_raw_zone_stands_for_what_is_missing_in_it(folder, loaded, lakectl, tmp_path):
    (tmp_path / ".lake/raw/late").mkdir(parents=True)
    done = lakectl("run-local", folder)
    assert done.code == 0
    assert lakectl.target.asked == ([("load", [("raw/late/late.csv", "1")])] if loaded else [])


def test_run_local_takes_keys_and_files(lakectl, tmp_path):
    touch(tmp_path / "a.csv")
    lakectl("run-local", "raw/old/old.csv", "a.csv")
    assert lakectl.target.asked == [("load", [("raw/old/old.csv", None), ("raw/a/a.csv", "1")])]


def test_run_local_loads_into_another_warehouse(lakectl, tmp_path):
    touch(tmp_path / "a.csv")
    lakectl("run-local", "a.csv", "--warehouse", "postgresql://h/db")
    assert ("elsewhere", "postgresql://h/db") in lakectl.target.asked


def test_run_loads_what_is_missing_and_reloads_what_is_named(lakectl):
    lakectl("run")
    assert lakectl.target.asked[1][0] == "load"
    lakectl("run", "--all", "--dataset", "late")
    assert lakectl.target.asked[:2] == [
        ("select", [], "late", False, True),
        ("reload", [("raw/late/late.csv", "1")]),
    ]
    assert lakectl("run", "raw/a/a.csv", "--failed").code == 2


def test_watch_loads_what_appears_and_ctrl_c_sums_up(lakectl, tmp_path, monkeypatch):
    from lakectl import watching

    touch(tmp_path / "inbox/a.csv")
    touch(tmp_path / "inbox/sub/b.csv", "broken")

    def appear(directory: str):
        yield f"{directory}/a.csv"
        yield f"{directory}/sub/b.csv"
        raise KeyboardInterrupt

    monkeypatch.setattr(watching, "settled_files", appear)
    done = lakectl("upload", "--watch", "inbox")
    assert done.code == 130
    assert "loaded  raw/inbox/a.csv → inbox" in done.out
    assert "error: raw/sub/b.csv: no table" in done.err
    assert "watched inbox: 1 loaded, 1 failed" in done.err
