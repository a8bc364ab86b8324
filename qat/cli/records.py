"""Commands on what studies left."""

from pathlib import Path
from typing import Annotated

import typer

from qat.clear import one_clear_error
from qat.cli.line import Folder, Margin, app, folder_of, report_on, stdout, warn


@app.command()
def report(runs: Folder, margin: Margin = None) -> None:
    """Tables, pictures and a page from the records of a sweep alone."""
    with one_clear_error():
        report_on(folder_of(runs), margin)


@app.command()
def mcnemar(runs: Folder) -> None:
    """McNemar's test of every arm of a classifier against float and PTQ."""
    with one_clear_error():
        from qat.report.paired import paired, paired_table

        found = paired(folder_of(runs), warn=warn)
        stdout().print(paired_table(found))


@app.command()
def keep(
    runs: Folder,
    file: Annotated[Path, typer.Argument(help="CSV file to write, such as experiments/results/NAME.csv.")],
    metrics: Annotated[list[str], typer.Option("--metric", help="A column: NAME or COLUMN=NAME; repeatable.")],
) -> None:
    """Write the table of a finished sweep, one row an arm and seed, for the repository."""
    with one_clear_error():
        from qat.results import keep as write

        kept = write(runs, file, metrics)
        for problem in kept.attrs["damaged"]:
            warn(problem)
        typer.echo(f"{len(kept)} rows in {file}")


@app.command()
def dashboard(
    runs: Folder,
    port: Annotated[int, typer.Option("--port", help="0 is any free one.")] = 8400,
    margin: Margin = None,
) -> None:
    """The report on localhost, made again as the sweep goes on."""
    with one_clear_error():
        from qat.report.dashboard import serve

        serve(folder_of(runs), port, margin, announce=lambda address: typer.echo(f"{address} (Ctrl-C ends it)"))
