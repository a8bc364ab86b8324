"""Imports of a Python file outside of qat: modules, packages, files beside it, and what cannot be known."""

import ast
import functools
import importlib.machinery
import importlib.metadata
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qat.fileio import INSTALLED
from qat.lab.experiment.code.beside import files_beside
from qat.lab.experiment.code.digest import for_types_alone, last_name, parsed
from qat.registry import Registry

UNKNOWN_CODE = {"exec", "eval", "run_path", "run_module", "spec_from_file_location"}


@dataclass(frozen=True)
class Found:
    """`qat` are dotted names in qat, `modules` files of the user, `packages` names of installed packages, `data` files
    that are read by their place beside the module, `uncovered` what is not known before it runs."""

    qat: frozenset[str] = frozenset()
    modules: frozenset[Path] = frozenset()
    packages: frozenset[str] = frozenset()
    data: frozenset[Path] = frozenset()
    uncovered: tuple[str, ...] = ()

    def __or__(self, other: "Found") -> "Found":
        return Found(
            self.qat | other.qat,
            self.modules | other.modules,
            self.packages | other.packages,
            self.data | other.data,
            (*self.uncovered, *other.uncovered),
        )


@functools.lru_cache(maxsize=4096)
def imports_of(path: Path) -> Found:
    """All that a file of the user takes in by itself, not by what it imports."""
    tree, found = parsed(path), Found()
    for node in ast.walk(tree):
        if for_types_alone(node):
            node.body = []  # pyright: ignore[reportAttributeAccessIssue]
    for node in ast.walk(tree):
        for name in _names(node, path):
            found |= _resolved(name, path)
        if isinstance(node, ast.Call):
            found |= _called(node, path)
    if (path.parent / "__init__.py").is_file() and path.name != "__init__.py":
        found |= Found(modules=frozenset({path.parent / "__init__.py"}))
    data, problem = files_beside(tree, path)
    uncovered = (f"{path.name}: {problem}",) if problem else ()
    return found | Found(data=frozenset(data), uncovered=uncovered)


def _names(node: ast.AST, path: Path) -> Iterator[str]:
    """Dotted names that a statement imports, relative ones with the dots in front."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        start = "." * node.level + (node.module or "")
        yield from (f"{start}.{alias.name}" if node.module else start + alias.name for alias in node.names)
        if any(alias.name == "*" for alias in node.names):
            yield start
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "qat":
        yield f"qat.{node.attr}"


def _called(node: ast.Call, path: Path) -> Found:
    """The code that a call brings in: a module by its name, a registered part by its name, code that is not known."""
    name = last_name(node.func)
    first = node.args[0] if node.args else None
    text = _text(first)
    if name in ("import_module", "__import__"):
        return (
            _resolved(text, path)
            if text and isinstance(first, ast.Constant)
            else _unknown(node, path, "imports a module whose name is computed")
        )
    if name == "load_members":
        return Found(modules=frozenset(path.parent.glob("*.py")))
    if name == "build" and first is not None and text is None:
        return _unknown(node, path, "builds something whose name is computed")
    if name == "build" and text is not None:
        files = (file for registry in Registry.every for file in _registered(registry, text))
        return Found(modules=frozenset(files))
    if name in UNKNOWN_CODE:
        return _unknown(node, path, f"`{name}` runs code that is not known before")
    return Found()


def _text(node: ast.expr | None) -> str | None:
    """A text that is written there; of one that is put together the name before its arguments, `f"cnn(width={w})"`."""
    if isinstance(node, ast.JoinedStr) and node.values:
        start = _text(node.values[0])
        return start.partition("(")[0] if start and "(" in start else None
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _registered(registry: Registry, text: str) -> tuple[Path, ...]:
    try:
        return registry.sources(text)
    except ValueError:  # a name of another registry, or none
        return ()


def _unknown(node: ast.AST, path: Path, what: str) -> Found:
    return Found(uncovered=(f"{path.name}, line {getattr(node, 'lineno', '?')}: {what}",))


def _resolved(name: str, path: Path) -> Found:
    """The files of the module of a dotted name and of the packages around it; nothing for Python's own and what is not
    there.
    """
    if name.startswith("."):
        base = path.parents[len(name) - len(name.lstrip(".")) - 1]
        return Found(modules=frozenset(_beneath(base, name.lstrip(".").split("."))))
    parts = name.split(".")
    if parts[0] == "qat":
        return Found(qat=frozenset({name}))
    if parts[0] in sys.stdlib_module_names:
        return Found()
    modules, where = set[Path](), None
    for number in range(1, len(parts) + 1):
        spec = _spec(".".join(parts[:number]), where)
        if spec is None:
            break
        if spec.origin and (INSTALLED & set(Path(spec.origin).parts)) and distributions().get(parts[0]):
            return Found(packages=frozenset({parts[0]}))
        if spec.has_location and spec.origin:
            modules.add(Path(spec.origin).absolute())
        where = spec.submodule_search_locations
        if where is None:
            break
    return Found(modules=frozenset(modules))


def _beneath(base: Path, parts: list[str]) -> Iterator[Path]:
    """The files of a module and of the packages around it, in a folder."""
    place = base
    if (base / "__init__.py").is_file():
        yield base / "__init__.py"
    for part in filter(None, parts):
        place = place / part
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                yield file


def _spec(name: str, where: object) -> importlib.machinery.ModuleSpec | None:
    """Find the spec of a module without importing anything."""
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = None if find is None else find(name, where, None)
        if spec is not None:
            return spec
    return None


@functools.cache
def distributions() -> dict[str, list[str]]:
    """Names of installed distributions by the package that is imported."""
    return {name: list(found) for name, found in importlib.metadata.packages_distributions().items()}
