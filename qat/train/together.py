"""`fit_together`: several runs of one program, trained by one compiled loop.

Runs share a program where they differ in numbers alone: parameters, ranges, seeds, rates, decay, order of the data.
Their carries are stacked along a leading axis. A call of the program takes some runs some steps further, so that
Python's part in a step is shared by all steps of all runs.
"""

import contextlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qat.train import checkpoint
from qat.train.config import TrainConfig
from qat.train.devices import data_mesh, from_host, to_host
from qat.train.feed import RandomAccess, Table, checked, describe
from qat.train.fit import (
    FitResult,
    check_groups,
    check_trainable,
    first_carry,
    fit,
    is_due,
    is_frozen,
    numbers_of,
    refuse_not_finite,
    step_of,
)
from qat.train.loop import How, advance, placed, trials_mesh
from qat.train.step import Carry, Inside, Loss

CHUNK = 50  # steps of a call: few enough that progress is told often, and checkpoints come when they are due


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A run as `fit` takes it, to be trained together with others."""

    loss: Loss
    params: Any
    state: Any
    batches: RandomAccess
    config: TrainConfig
    checkpoints: Path | None = None
    identity: str = ""
    on_metrics: Callable[[int, dict[str, float]], None] | None = None
    inside: Inside | None = None
    save_end: bool = True

    @property
    def program(self) -> Hashable:
        """The key that runs must share to be trained together; None of a run that cannot be, as `reason_alone`
        says."""
        if reason_alone(self):
            return None
        c = self.config
        table = _table(self.batches)
        rows = id(table) if table is not None else tuple(describe(self.batches[0]).items())
        parts = (step_of(self.loss, c, self.inside), c.batch_size, c.ema_decay is None, rows)
        return (*parts, tuple(describe((self.params, self.state)).items()))

    def alone(self) -> FitResult:
        """Train by itself."""
        start = (self.params, self.state, self.batches, self.config)
        saved = {"checkpoints": self.checkpoints, "identity": self.identity, "save_end": self.save_end}
        return fit(self.loss, *start, **saved, on_metrics=self.on_metrics, progress=False, inside=self.inside)


def reason_alone(fit: Fit) -> str | None:
    """The reason why a run can be trained with no other; None where it can."""
    if getattr(fit.batches, "buckets", None) is not None:
        return "its batches are cut to buckets, so that their lengths differ from run to run"
    return None


def size_of(fit: Fit, chunk: int = CHUNK) -> int:
    """An estimate of the bytes that one more run of a group takes: its parameters, their optimizer's state and
    average, once more while they are copied, and the batches of a call."""
    trained, rest = (sum(np.asarray(x).nbytes for x in jax.tree.leaves(to_host(t))) for t in (fit.params, fit.state))
    copies = 3 + (fit.config.ema_decay is not None)  # of what is trained: itself and, for most optimizers, two moments
    batch = 0 if _table(fit.batches) is not None else sum(np.asarray(x).nbytes for x in jax.tree.leaves(fit.batches[0]))
    return 2 * (copies * trained + rest) + min(chunk, fit.config.steps) * batch


@dataclass
class _Run:
    """A run under way: its place in the group, the steps that it has taken, and its outcome once it has one."""

    fit: Fit
    place: int
    folder: Any  # its checkpoints, None where it keeps none
    record: dict[str, Any]
    step: int
    history: list[dict[str, float]]
    outcome: FitResult | Exception | None = None
    hyper_of: Callable[[int], Any] = field(init=False)
    batch_of: Callable[[int], Any] = field(init=False)

    def __post_init__(self) -> None:
        self.hyper_of = numbers_of(self.fit.config)
        self.batch_of = checked(self.fit.batches, self.fit.config.batch_size, self.fit.config.steps)

    @property
    def frozen(self) -> bool:
        """Whether running statistics are left alone from here on."""
        return is_frozen(self.fit.config, self.step)

    def until(self, chunk: int) -> int:
        """The step before which the next call must end."""
        c = self.fit.config
        ends = [(self.step // every + 1) * every for every in (chunk, c.checkpoint_every)]
        if c.freeze_bn_step is not None and c.freeze_bn_step > self.step:
            ends.append(c.freeze_bn_step)
        return min(*ends, self.step + chunk, c.steps)


def fit_together(
    fits: Sequence[Fit], how: How = "map", *, chunk: int = CHUNK, size: int | None = None
) -> list[FitResult | Exception]:
    """Train runs of one `program` as one; for each its result, or the error that ended it alone.

    By `map` runs take turns within the compiled loop, and each ends with the numbers of `fit`, bit for bit; by `vmap`
    they are computed side by side, with other orders of summation. A call takes `chunk` steps of each run: metrics are
    told, and checkpoints written, at its end.

    Raises `ValueError` for runs of several programs.
    """
    if len({fit.program for fit in fits}) != 1 or fits[0].program is None:
        raise ValueError("`fits` must be runs of one program: group them by `Fit.program`, which is not None.")
    if chunk < 1:
        raise ValueError(f"`chunk` must be at least 1, the steps of one call, got {chunk}.")
    chunk = min([chunk, *(fit.config.steps for fit in fits)])
    outcomes: list[FitResult | Exception | None] = [None] * len(fits)
    with contextlib.ExitStack() as folders:
        runs, carries = [], []
        for number, one in enumerate(fits):
            try:
                run, carry = _opened(one, len(runs), folders)
            except Exception as error:  # of this run alone
                outcomes[number] = error
                continue
            runs.append((number, run))
            carries.append(carry)
        if runs:
            _train([run for _, run in runs], carries, how, chunk, size)
    for number, run in runs:
        outcomes[number] = run.outcome
    return [one for one in outcomes if one is not None]


def _opened(fit: Fit, place: int, folders: contextlib.ExitStack) -> tuple[_Run, Carry]:
    """A run where it was left, or at its beginning, and its carry on the host."""
    check_trainable(fit.params)
    check_groups(fit.config, fit.params)
    carry = first_carry(fit.params, fit.state, fit.config, data_mesh(1, fit.config.batch_size, fit.config.accumulate))
    folder = folders.enter_context(checkpoint.open_folder(fit.checkpoints))
    record = checkpoint.run_record(fit.config, fit.identity, carry)
    found = None if folder is None else checkpoint.restore(folder, record, carry)
    step, host, history = found or (0, to_host(carry), [])
    return _Run(fit, place, folder, record, step, history), host


def _train(runs: list[_Run], carries: list[Carry], how: How, chunk: int, size: int | None) -> None:
    like = first_carry(runs[0].fit.params, runs[0].fit.state, runs[0].fit.config, data_mesh(1, 1, 1))
    mesh = trials_mesh(len(runs))
    count = 1 if mesh is None else mesh.size
    size = -(-max(size or 0, len(runs)) // count) * count
    for place, run in enumerate(runs):  # dealt out, so that every device has as many as the others
        run.place = place % count * (size // count) + place // count
    by_place = {run.place: carry for run, carry in zip(runs, carries, strict=True)}
    rows = [by_place.get(place, carries[0]) for place in range(size)]
    stacked = placed(from_host(jax.tree.map(lambda *xs: np.stack(xs), *rows), like), mesh, by_trial=True)
    del carries, by_place, rows
    _settle(runs, stacked, how)
    table = _table(runs[0].fit.batches)
    rows_of = None if table is None else placed(dict(table), mesh, by_trial=False)
    shape = {"table": rows_of, "size": size, "chunk": chunk, "mesh": mesh}
    step = step_of(runs[0].fit.loss, runs[0].fit.config, runs[0].fit.inside)
    # Invariant: `stacked` holds every run's carry after its `step` steps, and a run without outcome has steps left.
    # Each turn takes those that are furthest behind up to where one of them must stop, or to where another one waits.
    while left := [run for run in runs if run.outcome is None]:
        behind = min(left, key=lambda run: (run.step, run.frozen))
        now = [run for run in left if (run.step, run.frozen) == (behind.step, behind.frozen)]
        waiting = [run.step for run in left if run.step > behind.step]
        end = min(*(run.until(chunk) for run in now), *waiting, behind.step + chunk)
        try:
            feeds = [_fed(run, end, table is not None) for run in now]
        except _RunError as error:
            error.run.outcome = error.cause
            continue
        stacked, metrics = advance(replace(step, frozen=behind.frozen), how, stacked, feeds, **shape)
        for run in now:
            _take_note(run, end, {name: x[run.place] for name, x in metrics.items()})
        _settle(now, stacked, how)


class _RunError(Exception):
    """An error that ends one run of a group."""

    def __init__(self, run: _Run, cause: Exception):
        super().__init__(str(cause))
        self.run, self.cause = run, cause


def _fed(run: _Run, end: int, by_place: bool) -> tuple[int, list[Any], list[Any]]:
    """The run's place, and for each step up to `end` its batch, or the places of its rows in the table, and its
    numbers."""
    steps, accumulate = range(run.step, end), run.fit.config.accumulate
    try:
        if by_place:
            if run.step == 0:
                run.batch_of(0)
            batches: list[Any] = [run.fit.batches.places(step).astype(np.int32) for step in steps]  # type: ignore[attr-defined]
        else:
            batches = [run.batch_of(step) for step in steps]
    except Exception as error:
        raise _RunError(run, error) from error
    shaped = [jax.tree.map(lambda x: np.asarray(x).reshape(accumulate, -1, *np.shape(x)[1:]), b) for b in batches]
    return run.place, shaped, [run.hyper_of(step) for step in steps]


def _take_note(run: _Run, end: int, metrics: dict[str, np.ndarray]) -> None:
    """Log what is due of the steps up to `end`; the run's outcome is the first error."""
    config, hyper = run.fit.config, run.hyper_of
    try:
        for number, step in enumerate(range(run.step, end)):
            refuse_not_finite(step, metrics["loss"][number], metrics["grad_norm"][number])
            if is_due(step + 1, config.log_every, config):
                found = {name: float(x[number]) for name, x in metrics.items()}
                found = dict(sorted({**found, "learning_rate": float(hyper(step).learning_rate)}.items()))
                run.history.append({"step": step + 1, **found})
                if run.fit.on_metrics is not None:
                    run.fit.on_metrics(step + 1, found)
    except Exception as error:
        run.outcome = error
    run.step = end


def _settle(runs: list[_Run], stacked: Carry, how: How) -> None:
    """Save the runs whose checkpoint is due, and take the results of those that have ended."""
    host, like = None, None
    for run in runs:
        config = run.fit.config
        over = run.step == config.steps
        if run.outcome is not None or run.step == 0 or not (over or is_due(run.step, config.checkpoint_every, config)):
            continue
        if host is None:
            host, like = to_host(stacked), stacked
        carry = jax.tree.map(lambda x, place=run.place: x[place], host)
        try:
            wanted = run.fit.save_end or not over
            if run.folder is not None and wanted and run.folder.latest_step() != run.step:
                checkpoint.save(run.folder, run.step, carry, run.record, run.history)
            if over:
                end = from_host(carry, like)
                run.outcome = FitResult(end.params, end.state, end.ema, config.steps, run.history, how)
        except Exception as error:
            run.outcome = error


def _table(batches: Any) -> Table | None:
    """The arrays of which every batch is rows; None where there are none."""
    return getattr(batches, "table", None)
