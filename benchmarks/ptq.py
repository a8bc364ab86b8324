"""Rounding methods on the digits CNN of the quick start: accuracy of the served integers by recipe, and time.

python benchmarks/ptq.py [method ...]
python benchmarks/ptq.py --model bert|yolo [method ...]

Each float model trains 400 steps; ranges and methods see 8 unlabelled batches of 64 training
images (the labels too, where a method weighs errors by the loss), accuracy is that on the 450 test images. A method is
written as in a config, several of a composition joined by ` + `. Cost: some 10 minutes on 2 cores.

With `--model`, the time alone that methods take at w4a4 on a network of full size, compilation included: MiniLM on 128
sentences of 128 tokens, or YOLO-lite of width 48 on 32 drawn boards of 640 pixels with their templates, both with
weights drawn at random, which take as long as any. Cost: some 10 minutes on 2 cores each.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import qat
from qat import data
from qat.lab.experiment.objective import float_loss
from qat.models.adapter import forward
from qat.ptq import Subject, apply
from qat.tasks import build
from qat.train import TrainConfig, fit

RECIPES = ("w4a4", "w3a3", "w2a4")
METHODS = ("", "gptq", "adaround", "brecq", "brecq(fisher=True)", "qdrop")
SEEDS, BATCHES = (0, 1, 2, 3), 8
TIMED = ("adaround", "qdrop")
LENGTH, SIDE = 128, 640
TRAIN = TrainConfig(steps=400, batch_size=64, learning_rate=3e-3, warmup_steps=40)

Model = tuple[Any, list[tuple[Any, ...]], list[Any]]


def main(methods: Sequence[str]) -> None:
    """Print a table of accuracies, means over seeds, and the seconds of each method."""
    functions, dataset = forward("cnn(width=16)", classes=10), data.load("digits(held_out=0.25)")
    test = next(iter(data.in_order(dataset.splits["test"], len(dataset.splits["test"]))))
    models = [_trained(functions, dataset, seed) for seed in SEEDS]

    def accuracy(outputs: Any) -> float:
        return 100 * float((np.asarray(outputs).argmax(-1) == test["label"]).mean())

    exact = [accuracy(functions.inference(variables, test["image"])) for variables, _, _ in models]
    table = Table(title=f"ptq, {len(SEEDS)} seeds, float {np.mean(exact):.2f} %", title_justify="left")
    for name in ("recipe", "method", "accuracy %", "± sd", "least", "error left", "seconds"):
        table.add_column(name)

    def training(variables: Any, images: Any) -> Any:
        return functions.training(variables, images, jax.random.key(0))  # there is no dropout to draw

    for recipe in RECIPES:
        q, trains = (qat.quantize(fn, qat.recipe(recipe)) for fn in (functions.inference, training))
        subject = Subject(q, trains, loss=_loss)
        for method in methods:
            table.add_row(recipe, method or "nearest", *_row(subject, method, models, test["image"], accuracy))
            print(recipe, method, [str(cell) for cell in table.columns[2].cells][-1], flush=True)
    Console(width=120).print(table)


def main_timed(model: str, methods: Sequence[str]) -> None:
    """Print a line for each method: seconds on the clock, those of the processors, and what it changed."""
    functions, inputs = _bert() if model == "bert" else _yolo()
    variables = started(functions.init, *inputs[0])
    q = qat.quantize(functions.inference, qat.recipe("w4a4"))
    state = q.calibrate(variables, inputs)
    for method in methods:
        began, busy = time.monotonic(), time.process_time()
        done = apply([text.strip() for text in method.split(" + ")], q, variables, state, inputs)
        jax.block_until_ready(done.params)
        passed, used = time.monotonic() - began, time.process_time() - busy
        figures = " ".join(f"{name} {value:g}" for step in done.steps for name, value in step.figures.items())
        print(f"{model} {method}: {passed:.0f} s, {used:.0f} s of processors, {figures}", flush=True)


def _bert() -> tuple[Any, list[tuple[Any, ...]]]:
    rng, mask = np.random.default_rng(0), np.ones((32, LENGTH), bool)
    tokens = rng.integers(1000, 30000, (4, 32, LENGTH)).astype(np.int32)
    return forward("bert(size='minilm')", classes=2), [(batch, mask) for batch in tokens]


def _yolo() -> tuple[Any, list[tuple[Any, ...]]]:
    dataset = data.load(f"boards(images=32, size={SIDE}, held_out=0.1)")
    return forward("yolo_lite(width=48)", classes=dataset.classes), [
        (batch["image"],) for batch in data.in_order(dataset.splits["train"], 8)
    ]


def started(init: Any, *inputs: Any) -> Any:
    """Variables drawn at random without compiling what `init` draws: kernels by their number of inputs, scales 1."""
    rng = np.random.default_rng(0)

    def leaf(path: Any, like: Any) -> Any:
        name = path[-1].key
        if name in ("kernel", "embedding"):
            deviation = np.sqrt(2 / np.prod(like.shape[:-1])) if name == "kernel" else 1.0
            return rng.normal(0, deviation, like.shape).astype(np.float32)
        return np.full(like.shape, name in ("scale", "var"), np.float32)

    return jax.tree_util.tree_map_with_path(leaf, dict(jax.eval_shape(init, jax.random.key(0), *inputs)))


def _trained(functions: Any, dataset: Any, seed: int) -> Model:
    """The float variables, and the inputs and labels of the batches that calibration sees."""
    variables = dict(functions.init(jax.random.key(seed), np.zeros((1, 8, 8, 1), np.float32)))
    rest = {name: part for name, part in variables.items() if name != "params"}
    loss = float_loss(build("classification"), functions)
    config = TRAIN.model_copy(update={"seed": seed})
    batches = data.Batches(dataset.splits["train"], TRAIN.batch_size, seed)
    result = fit(loss, variables["params"], rest, batches, config, progress=False)
    seen = [batches[i] for i in range(BATCHES)]
    return {"params": result.params, **result.state}, [(b["image"],) for b in seen], [b["label"] for b in seen]


def _loss(logits: Any, labels: Any) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _row(
    subject: Subject, method: str, models: list[Model], images: Any, accuracy: Callable[[Any], float]
) -> list[str]:
    q, found, errors, seconds = subject.q, [], [], []
    for variables, inputs, labels in models:
        state = q.calibrate(variables, inputs)
        started = time.monotonic()
        texts = [text.strip() for text in method.split(" + ")] if method else []
        done = apply(texts, replace(subject, targets=labels), variables, state, inputs)
        seconds.append(time.monotonic() - started)
        errors += [step.figures["error_ratio"] for step in done.steps if "error_ratio" in step.figures]
        found.append(accuracy(q.serve(q.convert(done.params, done.state, images), images)))
    spread = np.std(found, ddof=1) if len(found) > 1 else 0.0
    left = f"{np.mean(errors):.2f}" if errors else ""
    return [f"{np.mean(found):.2f}", f"{spread:.2f}", f"{min(found):.2f}", left, f"{np.mean(seconds):.1f}"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=("digits", "bert", "yolo"), default="digits")
    parser.add_argument("methods", nargs="*")
    asked = parser.parse_args()
    if asked.model == "digits":
        main(asked.methods or METHODS)
    else:
        main_timed(asked.model, asked.methods or TIMED)
