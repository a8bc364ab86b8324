"""The audit of an experiment's calibration: its float model, calibrated on many draws of samples, each one scored."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from qat import data
from qat.data.source import gather
from qat.fileio import working_folder
from qat.lab.experiment.check import check
from qat.lab.experiment.config import ExperimentConfig, digest
from qat.lab.experiment.objective import float_examples, simulated_examples
from qat.lab.experiment.quantizing import quantized
from qat.lab.experiment.run import run_stage, silent
from qat.lab.experiment.stage_results import trained_in
from qat.lab.experiment.stages import stage_of
from qat.lab.experiment.training import Report, Workload, workload_of
from qat.lab.jobs.programs import kept, tend
from qat.lab.jobs.threads import threads, using
from qat.lab.runs.audits import HEADS, Found, lines, read_audit, sentence, write_audit
from qat.lab.runs.study_folder import TRIALS, threads_for
from qat.lab.sweep.study import load_one
from qat.ptq.audit import NOISE, Draw, indices_of, plan_draws

SPLIT = "validation"


@dataclass(frozen=True)
class Extent:
    """The extent of an audit: so many `draws` a number of samples, `most` samples, and `other`, a data set whose
    samples are not of the model's data; `seed` draws all."""

    draws: int = 5
    most: int = 2048
    other: str | None = None
    seed: int = 0


def audit_calibration(
    config: ExperimentConfig,
    root: Path,
    folder: Path,
    extent: Extent,
    *,
    report: Report = silent,
    on_draw: Callable[[int, int], None] = lambda done, of: None,
) -> Found:
    """Audit the ranges that the config's recipe gets in calibration, and write it into the trial's folder.

    The float model is a stage of the study in `root`. Each draw is scored on the validation split; one that was scored
    before, of the same code, data and settings, is not scored again. Post-training methods and layers raised to 8 bits
    are left out. Raises `ValueError` before any work for a config without a recipe, an empty validation split, and
    other data that do not fit the model.
    """
    if config.rules is None:
        raise ValueError(f"an audit needs a recipe to calibrate, but arm {config.arm!r} has none. Give one: arm 'ptq'.")
    check([config.model_copy(update={"more_splits": (SPLIT,)})])
    workload = workload_of(config.model, config.data, config.engine, fold_norms=config.fold_norms)
    sources = {"training": workload, **({} if extent.other is None else {extent.other: _other(config, extent.other)})}
    names = [NOISE, *([] if extent.other is None else [extent.other])]
    count = len(workload.dataset.splits["train"])
    draws = plan_draws(count, most=extent.most, draws=extent.draws, others=names)
    variables, identity = _float_model(config, root, report), _identity(config, workload, sources, extent)
    known = _known(folder, identity)
    score = _Score(workload, config, variables)
    start = known.float_value if known is not None else score.float_value()
    examples = len(workload.dataset.splits[SPLIT])
    found = Found(identity, workload.task.metric, examples, start, draws, {} if known is None else known.values)
    for done, draw in enumerate(draws):
        on_draw(done, len(draws))
        if draw.key not in found.values:
            value = score(_batches(draw, sources, config, extent.seed))
            found = replace(found, values={**found.values, draw.key: value})
            write_audit(folder, found)
    on_draw(len(draws), len(draws))
    write_audit(folder, found)
    return found


@dataclass(frozen=True)
class _Score:
    """The main metric on validation data of the float model calibrated on batches of inputs, simulated: what is served
    has the same bits."""

    workload: Workload
    config: ExperimentConfig
    variables: Any

    def __call__(self, batches: Iterator[Any]) -> float:
        assert self.config.rules is not None
        q = quantized(self.workload, self.config.rules).inference
        ranges = q.calibrate(self.variables, batches)
        return self._measure(simulated_examples(self.workload.task, q.program), (self.variables, ranges))

    def float_value(self) -> float:
        """The score of the float model."""
        return self._measure(float_examples(self.workload.task, self.workload.functions.inference), self.variables)

    def _measure(self, examples: Any, model: Any) -> float:
        size = self.config.evaluation_batch_size
        arrays = self.workload.outcomes(examples, model, SPLIT, size)
        return self.workload.task.summary(arrays)[self.workload.task.metric.name]


