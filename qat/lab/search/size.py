"""The size in bytes of the file of an experiment's model, from shapes alone, before anything is trained."""

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qat.core import convert as conversion
from qat.core.convert import Converted, Structure, structure_of
from qat.core.operands import WeightOperand
from qat.core.plan import Plan, make_plan
from qat.core.state import QuantState, as_characters, make_clip, specs, start_learning
from qat.core.weights import reduced_shape
from qat.export.safetensors import key_impl, serialized
from qat.lab.experiment.config import ExperimentConfig
from qat.lab.experiment.quantizing import quantized
from qat.lab.experiment.training import workload_of
from qat.lab.runs.models import serialized_variables
from qat.recipes.recipe import QuantRecipe
from qat.transform import Program, Quantized


def estimated_size(config: ExperimentConfig) -> int:
    """Bytes of the model's file that a trial of `config` will leave, as long as calibration raises no layer's bits."""
    workload = workload_of(config.model, config.data, fold_norms=config.fold_norms)
    inputs = workload.example()
    variables = _variables(workload.functions.init, structure_of(inputs))
    if config.rules is None:
        return len(serialized_variables(jax.tree.map(_zeros, variables)))
    return converted_size(quantized(workload, config.rules).inference, variables, *inputs)


def converted_size(q: Quantized, params: Any, *inputs: Any) -> int:
    """Bytes of the file that `qat.save` makes of `q.convert(params, state, *inputs)`; of both only shapes count.

    It is the length of that file with zeros for all values, so that whatever is written is counted.
    """
    plan, model = _converted(q.program, structure_of((params, *inputs)))
    bits = _bits(plan, q.recipe)
    weights = {key: replace(w, bits=bits[key]) for key, w in model.weights.items()}
    zeros = jax.tree.map(_zeros, replace(model, weights=weights))
    return len(serialized(replace(zeros, recipe=as_characters(q.label)), _no_codes))


def _zeros(leaf: Any) -> Any:
    """Zeros of a shape and dtype, which take no room; bits are numbers already."""
    if isinstance(leaf, int):
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0, impl=key_impl(str(leaf.dtype))), leaf.shape)
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def _no_codes(codes: Any, bits: int) -> np.ndarray:
    """As many bytes as packed codes take; to pack those of a large model takes longer than all else here."""
    return np.zeros((codes.size * bits + 7) // 8, np.uint8)


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
    for key, (spec, scan_lengths, _) in specs(plan).items():
        bound = jnp.ones(reduced_shape(plan.weights[key]) if key in plan.weights else scan_lengths)
        clips[key] = make_clip(spec, scan_lengths, *(() if spec.dynamic else (-bound, bound)))
    return QuantState(clips, start_learning(plan, clips))


def _bits(plan: Plan, recipe: QuantRecipe) -> dict[str, int]:
    """The most bits that any of its sites asks of a weight, by the weight's key."""
    bits: dict[str, int] = {}
    for site in plan.quantized.values():
        c = site.contraction
        rule = recipe.rule_for(c.path, c.op, first=c.first, last=c.last)
        for operand in site.operands:
            if isinstance(operand, WeightOperand) and rule and rule.weights:
                bits[operand.key] = max(bits.get(operand.key, 0), rule.weights.bits)
    return bits
