"""Wrong calls give one clear error before any work: what was expected, what came, and what to do."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import qat
from qat.recipes import recipe as recipes
from qat.recipes.recipe import QuantRecipe, QuantRule, weight_spec

TensorSpec: Any = recipes.TensorSpec  # so that a type checker lets wrong values pass
quantize: Any = qat.quantize
save: Any = qat.save


def array(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def mlp(p, x):
    return jax.nn.relu(x @ p["a"]) @ p["b"]


X, Y, PARAMS = array(4, 6), jnp.arange(4), {"a": array(6, 8), "b": array(8, 3)}
Q: Any = quantize(mlp, qat.recipe("w8a8"))
STATE = Q.calibrate(PARAMS, [X])
INT8 = Q.convert(PARAMS, STATE, X)


def other(name, **options):
    return quantize(mlp, qat.recipe(name, **options))


def unlabelled(made):
    """Without its recipe's label, so that the structure alone tells."""
    return dataclasses.replace(made, recipe=None)


def state_of(name, **options):
    return unlabelled(other(name, **options).calibrate(PARAMS, [X]))


BARE, INTS = unlabelled(STATE), unlabelled(INT8)


VALUES = {
    "unknown observer": (lambda: TensorSpec(observer="emaa"), r"Unknown observer 'emaa'. Known: .*mean 'ema'\?"),
    "argument of an observer": (lambda: TensorSpec(observer="percentile(200)"), r"`p` must be in \(50, 100\].*200"),
    "call of an observer": (lambda: TensorSpec(observer="ema(mometum=0.5)"), r"observer 'ema\(mometum=0.5\)'.*mometum"),
    "unknown quantizer": (lambda: TensorSpec(quantizer="lqs"), r"Unknown quantizer 'lqs'. Known: .*mean 'lsq'\?"),
    "too many bits": (lambda: TensorSpec(bits=16), r"`bits` must be an integer in \[2, 8\], got 16.*keep .* in float"),
    "too few bits": (lambda: TensorSpec(bits=1), r"`bits` must be .*\[2, 8\], got 1\."),
    "fractional bits": (lambda: TensorSpec(bits=4.5), r"`bits` must be an integer .*got 4.5"),
    "unknown grid": (lambda: TensorSpec(grid="signed"), r"`grid` must be one of symmetric.*got 'signed'"),
    "group without size": (lambda: weight_spec(per="group"), r"`group_size` goes with.*None.*group_size=32"),
    "static per token": (lambda: TensorSpec(per="token"), r"per='token' needs dynamic=True"),
    "learned and dynamic": (lambda: TensorSpec(dynamic=True, quantizer="lsq"), r"'lsq' learns scale.*dynamic=False"),
    "regular expression": (lambda: QuantRule("layer[0"), r"`pattern` 'layer\[0' is no regular expression: "),
    "unknown op": (lambda: QuantRule(op="dot_gen"), r"`op` must be one of .*got 'dot_gen'.*mean 'dot_general'\?"),
    "no rules": (lambda: QuantRecipe(()), r"`rules` is empty.*quantize nothing"),
    "unknown preset": (lambda: qat.recipe("w8a9"), r"Unknown recipe 'w8a9'. Known: w8a8.*Did you mean"),
    "option of a preset": (lambda: qat.recipe("w8a8(edge=8)"), r"recipe 'w8a8\(edge=8\)'.*edge"),
    "not a function": (lambda: quantize(3, qat.recipe("w8")), r"`fn` must be a function of .*, got int"),
    "recipe as text": (lambda: quantize(mlp, "w8a8"), r"`recipe` must be a QuantRecipe, got 'w8a8'.*qat.recipe\("),
    "unknown engine": (lambda: quantize(mlp, qat.recipe("w8"), engine="aq"), r"Unknown engine 'aq'.*mean 'aqt'"),
    "no state": (lambda: Q.simulate(PARAMS, None, X), r"`state` must be the QuantState.*got NoneType.*q.calibrate"),
    "no state to convert": (lambda: Q.convert(PARAMS, None, X), r"`state` must be .*got NoneType.*q.calibrate"),
    "no state to observe": (lambda: Q.simulate(PARAMS, None, X, observe=True), r"`state` must be .*got NoneType"),
    "state in place of int8": (lambda: Q.serve(STATE, X), r"`serve` needs what `convert` .*got QuantState.*convert"),
    "parameters in place of converted": (lambda: Q.serve(PARAMS, X), r"`serve` needs what `convert` returns, got dict"),
    "saved state alone": (lambda: save(STATE), r"`save` takes a path .*got QuantState and NoneType.*q.convert"),
    "saved state": (lambda: save("model", STATE), r"`save` takes .*got str and QuantState.*q.convert"),
    "text among the inputs": (lambda: Q.simulate(PARAMS, STATE, X, "mean"), r"got the text 'mean'.*by keyword"),
    "text in a batch": (lambda: Q.calibrate(PARAMS, [(X, "mean")]), r"got the text 'mean'.*out of batches"),
    "list by keyword": (lambda: Q.simulate(PARAMS, STATE, X, sizes=[1, 2]), r"`sizes` .*hashable.*got a list.*a tuple"),
    "converted in place of state": (lambda: Q.simulate(PARAMS, INT8, X), r"`state` must be .*got Converted"),
}  # fmt: skip


