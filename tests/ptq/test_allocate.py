"""Bits chosen within a budget: exact budgets, ties, a front, and never below the uniform recipe of equal size."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat import quantize
from qat.analysis import operations
from qat.ptq import Budget, Width, allocate, budget_of, set_up
from qat.recipes.presets import recipe

DIM = 8


def network(params, x):
    """`first` and `twin` read one array; of `wide` a few inputs are far out, so that it needs bits."""
    h = jax.nn.relu(x @ params["first"]) + jnp.tanh(x @ params["twin"])
    h = h * jnp.where(jnp.arange(DIM) == 0, 20.0, 1.0)
    return jax.nn.relu(h @ params["wide"]) @ params["last"]


def loss(outputs, target):
    return ((outputs - target) ** 2).mean()


def case(name="w4a4(edges='same', observer='minmax')"):
    keys = jax.random.split(jax.random.key(0), 10)
    names = ("first", "twin", "wide", "last")
    params = {k: jax.random.normal(key, (DIM, DIM)) for k, key in zip(names, keys, strict=False)}
    params["wide"] = params["wide"].at[0].multiply(1 / 20)
    batches = [((x,), network(params, x)) for x in (jax.random.normal(key, (16, DIM)) for key in keys[4:])]
    q = quantize(network, recipe(name))
    setup = set_up(q, params, [x[0] for x, _ in batches[:2]], batches[:3], loss, (2, 4, 8))
    return q, params, setup, batches[3:]


SETUP = case()


@pytest.mark.parametrize("text", ["size", "size(bits=3.5)", "operations", "operations(bits=3)"])
def test_the_choice_is_within_the_budget_and_no_worse_than_the_uniform_recipe(text):
    q, params, setup, held_out = SETUP
    found = allocate(setup, budget_of(text), held_out, points=4)
    assert found.chosen.cost <= found.limit
    assert found.budget.total(setup.groups, found.chosen.choices) == found.chosen.cost
    assert found.uniform is not None and found.chosen.loss <= found.uniform.loss
    assert found.is_uniform == (found.chosen == found.uniform)
    one = quantize(network, found.recipe)
    got = [float(loss(one.simulate(params, found.state, *x), y)) for x, y in held_out]
    assert got == pytest.approx(found.chosen.losses, rel=1e-4)
    if text == "size":
        assert found.limit == pytest.approx(4 * (DIM * DIM * 4 / 8 + DIM * 4))
        assert found.chosen.loss < 0.9 * found.uniform.loss and not found.is_uniform
    if text == "operations":
        state = q.calibrate(params, [x[0] for x, _ in setup.batches])
        assert operations(q, params, state, *setup.batches[0][0]) == {"4x4": 1.0}
        assert found.limit == 16 * 4 * 16 * DIM * DIM


def test_tied_sites_have_the_same_bits():
    _, params, setup, held_out = SETUP
    found = allocate(setup, Budget("size", bits=3), held_out, points=2)
    sites = {s.path: (s.weight_bits, s.activation_bits) for s in quantize(network, found.recipe).sites(
        params, *setup.batches[0][0])}  # fmt: skip
    assert sites["first"] == sites["twin"]
    assert any({"first", "twin"} == set(group.paths) for group in setup.groups)


def test_the_front_falls_in_loss_as_it_rises_in_cost():
    _, _, setup, held_out = SETUP
    found = allocate(setup, budget_of("size"), held_out, points=6)
    assert len(found.front) >= 3
    for cheaper, dearer in itertools.pairwise(found.front):
        assert cheaper.cost < dearer.cost and cheaper.loss > dearer.loss
    within = [point.loss for point in found.front if point.cost <= found.limit]
    assert found.chosen.loss == min(within), "no point of the front within the budget is better"
    told = found.to_data()
    assert told["unit"] == "bytes" and [p["cost"] for p in told["front"]] == [p.cost for p in found.front]


def test_activations_keep_their_bits_where_asked():
    _, params, setup, held_out = SETUP
    found = allocate(setup, budget_of("size(bits=5, activations=False)"), held_out, points=1)
    sites = quantize(network, found.recipe).sites(params, *setup.batches[0][0])
    assert {s.activation_bits for s in sites} == {4} and len({s.weight_bits for s in sites}) > 1


def test_a_mispredicted_sum_has_pairs_measured_and_ends_no_worse_than_without():
    _, _, setup, held_out = SETUP
    plain, corrected = (allocate(setup, Budget("size", bits=2.6), held_out, points=1, rounds=n) for n in (0, 3))
    assert plain.pairs == 0 < corrected.pairs
    assert corrected.chosen.loss <= plain.chosen.loss


def test_where_the_program_is_misled_the_uniform_recipe_is_returned():
    """Losses on the batches of choice say that low bits are best; those held out tell the truth."""
    _, _, setup, held_out = SETUP
    lying = [(x, y + 1e3 * jnp.sign(y)) for x, y in setup.batches]
    misled = set_up(setup.q, setup.params, [x[0] for x, _ in lying], lying, lambda o, t: -loss(o, t), (2, 4, 8))
    found = allocate(misled, budget_of("size"), held_out, points=1, rounds=0)
    truth = [float(np.mean(misled.losses(widths, held_out))) for widths in ([Width(4, 4)] * 3,)]
    assert found.uniform is not None and found.chosen.loss <= found.uniform.loss <= truth[0]


def test_measured_seconds_are_a_budget_too():
    _, _, setup, held_out = SETUP
    seconds = {"float": 9.0, **{f"w{w}a{a}": w * a / 16 for w in (2, 4, 8) for a in (2, 4, 8)}}
    table = {site: seconds for group in setup.groups for site in group.sites}
    found = allocate(setup, Budget("latency", limit=4.0, table=table), held_out, points=2)
    assert found.chosen.cost <= 4.0
    with pytest.raises(ValueError, match="has no seconds for 'first:dot_general:0' at 'w2a2'"):
        allocate(setup, Budget("latency", limit=4.0, table={}), held_out)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget("size", limit=100), "the smallest possible is 192 bytes, with the fewest bits in every layer"),
        (Budget("operations", bits=1), "the smallest possible is 16,384 bit operations"),
        (Budget("size", limit=1e9), "as large as the float model"),
    ],
)
def test_what_cannot_be_is_refused(budget, message):
    _, _, setup, held_out = SETUP
    with pytest.raises(ValueError, match=message):
        allocate(setup, budget, held_out, points=1, rounds=0)
    with pytest.raises(ValueError, match="`held_out` must hold a batch"):
        allocate(setup, budget, [])


@pytest.mark.parametrize(
    "text",
    ["sise", "size(bits='4')", "size(4)", "latency", "size(bits=4, limit=9)", "size(bits=0)", "size(activations=3)"],
)
def test_text_that_names_no_budget_is_refused(text):
    with pytest.raises(ValueError, match=r"must be|takes a limit or bits"):
        budget_of(text)
