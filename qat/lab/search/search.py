"""Search a space of configs: each suggestion is an ordinary trial with its own record, and none is run twice."""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qat.lab.experiment.config import ExperimentConfig
from qat.lab.experiment.plugins import run_file
from qat.lab.jobs.presence import ProcessId, present, this_process
from qat.lab.runs.finished import mark_pruned, unmark_pruned
from qat.lab.runs.record import Record
from qat.lab.runs.study_folder import TRIALS
from qat.lab.search.neighbours import instead
from qat.lab.search.result import Found, number_of
from qat.lab.search.storage import FARTHEST, Point, ask, open_journal, points, take_up, tell
from qat.lab.sweep.space import Search, check_space, key_of, measured_base, objective_of, pruners, samplers, trial_of
from qat.lab.sweep.study import Trial
from qat.tasks.metric import Metric

if TYPE_CHECKING:
    from optuna import Study
    from optuna import Trial as Asked

type RunTrial = Callable[[Trial, Watch], Record]
type SizeOf = Callable[[ExperimentConfig], int]

FAILURES = 3  # trials in a row that end a search
STRIDE = 1_000_003  # between the seeds of two suggestions


def run_search(
    search: Search,
    base: ExperimentConfig,
    root: Path,
    run_trial: RunTrial,
    *,
    identity: str = "",
    size_of: SizeOf | None = None,
    on_point: Callable[[Point], None] = lambda point: None,
) -> Found:
    """Suggest and run trials until `search.trials` of them are done; what `root` holds of this search already counts.

    `run_trial(trial, watch)` returns the trial's record, the old one where it is finished. What it raises fails that
    trial alone, but for `OSError`, which ends the search. `identity` is a digest of code and data: once it changes, all
    is suggested anew. `size_of` estimates the bytes of a config's model, by default
    `qat.lab.search.size.estimated_size`.
    `on_point` is told of each point. A process that is killed at any moment loses nothing; several may work at once.
    Raises `ValueError` where no point fits the budget, three trials in a row fail, the split that it chooses by is
    empty, or nothing tells which way of the objective is better.
    """
    check_space(search, base)
    objective, me, base = objective_of(search, base), this_process("search"), measured_base(search, base)
    study = open_journal(root, search, base, objective=objective, identity=identity)
    study.pruner = pruners.build(search.pruner)
    step = _Step(study, search, objective, base, root, me, size_of or _estimated_size)
    with present(root, me, dict):
        while True:
            take_up(study, root, me)
            known = points(study)
            done = sum(point.outcome in ("finished", "pruned", "running") for point in known)
            if done >= search.trials:
                break
            point = step.go(known, run_trial)
            on_point(point)
            if point.outcome in ("repeated", "infeasible") and not step.suggest_instead(point, known):
                break
    _refuse_nothing_feasible(points(study), search, step.sizes)
    return Found(search, objective, tuple(points(study)))


def load_search(path: Path) -> Search:
    """Load the search that a Python file defines as `SEARCH`."""
    search = run_file(path).get("SEARCH")
    if not isinstance(search, Search):
        raise ValueError(
            f"{str(path)!r} must define `SEARCH`, a Search, beside `BASE`, got {type(search).__name__}; "
            "see experiments/mixed_bits.py."
        )
    return search


