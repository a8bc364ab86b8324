"""Commands on exported files: whether they are what was measured, and how fast they run."""

from typing import Annotated

import typer

from qat.lab.cli.app import Trust, app, one_clear_error, stdout


@app.command()
def parity(
    model: Annotated[str, typer.Argument(help="Folder of a finished trial, RUNS/trials/ID.")],
    exported: Annotated[str, typer.Argument(help="File that `qat export` wrote of it.")],
    inputs: Annotated[str, typer.Argument(help="A split of the trial's data, or a file .npz of inputs.")] = "test",
    limit: Annotated[int, typer.Option("--limit", min=0, help="Examples that are compared; 0 is all.")] = 256,
    runtime: Annotated[
        list[str] | None, typer.Option("--runtime", help="Runtimes to compare in, by default all here; repeatable.")
    ] = None,
    code_share: Annotated[
        float | None, typer.Option("--max-code-share", help="Share of codes that may differ, each site by itself.")
    ] = None,
    code_difference: Annotated[
        int | None, typer.Option("--max-code-difference", help="Largest difference of a code, each site by itself.")
    ] = None,
    output: Annotated[float | None, typer.Option("--max-output", help="Largest difference of an output.")] = None,
    metric_drop: Annotated[
        float | None, typer.Option("--max-metric-drop", help="Drop of the task's metric below the served model's.")
    ] = None,
    trust: Trust = False,
) -> None:
    """Compare an exported file with its model, site by site, and write the certificate parity.json beside it; exit
    status 1 where a bound is broken."""
    with one_clear_error():
        from qat.export.parity import Bounds
        from qat.lab.inspect.parity import parity_of_trial
        from qat.lab.report.parity import sentences, tables

        bounds = Bounds(code_share=code_share, code_difference=code_difference, output=output, metric_drop=metric_drop)
        found, path = parity_of_trial(
            model,
            exported,
            inputs,
            limit=limit or None,
            bounds=bounds,
            runtimes=tuple(runtime or ()),
            trust=trust,
            tell=lambda line: typer.echo(line, err=True),
        )
        for table in tables(found):
            stdout().print(table)
        for line in sentences(found):
            typer.echo(line)
        typer.echo(str(path))
        if found.broken:
            raise typer.Exit(1)
