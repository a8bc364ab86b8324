"""Realistic run folders made at once, for tests and benchmarks of what reads them; the same arguments make the same
numbers."""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qat.lab.runs.record import Arm, Lineage, Record
from qat.tasks.classification import METRICS

ARMS: tuple[tuple[Arm, str | None], ...] = (
    ("float", None),
    ("control", None),
    *((arm, recipe) for recipe in ("w8a8", "w4a8", "w4a4", "w2a4") for arm in ("ptq", "qat")),
)
LOSS = {"w8a8": (0.002, 0.001), "w4a8": (0.012, 0.003), "w4a4": (0.035, 0.008), "w2a4": (0.28, 0.02)}
BITS = {"w8a8": (8, 8), "w4a8": (4, 8), "w4a4": (4, 4), "w2a4": (2, 4)}
LAYERS = ("stem/conv", "block1/conv1", "block1/conv2", "block2/conv1", "block2/conv2", "block2/shortcut", "mix", "head")
PARAMETERS = 272_000
VERSIONS = {"python": "3.12.4", "qat": "0.1.0", "jax": "0.12.1", "jaxlib": "0.12.1", "flax": "0.12.0", "numpy": "2.3.1"}


@dataclass(frozen=True)
class Fake:
    """One trial to write: where it stands in the study, and its labels."""

    arm: Arm
    recipe: str | None
    variant: str
    seed: int

    @property
    def labels(self) -> dict[str, str]:
        """Its label on each axis."""
        arm = self.arm if self.recipe is None else f"{self.arm} {self.recipe}"
        return {"arm": arm, "variant": self.variant, "seed": str(self.seed)}

    @property
    def id(self) -> str:
        """Name of its folder."""
        names = "-".join(re.sub(r"[^\w.]+", "-", label) for label in self.labels.values())
        return f"{names[:60]}-{_digest(*self.labels.values())[:8]}"


def make_runs(
    root: Path,
    trials: int = 30,
    *,
    name: str = "fake study",
    variants: Sequence[str] = ("learning rate 0.001",),
    seeds: int = 3,
    sites: int = 4,
    points: int = 20,
    examples: int = 60,
    failed: int = 0,
    damaged: int = 0,
    unfinished: int = 0,
    other_device: bool = False,
) -> list[str]:
    """Write a study of so many trials and return their ids.

    It multiplies 10 arms, the variants and the seeds, and stops at `trials`. Every quantized one has `sites` layers,
    every stage of training `points` lines of metrics. The last ones of the study are `unfinished`, before them
    `damaged`, before them `failed`; the first trial ran on another device where `other_device` says so.
    """
    fakes = list(itertools.islice(_fakes(variants, seeds), trials))
    assert len(fakes) == trials, "`variants` times `seeds` times 10 arms make fewer trials"
    listed = [{"id": fake.id, "labels": fake.labels} for fake in fakes]
    root.mkdir(parents=True, exist_ok=True)
    (root / "study.json").write_text(json.dumps({"name": name, "imports": [], "trials": listed}), encoding="utf-8")
    whole = trials - unfinished - damaged - failed
    for i, fake in enumerate(fakes[: trials - unfinished]):
        folder = root / "trials" / fake.id
        folder.mkdir(parents=True, exist_ok=True)
        device = "NVIDIA H200" if other_device and i == 0 else "cpu"
        (folder / "manifest.json").write_text(json.dumps(_manifest(fake.seed, device)), encoding="utf-8")
        if i < whole:
            write_trial(folder, fake, sites, points, examples)
        elif i < whole + failed:
            write_failure(folder)
        else:
            (folder / "record.json").write_text('{"schema_version": 2, "trial": "cut o', encoding="utf-8")
    return [fake.id for fake in fakes]


def write_trial(folder: Path, fake: Fake, sites: int = 4, points: int = 20, examples: int = 60) -> Record:
    """Everything that a finished trial leaves, but the model; its record, written last, comes back."""
    rng = np.random.default_rng(int(_digest(*fake.labels.values()), 16))
    correct = _correct(fake, examples, rng)
    config = {"name": "fake", "model": "cnn", "data": "digits", "arm": fake.arm, "recipe": fake.recipe}
    (folder / "config.json").write_text(json.dumps({**config, "seed": fake.seed}), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(_curves(fake, points)), encoding="utf-8")
    np.savez(folder / "examples.npz", accuracy=correct, prediction=rng.integers(0, 10, examples))
    if fake.recipe:
        layers = {"sites": [_site(i, *BITS[fake.recipe], fake.arm == "qat", rng) for i in range(sites)]}
        (folder / "layers.json").write_text(json.dumps(layers), encoding="utf-8")
    record = _record(fake, float(correct.mean()), examples, rng)
    (folder / "record.json").write_text(record.model_dump_json(indent=2), encoding="utf-8")
    return record


