"""A digest of code changes with what the code does, and with nothing else."""

from pathlib import Path

import pytest

from qat.code import PACKAGE, code_digest, code_of, needed

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
    found = names("pipeline.quantizing", files=["observers/mse.py", "engines/aqt.py"])
    assert {"transform.py", "numerics.py", "jaxpr/find.py", "observers/mse.py", "engines/aqt.py"} <= found


def test_training_in_float_needs_no_quantization():
    found = names("pipeline.training")
    assert {"train/fit.py", "objective.py"} <= found
    assert not {"transform.py", "product.py", "config.py", "pipeline/trial.py"} & found


@pytest.mark.parametrize("registry", ["models", "data", "tasks", "observers", "quantizers", "engines"])
def test_members_count_only_where_they_are_named(registry):
    members = {str(path.relative_to(PACKAGE)) for path in (PACKAGE / registry).glob("*.py")}
    assert members - names("pipeline.trial"), "some member must be left out, or this shows nothing"


def test_a_named_member_brings_its_own_imports():
    assert {"models/cnn.py", "models/__init__.py"} <= names("pipeline.training", files=["models/cnn.py"])


def test_files_elsewhere_count_too(tmp_path):
    model = Path(tmp_path / "mine.py")
    model.write_text("from qat import models\n")
    assert "mine.py" in code_of(("objective",), (model,)).files
