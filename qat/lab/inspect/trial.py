"""A finished trial's model as read from its folder, for use where its data need not be."""

import json
from dataclasses import dataclass
from pathlib import Path

from qat.lab.experiment.config import ExperimentConfig, parse
from qat.lab.experiment.objective import Forward, forward
from qat.lab.experiment.plugins import register, vetted
from qat.lab.runs.files import CONFIG_FILE
from qat.lab.runs.manifest import Signature, read_signature
from qat.lab.runs.record import RECORD_FILE, Record, read_record
from qat.lab.runs.study_folder import STUDY_FILE, TRIALS, read_study
from qat.registry import parse_call


@dataclass(frozen=True)
class Finished:
    """The description of a trial's model, read from the trial's folder."""

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
        """The model's functions."""
        return forward(self.config.model, self.signature.classes)


def read_finished(folder: Path, task: str, kind: str, *, trust: bool = False) -> Finished:
    """The finished trial in a folder. Raises `ValueError` where there is none, where its model is not of that task,
    `kind` in words, or where it needs files from outside of the current project, unless there is `trust`."""
    if (folder / STUDY_FILE).is_file():
        trials = "\n".join(f"  {folder / TRIALS / trial}" for trial in read_study(folder).trials)
        raise ValueError(f"{str(folder)!r} is a whole study. Name the folder of one of its trials:\n{trials}")
    record = read_record(folder)
    if record is None or not (folder / CONFIG_FILE).is_file():
        raise ValueError(
            f"{str(folder)!r} holds no finished trial: there is no {RECORD_FILE} and {CONFIG_FILE} in it. "
            "Name a folder such as RUNS/trials/NAME that a sweep made."
        )
    signature = read_signature(folder)
    if parse_call(signature.task)[0] != task:
        raise ValueError(f"{str(folder)!r} must hold {kind}, but its task is {signature.task}.")
    return Finished(folder, _config(folder, trust), record, signature)


def _config(folder: Path, trust: bool) -> ExperimentConfig:
    """The trial's settings; what its study's files register is known then."""
    try:
        values = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        named = {name: str(values[name]) for name in ("model", "data")} | {"recipe": values.get("recipe")}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(folder / CONFIG_FILE)!r} is damaged ({error}). Run the sweep again.") from None
    root = folder.absolute().parent.parent
    if (root / STUDY_FILE).is_file():
        register(named, vetted(read_study(root).imports, root, trust))
    return parse(ExperimentConfig, values)
