"""Does training with quantization in the loop beat calibrating after training, and from how few bits on?

A small CNN on 1797 handwritten digits. For each of 12 seeds one float model is trained (the seed decides initialisation
and order of the data) and shared by that seed's arms: the float model itself; the same trained on in float (control);
PTQ, which calibrates ranges alone; PTQ with BatchNorm's statistics estimated anew on the quantized network, as training
does on the way; and QAT, which starts from that, with the control's steps, rate and order of the data.

    qat sweep experiments/quickstart.py --runner 'batched(size=64)'
    qat keep runs/quickstart experiments/results/quickstart.csv --metric accuracy

Cost: 132 trials, 160 s of processor time on two cores that others used as well. Steps and widths were chosen on earlier
runs of these seeds and images, for twelve seeds to decide.

Answer, means of 12 seeds on 629 test images with 95 % intervals: not with 4-bit weights, but with 2-bit ones. The float
model has 96.7 %; training on gains 0.03 ± 0.13. At w8a8 and w4a8 PTQ with statistics estimated
anew is equivalent to the float model within 0.3 points, and QAT to that. At w2a4 calibrating ranges alone loses
21.5 ± 7.7 points. Statistics estimated anew win back 19.4 of them without training; 2.08 ± 0.57 are left, of which QAT
wins 1.10 ± 0.60. Of twelve comparisons one is undecided: what ranges alone lose at w4a8, 0.28 ± 0.35.
"""

from qat.lab.experiment.config import ExperimentConfig
from qat.train import TrainConfig

RECIPES = ["w8a8", "w4a8", "w2a4"]
STRONG = ("reestimate_bn",)

BASE = ExperimentConfig(
    name="quickstart",
    model="cnn(width=16)",
    data="digits(held_out=0.35)",
    train=TrainConfig(steps=400, batch_size=32, learning_rate=3e-3, warmup_steps=20),
    finetune=TrainConfig(steps=100, batch_size=32, learning_rate=3e-4, warmup_steps=10),
)

AXES = {
    "arm": {
        "float": {"arm": "float"},
        "control": {"arm": "control"},
        **{f"ptq {recipe}": {"arm": "ptq", "recipe": recipe} for recipe in RECIPES},
        **{f"strong ptq {recipe}": {"arm": "ptq", "recipe": recipe, "ptq": STRONG} for recipe in RECIPES},
        **{f"qat {recipe}": {"arm": "qat", "recipe": recipe, "ptq": STRONG} for recipe in RECIPES},
    },
    "seed": list(range(100, 112)),
}

QUESTION = "From how few bits on does training with quantization beat calibrating after training?"

CONTRASTS = [
    *((f"strong ptq {recipe}", "float") for recipe in RECIPES),
    *((f"qat {recipe}", f"strong ptq {recipe}") for recipe in RECIPES),
]
