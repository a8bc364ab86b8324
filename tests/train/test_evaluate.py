"""`evaluate`: every example once, one compiled shape."""

import jax.numpy as jnp
import numpy as np
import pytest

from qat.train import evaluate, per_example

X = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)


def batches(size):
    return ({"x": X[i : i + size]} for i in range(0, len(X), size))


def projection(w, batch):
    return {"value": batch["x"] @ w, "positive": batch["x"] @ w > 0}


@pytest.mark.parametrize("size", [1, 3, 5, 10, 16])
def test_the_mean_counts_every_example_once_whatever_the_batch_size(size):
    value = X @ np.ones(4, np.float32)
    found = evaluate(projection, jnp.ones(4), batches(size))
    np.testing.assert_allclose(found["value"], value.mean(), rtol=1e-5)  # float32 products
    assert found["positive"] == np.mean(value > 0)


def test_per_example_values_come_in_the_order_of_the_examples():
    found = per_example(projection, jnp.ones(4), batches(4))
    np.testing.assert_allclose(found["value"], X.sum(1), rtol=1e-5, atol=1e-6)
    assert found["positive"].shape == (10,)


def test_a_short_last_batch_and_other_weights_compile_nothing_new():
    traces = []

    def metric(w, batch):
        traces.append(batch["x"].shape)
        return projection(w, batch)

    evaluate(metric, jnp.ones(4), batches(4))
    evaluate(metric, jnp.zeros(4), batches(4))
    assert traces == [(4, 4)]


def test_filling_leaves_the_range_over_the_batch_as_it_is():
    def spread(w, batch):
        x = batch["x"]
        return {"range": jnp.broadcast_to(x.max() - x.min(), x.shape[:1])}

    found = per_example(spread, jnp.ones(4), batches(7))["range"]
    np.testing.assert_array_equal(found[7:], np.full(3, np.ptp(X[7:])))


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(ValueError, match="at least one batch, got none"):
        evaluate(projection, jnp.ones(4), [])
    with pytest.raises(ValueError, match=r"one value per example, arrays \[5, ...\], got shapes {'mean': \(\)}"):
        evaluate(lambda w, batch: {"mean": batch["x"].mean()}, jnp.ones(4), batches(5))
    with pytest.raises(ValueError, match="batch 1 has 4 examples, the first 2"):
        evaluate(projection, jnp.ones(4), [{"x": X[:2]}, {"x": X[:4]}])
    with pytest.raises(ValueError, match=r"equally many examples.*batch 0 has \[2, 3\]"):
        evaluate(projection, jnp.ones(4), [{"x": X[:2], "y": X[:3]}])
