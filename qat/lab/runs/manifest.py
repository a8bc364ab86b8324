"""The environment in which a trial ran: versions, device, CPU features, revision, flags."""

import functools
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from pydantic import BaseModel, ConfigDict, ValidationError

from qat import __version__
from qat.data import Dataset
from qat.fileio import write_atomically
from qat.lab.jobs.threads import cores, threads
from qat.lab.runs.files import MANIFEST_FILE, REDO_TRIAL, SIGNATURE_FILE

PACKAGES = ("jax", "jaxlib", "flax", "optax", "aqtp", "orbax-checkpoint", "numpy", "scipy", "scikit-learn")
TELLING = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm")


def manifest(seed: int, data_fingerprint: str) -> dict[str, Any]:
    """All that may explain why a number came out differently elsewhere; plain values, ready for JSON."""
    return {
        "versions": {"python": platform.python_version(), "qat": __version__, **_versions()},
        "device": {"backend": jax.default_backend(), "kinds": [device.device_kind for device in jax.local_devices()]},
        "platform": platform.platform(),
        "cpu": {"count": os.cpu_count(), "usable": len(cores()), "threads": threads(), "features": cpu_features()},
        "revision": revision(Path(__file__).parent),
        "data_fingerprint": data_fingerprint,
        "seed": seed,
        "flags": {name: os.environ[name] for name in ("XLA_FLAGS", "JAX_ENABLE_X64") if name in os.environ},
        "matmul_precision": str(jax.config.jax_default_matmul_precision),
    }


def write_manifest(folder: Path, found: Mapping[str, Any]) -> None:
    """Write the manifest of a stage or trial into its folder."""
    write_atomically(folder / MANIFEST_FILE, json.dumps(found, indent=2) + "\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a stage or trial; empty where there is none that can be read."""
    try:
        found = json.loads((folder / MANIFEST_FILE).read_bytes().decode("utf-8", "replace"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_how(folder: Path, how: str) -> None:
    """Add to the manifest of a stage that it was trained with others, and how; nothing where it was `alone`."""
    if how != "alone":
        write_manifest(folder, {**read_manifest(folder), "how": how})


def how_in(folder: Path) -> str | None:
    """Read how the stage in a folder was trained with others, `map` or `vmap`; None where it was alone."""
    how = read_manifest(folder).get("how")
    return how if isinstance(how, str) else None


def threads_in(folder: Path) -> int | None:
    """The threads that the manifest in a folder tells of; None where there is none, or an older one."""
    cpu = read_manifest(folder).get("cpu")
    return cpu.get("threads") if isinstance(cpu, dict) else None


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Instruction sets that change the speed or the last bits of a result; empty where the system does not tell."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return []
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return [name for name in TELLING if name in flags]


@functools.cache  # of the code that this process runs, which stays as it was when it was imported
def revision(folder: Path) -> str | None:
    """The git revision that `folder` is checked out from, ending in `-dirty` where it was changed since; else None."""
    try:
        subprocess.run(
            ["git", "ls-files", "--error-unmatch", Path(__file__).name], cwd=folder, check=True, capture_output=True
        )
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


@functools.cache
def _versions() -> dict[str, str]:
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


type Size = int | float | str | tuple[int, ...] | tuple[str, ...]


class Signature(BaseModel):
    """`task` is the data set's; `class_names` are in the order of the labels, none where classes have no names;
    `input_shape` is one example's, and `scale` what its pixels are multiplied by before the model sees them. `offers`
    are the sizes that the model's builder could take of the data set, by name."""

    model_config = ConfigDict(frozen=True)

    task: str
    classes: int
    class_names: tuple[str, ...] = ()
    input_shape: tuple[int, ...]
    scale: float = 1.0
    offers: dict[str, Size] = {}

    @property
    def arguments(self) -> dict[str, Any]:
        """The sizes that the model's builder is offered; those with a field of their own are taken from it."""
        own = {"classes": self.classes, "input_shape": self.input_shape}
        return {**self.offers, **{name: value for name, value in own.items() if value}}

    def name(self, label: int) -> str:
        """The class of a label."""
        return self.class_names[label] if self.class_names else str(label)


def signature_of(dataset: Dataset) -> Signature:
    """The inputs and outputs of a model of this data set."""
    scale = dataset.splits["test"][0].get("scale", 1.0)
    return Signature(
        task=dataset.task,
        classes=dataset.classes,
        class_names=dataset.class_names,
        input_shape=dataset.input_shape,
        scale=float(scale),
        offers=dataset.offers,
    )


def write_signature(folder: Path, signature: Signature) -> None:
    """Keep it in a trial's folder."""
    write_atomically(folder / SIGNATURE_FILE, signature.model_dump_json(indent=2) + "\n")


def read_signature(folder: Path) -> Signature:
    """Read the signature of the model in a trial's folder; `ValueError` where it is missing or damaged."""
    path = folder / SIGNATURE_FILE
    try:
        return Signature.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        problem = "is missing"
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = f"is damaged ({'.'.join(map(str, first['loc']))}: {first['msg']})"
    raise ValueError(f"{str(path)!r} {problem}. {REDO_TRIAL}")
