"""Commands that run studies, and those that say what will run or runs."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from qat.lab.cli.app import (
    Address,
    Changes,
    Folder,
    Retries,
    Runner,
    Runs,
    Sinks,
    Trust,
    app,
    folder_of,
    leave_errors_to_us,
    one_clear_error,
    parsed,
    refuse_address,
    report_on,
    stderr,
    stdout,
)


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
    profile: Annotated[bool, typer.Option("--profile", help="Tell where the time of this process went.")] = False,
) -> None:
    """Run the open trials of a study, then report."""
    with one_clear_error(), _profiled() if profile else nullcontext():
        from qat.lab.sweep.study import load_study

        refuse_address(runs)
        _run(load_study(file, parsed(changes), fast=fast), runs, _at(runner, address), sinks, retries)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="Python file that defines get_config().")],
    runs: Runs = None,
    changes: Changes = None,
    sinks: Sinks = None,
) -> None:
    """Run one experiment, start to end, then report."""
    with one_clear_error():
        from qat.lab.sweep.study import load_one

        refuse_address(runs)
        _run(load_one(config, parsed(changes)), runs, "inprocess", sinks, 0)


@app.command()
def search(
    file: Annotated[Path, typer.Argument(help="Python file that defines BASE and SEARCH.")],
    runs: Runs = None,
    changes: Changes = None,
    sinks: Sinks = None,
) -> None:
    """Search a declared space of settings, then report."""
    with one_clear_error():
        from qat.lab.search.run import search_study

        leave_errors_to_us()
        root, found = search_study(file, parsed(changes), runs, sinks or (), stderr())
        report_on(root, None)
        stdout().print(found)


@app.command()
def audit(
    config: Annotated[Path, typer.Argument(help="Python file that defines get_config(), with a recipe.")],
    runs: Runs = None,
    changes: Changes = None,
    draws: Annotated[int, typer.Option("--draws", min=2, help="Draws of each number of samples.")] = 5,
    most: Annotated[int, typer.Option("--most", min=1, help="Samples at most.")] = 2048,
    other: Annotated[str | None, typer.Option("--other", help="Data set, not the model's, that is tried too.")] = None,
) -> None:
    """Tell how many samples calibration needs, by scores on validation data."""
    with one_clear_error():
        from qat.lab.sweep.audit import Extent, audit_file, audit_table

        leave_errors_to_us()
        refuse_address(runs)
        folder, found = audit_file(config, parsed(changes), runs, Extent(draws, most, other), stderr())
        stdout().print(audit_table(found))
        typer.echo(str(folder))


@app.command()
def show(
    file: Annotated[str, typer.Argument(help="An experiment or a config; with --why also a run folder.")],
    runs: Runs = None,
    changes: Changes = None,
    measure: Annotated[bool, typer.Option("--measure", help="Time a few steps for the estimate.")] = False,
    why: Annotated[str | None, typer.Option("--why", help="A trial's id or labels: its keys, what changed.")] = None,
    trust: Trust = False,
) -> None:
    """The resolved config, the trials, and what they will cost; or what one trial's keys are made of."""
    with one_clear_error():
        if why is not None:
            from qat.lab.sweep.why import why as explain

            stdout().print(
                explain(folder_of(file), why, parsed(changes), folder_of(runs) if runs else None, trust=trust)
            )
            return
        from qat.lab.sweep.show import show as shown
        from qat.lab.sweep.study import load_any

        study = load_any(folder_of(file), parsed(changes))
        stdout().print(shown(study, folder_of(runs or f"runs/{study.name}"), measure=measure))


@app.command()
def validate(paths: Annotated[list[Path], typer.Argument(help="Config and experiment files, or folders.")]) -> None:
    """Check files of configs and experiments as far as can be without training."""
    with one_clear_error():
        from qat.lab.sweep.validate import validate as check

        found = check(paths)
        stdout().print(found)
        if found.problems:
            raise typer.Exit(2)


@app.command()
def status(
    runs: Folder,
    check: Annotated[bool, typer.Option("--check", help="Read every file: is it as it was written?")] = False,
) -> None:
    """Show what a sweep is doing, here or on another machine, and which of its files are damaged."""
    with one_clear_error():
        from qat.lab.sweep.status import status as state

        stdout().print(state(folder_of(runs), check))


@app.command()
def replay(
    record: Annotated[str, typer.Argument(help="Folder of a trial: RUNS/trials/ID, or the record.json in it.")],
    trust: Trust = False,
) -> None:
    """Run a trial again, and say whether every number came out the same."""
    with one_clear_error():
        from qat.lab.sweep.replay import replay as again
        from qat.lab.sweep.replay import table

        leave_errors_to_us()
        place = folder_of(record)
        found = again(place.parent if place.is_file() else place, lambda *_: None, trust=trust)
        stdout().print(table(found))
        if not found.same:
            raise typer.Exit(1)


def _run(study: Any, runs: str | None, runner: str, sinks: list[str] | None, retries: int) -> None:
    from qat.lab.runs.study_folder import TRIALS
    from qat.lab.sweep.run import run_study

    leave_errors_to_us()
    root = folder_of(runs or f"runs/{study.name}")
    outcome = run_study(study, root, runner=runner, send=sinks or (), retries=retries, console=stderr())
    if sum(name.startswith(f"{TRIALS}/") for name in outcome.failed) < len(study.trials):
        report_on(root, None)
    if outcome.failed:
        typer.secho(outcome.summary(root), fg="red", err=True)
        raise typer.Exit(1)


@contextmanager
def _profiled() -> Iterator[None]:
    """Print, at the end, where the time went."""
    from qat.lab.sweep.profile import profiled

    with profiled() as found:
        yield
    stderr().print(found.table())


def _at(runner: str, address: str | None) -> str:
    """The runner's text with the address among its arguments."""
    if address is None:
        return runner
    name, _, arguments = runner.rstrip(")").partition("(")
    return f"{name}({arguments}{', ' if arguments else ''}address={address!r})"
