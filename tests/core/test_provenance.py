"""What is a weight: a value made of parameters alone, whatever its shape, and never one repeated over the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat.core.jaxpr import find, trace


def array(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def found(fn, params, *inputs):
    jaxpr, _ = trace(fn, (params, *inputs))
    return find(jaxpr, jax.tree_util.tree_flatten_with_path(params)[0])


WEIGHT_FORMS = {
    "as it is": (lambda w: w, (0, 1)),
    "transposed": (lambda w: w.T, (1, 0)),
    "cast": (lambda w: w.astype(jnp.bfloat16), (0, 1)),
    "cast and transposed": (lambda w: w.astype(jnp.bfloat16).T, (1, 0)),
    "normalised": (lambda w: w / jnp.linalg.norm(w, axis=0), None),
    "cast twice": (lambda w: w.astype(jnp.bfloat16).astype(jnp.float32), None),
    "reshaped": (lambda w: w.reshape(2, 8).reshape(4, 4), None),
    "in a jit": (jax.jit(lambda w: w.T), (1, 0)),
}


@pytest.mark.parametrize("form", WEIGHT_FORMS)
def test_a_weight_is_followed_to_its_leaf(form):
    prepare, perm = WEIGHT_FORMS[form]
    params = {"bias": array(4), "w": array(4, 4)}
    (site,) = found(lambda p, x: x.astype(prepare(p["w"]).dtype) @ prepare(p["w"]), params, array(2, 4))
    activation, weight = site.operands
    assert not activation.is_weight
    assert weight.origin is not None and (weight.origin.path, weight.origin.perm) == ("w", perm)


ACTIVATIONS = {
    "input of the weight's shape": lambda p, x: x @ (x + p["w"]),
    "product of a weight": lambda p, x: x @ (x @ p["w"]),
    "carried by a loop": lambda p, x: jax.lax.fori_loop(0, 2, lambda _, w: w * 2, p["w"]) @ x,
    "chosen by an input": lambda p, x: x @ jax.lax.cond(x[0, 0] > 0, lambda: p["w"], lambda: -p["w"]),
}


@pytest.mark.parametrize("case", ACTIVATIONS)
def test_an_activation_of_a_weights_shape_is_not_taken_for_one(case):
    site = found(ACTIVATIONS[case], {"w": array(4, 4)}, array(4, 4))[-1]
    assert not any(o.is_weight for o in site.operands)
    assert not site.blocked


REPEATS = {
    "broadcast": lambda q, n: jnp.broadcast_to(q, (n, *q.shape)),
    "tile": lambda q, n: jnp.tile(q, (n, 1, 1)),
    "tile of an array with a batch axis": lambda q, n: jnp.tile(q[None], (n, 1, 1)),
    "repeat": lambda q, n: jnp.repeat(q[None], n, 0),
    "stack": lambda q, n: jnp.stack([q] * n),
    "expand and add zeros": lambda q, n: q[None] + jnp.zeros((n, 1, 1)),
    "vmap": lambda q, n: jax.vmap(lambda _: q)(jnp.zeros(n)),
}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("way", REPEATS)
def test_learned_queries_repeated_over_the_batch_are_no_weight(way, batch):
    params = {"queries": array(5, 4), "w": array(4, 4)}

    def fn(p, x):
        return jnp.einsum("bqd,bkd->bqk", REPEATS[way](p["queries"], x.shape[0]) @ p["w"], x)

    projection, _ = found(fn, params, array(batch, 6, 4))
    assert [o.is_weight for o in projection.operands] == [False, True]
    assert not projection.blocked


@pytest.mark.parametrize("way", ["tile", "broadcast"])
def test_a_learned_query_with_its_own_axis_for_the_batch_is_the_same_site_at_batch_one(way):
    params = {"probe": array(1, 5, 4), "w": array(4, 4)}

    def fn(p, x):
        probe, n = p["probe"], len(x)
        probe = jnp.tile(probe, (n, 1, 1)) if way == "tile" else jnp.broadcast_to(probe, (n, *probe.shape[1:]))
        return jnp.einsum("bqd,bkd->bqk", probe @ p["w"], x)

    one, many = (found(fn, params, array(n, 6, 4))[0] for n in (1, 3))
    assert (one.id, one.blocked) == (many.id, many.blocked) == ("w:dot_general:0", None)
    assert [o.is_weight for o in one.operands] == [o.is_weight for o in many.operands] == [False, True]


def test_a_stacked_leaf_is_a_weight_of_each_layer_and_a_loop_over_time_has_none():
    params = {"layers": array(3, 4, 4), "cell": array(4, 4)}

    def fn(p, x):
        h, _ = jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x[0], p["layers"])
        return jax.lax.scan(lambda h, x: (jnp.tanh(h @ p["cell"] + x), None), h, x)[0]

    layer, cell = found(fn, params, array(5, 2, 4))
    origin = layer.operands[1].origin
    assert origin is not None
    assert (layer.scan_lengths, len(layer.scans), origin.scans) == ((3,), 1, layer.scans)
    assert (cell.scan_lengths, cell.scans, cell.operands[1].is_weight) == ((), (), True)


def test_a_table_sliced_along_time_makes_no_layers():
    """Its length follows the sequence's: scales for each position would fix it."""
    params = {"cell": array(4, 4), "positions": array(9, 4)}

    def fn(p, x):
        return jax.lax.scan(lambda h, x: (jnp.tanh((h + x[0] + x[1]) @ p["cell"]), None), jnp.zeros((2, 4)),
                            (x, p["positions"][: len(x)]))[0]  # fmt: skip

    (site,) = found(fn, params, array(5, 2, 4))
    assert (site.scan_lengths, site.scans) == ((), ())


ALIKE = {
    "as it is": lambda x: x,
    "reshaped": lambda x: x.reshape(-1, 4),
    "with another axis": lambda x: x[None],
    "through a jit": jax.jit(lambda x: x),
    "through remat": jax.checkpoint(lambda x: x),
}


@pytest.mark.parametrize("way", ALIKE)
def test_sites_that_read_the_same_array_are_known_to(way):
    a, b = found(lambda p, x: (x @ p, ALIKE[way](x) @ p.T), array(4, 4), array(2, 4))
    assert a.operands[0].value == b.operands[0].value is not None


OTHER = {
    "another array of the same values": lambda x: x + 0,
    "a part": lambda x: x[:1],
    "a cast": lambda x: x.astype(jnp.bfloat16).astype(jnp.float32),
}


@pytest.mark.parametrize("way", OTHER)
def test_sites_that_read_other_arrays_are_known_to(way):
    a, b = found(lambda p, x: (x @ p, OTHER[way](x) @ p.T), array(4, 4), array(2, 4))
    assert a.operands[0].value != b.operands[0].value


def test_turns_of_a_loop_and_branches_read_other_arrays_than_what_stands_around_them():
    def fn(p, x):
        y = jax.lax.scan(lambda h, _: (h + x @ p, None), x, None, 2)[0]
        return x @ p, y, jax.lax.cond(x[0, 0] > 0, lambda: x @ p, lambda: x @ p.T)

    values = [c.operands[0].value for c in found(fn, array(4, 4), array(2, 4))]
    assert len(set(values)) == len(values) == 4
