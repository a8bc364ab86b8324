"""Derivatives of the simulated function beyond the first, and in forward mode, against fake quantization in jax."""

from dataclasses import replace

import fakequant
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from products import PRODUCTS, SPECS

import qat
from qat import QuantRecipe, QuantRule, TensorSpec

SPECS = {name: SPECS[name] for name in ("w8a8", "w4a4_symmetric", "dynamic_affine", "affine_weights_alone")}
CASES = [("matrix", spec) for spec in SPECS] + [("conv_grouped", "w8a8"), ("conv_transposed", "w4a4_symmetric")]
each_case = pytest.mark.parametrize(("case", "spec"), CASES, ids=["-".join(pair) for pair in CASES])


def assert_close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)  # float32 sums, in another order


def array(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0.3, 1, shape), jnp.float32)


def calibrated(fn, params, x, *specs, wider=1.0, **options):
    """The simulated function, its ranges `wider` than what was seen."""
    weights, activations = (spec and replace(spec, **options) for spec in specs)
    q = qat.quantize(fn, QuantRecipe((QuantRule(weights=weights, activations=activations),)))
    state = q.calibrate(params, [x])
    widened = {key: (clip.low, clip.high) for key, clip in state.clips.items()}
    widened = jax.tree.map(lambda bound: wider * bound, widened)
    clips = {key: replace(clip, low=widened[key][0], high=widened[key][1]) for key, clip in state.clips.items()}
    state = replace(state, clips=clips, learned=jax.tree.map(lambda v: wider * v, state.learned))
    return lambda params, x, learned=state.learned: q.simulate(params, replace(state, learned=learned), x)


def rounded(x, spec, axes):
    """Fake quantization to a fixed grid in plain jax: its value moves with `x` where that lies inside."""
    value, inside = fakequant.fake_quant(x, spec, axes)
    start = jnp.asarray(np.asarray(x))
    return lambda x: jnp.asarray(value, jnp.float32) + jnp.where(inside, x - start, 0)


def one_product(case, spec):
    """A smooth function of a product, as simulated and with plainly rounded operands; the weight and the input."""
    product, (weights, activations) = PRODUCTS[case], SPECS[spec]
    w, x = array(*product.w, seed=1), array(*product.x, seed=2)
    token = activations is not None and activations.per == "token"
    x_hat = rounded(x, activations, product.x_axes if token else None)
    w_hat = rounded(w, weights, product.w_axes)
    simulated = calibrated(lambda w, x: product.jax(x, w), w, x, weights, activations)

    def exact(w, x):
        return jnp.sin(product.jax(x_hat(x), w_hat(w)) / 4).sum()

    return lambda w, x: jnp.sin(simulated(w, x) / 4).sum(), exact, w, x


def slope(f):
    """The squared length of a function's gradient to its input: a gradient penalty."""
    return lambda w, x: (jax.grad(f, 1)(w, x) ** 2).sum()


@each_case
def test_the_gradient_of_a_gradient_penalty_is_that_of_fake_quantization(case, spec):
    simulated, exact, w, x = one_product(case, spec)
    found, wanted = (jax.jit(jax.grad(slope(f), (0, 1)))(w, x) for f in (simulated, exact))
    for a, b in zip(found, wanted, strict=True):
        assert np.count_nonzero(b)
        assert_close(a, b)


@each_case
def test_forward_mode_agrees_with_fake_quantization_and_with_reverse(case, spec):
    simulated, exact, w, x = one_product(case, spec)
    moves = (array(*w.shape, seed=3), array(*x.shape, seed=4))
    found, wanted = (jax.jit(lambda f=f: jax.jvp(f, (w, x), moves))() for f in (simulated, exact))
    assert_close(found, wanted)
    value, linear = jax.linearize(simulated, w, x)
    assert_close((value, linear(*moves)), found)


def test_hessians_in_every_order_of_modes_are_the_same():
    w, x = array(3, 3, seed=1), array(3, 2, seed=2)
    simulated = calibrated(lambda w, x: jnp.sin(x.T @ w).sum(), w, x, *SPECS["w8a8"])
    orders = (jax.hessian, lambda f: jax.jacrev(jax.jacfwd(f)), lambda f: jax.jacrev(jax.jacrev(f)))
    first, *others = (jax.jit(order(lambda w: simulated(w, x)))(w) for order in orders)
    assert np.count_nonzero(first)
    for other in others:
        assert_close(other, first)


def layers(w, x):
    return jnp.sin(jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, w)[0]).sum()


def remat_layers(w, x):
    return jnp.sin(jax.lax.scan(jax.checkpoint(lambda h, w: (jnp.tanh(h @ w), None)), x, w)[0]).sum()


