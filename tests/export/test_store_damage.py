"""Files of converted models that were damaged, edited or are of another kind: none is served from."""

import base64
import json
import zlib
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save

import qat
from qat.core.operands import ActivationGrid


def two_layers(params, x):
    return jax.nn.relu(x @ params["in"]["kernel"]) @ params["out"]


def converted():
    rng = np.random.default_rng(0)
    x, first, second = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 16), (16, 24), (24, 8)))
    q, params = qat.quantize(two_layers, qat.recipe("w8a8")), {"in": {"kernel": first}, "out": second}
    with jax.disable_jit():  # op by op: equal layers compile once
        state = q.calibrate(params, [(x,)])
    return q, q.convert(params, state, x)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    qat.save(path, converted()[1])
    return path.read_bytes()


def changed(edit):
    """A file of the same tensors with its metadata edited."""

    def damage(content):
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        edit(header["__metadata__"])
        packed = json.dumps(header).encode()
        return len(packed).to_bytes(8, "little") + packed + content[8 + size :]

    return damage


DAMAGES = {
    "empty": lambda content: b"",
    "cut_in_the_length": lambda content: content[:5],
    "cut_in_the_header": lambda content: content[:200],
    "cut_by_a_byte": lambda content: content[:-1],
    "cut_in_half": lambda content: content[: len(content) // 2],
    "noise": lambda content: bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)),
    "text": lambda content: b"{'params': 3}" * 20,
    "another_format": changed(lambda m: m.update(format="pt")),
    "no_format": changed(lambda m: m.clear()),
    "foreign": lambda content: save({"kernel": np.ones((3, 3))}),
    "no_index": changed(lambda m: m.pop("index")),
    "index_of_no_base64": changed(lambda m: m.update(index="a")),
    "index_cut": changed(lambda m: m.update(index=m["index"][:40])),
    "index_without_tensors": lambda content: save({"kernel": np.ones((3, 3))}, json.loads(
        content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_file_is_refused_by_name(saved, tmp_path, damage):
    path = tmp_path / "broken.qat"
    path.write_bytes(DAMAGES[damage](saved))
    with pytest.raises(ValueError, match=r"broken\.qat' is (damaged|no model of this format)"):
        qat.load(path)


def test_any_flipped_bit_of_a_file_is_found(saved, tmp_path):
    for place in range(0, len(saved), 37):
        content = bytearray(saved)
        content[place] ^= 1 << place % 8
        (tmp_path / "flipped.qat").write_bytes(content)
        with pytest.raises(ValueError, match=r"flipped\.qat' is (damaged|no model of this format)"):
            qat.load(tmp_path / "flipped.qat")


def replaced(model, key="in/kernel", grid=False, **values):
    """The model with other values of a weight, or of all activations' grids."""
    if not grid:
        return replace(model, weights={**model.weights, key: replace(model.weights[key], **values)})
    grids = {key: ActivationGrid(replace(found.grid, **values)) for key, found in model.grids.items()}
    return replace(model, grids=grids)


IMPOSSIBLE = {
    "nan_scale": ({"scale": jnp.float32(np.nan)}, "scales of weight .* must be positive and finite, got nan"),
    "no_scale": ({"scale": jnp.float32(0)}, "must be positive and finite, got 0.0"),
    "zero_point": ({"zero_point": jnp.int32(200)}, r"zero points of .* must be in \[-128, 127\], got 200"),
    "infinite_grid": ({"grid": True, "scale": jnp.float32(np.inf)}, "must be positive and finite, got inf"),
    "codes": ({"grid": True, "qmax": jnp.int32(300)}, r"codes of .* must be in \[-128, 127\], got 300"),
    "turned_codes": ({"grid": True, "qmin": jnp.int32(5), "qmax": jnp.int32(-5)}, "from a smaller to a larger"),
}  # fmt: skip


@pytest.mark.parametrize(("values", "said"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_values_that_no_model_has_are_refused(tmp_path, values, said):
    qat.save(tmp_path / "model", replaced(converted()[1], **values))
    with pytest.raises(ValueError, match=f"model' is damaged .*{said}"):
        qat.load(tmp_path / "model")


@pytest.mark.parametrize("bits", [0, 1, 9, -3])
def test_bits_that_no_weight_has_are_refused(saved, tmp_path, bits):
    index = json.loads(zlib.decompress(base64.b64decode(metadata_of(saved)["index"])))
    index["weights"]["in/kernel"][0] = bits
    text = base64.b64encode(zlib.compress(json.dumps(index).encode())).decode()
    (tmp_path / "model").write_bytes(changed(lambda m: (m.pop("digest"), m.update(index=text)))(saved))
    with pytest.raises(ValueError, match=rf"weight 'in/kernel' must have 2 to 8 bits, got {bits}"):
        qat.load(tmp_path / "model")


def test_a_file_without_a_digest_is_still_read(saved, tmp_path):
    (tmp_path / "model").write_bytes(changed(lambda m: m.pop("digest"))(saved))
    assert jax.tree.structure(qat.load(tmp_path / "model")) == jax.tree.structure(converted()[1])


def metadata_of(content):
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
