"""Contractions are found, named, traced back to parameters and rewritten, whatever control flow they stand in."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from zoo import ZOO

from qat.core.jaxpr import Rewriting, bind, contracted, find, known_operands, layouts, leaf_path, rewrite, trace
from qat.core.jaxpr.contraction import clean_scope, site_path

REWRITTEN = (
    "scan_remat", "moe_switch", "early_exit", "equilibrium", "hopfield", "custom_rules", "lstm",
    "greedy_decoder", "vmapped_vectors", "nerf", "lora", "recommender",
)  # fmt: skip
VARIED = ("scan_remat", "perceiver", "einsum_attention", "nnx_transformer", "clip", "greedy_decoder", "detr")
RAGGED_ROWS = jnp.array([1, 2], jnp.int32)


def array(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def found(fn, params, *inputs):
    jaxpr, _ = trace(fn, (params, *inputs))
    return find(jaxpr, jax.tree_util.tree_flatten_with_path(params)[0])


def same(c, eqn, operands, given, kept, scope):
    return bind(eqn, operands)[0], kept


def zero(c, eqn, operands, given, kept, scope):
    return bind(eqn, operands)[0] * 0, kept


def rewritten(fn, params, *inputs, handler=same):
    """The flat outputs of `fn` with each site that may be handled given to `handler`."""
    jaxpr, _ = trace(fn, (params, *inputs))
    sites = {c.location: c for c in found(fn, params, *inputs) if not c.blocked}
    return rewrite(Rewriting(sites, handler, {}), jaxpr, jax.tree.leaves((params, *inputs)), {}, {})[0]


def linear(p, x):
    return x @ p["kernel"]


@pytest.mark.parametrize("name", REWRITTEN)
def test_rewriting_by_the_same_equation_changes_no_bit(name):
    case = ZOO[name]()
    inputs = case.inputs(2, 7, 0)
    want = jax.jit(case.fn)(case.params, *inputs)
    got = jax.jit(lambda *args: rewritten(case.fn, *args))(case.params, *inputs)
    for a, b in zip(jax.tree.leaves(want), got, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", VARIED)
def test_ids_and_origins_are_the_same_for_every_batch_size_and_length(name):
    case = ZOO[name]()
    shapes = [(2, 7), (3, 9), (1, 5)]
    ids = [[(c.id, c.blocked, [o.origin for o in c.operands]) for c in found(case.fn, case.params, *case.inputs(*s, 0))]
           for s in shapes]  # fmt: skip
    assert ids[0] == ids[1] == ids[2]
    assert max(Counter(i for i, *_ in ids[0]).values()) == 1


class Trained(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3), name="stem")(x))
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x).mean((1, 2)))
        dense = nn.Dense(4, name="shared")
        return nn.Dense(2)(dense(dense(x)))


def test_ids_are_the_same_in_training_and_evaluation():
    model, x = Trained(), array(2, 6, 6, 3)
    variables = model.init(jax.random.key(0), x, False)

    def train(v, x, key):
        return model.apply(v, x, True, rngs={"dropout": key}, mutable=["batch_stats"])

    ids = [c.id for c in found(lambda v, x: model.apply(v, x, False), variables, x)]
    assert [c.id for c in found(train, variables, x, jax.random.key(1))] == ids
    assert ids == ["Trained/stem:conv:0", "Trained/shared:dot_general:0", "Trained/shared:dot_general:1",
                   "Trained/Dense_0:dot_general:0"]  # fmt: skip


def test_occurrences_are_numbered_per_path_and_op():
    params = {"a": {"kernel": array(4, 4)}, "b": {"kernel": array(4, 4)}}
    ids = [c.id for c in found(lambda p, x: linear(p["a"], linear(p["b"], linear(p["a"], x))), params, array(2, 4))]
    assert ids == ["a:dot_general:0", "b:dot_general:0", "a:dot_general:1"]


def test_nnx_sites_are_named_by_their_parameters():
    case = ZOO["nnx_autoencoder"]()
    paths = [c.path for c in found(case.fn, case.params, *case.inputs(2, None, 0))]
    assert paths == [
        "encode/layers/0",
        "encode/layers/2",
        "expand",
        "mix",
        "collapse",
        "up",
        "lora/lora_a",
        "lora/lora_b",
    ]


@pytest.mark.parametrize(("scope", "leaf", "path"), [
    ("Net/encoder/query", "params/encoder/query/kernel", "Net/encoder/query"),
    ("", "encoder/kernel", "encoder"), ("", "params/w", "w"), ("", "w", "w"), ("Net/attention", None, "Net/attention"),
    ("bd,df->bf", "ffn/w", "ffn"), ("Net/embed.attend", "params/embed/embedding", "Net/embed.attend"),
], ids=["linen", "plain", "params", "bare", "product", "einsum", "method"])  # fmt: skip
def test_paths_come_from_the_scope_or_else_from_the_parameter(scope, leaf, path):
    assert site_path(clean_scope(scope), leaf) == path


def test_marks_of_transformations_are_no_part_of_a_scope():
    assert clean_scope("vmap(jvp(Net))/transpose(layer)//dense") == "Net/layer/dense"


def scanned(consts, carry, xs):
    """A scan with as many constant, carried and sliced operands as asked for; each has its own width."""
    kept = [jnp.ones(i + 1) for i in range(consts)]
    start, slices = [jnp.zeros(i + 1) for i in range(carry)], [jnp.ones((3, i + 1)) for i in range(xs)]

    def fn(kept, start, slices):
        def body(c, x):
            total = sum(v.sum() for v in [*kept, *(x or []), *c])
            return [v + total for v in c], total

        return jax.lax.scan(body, start, slices or None, 3, reverse=True, unroll=3)

    return trace(fn, (kept, start, slices))[0]


@pytest.mark.parametrize("counts", [(0, 1, 0), (1, 1, 0), (0, 0, 2), (2, 0, 1), (2, 3, 2)], ids=str)
def test_operands_of_a_scan_are_constants_then_carry_then_slices(counts):
    (eqn,) = [e for e in layouts.open_jaxpr(scanned(*counts))[0].eqns if e.primitive.name == "scan"]
    layout = layouts.scan_layout(eqn)
    assert (layout.consts, layout.carry, len(eqn.invars) - layout.consts - layout.carry) == counts
    assert (layout.length, layout.reverse) == (3, True)


def blocked_by_shard_map(p, x):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), "d")
    spec = jax.sharding.PartitionSpec()
    return jax.shard_map(lambda w, x: x @ w, mesh=mesh, in_specs=(spec, spec), out_specs=spec)(p["w"], x)


BLOCKED = {
    "ragged dot": (lambda p, x: jax.lax.ragged_dot(x[:3], jnp.stack([p["w"], p["w"]]), RAGGED_ROWS), "ragged_dot"),
    "integers": (lambda p, x: x.astype(jnp.int32) @ p["w"].astype(jnp.int32), "int32 operand"),
    "constant": (lambda p, x: x @ jnp.asarray(np.eye(4, dtype=np.float32)) + p["w"], "constant of the function"),
    "parameters alone": (lambda p, x: x + p["w"] @ p["w"], "parameters and constants alone"),
    "while condition": (
        lambda p, x: jax.lax.while_loop(lambda h: jnp.vdot(h, p["w"]) > 0, lambda h: h - 1, x),
        "condition",
    ),
    "shard_map": (blocked_by_shard_map, "inside `shard_map`"),
    "partial rows": (lambda p, i: jax.lax.dynamic_index_in_dim(p["w"], i[0, 0].astype(int), 0)[..., :2], None),
    "constant lookup": (lambda p, x: x + p["w"][jnp.arange(4)], "parameters and constants alone"),
}


@pytest.mark.parametrize("case", BLOCKED)
def test_what_is_not_rewritten_is_listed_with_its_reason(case):
    fn, reason = BLOCKED[case]
    sites = found(fn, {"w": array(4, 4)}, array(4, 4))
    if reason is None:
        assert all(c.blocked or c.op == "embedding" for c in sites)
    else:
        assert [reason in (c.blocked or "") for c in sites] == [True]


def test_a_contraction_longer_than_its_integer_sum_is_left_alone():
    shape = jax.ShapeDtypeStruct((2**17, 2), jnp.float32)
    (site,) = found(lambda p, x: x.T @ p, shape, shape)
    assert "int32" in (site.blocked or "") and contracted(site.op, site.operands, site.params) == 2**17


KNOWN = {
    "outside": (lambda p, x: x @ (p["w"] * 2), ()),
    "scan over layers": (lambda p, x: jax.lax.scan(lambda h, w: (h @ (w * 2), None), x, p["s"])[0], (3,)),
    "scan over time": (lambda p, x: jax.lax.scan(lambda h, _: (h @ (p["w"] * 2), None), x, None, 3)[0], ()),
    "scan in a scan": (lambda p, x: jax.lax.scan(lambda h, w: jax.lax.scan(
        lambda h, _: (h @ (w * 2), None), h, None, 2), x, p["s"])[0], (3,)),
    "cond": (lambda p, x: jax.lax.cond(x[0, 0] > 0, lambda: x @ (p["w"] * 2), lambda: x), ()),
    "while": (lambda p, x: jax.lax.while_loop(lambda h: h[0, 0] > 9, lambda h: h @ (p["w"] * 2), x), ()),
    "remat in a jit": (lambda p, x: jax.jit(jax.checkpoint(lambda w, x: x @ (w * 2)))(p["w"], x), ()),
}  # fmt: skip


@pytest.mark.parametrize("place", KNOWN)
def test_an_operand_made_of_parameters_is_computed_from_them_alone(place):
    fn, stack = KNOWN[place]
    params = {"s": array(3, 4, 4), "w": array(4, 4, seed=1)}
    jaxpr, _ = trace(fn, (params, array(2, 4)))
    (site,) = found(fn, params, array(2, 4))
    values = known_operands(jaxpr, jax.tree.leaves(params), {site.location: (site, 1)})
    assert site.scan_lengths == stack
    np.testing.assert_array_equal(values[site.location], 2 * params["s" if stack else "w"])


@pytest.mark.parametrize("place", KNOWN)
def test_the_handler_sees_each_site_where_it_stands(place):
    fn, _ = KNOWN[place]
    params, x = {"s": array(3, 4, 4), "w": array(4, 4)}, jnp.abs(array(2, 4))
    out = rewritten(fn, params, x, handler=zero)
    np.testing.assert_array_equal(out[0], x if place == "while" else jnp.zeros((2, 4)))


def test_a_leaf_is_named_by_its_keys():
    tree = {"params": {"layers": [array(1)]}}
    ((path, _),) = jax.tree_util.tree_flatten_with_path(tree)[0]
    assert leaf_path(path) == "params/layers/0"