@dataclass(frozen=True)
class _Step:
    """One suggestion, from asking to telling. `sizes` has the bytes of points, so that none is estimated twice."""

    study: "Study"
    search: Search
    objective: Metric
    base: ExperimentConfig
    root: Path
    me: ProcessId
    size_of: SizeOf
    sizes: dict[str, int] = field(default_factory=dict)

    def go(self, known: list[Point], run_trial: RunTrial) -> Point:
        """Ask, and run what is neither known nor beyond the budget."""
        seed = self.seed(known)
        self.study.sampler = samplers.build(self.search.sampler, seed=seed)
        asked, values = ask(self.study, self.search.space, self.me)
        others = [point for point in points(self.study) if point.number != asked.number]  # of either order: of two that
        if key_of(values) in _seen(others):  # ask at once, the first may not have written down its values yet
            return tell(self.study, asked, "repeated", None, {})
        try:
            trial = trial_of(self.base, values)
        except ValueError as error:
            return tell(self.study, asked, "infeasible", None, {"config": FARTHEST}, error=str(error))
        if over := self.over(values):
            size = self.sizes[key_of(values)]
            facts = {"trial": trial.id, "size_bytes": size}
            return tell(self.study, asked, "infeasible", None, {"size_bytes": over}, **facts)
        return self.run(asked, trial, run_trial)

    def seed(self, known: list[Point]) -> int:
        """The seed for the next suggestion, made from the number of points before it, so that a search that was stopped
        goes on as if it had not been.
        """
        return (self.search.seed + STRIDE * sum(point.outcome != "lost" for point in known)) % 2**32

    def over(self, values: Mapping[str, Any]) -> float:
        """The amount by which a point breaks the bounds that are known before it runs, 0 where it does not."""
        key, limit = key_of(values), self.search.budget.get("size_bytes")
        try:
            trial = trial_of(self.base, values)
        except ValueError:
            return FARTHEST
        if limit is None:
            return 0.0
        if key not in self.sizes:
            self.sizes[key] = self.size_of(trial.config)
        return max(0.0, self.sizes[key] / limit - 1)

    def suggest_instead(self, point: Point, known: list[Point]) -> bool:
        """Suggest next what is near a point that cannot be run; False where there is nothing left."""
        rng = random.Random(self.seed(known))
        values = instead(point.values, self.search.space, self.over, _seen(known), rng)
        if values is not None:
            self.study.enqueue_trial(dict(values))
        return values is not None

    def run(self, asked: "Asked", trial: Trial, run_trial: RunTrial) -> Point:
        """Run a trial, and tell what came of it."""
        facts = {"trial": trial.id}
        try:
            record = run_trial(trial, watch(asked, trial, self.objective))
            value, over = _outcome(record, self.search, self.objective)
        except Pruned as pruned:
            mark_pruned(self.root / TRIALS / trial.id, trial.id, trial.labels, str(pruned))
            return tell(self.study, asked, "pruned", None, {}, **facts)
        except OSError:
            raise
        except Exception as error:
            line = f"{type(error).__name__}: {error}"
            point = tell(self.study, asked, "failed", None, {}, **facts, error=line)
            ended = [p.outcome for p in points(self.study) if p.outcome in ("finished", "pruned", "failed")]
            if ended[-FAILURES:] == ["failed"] * FAILURES:
                raise ValueError(f"{FAILURES} trials in a row failed, the last one with: {line}") from error
            return point
        unmark_pruned(self.root / TRIALS / trial.id)
        return tell(self.study, asked, "finished", value, over, **facts, size_bytes=record.size_bytes)


def _estimated_size(config: ExperimentConfig) -> int:
    from qat.lab.search.size import estimated_size

    return estimated_size(config)


def _outcome(record: Record, search: Search, objective: Metric) -> tuple[float, dict[str, float]]:
    """The objective, and by how much each budget is broken, in parts of it."""
    value = number_of(record, objective.name, search.split)
    if not math.isfinite(value):
        raise ValueError(f"`objective` {objective.name!r} must be finite, got {value}.")
    return value, {name: number_of(record, name, search.split) / limit - 1 for name, limit in search.budget.items()}


def _seen(known: list[Point]) -> set[str]:
    """The points that are not to be run again; a failed one may be."""
    return {key_of(point.values) for point in known if point.outcome not in ("failed", "lost", "repeated")}


def _refuse_nothing_feasible(known: list[Point], search: Search, sizes: Mapping[str, int]) -> None:
    if any(point.outcome not in ("infeasible", "repeated", "lost") for point in known):
        return
    errors = [point.error for point in known if point.error]
    why = f"the smallest model found has {min(sizes.values()):,} bytes" if sizes else f"none is valid: {errors[0]}"
    raise ValueError(
        f"`budget` {search.budget} leaves nothing of `space`: {why}. Raise the budget, or widen the space."
    )


if TYPE_CHECKING:
    from optuna import Trial as Asked

type Watch = Callable[[str, int, Mapping[str, float]], None]
"""Told of a training's metrics as they come: stage, step, values. It may raise `Pruned`, which ends the trial."""


class Pruned(Exception):  # noqa: N818
    """A trial that the search stopped, because others had come further at the same step. It did not fail."""


def watch(asked: "Asked", trial: Trial, objective: Metric) -> Watch:
    """Tells the pruner of the trial's own training, not of stages that it shares: the objective where training watches
    it, else the loss, with its sign changed where more of the objective is better."""

    def observe(stage: str, step: int, values: Mapping[str, float]) -> None:
        if stage != trial.config.arm:
            return
        name = objective.name
        asked.report(float(values[name] if name in values else -objective.sign * values["loss"]), step)
        if asked.should_prune():
            raise Pruned(f"at step {step} of {stage} others had come further")

    return observe
