"""Registered parts of an experiment: the ones that its config names, and the ones that its recipe does."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qat import data, models, tasks
from qat.engines import engines
from qat.export.exporter import exporters
from qat.numerics import MAX_BITS, MIN_BITS
from qat.observers import observers
from qat.ptq.method import methods
from qat.quantizers import quantizers
from qat.recipes.layer_bits import raise_bits
from qat.recipes.presets import recipe as build_recipe
from qat.recipes.presets import usual_observer
from qat.recipes.recipe import QuantRecipe
from qat.registry import Registry, parse_call
from qat.train import TrainConfig, optimizers, schedules
from qat.transform import Program

if TYPE_CHECKING:
    from qat.lab.experiment.settings import Settings

type Member = tuple[Registry[Any], str]

ANY_LAYER = ("layer",)
ENGINES = (Program.engine, Program.serving)


def members(settings: "Settings") -> list[Member]:
    """The registered parts that run in a stage of these settings, each with its registry."""
    task = data.load(settings.data).task
    named = [(models.models, settings.model), (data.datasets, settings.data), (tasks.tasks, task)]
    for name in ("train", "finetune"):
        if (training := getattr(settings, name, None)) is not None:
            named += _of_training(training)
    if (recipe := getattr(settings, "recipe", None)) is not None:
        named += _of_quantization(settings, build_recipe(recipe) if isinstance(recipe, str) else recipe)
    named += [(methods, text) for text in getattr(settings, "ptq", ())]
    named += [(exporters, text) for text in getattr(settings, "exports", ())]
    return list(dict.fromkeys(named))


def _of_quantization(settings: Any, rules: QuantRecipe) -> Iterator[Member]:
    yield from _of_recipe(rules)
    if settings.sensitive_share is not None:
        yield from _of_recipe(raise_bits(rules, ANY_LAYER))
    if settings.allocation is not None:
        yield from ((observers, usual_observer(bits)) for bits in (MIN_BITS, MAX_BITS))
    yield from ((engines, name) for name in ((settings.engine,) if settings.engine else ENGINES))


def sources(found: list[Member]) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """The files of registered parts, and those parts that no file defines."""
    files = {member: member[0].sources(member[1]) for member in found}
    typed = [f"the {registry.kind} {text!r} is in no file" for (registry, text), paths in files.items() if not paths]
    return tuple(sorted({path for paths in files.values() for path in paths})), tuple(typed)


def is_known(values: Mapping[str, Any]) -> bool:
    """Whether all that a config names, given as plain values, is registered in this process."""
    named: list[Member] = [(models.models, values["model"]), (data.datasets, values["data"])]
    if values.get("recipe"):
        named += _in_plain(values["recipe"])
    named += [(methods, text) for text in values.get("ptq") or ()]
    named += [(exporters, text) for text in values.get("exports") or ()]
    if values.get("engine"):
        named.append((engines, values["engine"]))
    for stage in (values.get("train"), values.get("finetune")):
        for part in (stage or {}, *(stage or {}).get("groups", ())):
            named += [(optimizers, part["optimizer"])] if part.get("optimizer") else []
            named += [(schedules, part["schedule"])] if part.get("schedule") else []
    return all(parse_call(text)[0] in registry for registry, text in named)


RECIPE_OPTIONS = ((observers, "observer"), (quantizers, "quantizer"))


def _in_plain(recipe: Any) -> Iterator[Member]:
    """Those that a preset's text names, or at any depth the data of rules."""
    if isinstance(recipe, str):
        recipe = parse_call(recipe)[2]
    if isinstance(recipe, Mapping):
        yield from ((registry, recipe[name]) for registry, name in RECIPE_OPTIONS if isinstance(recipe.get(name), str))
        recipe = recipe.values()
    elif not isinstance(recipe, list | tuple):
        return
    for part in recipe:
        if isinstance(part, Mapping | list | tuple):
            yield from _in_plain(part)


def _of_training(train: TrainConfig) -> Iterator[Member]:
    yield schedules, train.schedule
    for text in (train.optimizer, *(group.optimizer for group in train.groups)):
        if text is not None:
            yield optimizers, text


def _of_recipe(built: QuantRecipe) -> Iterator[Member]:
    specs = [spec for rule in built.all_rules for spec in (rule.weights, rule.activations)]
    specs += [spec for _, spec in (*built.weights, *built.activations)]
    for spec in specs:
        if spec is not None:
            yield observers, spec.observer
            yield quantizers, spec.quantizer
