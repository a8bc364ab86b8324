"""What jobs of a study are made of: steps, multiply-accumulates and programs; and how fast this machine multiplies."""

import functools
import json
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from qat import data
from qat.config import ExperimentConfig, parse
from qat.jaxpr import find, trace
from qat.latency import medians
from qat.pipeline.quantizing import quantized
from qat.pipeline.training import setting
from qat.plan import macs
from qat.sweep.job import Job

TRAINING = ("float", "control", "qat")
QUANTIZING = ("calibration", "qat", "trial")
BACKWARD = 3  # the multiply-accumulates of a training step, in those of a forward pass
SIZE = 512  # rows of the matrices whose product is timed


def config_of(job: Job) -> ExperimentConfig:
    """The config that a job is for."""
    return _parsed(json.dumps(job.payload["config"], sort_keys=True))


@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> ExperimentConfig:
    return parse(ExperimentConfig, json.loads(text))


def steps_of(job: Job) -> int:
    """Steps of a training, 0 of any other job."""
    config = config_of(job)
    stage = config.train if job.kind == "float" else config.finetune
    return stage.steps if job.kind in TRAINING and stage is not None else 0


def products_of(job: Job) -> int:
    """Multiply-accumulates of a job."""
    config = config_of(job)
    if job.kind in TRAINING:
        stage = config.train if job.kind == "float" else config.finetune
        examples = BACKWARD * stage.steps * stage.batch_size if stage is not None else 0
    elif job.kind == "calibration":
        examples = config.calibration_batches * config.train.batch_size
    else:
        examples = len(data.load(config.data).splits["test"])
    return examples * forward_macs(config.model, config.data)


@functools.lru_cache
def forward_macs(model: str, name: str) -> int:
    """Multiply-accumulates of a registered model's forward pass on one example of a data set."""
    where = setting(model, name)
    inputs = where.example()
    variables = where.abstract_variables()
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    jaxpr, _ = trace(where.functions.inference, (variables, *inputs))
    return max(1, sum(macs(site) * site.turns for site in find(jaxpr, leaves)))


@functools.cache
def rate() -> float:
    """Multiply-accumulates a second of a float32 matrix product on this machine, timed now."""
    x = jnp.ones((SIZE, SIZE), jnp.float32)
    product = jax.jit(jnp.matmul)
    return SIZE**3 / medians({"product": lambda: product(x, x)}, rounds=9)["product"]


def programs_of(left: Sequence[Job]) -> int:
    """How many programs jobs of one kind run: recipes that differ in bits share one."""
    found = set()
    for job in left:
        config = config_of(job)
        program = None
        if job.kind in QUANTIZING and config.recipe is not None:
            program = quantized(setting(config.model, config.data), config.recipe).inference.program
        found.add((config.model, config.data, config.train.batch_size, program))
    return len(found)