def branches(w, x):
    return jax.lax.cond(x[0, 0] > 100, lambda: 0.0, lambda: jnp.sin(x @ w[0]).sum())


def scores(w, x):
    q, k = x @ w[0], x @ w[1]
    return jnp.sin(jax.nn.softmax(q @ k.T) @ x).sum()


def table(w, x):
    return jnp.sin(w[0][jnp.array([[0, 2], [2, 3]])] @ x.T).sum() ** 2


NETS = {f.__name__: f for f in (layers, remat_layers, branches, scores, table)}
EIGHT = (TensorSpec(8, per="channel"), TensorSpec(8, grid="affine"))
WIDER = 1.1  # so that no value is clipped that rounding moved, whose derivative is zero
KINDS = {
    "static": ((*EIGHT,), {}),
    "dynamic": ((EIGHT[0], TensorSpec(8, per="token", dynamic=True)), {}),
    "weights alone": ((EIGHT[0], None), {}),
    "lsq": ((*EIGHT,), {"quantizer": "lsq"}),
    "pact": ((*EIGHT,), {"quantizer": "pact"}),
}


@pytest.mark.parametrize(
    ("net", "kind"),
    [
        *(pytest.param(n, "static", marks=[pytest.mark.slow] * (i > 2)) for i, n in enumerate(NETS)),
        *(pytest.param("layers", k, marks=[pytest.mark.slow] * (i > 0)) for i, k in enumerate(KINDS)),
    ],
)
def test_at_eight_bits_second_derivatives_are_near_those_in_float(net, kind):
    specs, options = KINDS[kind]
    w, x = array(2, 6, 6, seed=5) / 2, array(5, 6, seed=6) / 2
    simulated = calibrated(NETS[net], w, x, *specs, wider=WIDER, **options)
    found, wanted = (jax.jit(jax.grad(slope(f)))(w, x) for f in (simulated, NETS[net]))
    scale = np.linalg.norm(wanted)
    assert scale > 0.1
    assert np.linalg.norm(found - wanted) < 0.1 * scale


def test_a_learned_step_has_a_second_derivative():
    w, x = array(6, 4, seed=7), array(5, 6, seed=8)
    q = qat.quantize(lambda w, x: x @ w, qat.recipe("w4a4(quantizer='lsq', edges='same')"))
    state = q.calibrate(w, [x])

    def loss(learned, x):
        return jnp.sin(q.simulate(w, replace(state, learned=learned), x)).sum()

    found = jax.jit(jax.grad(slope(loss)))(state.learned, x)
    forward = jax.jit(lambda learned: jax.jvp(lambda v: slope(loss)(v, x), (learned,), (learned,)))(state.learned)[1]
    along = sum(jnp.vdot(found[key]["scale"], state.learned[key]["scale"]) for key in found)
    assert abs(along) > 0
    np.testing.assert_allclose(forward, along, rtol=1e-3)


@jax.custom_vjp
def doubled(x):
    """The identity, whose gradient counts twice."""
    return x


doubled.defvjp(lambda x: (x, None), lambda _, g: (2 * g,))


@jax.custom_jvp
def reversed_gradient(x):
    return x


reversed_gradient.defjvp(lambda primals, tangents: (reversed_gradient(*primals), -tangents[0]))


@jax.custom_vjp
def multiplied(x, by):
    """The identity, whose gradient counts `by` times."""
    return x


multiplied.defvjp(lambda x, by: (x, by), lambda by, g: (by * g, jnp.zeros_like(by)))

RULED = {
    "of a weight": lambda w, x: x @ doubled(w),
    "forward, of a weight turned round": lambda w, x: x @ reversed_gradient(w).T,
    "that an input sets, of a weight": lambda w, x: x @ multiplied(w, 2 * x[0, 0]),
    "of one use of a weight": lambda w, x: x @ w + 3 * (x @ doubled(w)),
    "of a row looked up": lambda w, x: doubled(w)[jnp.array([1, 0])] + x @ w,
    "of a layer": lambda w, x: jax.lax.scan(lambda h, v: (h @ doubled(v), None), x, jnp.stack([w, w]))[0],
    "of one use of an activation": lambda w, x: x @ w + 3 * (reversed_gradient(x) @ w),
}


@pytest.mark.parametrize("case", RULED)
def test_an_identity_with_a_gradient_of_its_own_keeps_it(case):
    fn, w, x = RULED[case], jnp.array([[1.0, 0.5], [0.25, 1.0]]), jnp.array([[1.0, 2.0], [3.0, 4.0]])
    simulated = calibrated(fn, w, x, *EIGHT, wider=WIDER)
    found, wanted = (jax.grad(lambda w, x, f=f: f(w, x).sum(), (0, 1))(w, x) for f in (simulated, fn))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=0.03, atol=0.03)  # a step of 8 bits
