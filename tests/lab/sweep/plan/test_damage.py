"""Whatever file of a run is damaged: every reader names it and goes on, and a sweep does that part alone again."""

import io
import itertools
import json
import zipfile

import numpy as np
import pytest
from jobs import ALL, run_all
from rich.console import Console
from run_folders import make_runs
from studies import QUIET
from typer.testing import CliRunner

from qat.lab.cli import app
from qat.lab.report.contents import read_contents
from qat.lab.report.html import page
from qat.lab.report.mcnemar import paired
from qat.lab.report.write import rows_of
from qat.lab.runs import curves, keep, layers, load
from qat.lab.runs.examples import load_examples
from qat.lab.runs.record import RECORD_FILE, read_record
from qat.lab.sweep.run import run_study
from qat.lab.sweep.status import status


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
}
OF_TRIAL = (
    "config.json",
    "manifest.json",
    "signature.json",
    "metrics.jsonl",
    "layers.json",
    "examples.npz",
    "model.safetensors",
)
OF_STAGE = ("float/artifact.safetensors", "calibration/artifact.safetensors", "calibration/raised.json",
            "control/manifest.json", "qat/metrics.jsonl", "float/done.json")  # fmt: skip
READ = {"layers.json": layers, "metrics.jsonl": curves, "config.json": load}


def trial_of(study, arm="qat w8a8"):
    return next(trial for trial in study.trials if trial.labels["arm"] == arm).id


def stage_of(root, place):
    kind, name = place.split("/")
    return sorted((root / "stages").glob(f"{kind}-*"))[0] / name


def numbers(root, study):
    """What was recorded, without times."""
    records = {trial.id: read_record(root / "trials" / trial.id) for trial in study.trials}
    assert None not in records.values()
    return {name: record.model_copy(update={"timings": {}}) for name, record in records.items() if record}


def named(lines, name):
    return [line for line in lines if name in line and ("damaged" in line or "missing" in line)]


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_readers_name_every_damaged_file_of_a_trial_and_report_the_rest(done, copied, tmp_path, damage):
    study, _ = done
    trial = trial_of(study)
    for name in OF_TRIAL:
        damage(copied / "trials" / trial / name)
    told = []
    assert len(paired(copied, warn=told.append)) >= 3  # beside what was damaged
    contents = read_contents(copied)
    page_text = page(contents, rows_of(contents))
    frame = load(copied)
    for name in OF_TRIAL:
        seen = damage is not flip or name != "model.safetensors"  # no report reads a model
        assert (
            bool(named(told, name)) == bool(named(contents.problems, name)) == (f"{name}&#x27; is" in page_text) == seen
        )
        assert bool(named(frame.attrs["damaged"], name)) == (damage is not flip or name == "config.json")
        assert bool(named(status(copied).damaged.get(f"trials/{trial}", ()), name)) == (damage is not flip)
        assert named(status(copied, check=True).damaged[f"trials/{trial}"], name)
    for name, read in READ.items():
        found = read(copied)
        assert named(found.attrs["damaged"], name) and len(found)
    assert len(contents.records) == len(frame) == len(keep(copied, tmp_path / "kept.csv", ["accuracy"])) == 5
    assert len(status(copied, check=True).finished) == 4


@pytest.mark.parametrize("how", ["flipped", "cut", "empty"])
def test_readers_name_a_damaged_record_and_report_the_rest(done, copied, tmp_path, how):
    study, _ = done
    path = copied / "trials" / trial_of(study) / RECORD_FILE
    if how == "flipped":  # not anywhere: the last digit of a number may change and leave it the same
        path.write_text(path.read_text().replace('"w8a8"', '"w8a9"'))
    else:
        DAMAGE[how](path)
    contents = read_contents(copied)
    assert named(contents.problems, RECORD_FILE) and len(rows_of(contents)) == 4
    assert named(load(copied).attrs["damaged"], RECORD_FILE)
    assert named(status(copied).damaged[f"trials/{trial_of(study)}"], RECORD_FILE)
    with pytest.raises(ValueError, match=r"1 of its trials are not(.|\n)*record.json' is damaged"):
        keep(copied, tmp_path / "kept.csv", ["accuracy"])


