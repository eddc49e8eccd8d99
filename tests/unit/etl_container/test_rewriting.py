"""Tables written again: what comes out reads back as what went in."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl_container.formats.base import Description, Kind, RawBatch
from etl_container.rewriting import rewrite, unique


class Table:
    """A reader over rows of texts, a few in each batch."""

    notes: tuple[str, ...] = ()

    def __init__(self, labels: Sequence[str], batches: Iterable[Any], *, has_labels: bool = True) -> None:
        self.description = Description("csv", has_labels=has_labels)
        self.labels = tuple(labels)
        self._batches = list(batches)

    def batches(self) -> Iterator[RawBatch]:
        for data in self._batches:
            yield RawBatch(data, (Kind.TEXT,) * data.num_columns)

    def locate(self, records: Iterable[int]) -> Iterator[tuple[int, int | None, str | None]]:
        return iter(())


def texts(labels: Sequence[str], rows: Sequence[Sequence[str | None]]) -> Any:
    arrays = [pa.array([row[n] for row in rows], pa.string()) for n in range(len(labels))]
    return pa.RecordBatch.from_arrays(arrays, names=list(labels))


def written(table: Table, form: str = "csv", after: Sequence[str] | None = None) -> bytes:
    stream = io.BytesIO()
    rewrite(lambda: table, form, stream, after=after)
    return stream.getvalue()


FIELD = st.one_of(st.none(), st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=6))


@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.tuples(*[FIELD] * width), min_size=1, max_size=8)))
def test_every_text_reads_back_the_same(rows):
    labels = [f"label {n}" for n in range(len(rows[0]))]
    half = len(rows) // 2
    table = Table(labels, [texts(labels, part) for part in (rows[:half], rows[half:]) if part])
    for form, delimiter in (("csv", ","), ("tsv", "\t")):
        text = written(table, form).decode()
        found = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
        assert found == [labels, *[[value or "" for value in row] for row in rows]]


def test_only_what_needs_quotes_gets_them():
    table = Table(["a b", 'c"d'], [texts(["a", "b"], [["x y", "1,2"], ["'", "plain"]])])
    assert written(table) == b'a b,"c""d"\nx y,"1,2"\n\',plain\n'


def test_a_slice_of_a_batch_is_written_as_that_slice():
    data = texts(["a", "b"], [[str(n), "x,y" if n == 7 else "z"] for n in range(10)]).slice(6, 3)
    assert written(Table(["a", "b"], [data])) == b'a,b\n6,z\n7,"x,y"\n8,z\n'


def test_a_lone_empty_field_is_not_an_empty_line():
    assert written(Table(["a"], [texts(["a"], [["1"], [None], [""]])])) == b'a\n1\n""\n""\n'


def test_no_header_where_the_file_has_none_or_it_was_written_before():
    data = texts(["column_1"], [["1"]])
    assert written(Table(["column_1"], [data], has_labels=False)) == b"1\n"
    assert written(Table(["column_1"], [data]), after=("column_1",)) == b"1\n"


def test_a_table_without_rows_is_its_header():
    assert written(Table(["a", "b"], [])) == b"a,b\n"
    assert written(Table(["a", "b"], []), "json") == b"[]\n"
    assert pq.read_table(io.BytesIO(written(Table(["a", "b"], []), "parquet"))).column_names == ["a", "b"]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([1, None], pa.int64()), ["1", ""]),
        (pa.array([1.5, 2.0]), ["1.5", "2"]),
        (pa.array([True, None]), ["true", ""]),
        (pa.array([b"\x00\xff"], pa.binary()), ["\\x00ff"]),
        (pa.array([{"a": [1, None]}]), ['{"a":[1,null]}']),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
    ],
)
def test_typed_columns_become_the_texts_that_stand_for_their_values(array, expected):
    data = pa.RecordBatch.from_arrays([array, pa.array(["end"] * len(array))], names=["v", "w"])
    found = list(csv.reader(io.StringIO(written(Table(["v", "w"], [data])).decode())))
    assert [row[0] for row in found[1:]] == expected


def test_repeated_labels_stay_in_csv_and_are_numbered_where_each_must_be_unique():
    data = texts(["n", "n", "n_2"], [["1", "2", "3"]])
    assert written(Table(["n", "n", "n_2"], [data])) == b"n,n,n_2\n1,2,3\n"
    assert written(Table(["n", "n", "n_2"], [data]), "jsonl") == b'{"n":"1","n_3":"2","n_2":"3"}\n'


@given(st.lists(st.sampled_from(["a", "a_2", "a_3", "b", ""]), max_size=8))
def test_unique_labels_are_unique_and_keep_the_first(labels):
    found = unique(labels)
    assert len(set(found)) == len(labels)
    assert all(found[labels.index(label)] == label for label in labels)
