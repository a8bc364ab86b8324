"""A run on disk: whole or not there at all, and never taken for another run's.

A checkpoint is one folder that orbax writes beside its place and renames into it, so that a process killed at any
moment leaves the one before.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from qat.train.config import TrainConfig
from qat.train.devices import to_host
from qat.train.structure import describe, differences

if TYPE_CHECKING:
    from orbax.checkpoint import CheckpointManager

KEPT = 2
WATCHING_ONLY = {"checkpoint_every", "log_every", "devices"}


@contextlib.contextmanager
def open_folder(folder: Path | None) -> "Iterator[CheckpointManager | None]":
    """The checkpoints in `folder`, which is made where missing, or `None` for `None`."""
    if folder is None:
        yield None
        return
    import orbax.checkpoint as ocp

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"`checkpoints` must be a folder that can be written, got {str(folder)!r}: {error}."
        ) from error
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEPT, cleanup_tmp_directories=True, enable_async_checkpointing=False
    )
    with contextlib.closing(ocp.CheckpointManager(folder.absolute(), options=options)) as manager:
        yield manager


def run_record(config: TrainConfig, identity: str, carry: Any) -> dict[str, Any]:
    """What a run is: the settings that shape its result, what else it says it depends on, and its arrays."""
    settings = {name: repr(value) for name, value in config.model_dump(exclude=WATCHING_ONLY).items()}
    return {"settings": {**settings, "identity": repr(identity)}, "structure": describe(carry)}


def save(manager: "CheckpointManager", step: int, carry: Any, record: dict[str, Any], history: list[Any]) -> None:
    """Write the run after `step` steps; on return it is on disk."""
    import orbax.checkpoint as ocp

    arrays = ocp.args.PyTreeSave(_storable(carry))
    manager.save(step, args=ocp.args.Composite(arrays=arrays, record=ocp.args.JsonSave({**record, "history": history})))


def restore(manager: "CheckpointManager", record: dict[str, Any], carry: Any) -> tuple[int, Any, list[Any]] | None:
    """Step, arrays on the host in the structure of `carry`, and history of the newest checkpoint.

    `None` where there is none. Raises `ValueError` where it is not a checkpoint of this run.
    """
    import orbax.checkpoint as ocp

    step = manager.latest_step()
    if step is None:
        return None
    saved = manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore()))["record"]
    for part in ("settings", "structure"):
        if change := differences(saved[part], record[part]):
            raise ValueError(
                f"`checkpoints` must hold a run of the same {part}, but {str(manager.directory)!r} has another: "
                f"{change}. Use another folder, or delete this one to start again."
            )
    want = _storable(carry)
    found = manager.restore(step, args=ocp.args.Composite(arrays=ocp.args.PyTreeRestore(want)))["arrays"]
    leaves, treedef = jax.tree.flatten(to_host(carry))
    return step, treedef.unflatten([found.get(f"{i:05}", leaf) for i, leaf in enumerate(leaves)]), saved["history"]


def _storable(carry: Any) -> dict[str, np.ndarray]:
    """The leaves by number, copied to the host; without those of size zero, which orbax does not take."""
    return {f"{i:05}": leaf for i, leaf in enumerate(jax.tree.leaves(to_host(carry))) if leaf.size}
