"""E-mails, documents, images and sounds in the lake: loaded, found, taken back."""

from __future__ import annotations

import io
import json
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_container.formats import confined
from etl_container.warehouse import Session
from lakectl import landing, searching, unpacking
from lakectl.cli.app import main
from lakectl.cli.loading import with_contents
from lakectl.errors import NotFoundError, UsageError
from tests.local.conftest import Lake

MAIL = (
    "From: Ada <ada@example.org>\nTo: bob@example.org\nSubject: {subject}\nDate: Tue, 24 Nov 2026 10:00:00 +0100\n"
    "Content-Type: text/plain; charset=utf-8\n\n{body}\n"
)
ENGLISH = "Dear Bob, the invoices for the last months are overdue. Please settle them as soon as you can, kind regards."
GERMAN = "Lieber Bob, die Rechnungen der letzten Monate sind noch immer nicht bezahlt worden. Viele Grüße aus Zürich."


def mail(subject: str, body: str) -> str:
    return MAIL.format(subject=subject, body=body)


@pytest.fixture
def letters(lake: Lake) -> Lake:
    lake.upload("en.eml", mail("Reminder", ENGLISH), "letters")
    lake.upload("de.eml", mail("Erinnerung", GERMAN), "letters")
    return lake


def found(lake: Lake, text: str, **options: int | str) -> list[str]:
    return [hit.key for hit in searching.search(lake.target, text, **options)]  # type: ignore[arg-type]


def test_a_mail_is_a_row_with_its_types(letters: Lake) -> None:
    assert letters.sql("select subject, recipients, sent_at at time zone 'utc' from letters order by 1")[0][:2] == (
        "Erinnerung",
        "bob@example.org",
    )
    types = letters.types("letters")
    assert types["sent_at"] == "timestamp with time zone"
    assert types["attachments"] == "jsonb"
    assert types["in_reply_to"] == "text"


def test_search_finds_words_in_the_forms_of_their_language(letters: Lake) -> None:
    assert found(letters, "invoice") == ["raw/letters/en.eml"]
    assert found(letters, "Rechnung") == ["raw/letters/de.eml"]
    assert found(letters, '"as soon as you can"') == ["raw/letters/en.eml"]
    assert found(letters, "bob -invoice") == ["raw/letters/de.eml"]
    assert sorted(found(letters, "reminder or erinnerung")) == ["raw/letters/de.eml", "raw/letters/en.eml"]
    assert found(letters, "nobody") == []


def test_a_hit_in_the_heading_ranks_first_and_the_snippet_shows_the_words(lake: Lake) -> None:
    lake.upload("a.md", "# Notes\n\nThe harbour was quiet today, and the boats lay still in it.\n", "notes")
    lake.upload("b.md", "# Harbour\n\nNothing else happened on that day that is worth a word.\n", "notes")
    hits = searching.search(lake.target, "harbour")
    assert [hit.key for hit in hits] == ["raw/notes/b.md", "raw/notes/a.md"]
    assert "«harbour»" in hits[1].snippet
    assert (hits[1].kind, hits[1].page, hits[1].title) == ("document", 1, "Notes")


def test_search_is_an_index_scan(letters: Lake) -> None:
    with Session(letters.dsn) as session, session.transaction():
        session.execute("set local enable_seqscan = off")
        plan = session.execute(
            "explain select 1 from letters where lake.words(language, subject, coalesce(sender, '') || ' ' || "
            "coalesce(body, '')) @@ lake.asked_in_any('invoice')"
        )
    assert any("letters_mail_words" in line for (line,) in plan), plan


def test_what_is_undone_or_replaced_is_not_found(letters: Lake) -> None:
    report = letters.upload(
        "en.eml", mail("Reminder", "Everything is settled now, thank you very much indeed."), "letters"
    )
    assert found(letters, "invoice") == []
    assert found(letters, "settled thank") == ["raw/letters/en.eml"]
    letters.target.undo(str(report.run))
    assert found(letters, "invoice") == ["raw/letters/en.eml"]


