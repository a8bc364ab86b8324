"""Checks that find before any long work what would fail later."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax

from qat import data
from qat.core.plan import make_plan
from qat.data.problems import MissingDataError
from qat.fileio import describe_error, place
from qat.lab.experiment.config import ExperimentConfig
from qat.lab.experiment.exports import check_exports
from qat.lab.experiment.quantizing import quantized, subject_of
from qat.lab.experiment.training import Workload, workload_of
from qat.models.pretrained import check_init
from qat.ptq import budget_of, check_methods
from qat.ptq.groups import groups_of
from qat.ptq.sensitivity import WIDTHS
from qat.recipes.recipe import QuantRecipe
from qat.tasks.task import check_task


def check(configs: "Iterable[ExperimentConfig]") -> None:
    """Raise `ValueError` for data that cannot be read, and for a recipe, a post-training method, a checkpoint or a
    teacher that does not fit the model, its data or its task."""
    for config in _different(configs):
        workload = workload_of(config.model, config.data, config.engine, fold_norms=config.fold_norms)
        _check_splits(config)
        for name in ("distillation", "r_drop"):
            if getattr(config, name) is not None and workload.task.distill is None:
                raise ValueError(
                    f"`{name}`: {config.data!r} asks for a task that cannot compare outputs. Leave it out."
                )
        check_exports(workload, config.exports)
        if config.recipe is None and config.init is None:
            continue
        variables = workload.abstract_variables()
        if config.init is not None:
            check_init(config.init, variables)
        if config.rules is not None:
            quantized(workload, config.rules).inference.sites(variables, *workload.example())
            if config.allocation is not None:
                _check_budget(workload, config.rules, variables, config.allocation)
            check_methods(config.ptq, subject_of(workload, config.rules), variables, workload.example())


def _check_budget(workload: Workload, recipe: QuantRecipe, variables: Any, allocation: str) -> None:
    """Raise `ValueError` for a budget that no bits meet."""
    q, budget = quantized(workload, recipe).inference, budget_of(allocation)
    groups = groups_of(make_plan(q.fn, recipe, variables, workload.example()))
    budget.of(groups, [budget.choices(group, WIDTHS) for group in groups])


def _different(configs: "Iterable[ExperimentConfig]") -> "Iterable[ExperimentConfig]":
    return {tuple(getattr(config, field) for field in DECISIVE): config for config in configs}.values()


DECISIVE = (
    *("model", "data", "recipe", "fold_norms", "ptq", "allocation"),
    *("init", "distillation", "r_drop", "more_splits", "exports"),
)


def refuse_misfits(configs: Iterable[ExperimentConfig]) -> None:
    """Raise `ValueError` with every mismatch, one on each line."""
    found = [f"`{field}`: {said}" for field, said in mismatches(configs)]
    if found:
        raise ValueError("\n".join(found))


def mismatches(configs: Iterable[ExperimentConfig]) -> Iterator[tuple[str, str]]:
    """List the models, data sets and recipes that do not fit, each with the field to blame and what is wrong; data that
    are not here are passed over, and what should fit them.
    """
    seen: set[tuple[Any, ...]] = set()
    for config in configs:
        key = tuple(getattr(config, field) for field in DECISIVE)
        if key not in seen:
            seen.add(key)
            found = _misfit(config)
            if found is not None:
                yield found


def _misfit(config: ExperimentConfig) -> tuple[str, str] | None:
    def variables() -> Any:
        return workload_of(config.model, config.data).abstract_variables()

    steps = (
        ("data", lambda: _check_splits(config)),
        ("model", variables),
        ("data", lambda: _check_task(config)),
        ("init", lambda: config.init and check_init(config.init, variables())),
        ("exports", lambda: check_exports(workload_of(config.model, config.data, config.engine), config.exports)),
        ("recipe", lambda: check([config.model_copy(update={"ptq": (), "allocation": None, "exports": ()})])),
        ("allocation", lambda: check([config.model_copy(update={"ptq": (), "exports": ()})])),
        ("ptq", lambda: check([config.model_copy(update={"exports": ()})])),
    )
    for field, step in steps:
        try:
            step()
        except MissingDataError:
            return None
        except (Exception, SystemExit) as error:
            said = str(error).strip() if isinstance(error, ValueError) else describe_error(error)
            found = place(error)
            return field, f"{getattr(config, field)!r}: {said}" + (f" ({found})" if found else "")
    return None


def _check_splits(config: ExperimentConfig) -> None:
    """Raise `ValueError` for a split that is measured and has no examples."""
    dataset = data.load(config.data)
    for split in ("test", *config.more_splits):
        dataset.filled(split)


def _check_task(config: ExperimentConfig) -> None:
    """Raise `ValueError` where the data set's task cannot use the model's outputs."""
    workload = workload_of(config.model, config.data)
    batch = next(iter(data.in_order(workload.dataset.splits["train"], 2)))
    inputs = workload.task.arguments(batch)
    outputs = jax.eval_shape(workload.functions.inference, workload.abstract_variables(), *inputs)
    check_task(workload.task, outputs, batch, len(next(iter(batch.values()))))


def missing(configs: Iterable[ExperimentConfig]) -> Iterator[tuple[str, str]]:
    """The field and the reason for each data set that is not here, so that what should fit it is not checked."""
    for name in dict.fromkeys(config.data for config in configs):
        try:
            data.load(name)
        except MissingDataError as error:
            yield "data", f"{name!r} is not here, and nothing was checked against it: {error}"
        except (Exception, SystemExit):
            continue  # a mismatch
