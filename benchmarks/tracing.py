"""What `quantize` adds to jax's own tracing: a 12-layer encoder, seconds.

python benchmarks/tracing.py
"""

import time

import jax
from shared.encoder import encoder
from shared.verdict import report

import qat

ROUNDS = 3


def main() -> None:
    """Print the seconds that tracing and rewriting take beyond tracing the float function, the least of three."""
    model, variables, tokens = encoder(layers=12, batch=2, length=16)
    extra = []
    for _ in range(ROUNDS):
        float_seconds = _seconds(lambda: jax.jit(lambda v, x: model.apply(v, x)).trace(variables, tokens))
        q = qat.quantize(lambda v, x: model.apply(v, x), qat.recipe("w8a8"))
        table = _seconds(lambda q=q: q.sites(variables, tokens))
        state = q.calibrate(variables, [tokens])
        again = qat.quantize(lambda v, x: model.apply(v, x), qat.recipe("w8a8"))
        simulate = _seconds(lambda q=again, s=state: jax.jit(q.simulate).trace(variables, s, tokens))
        extra.append((simulate - float_seconds, table - float_seconds, float_seconds))
    simulate, table, float_seconds = min(extra)
    report(
        f"tracing 12 layers, jax alone {float_seconds:.2f} s",
        [("trace and rewrite beyond jax's own trace", simulate, 2.0), ("`sites` beyond jax's own trace", table, None)],
        unit=", s",
    )


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
