"""The package as its source says, read without importing it: public names, and registered functions with their
settings."""

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "qat"

INSIDE = ("qat.core", "qat.lab.cli", "qat.lab.experiment.code", "qat.lab.report.html", "qat.models.pretrained")
"""Packages with public names for other packages of qat alone."""
MODULES = (
    "qat.recipes.presets",
    "qat.recipes.recipe",
    "qat.lab.experiment.config",
    "qat.lab.inspect.trial",
    "qat.lab.sweep.space",
    "qat.lab.sweep.study",
    "qat.lab.stats.contrasts",
    "qat.tasks.metric",
    "qat.numerics",
    "qat.registry",
    "qat.runtime",
)
"""Modules that users import from by their own name."""


@dataclass(frozen=True)
class Registered:
    """A registered function: its name, the registry's folder, its settings with defaults, and its docstring."""

    name: str
    folder: str
    settings: tuple[tuple[str, str, str], ...]
    text: str
    file: Path

    @property
    def call(self) -> str:
        """The function as a config calls it, with its defaults."""
        return f"{self.name}({', '.join(f'{name}={value}' if value else name for name, _, value in self.settings)})"


def registered(folder: str) -> list[Registered]:
    """The functions that the modules of a folder of `qat/` register, by name."""
    found = [
        _described(node, folder, file)
        for file in sorted((PACKAGE / folder).rglob("*.py"))
        for node in parsed(file).body
        if isinstance(node, ast.FunctionDef) and any("register" in ast.unparse(one) for one in node.decorator_list)
    ]
    return sorted(found, key=lambda one: one.name)


def public() -> dict[str, list[str]]:
    """The public names of each package that a user imports from, and of each module of `MODULES`."""
    packages = {dotted(file): file for file in sorted(PACKAGE.rglob("__init__.py"))}
    found = {
        name: _exported(file)
        for name, file in packages.items()
        if not any(name == one or name.startswith(f"{one}.") for one in INSIDE)
    }
    modules = {name: list(_defined(parsed(file_of(name)))) for name in MODULES}
    return {name: names for name, names in (found | modules).items() if names}


def file_of(module: str) -> Path:
    """The file of a module or package of qat."""
    place = ROOT.joinpath(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def dotted(file: Path) -> str:
    """The name that a file of the package is imported by."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def parsed(file: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(file.read_text(encoding="utf-8"))


def documented(module: str, name: str) -> bool:
    """Whether the definition behind a public name has a docstring; a variable's is the text below it."""
    tree = parsed(file_of(module))
    for before, node in zip([None, *tree.body], tree.body, strict=False):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return bool(ast.get_docstring(node))
        if isinstance(before, ast.Assign | ast.AnnAssign | ast.TypeAlias) and name in _targets(before):
            return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    inner = f"{node.module}.{alias.name}"
                    return (
                        bool(ast.get_docstring(parsed(file_of(inner))))
                        if _is_module(inner)
                        else documented(node.module, alias.name)
                    )
    inner = f"{module}.{name}"
    return _is_module(inner) and bool(ast.get_docstring(parsed(file_of(inner))))


def _is_module(name: str) -> bool:
    return file_of(name).is_file()


def _targets(node: ast.Assign | ast.AnnAssign | ast.TypeAlias) -> set[str]:
    if isinstance(node, ast.TypeAlias):
        return {node.name.id}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}


def _exported(file: Path) -> list[str]:
    """The names in a package's `__all__`; of `_HOME`, where the package imports names when they are first used."""
    for node in parsed(file).body:
        if isinstance(node, ast.Assign) and "__all__" in _targets(node):
            if isinstance(node.value, ast.List):
                return [ast.literal_eval(one) for one in node.value.elts]
            return sorted(_typed_names(file))
    return []


def _typed_names(file: Path) -> Iterator[str]:
    """The names that a package imports for type checkers, which are those that it imports when first used."""
    for node in parsed(file).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for line in node.body:
                if isinstance(line, ast.ImportFrom):
                    yield from (alias.asname or alias.name for alias in line.names)


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def _described(node: ast.FunctionDef, folder: str, file: Path) -> Registered:
    arguments = [*node.args.posonlyargs, *node.args.args]
    plain: list[ast.expr | None] = [None] * (len(arguments) - len(node.args.defaults))
    pairs = [
        *zip(arguments, [*plain, *node.args.defaults], strict=True),
        *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
    ]
    settings = tuple(
        (one.arg, ast.unparse(one.annotation) if one.annotation else "", ast.unparse(value) if value else "")
        for one, value in pairs
    )
    return Registered(node.name, folder, settings, text=ast.get_docstring(node) or "", file=file)
