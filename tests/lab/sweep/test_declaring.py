"""Contrasts that a study's file declares: checked before the run, kept with it, and shown with the seeds they need."""

import pytest
from records import make_record
from studies import ARMS, BASE

from qat.core.tables import as_text
from qat.lab import Contrast
from qat.lab.experiment.config import lineage
from qat.lab.runs.record import write_record
from qat.lab.runs.study_folder import open_study, read_study
from qat.lab.sweep.power import contrast_table, metric_problems, power
from qat.lab.sweep.study import load_study, make_study, with_contrasts
from qat.lab.sweep.validate import check_file

HEAD = """
from qat.lab import Contrast
from studies import BASE
AXES = {"arm": {"float": {}, "ptq w8a8": {"arm": "ptq", "recipe": "w8a8"}}, "seed": [0, 1]}
FAST = {}
FAST_AXES = {"arm": {"float": {}}}
"""
PTQ = [("ptq w8a8", "float")]


@pytest.fixture
def write(tmp_path):
    """Writes a study's file that declares so much."""

    def written(contrasts):
        path = tmp_path / "declaring.py"
        path.write_text(f"{HEAD}CONTRASTS = {contrasts}\n")
        return path

    return written


def declaring(contrasts, **axes):
    study = make_study("s", BASE, {"arm": ARMS, "seed": [0, 1, 2, 3], **axes})
    return with_contrasts(study, {"CONTRASTS": contrasts})


def finish(root, study):
    """Leave records of all trials, whose paired differences have a standard deviation of 1 point."""
    for trial in study.trials:
        spread = (0.0, 0.02, 0.01, 0.01)[trial.config.seed] * (3**0.5 / 2**0.5) * (trial.config.arm == "ptq")
        record = make_record(
            trial.config.arm, trial.config.recipe, trial.config.seed, 0.9 - spread, labels=trial.labels, trial=trial.id,
            lineage=lineage(trial.config).model_dump(),
        )  # fmt: skip
        place = root / "trials" / record.trial
        place.mkdir(parents=True)
        write_record(place, record)


def test_a_study_loads_with_its_contrasts_and_a_small_edition_with_those_it_has_arms_for(write):
    path = write("[('ptq w8a8', 'float'), Contrast('float', 'ptq w8a8', metric='cross_entropy', margin=0.1)]")
    both = (Contrast("ptq w8a8", "float"), Contrast("float", "ptq w8a8", metric="cross_entropy", margin=0.1))
    assert load_study(path, {}).contrasts == both
    assert load_study(path, {}, fast=True).contrasts == ()
    assert check_file(path).problems == ()


@pytest.mark.parametrize(
    ("contrasts", "message"),
    [
        ("[('ptq w8a8', 'flaot')]", "no arm has the labels 'flaot'. Did you mean 'float'?"),
        ("[('ptq w8a8',)]", "must hold pairs such as"),
        ("[Contrast('ptq w8a8', 'float', metric='acuracy')]", "no such metric with a direction is known"),
    ],
)
def test_what_cannot_be_compared_is_found_before_the_run(write, contrasts, message):
    (problem,) = check_file(write(contrasts)).problems
    assert problem.field == "CONTRASTS" and message in problem.message


def test_power_and_seeds_are_shown_by_an_assumption_the_file_or_finished_seeds(tmp_path):
    study = declaring(PTQ)
    text = as_text(contrast_table(study, None), width=160)
    assert "ptq w8a8 against float" in text and "an assumption: the margin" in text and "0.3 points" in text
    line = next(line for line in text.splitlines() if "ptq w8a8 against float" in line)
    assert line.split()[-2:] == ["20%", "11"]
    given = as_text(contrast_table(declaring([Contrast("ptq w8a8", "float", difference=0.5, sd=0.3)]), None), width=160)
    line = next(line for line in given.splitlines() if "ptq w8a8 against float" in line)
    assert "the study file" in line and "0.5 points" in line
    open_study(tmp_path, study)
    finish(tmp_path, study)
    assert "4 finished seeds" in as_text(contrast_table(study, tmp_path), width=160)
    assert "comparisons that are not declared" in power(
        declaring(
            PTQ, arm={**ARMS, "ptq w4a4": {"arm": "ptq", "recipe": "w4a4"}, "q": {"arm": "qat", "recipe": "w8a8"}}
        )
    )


def test_contrasts_are_kept_and_those_that_come_after_results_are_marked(tmp_path):
    study = declaring(PTQ)
    open_study(tmp_path, study)
    assert read_study(tmp_path).contrasts == ((Contrast("ptq w8a8", "float"), 0),)
    finish(tmp_path, study)
    wider = Contrast("ptq w8a8", "float", margin=2.0)
    open_study(tmp_path, declaring([wider]))
    assert read_study(tmp_path).contrasts == ((wider, 4), (Contrast("ptq w8a8", "float"), 0))
    open_study(tmp_path, declaring([]))
    assert {one for one, _ in read_study(tmp_path).contrasts} == {wider, Contrast("ptq w8a8", "float")}


def test_a_contrast_without_results_may_be_taken_back(tmp_path):
    open_study(tmp_path, declaring(PTQ))
    open_study(tmp_path, declaring([]))
    assert read_study(tmp_path).contrasts == ()


def test_metrics_without_a_direction_are_no_contrast():
    assert metric_problems(declaring(PTQ)) == []
    assert len(metric_problems(declaring([Contrast("ptq w8a8", "float", metric="nothing")]))) == 1
