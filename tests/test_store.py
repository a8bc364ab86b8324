"""Converted models on disk: the same bits, nearly the smallest file, and no half of one."""

import base64
import json
import zlib
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save
from zoo import ZOO

import qat
from qat import QuantRecipe, QuantRule, TensorSpec

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def two_layers(params, x):
    hidden = jax.nn.relu(x @ params["in"]["kernel"] + params["in"]["bias"])
    return hidden @ params["out"]["kernel"] * params["gain"]


PARAMS = {
    "in": {"kernel": normal(16, 24), "bias": normal(24)},
    "out": {"kernel": normal(24, 8)},
    "gain": jnp.float32(2),
}
X = normal(4, 16)


def converted(fn=two_layers, params=PARAMS, inputs=(X,), recipe: str | QuantRecipe = "w8a8"):
    q = qat.quantize(fn, qat.recipe(recipe) if isinstance(recipe, str) else recipe)
    with jax.disable_jit():  # op by op: equal layers compile once
        state = q.calibrate(params, [inputs])
    return q, q.convert(params, state, *inputs)


def assert_the_same_is_served(q, model, path, inputs, like=None):
    qat.save(path, model)
    loaded = qat.load(path, like)
    assert jax.tree.structure(loaded) == jax.tree.structure(model)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(model), strict=True):
        assert jnp.array_equal(a, b)
    jax.tree.map(np.testing.assert_array_equal, q.serve(loaded, *inputs), q.serve(model, *inputs))


GROUPS = QuantRule(weights=TensorSpec(3, per="group", group_size=8), activations=TensorSpec(5, grid="affine"))
AFFINE = QuantRule(
    weights=TensorSpec(5, grid="affine", per="channel"), activations=TensorSpec(8, per="token", dynamic=True)
)


