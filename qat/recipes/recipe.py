"""Recipes: a `TensorSpec` for each tensor, a `QuantRule` for the sites it matches, a `QuantRecipe` for a model."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from qat.numerics import code_range
from qat.observers import observers
from qat.quantizers import quantizers
from qat.registry import did_you_mean

OPS = ("dot_general", "conv", "embedding", "add")
GRANULARITIES = ("tensor", "channel", "group", "token", "part")


@dataclass(frozen=True)
class TensorSpec:
    """The quantization of one tensor.

    `per` says what has a scale of its own: the tensor, each output channel, each group of `group_size` products along
    the contraction (weights), each token, that is each contracted row (dynamic activations), or each part of an
    activation that `concatenate` joins, which is then multiplied on its own.

    A `symmetric` grid is centred on zero, an `affine` one has a zero point, an `unsigned` one starts at zero, and a
    `midrise` one is centred on zero without having it: levels -3, -1, 1, 3 at 2 bits, -1 and 1 at one bit.

    A `dynamic` range spans the values of each call. All values that share a scale count, padding and other examples
    included; with per='token' these are the values of one row, which holds several tokens only where tokens are
    contracted, as in attention's second product. A static range comes from the `observer` in calibration. The
    `quantizer` defines gradients and whether the scale learns.
    """

    bits: int = 8
    grid: Literal["symmetric", "affine", "unsigned", "midrise"] = "symmetric"
    per: Literal["tensor", "channel", "group", "token", "part"] = "tensor"
    group_size: int | None = None
    dynamic: bool = False
    observer: str = "minmax"
    quantizer: str = "ste"

    def __post_init__(self) -> None:
        code_range(self.bits, self.grid)
        if self.per not in GRANULARITIES:
            raise ValueError(f"`per` must be one of {', '.join(GRANULARITIES)}, got {self.per!r}.")
        if (self.per == "group") != (self.group_size is not None):
            raise ValueError(
                f"`group_size` goes with per='group', got per={self.per!r}, group_size={self.group_size!r}. "
                "Give the number of products that share a scale, such as per='group', group_size=32."
            )
        if self.group_size is not None and self.group_size < 1:
            raise ValueError(f"`group_size` must be at least 1, got {self.group_size}.")
        if self.grid == "midrise" and self.dynamic:
            raise ValueError("grid='midrise' needs a static range. Leave dynamic=False, or take grid='symmetric'.")
        observers.build(self.observer)
        learned = quantizers.build(self.quantizer).learned
        if learned and self.dynamic:
            raise ValueError(f"quantizer {self.quantizer!r} learns {', '.join(learned)}: it needs dynamic=False.")
        if self.per == "token" and not self.dynamic:
            raise ValueError("per='token' needs dynamic=True: a static scale per token would fix the sequence length.")


def weight_spec(bits: int = 8, **changes: Any) -> TensorSpec:
    """The usual spec of weights: symmetric, per channel, static."""
    return replace(TensorSpec(bits=bits, per="channel"), **changes)


def activation_spec(bits: int = 8, **changes: Any) -> TensorSpec:
    """The usual spec of activations: affine, per tensor, static, so that a ReLU output uses every code."""
    return replace(TensorSpec(bits=bits, grid="affine"), **changes)


@dataclass(frozen=True)
class QuantRule:
    """Specs for the sites whose path matches the regular expression `pattern` (`re.search`) and whose op is `op`.

    A spec of None leaves those tensors in float; both None leaves the sites in float. `products=False` leaves products
    of two activations (attention) in float.
    """

    pattern: str = ".*"
    op: str | None = None
    weights: TensorSpec | None = None
    activations: TensorSpec | None = None
    products: bool = True

    def __post_init__(self) -> None:
        _check_pattern("pattern", self.pattern)
        if self.op is not None and self.op not in OPS:
            known = ", ".join(OPS)
            raise ValueError(f"`op` must be one of {known}, got {self.op!r}.{did_you_mean(self.op, OPS)}")
        _check_weights(self.weights)
        _check_activations(self.activations)

    def matches(self, path: str, op: str) -> bool:
        """Whether this rule is for a site of that path and op."""
        return (self.op is None or self.op == op) and re.search(self.pattern, path) is not None


@dataclass(frozen=True)
class QuantRecipe:
    """Rules, of which the first that matches a site applies; `first` and `last` apply before them to the first and last
    layers with weights.

    A layer is first where no other layer with weights feeds it, and last where it feeds none (every output of a
    detector); embeddings do not count. A site that no rule matches stays in float. `weights` and `activations` are
    pairs of a regular expression on the path and a spec: the first that matches a site replaces the spec of its rule,
    of `first` and `last` too. With `adds` additions that join two branches of a network (residual, skip and pyramid
    connections) are sites of op `add`: each operand is quantized as an activation of its rule, with a static range, and
    the sum of the dequantized values is float, so that runtimes can add integers.
    """

    rules: tuple[QuantRule, ...]
    first: QuantRule | None = None
    last: QuantRule | None = None
    name: str = "custom"
    weights: tuple[tuple[str, TensorSpec], ...] = ()
    activations: tuple[tuple[str, TensorSpec], ...] = ()
    adds: bool = False

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError("`rules` is empty: the recipe would quantize nothing. Give at least one QuantRule.")
        if not self.adds and any(rule.op == "add" for rule in self.all_rules):
            raise ValueError("a rule is of op 'add', but the recipe has no such sites. Set adds=True.")
        for pattern, spec in self.weights:
            _check_pattern("weights", pattern)
            _check_weights(spec)
        for pattern, spec in self.activations:
            _check_pattern("activations", pattern)
            _check_activations(spec)

    @property
    def all_rules(self) -> list[QuantRule]:
        """The rules, then those of the edges."""
        return [rule for rule in (*self.rules, self.first, self.last) if rule is not None]

    @property
    def weight_specs(self) -> list[TensorSpec]:
        """The specs of weights of its rules, its edges and single layers."""
        own = [rule.weights for rule in self.all_rules if rule.weights is not None]
        return [*own, *(spec for _, spec in self.weights)]

    def rule_for(self, path: str, op: str, *, first: bool = False, last: bool = False) -> QuantRule | None:
        """The rule that applies to a site, or None."""
        return self.named_rule_for(path, op, first=first, last=last)[1]

    def named_rule_for(self, path: str, op: str, *, first: bool, last: bool) -> tuple[str, QuantRule | None]:
        """The rule that applies to a site, and its place in the recipe: `first`, `last`, or its number among the
        rules."""
        places = [
            ("first", self.first if first else None),
            ("last", self.last if last else None),
            *((str(i), rule) for i, rule in enumerate(self.rules)),
        ]
        found = ((place, rule) for place, rule in places if rule is not None and rule.matches(path, op))
        place, rule = next(found, ("", None))
        for tensors in ("activations", "weights"):
            own = next((one for one in getattr(self, tensors) if re.search(one[0], path)), None)
            rule = replace(rule or QuantRule(), pattern=own[0], **{tensors: own[1]}) if own else rule
        return place, rule

    def check_used(self, sites: Sequence[tuple[str, str]]) -> None:
        """Raise `ValueError` for a rule that applies to no site (path, op), with the paths nearest to its pattern.

        Specs of single layers, `^path$`, may replace a later pattern at all of its sites.
        """
        paths = sorted({path for path, _ in sites})
        for i, rule in enumerate(self.rules):
            if any(self.named_rule_for(*site, first=False, last=False)[0] == str(i) for site in sites):
                continue
            op = f" with op {rule.op!r}" if rule.op else ""
            matched = sum(rule.matches(*site) for site in sites)
            raise ValueError(_unused(f"rule {i} ({rule.pattern!r}{op})", rule.pattern, matched, paths))
        for tensors in ("weights", "activations"):
            patterns = [pattern for pattern, _ in getattr(self, tensors)]
            for i, pattern in enumerate(patterns):
                matched = [path for path in paths if re.search(pattern, path)]
                general = [earlier for earlier in patterns[:i] if not re.fullmatch(r"\^.*\$", earlier)]
                if all(any(re.search(earlier, path) for earlier in general) for path in matched):
                    raise ValueError(_unused(f"`{tensors}` of {pattern!r}", pattern, len(matched), paths))


def _unused(what: str, pattern: str, matched: int, paths: Sequence[str]) -> str:
    if matched:
        return f"{what} matches {matched} sites, but earlier rules take them all. Move it up, or leave it out."
    near = difflib.get_close_matches(pattern, paths, n=5, cutoff=0.3) or paths[:5]
    return f"{what} matches no site. Nearest paths: {', '.join(near)}."


def _check_pattern(argument: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"`{argument}` {pattern!r} is no regular expression: {error}.") from None


def _check_activations(spec: TensorSpec | None) -> None:
    if spec is not None and spec.per in ("channel", "group"):
        raise ValueError(f"`activations` are per='tensor', 'token' or 'part', got {spec.per!r}.")


def _check_weights(spec: TensorSpec | None) -> None:
    if spec is not None and spec.per in ("token", "part"):
        raise ValueError(f"`weights` cannot be per={spec.per!r}; use 'tensor', 'channel' or 'group'.")
