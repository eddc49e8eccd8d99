"""The same table in many formats, each plain and in every compression, gives the same rows."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet
import pytest

from tests.local.conftest import Lake

ROWS: list[dict[str, Any]] = [
    {
        "id": i,
        "name": f"name {i}, «{i % 7}»" if i % 5 else None,
        "price": i / 4,
        "day": date(2024, 1 + i % 12, 1 + i % 28),
        "at": datetime(2024, 5, 6, 7, 8, i % 60),
        "ok": i % 3 == 0,
    }
    for i in range(1, 301)
]
NAMES = list(ROWS[0])
ARROW = pa.Table.from_pylist(ROWS).set_column(4, "at", pa.array([row["at"] for row in ROWS], pa.timestamp("us")))


def cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def delimited(delimiter: str) -> Callable[[], bytes]:
    def write() -> bytes:
        lines = [delimiter.join(NAMES)]
        for row in ROWS:
            cells = [cell(row[name]) for name in NAMES]
            lines.append(delimiter.join(f'"{text}"' if delimiter in text or "," in text else text for text in cells))
        return ("\n".join(lines) + "\n").encode()

    return write


def plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in row.items()}


def arrow(write: Callable[[pa.Table, io.BytesIO], Any]) -> Callable[[], bytes]:
    def written() -> bytes:
        sink = io.BytesIO()
        write(ARROW, sink)
        return sink.getvalue()

    return written


def ipc(table: pa.Table, sink: io.BytesIO) -> None:
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def xlsx() -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(NAMES)
    for row in ROWS:
        sheet.append([row[name] for name in NAMES])
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


FORMATS: dict[str, Callable[[], bytes]] = {
    "csv": delimited(","),
    "tsv": delimited("\t"),
    "psv": delimited("|"),
    "semicolon.csv": delimited(";"),
    "jsonl": lambda: "".join(json.dumps(plain(row)) + "\n" for row in ROWS).encode(),
    "json": lambda: json.dumps([plain(row) for row in ROWS], indent=1).encode(),
    "parquet": arrow(pyarrow.parquet.write_table),
    "arrow": arrow(ipc),
    "feather": arrow(pyarrow.feather.write_feather),
    "orc": arrow(pyarrow.orc.write_table),
    "xlsx": xlsx,
}


def zipped(data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("table", data)
    return sink.getvalue()


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zip": zipped,
}


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_rows_come_out_of_every_compression_of(lake: Lake, form: str) -> None:
    data = FORMATS[form]()
    expected = [(row["id"], row["name"], row["price"], row["day"], row["at"], row["ok"]) for row in ROWS]
    for suffix, compress in COMPRESSIONS.items():
        report = lake.upload(f"table.{form}{suffix}", compress(data), "t")
        assert (report.state, report.rows, report.rejects, report.error) == ("loaded", 300, 0, None), suffix
        rows = lake.sql(f"select id, name, price, day, at, ok from t where _lake_run = {report.run} order by id")
        assert rows == expected, suffix
    assert lake.types() == {
        "id": "bigint",
        "name": "text",
        "price": "double precision",
        "day": "date",
        "at": "timestamp without time zone",
        "ok": "boolean",
    }


def test_a_column_that_a_contract_wants_as_numeric_keeps_its_digits(lake: Lake) -> None:
    lake.configure('[dataset.t.contract.columns]\nfare = { type = "numeric", max = 50 }\n')
    report = lake.upload("a.csv", "fare\n0.25\n49.5\n50.01\n7\n")
    assert (report.rows, report.rejects) == (3, 1)
    assert [str(value) for (value,) in lake.sql("select fare from t order by fare")] == ["0.25", "7.00", "49.50"]


def test_exact_decimals_are_numeric_where_a_setting_asks(lake: Lake) -> None:
    lake.configure("[dataset.t.read]\nexact_decimals = true\n")
    lake.upload("a.csv", "id,amount\n1,0.10\n2,12345678901234567.89\n")
    assert lake.types()["amount"] == "numeric"
    assert lake.value("select sum(amount) from t") == Decimal("12345678901234567.99")


def test_every_inferred_type_arrives_in_postgresql(lake: Lake) -> None:
    lake.upload(
        "a.csv",
        "code,big,id,at,clock,flag,mixed\n"
        "007,92233720368547758070,6ba7b810-9dad-11d1-80b4-00c04fd430c8,2024-01-02T03:04:05+02:00,15:04,true,1\n"
        "008,5,6ba7b811-9dad-11d1-80b4-00c04fd430c8,2024-01-02T03:04:05Z,03:04:05.5,FALSE,x\n",
    )
    assert lake.types() == {
        "code": "text",
        "big": "numeric",
        "id": "uuid",
        "at": "timestamp with time zone",
        "clock": "time without time zone",
        "flag": "boolean",
        "mixed": "text",
    }
    assert lake.sql("select code, big, at, flag from t order by code") == [
        ("007", Decimal("92233720368547758070"), datetime(2024, 1, 2, 1, 4, 5, tzinfo=UTC), True),
        ("008", Decimal(5), datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), False),
    ]


@pytest.mark.parametrize("transform", [None, "def transform(df):\n    return df\n"])
def test_a_key_that_first_appears_after_the_sample_is_a_column(lake: Lake, transform: str | None) -> None:
    if transform:
        lake.transform("t.py", transform)
    lines = [f'{{"a": {n}, "text": "of some length"}}' for n in range(40_000)]
    lines += [f'{{"a": {n}, "late": "x"}}' for n in range(100)]
    assert lake.upload("t.jsonl", "\n".join(lines)).rows == 40_100
    assert lake.sql("select count(*), count(late), count(text) from t") == [(40_100, 100, 40_000)]
    assert lake.upload("two.json", '{"b": 1} "x"', "u").rows == 2
