"""From a reader's batches to the table's: cast, transform, check. One shaper serves one pass over one object.

``plan`` says what the columns become, before a row is moved; ``shape`` then turns each batch into one that COPY takes,
and puts aside the records that break a promise. A value that breaks a *guess* is no reject: :class:`Wider` stops the
pass, and the load starts again with wider types (see ``loading``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from etl_container.contract import Checker
from etl_container.datasets import Dataset
from etl_container.errors import SchemaFrozenError
from etl_container.formats.base import Expected, RawBatch, Reject, RejectSink
from etl_container.infer import Break, CastResult, FitError, Inference, Target, TypeBreak, fit, type_of
from etl_container.schema import (
    ColumnSchema,
    Evolution,
    PgType,
    SchemaPolicy,
    TableSchema,
    column_names,
    evolve,
    join,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from etl_container.transform import Transform


class Wider(Exception):  # noqa: N818
    """The types that the pass began with cannot hold the rest of the file."""

    def __init__(self, reason: str, batch: RawBatch | None, breaks: Sequence[Break] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.batch = batch
        """The batch that does not fit."""
        self.breaks = tuple(breaks)
        """The values of the file that do not fit, where it is they."""


class Shaped(Struct, frozen=True):
    """A batch as the table takes it: field names are column names, Arrow types their storage types."""

    data: pa.RecordBatch
    records: pa.Int64Array | None
    """The ordinal of each row's record, where the transform kept them apart."""


class OutputTypes(Struct):
    """What the transform has put out so far, over all passes: names in order, and the join of their types."""

    types: dict[str, PgType | None]
    labels: dict[str, str]
    scales: dict[str, int]


