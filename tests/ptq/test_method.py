"""Post-training methods compose in the order written, are refused before long work, and change values alone."""

import jax
import jax.numpy as jnp
import pytest

from qat import ptq, quantize, recipe
from qat.ptq import Method, Outcome, Subject, composition, methods


def double(params, x):
    return x @ params["w"]


def case():
    params = {"w": jax.random.normal(jax.random.key(0), (4, 3))}
    batches = [jax.random.normal(jax.random.key(1), (8, 4)), jax.random.normal(jax.random.key(2), (8, 4))]
    q = quantize(double, recipe("w8a8"))
    return q, params, q.calibrate(params, batches), batches


@pytest.fixture
def own():
    """Methods that add to and scale the weight, of this test alone."""

    def plus(by: float = 1.0) -> Method:
        def run(subject, params, state, batches):
            return Outcome({"w": params["w"] + by}, state, ("w",), {"b": "not there"}, {"by": by})

        return Method(run, rounds=True)

    def times(by: float = 2.0) -> Method:
        return Method(lambda s, params, state, b: Outcome({"w": params["w"] * by}, state, ("w",)), rescales=True)

    def grows() -> Method:
        return Method(lambda s, params, state, b: Outcome({**params, "more": params["w"]}, state, ()))

    def counts() -> Method:
        return Method(lambda s, params, state, b: Outcome(params, state, tuple(str(x[0].shape) for x in [*b, b[-1]])))

    def labelled() -> Method:
        return Method(lambda s, params, state, b: Outcome(params, state, ()), needs=("loss", "targets"))

    known = dict(methods._factories), dict(methods._places)
    for one in (plus, times, grows, counts, labelled):
        methods.register(one)
    yield
    methods._factories, methods._places = known


@pytest.mark.usefixtures("own")
def test_methods_compose_in_the_order_written_and_each_says_what_it_changed():
    q, params, state, batches = case()
    found = ptq.apply(("times", "plus(by=0.5)"), q, params, state, batches)
    assert (found.params["w"] == params["w"] * 2 + 0.5).all()
    assert [step.method for step in found.steps] == ["times", "plus(by=0.5)"]
    told = found.steps[1].to_data()
    assert told.pop("seconds") >= 0
    assert told == {"method": "plus(by=0.5)", "changed": ["w"], "left": {"b": "not there"}, "figures": {"by": 0.5}}
    assert ptq.apply((), q, params, state, batches).params is params


@pytest.mark.usefixtures("own")
def test_an_order_that_undoes_a_method_is_refused():
    with pytest.raises(ValueError, match=r"'times' moves weights between layers, off what 'counts' before it fitted"):
        composition(("times", "counts", "times"))
    with pytest.raises(ValueError, match=r"'plus\(by=3.0\)' chooses anew the grid points that 'plus' chose"):
        composition(("plus", "counts", "plus(by=3.0)"))
    with pytest.raises(ValueError, match=r"'reestimate_bn' would undo 'bias_correction\(sequential=False\)'"):
        composition(("bias_correction(sequential=False)", "reestimate_bn"))
    assert [text for text, _ in composition(("times", "counts", "counts"))] == ["times", "counts", "counts"]


@pytest.mark.usefixtures("own")
def test_the_reference_is_what_came_before_the_first_change_of_the_float_function():
    q, params, state, batches = case()

    def compares() -> Method:
        def run(subject, now, state, batches):
            ratio = float((subject.reference["w"] / params["w"]).mean())
            return Outcome({"w": now["w"] + 1}, state, (), figures={"ratio": ratio})

        return Method(run)

    methods.register(compares)
    steps = ptq.apply(("times", "compares", "compares"), q, params, state, batches).steps
    assert [step.figures.get("ratio") for step in steps[1:]] == [2.0, 2.0]


@pytest.mark.usefixtures("own")
def test_batches_come_as_tuples_of_inputs_again_and_again():
    q, params, state, batches = case()
    for given in (batches, tuple(batches), iter(batches), [(x,) for x in batches]):
        assert ptq.apply(("counts",), q, params, state, given).steps[0].changed == ("(8, 4)",) * 3


@pytest.mark.usefixtures("own")
def test_what_cannot_work_is_refused_before_any_method_runs():
    q, params, state, batches = case()
    with pytest.raises(ValueError, match=r"'labelled' needs more than .*: `loss`, `targets`. Give qat"):
        ptq.apply(("plus", "labelled"), q, params, state, batches)
    with pytest.raises(ValueError, match="one a batch, got 1 for 2 batches"):
        ptq.apply(("plus",), Subject(q, targets=[0]), params, state, batches)
    with pytest.raises(ValueError, match=r"Unknown PTQ method 'pluss'.*Did you mean 'plus'"):
        ptq.apply(("pluss",), q, params, state, batches)
    with pytest.raises(ValueError, match=r"Write \('plus',\)"):
        ptq.apply("plus", q, params, state, batches)
    with pytest.raises(ValueError, match="`batches` is empty"):
        ptq.apply(("plus",), q, params, state, [])
    with pytest.raises(ValueError, match="another structure, other shapes"):
        ptq.apply(("grows",), q, params, state, batches)
    other = quantize(double, recipe("w4a4(edges='same')"))
    with pytest.raises(ValueError, match="was made for the recipe"):
        ptq.apply(("plus",), other, params, state, batches)


def test_every_method_says_where_it_comes_from_and_what_it_costs():
    for name in methods.names():
        text = methods._factories[name].__doc__ or ""
        assert "Cost:" in text, name
        assert "arXiv" in text, name


def test_state_and_parameters_are_not_touched():
    q, params, state, batches = case()
    before = jax.tree.map(jnp.copy, (params, state.clips))
    ptq.apply((), q, params, state, batches)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), before, (params, state.clips)))
