"""A finished trial in Python: its settings, record and model, to use also where its data are not."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from qat import data, fileio
from qat.core.convert import Converted
from qat.core.state import QuantState
from qat.data import Dataset
from qat.lab.experiment.config import ExperimentConfig, parse
from qat.lab.experiment.plugins import register, vetted
from qat.lab.experiment.quantizing import quantized_functions
from qat.lab.experiment.recipe import resolved
from qat.lab.experiment.stage_results import trained_by
from qat.lab.experiment.trial import Trained
from qat.lab.runs.files import REDO_TRIAL, STAGES
from qat.lab.runs.finished import faults_of_model
from qat.lab.runs.manifest import Signature, read_signature
from qat.lab.runs.models import read_converted, read_variables
from qat.lab.runs.record import Record, read_record
from qat.lab.runs.settings import config_of, read_config
from qat.lab.runs.study_folder import TRIALS, holds_study, read_study, root_of
from qat.models.adapter import Forward, forward
from qat.registry import parse_call
from qat.transform import Quantized


@dataclass(frozen=True)
class Trial:
    """A finished trial, whose model and data set are read when they are first asked for.

    A float or control trial runs as `t.functions.inference(t.variables, x)` and has no quantized parts; any other as
    `t.quantized.serve(t.converted, x)`, or with what it was converted from as
    `t.quantized.simulate(t.variables, t.state, x)`.
    """

    folder: Path
    config: ExperimentConfig
    record: Record
    signature: Signature

    @property
    def name(self) -> str:
        """The model's arm and recipe."""
        return self.record.arm if self.record.recipe is None else f"{self.record.arm} {self.record.recipe}"

    @property
    def functions(self) -> Forward:
        """The float functions of its model: `init`, `training` and `inference`."""
        return forward(self.config.model, **self.signature.arguments)

    @cached_property
    def dataset(self) -> Dataset:
        """The trial's data set. Raises `ValueError` where the data are not on this machine."""
        return data.load(self.config.data)

    @cached_property
    def variables(self) -> Any:
        """The trained variables in float; of a quantized trial those that were converted."""
        return read_variables(self.folder) if self.config.recipe is None else self._trained.variables

    @cached_property
    def quantized(self) -> Quantized | None:
        """The inference function quantized by the trial's recipe, layers that calibration chose at 8 bits; None in
        float."""
        if self.config.rules is None:
            return None
        recipe = resolved(self.config.rules, self.record.high_bit_layers, self.record.allocation)
        config = self.config
        return quantized_functions(self.functions, recipe, config.engine, fold_norms=config.fold_norms).inference

    @cached_property
    def state(self) -> QuantState | None:
        """The ranges and learned values that were converted; None in float."""
        return None if self.config.recipe is None else self._trained.ranges

    @cached_property
    def converted(self) -> Converted | None:
        """The integer model that was measured; None in float."""
        return None if self.config.recipe is None else read_converted(self.folder)

    @cached_property
    def _trained(self) -> Trained:
        root = root_of(self.folder)
        try:
            return trained_by(root, self.record.stages)
        except FileNotFoundError as error:
            raise ValueError(
                f"the variables that {str(self.folder)!r} was converted from are not in {str(root / STAGES)!r}: "
                f"{error.filename!r} is missing. Copy the stages of its study too; `converted` is served without them."
            ) from None


def load_trial(folder: str | Path, *, trust: bool = False) -> Trial:
    """The finished trial in a folder such as `RUNS/trials/ID`, or at the address of a copy, with its model.

    Files of its study that it needs are run where they are in the current project, or by `trust`. Raises `ValueError`
    where they are not, for a folder that holds no finished trial, and for a model that is missing or not as it was
    written.
    """
    trial = _read(fileio.folder(folder), trust)
    _ = trial.functions  # an unknown model is told now
    for problem in faults_of_model(trial.folder):
        raise ValueError(f"{problem} {REDO_TRIAL}")
    return trial


def read_finished(folder: str | Path, task: str, kind: str, *, trust: bool = False) -> Trial:
    """The finished trial in a folder, its model not looked at. Raises `ValueError` where there is none, where its model
    is not of that task, `kind` in words, or where it needs files from outside of the current project, unless there is
    `trust`."""
    return _read(fileio.folder(folder), trust, (task, kind))


def _read(folder: Path, trust: bool, wanted: tuple[str, str] | None = None) -> Trial:
    if holds_study(folder):
        trials = "\n".join(f"  {folder / TRIALS / trial}" for trial in read_study(folder).trials)
        raise ValueError(f"{str(folder)!r} is a whole study. Name the folder of one of its trials:\n{trials}")
    record = read_record(folder)
    if record is None or read_config(folder) is None:
        raise ValueError(
            f"{str(folder)!r} holds no finished trial: there is no record.json and config.json in it. "
            "Name a folder such as RUNS/trials/NAME that a sweep made."
        )
    signature = read_signature(folder)
    if wanted is not None and parse_call(signature.task)[0] != wanted[0]:
        raise ValueError(f"{str(folder)!r} must hold {wanted[1]}, but its task is {signature.task}.")
    return Trial(folder, _config(folder, trust), record, signature)


def _config(folder: Path, trust: bool) -> ExperimentConfig:
    """The trial's settings; what its study's files register is known then."""
    values, root = config_of(folder), root_of(folder)
    if holds_study(root):
        register(values, vetted(read_study(root).imports, root, trust))
    return parse(ExperimentConfig, values)
