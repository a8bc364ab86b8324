"""Times of models in the runtimes that are here, all in turns in one process, with memory and cold start in others."""

import functools
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qat import fileio
from qat.export.cold import Cold, measure, measured, most_bytes
from qat.export.description import Description, read_description
from qat.export.exported import read
from qat.export.operators import OperatorTime, integer_operators, ort_times, product_sites
from qat.export.runnable import Runnable
from qat.export.sessions import RUNTIMES, missing
from qat.lab.experiment.exports import exportable_of
from qat.lab.inspect.export import example_inputs
from qat.lab.inspect.trial import Trial, load_trial
from qat.lab.runs.models import model_file
from qat.registry import parse_call
from qat.runtime import in_turns, keep_freed_memory
from qat.transform import Quantized

Z = 1.96
LEAST = 0.01  # seconds: shorter calls are timed several at once
PROFILED = 10  # runs of ONNX Runtime's profiler
WORDS = 100  # tokens that made-up inputs have


@dataclass(frozen=True)
class Extent:
    """The extent of a benchmark: rounds, examples a call, threads (None: as many as the runtimes choose), and whether
    each row is also started in a process of its own."""

    rounds: int = 30
    batch: int = 1
    threads: int | None = None
    cold: bool = True


@dataclass(frozen=True)
class Timed:
    """A row: a model in a runtime. `ms` is the median of one call with its 95 % interval, `low` to `high`, `ratio` the
    median to the first row's.

    `size` are the bytes of its file, `memory` the most bytes of a fresh process that ran it once, `cold` the seconds of
    that process up to the first result. `integers` of `sites` run in integers, as far as the runtime tells.
    """

    name: str
    runtime: str
    ms: float
    _: KW_ONLY
    low: float
    high: float
    ratio: float
    size: int | None = None
    memory: int | None = None
    cold: float | None = None
    integers: int | None = None
    sites: int | None = None


@dataclass(frozen=True)
class Benchmark:
    """Rows, the first of which all ratios are to; by row the operators' times; and what is left out and why."""

    rows: tuple[Timed, ...]
    operators: dict[str, list[OperatorTime]]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
    """A call to time, with what is known of it; `fresh` measures a process that runs it alone."""

    name: str
    runtime: str
    call: Callable[[], Any]
    _: KW_ONLY
    size: int | None = None
    integers: int | None = None
    sites: int | None = None
    fresh: Callable[[], Cold] | None = None
    operators: Callable[[], list[OperatorTime]] | None = None


def bench(models: Sequence[str], extent: Extent, *, trust: bool = False) -> Benchmark:
    """Time trials, each in float and as it is served and with the files that were exported of it, and exported files.

    Raises `ValueError` for what is neither, for no model, and a file whose batch is another than asked for.
    """
    if extent.rounds < 5 or extent.batch < 1:
        raise ValueError(f"`rounds` must be at least 5 and `batch` 1, got {extent.rounds} and {extent.batch}.")
    keep_freed_memory()
    found, left_out = list[_Candidate](), list[str]()
    for name in models:
        path = fileio.folder(name)
        if path.is_dir():
            trial = load_trial(path, trust=trust)
            found += _of_trial(trial, extent, trust)
            files = [trial.folder / one["file"] for one in trial.record.exports]
        else:
            files = [path]
        for file in files:
            found += _of_file(file, extent, left_out, given=not path.is_dir())
    if not found:
        raise ValueError(f"nothing to time in {', '.join(models)}: {' '.join(left_out) or 'no model is named'}.")
    found.sort(key=lambda one: not one.name.endswith(" float"))
    calls = {str(number): one.call for number, one in enumerate(found)}
    times = list(in_turns(calls, extent.rounds, least=LEAST, settle=True).values())
    rows = [_row(one, own, times[0], extent) for one, own in zip(found, times, strict=True)]
    operators = {f"{one.name}, {one.runtime}": one.operators() for one in found if one.operators is not None}
    return Benchmark(tuple(rows), operators, tuple(left_out))


def _row(one: _Candidate, times: list[float], base: list[float], extent: Extent) -> Timed:
    ms = sorted(1e3 * x for x in times)
    low, high = _interval(ms)
    cold = _cold(one, extent)
    return Timed(
        one.name,
        one.runtime,
        statistics.median(ms),
        low=low,
        high=high,
        ratio=statistics.median(times) / statistics.median(base),
        size=one.size,
        memory=None if cold is None else cold.bytes,
        cold=None if cold is None else cold.seconds,
        integers=one.integers,
        sites=one.sites,
    )


