"""The command line: one function a command. What is heavy is imported by the command that needs it."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from qat.clear import one_clear_error

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
Margin = Annotated[float | None, typer.Option("--margin", min=0, help="Difference in points that does not matter.")]


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(help="Python file that defines BASE, and AXES or TRIALS.")],
    runs: Runs = None,
    changes: Changes = None,
    runner: Runner = "inprocess",
    address: Address = None,
    sinks: Sinks = None,
    retries: Retries = 1,
    fast: Annotated[bool, typer.Option("--fast", help="The file's small edition: minutes, to try it.")] = False,
) -> None:
    """Run the open trials of a study, then report."""
    with one_clear_error():
        from qat.sweep.study import load_study

        _run(load_study(file, _parsed(changes), fast=fast), runs, _at(runner, address), sinks, retries)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="Python file that defines get_config().")],
    runs: Runs = None,
    changes: Changes = None,
    sinks: Sinks = None,
) -> None:
    """Run one experiment, start to end, then report."""
    with one_clear_error():
        from qat.sweep.study import load_one

        _run(load_one(config, _parsed(changes)), runs, "inprocess", sinks, 0)


@app.command()
def search(
    file: Annotated[Path, typer.Argument(help="Python file that defines BASE and SEARCH.")],
    runs: Runs = None,
    changes: Changes = None,
    sinks: Sinks = None,
) -> None:
    """Search a declared space of settings, then report."""
    with one_clear_error():
        from qat.sweep.find import search_study

        _leave_errors_to_us()
        root, found = search_study(file, _parsed(changes), runs, sinks or (), _stderr())
        _report(root, None)
        _stdout().print(found)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="An experiment or a config.")],
    runs: Runs = None,
    changes: Changes = None,
    measure: Annotated[bool, typer.Option("--measure", help="Time a few steps for the estimate.")] = False,
) -> None:
    """The resolved config, the trials, and what they will cost."""
    with one_clear_error():
        from qat.sweep.show import show as shown
        from qat.sweep.study import load_any

        study = load_any(file, _parsed(changes))
        _stdout().print(shown(study, _folder(runs or f"runs/{study.name}"), measure=measure))


@app.command()
def validate(paths: Annotated[list[Path], typer.Argument(help="Config and experiment files, or folders.")]) -> None:
    """Check files of configs and experiments as far as can be without training."""
    with one_clear_error():
        from qat.sweep.validate import validate as check

        found = check(paths)
        _stdout().print(found)
        if found.problems:
            raise typer.Exit(2)


@app.command()
def report(runs: Folder, margin: Margin = None) -> None:
    """Tables, pictures and a page from the records of a sweep alone."""
    with one_clear_error():
        _report(_folder(runs), margin)


@app.command()
def keep(
    runs: Folder,
    file: Annotated[Path, typer.Argument(help="CSV file to write, such as experiments/results/NAME.csv.")],
    metrics: Annotated[list[str], typer.Option("--metric", help="A column of the table; repeatable.")],
) -> None:
    """Write the table of a finished sweep, one row an arm and seed, for the repository."""
    with one_clear_error():
        from qat.results import keep as write

        typer.echo(f"{len(write(runs, file, metrics))} rows in {file}")


@app.command()
def dashboard(
    runs: Folder,
    port: Annotated[int, typer.Option("--port", help="0 is any free one.")] = 8400,
    margin: Margin = None,
) -> None:
    """The report on localhost, made again as the sweep goes on."""
    with one_clear_error():
        from qat.report.dashboard import serve

        serve(_folder(runs), port, margin, announce=lambda address: typer.echo(f"{address} (Ctrl-C ends it)"))


@app.command()
def status(runs: Folder) -> None:
    """What a sweep is doing, here or on another machine."""
    with one_clear_error():
        from qat.sweep.status import status as state

        _stdout().print(state(_folder(runs)))


@app.command()
def replay(
    record: Annotated[Path, typer.Argument(help="Folder of a trial: RUNS/trials/ID, or the record.json in it.")],
) -> None:
    """Run a trial again, and say whether every number came out the same."""
    with one_clear_error():
        from qat.sweep.replay import replay as again
        from qat.sweep.replay import table

        _leave_errors_to_us()
        found = again(record.parent if record.is_file() else record, lambda *_: None)
        _stdout().print(table(found))
        if not found.same:
            raise typer.Exit(1)


@app.command()
def detect(
    model: Annotated[Path, typer.Argument(help="Folder of a finished trial of a detector, RUNS/trials/ID.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the pictures and results.json.")] = Path("detected"),
    template: Annotated[Path | None, typer.Option("--template", help="The defect-free board.")] = None,
    beside: Annotated[str | None, typer.Option("--beside", help="'float', or another trial's folder.")] = None,
    threshold: Annotated[float | None, typer.Option("--threshold", help="Least score that is drawn.")] = None,
    annotations: Annotated[Path | None, typer.Option("--annotations", help="COCO file that numbers images.")] = None,
    convert: Annotated[bool, typer.Option("--convert", help="Convert images of another colour mode.")] = False,
) -> None:
    """Draw what a detector finds on images, and write a COCO results file."""
    with one_clear_error():
        from qat.detect import detect as run_on

        more = {"template": template, "beside": beside, "threshold": threshold}
        done = run_on(model, images, out, **more, annotations=annotations, convert=convert)
        typer.echo(f"{sum(done.counts)} found on {len(done.pictures)} images, score >= {done.threshold:.2f}")
        typer.echo(str(done.results))


def _run(study: Any, runs: str | None, runner: str, sinks: list[str] | None, retries: int) -> None:
    from qat.sweep.folder import TRIALS
    from qat.sweep.run import run_study

    _leave_errors_to_us()
    root = _folder(runs or f"runs/{study.name}")
    outcome = run_study(study, root, runner=runner, send=sinks or (), retries=retries, console=_stderr())
    if sum(name.startswith(f"{TRIALS}/") for name in outcome.failed) < len(study.trials):
        _report(root, None)
    if outcome.failed:
        typer.secho(outcome.summary(root), fg="red", err=True)
        raise typer.Exit(1)


def _report(root: Path, margin: float | None) -> None:
    from qat.report.told import tell_report

    tell_report(root, margin, _stdout(), _stderr())


def _parsed(changes: list[str] | None) -> dict[str, Any]:
    from qat.config import parse_assignment

    return dict(map(parse_assignment, changes or []))


def _at(runner: str, address: str | None) -> str:
    """The runner's text with the address among its arguments."""
    if address is None:
        return runner
    name, _, arguments = runner.rstrip(")").partition("(")
    return f"{name}({arguments}{', ' if arguments else ''}address={address!r})"


def _folder(runs: str) -> Path:
    from qat.storage import folder

    return folder(runs)


def _leave_errors_to_us() -> None:
    """Keep orbax from logging, with a traceback each, the errors that it also raises."""
    from absl import logging

    logging.set_verbosity(logging.FATAL)


def _stdout() -> Any:
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


def _stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)


if __name__ == "__main__":
    app()
