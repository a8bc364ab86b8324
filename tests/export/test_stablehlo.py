"""StableHLO files: equal to `serve` to the last bit, small, for any batch and length, without this package."""

import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qat
from qat.export.formats.stablehlo import pack, unpack

pytest.importorskip("flatbuffers")
CPU = "stablehlo(platforms='cpu')"
WIDTH = 32


class Found(NamedTuple):
    """The best class of each text and its score."""

    score: jax.Array
    best: jax.Array


def reader(params, tokens, mask):
    """Tokens, mixed by attention to all others, then layers with a norm."""
    x = jnp.where(mask[..., None], params["words"][tokens], 0)
    scores = jnp.where(mask[:, None], jnp.einsum("bqd,bkd->bqk", x @ params["query"], x) / 6, -1e9)
    x = x + jax.nn.softmax(scores) @ (x @ params["value"])
    x = (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-6)
    x = x + jax.nn.gelu(x @ params["up"]) @ params["down"]
    return x.sum(1) / mask.sum(1)[:, None]


def found(params, tokens, mask):
    logits = (params["words"][tokens] * mask[..., None]).sum(1) @ params["value"]
    return Found(logits.max(-1), logits.argmax(-1))


def texts(batch, length, seed=0):
    rng = np.random.default_rng(seed)
    mask = np.arange(length) < rng.integers(1, length + 1, (batch, 1))
    return jnp.asarray(rng.integers(0, 512, (batch, length)), jnp.int32), jnp.asarray(mask)


def params_of(width=WIDTH):
    shapes = {"words": (512, width), "query": (width, width), "value": (width, width)}
    shapes |= {"up": (width, 4 * width), "down": (4 * width, width)}
    rng = np.random.default_rng(0)
    return {name: jnp.asarray(rng.standard_normal(n) / n[0] ** 0.5, jnp.float32) for name, n in shapes.items()}


def converted(fn, recipe, params, *inputs):
    q = qat.quantize(fn, qat.recipe(recipe))
    return q, q.convert(params, q.calibrate(params, [inputs]), *inputs)


@pytest.mark.parametrize("recipe", ["w8a8", pytest.param("w4a8", marks=pytest.mark.slow)])
def test_the_program_equals_serve_to_the_last_bit_at_any_batch_and_length(recipe, tmp_path):
    params = params_of()
    q, int8 = converted(reader, recipe, params, *texts(4, 12))
    run = qat.export.load_stablehlo(qat.export_model(tmp_path / "m", q, int8, *texts(4, 12), to=CPU).path, int8)
    assert run.description.limits == ("length <= 33025",)  # up to which sums of products fit into 32 bits
    given = texts(7, 20, seed=1)
    np.testing.assert_array_equal(run(*given), q.serve(int8, *given))
    shapes = {name: spec.shape for name, spec in run.description.inputs.items()}
    assert shapes == {"tokens": ("batch", "length"), "mask": ("batch", "length")}


CODE = """
import sys
sys.modules["qat"] = None
import jax, numpy as np
folder = sys.argv[1]
run = jax.export.deserialize(bytearray(open(folder + "/model", "rb").read()))
out = run.call(*(np.load(f"{folder}/{i}.npy") for i in range(2)))
assert set(run.platforms) == {"cpu", "cuda", "tpu"}
np.savez(folder + "/out.npz", **out)
assert not any(name.split(".")[0] in ("qat", "flax", "aqt", "safetensors") for name, m in sys.modules.items() if m)
"""


def test_a_process_with_jax_alone_gives_the_same_bits_on_what_named_tuples_name(tmp_path):
    given = texts(3, 6)
    q, int8 = converted(found, "w8a8", params_of(), *given)
    qat.export_model(tmp_path / "model", q, int8, *given, to="stablehlo")
    for i, one in enumerate(given):
        np.save(tmp_path / f"{i}.npy", one)
    subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], check=True, cwd=tmp_path, env={"JAX_PLATFORMS": "cpu"})
    out, served = np.load(tmp_path / "out.npz"), q.serve(int8, *given)
    for name, expected in served._asdict().items():
        np.testing.assert_array_equal(out[name], expected)


def test_files_take_as_many_bytes_as_their_codes_and_tell_no_path_of_a_machine(tmp_path):
    params, given = params_of(width=192), texts(2, 4)
    size = qat.export_model(tmp_path / "float", found, params, *given, to="stablehlo").bytes
    values = sum(params[name].size for name in ("words", "value"))
    for recipe, bits in (("w8a8", 8), ("w4a8(edges='same')", 4)):
        q, int8 = converted(found, recipe, params, *given)
        assert {int(np.asarray(one.bits)) for one in int8.weights.values()} == {bits}
        own = qat.export_model(tmp_path / recipe, q, int8, *given, to="stablehlo").bytes
        out = qat.export.read(tmp_path / recipe, int8)(*given)
        np.testing.assert_array_equal(out["score"], q.serve(int8, *given).score)
        assert own - values * bits / 8 < 20_000  # the program, and the scales
        assert bits == 4 or own <= 0.29 * size
        assert b".py" not in (tmp_path / recipe).read_bytes()


