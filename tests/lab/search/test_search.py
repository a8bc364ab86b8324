"""A search: every suggestion an ordinary trial, run once, within its budget, and none lost to a kill."""

import json

import pytest
from searches import PTQ, SEARCH, Runs, accuracy_of, bits, go, record_of

from qat.lab.experiment import run_experiment
from qat.lab.experiment.config import lineage, override
from qat.lab.runs.files import PRUNED_FILE
from qat.lab.runs.record import read_record
from qat.lab.search.result import Found, number_of
from qat.lab.search.search import Pruned, load_search, run_search
from qat.lab.sweep.space import Range, Search, objective_of

pytest.importorskip("optuna", reason="the extra search is not installed")


def test_a_search_runs_as_many_trials_as_asked_none_twice(tmp_path):
    runs = Runs()
    found = go(SEARCH, tmp_path, runs)
    assert len(runs.ran) == len(set(runs.ran)) == 12
    assert [p.trial for p in found.points if p.outcome == "finished"] == runs.ran
    assert found.best is not None and found.best.value == max(p.value for p in found.points if p.value is not None)


def test_a_finished_search_runs_nothing_again_and_more_trials_go_on_from_it(tmp_path):
    first = go(SEARCH, tmp_path, Runs())
    again = Runs(before=lambda trial, watch: pytest.fail("ran again"))
    assert go(SEARCH, tmp_path, again).points == first.points
    more = Runs()
    longer = go(SEARCH.model_copy(update={"trials": 15}), tmp_path, more)
    assert len(more.ran) == 3
    assert longer.points[: len(first.points)] == first.points


def test_another_space_goal_base_or_code_starts_anew(tmp_path):
    go(SEARCH, tmp_path, Runs())
    smaller = Search(space={"bits:head": [2, 4]}, trials=2)
    changed = SEARCH.model_copy(update={"objective": "size_bytes"})
    base = PTQ.model_copy(update={"calibration_batches": 3})
    for search, start, identity in ((smaller, PTQ, ""), (changed, PTQ, ""), (SEARCH, base, ""), (SEARCH, PTQ, "new")):
        runs = Runs()
        go(search, tmp_path, runs, start, identity=identity)
        assert len(runs.ran) == search.trials


def test_an_exhausted_space_ends_the_search(tmp_path):
    runs = Runs()
    found = go(Search(space={"bits:head": [2, 4, 8]}, trials=50), tmp_path, runs)
    assert len(runs.ran) == 3
    assert found.best is not None and found.best.values == {"bits:head": 8}


def test_points_beyond_the_size_budget_are_never_run_and_the_best_within_it_is_found(tmp_path):
    runs = Runs()
    search = SEARCH.model_copy(update={"budget": {"size_bytes": 1300.0}, "trials": 30})
    found = go(search, tmp_path, runs)
    assert len(runs.ran) == 30
    refused = [point for point in found.points if point.outcome == "infeasible"]
    assert refused and all(point.over["size_bytes"] > 0 for point in refused)
    assert all((point.size_bytes or 0) <= 1300 for point in found.points if point.outcome == "finished")
    best = {"bits:head": 4, "bits:stem": 3, "bits:down": 3, "bits:body": 3}
    assert found.best is not None and found.best.value == pytest.approx(accuracy_of(best))


def test_a_budget_of_what_only_a_record_tells_keeps_a_trial_from_being_best(tmp_path):
    search = Search(space={"bits:head": [2, 8]}, trials=2, budget={"latency_ms": 1.0})
    found = go(search, tmp_path, Runs())
    assert found.best is None
    assert [point.over for point in found.points if point.outcome == "finished"] == [{"latency_ms": 1.0}] * 2
    assert "2 of them beyond the budget" in str(found.__rich__().caption)


def test_a_budget_that_nothing_meets_is_an_error_that_names_the_smallest(tmp_path):
    with pytest.raises(
        ValueError, match=r"`budget` .* leaves nothing of `space`: .*smallest model found has 200 bytes"
    ):
        go(Search(space={"bits:head": [2, 8]}, trials=2, budget={"size_bytes": 100}), tmp_path, Runs())


def test_a_trial_that_falls_behind_is_stopped_and_marked_as_pruned_not_failed(tmp_path):
    def train(trial, watch):
        watch("float", 1, {"accuracy": 0.0, "loss": 1.0})  # a stage that all share tells nothing
        for step in (1, 2, 3):
            watch("qat", step, {"accuracy": 1 - bits(trial.config)["head"] / 10, "loss": 1.0})

    base = PTQ.model_copy(update={"arm": "qat"})
    search = Search(space={"bits:head": [2, 3, 4, 5, 6, 7, 8]}, trials=7, sampler="random", pruner="median(startup=2)")
    found = go(search, tmp_path, Runs(before=train), base)
    outcomes = {point.values["bits:head"]: point for point in found.points if point.outcome != "repeated"}
    assert outcomes[2].outcome == "finished" and outcomes[8].outcome == "pruned"
    pruned = [point for point in outcomes.values() if point.outcome == "pruned"]
    assert pruned and len(outcomes) == 7
    for point in pruned:
        told = json.loads((tmp_path / "trials" / str(point.trial) / PRUNED_FILE).read_text())
        assert told["reason"] == "at step 1 of qat others had come further"


