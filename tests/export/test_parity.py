"""Certificates of parity: equal files are equal to the last bit, differences are counted where they are."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qat
from qat.export import Exportable, Runnable
from qat.export.parity import Bounds, CodeCounts, MetricScale, Row, Score, SiteParity, Subject, broken, certify
from qat.export.parity.causes import causes
from qat.export.parity.certificate import as_data, from_data
from qat.export.parity.counts import count_codes, count_outputs, deciding

pytest.importorskip("flatbuffers")


def layers(params, x):
    """Two layers under a scan, and a head."""
    x = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, params["stack"])[0]
    return {"logits": x @ params["head"]}


RNG = np.random.default_rng(0)
PARAMS = {name: RNG.standard_normal(n).astype(np.float32) for name, n in {"stack": (2, 8, 8), "head": (8, 3)}.items()}
X = RNG.standard_normal((5, 8)).astype(np.float32)
LABELS = np.argmax(layers(PARAMS, X)["logits"], -1)
SCORE = Score(
    lambda outputs, batch: {"accuracy": outputs["logits"].argmax(-1) == batch},
    lambda arrays: {"accuracy": np.mean(arrays["accuracy"])},
    MetricScale("accuracy", 100.0, "%"),
)


@pytest.fixture(scope="module")
def subject():
    q = qat.quantize(layers, qat.recipe("w8a8"))
    state = q.calibrate(PARAMS, [X])
    return Subject(Exportable(q, q.convert(PARAMS, state, X), (X,), batch=2), PARAMS, state)


@pytest.fixture(scope="module")
def path(subject, tmp_path_factory):
    one = subject.exportable
    file = tmp_path_factory.mktemp("parity") / "model.stablehlo"
    qat.export_model(file, one.model, one.variables, X, to="stablehlo(platforms='cpu')", batch=2)
    return file


@pytest.fixture(scope="module")
def found(subject, path):
    bounds = Bounds(code_share=0, code_difference=0, output=0, metric_drop=0)
    return certify(path, subject, [((X,), LABELS)], inputs="made up", score=SCORE, bounds=bounds)


def test_a_file_of_xla_is_equal_to_serving_to_the_last_bit_and_so_is_simulation(found):
    assert [row.name for row in found.rows] == ["float", "simulate", "serve", "stablehlo"]
    assert found.row("simulate").is_equal and found.row("stablehlo").is_equal
    assert not found.row("float").is_equal
    assert found.broken == ()


def test_every_example_counts_once_though_the_last_batch_is_filled_up(found):
    assert found.examples == 5
    outputs = found.row("stablehlo").outputs
    assert outputs.total == 5 * 3 and outputs.decisions == outputs.agree == 5


def test_codes_of_simulation_are_those_of_serving_at_every_site_in_every_layer(found):
    sites = found.row("simulate").sites
    assert len(sites) == 2
    assert [site.end_to_end for site in sites] == [CodeCounts(6 * 8 * 2), CodeCounts(6 * 8)]
    assert found.row("simulate").first_divergence is None


def test_a_certificate_is_read_as_it_was_written_and_not_if_it_was_changed(found):
    data = json.loads(json.dumps(as_data(found)))
    assert from_data(data) == found
    with pytest.raises(ValueError, match="not what was written"):
        from_data({**data, "examples": 6})


class Wrong(Runnable):
    """A runtime that adds to a program's outputs."""

    def __call__(self, *inputs):
        return {"logits": super().__call__(*inputs)["logits"] + np.array([0, 0, 50], np.float32)}


