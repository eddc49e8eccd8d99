"""Readers of formats that carry their own types: Parquet, Arrow IPC (file, stream and Feather), ORC and Avro.

Values arrive as Arrow types and leave as they are; only text changes its container (dictionaries and large or view
strings become plain ``string`` columns, marked :attr:`Kind.VERBATIM`). Batches are bounded in rows *and* bytes,
whatever the row groups, stripes or blocks of the file are.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

import orjson
import pyarrow as pa

from etl_container.errors import UnreadableObjectError
from etl_container.formats.base import Description, Kind, RawBatch, ReadOptions, Source
from etl_container.formats.compression import LocalCopy

BATCH_ROWS: Final = 16_384
"""Rows in a batch at most: what is cast and encoded next is then still near the processor."""

BATCH_BYTES: Final = 32 << 20
"""Bytes in a batch to aim at."""

_Batches = Iterator[Any]
"""Record batches as the format's library yields them."""


def open_columnar(source: Source, options: ReadOptions, found: str) -> ColumnarReader:
    """The table in a file of format ``found``: ``parquet``, ``arrow``, ``feather``, ``orc`` or ``avro``.

    Raises:
        UnreadableObjectError: the file's schema cannot be read.
    """
    del options  # nothing about these formats is a matter of opinion
    return ColumnarReader(source, found)


class ColumnarReader:
    """A table in a typed, seekable file. See :class:`~etl_container.formats.base.TableReader`."""

    def __init__(self, source: Source, found: str) -> None:
        self._name = source.name
        self._format = found
        self._copy = LocalCopy(source)
        self._open: Callable[[str], tuple[Any, _Batches]] = _OPENERS[found]
        with self._translated():
            schema, batches = self._open(self._copy.path)
            del batches
            _check(schema, source.name)
        if not schema.names:
            raise UnreadableObjectError(f"{self._name} has no columns.")
        self._labels = tuple(name.replace("\0", "\N{REPLACEMENT CHARACTER}") for name in schema.names)

    @property
    def description(self) -> Description:
        return Description(format=self._format)

    @property
    def labels(self) -> tuple[str, ...]:
        return self._labels

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    def batches(self) -> Iterator[RawBatch]:
        first_record = 0
        for batch in self._read():
            columns, kinds = [], []
            for column in batch.columns:
                plain, kind = _plain(column)
                columns.append(plain)
                kinds.append(kind)
            data = pa.RecordBatch.from_arrays(columns, names=list(self._labels))
            yield RawBatch(data, tuple(kinds), first_record)
            first_record += batch.num_rows

    def locate(self, records: Iterable[int]) -> Iterator[tuple[int, int | None, str | None]]:
        """Records have no lines here; their text is the row as JSON."""
        wanted = iter(records)
        record = next(wanted, None)
        first_record = 0
        for batch in self._read() if record is not None else ():
            while record is not None and record < first_record + batch.num_rows:
                row = batch.slice(record - first_record, 1).to_pylist()[0]
                yield record, None, _json(row)
                record = next(wanted, None)
            first_record += batch.num_rows
            if record is None:
                return

    def _read(self) -> _Batches:
        with self._translated():
            _, batches = self._open(self._copy.path)
            for batch in batches:
                for part in _bounded(batch):
                    # Damage may also sit in offsets and bytes of text, which nothing has looked at so far.
                    part.validate(full=True)
                    yield part

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """The libraries' words for damage, in ours."""
        try:
            yield
        except (pa.ArrowException, OSError, ValueError, EOFError, *_of_avro()) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            reason = str(error).split("\n")[0].strip().rstrip(".")[:300]
            raise UnreadableObjectError(
                f"{self._name} is damaged: it cannot be read as {_NAMES[self._format]} ({reason}).",
                hint="Transfer the file again; nothing of it was loaded.",
            ) from error


def _of_avro() -> tuple[type[Exception], ...]:
    """What fastavro, and the codecs that it calls, raise on damage; only once it was needed."""
    import lzma
    import zlib

    if "fastavro" not in sys.modules:
        return ()
    return (sys.modules["fastavro"].schema.SchemaParseException, KeyError, IndexError, zlib.error, lzma.LZMAError)


