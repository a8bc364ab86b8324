"""Calibration that gives sensitive layers 8 bits, on a trained model."""

import jax
import pytest
from studies import BASE

from qat.lab.experiment.config import override
from qat.lab.experiment.provenance import provenance
from qat.lab.experiment.quantizing import Calibration, calibrate, quantized
from qat.lab.experiment.settings import FloatSettings
from qat.lab.experiment.training import Run, train_float, workload_of
from qat.recipes.layer_bits import raise_bits
from qat.recipes.presets import recipe

LOW = recipe("w2a2(edges='same', observer='minmax')")
TRAINED = {"train.steps": 80, "train.batch_size": 32, "train.learning_rate": 1e-2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workload = workload_of("cnn(width=4)", "digits")
    run = Run("float", "", tmp_path_factory.mktemp("float"), lambda *_: None, lambda *_: None)
    config = override(BASE, TRAINED)
    return workload, train_float(workload, FloatSettings.of(config, seed=config.first_seed), run)


def test_layers_within_the_share_get_8_bits_and_the_loss_is_less(trained):
    workload, variables = trained
    plain, none = calibrate(workload, LOW, variables, Calibration(32, 2, 0))
    state, paths = calibrate(workload, LOW, variables, Calibration(32, 2, 0, share=0.5))
    assert none == []
    batch = workload.batches(32, 0)[0]
    x = workload.task.inputs(batch)
    losses = [
        float(workload.task.loss(quantized(workload, rules).inference.simulate(variables, ranges, *x), batch)[0])
        for rules, ranges in ((LOW, plain), (raise_bits(LOW, paths), state))
    ]
    assert losses[1] < losses[0]
    sites = quantized(workload, raise_bits(LOW, paths)).inference.sites(variables, *x)
    sizes = {site.path: site.float_bytes for site in sites}
    assert 0 < sum(sizes[path] for path in paths) <= 0.5 * sum(sizes.values())
    assert {site.path for site in sites if (site.weight_bits, site.activation_bits) == (8, 8)} == set(paths)


def test_a_trial_says_what_was_done():
    text = provenance(
        override(
            BASE,
            {"arm": "qat", "recipe": "w4a4", "sensitive_share": 0.1, "train.learning_rate": 1e-2}
            | {"finetune.learning_rate": 1e-3, "finetune.freeze_bn_step": 3},
        ),
        ["head"],
    )
    assert text == (
        "calibrated on 8 batches; at 8 bits as sensitive: head; 5 steps more at 0.1 of the learning rate; "
        "BatchNorm's statistics frozen from step 3"
    )
    assert provenance(BASE, []) == ""


def test_at_8_bits_there_is_nothing_to_raise(trained):
    workload, variables = trained
    with_share, paths = calibrate(workload, recipe("w8a8"), variables, Calibration(32, 2, 0, share=0.5))
    without, _ = calibrate(workload, recipe("w8a8"), variables, Calibration(32, 2, 0))
    assert paths == []
    assert all(
        bool((a == b).all()) for a, b in zip(*map(jax.tree.leaves, (with_share.clips, without.clips)), strict=True)
    )
