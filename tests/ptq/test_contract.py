"""Every registered post-training method: pure, equal when served, in a file of the same size."""

import jax
import jax.numpy as jnp
import pytest
from often import slow_after
from small_models import MODELS, batches_of, subject_of, variables_of

from qat import ptq, recipe
from qat.export.safetensors import serialized
from qat.ptq import methods

QUICK: dict[str, str] = {}
LEARNING = {"adaround", "brecq", "qdrop"}  # tens of seconds each
"""Settings that are done at once, of methods that take long by themselves."""
REFUSED = {("reestimate_bn", "transformer"): "there are no running statistics"}


@pytest.fixture(scope="module", params=slow_after(1, MODELS))
def case(request):
    """A model calibrated at few bits, with the size of its file."""
    subject = subject_of(request.param, recipe("w4a4(edges='same', observer='minmax')"))
    variables = variables_of(request.param)
    batches = batches_of(request.param)
    state = subject.q.calibrate(variables, batches)
    size = len(serialized(subject.q.convert(variables, state, batches[0])))
    return request.param, subject, variables, state, batches, size


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LEARNING)) for name in methods.names()]
)
def test_a_method_is_pure_serves_what_it_simulates_and_keeps_the_file_s_size(case, name: str):
    model, subject, variables, state, batches, size = case
    text = QUICK.get(name, name)
    if (name, model) in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name, model]):
            ptq.apply((text,), subject, variables, state, batches)
        return
    before = jax.tree.map(jnp.copy, (variables, state.bare))
    first, second = (ptq.apply((text,), subject, variables, state, batches) for _ in range(2))
    assert equal(before, (variables, state.bare))
    assert equal((first.params, first.state.bare), (second.params, second.state.bare))
    assert not equal((first.params, first.state.bare), before)
    assert first.steps[0].changed
    subject.q.check(first.state)
    int8 = subject.q.convert(first.params, first.state, batches[0])
    assert len(serialized(int8)) == size
    for x in batches:
        assert (subject.q.serve(int8, x) == subject.q.simulate(first.params, first.state, x)).all()


def equal(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        bool((x == y).all()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
