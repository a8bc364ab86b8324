"""Post-training methods in an experiment: named by its config, known to its keys, told in its record."""

import jax
import numpy as np
import pytest
from studies import BASE

from qat.lab.experiment.check import mismatches
from qat.lab.experiment.config import lineage, override
from qat.lab.experiment.members import members
from qat.lab.experiment.provenance import provenance
from qat.lab.experiment.run import run_experiment
from qat.lab.experiment.stage_results import trained_by
from qat.lab.experiment.stages import stage_of
from qat.lab.experiment.training import FirstBatches, with_float_statistics, workload_of
from qat.lab.runs.files import MODEL_FILE
from qat.ptq import methods

SMALL = override(
    BASE,
    {
        "model": "cnn(width=4)",
        "recipe": "w2a4",
        "arm": "ptq",
        "analysis_batches": 0,
        "calibration_batches": 2,
        "train.steps": 40,
        "train.batch_size": 32,
        "train.learning_rate": 1e-2,
        "finetune.batch_size": 32,
    },
)
ABOUT = {"trial": "t", "labels": {}}


def run(config, root):
    return run_experiment(config, root, root / "trials" / config.recipe_name, {**ABOUT, "lineage": lineage(config)})


@pytest.mark.slow
def test_methods_follow_calibration_and_training_starts_from_their_result(tmp_path):
    plain = run(SMALL, tmp_path)
    improved = override(SMALL, {"ptq": ("reestimate_bn",)})
    better = run(improved, tmp_path)
    assert better.recipe == "w2a4(ptq='reestimate_bn')"
    assert better.metrics["accuracy"] > plain.metrics["accuracy"]
    assert better.size_bytes == plain.size_bytes
    (step,) = better.ptq
    assert step["method"] == "reestimate_bn"
    assert step["changed"] == [f"batch_stats/{n}/norm/{s}" for n in ("body", "down", "stem") for s in ("mean", "var")]
    assert "calibrated on 2 batches; reestimate_bn changed batch_stats/body/norm/mean" in better.provenance
    assert better.stages["float"] == plain.stages["float"]
    assert better.stages["calibration"] != plain.stages["calibration"]
    trained = [trained_by(tmp_path, one.stages) for one in (plain, better)]
    moved = [np.asarray(one.variables["batch_stats"]["body"]["norm"]["var"]) for one in trained]
    assert not np.allclose(*moved, rtol=0.05)

    qat = run(override(improved, {"arm": "qat", "finetune_bn_batches": 2}), tmp_path)
    assert qat.stages["calibration"] == better.stages["calibration"]
    assert qat.ptq == better.ptq
    assert qat.provenance.endswith("then running statistics from 2 batches")
    assert (tmp_path / "trials" / str(better.recipe) / MODEL_FILE).stat().st_size == qat.size_bytes


def test_keys_know_the_methods_and_their_code():
    def keys(**changes):
        return {one.kind: one.key for one in stage_of(override(SMALL, changes), "data").walk()}

    plain, one = keys(), keys(ptq=("reestimate_bn",))
    other = keys(ptq=("reestimate_bn(ranges=False)",))
    assert len({found["calibration"] for found in (plain, one, other)}) == 3
    assert len({found["float"] for found in (plain, one, other)}) == 1
    assert keys(train_bn_batches=2)["float"] != plain["float"]
    stages = stage_of(override(SMALL, {"ptq": ("reestimate_bn",)}), "data").walk()
    code = next(stage for stage in stages if stage.kind == "calibration")
    assert code.settings is not None
    assert (methods, "reestimate_bn") in members(code.settings)
    assert "qat/ptq/reestimate_bn.py" in code.parts["code"]


def test_the_float_model_knows_no_quantization():
    first = next(iter(stage_of(SMALL, "data").walk()))
    assert not {name for name in first.parts["code"] if name.startswith(("qat/ptq", "qat/transform", "qat/recipes"))}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ptq": ("reestimate",)}, "Unknown PTQ method 'reestimate'.*Did you mean 'reestimate_bn'"),
        ({"ptq": ("reestimate_bn(steps=3)",)}, "unexpected keyword argument 'steps'"),
        ({"arm": "float", "recipe": None, "ptq": ("reestimate_bn",)}, "`ptq` must be left out for arm 'float'"),
        ({"finetune_bn_batches": 2}, "must be left out for arm 'ptq'.*'reestimate_bn' in `ptq` does it"),
        ({"train_bn_batches": 0}, "greater than or equal to 1"),
    ],
    ids=["unknown", "settings", "float", "no training", "no batch"],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        override(SMALL, changes)


def test_a_method_that_the_model_has_nothing_for_is_refused_before_training():
    bert = {
        "model": "bert(size='tiny', layers=1, width=32, heads=2, hidden=64, vocabulary=120)",
        "data": "sentiment",
        "recipe": "w8a8",
    }
    [(field, said)] = mismatches([override(SMALL, {**bert, "ptq": ("reestimate_bn", "bias_correction")})])
    assert field == "ptq"
    assert "there are no running statistics to estimate anew" in said
    assert (
        list(mismatches([override(SMALL, {"ptq": ("equalize", "smooth", "reestimate_bn", "bias_correction")})])) == []
    )


def test_tables_name_a_recipe_with_its_methods():
    two = override(SMALL, {"recipe": "w4a4(edges='same')", "ptq": ("reestimate_bn(ranges=False)", "reestimate_bn")})
    assert two.recipe_name == "w4a4(edges='same', ptq='reestimate_bn(ranges=False) + reestimate_bn')"
    assert SMALL.recipe_name == "w2a4"


def test_words_tell_what_a_method_changed_left_and_took():
    step = {
        "method": "smooth",
        "changed": list("abcde"),
        "left": {"f": "no pair"},
        "figures": {"exponent": 0.5},
        "seconds": 1.25,
    }
    told = provenance(SMALL, [], [step])
    assert told == "calibrated on 2 batches; smooth changed a, b, c and 2 more, left f (exponent 0.5) in 1.2 s"
    assert "changed nothing" in provenance(SMALL, [], [{**step, "changed": []}])


def test_averaged_weights_get_statistics_of_their_own():
    workload = workload_of("cnn(width=4)", "digits")
    variables = dict(jax.jit(workload.functions.init)(jax.random.key(0), *workload.example()))
    moved = with_float_statistics(workload, variables, 2, 32, 0)
    inputs = FirstBatches(workload.full_batches(32, 0), 2, workload.task.arguments)
    x = np.concatenate([_stem(variables, *one) for one in inputs])
    stem = moved["batch_stats"]["stem"]["norm"]
    assert np.allclose(stem["mean"], x.mean((0, 1, 2)), rtol=1e-3, atol=1e-4)
    assert np.allclose(stem["var"], x.var((0, 1, 2)), rtol=1e-3)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), moved["params"], variables["params"]))


def _stem(variables, x):
    """The first convolution's result."""
    kernel = variables["params"]["stem"]["conv"]["kernel"]
    return np.asarray(
        jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    )
