"""A search over the bits of four layers, and trials of it that are done at once."""

from studies import BASE

from qat.lab.experiment.config import lineage
from qat.lab.runs.record import Record
from qat.lab.search.search import run_search
from qat.lab.sweep.space import Search
from qat.tasks.classification import METRICS

PTQ = BASE.model_copy(update={"arm": "ptq", "recipe": "w8a8"})
LAYERS = ("stem", "down", "body", "head")
SEARCH = Search(space={f"bits:{layer}": [2, 3, 4, 8] for layer in LAYERS}, trials=12, sampler="tpe(startup=5)", seed=1)


def bits(config):
    """The bits of each layer that a config's recipe asks for."""
    return {pattern: spec.bits for pattern, spec in config.rules.weights}


def accuracy_of(values):
    """Best where every layer has most bits, the head above all."""
    return sum(number * (5 if layer.endswith("head") else 1) for layer, number in values.items()) / 100


def accuracy(config):
    return accuracy_of(bits(config))


def record_of(trial, accuracy, size=1000):
    return Record(
        trial=trial.id,
        labels=trial.labels,
        arm=trial.config.arm,
        recipe=trial.config.recipe_name,
        seed=0,
        lineage=lineage(trial.config),
        task_metrics=METRICS,
        metrics={"accuracy": -accuracy, "validation/accuracy": accuracy},  # a search by the test split ends last
        examples=10,
        size_bytes=size,
        timings={"seconds": 0.0, "latency_ms": 2.0},
    )


class Runs:
    """A `run_trial` that keeps what it ran."""

    def __init__(self, value=accuracy, before=lambda trial, watch: None):
        self.value, self.before, self.ran = value, before, []

    def __call__(self, trial, watch):
        self.ran.append(trial.id)
        self.before(trial, watch)
        return record_of(trial, self.value(trial.config), size=size(trial.config))


def size(config):
    return 100 * sum(bits(config).values())


def go(search, root, runs, base=PTQ, **options):
    return run_search(search, base, root, runs, size_of=size, **options)