RECIPES = {
    "dynamic": "w2a8_dynamic(edges='same', observer='minmax')",
    "groups": QuantRecipe((GROUPS,)),
    "affine": QuantRecipe((AFFINE,)),
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_loaded_model_serves_the_same_bits(tmp_path, recipe):
    assert_the_same_is_served(*converted(recipe=recipe), tmp_path / "model", (X,))


def test_lists_tuples_and_random_keys_need_no_like(tmp_path):
    params = [(normal(16, 8), jax.random.key(3)), {"last": (normal(8, 4),), "none": None, "empty": []}]

    def fn(params, x):
        return (x @ params[0][0] + jax.random.normal(params[0][1], (8,))) @ params[1]["last"][0]

    assert_the_same_is_served(*converted(fn, params), tmp_path / "model", (X,))


def test_other_nodes_need_like_and_say_so(tmp_path):
    case = ZOO["nnx_mlp"]()
    inputs = case.inputs(2, None, 0)
    q, model = converted(case.fn, case.params, inputs)
    assert_the_same_is_served(q, model, tmp_path / "model", inputs, jax.eval_shape(lambda: case.params))
    with pytest.raises(ValueError, match=r"other nodes than dicts, lists and tuples. Give such a tree: `qat.load"):
        qat.load(tmp_path / "model")
    with pytest.raises(ValueError, match="`like` has 1 leaves, the saved parameters have"):
        qat.load(tmp_path / "model", {"w": X})


def test_numbers_among_the_parameters_keep_their_weak_type(tmp_path):
    params = {"w": normal(16, 4), "gain": 2.5, "shift": jnp.asarray(1.0) * 2, "half": normal(4).astype(jnp.bfloat16)}

    def fn(params, x):
        return (x @ params["w"].astype(jnp.bfloat16)) * params["gain"] + params["shift"] + params["half"]

    q, model = converted(fn, params, (X.astype(jnp.bfloat16),))
    qat.save(tmp_path / "model", model)
    value = q.serve(qat.load(tmp_path / "model"), X.astype(jnp.bfloat16))
    assert value.dtype == jnp.bfloat16
    np.testing.assert_array_equal(value, q.serve(model, X.astype(jnp.bfloat16)))


def apply(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def encoder(params, ids):
    """A transformer encoder without its attention's softmax, which holds no parameters."""
    x = params["embed"]["embedding"][ids]
    for layer in params["layers"].values():
        attention = layer["attention"]
        x = x + apply(attention["out"], sum(apply(attention[name], x) for name in ("query", "key", "value")))
        x = x * layer["norm"]["scale"] + layer["norm"]["bias"]
        x = x + apply(layer["down"], jax.nn.relu(apply(layer["up"], x)))
    return apply(params["head"], x)


def dense(width, out):
    return {"kernel": normal(width, out), "bias": normal(out)}


def layer(width):
    return {"attention": {name: dense(width, width) for name in ("query", "key", "value", "out")},
            "norm": {"scale": normal(width), "bias": normal(width)},
            "up": dense(width, 4 * width), "down": dense(4 * width, width)}  # fmt: skip


@pytest.fixture(scope="module", params=[8, 4], ids=lambda bits: f"{bits}bits")
def large(request, tmp_path_factory):
    """An encoder of 4 layers of width 256, converted and saved: bits, parameters, converted model, file."""
    params = {"embed": {"embedding": normal(1000, 256)}, "layers": {f"layer_{i}": layer(256) for i in range(4)},
              "head": dense(256, 1000)}  # fmt: skip
    recipe = qat.recipe(f"w{request.param}a8(edges='same', observer='minmax')")
    _, model = converted(encoder, params, (np.zeros((1, 2), np.int32),), recipe)
    path = tmp_path_factory.mktemp("large") / "model"
    qat.save(path, model)
    return request.param, params, model, path


def quantized_leaves(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(k.key for k in path): leaf for path, leaf in leaves if path[-1].key in ("kernel", "embedding")}


def test_a_file_is_within_three_percent_of_the_ideal_size(large):
    bits, params, _, path = large
    weights = quantized_leaves(params)
    codes = sum(w.size for w in weights.values()) * bits / 8
    scales = sum(w.shape[0 if key == "embed/embedding" else 1] for key, w in weights.items()) * 4
    floats = sum(x.nbytes for x in jax.tree.leaves(params)) - sum(w.nbytes for w in weights.values())
    ideal = codes + scales + floats
    assert ideal <= path.stat().st_size <= 1.03 * ideal


def test_no_float_copy_of_a_quantized_weight_remains(large):
    _, params, model, path = large
    names = set(quantized_leaves(params))
    assert set(model.weights) == names and not names & set(model.leaves)
    assert all(q.codes.dtype == jnp.int8 for q in model.weights.values())
    most = max(leaf.size for leaf in model.leaves.values())
    arrays = [x for x in jax.tree.leaves(model) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert max(x.size for x in arrays) <= most == 1024
    stored = load_file(path)
    assert {key.split("/", 1)[1] for key in stored if key.startswith("codes/")} == names
    assert all(x.dtype == np.uint8 for key, x in stored.items() if key.startswith("codes/"))
    assert not names & {key.split("/", 1)[1] for key in stored if key.startswith("leaves/")}


def test_four_bits_take_half_of_eight(tmp_path):
    params = {"w": normal(512, 512)}
    sizes = []
    for bits in (8, 4):
        _, model = converted(
            lambda p, x: x @ p["w"], params, (normal(1, 512),), f"w{bits}(edges='same', observer='minmax')"
        )
        qat.save(tmp_path / "model", model)
        sizes.append((tmp_path / "model").stat().st_size)
    assert sizes[1] / sizes[0] == pytest.approx(0.5, abs=0.01)  # 2 kB of scales beside 262 kB of codes


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


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path):
    for path in (tmp_path / "none.qat", tmp_path):
        with pytest.raises(ValueError, match=f"there is no model at '{path}'"):
            qat.load(path)


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "model"
    qat.save(path, converted()[1])
    before = path.read_bytes()
    other = converted(params={**PARAMS, "gain": jnp.float32(3)})[1]

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(step, full)
        with pytest.raises(OSError, match="No space left"):
            qat.save(path, other)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    qat.save(path, other)
    assert path.read_bytes() != before


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
    grids = {key: {"grid": replace(found["grid"], **values)} for key, found in model.grids.items()}
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
