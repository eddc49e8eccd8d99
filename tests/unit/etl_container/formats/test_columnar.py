"""Formats with types of their own: the types come through, text is plain, damage is an error and never a crash."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import json
import random
import uuid
from collections.abc import Callable
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from etl_container.errors import UnreadableObjectError
from etl_container.formats import columnar, open_table
from etl_container.formats.base import Kind, RawBatch, ReadOptions, Reject, Source, TableReader


class Rejects:
    def add(self, reject: Reject) -> None:
        raise AssertionError(reject)


def opened(data: bytes, name: str = "t.bin") -> TableReader:
    return open_table(Source(name, len(data), lambda: io.BytesIO(data)), ReadOptions(), Rejects())


def opened_here(data: bytes, found: str) -> TableReader:
    """In this process, where a limit can be changed."""
    return columnar.open_columnar(Source("t.bin", len(data), lambda: io.BytesIO(data)), ReadOptions(), found)


def rows_of(data: bytes) -> list[dict[str, Any]]:
    return [row for batch in opened(data).batches() for row in batch.data.to_pylist()]


def written(write: Callable[[Any], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def stream_of(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


TABLE = pa.table(
    {
        "i": pa.array([1, None, 3], pa.int32()),
        "s": ["x", None, "ü"],
        "d": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-2.25")], pa.decimal128(10, 2)),
        "t": pa.array([dt.datetime(2024, 1, 2, 3, 4, 5, 6, dt.UTC), None, None], pa.timestamp("us", "UTC")),
        "l": [[1, 2], None, []],
        "o": [{"a": 1}, None, {"a": None}],
        "b": [True, False, None],
    }
)
WRITERS: dict[str, Callable[[pa.Table], bytes]] = {
    "parquet": lambda table: written(lambda sink: pq.write_table(table, sink)),
    "arrow file": lambda table: written(lambda sink: pyarrow.feather.write_feather(table, sink)),
    "arrow stream": stream_of,
    "orc": lambda table: written(lambda sink: pyarrow.orc.write_table(table, sink)),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_types_and_values_come_through(kind: str) -> None:
    reader = opened(WRITERS[kind](TABLE), "misleading.csv")
    (batch,) = reader.batches()
    assert reader.description.format == kind.split(maxsplit=1)[0]
    assert reader.labels == tuple(TABLE.column_names)
    assert batch.data.to_pylist() == TABLE.to_pylist()
    assert batch.kinds[1] == Kind.VERBATIM
    assert pa.types.is_decimal(batch.data.schema.field("d").type)
    assert pa.types.is_timestamp(batch.data.schema.field("t").type)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_row_can_be_found_again_as_json(kind: str) -> None:
    ((record, line, text),) = opened(WRITERS[kind](TABLE)).locate([2])
    assert (record, line) == (2, None)
    assert json.loads(text or "") == {"i": 3, "s": "ü", "d": "-2.25", "t": None, "l": [], "o": {"a": None}, "b": None}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_truncated_file_is_an_error(kind: str) -> None:
    data = WRITERS[kind](TABLE)
    for keep in (0.3, 0.6, 0.9):
        with pytest.raises(UnreadableObjectError, match=r"t\.bin is damaged"):
            rows_of(data[: int(len(data) * keep)])


@pytest.mark.parametrize("kind", ["parquet", "arrow file", "arrow stream"])
def test_flipped_bytes_give_an_error_or_rows_and_nothing_else(kind: str) -> None:
    data = WRITERS[kind](TABLE)
    generator = random.Random(11)
    errors = 0
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(3):
            damaged[generator.randrange(8, len(data))] = generator.randrange(256)
        try:
            rows_of(bytes(damaged))
        except UnreadableObjectError:
            errors += 1
    assert errors > 20


def test_every_container_of_text_becomes_plain_text() -> None:
    table = pa.table(
        {
            "dictionary": pa.array(["x", "y", "x"]).dictionary_encode(),
            "large": pa.array(["x", "y", "x"], pa.large_string()),
            "view": pa.array(["x", "y", "x"], pa.string_view()),
        }
    )
    (batch,) = opened(stream_of(table)).batches()
    assert set(batch.data.schema.types) == {pa.string()}
    assert batch.kinds == (Kind.VERBATIM,) * 3
    assert batch.data.to_pydict() == {name: ["x", "y", "x"] for name in table.column_names}


def test_uuids_and_json_are_known_for_what_they_are() -> None:
    value = uuid.UUID("12345678-1234-5678-1234-567812345678")
    table = pa.table(
        {"u": pa.array([value.bytes, None], pa.uuid()), "j": pa.array(['{"a":1}', None], pa.string()).cast(pa.json_())}
    )
    (batch,) = opened(stream_of(table)).batches()
    assert batch.kinds == (Kind.STRING, Kind.NESTED)
    assert batch.data.to_pydict() == {"u": [str(value), None], "j": ['{"a":1}', None]}


@pytest.mark.parametrize("kind", WRITERS)
def test_batches_are_bounded_and_their_ordinals_go_on(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "BATCH_ROWS", 1000)
    batches: list[RawBatch] = list(
        opened_here(WRITERS[kind](pa.table({"n": range(2500)})), kind.split(maxsplit=1)[0]).batches()
    )
    assert [batch.data.num_rows for batch in batches] == [1000, 1000, 500]
    assert [batch.first_record for batch in batches] == [0, 1000, 2000]


def test_wide_values_make_batches_of_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "BATCH_BYTES", 100_000)
    table = pa.table({"text": ["x" * 10_000 + str(number) for number in range(100)]})
    sizes = [batch.data.num_rows for batch in opened_here(stream_of(table), "arrow").batches()]
    assert sum(sizes) == 100
    assert max(sizes) <= 10


AVRO = {
    "type": "record",
    "name": "row",
    "fields": [
        {"name": "n", "type": "long"},
        {"name": "s", "type": ["null", "string"]},
        {"name": "either", "type": ["null", "long", "string"]},
        {"name": "m", "type": {"type": "map", "values": "int"}},
        {"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}},
        {"name": "t", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}]},
        {"name": "e", "type": {"type": "enum", "name": "letter", "symbols": ["A", "B"]}},
        {"name": "again", "type": ["null", "letter"]},
    ],
}
AVRO_ROW = {
    "n": 1,
    "s": "x",
    "either": "7",
    "m": {"k": 1},
    "d": decimal.Decimal("1.25"),
    "t": dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
    "day": dt.date(2024, 1, 2),
    "e": "B",
    "again": None,
}


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_avro_comes_through_with_its_logical_types(codec: str) -> None:
    data = written(lambda sink: fastavro.writer(sink, AVRO, [AVRO_ROW, {**AVRO_ROW, "s": None}], codec=codec))
    (batch,) = opened(data).batches()
    assert batch.data.to_pylist() == [{**AVRO_ROW, "either": '"7"', "m": '{"k":1}', "s": s} for s in ("x", None)]
    assert batch.kinds[1:4] == (Kind.VERBATIM, Kind.NESTED, Kind.NESTED)
    for keep in (0.5, 0.99):
        with pytest.raises(UnreadableObjectError, match="damaged"):
            rows_of(data[: int(len(data) * keep)])


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "bzip2", "xz", "zstandard"])
def test_every_codec_of_avro_is_read(codec: str) -> None:
    schema = {"type": "record", "name": "row", "fields": [{"name": "n", "type": "long"}]}
    data = written(lambda sink: fastavro.writer(sink, schema, [{"n": 1}, {"n": 2}], codec=codec))
    assert rows_of(data) == [{"n": 1}, {"n": 2}]


UNION = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])])
TWICE = pa.StructArray.from_arrays([pa.array([1, 2]), pa.array([3, 4])], ["a", "a"])


@pytest.mark.parametrize(
    ("column", "what"), [(UNION, "sparse_union"), (TWICE, "two fields of one name"), (pa.array([[1]] * 2), None)]
)
def test_a_column_that_no_table_can_hold_is_named(column: pa.Array, what: str | None) -> None:
    data = stream_of(pa.table({"n": [1, 2], "odd": column}))
    if what is None:
        assert len(rows_of(data)) == 2
        return
    with pytest.raises(UnreadableObjectError, match=rf"column 'odd' is or holds .*{what}"):
        opened(data)


def test_a_label_that_postgresql_cannot_hold_is_mended() -> None:
    assert opened(stream_of(pa.table({"a\0b": [1]}))).labels == ("a\ufffdb",)
