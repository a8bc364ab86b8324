"""All the code that runs with given parts: of qat what computes, of the user every file, of the rest the versions."""

import ast
import functools
import importlib.metadata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from qat.fileio import INSTALLED
from qat.lab.experiment.code.digest import PACKAGE, file_digest, for_types_alone, parsed
from qat.lab.experiment.code.imports import distributions, imports_of

CHOSEN = {"models", "data", "tasks", "observers", "quantizers", "engines", "ptq"}
"""Registries of which an experiment runs the members that its config names."""

NOT_COMPUTING = {
    "lab/runs/files.py": "names, digests and set-aside files of a run folder",
    "fileio.py": "reads and writes what others have made, and finds the line of an error",
    "lab/runs/record.py": "writes down what was measured",
    "lab/runs/examples.py": "writes down the outcome on each example",
    "lab/runs/layers.py": "writes down statistics of layers",
    "lab/runs/metrics.py": "writes down training curves",
    "lab/experiment/parity.py": "compares exported files with a measured model",
    "lab/runs/parity.py": "writes down certificates of exported files",
    "lab/experiment/exports.py": "writes down a measured model by exporters that are in a key by name",
    "core/tables.py": "draws tables",
    "analysis/table.py": "draws a table of statistics",
    "lab/experiment/provenance.py": "says in words what was done",
    "tasks/metric.py": "says how numbers are shown and judged",
    "train/progress.py": "draws a line on the terminal",
}
"""Modules of qat on the way to a result that no result depends on, each with its reason; nor on what they import."""


@dataclass(frozen=True)
class Code:
    """Digests of files by name, those of qat as `qat/...`, versions of installed packages, and what is not covered."""

    files: dict[str, str]
    packages: dict[str, str]
    uncovered: tuple[str, ...] = ()


@functools.lru_cache(maxsize=4096)
def code_of(modules: tuple[str, ...], files: tuple[Path, ...] = (), alone: tuple[str, ...] = ()) -> Code:
    """The code that runs with these modules or packages of qat and these files: they and all that they import, however
    deep. Of `alone` the modules themselves count, and not what they import.

    A package stands for all of its modules, since registries load their members by themselves; but of registries that
    experiments choose from only those count that are among `files`. Of an installed file its package's version counts.
    """
    own, theirs = set[Path](), set[Path]()
    packages, data, uncovered = set[str](), set[Path](), dict[str, None]()
    open_files = [path for module in modules for path in _files(module)] + list(files)
    while open_files:
        path = open_files.pop()
        if path in own or path in theirs or not path.is_file():
            continue
        if path.is_relative_to(PACKAGE):
            if str(path.relative_to(PACKAGE)) not in NOT_COMPUTING:
                own.add(path)
                open_files += _needs(path)
            continue
        if owner := _owner(path):
            packages.add(owner)
            continue
        theirs.add(path)
        if path.suffix != ".py":
            continue
        found = imports_of(path)
        packages |= found.packages
        data |= found.data
        uncovered |= dict.fromkeys(found.uncovered)
        open_files += [*found.modules, *(file for name in found.qat for file in _files(_public(name)))]
    own |= {path for module in alone for path in _files(module)}
    named = [(f"qat/{path.relative_to(PACKAGE)}", path) for path in own] + [(_name(path), path) for path in theirs]
    return Code(_digests([*named, *((_name(path), path) for path in data)]), _versions(packages), tuple(uncovered))


def needed(modules: tuple[str, ...], files: tuple[Path, ...] = ()) -> frozenset[Path]:
    """The files of qat in `code_of`."""
    names = code_of(modules, files).files
    return frozenset(PACKAGE / name.removeprefix("qat/") for name in names if name.startswith("qat/"))


def _files(module: str) -> set[Path]:
    """The file of `qat.module`, or those of that package; none where it is neither."""
    path = PACKAGE / module.replace(".", "/")
    if not module:
        return set()
    if path.is_dir():
        return {path / "__init__.py"} if module in CHOSEN else set(path.rglob("*.py"))
    return {path.with_suffix(".py")} if path.with_suffix(".py").is_file() else set()


@functools.lru_cache(maxsize=4096)
def _needs(path: Path) -> frozenset[Path]:
    """The files that a file of qat imports when it runs, as they were first found."""
    return frozenset(file for module in _imports(path) for file in _files(module))


@functools.lru_cache(maxsize=4096)
def _imports(path: Path) -> tuple[str, ...]:
    """The modules of qat, or packages where it names no module, that a file of qat imports when it runs."""
    found = []
    for node in _statements(parsed(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(filter(None, (_public(name) for name in found)))


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """The statements that may run, with all that hold some; not the expressions in them, which are most of a file."""
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        if name == "body" and for_types_alone(node):
            continue
        parts = getattr(node, name, ())
        for part in parts if isinstance(parts, list) else ():
            yield part
            yield from _statements(part)


def _public(name: str) -> str:
    """The module or package of qat that a dotted name begins with, or that `qat.name` comes from."""
    import qat

    parts = name.split(".")[1:] if name.startswith("qat.") else []
    if parts and parts[0] in qat._HOME:
        parts = qat._HOME[parts[0]].split(".")[1:]
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((name for name in names if _files(name)), "")


def _owner(path: Path) -> str:
    """The name of the installed package that a file belongs to; empty where it is the user's own."""
    places = [number for number, part in enumerate(path.parts) if part in INSTALLED]
    top = Path(path.parts[places[-1] + 1]).stem if places else ""
    return top if top in distributions() else ""


def _versions(packages: Iterable[str]) -> dict[str, str]:
    names = {name for package in packages for name in distributions().get(package, ())}
    return {name: importlib.metadata.version(name) for name in sorted(names)}


def _name(path: Path) -> str:
    """A file of the user as it is imported: from the folder that holds its outermost package, wherever that is."""
    root = path.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    return str(path.relative_to(root))


def _digests(named: Iterable[tuple[str, Path]]) -> dict[str, str]:
    """Digests of files by name; files of one name share theirs."""
    found: dict[str, list[str]] = {}
    for name, path in named:
        found.setdefault(name, []).append(file_digest(path))
    return {name: " ".join(sorted(found[name])) for name in sorted(found)}
