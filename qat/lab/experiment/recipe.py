"""The recipe of an experiment: a preset's text or rules, how it is stored, and its short name in tables."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator

from qat.recipes.data import recipe_from_data, recipe_to_data
from qat.recipes.layer_bits import raise_bits
from qat.recipes.presets import recipe as build_recipe
from qat.recipes.presets import rules_digest
from qat.recipes.recipe import QuantRecipe, QuantRule, TensorSpec
from qat.registry import parse_call

USUAL = "ste"


def _checked(value: Any) -> str | QuantRecipe | None:
    """A preset's text as it is, rules or their data as a `QuantRecipe`."""
    if value is None or isinstance(value, QuantRecipe):
        return value
    if isinstance(value, str):
        build_recipe(value)
        return value
    if isinstance(value, Mapping):
        return recipe_from_data(value, "recipe")
    raise ValueError(f"must be a preset's text, such as 'w8a8', a QuantRecipe or its data as a dict, got {value!r}.")


def plain_recipe(value: str | QuantRecipe | None) -> str | dict[str, Any] | None:
    """The stored form of a recipe: a text as it is, rules as their data."""
    return recipe_to_data(value) if isinstance(value, QuantRecipe) else value


type Recipe = Annotated[str | QuantRecipe | None, PlainValidator(_checked), PlainSerializer(plain_recipe)]


def resolved(rules: QuantRecipe, high_bit_layers: Iterable[str], allocation: Mapping[str, Any] | None) -> QuantRecipe:
    """The recipe of a model whose calibration chose bits: `rules` with 8 bits for sensitive layers, or the recipe that
    the data of an allocation hold."""
    if allocation is not None:
        return recipe_from_data(allocation["recipe"], "allocation.recipe")
    return raise_bits(rules, high_bit_layers)


def as_data(recipe: Any, path: str) -> Any:
    """The data of a preset's text or of a recipe, for `path` to lead into; data are taken as they are."""
    if recipe is None:
        raise ValueError(f"`{path}`: there is no recipe to change. Set `recipe` first, such as 'w8a8'.")
    try:
        return plain_recipe(build_recipe(recipe) if isinstance(recipe, str) else recipe)
    except ValueError as error:
        raise ValueError(f"`recipe`: {error}") from None


def name_in_tables(recipe: str | QuantRecipe, methods: tuple[str, ...] = ()) -> str:
    """A recipe's text, or its short name, as a call with the post-training methods: `w4a4(ptq='smooth + adaround')`."""
    text = recipe if isinstance(recipe, str) else short_name(recipe)
    if not methods:
        return text
    name, args, options = parse_call(text)
    told = [repr(arg) for arg in args] + [f"{key}={value!r}" for key, value in options.items()]
    return f"{name}({', '.join([*told, f'ptq={" + ".join(methods)!r}'])})"


def short_name(recipe: QuantRecipe) -> str:
    """A recipe's name with a digest of its rules: `w4a4(rules='1f3a9c2e')`.

    Like a preset's text it is a call whose `quantizer` stands apart, since that says only how a recipe trains: reports
    pair a trained model with the same recipe untrained by what is left without it.
    """
    found = re.match(r"[A-Za-z_]\w*", recipe.name)
    name = found[0] if found else "custom"
    rest, quantizers = _without_quantizers(recipe)
    options = f"rules={rules_digest(rest)!r}"
    return f"{name}({options})" if {*quantizers} <= {USUAL} else f"{name}({options}, quantizer={_joined(quantizers)!r})"


def _joined(quantizers: list[str]) -> str:
    """The quantizer of all tensors, or a digest of which tensors have which."""
    if len({*quantizers}) == 1:
        return quantizers[0]
    return f"mixed_{hashlib.sha256(repr(quantizers).encode()).hexdigest()[:8]}"


def _without_quantizers(recipe: QuantRecipe) -> tuple[QuantRecipe, list[str]]:
    """The recipe with the usual quantizer everywhere, and those that it had, in the order of its specs."""
    had: list[str] = []

    def spec(one: TensorSpec) -> TensorSpec:
        had.append(one.quantizer)
        return replace(one, quantizer=USUAL)

    def rule(one: QuantRule) -> QuantRule:
        return replace(
            one,
            weights=one.weights and spec(one.weights),
            activations=one.activations and spec(one.activations),
        )

    rest = replace(
        recipe,
        rules=tuple(rule(one) for one in recipe.rules),
        first=recipe.first and rule(recipe.first),
        last=recipe.last and rule(recipe.last),
        weights=tuple((pattern, spec(one)) for pattern, one in recipe.weights),
        activations=tuple((pattern, spec(one)) for pattern, one in recipe.activations),
    )
    return rest, had


def check_folding(config: Any) -> None:
    """Raise `ValueError` for a config with folded norms that is in float, or is to estimate statistics anew."""
    if not config.fold_norms:
        return
    if config.recipe is None:
        raise ValueError(f"`fold_norms` must be left out for arm {config.arm!r}, which is not quantized.")
    if config.finetune_bn_batches is not None:
        raise ValueError("`finetune_bn_batches` must be left out with `fold_norms`: folded statistics stay.")
    methods = [text for text in config.ptq if parse_call(text)[0] == "reestimate_bn"]
    if methods:
        raise ValueError(
            f"`ptq` must do without {methods[0]!r} where `fold_norms` is set: folded norms have no statistics that the "
            "quantized network could give anew. Leave one of the two out."
        )
