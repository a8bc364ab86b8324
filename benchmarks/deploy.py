"""Deployed models in turns: float, `serve` and `compile` in XLA and exported files in ONNX Runtime and OpenVINO, with
and without folded norms, as shares of float in XLA.

python benchmarks/deploy.py [MODEL ...] [--rounds 30] [--weights-only]

Models: yolo (yolo_lite at 640 pixels), resnet (ResNet-18 at 224), minilm16, minilm64 (one text of so many tokens),
minilm8x128 (8 texts of 128), row (one row by two large matrices). Exported files of models with norms have them folded
and quantized additions (`adds=True`), which lets ONNX Runtime fuse all convolutions. OpenVINO tells its precision.
Random weights take as long as trained ones. Times are by the processor's clock, which other processes disturb less than
the wall's, and by the wall's. For one thread: `taskset -c 0 python ...`.
"""

import argparse
import functools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import qat
from qat.export.onnx.export import to_onnx
from qat.export.operators import integer_operators, product_sites
from qat.export.sessions import RUNTIMES as RUNTIMES_OF_FILES
from qat.export.sessions import missing
from qat.models.adapter import forward
from qat.runtime import keep_freed_memory

Calls = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Deployed:
    """A float function with its parameters and the inputs of one call; `has_norms` to fold."""

    fn: Callable[..., Any]
    params: Any
    inputs: tuple[Any, ...]
    has_norms: bool = False


class Block(nn.Module):
    """Two convolutions with a residual (He et al. 2016, arXiv 1512.03385)."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps smaller by the stride."""
        norm = functools.partial(nn.BatchNorm, use_running_average=True)
        conv = functools.partial(nn.Conv, self.features, use_bias=False)
        y = nn.relu(norm()(conv((3, 3), self.stride)(x)))
        y = norm()(conv((3, 3))(y))
        return nn.relu(y + (x if x.shape == y.shape else norm()(conv((1, 1), self.stride)(x))))


