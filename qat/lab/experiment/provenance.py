"""The provenance of a trial's model, in words."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qat.core.tables import shares_text

if TYPE_CHECKING:
    from qat.lab.experiment.config import ExperimentConfig


def provenance(
    config: "ExperimentConfig",
    high_bit_layers: Sequence[str],
    steps: Sequence[Mapping[str, Any]] = (),
    operations: Mapping[str, float] | None = None,
    allocation: Mapping[str, Any] | None = None,
) -> str:
    """Describe the quantization and further training of the float model; `high_bit_layers` are the sensitive layers
    that got 8 bits, `steps` the accounts of post-training methods, `operations` the shares of multiplications by their
    bits, `allocation` the data of the bits chosen within a budget. Empty for the float model itself.
    """
    parts = []
    if config.train_bn_batches is not None:
        parts.append(f"running statistics of the float model from {config.train_bn_batches} batches")
    parts += _bits(config, high_bit_layers, operations, allocation)
    parts += [_step(one) for one in steps]
    more = config.finetune
    if config.arm in ("control", "qat") and more is not None:
        rate = more.learning_rate / config.train.learning_rate
        parts.append(f"{more.steps} steps more at {rate:.2g} of the learning rate")
        if more.freeze_bn_step is not None and more.freeze_bn_step < more.steps:
            parts.append(f"BatchNorm's statistics frozen from step {more.freeze_bn_step}")
    if config.arm in ("control", "qat") and config.finetune_bn_batches is not None:
        parts.append(f"then running statistics from {config.finetune_bn_batches} batches")
    if config.arm == "control" and config.r_drop is not None:
        parts.append("two draws of dropout to agree")
    if config.distillation is not None:
        parts.append(f"{config.distillation:.0%} of the loss from the float model's outputs")
    return "; ".join(parts)


def _bits(
    config: "ExperimentConfig",
    high_bit_layers: Sequence[str],
    operations: Mapping[str, float] | None,
    allocation: Mapping[str, Any] | None,
) -> Iterator[str]:
    """The calibration, and what has how many bits."""
    if config.recipe is not None:
        yield f"calibrated on {config.calibration_batches} batches"
    if config.sensitive_share is not None:
        yield f"at 8 bits as sensitive: {', '.join(high_bit_layers) or 'no layer'}"
    if allocation is not None:
        yield _allocated(allocation)
    if operations:
        yield f"multiplications by bits of weights x activations: {shares_text(operations)}"


def _allocated(found: Mapping[str, Any]) -> str:
    """The choice of bits: its budget, and whether the uniform recipe was no worse."""
    within = f"within {found['limit']:,.6g} {found['unit']}"
    if found["is_uniform"]:
        return f"no choice of bits {within} beat the best uniform recipe on held-out batches, which was kept"
    counts = Counter(found["chosen"]["bits"].values())
    return f"bits chosen {within}: {', '.join(f'{n} x {bits}' for bits, n in counts.most_common())}"


SHOWN = 3


def _step(step: Mapping[str, Any]) -> str:
    """A post-training method with what it changed and left, and its time."""
    figures = ", ".join(f"{name} {value:.4g}" for name, value in step["figures"].items())
    return (
        f"{step['method']} changed {_some(step['changed'])}"
        + (f", left {_some(list(step['left']))}" if step["left"] else "")
        + (f" ({figures})" if figures else "")
        + f" in {step['seconds']:.2g} s"
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "nothing"
