"""Settings of a run, and the optimizers and schedules they name."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from pydantic import ValidationError

from qat.train import ParamGroup, TrainConfig, matching, optimizers, schedules
from qat.train.optimizer import grouped, warmed_up


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
        ({"optimizer": "adammw"}, "Unknown optimizer 'adammw'.*Did you mean 'adamw'"),
        ({"optimizer": "sgd(speed=1)"}, "unexpected keyword argument 'speed'"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"warmup_steps": 20}, "`warmup_steps` must be less than `steps`, got 20 of 20"),
        ({"accumulate": 3}, "`accumulate` must divide `batch_size`, got 3 and 8"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"ema_decay": 1.0}, "less than 1"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"stepz": 4}, "stepz"),
        ({"groups": [{"match": "(", "rate": 0.1}]}, "`match` must be a regular expression"),
        ({"groups": [{"match": "w", "optimizer": "adamm"}]}, "Unknown optimizer 'adamm'.*Did you mean 'adamw?'"),
        ({"groups": [{"match": "w", "rates": 2.0}]}, "rates"),
    ],
    ids=lambda x: str(x)[:30],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        TrainConfig(**{"steps": 20, "batch_size": 8, **settings})


PARAMS = {"kernel": jnp.ones((3, 2)), "learned": {"scale": jnp.ones(3)}}


def updates(groups, weight_decay=0.1, optimizer="sgd"):
    tx: Any = grouped(optimizer, groups, weight_decay)
    grads = jax.tree.map(lambda p: 0.5 * jnp.ones_like(p), PARAMS)
    return tx.update(grads, tx.init(PARAMS), PARAMS)[0]


def test_a_group_has_a_rate_and_a_decay_of_its_own_and_the_rest_stays_as_it_was():
    plain = updates(())
    own = updates((ParamGroup(match=r"^learned/", rate=0.1), ParamGroup(match="kernel", weight_decay=0.0)))
    np.testing.assert_allclose(own["learned"]["scale"], 0.1 * plain["learned"]["scale"])
    np.testing.assert_allclose(plain["kernel"], 0.6)
    np.testing.assert_allclose(own["kernel"], 0.5)
    other = updates((ParamGroup(match="nothing of the kind", rate=0.0),))
    assert jax.tree.all(jax.tree.map(np.array_equal, other, plain))


def test_a_group_may_have_another_optimizer_and_the_first_that_matches_counts():
    own = updates((ParamGroup(match="scale", optimizer="lion"), ParamGroup(match="learned", rate=0.0)))
    np.testing.assert_allclose(own["learned"]["scale"], 1.0)  # the sign of the gradient
    assert [g.match for g in matching([ParamGroup(match="kernel"), ParamGroup(match="bias")], PARAMS)] == ["kernel"]


def test_muon_makes_a_kernel_s_update_orthogonal_and_treats_a_convolution_s_as_a_matrix():
    rng = np.random.default_rng(0)
    params = {"dense": jnp.zeros((12, 4)), "conv": jnp.zeros((2, 2, 3, 4)), "bias": jnp.zeros(4)}
    grads = {name: jnp.asarray(rng.normal(size=p.shape), jnp.float32) for name, p in params.items()}
    grads["conv"] = grads["dense"].reshape(2, 2, 3, 4)
    tx: Any = grouped("muon", (), 0.0)
    found, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(found["conv"].reshape(12, 4), found["dense"], rtol=1e-5)
    assert np.sum(found["dense"] * grads["dense"]) > 0  # subtracted, it lowers the loss
    spectrum = np.linalg.svd(found["dense"], compute_uv=False)
    assert spectrum.max() < 2 * spectrum.min()  # the gradient's own spectrum is wider


def test_a_group_warms_up_by_itself():
    params: Any = {"kernel": jnp.ones(2), "learned": jnp.ones(2)}
    tx = grouped("sgd(momentum=0)", (ParamGroup(match="learned", rate=0.1, warmup_steps=4),), 0.0)
    state, rates = tx.init(params), []
    for _ in range(6):
        updates: Any
        updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
        rates.append((float(updates["kernel"][0]), float(updates["learned"][0])))
    np.testing.assert_allclose(rates, [(1, 0.1 * r) for r in (0.25, 0.5, 0.75, 1, 1, 1)], rtol=1e-6)
