"""A benchmark's rows: medians in turns with intervals, ratios to the first, what runs in integers, what is left out."""

import numpy as np
import pytest

import qat
from qat.export.operators import product_sites
from qat.lab.inspect.bench import Extent, bench, inputs_like
from qat.lab.inspect.bench_tables import ratio_table

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((16, 16)).astype(np.float32), rng.standard_normal((2, 16)).astype(np.float32)
    q = qat.quantize(lambda w, x: x @ w, qat.recipe("w8a8"))
    file = tmp_path_factory.mktemp("bench") / "model.onnx"
    qat.export_model(file, q, q.convert(w, q.calibrate(w, [x]), x), x, to="onnx", batch=2)
    return file


def test_a_file_is_timed_in_every_runtime_that_is_here(path, monkeypatch):
    from qat.export import sessions

    found_spec = sessions.importlib.util.find_spec
    monkeypatch.setattr(
        sessions.importlib.util, "find_spec", lambda name: None if name == "openvino" else found_spec(name)
    )
    found = bench([str(path)], Extent(rounds=5, batch=2, threads=1))
    (row,) = found.rows
    assert row.runtime.startswith("ONNX Runtime")
    assert row.low <= row.ms <= row.high and row.ratio == 1
    assert (row.integers, row.sites) == (1, 1)
    assert row.size == path.stat().st_size and row.memory and row.memory > 1e7 and row.cold
    assert any("jax-qat[openvino]" in line for line in found.left_out)
    times = next(iter(found.operators.values()))
    assert any(one.op == "QGemm" for one in times)
    assert ratio_table(found, Extent()).row_count == 1


@pytest.mark.parametrize(
    ("models", "extent", "message"),
    [
        (["{path}"], Extent(batch=3, cold=False), "takes a batch of 2, not 3"),
        (["nothing.onnx"], Extent(), "there is no exported model"),
        ([], Extent(), "nothing to time"),
        (["{path}"], Extent(rounds=2), "`rounds` must be at least 5"),
    ],
)
def test_what_cannot_be_timed_is_one_clear_error(path, models, extent, message):
    with pytest.raises(ValueError, match=message):
        bench([one.format(path=path) for one in models], extent)


def test_made_up_inputs_have_the_shapes_and_dtypes_asked_for():
    found = inputs_like([((2, 3), np.float32), ((2, 4), np.int32), ((2, 4), np.bool_)])
    assert [(x.shape, str(x.dtype)) for x in found] == [((2, 3), "float32"), ((2, 4), "int32"), ((2, 4), "bool")]
    assert found[2].all() and found[1].min() >= 0


def test_look_ups_are_no_products():
    assert product_sites(["a:dot_general:0", "words:embedding:0", "b:add:0"]) == 2