@pytest.mark.parametrize("case", VALUES)
def test_a_wrong_value_is_named_with_what_was_expected(case):
    call, message = VALUES[case]
    with pytest.raises(ValueError, match=message):
        call()


def unhashable():
    return dataclasses.make_dataclass("Model", [], namespace={"__call__": mlp})()


def test_a_function_that_cannot_be_hashed_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"`fn` must be hashable.*got a Model.*lambda"):
        quantize(unhashable(), qat.recipe("w8a8"))


NOTHING = {
    "rule of no site": (mlp, QuantRecipe((QuantRule("lay/a", weights=TensorSpec()),)), r"'lay/a'.*no site.*: a"),
    "covered rule": (mlp, QuantRecipe((QuantRule(weights=TensorSpec()), QuantRule("a"))), r"rule 1 .*earlier rules"),
    "all float": (mlp, QuantRecipe((QuantRule(),)), r"recipe 'custom' quantizes nothing: .*leaves it in float"),
    "no contraction": (lambda p, x: x + p["a"].sum(), qat.recipe("w8a8"), r"nothing: the function has no site"),
    "integers": (lambda p, x: x.astype(int) @ p["a"].astype(int), qat.recipe("w8a8"), r"nothing: .*int32 operand"),
    "groups that do not divide": (mlp, qat.recipe("w4", group_size=5), r"nothing: .*do not divide into groups of 5"),
}  # fmt: skip


@pytest.mark.parametrize("case", NOTHING)
def test_a_recipe_that_quantizes_nothing_says_why(case):
    fn, recipe, message = NOTHING[case]
    q = quantize(fn, recipe)
    for call in (lambda: q.sites(PARAMS, X), lambda: q.calibrate(PARAMS, [X]), lambda: q.simulate(PARAMS, BARE, X)):
        with pytest.raises(ValueError, match=message):
            call()


def third(p, x):
    return mlp(p, x) @ p["c"]


