# pyright: reportOptionalMemberAccess=false, reportArgumentType=false, reportAttributeAccessIssue=false
"""An exported file in the place of a trial's own model: the same answers, from another runtime."""

import shutil

import jax
import numpy as np
import pytest
from detectors import make_runs
from jobs import TINY
from untrained import untrained

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from qat.lab.inspect.export import export_trial
from qat.lab.inspect.trial import load_trial
from qat.lab.serving.exported import in_file
from qat.lab.serving.run import serve
from qat.lab.serving.trials import form_of, servable


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A quantized trial's folder with files of it: of any batch, of three rows, and one that is no program."""
    found = untrained(tmp_path_factory.mktemp("runs"), TINY)["ptq"]
    export_trial(found, "onnx", out=found / "any.onnx")
    export_trial(found, "onnx", out=found / "three.onnx", batch=3)
    export_trial(found, "safetensors", out=found / "weights.safetensors")
    return found


@pytest.mark.parametrize(("file", "sizes"), [("any.onnx", (1, 2, 4)), ("three.onnx", (3,))])
def test_a_file_answers_as_the_trial_it_was_exported_from(folder, file, sizes):
    trial = load_trial(folder)
    own = servable(trial, 4)
    other = in_file(own.form, trial, folder / file, 4)
    assert other.sizes == sizes and other.name == f"{own.name} in {file}"
    images = trial.dataset.splits["test"].arrays["image"][:3]
    prepared = [own.form.entry(image.tolist()) for image in images]
    for a, b in zip(other.run(prepared), own.run(prepared), strict=True):
        np.testing.assert_allclose(a.row, b.row, atol=0.02)  # a code beside a boundary may be the next one
    rows = np.stack([result.row for result in own.run(prepared)])
    np.testing.assert_allclose(rows, jax.nn.softmax(trial.quantized.serve(trial.converted, images)), rtol=1e-5)


def test_files_that_cannot_be_served_are_refused_before_the_server_starts(folder, tmp_path):
    alone = shutil.copy(folder / "any.onnx", tmp_path)
    with pytest.raises(ValueError, match="must lie in the folder of the trial"):
        serve(alone, port=0)
    with pytest.raises(ValueError, match="is no program but a safetensors file"):
        serve(folder / "weights.safetensors", port=0)
    trial = load_trial(folder)
    with pytest.raises(ValueError, match="`--max-batch` must be at least 3"):
        in_file(form_of(trial), trial, folder / "three.onnx", 2)
    cut = folder / "cut.onnx"
    shutil.copy(folder / "any.onnx.json", folder / "cut.onnx.json")
    cut.write_bytes((folder / "any.onnx").read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"cut\.onnx"):
        serve(cut, port=0)
    untouched = load_trial(folder.parent / "float")
    with pytest.raises(ValueError, match="another model"):
        in_file(form_of(untouched), untouched, folder / "any.onnx", 4)


@pytest.mark.slow
@pytest.mark.parametrize("raw", [False, True], ids=["detections", "raw"])
def test_a_file_of_a_detector_finds_the_boxes_of_its_trial(tmp_path, raw):
    folder = make_runs(tmp_path) / "trials" / "float"
    export_trial(folder, "onnx", out=folder / "boxes.onnx", raw=raw)
    trial = load_trial(folder)
    own = servable(trial, 2)
    other = in_file(own.form, trial, folder / "boxes.onnx", 2)
    assert other.sizes == (1,)  # the model asks for its batch as a number
    prepared = [own.form.entry(trial.dataset.splits["test"][i]["image"].tolist()) for i in range(2)]
    for one in prepared:
        a, b = other.run([one])[0], own.run([one])[0]
        np.testing.assert_allclose(a.row.scores, b.row.scores, atol=1e-4)
        found = np.asarray(b.row.scores) > 0.01
        np.testing.assert_allclose(a.row.boxes[found], b.row.boxes[found], atol=0.05)
