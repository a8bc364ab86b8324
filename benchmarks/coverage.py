"""The model zoo of the tests: contractions found, and models whose served outputs equal the simulated ones to the
last bit.

python benchmarks/coverage.py [recipe]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import track
from zoo import ZOO

import qat


def main(recipe: str = "w8a8") -> None:
    """Print sites found over sites present, and how many models are served bit for bit."""
    found = present = equal = 0
    for name in track(ZOO, "models", console=Console(stderr=True)):
        case = ZOO[name]()
        q = qat.quantize(case.fn, qat.recipe(recipe))
        batches = [case.inputs(2, None, seed) for seed in range(40)]  # one model routes by its input
        found += len(q.sites(case.params, *batches[0]))
        present += case.contractions + case.constant_lookups
        state = q.calibrate(case.params, batches)
        int8 = q.convert(case.params, state, *batches[0])
        other = case.inputs(3, 7 if case.length_varies else None, 9)
        pair = [_arrays(f(*other)) for f in (lambda *x, q=q, p=case.params, s=state: q.simulate(p, s, *x),
                                             lambda *x, q=q, i=int8: q.serve(i, *x))]  # fmt: skip
        same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*pair, strict=True))
        equal += same
        if not same:
            print(f"{name}: outputs differ")
    print(f"sites found / present: {found} / {present} = {found / present:.1%}")
    print(f"models served bit for bit: {equal} / {len(ZOO)} = {equal / len(ZOO):.1%} ({recipe})")


def _arrays(tree) -> list[np.ndarray]:
    leaves = [x for x in jax.tree.leaves(tree) if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return [np.asarray(x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x) for x in leaves]


if __name__ == "__main__":
    main(*sys.argv[1:])
