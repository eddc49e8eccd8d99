"""The user's transform: ``transforms/<dataset>.py`` or ``transforms/<dataset>.sql``, between reading and checking.

A Python transform is a function from a data frame to a data frame::

    def transform(df):
        return df[df["distance"] > 0]

It is called once per batch, or with ``whole_file = True`` in the module once per object. Its frame has Arrow-backed
columns under the table's column names. The frame's index is the ordinal of each row's record in the object, so rows
that keep their index can be told by line when a later check rejects them. An optional second parameter gets a
:class:`Context`.

A SQL transform is one SELECT, run by an embedded DuckDB over a relation named ``input`` (and also like the dataset), on
each batch, or with a first line ``-- whole_file: true`` once per object. It reaches neither files nor the network.

A whole-file transform holds the object's rows in memory, and pandas needs a few times that for most operations: plan
with three to five times the size of the data in Arrow form. Larger objects want a transform that works by batch. DuckDB
spills to a temporary directory beyond its memory limit, so a whole-file SELECT needs the rows going in and coming
out, not what lies between.

Whatever the user's code raises becomes a :class:`TransformError` that names its file and line and the rows it had.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import re
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from etl_container import usercode
from etl_container.errors import ConfigError, LakectlError, TransformError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

RECORD_INDEX = "_record"
"""The name of the frame's index. No column can have it: an underscore before a letter is never kept in a name."""

SQL_THREADS = 2
SQL_MEMORY = "256MB"
"""What DuckDB may hold before it spills; the batch itself is the caller's."""

_SHOWN_ROWS = 3
_SHOWN_WIDTH = 116
_SHOWN_VALUE = 24

_EXAMPLE = "def transform(df):\n    return df"


class Context(Struct, frozen=True):
    """What a transform may know of the object it works on."""

    dataset: str
    key: str = ""
    """The object's key, such as ``raw/trips/2024-01.csv``."""
    version: str = ""


class Transform(ABC):
    """One loaded transform.

    Attributes:
        name: the file's name.
        whole_file: whether :meth:`apply` wants the whole object at once.
    """

    name: str
    whole_file: bool

    @abstractmethod
    def apply(
        self, data: pa.RecordBatch | pa.Table, records: pa.Int64Array | pa.ChunkedArray
    ) -> tuple[pa.Table, pa.Int64Array | None]:
        """The rows that the transform makes of these.

        Args:
            data: rows whose field names are column names; not changed.
            records: the ordinal of each row's record in the object.

        Returns:
            The rows, under the labels that the user gave them, and the ordinals of their records where the user's code
            kept them apart. A result without rows may have no columns either.

        Raises:
            TransformError: the user's code raised, or returned no table.
        """


def mark(directory: Path, dataset: str) -> str | None:
    """Which transform a dataset has now, as a run records it; None when it has none.

    That is its file's name and the first 12 hex digits of the file's SHA-256; siblings are not in it. Nothing of the
    user's is run, so that asking is cheap and cannot fail on their code.
    """
    for path in _paths(directory, dataset):
        if path.is_file():
            return f"{path.name}@{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    return None


def _paths(directory: Path, dataset: str) -> tuple[Path, ...]:
    """Where a dataset's transform may be; nowhere for a name that is not a file's."""
    if not dataset or dataset in (".", "..") or "/" in dataset or "\0" in dataset:
        return ()
    return directory / f"{dataset}.py", directory / f"{dataset}.sql"


def load(directory: Path, dataset: str, *, key: str = "", version: str = "") -> Transform | None:
    """The transform of a dataset, freshly imported; None when it has none.

    Args:
        directory: where the transforms are.
        dataset: the dataset's name, which is the file's stem.
        key: of the object, for the user's :class:`Context`.
        version: of the object, likewise.

    Raises:
        ConfigError: there is a ``.py`` and a ``.sql``; or the file has no ``transform``, or no SELECT.
        TransformError: the file cannot be imported or parsed.
    """
    paths = _paths(directory, dataset)
    if not paths:
        return None
    python, sql = paths
    if python.is_file() and sql.is_file():
        raise ConfigError(
            f"dataset {dataset} has two transforms, {directory.name}/{python.name} and {directory.name}/{sql.name}",
            hint="remove or rename one of them",
        )
    context = Context(dataset, key, version)
    if python.is_file():
        return PythonTransform(python, context)
    if sql.is_file():
        return SqlTransform(sql, context)
    return None


