"""From what the operator names to objects in tables: which files, under which keys; land them all, then load them all.

One broken file never stops the others: its failure is a report like any other.
"""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from etl_container.datasets import RAW_PREFIX, stem_of
from etl_container.report import Landing, LoadReport, OnEvent, silent
from lakectl.config import Lake
from lakectl.errors import DataError, LakectlError, NotFoundError, PermissionDeniedError, UsageError
from lakectl.targets.base import Landed, Target

STDIN = "-"
SMALL_BYTES = 4 << 20
"""A larger file is landed by itself, and its progress is told."""
_SEVERITY = (1, 7, 5, 8, 4, 3, 6)
"""Exit codes, the most severe first: what stops everything before what concerns one file."""


class Upload(Struct, frozen=True):
    """One file on its way: where it is (None: standard input) and its key in the raw zone."""

    path: str | None
    key: str
    size: int = 0
    """Bytes, as far as known."""


def plan(paths: Sequence[str], *, dataset: str | None = None, name: str | None = None) -> list[Upload]:
    """The files that ``paths`` stand for, each with its key, in order and without repetition.

    A file named directly lands as ``raw/<stem>/<file name>``. Of a directory, the files directly in it land under the
    directory's name and those in subfolders under the first folder's, keeping the rest of their path. ``dataset``
    overrides. ``-`` is standard input, called ``name``. Hidden files in directories are left out.

    Raises:
        NotFoundError: no such file; a pattern or directory without any file.
        UsageError: a name that cannot be a key; two files with one key.
    """
    if dataset is not None:
        _check_dataset(dataset)
    uploads: dict[str, Upload] = {}
    for path in paths:
        for upload in _expand(path, dataset, name):
            other = uploads.setdefault(upload.key, upload)
            if other.path != upload.path and not _same(other.path, upload.path):
                raise UsageError(
                    f"{other.path} and {upload.path} would both be the object {upload.key}",
                    hint="upload them apart, each with a --dataset of its own",
                )
    return list(uploads.values())


def plan_within(directory: str, path: str, *, dataset: str | None = None) -> Upload:
    """One file of a directory, under the key that :func:`plan` gives it; raises as it does."""
    below = os.path.relpath(path, directory)
    if dataset is not None:
        below = f"{dataset}/{below}"
    elif os.sep not in below:
        below = f"{Path(directory).resolve().name or 'data'}/{below}"
    return Upload(path, _key(below), _size(path))


def key_of(path: str, *, dataset: str | None = None) -> str:
    """The key that a file named directly lands under."""
    name = os.path.basename(path)
    return _key(f"{dataset or stem_of(name)}/{name}")


