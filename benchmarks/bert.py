"""The text classifier of MiniLM's size: served int8 against float, the size of its file, and a fine-tuning step.

python benchmarks/bert.py

No checkpoint is needed: random weights take as long. Accuracy is the study's, `experiments/bert_ptq_vs_qat.py`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from shared.size import file_bytes, float_bytes
from shared.step import step_rows
from shared.verdict import report

import qat
from qat.models.adapter import forward
from qat.runtime import medians

MODEL, CLASSES = "bert(size='minilm')", 2
SHAPES = ((1, 64), (8, 128))  # texts and their tokens
SERVED = {"w8a8": 0.45, "w8a8(products=False)": None}
TRAINED = {"w8a8": 0.9, "w4a4(quantizer='lsq')": None}


def main() -> None:
    """Print ratios of one call by recipe and shape, of the files' sizes, and of a step of 32 texts of 32 tokens."""
    functions = forward(MODEL, classes=CLASSES)
    variables = jax.jit(functions.init)(jax.random.key(0), *_texts(1, 64))
    float_model, rows = jax.jit(functions.inference), []
    for recipe, most in SERVED.items():
        q = qat.quantize(functions.inference, qat.recipe(recipe))
        int8 = q.convert(variables, q.calibrate(variables, [_texts(8, 128)]), *_texts(8, 128))
        for shape in SHAPES:
            x = _texts(*shape)
            calls = {"float": partial(float_model, variables, *x), "int8": partial(q.serve, int8, *x)}
            seconds = medians(calls)
            name = f"serve {recipe} / float, {shape[0]} x {shape[1]} tokens ({1e3 * seconds['float']:.0f} ms in float)"
            rows.append((name, seconds["int8"] / seconds["float"], most))
        if recipe == "w8a8":
            rows.append(("file int8 / float", file_bytes(int8) / float_bytes(variables), 0.26))
    labels = jnp.arange(32) % CLASSES
    rows += step_rows(functions.inference, variables, _texts(32, 32), labels, TRAINED, rounds=9)
    report("bert", rows)


def _texts(count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.random.default_rng(count).integers(1000, 30000, (count, length), dtype=np.int32)
    return tokens, np.ones((count, length), bool)


if __name__ == "__main__":
    main()
