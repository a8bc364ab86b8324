"""The baseline on handwritten digits: a small CNN in 8 bits by QAT.

qat run configs/cnn_digits.py
"""

from qat.lab.experiment.config import ExperimentConfig
from qat.train import TrainConfig


def get_config() -> ExperimentConfig:
    """QAT at w8a8, at a tenth of the float model's rate."""
    return ExperimentConfig(
        name="cnn_digits",
        model="cnn(width=16)",
        data="digits",
        arm="qat",
        recipe="w8a8",
        train=TrainConfig(steps=400, batch_size=64, learning_rate=3e-3, warmup_steps=40),
        finetune=TrainConfig(steps=200, batch_size=64, learning_rate=3e-4, warmup_steps=20, freeze_bn_step=100),
    )
