"""Digests of Python files: they change with what a module does, and not with its comments, formatting or wording."""

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[3]
DECLARED = {"BASE", "AXES", "TRIALS", "SEARCH", "FAST", "FAST_AXES", "wanted", "get_config"}
DECLARED |= {"QUESTION", "HYPOTHESIS", "NOTES"}
"""What a study's file declares: settings, which every key holds by themselves, and words for its report."""

SEEN: dict[Path, bytes] = {}


def code_digest(paths: Iterable[Path]) -> str:
    """Twelve hexadecimal digits for the code in Python files, whatever their order and place."""
    total = hashlib.sha256()
    for one in sorted(file_digest(path) for path in set(paths)):
        total.update(one.encode())
    return total.hexdigest()[:12]


def content(path: Path) -> bytes:
    """A file as it was when this process first asked, which is when it loaded the code."""
    if path not in SEEN:
        SEEN[path] = path.read_bytes()
    return SEEN[path]


@functools.lru_cache(maxsize=4096)
def file_digest(path: Path) -> str:
    """Twelve hexadecimal digits for the code of a Python file, or for all bytes of any other.

    Of code these do not count: comments, formatting, docstrings, the wording of errors that are raised and of warnings,
    imports for type checkers alone, and the settings that a study's file declares where nothing else in it reads them.
    """
    return _digest(content(path), path.suffix == ".py")


# By content, so that where some files have changed the digests of all others are kept.
@functools.lru_cache(maxsize=4096)
def _digest(data: bytes, is_code: bool) -> str:
    if is_code and (tree := _tree(data)).body:
        data = ast.dump(_computing(tree)).encode()
    return hashlib.sha256(data).hexdigest()[:12]


def parsed(path: Path) -> ast.Module:
    """A Python file as a tree of its own, which is empty where the file is no Python."""
    return _tree(content(path))


def _tree(data: bytes) -> ast.Module:
    try:
        return ast.parse(data)
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def _computing(tree: ast.Module) -> ast.Module:
    """The tree without what changes no result."""
    tree.body = [node for node in tree.body if not _is_declaration(node, tree)]
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            node.body = body[1:]  # pyright: ignore[reportAttributeAccessIssue]
        if for_types_alone(node):
            node.body = []  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and all(map(_is_wording, node.exc.args)):
            node.exc.args = []
        if isinstance(node, ast.Assert):
            node.msg = None
        if isinstance(node, ast.Call) and last_name(node.func) == "warn" and _starts_with_words(node):
            node.args = node.args[1:]
    return tree


def for_types_alone(node: ast.AST) -> bool:
    """Whether a statement is `if TYPE_CHECKING:`, which does not run."""
    return isinstance(node, ast.If) and last_name(node.test) == "TYPE_CHECKING"


def last_name(node: ast.AST) -> str:
    """The last part of a dotted name."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _starts_with_words(node: ast.Call) -> bool:
    return bool(node.args) and _is_wording(node.args[0])


def _is_wording(node: ast.AST) -> bool:
    """Whether an expression is a text that is written there: other arguments of an exception may be results."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, (ast.Add, ast.Mod)) and (_is_wording(node.left) or _is_wording(node.right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("format", "join") and _is_wording(node.func.value)
    return isinstance(node, ast.JoinedStr)


def _is_declaration(node: ast.stmt, tree: ast.Module) -> bool:
    names = {*_declares(node)}
    if not names or not names <= DECLARED:
        return False
    others = (one for other in tree.body if not DECLARED & {*_declares(other)} for one in ast.walk(other))
    return not any(isinstance(one, ast.Name) and one.id in names for one in others)


def _declares(node: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top of a module gives a value to, where it does nothing else."""
    if isinstance(node, ast.FunctionDef):
        yield node.name
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    for target in targets:
        yield target.id if isinstance(target, ast.Name) else ""
