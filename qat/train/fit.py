"""`fit`: the training loop, from params and batches to trained params."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from qat.train import checkpoint
from qat.train.config import TrainConfig
from qat.train.devices import data_mesh, from_host, replicate, split, to_host
from qat.train.feed import RandomAccess, checked
from qat.train.optimizer import Hyper, matching, ramped, schedules, warmed_up
from qat.train.progress import progress_bar
from qat.train.step import Carry, Inside, Loss, Step, initialiser, train_step


@dataclass(frozen=True)
class FitResult:
    """A trained model, on the default device.

    `ema_params` is the average of the weights, or `None` where the config asks for none. `history` has an entry per
    `log_every` steps: `step` (steps done) and, of that step, `loss`, `grad_norm`, `learning_rate`, the loss's metrics.
    `how` says how it was computed: alone, or with others by `fit_together`.
    """

    params: Any
    state: Any
    ema_params: Any
    step: int
    history: list[dict[str, float]]
    how: Literal["alone", "map", "vmap"] = "alone"


def fit(
    loss: Loss,
    params: Any,
    state: Any,
    batches: RandomAccess,
    config: TrainConfig,
    *,
    checkpoints: Path | None = None,
    identity: str = "",
    progress: bool = True,
    on_metrics: Callable[[int, dict[str, float]], None] | None = None,
    description: str = "train",
    inside: Inside | None = None,
    save_end: bool = True,
) -> FitResult:
    """Train `params` on `batches[0]`, `batches[1]`, ... and carry `state` along.

    Pass the same function object as `loss` to share its compiled step between calls. It gets `frozen=True` from step
    `config.freeze_bn_step` on, and a key that depends on seed and step only.

    With `checkpoints`, a run that was killed continues there and ends as if it had not been; a finished one returns
    at once, unless `save_end` is False, for callers that keep the result themselves. `identity` names what the result
    depends on beside the config (data, starting point): a folder written
    under another config, identity or structure is refused with `ValueError`. `inside` makes another function of the
    step before it is compiled.
    Raises `FloatingPointError` naming the first step whose loss or gradient is not finite; its weights are not saved.
    """
    mesh = data_mesh(config.devices, config.batch_size, config.accumulate)
    check_trainable(params)
    check_groups(config, params)
    carry = first_carry(params, state, config, mesh)
    with checkpoint.open_folder(checkpoints) as folder:
        record = checkpoint.run_record(config, identity, carry)
        start, carry, history = _resume(folder, record, carry, mesh)
        program = step_of(loss, config, inside)
        steps = _steps(program, carry, batches, config, mesh, start)
        with progress_bar(progress, description, config.steps, start) as show:
            for done, carry, newest in steps:
                if newest and is_due(done, config.log_every, config):
                    history.append({"step": done, **newest})
                    on_metrics(done, newest) if on_metrics else None
                due = is_due(done, config.checkpoint_every, config) and (save_end or done < config.steps)
                if newest and folder is not None and due:
                    checkpoint.save(folder, done, carry, record, history)
                show(done, history[-1]["loss"] if history else None)
    end = from_host(to_host(carry), carry)
    return FitResult(end.params, end.state, end.ema, config.steps, history)


def first_carry(params: Any, state: Any, config: TrainConfig, mesh: Mesh) -> Carry:
    """The carry of a run's first step."""
    ours = replicate(params, mesh)
    ema = None if config.ema_decay is None else replicate(params, mesh)
    return Carry(ours, replicate(state, mesh), initialiser(config.optimizer, config.groups, mesh)(ours), ema)


def _resume(folder: Any, record: dict[str, Any], carry: Carry, mesh: Mesh) -> tuple[int, Carry, list[dict[str, float]]]:
    found = None if folder is None else checkpoint.restore(folder, record, carry)
    if found is None:
        return 0, carry, []
    step, saved, history = found
    return step, replicate(from_host(saved, carry), mesh), history


