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


@app.command()
def bench(
    models: Annotated[list[str], typer.Argument(help="Folders of finished trials, and files that were exported.")],
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of every runtime.")] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Examples of a call.")] = 1,
    rounds: Annotated[int, typer.Option("--rounds", min=5, help="Calls of each that are timed, in turns.")] = 30,
    cold: Annotated[bool, typer.Option(help="Start each in a process of its own too: memory and cold start.")] = True,
    sites: Annotated[int, typer.Option("--sites", min=0, help="Slowest operators that ONNX Runtime's times show.")] = 0,
    trust: Trust = False,
) -> None:
    """Time models in XLA and exported files in ONNX Runtime and OpenVINO, in turns, as ratios to float in XLA."""
    with one_clear_error():
        from qat.lab.jobs.threads import cores, on_cores, using

        with using(threads or len(cores())), on_cores(threads or len(cores())):
            from qat.lab.inspect.bench import Extent
            from qat.lab.inspect.bench import bench as run
            from qat.lab.inspect.bench_tables import operator_table, ratio_table

            extent = Extent(rounds=rounds, batch=batch, threads=threads, cold=cold)
            found = run(models, extent, trust=trust)
        for line in found.left_out:
            typer.echo(f"Left out: {line}", err=True)
        for name, times in found.operators.items() if sites else ():
            stdout().print(operator_table(name, times[:sites]))
        stdout().print(ratio_table(found, extent))