@pytest.mark.parametrize("width", [2, 4, 8])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 5), (4, 0, 2), (2, 3, 4)], ids=str)
def test_unpack_gives_back_what_pack_was_given(width, shape):
    rng = np.random.default_rng(width)
    codes = rng.integers(-(2 ** (width - 1)), 2 ** (width - 1), shape).astype(np.int8)
    packed = pack(codes, width)
    assert packed.nbytes == -(-codes.size * width // 8)
    back = unpack(jnp.asarray(packed), width, shape)
    assert back.dtype == jnp.int8
    np.testing.assert_array_equal(back, codes)


def test_two_codes_of_four_bits_share_a_byte_the_first_in_its_lower_half():
    np.testing.assert_array_equal(pack(np.asarray([-8, 7, -1], np.int8), 4), [0x78, 0x0F])


def table(params, tokens):
    """A model with so many positions, which asks for the length when it is traced."""
    if tokens.shape[1] > 8:
        raise ValueError("a text of more than 8 tokens")
    return (params["words"][tokens] + params["words"][: tokens.shape[1]]).sum(1) @ params["value"]


def square(params, tokens):
    return (params["words"][tokens].reshape(-1, 4, WIDTH) @ params["value"]).reshape(-1, 4 * WIDTH)


def test_lengths_that_a_model_refuses_are_left_closed_and_told(tmp_path):
    params, tokens = params_of(), texts(2, 8)[0]
    run = qat.export.read(qat.export_model(tmp_path / "table", table, params, tokens, to=CPU).path)
    assert run.description.limits == ("length <= 8",)
    np.testing.assert_array_equal(run(tokens[:, :5]), jax.jit(table)(params, tokens[:, :5]))
    with pytest.raises(ValueError, match="takes inputs with length <= 8, got 9"):
        run(jnp.zeros((2, 9), jnp.int32))
    assert not run.description.notes
    closed = qat.export.read(qat.export_model(tmp_path / "square", square, params, tokens[:, :4], to=CPU).path)
    assert closed.description.inputs["tokens"].shape == ("batch", 4)
    assert "refuses other lengths than" in closed.description.notes[0]
    with pytest.raises(ValueError, match=r"input `tokens` must be int32\[1, 4\], got int32\[1, 5\]"):
        closed(tokens[:1, :5])
    text = "stablehlo(platforms='cpu', length='dynamic')"
    with pytest.raises(ValueError, match="cannot be exported as StableHLO"):
        qat.export_model(tmp_path / "none", square, params, tokens[:, :4], to=text)
    assert not (tmp_path / "none").exists()


def counted(params, x):
    return x.reshape(len(x), -1) @ params["value"]  # a length that is taken as a number is never open


def test_a_model_that_needs_a_batch_has_one_unless_any_is_asked_for(tmp_path):
    params, x = params_of(), jnp.ones((3, WIDTH))
    run = qat.export.read(qat.export_model(tmp_path / "one", counted, params, x, to=CPU).path)
    assert run.description.inputs["x"].shape == (1, WIDTH) and run.description.batch == 1
    assert "The batch is 1: the model cannot be exported" in run.description.notes[-1]
    with pytest.raises(ValueError, match="Give `batch` as a number"):
        qat.export_model(tmp_path / "any", counted, params, x, to=CPU, batch="dynamic")


def test_inputs_of_another_number_shape_or_dtype_are_refused(tmp_path):
    given = texts(2, 4)
    run = qat.export.read(qat.export_model(tmp_path / "m", reader, params_of(), *given, to=CPU, batch=2).path)
    for inputs, said in (
        (given[:1], r"takes 2 arrays \(tokens, mask\), got 1"),
        ((given[0], given[1][:, :3]), r"input `mask` must be bool\[2, 4\], got bool\[2, 3\]"),
        ((given[0].astype(jnp.float32), given[1]), r"input `tokens` must be int32\[2, length\], got float32\[2, 4\]"),
        (texts(3, 4), r"input `tokens` must be int32\[2, length\], got int32\[3, 4\]"),
    ):
        with pytest.raises(ValueError, match=said):
            run(*inputs)


def test_settings_and_files_of_other_kinds_are_refused(tmp_path):
    params, given = params_of(), texts(2, 4)
    with pytest.raises(ValueError, match="`length` must be one of auto, dynamic, fixed, got 'long'"):
        qat.export_model(tmp_path / "m", reader, params, *given, to="stablehlo(length='long')")
    with pytest.raises(ValueError, match=r"needs inputs with one length as second axis, got \[4, 5\]"):
        qat.export_model(tmp_path / "m", reader, params, given[0], texts(2, 5)[1], to="stablehlo(length='dynamic')")
    file = qat.export_model(tmp_path / "values", reader, params, *given, to="safetensors").path
    with pytest.raises(ValueError, match="is no StableHLO file"):
        qat.export.load_stablehlo(file)
