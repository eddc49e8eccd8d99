"""One object into one table, inside the caller's transaction: guess, stream, and start again wider when a guess breaks.

Types are guessed from the first megabytes and the rest streams through in one pass: read, cast, transform, check,
encode and COPY overlap. A value that breaks a guess rolls the pass back to where it began, the rest of the object is
read once without loading to know what else it holds, and the next pass fits. So an object is read once in the normal
case and three times in the worst, and no row is lost to a guess.

Small objects of one table need not be loaded one by one (:meth:`Loader.load`): each is read, shaped and held in memory
(:meth:`Loader.hold`), as long as it leaves the table's shape as it is, and then they are written together
(:func:`write`). What a row becomes is decided by its own object alone either way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from etl_container import ledger
from etl_container.datasets import Dataset, LoadMode
from etl_container.errors import DataError
from etl_container.formats import open_table
from etl_container.formats.base import Description, Expected, RawBatch, Reject, Source, TableReader, expect
from etl_container.formats.kinds import KIND_OF, WORDS
from etl_container.infer import Break, Inference, TypeBreak
from etl_container.mending import MendedReader, Spared
from etl_container.rejects import RejectSpool
from etl_container.schema import MAX_COLUMNS, PgType, TableSchema, describe
from etl_container.shaping import OutputTypes, Shaped, Shaper, Wider
from etl_container.warehouse import Session

if TYPE_CHECKING:
    import pyarrow as pa

    from etl_container.transform import Transform

SAMPLE_BYTES = 8 << 20
"""Arrow bytes that are read before types are guessed, at most; see :data:`SAMPLE_SHARE`."""

SAMPLE_SHARE = 64
"""The sample is this part of the object: the server waits for it, and a guess that breaks costs a small one little."""

HEAD_ROWS = 1000
"""Rows that make the first guess; a value that widens it is told to the user, wherever the batches are cut."""

MAX_PASSES = 50
"""A transform whose output never settles is stopped after so many; each pass but the last widens a type."""

_RECORD = "_lake_record"


def may_share(dataset: Dataset) -> bool:
    """Whether objects of a dataset can be written together: no key is checked or merged, none replaces the table."""
    return dataset.mode in (LoadMode.REPLACE_OBJECT, LoadMode.APPEND) and not dataset.contract.keys


class Loaded(Struct):
    """What a load did, for the ledger and the report."""

    rows: int = 0
    records: int = 0
    """Rows and rejects together."""
    changes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)


class Loader:
    """Loads one object. ``rejects`` and ``reader`` outlive a failure, so that every reject can be kept.

    Attributes:
        held: the rows, after :meth:`hold`.
        shaper: what shaped them, once they are.
    """

    def __init__(
        self,
        session: Session,
        dataset: Dataset,
        source: Source,
        transform: Transform | None,
        directory: Path | None,
        run: int,
        mended: Mapping[int, Sequence[str | None]] = {},
        on_rows: Callable[[int], None] = lambda _rows: None,
    ) -> None:
        self.session = session
        self.dataset = dataset
        self.transform = transform
        self.directory = directory
        self.run = run
        self.on_rows = on_rows
        self.rejects = RejectSpool()
        self.reader: TableReader | None = None
        self._source = source
        self._mended = mended
        self.held: list[pa.RecordBatch] = []
        self.shaper: Shaper | None = None
        self._breaks: list[Break] = []
        self._inference = Inference(dataset.read)
        self._outputs = OutputTypes({}, {}, {})
        self._seconds = {"read": 0.0, "shape": 0.0}

    def load(self, replaces: tuple[int, ...]) -> Loaded:
        """Publish the object's rows in place of those of the runs ``replaces``, within the caller's transaction.

        Raises:
            DataError: the object cannot be read, or a promise about it as a whole is broken.
            TransformError: the user's transform raised.
        """
        started = time.monotonic()
        for _ in range(MAX_PASSES):
            shaper, batches = self._begun()
            try:
                with self.session.savepoint():
                    new = self._plan(shaper, replaces)
                    self._expect(Expected() if self._whole else shaper.expected)
                    rows = self._publish(shaper, batches, () if new else replaces, new=new)
                    self.remember(shaper)
                return self._done(shaper, rows, started)
            except Wider as wider:
                self._breaks += wider.breaks
                self._expect(Expected())
                self._survey(wider.batch, batches)
        raise RuntimeError(f"the types of {self.dataset.name} did not settle in {MAX_PASSES} passes")

    def hold(self, live: TableSchema, room: int) -> Loaded | None:
        """Read the object and hold its rows in memory until :func:`write`; what will then have been loaded.

        Args:
            live: the table's schema, which must stay as it is until the rows are written.
            room: Arrow bytes that may be held.

        Returns:
            None when the object has to be loaded by itself, with another loader: it is larger, it changes the table's
            shape, or its types are not those that its beginning promised.

        Raises:
            DataError, TransformError: as :meth:`load` does.
        """
        started = time.monotonic()
        shaper, batches = self._begun()
        if shaper.plan(live).ddl_needed:
            return None
        try:
            for data in self._data(shaper, batches):
                self.held.append(data)
                room -= data.nbytes
                if room < 0:
                    return None
        except Wider:
            return None
        return self._done(shaper, sum(data.num_rows for data in self.held), started)

    def broken_promises(self, rows: int, now: datetime) -> list[str]:
        """What the contract says of the object as a whole and does not hold; after :meth:`load`."""
        assert self.shaper is not None
        assert self.shaper.checker is not None
        return self.shaper.checker.finish(rows, now)

    def remember(self, shaper: Shaper) -> None:
        """Tell the ledger what became known of the table's columns."""
        nulls = frozenset(shaper.only_nulls)
        ledger.remember_columns(self.session, self.dataset.table, shaper.evolution, nulls, self.run)

    def close(self) -> None:
        """Let rejects and rows go; after they were kept."""
        self.rejects.close()
        self.held.clear()

    # -- one pass ------------------------------------------------------------------------------------------

    def _begun(self) -> tuple[Shaper, Iterator[RawBatch]]:
        """The object opened anew, its beginning looked at: what shapes it, and all of its batches."""
        self.rejects.clear()
        self.reader = reader = self._reader()
        stream = self._read(reader)
        sample = self._sample(stream)
        return self._shaper(reader, sample), chain(sample, stream)

    def _done(self, shaper: Shaper, rows: int, started: float) -> Loaded:
        self.shaper = shaper
        assert self.reader is not None
        return Loaded(
            rows=rows,
            records=rows + self.rejects.count(),
            changes=describe(shaper.evolution.changes),
            notes=[*self._widened(self.reader), *self.reader.notes, *self._inference.notes],
            source=described(self.reader.description, self.reader.labels),
            timings={**self._seconds, "load": time.monotonic() - started},
        )

    def _reader(self) -> TableReader:
        if not self._mended:
            return open_table(self._source, self.dataset.read, self.rejects)
        reader = open_table(self._source, self.dataset.read, Spared(self.rejects, self._mended))
        return MendedReader(reader, self._mended)

    def _read(self, reader: TableReader) -> Iterator[RawBatch]:
        batches = reader.batches()
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self._seconds["read"] += time.perf_counter() - started
            if batch is None:
                return
            if batch.data.num_columns >= MAX_COLUMNS and self.transform is None:
                raise _too_wide(self.dataset, batch.data.num_columns)
            yield batch

    def _expect(self, expected: Expected) -> None:
        assert self.reader is not None
        expect(self.reader, expected)

    def _sample(self, stream: Iterator[RawBatch]) -> list[RawBatch]:
        sample: list[RawBatch] = []
        size = 0
        for batch in stream:
            rest = batch
            if not sample:
                head, rest = _parted(batch)
                self._inference.observe(head)
            if sample or rest.data.num_rows:
                before = self._inference.copy()
                self._inference.observe(rest)
                if any(was not in (None, now) for was, now in zip(before.types, self._inference.types, strict=False)):
                    self._breaks += _breaks(before, rest)
            sample.append(batch)
            size += batch.data.nbytes
            if size >= min(SAMPLE_BYTES, (self._source.size or SAMPLE_BYTES * SAMPLE_SHARE) // SAMPLE_SHARE):
                break
        return sample

    def _widened(self, reader: TableReader) -> list[str]:
        """A sentence for each column that a value made wider: which value, and on which line."""
        first: dict[int, Break] = {}
        for found in sorted(self._breaks, key=lambda found: found.record):
            first.setdefault(found.position, found)
        records = sorted({found.record for found in first.values()})
        lines = {record: line for record, line, _text in reader.locate(records)} if records else {}
        types = self._inference.types
        return [
            f"column {found.label} widened from {found.was} to {types[found.position]}: "
            f"{_place(found, lines.get(found.record))} has {found.value[:80]!r}"
            for found in first.values()
            if found.was not in (None, types[found.position])
        ]

    def _shaper(self, reader: TableReader, sample: list[RawBatch]) -> Shaper:
        # A column that a pass before this one met late is not among the reader's yet.
        labels = max(reader.labels, self._inference.labels, key=len)
        shaper = Shaper(
            self.dataset, self._inference, labels, self.transform, self._outputs, self.directory, self.rejects
        )
        if self.transform is not None and not self.transform.whole_file:
            for batch in sample[:1]:
                shaper.learn(batch)
        return shaper

    def _plan(self, shaper: Shaper, replaces: tuple[int, ...]) -> bool:
        """Plan against the live table, under its lock; exclusively where its shape or its keys are at stake.

        Returns:
            Whether the table is new, and has no lineage column yet.
        """
        table = self.dataset.table
        keyed = bool(self.dataset.contract.keys) or self.dataset.mode in (LoadMode.MERGE, LoadMode.REPLACE_TABLE)
        if not keyed:
            self.session.execute("savepoint plan")
            settled = not shaper.plan(self.session.shared_schema(table)).ddl_needed
            if settled and (not replaces or self.session.lineage_indexed(table)):
                return False
            self.session.execute("rollback to savepoint plan")
        self.session.run("lock_table", table=table)
        live = self.session.table_schema(table)
        evolution = shaper.plan(live)
        if live is not None:
            self.session.adopt(table, evolution.load)
            if replaces and not keyed:
                self.session.ensure_lineage_index(table)
        self.session.apply(table, evolution)
        assert self.reader is not None
        kind = KIND_OF.get(self.reader.description.format, "table")
        if kind in WORDS:
            self.session.ensure_words_index(table, kind, WORDS[kind])
        return live is None

    def _publish(self, shaper: Shaper, batches: Iterator[RawBatch], replaces: tuple[int, ...], *, new: bool) -> int:
        table, key = self.dataset.table, self.dataset.key
        merging = self.dataset.mode is LoadMode.MERGE
        if self.dataset.mode is LoadMode.REPLACE_TABLE:
            self.session.truncate(table)
        elif replaces and not merging:
            self.session.delete_runs(table, replaces)
        keys = tuple(dict.fromkeys([*([key] if merging else []), *self.dataset.contract.keys]))
        missing = sorted({name for key in keys for name in key} - set(shaper.types))
        if missing:
            raise _missing_key(self.dataset, missing)
        if not keys:
            rows = self.session.copy(table, self._data(shaper, batches), shaper.types, None if new else self.run)
            if new:
                self.session.add_lineage(table, self.run)
            return rows
        if new:
            self.session.add_lineage(table, self.run)
        for columns in keys:
            self.session.ensure_unique_index(table, columns)
        self.session.stage(table, self._numbered(shaper, batches), shaper.types, _RECORD)
        for columns in keys:
            upsert = merging and columns == key
            for record, value, reason in self.session.staged_key_faults(
                table,
                columns,
                _RECORD,
                nulls=columns in (key, self.dataset.contract.primary_key),
                live=not merging,
                keep_last=upsert,
            ):
                self.rejects.add(Reject(reason, record, column=", ".join(columns), value=value))
        return self.session.unstage(table, list(shaper.types), self.run, key if merging else ())

    def _shaped(self, shaper: Shaper, batches: Iterator[RawBatch]) -> Iterator[Shaped]:
        rows = 0
        for batch in batches if not self._whole else self._gathered(batches):
            started = time.perf_counter()
            shaped = list(shaper.shape(batch))
            self._seconds["shape"] += time.perf_counter() - started
            for piece in shaped:
                yield piece
                rows += piece.data.num_rows
                self.on_rows(rows)

    @property
    def _whole(self) -> bool:
        return self.transform is not None and self.transform.whole_file

    def _gathered(self, batches: Iterator[RawBatch]) -> Iterator[RawBatch]:
        """All batches as one, for a transform that wants the whole object."""
        import pyarrow as pa

        held = list(batches)
        if not held:
            return
        kinds = [held[-1].kinds[position] for position in range(len(held[-1].kinds))]
        for batch in held:
            for position, kind in enumerate(batch.kinds):
                kinds[position] |= kind
        records = pa.concat_arrays([_ordinals(batch) for batch in held])
        table = pa.concat_tables([_widened(batch, held[-1]) for batch in held]).combine_chunks()
        whole = table.to_batches()
        if len(whole) != 1:
            whole = [pa.RecordBatch.from_arrays([c.chunk(0) for c in table.columns], names=table.column_names)]
        yield RawBatch(whole[0], tuple(kinds), 0, records)

    def _data(self, shaper: Shaper, batches: Iterator[RawBatch]) -> Iterator[pa.RecordBatch]:
        return (shaped.data for shaped in self._shaped(shaper, batches))

    def _numbered(self, shaper: Shaper, batches: Iterator[RawBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        from etl_container.arrays import numbered

        position = 0
        for shaped in self._shaped(shaper, batches):
            rows = shaped.data.num_rows
            records = shaped.records
            if records is None:
                records = numbered(position, rows)
            position += rows
            yield pa.RecordBatch.from_arrays(
                [*shaped.data.columns, records], names=[*shaped.data.schema.names, _RECORD]
            )

    # -- between passes ------------------------------------------------------------------------------------------

    def _survey(self, batch: RawBatch | None, rest: Iterator[RawBatch]) -> None:
        """Read the rest of the object without loading it, so that the next pass knows all of it."""
        for unread in chain([batch] if batch is not None else [], rest):
            self._inference.observe(unread)


def write(session: Session, dataset: Dataset, loaders: Sequence[Loader], replaces: Sequence[int]) -> None:
    """Publish what loaders of one dataset hold in place of the rows of the runs ``replaces``, by one COPY a layout."""
    if replaces:
        session.delete_runs(dataset.table, replaces)
    layouts: dict[pa.Schema, tuple[Mapping[str, PgType], list[tuple[int, pa.RecordBatch]]]] = {}
    for loader in loaders:
        assert loader.shaper is not None
        for data in loader.held:
            _types, rows = layouts.setdefault(data.schema, (loader.shaper.types, []))
            rows.append((loader.run, data))
        loader.remember(loader.shaper)
    for types, rows in layouts.values():
        session.copy_together(dataset.table, rows, types)


def _parted(batch: RawBatch) -> tuple[RawBatch, RawBatch]:
    """The first rows of a batch, and the others: what the first ones say is what a value of the others may break."""
    batch = batch.as_written()
    if batch.data.num_rows <= HEAD_ROWS:
        return batch, RawBatch(batch.data.slice(batch.data.num_rows), batch.kinds)
    heads, rests = (None, None) if batch.records is None else (batch.records[:HEAD_ROWS], batch.records[HEAD_ROWS:])
    return (
        RawBatch(batch.data[:HEAD_ROWS], batch.kinds, batch.first_record, heads),
        RawBatch(batch.data[HEAD_ROWS:], batch.kinds, batch.ordinal(HEAD_ROWS), rests),
    )


def _breaks(before: Inference, batch: RawBatch) -> Sequence[Break]:
    """The values of a batch that did not fit what was known before it."""
    try:
        before.cast(batch, before.targets)
    except TypeBreak as broken:
        return broken.breaks
    return ()


def _place(found: Break, line: int | None) -> str:
    return f"record {found.record + 1:,}" if line is None else f"line {line:,}"


def _ordinals(batch: RawBatch) -> pa.Int64Array:
    from etl_container.arrays import numbered

    return batch.records if batch.records is not None else numbered(batch.first_record, batch.data.num_rows)


def _widened(batch: RawBatch, last: RawBatch) -> pa.Table:
    """A batch with the columns of the last one, those it lacks being null; positions as names."""
    import pyarrow as pa

    columns = list(batch.data.columns)
    columns += [
        pa.nulls(batch.data.num_rows, last.data.schema.field(position).type)
        for position in range(len(columns), last.data.num_columns)
    ]
    return pa.Table.from_arrays(columns, names=[str(position) for position in range(len(columns))])


def _too_wide(dataset: Dataset, columns: int) -> DataError:
    return DataError(
        f"the object has {columns:,} columns, and a PostgreSQL table at most {MAX_COLUMNS:,}, one of them ours",
        hint=f"turn columns into rows in transforms/{dataset.name}.py, for instance with df.melt()",
    )


def _missing_key(dataset: Dataset, missing: list[str]) -> DataError:
    return DataError(
        f"the key of dataset {dataset.name} names {', '.join(missing)}, which the object does not have",
        hint=f"mend key, primary_key or unique in [dataset.{dataset.name}] of lake.toml",
    )


def described(description: Description, labels: tuple[str, ...]) -> dict[str, Any]:
    """How an object was read, for the run's record: enough to read a reject's text again."""
    dialect = description.dialect
    return {
        "format": description.format,
        "compression": description.compression,
        "encoding": description.encoding,
        "table": description.table,
        "labels": list(labels),
        "dialect": None
        if dialect is None
        else {
            "delimiter": dialect.delimiter,
            "quote": dialect.quote,
            "escape": dialect.escape,
            "header": dialect.header,
        },
    }
