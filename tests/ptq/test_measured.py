"""Measured sensitivity is the loss of that very recipe, from one program; estimates are their formulas."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat import quantize
from qat.ptq import sensitivity
from qat.ptq.estimates import estimate
from qat.ptq.groups import Width
from qat.ptq.sensitivity import measure, partly_float, set_up
from qat.recipes.presets import recipe

DIM = 8


def network(params, x):
    h = jax.nn.relu(x @ params["first"])
    return jax.nn.relu(h @ params["second"]) @ params["third"]


def loss(outputs, target):
    return ((outputs - target) ** 2).mean()


def case(name="w4a4(edges='same', observer='minmax')", widths=(2, 4, 8)):
    keys = jax.random.split(jax.random.key(0), 6)
    params = {k: jax.random.normal(key, (DIM, DIM)) for k, key in zip(("first", "second", "third"), keys, strict=False)}
    inputs = [jax.random.normal(key, (16, DIM)) for key in keys[3:]]
    batches = [((x,), network(params, x)) for x in inputs]
    q = quantize(network, recipe(name))
    return q, params, inputs, set_up(q, params, inputs, batches, loss, widths)


@pytest.mark.parametrize(
    "name",
    [
        "w4a4(observer='minmax')",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("w4a4(quantizer='lsq', observer='minmax')", "w4", "w4a4_dynamic(edges='same')")
        ),
    ],
)
def test_a_change_is_the_loss_of_the_recipe_with_that_width_less_the_recipes_own(name):
    _, params, inputs, setup = case(name)

    def exact(choices):
        one = quantize(network, setup.recipe(choices))
        state = one.calibrate(params, inputs)
        return [float(loss(one.simulate(params, state, *x), y)) for x, y in setup.batches]

    start, found = exact(setup.own), measure(setup)
    sides = {"float", "weights"} | ({"activations"} if "a4" in name else set())
    assert {change.side for change in found} == sides
    for change in found:
        i = setup.groups.index(change.group)
        now = setup.own[i]
        by_side = {
            "float": None,
            "weights": Width(change.bits, now.activations),
            "activations": Width(now.weights, change.bits),
        }
        choice = by_side[change.side]
        want = np.subtract(exact([*setup.own[:i], choice, *setup.own[i + 1 :]]), start)
        assert change.losses == pytest.approx(want, rel=1e-4, abs=1e-6)
        assert change.interval is not None and change.interval[0] <= change.mean <= change.interval[1]


def test_around_float_each_tensor_alone_is_rounded():
    _, _, _, setup = case()
    found = measure(setup, [None] * len(setup.groups))
    assert {change.side for change in found} == {"weights", "activations"}
    assert len(found) == len(setup.groups) * 2 * len(setup.widths)
    worst = max(found, key=lambda change: change.mean)
    assert worst.bits == 2 and all(change.mean > -1e-6 for change in found)  # the float loss is zero


def test_all_widths_and_float_run_one_compiled_program():
    _, _, _, setup = case()
    compiled: Any = sensitivity._loss
    compiled.clear_cache()
    measure(setup)
    assert compiled._cache_size() == 1


def test_flags_choose_between_the_simulated_and_the_float_function():
    q, params, inputs, setup = case()
    x, keys = inputs[0], setup.states[4].clips

    def run(flag):
        return partly_float(q.program, params, setup.states[4].bare, dict.fromkeys(keys, jnp.asarray(flag)), (x,))

    assert (run(False) == q.simulate(params, q.adopt(setup.states[4]), x)).all()
    assert np.allclose(run(True), network(params, x), rtol=1e-5)


def test_what_cannot_be_measured_is_refused():
    q, params, inputs, setup = case()
    with pytest.raises(ValueError, match="must hold a batch"):
        set_up(q, params, inputs, [], loss)
    with pytest.raises(ValueError, match=r"`widths` must be whole numbers in \[2, 8\], got 9"):
        set_up(q, params, inputs, setup.batches, loss, (2, 9))


def test_estimates_are_sums_of_gradient_times_rounding_error_of_each_example():
    """One layer whose loss is linear, so that gradients are known: of the weight x, of the activation the weights."""

    def dot(params, x):
        return x @ params["w"]

    def linear(outputs, target):
        return (outputs * target).sum()

    params, x = {"w": jax.random.normal(jax.random.key(0), (6, 1))}, jax.random.normal(jax.random.key(1), (5, 6))
    target = jax.random.normal(jax.random.key(2), (5, 1))
    q = quantize(dot, recipe("w4a4(edges='same')"))
    setup = set_up(q, params, [x], [((x,), target)], linear, (2, 4))
    group, (at_2, at_4) = setup.groups[0], (setup.states[bits].clips["w"] for bits in (2, 4))
    w = np.asarray(params["w"])[:, 0]

    def rounded(clip):
        step = float(np.max(clip.high)) / float(clip.qmax)
        return np.clip(np.round(w / step), float(clip.qmin), float(clip.qmax)) * step

    g = np.asarray(x * target)  # by example
    d2, d4 = rounded(at_2) - w, rounded(at_4) - w
    found = estimate(setup, [None])
    both = Width(2, None), Width(4, None)
    for d, choice in zip((d2, d4), both, strict=True):
        assert found.change("fisher", group, choice) == pytest.approx(((g * d) ** 2).sum(1).mean() / 2, rel=1e-3)
        assert found.change("gauss_newton", group, choice) == pytest.approx(((g @ d) ** 2).mean() / 2, rel=1e-3)
        want = (g @ d).mean() + ((g @ d) ** 2).mean() / 2
        assert found.change("taylor", group, choice) == pytest.approx(want, rel=1e-3)
    assert found.change("taylor", group, None) == 0


def test_estimates_order_tensors_as_measurements_do():
    _, _, _, setup = case(widths=(2, 3, 4, 6, 8))
    around = [None] * len(setup.groups)
    found, measured = estimate(setup, around), measure(setup, around)
    by_estimate = [
        found.change("taylor", c.group, Width(c.bits, None) if c.side == "weights" else Width(None, c.bits))
        for c in measured
    ]
    pairs = itertools.combinations(range(len(measured)), 2)
    agree = [(measured[i].mean - measured[j].mean) * (by_estimate[i] - by_estimate[j]) >= 0 for i, j in pairs]
    assert np.mean(agree) > 0.85
