"""Does your model survive 8, 4 and 2 bits, and does training with quantization help?

    qat sweep study.py          # add --fast to try it first, with two seeds
    qat validate study.py       # is every setting right? nothing is trained

About half a minute on two cores. `my_data.py` and `my_model.py` beside this file are yours to change: what depends on
a change is trained anew, the rest is kept.
"""

import my_data  # noqa: F401  # registers `my_points`
import my_model  # noqa: F401  # registers `my_mlp`

from qat.lab.experiment.config import ExperimentConfig
from qat.train import TrainConfig

BASE = ExperimentConfig(
    name="mine",
    model="my_mlp(width=32)",
    data="my_points",
    train=TrainConfig(steps=400, batch_size=32, learning_rate=1e-2),
    finetune=TrainConfig(steps=200, batch_size=32, learning_rate=2e-3),
)
AXES = {
    "arm": {
        "float": {"arm": "float"},
        "control": {"arm": "control"},
        **{f"ptq {bits}": {"arm": "ptq", "recipe": bits} for bits in ("w8a8", "w4a4", "w2a4")},
        **{f"qat {bits}": {"arm": "qat", "recipe": bits} for bits in ("w8a8", "w4a4", "w2a4")},
    },
    "seed": [0, 1, 2, 3],
}
FAST = {"train.steps": 100, "finetune.steps": 50}
FAST_AXES = {"seed": [0, 1]}
