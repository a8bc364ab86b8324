"""Commands on what studies left."""

from pathlib import Path
from typing import Annotated

import typer

from qat.lab.cli.app import (
    Folder,
    Folders,
    Margin,
    Trust,
    app,
    folder_of,
    one_clear_error,
    report_on,
    stderr,
    stdout,
    warn,
)


@app.command()
def report(runs: Folders, margin: Margin = None) -> None:
    """Tables, pictures and a page from the records of a sweep alone; of several sweeps of one task, oldest first, one
    page that tells what changed; of a kept table, FILE.csv, its verdicts again."""
    with one_clear_error():
        from qat.lab.report.kept import KEPT
        from qat.lab.report.write import tell_across, tell_kept

        kept = [one for one in runs if Path(one).suffix in KEPT]
        if kept and len(runs) > 1:
            raise ValueError(f"`runs` must be folders where there are several, got the kept table {kept[0]!r}.")
        if kept:
            tell_kept(Path(kept[0]), margin, stdout())
        elif len(runs) > 1:
            tell_across([folder_of(one) for one in runs], margin, stdout(), stderr())
        else:
            report_on(folder_of(runs[0]), margin)


@app.command()
def mcnemar(runs: Folder) -> None:
    """McNemar's test of every arm of a classifier against float and PTQ."""
    with one_clear_error():
        from qat.lab.report.mcnemar import paired, paired_table

        found = paired(folder_of(runs), warn=warn)
        stdout().print(paired_table(found))


@app.command()
def keep(
    runs: Folder,
    file: Annotated[Path, typer.Argument(help="CSV file to write, such as experiments/results/NAME.csv.")],
    metrics: Annotated[list[str], typer.Option("--metric", help="A column: NAME or COLUMN=NAME; repeatable.")],
) -> None:
    """Write the table of a finished sweep, one row an arm and seed, for the repository, and beside it FILE.npz: the
    outcome on each test example, from which `qat report` and `qat mcnemar` recompute its verdicts."""
    with one_clear_error():
        from qat.lab.report.kept import keep_outcomes
        from qat.lab.runs import keep as write
        from qat.lab.runs.study_folder import holds_study

        kept = write(runs, file, metrics)
        for problem in kept.attrs["damaged"]:
            warn(problem)
        typer.echo(f"{len(kept)} rows in {file}")
        if holds_study(folder_of(runs)):
            typer.echo(f"their outcomes in {keep_outcomes(folder_of(runs), file)}")


@app.command()
def dashboard(
    runs: Folder,
    port: Annotated[int, typer.Option("--port", help="0 is any free one.")] = 8400,
    margin: Margin = None,
) -> None:
    """The report on localhost, made again as the sweep goes on."""
    with one_clear_error():
        from qat.lab.report.server import serve

        serve(folder_of(runs), port, margin, announce=lambda address: typer.echo(f"{address} (Ctrl-C ends it)"))


@app.command()
def detect(
    model: Annotated[str, typer.Argument(help="Folder of a finished trial of a detector, RUNS/trials/ID.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the pictures and results.json.")] = Path("detected"),
    template: Annotated[Path | None, typer.Option("--template", help="The defect-free board.")] = None,
    compared: Annotated[str | None, typer.Option("--compare", help="'float', or another trial's folder.")] = None,
    threshold: Annotated[float | None, typer.Option("--threshold", help="Least score that is drawn.")] = None,
    annotations: Annotated[Path | None, typer.Option("--annotations", help="COCO file that numbers images.")] = None,
    convert: Annotated[bool, typer.Option("--convert", help="Convert images of another colour mode.")] = False,
    trust: Trust = False,
) -> None:
    """Draw what a detector finds on images, and write a COCO results file."""
    with one_clear_error():
        from qat.lab.inspect.detector import detect as run_on

        more = {"template": template, "compare": compared, "threshold": threshold}
        done = run_on(model, images, out, **more, annotations=annotations, convert=convert, trust=trust)
        typer.echo(f"{sum(done.counts)} found on {len(done.pictures)} images, score >= {done.threshold:.2f}")
        typer.echo(str(done.results))


@app.command()
def texts(
    trial: Annotated[str, typer.Argument(help="Folder of a finished trial of a text classifier, RUNS/trials/ID.")],
    compared: Annotated[str | None, typer.Option("--compare", help="Another trial; default: its float model.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="CSV file of all texts on which the two differ.")] = None,
    most: Annotated[int, typer.Option("--most", min=0, help="Texts that are shown.")] = 20,
    trust: Trust = False,
) -> None:
    """Confusion matrices of a classifier and its float model, and the texts on which they differ."""
    with one_clear_error():
        from qat.lab.inspect.text import compare, tables

        found = compare(trial, compared, trust=trust)
        for table in tables(found, most):
            stdout().print(table)
        if out is not None:
            found.write(out)
            typer.echo(str(out))
