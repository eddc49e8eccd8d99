"""The bucket as the data plane reads it: bytes by ranges, and what is not the range that was asked for."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.response import StreamingBody

from etl_container import objects_s3
from etl_container.objects import ObjectRef
from etl_container.objects_s3 import PART, S3Store
from lakectl.errors import ConfigError
from tests.aws.conftest import Stubbed

SIZE = PART + 5
WHOLE = bytes(range(256)) * (PART // 256) + b"after"
REF = ObjectRef("raw", "raw/trips/large.csv", "v1", "1-~", SIZE, None, datetime(2026, 11, 1, tzinfo=UTC))


@pytest.fixture
def store(stubbed: Stubbed, naps: list[float], monkeypatch: pytest.MonkeyPatch) -> S3Store:
    client = stubbed.aws.client("s3")
    monkeypatch.setattr(objects_s3, "_client", lambda *_: client)
    return S3Store("raw", sleep=naps.append)


def answer(stubbed: Stubbed, data: bytes, *, status: int, told: str | None) -> StreamingBody:
    """Prepare one answer to GetObject; its body."""
    body = StreamingBody(io.BytesIO(data), len(data))  # type: ignore[no-untyped-call]
    said: dict[str, Any] = {"Body": body, "ContentLength": len(data), "ResponseMetadata": {"HTTPStatusCode": status}}
    stubbed.on("s3").add_response("get_object", said | ({"ContentRange": told} if told else {}))
    return body


def test_a_large_object_is_read_range_by_range(stubbed: Stubbed, store: S3Store) -> None:
    answer(stubbed, WHOLE[:PART], status=206, told=f"bytes 0-{PART - 1}/{SIZE}")
    answer(stubbed, WHOLE[PART:], status=206, told=None)
    with store.open(REF) as stream:
        stream.seek(PART - 2)
        assert stream.read(2) + stream.read(5) == WHOLE[PART - 2 :]


def test_the_whole_object_in_answer_to_a_range_is_refused_before_it_is_read(
    stubbed: Stubbed, store: S3Store, naps: list[float]
) -> None:
    answer(stubbed, WHOLE[:PART], status=206, told=f"bytes 0-{PART - 1}/{SIZE}")
    body = answer(stubbed, WHOLE, status=200, told=None)
    with store.open(REF) as stream:
        stream.seek(PART)
        with pytest.raises(ConfigError) as caught:
            stream.read(5)
    assert caught.value.message == (
        f"s3://raw/raw/trips/large.csv was asked for bytes={PART}-{SIZE - 1}, "
        f"and the whole object (status 200, {SIZE:,} bytes) came"
    )
    assert "AWS_ENDPOINT_URL" in str(caught.value.hint)
    assert body._raw_stream.closed
    assert naps == []  # the same request would be answered alike


def test_another_range_than_the_one_asked_for_is_refused(stubbed: Stubbed, store: S3Store) -> None:
    answer(stubbed, WHOLE[:PART], status=206, told=f"bytes 5-{PART + 4}/{SIZE}")
    with pytest.raises(ConfigError, match=rf"asked for bytes=0-{PART - 1}, and bytes 5-{PART + 4}/{SIZE} came"):
        store.open(REF)