# -- Python ------------------------------------------------------------------------------------------------------------


class PythonTransform(Transform):
    """A module of the user's with ``transform(df)`` or ``transform(df, context)``."""

    def __init__(self, path: Path, context: Context) -> None:
        self._path = path.resolve()
        self._shown = f"{path.parent.name}/{path.name}"
        self._context = context
        self.name = path.name
        try:
            self._code = usercode.load(self._path)
        except LakectlError:
            raise
        except SystemExit as error:
            raise self._quit(error, "") from error
        except Exception as error:
            raise usercode.failure(TransformError, self._path, error, details="while it was imported") from error
        self._function = getattr(self._code.module, "transform", None)
        self._gets_context = self._check_signature()
        whole = getattr(self._code.module, "whole_file", False)
        if not isinstance(whole, bool):
            raise ConfigError(f"{self._shown}: whole_file = {whole!r}", hint="True or False")
        self.whole_file = whole

    def _check_signature(self) -> bool:
        """Whether the function takes the context."""
        if not callable(self._function):
            raise ConfigError(
                f"{self._shown} has no function named transform", hint=f"write one, at the least:\n{_EXAMPLE}"
            )
        if inspect.iscoroutinefunction(self._function):
            raise ConfigError(f"{self._shown}: transform must not be async", hint=f"write it as\n{_EXAMPLE}")
        parameters = list(inspect.signature(self._function).parameters.values())
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        needed = [p for p in positional if p.default is p.empty]
        keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
        takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        if (not positional and not takes_any) or len(needed) > 2 or keywords:
            raise ConfigError(
                f"{self._shown}: transform{inspect.signature(self._function)} cannot be called with a data frame",
                hint="its parameters are (df) or (df, context)",
            )
        return len(needed) == 2 or (len(positional) > 1 and positional[1].name == "context")

    def apply(
        self, data: pa.RecordBatch | pa.Table, records: pa.Int64Array | pa.ChunkedArray
    ) -> tuple[pa.Table, pa.Int64Array | None]:
        import pandas as pd

        # Never a RangeIndex: that is how a reset index is told from ours.
        numbers = records.to_numpy() if _chunked(records) else records.to_numpy(zero_copy_only=False)
        columns = zip(data.column_names, data.columns, strict=True)
        # A third of the time that to_pandas with a types_mapper takes for the same frame.
        frame = pd.DataFrame(
            {name: pd.arrays.ArrowExtensionArray(column) for name, column in columns},
            index=pd.Index(numbers, name=RECORD_INDEX),
            copy=False,
        )
        try:
            made = self._function(frame, self._context) if self._gets_context else self._function(frame)  # type: ignore[misc]
        except LakectlError:  # not the user's: a signal handler's, say
            raise
        except SystemExit as error:
            if not usercode.quits(self._path, error):
                raise
            raise self._quit(error, _given(data, records)) from error
        except Exception as error:
            raise usercode.failure(TransformError, self._path, error, details=_given(data, records)) from error
        return self._returned(made)

    def _quit(self, error: SystemExit, given: str) -> TransformError:
        message = f"{self._code_place(error)}: the transform called exit({error.code!r})"
        return TransformError(f"{message}\n{given}".rstrip(), hint="raise an exception that says what is wrong")

    def _code_place(self, error: BaseException) -> str:
        return usercode.where(self._path, error)

    # -- what came back ----------------------------------------------------------------------------------------------

    def _returned(self, made: object) -> tuple[pa.Table, pa.Int64Array | None]:
        import pandas as pd
        import pyarrow as pa

        if not isinstance(made, pd.DataFrame):
            raise TransformError(f"{self._shown}: transform returned {_kind_of(made)}", hint=_returned_hint(made))
        frame, records = _split_index(made)
        names = [_label(label) for label in frame.columns]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise TransformError(
                f"{self._shown}: the frame that transform returned has more than one column {', '.join(repeated)}",
                hint="rename the columns apart, or drop those that repeat",
            )
        if not names:
            if len(frame):
                raise TransformError(
                    f"{self._shown}: transform returned {len(frame):,} rows without a column",
                    hint="return the columns that the table shall have; for no rows, df.head(0)",
                )
            return pa.table({}), None
        arrays = [self._column(series, name) for (_, series), name in zip(frame.items(), names, strict=True)]
        return pa.Table.from_arrays(arrays, names=names), records

    def _column(self, series: pd.Series[Any], name: str) -> pa.Array | pa.ChunkedArray:
        import pandas as pd
        import pyarrow as pa

        dtype: Any = series.dtype
        if isinstance(dtype, pd.ArrowDtype):
            return _plain(pa.chunked_array(series.array.__arrow_array__()))
        if isinstance(dtype, pd.CategoricalDtype):
            return self._column(series.astype(dtype.categories.dtype if not series.hasnans else object), name)
        if isinstance(dtype, pd.SparseDtype):
            return self._column(series.astype(dtype.subtype), name)
        if isinstance(dtype, pd.PeriodDtype | pd.IntervalDtype):
            return pa.array([None if pd.isna(value) else str(value) for value in series], pa.string())
        try:
            return _plain(pa.array(series, from_pandas=True))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeError) as error:
            if pd.api.types.is_object_dtype(dtype) and (array := _objects(series)) is not None:
                return array
            raise TransformError(
                f"{self._shown}: column {name} of the returned frame cannot be a table's column: "
                f"{_contents(series, error)}",
                hint=f'make its values of one kind, for instance df["{name}"] = df["{name}"].astype("string")',
            ) from error


