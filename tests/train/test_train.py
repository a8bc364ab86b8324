"""`fit`: what it computes, what it compiles, what it refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat.train import TrainConfig, fit, optimizers

TRUE_W = np.array([1.0, -2.0, 3.0], np.float32)


@dataclasses.dataclass(frozen=True)
class Lines:
    """Batches of a noiseless linear problem; `edit(step, batch)` spoils some."""

    size: int = 8
    edit: object = None

    def __getitem__(self, step):
        x = np.random.default_rng(step).normal(size=(self.size, 3)).astype(np.float32)
        batch = {"x": x, "y": x @ TRUE_W}
        return self.edit(step, batch) if callable(self.edit) else batch


def squared_error(params, state, batch, key, *, frozen):
    error = jnp.mean((batch["x"] @ params["w"] + params["b"] - batch["y"]) ** 2)
    seen = state["seen"] if frozen else state["seen"] + 1
    return error, ({"seen": seen}, {"noise": jax.random.normal(key)})


PARAMS = {"w": jnp.zeros(3), "b": jnp.zeros(())}
STATE = {"seen": jnp.zeros((), jnp.int32)}


def run(loss=squared_error, batches=None, params=PARAMS, state=STATE, **settings):
    kwargs = {name: settings.pop(name) for name in ("on_metrics", "progress", "checkpoints") if name in settings}
    config = TrainConfig(**{"steps": 20, "batch_size": 8, "learning_rate": 0.1, "devices": 1, **settings})
    return fit(loss, params, state, Lines(config.batch_size) if batches is None else batches, config, **kwargs)


def same(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: np.array_equal(x, y), a, b))


@pytest.mark.parametrize("name", optimizers.names())
def test_every_optimizer_solves_a_linear_problem(name):
    result = run(optimizer=name, steps=300, learning_rate=0.05, weight_decay=0.0)
    np.testing.assert_allclose(result.params["w"], TRUE_W, atol=1e-2)  # the rate falls to zero before all error is gone
    assert result.step == 300


def test_numbers_of_the_config_do_not_compile_again():
    traces = []

    def loss(params, state, batch, key, *, frozen):
        traces.append(frozen)
        return squared_error(params, state, batch, key, frozen=frozen)

    run(loss)
    compilations = []

    def listen(event, *_args, **_kwargs):
        compilations.append(event) if "backend_compile" in event else None

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        run(loss, learning_rate=0.01, seed=3, steps=30, weight_decay=0.5, warmup_steps=7, clip_norm=None)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert traces == [False]
    assert compilations == []


def test_freezing_happens_at_its_step_and_compiles_one_more_program():
    traces = []

    def loss(params, state, batch, key, *, frozen):
        traces.append(frozen)
        return squared_error(params, state, batch, key, frozen=frozen)

    assert int(run(loss, steps=9, freeze_bn_step=4).state["seen"]) == 4
    assert traces == [False, True]


def test_accumulated_gradient_is_the_gradient_of_the_whole_batch():
    whole, parts = run(steps=5, optimizer="sgd"), run(steps=5, optimizer="sgd", accumulate=4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), whole.params, parts.params)
    assert int(parts.state["seen"]) == 20, "the state passes through every micro-batch"


def test_average_of_the_weights_follows_them():
    at_each_step = [run(steps=done, schedule="constant").params["w"] for done in range(1, 13)]
    mean = np.zeros(3)
    for step, w in enumerate(at_each_step):
        decay = min(0.5, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * np.asarray(w)
    result = run(steps=12, schedule="constant", ema_decay=0.5)
    np.testing.assert_allclose(result.ema_params["w"], mean, rtol=1e-5)  # float32 against float64
    assert run(steps=12).ema_params is None


def test_the_same_seed_gives_the_same_run_and_another_gives_other_keys():
    a, b, c = run(), run(), run(seed=1)
    assert same(a.params, b.params)
    assert a.history == b.history
    assert a.history[-1]["noise"] != c.history[-1]["noise"]


def test_what_the_caller_passed_is_left_alone():
    params = {"w": jnp.ones(3), "b": jnp.ones(())}
    run(params=params, ema_decay=0.5)
    assert same(params, {"w": np.ones(3), "b": np.ones(())})


def test_history_has_the_metrics_of_every_logged_step():
    history = run(steps=20, log_every=8).history
    assert [entry["step"] for entry in history] == [8, 16, 20]
    assert set(history[0]) == {"step", "loss", "grad_norm", "learning_rate", "noise"}


def spoil(step, value):
    return lambda now, batch: {**batch, "y": batch["y"] + np.float32(value if now == step else 0)}


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30], ids=["nan", "inf", "gradient-overflow"])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(value):
    with pytest.raises(FloatingPointError, match="at step 13, counted from 0"):
        run(batches=Lines(edit=spoil(13, value)), steps=40, log_every=20)


def test_batches_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="`batches` must have a batch for each of 20 steps, but is empty"):
        run(batches=[])
    with pytest.raises(ValueError, match="but ends at step 3"):
        run(batches=[Lines()[i] for i in range(3)])
    with pytest.raises(ValueError, match=r"`batch_size` = 8 examples .* got shapes .*'x'.*\(4, 3\)"):
        run(batches=Lines(4))
    renamed = Lines(edit=lambda step, batch: {"x": batch["x"], "z": batch["y"]} if step == 5 else batch)
    with pytest.raises(ValueError, match=r"`batches\[5\]`.*\['y'\]: expected float32\[8\], got nothing"):
        run(batches=renamed)
    with pytest.raises(ValueError, match=r"`batches\[2\]`.*expected float32\[8,3\], got float32\[9,3\]"):
        run(batches=Lines(edit=lambda step, batch: Lines(9)[step] if step == 2 else batch))


def test_params_and_states_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"`params` must hold floating-point arrays, got others at \['n'\]"):
        run(params={**PARAMS, "n": jnp.arange(3)})
    with pytest.raises(ValueError, match="`params` must hold floating-point arrays, got none"):
        run(params={})

    def forgetful(params, state, batch, key, *, frozen):
        return squared_error(params, state, batch, key, frozen=frozen)[0], ({}, {})

    with pytest.raises(ValueError, match=r"`loss` must return a state .*\['seen'\]: expected int32\[\], got nothing"):
        run(forgetful)


def test_nothing_is_drawn_where_there_is_no_terminal(capfd):
    run()
    assert capfd.readouterr() == ("", "")


def test_a_terminal_shows_progress_and_loss(capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    run(log_every=1)
    shown = capfd.readouterr().err
    assert "train" in shown
    assert "loss" in shown


def test_a_group_that_matches_no_parameter_is_refused_with_the_paths():
    with pytest.raises(ValueError, match=r"no parameter is left for 'learned/'. Parameters are b, w"):
        run(steps=2, groups=[{"match": "learned/", "rate": 0.1}])


def test_a_group_at_rate_zero_stays_where_it_was():
    result = run(steps=3, groups=[{"match": "^b$", "rate": 0.0}])
    assert float(result.params["b"]) == 0.0
    assert float(jnp.abs(result.params["w"]).max()) > 0
