"""Does a regression with two inputs keep its error in integers? An NNX module, its data and its task in one file.

442 diabetics (Efron et al. 2004, in scikit-learn): four numbers of the body and six of the blood foretell how far the
disease has gone a year later, on a scale from 25 to 346. The model has a tower for each input, with BatchNorm and
dropout, takes one dict and returns another. Its builder takes `rngs`, from which it makes its weights, and the widths
`body` and `blood`, which the data set tells.

    qat sweep experiments/two_inputs.py        # add --fast to try it first

Cost: a few minutes on 2 cores, 24 trials; the fast edition about one.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from qat import data, models, tasks
from qat.lab.experiment.config import ExperimentConfig
from qat.tasks.metric import Metric
from qat.train import TrainConfig

MEAN, DEVIATION = 152.0, 77.0  # of the progress, rounded
BODY = 4  # of the ten columns: age, sex, body mass index, blood pressure


@data.register
def diabetes(seed: int = 0) -> data.Dataset:
    """442 people: `body` float32[4] and `blood` float32[6], both standardized, and the `progress` float32[]."""
    from sklearn.datasets import load_diabetes

    features, progress = map(np.asarray, load_diabetes(return_X_y=True))
    features = (features / features.std(0)).astype(np.float32)
    columns = {"body": features[:, :BODY], "blood": features[:, BODY:], "progress": progress.astype(np.float32)}
    order = np.random.default_rng(seed).permutation(len(progress))
    parts = {"train": order[:266], "validation": order[266:354], "test": order[354:]}
    splits = {name: data.Columns({key: x[part] for key, x in columns.items()}) for name, part in parts.items()}
    fingerprint = data.fingerprint(features, progress, order)
    sizes = {"body": BODY, "blood": features.shape[1] - BODY}
    return data.Dataset("diabetes", splits, fingerprint=fingerprint, task="progress", sizes=sizes)


@tasks.register
def progress() -> tasks.Task:
    """The squared error of the standardized progress; what counts is its root mean square, on the scale of the data."""
    return tasks.Task((Metric("rmse", "lower", decimals=2, margin=1.0),), _inputs, _loss, _examples, _summary)


def _inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    return {"body": batch["body"], "blood": batch["blood"]}


def _error(outputs: Mapping[str, Array], batch: Mapping[str, Any]) -> Float[Array, " batch"]:
    return outputs["progress"] - (batch["progress"] - MEAN) / DEVIATION


def _loss(outputs: Mapping[str, Array], batch: Mapping[str, Any]) -> tuple[jax.Array, dict[str, jax.Array]]:
    value = jnp.square(_error(outputs, batch)).mean()
    return value, {"rmse": DEVIATION * jnp.sqrt(value)}


def _examples(outputs: Mapping[str, Array], batch: Mapping[str, Any]) -> dict[str, jax.Array]:
    return {"error": DEVIATION * _error(outputs, batch)}


def _summary(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {"rmse": float(np.sqrt(np.mean(np.square(arrays["error"], dtype=np.float64))))}


@models.register
def two_towers(body: int, blood: int, width: int = 32, *, rngs: nnx.Rngs) -> nnx.Module:
    """A tower for each input, and a layer on both; `body` and `blood` are how many numbers each has."""
    return TwoTowers(body, blood, width, rngs)


class Tower(nnx.Module):
    """Two dense layers, with BatchNorm and dropout between them."""

    def __init__(self, features: int, width: int, rngs: nnx.Rngs):
        self.first = nnx.Linear(features, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.second = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x: Float[Array, "batch features"]) -> Float[Array, "batch width"]:
        """Features of one input."""
        return nnx.relu(self.second(self.dropout(nnx.relu(self.norm(self.first(x))))))


class TwoTowers(nnx.Module):
    """The standardized progress."""

    def __init__(self, body: int, blood: int, width: int, rngs: nnx.Rngs):
        self.body, self.blood = Tower(body, width, rngs), Tower(blood, width, rngs)
        self.head = nnx.Linear(2 * width, 1, rngs=rngs)

    def __call__(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """`progress` float32[batch] of `body` and `blood`."""
        both = jnp.concatenate([self.body(inputs["body"]), self.blood(inputs["blood"])], -1)
        return {"progress": self.head(both)[:, 0]}


BASE = ExperimentConfig(
    name="two_inputs",
    model="two_towers",
    data="diabetes",
    train=TrainConfig(steps=400, batch_size=32, learning_rate=3e-3, warmup_steps=20, weight_decay=1e-2),
    finetune=TrainConfig(steps=150, batch_size=32, learning_rate=5e-4, freeze_bn_step=75),
    evaluation_batch_size=64,
)
AXES = {
    "arm": {
        "float": {"arm": "float"},
        "control": {"arm": "control"},
        **{f"ptq {bits}": {"arm": "ptq", "recipe": bits} for bits in ("w8a8", "w4a4")},
        **{f"qat {bits}": {"arm": "qat", "recipe": bits} for bits in ("w8a8", "w4a4")},
    },
    "seed": [0, 1, 2, 3],
}
FAST = {"train.steps": 60, "finetune.steps": 20, "finetune.freeze_bn_step": 10}
FAST_AXES = {"seed": [0, 1]}
