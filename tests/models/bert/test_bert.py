"""BERT: its sizes, what padding and dropout do, what it refuses; all of it is found and served in integers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qat
from qat import models
from qat.models.adapter import forward
from qat.models.bert import SIZES

TEXT = "bert(layers=2, width=32, heads=4, hidden=48, vocabulary=40, positions=24, pooling='{}')"
POOLINGS = ("pooler", "mean")
MASK = jnp.arange(12) < jnp.array([[12], [5], [9], [1]])
TOKENS = jnp.where(MASK, jax.random.randint(jax.random.key(1), (4, 12), 1, 40), 0)


@pytest.fixture(scope="module", params=POOLINGS)
def net(request):
    return forward(TEXT.format(request.param), classes=3)


def larger(variables):
    """Weights larger than at the start, so that attention is not uniform."""
    return jax.tree.map(lambda x: x * (8 if x.ndim > 1 else 1), variables)


@pytest.fixture(scope="module")
def variables(net):
    return larger(jax.jit(net.init)(jax.random.key(0), TOKENS, MASK))


@pytest.fixture(scope="module")
def inference(net):
    return jax.jit(net.inference)


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("tiny", 4_385_920),
        ("mini", 11_170_560),
        ("small", 28_763_648),
        ("medium", 41_373_184),
        ("minilm", 22_713_216),
        ("base", 109_482_240),
    ],
)
def test_every_size_has_the_parameters_of_the_published_one(size, count):
    net = forward(f"bert(size='{size}')", classes=2)
    params = jax.eval_shape(net.init, jax.random.key(0), TOKENS, MASK)["params"]
    params.pop("classifier")
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_every_size_is_tested():
    assert set(SIZES) == {"tiny", "mini", "small", "medium", "minilm", "base"}


def test_logits_are_one_row_a_text_in_float32(inference, variables):
    logits = inference(variables, TOKENS, MASK)
    assert (logits.shape, logits.dtype) == ((4, 3), jnp.float32)


def test_what_stands_at_padding_changes_no_logit(inference, variables):
    other = jnp.where(MASK, TOKENS, 17)
    np.testing.assert_array_equal(inference(variables, other, MASK), inference(variables, TOKENS, MASK))


def test_a_padded_text_has_the_logits_of_the_text_alone(inference, variables):
    together = inference(variables, TOKENS, MASK)
    alone = inference(variables, TOKENS[1:2, :5], MASK[1:2, :5])
    np.testing.assert_allclose(together[1], alone[0], rtol=1e-4, atol=1e-5)  # another order of summation


def test_a_text_of_padding_alone_gives_finite_logits(inference, variables):
    assert np.isfinite(inference(variables, TOKENS, jnp.zeros_like(MASK))).all()


def test_hidden_states_are_one_more_than_layers_and_zero_at_padding(variables):
    pooling = "pooler" if "pooler" in variables["params"] else "mean"
    module = models.build(TEXT.format(pooling), classes=3)
    states = np.asarray(module.apply(variables, TOKENS, MASK, method="hidden_states"))
    assert states.shape == (3, 4, 12, 32)
    assert (states[:, ~MASK] == 0).all()
    assert (states[:, MASK] != 0).any()


def test_units_are_dropped_in_training_alone_and_by_the_key(net, inference, variables):
    training = jax.jit(net.training)
    first, again, other = (training(variables, TOKENS, MASK, jax.random.key(seed))[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (np.abs(first - other) > 1e-4).any()
    assert (np.abs(first - inference(variables, TOKENS, MASK)) > 1e-4).any()


def test_without_dropout_training_is_inference(variables, inference):
    pooling = "pooler" if "pooler" in variables["params"] else "mean"
    plain = forward(TEXT.format(pooling).replace(")", ", dropout=0.0)"), classes=3)
    trained, _ = jax.jit(plain.training)(variables, TOKENS, MASK, jax.random.key(0))
    np.testing.assert_allclose(trained, inference(variables, TOKENS, MASK), rtol=1e-5, atol=1e-6)


def test_all_layers_products_and_tables_are_found(net, variables):
    sites = qat.quantize(net.inference, qat.recipe("w8a8")).sites(variables, TOKENS, MASK)
    found = [(site.path.removeprefix("Bert/"), site.op) for site in sites]
    attention = ["query", "key", "value", "bqhd,bkhd->bhqk", "bhqk,bkhd->bqhd", "output"]
    layer = [*(f"attention/{name}" for name in attention), "intermediate", "output"]
    expected = [(f"encoder/layer_{i}/{name}", "dot_general") for i in (0, 1) for name in layer]
    expected += [(f"encoder/embeddings/{name}", "embedding") for name in ("word", "position", "token_type")]
    expected += [(name, "dot_general") for name in ("pooler", "classifier") if name in variables["params"]]
    assert sorted(found) == sorted(expected)
    assert [site.path.rpartition("/")[2] for site in sites if site.rule is None] == ["token_type"]  # always one row


@pytest.mark.parametrize(
    ("pooling", "recipe"), [("pooler", "w8a8"), pytest.param("mean", "w8a8_dynamic", marks=pytest.mark.slow)]
)
def test_serving_equals_simulation_bit_for_bit_at_any_padding(pooling, recipe):
    net = forward(TEXT.format(pooling).replace("layers=2", "layers=1"), classes=3)
    variables = larger(jax.jit(net.init)(jax.random.key(0), TOKENS, MASK))
    q = qat.quantize(net.inference, qat.recipe(recipe))
    state = q.calibrate(variables, [(TOKENS, MASK)])
    served = q.convert(variables, state, TOKENS, MASK)
    simulated = jax.jit(q.simulate)(variables, state, TOKENS, MASK)
    np.testing.assert_array_equal(q.serve(served, TOKENS, MASK), simulated)
    np.testing.assert_array_equal(q.serve(served, jnp.where(MASK, TOKENS, 17), MASK), simulated)
    longer = [jnp.pad(x, ((0, 0), (0, 8))) for x in (TOKENS, MASK)]
    np.testing.assert_allclose(q.serve(served, *longer), simulated, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bert(size='minlm')", r"`size` must be one of tiny, .*got 'minlm'. Did you mean 'minilm'\?"),
        ("bert(pooling='max')", r"`pooling` must be one of pooler, mean, got 'max'"),
        ("bert(width=100, heads=12)", r"`width` must be a multiple of `heads`, got 100 and 12"),
        ("bert(layers=0, vocabulary=1.5)", r"whole numbers of at least 1, got layers=0, vocabulary=1.5"),
        ("bert(dropout=1.0)", r"`dropout` must be in \[0, 1\), got 1.0"),
        ("bert(depth=3)", r"model 'bert\(depth=3\)'.*depth"),
    ],
)
def test_a_model_that_cannot_be_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        models.build(text, classes=2)


@pytest.mark.parametrize(
    ("tokens", "mask"), [((1, 25), (1, 25)), ((2, 8), (2, 7)), ((8,), (8,))], ids=["too long", "other mask", "one text"]
)
def test_inputs_of_another_shape_are_refused(net, variables, tokens, mask):
    with pytest.raises(ValueError, match=r"`tokens` and `mask` must both be .*at most 24, got"):
        net.inference(variables, jnp.zeros(tokens, jnp.int32), jnp.ones(mask, bool))
