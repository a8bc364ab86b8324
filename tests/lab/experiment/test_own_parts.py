"""What a user's own files register works wherever a study runs, and an edit redoes what depends on it."""

import importlib.metadata
import sys

import pytest
from often import slow_after
from ownparts import PARTS, forgotten
from studies import QUIET

from qat import data, registry
from qat.core.tables import as_text
from qat.lab.experiment import run_stage, stage_of
from qat.lab.experiment.code import code_of, imports
from qat.lab.runs.record import RECORD_FILE, read_record
from qat.lab.sweep.replay import replay
from qat.lab.sweep.run import run_study
from qat.lab.sweep.study import load_study
from qat.lab.sweep.validate import validate
from qat.lab.sweep.why import why
from qat.observers import observers

ALL = {"float", "calibration", "qat", "trial"}
QUANTIZED = {"calibration", "qat", "trial"}
REDONE = {
    "model": ALL,
    "data": ALL,
    "task": ALL,
    "optimizer": ALL,
    "schedule": ALL,
    "observer": QUANTIZED,
    "quantizer": QUANTIZED,
    "engine": QUANTIZED,
    "ptq": QUANTIZED,
    "runner": set(),
    "sink": set(),
}


def stages(path):
    """The stages of the study's one trial, by kind."""
    [trial] = load_study(path, {}).trials
    return {stage.kind: stage for stage in stage_of(trial.config, data.load(trial.config.data).fingerprint).walk()}


def redone(before, after):
    return {kind for kind in before if before[kind].key != after[kind].key}


@pytest.mark.parametrize("part", slow_after(4, PARTS))
def test_an_edit_of_what_a_registered_part_imports_redoes_the_stages_that_run_it_and_no_other(own, part):
    before = stages(own)
    number = own.with_name(f"own_{part}_number.py")
    number.write_text("# A remark.\nNUMBER = 1\n")
    assert redone(before, stages(own)) == set()
    number.write_text("NUMBER = 22\n")
    after = stages(own)
    assert redone(before, after) == REDONE[part]
    assert sys.modules[f"own_{part}"].__dict__[f"own_{part}_number"].NUMBER == 22, "the process runs the old code"


@pytest.mark.slow
def test_one_sweep_in_workers_uses_all_that_a_users_files_register_and_an_edit_is_seen(own, tmp_path):
    root = tmp_path / "runs"
    assert validate([own]).problems == []
    study = load_study(own, {})
    [trial] = study.trials
    folder = root / "trials" / trial.id

    def sweep():
        outcome = run_study(load_study(own, {}), root, runner="my_runner", send=["my_sink"], retries=0, console=QUIET)
        assert outcome.failed == {}, outcome.summary(root)
        return {job.kind for job in outcome.finished}

    assert sweep() == ALL
    assert (root / "told.txt").read_text() == f"{trial.id}\n"
    first = read_record(folder)
    assert first is not None
    assert sweep() == set()
    observer = own.with_name("own_observer.py")
    text = observer.read_text()
    halved = "    found = observers.build('minmax')\n"
    halved += "    return replace(found, range=lambda *a: [x / 2 for x in found.range(*a)])\n"
    observer.write_text(text.replace("    return replace(observers.build('minmax'))\n", halved))
    assert sweep() == QUANTIZED
    second = read_record(folder)
    assert second is not None
    assert second.metrics != first.metrics, "the workers computed with the old observer"
    assert replay(folder, lambda *_: None).same
    assert (folder / RECORD_FILE).exists()


def test_settings_that_a_studys_file_declares_are_not_its_code(own):
    before = stages(own)
    own.write_text(own.read_text().replace('{"seed": [0]}', '{"seed": [0], "arm": ["qat"]}'))
    assert redone(before, stages(own)) == set()


def test_what_a_file_no_longer_registers_is_unknown(own):
    load_study(own, {})
    model = own.with_name("own_model.py")
    model.write_text(model.read_text().replace("my_model", "other_model"))
    with pytest.raises(ValueError, match="Unknown model 'my_model'"):
        load_study(own, {})


