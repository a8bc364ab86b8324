"""Bits of single layers in a recipe: set by pattern, or raised to 8 for sensitive layers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from qat.recipes.presets import recipe as build_recipe
from qat.recipes.presets import usual_observer
from qat.recipes.recipe import QuantRecipe, QuantRule, TensorSpec
from qat.registry import parse_call

RAISED = 8  # bits of a sensitive layer


def with_layer_bits(recipe: QuantRecipe, bits: Mapping[str, int | tuple[int, int]]) -> QuantRecipe:
    """The recipe with `bits` of single layers, by regular expression on the path: a number for the weights, or a pair
    for weights and activations.

    They go before the layers' bits that the recipe has, and replace those of the same expression. All other fields are
    those of the first rule that quantizes such tensors, except that an observer that is the default at the rule's bits
    becomes the default at the new bits. Equal to `bits` in the name of a preset.
    """
    weights, activations = {}, {}
    for pattern, wanted in bits.items():
        w, a = wanted if isinstance(wanted, tuple) else (wanted, None)
        weights[pattern] = at_bits(recipe, _of_weights(recipe, ""), w)
        if a is not None:
            activations[pattern] = at_bits(recipe, _of_activations(recipe, "") or _affine(_of_weights(recipe, "")), a)
    return _with_specs(recipe, weights, activations)


def raise_bits(recipe: QuantRecipe, paths: Iterable[str]) -> QuantRecipe:
    """The recipe with the layers of these paths at 8 bits, activations too where the recipe quantizes activations."""
    weights, activations = {}, {}
    for path in paths:
        pattern, of_activations = _exactly(path), _of_activations(recipe, path)
        weights[pattern] = at_bits(recipe, _of_weights(recipe, path), RAISED)
        if of_activations is not None:
            activations[pattern] = at_bits(recipe, of_activations, RAISED)
    return _with_specs(recipe, weights, activations)


def with_layer_specs(
    recipe: QuantRecipe, weights: Mapping[str, TensorSpec], activations: Mapping[str, TensorSpec]
) -> QuantRecipe:
    """The recipe with specs of single layers, by their paths, before those that it has."""
    return _with_specs(recipe, *({_exactly(path): one for path, one in own.items()} for own in (weights, activations)))


def excluding(recipe: QuantRecipe, paths: Sequence[str], sites: Sequence[tuple[str, str]]) -> QuantRecipe:
    """The recipe with the layers of these paths in float, all else as it was; `sites` are path and op of all sites.

    What is then for no site any more, which a recipe may not hold, is left out.
    """
    names = "|".join(re.escape(path) for path in paths)

    def rule(one: QuantRule) -> QuantRule:
        return replace(one, pattern=_beside(names, one.pattern))

    def specs(own: Sequence[tuple[str, TensorSpec]]) -> tuple[tuple[str, TensorSpec], ...]:
        kept = [(pattern, spec) for pattern, spec in own if pattern not in map(_exactly, paths)]
        beside = ((_beside(names, pattern) if _finds(pattern, paths) else pattern, spec) for pattern, spec in kept)
        return tuple((pattern, spec) for pattern, spec in beside if _finds(pattern, [path for path, _ in sites]))

    changed = replace(
        recipe,
        rules=(QuantRule(f"^({names})$"), *recipe.rules),
        first=recipe.first and rule(recipe.first),
        last=recipe.last and rule(recipe.last),
        weights=specs(recipe.weights),
        activations=specs(recipe.activations),
    )
    places = {changed.named_rule_for(*site, first=False, last=False)[0] for site in sites}
    return replace(changed, rules=tuple(one for i, one in enumerate(changed.rules) if str(i) in places))


def _exactly(path: str) -> str:
    return f"^{re.escape(path)}$"


def _finds(pattern: str, paths: Iterable[str]) -> bool:
    return any(re.search(pattern, path) for path in paths)


def _beside(names: str, pattern: str) -> str:
    """A pattern of what the pattern finds, but for these paths themselves."""
    return f"^(?!({names})$)" if pattern == ".*" else f"^(?!({names})$).*?({pattern})"


def _with_specs(
    recipe: QuantRecipe, weights: Mapping[str, TensorSpec], activations: Mapping[str, TensorSpec]
) -> QuantRecipe:
    return replace(
        recipe,
        weights=(*weights.items(), *(one for one in recipe.weights if one[0] not in weights)),
        activations=(*activations.items(), *(one for one in recipe.activations if one[0] not in weights)),
    )


def _of_weights(recipe: QuantRecipe, path: str) -> TensorSpec:
    """The weights' spec of the first rule that matches the path and has one, or else of the first that has one."""
    specs = [(rule.pattern, rule.weights) for rule in recipe.rules if rule.weights is not None]
    if not specs:
        raise ValueError(f"`bits` of layers need a rule that quantizes weights, but {recipe.name!r} has none. Add one.")
    return next((spec for pattern, spec in specs if path and re.search(pattern, path)), specs[0][1])


def _of_activations(recipe: QuantRecipe, path: str) -> TensorSpec | None:
    """The activations' spec of the first rule that matches the path and has one; None without such a rule."""
    rules = [rule for rule in recipe.rules if rule.activations is not None]
    return next((rule.activations for rule in rules if not path or re.search(rule.pattern, path)), None)


def _affine(weights: TensorSpec) -> TensorSpec:
    """A spec of activations to go with these weights, for a recipe that quantizes weights alone."""
    return TensorSpec(weights.bits, grid="affine", observer=weights.observer, quantizer=weights.quantizer)


def at_bits(recipe: QuantRecipe, spec: TensorSpec, bits: int) -> TensorSpec:
    """The spec at other bits. A grid without zero is one for few bits: at others it is symmetric."""
    is_usual = spec.observer == usual_observer(spec.bits) and not _asks_for_observer(recipe)
    observer = usual_observer(bits) if is_usual and not spec.dynamic else spec.observer
    grid = "symmetric" if spec.grid == "midrise" and bits != spec.bits else spec.grid
    return replace(spec, bits=bits, grid=grid, observer=observer)


def _asks_for_observer(recipe: QuantRecipe) -> bool:
    """Whether the recipe is a preset whose name sets an observer, which then holds at all bits."""
    try:
        preset = build_recipe(recipe.name)
    except ValueError:
        return False
    same = replace(preset, weights=recipe.weights, activations=recipe.activations) == recipe
    return same and parse_call(recipe.name)[2].get("observer") is not None