def _split_index(frame: pd.DataFrame) -> tuple[pd.DataFrame, pa.Int64Array | None]:
    """The frame's columns, and the records of its rows if its index still says them.

    An index that the user named (the keys of a ``groupby``) becomes columns, first; one without a name means nothing.
    """
    import pandas as pd
    import pyarrow as pa

    index = frame.index
    if index.name == RECORD_INDEX and index.nlevels == 1 and pd.api.types.is_integer_dtype(index.dtype):
        return frame, pa.array(index.to_numpy(), pa.int64())
    if isinstance(index, pd.RangeIndex) and index.name is None:
        if RECORD_INDEX in frame.columns and pd.api.types.is_integer_dtype(kept := frame[RECORD_INDEX]):
            # reset_index() without drop=True
            if not kept.hasnans:
                return frame.drop(columns=RECORD_INDEX), pa.array(kept.to_numpy("int64"), pa.int64())
            return frame.drop(columns=RECORD_INDEX), None
        return frame, None
    named = [level for level, name in enumerate(index.names) if name is not None and name != RECORD_INDEX]
    if not named:
        return frame, None
    levels = {index.names[level]: index.get_level_values(level) for level in named}
    first = pd.DataFrame({name: level.array for name, level in levels.items()})
    rest = frame.reset_index(drop=True)
    return pd.concat([first, rest], axis=1), None


def _label(label: object) -> str:
    """A column's label as text; the levels of a MultiIndex joined."""
    if isinstance(label, tuple):
        return "_".join(str(part) for part in label if str(part))
    return str(label)


def _plain(array: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Dictionaries as their values, extension types as what they store."""
    import pyarrow as pa

    if isinstance(array.type, pa.BaseExtensionType):
        array = array.cast(array.type.storage_type)
    return array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array


def _objects(series: pd.Series[Any]) -> pa.Array | None:
    """An object column that Arrow cannot type by itself: integers beyond 64 bits, uuids. None when it is neither."""
    import decimal
    import uuid

    import pandas as pd
    import pyarrow as pa

    values = [None if _missing(value) else value for value in series]
    kinds = {type(value) for value in values if value is not None}
    if kinds == {uuid.UUID}:
        return pa.array([None if value is None else value.bytes for value in values], pa.binary(16))
    if kinds == {int}:
        widest = max(len(str(abs(value))) for value in values if value is not None)
        if widest > 76:
            return None
        kind = pa.decimal128(38, 0) if widest <= 38 else pa.decimal256(76, 0)
        return pa.array([None if value is None else decimal.Decimal(value) for value in values], kind)
    if kinds in ({pd.Period}, {pd.Interval}):
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    return None


def _missing(value: object) -> bool:
    import pandas as pd

    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def _contents(series: pd.Series[Any], error: Exception) -> str:
    """What is mixed in an object column, with an example of each kind."""
    import pandas as pd

    if not pd.api.types.is_object_dtype(series.dtype):
        return f"{series.dtype} ({error})"
    examples: dict[str, str] = {}
    for value in series:
        if not _missing(value):
            examples.setdefault(type(value).__name__, usercode.cut(repr(value), _SHOWN_VALUE))
    told = ", ".join(f"{kind} ({example})" for kind, example in examples.items())
    return f"it mixes {told}" if len(examples) > 1 else f"{told}: {error}"


def _kind_of(made: object) -> str:
    return "None" if made is None else f"a {type(made).__module__}.{type(made).__qualname__}, not a pandas.DataFrame"


def _returned_hint(made: object) -> str:
    if made is None:
        return "end it with: return df"
    if hasattr(made, "to_frame"):
        return "return result.to_frame()"
    return "return result.to_pandas()" if hasattr(made, "to_pandas") else "return a pandas.DataFrame"


# -- SQL ---------------------------------------------------------------------------------------------------------------

_WHOLE_FILE = re.compile(r"\s*--\s*whole_file\s*[:=]\s*(\w+)\s*", re.IGNORECASE)
_LINE = re.compile(r"^LINE (\d+):", re.MULTILINE)

# Arrow has no type of PostgreSQL's for these: their text it is. A cast in SQL is exact where Arrow's would guess.
_AS_TEXT = (
    "INTERVAL",
    "BIT",
    "TIME WITH TIME ZONE",
    "UNION",
    "BIGNUM",
    "VARINT",
    "ENUM",
    "UUID",
    "VARIANT",
    "GEOMETRY",
)
_HUGE = ("HUGEINT", "UHUGEINT")


class SqlTransform(Transform):
    """A SELECT of the user's, run by DuckDB in a database of its own that reaches nothing else."""

    def __init__(self, path: Path, context: Context) -> None:
        import duckdb

        self._shown = f"{path.parent.name}/{path.name}"
        self._dataset = context.dataset
        content = path.read_bytes()
        self.name = path.name
        try:
            self._text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise TransformError(f"{self._shown} is not UTF-8 text: {error}", hint="save it as UTF-8") from error
        self.whole_file = self._wants_whole_file()
        spill = tempfile.mkdtemp(prefix="lake-sql-")
        weakref.finalize(self, shutil.rmtree, spill, ignore_errors=True)
        self._connection = self._connect(spill)
        weakref.finalize(self, self._connection.close)
        try:
            statements = self._connection.extract_statements(self._text)
        except duckdb.Error as error:
            raise TransformError(self._told(str(error), self._line_of(str(error), 0))) from error
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise ConfigError(
                f"{self._shown} must be one SELECT; it has "
                + (", ".join(str(s.type.name) for s in statements) if statements else "no statement"),
                hint="SELECT * FROM input is the least; use WITH for steps",
            )
        self._query: str = statements[0].query.rstrip().rstrip(";")
        self._lines_before = self._text[: max(self._text.find(self._query), 0)].count("\n")

    def _wants_whole_file(self) -> bool:
        for line in self._text.splitlines():
            if line.strip() and not line.lstrip().startswith("--"):
                break
            if match := _WHOLE_FILE.fullmatch(line):
                if match[1].lower() not in ("true", "false"):
                    raise ConfigError(f"{self._shown}: {line.strip()}", hint="-- whole_file: true")
                return match[1].lower() == "true"
        return False

    @staticmethod
    def _connect(spill: str) -> Any:
        import duckdb

        connection = duckdb.connect(":memory:", config={"threads": SQL_THREADS, "memory_limit": SQL_MEMORY})
        for setting in (
            f"temp_directory = '{spill.replace(chr(39), chr(39) * 2)}'",
            "TimeZone = 'UTC'",
            "python_enable_replacements = false",
            "autoinstall_known_extensions = false",
            "autoload_known_extensions = false",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            connection.execute(f"SET {setting}")
        return connection

    def apply(
        self, data: pa.RecordBatch | pa.Table, records: pa.Int64Array | pa.ChunkedArray
    ) -> tuple[pa.Table, pa.Int64Array | None]:
        import duckdb
        import pyarrow as pa

        table = pa.Table.from_batches([data]) if isinstance(data, pa.RecordBatch) else data
        names = dict.fromkeys((self._dataset, "input"))
        for name in names:
            self._connection.register(name, table)
        try:
            relation = self._connection.sql(self._query)
            self._check_names()
            return self._plain(relation).to_arrow_table(), None
        except duckdb.Error as error:
            message, line = self._diagnose(error)
            told = self._told(message, line)
            raise TransformError(f"{told}\n{_given(data, records)}") from error
        finally:
            for name in names:
                self._connection.unregister(name)

    def _check_names(self) -> None:
        """A relation numbers columns that repeat; the statement's own description still has their names."""
        described = self._connection.execute(f"DESCRIBE {self._query}").fetchall()
        names = [str(row[0]) for row in described]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise TransformError(
                f"{self._shown}: the SELECT has more than one column {', '.join(repeated)}",
                hint="name them apart with AS",
            )

    def _plain(self, relation: Any) -> Any:
        columns = []
        for name, kind in zip(relation.columns, map(str, relation.types), strict=True):
            quoted = '"' + name.replace('"', '""') + '"'
            if kind in _HUGE or (kind.startswith(_AS_TEXT) and not kind.endswith("]")):
                # A hugeint may have 39 digits and Arrow's decimal 38: the cast refuses it, the conversion would not.
                columns.append(f"{quoted}::{'DECIMAL(38,0)' if kind in _HUGE else 'VARCHAR'} AS {quoted}")
            else:
                columns.append(quoted)
        return relation.project(", ".join(columns))

    def _diagnose(self, error: Exception) -> tuple[str, int | None]:
        """The message with the user's own line: a relation wraps the query, so only a plain run counts its lines."""
        import duckdb

        try:
            self._connection.execute(self._query)
        except duckdb.Error as plain:
            return str(plain), self._line_of(str(plain), self._lines_before)
        return str(error), None

    def _line_of(self, message: str, before: int) -> int | None:
        match = _LINE.search(message)
        return int(match[1]) + before if match else None

    def _told(self, message: str, line: int | None) -> str:
        first, _, drawn = message.partition("\n\nLINE ")
        place = f"{self._shown}, line {line}" if line is not None else self._shown
        first = " ".join(part.strip() for part in first.splitlines() if part.strip())
        text = drawn.partition(": ")[2].splitlines()[0].strip() if drawn else ""
        return f"{place}: {usercode.cut(first, 500)}" + (f"\n    {usercode.cut(text, 160)}" if text else "")


# -- the rows it was given ---------------------------------------------------------------------------------------------


def _given(data: pa.RecordBatch | pa.Table, records: pa.Int64Array | pa.ChunkedArray) -> str:
    """Which records a transform had, and the first of them as a small table."""
    import pyarrow.compute as pc

    if data.num_rows == 0:
        return "it was given no rows, of the columns " + usercode.cut(", ".join(data.column_names), _SHOWN_WIDTH)
    low, high = (bound.as_py() + 1 for bound in pc.min_max(records).values())
    span = f"record {low:,}" if low == high else f"records {low:,} to {high:,}"
    head = data.slice(0, _SHOWN_ROWS)
    numbers = ["record", *(f"{record.as_py() + 1:,}" for record in records[:_SHOWN_ROWS])]
    return f"it was given {span} ({data.num_rows:,} rows), beginning\n{_drawn(head, numbers)}"


def _drawn(head: pa.RecordBatch | pa.Table, numbers: Sequence[str]) -> str:
    columns = [list(numbers)]
    width = max(map(len, numbers))
    left = 0
    for position, (name, column) in enumerate(zip(head.column_names, head.columns, strict=True)):
        cells = [_cell(name), *(_cell(value) for value in column.to_pylist())]
        width += 3 + max(map(len, cells))
        if width > _SHOWN_WIDTH and position:
            left = head.num_columns - position
            break
        columns.append(cells)
    widths = [max(map(len, cells)) for cells in columns]
    lines = [
        "  " + " | ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip()
        for row in zip(*columns, strict=True)
    ]
    if left:
        lines.append(f"  … and {left} more column{'s' if left > 1 else ''}")
    return "\n".join(lines)


def _cell(value: object) -> str:
    text = "null" if value is None else str(value)
    return usercode.cut("".join(char if char.isprintable() else "·" for char in text), _SHOWN_VALUE)


def _chunked(records: object) -> bool:
    import pyarrow as pa

    return isinstance(records, pa.ChunkedArray)
