"""Between host memory and the local devices: batches are split over them, everything else is on each."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def data_mesh(devices: int | None, batch_size: int, accumulate: int) -> Mesh:
    """The first `devices` local devices (`None`: all) in a row named `data`.

    Raises `ValueError` where there are fewer, or where a micro-batch cannot be split evenly over them.
    """
    local = jax.local_devices()
    count = devices or len(local)
    if count > len(local):
        raise ValueError(f"`devices` must be at most {len(local)}, the devices here, got {count}.")
    if batch_size % (count * accumulate):
        raise ValueError(
            f"`batch_size` must be divisible by devices x `accumulate` = {count} x {accumulate}, got {batch_size}. "
            f"Take {-(-batch_size // (count * accumulate)) * count * accumulate}, or set `devices` to a divisor."
        )
    return Mesh(np.array(local[:count]), ("data",))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """A copy of `tree` on every device of `mesh`; shares no memory with it, so that it may be donated."""
    sharding = NamedSharding(mesh, PartitionSpec())
    return _copier(sharding)(jax.device_put(tree, sharding))


def split(batch: Any, mesh: Mesh, accumulate: int) -> Any:
    """`batch` on the devices as `[accumulate, micro-batch, ...]`, each micro-batch split over all of them."""
    sharding = NamedSharding(mesh, PartitionSpec(None, "data"))
    shaped = jax.tree.map(lambda x: np.asarray(x).reshape(accumulate, -1, *np.shape(x)[1:]), batch)
    return jax.device_put(shaped, sharding)


def to_host(tree: Any) -> Any:
    """A copy of `tree` as numpy arrays; random keys as their words."""
    return jax.tree.map(lambda x: np.array(jax.random.key_data(x) if _is_key(x) else x), tree)


def from_host(tree: Any, like: Any) -> Any:
    """The inverse of `to_host`, on the default device and free to move; `like` tells what was a random key."""

    def restore(x: np.ndarray, leaf: Any) -> jax.Array:
        return (
            jax.random.wrap_key_data(jnp.asarray(x), impl=jax.random.key_impl(leaf))
            if _is_key(leaf)
            else jnp.asarray(x)
        )

    return jax.tree.map(restore, tree, like)


@functools.lru_cache(maxsize=8)
def _copier(sharding: NamedSharding) -> Any:
    """A compiled copy: `device_put` alone reuses the buffer of a device that has the array already."""
    return jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=sharding)


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