def test_a_trial_that_is_finished_after_all_is_no_longer_marked_as_pruned(tmp_path):
    search, stops = Search(space={"bits:head": [8]}, trials=1), [True]

    def once(trial, watch):
        if stops.pop():
            raise Pruned("behind")

    go(search, tmp_path, Runs(before=once))
    (mark,) = tmp_path.glob(f"trials/*/{PRUNED_FILE}")
    stops.append(False)
    go(search, tmp_path, Runs(before=once), identity="other code")
    assert not mark.exists()


def test_a_failed_trial_is_told_and_the_search_goes_on(tmp_path):
    def fails_once(trial, watch):
        if len(runs.ran) == 2:
            raise FloatingPointError("loss is nan")

    runs, told = Runs(before=fails_once), []
    go(SEARCH, tmp_path, runs, on_point=told.append)
    (failed,) = [point for point in told if point.outcome == "failed"]
    assert failed.error == "FloatingPointError: loss is nan"
    assert sum(point.outcome == "finished" for point in told) == 12


def test_three_failures_in_a_row_end_the_search_with_the_last(tmp_path):
    def fails(trial, watch):
        raise RuntimeError("no such device")

    with pytest.raises(ValueError, match="3 trials in a row failed, the last one with: RuntimeError: no such device"):
        go(SEARCH, tmp_path, Runs(before=fails))


def test_an_unknown_objective_names_those_that_are_known():
    record = record_of(type("T", (), {"id": "t", "labels": {}, "config": PTQ}), 0.5)
    assert number_of(record, "accuracy", "validation") == 0.5
    with pytest.raises(ValueError, match=r"no number 'speed'. Known: accuracy, latency_ms, seconds, size_bytes"):
        number_of(record, "speed", "validation")


def test_the_table_has_the_best_first_and_counts_the_rest(tmp_path):
    from qat.core.tables import as_text

    found = go(SEARCH.model_copy(update={"budget": {"size_bytes": 1300.0}}), tmp_path, Runs())
    assert isinstance(found, Found)
    text = as_text(found)
    assert (
        "best accuracy of validation (higher is better), size_bytes <= 1,300" in text and "12 trials finished" in text
    )
    assert found.best is not None and found.best.value is not None
    assert f"{100 * found.best.value:.2f}" in text


def test_the_trials_of_a_search_are_those_of_an_ordinary_study(tmp_path):
    runs = Runs()
    trials = go(SEARCH, tmp_path, runs).trials(PTQ)
    assert [trial.id for trial in trials] == runs.ran
    assert all(set(trial.labels) == set(SEARCH.space) for trial in trials)


@pytest.mark.slow
def test_a_search_of_real_trials_keeps_its_budget_and_leaves_their_records(tmp_path):
    def run_trial(trial, watch):
        about = {"trial": trial.id, "labels": trial.labels, "lineage": lineage(trial.config)}
        return run_experiment(trial.config, tmp_path, tmp_path / "trials" / trial.id, about, watch=watch)

    base = override(PTQ, {"model": "cnn(width=4)", "arm": "qat"})
    space = {"bits:stem": [2, 8], "bits:body": [2, 4, 8], "train.learning_rate": Range(low=1e-3, high=1e-2, log=True)}
    search = Search(space=space, trials=4, objective="cross_entropy", direction="minimize", budget={"size_bytes": 5400})
    found = run_search(search, base, tmp_path, run_trial)
    done = [point for point in found.points if point.outcome == "finished"]
    assert len(done) == 4 and found.best is not None
    for point in done:
        record = read_record(tmp_path / "trials" / str(point.trial))
        assert record is not None and record.metrics["validation/cross_entropy"] == point.value
        assert record.size_bytes == point.size_bytes and record.size_bytes <= 5400


def test_a_file_without_a_search_says_what_it_lacks(tmp_path):
    path = tmp_path / "study.py"
    path.write_text("AXES = {}\n")
    with pytest.raises(ValueError, match="must define `SEARCH`, a Search, beside `BASE`, got NoneType"):
        load_search(path)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, ("accuracy", "higher")),
        ({"objective": "cross_entropy"}, ("cross_entropy", "lower")),
        ({"objective": "validation/cross_entropy"}, ("validation/cross_entropy", "lower")),
        ({"objective": "latency_ms"}, ("latency_ms", "lower")),
        ({"objective": "faster"}, ("faster", "higher")),
        ({"objective": "my_number", "direction": "minimize"}, ("my_number", "lower")),
    ],
    ids=str,
)
def test_a_search_goes_the_way_that_its_objective_says(fields, found):
    objective = objective_of(SEARCH.model_copy(update=fields), PTQ)
    assert (objective.name, objective.better) == found


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"direction": "minimize"}, "of 'accuracy' higher is better, but the search is to minimize it"),
        ({"objective": "size_bytes", "direction": "maximize"}, "of 'size_bytes' lower is better"),
        ({"objective": "cross_entropi"}, "no direction that is known.*Did you mean 'cross_entropy'"),
    ],
    ids=str,
)
def test_a_search_that_goes_the_wrong_way_or_no_known_one_is_refused_before_it_runs(tmp_path, fields, said):
    runs = Runs()
    with pytest.raises(ValueError, match=said):
        go(SEARCH.model_copy(update=fields), tmp_path, runs)
    assert runs.ran == [] and not any(tmp_path.iterdir())
