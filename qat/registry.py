"""Names in a config become registered functions: `"percentile(99.99)"`; parsed, never evaluated."""

import ast
import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from typing import Any


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'ema'?` where a known name is close to `name`, else the empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def parse_call(text: str) -> tuple[str, list[Any], dict[str, Any]]:
    """The name, positional and keyword arguments of a call such as `cnn(width=32)`; arguments are literals.

    Raises `ValueError` for anything but a name or a call of a name with literal arguments.
    """
    problem = f"expected a name or a call with literal arguments, such as 'percentile(99.99)', got {text!r}."
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise ValueError(problem) from None
    if isinstance(node, ast.Name):
        return node.id, [], {}
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        raise ValueError(problem)
    try:
        args = [ast.literal_eval(arg) for arg in node.args]
        kwargs = {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg is not None}
    except ValueError:
        raise ValueError(problem) from None
    return node.func.id, args, kwargs


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

        Raises `ValueError` for an unknown name (with the known ones) or arguments that do not fit.
        """
        name, args, kwargs = parse_call(text)
        if name not in self._factories:
            known = self.names()
            raise ValueError(f"Unknown {self.kind} {name!r}. Known: {', '.join(known)}.{did_you_mean(name, known)}")
        try:
            return self._factories[name](*args, **{**defaults, **kwargs})
        except TypeError as error:
            raise ValueError(f"{self.kind} {text!r}: {error}.") from error


def load_members(package_path: Iterable[str], package: str) -> None:
    """Import every module of a package, so that each registers its function: adding a member is adding a file."""
    for module in pkgutil.iter_modules(package_path):
        importlib.import_module(f"{package}.{module.name}")