def test_several_kinds_share_a_table_and_a_table_without_text_is_not_searched(lake: Lake) -> None:
    lake.upload("a.eml", mail("Reminder", ENGLISH), "all")
    lake.upload("a.md", "# Invoice\n\nA short text about an invoice that nobody ever paid to anyone.\n", "all")
    lake.upload("t.csv", "id,text\n1,invoice\n", "plain")
    assert sorted(found(lake, "invoice")) == ["raw/all/a.eml", "raw/all/a.md"]
    with pytest.raises(NotFoundError, match="no table plain holds anything to search"):
        found(lake, "invoice", table="plain")
    assert sorted(found(lake, "invoice", table="all")) == ["raw/all/a.eml", "raw/all/a.md"]


@pytest.mark.parametrize(
    "text",
    ["o'brien; drop table letters; --", "%' or 1=1", "\\", "(((", '"', "a:b & c | !d <-> e", ":text", "$1", "日本"],
)
def test_a_question_of_any_characters_is_only_words(letters: Lake, text: str) -> None:
    assert found(letters, text) == []
    assert letters.value("select count(*) from letters") == 2


def test_nothing_to_search_for_is_a_usage_error(letters: Lake) -> None:
    with pytest.raises(UsageError, match="nothing to search for"):
        found(letters, "  ")


def test_a_transform_that_drops_the_text_leaves_nothing_to_search(lake: Lake) -> None:
    lake.transform("letters.py", "def transform(df):\n    return df[['subject', 'sent_at']]\n")
    assert lake.upload("a.eml", mail("Reminder", ENGLISH), "letters").state == "loaded"
    assert found(lake, "reminder") == []


def test_an_object_says_its_media_type_by_content(lake: Lake) -> None:
    lake.upload("odd.csv", mail("Reminder", ENGLISH), "odd")
    lake.upload("broken.csv", b"\x89PNG\r\n\x1a\n", "odd2")
    media = {info.key: (info.media_type, info.state) for info in lake.target.objects()}
    assert media == {
        "raw/odd/odd.csv": ("message/rfc822", "loaded"),
        "raw/odd2/broken.csv": ("image/png", "failed"),
    }


BAD = """
import os, time
def rows(path, found):
    data = open(path, "rb").read()
    if b"HANGS" in data:
        time.sleep(600)
    if b"SWELLS" in data:
        bytearray(64 << 30)
    if b"DIES" in data:
        os.kill(os.getpid(), 11)
    if b"LEAVES" in data:
        os._exit(3)
    yield {"format": "PNG", "caption": "good"}
"""
ENDS = {
    "HANGS": "stopped after 8 s",
    "SWELLS": "more than 3 GB of memory",
    "DIES": "crashed (signal 11)",
    "LEAVES": "its parser died",
}


@pytest.fixture
def bad_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Images are read by a parser that does to its process what stands in the file."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "bad.py").write_text(BAD)
    ours = f"sys.path.insert(0, {str(tmp_path / 'code')!r}); import bad; "
    ours += "from etl_container.formats import kind_reader; kind_reader._parser = lambda kind: bad.rows; "
    patched = confined._SERVE.replace("confined.serve()", ours + "confined.serve()")
    assert "bad.rows" in patched
    monkeypatch.setattr(confined, "_SERVE", patched)
    monkeypatch.setattr(confined, "PATIENCE", 8.0)
    confined.stop()
    handler = signal.getsignal(signal.SIGTERM)  # the command line takes it
    yield
    signal.signal(signal.SIGTERM, handler)
    confined.stop()


