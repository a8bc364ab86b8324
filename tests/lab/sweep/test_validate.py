"""Files of configs and experiments are checked without training: every mistake of every file at once."""

import re
from pathlib import Path

import pytest

from qat.core.tables import as_text
from qat.lab.sweep.run import run_study
from qat.lab.sweep.study import load_study
from qat.lab.sweep.validate import validate

ROOT = Path(__file__).parents[3]
HEAD = """
from qat.lab.experiment.config import ExperimentConfig
from qat.train import TrainConfig
BASE = ExperimentConfig(name="base", model="cnn(width=4)", data="digits", train=TrainConfig(steps=10))
"""


@pytest.fixture
def write(tmp_path):
    """Writes a file beneath the test's folder; what is in `head` goes before."""

    def written(name, text, head=HEAD):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(head + text)
        return path

    return written


def problems(path):
    return [(problem.field, problem.message) for problem in validate([path]).problems]


def test_the_files_of_this_project_hold_no_mistake(monkeypatch):
    monkeypatch.delenv("QAT_SST2", raising=False)  # with it the text study's checkpoint would be fetched
    validation = validate([ROOT / "configs", ROOT / "experiments"])
    assert [str(problem) for problem in validation.problems] == []
    assert {"cnn_digits.py", "quickstart.py", "mixed_bits.py"} <= {checked.file.name for checked in validation.files}
    assert all(checked.trials for checked in validation.files)


def test_data_that_are_elsewhere_are_no_mistake_and_said_to_be_unchecked(write, monkeypatch):
    monkeypatch.delenv("QAT_DEEPPCB", raising=False)
    text = 'BASE = override(BASE, {"data": "deeppcb", "model": "yolo_lite"})\nAXES = {"seed": [0]}\n'
    text = "from qat.lab.experiment.config import override\n" + text
    checked = validate([write("a.py", text)]).files[0]
    assert checked.problems == ()
    assert [(one.field, "QAT_DEEPPCB" in one.message) for one in checked.unchecked] == [("data", True)]
    wrong = 'FAST = {"data": "boards(images=-1)"}\n'
    assert "`images`" in dict(problems(write("b.py", text + wrong)))["data"]


def test_every_mistake_of_an_experiment_is_told_with_its_field_and_a_hint(write):
    path = write(
        "a.py", 'AXES = {"train.stepz": [1, 2], "seed": [0, -1], "arm": {"x": {"arm": "ptq", "recipe": "w9"}}}'
    )
    found = dict(problems(path))
    assert set(found) == {"train.stepz", "seed", "recipe"}
    assert "unknown field. Did you mean 'steps'?" in found["train.stepz"]
    assert "greater than or equal to 0, got -1" in found["seed"]
    assert "Unknown recipe 'w9'" in found["recipe"]


@pytest.mark.parametrize(
    ("axes", "field", "message"),
    [
        ('{"seed": []}', "", "`axes` must leave at least one trial"),
        ('{"seed": [0, 0]}', "", "`axes` must make trials that differ"),
        ('{"seed": "012"}', "", "`seed` must be a list of values, got the string '012'"),
        ('{"data": ["mnist(data_dir=\\"nowhere\\")"]}', "data", "`data_dir` must hold prepared data"),
        ('{"model": ["cnn(width=-1)"]}', "model", "cnn(width=-1)"),
        (
            '{"arm": {"q": {"arm": "ptq", "recipe": "w8a8(bits={\'hed\': 4})"}}}',
            "recipe",
            "`weights` of 'hed' matches no site. Nearest paths: CNN/head",
        ),
        ("[1]", "AXES", "must be a dict."),
        ('{"width": {8: {"seed": 1}}}', "width", "a label must be a string, got 8. Write '8'"),
        ('{"width": {"8": 8}}', "width", "the step '8' must be a dict of values by setting"),
        ('{"width": {"8": {3: 4}}}', "width", "the step '8' must be a dict of values by setting"),
        ('{8: ["a"]}', "AXES", "the name of an axis must be a string, got 8. Write '8'"),
        ('{"seed": 8}', "", "`seed` must be a list of values, or a dict of steps by label, got 8"),
        ('{"seed": [0]}\nTRIALS = {8: {"seed": 1}}', "TRIALS", "a label must be a string, got 8. Write '8'"),
        ('{"model": ["cnn(width=1, width=3)"]}', "model", "`width` is given 2 times in 'cnn(width=1, width=3)'"),
        ('{"model": ["cnn(**{\'width\': 64})"]}', "model", "`*` and `**` are not taken"),
    ],
    ids=lambda value: value if len(value) < 30 else "",
)
def test_a_study_that_could_not_run_is_refused(write, axes, field, message):
    path = write("a.py", f"AXES = {axes}")
    ((found, said),) = problems(path)
    assert found == field
    assert message in said
    with pytest.raises(ValueError, match=re.escape(message) if message != "must be a dict." else "`TRIALS`, dicts"):
        run_study(load_study(path, {}), path.parent / "runs")
    assert not (path.parent / "runs").exists()


