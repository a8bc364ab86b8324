"""Runs that are trained together end as each ends alone, and one that goes wrong ends alone."""

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat.data import Batches
from qat.data.source import Columns
from qat.train import Fit, FitResult, ParamGroup, TrainConfig, fit_together

RNG = np.random.default_rng(0)
ROWS = Columns({"x": RNG.normal(size=(50, 6)).astype(np.float32), "y": RNG.normal(size=(50, 3)).astype(np.float32)})
CONFIG = TrainConfig(steps=23, batch_size=8, log_every=5, checkpoint_every=10, warmup_steps=2, freeze_bn_step=12)


@dataclass(frozen=True)
class Streamed:
    """Batches that are not rows of a table."""

    batches: Batches

    def __getitem__(self, step: int):
        return self.batches[step]


def loss(params, state, batch, key, *, frozen: bool):
    hidden = jnp.tanh(batch["x"] @ params["w"]) * jax.random.bernoulli(key, 0.9, (*batch["x"].shape[:1], 5))
    mean = state["mean"] if frozen else 0.9 * state["mean"] + 0.1 * hidden.mean(0)
    error = ((hidden - mean) @ params["v"] - batch["y"]) ** 2
    return error.mean(), ({**state, "mean": mean}, {"worst": error.max()})


def run(seed: int, **changes) -> Fit:
    rng = np.random.default_rng(seed)
    params = {"w": rng.normal(size=(6, 5)).astype(np.float32), "v": rng.normal(size=(5, 3)).astype(np.float32)}
    state = {"mean": np.zeros(5, np.float32), "key": jax.random.key(seed), "nothing": np.zeros((0, 3), np.float32)}
    config = CONFIG.model_copy(update={"seed": seed, **changes})
    return Fit(loss=loss, params=params, state=state, batches=Batches(ROWS, 8, seed), config=config)


def alone(one: Fit):
    return one.alone()


def arrays(result):
    leaves = jax.tree.leaves({**vars(result), "how": None})
    return [jax.random.key_data(x) if jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key) else x for x in leaves]


def assert_same(found, want) -> None:
    for a, b in zip(arrays(found), arrays(want), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def three():
    """Runs that differ in numbers, and the results of each alone."""
    runs = [run(0), run(1, learning_rate=0.1), run(2, weight_decay=0.5, clip_norm=None, steps=17)]
    return runs, [alone(one) for one in runs]


def test_each_run_ends_with_the_numbers_of_fit(three):
    for found, want in zip(fit_together(three[0], chunk=7), three[1], strict=True):
        assert_same(found, want)


@pytest.mark.slow
def test_streamed_batches_give_the_same(three):
    runs = [replace(one, batches=Streamed(one.batches)) for one in three[0]]
    for found, want in zip(fit_together(runs, chunk=7), three[1], strict=True):
        assert_same(found, want)


@pytest.mark.slow
def test_by_vmap_the_numbers_are_close(three):
    for found, want in zip(fit_together(three[0], "vmap", chunk=7), three[1], strict=True):
        assert isinstance(found, FitResult)
        assert found.step == want.step
        np.testing.assert_allclose(found.params["w"], want.params["w"], rtol=1e-4)


@pytest.mark.slow
def test_averages_and_micro_batches_are_those_of_fit():
    runs = [run(seed, ema_decay=0.9 + seed / 100, accumulate=2) for seed in (0, 1)]
    for found, one in zip(fit_together(runs), runs, strict=True):
        assert_same(found, alone(one))


def test_a_run_that_is_not_finite_ends_with_the_error_of_fit_and_the_others_go_on(three):
    bad = run(1, learning_rate=1e38, clip_norm=None)
    with pytest.raises(FloatingPointError) as want:
        alone(bad)
    first, failed, last = fit_together([three[0][0], bad, three[0][2]], chunk=7)
    assert isinstance(failed, FloatingPointError)
    assert str(failed) == str(want.value)
    assert_same(first, three[1][0])
    assert_same(last, three[1][2])


def test_runs_go_on_from_their_own_checkpoints_and_from_those_of_fit(three, tmp_path):
    def stop(step, metrics):
        if step == 15:
            raise InterruptedError

    runs = [replace(one, checkpoints=tmp_path / str(number)) for number, one in enumerate(three[0])]
    stopped, *_ = fit_together([replace(runs[0], on_metrics=stop), *runs[1:2], three[0][2]], chunk=7)
    assert isinstance(stopped, InterruptedError)
    alone(runs[2])
    told: list[int] = []
    again = fit_together([replace(runs[0], on_metrics=lambda step, _: told.append(step)), *runs[1:]], chunk=7)
    assert told == [15, 20, 23]  # it had been saved after 10 steps
    for found, want in zip(again, three[1], strict=True):
        assert_same(found, want)
    assert_same(alone(runs[0]), three[1][0])  # a finished one returns at once


def test_runs_of_several_programs_are_refused():
    with pytest.raises(ValueError, match="runs of one program"):
        fit_together([run(0), run(1, optimizer="sgd")])
    with pytest.raises(ValueError, match="`chunk` must be at least 1"):
        fit_together([run(0)], chunk=0)


@pytest.mark.slow
def test_a_chunk_longer_than_the_training_is_cut(three):
    assert_same(fit_together([run(0)], chunk=10_000)[0], three[1][0])


def test_runs_share_a_program_where_they_differ_in_numbers_alone():
    assert run(0).program == run(1, learning_rate=0.5, weight_decay=0.0, steps=40, warmup_steps=0).program
    others = [run(0, optimizer="sgd"), run(0, accumulate=2), run(0, ema_decay=0.5)]
    others += [replace(run(0), params={"w": np.zeros((6, 5), np.float32)}), replace(run(0), loss=lambda *_: None)]
    others += [replace(run(0), batches=Batches(Columns({**ROWS.arrays, "z": np.zeros(50)}), 8, 0))]
    assert run(0).program not in {one.program for one in others}


def test_a_program_for_more_runs_takes_fewer_and_the_end_is_saved_unless_told(three, tmp_path):
    places = [tmp_path / str(number) for number in (0, 1)]
    runs = [replace(three[0][0], checkpoints=place, save_end=not i) for i, place in enumerate(places)]
    for found in (*fit_together(runs, chunk=7, size=3), replace(runs[0], save_end=False).alone()):
        assert_same(found, three[1][0])
    assert [sorted(int(path.name) for path in place.iterdir()) for place in places] == [[20, 23], [10, 20]]


def test_a_run_that_cannot_begin_ends_alone(three):
    bad = run(1, groups=(ParamGroup(match="nothing like it"),))
    first, second = fit_together([bad, replace(bad, config=CONFIG.model_copy(update={"groups": bad.config.groups}))])
    assert "no parameter is left" in str(first)
    assert "no parameter is left" in str(second)


SHARED = """
import sys
sys.path[:0] = sys.argv[1:]
import jax
import test_together as here

assert jax.local_device_count() == 4
runs = [here.run(seed, devices=1, steps=12 + seed, freeze_bn_step=None) for seed in range(5)]
for found, run in zip(here.fit_together(runs, chunk=7, size=6), runs, strict=True):
    here.assert_same(found, run.alone())
"""


@pytest.mark.slow
def test_several_devices_share_the_runs_and_each_ends_as_alone():
    flags = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", SHARED, str(Path(__file__).parent)]
    ended = subprocess.run(command, env=flags, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
