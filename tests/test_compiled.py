"""Room for compiled programs is made when it is needed, and only then."""

import jax
import pytest

from qat.runtime import LIMIT, make_room, mappings

pytestmark = pytest.mark.skipif(not LIMIT.exists(), reason="only Linux counts memory mappings")


def test_programs_are_forgotten_when_mappings_run_short():
    functions = [jax.jit(lambda x, i=i: (x * i).sum()) for i in range(20)]
    for f in functions:
        f(jax.numpy.ones(3))
    taken = mappings()
    assert make_room(share=0.0)
    assert mappings() < taken
    assert float(functions[2](jax.numpy.ones(3))) == 6.0


def test_programs_stay_where_there_is_room():
    assert not make_room(share=1.0)
