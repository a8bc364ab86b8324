"""A study whose trainings are done together has the folders of one whose trials are done one after another."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jobs import ALL, TINY
from studies import QUIET

from qat.lab.experiment import together as sharing
from qat.lab.experiment.config import override
from qat.lab.jobs.run_one import Sharing
from qat.lab.runs.manifest import how_in
from qat.lab.runs.record import read_record
from qat.lab.sweep.run import run_study
from qat.lab.sweep.study import make_study

BATCHED = "batched(size=16)"
WRITTEN_ANEW = {"done.json", "record.json", "manifest.json", "study.json"}
ARMS = {name: ALL[name] for name in ("control", "qat w8a8")} | {"qat w4a4": {"arm": "qat", "recipe": "w4a4"}}


def study(arms=ARMS, seeds=(0, 1), **changes):
    return make_study("tiny", override(TINY, changes), {"arm": arms, "seed": list(seeds)})


def contents(root: Path) -> dict[str, bytes]:
    """All files of a study's stages and trials, but those that tell of times and of how, and checkpoints, which orbax
    names at random."""
    files = [path for part in ("stages", "trials") for path in (root / part).rglob("*") if path.is_file()]
    kept = [path for path in files if path.name not in WRITTEN_ANEW and "checkpoints" not in path.parts]
    return {str(path.relative_to(root)): path.read_bytes() for path in kept}


def hows(root: Path) -> dict[str, set[str | None]]:
    """How the stages of each kind were trained."""
    found: dict[str, set[str | None]] = {}
    for folder in (root / "stages").iterdir():
        found.setdefault(folder.name.partition("-")[0], set()).add(how_in(folder))
    return found


def assert_same(root: Path, other: Path) -> None:
    mine, theirs = contents(root), contents(other)
    assert mine.keys() == theirs.keys()
    assert [name for name, content in mine.items() if theirs[name] != content] == []


@pytest.mark.slow
def test_folders_do_not_differ_from_those_of_trials_done_one_after_another(tmp_path):
    run_study(study(), tmp_path / "alone", console=QUIET)
    outcome = run_study(study(), tmp_path / "batched", runner=BATCHED, console=QUIET)
    assert not outcome.failed
    assert_same(tmp_path / "batched", tmp_path / "alone")
    assert hows(tmp_path / "alone") == {kind: {None} for kind in ("float", "control", "calibration", "qat")}
    assert hows(tmp_path / "batched") == {"float": {"map"}, "control": {"map"}, "qat": {"map"}, "calibration": {None}}
    records = [read_record(path) for path in (tmp_path / "batched" / "trials").iterdir()]
    assert {tuple(record.how.values()) for record in records if record} == {("map", "map")}


@pytest.mark.slow
def test_a_mixed_sweep_is_one_study(tmp_path):
    """Some seeds alone, and then all, together with those that are there."""
    run_study(study(seeds=(1,)), tmp_path / "mixed", console=QUIET)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "mixed").rglob("record.json")}
    run_study(study(seeds=(0, 1, 2)), tmp_path / "mixed", runner=BATCHED, console=QUIET)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    run_study(study(seeds=(0, 1, 2)), tmp_path / "alone", console=QUIET)
    assert_same(tmp_path / "mixed", tmp_path / "alone")


KILLED = """
import os, signal, sys
from pathlib import Path
from typing import Any
sys.path[:0] = sys.argv[2:]
import test_batched_study as here
from qat.lab.experiment import training
from qat.lab.sweep.run import run_study

points, append = [], training.append_point

def die_soon(folder, *point):
    append(folder, *point)
    points.append(folder)
    if len(points) == 4:
        os.kill(os.getpid(), signal.SIGKILL)

training.append_point = die_soon
run_study(here.lasting(), Path(sys.argv[1]), runner="batched(size=16, chunk=2)", console=here.QUIET)
"""


def lasting():
    """A study whose float models are saved on the way."""
    return study({"float": ALL["float"]}, **{"train.steps": 8, "train.checkpoint_every": 2, "train.log_every": 2})


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on_where_its_trainings_were(tmp_path):
    places = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "support")]
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), *places]
    ended = subprocess.run(command, env=dict(os.environ), check=False, stderr=subprocess.PIPE)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    saved = {int(path.name) for path in (tmp_path / "killed").glob("stages/*/checkpoints/*")}
    assert saved == {2}  # the metrics of step 4 come before its checkpoint
    run_study(lasting(), tmp_path / "killed", runner="batched(size=16, chunk=2)", console=QUIET)
    run_study(lasting(), tmp_path / "alone", console=QUIET)
    assert_same(tmp_path / "killed", tmp_path / "alone")


def test_a_training_that_is_not_finite_fails_alone(tmp_path):
    arms = {
        "bad": {"train.learning_rate": 1e38, "train.clip_norm": None},
        "good": {"train.learning_rate": 1e-3},
        "other": {"train.learning_rate": 1e-4},
    }
    outcome = run_study(study(arms, seeds=(0,)), tmp_path, runner=BATCHED, console=QUIET, retries=0)
    errors = [failure.error for failure in outcome.failed.values() if failure.kind != "dependency"]
    assert len(errors) == 1
    assert "FloatingPointError" in errors[0]
    assert "step" in errors[0]
    assert sorted(json.loads(path.read_text())["labels"]["arm"] for path in tmp_path.rglob("record.json")) == [
        "good",
        "other",
    ]
    assert hows(tmp_path)["float"] == {"map", None}  # the manifest of what failed tells nothing


class Request:
    """A training that only its group is asked of."""

    def __init__(self, program):
        self.program, self.batches = program, None

    def alone(self):
        return "alone"


def requests(programs: str) -> list[Any]:
    return [Request(program) for program in programs]


@pytest.fixture
def trained(monkeypatch):
    """The sizes of the groups that are trained."""
    sizes: list[int] = []
    monkeypatch.setattr(sharing, "fit_together", lambda fits, how, **_: sizes.append(len(fits)) or [how] * len(fits))
    monkeypatch.setattr(sharing, "size_of", lambda fit, chunk: 1e9)
    monkeypatch.setattr(sharing, "operations", lambda fit: 1e6)
    return sizes


def test_groups_are_of_one_program_and_split_where_they_do_not_fit_memory(trained):
    told: list[str] = []
    found = sharing.together(requests("aabaaa"), Sharing(memory_gb=2.5), told.append)
    assert found == ["map", "map", "alone", "map", "map", "map"]
    assert trained == [2, 2, 1]
    assert told == ["5 trainings of one program run 2 at a time, which fit into 2.5 GB."]


def test_trainings_whose_time_is_arithmetic_run_singly_and_that_is_told(trained, monkeypatch):
    monkeypatch.setattr(sharing, "operations", lambda fit: 5e9)
    told: list[str] = []
    assert sharing.together(requests("aa"), Sharing(memory_gb=9), told.append) == ["alone", "alone"]
    assert told == [
        "2 trainings run one after the other: a step has 5.0 billion operations, so that arithmetic takes the time."
    ]
    assert sharing.together(requests("aa"), Sharing("vmap", memory_gb=9), told.append) == ["vmap", "vmap"]


def test_an_error_of_the_common_program_is_one_of_each_of_its_trainings(trained, monkeypatch):
    def fails(fits, how, **_):
        raise MemoryError("too much")

    monkeypatch.setattr(sharing, "fit_together", fails)
    found = sharing.together(requests("aab"), Sharing(memory_gb=9), print)
    assert [type(one).__name__ for one in found] == ["MemoryError", "MemoryError", "str"]
