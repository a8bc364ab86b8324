"""The command that writes a trial's model for another runtime."""

from typing import Annotated, Any

import typer

from qat.lab.cli.app import Trust, app, one_clear_error


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="Folder of a finished trial, RUNS/trials/ID.")],
    to: Annotated[str, typer.Option("--to", help="Exporter, such as stablehlo: see `qat list exporters`.")],
    target: Annotated[str | None, typer.Option("--target", help="The runtime that the file is for.")] = None,
    batch: Annotated[str | None, typer.Option("--batch", help="A number or 'dynamic', the default where it can.")] = (
        None
    ),
    out: Annotated[str | None, typer.Option("--out", help="The file; by default beside the trial's record.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Of a detector the network's outputs, not detections.")] = False,
    trust: Trust = False,
) -> None:
    """Write a trial's model, quantized or float, as a file that another runtime runs, and FILE.json beside it."""
    with one_clear_error():
        from qat.lab.inspect.export import export_trial

        length: Any = int(batch) if batch is not None and batch.isdecimal() else batch
        done = export_trial(model, to, out=out, batch=length, target=target, raw=raw, trust=trust)
        for note in done.notes:
            typer.echo(note)
        typer.echo(f"{done.bytes:,} bytes in {done.path}")