@pytest.mark.parametrize("key", ["recipe", "seed", "metrics", "labels"])
def test_an_edited_record_is_damaged(done, copied, key):
    study, _ = done
    path = copied / "trials" / trial_of(study) / RECORD_FILE
    found = json.loads(path.read_text())
    edited = {"recipe": "w2a8", "seed": 7, "metrics": {"accuracy": 1.0}, "labels": {}}
    path.write_text(json.dumps({**found, key: edited[key]}))
    assert named(read_contents(copied).problems, "its content is not what was written")


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_sweep_does_a_damaged_trial_alone_again_and_ends_with_the_same_numbers(done, copied, damage):
    study, root = done
    places = [copied / "trials" / trial_of(study) / name for name in OF_TRIAL]
    places.append(copied / "trials" / trial_of(study, "ptq w8a8") / RECORD_FILE)
    if damage is flip:
        places[-1].write_text(places[-1].read_text().replace('"w8a8"', '"w8a9"'))
    expected = {path: path.read_bytes() for path in places[:-1]}
    for arm, path in zip(ALL, (copied / "trials" / trial.id / "examples.npz" for trial in study.trials), strict=True):
        if arm in ("float", "control"):
            damage(path)
    for path in places:
        damage(path)
    out = io.StringIO()
    outcome = run_study(study, copied, console=Console(file=out, width=400))
    assert sorted(job.kind for job in outcome.finished) == ["trial"] * 4
    assert numbers(copied, study) == numbers(root, study)
    assert {path: path.read_bytes() for path in expected} == expected
    assert out.getvalue().count("It is done again") == len(OF_TRIAL) + 2 + (places[-1].name in out.getvalue())
    kept = [path.name.rsplit("-", 1)[1] for path in (copied / "superseded").iterdir()]
    assert kept == ["damaged"] * (3 if damage is DAMAGE["gone"] else 4)
    assert run_all(study, copied) == []


CASES = [(place, how) for place, how in zip(OF_STAGE, itertools.cycle(DAMAGE))]
CASES += [(OF_STAGE[0], how) for how in DAMAGE if (OF_STAGE[0], how) not in CASES] + [("float/done.json", "gone")]


@pytest.mark.parametrize(("place", "how"), CASES)
def test_a_sweep_does_a_damaged_stage_alone_again(done, copied, place, how):
    (study, root), damage = done, DAMAGE[how]
    path = stage_of(copied, place)
    before = (path.parent / "artifact.safetensors").read_bytes()
    damage(path)
    gone = not (path.parent / "done.json").exists()
    assert bool(named(status(copied, check=True).damaged.get(f"stages/{path.parent.name}", ()), path.name)) != gone
    outcome = run_study(study, copied, console=QUIET)
    assert [job.id for job in outcome.finished] == ([] if gone else [f"stages/{path.parent.name}"])
    if not gone:  # a stage that nobody needs is not made again
        assert (path.parent / "artifact.safetensors").read_bytes() == before
        assert [one.name for one in (copied / "superseded").iterdir()] == [f"{path.parent.name}-damaged"]
    assert numbers(copied, study) == numbers(root, study)
    assert status(copied, check=True).damaged == {}


def test_a_stage_and_its_checkpoints_that_are_damaged_end_in_the_same_numbers(done, copied):
    study, root = done
    stage = stage_of(copied, "float/artifact.safetensors").parent
    flip(stage / "artifact.safetensors")
    saved = [*(stage / "checkpoints").glob("*/arrays/manifest.ocdbt")]
    assert saved
    for path in saved:
        path.write_bytes(b"")
    for trial in study.trials:
        (copied / "trials" / trial.id / RECORD_FILE).unlink()
    run_all(study, copied)
    assert numbers(copied, study) == numbers(root, study)


def test_a_damaged_stage_that_is_only_found_when_it_is_read_is_no_longer_finished(done, copied, monkeypatch):
    study, _ = done
    flip(stage_of(copied, "float/artifact.safetensors"))
    (copied / "trials" / trial_of(study, "float") / RECORD_FILE).unlink()
    monkeypatch.setattr("qat.lab.runs.finished.is_whole", lambda path: path.exists())  # damaged after that look
    with pytest.raises(ValueError, match=r"artifact.safetensors' is damaged .*redoes this stage alone"):
        run_all(study, copied)
    monkeypatch.undo()
    assert len(run_all(study, copied)) == 2


def test_folders_without_digests_still_read_and_their_examples_damage_is_named(tmp_path):
    trials = make_runs(tmp_path, trials=9)
    assert not read_contents(tmp_path).problems and not status(tmp_path, check=True).damaged
    before = len(paired(tmp_path))
    path = tmp_path / "trials" / trials[0] / "examples.npz"
    content = bytearray(path.read_bytes())
    content[150] ^= 255
    path.write_bytes(content)
    contents = read_contents(tmp_path)
    assert named(contents.problems, "examples.npz")
    assert len(paired(tmp_path)) == before and rows_of(contents)


def test_a_file_that_promises_more_than_it_holds_is_damaged(tmp_path, monkeypatch):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    array = np.lib.format.magic(1, 0) + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(tmp_path / "examples.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("accuracy.npy", array)
    with pytest.raises(ValueError, match=r"examples.npz' is damaged \(an array of shape"):
        load_examples(tmp_path)
    monkeypatch.setattr("qat.lab.runs.examples.MOST_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "examples.npz", accuracy=np.zeros(1 << 18))
    with pytest.raises(ValueError, match=r"its arrays take 2097280 bytes, more than"):
        load_examples(tmp_path)


def test_the_commands_tell_of_damage_and_go_on(done, copied):
    study, _ = done
    (copied / "trials" / trial_of(study) / "examples.npz").write_bytes(b"PK")
    for words in (["report"], ["mcnemar"], ["status"], ["status", "--check"]):
        found = CliRunner().invoke(app, [*words, str(copied)])
        assert found.exit_code == 0
        assert "examples.npz" in "".join((found.stdout + found.stderr).split())
