"""A detector's trial as a file for other runtimes: with decoding and suppression, or the network alone."""

import jax.numpy as jnp
import numpy as np
import pytest
from boards import boards
from typer.testing import CliRunner

import qat
from qat.export import read
from qat.lab.cli import app
from qat.lab.inspect.detector import load_detector

pytest.importorskip("flatbuffers")
CPU = "stablehlo(platforms='cpu')"


def run(*words):
    """The exit code and all that the command says."""
    done = CliRunner().invoke(app, ["export", *map(str, words)])
    return done.exit_code, done.output


@pytest.mark.parametrize("trial", ["float", "ptq"])
def test_an_exported_detector_finds_what_the_trial_finds(runs, trial, tmp_path):
    folder = runs / "trials" / trial
    code, said = run(folder, "--to", CPU, "--out", tmp_path / "model", "--trust")
    assert code == 0, said
    assert said.endswith(f"bytes in {tmp_path / 'model'}\n")
    program, detector = read(tmp_path / "model"), load_detector(folder, trust=True)
    assert [*program.description.inputs] == ["image"]
    assert program.description.about["classes"] == list(detector.signature.class_names)
    images = np.repeat(boards(3, seed=2)["image"], 2, -1).astype(np.float32)
    for image in images:
        found = program(image[None])
        for name, expected in detector.find(image)._asdict().items():
            np.testing.assert_allclose(found[name][0], expected, rtol=1e-5, atol=1e-4)


def test_raw_outputs_are_those_of_the_network_at_the_batch_that_is_given(runs, tmp_path):
    folder = runs / "trials" / "ptq"
    code, _ = run(folder, "--to", CPU, "--out", tmp_path / "raw", "--raw", "--batch", 2, "--trust")
    t, images = qat.lab.load_trial(folder, trust=True), jnp.ones((2, 64, 64, 2))
    program = read(tmp_path / "raw", t.converted)
    assert code == 0 and program.description.inputs["image"].shape == (2, 64, 64, 2)
    served = t.quantized.serve(t.converted, images)
    for name, values in program(images).items():
        np.testing.assert_array_equal(values, served[name])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "onyx"), "Unknown exporter 'onyx'"),
        (("--to", "safetensors", "--batch", "many"), "`batch` must be a number from 1 on or 'dynamic', got 'many'"),
        (("--to", "safetensors", "--out", "none/model"), "must be in a folder that is there"),
    ],
)
def test_mistakes_of_the_command_are_one_clear_error(runs, words, said):
    folder = runs / "trials" / "ptq"
    before = sorted(folder.iterdir())
    code, output = run(folder, *words, "--trust")
    assert code == 2 and said in output and sorted(folder.iterdir()) == before
