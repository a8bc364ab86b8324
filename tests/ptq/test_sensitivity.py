"""Which layers get more bits: measured on the loss, within a share of the weights."""

import jax
import jax.numpy as jnp
import pytest

from qat import quantize
from qat.ptq.mixed_precision import Sensitivity, most_sensitive, raise_layers, sensitivities
from qat.recipes.layer_bits import raise_bits
from qat.recipes.presets import recipe

WIDTH = 16
LOW = "w3a3(edges='same')"


def network(params, x):
    """Three layers, of which a few inputs of the second are far out."""
    h = jax.nn.relu(x @ params["first"])
    h = h * jnp.where(jnp.arange(WIDTH) == 0, 30.0, 1.0)
    return jax.nn.relu(h @ params["second"]) @ params["third"]


def loss(outputs, batch):
    return ((outputs - batch) ** 2).mean()


def case(name=LOW):
    keys = jax.random.split(jax.random.key(0), 5)
    params = {
        k: jax.random.normal(key, (WIDTH, WIDTH)) for k, key in zip(("first", "second", "third"), keys[:3], strict=True)
    }
    params["second"] = params["second"].at[0].multiply(1 / 30)
    inputs = [jax.random.normal(key, (32, WIDTH)) for key in keys[3:]]
    batches = [((x,), network(params, x)) for x in inputs]
    low, high = (
        quantize(network, rules) for rules in (recipe(name), raise_bits(recipe(name), ["first", "second", "third"]))
    )
    return low, params, (low.calibrate(params, inputs), high.calibrate(params, inputs)), batches


def test_a_gain_is_what_the_loss_loses_with_that_layer_alone_at_more_bits():
    q, params, states, batches = case()
    found, total = sensitivities(q, params, states, batches, loss)

    def mean(rules):
        one = quantize(network, rules)
        state = one.calibrate(params, [inputs for inputs, _ in batches])
        return sum(float(loss(one.simulate(params, state, *x), y)) for x, y in batches) / len(batches)

    assert [s.path for s in found] == [s.path for s in sorted(found, key=lambda s: -s.gain)]
    assert {s.path: s.weights for s in found} == dict.fromkeys(params, WIDTH**2)
    for one in found:
        assert one.gain == pytest.approx(mean(recipe(LOW)) - mean(raise_bits(recipe(LOW), [one.path])), rel=1e-4)
    assert total == pytest.approx(mean(recipe(LOW)) - mean(raise_bits(recipe(LOW), list(params))), rel=1e-4)


def test_layers_that_have_the_bits_already_are_not_among_them():
    q, params, states, batches = case("w3a3(edges='same', bits={'third': (8, 8)})")
    assert {s.path for s in sensitivities(q, params, states, batches, loss)[0]} == {"first", "second"}


def test_nothing_is_measured_on_no_batch_or_with_a_state_of_another_recipe():
    q, params, states, batches = case()
    with pytest.raises(ValueError, match="`batches` is empty"):
        sensitivities(q, params, states, [], loss)
    dynamic = quantize(network, recipe("w3a3_dynamic(edges='same')"))
    other = dynamic.calibrate(params, [batches[0][0]])
    with pytest.raises(ValueError, match="does not fit its static range"):
        sensitivities(q, params, (states[0], other), batches, loss)


LAYERS = [Sensitivity("a", 5.0, 60), Sensitivity("b", 3.0, 10), Sensitivity("c", 1.0, 25), Sensitivity("d", 0.1, 5)]


@pytest.mark.parametrize(
    ("share", "chosen"), [(0.05, []), (0.1, ["b"]), (0.35, ["b", "c"]), (0.6, ["a"]), (1.0, ["a", "b", "c"])]
)
def test_layers_are_taken_by_gain_as_many_as_fit_the_share_of_the_weights(share, chosen):
    assert most_sensitive(LAYERS, 9.0, share) == chosen


def test_layers_that_gain_nothing_are_left_as_they_are():
    assert most_sensitive([Sensitivity("a", -1.0, 1), Sensitivity("b", 0.0, 1)], -1.0, 1.0) == []


@pytest.mark.parametrize(("name", "bits"), [("w4", (8, None)), ("w4a4", (8, 8)), ("w4a4_dynamic", (8, 8))])
def test_a_raised_layer_has_8_bits_in_all_that_the_recipe_quantizes(name, bits):
    params, x = case()[1], jnp.ones((2, WIDTH))
    sites = {s.path: s for s in quantize(network, raise_bits(recipe(name), ["second"])).sites(params, x)}
    assert (sites["second"].weight_bits, sites["second"].activation_bits) == bits
    assert raise_bits(recipe(name), []) == recipe(name)


def test_a_raised_state_is_that_of_the_raised_recipe():
    q, params, states, batches = case()
    x = batches[0][0]
    mixed = raise_layers(q, params, x, states, ["second"])
    exact = quantize(network, raise_bits(recipe(LOW), ["second"]))
    state = exact.calibrate(params, [inputs for inputs, _ in batches])
    assert (q.simulate(params, mixed, *x) == exact.simulate(params, state, *x)).all()