def test_studies_in_two_folders_have_each_its_own_module_of_one_name(own, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    text = own.read_text() + "import settings\nBASE = override(BASE, {'train.steps': settings.STEPS})\n"
    text = "from qat.lab.experiment.config import override\n" + text
    own.write_text(text)
    (own.parent / "settings.py").write_text("STEPS = 3\n")
    for part in own.parent.glob("own*.py"):
        (other / part.name).write_text(part.read_text())
    (other / "settings.py").write_text("STEPS = 4\n")
    steps = [load_study(path, {}).trials[0].config.train.steps for path in (own, other / "own.py", own)]
    assert steps == [3, 4, 3]
    assert [str(own.parent) in sys.path, str(other) in sys.path] == [True, False]


def test_code_that_is_run_by_a_computed_name_is_said_to_be_not_covered(own):
    model = own.with_name("own_model.py")
    model.write_text(
        "import importlib\n" + model.read_text() + "\n\ndef other(name):\n    importlib.import_module(name)\n"
    )
    [said] = stages(own)["float"].parts["not covered"]
    assert said.startswith("own_model.py, line ")
    assert "computed" in said


@pytest.mark.parametrize(
    "reads",
    [
        "Path(__file__).parent / 'words' / 'list.txt'",
        "Path(__file__).with_name('words').joinpath('list.txt')",
        "os.path.join(os.path.dirname(os.path.abspath(__file__)), 'words/list.txt')",
        "HERE / 'words'",
    ],
)
def test_files_that_a_module_reads_beside_itself_count(own, reads):
    model = own.with_name("own_model.py")
    words = own.parent / "words" / "list.txt"
    words.parent.mkdir()
    words.write_text("a")
    head = "import os\nfrom pathlib import Path\nHERE = Path(__file__).resolve().parent\n"
    model.write_text(head + model.read_text() + f"\n\ndef read():\n    return {reads}\n")
    before = stages(own)
    assert before["float"].parts["not covered"] == []
    words.write_text("b")
    assert redone(before, stages(own)) == ALL


def test_modules_named_by_constant_text_count(own):
    model = own.with_name("own_model.py")
    (own.parent / "late.py").write_text("A = 1\n")
    model.write_text("import importlib\n" + model.read_text() + "\nimportlib.import_module('late')\n")
    before = stages(own)
    (own.parent / "late.py").write_text("A = 2\n")
    assert redone(before, stages(own)) == ALL


def test_versions_of_packages_that_the_users_modules_import_count(own, monkeypatch):
    model = own.with_name("own_model.py")
    model.write_text("import optax\n" + model.read_text())
    before = stages(own)
    assert list(before["float"].parts["packages"]) == ["optax"]
    monkeypatch.setattr("qat.lab.experiment.code.closure.importlib.metadata.version", lambda name: "0.0.0")
    code_of.cache_clear()
    assert redone(before, stages(own)) == ALL
    code_of.cache_clear()


def test_a_built_in_part_that_the_users_code_builds_by_a_text_put_together_counts(own):
    model = own.with_name("own_model.py")
    model.write_text(model.read_text().replace("'cnn(width=4)'", "f'cnn(width={4})'"))
    found = stages(own)["float"].parts
    assert "qat/models/cnn.py" in found["code"]
    assert found["not covered"] == []
    model.write_text(model.read_text().replace("f'cnn(width={4})'", "'cn' + 'n'"))
    assert "name is computed" in stages(own)["float"].parts["not covered"][0]


def test_what_an_installed_plugin_registers_is_known_and_its_version_counts(tmp_path, monkeypatch):
    place = tmp_path / "site-packages"
    (place / "plugged-1.0.dist-info").mkdir(parents=True)
    (place / "plugged-1.0.dist-info" / "METADATA").write_text("Name: plugged\nVersion: 1.0\n")
    (place / "plugged-1.0.dist-info" / "entry_points.txt").write_text("[qat.plugins]\nparts = plugged\n")
    (place / "plugged-1.0.dist-info" / "top_level.txt").write_text("plugged\n")
    (place / "plugged.py").write_text(f"from dataclasses import replace\n\n{PARTS['observer']}")
    monkeypatch.syspath_prepend(str(place))
    caches = (registry._plugins, imports.distributions, code_of)
    with forgotten():
        try:
            for cached in caches:
                cached.cache_clear()
            assert "my_observer" in observers.names()
            [file] = observers.sources("my_observer")
            assert code_of((), (file,)).packages == {"plugged": "1.0"}
        finally:
            sys.modules.pop("plugged", None)
            monkeypatch.undo()
            for cached in caches:
                cached.cache_clear()


def test_a_plugin_that_cannot_be_loaded_is_named(monkeypatch):
    entry = importlib.metadata.EntryPoint("broken", "no_such_module_of_ours", "qat.plugins")
    monkeypatch.setattr(registry, "_plugins", lambda: (entry,))
    with pytest.raises(ValueError, match="the plugin 'broken' of an installed package cannot be loaded"):
        observers.build("no_such_observer")


@pytest.mark.parametrize("wanted", ["seed 0", None])
def test_why_tells_the_file_that_changed_for_every_stage_that_it_redoes(own, tmp_path, monkeypatch, wanted):
    monkeypatch.setattr("qat.lab.experiment.run.result_of", lambda *_: {})
    root, [trial] = tmp_path / "runs", load_study(own, {}).trials
    before = stages(own)
    for stage in list(before.values())[:-1]:
        run_stage(stage, root)
    told = as_text(why(own, wanted or trial.id, {}, root))
    assert told.count(": finished") == 3
    assert all(text in told for text in ("own_model_number.py", "my_observer", before["float"].parts["data"]))
    own.with_name("own_observer_number.py").write_text("NUMBER = 2\n")
    told = as_text(why(own, wanted or trial.id, {}, root))
    assert "float-" in told and told.count(": finished") == 1
    assert told.count("these have changed: code own_observer_number.py") == 2
    with pytest.raises(ValueError, match=r"no trial is 'seed 1'"):
        why(own, "seed 1", {}, root)
