"""Finished trials of models whose weights are drawn and not trained, made in moments: for what only runs them."""

import jax
import numpy as np

from qat import data, tasks
from qat.lab.experiment.config import lineage
from qat.lab.experiment.quantizing import quantized_functions
from qat.lab.experiment.recipe import resolved
from qat.lab.runs.manifest import signature_of, write_signature
from qat.lab.runs.models import write_model
from qat.lab.runs.record import Record, write_record
from qat.lab.runs.settings import write_config
from qat.models.adapter import forward

DRAWN = ("kernel", "embedding")
ONES = ("scale", "var")


def untrained(root, base, recipe="w8a8", examples=8):
    """The folders of a float trial and of one that is quantized from it, `float` and `ptq`, with the model and data of
    the config `base`; ranges are those of the first `examples` of training."""
    dataset = data.load(base.data)
    task, signature = tasks.build(dataset.task), signature_of(dataset)
    functions = forward(base.model, **signature.arguments)
    inputs = task.arguments(next(iter(data.in_order(dataset.splits["train"], examples))))
    variables = drawn(functions.init, *inputs)
    folders = {}
    for arm in ("float", "ptq"):
        config = base.model_copy(update={"arm": arm, "recipe": None if arm == "float" else recipe})
        model = variables
        if config.rules is not None:
            q = quantized_functions(
                functions, resolved(config.rules, (), None), config.engine, fold_norms=config.fold_norms
            ).inference
            model = q.convert(variables, q.calibrate(variables, [inputs]), *inputs)
        folders[arm] = root / "trials" / arm
        folders[arm].mkdir(parents=True)
        write_config(folders[arm], config.model_dump_json())
        write_signature(folders[arm], signature)
        size = write_model(folders[arm], model)
        write_record(folders[arm], _record(config, size, task.metrics))
    return folders


def drawn(init, *inputs, seed=0):
    """Variables of the shapes that `init` gives, matrices from a normal distribution that keeps the size of values."""
    rng = np.random.default_rng(seed)

    def leaf(path, like):
        name = path[-1].key
        if name not in DRAWN:
            return np.full(like.shape, name in ONES, np.float32)
        rows = np.prod(like.shape[:-1]) if name == "kernel" else 1
        return (rng.standard_normal(like.shape) / np.sqrt(rows)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(leaf, dict(jax.eval_shape(init, jax.random.key(0), *inputs)))


def _record(config, size, metrics):
    return Record(
        trial=config.arm,
        labels={"arm": config.arm},
        arm=config.arm,
        recipe=config.recipe_name,
        seed=config.seed,
        lineage=lineage(config),
        task_metrics=metrics,
        metrics={metric.name: 0.5 for metric in metrics},
        examples=1,
        size_bytes=size,
        timings={"seconds": 0.0},
    )
