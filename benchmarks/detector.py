"""The detector: served int8 against float on boards of 640 pixels, its size, and how fast it trains on 320-pixel crops.

python benchmarks/detector.py

No data are needed: random images take as long. Accuracy is the study's, `experiments/yolo_ptq_vs_qat.py`.
"""

from typing import Any

import jax
import numpy as np
from shared.size import file_bytes, float_bytes
from shared.verdict import report

import qat
from qat import tasks
from qat.lab.experiment.objective import float_loss
from qat.models.adapter import forward
from qat.runtime import keep_freed_memory, medians
from qat.train import TrainConfig, fit

MODEL, CLASSES, SIDE, CROP, BATCH, STEPS = "yolo_lite(width=48)", 6, 640, 320, 16, 30
MOST = {1: 0.42, 8: 0.38}  # served by float, by batch size


def main() -> None:
    """Print ratios of one call by batch size, of the files' sizes, and images a second in training."""
    functions = forward(MODEL, classes=CLASSES)
    images = (np.random.default_rng(0).random((max(MOST), SIDE, SIDE, 2)) < 0.3).astype(np.float32)
    variables = jax.jit(functions.init)(jax.random.key(0), images[:1])
    q = qat.quantize(functions.inference, qat.recipe("w8a8"))
    int8 = q.convert(variables, q.calibrate(variables, [images]), images[:1])
    float_model, rows = jax.jit(functions.inference), []
    for batch, most in MOST.items():
        x = jax.device_put(images[:batch])
        seconds = medians({"float": lambda x=x: float_model(variables, x), "int8": lambda x=x: q.serve(int8, x)})
        name = f"serve / float, batch {batch} ({1e3 * seconds['float']:.0f} ms in float)"
        rows.append((name, seconds["int8"] / seconds["float"], most))
    rows.append(("file int8 / float", file_bytes(int8) / float_bytes(variables), 0.27))
    report("detector", rows)
    keep_freed_memory()  # as a sweep does
    report("detector, training in float", [("images a second of 320-pixel crops", _rate(functions, variables), None)])


def _rate(functions: Any, variables: Any) -> float:
    """Images a second of whole training steps after the first few, by the time at which batches are asked for."""
    import time

    rng, asked = np.random.default_rng(0), []
    batch = {
        "image": rng.integers(0, 2, (BATCH, CROP, CROP, 2), dtype=np.uint8),
        "boxes": np.tile(np.array([[100, 100, 140, 130], [10, 20, 50, 60]], np.float32), (BATCH, 1, 1)),
        "labels": np.tile(np.array([0, 3], np.int32), (BATCH, 1)),
    }

    class Batches:
        def __getitem__(self, step: int) -> Any:
            asked.append(time.perf_counter())
            return batch

    state = {name: part for name, part in variables.items() if name != "params"}
    config = TrainConfig(steps=STEPS, batch_size=BATCH, ema_decay=0.999, log_every=1)
    loss = float_loss(tasks.build("detection"), functions)
    fit(loss, variables["params"], state, Batches(), config, progress=False)
    return BATCH / float(np.median(np.diff(asked)[5:]))


if __name__ == "__main__":
    main()