def _batches(draw: Draw, sources: dict[str, Workload], config: ExperimentConfig, seed: int) -> Iterator[Any]:
    """Yield the inputs of a draw in batches of one size, of at most the training's: fewer samples are repeated, which
    leaves every share of values as it is."""
    size = 2 ** (config.train.batch_size.bit_length() - 1)
    workload = sources.get(draw.source, sources["training"])
    split, augment = workload.dataset.splits["train"], workload.dataset.augment
    rng = np.random.default_rng((seed, draw.samples, draw.number, 1))
    chosen = indices_of(draw, len(split), seed)
    for start in range(0, len(chosen), size):
        batch = gather(split, chosen[start : start + size])
        batch = batch if augment is None else augment(batch, rng)
        inputs = jax.tree.map(np.asarray, workload.task.arguments(batch))
        if draw.source == NOISE:
            inputs = jax.tree.map(lambda x: noise_like(x, rng), inputs)
        yield jax.tree.map(lambda x: np.resize(x, (size, *x.shape[1:])), inputs)


def noise_like(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of the mean and the deviation of values, Gaussian; of whole numbers and truths, uniform between their
    ends."""
    if np.issubdtype(values.dtype, np.floating):
        return rng.normal(values.mean(), values.std(), values.shape).astype(values.dtype)
    return rng.integers(int(values.min()), int(values.max()) + 1, values.shape).astype(values.dtype)


def _other(config: ExperimentConfig, name: str) -> Workload:
    """Other data under the model's task. Raises `ValueError` where its inputs are not like those of the model's."""
    workload = workload_of(config.model, config.data, fold_norms=config.fold_norms)
    other = replace(workload, dataset=data.load(name))
    shapes = [jax.tree.map(lambda x: (x.shape[1:], str(x.dtype)), one.example()) for one in (workload, other)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"`other` must have inputs like those of {config.data!r}, {shapes[0]}, got {shapes[1]}.")
    return other


def _float_model(config: ExperimentConfig, root: Path, report: Report) -> Any:
    stages = stage_of(config, data.load(config.data).fingerprint).walk()
    stage = next(stage for stage in stages if stage.kind == "float")
    run_stage(stage, root, report)
    return trained_in(root, stage).variables


def _identity(config: ExperimentConfig, workload: Workload, sources: dict[str, Workload], extent: Extent) -> str:
    stages = stage_of(config, workload.dataset.fingerprint).walk()
    key = next(stage.key for stage in stages if stage.kind == "calibration")
    others = {name: one.dataset.fingerprint for name, one in sources.items()}
    return digest(key, others, extent.seed, config.evaluation_batch_size)


def _known(folder: Path, identity: str) -> Found | None:
    found = read_audit(folder)
    return found if found is not None and found.identity == identity else None


def audit_file(
    file: Path, changes: Mapping[str, Any], runs: str | None, extent: Extent, console: Console
) -> tuple[Path, Found]:
    """The trial's folder and the audit of the experiment that a config file describes, with its progress shown."""
    (trial,) = load_one(file, changes).trials
    root = working_folder(runs or f"runs/{trial.config.name}")
    folder = root / TRIALS / trial.id
    tend()
    with using(threads_for(root)), kept(threads()), Progress(console=console, transient=True) as progress:
        training, drawing = progress.add_task("float", total=None), progress.add_task("draws", total=None)

        def report(kind: str, done: int, of: int, loss: float | None) -> None:
            progress.update(training, completed=done, total=of)

        def on_draw(done: int, of: int) -> None:
            progress.update(drawing, completed=done, total=of)

        found = audit_calibration(trial.config, root, folder, extent, report=report, on_draw=on_draw)
    return folder, found


def audit_table(found: Found) -> Table:
    """The scores of an audit, and the sentence that they come to."""
    title, metric = f"calibration audit: {found.metric.heading} of validation data", found.metric
    table = Table(title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    for number, name in enumerate(HEADS):
        table.add_column(name, justify="right" if number else "left")
    for line in lines(found):
        table.add_row(*map(Text, line))
    float_score = f"The float model has {metric.text(metric.shown(found.float_value))} {metric.unit}".rstrip()
    table.caption = Text(f"{sentence(found)} {float_score}. Post-training methods and raised layers are left out.")
    return table