def test_mistakes_of_settings_and_misfits_come_together(write):
    axes = '{"arm": {"q": {"arm": "ptq", "recipe": "w8(bits={\'hed\': 4})"}}, "train.stepz": [1]}'
    assert [field for field, _ in problems(write("a.py", f"AXES = {axes}"))] == ["train.stepz", "recipe"]


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("def get_config(): return 3", "", "`get_config` must return an ExperimentConfig, got int."),
        ("def get_config(): return 1 / 0", "", "ZeroDivisionError: division by zero"),
        (
            "from qat.train import TrainConfig\ndef get_config(): return TrainConfig(step=3)",
            "step",
            "Did you mean 'steps'",
        ),
        ("def get_config(:", "", "line 1 could not be run: SyntaxError"),
        ("import sys\nsys.exit(0)", "", "line 2 could not be run: it ended its process with exit code 0"),
        ("def get_config():\n    raise SystemExit", "", "line 2 could not be run: it ended its process"),
        ("import no_such_module", "", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1", "", "defines neither `get_config()` nor `BASE`"),
        ("BASE = 3\nAXES = {}", "BASE", "must be an ExperimentConfig, got int."),
        ("BASE = 3\nSEARCH = 4", "SEARCH", "must be a Search"),
    ],
)
def test_a_file_that_defines_nothing_useful_says_why(write, text, field, message):
    found = problems(write("a.py", text, head=""))
    assert any(name == field and message in said for name, said in found), found


def test_a_search_is_checked_with_its_base(write):
    text = "from qat.lab.sweep.space import Search\n"
    text += "SEARCH = Search(space={'train.stepz': [3], 'bits:head': [2]}, trials=2)"
    found = problems(write("a.py", text))
    assert found[0][0] == "train.stepz" and "Did you mean 'steps'" in found[0][1]
    assert "`bits:` of layers need a recipe" in found[1][1]
    right = text.replace("'train.stepz': [3], 'bits:head': [2]", "'train.steps': {'low': 5, 'high': 20}")
    (checked,) = validate([write("b.py", right)]).files
    assert (checked.defines, checked.trials, checked.problems) == (("experiment", "search"), 1, ())


def test_bits_of_layers_that_are_not_there_are_found_before_a_search(write):
    text = (
        "from qat.lab.sweep.space import Search\n"
        "BASE = BASE.model_copy(update={'arm': 'ptq', 'recipe': 'w8a8'})\n"
        "SEARCH = Search(space={'bits:hed': [2, 4]}, trials=2)"
    )
    ((field, message),) = problems(write("a.py", text))
    assert field == "recipe" and "`weights` of 'hed' matches no site. Nearest paths: CNN/head" in message


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        ("space={}, trials=3", "space", "at least 1 item"),
        ("space={'seed': [1]}, trials=3, samplr='tpe'", "samplr", "Did you mean 'sampler'"),
        ("space={'seed': [1]}, trials=3, sampler='tp'", "sampler", "Unknown sampler 'tp'. Known: random, tpe."),
        ("space={'seed': [1]}, trials=3, pruner='medain'", "pruner", "Did you mean 'median'"),
        ("space={'seed': [1, 1]}, trials=3", "space", "must be a list of values that differ"),
        ("space={'bits:head': [2, 9]}, trials=3", "space", "must be whole numbers of bits in [2, 8], got [2, 9]"),
        ("space={'bits:he(ad': [2]}, trials=3", "space", "no regular expression"),
        ("space={'seed': {'low': 3, 'high': 3}}, trials=3", "space", "`low` must be less than `high`"),
        ("space={'seed': {'low': 3, 'hihg': 3}}, trials=3", "space", "Did you mean 'high'"),
    ],
)
def test_a_search_that_cannot_be_is_refused_where_it_is_made(write, options, field, message):
    found = problems(write("a.py", f"from qat.lab.sweep.space import Search\nSEARCH = Search({options})"))
    assert any(name == field and message in said for name, said in found), found


def test_folders_are_searched_and_hidden_files_left_out(write, tmp_path):
    write("more/a.py", "AXES = {'seed': [0, 1]}")
    write("more/_shared.py", "x = 1")
    write("b.py", "AXES = {}")
    assert [(c.file.name, c.trials) for c in validate([tmp_path]).files] == [("b.py", 1), ("a.py", 2)]
    assert [c.file.name for c in validate([tmp_path / "b.py", tmp_path]).files] == ["b.py", "a.py"]


def test_a_path_that_is_not_there_and_a_folder_without_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is not there\. Name files or folders"):
        validate([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="hold no Python file to check"):
        validate([tmp_path])


def test_the_table_has_a_line_for_each_problem_under_its_file(write, tmp_path):
    write("a.py", "AXES = {'train.stepz': [1], 'seed': [-1]}")
    write("b.py", "AXES = {'seed': [0, 1]}")
    text = as_text(validate([tmp_path]), width=200)
    assert "2 files checked: 2 problems" in text
    assert text.count("a.py") == 1 and "[did]" not in text
    assert any("train.stepz" in line and "unknown field" in line for line in text.splitlines())
