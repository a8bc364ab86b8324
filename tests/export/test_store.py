"""Converted models on disk: the same bits, nearly the smallest file, and no half of one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
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
