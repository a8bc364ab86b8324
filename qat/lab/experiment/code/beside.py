"""Files that a module reads by its own place, `Path(__file__).parent / "words.txt"`, found without running it."""

import ast
from pathlib import Path

from qat.lab.experiment.code.digest import last_name

MOST = 1000  # files of a folder that count
COPIES = {"Path", "PurePath", "str", "resolve", "absolute", "abspath", "realpath", "fspath", "as_posix"}


def files_beside(tree: ast.Module, path: Path) -> tuple[list[Path], str]:
    """The files that expressions of `__file__` name, those of a folder all; and in words what is not known."""
    known: dict[str, Path] = {"__file__": path}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            place = _place(node.value, known)
            if place is not None:
                known[node.targets[0].id] = place
    used = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    if not any(node.id in known for node in used):
        return [], ""
    places = {_place(node, known) for node in ast.walk(tree) if isinstance(node, ast.expr)} - {None, path}
    own = {folder for folder in places if folder is not None and path.is_relative_to(folder)}
    named = [place for place in places - own if place is not None and place.exists()]
    files = [file for place in named for file in (_files(place) if place.is_dir() else [place])]
    if len(files) > MOST:
        return [], f"reads a folder of {len(files)} files beside it"
    data = sorted({file for file in files if file.suffix != ".py"})
    return data, "" if data else "uses `__file__`, but which files it reads is not known before"


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts]


def _place(node: ast.expr, known: dict[str, Path]) -> Path | None:
    """The path that an expression is worth, None where that is not known."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        base = _place(node.value, known)
        return base.parent if base is not None and node.attr == "parent" else None
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "parents":
        base, number = _place(node.value.value, known), _constant(node.slice, int)
        return base.parents[number] if base is not None and number is not None and number < len(base.parents) else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return _joined(_place(node.left, known), [node.right])
    return _called(node, known) if isinstance(node, ast.Call) else None


def _called(node: ast.Call, known: dict[str, Path]) -> Path | None:
    name = last_name(node.func)
    method = isinstance(node.func, ast.Attribute)
    base = _place(node.func.value, known) if isinstance(node.func, ast.Attribute) else None
    arguments = node.args
    if base is None and arguments:
        base, arguments, method = _place(arguments[0], known), arguments[1:], False
    if base is None:
        return None
    if name in COPIES:
        return _joined(base, arguments)
    if name == "dirname":
        return base.parent
    if name in ("join", "joinpath"):
        return _joined(base, arguments)
    return _joined(base.parent, arguments) if name == "with_name" and method else None


def _joined(base: Path | None, arguments: list[ast.expr]) -> Path | None:
    texts = [_constant(one, str) for one in arguments]
    if base is None or any(text is None for text in texts):
        return None
    return base.joinpath(*(text for text in texts if text is not None))


def _constant[T](node: ast.expr, kind: type[T]) -> T | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, kind) else None