class Shaper:
    """Turns raw batches into rows of one table.

    Args:
        dataset: the settings of the dataset.
        inference: what is known of the object's columns; widened between passes, never within one.
        labels: the object's column labels.
        transform: the user's, or None.
        outputs: what the transform put out in earlier passes and for the sample.
        directory: the lake's directory, where the user's own checks are.
        rejects: where the records go that cannot become rows.
    """

    def __init__(
        self,
        dataset: Dataset,
        inference: Inference,
        labels: Sequence[str],
        transform: Transform | None,
        outputs: OutputTypes,
        directory: Path | None,
        rejects: RejectSink,
    ) -> None:
        self.dataset = dataset
        self.inference = inference
        self.labels = tuple(labels)
        self.names = column_names(self.labels)
        self.transform = transform
        self.outputs = outputs
        self.directory = directory
        self.rejects = rejects
        self.evolution: Evolution = Evolution((), TableSchema())
        self.checker: Checker | None = None
        self._targets: list[Target | None] = []
        self._final: dict[str, Target] = {}

    # -- before a row is moved -----------------------------------------------------------------------------------

    def plan(self, live: TableSchema | None) -> Evolution:
        """What the object does to the table, and how each column is read.

        Raises:
            SchemaFrozenError: the policy is ``freeze`` and the object has new columns.
            DataError: a column that the contract requires is missing.
        """
        incoming = self._incoming()
        policy = self.dataset.policy
        self.evolution = evolve(live, incoming, policy)
        if self.evolution.refused:
            new = ", ".join(change.column for change in self.evolution.refused)
            raise SchemaFrozenError(
                f"the object has columns that table {self.dataset.table} lacks ({new}), and its schema is frozen",
                hint=f"set schema_policy = 'evolve' (or 'discard') in [dataset.{self.dataset.name}], or mend the file",
            )
        scales = self._scales()
        for name in self.evolution.load:
            column = self.evolution.result.get(name)
            kind = (column.type if column else None) or PgType.TEXT
            have = live.get(name) if live is not None else None
            self._final[name] = Target(
                kind,
                strict=self._strict(name, live),
                scale=scales.get(name),
                fixed=have is not None and have.type is PgType.TEXT,
            )
        if self.transform is None:
            self._targets = [self._final.get(name) for name in self.names]
        else:
            self._targets = list(self.inference.targets)
        loaded = TableSchema(
            tuple(
                ColumnSchema(name, self._final[name].type, column.label)
                for name in self.evolution.load
                if (column := self.evolution.result.get(name)) is not None
            )
        )
        contract = self.dataset.contract
        self.checker = Checker(contract, loaded, self.directory)
        return self.evolution

    @property
    def expected(self) -> Expected:
        """The Arrow types in which the reader may give columns."""
        return self.inference.expected(self._targets)

    @property
    def types(self) -> dict[str, PgType]:
        """The table's type of each loaded column."""
        return {name: target.type for name, target in self._final.items()}

    @property
    def only_nulls(self) -> frozenset[str]:
        """Loaded columns without a value so far, whose type stays open."""
        return frozenset(column.name for column in self._incoming().columns if column.type is None)

    def _incoming(self) -> TableSchema:
        rules = self.dataset.contract.columns
        if self.transform is None:
            types = dict(zip(self.names, self.inference.types, strict=False))
            labels = dict(zip(self.names, self.labels, strict=True))
        else:
            types, labels = self.outputs.types, self.outputs.labels
        names = list(self.names) if self.transform is None else list(types)
        return TableSchema(
            tuple(
                ColumnSchema(
                    name,
                    rules[name].type if name in rules and rules[name].type is not None else types.get(name),
                    labels.get(name, ""),
                )
                for name in names
            )
        )

    def _scales(self) -> dict[str, int]:
        if self.transform is not None:
            return self.outputs.scales
        return dict(zip(self.names, self.inference.scales, strict=False))

    def _strict(self, name: str, live: TableSchema | None) -> bool:
        rule = self.dataset.contract.columns.get(name)
        frozen = self.dataset.policy is not SchemaPolicy.EVOLVE and live is not None
        return frozen or (rule is not None and rule.type is not None)

    # -- row by row, batch by batch -----------------------------------------------------------------------------------

    def shape(self, batch: RawBatch) -> Iterator[Shaped]:
        """The batch as the table takes it; nothing when no row is left.

        Raises:
            Wider: a value or a new column does not fit what was planned.
            TransformError: the user's transform raised.
        """
        if batch.data.num_columns > len(self.names):
            raise Wider("more columns appeared", batch)
        try:
            cast = self.inference.cast(batch, self._targets)
        except TypeBreak as broken:
            raise Wider(str(broken), batch, broken.breaks) from broken
        for failure in cast.failures:
            self.rejects.add(Reject(failure.reason, failure.record, column=failure.label, value=failure.value))
        if cast.batch.num_rows == 0:
            return
        if self.transform is None:
            names = [name for name, target in zip(self.names, self._targets, strict=True) if target is not None]
            data, records = cast.batch.rename_columns(names), _ordinals(cast)
        else:
            table, kept = self._transformed(cast.batch, _ordinals(cast))
            data, records = self._fitted(table, batch), kept
        if self.checker is not None:
            data, records = self._checked(data, records)
        if data.num_rows:
            yield Shaped(data, records)

    def learn(self, batch: RawBatch) -> None:
        """Run the transform on a batch only to see what types it puts out."""
        if self.transform is None:
            return
        cast = self.inference.cast(batch, self.inference.targets)
        table, _ = self._transformed(cast.batch, _ordinals(cast))
        learn_outputs(self.outputs, table)

    def _transformed(self, data: pa.RecordBatch, records: pa.Int64Array) -> tuple[pa.Table, pa.Int64Array | None]:
        assert self.transform is not None
        named = data.rename_columns(list(self.names[: data.num_columns]))
        return self.transform.apply(named, records)

    def _fitted(self, table: pa.Table, batch: RawBatch) -> pa.RecordBatch:
        """The transform's output in the table's types."""
        import pyarrow as pa

        from etl_container.arrays import one_chunk

        names = column_names(table.column_names)
        if any(name not in self.outputs.types for name in names):
            learn_outputs(self.outputs, table)
            raise Wider("the transform put out more columns", batch)
        arrays: list[Any] = []
        kept: list[str] = []
        for name, column in zip(names, table.columns, strict=True):
            target = self._final.get(name)
            if target is None:
                continue
            try:
                arrays.append(fit(column, target))
            except FitError as error:
                before = self.outputs.types.get(name)
                learn_outputs(self.outputs, table)
                if self.outputs.types.get(name) == before and self.outputs.scales.get(name, 0) <= (target.scale or 0):
                    self.outputs.types[name] = PgType.TEXT
                raise Wider(f"column {name} of the transform's output: {error}", batch) from error
            kept.append(name)
        arrays = [one_chunk(array) if isinstance(array, pa.ChunkedArray) else array for array in arrays]
        for name, target in self._final.items():
            if name not in kept:
                arrays.append(fit(pa.nulls(table.num_rows), target))
                kept.append(name)
        order = sorted(range(len(kept)), key=lambda index: self.evolution.load.index(kept[index]))
        return pa.RecordBatch.from_arrays([arrays[i] for i in order], names=[kept[i] for i in order])

    def _checked(
        self, data: pa.RecordBatch, records: pa.Int64Array | None
    ) -> tuple[pa.RecordBatch, pa.Int64Array | None]:
        assert self.checker is not None
        mask, violations = self.checker.check(data, records)
        if not violations:
            return data, records
        labels = {column.name: column.label for column in self.evolution.result.columns}
        for violation in violations:
            column = violation.column and (labels.get(violation.column) or violation.column)
            self.rejects.add(Reject(violation.reason, violation.record, column=column, value=violation.value))
        return data.filter(mask), None if records is None else records.filter(mask)


def _ordinals(cast: CastResult) -> pa.Int64Array:
    """The record ordinal of each row."""
    if cast.records is not None:
        return cast.records
    from etl_container.arrays import numbered

    return numbered(cast.first_record, cast.batch.num_rows)


def learn_outputs(outputs: OutputTypes, table: pa.Table) -> None:
    """Join what a transform has put out into what is known of its outputs."""
    import pyarrow as pa

    for name, label, field in zip(column_names(table.column_names), table.column_names, table.schema, strict=True):
        kind = None if pa.types.is_null(field.type) else type_of(field.type)
        outputs.types[name] = join(outputs.types.get(name), kind)
        outputs.labels.setdefault(name, label)
        if kind is PgType.NUMERIC and pa.types.is_decimal(field.type):
            outputs.scales[name] = max(outputs.scales.get(name, 0), field.type.scale)
