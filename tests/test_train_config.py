"""Settings of a run, and the optimizers and schedules they name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from pydantic import ValidationError

from qat.train import TrainConfig, optimizers, schedules
from qat.train.schedule import warmed_up


@pytest.mark.parametrize("name", optimizers.names())
def test_weight_decay_shrinks_kernels_and_leaves_biases_and_scales(name):
    params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(3), "scale": jnp.ones((1, 1, 3)), "table": jnp.ones((5, 4))}
    tx = optimizers.build(name, weight_decay=0.1)
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    assert {
        jax.tree_util.keystr(path, simple=True)
        for path, u in jax.tree_util.tree_leaves_with_path(updates)
        if jnp.any(u != 0)
    } == {"kernel", "table"}


def test_cosine_with_warmup_is_that_of_optax():
    factor = warmed_up(schedules.build("cosine(end=0.1)"), warmup_steps=5, steps=40)
    theirs = optax.warmup_cosine_decay_schedule(0.2, 1.0, warmup_steps=4, decay_steps=40, end_value=0.1)
    np.testing.assert_allclose([factor(s) for s in range(4)], np.array([theirs(s) for s in range(4)]), rtol=1e-6)
    after = optax.cosine_decay_schedule(1.0, 35, alpha=0.1)
    np.testing.assert_allclose([factor(5 + s) for s in range(35)], np.array([after(s) for s in range(35)]), rtol=1e-5)


@pytest.mark.parametrize("name", schedules.names())
def test_every_schedule_starts_at_the_peak_rate(name):
    assert schedules.build(name)(0.0) == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adamv"}, "Unknown optimizer 'adamv'.*Did you mean 'adamw'"),
        ({"optimizer": "sgd(speed=1)"}, "unexpected keyword argument 'speed'"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"warmup_steps": 20}, "`warmup_steps` must be less than `steps`, got 20 of 20"),
        ({"accumulate": 3}, "`accumulate` must divide `batch_size`, got 3 and 8"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"ema_decay": 1.0}, "less than 1"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"stepz": 4}, "stepz"),
    ],
    ids=lambda x: str(x)[:30],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        TrainConfig(**{"steps": 20, "batch_size": 8, **settings})