def test_a_runtime_that_gives_something_else_breaks_the_bounds(subject, path, monkeypatch):
    from qat.export.parity import routes

    read = routes.read
    monkeypatch.setattr(routes, "read", lambda file: Wrong(*vars(read(file)).values()))
    bounds = Bounds(code_share=1e-4, output=0.1, metric_drop=0.1)
    found = certify(path, subject, [((X,), LABELS)], inputs="made up", score=SCORE, bounds=bounds)
    said = " ".join(found.broken)
    assert "codes cannot be seen there" in said and "output is 50" in said and "the drop of accuracy" in said
    row = found.row("stablehlo")
    outputs = row.outputs
    assert outputs is not None and outputs.agreement is not None
    assert outputs.different >= 5 and outputs.agreement < 1
    assert any("No code can be seen" in note for note in row.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: replace(s, exportable=replace(s.exportable, variables=PARAMS)), "holds another model"),
        (lambda s: s, "input `x` must be float32"),
        (lambda s: s, "at least one example"),
        (lambda s: s, "`metric_drop` needs inputs with labels"),
        (lambda s: s, "runs in stablehlo alone"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(subject, path, change, message):
    batches = [] if "example" in message else [((X[:, :4] if "input" in message else X,), None)]
    bounds = Bounds(metric_drop=1.0) if "metric" in message else None
    runtimes = ("onnxruntime",) if "alone" in message else ()
    with pytest.raises(ValueError, match=message):
        certify(path, change(subject), batches, inputs="made up", bounds=bounds, runtimes=runtimes)


def test_a_file_that_holds_no_program_is_refused(subject, tmp_path):
    one = subject.exportable
    qat.export_model(tmp_path / "m.safetensors", one.model, one.variables, X, to="safetensors")
    with pytest.raises(ValueError, match="holds no program"):
        certify(tmp_path / "m.safetensors", subject, [((X,), None)], inputs="made up")


def test_counts_find_every_difference_and_nan_only_where_one_side_has_it():
    assert count_codes([1, 2, 3], [1, 4, 2], [0.1, 0.2, 0.3]) == CodeCounts(3, 2, 2, farthest=0.3)
    assert sum([CodeCounts(3, 1, 1), CodeCounts(1, 1, 4, farthest=0.5)], CodeCounts()).share == 0.5
    nan = np.nan
    counts = count_outputs([np.array([[1, nan, 2, nan]])], [np.array([[1, nan, nan, 4]])], None)
    assert (counts.total, counts.different, counts.largest) == (4, 2, np.inf)
    assert deciding(["boxes", "labels"], [np.zeros((2, 4)), np.zeros((2,), np.int32)]) == 1
    assert deciding(["distances", "logits"], [np.zeros((2, 4)), np.zeros((2, 3))]) == 1


def row_with(fed=None, end_to_end=None, weights=None):
    site = SiteParity("dense:dot_general", "dot_general", fed=fed, end_to_end=end_to_end, weights=weights)
    outputs = count_outputs([np.zeros(2)], [np.ones(2)], None)
    return Row("onnxruntime", "", is_file=True, sites=(site,), outputs=outputs)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (row_with(fed=CodeCounts(100, 1, 1, farthest=0.0)), "halfway"),
        (row_with(fed=CodeCounts(100, 1, 1, farthest=0.001)), "another order"),
        (row_with(fed=CodeCounts(100, 1, 1, farthest=0.2)), "adds a bias as an integer"),
        (row_with(fed=CodeCounts(100, 9, 7, farthest=0.5)), "more than rounding explains"),
        (row_with(fed=CodeCounts(100, 1, 1), end_to_end=CodeCounts(100, 30, 2)), "changes what every later site"),
        (row_with(end_to_end=CodeCounts(100), weights=False), "another conversion"),
        (row_with(end_to_end=CodeCounts(100)), "No code differs"),
    ],
)
def test_known_causes_are_told_in_words(row, words):
    assert words in " ".join(causes(row))


def test_bounds_are_of_the_codes_that_each_site_makes_of_served_inputs(found):
    row = row_with(fed=CodeCounts(10_000, 2, 2), end_to_end=CodeCounts(10_000, 3000, 9))
    certificate = replace(found, rows=(*found.rows[:3], row), bounds=Bounds(code_share=1e-4, code_difference=1))
    assert broken(certificate) == (
        "onnxruntime: the share of codes is 0.0002, the bound 0.0001.",
        "onnxruntime: the largest difference of codes is 2, the bound 1.",
    )
    assert broken(replace(certificate, bounds=Bounds(code_share=3e-4, code_difference=2))) == ()


@pytest.mark.parametrize("bounds", [{"code_share": 2}, {"output": -1}, {"metric_drop": float("nan")}])
def test_a_bound_that_bounds_nothing_is_refused(bounds):
    with pytest.raises(ValueError, match=next(iter(bounds))):
        Bounds(**bounds)