@pytest.mark.parametrize("command", [("upload",), ("run-local",), ("run-local", "--dry-run")])
def test_a_file_that_its_parser_fails_on_costs_no_other_file(
    lake: Lake,
    bad_parser: None,
    command: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LAKE_WAREHOUSE", lake.dsn)
    names = ["a", "HANGS", "b", "SWELLS", "c", "DIES", "d", "LEAVES", "e"]
    files = [lake.write(f"in/{name}.png", b"\x89PNG\r\n\x1a\n" + name.encode()) for name in names]
    table = lake.write("in/table.csv", "n\n1\n2\n")
    code = main(["-C", str(lake.root), *command, *map(str, [*files, table]), "--dataset", "d", "--json"])
    assert code == 6
    found = {
        Path(one["key"]).stem: (one["state"], one["rows"], one["error"])
        for one in json.loads(capsys.readouterr().out)["objects"]
    }
    assert {name for name, (state, _, _) in found.items() if state == "loaded"} == {"a", "b", "c", "d", "e", "table"}
    assert [found[name][1] for name in ("a", "e", "table")] == [1, 1, 2]
    for name, told in ENDS.items():
        state, _, error = found[name]
        assert (state, told in error) == ("failed", True), error
    if command != ("run-local", "--dry-run"):
        assert lake.value("select count(*) from d where caption = 'good'") == 5


@pytest.mark.parametrize("name", ENDS)
def test_previewing_a_file_that_its_parser_fails_on_says_why(
    lake: Lake, bad_parser: None, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lake.write(f"{name}.png", b"\x89PNG\r\n\x1a\n" + name.encode())
    assert main(["-C", str(lake.root), "preview", "--offline", str(path)]) == 6
    assert ENDS[name] in " ".join(capsys.readouterr().err.split())


def archive(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, data in members.items():
            made.writestr(name, data)
    return file.getvalue()


def test_unpacking_lands_members_and_attachments_beside_what_holds_them(tmp_path: Path) -> None:
    letter = (
        "From: a@example.org\nSubject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
        "--b\nContent-Type: text/plain\n\nhello\n--b\nContent-Type: text/csv\n"
        'Content-Disposition: attachment; filename="t.csv"\n\na,b\n1,2\n--b--\n'
    )
    inner = archive({"deep/t.csv": b"a\n1\n"})
    path = tmp_path / "all.zip"
    path.write_bytes(
        archive({"m/l.eml": letter.encode(), "in.zip": inner, "../../up.txt": b"climbs out", "empty": b""})
    )
    (tmp_path / "out").mkdir()
    plan = landing.plan([str(path)], dataset="d")
    got = {
        upload.key: Path(str(upload.path)).read_bytes()
        for upload in unpacking.unpacked(plan, tmp_path / "out", lambda _upload: True, [])
    }
    assert sorted(got) == [
        "raw/d/all.zip",
        "raw/d/all.zip/in.zip",
        "raw/d/all.zip/in.zip/deep/t.csv",
        "raw/d/all.zip/m/l.eml",
        "raw/d/all.zip/m/l.eml/t.csv",
        "raw/d/all.zip/up.txt",
    ]
    assert got["raw/d/all.zip/m/l.eml/t.csv"].split() == [b"a,b", b"1,2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.zip", "out"]


def test_attachments_of_every_message_of_a_mailbox_are_landed(tmp_path: Path) -> None:
    part = "Content-Type: text/csv\nContent-Disposition: attachment; filename=t.csv\n\na\n{n}\n"
    box = "".join(
        f"From z@example.org Tue Nov 24 10:00:00 2026\nFrom: a@example.org\nSubject: x\nMIME-Version: 1.0\n"
        f"Content-Type: multipart/mixed; boundary=b\n\n--b\n{part.format(n=n)}--b--\n\n"
        for n in (1, 2)
    )
    path = tmp_path / "in.mbox"
    path.write_text(box)
    (tmp_path / "out").mkdir()
    plan = landing.plan([str(path)], dataset="d")
    got = list(unpacking.unpacked(plan, tmp_path / "out", lambda _upload: True, []))
    assert [upload.key for upload in got[1:]] == ["raw/d/in.mbox/1/t.csv", "raw/d/in.mbox/2/t.csv"]
    assert Path(str(got[2].path)).read_text().split() == ["a", "2"]


def test_an_office_document_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    path.write_bytes(archive({"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<x/>"}))
    plan = landing.plan([str(path)])
    assert list(unpacking.unpacked(plan, tmp_path, lambda _upload: True, [])) == plan


def test_a_setting_unpacks_and_a_damaged_archive_stops_no_other_file(lake: Lake, tmp_path: Path) -> None:
    lake.configure("[dataset.d.read]\nunpack = true\n")
    whole = lake.write("in/a.zip", archive({"x/t.csv": b"a\n1\n"}))
    broken = lake.write("in/b.zip", archive({"y.txt": b"CONTENT"}).replace(b"CONTENT", b"DAMAGED"))
    plan = [*landing.plan([str(whole), str(broken)], dataset="d"), *landing.plan([str(whole)], dataset="e")]
    with with_contents(lake.target.lake, plan, False) as (found, refused):
        assert [upload.key for upload in found] == ["raw/d/a.zip", "raw/d/a.zip/x/t.csv", "raw/d/b.zip", "raw/e/a.zip"]
    (report,) = refused
    assert (report.key, report.state, report.exit_code) == ("raw/d/b.zip/…", "failed", 6)
