"""The command line itself, and what its commands share: options, folders, consoles."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Quantization-aware training as a JAX transformation, with honest comparisons.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

WIDTH = 100  # of a table that goes to a file or a pipe

Runs = Annotated[str | None, typer.Option("--runs", help="Folder of the results (or gs://, s3://); runs/<name>.")]
Folder = Annotated[str, typer.Argument(help="Folder that a sweep wrote.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change a field: --set train.steps=300; repeatable.")]
Runner = Annotated[str, typer.Option("--runner", help="inprocess, pool, ray or slurm; such as 'pool(workers=4)'.")]
Address = Annotated[str | None, typer.Option("--address", help="Of the cluster that the runner uses.")]
Sinks = Annotated[list[str] | None, typer.Option("--sink", help="Also tell wandb or tensorboard; repeatable.")]
Retries = Annotated[int, typer.Option("--retries", min=0, help="How often a failed job is tried again.")]
Trust = Annotated[bool, typer.Option("--trust", help="Run files outside of this project that the folder names.")]
Margin = Annotated[float | None, typer.Option("--margin", min=0, help="Difference in points that does not matter.")]


def report_on(root: Path, margin: float | None) -> None:
    """Make the report of a study's folder and tell it."""
    from qat.report.told import tell_report

    tell_report(root, margin, stdout(), stderr())


def parsed(changes: list[str] | None) -> dict[str, Any]:
    """Values by path of `--set path=value`."""
    from qat.config import parse_assignment

    found: dict[str, Any] = {}
    for path, value in map(parse_assignment, changes or []):
        if path in found:
            raise ValueError(f"`--set` gives {path} twice, as {found[path]!r} and as {value!r}. Give it once.")
        found[path] = value
    return found


def folder_of(runs: str) -> Path:
    """The folder of a name or an address."""
    from qat.storage import folder

    return folder(runs)


def leave_errors_to_us() -> None:
    """Keep orbax from logging, with a traceback each, the errors that it also raises."""
    from absl import logging

    logging.set_verbosity(logging.FATAL)


def stdout() -> Any:
    """Where results go."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


def stderr() -> Any:
    """Where progress goes."""
    from rich.console import Console

    return Console(stderr=True)


def warn(problem: str) -> None:
    """Say what was passed over."""
    stderr().print(f"Warning: {problem}", style="yellow", markup=False, highlight=False, soft_wrap=True)
