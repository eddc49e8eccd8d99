from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from etl_container.formats.base import Kind, RawBatch
from etl_container.formats.options import ReadOptions
from etl_container.infer import Inference, Target, TypeBreak
from etl_container.schema import PgType


def batch(*columns: list[str | None], kind: Kind = Kind.TEXT, first: int = 0) -> RawBatch:
    arrays = [pa.array(values, pa.string()) for values in columns]
    data = pa.RecordBatch.from_arrays(arrays, names=[f"c{i}" for i in range(len(arrays))])
    return RawBatch(data, (kind,) * len(arrays), first)


def inferred(*columns: list[str | None], kind: Kind = Kind.TEXT, **options: Any) -> Inference:
    inference = Inference(ReadOptions(**options))
    inference.observe(batch(*columns, kind=kind))
    return inference


def type_of(values: list[str | None], kind: Kind = Kind.TEXT, **options: Any) -> PgType | None:
    return inferred(values, kind=kind, **options).types[0]


def read(values: list[str | None], kind: Kind = Kind.TEXT, **options: Any) -> list[Any]:
    inference = inferred(values, kind=kind, **options)
    return inference.cast(batch(values, kind=kind), inference.targets).batch.column(0).to_pylist()


def strict(values: list[str | None], wanted: PgType, scale: int | None = None, **options: Any) -> tuple[Any, Any]:
    inference = inferred(values, **options)
    result = inference.cast(batch(values), [Target(wanted, strict=True, scale=scale)])
    return result.batch.column(0).to_pylist(), [failure.row for failure in result.failures]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["1", "-20", "0", "9223372036854775807", "-9223372036854775808"], PgType.BIGINT),
        (["1", "9223372036854775808"], PgType.NUMERIC),
        (["1", "1" * 38], PgType.NUMERIC),
        (["1", "1" * 39], PgType.TEXT),
        (["007", "8"], PgType.TEXT),
        (["-01", "8"], PgType.TEXT),
        (["0x1f", "8"], PgType.TEXT),
        (["+41791234567"], PgType.TEXT),
        (["1.5", "2"], PgType.DOUBLE),
        (["-0.5", "0", "0.25"], PgType.DOUBLE),
        (["01.5", "2"], PgType.TEXT),
        (["-00.5", "2"], PgType.TEXT),
        ([".5", "5."], PgType.DOUBLE),
        (["1e5", "2"], PgType.DOUBLE),
        (["1e400", "2"], PgType.TEXT),
        (["1.5", "9007199254740992"], PgType.DOUBLE),
        (["1.5", "9007199254740993"], PgType.NUMERIC),
        (["1.5", "inf"], PgType.DOUBLE),
        (["inf"], PgType.TEXT),
        (["1.5", "nan"], PgType.DOUBLE),
        (["1_000"], PgType.TEXT),
        (["٣"], PgType.TEXT),
        (["true", "FALSE", "True"], PgType.BOOLEAN),
        (["true", "1"], PgType.TEXT),
        (["t", "f"], PgType.TEXT),
        (["2024-01-02"], PgType.DATE),
        (["2024-02-30"], PgType.TEXT),
        (["0000-01-01"], PgType.TEXT),
        (["20240102"], PgType.BIGINT),
        (["2024-01-02", "2024-01-02 03:04"], PgType.TIMESTAMP),
        (["2024-01-02T03:04:05.123456"], PgType.TIMESTAMP),
        (["2024-01-02T03:04:05.123456789"], PgType.TIMESTAMP),
        (["2024-01-02 24:00:00"], PgType.TEXT),
        (["2024-01-02T03:04:05Z", "2024-01-02 03:04:05+01", "2024-01-02 03:04:05.5-0130"], PgType.TIMESTAMPTZ),
        (["2024-01-02T03:04:05Z", "2024-01-02T03:04:05"], PgType.TEXT),
        (["2024-01-02 03:04:05 UTC", "2024-01-02 03:04:05 +01:00"], PgType.TIMESTAMPTZ),
        (["15:04", "3:04:05.5"], PgType.TIME),
        (["25:04"], PgType.TEXT),
        (["123e4567-e89b-12d3-a456-426614174000", "123E4567-E89B-12D3-A456-426614174000"], PgType.UUID),
        (["123e4567-e89b-12d3-a456-42661417400g"], PgType.TEXT),
        (["03/04/2024", "13/04/2024"], PgType.DATE),
        (["03/04/2024", "04/13/2024"], PgType.DATE),
        (["13/04/2024", "04/13/2024"], PgType.TEXT),
        (["03/04/2024"], PgType.TEXT),
        (["31/04/2024"], PgType.TEXT),
        (["3.4.2024 12:30"], PgType.TIMESTAMP),
        (["2024/3/4"], PgType.DATE),
        (["2024-3-4", "2024-10-12"], PgType.DATE),
        (["3 Jan 2024", "Jan 3, 2024", "03-feb-2024"], PgType.DATE),
        (["1,5", "2"], PgType.DOUBLE),
        (["1.234,56", "2"], PgType.DOUBLE),
        (["1.234.567", "2"], PgType.BIGINT),
        (["1,234,567", "2,345"], PgType.BIGINT),
        (["1,234"], PgType.TEXT),
        (["1,234.5", "2,345"], PgType.DOUBLE),
        (["1.234"], PgType.DOUBLE),
        (["1,234,567", "12345"], PgType.TEXT),
        (["1 234,5"], PgType.DOUBLE),
        (["1 234"], PgType.TEXT),
        (["1'234.50"], PgType.DOUBLE),
        (["$5", "$1,234"], PgType.BIGINT),
        (["$5", "6"], PgType.TEXT),
        (["5 €", "6,50 €"], PgType.DOUBLE),
        (["5%", "6.5 %"], PgType.DOUBLE),
        (["NA", "1"], PgType.BIGINT),
        (["NA", "x"], PgType.TEXT),
        (["NA"], PgType.TEXT),
        (["", "1"], PgType.BIGINT),
        ([None, None], None),
        ([" 1 ", "2"], PgType.BIGINT),
        (["1", "2024-01-02"], PgType.TEXT),
    ],
)
def test_a_column_of_texts_has_the_type_of_its_values(values: list[str | None], wanted: PgType | None) -> None:
    assert type_of(values) == wanted
    # … also when each value comes many times, so that whole-column kernels decide it
    assert type_of(values * 60) == wanted
    assert type_of(values[:1] * 100 + values) == wanted
    assert len(read(values * 60)) == 60 * len(values)


def test_a_late_value_breaks_the_guess_and_names_its_record() -> None:
    inference = inferred(["1", "2"])
    targets = inference.targets
    with pytest.raises(TypeBreak) as broken:
        inference.cast(batch(["3", "x"], first=10), targets)
    assert [(b.position, b.record, b.value) for b in broken.value.breaks] == [(0, 11, "x")]
    assert inference.types == (PgType.BIGINT,)
