"""Columns that come typed out of Arrow's parser are what casting their texts gives, or come as text."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from io import BytesIO

import pyarrow as pa
import pytest

from etl_container.formats import delimited, open_table
from etl_container.formats.base import RawBatch, ReadOptions, Source, TableReader, expect
from etl_container.infer import Inference, TypeBreak
from etl_container.rejects import RejectSpool

CASES = 150
BLOCK = 1024


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "SAMPLE_BYTES", 256)
    monkeypatch.setattr(delimited, "FIRST_BYTES", BLOCK)
    monkeypatch.setattr(delimited, "BLOCK_BYTES", BLOCK)
    monkeypatch.setattr(delimited, "PIECE_BYTES", BLOCK // 8)


@pytest.fixture
def spool() -> Iterator[RejectSpool]:
    spool = RejectSpool()
    yield spool
    spool.close()


def opened(text: str, spool: RejectSpool) -> TableReader:
    data = text.encode()
    return open_table(Source("t.csv", len(data), lambda: BytesIO(data)), ReadOptions(), spool)


def rows_of(header: str, row: Callable[[int], str], count: int = 4000) -> str:
    return header + "\n" + "".join(row(i) + "\n" for i in range(count))


def read(text: str, spool: RejectSpool, *, typed: bool) -> tuple[list[RawBatch], list[pa.RecordBatch], object]:
    """The batches, what they are cast to, and the first break, if any."""
    reader = opened(text, spool)
    inference = Inference(ReadOptions())
    raw: list[RawBatch] = []
    cast: list[pa.RecordBatch] = []
    targets = None
    for batch in reader.batches():
        if targets is None:
            inference.observe(batch)
            targets = inference.targets
            if typed:
                expect(reader, inference.expected(targets))
        raw.append(batch)
        try:
            cast.append(inference.cast(batch, targets).batch)
        except TypeBreak as broken:
            return raw, cast, [(one.position, one.record, one.value) for one in broken.breaks]
    return raw, cast, None


def table(cast: list[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(cast).combine_chunks()


def typed_columns(raw: list[RawBatch]) -> set[str]:
    """The columns that came typed in some batch."""
    return {field.name for batch in raw for field in batch.data.schema if field.type != pa.string()}


def test_plainly_written_columns_come_typed_and_their_texts_can_be_had(spool: RejectSpool) -> None:
    text = rows_of(
        "n,x,d,t,s", lambda i: f'{i},{i / 8},2024-01-{i % 28 + 1:02d},2024-01-01 00:00:{i % 60:02d},"a, {i}"'
    )
    raw, cast, broken = read(text, spool, typed=True)
    assert broken is None
    assert typed_columns(raw) == {"n", "x", "d", "t"}
    assert table(cast).column("n").to_pylist() == list(range(4000))
    written = pa.Table.from_batches([batch.as_written().data for batch in raw])
    assert written.column("x").to_pylist() == [f"{i / 8}" for i in range(4000)]


@pytest.mark.parametrize("odd", ["007", "+7", "0x1f", "-07", " 7", '"007"', '"+7"', " 007", "7 "])
def test_a_number_that_arrow_alone_would_take_comes_as_text(odd: str, spool: RejectSpool) -> None:
    text = rows_of("n,m", lambda i: f"{odd},{i}" if i == 3000 else f"{i},{i}")
    _, plain, without = read(text, spool, typed=False)
    raw, cast, found = read(text, spool, typed=True)
    assert found == without
    assert table(cast).equals(table(plain))
    assert typed_columns(raw) == {"n", "m"}  # in the blocks before


@pytest.mark.parametrize(
    ("header", "value", "odd"),
    [
        ("x", "0.5", "9007199254740993"),
        ("x", "0.5", "nan"),
        ("x", "0.5", "inf"),
        ("x", "0.5", "-01.5"),
        ("d", "2024-02-01", "0000-12-31"),
        ("d", "2024-02-01", "2024-02-30"),
        ("t", "2024-02-01 10:00:00", "0000-01-01 00:00:00"),
        ("t", "2024-02-01 10:00:00", "2024-02-01 10:00:00Z"),
        ("t", "2024-02-01T10:00:00Z", "2024-02-01T10:00:00"),
        ("t", "2024-02-01T10:00:00+01:00", "0000-12-31T00:00:00Z"),
        ("n", "12", "NA"),
        ("n", "12", '""'),
    ],
)
def test_a_value_that_is_no_plain_one_is_told_as_from_text(
    header: str, value: str, odd: str, spool: RejectSpool
) -> None:
    text = rows_of(f"{header},k", lambda i: f"{odd if i in (3000, 3500) else value},{i}")
    _, plain, without = read(text, spool, typed=False)
    _, typed, found = read(text, spool, typed=True)
    assert found == without
    assert table(typed).equals(table(plain))


def test_a_column_that_failed_comes_as_text_and_the_others_typed(spool: RejectSpool) -> None:
    raw, _, _ = read(rows_of("n,m", lambda i: f"{'NA' if i == 2000 else i},{i}"), spool, typed=True)
    last = raw[-1].data.schema
    assert (last.field("n").type, last.field("m").type) == (pa.string(), pa.int64())


def test_a_column_with_a_sign_for_null_comes_typed_and_the_sign_stays_in_a_column_of_texts(spool: RejectSpool) -> None:
    text = rows_of("n,s,t", lambda i: "NA,NA," if i % 7 == 3 else f"{i},,2024-01-01 00:00:{i % 60:02d}")
    raw, cast, _ = read(text, spool, typed=True)
    assert typed_columns(raw) == {"n", "t"}
    _, plain, _ = read(text, spool, typed=False)
    assert table(cast).equals(table(plain))
    assert table(cast).slice(2, 2).to_pylist()[1] == {"n": None, "s": "NA", "t": None}
    quoted, cast, _ = read(text.replace(",,", ',"",'), spool, typed=True)
    assert {batch.data.schema.field("n").type for batch in quoted} == {pa.string()}
    assert table(cast).column("s").to_pylist()[:4] == ["", "", "", "NA"]


def test_where_types_are_of_no_use_columns_come_as_text_again(spool: RejectSpool) -> None:
    large = 1 << 60
    raw, _, broken = read(rows_of("x", lambda i: f"{large + i}" if i > 1500 else "0.5"), spool, typed=True)
    assert broken
    raw, cast, broken = read(rows_of("n,m", lambda i: f"{i},{i}" + ("," if i % 5 == 0 else "")), spool, typed=True)
    assert broken is None
    assert raw[-1].written is None
    assert table(cast).column("m").to_pylist() == list(range(4000))


def test_a_header_that_stands_there_again_is_seen(spool: RejectSpool) -> None:
    text = rows_of("name,2019,2020", lambda i: "name,2019,2020" if i == 3000 else f"a{i},{i},{i}")
    reader = opened(text, spool)
    inference = Inference(ReadOptions())
    for number, batch in enumerate(reader.batches()):
        if number == 0:
            inference.observe(batch)
            expect(reader, inference.expected(inference.targets))
    assert "another table begins on line 3002" in " ".join(reader.notes)


def random_text(rnd: random.Random) -> str:
    """A table of a few columns, each plain but for now and then an odd value."""
    plain: dict[str, Callable[[], str]] = {
        "n": lambda: str(rnd.randint(-(10 ** rnd.randint(0, 18)), 10 ** rnd.randint(0, 18))),
        "x": lambda: repr(rnd.choice([rnd.random(), rnd.uniform(-1e6, 1e6), float(rnd.randint(-9, 9))])),
        "d": lambda: f"{rnd.randint(1, 9999):04d}-{rnd.randint(1, 12):02d}-{rnd.randint(1, 28):02d}",
        "t": lambda: f"{rnd.randint(1600, 2300)}-0{rnd.randint(1, 9)}-11 {rnd.randint(0, 23):02d}:00:07",
        "z": lambda: f"20{rnd.randint(10, 99)}-11-01T0{rnd.randint(0, 9)}:00:00{rnd.choice(['Z', '+02:00'])}",
        "s": lambda: rnd.choice(["plain", '"a, 007"', '"with ""quotes"""', '"two\nlines"', "", '""', "é", "0123"]),
    }
    odd = [
        "007",
        "+7",
        "-01.5",
        "0x1f",
        "1e5",
        "nan",
        "NA",
        "",
        '""',
        " 7",
        "7 ",
        "1.",
        ".5",
        '"7"',
        "-0",
        "00",
        "0.50",
    ]
    odd += ["0.50", "9007199254740993", "2024-02-30", "0000-01-01", "x", "1,5", "2024-01-01 10:00", "9" * 20]
    names = rnd.sample(list(plain), rnd.randint(1, 5))
    if rnd.random() < 0.5:
        plain["s"] = lambda: rnd.choice(["plain", "NA", "", "-", "é", "0123"])  # so that some texts have no quote
    nulls = {name: rnd.choice([0, 0, 0.01, 0.3]) for name in names}
    token = rnd.choice(["NA", "null", "-", "nan", "N/A", "?", "."])
    often = rnd.choice([0, 0, 0.0003, 0.002, 0.02])
    lines = [",".join(names)]
    for _ in range(rnd.randint(100, 600)):
        cells = [
            rnd.choice(odd) if rnd.random() < often else token if rnd.random() < nulls[name] else plain[name]()
            for name in names
        ]
        lines.append(",".join(cells))
    return rnd.choice(["\n", "\n", "\r\n"]).join(lines) + rnd.choice(["", "\n"])


def test_typed_columns_are_what_their_texts_are_cast_to(spool: RejectSpool) -> None:
    seed = int(os.environ.get("LAKE_TEST_SEED", random.randrange(10**9)))
    print(f"LAKE_TEST_SEED={seed}")
    came = 0
    for case in range(CASES):
        text = random_text(random.Random(f"{seed}/{case}"))
        _, plain, without = read(text, spool, typed=False)
        raw, typed, found = read(text, spool, typed=True)
        came += bool(typed_columns(raw))
        assert found == without, case
        assert [batch.to_pydict() for batch in typed] == [batch.to_pydict() for batch in plain], case
    assert came > CASES / 3
