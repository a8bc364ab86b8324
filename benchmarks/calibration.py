"""Calibration against the float forward pass, a batch: the encoder of `inference.py`, by observer.

python benchmarks/calibration.py
"""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from shared.encoder import encoder
from shared.verdict import report

import qat
from qat.core.calibrate import CHECK_EVERY

OBSERVERS = ["minmax", "ema", "percentile(99.99)", "histogram", "mse"]
ROUNDS = 4


def main() -> None:
    """Print the time of a calibration batch as a share of the float forward pass, both measured in turns."""
    model, variables, tokens = encoder(layers=4, batch=8, length=128)
    float_model = jax.jit(model.apply)
    rows = []
    for name in OBSERVERS:
        q = qat.quantize(model.apply, qat.recipe("w8a8", observer=name))
        ratios = list[float]()
        q.calibrate(variables, _batches(tokens, lambda: float_model(variables, tokens), ratios))
        rows.append((f"calibrate a batch, {name} / float forward", statistics.median(ratios), 1.5))
    report("calibration", rows)


def _batches(batch: Any, float_call: Callable[[], Any], ratios: list[float]) -> Iterator[Any]:
    """Batches of a calibration which waits for the device every `CHECK_EVERY`: between two waits it is timed, and at
    each wait as many float calls are timed. The first stretch compiles and does not count."""
    for number in range(ROUNDS + 1):
        started = time.perf_counter()
        for _ in range(CHECK_EVERY):
            yield batch
        calibrated = time.perf_counter() - started
        started = time.perf_counter()
        for _ in range(CHECK_EVERY):
            jax.block_until_ready(float_call())
        if number:
            ratios.append(calibrated / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
