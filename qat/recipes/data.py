"""Recipes as plain data that JSON can hold: written, read back equal, and compared field by field."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from qat.recipes.recipe import QuantRecipe
from qat.registry import did_you_mean

ABSENT = "(none)"
LATER = ("adds",)  # fields added since recipes are stored: left out where they are at their default, so keys stay


def recipe_to_data(recipe: QuantRecipe) -> dict[str, Any]:
    """Every field of a recipe as dicts, lists, strings, numbers, booleans and None; the latest ones only where set."""
    return _plain(recipe)


def recipe_from_data(data: Any, place: str = "") -> QuantRecipe:
    """Build a recipe from the data that `recipe_to_data` returns; fields with a default may be left out.

    Raises `ValueError` that lists every mistake on a line with its path, such as `rules.0.weights.bits`; `place` is the
    path of the data within larger data.
    """
    mistakes: list[str] = []
    found = _read(QuantRecipe, data, place, mistakes)
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return found


def recipe_differences(a: QuantRecipe, b: QuantRecipe) -> list[str]:
    """The fields that differ, such as `rules.0.weights.bits: 8 -> 4`; the names of the recipes do not count."""
    before, after = (dict(_leaves(_plain(recipe), "")) for recipe in (a, b))
    paths = [path for path in {**before, **after} if path != "name"]
    return [
        f"{path}: {before.get(path, ABSENT)} -> {after.get(path, ABSENT)}"
        for path in paths
        if before.get(path) != after.get(path)
    ]


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        told = [f.name for f in fields(value) if f.name not in LATER or getattr(value, f.name) != f.default]
        return {name: _plain(getattr(value, name)) for name in told}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if parts is None:
        yield path, repr(value)
        return
    for name, part in parts:
        yield from _leaves(part, f"{path}.{name}" if path else str(name))


def _read(kind: Any, value: Any, place: str, mistakes: list[str]) -> Any:
    """`value` read as the annotated type `kind`; mistakes are appended to `mistakes`."""
    if is_dataclass(kind):
        return _read_fields(kind, value, place, mistakes)
    origin, args = get_origin(kind), get_args(kind)
    if origin is UnionType:  # every union here is a type or None
        return None if value is None else _read(args[0], value, place, mistakes)
    if origin is tuple:
        return _read_list(args, value, place, mistakes)
    if origin is Literal:
        if value not in args:
            hint = did_you_mean(str(value), args)
            mistakes.append(f"`{place}`: must be one of {', '.join(args)}, got {value!r}.{hint}")
    elif type(value) is not kind:  # `isinstance` would take True for a number of bits
        mistakes.append(f"`{place}`: must be of type {kind.__name__}, got {value!r}.")
    return value


def _read_list(kinds: tuple[Any, ...], value: Any, place: str, mistakes: list[str]) -> Any:
    if not isinstance(value, list | tuple):
        mistakes.append(f"`{place}`: must be a list, got {value!r}.")
        return None
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        mistakes.append(f"`{place}`: must be a pair of a pattern and its spec, got {value!r}.")
        return None
    parts = enumerate(zip(kinds, value, strict=True))
    return tuple(_read(kind, part, f"{place}.{i}", mistakes) for i, (kind, part) in parts)


def _read_fields(kind: Any, value: Any, place: str, mistakes: list[str]) -> Any:
    hints, known = get_type_hints(kind), {field.name: field for field in fields(kind)}
    if not isinstance(value, Mapping):
        said = f"must be a dict with fields of {kind.__name__} ({', '.join(known)}), got {value!r}."
        mistakes.append(f"`{place or 'recipe'}`: {said}")
        return None
    before = len(mistakes)
    found: dict[str, Any] = {}
    for name, part in value.items():
        inner = f"{place}.{name}" if place else str(name)
        if name in known:
            found[name] = _read(hints[name], part, inner, mistakes)
        else:
            hint = did_you_mean(str(name), known) or f" Known: {', '.join(known)}."
            mistakes.append(f"`{inner}`: unknown field.{hint}")
    missing = [name for name, field in known.items() if name not in value and _is_needed(field)]
    mistakes += [f"`{f'{place}.{name}' if place else name}`: missing; it has no default." for name in missing]
    if len(mistakes) > before:
        return None
    try:
        return kind(**found)
    except ValueError as error:
        mistakes.append(f"`{place or 'recipe'}`: {error}")
        return None


def _is_needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING
