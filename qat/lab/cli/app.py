"""The command line itself, and what its commands share: options, folders, consoles."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from qat import __version__
from qat.fileio import describe_error, place


@contextmanager
def one_clear_error() -> Iterator[None]:
    """Turn what the user can mend into a message on stderr and exit code 2; anything else keeps its traceback."""
    try:
        yield
    except (ValueError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        message = _message(error)
        if message is None:
            raise
        typer.secho(f"Error: {message}", fg="red", err=True)
        raise typer.Exit(2) from None
    except SystemExit as error:  # of a file or a model of the user: nothing of ours ends the process
        found = place(error)
        typer.secho(f"Error: {describe_error(error)}{f' ({found})' if found else ''}", fg="red", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("Stopped. Run the same command again to continue where it was.", err=True)
        raise typer.Exit(130) from None


def _message(error: Exception) -> str | None:
    """The message of an error that qat raised on purpose or that the disk is to blame for, else None."""
    from qat.fileio import refusal
    from qat.registry import missing_extra

    refused = refusal(error) or missing_extra(error, "lab")
    if refused:
        return refused
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = not isinstance(error, ImportError) and Path(last.filename).is_relative_to(Path(__file__).parents[2])
    return str(error) if ours or isinstance(error, OSError) else None


app = typer.Typer(
    help="Quantization-aware training as a JAX transformation, with honest comparisons.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qat {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version.")]


@app.callback(help=app.info.help)
def _options(version: Version = False) -> None:
    """Options of qat itself."""


WIDTH = 100  # of a table that goes to a file or a pipe

Runs = Annotated[str | None, typer.Option("--runs", help="Folder of the results; by default runs/<name>.")]
Folder = Annotated[str, typer.Argument(help="Folder that a sweep wrote, or an address such as gs:// of a copy.")]
Folders = Annotated[list[str], typer.Argument(help="Folder that a sweep wrote; several are compared, oldest first.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change a field: --set train.steps=300; repeatable.")]
Runner = Annotated[str, typer.Option("--runner", help="inprocess, pool, ray or slurm; such as 'pool(workers=4)'.")]
Address = Annotated[str | None, typer.Option("--address", help="Of the cluster that the runner uses.")]
Sinks = Annotated[list[str] | None, typer.Option("--sink", help="Also tell wandb or tensorboard; repeatable.")]
Retries = Annotated[int, typer.Option("--retries", min=0, help="How often a failed job is tried again.")]
Trust = Annotated[bool, typer.Option("--trust", help="Run files outside of this project that the folder names.")]
Margin = Annotated[
    float | None, typer.Option("--margin", min=0, help="Difference that does not matter, in the metric's unit.")
]


def report_on(root: Path, margin: float | None) -> None:
    """Make the report of a study's folder and tell it."""
    from qat.lab.report.write import tell_report

    tell_report(root, margin, stdout(), stderr())


def parsed(changes: list[str] | None) -> dict[str, Any]:
    """Values by path of `--set path=value`."""
    from qat.lab.experiment.config import parse_assignment

    found: dict[str, Any] = {}
    for path, value in map(parse_assignment, changes or []):
        if path in found:
            raise ValueError(f"`--set` gives {path} twice, as {found[path]!r} and as {value!r}. Give it once.")
        found[path] = value
    return found


def folder_of(runs: str) -> Path:
    """The folder of a name or an address."""
    from qat.fileio import folder

    return folder(runs)


def refuse_address(runs: str | None) -> None:
    """Raise `ValueError` where a sweep is to run at an address, before anything is loaded."""
    from qat.fileio import working_folder

    if runs is not None:
        working_folder(runs)


def leave_errors_to_us() -> None:
    """Keep orbax from logging, with a traceback each, the errors that it also raises."""
    from absl import logging

    logging.set_verbosity(logging.FATAL)


def stdout() -> Any:
    """The stream for results."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


def stderr() -> Any:
    """The stream for progress."""
    from rich.console import Console

    return Console(stderr=True)


def warn(problem: str) -> None:
    """Say what was passed over."""
    stderr().print(f"Warning: {problem}", style="yellow", markup=False, highlight=False, soft_wrap=True)
