"""Runs killed by SIGKILL, at any step and in the middle of a save, end as if they had not been."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import kept

from qat.train import TrainConfig, fit

CONFIG = TrainConfig(
    steps=8, batch_size=8, accumulate=2, ema_decay=0.9, freeze_bn_step=5, checkpoint_every=2, log_every=3, devices=1
)


def noisy_loss(params, state, batch, key, *, frozen):
    noise = 0.1 * jax.random.normal(key, batch["x"].shape)
    hidden = jnp.tanh((batch["x"] + noise) @ params["in"]["kernel"])
    mean = state["mean"] if frozen else 0.9 * state["mean"] + 0.1 * hidden.mean(0)
    return jnp.mean(((hidden - mean) @ params["out"] - batch["y"]) ** 2), ({**state, "mean": mean}, {})


class Stream:
    """Random batches by step; asking for batch `fatal` kills the process."""

    def __init__(self, fatal=None):
        self.fatal = fatal

    def __getitem__(self, step):
        if step == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        x = np.random.default_rng(step).normal(size=(8, 4)).astype(np.float32)
        return {"x": x, "y": x[:, :2]}


def train(folder, batches=None, config=CONFIG, **kwargs):
    kernel = np.random.default_rng(99).normal(size=(4, 16)).astype(np.float32)
    params = {"in": {"kernel": kernel}, "out": np.ones((16, 2), np.float32)}
    state = {"mean": np.zeros(16, np.float32), "dropout": jax.random.key(0), "nothing": np.zeros((0, 3), np.float32)}
    return fit(
        noisy_loss, params, state, Stream() if batches is None else batches, config, checkpoints=folder, **kwargs
    )


def train_and_die_at_step(folder, step):
    train(folder, Stream(fatal=step))


def train_and_die_in_save(folder, event, path):
    """Dies the moment before the process does `event` to `folder/path`."""

    def die(now, args):
        if now == event and Path(os.fsdecode(args[0])) == folder / path:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(die)
    train(folder)


def with_programs(folder, function, *args):
    with kept(folder):
        function(*args)


@pytest.fixture(scope="module", autouse=True)
def programs(tmp_path_factory):
    """The folder of compiled programs of all processes here."""
    folder = tmp_path_factory.mktemp("programs")
    with kept(folder):
        yield folder


@pytest.fixture(scope="module")
def whole(programs):
    return train(None)


@pytest.fixture(scope="module")
def killed(programs, whole):
    """Calls a function in a process that has the imports done, but no jax backend started, as a new one would; whether
    that was killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["jax", "flax", "orbax.checkpoint", "qat.train"])

    def call(function, *args):
        process = context.Process(target=with_programs, args=(programs, function, *args))
        process.start()
        process.join()
        return process.exitcode == -signal.SIGKILL

    return call


def bits(leaf):
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def assert_same(a, b):
    for name in ("params", "state", "ema_params"):
        for x, y in zip(jax.tree.leaves(getattr(a, name)), jax.tree.leaves(getattr(b, name)), strict=True):
            np.testing.assert_array_equal(bits(x), bits(y))
    assert (a.step, a.history) == (b.step, b.history)


def test_a_run_killed_between_saves_ends_bit_identical(killed, whole, tmp_path):
    for step in (1, 3, 6):  # before the first save, between two, and right after one
        assert killed(train_and_die_at_step, tmp_path, step)
    assert_same(train(tmp_path), whole)


SAVE_MOMENTS = [
    ("os.mkdir", "2.orbax-checkpoint-tmp"),
    ("os.rename", "4.orbax-checkpoint-tmp/arrays.orbax-checkpoint-tmp"),
    ("os.rename", "6.orbax-checkpoint-tmp"),
    ("shutil.rmtree", "2"),
    ("os.rmdir", "4"),
]


def test_a_run_killed_in_the_middle_of_saves_ends_bit_identical(killed, whole, tmp_path):
    for event, path in SAVE_MOMENTS:
        assert killed(train_and_die_in_save, tmp_path, event, path), (event, path)
    assert_same(train(tmp_path), whole)


def test_a_finished_run_is_returned_without_training(whole, tmp_path):
    train(tmp_path)
    assert_same(train(tmp_path, batches=[]), whole)


def test_saving_changes_nothing(whole, tmp_path):
    assert_same(train(tmp_path), whole)
    assert sorted(int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()) == [6, 8]


def test_how_a_run_is_watched_may_change_but_not_what_it_computes(tmp_path):
    train(tmp_path)
    train(tmp_path, config=CONFIG.model_copy(update={"checkpoint_every": 5}))
    other = CONFIG.model_copy(update={"learning_rate": 0.5})
    with pytest.raises(ValueError, match=r"run of the same settings.*learning_rate: expected 0\.001, got 0\.5.*delete"):
        train(tmp_path, config=other)
    with pytest.raises(ValueError, match="identity: expected '', got 'other data'"):
        train(tmp_path, identity="other data")


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    train(tmp_path)
    with pytest.raises(ValueError, match=r"same structure.*params\['out'\]: expected float32\[16,2\], got nothing"):
        fit(noisy_loss, {"in": jnp.ones(3)}, {}, Stream(), CONFIG, checkpoints=tmp_path)


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    class Poisoned(Stream):
        def __getitem__(self, step):
            batch = super().__getitem__(step)
            return {**batch, "y": batch["y"] * np.float32(np.nan)} if step == 5 else batch

    with pytest.raises(FloatingPointError, match="at step 5"):
        train(tmp_path, Poisoned(), CONFIG.model_copy(update={"log_every": 100}))
    assert sorted(int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()) == [2, 4]


def test_a_place_that_cannot_hold_checkpoints_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="`checkpoints` must be a folder that can be written"):
        train(tmp_path / "file", batches=[])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGE = {
    "flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("pattern", ["arrays/manifest.ocdbt", "arrays/d/*", "record/metadata"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_taken(whole, tmp_path, capsys, pattern, damage):
    train(tmp_path)
    for path in (tmp_path / "8").glob(pattern):
        damage(path)
    assert_same(train(tmp_path), whole)
    assert f"Warning: checkpoint '{tmp_path / '8'}' is damaged ({pattern[:6]}" in (told := capsys.readouterr().err)
    assert told.endswith("training goes on from step 6.\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["6", "8", "damaged-8"]
    assert_same(train(tmp_path, batches=[]), whole)


def test_a_run_whose_checkpoints_are_all_damaged_begins_anew(whole, tmp_path, capsys):
    train(tmp_path)
    for path in tmp_path.glob("*/record/metadata"):
        flip(path)
    assert_same(train(tmp_path), whole)
    assert capsys.readouterr().err.endswith("training begins anew.\n")


# orbax leaves tasks of a closed event loop behind where it cannot read
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_checkpoint_without_digests_is_read_and_its_damage_found_by_reading(whole, tmp_path, capfd):
    train(tmp_path)
    for path in tmp_path.glob("*/digests.json"):
        path.unlink()
    assert_same(train(tmp_path, batches=[]), whole)
    assert "damaged" not in capfd.readouterr().err
    (tmp_path / "8" / "arrays" / "manifest.ocdbt").write_bytes(b"")
    assert_same(train(tmp_path), whole)
    assert "training goes on from step 6." in capfd.readouterr().err
