"""Names in a config become registered functions: `"percentile(99.99)"`; parsed, never evaluated."""

import ast
import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from typing import Any

from qat.mistake import place, told


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'ema'?` where a known name is close to `name`, else the empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def parse_call(text: str) -> tuple[str, list[Any], dict[str, Any]]:
    """The name, positional and keyword arguments of a call such as `cnn(width=32)`; arguments are literals.

    Raises `ValueError` for anything but a name or a call of a name with literal arguments, each named once.
    """
    problem = f"expected a name or a call with literal arguments, such as 'percentile(99.99)', got {text!r}."
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError(problem) from None
    if isinstance(node, ast.Name):
        return node.id, [], {}
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        raise ValueError(problem)
    names = [keyword.arg for keyword in node.keywords if keyword.arg is not None]
    if len(names) < len(node.keywords) or any(isinstance(arg, ast.Starred) for arg in node.args):
        raise ValueError(f"`*` and `**` are not taken in {text!r}. Name each argument, such as 'cnn(width=64)'.")
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ValueError(f"`{twice[0]}` is given {names.count(twice[0])} times in {text!r}. Give it once.")
    try:
        args = [ast.literal_eval(arg) for arg in node.args]
        values = [ast.literal_eval(keyword.value) for keyword in node.keywords]
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise ValueError(problem) from None
    return node.func.id, args, dict(zip(names, values, strict=True))


class Registry[T]:
    """Factories of one kind by name; a name is the factory's own."""

    def __init__(self, kind: str):
        self.kind = kind
        self._factories: dict[str, Callable[..., T]] = {}

    def register(self, factory: Callable[..., T]) -> Callable[..., T]:
        """Make `factory` known under its `__name__`; use as a decorator."""
        name = factory.__name__
        known = self._factories.get(name)
        if known is not None and known.__module__ != factory.__module__:
            raise ValueError(f"{self.kind} {name!r} is already registered by {known.__module__}; choose another name.")
        self._factories[name] = factory
        return factory

    def names(self) -> list[str]:
        """The registered names, sorted."""
        return sorted(self._factories)

    def source(self, text: str) -> str:
        """The file that defines what `text` names."""
        return inspect.getsourcefile(self._factories[parse_call(text)[0]]) or ""

    def build(self, text: str, **defaults: Any) -> T:
        """What `text` names, called with its arguments over `defaults`.

        Raises `ValueError` for an unknown name (with the known ones), arguments that do not fit, or whatever goes wrong
        in the factory.
        """
        name, args, kwargs = parse_call(text)
        if name not in self._factories:
            known = self.names()
            raise ValueError(f"Unknown {self.kind} {name!r}. Known: {', '.join(known)}.{did_you_mean(name, known)}")
        try:
            return self._factories[name](*args, **{**defaults, **kwargs})
        except (ValueError, OSError, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            said = str(error) if isinstance(error, TypeError) else told(error)
            where = place(error)
            raise ValueError(f"{self.kind} {text!r}: {said}{f' ({where})' if where else ''}.") from error


def load_members(package_path: Iterable[str], package: str) -> None:
    """Import every module of a package, so that each registers its function: adding a member is adding a file."""
    for module in pkgutil.iter_modules(package_path):
        importlib.import_module(f"{package}.{module.name}")
