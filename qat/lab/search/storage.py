"""A search on disk, `search.journal` in the study's folder: what was suggested and what came of it. It is added to line
by line, by as many processes as work on the search."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qat.lab.experiment.config import ExperimentConfig, digest
from qat.lab.jobs.presence import ProcessId, clock, is_dead, process_id_from
from qat.lab.sweep.space import DIRECTIONS, Choice, Range, Search
from qat.tasks.metric import Metric

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

JOURNAL = "search.journal"
LOCK_SECONDS = 10  # after which the lock of a process that was killed while it wrote is taken away
FARTHEST = 1e6  # beyond a budget
UNNAMED_SECONDS = 60.0  # after which a suggestion that no process put its name to was lost

type Outcome = Literal["finished", "pruned", "infeasible", "repeated", "failed", "lost", "running"]


@dataclass(frozen=True)
class Point:
    """A suggestion and what came of it.

    `infeasible` ones were never run, `repeated` ones were known already, `lost` ones belonged to a process that was
    killed and are taken up again. `trial` is the trial's id where it got so far, `value` the objective of a finished
    one, and `over` by how much it breaks each budget, in parts of the limit.
    """

    number: int
    values: dict[str, Choice]
    outcome: Outcome
    trial: str | None
    value: float | None
    size_bytes: int | None
    error: str | None
    over: dict[str, float]


def open_journal(root: Path, search: Search, base: ExperimentConfig, *, objective: Metric, identity: str) -> "Study":
    """The search's storage in `root`: another one once its space, goal, base or `identity` (code and data) change.

    `objective` is the number that it goes by.
    """
    optuna = require_optuna()
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    root.mkdir(parents=True, exist_ok=True)
    path = str((root / JOURNAL).absolute())  # the lock is a symbolic link to it
    lock = JournalFileSymlinkLock(path, LOCK_SECONDS)
    _mend(Path(path), lock)
    direction = DIRECTIONS[objective.better or "higher"]
    goal = search.model_copy(update={"direction": direction}).model_dump_json(
        include={"space", "objective", "direction", "split", "budget"}
    )
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(path, lock)),
        study_name=digest(goal, base, identity),
        direction=direction,
        load_if_exists=True,
    )


def require_optuna() -> Any:
    """The package, silenced; `ValueError` with the command that installs it where it is missing."""
    try:
        import optuna
    except ImportError:
        raise ValueError("a search needs the package optuna. Install it: pip install 'jax-qat[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _mend(path: Path, lock: Any) -> None:
    """Cut off a last line that is not whole, as a full disk or a power cut leaves it."""
    if not path.exists():
        return
    lock.acquire()
    try:
        with path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
    finally:
        lock.release()


def points(study: "Study") -> list[Point]:
    """All suggestions so far, in their order."""
    return [_point(trial) for trial in study.get_trials(deepcopy=False) if trial.params]


def _point(trial: "FrozenTrial") -> Point:
    saved = trial.user_attrs.get("told", {})
    outcome = saved.get("outcome", "lost") if trial.state.is_finished() else "running"
    return Point(
        number=trial.number,
        values=trial.params,
        outcome=outcome,
        trial=saved.get("trial"),
        value=trial.value if outcome == "finished" else None,
        size_bytes=saved.get("size_bytes"),
        error=saved.get("error"),
        over={name: value for name, value in trial.constraints.items() if value > 0},
    )


def ask(study: "Study", space: Mapping[str, Range | list[Choice]], me: ProcessId) -> "tuple[Trial, dict[str, Choice]]":
    """A suggestion, in the name of this process, with its values."""
    asked = study.ask()
    asked.set_user_attr("holder", asdict(me))
    return asked, {name: _suggest(asked, name, values) for name, values in space.items()}


def _suggest(asked: "Trial", name: str, values: Range | list[Choice]) -> Any:
    if isinstance(values, list):
        return asked.suggest_categorical(name, values)
    if values.whole:
        return asked.suggest_int(name, int(values.low), int(values.high), step=int(values.step or 1), log=values.log)
    return asked.suggest_float(name, values.low, values.high, step=values.step, log=values.log)


def tell(
    study: "Study", asked: "Trial", outcome: Outcome, value: float | None, over: Mapping[str, float], **facts: Any
) -> Point:
    """Keep what came of a suggestion, with what it breaks each budget by (at most 0 where it does not). What repeats
    another or failed teaches the sampler nothing."""
    state = require_optuna().trial.TrialState
    states = {"finished": state.COMPLETE, "pruned": state.PRUNED, "infeasible": state.PRUNED}
    for name, part in over.items():
        asked.set_constraint(name, min(part, FARTHEST))
    asked.set_user_attr("told", {"outcome": outcome, **facts})
    study.tell(asked, value, states.get(outcome, state.FAIL), skip_if_finished=True)
    return next(point for point in points(study) if point.number == asked.number)


def take_up(study: "Study", root: Path, me: ProcessId) -> None:
    """Suggest again what processes that are dead were at."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if is_lost(trial, root, me):
            values = trial.params or trial.system_attrs.get("fixed_params")
            if values:
                study.enqueue_trial(values)
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def is_lost(trial: "FrozenTrial", root: Path, me: ProcessId) -> bool:
    """Whether the process that a running suggestion belongs to is dead."""
    try:
        holder = process_id_from(trial.user_attrs["holder"])
    except (KeyError, TypeError):
        started = trial.datetime_start
        return started is None or (datetime.now() - started).total_seconds() > UNNAMED_SECONDS
    return is_dead(root, holder, None, clock(root, me))
