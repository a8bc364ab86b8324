"""The compiled loop of `fit_together`: some steps of some runs, whose carries are stacked along a leading axis."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from qat.registry import forgotten_on_change
from qat.train.step import Carry, Step

type How = Literal["map", "vmap"]
"""Runs one after the other within the loop, or side by side."""
type Feed = tuple[int, list[Any], list[Any]]
"""A run's place in the stack, and for each step its batch (or the places of its rows) and its numbers."""


def advance(
    step: Step, how: How, stacked: Carry, feeds: Sequence[Feed], *, table: Any, size: int, chunk: int, mesh: Mesh | None
) -> tuple[Carry, dict[str, np.ndarray]]:
    """The carries after the steps of `feeds`, and their metrics as arrays `[runs, chunk]`; consumes `stacked`.

    `table` holds the arrays of which batches are rows, None where they are given as they are. `size` is the number of
    carries, `chunk` the most steps of a call: what is compiled depends on these, not on how many runs and steps there
    are. Over a `mesh` each device takes its share of the runs.
    """
    count = 1 if mesh is None else mesh.size
    order, runs = np.zeros(size, np.int32), np.zeros(count, np.int32)
    for place, _, _ in feeds:  # each device takes its own part of the carries, by their places in that part
        device, own = divmod(place, size // count)
        order[device * (size // count) + runs[device]] = own
        runs[device] += 1
    batches = _padded([(place, batches) for place, batches, _ in feeds], size, chunk)
    numbers = _padded([(place, numbers) for place, _, numbers in feeds], size, chunk)
    steps = np.int32(len(feeds[0][1]))
    stacked, metrics = compiled(step, how, mesh)(stacked, table, batches, numbers, order, runs, steps)
    return stacked, jax.device_get(metrics)


def _padded(rows: list[tuple[int, list[Any]]], size: int, chunk: int) -> Any:
    """Trees of arrays as one tree of arrays `[size, chunk, ...]`, zero where there is none."""

    def joined(*leaves: Any) -> np.ndarray:
        first = np.asarray(leaves[0])
        out = np.zeros((size, chunk, *first.shape), first.dtype)
        each = iter(leaves)
        for place, trees in rows:
            for step in range(len(trees)):
                out[place, step] = next(each)
        return out

    return jax.tree.map(joined, *(tree for _, trees in rows for tree in trees))


@forgotten_on_change
@functools.lru_cache(maxsize=32)
def compiled(step: Step, how: How, mesh: Mesh | None = None) -> Callable[..., tuple[Carry, dict[str, jax.Array]]]:
    """The compiled loop; consumes the carries that it is given."""

    def steps(carry: Carry, table: Any, batches: Any, numbers: Any, count: Any) -> tuple[Carry, dict[str, jax.Array]]:
        """One run's carry after `count` steps, and their metrics."""

        def fed(t: Any) -> tuple[Any, Any]:
            batch, hyper = _at((batches, numbers), t)
            return (batch if table is None else jax.tree.map(lambda x: x[batch], table)), hyper

        def body(t: Any, done: tuple[Carry, Any]) -> tuple[Carry, Any]:
            # Between barriers the step is compiled as it is alone: nothing of the loop is fused into it.
            now, batch, hyper = lax.optimization_barrier((done[0], *fed(t)))
            new, found = lax.optimization_barrier(step(now, batch, hyper))
            return new, _set(done[1], t, found)

        found = jax.eval_shape(lambda c: step(c, *fed(0))[1], carry)
        length = jax.tree.leaves(numbers)[0].shape[0]
        return lax.fori_loop(0, count, body, (carry, _zeros(found, length)))

    def by_map(stacked: Carry, table: Any, batches: Any, numbers: Any, order: Any, runs: Any, count: Any) -> Any:
        def turn(j: Any, done: tuple[Carry, Any]) -> tuple[Carry, Any]:
            place = order[j]
            carry, batch, number = _at((done[0], batches, numbers), place)
            new, found = steps(carry, table, batch, number, count)
            return _set(done[0], place, new), _set(done[1], place, found)

        one, batch, number = _at((stacked, batches, numbers), 0)
        shapes = jax.eval_shape(lambda carry: steps(carry, table, batch, number, 1)[1], one)
        return lax.fori_loop(0, runs[0], turn, (stacked, _zeros(shapes, order.shape[0])))

    def by_vmap(stacked: Carry, table: Any, batches: Any, numbers: Any, order: Any, runs: Any, count: Any) -> Any:
        size = order.shape[0]
        active = jnp.zeros(size, bool).at[jnp.where(jnp.arange(size) < runs[0], order, size)].set(True, mode="drop")
        new, found = jax.vmap(steps, (0, None, 0, 0, None))(stacked, table, batches, numbers, count)

        def chosen(x: Any, old: Any) -> Any:
            return jnp.where(active.reshape(-1, *[1] * (x.ndim - 1)), x, old)

        return jax.tree.map(chosen, new, stacked), found

    loop = {"map": by_map, "vmap": by_vmap}[how]
    if mesh is not None:
        own, all_ = PartitionSpec("trials"), PartitionSpec()
        given = (own, all_, own, own, own, own, all_)
        loop = jax.shard_map(loop, mesh=mesh, in_specs=given, out_specs=own, check_vma=False)
    return jax.jit(loop, donate_argnums=0)


def trials_mesh(size: int) -> Mesh | None:
    """The local devices in a row named `trials`, no more than there are trials; None where that is one."""
    local = jax.local_devices()[:size]
    return Mesh(np.array(local), ("trials",)) if len(local) > 1 else None


def placed(tree: Any, mesh: Mesh | None, *, by_trial: bool) -> Any:
    """A tree of arrays on the devices: split along its leading axis, or whole on each."""
    if mesh is None:
        return jax.device_put(tree)
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec("trials") if by_trial else PartitionSpec()))


def _at(tree: Any, place: Any) -> Any:
    return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, place, keepdims=False), tree)


def _set(tree: Any, place: Any, new: Any) -> Any:
    return jax.tree.map(lambda x, one: lax.dynamic_update_index_in_dim(x, one, place, 0), tree, new)


def _zeros(shapes: Any, length: int) -> Any:
    return jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), shapes)
