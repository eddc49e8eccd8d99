"""JSON in every shape that files have becomes rows, exactly; what is not JSON is a reject and ends nothing."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_container.errors import ConfigError, UnreadableObjectError
from etl_container.formats import json_columns, json_reader, open_table
from etl_container.formats.base import Kind, RawBatch, ReadOptions, Reject, Source, TableReader


class Rejects:
    def __init__(self) -> None:
        self.all: list[Reject] = []

    def add(self, reject: Reject) -> None:
        self.all.append(reject)


def opened(data: bytes, name: str = "t.json", rejects: Rejects | None = None, **options: object) -> TableReader:
    source = Source(name, len(data), lambda: io.BytesIO(data))
    return open_table(source, ReadOptions(**options), rejects or Rejects())


def rows_of(data: bytes, **options: object) -> list[dict[str, object]]:
    return [row for batch in opened(data, **options).batches() for row in batch.data.to_pylist()]


def only_batch(data: bytes, **options: object) -> RawBatch:
    (batch,) = opened(data, **options).batches()
    return batch


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"b":"x"}\n{"a":2,"b":null}\n',
        b'{"a":1,"b":"x"}\r\n\r\n{"a":2,"b":null}',
        b'[{"a":1,"b":"x"},{"a":2}]',
        b'[\n  {"a": 1, "b": "x"},\n  {"a": 2}\n]\n',
        b'{"a":1,"b":"x"}{"a":2}',
        b'{\n "a": 1,\n "b": "x"\n}\n{\n "a": 2\n}\n',
        b'\x1e{"a":1,"b":"x"}\n\x1e{"a":2}\n',
        b'[{"a":1,"b":"x"}]\n[{"a":2}]',
        b'{"data":[{"a":1,"b":"x"},{"a":2}],"next":"/2"}',
        b'{"meta":{"n":[2]},"results":[{"a":1,"b":"x"},{"a":2}]}',
        b'{"flights":[{"a":1,"b":"x"},{"a":2}]}',
        b'\xef\xbb\xbf[{"a":1,"b":"x"},{"a":2}]',
        '[{"a":1,"b":"x"},{"a":2}]'.encode("utf-16"),
        '{"a":1,"b":"x"}\n{"a":2}\n'.encode("utf-16-le"),
        '{"a":1,"b":"x"}\n{"a":2}\n'.encode("utf-32-be"),
    ],
)
def test_every_layout_gives_the_same_rows(data: bytes) -> None:
    assert rows_of(data) == [{"a": "1", "b": "x"}, {"a": "2", "b": None}]


def test_an_object_with_a_list_in_it_is_one_row_and_no_envelope() -> None:
    assert rows_of(b'{"id":7,"orders":[{"x":1}]}') == [{"id": "7", "orders": '[{"x":1}]'}]


def test_an_envelope_says_what_it_left_out() -> None:
    assert "Left out: total, next" in opened(b'{"total":1,"items":[{"a":1}],"next":null}').notes[0]


@pytest.mark.parametrize("data", [b"[1,2,null]", b"[ 1,\n2 , null ]"])
def test_bare_values_are_one_column(data: bytes) -> None:
    assert rows_of(data) == [{"value": "1"}, {"value": "2"}, {"value": None}]


def test_an_empty_array_has_no_rows() -> None:
    assert rows_of(b" [ ] ") == []


def test_kinds_say_what_each_column_holds() -> None:
    batch = only_batch(b'[{"n":1.5,"s":"1","b":true,"o":{"x":[1]},"z":null}]')
    assert batch.kinds == (Kind.NUMBER, Kind.STRING, Kind.BOOLEAN, Kind.NESTED, Kind(0))
    assert batch.data.to_pylist() == [{"n": "1.5", "s": "1", "b": "true", "o": '{"x":[1]}', "z": None}]


def test_mixed_plain_values_are_plain_text_and_with_nested_ones_json_text() -> None:
    batch = only_batch(b'[{"p":1,"q":1},{"p":"a","q":"a"},{"p":true,"q":[2]},{"p":null,"q":null},{"p":0.5,"q":false}]')
    assert batch.kinds[0] == Kind.NUMBER | Kind.STRING | Kind.BOOLEAN
    assert batch.kinds[1] == Kind.NUMBER | Kind.STRING | Kind.BOOLEAN | Kind.NESTED
    assert batch.data.column(0).to_pylist() == ["1", "a", "true", None, "0.5"]
    assert batch.data.column(1).to_pylist() == ["1", '"a"', "[2]", None, "false"]


NUMBERS = [
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "-9223372036854775809",
    "123456789012345678901234567890",
    "9" * 5000,
    "123456789.123456789",
    "0.1234567890123456789012",
    "-12345678901234567890.5",
    "1e999",
    "1.0",
    "0.1",
    "1234567890123456789",
]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_keeps_its_value_at_the_top_and_within(number: str) -> None:
    text = f'{{"a":{number},"b":{{"c":[{number}]}}}}\n{{"a":0,"b":null}}\n'
    row = rows_of(text.encode())[0]
    assert row["a"] == number
    assert row["b"] == f'{{"c":[{number}]}}'


@pytest.mark.parametrize("number", ["0.4e0066999999999999999999999999999", "12.5e999999999999999999", "1e999999"])
def test_a_number_beyond_any_machine_is_kept_as_it_is_written(number: str) -> None:
    assert rows_of(f'[{{"a":{number},"b":[{number}]}},{{"a":1}}]'.encode())[0] == {"a": number, "b": f"[{number}]"}


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"k":', "}"), ('[{"k":', "}]")])
def test_nesting_deeper_than_a_writer_of_json_goes_is_kept(opening: str, closing: str) -> None:
    times = 600 // len(opening + closing) + 100
    deep = opening * times + '["ü",12345678901234567890123,1.5,null,{}]' + closing * times
    assert rows_of(f'[{{"a":{deep}}}]'.encode()) == [{"a": deep}]


@pytest.mark.parametrize("data", [b"abc", b"1]", b"*", b"2@", b"<.>", b"[\x0c]"])
def test_fragments_named_json_are_rejected_and_no_table(data: bytes) -> None:
    rejects = Rejects()
    for batch in opened(data, "t.json", rejects).batches():
        assert not batch.data.num_rows
    assert "not JSON" in rejects.all[0].reason


def test_exact_decimals_keep_what_a_double_would_round() -> None:
    assert rows_of(b'{"a":0.10000000000000001}\n{}\n', exact_decimals=True)[0] == {"a": "0.10000000000000001"}
    assert rows_of(b'{"a":0.10000000000000001}\n{}\n')[0] == {"a": "0.1"}


def test_long_digits_within_a_string_are_left_alone() -> None:
    assert rows_of(b'[{"a":"123456789012345678901234","b":":12345678901234567890123 "}]') == [
        {"a": "123456789012345678901234", "b": ":12345678901234567890123 "}
    ]


def test_of_a_repeated_key_the_last_value_counts() -> None:
    assert rows_of(b'[{"a":1,"a":2}]') == [{"a": "2"}]


def test_what_postgresql_cannot_hold_becomes_the_replacement_character_with_a_note() -> None:
    reader = opened(b'{"a":"x\\u0000y","b":{"c\\u0000":"\\ud83d"}}\n{"a":"\\ud83d\\ude00"}\n')
    rows = [row for batch in reader.batches() for row in batch.data.to_pylist()]
    assert rows == [{"a": "x\ufffdy", "b": '{"c\ufffd":"\ufffd"}'}, {"a": "\U0001f600", "b": None}]
    assert "1 record" in reader.notes[-1]


BROKEN = [
    (b'{"a":NaN}', "NaN"),
    (b'{"a":-Infinity}', "Infinity"),
    (b'{"a":1', "not JSON"),
    (b"{'a':1}", "not JSON"),
    (b'{"a":01}', "not JSON"),
    (b'{"a":1,}', "not JSON"),
    (b'{"a":1} x', "not JSON"),
    (b'{"a":"\x01"}', "not JSON"),
    (b'{"a":"\xff"}', "byte 7 is not UTF-8"),
    (b'{"a":123456789012345678901234 5}', "not JSON"),
    (b"[" * 100_000, "not JSON"),
]


@pytest.mark.parametrize(("line", "reason"), BROKEN)
def test_a_broken_line_is_a_reject_with_line_text_and_reason(line: bytes, reason: str) -> None:
    rejects = Rejects()
    reader = opened(b'{"a":1}\n\n' + line + b'\n{"a":2}\n{"a":3}\n', "t.jsonl", rejects)
    (batch,) = reader.batches()
    assert batch.data.column(0).to_pylist() == ["1", "2", "3"]
    assert [batch.ordinal(row) for row in range(3)] == [0, 2, 3]
    (reject,) = rejects.all
    assert (reject.record, reject.line, reject.text) == (1, 3, line.decode("utf-8", "replace"))
    assert reason in reject.reason
    assert list(reader.locate([1, 3])) == [(1, 3, reject.text), (3, 5, '{"a":3}')]


def test_a_broken_element_of_an_array_costs_only_itself() -> None:
    rejects = Rejects()
    reader = opened(b'[\n{"a":1},\n{"a":NaN},\n{"a":3}\n]', rejects=rejects)
    assert [row for batch in reader.batches() for row in batch.data.to_pylist()] == [{"a": "1"}, {"a": "3"}]
    assert [(r.record, r.line, r.text) for r in rejects.all] == [(1, 3, '{"a":NaN}')]
    assert list(reader.locate([0, 2])) == [(0, 2, '{"a":1}'), (2, 4, '{"a":3}')]


@pytest.mark.parametrize("broken", [b'{"a":"x}', b'{"a":2', b'{"a":[2}', b'{"a":x"}'])
def test_a_missing_quote_or_bracket_in_an_array_of_lines_costs_one_record(broken: bytes) -> None:
    rejects = Rejects()
    reader = opened(b'[\n{"a":1},\n' + broken + b',\n{"a":3},\n{"a":4},\n{"a":5}\n]\n', rejects=rejects)
    values = [row["a"] for batch in reader.batches() for row in batch.data.to_pylist()]
    assert values == ["1", "3", "4", "5"]
    assert [(r.line, r.text) for r in rejects.all] == [(3, broken.decode())]


@pytest.mark.parametrize(
    "data",
    [
        b'[{"a":1},{"a":',
        b'[{"a":1},',
        b'[{"a":[\n{"b":1},\n{"b":2},\n',
        b'{"data":[{"a":1},{"a":2}',
        b'{"data":[{"a":1},{"a":2}], "next": 1',
        b'{"a":{"b":1}\n',
    ],
)
def test_a_truncated_array_or_object_is_an_error(data: bytes) -> None:
    with pytest.raises(UnreadableObjectError, match=r"t\.json ends in the middle"):
        rows_of(data)


def test_keys_that_appear_late_are_columns_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_reader, "BLOCK_BYTES", 8)
    reader = opened(b'{"b":1}\n{"b":2,"a":3}\n{"c":4}\n')
    assert [batch.data.schema.names for batch in reader.batches()] == [["b"], ["b", "a"], ["b", "a", "c"]]
    assert reader.labels == ("b", "a", "c")


def test_flatten_makes_columns_of_nested_objects_and_leaves_arrays() -> None:
    assert rows_of(b'[{"a":{"b":1,"c":{"d":[2]}},"a.b":3}]', flatten=True) == [
        {"a.b": "1", "a.c.d": "[2]", "a.b_": "3"}
    ]


def test_more_keys_than_a_table_has_columns_is_an_error() -> None:
    with pytest.raises(UnreadableObjectError, match="1,600"):
        rows_of(json.dumps([{f"k{i}": i} for i in range(1601)]).encode())


def test_an_encoding_as_told_and_an_unknown_one() -> None:
    data = '[{"a":"ä"}]'.encode("latin-1")
    assert rows_of(data, encoding="latin-1") == [{"a": "ä"}]
    with pytest.raises(ConfigError, match="klingon"):
        rows_of(data, encoding="klingon")


def test_whitespace_alone_is_empty() -> None:
    with pytest.raises(UnreadableObjectError, match="is empty"):
        rows_of(b" \n ")


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | st.sampled_from(['"', "\\", '\\"', "}", "]", "[{", ",", "\\\\", "\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", '"', "}"]), inner, max_size=3),
    max_leaves=5,
)
RECORDS = st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), min_size=2, max_size=12)


@settings(max_examples=200, deadline=None)
@given(
    records=RECORDS, block=st.sampled_from([1, 7, 30, 100, 1 << 20]), layout=st.sampled_from(["lines", "array", "docs"])
)
def test_any_records_come_back_whatever_the_layout_and_the_block(records: list[dict], block: int, layout: str) -> None:
    indent = 2 if block % 2 else None
    data = {
        "lines": "\n".join(json.dumps(r, ensure_ascii=bool(block % 3)) for r in records),
        "array": json.dumps(records, indent=indent),
        "docs": "\n".join(json.dumps(r, indent=2) for r in records),
    }[layout].encode()
    found = "jsonl" if layout == "lines" else "json"
    source = Source("t.json", len(data), lambda: io.BytesIO(data))
    rejects = Rejects()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_reader, "BLOCK_BYTES", block)
        reader = json_reader.open_json(source, ReadOptions(), rejects, found)
        back = []
        for batch in reader.batches():
            for row in range(batch.data.num_rows):
                record = {}
                for label, column, kind in zip(reader.labels, batch.data.columns, batch.kinds, strict=False):
                    text = column[row].as_py()
                    if text is not None:
                        plain_string = kind == Kind.STRING or (Kind.STRING in kind and Kind.NESTED not in kind)
                        record[label] = text if plain_string else json.loads(text)
                back.append(record)
        located = [json.loads(text or "") for _, _, text in reader.locate(range(len(records)))]
    assert not rejects.all
    assert located == records
    expected = [{key: value for key, value in record.items() if value is not None} for record in records]
    assert [_comparable(r) for r in back] == [_comparable(r) for r in expected]


LEAVES = st.none() | st.booleans() | st.integers(-5, 2**64) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
OBJECTS = st.fixed_dictionaries({}, optional={"x": LEAVES, "y": st.lists(LEAVES, max_size=2), "ü": LEAVES})
NESTED = st.fixed_dictionaries({}, optional={"a": LEAVES, "b": OBJECTS | st.none(), "c": OBJECTS, "d": LEAVES})


def read_in_blocks(
    data: bytes, found: str, *, flatten: bool, general: bool = False, block: int = 100
) -> tuple[list[dict], dict[str, Kind], int]:
    """The rows, the kinds of their columns, and how many of the blocks were found to look like those before them.

    With ``general`` none is looked at in that way.
    """
    alike = 0
    of_alike = json_columns.Columns.of_alike

    def counted(columns: json_columns.Columns, records: list) -> tuple:
        nonlocal alike
        alike += 1
        return of_alike(columns, records)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_reader, "BLOCK_BYTES", block)
        patch.setattr(json_columns.Columns, "of_alike", counted)
        if general:
            patch.setattr(json_columns._Known, "decoder", lambda _known: None)
        rejects = Rejects()
        source = Source("t.json", len(data), lambda: io.BytesIO(data))
        reader = json_reader.open_json(source, ReadOptions(flatten=flatten), rejects, found)
        rows: list[dict] = []
        kinds: dict[str, Kind] = {}
        for batch in reader.batches():
            rows += batch.data.to_pylist()
            for label, kind in zip(reader.labels, batch.kinds, strict=True):
                kinds[label] = kinds.get(label, Kind(0)) | kind
        rows += [{"reject": reject.text, "reason": reject.reason, "record": reject.record} for reject in rejects.all]
    return rows, kinds, alike


@settings(max_examples=300, deadline=None)
@given(
    records=st.lists(NESTED, min_size=1, max_size=6),
    late=NESTED,
    flatten=st.booleans(),
    found=st.sampled_from(["json", "jsonl"]),
)
def test_records_that_look_like_those_before_them_give_the_same_rows(
    records: list[dict], late: dict, flatten: bool, found: str
) -> None:
    lines = [json.dumps(record, ensure_ascii=False) for record in [*records * 12, late, *records]]
    data = ("\n".join(lines) if found == "jsonl" else f"[{','.join(lines)}]").encode()
    rows, kinds, _ = read_in_blocks(data, found, flatten=flatten)
    general_rows, general_kinds, none = read_in_blocks(data, found, flatten=flatten, general=True)
    assert none == 0
    assert kinds == general_kinds
    mixed = {label for label, kind in kinds.items() if kind & Kind.NESTED and kind != Kind.NESTED}
    assert [_quoted(row, mixed) for row in rows] == [_quoted(row, mixed) for row in general_rows]


def _quoted(row: dict, mixed: set[str]) -> dict:
    """In a column that may hold nested values a string is JSON text or bare, and becomes the same JSON in the table."""
    return {label: value.strip('"') if label in mixed and value else value for label, value in row.items()}


USUAL = [b'{"a":%d,"b":{"c":%d.5,"d":null},"e":[%d]}' % (n, n, n) for n in range(100)]


@pytest.mark.parametrize("flatten", [True, False])
@pytest.mark.parametrize(
    "odd",
    [
        None,
        b'{"a":1,"b":{"c":0.5,"d":null},"e":[1],"new":2}',
        b'{"a":1,"b":{"c":0.5,"d":null,"new":2},"e":[1]}',
        b'{"a":"text","b":{"c":0.5},"e":[1]}',
        b'{"a":1.0,"b":{"c":1},"e":[1]}',
        b'{"a":12345678901234567890123,"b":{"c":0.5},"e":[1.23456789012345678901]}',
        b'{"a":1,"b":null,"e":null}',
        b'{"a":1,"b":7,"e":{"x":1}}',
        b'{"e":["\\ud83d"],"b":{"c":0.5}}',
        b'{"e":["\\u0000"]}',
        b'{"a":1,"a":2,"b":{"c":1},"b":{"d":null}}',
        b'{"\\u0061":5,"b":{}}',
        b'{"a":1,"b":{"c":"\xff"},"e":["\xff"]}',
        b'{"a":1,"b":{"c":1},"e":[1]} {"a":1}',
        b'{"a":1,"b":{"c":1},"e":[1}',
        b'{"a":1e999,"e":["\x01"]}',
        b"[1]",
        b"null",
    ],
)
def test_one_odd_record_among_usual_ones_costs_nothing_but_time(odd: bytes | None, flatten: bool) -> None:
    lines = [*USUAL, *([odd] if odd else []), *USUAL]
    data = b"\n".join(lines)
    rows, kinds, alike = read_in_blocks(data, "jsonl", flatten=flatten)
    assert (rows, kinds, 0) == read_in_blocks(data, "jsonl", flatten=flatten, general=True)
    assert alike > len(data) / 100 / 4


def _comparable(record: dict) -> dict:
    """Values of a column that mixes strings with numbers or booleans are compared as the text they became."""
    return {key: value if isinstance(value, dict | list) else _plain(value) for key, value in record.items()}


def _plain(value: object) -> str:
    return (
        value
        if isinstance(value, str)
        else {True: "true", False: "false"}[value]
        if isinstance(value, bool)
        else repr(value)
    )
