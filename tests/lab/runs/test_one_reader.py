"""Each file of a run is read and written by one module, which knows its format; all others call that module."""

import ast
from pathlib import Path

import pytest

import qat.lab
from qat.lab.jobs import log
from qat.lab.runs import files, record, study_folder

LAB = Path(qat.lab.__file__).parent
OWNERS = {
    "RECORD_FILE": "runs/record.py",
    "CONFIG_FILE": "runs/settings.py",
    "KEY_FILE": "runs/settings.py",
    "MANIFEST_FILE": "runs/manifest.py",
    "SIGNATURE_FILE": "runs/manifest.py",
    "METRICS_FILE": "runs/metrics.py",
    "LAYERS_FILE": "runs/layers.py",
    "EXAMPLES_FILE": "runs/examples.py",
    "AUDIT_FILE": "runs/audits.py",
    "PARITY_FILE": "runs/parity.py",
    "MODEL_FILE": "runs/models.py",
    "ARTIFACT_FILE": "runs/models.py",
    "RAISED_FILE": "runs/models.py",
    "ALLOCATION_FILE": "runs/models.py",
    "PTQ_FILE": "runs/models.py",
    "DONE_FILE": "runs/finished.py",
    "PRUNED_FILE": "runs/finished.py",
    "STUDY_FILE": "runs/study_folder.py",
    "LOG_FILE": "jobs/log.py",
    "FAILURE_FILE": "jobs/log.py",
}
HOMES = ("runs/", "jobs/")
OPENING = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "unlink", "loads"}
OPENING |= {"write_atomically", "write_sealed", "load_tree", "save_tree"}
MODULES = sorted(path for path in LAB.rglob("*.py") if "starter" not in path.parts)


def constants():
    """Names of the files of a run, by the constant that holds each."""
    held = {name: value for module in (log, files, record, study_folder) for name, value in vars(module).items()}
    return {name: value for name, value in held.items() if name.endswith("_FILE")}


def named(node):
    """The files of a run that a piece of code names, by their constants."""
    by_value = {value: name for name, value in constants().items()}
    for one in ast.walk(node):
        if isinstance(one, ast.Name | ast.Attribute):
            name = one.id if isinstance(one, ast.Name) else one.attr
            if name in OWNERS:
                yield name
        elif isinstance(one, ast.alias) and one.name in OWNERS:
            yield one.name
        elif isinstance(one, ast.Constant) and isinstance(one.value, str) and one.value in by_value:
            yield by_value[one.value]


def opened(tree):
    """The files of a run that functions name which read or write a file themselves."""
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
        if OPENING & {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls}:
            yield from named(function)


def test_every_file_of_a_run_has_an_owner_that_opens_it():
    assert set(constants()) == set(OWNERS)
    for name, owner in OWNERS.items():
        assert name in opened(ast.parse((LAB / owner).read_text())), f"{owner} neither reads nor writes {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LAB)))
def test_no_other_module_opens_a_file_of_a_run(path):
    place, tree = str(path.relative_to(LAB)), ast.parse(path.read_text())
    foreign = {name for name in opened(tree) if OWNERS[name] != place}
    assert foreign == set(), f"{place} opens {foreign} itself: call {[OWNERS[name] for name in foreign]}"
    if not place.startswith(HOMES):
        assert set(named(tree)) == set(), f"{place} names files of a run: let `lab/runs` say where they are"


def test_a_second_reader_is_found():
    code = "def f(folder):\n    return json.loads((folder / LAYERS_FILE).read_text())\n"
    for text in (code, code.replace("LAYERS_FILE", "files.LAYERS_FILE"), code.replace("LAYERS_FILE", "'layers.json'")):
        assert set(opened(ast.parse(text))) == {"LAYERS_FILE"}
