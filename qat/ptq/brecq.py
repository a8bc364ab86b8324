"""Block reconstruction."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qat.core.jaxpr import bind
from qat.ptq.blocks import blocks, check_pattern
from qat.ptq.examples import Values
from qat.ptq.method import Method, Subject, register
from qat.ptq.program import read
from qat.ptq.reconstruct import reconstruction
from qat.ptq.segment import cut
from qat.ptq.soft_rounding import Settings
from qat.ptq.streaming import Prepared


@register
def brecq(
    steps: int = 1000,
    batch: int | None = None,
    samples: int = 512,
    rate: float = 0.01,
    pull: float = 1.0,
    warm_up: float = 0.2,
    range_rate: float = 0.001,
    fisher: bool = False,
    pattern: str | None = None,
) -> Method:
    """Learn the rounding of all weights of a block together, so that the block's outputs stay.

    As `adaround`, with the outputs z of a block (a residual block, a layer of a transformer) in the place of a layer's:
    minimises |z - z'|^2, with `fisher` sum((dL/dz)^2 (z - z')^2), which is the loss's second-order growth where its
    curvature is the diagonal of Fisher's information (Li et al. 2021, arXiv 2102.05426); that needs a loss and its
    targets. Within a block activations are quantized, and static ranges that are read there alone learn too, by one
    factor each, at `range_rate` falling to zero (0: they stay).

    A block is what the module path names up to its first part with a number (`encoder/layer_3`), else the module around
    the layer; or the path up to the end of what the regular expression `pattern` finds in it. Blocks that lie between
    each other are one. Cost: as `adaround`; with `fisher` one more forward and backward pass over the examples, and
    room for the gradients of all blocks' outputs.
    """
    settings = Settings(steps, batch, rate=rate, pull=pull, warm_up=warm_up, range_rate=range_rate)
    check_pattern(pattern)
    return reconstruction(partial(blocks, pattern=pattern), settings, samples, squared_gradients if fisher else None)


def squared_gradients(subject: Subject, prepared: Prepared) -> dict[str, tuple[Any, ...]]:
    """Squared gradients of the float function's loss with respect to each unit's outputs, over their mean: the diagonal
    of Fisher's information. Arrays by the unit's path."""
    flat, loss, found, examples = prepared.program.flat, subject.loss, prepared.found, prepared.examples
    assert loss is not None
    outputs = {unit.path: cut(flat, unit.start, unit.stop).outputs for unit in found.units}
    wanted = {v for values in outputs.values() for v in values}

    def total(probes: Values, inputs: Any, target: Any) -> Any:
        env = {**prepared.constants, **dict(zip(flat.inputs, jax.tree.leaves(inputs), strict=True))}
        for one in flat.lines:
            env.update(zip(one.writes, bind(one.eqn, read(env, one.reads)), strict=True))
            env.update({v: env[v] + probes[v] for v in one.writes if v in probes})
        return loss(jax.tree.unflatten(flat.plan.out_tree, read(env, flat.outs)), target)

    @jax.jit
    def squared(inputs: Any, target: Any) -> Values:
        like = {v: jnp.zeros(flat.shapes[v], jnp.float32) for v in wanted}
        return {v: g**2 for v, g in jax.grad(total)(like, inputs, target).items()}

    batch, parts = prepared.program.batch, []
    for at in range(0, examples.count, batch):
        rows = jax.tree.map(lambda x, at=at: x[at : at + batch], (examples.inputs, examples.targets))
        parts.append(jax.device_get(squared(*rows)))
    energies = {v: np.concatenate([part[v] for part in parts]) for v in wanted}
    return {path: tuple(_over_mean(energies, values)) for path, values in outputs.items()}


def _over_mean(energies: Values, values: tuple[int, ...]) -> Iterator[Any]:
    mean = np.mean([np.mean(energies[v]) for v in values])
    for v in values:
        yield energies[v] / mean if mean > 0 else np.ones_like(energies[v])
