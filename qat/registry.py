"""Registries of functions by name; a config calls one by text such as `percentile(99.99)`, parsed, never evaluated."""

import ast
import difflib
import functools
import importlib
import importlib.metadata
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

from qat.fileio import describe_error, place

PLUGINS = "qat.plugins"
EXTRAS = {
    "aqt": ("aqt",),
    "train": ("flax", "optax", "orbax", "pydantic"),
    "data": ("PIL", "faster_coco_eval", "scipy", "sklearn", "tokenizers"),
    "tfds": ("array_record", "importlib_resources", "tensorflow_datasets"),
    "export": ("flatbuffers",),
    "onnx": ("onnx", "onnxruntime"),
    "lab": ("absl", "etils", "filelock", "fsspec", "matplotlib", "pandas", "plotly", "psutil", "statsmodels", "typer"),
}
"""Modules that each extra of `jax-qat` installs, without those of the core and of the extras that it includes."""
_LOADED: set[importlib.metadata.EntryPoint] = set()


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


def forgotten_on_change(cached: Any) -> Any:
    """Clear this cache whenever a name is registered to another function; use as a decorator."""
    Registry.caches.append(cached.cache_clear)
    return cached


class Registry[T]:
    """Factories of one kind by their own `__name__`.

    Entry points of the group `qat.plugins` in installed packages are loaded when a name is not known without them.
    """

    every: ClassVar[list["Registry[Any]"]] = []
    caches: ClassVar[list[Callable[[], None]]] = []

    def __init__(self, kind: str):
        self.kind = kind
        self._factories: dict[str, Callable[..., T]] = {}
        self._places: dict[str, str] = {}
        self.every.append(self)

    def register(self, factory: Callable[..., T]) -> Callable[..., T]:
        """Make `factory` known under its `__name__`; use as a decorator."""
        name = factory.__name__
        known = self._factories.get(name)
        if known is not None and known.__module__ != factory.__module__:
            raise ValueError(f"{self.kind} {name!r} is already registered by {known.__module__}; choose another name.")
        if known is not None:
            _forget()
        self._factories[name] = factory
        # In `register(make(width=3))` another file defines the factory, which depends on the registering file too.
        self._places[name] = sys._getframe(1).f_code.co_filename
        return factory

    def __contains__(self, name: object) -> bool:
        if name not in self._factories:
            load_plugins()
        return name in self._factories

    def names(self) -> list[str]:
        """The registered names, sorted."""
        load_plugins()
        return sorted(self._factories)

    def signature(self, name: str) -> inspect.Signature:
        """The arguments of a registered factory. Raises `ValueError` for an unknown name."""
        self.check(name)
        return inspect.signature(self._factories[name])

    def described(self) -> list[tuple[str, str]]:
        """Signature, as a config calls it, and first docstring line of every registered name."""
        found = []
        for name in self.names():
            factory = self._factories[name]
            takes = self.signature(name).replace(return_annotation=inspect.Signature.empty)
            lines = (inspect.getdoc(factory) or "").splitlines() or [""]
            found.append((f"{name}{takes}", lines[0]))
        return found

    def check(self, name: str) -> None:
        """Raise `ValueError` for an unknown name, with the known ones."""
        if name not in self:
            known = self.names()
            raise ValueError(f"Unknown {self.kind} {name!r}. Known: {', '.join(known)}.{did_you_mean(name, known)}")

    def sources(self, text: str) -> tuple[Path, ...]:
        """The files that define and register the factory that `text` names; none for a factory typed at a prompt."""
        name = parse_call(text)[0]
        self.check(name)
        found = [self._places.get(name, ""), _definition(self._factories[name])]
        return tuple(dict.fromkeys(path for file in found if (path := _existing(file)) is not None))

    def forget(self, files: Iterable[Path]) -> None:
        """Drop the names that these files registered, since the files have changed."""
        gone = {str(file) for file in files}
        for name in [name for name, file in self._places.items() if str(Path(file).absolute()) in gone]:
            self._factories.pop(name, None)
            del self._places[name]
            _forget()

    def build(self, text: str, **defaults: Any) -> T:
        """Call the factory that `text` names with its arguments over `defaults`.

        Raises `ValueError` for an unknown name (with the known ones), arguments that do not fit, or any error in the
        factory.
        """
        name, args, kwargs = parse_call(text)
        self.check(name)
        try:
            return self._factories[name](*args, **{**defaults, **kwargs})
        except (ValueError, OSError, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            said = str(error) if isinstance(error, TypeError) else missing_extra(error) or describe_error(error)
            line = place(error)
            raise ValueError(f"{self.kind} {text!r}: {said}{f' ({line})' if line else ''}.") from error


def missing_extra(error: BaseException, extra: str | None = None) -> str | None:
    """The remedy where `error` says that a file of qat imported a package that is not installed, else None.

    It names `extra` or, for None, the smallest extra that installs the package. A package that a user's own file or
    another library imports belongs to no extra.
    """
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    importer = next((file for file in reversed(files) if "importlib" not in file), "")
    package = error.name.split(".")[0]
    found = extra or next((name for name, modules in EXTRAS.items() if package in modules), None)
    if found is None or package == "qat" or not Path(importer).is_relative_to(Path(__file__).parent):
        return None
    return f"the package {package} is not installed. Install what is missing: pip install 'jax-qat[{found}]'"


def load_members(package_path: Iterable[str], package: str) -> None:
    """Import every module of a package, so that each registers its function: a new member is a new file."""
    for module in pkgutil.iter_modules(package_path):
        importlib.import_module(f"{package}.{module.name}")


def load_plugins() -> None:
    """Load the entry points of `qat.plugins`, modules or functions without arguments, once in each process.

    Raises `ValueError` for one that cannot be loaded.
    """
    for entry in _plugins():
        if entry in _LOADED:
            continue
        _LOADED.add(entry)  # before loading, as a plugin may itself look up names
        try:
            found = entry.load()
            if callable(found):
                found()
        except Exception as error:
            _LOADED.remove(entry)
            owner = entry.dist.name if entry.dist else "an installed package"
            problem = f"{type(error).__name__}: {error}"
            raise ValueError(
                f"the plugin {entry.name!r} of {owner} cannot be loaded ({problem}). Repair or uninstall that package."
            ) from error


@functools.cache
def _plugins() -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=PLUGINS))


@functools.lru_cache(maxsize=1024)
def _existing(file: str) -> Path | None:
    """A file's path, None where there was none when it was first asked for: code typed at a prompt has none."""
    return Path(file).absolute() if file and Path(file).is_file() else None


@functools.lru_cache(maxsize=1024)
def _definition(factory: Callable[..., Any]) -> str:
    """The file that defines a function, or that defines the first method of a class."""
    candidates = vars(factory).values() if isinstance(factory, type) else [inspect.unwrap(factory)]
    codes = (getattr(one, "__code__", None) for one in candidates)
    return next((code.co_filename for code in codes if code is not None and _existing(code.co_filename)), "")


def _forget() -> None:
    """Clear everything built or compiled from names, one of which has another meaning now."""
    for clear in Registry.caches:
        clear()
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
