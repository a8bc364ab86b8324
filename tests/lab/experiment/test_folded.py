"""Folded norms in an experiment: in the function that is quantized, in the keys, and in training."""

import jax
import numpy as np
import pytest
from studies import BASE

from qat.export.fold import Folded
from qat.lab.experiment.check import mismatches
from qat.lab.experiment.config import lineage, override
from qat.lab.experiment.quantizing import quantized
from qat.lab.experiment.run import run_experiment
from qat.lab.experiment.stage_results import trained_by
from qat.lab.experiment.stages import stage_of
from qat.lab.experiment.training import workload_of

SMALL = override(
    BASE,
    {
        "model": "cnn(width=4)",
        "recipe": "w8a8",
        "arm": "qat",
        "analysis_batches": 0,
        "calibration_batches": 2,
        "train.steps": 20,
        "finetune.steps": 4,
        "train.batch_size": 32,
        "finetune.batch_size": 32,
    },
)
FOLDED = override(SMALL, {"fold_norms": True})


@pytest.mark.slow
def test_training_keeps_the_statistics_and_serves_the_folded_weights(tmp_path):
    about = {"trial": "t", "labels": {}, "lineage": lineage(FOLDED)}
    record = run_experiment(FOLDED, tmp_path, tmp_path / "trials" / "folded", about)
    trained = trained_by(tmp_path, record.stages)
    before = trained_by(tmp_path, {name: key for name, key in record.stages.items() if name != "qat"})
    jax.tree.map(np.testing.assert_array_equal, trained.variables["batch_stats"], before.variables["batch_stats"])
    scale = [one.variables["params"]["stem"]["norm"]["scale"] for one in (trained, before)]
    assert not np.array_equal(*scale)


def test_both_functions_are_folded_and_training_changes_no_statistics():
    workload = workload_of(FOLDED.model, FOLDED.data, fold_norms=True)
    assert FOLDED.rules is not None
    pair, variables = quantized(workload, FOLDED.rules), workload.abstract_variables()
    assert isinstance(pair.inference.fn, Folded)
    made = jax.eval_shape(pair.training.fn, variables, *workload.example(), jax.random.key(0))
    assert made[1] == {}
    sites = [q.sites(variables, *workload.example()) for q in (pair.inference, quantized(workload_of(
        FOLDED.model, FOLDED.data), FOLDED.rules).inference)]  # fmt: skip
    assert [site.id for site in sites[0]] == [site.id for site in sites[1]]


def test_quantized_stages_have_keys_of_their_own_and_float_ones_are_shared():
    stages = [{one.kind: one.key for one in stage_of(config, "data").walk()} for config in (SMALL, FOLDED)]
    assert {kind for kind in stages[0] if stages[0][kind] == stages[1][kind]} == {"float"}
    assert lineage(SMALL).group != lineage(FOLDED).group


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ptq": ("reestimate_bn(ranges=False)",)}, "`ptq` must do without 'reestimate_bn"),
        ({"finetune_bn_batches": 2}, "folded statistics stay"),
        ({"arm": "control", "recipe": None}, "`fold_norms` must be left out for arm 'control'"),
    ],
)
def test_what_folded_norms_exclude_is_refused_before_any_work(changes, said):
    with pytest.raises(ValueError, match=said):
        override(FOLDED, changes)


def test_a_model_without_norms_to_fold_is_refused_before_any_work():
    found = dict(mismatches([override(FOLDED, {"model": "bert(layers=1, width=8, heads=2)", "data": "sentiment"})]))
    assert "no norm that can be folded" in str(found)