def write_failure(folder: Path, error: str = "The loss is not finite at step 120.") -> None:
    """What a trial or stage that failed leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"step {step}: loss {2.3 + step / 50:.3f}\n" for step in range(0, 121, 10))
    (folder / "log.txt").write_text(lines + f"FloatingPointError: {error}\n", encoding="utf-8")
    trace = f'Traceback (most recent call last):\n  File "fit.py", line 7, in fit\nFloatingPointError: {error}\n'
    failure = {"error": error, "traceback": trace, "attempts": 2, "kind": "error", "log": "log.txt"}
    (folder / "failure.json").write_text(json.dumps(failure), encoding="utf-8")


def _fakes(variants: Sequence[str], seeds: int) -> Iterator[Fake]:
    for variant, (arm, recipe), seed in itertools.product(variants, ARMS, range(seeds)):
        yield Fake(arm, recipe, variant, seed)


def _digest(*parts: object) -> str:
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:12]


def _shift(fake: Fake) -> float:
    """What the variant and the seed change alike in all arms."""
    pair = np.random.default_rng(int(_digest(fake.variant, fake.seed), 16)).normal(size=2)
    return 0.008 * pair[0] + 0.004 * pair[1]


def _correct(fake: Fake, examples: int, rng: np.random.Generator) -> np.ndarray:
    """0 or 1 by example; the arms of one seed find the same examples hard."""
    hard = np.random.default_rng(int(_digest("examples", fake.variant, fake.seed), 16)).random(examples)
    ptq, qat = LOSS.get(fake.recipe or "", (0.0, 0.0))
    loss = {"float": 0.0, "control": -0.006, "ptq": ptq, "qat": qat - 0.006}[fake.arm]
    share = 0.93 + _shift(fake) - loss + 0.002 * rng.normal()
    return (hard + 0.01 * rng.normal(size=examples) < share).astype(np.float32)


def _record(fake: Fake, accuracy: float, examples: int, rng: np.random.Generator) -> Record:
    weights = BITS[fake.recipe][0] if fake.recipe else 32
    latency = {32: 4.0, 8: 1.5, 4: 1.7, 2: 1.9}[weights] * float(1 + 0.03 * rng.random())
    start = _digest(fake.variant, fake.seed)
    control = None if fake.arm in ("float", "ptq") else _digest("control", start)
    stages = {"float": start} | ({fake.arm: _digest(fake.id)} if control else {})
    return Record(
        trial=fake.id,
        key=_digest("key", fake.id),
        labels=fake.labels,
        arm=fake.arm,
        recipe=fake.recipe,
        seed=fake.seed,
        lineage=Lineage(
            float_stage=start, control=_digest("control", start), group=_digest(fake.labels["arm"], fake.variant)
        ),
        stages=stages,
        task_metrics=METRICS,
        metrics={"accuracy": accuracy, "cross_entropy": 2.3 * (1 - accuracy)},
        examples=examples,
        program=f"of {weights} bits",
        size_bytes=PARAMETERS * weights // 8 + 4_000,
        timings={
            "seconds": round(20 + 5 * float(rng.random()), 2),
            "latency_ms": latency,
            "float_latency_ms": 4.1,
            "latency_batch": 8.0,
            **{f"faster{end}": 4.1 / latency * by for end, by in (("_low", 0.97), ("", 1.0), ("_high", 1.03))},
        },
    )


def _curves(fake: Fake, points: int) -> Iterator[str]:
    rate = 0.003
    for stage in ["float"] if fake.arm in ("float", "ptq") else ["float", fake.arm]:
        rng = np.random.default_rng(int(_digest(stage, fake.variant, fake.seed, stage == "float" or fake.recipe), 16))
        for i in range(points):
            after = (i + 1) / points if stage == "float" else 1 + 0.3 * (i + 1) / points
            loss = 2.3 * np.exp(-4 * after) + 0.05 + 0.02 * rng.random()
            line = {
                "stage": stage,
                "step": 10 * (i + 1),
                "loss": float(loss),
                "grad_norm": float(5 * loss + rng.random()),
            }
            yield (
                json.dumps({**line, "learning_rate": rate * (1 - i / points), "accuracy": float(1 - loss / 2.5)}) + "\n"
            )


def _site(i: int, weight_bits: int, bits: int, trained: bool, rng: np.random.Generator) -> dict:
    path = LAYERS[i % len(LAYERS)] + (f"_{i // len(LAYERS)}" if i >= len(LAYERS) else "")
    better = 3.0 if trained else 0.0
    operands = [
        _operand("lhs", "activation", bits, i == 0, better, rng),
        _operand("rhs", "weight", weight_bits, False, better, rng),
    ]
    return {
        "id": f"{path}:conv:0",
        "path": path,
        "op": "conv",
        "rule": ".*",
        "reason": None,
        "operands": [{**operand, "key": f"{path}:conv:0:{operand['side']}"} for operand in operands],
        "output_sqnr_db": min(operand["sqnr_db"] for operand in operands) - 2.5,
    }


def _operand(side: str, kind: str, bits: int, image: bool, better: float, rng: np.random.Generator) -> dict:
    width = 1.0 + rng.random()
    first, last = (0.0, 4 * width) if kind == "activation" else (-3 * width, 3 * width)
    edges = np.linspace(first, last, 65)
    centres = (edges[1:] + edges[:-1]) / 2
    counts = (20_000 * np.exp(-0.5 * (centres / (0.6 * width)) ** 2) * (0.9 + 0.2 * rng.random(64))).astype(int)
    high = last if image else last * (0.6 if bits < 8 else 0.9)
    return {
        "side": side,
        "kind": kind,
        "bits": bits,
        "grid": f"int{bits}",
        "low": 0.0 if kind == "activation" else -high,
        "high": high,
        "clipped": float(counts[np.abs(centres) > high].sum() / counts.sum()),
        "sqnr_db": 6.02 * bits - 7 + better + float(rng.normal()),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _manifest(seed: int, device: str) -> dict:
    return {
        "versions": VERSIONS,
        "device": {"backend": "cpu" if device == "cpu" else "gpu", "kinds": [device]},
        "platform": "Linux-6.8.0-x86_64-with-glibc2.39",
        "cpu": {"count": 8, "features": ["avx2", "avx512f", "avx512_vnni"]},
        "revision": "9f3c1d2e4b5a69788796a5b4c3d2e1f009182736",
        "data_fingerprint": "5d41402abc4b",
        "seed": seed,
        "flags": {},
        "matmul_precision": "None",
    }
