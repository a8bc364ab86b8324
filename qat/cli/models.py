"""Commands on a trained model."""

from pathlib import Path
from typing import Annotated

import typer

from qat.clear import one_clear_error
from qat.cli.line import Trust, app, stdout


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
    trust: Trust = False,
) -> None:
    """Draw what a detector finds on images, and write a COCO results file."""
    with one_clear_error():
        from qat.detect import detect as run_on

        more = {"template": template, "beside": beside, "threshold": threshold}
        done = run_on(model, images, out, **more, annotations=annotations, convert=convert, trust=trust)
        typer.echo(f"{sum(done.counts)} found on {len(done.pictures)} images, score >= {done.threshold:.2f}")
        typer.echo(str(done.results))


@app.command()
def texts(
    trial: Annotated[Path, typer.Argument(help="Folder of a finished trial of a text classifier, RUNS/trials/ID.")],
    beside: Annotated[Path | None, typer.Option("--beside", help="Another trial; its float model.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="CSV file of all texts on which the two differ.")] = None,
    most: Annotated[int, typer.Option("--most", min=0, help="Texts that are shown.")] = 20,
    trust: Trust = False,
) -> None:
    """Confusion matrices of a classifier and its float model, and the texts on which they differ."""
    with one_clear_error():
        from qat.texts import compare, tables

        found = compare(trial, beside, trust=trust)
        for table in tables(found, most):
            stdout().print(table)
        if out is not None:
            found.write(out)
            typer.echo(str(out))
