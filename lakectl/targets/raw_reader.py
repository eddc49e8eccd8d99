"""``query --raw``: SQL straight on the newest raw objects. DuckDB asks, the data plane's own readers answer.

Each dataset that the query names is a relation with the columns and types that a load would give it; nothing is loaded
and no database is needed. Every object is read twice: once to know its types, once for its rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etl_container.errors import NotFoundError, UsageError
from etl_container.formats import open_table
from etl_container.formats.base import Reject, TableReader
from etl_container.infer import Inference, Target, arrow_type
from etl_container.schema import PgType, column_names, join
from etl_container.sources import source_of
from lakectl import sqltext
from lakectl.targets.base import QueryColumn, Rows

if TYPE_CHECKING:
    import pyarrow as pa

    from etl_container.objects import FolderStore, ObjectRef
    from lakectl.config import Lake

PAGE = 5000
"""Rows taken from the engine at a time."""


class RawResult:
    """The result of a query on raw objects; see :class:`lakectl.targets.base.QueryResult`."""

    status = "SELECT"

    def __init__(self, connection: Any, relation: Any) -> None:
        self._connection = connection
        self._relation = relation
        self.columns = tuple(QueryColumn(str(column[0]), str(column[1]).lower()) for column in relation.description)

    def csv_copier(self, *, header: bool, limit: int | None = None) -> None:
        """There is no server here that writes CSV."""

    def rows(self) -> Rows:
        while page := self._relation.fetchmany(PAGE):
            yield from page

    def __enter__(self) -> RawResult:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()


def run(lake: Lake, store: FolderStore, sql: str, parameters: Mapping[str, str]) -> RawResult:
    """Run one statement on the raw zone.

    Raises:
        UsageError: the engine refuses the statement.
        NotFoundError: it names a dataset that the raw zone does not have.
        UnreadableObjectError: an object of it cannot be read as a table.
    """
    import duckdb

    spill = lake.state_dir / "tmp"
    connection = duckdb.connect(":memory:", config={"temp_directory": str(spill), "threads": "2"})
    bound = sqltext.bind(sql, parameters.keys(), place="${}".format)
    try:
        datasets = _datasets(lake, store)
        for name in sorted(connection.get_table_names(bound)):
            if name not in datasets:
                raise _unknown(name, datasets)  # noqa: TRY301
            rows = _relation(lake, store, datasets[name])  # noqa: F841  the engine finds it by its name
            connection.execute(f"create temp table {_quoted(name)} as select * from rows")  # noqa: S608  quoted
        connection.execute("set enable_external_access = false")
        return RawResult(connection, connection.execute(bound, dict(parameters) or None))
    except duckdb.Error as error:
        connection.close()
        raise UsageError(str(error)) from error
    except BaseException:
        connection.close()
        raise


def _unknown(name: str, datasets: Mapping[str, object]) -> NotFoundError:
    has = ", ".join(sorted(datasets)) or "none"
    return NotFoundError(f"no dataset {name} in the raw zone; it has {has}", hint="lakectl objects")


def _datasets(lake: Lake, store: FolderStore) -> dict[str, list[ObjectRef]]:
    """The newest objects of each dataset, under the name of its table."""
    found: dict[str, list[ObjectRef]] = {}
    for ref in store.list():
        found.setdefault(lake.dataset_of(ref.key).table, []).append(ref)
    return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _relation(lake: Lake, store: FolderStore, refs: Sequence[ObjectRef]) -> pa.RecordBatchReader:
    """The rows of some objects as a stream, in the types that hold them all."""
    import pyarrow as pa

    inferences = [_observed(lake, store, ref) for ref in refs]
    types: dict[str, PgType | None] = {}
    scales: dict[str, int] = {}
    for inference in inferences:
        for name, kind, scale in zip(column_names(inference.labels), inference.types, inference.scales, strict=True):
            types[name] = join(types.get(name), kind)
            scales[name] = max(scales.get(name, 0), scale)
    targets = {name: Target(kind or PgType.TEXT, scale=scales[name]) for name, kind in types.items()}
    schema = pa.schema([(name, arrow_type(target)) for name, target in targets.items()])
    return pa.RecordBatchReader.from_batches(schema, _batches(lake, store, refs, inferences, targets, schema))


def _observed(lake: Lake, store: FolderStore, ref: ObjectRef) -> Inference:
    inference = Inference(lake.dataset_of(ref.key).read)
    for batch in _reader(lake, store, ref).batches():
        inference.observe(batch)
    return inference


class _Ignored:
    """Rejects are a load's business."""

    def add(self, reject: Reject) -> None:
        pass


def _reader(lake: Lake, store: FolderStore, ref: ObjectRef) -> TableReader:
    return open_table(source_of(ref, store), lake.dataset_of(ref.key).read, _Ignored())


def _batches(
    lake: Lake,
    store: FolderStore,
    refs: Sequence[ObjectRef],
    inferences: Sequence[Inference],
    targets: Mapping[str, Target],
    schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    for ref, inference in zip(refs, inferences, strict=True):
        names = column_names(inference.labels)
        own = [targets[name] for name in names]
        for batch in _reader(lake, store, ref).batches():
            cast = inference.cast(batch, own).batch
            columns = dict(zip(names, cast.columns, strict=True))
            yield pa.RecordBatch.from_arrays(
                [
                    columns[field.name] if field.name in columns else pa.nulls(cast.num_rows, field.type)
                    for field in schema
                ],
                schema=schema,
            )
