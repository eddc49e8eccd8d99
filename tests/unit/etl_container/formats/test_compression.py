"""What compression an object is in makes no difference to its rows, and damage is never taken for an end."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import random
import re
import sys
import zipfile
from pathlib import Path

import pytest

from etl_container.errors import UnreadableObjectError
from etl_container.formats import compression as layer
from etl_container.formats import list_tables, open_table
from etl_container.formats.base import RawBatch, ReadOptions, Reject, Source

zstd = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")

CSV = b"id,name\n1,ann\n2,bob\n"


class Rejects:
    def __init__(self) -> None:
        self.all: list[Reject] = []

    def add(self, reject: Reject) -> None:
        self.all.append(reject)


def source_of(data: bytes, name: str = "table.csv") -> Source:
    return Source(name, len(data), lambda: io.BytesIO(data))


def rows_of(data: bytes, name: str = "table.csv", **options: object) -> list[dict[str, object]]:
    batches: list[RawBatch] = list(open_table(source_of(data, name), ReadOptions(**options), Rejects()).batches())
    return [row for batch in batches for row in batch.data.to_pylist()]


def zip_of(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


WRAPPED = {
    "gzip": gzip.compress,
    "zstd": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zip": lambda data: zip_of({"table.csv": data}),
}
ROWS = [{"id": "1", "name": "ann"}, {"id": "2", "name": "bob"}]


def noise(size: int) -> bytes:
    """Text that does not compress away."""
    return random.Random(7).randbytes(size // 2).hex().encode()


LONG = re.sub(rb"(.{60})", rb"\1\n", b"x" * 60 + noise(60_000))


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_compressed_table_is_known_by_its_bytes_and_gives_the_same_rows(kind: str) -> None:
    reader = open_table(source_of(WRAPPED[kind](CSV), "misleading.csv"), ReadOptions(), Rejects())
    assert reader.description.compression == kind
    assert [row for batch in reader.batches() for row in batch.data.to_pylist()] == ROWS


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_truncated_stream_is_an_error_naming_the_file(kind: str, keep: float) -> None:
    data = WRAPPED[kind](LONG)
    with pytest.raises(UnreadableObjectError, match=r"cut\.csv"):
        rows_of(data[: int(len(data) * keep)], "cut.csv")


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_damaged_stream_is_an_error_and_not_other_rows(kind: str) -> None:
    data = bytearray(WRAPPED[kind](LONG))
    data[len(data) // 2] ^= 0x55
    with pytest.raises(UnreadableObjectError, match="damaged"):
        rows_of(bytes(data))


@pytest.mark.parametrize("kind", ["gzip", "zstd", "bzip2", "xz"])
def test_streams_one_after_another_are_one_table(kind: str) -> None:
    wrap = WRAPPED[kind]
    assert rows_of(wrap(CSV) + wrap(b"3,cid\n") + wrap(b"")) == [*ROWS, {"id": "3", "name": "cid"}]


@pytest.mark.parametrize("kind", ["gzip", "zstd", "bzip2", "xz"])
def test_rubbish_behind_a_stream_is_an_error(kind: str) -> None:
    with pytest.raises(UnreadableObjectError, match="follow its data"):
        rows_of(WRAPPED[kind](CSV) + b"<html>proxy error</html>")


def test_zero_bytes_behind_gzip_are_padding() -> None:
    assert rows_of(gzip.compress(CSV) + bytes(5000)) == ROWS


def test_compressions_may_wrap_one_another_three_deep() -> None:
    data = zip_of({"a.csv.gz": gzip.compress(CSV)})
    reader = open_table(source_of(bz2.compress(data)), ReadOptions(), Rejects())
    assert reader.description.compression == "bzip2+zip+gzip"
    with pytest.raises(UnreadableObjectError, match="more than 3 times"):
        rows_of(gzip.compress(bz2.compress(gzip.compress(bz2.compress(CSV)))))


def test_a_stream_that_inflates_absurdly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer, "RATIO_GRACE", 1 << 20)
    for bomb in (bz2.compress(b"1" * (16 << 20)), zip_of({"a.csv": b"1" * (16 << 20)}, zipfile.ZIP_BZIP2)):
        inflated, _ = layer.decompress(source_of(bomb), ReadOptions())
        with inflated.open() as stream, pytest.raises(UnreadableObjectError, match="bomb"):
            stream.read()


def test_the_first_readable_member_is_the_table_and_the_others_are_told() -> None:
    data = zip_of(
        {
            "__MACOSX/._b.csv": b"\x00\x05",
            "docs/": b"",
            "README.md": b"hello",
            "logo.csv": b"\x89PNG\r\n\x1a\n" + bytes(50),
            "b.csv": CSV,
            "c.csv": b"x\n9\n",
        }
    )
    reader = open_table(source_of(data, "all.zip"), ReadOptions(), Rejects())
    assert reader.description.table == "b.csv"
    assert reader.description.others == ("README.md", "logo.csv", "c.csv")
    assert "c.csv" in reader.notes[0]
    assert rows_of(data, "all.zip", member="c.csv") == [{"x": "9"}]
    assert set(list_tables(source_of(data), ReadOptions(), Rejects())) == {"README.md", "logo.csv", "b.csv", "c.csv"}


def test_a_member_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UnreadableObjectError, match=r"no member 'z\.csv'") as caught:
        rows_of(zip_of({"a.csv": CSV}), member="z.csv")
    assert "a.csv" in str(caught.value.hint)


def test_an_archive_without_files_is_empty() -> None:
    with pytest.raises(UnreadableObjectError, match="without any file"):
        rows_of(zip_of({}))


def test_an_encrypted_member_says_so() -> None:
    data = bytearray(zip_of({"a.csv": CSV}, zipfile.ZIP_STORED))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(UnreadableObjectError, match="encrypted"):
        rows_of(bytes(data))


def test_a_temporary_copy_goes_away(tmp_path: Path) -> None:
    with layer.local_copy(source_of(CSV)) as path:
        assert Path(path).read_bytes() == CSV
    assert not Path(path).exists()
    here = tmp_path / "a.csv"
    here.write_bytes(CSV)
    with layer.local_copy(Source("a.csv", None, lambda: here.open("rb"), str(here))) as path:
        assert path == str(here)
    assert here.exists()


def test_inflating_holds_only_a_piece_in_memory() -> None:
    import tracemalloc

    data = gzip.compress(bytes(32 << 20))
    inflated, _ = layer.decompress(source_of(data), ReadOptions())
    tracemalloc.start()
    with inflated.open() as stream:
        total = sum(len(chunk) for chunk in iter(lambda: stream.read(1 << 16), b""))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 32 << 20
    assert peak < 4 << 20


def test_a_workbook_from_afar_is_fetched_once(tmp_path: Path) -> None:
    import openpyxl

    workbook = openpyxl.Workbook()
    workbook.active.append(["id"])
    workbook.active.append([1])
    workbook.save(tmp_path / "w.xlsx")
    data = (tmp_path / "w.xlsx").read_bytes()
    opened = []

    def open_() -> io.BytesIO:
        opened.append(True)
        return io.BytesIO(data)

    assert open_table(Source("w.xlsx", len(data), open_), ReadOptions(), Rejects()).labels == ("id",)
    # The head is looked at once; one copy is made.
    assert len(opened) == 2