def _as_text(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def _bounded(batch: Any) -> _Batches:
    """``batch`` in slices of at most :data:`BATCH_ROWS` rows and about :data:`BATCH_BYTES` bytes."""
    rows = min(BATCH_ROWS, max(1, batch.num_rows * BATCH_BYTES // max(batch.nbytes, 1)))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _check(schema: Any, name: str) -> None:
    """Refuse what pyarrow crashes on or cannot turn into values, at whatever depth.

    Raises:
        UnicodeDecodeError: a field's name is no text.
        UnreadableObjectError: a column's type cannot be read.
    """
    for column in schema:
        fields = [column]
        while fields:
            field = fields.pop()
            kind = field.type
            inner = [kind.field(index) for index in range(kind.num_fields)]
            names = [one.name for one in inner]
            what = str(kind) if pa.types.is_union(kind) or kind.id in _UNKNOWN else ""
            if pa.types.is_struct(kind) and len(set(names)) < len(names):
                what = "a struct that has two fields of one name"
            if what:
                raise UnreadableObjectError(
                    f"{name} cannot be read: its column {column.name!r} is or holds {what[:80]}, which cannot be read.",
                    hint="Write the file without that column, or with it as text.",
                )
            fields += inner


_UNKNOWN: Final = frozenset({pa.lib.Type_INTERVAL_MONTHS, pa.lib.Type_INTERVAL_DAY_TIME})
"""Intervals of months and of days and milliseconds, for which pyarrow has no values (``arrow::Type``)."""


def _plain(column: Any) -> tuple[Any, Kind]:
    """``column`` with its text in a plain string array, and what is known about that text."""
    kind = Kind.VERBATIM
    if isinstance(column.type, pa.BaseExtensionType):
        name = column.type.extension_name
        if name == "arrow.uuid":
            return _uuid_text(column.storage), Kind.STRING
        kind = Kind.NESTED if name == "arrow.json" else kind
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    elif pa.types.is_run_end_encoded(column.type):
        column = pa.compute.run_end_decode(column)
    if pa.types.is_string(column.type):
        return column, kind
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        return column.cast(pa.string()), kind
    return column, Kind(0)


def _uuid_text(storage: Any) -> Any:
    import uuid

    return pa.array([None if raw is None else str(uuid.UUID(bytes=raw)) for raw in storage.to_pylist()], pa.string())


# --- the formats -----------------------------------------------------------------------------------------------------


def _open_parquet(path: str) -> tuple[Any, _Batches]:
    import pyarrow.parquet as pq

    # Read piece by piece as the batches need it: a row group of 155 MB then takes 145 MB at the peak in place of 290.
    file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)

    def batches() -> _Batches:
        metadata = file.metadata
        for group in range(metadata.num_row_groups):
            size = metadata.row_group(group)
            row_bytes = max(1, size.total_byte_size // max(1, size.num_rows))
            rows = min(BATCH_ROWS, max(64, BATCH_BYTES // row_bytes))
            yield from file.iter_batches(batch_size=rows, row_groups=[group], use_threads=False)

    return file.schema_arrow, batches()


def _open_arrow(path: str) -> tuple[Any, _Batches]:
    source = pa.memory_map(path)
    if source.read(6) == b"ARROW1":
        file = pa.ipc.open_file(source)
        return file.schema, (file.get_batch(index) for index in range(file.num_record_batches))
    source.seek(0)
    stream = pa.ipc.open_stream(source)
    return stream.schema, iter(stream)


def _open_feather(path: str) -> tuple[Any, _Batches]:
    import pyarrow.feather

    table = pyarrow.feather.read_table(path, memory_map=True)
    return table.schema, iter(table.to_batches(max_chunksize=BATCH_ROWS))


def _open_orc(path: str) -> tuple[Any, _Batches]:
    import pyarrow.orc

    file = pyarrow.orc.ORCFile(path)
    return file.schema, (file.read_stripe(index) for index in range(file.nstripes))


def _open_avro(path: str) -> tuple[Any, _Batches]:
    import fastavro

    with open(path, "rb") as stream:  # noqa: PTH123
        schema = fastavro.reader(stream).writer_schema
    if not (isinstance(schema, dict) and schema.get("type") == "record"):
        arrow_schema = pa.schema([("value", _arrow_type(schema))])
    else:
        arrow_schema = pa.schema([(member["name"], _arrow_type(member["type"])) for member in schema["fields"]])

    def batches() -> _Batches:
        with open(path, "rb") as stream:  # noqa: PTH123
            records = iter(fastavro.reader(stream))
            while rows := list(islice(records, _AVRO_ROWS)):
                columns = []
                for member in arrow_schema:
                    values = [row.get(member.name) if isinstance(row, dict) else row for row in rows]
                    if member.type == _json_type():
                        texts = [None if value is None else _json(value) for value in values]
                        columns.append(pa.array(texts, pa.string()).cast(member.type))
                    elif pa.types.is_string(member.type):
                        columns.append(
                            pa.array([None if value is None else str(value) for value in values], pa.string())
                        )
                    else:
                        columns.append(pa.array(values, member.type))
                yield pa.RecordBatch.from_arrays(columns, schema=arrow_schema)

    return arrow_schema, batches()


_AVRO_ROWS: Final = 8_192

_AVRO_TYPES: Final[dict[str, Any]] = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
    "enum": pa.string(),
    "fixed": pa.binary(),
    "date": pa.date32(),
    "time-millis": pa.time64("us"),
    "time-micros": pa.time64("us"),
    "timestamp-millis": pa.timestamp("ms", tz="UTC"),
    "timestamp-micros": pa.timestamp("us", tz="UTC"),
    "local-timestamp-millis": pa.timestamp("ms"),
    "local-timestamp-micros": pa.timestamp("us"),
}


def _arrow_type(schema: Any) -> Any:
    """The Arrow type of an Avro type (Avro 1.12, "Schema Declaration"); JSON text where Arrow has no like of it.

    Named types that are referred to again, maps, and unions of several types become JSON text.
    """
    if isinstance(schema, str):
        return _AVRO_TYPES.get(schema, _json_type())
    if isinstance(schema, list):
        members = [member for member in schema if member != "null"]
        return _arrow_type(members[0]) if len(members) == 1 else _json_type() if members else pa.null()
    logical = schema.get("logicalType")
    if logical == "decimal":
        return pa.decimal256(schema["precision"], schema.get("scale", 0))
    if logical == "uuid":
        return pa.uuid() if schema["type"] == "fixed" else pa.string()
    return _AVRO_TYPES.get(logical) or _arrow_type(schema["type"])


def _json_type() -> Any:
    return pa.json_(pa.string())


def _json(value: Any) -> str:
    return orjson.dumps(value, default=_as_text, option=orjson.OPT_NON_STR_KEYS).decode()


_OPENERS: Final[dict[str, Callable[[str], tuple[Any, _Batches]]]] = {
    "parquet": _open_parquet,
    "arrow": _open_arrow,
    "feather": _open_feather,
    "orc": _open_orc,
    "avro": _open_avro,
}

_NAMES: Final = {"parquet": "Parquet", "arrow": "Arrow IPC", "feather": "Feather", "orc": "ORC", "avro": "Avro"}
