"""Recipes by name: the usual bits of weights and activations, with options."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal

from qat.recipes.recipe import QuantRecipe, QuantRule, TensorSpec
from qat.registry import did_you_mean, parse_call

PRESET = re.compile(r"w([1-8])(?:a([2-8]))?(_dynamic)?")
NAME = 40  # characters of a recipe's name in a label
PRESET_EXAMPLES = ("w8a8", "w8a8_dynamic", "w8", "w4", "w4a8", "w4a4", "w3a3", "w2a4")


def recipe(
    name: str,
    *,
    observer: str | None = None,
    quantizer: str = "ste",
    edges: int | Literal["float", "same"] = 8,
    products: bool = True,
    group_size: int | None = None,
    bits: Mapping[str, int | tuple[int, int]] | None = None,
    parts: bool = False,
    adds: bool = False,
    grid: Literal["affine", "symmetric", "unsigned"] = "affine",
    weight_grid: Literal["symmetric", "midrise"] | None = None,
) -> QuantRecipe:
    """A preset: `w8a8` (weights and activations of 8 bits), `w4a8_dynamic` (ranges of activations at each call), `w4`
    (weights alone), and so on for 2 to 8 bits, of weights 1 to 8: `w1a4` has binary weights, `w2a4` ternary ones.

    Weights are symmetric per channel (or per group of `group_size`); those of one bit, or with `weight_grid` those of
    the preset's bits, are on a `midrise` grid, which has no zero and so one level more. Activations are per tensor, on
    a `grid` with a zero point or another, dynamic ones symmetric per token. `observer` defaults to minmax at 8 bits and
    mse below. The first and last layers take at least `edges` bits ("float" keeps them in float, "same" treats them
    like all others), as is usual in the literature.
    `products=False` leaves attention's products in float. `bits` sets single layers, by regular expression on the
    path, edges included: a number for the weights, or a pair for weights and activations. With `parts` an activation
    that concatenates several arrays has a range for each. With `adds` residual and pyramid additions are quantized
    too. Options may be part of the name:
    `w4a4(quantizer='lsq', bits={'head': 2, 'stem': (8, 8)})`.
    """
    if edges not in ("float", "same") and not isinstance(edges, int):
        raise ValueError(f"`edges` must be a number of bits, 'float' or 'same', got {edges!r}.")
    if bits is not None and not (isinstance(bits, Mapping) and all(isinstance(pattern, str) for pattern in bits)):
        raise ValueError(f"`bits` must map regular expressions on paths to bits, such as {{'head': 4}}, got {bits!r}.")
    text, args, options = parse_call(name)
    match = PRESET.fullmatch(text)
    if match is None or args or (match[3] and not match[2]):
        hint = did_you_mean(text, PRESET_EXAMPLES)
        raise ValueError(f"Unknown recipe {name!r}. Known: {', '.join(PRESET_EXAMPLES)} and the like.{hint}")
    if options:
        chosen = {"observer": observer, "quantizer": quantizer, "edges": edges, "products": products, "bits": bits}
        chosen |= {
            "group_size": group_size,
            "parts": parts,
            "adds": adds,
            "grid": grid,
            "weight_grid": weight_grid,
            **options,
        }
        try:
            return replace(recipe(text, **chosen), name=name)
        except TypeError as error:
            raise ValueError(f"recipe {name!r}: {error}.") from None
    for option, chosen in {"parts": parts, "adds": adds, "grid": grid != "affine"}.items():
        if chosen and (match[3] or not match[2]):
            raise ValueError(f"`{option}` is for static activations, which {text!r} does not have. Leave it out.")
    per = "token" if match[3] else "part" if parts else "tensor"
    w_bits, a_bits = int(match[1]), int(match[2]) if match[2] else None

    def weights(own: int) -> TensorSpec:
        chosen = weight_grid or ("midrise" if w_bits == 1 else "symmetric")
        return TensorSpec(
            own,
            grid=chosen if own == w_bits else "midrise" if own == 1 else "symmetric",
            per="group" if group_size else "channel",
            group_size=group_size,
            observer=observer or usual_observer(own),
            quantizer=quantizer,
        )

    def rule(least: int) -> QuantRule:
        w, a = max(w_bits, least), None if a_bits is None else max(a_bits, least)
        return QuantRule(
            weights=weights(w),
            activations=None if a is None else _preset_activations(a, observer, quantizer, per, grid),
            products=products,
        )

    edge = QuantRule() if edges == "float" else None if edges == "same" else rule(edges)
    pairs = {pattern: b if isinstance(b, tuple) else (b, None) for pattern, b in (bits or {}).items()}
    both = {p: pair for p, pair in pairs.items() if pair[1] is not None}
    return QuantRecipe(
        (rule(0),),
        first=edge,
        last=edge,
        name=name,
        weights=tuple((p, weights(w)) for p, (w, _) in pairs.items()),
        activations=tuple((p, _preset_activations(a, observer, quantizer, per, grid)) for p, (_, a) in both.items()),
        adds=adds,
    )


def usual_observer(bits: int) -> str:
    """The observer that presets use at this number of bits."""
    return "minmax" if bits == 8 else "mse"


def label(recipe: QuantRecipe) -> str:
    """A recipe's name, shortened, and a digest of its rules: `w4a4#1f3a9c2e`."""
    name = recipe.name if len(recipe.name) <= NAME else f"{recipe.name[: NAME - 3]}..."
    return f"{name}#{rules_digest(recipe)}"


def rules_digest(recipe: QuantRecipe) -> str:
    """Eight hexadecimal digits that change with any field of a recipe but its name."""
    rules = json.dumps(_lean(recipe), separators=(",", ":"))
    return hashlib.sha256(rules.encode()).hexdigest()[:8]


def _lean(value: Any) -> Any:
    """A recipe as JSON can hold it, without its name and without defaults, so that a new field changes no digest."""
    if is_dataclass(value):
        own = {f.name: getattr(value, f.name) for f in fields(value) if f.name != "name"}
        return {f.name: _lean(own[f.name]) for f in fields(value) if f.name in own and own[f.name] != f.default}
    return [_lean(part) for part in value] if isinstance(value, tuple) else value


def _preset_activations(bits: int, observer: str | None, quantizer: str, per: Any, grid: Any) -> TensorSpec:
    if per == "token":
        return TensorSpec(bits, per=per, dynamic=True)
    return TensorSpec(bits, grid=grid, per=per, observer=observer or usual_observer(bits), quantizer=quantizer)
