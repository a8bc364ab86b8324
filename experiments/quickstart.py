"""Does training with quantization in the loop beat calibrating after training, and from how few bits on?

A small CNN on 1797 handwritten digits. For each of 12 seeds one float model is trained (the seed decides initialisation
and order of the data) and shared by that seed's arms: the float model itself; the same trained on in float (control);
PTQ, which calibrates ranges alone; PTQ with BatchNorm's statistics estimated anew on the quantized network, as training
does on the way; and QAT, which starts from that, with the control's steps, rate and order of the data.

    qat sweep experiments/quickstart.py --runner 'batched(size=64)'
    qat keep runs/quickstart experiments/results/quickstart.csv --metric accuracy

Cost: 132 trials, 110 s of processor time. Steps and widths were chosen on pilot runs of seeds 0 to 11, of whose twelve
comparisons eleven were decided; the seeds below were run once, afterwards, so that what is published was not chosen.

Answer, means of 12 seeds on 629 test images with 95 % intervals: not with 4-bit weights, but with 2-bit ones. The float
model has 96.63 %; training on gains 0.09 ± 0.09. At w8a8 and w4a8 PTQ with statistics estimated anew loses 0.05 ± 0.23
and 0.11 ± 0.17 points and QAT wins 0.15 ± 0.22 and 0.07 ± 0.19 from there: too little to call, though QAT is equivalent
to the control within 0.3 points. At w2a4 calibrating ranges alone loses 28.6 ± 9.7 points. Statistics estimated anew
win back 26.6 of them without training; 2.07 ± 0.71 are left, of which QAT wins 1.40 ± 0.58. Seven of twelve comparisons
are decided, two of the six that are declared.
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
