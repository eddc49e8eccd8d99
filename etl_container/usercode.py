"""The user's own Python files: imported in isolation, and their mistakes told in the user's words.

Each :func:`load` makes a private package out of the file's directory, so that

- the file and its siblings (``import helpers``, ``from helpers import x``, ``from . import helpers``) are fresh module
  objects, never those of an earlier load or of another lake;
- neither ``sys.path`` nor the names of other modules change: a ``transforms/calendar.py`` hides nothing from anyone;
- no bytecode is written beside the user's files, nor read from there.

The modules of the package see their siblings through an ``__import__`` of their own, also when a function imports late
and in whatever thread; everything else finds what it always finds. The standard library and modules that are installed
win over a sibling of the same name, except where the user writes ``from . import name``.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import linecache
import re
import sys
import types
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from etl_container.errors import LakectlError

_PREFIX = "_lake_user_code_"
_numbers = itertools.count(1)


class UserCode:
    """A user's file, loaded. The modules go away with this object.

    Attributes:
        path: the file.
        module: the module it became.
    """

    def __init__(self, path: Path, package: str, module: types.ModuleType) -> None:
        self.path = path
        self.module = module
        weakref.finalize(self, _forget, package).atexit = False

    def where(self, error: BaseException) -> str:
        """The innermost line of the user's own in ``error``'s traceback; see :func:`where`."""
        return where(self.path, error)


def load(path: Path) -> UserCode:
    """Import one file.

    Raises:
        Exception: whatever the file raises; SyntaxError when it is no Python. Translate with :func:`failure`.
    """
    path = path.resolve()
    package = f"{_PREFIX}{next(_numbers)}"
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())  # before the finder of paths, which would find the siblings as well
    linecache.checkcache(str(path))
    parent = types.ModuleType(package)
    parent.__path__ = [str(path.parent)]
    parent.__package__ = package
    sys.modules[package] = parent
    # The stem may hold dots and dashes: it is not imported by name.
    name = f"{package}.{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}"
    try:
        spec = importlib.util.spec_from_loader(name, _Loader(name, str(path)), origin=str(path))
        assert spec is not None
        spec.has_location = True
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        _Loader(name, str(path)).exec_module(module)
    except BaseException:
        _forget(package)
        raise
    return UserCode(path, package, module)


def where(path: Path, error: BaseException) -> str:
    """``transforms/trips.py, line 3, in transform``: the innermost frame in the directory of ``path``."""
    directory = path.resolve().parent
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_relative_to(directory):
        return f"{_shown(directory, error.filename)}, line {error.lineno}"
    place = f"{directory.name}/{path.name}"
    for frame, line in _frames(error):
        if Path(frame.co_filename).is_relative_to(directory):
            place = f"{_shown(directory, frame.co_filename)}, line {line}"
            if frame.co_name != "<module>":
                place += f", in {frame.co_name}"
    return place


def source_line(path: Path, error: BaseException) -> str:
    """The user's line of code that :func:`where` names, or an empty string."""
    directory = path.resolve().parent
    if isinstance(error, SyntaxError):
        return (error.text or "").strip()
    text = ""
    for frame, line in _frames(error):
        if Path(frame.co_filename).is_relative_to(directory):
            text = linecache.getline(frame.co_filename, line).strip()
    return text


def quits(path: Path, error: SystemExit) -> bool:
    """Whether the user's own code asked to exit, rather than a signal handler that interrupted it."""
    innermost = None
    for frame, _ in _frames(error):
        innermost = frame.co_filename
    return innermost is not None and (
        Path(innermost).is_relative_to(path.resolve().parent) or "_sitebuiltins" in innermost
    )


def failure(
    kind: type[LakectlError], path: Path, error: BaseException, *, details: str = "", hint: str | None = None
) -> LakectlError:
    """An exception of the user's code as ours: place, type, text, the line of code, then ``details``."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    message = f"{where(path, error)}: {type(error).__name__}" + (f": {cut(text, 500)}" if text else "")
    if line := source_line(path, error):
        message += f"\n    {cut(line, 160)}"
    if hint is None and isinstance(error, ModuleNotFoundError):
        hint = f"install {error.name!r} where the load runs, or put {error.name}.py beside {path.name}"
    return kind(message + (f"\n{details}" if details else ""), hint=hint)


def cut(text: str, width: int) -> str:
    """``text`` on at most ``width`` characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _shown(directory: Path, filename: str) -> str:
    return f"{directory.name}/{Path(filename).relative_to(directory).as_posix()}"


def _frames(error: BaseException) -> Iterator[tuple[types.CodeType, int]]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame.f_code, traceback.tb_lineno
        traceback = traceback.tb_next


def _forget(package: str) -> None:
    for name in [name for name in sys.modules if name == package or name.startswith(package + ".")]:
        del sys.modules[name]


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles from source each time, and gives the module an ``__import__`` that knows its siblings."""

    def get_code(self, fullname: str) -> types.CodeType:
        return compile(self.get_data(self.path), self.path, "exec", dont_inherit=True)

    def exec_module(self, module: types.ModuleType) -> None:
        package = module.__name__.split(".")[0]
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _importer(package)}
        code = self.get_code(module.__name__)
        exec(code, module.__dict__)  # noqa: S102  # the user's own code, on the user's own machine


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of the private packages, and no others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(_PREFIX) or not path:
            return None
        stem = fullname.rpartition(".")[2]
        for entry in path:
            folder, file = Path(entry) / stem, Path(entry) / f"{stem}.py"
            if (init := folder / "__init__.py").is_file():
                return importlib.util.spec_from_file_location(
                    fullname, init, loader=_Loader(fullname, str(init)), submodule_search_locations=[str(folder)]
                )
            if file.is_file():
                return importlib.util.spec_from_file_location(fullname, file, loader=_Loader(fullname, str(file)))
        return None


def _importer(package: str) -> Any:
    """An ``__import__`` for the modules of ``package``: what nobody else knows is looked for among the siblings."""

    def look(
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002  # the names that __import__ has
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> types.ModuleType:
        if level or not _is_sibling(package, name):
            return builtins.__import__(name, globals, locals, fromlist, level)
        directory = Path(sys.modules[package].__path__[0])
        head, _, rest = name.partition(".")
        own = package if head == directory.name and not _file_of(directory, head) else f"{package}.{head}"
        full = f"{own}.{rest}" if rest else own
        if full != package:
            importlib.import_module(full)
        if not fromlist:
            return sys.modules[own]
        module = sys.modules[full]
        for wanted in fromlist:
            if wanted != "*" and not hasattr(module, wanted) and hasattr(module, "__path__"):
                try:
                    importlib.import_module(f"{full}.{wanted}")
                except ModuleNotFoundError as error:
                    if error.name != f"{full}.{wanted}":
                        raise
        return module

    return look


def _file_of(directory: Path, head: str) -> bool:
    return (directory / f"{head}.py").is_file() or (directory / head / "__init__.py").is_file()


def _is_sibling(package: str, name: str) -> bool:
    head = name.partition(".")[0]
    directory = Path(sys.modules[package].__path__[0])
    if head in sys.modules or head in sys.stdlib_module_names:
        return False
    if head != directory.name and not _file_of(directory, head):
        return False
    # PathFinder alone: asking every finder could import parents or run hooks of others.
    return importlib.machinery.PathFinder.find_spec(head) is None or head == directory.name
