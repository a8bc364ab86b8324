"""Which layer of a small CNN needs which bits, when its file may take 9 kB?

The search trains the quick start's model with quantization in the loop, 200 steps a trial, activations at 8 bits, and
looks for the bits of each layer's weights with the least cross-entropy on the validation images. What it found is then
compared with two bits in every layer between 8-bit edges (7.9 kB) and with four (11.3 kB, beyond the budget), on the
test images, on which nothing was chosen and nothing trained, and with three new seeds: numbers that were searched for
flatter whoever searched.

    qat search experiments/mixed_bits.py
    qat sweep experiments/mixed_bits.py

Cost: some 1.5 min each on 2 cores; 40 trials, of which 24 are stopped early, and 15 trials.

Answer: 8 bits for the stem, 4 for the layer that halves the image, 2 for the largest layer, 6 for the head, in 9.0 kB
(and 40 bytes for the recipe's label, which files carry since the search). On the test images, means of 3 seeds, its
cross-entropy is 0.061; that of two bits everywhere is 0.078, of four 0.056, of the control in float 0.054. Accuracies
are 98.2, 97.8, 98.1 and 98.1 %. It beats two bits with every seed, in the mean by 0.018 ± 0.021: three seeds are too
few to be sure. The nine best points of the search all have four bits in the second layer and two in the last
convolution, which has two thirds of the weights.
"""

from qat.lab.experiment.config import ExperimentConfig
from qat.lab.sweep.space import Search
from qat.train import TrainConfig

BASE = ExperimentConfig(
    name="mixed_bits",
    model="cnn(width=16)",
    data="digits(held_out=0.25)",
    arm="qat",
    recipe="w8a8",
    train=TrainConfig(steps=400, batch_size=64, learning_rate=3e-3, warmup_steps=40),
    finetune=TrainConfig(steps=200, batch_size=64, learning_rate=3e-4, warmup_steps=20, freeze_bn_step=100),
)

SEARCH = Search(
    space={f"bits:{layer}": [2, 3, 4, 6, 8] for layer in ("stem", "down", "body", "head")},
    trials=40,
    objective="cross_entropy",
    budget={"size_bytes": 9000},
    pruner="median(startup=8, warmup_steps=50)",
)

FOUND = "w8a8(bits={'stem': 8, 'down': 4, 'body': 2, 'head': 6})"

AXES = {
    "arm": {
        "float": {"arm": "float", "recipe": None},
        "control": {"arm": "control", "recipe": None},
        **{f"qat {recipe}": {"recipe": recipe} for recipe in ("w2a8", "w4a8")},
        "qat found": {"recipe": FOUND},
    },
    "seed": [1, 2, 3],
}
