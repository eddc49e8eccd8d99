from __future__ import annotations

import pytest


def test_rejects_are_listed_with_control_characters_shown(lakectl):
    done = lakectl("rejects", "a")
    assert "not a number" in done.out
    assert "x\\x1b[31m,y" in done.out
    assert "\x1b" not in done.out


def test_an_export_says_how_to_go_on(lakectl):
    done = lakectl("rejects", "a", "--export", "fixed.csv")
    assert done.out == "37 rejects written to fixed.csv\n"
    assert done.err == "mend them there, then: lakectl rejects a fixed.csv --retry\n"
    assert lakectl.target.asked == [("export", "a", "fixed.csv")]
    assert lakectl("rejects", "--export", "f.csv", "--json").document == {"file": "f.csv", "rejects": 37}


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["trips", "fixed.csv", "--retry"], ("retry", "trips", "fixed.csv")),
        (["--retry", "trips", "fixed.csv"], ("retry", "trips", "fixed.csv")),
        (["--retry", "fixed.csv"], ("retry", None, "fixed.csv")),
        (["trips", "--retry"], ("retry", "trips", None)),
        (["--retry"], ("retry", None, None)),
        (["trips", "./fixed", "--retry"], ("retry", "trips", "./fixed")),
    ],
)
def test_every_form_of_a_retry_works(words, asked, lakectl):
    lakectl("rejects", *words)
    assert lakectl.target.asked == [asked]


def test_a_retry_that_leaves_rejects_exits_6(lakectl):
    done = lakectl("rejects", "a", "--retry", "--json")
    assert done.code == 6
    assert done.document == {"retried": [{"dataset": "a", "loaded": 36, "still_rejected": 1, "run": "8"}]}


@pytest.mark.parametrize("words", [["a", "b"], ["a", "b", "c", "--retry"], ["--retry", "--export", "x"]])
def test_too_many_words_exit_2(words, lakectl):
    assert lakectl("rejects", *words).code == 2


def test_undo_says_what_went_and_what_came_back(lakectl):
    done = lakectl("undo", "7")
    assert done.out == "undone  run 7: 2 rows taken from a\n    1 row of version 0 brought back\n"