def _steps(
    program: Step, carry: Carry, batches: RandomAccess, config: TrainConfig, mesh: Mesh, start: int
) -> Iterator[tuple[int, Carry, dict[str, float] | None]]:
    """Steps done, what they made of the carry, and the last one's metrics where they are to be logged or saved."""
    batch_of = checked(batches, config.batch_size, config.steps)
    hyper_of, pending = numbers_of(config), []
    for step in range(start, config.steps):
        advance = train_step(replace(program, frozen=is_frozen(config, step)), mesh)
        hyper = hyper_of(step)
        carry, metrics = advance(carry, split(batch_of(step), mesh, config.accumulate), hyper)
        pending.append({**metrics, "learning_rate": hyper.learning_rate})
        done = step + 1
        newest = None
        if is_due(done, config.log_every, config) or is_due(done, config.checkpoint_every, config):
            newest, pending = _finite(pending, done), []
        yield done, carry, newest


def step_of(loss: Loss, config: TrainConfig, inside: Inside | None = None) -> Step:
    """The program of a run's steps."""
    groups, accumulate = config.groups, config.accumulate
    return Step(loss=loss, optimizer=config.optimizer, groups=groups, accumulate=accumulate, inside=inside)


def is_frozen(config: TrainConfig, step: int) -> bool:
    """Whether running statistics are left alone at a step."""
    return config.freeze_bn_step is not None and step >= config.freeze_bn_step


def numbers_of(config: TrainConfig) -> Callable[[int], Hyper]:
    """The numbers of each step: rate, decay, seed and the like."""
    factor = warmed_up(schedules.build(config.schedule), config.warmup_steps, config.steps)
    clip_norm = math.inf if config.clip_norm is None else config.clip_norm

    def hyper_of(step: int) -> Hyper:
        return Hyper(
            step=np.uint32(step),
            seed=np.uint32(config.seed),
            learning_rate=np.float32(config.learning_rate * factor(step)),
            weight_decay=np.float32(config.weight_decay),
            clip_norm=np.float32(clip_norm),
            ema_decay=np.float32(ramped(config.ema_decay or 0.0, step)),
        )

    return hyper_of


def is_due(done: int, every: int, config: TrainConfig) -> bool:
    """Whether something that is done every so many steps, and at the end, is due after `done` steps."""
    return done % every == 0 or done == config.steps


def _finite(pending: list[dict[str, Any]], done: int) -> dict[str, float]:
    """The newest metrics, as numbers, once every pending step's loss and gradient is known to be finite."""
    watched = jax.device_get([(metrics["loss"], metrics["grad_norm"]) for metrics in pending])
    for step, (loss, norm) in enumerate(watched, start=done - len(pending)):
        refuse_not_finite(step, loss, norm)
    return {name: float(value) for name, value in jax.device_get(pending[-1]).items()}


def refuse_not_finite(step: int, loss: Any, norm: Any) -> None:
    """Raise `FloatingPointError` for a step whose loss or gradient is not finite."""
    if not (np.isfinite(loss) and np.isfinite(norm)):
        raise FloatingPointError(
            f"loss {loss} and gradient norm {norm} at step {step}, counted from 0, must be finite. "
            "Lower `learning_rate`, set `clip_norm`, or look at the batch of that step."
        )


def check_trainable(params: Any) -> None:
    """Raise `ValueError` for parameters that cannot be trained."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    wrong = [
        jax.tree_util.keystr(path) for path, leaf in leaves if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    ]
    if wrong or not leaves:
        came = f"others at {', '.join(wrong)}" if wrong else "none"
        raise ValueError(f"`params` must hold floating-point arrays, got {came}. Put what does not train into `state`.")


def check_groups(config: TrainConfig, params: Any) -> None:
    """Raise `ValueError` for a group of the config that no parameter belongs to."""
    idle = [group.match for group in config.groups if group not in matching(config.groups, params)]
    if idle:
        paths = [
            jax.tree_util.keystr(path, simple=True, separator="/")
            for path, _ in jax.tree_util.tree_leaves_with_path(params)
        ]
        raise ValueError(
            f"`groups`: no parameter is left for {idle[0]!r}. Parameters are {', '.join(paths[:4])}"
            f"{', ...' if len(paths) > 4 else ''}; the first group that matches one has it."
        )
