"""Data parallel training: several devices give what one gives."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat.train import TrainConfig, fit

ROOT = Path(__file__).parents[2]
SETTINGS = {"steps": 4, "batch_size": 16, "optimizer": "sgd", "learning_rate": 0.1, "ema_decay": 0.5}


class Stream:
    def __getitem__(self, step):
        x = np.random.default_rng(step).normal(size=(16, 6)).astype(np.float32)
        return {"x": x, "y": x[:, :1] ** 2}


def normalized_loss(params, state, batch, key, *, frozen):
    """Has statistics over the batch, as batch normalization has, so that the devices must talk."""
    hidden = batch["x"] @ params["in"]
    mean, var = hidden.mean(0), hidden.var(0)
    hidden = jnp.maximum((hidden - mean) / jnp.sqrt(var + 1e-3), 0)
    return jnp.mean((hidden @ params["out"] - batch["y"]) ** 2), ({"mean": 0.9 * state["mean"] + 0.1 * mean}, {})


def train(**settings):
    kernel = np.random.default_rng(99).normal(size=(6, 16)).astype(np.float32)
    params, state = {"in": kernel, "out": kernel[:1].T}, {"mean": np.zeros(16, np.float32)}
    return fit(normalized_loss, params, state, Stream(), TrainConfig(**{**SETTINGS, **settings}), progress=False)


def compare():
    """Runs in a process that has four devices."""
    assert jax.local_device_count() == 4
    for accumulate in (1, 2):
        one, four = (train(devices=devices, accumulate=accumulate) for devices in (1, None))
        for name in ("params", "state", "ema_params"):
            # Means over the batch are summed in another order: float32 rounding, a few steps deep.
            np.testing.assert_allclose(*map(flat, (getattr(one, name), getattr(four, name))), rtol=1e-4, atol=1e-6)
        assert {len(leaf.devices()) for leaf in jax.tree.leaves(four.params)} == {1}
    with pytest.raises(ValueError, match="`batch_size` must be divisible by devices x `accumulate` = 4 x 1, got 18"):
        train(batch_size=18)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_four_devices_give_the_result_of_one():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.run(
        [sys.executable, "-c", "import test_devices; test_devices.compare()"],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr


def test_more_devices_than_there_are_is_refused():
    with pytest.raises(ValueError, match=r"`devices` must be at most .*, got 1000"):
        train(devices=1000)
