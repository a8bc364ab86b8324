"""The size in bytes of the file of an experiment's model, from shapes alone, before anything is trained."""

import base64
import functools
import json
import math
import zlib
from typing import Any

import jax
import jax.numpy as jnp

from qat.core import convert as conversion
from qat.core.convert import Converted, Structure, structure_of
from qat.core.plan import Plan, make_plan
from qat.core.state import QuantState, make_clip, specs, start_learning
from qat.core.tensors import Activation
from qat.core.weights import reduced_shape
from qat.export.safetensors import FORMAT
from qat.export.trees import skeleton
from qat.lab.experiment.config import ExperimentConfig
from qat.lab.experiment.quantizing import quantized
from qat.lab.experiment.training import setting
from qat.recipes.recipe import QuantRecipe
from qat.transform import Program, Quantized

ALIGNED = 8  # bytes to which the header of a safetensors file is padded


def estimated_size(config: ExperimentConfig) -> int:
    """Bytes of the model's file that a trial of `config` will leave.

    Packed weights, scales, zero points and float leaves are counted as they are stored, and so is the header that names
    them; of what is compressed in it (the index) the length is right within some bytes.
    """
    where = setting(config.model, config.data)
    inputs = where.example()
    variables = _variables(where.functions.init, structure_of(inputs))
    if config.rules is None:
        leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
        return _file({"/".join(str(key.key) for key in path): leaf for path, leaf in leaves}, {})
    return converted_size(quantized(where, config.rules).inference, variables, *inputs)


def converted_size(q: Quantized, params: Any, *inputs: Any) -> int:
    """Bytes of the file that `qat.save` makes of `q.convert(params, state, *inputs)`; of both only shapes count."""
    plan, model = _converted(q.program, structure_of((params, *inputs)))
    bits, stored = _bits(plan, q.recipe), _stored(model.grids)
    small = jax.tree.leaves(([(w.scale, w.zero_point) for w in model.weights.values()], stored))
    tensors: dict[str, Any] = {f"leaves/{path}": leaf for path, leaf in model.leaves.items()}
    for key, w in model.weights.items():
        packed = math.ceil(w.codes.size * bits[key] / 8)
        tensors[f"codes/{key}"] = jax.ShapeDtypeStruct((packed,), jnp.uint8)
    for dtype in {x.dtype for x in small}:
        total = sum(x.size for x in small if x.dtype == dtype)
        tensors[f"flat/{dtype}"] = jax.ShapeDtypeStruct((total,), dtype)
    return _file(tensors, {"format": FORMAT, "index": _index(model, stored, bits, q.label)})


@functools.lru_cache(maxsize=16)
def _variables(init: Any, inputs: Structure) -> Any:
    return jax.eval_shape(init, jax.random.key(0), *inputs.abstract)


@functools.lru_cache(maxsize=16)
def _converted(program: Program, arguments: Structure) -> tuple[Plan, Converted]:
    """The plan and the abstract result of a conversion: the same for all recipes that differ in bits."""
    params, *inputs = arguments.abstract
    plan = make_plan(program.fn, program.recipe, params, tuple(inputs))
    return plan, jax.eval_shape(lambda p: conversion.convert(program, p, _state(plan), tuple(inputs)), params)


def _state(plan: Plan) -> QuantState:
    """A state of the right shapes, as calibration would give it."""
    clips = {}
    for key, (spec, stack, _) in specs(plan).items():
        bound = jnp.ones(reduced_shape(plan.weights[key]) if key in plan.weights else stack)
        clips[key] = make_clip(spec, stack) if spec.dynamic else make_clip(spec, stack, -bound, bound)
    return QuantState(clips, start_learning(plan, clips))


def _bits(plan: Plan, recipe: QuantRecipe) -> dict[str, int]:
    """The most bits that any of its sites asks of a weight, by the weight's key."""
    bits: dict[str, int] = {}
    for site in plan.quantized.values():
        c = site.contraction
        rule = recipe.rule_for(c.path, c.op, first=c.first, last=c.last)
        for operand in site.operands:
            if operand is not None and not isinstance(operand, Activation) and rule and rule.weights:
                bits[operand[0]] = max(bits.get(operand[0], 0), rule.weights.bits)
    return bits


def _stored(grids: dict[str, Any]) -> dict[str, Any]:
    """The part of each activation that the file holds: its grid, or of a dynamic one its code range."""
    return {key: grid["grid"] if "grid" in grid else grid["codes"] for key, grid in grids.items()}


def _index(model: Converted, grids: dict[str, Any], bits: dict[str, int], recipe: str) -> str:
    """The index of the file but for its exact wording: what lies where, compressed."""
    content = {
        "weights": {key: [bits[key], *_shapes(w)] for key, w in sorted(model.weights.items())},
        "grids": {key: ["grid", *_shapes(grid)] for key, grid in sorted(grids.items())},
        "leaves": {path: str(leaf.dtype) for path, leaf in sorted(model.leaves.items())},
        "recipe": recipe,
        "tree": skeleton(model.structure.tree),
        "avals": [[list(a.shape), str(a.dtype), a.weak_type] for a in model.structure.leaves],
    }
    return base64.b64encode(zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 9)).decode()


def _shapes(tree: Any) -> list[list[int]]:
    return [list(leaf.shape) for leaf in jax.tree.leaves(tree)]


def _file(tensors: dict[str, Any], metadata: dict[str, str]) -> int:
    """Bytes of a safetensors file: the length of its header, the header, the tensors."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for name, x in sorted(tensors.items()):
        end = offset + x.size * x.dtype.itemsize
        header[name] = {"dtype": "F32", "shape": list(x.shape), "data_offsets": [offset, end]}
        offset = end
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + math.ceil(length / ALIGNED) * ALIGNED + offset