def land(
    target: Target, lake: Lake, uploads: Sequence[Upload], *, on_event: OnEvent = silent
) -> Iterator[Landed | LoadReport]:
    """Land each file, in order; a file that cannot be landed gives a ``failed`` report instead.

    Small files are landed several at a time where most of what one takes is waiting, as it is for S3.
    """

    def outcome(upload: Upload, landing: Callable[[], Landed]) -> Landed | LoadReport:
        try:
            landed = landing()
        except (NotFoundError, PermissionDeniedError, DataError) as error:
            return failure(lake, upload.key, error)
        on_event(Landing(upload.key, max(upload.size, landed.size), upload.size or landed.size))
        return landed

    waiting: deque[tuple[Upload, Callable[[], Landed]]] = deque()
    pool = ThreadPoolExecutor(target.landers, thread_name_prefix="land")
    try:
        for upload in uploads:
            if upload.path is None or upload.size > SMALL_BYTES or target.landers == 1 or len(uploads) == 1:
                waiting.append((upload, partial(target.land, upload.path, upload.key, on_event=on_event)))
                room = 0
            else:
                waiting.append((upload, pool.submit(target.land, upload.path, upload.key).result))
                room = 2 * target.landers
            while len(waiting) > room:
                yield outcome(*waiting.popleft())
        while waiting:
            yield outcome(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def land_and_load(
    target: Target, lake: Lake, uploads: Sequence[Upload], *, on_event: OnEvent = silent
) -> Iterator[LoadReport]:
    """Land all, then load all; one report each."""
    landed: list[tuple[str, str | None]] = []
    for outcome in land(target, lake, uploads, on_event=on_event):
        if isinstance(outcome, LoadReport):
            yield outcome
        else:
            landed.append((outcome.key, outcome.version))
    if landed:
        yield from target.load(landed, on_event=on_event)


def failure(lake: Lake, key: str, error: LakectlError) -> LoadReport:
    """What is told of a file that did not even become an object."""
    dataset = lake.dataset_of(key)
    return LoadReport(
        key=key,
        version="",
        dataset=dataset.name,
        table=dataset.table,
        state="failed",
        error=error.message,
        hint=error.hint,
        exit_code=error.exit_code,
        retryable=error.retryable,
    )


def exit_code(reports: Sequence[LoadReport]) -> int:
    """The exit code of the most severe failure; 0 when there is none."""
    codes = {report.exit_code or 1 for report in reports if report.state == "failed"}
    return min(codes, key=lambda code: _SEVERITY.index(code) if code in _SEVERITY else len(_SEVERITY), default=0)


def with_hint(report: LoadReport) -> LoadReport:
    """The report of a failure, always with a next step."""
    if report.state != "failed" or report.hint:
        return report
    if not report.version:
        return replace(report, hint="nothing of it was landed; mend the file and upload it again")
    return replace(report, hint=f"lakectl explain {report.run or report.key}")


def _expand(path: str, dataset: str | None, name: str | None) -> Iterator[Upload]:
    if path == STDIN:
        if not name or name != os.path.basename(name):
            raise UsageError("standard input has no file name", hint="lakectl upload - --name trips.csv")
        yield Upload(None, key_of(name, dataset=dataset))
    elif os.path.isdir(path):
        yield from _walk(path, dataset)
    elif os.path.lexists(path):
        yield Upload(path, key_of(path, dataset=dataset), _size(path))
    elif glob.has_magic(path):
        matches = sorted(glob.glob(path, recursive=True))
        if not matches:
            raise NotFoundError(f"no file matches {path}", hint=f"ls {os.path.dirname(path) or '.'}")
        for match in matches:
            if os.path.isdir(match):
                yield from _walk(match, dataset, may_be_empty=True)
            else:
                yield Upload(match, key_of(match, dataset=dataset), _size(match))
    else:
        raise NotFoundError(f"there is no file {path}", hint=f"ls {os.path.dirname(path) or '.'}")


def _walk(directory: str, dataset: str | None, *, may_be_empty: bool = False) -> Iterator[Upload]:
    found = False

    def refuse(error: OSError) -> None:
        raise PermissionDeniedError(f"{error.filename} may not be read: {error.strerror}") from None

    for folder, subfolders, files in os.walk(directory, onerror=refuse):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for file in sorted(files):
            path = os.path.join(folder, file)
            if file.startswith(".") or not os.path.exists(path):
                continue
            found = True
            yield plan_within(directory, path, dataset=dataset)
    if not found and not may_be_empty:
        raise NotFoundError(f"there are no files in the directory {directory}", hint=f"ls -A {directory}")


def _key(below: str) -> str:
    key = RAW_PREFIX + below.replace(os.sep, "/")
    try:
        key.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(below).decode(errors="backslashreplace")
        raise UsageError(
            f"the file name {shown} is not UTF-8, and a key has to be",
            hint="rename the file, or: lakectl upload - --name NAME < FILE",
        ) from None
    return key


def _check_dataset(dataset: str) -> None:
    if not dataset.strip() or "/" in dataset or dataset in (".", ".."):
        raise UsageError(f"{dataset!r} cannot be a dataset's name", hint="one folder name, for instance trips")


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _same(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and os.path.realpath(one) == os.path.realpath(other)
