"""Parity of ONNX files: each site by itself makes the served codes, and a wrong graph is found at the right site."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qat
from qat.export import Exportable
from qat.export.description import read_description, write_description
from qat.export.parity import Subject, certify
from qat.export.sessions import RUNTIMES, saturates

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
RECIPE = "w7a8(edges='same')"  # products of 7 bits are exact in every runtime on every CPU
HERE = [name for name, one in RUNTIMES.items() if one.is_installed]


def network(params, x):
    """A convolution, a residual, two layers under a scan, and a head."""
    numbers = ("NHWC", "HWIO", "NHWC")
    h = jax.lax.conv_general_dilated(x, params["conv"], (1, 1), "SAME", dimension_numbers=numbers)
    h = x + jax.nn.relu(h + params["bias"])
    h = jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), h, params["stack"])[0]
    return h.mean((1, 2)) @ params["head"]


SHAPES = {"conv": (3, 3, 8, 8), "bias": (8,), "stack": (2, 8, 8), "head": (8, 3)}
RNG = np.random.default_rng(0)
PARAMS = {name: (RNG.standard_normal(n) / n[-1] ** 0.5).astype(np.float32) for name, n in SHAPES.items()}
X = RNG.standard_normal((4, 5, 5, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def subject():
    q = qat.quantize(network, qat.recipe(RECIPE))
    state = q.calibrate(PARAMS, [X])
    return Subject(Exportable(q, q.convert(PARAMS, state, X), (X,)), PARAMS, state)


@pytest.fixture(scope="module")
def path(subject, tmp_path_factory):
    file = tmp_path_factory.mktemp("parity") / "model.onnx"
    qat.export_model(file, subject.exportable.model, subject.exportable.variables, X, to="onnx")
    return file


def certificate(path, subject):
    return certify(path, subject, [((X,), None)], inputs="made up", runtimes=HERE)


@pytest.fixture(scope="module")
def found(path, subject):
    return certificate(path, subject)


@pytest.mark.parametrize("runtime", HERE)
def test_each_site_by_itself_makes_the_served_codes_but_next_to_a_boundary(found, runtime):
    row = found.row(runtime)
    fed = row.codes(fed=True)
    assert len(row.sites) == 3
    assert all(site.weights for site in row.sites)
    assert fed.total == X.size + 2 * X.size + 4 * 8
    if "bf16" in row.about or "f16" in row.about:
        return
    assert fed.largest <= 1 and fed.different <= 0.01 * fed.total
    assert fed.farthest is None or fed.farthest < 0.02
    assert fed.different <= row.codes().different


def changed(path, tmp_path, change):
    """A file whose graph was changed, with a description that fits it."""
    proto = onnx.load(path)
    change(proto.graph)
    content, other = proto.SerializeToString(), tmp_path / path.name
    qat.fileio.write_atomically(other, content)
    from qat.export.description import _digest

    description = read_description(path)
    write_description(other, replace(description, bytes=len(content), content=_digest(content)))
    return other


def weights(graph):
    from onnx import numpy_helper

    return [(one, numpy_helper.to_array(one)) for one in graph.initializer if numpy_helper.to_array(one).ndim == 2]


def test_a_changed_weight_is_found_at_its_site_and_shows_in_the_next_site_alone(path, subject, tmp_path):
    def negate(graph):
        for one, values in weights(graph):
            if values.shape == (8, 8):
                one.raw_data = (-values).tobytes()
                return

    row = certificate(changed(path, tmp_path, negate), subject).row("onnxruntime")
    wrong = [site for site in row.sites if site.weights is False]
    assert [site.op for site in wrong] == ["dot_general"]
    assert row.sites[0].fed is not None and row.sites[0].fed.different <= 2
    assert row.first_divergence == wrong[0].id
    assert any("another conversion" in note for note in row.notes)


def test_a_graph_without_the_sites_tensors_is_compared_by_its_outputs(path, subject, tmp_path):
    def rename(graph):
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [f"{name}_other" if name.startswith("quantizelinear") else name for name in names]

    row = certificate(changed(path, tmp_path, rename), subject).row("onnxruntime")
    assert row.codes() is None and row.outputs is not None and row.outputs.total == 12
    assert any("another version of qat" in note for note in row.notes)


def test_sums_of_the_largest_codes_are_exact_in_onnx_runtime_on_every_cpu():
    assert not saturates("onnxruntime")
