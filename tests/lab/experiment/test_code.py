"""A digest of code changes with what the code does, and with nothing else."""

from pathlib import Path

import pytest

from qat.lab.experiment.code import NOT_COMPUTING, PACKAGE, code_digest, code_of, needed
from qat.lab.experiment.code.digest import SEEN, file_digest

FIRST = '''"""A module."""

def double(x):
    """Twice x."""
    return x * 2  # cheap
'''
SAME = '''"""Another text."""


def double(x):
    return x*2
'''
OTHER = FIRST.replace("* 2", "* 3")


def digest(folder, text):
    path = folder / f"{abs(hash(text))}.py"
    path.write_text(text)
    return code_digest([path])


def test_comments_docstrings_and_formatting_do_not_count(tmp_path):
    assert digest(tmp_path, FIRST) == digest(tmp_path, SAME)


def test_what_it_computes_counts(tmp_path):
    assert digest(tmp_path, FIRST) != digest(tmp_path, OTHER)


def names(*modules, files=()):
    return {str(path.relative_to(PACKAGE)) for path in needed(modules, tuple(PACKAGE / name for name in files))}


def test_what_is_imported_is_needed_however_deep():
    found = names("lab.experiment.quantizing", files=["observers/mse.py", "engines/aqt.py"])
    assert {"transform.py", "numerics.py", "core/jaxpr/find.py", "observers/mse.py", "engines/aqt.py"} <= found


def test_training_in_float_needs_no_quantization():
    found = names("lab.experiment.training")
    assert {"train/fit.py", "lab/experiment/objective.py"} <= found
    assert not {"transform.py", "core/product.py", "lab/experiment/config.py", "lab/experiment/trial.py"} & found


@pytest.mark.parametrize("registry", ["models", "data", "tasks", "observers", "quantizers", "engines"])
def test_members_count_only_where_they_are_named(registry):
    members = {str(path.relative_to(PACKAGE)) for path in (PACKAGE / registry).glob("*.py")}
    assert members - names("lab.experiment.trial"), "some member must be left out, or this shows nothing"


def test_a_named_member_brings_its_own_imports():
    assert {"models/cnn.py", "models/__init__.py"} <= names("lab.experiment.training", files=["models/cnn.py"])


def test_files_elsewhere_count_too(tmp_path):
    model = Path(tmp_path / "mine.py")
    model.write_text("from qat import models\n")
    assert "mine.py" in code_of(("lab.experiment.objective",), (model,)).files


EDITS = {
    "a progress bar's text": ("train/progress.py", "steps/s", "Schritte/s", False),
    "an error's wording": ("train/checkpoint.py", "raise ValueError(", 'raise ValueError("Oh. " ', False),
    "a docstring": ("train/fit.py", '"""', '"""Once more: ', False),
    "a comment": ("train/fit.py", "import", "# A remark.\nimport", False),
    "a computation": ("train/optimizer.py", "0.5 * (1 + math.cos", "0.6 * (1 + math.cos", True),
    "a constant": ("lab/experiment/training.py", "OTHER_ORDER = 1_000_003", "OTHER_ORDER = 1_000_004", True),
}


@pytest.fixture
def edited(monkeypatch):
    """`edited(file, old, new)`: as if a file of qat had been loaded with another text."""

    def fresh():
        for cached in (code_of, file_digest):
            cached.cache_clear()

    def edit(name, old, new):
        text = (PACKAGE / name).read_text()
        assert old in text
        monkeypatch.setitem(SEEN, PACKAGE / name, text.replace(old, new, 1).encode())
        fresh()

    fresh()
    yield edit
    fresh()


@pytest.mark.parametrize("what", EDITS)
def test_of_qat_what_computes_counts_and_wording_does_not(edited, what):
    name, old, new, counts = EDITS[what]
    before = code_of(("lab.experiment.training",))
    edited(name, old, new)
    assert (code_of(("lab.experiment.training",)) != before) is counts


@pytest.mark.parametrize("text", ["raise Found(best)", "raise ValueError(len(rows))", 'raise Stop("at", step)'])
def test_what_an_exception_carries_beside_words_counts(tmp_path, text):
    other = text.replace("best", "worst").replace("rows", "columns").replace("step)", "start)")
    assert digest(tmp_path, text) != digest(tmp_path, other)


@pytest.mark.parametrize(
    "text", ['raise ValueError(f"{x} is bad")', 'raise E("bad: " + x) from e', 'raise E("{}".format(x))', 'warn("bad")']
)
def test_the_wording_of_errors_and_warnings_does_not_count(tmp_path, text):
    assert digest(tmp_path, text) == digest(tmp_path, text.replace("bad", "worse").replace("{}", "{} is worse"))


def test_every_module_that_is_left_out_would_be_reached_and_says_why(monkeypatch, edited):
    del edited
    left_out = dict(NOT_COMPUTING)
    assert all(reason for reason in left_out.values())
    monkeypatch.setattr("qat.lab.experiment.code.closure.NOT_COMPUTING", {})
    assert set(left_out) <= names("lab.experiment.trial")
