"""Files of a sweep's models for other runtimes, beside its records; all mistakes are told before anything runs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jobs import TINY, run_all

import qat
from qat.export import Artifact, Exporter, exporters, read
from qat.lab.experiment.check import mismatches
from qat.lab.experiment.config import ExperimentConfig, override, parse
from qat.lab.experiment.exports import exportable_of
from qat.lab.experiment.settings import TrialSettings
from qat.lab.report.contents import read_contents
from qat.lab.report.write import rows_of, write_report
from qat.lab.runs.manifest import Signature
from qat.lab.runs.record import read_record
from qat.lab.sweep.study import make_study

pytest.importorskip("flatbuffers")
CPU = "stablehlo(platforms='cpu')"


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep whose trials are exported twice."""
    root = tmp_path_factory.mktemp("swept")
    base = override(TINY, {"analysis_batches": 0, "latency_batch_size": None, "exports": (CPU, "safetensors")})
    arms = {"float": {"arm": "float"}, "ptq": {"arm": "ptq", "recipe": "w8a8"}}
    study = make_study("s", base, {"arm": arms})
    run_all(study, root)
    return root, {trial.labels["arm"]: root / "trials" / trial.id for trial in study.trials}


@pytest.mark.parametrize("arm", ["float", "ptq"])
def test_a_sweep_leaves_exports_that_its_records_tell_of(swept, arm):
    folder = swept[1][arm]
    record, t = read_record(folder), qat.lab.load_trial(folder)
    assert record is not None
    assert [(one["kind"], one["file"]) for one in record.exports] == [
        (CPU, "exported.stablehlo"),
        ("safetensors", "exported.safetensors"),
    ]
    model = t.variables if t.converted is None else t.converted
    for one in record.exports:
        assert (folder / one["file"]).stat().st_size == one["bytes"]
        assert read(folder / one["file"], model) is not None
    x = t.dataset.splits["test"][0]["image"][None]
    expected = t.functions.inference(model, x) if t.quantized is None else t.quantized.serve(model, x)
    np.testing.assert_allclose(read(folder / "exported.stablehlo")(x), expected, rtol=1e-5, atol=1e-5)
    sealed = json.loads((folder / "record.json").read_text())["files"]
    assert {"exported.stablehlo", "exported.stablehlo.json"} <= set(sealed)


def test_a_report_lists_the_exported_files(swept):
    contents = read_contents(swept[0])
    page = next(path for path in write_report(contents, rows_of(contents)) if path.name == "index.html").read_text()
    assert "Exported files" in page and "exported.stablehlo" in page


@pytest.mark.parametrize(
    ("exports", "said"),
    [
        (("stone",), "`exports`: Unknown exporter 'stone'"),
        (("stablehlo(length='long')",), "`exports`: `length` must be one of auto, dynamic, fixed"),
        (("stablehlo", CPU), "`exports`: `exports` must name each exporter once"),
    ],
)
def test_a_config_names_exporters_that_are_known_each_once(exports, said):
    with pytest.raises(ValueError, match=said):
        parse(ExperimentConfig, {**TINY.model_dump(), "exports": exports})


def test_a_model_that_cannot_be_exported_is_told_before_anything_runs(monkeypatch):
    monkeypatch.setattr(exporters, "_factories", {**exporters._factories})
    lacks = "the primitive `dot_general` has no operator"

    @exporters.register
    def pebble() -> Exporter:
        """Holds no model."""

        def build(_) -> Artifact:
            raise ValueError(lacks)

        return Exporter(".pebble", build, lambda *_: None)

    config = override(TINY, {"exports": ("pebble",)})
    ((field, said),) = mismatches([config])
    assert field == "exports" and lacks in said
    assert TrialSettings.of(config).keyed()["exports"] == ("pebble",)


def test_classifiers_of_texts_take_tokens_and_a_mask():
    about = Signature(task="text_classification", classes=2, class_names=("no", "yes"), input_shape=(8,))
    inputs = jax.ShapeDtypeStruct((1, 8), jnp.int32), jax.ShapeDtypeStruct((1, 8), jnp.bool_)
    found = exportable_of(lambda variables, *inputs: inputs[0], {}, inputs, about)
    assert found.input_names == ("tokens", "mask")
    assert found.about["classes"] == ["no", "yes"]
