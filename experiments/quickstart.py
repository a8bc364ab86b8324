"""Does training with quantization in the loop beat calibrating after training, and from how few bits on?

A small CNN on 1797 handwritten digits. For each of 4 seeds one float model is trained (the seed decides initialisation
and order of the data) and shared by that seed's arms: the float model itself; the same trained on in float (control);
PTQ; and QAT with the control's steps, rate and order of the data. So QAT is compared with an arm that trained as long.

    qat sweep experiments/quickstart.py

Cost: some 45 s on 2 cores, 40 trials.

Answer, means of 4 seeds on 450 test images: not before 2-bit weights. The float model has 97.8 % and the control 98.1.
At w8a8, w4a8 and w4a4 neither PTQ nor QAT is shown to differ from its baseline, nor (with 4 seeds) to be equivalent
within 0.3 points: all means lie within 0.4 points of the control's. At w2a4 PTQ loses 26 ± 8 points, and QAT wins them
back: it ends 0.1 ± 1.2 points below the control, in a file 7.6 times smaller. At w8a8 QAT gains 0.3 points over the
float model, and so does the control.
"""

from qat.lab.experiment.config import ExperimentConfig
from qat.train import TrainConfig

RECIPES = ["w8a8", "w4a8", "w4a4", "w2a4"]

BASE = ExperimentConfig(
    name="quickstart",
    model="cnn(width=16)",
    data="digits(held_out=0.25)",
    train=TrainConfig(steps=400, batch_size=64, learning_rate=3e-3, warmup_steps=40),
    latency_batch_size=64,
    finetune=TrainConfig(steps=200, batch_size=64, learning_rate=3e-4, warmup_steps=20, freeze_bn_step=100),
)

AXES = {
    "arm": {
        "float": {"arm": "float"},
        "control": {"arm": "control"},
        **{f"ptq {recipe}": {"arm": "ptq", "recipe": recipe} for recipe in RECIPES},
        **{f"qat {recipe}": {"arm": "qat", "recipe": recipe} for recipe in RECIPES},
    },
    "seed": [0, 1, 2, 3],
}
