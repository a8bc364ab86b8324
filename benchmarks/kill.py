"""A small sweep killed with SIGKILL at random moments, its runner, a worker, or all at once, and run again each time.

python benchmarks/kill.py             # 20 moments; some minutes
python benchmarks/kill.py 5 inprocess # as many moments, another runner

What was finished at a kill must stay as it was to the last byte, and in the end every number must be that of a sweep
that nobody killed. Only processes that this script started are killed.
"""

import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from shared.verdict import report

from qat.lab.runs.study_folder import read_study

SEED = 0
IN_A_ROW = 5  # kills of one sweep, before it may end
STUDY = """
from qat.lab.experiment.config import ExperimentConfig
from qat.train import TrainConfig

BASE = ExperimentConfig(
    name="killed",
    model="cnn(width=4)",
    data="digits",
    train=TrainConfig(steps=60, batch_size=32, checkpoint_every=10),
    finetune=TrainConfig(steps=40, batch_size=32, checkpoint_every=10, freeze_bn_step=20),
    calibration_batches=2,
)
AXES = {
    "arm": {
        "float": {"arm": "float"},
        "control": {"arm": "control"},
        "ptq": {"arm": "ptq", "recipe": "w8a8"},
        "qat": {"arm": "qat", "recipe": "w4a4"},
    },
    "seed": [0, 1],
}
"""


@dataclass
class Sweeps:
    """The command, and what was finished at some kill: the digest and the time of each file that must stay."""

    study: Path
    runner: str
    kept: dict[Path, tuple[str, int]] = field(default_factory=dict)

    def start(self, runs: Path) -> psutil.Popen:
        """Begin a sweep, or go on with it."""
        cache = {"JAX_COMPILATION_CACHE_DIR": str(self.study.parent / "compiled")}
        command = [sys.executable, "-m", "qat", "sweep", str(self.study), "--runs", str(runs)]
        log = (runs.parent / f"{runs.name}.log").open("ab")
        with log:
            return psutil.Popen(
                [*command, "--runner", self.runner],
                env={**os.environ, **cache},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def look(self, runs: Path) -> int:
        """Remember what is finished now; how much of what was finished before is gone or was made anew."""
        now = {path: (_digest(path), path.stat().st_mtime_ns) for path in runs.glob("trials/*/record.json")}
        lost = sum(now.get(path) != before for path, before in self.kept.items() if path.is_relative_to(runs))
        self.kept.update(now)
        return lost


def kill(process: psutil.Popen, what: str) -> None:
    """End the runner, one of its workers, or all, at once."""
    workers = process.children(recursive=True)
    chosen = {"runner": [process], "worker": workers[:1], "all": [process, *workers]}[what]
    for one in chosen:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    if what != "worker":
        process.wait()


def numbers(runs: Path) -> dict[str, str]:
    """All that a trial came to but its times, by trial and what it is."""
    found = {}
    for name, record in read_study(runs).scan().records.items():
        found[f"{name} record"] = record.model_copy(update={"timings": {}}).model_dump_json()
        for path in sorted((runs / "trials" / name).iterdir()):
            if path.name in ("model.safetensors", "examples.npz", "metrics.jsonl", "config.json"):
                found[f"{name} {path.name}"] = _digest(path)
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _whole(sweeps: Sweeps, runs: Path) -> float:
    """Run a sweep to its end; the seconds that it took."""
    started = time.monotonic()
    if sweeps.start(runs).wait() != 0:
        raise SystemExit(f"the sweep failed:\n{(runs.parent / f'{runs.name}.log').read_text()}")
    return time.monotonic() - started


def _round(sweeps: Sweeps, runs: Path, seconds: float, chance: random.Random, most: int) -> tuple[int, int]:
    """Kill a sweep at most so many times, until it ends by itself; the kills, and how many trials they cost."""
    kills = lost = 0
    process = sweeps.start(runs)
    while kills < most:
        time.sleep(chance.uniform(0.1, 0.4 * seconds))
        if process.poll() is not None:
            break
        what = chance.choice(["runner", "worker", "all"])
        kill(process, what)
        kills += 1
        lost += sweeps.look(runs)
        done = len(list(runs.glob("trials/*/record.json")))
        Console(stderr=True).print(f"{what} killed, with {done} trials finished")
        process = process if what == "worker" else sweeps.start(runs)
    process.wait()
    _whole(sweeps, runs)
    return kills, lost + sweeps.look(runs)


def main(moments: int, runner: str) -> None:
    """Print how many finished trials were lost, and how many numbers are not those of an uninterrupted sweep."""
    chance = random.Random(SEED)
    kills, lost, changed, rounds = 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "study.py").write_text(STUDY)
        sweeps = Sweeps(folder / "study.py", runner)
        _whole(sweeps, folder / "first")  # fills the cache of compiled programs
        seconds = _whole(sweeps, folder / "whole")
        expected = numbers(folder / "whole")
        while kills < moments:
            runs = folder / f"killed-{rounds}"
            more, cost = _round(sweeps, runs, seconds, chance, min(IN_A_ROW, moments - kills))
            found = numbers(runs)
            kills, lost, rounds = kills + more, lost + cost, rounds + 1
            changed += sum(found.get(what) != value for what, value in expected.items())
    title = f"{kills} kills of a sweep of {seconds:.0f} s in {runner}, in {rounds} folders"
    rows = [("finished trials lost", lost, 0), (f"numbers changed, of {len(expected) * rounds}", changed, 0)]
    report(title, [(what, float(value), float(bound)) for what, value, bound in rows])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20, sys.argv[2] if len(sys.argv) > 2 else "pool")
