"""Digests of code: they change with what a module does, and not with its comments, docstrings or formatting."""

import ast
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).parent
CHOSEN = {"models", "data", "tasks"}  # registries of which an experiment runs the members that its config names


def code_digest(paths: Iterable[Path]) -> str:
    """Twelve hexadecimal digits for the code in Python files, whatever their order and place."""
    total = hashlib.sha256()
    for one in sorted(_digest(path) for path in set(paths)):
        total.update(one)
    return total.hexdigest()[:12]


@functools.lru_cache
def needed(modules: tuple[str, ...], files: tuple[Path, ...] = ()) -> frozenset[Path]:
    """The files that run with these modules or packages of `qat` and these files: they and all of `qat` that they
    import, however deep.

    A package stands for all of its modules, since registries load their members by themselves; but of models, data sets
    and tasks only those count that are named.
    """
    found = {path for path in files if path.is_file()}
    open_modules = [*modules, *(module for path in found for module in _imports(path))]
    while open_modules:
        for path in _files(open_modules.pop()) - found:
            found.add(path)
            open_modules += _imports(path)
    return frozenset(found)


def _files(module: str) -> set[Path]:
    """The file of `qat.module`, or those of that package; none where it is neither."""
    path = PACKAGE / module.replace(".", "/")
    if path.is_dir():
        return {path / "__init__.py"} if module in CHOSEN else set(path.rglob("*.py"))
    return {path.with_suffix(".py")} if path.with_suffix(".py").is_file() else set()


@functools.lru_cache
def _imports(path: Path) -> tuple[str, ...]:
    """The modules of `qat`, or packages where it names no module, that a file imports when it runs."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(filter(None, (_deepest(name.split(".")[1:]) for name in found if name.startswith("qat."))))


def _deepest(parts: list[str]) -> str:
    """The longest beginning of a dotted name that is a module or a package."""
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((name for name in names if _files(name)), "")


@functools.lru_cache
def _digest(path: Path) -> bytes:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            node.body = body[1:]  # pyright: ignore[reportAttributeAccessIssue]
    return hashlib.sha256(ast.dump(tree).encode()).digest()


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
