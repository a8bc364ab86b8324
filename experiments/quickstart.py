"""Does training with quantization in the loop beat calibrating after training, and from how few bits on?

A small CNN on 1797 handwritten digits. For each of 4 seeds one float model is trained (the seed decides initialisation
and order of the data) and shared by that seed's arms: the float model itself; the same trained on in float (control);
PTQ, which calibrates ranges alone; PTQ with BatchNorm's statistics estimated anew on the quantized network, as training
does on the way; and QAT, which starts from that, with the control's steps, rate and order of the data.

    qat sweep experiments/quickstart.py
    qat keep runs/quickstart experiments/results/quickstart.csv --metric accuracy

Cost: 46 s of processor time, 44 trials.

Answer, means of 4 seeds on 450 test images with 95 % intervals: not before 2-bit weights, and there by little. The
float model has 98.3 %, and training on is not shown to gain (0.0 ± 0.4). At w2a4 calibrating ranges alone loses
32 ± 40 points. Statistics estimated anew win back 29.5 of them without training; 2.9 ± 1.0 are left, of which QAT wins
2.1 ± 1.0. At w8a8 and w4a4 four seeds show neither a difference nor equivalence within 0.3 points: all means lie
within 0.3 points of the float model's.
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

QUESTION = "From how few bits on does training with quantization beat calibrating after training?"

CONTRASTS = [
    *((f"strong ptq {recipe}", "float") for recipe in RECIPES),
    *((f"qat {recipe}", f"strong ptq {recipe}") for recipe in RECIPES),
]