MISFITS = {
    "wider parameters": (lambda: Q.simulate({"a": array(6, 16), "b": array(16, 3)}, STATE, X),
                         r"`state` of 'a' has scales of shape \(1, 8\).*\(6, 16\) needs \(1, 16\).*Calibrate"),
    "state of another function": (
        lambda: quantize(third, qat.recipe("w8a8")).simulate({**PARAMS, "c": array(3, 3)}, STATE, X),
        r"`state` has no range for .*Calibrate with this function"),
    "state of a learned recipe": (lambda: Q.simulate(PARAMS, state_of("w8a8", quantizer="lsq"), X),
                                  r"`state` of .*learns \['scale'\].*'ste' learns nothing.*Calibrate with this recipe"),
    "state for a learned recipe": (lambda: other("w8a8", quantizer="lsq").simulate(PARAMS, BARE, X),
                                   r"`state` of .*learns nothing.*'lsq' learns \['scale'\].*Calibrate"),
    "state of a dynamic recipe": (lambda: Q.simulate(PARAMS, state_of("w8a8_dynamic"), X),
                                  r"does not fit its static range. Calibrate with this recipe"),
    "state of a static recipe": (lambda: other("w8a8_dynamic").convert(PARAMS, BARE, X), r"fit its dynamic range"),
    "state of a weight-only recipe": (lambda: Q.simulate(PARAMS, state_of("w8"), X), r"no range"),
    "state of groups": (lambda: other("w8", group_size=2, edges="same").simulate(PARAMS, BARE, X), r"needs \(3, 8\)"),
    "observers left out": (lambda: Q.simulate(PARAMS, dataclasses.replace(STATE, observers={}), X, observe=True),
                           r"`state.observers` lacks .*calibrate"),
    "converted by a dynamic recipe": (lambda: other("w8a8_dynamic").serve(INTS, X), r"tree is of another recipe"),
    "converted for a weight-only recipe": (lambda: other("w8").serve(INTS, X), r"function or recipe: .*unexpected"),
    "converted by another function": (lambda: quantize(lambda p, x: x @ p["a"], qat.recipe("w8a8")).serve(INT8, X),
                                      r"another function or recipe: missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_what_belongs_to_another_model_or_recipe_is_refused(case):
    call, message = MISFITS[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_layers_of_another_number_are_refused():
    def stacked(p, x):
        return jax.lax.scan(lambda h, w: (h @ w, None), x, p)[0]

    q = quantize(stacked, qat.recipe("w8a8"))
    state = q.calibrate(array(3, 6, 6), [X])
    with pytest.raises(ValueError, match=r"is for layers \(3,\), the function has \(2,\)"):
        q.simulate(array(2, 6, 6), state, X)


CALLS = {
    "calibrate": lambda q, p: q.calibrate(p, [X]),
    "simulate": lambda q, p: q.simulate(p, STATE, X),
    "convert": lambda q, p: q.convert(p, STATE, X),
    "sites": lambda q, p: q.sites(p, X),
}


@pytest.mark.parametrize("call", CALLS)
def test_parameters_that_the_function_cannot_read_are_named(call):
    with pytest.raises(KeyError, match=r"(?s)'b'.*`params` of leaves a and 1 inputs"):
        CALLS[call](Q, {"a": PARAMS["a"]})


def test_parameters_of_another_flax_model_keep_the_words_of_flax():
    q = quantize(nn.Dense(3).apply, qat.recipe("w8"))
    with pytest.raises(Exception, match=r"(?s)kernel.*`params` of leaves params/weight"):
        q.sites({"params": {"weight": array(6, 3)}}, X)


def test_two_leaves_of_one_name_are_refused():
    params = {"w": array(6, 3), "a": {"b": array(3)}, "a/b": array(3)}
    with pytest.raises(ValueError, match=r"two leaves of `params` have the path 'a/b'"):
        quantize(lambda p, x: x @ p["w"] * p["a"]["b"] * p["a/b"], qat.recipe("w8")).sites(params, X)


def test_inputs_of_a_shape_that_needs_dropped_parameters_are_refused():
    """A function may read a parameter at some shapes alone; what conversion dropped it cannot read later."""

    def fn(p, x):
        return x @ p["a"] if len(x) < 5 else x @ p["a"] + p["bias"]

    params = {"a": array(6, 8), "bias": array(8)}
    q = quantize(fn, qat.recipe("w8a8"))
    int8 = q.convert(params, q.calibrate(params, [X]), X)
    with pytest.raises(ValueError, match=r"reads bias in float, which conversion dropped. Convert with inputs"):
        q.serve(int8, array(6, 6))


BATCHES = {
    "image and label": (lambda p, x: x @ p["a"], (X, Y), r"2 inputs: float32\[4, 6\], int32\[4\]"),
    "label taken for a flag": (lambda p, x, train=False: x if train else x @ p["a"], (X, Y), r"int32\[4\]"),
    "dict": (lambda p, x: x.reshape(x.shape[0], -1) @ p["a"], {"image": X, "label": Y}, r"image: float32\[4, 6\]"),
    "list": (lambda p, x: x.reshape(x.shape[0], -1) @ p["a"], [X, Y], r"1 inputs: \[float32\[4, 6\], int32\[4\]\]"),
    "flag among the inputs": (lambda p, x, train: x @ p["a"] if train else x, (X, False), r"float32\[4, 6\], bool\[\]"),
}


@pytest.mark.parametrize("case", BATCHES)
def test_a_batch_that_the_function_cannot_take_is_told_with_the_contract_and_the_remedy(case):
    fn, batch, came = BATCHES[case]
    with pytest.raises(Exception, match=rf"(?s){came}.*A batch is the tuple of its inputs, .*Flags go by keyword"):
        quantize(fn, qat.recipe("w8a8")).calibrate(PARAMS, [batch])
