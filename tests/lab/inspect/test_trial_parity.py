"""A trial's exported files are certified by its sweep, and by `qat parity`, which fails where bounds are broken."""

import json

import numpy as np
import pytest
from jobs import TINY, run_all
from typer.testing import CliRunner

from qat.lab.cli.app import app
from qat.lab.experiment.config import override
from qat.lab.inspect.export import export_trial
from qat.lab.inspect.parity import parity_of_trial
from qat.lab.report.contents import read_contents
from qat.lab.report.parity import sentences
from qat.lab.report.write import rows_of, write_report
from qat.lab.runs.parity import read_parity
from qat.lab.sweep.study import make_study

pytestmark = pytest.mark.slow
pytest.importorskip("flatbuffers")
pytest.importorskip("onnxruntime")
RECIPE = "w7a8(edges='same')"  # products of 7 bits are exact in every runtime on every CPU


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A sweep whose only trial is exported twice."""
    root = tmp_path_factory.mktemp("swept")
    exports = ("stablehlo(platforms='cpu')", "onnx")
    base = override(TINY, {"analysis_batches": 0, "latency_batch_size": None, "exports": exports})
    run_all(make_study("s", base, {"arm": {"ptq": {"arm": "ptq", "recipe": RECIPE}}}), root)
    return root


@pytest.fixture(scope="module")
def folder(root):
    return next((root / "trials").iterdir())


def run(*arguments):
    return CliRunner().invoke(app, ["parity", *map(str, arguments)])


def test_a_sweep_certifies_every_program_that_it_exports(root, folder):
    found = read_parity(folder)
    assert set(found) == {"exported.stablehlo", "exported.onnx"}
    assert [row.name for row in found["exported.stablehlo"].rows] == ["float", "simulate", "serve", "stablehlo"]
    assert found["exported.stablehlo"].row("stablehlo").is_equal
    codes = found["exported.onnx"].row("onnxruntime").codes(fed=True)
    assert codes is not None and codes.total > 1000
    assert codes.share <= 1e-3 and codes.largest <= 1
    assert all(site.weights for site in found["exported.onnx"].row("onnxruntime").sites)
    assert set(found["exported.onnx"].row("onnxruntime").metrics) >= {"accuracy"}
    contents = read_contents(root)
    assert not contents.problems
    page = next(path for path in write_report(contents, rows_of(contents)) if path.name == "index.html").read_text()
    assert "Parity of exported files" in page and "onnxruntime" in page


def test_bounds_that_hold_exit_0_and_broken_ones_exit_1_with_the_bound(folder):
    bounds = ("--max-code-share", 0, "--max-code-difference", 0, "--max-output", 0, "--max-metric-drop", 0)
    done = run(folder, folder / "exported.stablehlo", "--limit", 20, *bounds)
    assert done.exit_code == 0, done.output
    assert "bit-equal" in done.output
    done = run(folder, folder / "exported.onnx", "--limit", 20, "--max-output", 0)
    assert done.exit_code == 1
    assert "BROKEN: onnxruntime: the largest difference of an output" in done.output
    found = read_parity(folder)["exported.onnx"]
    assert found.broken and found.bounds.output == 0 and found.examples == 20
    assert set(read_parity(folder)) == {"exported.stablehlo", "exported.onnx"}


def test_arrays_from_a_file_are_compared_without_a_metric(folder, tmp_path):
    np.savez(tmp_path / "x.npz", image=np.random.default_rng(0).random((3, 8, 8, 1), np.float32))
    found, _ = parity_of_trial(folder, folder / "exported.stablehlo", str(tmp_path / "x.npz"))
    assert found.examples == 3 and found.metric is None
    assert "3 examples: 3 of x.npz" in sentences(found)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing.onnx",), "there is no exported model"),
        (("exported.onnx", "nothing"), "must have examples in the split 'nothing'"),
        (("exported.onnx", "nothing.npz"), "there is no file of inputs"),
        (("exported.stablehlo", "wrong.npz"), "must hold the arrays image"),
        (("exported.stablehlo", "small.npz"), "input `image` must be float32"),
        (("exported.onnx", "small.npz", "--max-metric-drop", 1), "needs inputs with labels"),
        (("exported.onnx", "--runtime", "onnxrunime"), "Did you mean 'onnxruntime'?"),
        (("exported.onnx", "--max-code-share", 2), "`code_share` is a share"),
        (("cut.onnx",), "is cut off or of another export"),
    ],
)
def test_bad_input_is_one_clear_error_and_leaves_certificates_as_they_are(
    folder, tmp_path, monkeypatch, arguments, message
):
    before = (folder / "parity.json").read_bytes()
    monkeypatch.chdir(tmp_path)
    np.savez("wrong.npz", a=np.zeros((2, 3)), b=np.zeros((2, 3)))
    np.savez("small.npz", image=np.zeros((2, 4, 4, 1), np.float32))
    for name in ("exported.onnx", "exported.onnx.json"):
        (tmp_path / name.replace("exported", "cut")).write_bytes((folder / name).read_bytes())
    (tmp_path / "cut.onnx").write_bytes((folder / "exported.onnx").read_bytes()[:-9])
    place = folder if arguments[0].startswith("exported") else tmp_path
    done = run(folder, place / arguments[0], *arguments[1:])
    assert done.exit_code == 2, done.output
    assert message in done.output.replace("\n", " ")
    assert (folder / "parity.json").read_bytes() == before


def test_a_file_of_another_model_is_refused(folder, tmp_path):
    export_trial(folder, "safetensors", out=tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="holds no program"):
        parity_of_trial(folder, tmp_path / "m.safetensors")
    described = json.loads((folder / "exported.onnx.json").read_text())
    (tmp_path / "m.onnx").write_bytes((folder / "exported.onnx").read_bytes())
    (tmp_path / "m.onnx.json").write_text(json.dumps({**described, "model": "0" * 16}))
    with pytest.raises(ValueError, match="holds another model"):
        parity_of_trial(folder, tmp_path / "m.onnx")


def test_a_missing_runtime_names_its_extra(folder, monkeypatch):
    from qat.export import sessions

    monkeypatch.setattr(sessions.importlib.util, "find_spec", lambda name: None)
    done = run(folder, folder / "exported.onnx", "--runtime", "openvino")
    assert done.exit_code == 2 and "jax-qat[openvino]" in done.output.replace("\n", " ")


def test_a_damaged_certificate_is_refused_by_what_reads_it_and_passed_over_by_the_page(folder, root):
    path = folder / "parity.json"
    content = path.read_text()
    path.write_text(content.replace('"examples": ', '"examples": 1'))
    with pytest.raises(ValueError, match="Remove it, and run `qat parity` again"):
        read_parity(folder)
    contents = read_contents(root)
    assert not contents.problems
    page = next(path for path in write_report(contents, rows_of(contents)) if path.name == "index.html").read_text()
    assert "Parity of exported files" not in page
    path.write_text(content)
