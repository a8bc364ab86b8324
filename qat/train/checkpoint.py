"""A run on disk: whole or not there at all, and never taken for another run's.

A checkpoint is one folder that orbax writes beside its place and renames into it, so that a process killed at any
moment leaves the one before. Digests of its files are written into it: one that was damaged on the disk since is set
aside, and the one before it is taken.
"""

import contextlib
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from qat.train.config import TrainConfig
from qat.train.devices import to_host
from qat.train.feed import describe, differences

if TYPE_CHECKING:
    from orbax.checkpoint import CheckpointManager

KEPT = 2
DIGESTS_FILE = "digests.json"
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
    """Describe a run: the settings that shape its result, the identity of its other inputs, and its arrays."""
    settings = {name: repr(value) for name, value in config.model_dump(exclude=WATCHING_ONLY).items()}
    return {"settings": {**settings, "identity": repr(identity)}, "structure": describe(carry)}


def save(manager: "CheckpointManager", step: int, carry: Any, record: dict[str, Any], history: list[Any]) -> None:
    """Write the run after `step` steps; on return it is on disk."""
    import orbax.checkpoint as ocp

    arrays = ocp.args.PyTreeSave(_storable(carry))
    manager.save(step, args=ocp.args.Composite(arrays=arrays, record=ocp.args.JsonSave({**record, "history": history})))
    place = _place(manager, step)
    unfinished = place / f".{DIGESTS_FILE}"
    unfinished.write_text(json.dumps(_digests(place)), encoding="utf-8")
    unfinished.replace(place / DIGESTS_FILE)


def restore(manager: "CheckpointManager", record: dict[str, Any], carry: Any) -> tuple[int, Any, list[Any]] | None:
    """Step, arrays on the host in the structure of `carry`, and history of the newest checkpoint that is whole.

    `None` where there is none. Damaged ones are renamed to `damaged-STEP`, which a line on stderr says. Raises
    `ValueError` where it is not a checkpoint of this run.
    """
    leaves, treedef = jax.tree.flatten(to_host(carry))
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            found, history = _read(manager, step, record, _storable(carry))
        except _DamagedError as error:
            _set_aside(manager, step, str(error))
        else:
            return step, treedef.unflatten([found.get(f"{i:05}", leaf) for i, leaf in enumerate(leaves)]), history
    return None


class _DamagedError(Exception):
    """A checkpoint is not what was written."""


def _read(
    manager: "CheckpointManager", step: int, record: dict[str, Any], like: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], list[Any]]:
    """Arrays and history of one checkpoint."""
    import orbax.checkpoint as ocp

    with _damage():
        _check_files(_place(manager, step))
        saved = manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore()))["record"]
        parts = {part: saved[part] for part in ("settings", "structure", "history")}
    for part in ("settings", "structure"):
        if change := differences(parts[part], record[part]):
            raise ValueError(
                f"`checkpoints` must hold a run of the same {part}, but {str(manager.directory)!r} has another: "
                f"{change}. Use another folder, or delete this one to start again."
            )
    with _damage():
        arrays = manager.restore(step, args=ocp.args.Composite(arrays=ocp.args.PyTreeRestore(like)))["arrays"]
    return arrays, parts["history"]


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """Errors of reading as one kind: of damaged files orbax and tensorstore raise any."""
    try:
        yield
    except (PermissionError, MemoryError, _DamagedError):
        raise
    except Exception as error:
        raise _DamagedError((str(error).strip() or type(error).__name__).splitlines()[0]) from error


def _check_files(place: Path) -> None:
    """Raise `_DamagedError` for the first file that is not as it was written, as far as digests were written too."""
    path = place / DIGESTS_FILE
    if path.exists():
        found, written = _digests(place), json.loads(path.read_text(encoding="utf-8"))
        if wrong := sorted(name for name, digest in written.items() if found.get(name) != digest):
            raise _DamagedError(f"{wrong[0]} is not what was written")


def _digests(place: Path) -> dict[str, str]:
    """A digest of each file of a checkpoint, by its path in it."""
    digests = {}
    for path in sorted(place.rglob("*")):
        if path.is_file() and path.name not in (DIGESTS_FILE, f".{DIGESTS_FILE}"):
            with path.open("rb") as file:
                digests[path.relative_to(place).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _set_aside(manager: "CheckpointManager", step: int, problem: str) -> None:
    """Rename a damaged checkpoint, which would be in the way of a whole one of the same step."""
    place = _place(manager, step)
    aside = place.with_name(f"damaged-{step}")
    shutil.rmtree(aside, ignore_errors=True)
    place.rename(aside)
    manager.reload()
    before = [other for other in manager.all_steps() if other < step]
    then = f"training goes on from step {max(before)}" if before else "training begins anew"
    sys.stderr.write(f"Warning: checkpoint {str(place)!r} is damaged ({problem}): {then}.\n")


def _place(manager: "CheckpointManager", step: int) -> Path:
    return Path(manager.directory) / str(step)


def _storable(carry: Any) -> dict[str, np.ndarray]:
    """The leaves by number, copied to the host; without those of size zero, which orbax does not take."""
    return {f"{i:05}": leaf for i, leaf in enumerate(jax.tree.leaves(to_host(carry))) if leaf.size}