def _interval(ordered: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median, by order statistics."""
    half, spread = len(ordered) / 2, Z * len(ordered) ** 0.5 / 2
    return ordered[max(0, int(half - spread))], ordered[min(len(ordered) - 1, int(np.ceil(half + spread)))]


def inputs_like(shapes: Sequence[tuple[tuple[int, ...], Any]]) -> list[np.ndarray]:
    """Made-up inputs of these shapes and dtypes: normal numbers, small tokens, masks of ones."""
    rng = np.random.default_rng(0)

    def one(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        if dtype.kind == "b":
            return np.ones(shape, dtype)
        if dtype.kind in "iu":
            return rng.integers(0, WORDS, shape).astype(dtype)
        return rng.standard_normal(shape).astype(dtype)

    return [one(shape, np.dtype(dtype)) for shape, dtype in shapes]


def _of_trial(trial: Trial, extent: Extent, trust: bool) -> list[_Candidate]:
    """The trial's model in XLA: in float and, where it is quantized, served and compiled ahead."""
    inputs = jax.device_put(_inputs_of(trial, extent.batch))
    about, name = f"XLA, jax {jax.__version__}", trial.folder.name
    alone = ["-m", __name__, str(trial.folder)]
    size = model_file(trial.folder).stat().st_size if fileio.is_local(trial.folder) else None
    return [
        _Candidate(
            f"{name} {kind}",
            about,
            make(),
            size=None if kind == "float" and trial.quantized is not None else size,
            fresh=functools.partial(measured, [*alone, kind, str(extent.batch), str(trust)]),
        )
        for kind, make in _xla_calls(trial, inputs).items()
    ]


def _inputs_of(trial: Trial, batch: int) -> tuple[Any, ...]:
    """Made-up inputs of a trial's model."""
    leaves, tree = jax.tree.flatten(example_inputs(trial))
    return jax.tree.unflatten(tree, inputs_like([((batch, *x.shape[1:]), x.dtype) for x in leaves]))


def _xla_calls(trial: Trial, inputs: tuple[Any, ...]) -> dict[str, Callable[[], Callable[[], Any]]]:
    """Makers of calls in XLA: float and, of a quantized trial, served and compiled ahead."""
    fn = exportable_of(trial.functions.inference, None, inputs, trial.signature).model
    assert not isinstance(fn, Quantized)
    makers: dict[str, Any] = {"float": lambda: functools.partial(jax.jit(fn), jax.device_put(trial.variables), *inputs)}
    if trial.quantized is not None and trial.converted is not None:
        model, converted = (
            exportable_of(trial.quantized, trial.converted, inputs, trial.signature).model,
            trial.converted,
        )
        assert isinstance(model, Quantized)
        makers["serve"] = lambda: functools.partial(model.serve, converted, *inputs)
        makers["compiled"] = lambda: functools.partial(model.compile(converted, *inputs), *inputs)
    return makers


def _of_file(path: Path, extent: Extent, left_out: list[str], given: bool) -> list[_Candidate]:
    description = read_description(path)
    kind = parse_call(description.kind)[0]
    if isinstance(description.batch, int) and description.batch != extent.batch:
        why = f"{path.name} takes a batch of {description.batch}, not {extent.batch}."
        if given:
            raise ValueError(f"{why} Give `--batch {description.batch}`, or export it again.")
        left_out.append(why)
        return []
    lengths = {"batch": extent.batch}
    shapes = [
        (tuple(lengths.get(n, 64) if isinstance(n, str) else n for n in one.shape), one.dtype)
        for one in description.inputs.values()
    ]
    inputs, name = inputs_like(shapes), f"{path.parent.name}/{path.name}"
    if kind == "onnx":
        return _of_onnx(path, description, inputs, extent, left_out)
    if not description.outputs:
        left_out.append(f"{path.name} holds no program.")
        return []
    program = read(path)
    assert isinstance(program, Runnable)
    size, fresh = (
        path.stat().st_size,
        functools.partial(measure, path, kind, inputs, list(description.inputs), extent.threads),
    )
    return [_Candidate(name, kind, functools.partial(program, *inputs), size=size, fresh=fresh)]


def _of_onnx(
    path: Path, description: Description, inputs: list[np.ndarray], extent: Extent, left_out: list[str]
) -> list[_Candidate]:
    content, feeds = path.read_bytes(), dict(zip(description.inputs, inputs, strict=True))
    outputs, found = list(description.outputs), []
    for name, runtime in RUNTIMES.items():
        if not runtime.is_installed:
            left_out.append(missing(name))
            continue
        session = runtime.load(content, extent.threads)
        if session.about in [one.runtime for one in found]:  # its own choice of precision is the one before
            continue
        profile = functools.partial(ort_times, content, feeds, outputs)
        more = {"runs": PROFILED, "threads": extent.threads, "sites": description.sites}
        found.append(
            _Candidate(
                f"{path.parent.name}/{path.name}",
                session.about,
                functools.partial(session.run, feeds, outputs),
                size=len(content),
                integers=integer_operators(session, content) if description.recipe else None,
                sites=product_sites(description.sites) if description.recipe else None,
                fresh=functools.partial(measure, path, name, inputs, list(description.inputs), extent.threads),
                operators=functools.partial(profile, **more) if name == "onnxruntime" else None,
            )
        )
    return found


def _cold(one: "_Candidate", extent: Extent) -> Cold | None:
    return one.fresh() if extent.cold and one.fresh is not None else None


def _run_trial(folder: str, kind: str, batch: str, trust: str) -> None:
    """Run a trial's model once: what a fresh process does."""
    trial = load_trial(folder, trust=trust == "True")
    jax.block_until_ready(_xla_calls(trial, _inputs_of(trial, int(batch)))[kind]()())


if __name__ == "__main__":
    _run_trial(*sys.argv[1:])
    sys.stdout.write(f"{most_bytes()}\n")
