"""Running statistics of the simulated network: the batches' own, whatever the module and its momentum."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from qat import ptq, quantize, recipe
from qat.core.statistics import statistics_of
from qat.ptq import Subject
from qat.ptq.reestimate_bn import simulated_update

RECIPE = "w2a4(edges='same', observer='minmax')"


class Net(nn.Module):
    """Two dense layers with a norm between them."""

    momentum: float

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(8, name="first")(x)
        x = nn.BatchNorm(not train, momentum=self.momentum, name="norm")(x)
        return nn.Dense(4, name="second")(nn.relu(x))


def batches():
    sizes = (32, 16)
    keys = jax.random.split(jax.random.key(1), len(sizes))
    return [i + (1 + i) * jax.random.normal(k, (n, 6)) for i, (k, n) in enumerate(zip(keys, sizes, strict=True))]


def linen(momentum, rules=RECIPE):
    net = Net(momentum)
    variables = net.init(jax.random.key(0), jnp.ones((2, 6)))
    q = quantize(net.apply, recipe(rules))
    training = quantize(lambda v, x: net.apply(v, x, train=True, mutable=["batch_stats"]), recipe(rules))
    return Subject(q, training), variables, q.calibrate(variables, batches())


def before_the_norm(subject, variables, state):
    """The simulated values that the norm sees, of all batches."""
    first = quantize(lambda v, x: Net(0.9).apply(v, x, capture_intermediates=True, mutable=True)[1], subject.q.recipe)
    found = [first.simulate(variables, state, x)["intermediates"]["first"]["__call__"][0] for x in batches()]
    return jnp.concatenate(found)


@pytest.mark.parametrize("momentum", [0.0, pytest.param(0.9, marks=pytest.mark.slow), 0.999])
def test_statistics_are_those_of_the_simulated_values_of_all_batches(momentum):
    subject, variables, state = linen(momentum)
    found = ptq.apply(("reestimate_bn",), subject, variables, state, batches())
    x = before_the_norm(subject, variables, state)
    got = found.params["batch_stats"]["norm"]
    assert jnp.allclose(got["mean"], x.mean(0), rtol=1e-4, atol=1e-5)
    assert jnp.allclose(got["var"], x.var(0), rtol=1e-3)  # at 0.999 the batch is a thousandth of what is read
    assert found.steps[0].changed == ("batch_stats/norm/mean", "batch_stats/norm/var")
    assert found.params["params"] is not None
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), found.params["params"], variables["params"]))


def test_ranges_are_calibrated_anew_for_activations_alone():
    subject, variables, state = linen(0.9)
    found = ptq.apply(("reestimate_bn",), subject, variables, state, batches())
    kept = ptq.apply(("reestimate_bn(ranges=False)",), subject, variables, state, batches())
    anew = subject.q.calibrate(found.params, batches())
    assert found.state.clips["Net/second:dot_general:0/lhs"].high == anew.clips["Net/second:dot_general:0/lhs"].high
    assert found.state.clips["Net/second:dot_general:0/lhs"].high != state.clips["Net/second:dot_general:0/lhs"].high
    assert kept.state.clips["Net/second:dot_general:0/lhs"].high == state.clips["Net/second:dot_general:0/lhs"].high
    weight = "params/second/kernel"
    assert found.state.clips[weight] is state.clips[weight]


def test_nnx_modules_have_the_same_statistics():
    class Own(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(6, 8, rngs=rngs)
            self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
            self.second = nnx.Linear(8, 4, rngs=rngs)

        def __call__(self, x):
            return self.second(nnx.relu(self.norm(self.first(x))))

    graph, start = nnx.split(Own(nnx.Rngs(0)))

    def inference(state, x):
        model = nnx.merge(graph, state)
        model.eval()
        return model(x)

    def train(state, x, kinds):
        model = nnx.merge(graph, state)
        model.train()
        return model(x), nnx.state(model, *kinds)

    q = quantize(inference, recipe(RECIPE))
    state = q.calibrate(start, batches())
    # A training function may return the statistics alone or the whole model.
    for kinds in ((nnx.BatchStat,), ()):
        training = quantize(lambda s, x, kinds=kinds: train(s, x, kinds), recipe(RECIPE))
        found = ptq.apply(("reestimate_bn",), Subject(q, training), start, state, batches())
        assert found.steps[0].changed == ("norm/mean", "norm/var")
        x = jnp.concatenate([nnx.merge(graph, start).first(x) for x in batches()])
        # Two bits move the values, but nothing near as far as from the statistics of an untrained norm, 0 and 1.
        moved = nnx.merge(graph, found.params).norm
        assert jnp.abs(moved.mean[...] - x.mean(0)).max() < 0.6 * jnp.abs(x.mean(0)).max()
        assert (moved.var[...] > 0).all()
        assert not jnp.allclose(moved.var[...], 1.0)


def test_statistics_apart_from_the_weights_are_found():
    net = Net(0.9)
    variables = net.init(jax.random.key(0), jnp.ones((2, 6)))
    both = (variables["params"], variables["batch_stats"])

    def training(pair, x):
        return net.apply({"params": pair[0], "batch_stats": pair[1]}, x, train=True, mutable=["batch_stats"])

    q = quantize(lambda pair, x: net.apply({"params": pair[0], "batch_stats": pair[1]}, x), recipe(RECIPE))
    subject = Subject(q, quantize(lambda pair, x: (lambda y, s: (y, s["batch_stats"]))(*training(pair, x)), q.recipe))
    found = ptq.apply(("reestimate_bn",), subject, both, q.calibrate(both, batches()), batches())
    assert found.steps[0].changed == ("1/norm/mean", "1/norm/var")


def test_a_model_without_statistics_is_refused_before_long_work():
    def plain(params, x):
        return x @ params["w"]

    params = {"w": jnp.ones((6, 4))}
    q = quantize(plain, recipe(RECIPE))
    state = q.calibrate(params, batches())
    training = quantize(lambda p, x: (plain(p, x), {}), recipe(RECIPE))
    with pytest.raises(ValueError, match=r"there are no running statistics.*before their norms are folded"):
        ptq.apply(("reestimate_bn",), Subject(q, training), params, state, batches())
    with pytest.raises(ValueError, match="needs more than the quantized function: `training`"):
        ptq.apply(("reestimate_bn",), q, params, state, batches())
    with pytest.raises(ValueError, match=r"must return \(outputs, statistics\)"):
        ptq.apply(("reestimate_bn",), Subject(q, q), params, state, batches())


def test_an_update_that_is_no_moving_average_is_left_and_refused_where_there_is_no_other():
    def training(params, x):
        h = x @ params["w"]
        return h, {"largest": jnp.maximum(params["largest"], h.max(0))}

    def both(params, x):
        h, moved = training(params, x)
        return h, {**moved, "mean": 0.9 * params["mean"] + 0.1 * h.mean(0)}

    params = {"w": jnp.ones((6, 4)), "largest": jnp.zeros(4), "mean": jnp.zeros(4)}
    q = quantize(lambda p, x: x @ p["w"] - p["largest"], recipe(RECIPE))
    subject = Subject(q, quantize(training, recipe(RECIPE)))
    with pytest.raises(
        ValueError, match=r"no running statistics.*'largest' is moved, but from 0 to .* of its old value remain"
    ):
        ptq.apply(("reestimate_bn",), subject, params, q.calibrate(params, batches()), batches())
    subject = Subject(q, quantize(both, recipe(RECIPE)))
    (step,) = ptq.apply(("reestimate_bn",), subject, params, q.calibrate(params, batches()), batches()).steps
    assert step.changed == ("mean",)
    assert list(step.left) == ["largest"]


def test_a_batch_counts_by_its_examples():
    subject, variables, state = linen(0.9)
    assert subject.training is not None
    same = [batches()[0]] * 2
    inputs = [(x,) for x in (same[0], same[0][:16])]
    update = simulated_update(subject.training, state)
    found = statistics_of(update, variables, inputs).values
    one, half = (statistics_of(update, variables, [pair]).values for pair in inputs)
    path = "batch_stats/norm/mean"
    assert jnp.allclose(found[path], (2 * one[path] + half[path]) / 3, rtol=1e-5, atol=1e-6)
