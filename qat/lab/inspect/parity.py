"""The parity of an exported file with the finished trial that it came from."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from qat import fileio
from qat.export.description import Description, read_description
from qat.export.parity import Bounds, Certificate, Subject
from qat.lab.experiment.exports import exportable_of
from qat.lab.experiment.parity import ARRAYS, Inputs, certify_export, inputs_of_file, inputs_of_split, is_decoded
from qat.lab.inspect.trial import Trial, load_trial
from qat.lab.runs.parity import write_parity


def parity_of_trial(
    model: str | Path,
    exported: str | Path,
    inputs: str = "test",
    *,
    limit: int | None = None,
    bounds: Bounds | None = None,
    runtimes: Sequence[str] = (),
    trust: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[Certificate, Path]:
    """The certificate of an exported file with the trial in the folder `model`, written beside the file, and where.

    `inputs` name a split of the trial's data or a file of arrays, of which `limit` examples are taken, None for all.
    Of `trust` see `load_trial`. Raises `ValueError` for a file that is damaged, of another model or no program, inputs
    that do not fit, a bound that cannot be checked, and a runtime that is not installed.
    """
    file = fileio.folder(exported)
    description = read_description(file)
    trial = load_trial(model, trust=trust)
    chosen = _inputs(trial, inputs, description, limit)
    found = certify_export(file, _subject(trial, description, tell), chosen, bounds=bounds, runtimes=runtimes)
    return found, write_parity(file, found)


def _inputs(trial: Trial, inputs: str, description: Description, limit: int | None) -> Inputs:
    if limit is not None and limit < 1:
        raise ValueError(f"`limit` must be at least 1, got {limit}. Leave it out for all examples.")
    if inputs.endswith(ARRAYS):
        return inputs_of_file(Path(inputs), list(description.inputs), limit)
    return inputs_of_split(trial.dataset, inputs, limit, is_decoded(description))


def _subject(trial: Trial, description: Description, tell: Callable[[str], None]) -> Subject:
    """The trial's model as it was exported; where the variables that it was converted from are elsewhere, without
    them."""
    examples = tuple(_abstract(spec) for spec in description.inputs.values())
    raw = not is_decoded(description)
    if trial.quantized is None:
        about = exportable_of(trial.functions.inference, trial.variables, examples, trial.signature, raw=raw)
        return Subject(about)
    about = exportable_of(trial.quantized, trial.converted, examples, trial.signature, raw=raw)
    try:
        return Subject(about, trial.variables, trial.state)
    except ValueError as error:
        tell(f"Neither float nor simulated: {error}")
        return Subject(about)


def _abstract(spec: Any) -> jax.ShapeDtypeStruct:
    """An input as described, its open lengths 1: of a model's inputs only their number counts here."""
    return jax.ShapeDtypeStruct(tuple(n if isinstance(n, int) else 1 for n in spec.shape), spec.dtype)
