"""The table of sites against sums done by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from zoo import ZOO

import qat
from qat import QuantRecipe, QuantRule, TensorSpec
from qat.core.tables import as_text
from qat.recipes.recipe import weight_spec


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3), name="stem")(x))
        x = nn.relu(nn.Conv(16, (3, 3), strides=2, name="down")(x))
        x = nn.relu(nn.Conv(16, (3, 3), feature_group_count=16, name="depthwise")(x))
        return nn.Dense(10, name="head")(x.mean((1, 2)))


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(50, 32, name="word")(ids)
        x = x + nn.MultiHeadDotProductAttention(4, name="attention")(x)
        x = x + nn.Dense(32, name="down")(nn.gelu(nn.Dense(128, name="up")(x)))
        return nn.Embed(50, 32, name="word_out").attend(nn.LayerNorm(name="norm")(x))


def sites_of(model, *inputs, recipe):
    variables = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    return qat.quantize(model.apply, recipe).sites(variables, *inputs)


@pytest.fixture(scope="module")
def convolutional():
    return sites_of(Network(), jnp.zeros((2, 16, 16, 3)), recipe=qat.recipe("w4a6"))


@pytest.fixture(scope="module")
def encoder():
    return sites_of(Encoder(), jnp.zeros((2, 7), jnp.int32), recipe=qat.recipe("w4a4", edges="same"))


def rows(sites):
    return {s.path: (s.op, s.weight_bits, s.activation_bits, s.macs, s.bytes, s.float_bytes) for s in sites}


def test_of_a_convolutional_network_every_row_is_that_done_by_hand(convolutional):
    assert rows(convolutional) == {
        "Network/stem": ("conv", 8, 8, 2 * 16 * 16 * 8 * 3 * 9, 3 * 9 * 8, 4 * 3 * 9 * 8),
        "Network/down": ("conv", 4, 6, 2 * 8 * 8 * 16 * 8 * 9, 8 * 9 * 16 / 2, 4 * 8 * 9 * 16),
        "Network/depthwise": ("conv", 4, 6, 2 * 8 * 8 * 16 * 9, 9 * 16 / 2, 4 * 9 * 16),
        "Network/head": ("dot_general", 8, 8, 2 * 16 * 10, 16 * 10, 4 * 16 * 10),
    }


def test_of_a_transformer_every_row_is_that_done_by_hand(encoder):
    found = rows(encoder)
    dense = {f"Encoder/attention/{name}": (32, 32) for name in ("query", "key", "value", "out")}
    dense |= {"Encoder/up": (32, 128), "Encoder/down": (128, 32)}
    for path, (width, out) in dense.items():
        assert found[path] == ("dot_general", 4, 4, 2 * 7 * width * out, width * out / 2, 4 * width * out)
    assert found["Encoder/word"] == ("embedding", 4, None, 0, 50 * 32 / 2, 4 * 50 * 32)
    products = [s for s in encoder if s.operands == ("activation", "activation")]
    assert [s.macs for s in products] == [2 * 4 * 7 * 7 * 8] * 2
    assert [(s.weight_bits, s.activation_bits, s.bytes, s.float_bytes) for s in products] == [(None, 4, 0, 0)] * 2
    assert len(encoder) == 6 + 1 + 2 + 1 and len({s.id for s in encoder}) == len(encoder)


def test_operands_and_shapes_are_those_of_the_product(convolutional, encoder):
    stem, head = convolutional[0], convolutional[3]
    assert stem.operands == ("activation", "weight") and stem.shapes == ((2, 16, 16, 3), (3, 3, 3, 8), (2, 16, 16, 8))
    assert head.shapes == ((2, 16), (16, 10), (2, 10))
    assert encoder[0].operands == ("weight", "indices") and encoder[0].shapes[2] == (2, 7, 32)


def test_ids_are_the_path_the_op_and_which_of_them(encoder):
    assert [s.id for s in encoder if s.path == "Encoder/up"] == ["Encoder/up:dot_general:0"]


def two_uses(params, x):
    return (x @ params["w"]) @ params["w"] @ params["v"]


SHARED = {"w": jnp.zeros((8, 8)), "v": jnp.zeros((8, 4))}


def test_a_site_has_its_rule_or_the_reason_why_it_has_none():
    narrow, wide = QuantRule("^w$", weights=weight_spec(4)), QuantRule("^v$")
    found = qat.quantize(two_uses, QuantRecipe((narrow, wide))).sites(SHARED, jnp.zeros((2, 8)))
    assert [(s.rule, s.reason) for s in found] == [(narrow, None)] * 2 + [(None, "its rule leaves it in float")]


def test_shared_weights_count_once():
    found = qat.quantize(two_uses, qat.recipe("w4a4", edges="same")).sites(SHARED, jnp.zeros((2, 8)))
    assert [(s.id, s.bytes, s.float_bytes) for s in found] == [
        ("w:dot_general:0", 32, 256), ("w:dot_general:1", 0, 0), ("v:dot_general:0", 16, 128)
    ]  # fmt: skip


def test_a_weight_in_float_counts_in_its_own_type_also_where_activations_are_quantized():
    recipe = QuantRecipe((QuantRule("w", activations=TensorSpec(8)),))
    found = qat.quantize(two_uses, recipe).sites(SHARED, jnp.zeros((2, 8)))
    assert [(s.weight_bits, s.activation_bits) for s in found] == [(None, 8), (None, 8), (None, None)]
    assert [(s.bytes, s.float_bytes) for s in found] == [(256, 256), (0, 0), (128, 128)]


def test_a_weight_that_is_kept_in_integers_and_in_float_counts_as_both():
    def tied(params, ids):
        return params["table"][ids] @ params["table"].T

    recipe = QuantRecipe((QuantRule(op="embedding", weights=weight_spec(4)),))
    found = qat.quantize(tied, recipe).sites({"table": jnp.zeros((16, 8))}, jnp.arange(3))
    assert sum(s.bytes for s in found) == 16 * 8 / 2 + 16 * 8 * 4 and sum(s.float_bytes for s in found) == 16 * 8 * 4


def test_layers_that_a_scan_runs_count_every_turn():
    def scanned(params, x):
        return jax.lax.scan(lambda x, w: (x @ w, None), x, params["layers"])[0]

    [site] = qat.quantize(scanned, qat.recipe("w4a8", edges="same")).sites(
        {"layers": jnp.zeros((5, 8, 8))}, jnp.zeros((2, 8))
    )
    assert (site.macs, site.bytes, site.float_bytes) == (5 * 2 * 8 * 8, 5 * 8 * 8 / 2, 5 * 8 * 8 * 4)


def test_sites_are_a_sequence(convolutional):
    assert len(convolutional) == 4 and convolutional[-1].path == "Network/head"
    assert [s.path for s in convolutional[1:3]] == ["Network/down", "Network/depthwise"]
    assert next(iter(convolutional)) is convolutional[0]


def test_bits_do_not_change_what_is_found():
    paths = [[s.id for s in sites_of(Network(), jnp.zeros((batch, 16, 16, 3)), recipe=qat.recipe(name))]
             for name, batch in (("w8a8", 2), ("w2a2", 2), ("w4", 9))]  # fmt: skip
    assert paths[0] == paths[1] == paths[2]


@pytest.mark.parametrize("width", [160, 100])
@pytest.mark.parametrize("name", ["bert", "resnet_eval"])
def test_the_table_is_readable(name, width):
    case = ZOO[name]()
    sites = qat.quantize(case.fn, qat.recipe("w8a8(products=False)")).sites(case.params, *case.inputs(2, None, 0))
    lines = as_text(sites, width).splitlines()
    assert max(map(len, lines)) <= width
    assert all(word in " ".join(lines[:5]) for word in ("path", "op", "shapes", "rule, or why", "bits", "MMACs", "kB"))
    rows = [line.split() for line in lines if any(f" {s.op} " in line for s in sites)]
    assert len(rows) == len(sites)
    for s, row in zip(sites, rows, strict=True):
        assert s.path.startswith(row[0]) and len(row[0]) >= min(20, len(s.path))
        assert row[-2:] == [f"{s.macs / 1e6:.2f}", f"{s.bytes / 1e3:.1f}"]
        assert "float" in row if s.reason else f"w{s.weight_bits}" in row and f"a{s.activation_bits or 32}" in row
    assert lines[-1].startswith(f"{sum(s.reason is None for s in sites)} of {len(sites)} sites quantized")


def test_the_sums_below_the_table_are_those_of_its_rows(convolutional):
    last = repr(convolutional).splitlines()[-1]
    macs, size = sum(s.macs for s in convolutional), sum(s.bytes for s in convolutional)
    floats = 4 * np.sum([216, 8 * 9 * 16, 9 * 16, 160])
    assert last == (f"4 of 4 sites quantized, 100.0% of {macs / 1e6:.1f} MMACs; "
                    f"weights {size / 1e3:.1f} kB of {floats / 1e3:.1f} kB")  # fmt: skip
