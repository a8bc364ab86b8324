"""A sentence on the making of a trial's model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qat.lab.experiment.config import ExperimentConfig


def did(config: "ExperimentConfig", raised: Sequence[str]) -> str:
    """Describe the quantization and further training of the float model; `raised` are the layers that got 8 bits. Empty
    for the float model itself.
    """
    parts = []
    if config.recipe is not None:
        parts.append(f"calibrated on {config.calibration_batches} batches")
    if config.sensitive_share is not None:
        parts.append(f"at 8 bits as sensitive: {', '.join(raised) or 'no layer'}")
    more = config.finetune
    if config.arm in ("control", "qat") and more is not None:
        rate = more.learning_rate / config.train.learning_rate
        parts.append(f"{more.steps} steps more at {rate:.2g} of the learning rate")
        if more.freeze_bn_step is not None and more.freeze_bn_step < more.steps:
            parts.append(f"BatchNorm's statistics frozen from step {more.freeze_bn_step}")
    if config.arm == "control" and config.consistency is not None:
        parts.append("two draws of dropout to agree")
    if config.distillation is not None:
        parts.append(f"{config.distillation:.0%} of the loss from the float model's outputs")
    return "; ".join(parts)
