"""McNemar's test of every arm of a study."""

import numpy as np
import pytest
from records import make_record, write_examples, write_study
from typer.testing import CliRunner

from qat.lab.cli import app
from qat.lab.report.mcnemar import paired

FLOAT, PTQ, QAT = (np.zeros(40), np.zeros(40), np.zeros(40))
FLOAT[:30], PTQ[:20], QAT[2:33] = 1, 1, 1


def study(folder, **examples):
    """Two seeds of float, PTQ and QAT, with their right answers where given."""
    records = []
    for seed in (0, 1):
        for arm, recipe, right in (("float", None, FLOAT), ("ptq", "w4a4", PTQ), ("qat", "w4a4", QAT)):
            records.append(make_record(arm, recipe, seed, right.mean()))
    root = write_study(folder / "study", records)
    for record in records:
        write_examples(root / "trials" / record.trial, **examples.get(record.arm, {}))
    return root


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    answers = {"float": {"accuracy": FLOAT}, "ptq": {"accuracy": PTQ}, "qat": {"accuracy": QAT}}
    return study(tmp_path_factory.mktemp("runs"), **answers)


def test_each_arm_is_tested_against_float_and_ptq_seed_by_seed(finished):
    found = {(one.arm, one.baseline): one.tests for one in paired(finished)}
    assert list(found) == [("ptq w4a4", "float"), ("qat w4a4", "float"), ("qat w4a4", "ptq")]
    counts = {pair: {(test.only_first, test.only_second) for test in tests.values()} for pair, tests in found.items()}
    assert counts == {
        ("ptq w4a4", "float"): {(0, 10)},
        ("qat w4a4", "float"): {(3, 2)},
        ("qat w4a4", "ptq"): {(13, 2)},
    }
    assert set(found["qat w4a4", "ptq"]) == {0, 1}
    assert found["ptq w4a4", "float"][0].p_value == pytest.approx(2 * 0.5**10)


def test_p_values_are_corrected_for_all_seeds_of_all_arms(finished):
    found = {(one.arm, one.baseline): one for one in paired(finished)}
    assert found["ptq w4a4", "float"].p_values[0] == pytest.approx(6 * 2 * 0.5**10)
    qat = found["qat w4a4", "ptq"]  # the third and fourth smallest of six
    assert qat.p_values[1] == pytest.approx(4 * qat.tests[1].p_value)
    assert set(found["qat w4a4", "float"].p_values.values()) == {1.0}


def test_the_command_prints_counts_over_all_seeds(finished):
    done = CliRunner().invoke(app, ["mcnemar", str(finished)])
    assert done.exit_code == 0
    (line,) = (line.split() for line in done.output.splitlines() if "qat" in line and "ptq" in line)
    assert line[:5] == ["qat", "w4a4", "ptq", "26", "4"]


def test_a_study_without_right_and_wrong_answers_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must have a quantized trial beside its float model"):
        paired(study(tmp_path, float={"accuracy": 0.5 * FLOAT}))
