"""Does training with quantization in the loop beat calibrating after training, and from how few bits on?

A small CNN on 1797 handwritten digits. For each of 4 seeds one float model is trained (the seed decides initialisation
and order of the data) and shared by that seed's arms: the float model itself; the same trained on in float (control);
PTQ, which calibrates ranges alone; PTQ with BatchNorm's statistics estimated anew on the quantized network, as training
does on the way; and QAT, which starts from that, with the control's steps, rate and order of the data.

    qat sweep experiments/quickstart.py

ANSWER
"""

from qat.lab.experiment.config import ExperimentConfig
from qat.train import TrainConfig

RECIPES = ["w8a8", "w4a4", "w2a4"]
STRONG = ("reestimate_bn",)

BASE = ExperimentConfig(
    name="quickstart",
    model="cnn(width=16)",
    data="digits(held_out=0.25)",
    train=TrainConfig(steps=800, batch_size=64, learning_rate=3e-3, warmup_steps=40),
    latency_batch_size=64,
    finetune=TrainConfig(steps=200, batch_size=64, learning_rate=3e-4, warmup_steps=20, freeze_bn_step=100),
)

AXES = {
    "arm": {
        "float": {"arm": "float"},
        "control": {"arm": "control"},
        **{f"ptq {recipe}": {"arm": "ptq", "recipe": recipe} for recipe in RECIPES},
        **{f"strong ptq {recipe}": {"arm": "ptq", "recipe": recipe, "ptq": STRONG} for recipe in RECIPES},
        **{f"qat {recipe}": {"arm": "qat", "recipe": recipe, "ptq": STRONG} for recipe in RECIPES},
    },
    "seed": [0, 1, 2, 3],
}

CONTRASTS = [
    *((f"strong ptq {recipe}", "float") for recipe in RECIPES),
    *((f"qat {recipe}", f"strong ptq {recipe}") for recipe in RECIPES),
]
