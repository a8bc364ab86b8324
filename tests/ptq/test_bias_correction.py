"""Biases take up the mean error of quantized layers; layers without one are named."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from zoo.parameters import linen_variables

from qat import ptq, quantize, recipe
from qat.core.plan import make_plan
from qat.ptq.bias_correction import find_taps

RULES = recipe("w2a4(edges='same', observer='minmax')")
FORMS = ("bias_correction", "bias_correction(sequential=False)")


class Net(nn.Module):
    """A convolution whose bias is the shift of its norm, heads with a bias of two axes, and a layer without any."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), use_bias=False, name="conv")(x)
        x = nn.relu(nn.BatchNorm(True, name="norm")(x)).mean((1, 2))
        x = nn.relu(nn.DenseGeneral((2, 4), name="heads")(x))
        x = nn.DenseGeneral(6, axis=(-2, -1), name="out")(x)
        return nn.relu(nn.Dense(6, use_bias=False, name="plain")(x))


def case():
    batches = [jax.random.normal(jax.random.key(i), (n, 6, 6, 3)) for i, n in ((1, 16), (2, 8))]
    net = Net()
    variables = linen_variables(net, batches[0])
    q = quantize(net.apply, RULES)
    return q, variables, q.calibrate(variables, batches), batches


def inner(q, variables, state, batches, simulated):
    """Means of the corrected values, over all batches."""
    net = quantize(lambda v, x: Net().apply(v, x, capture_intermediates=True, mutable=True)[1], RULES)
    run = (lambda x: net.simulate(variables, state, x)) if simulated else jax.jit(lambda x: net.fn(variables, x))
    found = [run(x)["intermediates"] for x in batches]
    layers = {"norm": (0, 1, 2), "heads": 0, "out": 0}
    return {
        name: jnp.concatenate([one[name]["__call__"][0] for one in found]).mean(axes) for name, axes in layers.items()
    }


@pytest.mark.parametrize("form", [FORMS[0], *(pytest.param(form, marks=pytest.mark.slow) for form in FORMS[1:])])
def test_no_corrected_layer_is_moved_on_average(form):
    q, variables, state, batches = case()
    found = ptq.apply((form,), q, variables, state, batches)
    (step,) = found.steps
    assert step.changed == ("Net/conv:conv:0", "Net/heads:dot_general:0", "Net/out:dot_general:0")
    assert step.left == {"Net/plain:dot_general:0": "no parameter is added before `max`"}
    exact = inner(q, variables, state, batches, simulated=False)
    before, after = (inner(q, params, state, batches, simulated=True) for params in (variables, found.params))
    for name, mean in exact.items():
        # In one pass each batch is corrected by itself, so that batches of two distributions leave a little.
        tolerance = 1e-5 if form == FORMS[0] else 0.1 * float(jnp.abs(before[name] - mean).max())
        assert jnp.abs(after[name] - mean).max() <= tolerance, name
        assert jnp.abs(before[name] - mean).max() > 100 * 1e-5
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), found.params, variables)
    changed = {jax.tree_util.keystr(p, simple=True, separator="/") for p, m in jax.tree.leaves_with_path(moved) if m}
    assert changed == {"params/norm/bias", "params/heads/bias", "params/out/bias"}


def shared(params, x):
    return jax.nn.relu(x @ params["a"] + params["b"]) @ params["c"] + params["b"]


def looped(params, x):
    return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w + params["b"]), None), x, params["w"])[0]


def joined(params, x):
    return x @ params["a"] + x + params["b"]


W = jax.random.normal(jax.random.key(0), (3, 4, 4))


@pytest.mark.parametrize(
    ("fn", "params", "why"),
    [
        (shared, {"a": W[0], "c": W[1], "b": jnp.ones(4)}, "no parameter is added before `max`"),
        (looped, {"w": W, "b": jnp.ones(4)}, "it stands in a loop or branch"),
        (joined, {"a": W[0], "b": jnp.ones(4)}, "no parameter is added before `add`"),
        (lambda p, x: x @ p["a"], {"a": W[0]}, "its result is used as it is, before any bias"),
    ],
    ids=["a bias of two layers", "a layer of a scan", "a sum of two", "the output"],
)
def test_layers_without_a_bias_of_their_own_are_left_and_a_model_of_such_is_refused(fn, params, why):
    x = jax.random.normal(jax.random.key(3), (8, 4))
    q = quantize(fn, RULES)
    taps, left = find_taps(make_plan(fn, RULES, params, (x,)), params)
    assert taps == ()
    assert why in left.values()
    with pytest.raises(ValueError, match="no quantized layer has a bias to shift"):
        ptq.apply(("bias_correction",), q, params, q.calibrate(params, [x]), [x])
