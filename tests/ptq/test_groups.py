"""Sites that share a path, a weight or an activation are chosen for together; their choice is a state and a recipe."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat import quantize
from qat.core.plan import make_plan
from qat.ptq.groups import Choice, Width, groups_of, mixed, recipe_of
from qat.recipes.layer_bits import excluding
from qat.recipes.presets import recipe
from qat.recipes.recipe import QuantRecipe, QuantRule, activation_spec, weight_spec

WIDTH = 8


def network(params, tokens):
    """A tied embedding; query and key of one input; a layer of its own; a product of activations."""
    h = params["table"]["embedding"][tokens]
    q, k = h @ params["query"], h @ params["key"]
    h = jax.nn.softmax(jnp.einsum("bqd,bkd->bqk", q, k)) @ h
    return jnp.tanh(h @ params["own"]) @ params["table"]["embedding"].T


def case(name="w4a4"):
    keys = jax.random.split(jax.random.key(0), 4)
    square = {n: jax.random.normal(key, (WIDTH, WIDTH)) for n, key in zip(("query", "key", "own"), keys, strict=False)}
    params = {**square, "table": {"embedding": jax.random.normal(keys[3], (10, WIDTH))}}
    tokens = [jax.random.randint(jax.random.key(i), (4, 5), 0, 10) for i in range(2)]
    q = quantize(network, recipe(name))
    plan = make_plan(q.fn, q.recipe, params, (tokens[0],))
    return q, params, tokens, plan


def test_what_is_shared_ties_sites_and_nothing_else_does():
    _, _, _, plan = case()
    groups = groups_of(plan)
    paths = [set(group.paths) for group in groups]
    assert {"query", "key"} <= next(p for p in paths if "query" in p)
    assert [p for p in paths if "own" in p] == [{"own"}]
    tied = next(group for group in groups if "table" in group.paths)
    assert [site.split(":")[0] for site in tied.sites].count("table") >= 2
    assert sorted(key for group in groups for key in group.weights) == sorted(plan.weights)
    every = [s.contraction.id for s in plan.quantized.values()]
    assert sorted(site for group in groups for site in group.sites) == sorted(every)


def test_a_group_counts_bytes_and_bit_operations_by_its_width():
    _, _, _, plan = case()
    own = next(group for group in groups_of(plan) if group.paths == ("own",))
    macs = 4 * 5 * WIDTH * WIDTH
    assert own.macs == macs
    assert own.bytes(Width(4, 8)) == WIDTH * WIDTH // 2 + 4 * WIDTH
    assert own.bytes(None) == 4 * WIDTH * WIDTH
    assert own.bit_operations(Width(4, 8)) == macs * 32
    assert own.bit_operations(None) == macs * 32 * 32
    assert len(own.choices((2, 4, 8))) == 10
    assert own.choices((2,), in_float=False) == [Width(2, 2)]


@pytest.mark.parametrize("edges", ["8", "'same'", "'float'"])
def test_chosen_bits_and_float_are_those_of_the_recipes_sites(edges):
    q, params, tokens, plan = case(f"w4a4(edges={edges})")
    groups = groups_of(plan)
    low = [Width(3 if group.weights else None, 6 if group.activations else None) for group in groups]
    own = next(i for i, group in enumerate(groups) if group.paths == ("own",))
    choices: list[Choice] = [group.own if group.fixed else one for group, one in zip(groups, low, strict=True)]
    choices[own] = None
    rules = recipe_of(plan, q.recipe, groups, choices)
    assert any(group.fixed for group in groups) == (edges == "'float'")
    for site in quantize(network, rules).sites(params, tokens[0]):
        chosen = next((c for g, c in zip(groups, choices, strict=True) if site.id in g.sites), None)
        if chosen is None:
            assert site.rule is None
        else:
            assert site.weight_bits in (None, chosen.weights)
            assert site.activation_bits in (None, chosen.activations)
            assert (site.weight_bits, site.activation_bits) != (None, None)


def test_a_mixed_state_is_what_calibration_of_that_recipe_gives():
    q, params, tokens, plan = case("w4a4(observer='minmax')")
    groups = groups_of(plan)
    choices = [Width(3 + i % 2 * 5 if group.weights else None, 4 if group.activations else None)
               for i, group in enumerate(groups)]  # fmt: skip
    choices[0] = groups[0].own
    needed = {bits for one in choices for bits in (one.weights, one.activations) if bits}
    states = {}
    for bits in needed:
        alike = [Width(one.weights and bits, one.activations and bits) for one in choices]
        states[bits] = quantize(network, recipe_of(plan, q.recipe, groups, alike)).calibrate(params, tokens)
    exact = quantize(network, recipe_of(plan, q.recipe, groups, choices))
    have, want = mixed(states, groups, choices), exact.calibrate(params, tokens)
    assert have.clips.keys() == want.clips.keys()
    for key, clip in want.clips.items():
        assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(clip), jax.tree.leaves(have.clips[key]),
                                                        strict=True))  # fmt: skip
    x = tokens[0]
    assert (exact.simulate(params, exact.adopt(have), x) == exact.simulate(params, want, x)).all()


SITES = [("a", "dot_general"), ("b/c", "dot_general"), ("b/d", "dot_general")]
OF_B = QuantRule("^b", weights=weight_spec(4))


def test_float_layers_are_taken_out_of_every_rule_and_the_rest_stays_as_it_was():
    edge = QuantRule(weights=weight_spec(8), activations=activation_spec(8))
    own = (("d$", weight_spec(2)), ("^a$", weight_spec(3)))
    rules = QuantRecipe((OF_B, QuantRule(weights=weight_spec(5))), first=edge, last=edge, weights=own)
    found = excluding(rules, ["b/d", "a"], SITES)
    for place in ({}, {"first": True}, {"last": True}):
        flags = {"first": False, "last": False, **place}
        for path in ("a", "b/d"):
            rule = found.rule_for(path, "dot_general", **flags)
            assert rule is not None and rule.weights is None and rule.activations is None
        kept, was = (one.rule_for("b/c", "dot_general", **flags) for one in (found, rules))
        assert kept is not None and was is not None and kept.weights == was.weights
    found.check_used(SITES)


def test_rules_and_specs_that_reach_no_layer_any_more_are_left_out():
    rules = QuantRecipe((OF_B, QuantRule(weights=weight_spec(5))), weights=(("c|d", weight_spec(2)),))
    found = excluding(rules, ["b/c", "b/d"], SITES)
    found.check_used(SITES)
    assert len(found.rules) == 2 and not found.weights


def test_a_path_whose_rules_differ_in_more_than_bits_keeps_its_own_or_goes_to_float():
    def fn(params, tokens):
        return params["t"]["embedding"][tokens] @ params["t"]["embedding"].T

    params, tokens = {"t": {"embedding": jnp.ones((6, 4))}}, jnp.zeros((2, 3), jnp.int32)
    rules = QuantRecipe(
        (
            QuantRule(op="embedding", weights=weight_spec(8, grid="affine")),
            QuantRule(weights=weight_spec(8), activations=activation_spec(8)),
        )
    )
    plan = make_plan(fn, rules, params, (tokens,))
    (group,) = groups_of(plan)
    assert group.fixed and group.choices((2, 4)) == [Width(8, 8), None]
    assert recipe_of(plan, rules, [group], [Width(8, 8)]) == rules