class ResNet18(nn.Module):
    """Logits of 1,000 classes."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of images of 224 pixels."""
        x = nn.Conv(64, (7, 7), 2, use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
        x = nn.max_pool(x, (3, 3), (2, 2), padding="SAME")
        for i in range(4):
            x = Block(64 * 2**i)(Block(64 * 2**i, 2 if i else 1)(x))
        return nn.Dense(1000)(x.mean((1, 2)))


def yolo() -> Deployed:
    """The detector on one image of 640 pixels."""
    functions = forward("yolo_lite(width=48)", classes=6)
    x = (np.random.default_rng(0).random((1, 640, 640, 2)) < 0.3).astype(np.float32)
    return Deployed(functions.inference, jax.jit(functions.init)(jax.random.key(0), x), (jnp.asarray(x),), True)


def resnet() -> Deployed:
    """ResNet-18 on one image of 224 pixels."""
    model, x = ResNet18(), jnp.asarray(np.random.default_rng(0).random((1, 224, 224, 3), np.float32))
    return Deployed(model.apply, jax.jit(model.init)(jax.random.key(0), x), (x,), True)


def _minilm(length: int, texts: int = 1) -> Deployed:
    functions = forward("bert(size='minilm')", classes=2)
    tokens = np.random.default_rng(1).integers(1000, 30000, (texts, length), dtype=np.int32)
    inputs = (jnp.asarray(tokens), jnp.ones((texts, length), bool))
    return Deployed(functions.inference, jax.jit(functions.init)(jax.random.key(0), *inputs), inputs)


def row() -> Deployed:
    """One row by two matrices of 2,048 x 2,048."""
    w = jax.random.normal(jax.random.key(0), (2, 2048, 2048))
    return Deployed(lambda w, x: jnp.tanh(x @ w[0]) @ w[1], w, (jax.random.normal(jax.random.key(1), (1, 2048)),))


MODELS: dict[str, Callable[[], Deployed]] = {
    "yolo": yolo,
    "resnet": resnet,
    "minilm16": functools.partial(_minilm, 16),
    "minilm64": functools.partial(_minilm, 64),
    "minilm8x128": functools.partial(_minilm, 128, 8),
    "row": row,
}


def xla(model: Deployed, recipes: tuple[str, ...]) -> Calls:
    """Served and compiled in XLA, by recipe."""
    calls: Calls = {}
    for name in recipes:
        for fold in (False, True) if model.has_norms else (False,):
            q = qat.quantize(qat.fold_norms(model.fn) if fold else model.fn, qat.recipe(name))
            int8 = q.convert(model.params, q.calibrate(model.params, [model.inputs]), *model.inputs)
            compiled, suffix = q.compile(int8, *model.inputs), ", folded" if fold else ""
            calls[f"serve {name}{suffix}"] = functools.partial(q.serve, int8, *model.inputs)
            calls[f"compile {name}{suffix}"] = functools.partial(compiled, *model.inputs)
    return calls


def exported(model: Deployed, recipes: tuple[str, ...]) -> Calls:
    """Float and quantized ONNX files in the runtimes that are installed; what runs in integers is printed."""
    feeds = [np.asarray(x) for x in jax.tree.leaves(model.inputs)]
    threads = len(os.sched_getaffinity(0))
    calls: Calls = {}
    for label, function, variables in _functions(model, recipes):
        graph = to_onnx(function, variables, *model.inputs)
        content, named = graph.proto.SerializeToString(), dict(zip(graph.inputs, feeds, strict=True))
        for name, runtime in RUNTIMES_OF_FILES.items():
            if not runtime.is_installed:
                print(f"left out: {missing(name)}")
                continue
            session = runtime.load(content, threads)
            count = f"{integer_operators(session, content)} of {product_sites(graph.sites)}"
            print(f"{name} {label}: {session.about}, {len(content):,} bytes, in integers {count}")
            calls[f"{name} {label}"] = functools.partial(session.run, named, session.outputs)
    return calls


def _functions(model: Deployed, recipes: tuple[str, ...]) -> Iterator[tuple[str, Any, Any]]:
    """What is exported, with a label."""
    yield "float", model.fn, model.params
    fn = qat.fold_norms(model.fn) if model.has_norms else model.fn
    for name in recipes:
        recipe, label = (f"{name}(adds=True)", f"{name}, folded, adds") if model.has_norms else (name, name)
        q = qat.quantize(fn, qat.recipe(recipe))
        yield label, q, q.convert(model.params, q.calibrate(model.params, [model.inputs]), *model.inputs)


RUNTIMES: tuple[Callable[[Deployed, tuple[str, ...]], Calls], ...] = (xla, exported)
"""Each gives calls by name, of a model quantized by recipes; the first one's program is the float one of all ratios."""


def seconds(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of each call in each round by the processor's clock and by the wall's, all calls in turns."""
    clocks = {"processor": time.process_time, "wall": time.perf_counter}
    found = {clock: {name: [] for name in calls} for clock in clocks}
    names = list(calls)
    for number in range(-2, rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            jax.block_until_ready(calls[name]())  # untimed: threads of the runtime before it may still hold the cores
            before = {clock: read() for clock, read in clocks.items()}
            jax.block_until_ready(calls[name]())
            for clock, read in clocks.items():
                found[clock][name] += [read() - before[clock]] * (number >= 0)
    return found


def main() -> None:
    """Print medians and shortest times of each model's calls, and their shares of float."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", choices=[*MODELS, []], default=[*MODELS])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--weights-only", action="store_true", help="w8 and w4 in the place of w8a8")
    told = parser.parse_args()
    keep_freed_memory()
    for name in told.models:
        model = MODELS[name]()
        float_model = jax.jit(model.fn)
        calls: Calls = {"float": functools.partial(float_model, model.params, *model.inputs)}
        for runtime in RUNTIMES:
            calls |= runtime(model, ("w8", "w4") if told.weights_only else ("w8a8",))
        for clock, times in seconds(calls, told.rounds).items():
            print(f"{name}, {len(os.sched_getaffinity(0))} cores, {clock} ms: median (of float), shortest (of float)")
            for call, values in times.items():
                numbers = [(f(values), f(times["float"])) for f in (statistics.median, min)]
                print(f"  {call:34}" + "".join(f"{1e3 * own:9.2f} ({own / base:.2f})" for own, base in numbers))


if __name__ == "__main__":
    main()
