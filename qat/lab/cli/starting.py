"""Commands for those who begin: a study of their own to start from, and the names that a config may use."""

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from qat.lab.cli.app import app, one_clear_error

STARTER = Path(__file__).parent / "starter"
REGISTRIES = {
    "data": ("qat.data", "datasets"),
    "engines": ("qat.engines", "engines"),
    "exporters": ("qat.export", "exporters"),
    "models": ("qat.models", "models"),
    "observers": ("qat.observers", "observers"),
    "optimizers": ("qat.train", "optimizers"),
    "ptq": ("qat.ptq", "methods"),
    "quantizers": ("qat.quantizers", "quantizers"),
    "runners": ("qat.lab.jobs.runners", "runners"),
    "schedules": ("qat.train", "schedules"),
    "sinks": ("qat.lab.sinks", "sinks"),
    "targets": ("qat.export.targets", "targets"),
    "tasks": ("qat.tasks", "tasks"),
}
"""By kind the package and the name of its registry."""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to write to; it is made where there is none.")],
) -> None:
    """Write a small study with a model and a data set of your own, to change as you like."""
    with one_clear_error():
        files = write_starter(folder)
        for file in files:
            typer.echo(str(file))
        study = folder / "study.py"
        typer.echo(f"\nNext: qat sweep {study} --fast    # tries it in less than a minute")
        typer.echo(f"      qat sweep {study}")


def write_starter(folder: Path) -> list[Path]:
    """Copy the starter study into a folder. Raises `ValueError`, before anything is written, where it would overwrite a
    file."""
    from qat.fileio import write_atomically

    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`folder` must be a folder or not exist, got the file {str(folder)!r}.")
    sources = sorted(STARTER.glob("*.py"))
    targets = [folder / source.name for source in sources]
    there = [target.name for target in targets if target.exists()]
    if there:
        raise ValueError(f"{str(folder)!r} already holds {', '.join(there)}: nothing was written. Name another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for source, target in zip(sources, targets, strict=True):
        write_atomically(target, source.read_bytes())
    return targets


@app.command("list")
def list_names(
    kind: Annotated[str, typer.Argument(help=", ".join(REGISTRIES))],
    files: Annotated[list[Path] | None, typer.Argument(help="Your own files, whose names are listed too.")] = None,
) -> None:
    """The names that a config may use, each with its signature and what it is."""
    with one_clear_error():
        from qat.lab.experiment.plugins import run_file

        registry = registry_of(kind)
        for file in files or ():
            run_file(file)
        for signature, line in registry.described():
            typer.echo(signature)
            typer.echo(f"    {line}")


def registry_of(kind: str) -> Any:
    """The registry of a kind. Raises `ValueError` for an unknown one, with the known ones."""
    from qat.registry import did_you_mean

    if kind not in REGISTRIES:
        raise ValueError(f"Unknown kind {kind!r}. Known: {', '.join(REGISTRIES)}.{did_you_mean(kind, REGISTRIES)}")
    module, name = REGISTRIES[kind]
    return getattr(importlib.import_module(module), name)
