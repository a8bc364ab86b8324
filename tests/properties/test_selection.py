"""Whatever is chosen is chosen without test data: with the labels of the test split scrambled all choices stay."""

import functools

import jax
import numpy as np
import pytest
from studies import BASE

import qat
from qat import data
from qat.data.dataset import Dataset
from qat.data.source import Columns, fingerprint
from qat.lab.experiment import run_experiment
from qat.lab.experiment.check import check
from qat.lab.experiment.config import lineage, override
from qat.lab.experiment.quantizing import Calibration, allocated, calibrate, post_train
from qat.lab.experiment.run import silent
from qat.lab.experiment.training import workload_of
from qat.lab.search.guard import guard_file
from qat.lab.search.search import run_search
from qat.lab.sweep.space import Search
from qat.recipes.layer_bits import raise_bits

MODEL = "cnn(width=4)"
NAMES = ("plain_digits", "scrambled_digits")
HOW = Calibration(batch_size=16, batches=2, seed=0, share=0.4)


def digits_with(change):
    """The digits with the splits changed by a function."""
    whole = data.load("digits")
    splits = change({name: Columns(source.gather(range(len(source)))) for name, source in whole.splits.items()})
    digest = fingerprint(*(array for source in splits.values() for array in source.arrays.values()))
    return Dataset("digits", splits, classes=10, input_shape=(8, 8, 1), fingerprint=digest)


@data.register
def plain_digits():
    return digits_with(lambda splits: splits)


@data.register
def scrambled_digits():
    def scramble(splits):
        test = splits["test"].arrays
        return {**splits, "test": Columns({**test, "label": np.random.default_rng(0).permutation(test["label"])})}

    return digits_with(scramble)


@data.register
def digits_without_validation():
    return digits_with(lambda splits: {**splits, "validation": Columns({k: v[:0] for k, v in _validation(splits)})})


def _validation(splits):
    return splits["validation"].arrays.items()


@functools.cache
def workload(name):
    return workload_of(MODEL, name)


@functools.cache
def variables():
    one = workload(NAMES[0])
    return jax.jit(one.functions.init)(jax.random.key(0), *one.example())


def same(*choices):
    first, second = (jax.tree.leaves(choice) for choice in choices)
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_splits_differ_in_the_labels_of_test_alone():
    plain, scrambled = (data.load(name).splits for name in NAMES)
    assert (plain["test"].arrays["label"] != scrambled["test"].arrays["label"]).mean() > 0.5
    for split in ("train", "validation"):
        same(plain[split].arrays, scrambled[split].arrays)


@pytest.mark.slow
def test_ranges_sensitive_layers_and_post_training_do_not_depend_on_test_labels():
    recipe = qat.recipe("w4a4")
    (state, layers), (other_state, other_layers) = (calibrate(workload(n), recipe, variables(), HOW) for n in NAMES)
    assert layers == other_layers and layers
    same(state, other_state)
    recipe = raise_bits(recipe, layers)
    methods = ("reestimate_bn", "bias_correction")
    done = [post_train(workload(n), recipe, variables(), state, methods, HOW) for n in NAMES]
    same(*((one.params, one.state) for one in done))


@pytest.mark.slow
def test_bits_within_a_budget_do_not_depend_on_test_labels():
    chosen = [allocated(workload(n), qat.recipe("w4a4"), variables(), HOW, "size(bits=4)") for n in NAMES]
    assert chosen[0].to_data() == chosen[1].to_data()
    same(chosen[0].state, chosen[1].state)


GUARDED = """
from qat.lab.experiment.config import ExperimentConfig
from qat.train import TrainConfig


def get_config():
    train = TrainConfig(steps=60, batch_size=64, learning_rate=1e-2)
    return ExperimentConfig(
        name="guarded", model="cnn(width=4)", data={data!r}, arm="ptq", recipe="w2a4(observer='minmax')", train=train,
        calibration_batches=2, analysis_batches=0,
    )
"""


@pytest.mark.slow
def test_the_layers_that_a_guard_returns_do_not_depend_on_test_labels(tmp_path):
    held = []
    for name in NAMES:
        file = tmp_path / f"{name}.py"
        file.write_text(GUARDED.format(data=name))
        held.append(guard_file(file, 20.0, {}, str(tmp_path / name), None, fallback=False, report=silent))
    first, other = held
    assert first.guarded == other.guarded and first.guarded.chosen is not None
    assert first.returned == other.returned != {}
    assert first.test != other.test, "the final figure is that of the test split"


@pytest.mark.slow
def test_a_search_and_what_it_stops_early_do_not_depend_on_test_labels(tmp_path):
    pytest.importorskip("optuna", reason="the extra search is not installed")
    search = Search(
        space={"bits:body": [2, 4, 8], "bits:head": [2, 8]},
        trials=4,
        sampler="random",
        pruner="median(startup=1)",
        seed=3,
    )
    changes = {"model": MODEL, "arm": "qat", "recipe": "w8a8", "analysis_batches": 0, "finetune.log_every": 1}
    found, tested = [], []
    for name in NAMES:
        records = {}

        def run_trial(trial, watch, root=tmp_path / name, records=records):
            about = {"trial": trial.id, "labels": trial.labels, "lineage": lineage(trial.config)}
            records[trial.id] = run_experiment(trial.config, root, root / "trials" / trial.id, about, watch=watch)
            return records[trial.id]

        result = run_search(search, override(BASE, {**changes, "data": name}), tmp_path / name, run_trial)
        found.append([(p.values, p.outcome, p.value) for p in (*result.points, *result.ranking)])
        tested.append([record.metrics["accuracy"] for record in records.values()])
    assert found[0] == found[1]
    assert "finished" in [outcome for _, outcome, _ in found[0]]
    assert tested[0] != tested[1], "the records do hold figures of the test split"


def test_an_empty_validation_split_is_an_error_before_a_search_or_a_run(tmp_path):
    pytest.importorskip("optuna", reason="the extra search is not installed")
    base = override(BASE, {"data": "digits_without_validation", "arm": "ptq", "recipe": "w8a8"})
    said = r"must have examples in the split 'validation', got none \(examples: train \d+, validation 0, test \d+\)"
    with pytest.raises(ValueError, match=said):
        run_search(Search(space={"bits:head": [2, 8]}, trials=2), base, tmp_path, lambda *_: pytest.fail("ran"))
    assert not any(tmp_path.iterdir())
    with pytest.raises(ValueError, match=said):
        check([override(base, {"more_splits": ("validation",)})])
    check([base])  # nothing is asked of the split


def test_a_search_is_refused_the_test_split():
    with pytest.raises(ValueError, match="Input should be 'validation' or 'train'"):
        Search.model_validate({"space": {"bits:head": [2, 8]}, "trials": 2, "split": "test"})
