"""The command line: `qat sweep`, `qat run`, `qat report`. What is heavy is imported by the command that needs it."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

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

Runs = Annotated[Path | None, typer.Option("--runs", help="Folder of the results; runs/<name> by default.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change a field: --set train.steps=300; repeatable.")]


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(help="Python file that defines BASE and AXES.")],
    runs: Runs = None,
    changes: Changes = None,
) -> None:
    """Run the open trials of a study, then report."""
    with one_clear_error():
        from rich.console import Console

        from qat.config import parse_assignment
        from qat.sweep.run import run_study
        from qat.sweep.study import load_study

        _leave_errors_to_us()
        study = load_study(file, dict(map(parse_assignment, changes or [])))
        root = runs or Path("runs") / study.name
        run_study(study, root, Console(stderr=True))
        _show(root)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="Python file that defines get_config().")],
    runs: Runs = None,
    changes: Changes = None,
) -> None:
    """Run one experiment, start to end."""
    with one_clear_error():
        from rich.console import Console

        from qat.config import parse_assignment
        from qat.sweep.run import run_study
        from qat.sweep.study import load_config, make_study

        _leave_errors_to_us()
        experiment = load_config(config, dict(map(parse_assignment, changes or [])))
        root = runs or Path("runs") / experiment.name
        run_study(make_study(experiment.name, experiment, {}), root, Console(stderr=True))
        _show(root)


@app.command()
def report(runs: Annotated[Path, typer.Argument(help="Folder that a sweep wrote.")]) -> None:
    """Report from the records of a sweep alone."""
    with one_clear_error():
        _show(runs)


def _leave_errors_to_us() -> None:
    """Keep orbax from logging, with a traceback each, the errors that it also raises."""
    from absl import logging

    logging.set_verbosity(logging.FATAL)


def _show(root: Path) -> None:
    from rich.console import Console

    from qat.report import rich_table, summarize, write_report
    from qat.sweep.folder import read_study

    study = read_study(root)
    scan = study.scan()
    for problem in scan.damaged:
        Console(stderr=True).print(f"Warning: {problem}", style="yellow", markup=False)
    if not scan.records:
        raise ValueError(f"{str(root)!r} holds no finished trial yet. Run the sweep first.")
    rows = summarize(scan.records.values())
    unfinished = len(study.trials) - len(scan.records)
    title = study.name + (f" ({unfinished} of {len(study.trials)} trials not finished)" if unfinished else "")
    out = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    out.print(rich_table(rows, title))
    for path in write_report(root, rows, title):
        out.print(str(path), markup=False, highlight=False)


@contextmanager
def one_clear_error() -> Iterator[None]:
    """Turn what the user can mend into a message on stderr and exit code 2; anything else keeps its traceback."""
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        message = _message(error)
        if message is None:
            raise
        typer.secho(f"Error: {message}", fg="red", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("Stopped. Run the same command again to continue where it was.", err=True)
        raise typer.Exit(130) from None


def _message(error: Exception) -> str | None:
    """The message of an error that qat raised on purpose or that the disk is to blame for, else None."""
    from qat.storage import refusal

    refused = refusal(error)
    if refused:
        return refused
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = Path(last.filename).is_relative_to(Path(__file__).parent)
    return str(error) if ours or isinstance(error, OSError) else None


if __name__ == "__main__":
    app()
