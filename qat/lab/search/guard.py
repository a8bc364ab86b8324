"""An accuracy guard: the drop of a quantized model held below a limit by layers at more bits or in float."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.table import Table

from qat import data
from qat.core.state import QuantState
from qat.export.safetensors import serialized
from qat.lab.experiment.config import override
from qat.lab.experiment.objective import float_examples, served_examples
from qat.lab.experiment.quantizing import Calibration, quantized, sensitivity_setup
from qat.lab.experiment.recipe import resolved
from qat.lab.experiment.training import Report
from qat.lab.runs.models import serialized_variables
from qat.lab.search.bits import Prepared, load_quantized, prepare, write_config_file
from qat.lab.stats.drop import paired_drop
from qat.ptq.groups import Choice, Width
from qat.ptq.guard import Guarded, Validation, guard
from qat.ptq.sensitivity import Setup
from qat.recipes.recipe import QuantRecipe
from qat.runtime import shortest
from qat.transform import Quantized

HIGH = 8  # bits of a returned layer, where these gain nearly all that float gains
NEARLY = 0.9


@dataclass(frozen=True)
class Held:
    """The outcome of a guard: its validations, the layers that it returned with their new bits, bytes and milliseconds
    of a call (`float`, `quantized`, `guarded`), the drop on the test split with its upper end, and the written config.

    `guarded.chosen` is None where the limit cannot be met; the last three are then of no model, but of a fallback.
    """

    limit: float
    metric: Any
    guarded: Guarded
    returned: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    times: Mapping[str, float] = field(default_factory=dict)
    test: tuple[float, float] | None = None
    config: Path | None = None
    fallback: bool = False

    def table(self) -> Table:
        """The validations in their order."""
        unit = self.metric.difference_unit
        table = Table(title="validations", title_justify="left")
        for name in ("layers returned", f"{self.metric.worsening}, {unit}", "below, 95 %"):
            table.add_column(name, justify="right")
        for one in self.guarded.validations:
            cells = [self.metric.text(value, sign=True) for value in (one.drop, one.upper)]
            table.add_row(str(one.returned), *cells)
        return table

    @property
    def words(self) -> str:
        """The decision in words."""
        m, unit, count = self.metric, self.metric.difference_unit, len(self.guarded.validations)
        if self.guarded.chosen is None or self.test is None:
            kept = " The float model is kept." if self.fallback else " Keep the float model (--fallback float)."
            return f"{count} full validations: a {m.worsening} below {self.limit:g} {unit} cannot be shown.{kept}"
        layers = ", ".join(f"{name} to {bits}" for name, bits in self.returned.items()) or "none"
        sizes = ", ".join(f"{name} {size:,}" for name, size in self.sizes.items())
        times = ", ".join(f"{name} {time:.3g}" for name, time in self.times.items())
        return (
            f"{count} full validations; returned: {layers}.\nbytes: {sizes}; ms of a call: {times}.\n"
            f"test split: {m.worsening} {m.text(self.test[0], True)} {unit}, below {m.text(self.test[1], True)}."
        )


def guard_file(
    file: Path,
    max_drop: float,
    changes: Mapping[str, Any],
    runs: str | None,
    out: Path | None,
    *,
    fallback: bool,
    report: Report,
) -> Held:
    """Quantize the config in `file` and return layers to more bits or float until the upper end of the drop on the
    validation split, paired with the float model, lies below `max_drop`, in the metric's unit as shown.

    Layers go in the order of what they gain on batches of training: to 8 bits where these gain nearly all that float
    does, else to float. The test split is measured once, at the end. Raises `ValueError`, before long work, for a limit
    that is not positive, an arm without bits, and an empty validation split.
    """
    if not max_drop > 0:
        raise ValueError(f"`--max-drop` must be positive, got {max_drop:g}.")
    config, imports = load_quantized(file, changes)
    data.load(config.data).filled("validation")
    done = prepare(config, imports, runs, report)
    models = _Models.of(done)
    found = guard(len(models.ranked), models.validate, max_drop)
    metric = done.workload.task.metric
    path = out or done.root / "guarded.json"
    if found.chosen is None:
        if fallback:
            changed = {"arm": "float", "recipe": None, "engine": None, "distillation": None, "ptq": (),
                       "sensitive_share": None, "allocation": None, "finetune_bn_batches": None,
                       "fold_norms": False}  # fmt: skip
            write_config_file(path, override(config, {**changed, "seed": config.first_seed}), imports)
        return Held(max_drop, metric, found, config=path if fallback else None, fallback=fallback)
    choices = models.choices(found.chosen.returned)
    q = models.function(choices)
    recipe = None if q is None else q.recipe
    changed = {"recipe": recipe, "allocation": None, "sensitive_share": None}
    write_config_file(path, override(config, changed if recipe else {**changed, "arm": "float"}), imports)
    return Held(
        limit=max_drop,
        metric=metric,
        guarded=found,
        returned=models.names(found.chosen.returned),
        test=models.drop(choices, "test"),
        config=path,
        **models.costs(choices),
    )


@dataclass(frozen=True)
class _Models:
    """The models that a guard compares: those with the first of the ranked groups returned, each to its own bits."""

    done: Prepared
    setup: Setup
    recipe: QuantRecipe
    ranked: Sequence[tuple[int, Choice]]
    outcomes: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    @classmethod
    def of(cls, done: Prepared) -> "_Models":
        config, trained = done.config, done.trained
        assert config.rules is not None
        recipe = resolved(config.rules, trained.high_bit_layers, trained.allocation)
        how = Calibration(config.train.batch_size, config.calibration_batches, config.seed)
        setup, _ = sensitivity_setup(done.workload, recipe, trained.variables, how, widths=(HIGH,))
        return cls(done, setup, recipe, _ranked(setup))

    def choices(self, returned: int) -> list[Choice]:
        changed: dict[int, Choice] = dict(self.ranked[:returned])
        return [changed.get(i, group.own) for i, group in enumerate(self.setup.groups)]

    def names(self, returned: int) -> dict[str, str]:
        return {self.setup.groups[i].name: "float" if to is None else str(to) for i, to in self.ranked[:returned]}

    def function(self, choices: Sequence[Choice]) -> Quantized | None:
        """The quantized function; None where every layer is in float."""
        if all(choice is None for choice in choices):
            return None
        changed = any(choice != group.own for choice, group in zip(choices, self.setup.groups, strict=True))
        return quantized(self.done.workload, self.setup.recipe(choices) if changed else self.recipe).inference

    def state(self, q: Quantized, choices: Sequence[Choice]) -> QuantState:
        """The trained ranges, those of returned groups calibrated at their new bits."""
        trained, fresh = self.done.trained.ranges, self.setup.state(choices)
        assert trained is not None
        groups = zip(self.setup.groups, choices, strict=True)
        kept = {key for group, one in groups if one == group.own for key in (*group.weights, *group.activations)}
        clips = {key: (trained if key in kept else fresh).clips[key] for key in fresh.clips}
        learned = {key: (trained if key in kept else fresh).learned[key] for key in fresh.learned}
        return q.adopt(replace(fresh, clips=clips, learned=learned))

    def converted(self, choices: Sequence[Choice]) -> tuple[Quantized | None, Any]:
        q, config = self.function(choices), self.done.config
        if q is None:
            return None, self.done.float_variables
        inputs = self.done.workload.example(config.evaluation_batch_size)
        return q, q.convert(self.done.trained.variables, self.state(q, choices), *inputs)

    def drop(self, choices: Sequence[Choice], split: str) -> tuple[float, float]:
        workload, size = self.done.workload, self.done.config.evaluation_batch_size
        if split not in self.outcomes:
            examples = float_examples(workload.task, workload.functions.inference)
            self.outcomes[split] = workload.outcomes(examples, self.done.float_variables, split, size)
        q, model = self.converted(choices)
        if q is None:
            return 0.0, 0.0
        after = workload.outcomes(served_examples(workload.task, q.program), model, split, size)
        return paired_drop(workload.task.metric, workload.task.summary, self.outcomes[split], after)

    def validate(self, returned: int) -> Validation:
        return Validation(returned, *self.drop(self.choices(returned), "validation"))

    def costs(self, choices: Sequence[Choice]) -> dict[str, Any]:
        """Bytes of the files and milliseconds of a call on one example, by model."""
        workload, float_variables = self.done.workload, self.done.float_variables
        x, float_fn = workload.example(), jax.jit(workload.functions.inference)
        sizes: dict[str, int] = {"float": len(serialized_variables(float_variables))}
        calls: dict[str, Any] = {"float": lambda: float_fn(float_variables, *x)}
        for name, one in (("quantized", self.choices(0)), ("guarded", choices)):
            q, model = self.converted(one)
            sizes[name] = sizes["float"] if q is None else len(serialized(model))
            calls[name] = calls["float"] if q is None else (lambda q=q, model=model: q.serve(model, *x))
        times = {name: 1e3 * float(np.median(found)) for name, found in shortest(calls, rounds=10).items()}
        return {"sizes": sizes, "times": times}


def _ranked(setup: Setup) -> list[tuple[int, Choice]]:
    """The groups by what they gain when they return alone, most first, each with the bits that it returns to."""
    start, found = setup.losses(setup.own).mean(), []
    for i, group in enumerate(setup.groups):

        def gain(choice: Choice, i: int = i) -> float:
            return float(start - setup.losses([*setup.own[:i], choice, *setup.own[i + 1 :]]).mean())

        in_float, high = gain(None), Width(group.own.weights and HIGH, group.own.activations and HIGH)
        to, gained = None, in_float
        if high != group.own and not group.fixed and (at_high := gain(high)) >= NEARLY * in_float:
            to, gained = high, at_high
        found.append((gained, i, to))
    return [(i, to) for _, i, to in sorted(found, key=lambda one: -one[0])]
