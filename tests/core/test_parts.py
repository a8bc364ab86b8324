"""Activations joined of unlike parts: named in `sites`, and quantized each by itself where a recipe says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import qat
from qat import QuantRecipe, QuantRule, TensorSpec
from qat.core.jaxpr import bind, by_parts, evaluate, joined, trace


def array(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


BOXES, SCORES, IMAGE = 600 * array(4, 6), 0.5 + 0.1 * array(4, 3, seed=1), 100 * array(2, 5, 5, 2, seed=2)
PARAMS = {"w": array(9, 5, seed=3), "square": array(6, 6, seed=4), "kernel": array(3, 3, 5, 4, seed=5)}


def conv(p, image, more):
    x = jnp.concatenate([image, jnp.concatenate([more, more**2], -1)[..., :3]], -1)
    return jax.lax.conv_general_dilated(x, p["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


CASES = {
    "summed": lambda p, b, s, i: jnp.concatenate([b, s], -1) @ p["w"],
    "as the right operand": lambda p, b, s, i: p["w"].T @ jnp.concatenate([b.T, s.T]),
    "three": lambda p, b, s, i: jnp.concatenate([jnp.concatenate([b[:, :2], s], -1), b[:, 2:]], -1) @ p["w"],
    "not summed": lambda p, b, s, i: jnp.concatenate([b, s @ p["w"][:3, :1] * jnp.ones(6)], 0) @ p["square"],
    "convolution": lambda p, b, s, i: conv(p, i, i / 1000),
    "two activations": lambda p, b, s, i: jnp.concatenate([b, s], -1) @ jnp.concatenate([s, b], -1).T,
    "in a loop": lambda p, b, s, i: jax.lax.scan(lambda _, x: (None, jnp.concatenate(x) @ p["w"]), None, (b, s))[1],
    "in jit and remat": jax.jit(jax.checkpoint(lambda p, b, s, i: jnp.concatenate([b, s], 1) @ p["w"])),
}


@pytest.mark.parametrize("case", CASES)
def test_a_joined_contraction_by_parts_is_the_same_function(case):
    args = (PARAMS, BOXES, SCORES, IMAGE)
    jaxpr, _ = trace(CASES[case], args)
    parts = by_parts(jaxpr, joined(jaxpr).keys())
    assert joined(jaxpr) and not joined(parts)
    found, right = (jax.jit(lambda j=j: evaluate(j, jax.tree.leaves(args), lambda _, e, v: bind(e, v)))()
                    for j in (parts, jaxpr))  # fmt: skip
    np.testing.assert_allclose(found[0], right[0], rtol=1e-4, atol=1e-2)


OTHERS = {
    "zeros for padding": lambda p, b, s: jnp.concatenate([b, jnp.zeros((4, 3))], -1) @ p["w"],
    "not joined": lambda p, b, s: b @ p["square"],
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_not_joined_of_activations_stays_one_product(case):
    q = qat.quantize(OTHERS[case], qat.recipe("w8a8(parts=True)"))
    (site,) = q.sites(PARAMS, BOXES, SCORES)
    assert site.joins == 0 and site.reason is None


class Head(nn.Module):
    @nn.compact
    def __call__(self, boxes, scores):
        return nn.Dense(5, name="head")(jnp.concatenate([boxes, scores], -1))


def test_small_parts_keep_their_numbers_on_ranges_of_their_own():
    model = Head()
    variables = {"params": {"head": {"kernel": PARAMS["w"], "bias": array(5)}}}

    def by_scores(fn):
        """What the scores alone add to the result."""
        return fn(BOXES, SCORES) - fn(BOXES, jnp.zeros_like(SCORES))

    def error(recipe):
        q = qat.quantize(model.apply, recipe)
        state = q.calibrate(variables, [(BOXES, SCORES)])
        int8 = q.convert(variables, state, BOXES, SCORES)
        assert not [leaf for leaf in int8.leaves if "kernel" in leaf]
        np.testing.assert_array_equal(q.serve(int8, BOXES, SCORES), q.simulate(variables, state, BOXES, SCORES))
        right = by_scores(lambda *x: model.apply(variables, *x))
        found = by_scores(lambda *x: q.simulate(variables, state, *x))
        return np.linalg.norm(found - right) / np.linalg.norm(right), q.sites(variables, BOXES, SCORES)

    (one, joined_sites), (each, sites) = (error(qat.recipe(f"w8a8(parts={parts})")) for parts in (False, True))
    assert one > 0.5 and each < 0.05
    assert [(s.id, s.joins) for s in joined_sites] == [("Head/head:dot_general:0", 2)]
    assert [(s.id, s.joins) for s in sites] == [("Head/head:dot_general:0", 0), ("Head/head:dot_general:1", 0)]
    assert "one range for several joined arrays: Head/head" in repr(joined_sites) and "joined" not in repr(sites)


@pytest.mark.parametrize("quantizer", ["ste", "lsq"])
def test_parts_are_trained_like_any_other_product(quantizer):
    q = qat.quantize(CASES["summed"], qat.recipe("w8a8", parts=True, quantizer=quantizer))
    state = q.calibrate(PARAMS, [(1.1 * BOXES, 1.1 * SCORES, IMAGE)])
    found, exact = (jax.grad(lambda p, fn=fn: fn(p, BOXES, SCORES, IMAGE).sum())(PARAMS)["w"] for fn in
                    (lambda p, *x: q.simulate(p, state, *x), CASES["summed"]))  # fmt: skip
    np.testing.assert_allclose(found, exact, rtol=0.05, atol=20)


def test_per_part_is_for_activations():
    with pytest.raises(ValueError, match="`weights` cannot be per='part'"):
        QuantRule(weights=TensorSpec(per="part"))
    with pytest.raises(ValueError, match="`parts` is for static activations"):
        qat.recipe("w8a8_dynamic(parts=True)")
    spec = TensorSpec(8, per="part", dynamic=True)
    q = qat.quantize(CASES["summed"], QuantRecipe((QuantRule(weights=TensorSpec(), activations=spec),)))
    state = q.calibrate(PARAMS, [(BOXES, SCORES, IMAGE)])
    exact = CASES["summed"](PARAMS, BOXES, SCORES, IMAGE)
    np.testing.assert_allclose(q.simulate(PARAMS, state, BOXES, SCORES, IMAGE), exact, atol=30)  # of thousands
