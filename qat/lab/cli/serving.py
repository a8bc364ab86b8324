"""The command that puts a trained model behind HTTP."""

from typing import Annotated

import typer

from qat.lab.cli.app import Trust, app, one_clear_error


@app.command()
def serve(
    model: Annotated[str, typer.Argument(help="A finished trial, RUNS/trials/ID, or an exported file in it.")],
    fallback: Annotated[
        str | None, typer.Option("--fallback", help="A float trial that runs beside it, and takes over if need be.")
    ] = None,
    shadow: Annotated[float, typer.Option("--shadow", help="Share of the inputs that float computes too.")] = 0.05,
    max_disagreement: Annotated[
        float, typer.Option("--max-disagreement", help="Share on which the two may disagree before float takes over.")
    ] = 0.02,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; by default this machine's alone.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", help="0 is any free one.")] = 8500,
    max_batch: Annotated[int, typer.Option("--max-batch", help="Inputs that are computed together at most.")] = 16,
    max_wait_ms: Annotated[float, typer.Option("--max-wait-ms", help="Time that an input waits for others.")] = 5.0,
    queue: Annotated[int, typer.Option("--queue", help="Inputs that wait at most; beyond them the answer is 503.")] = (
        256
    ),
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds that a request may take.")] = 10.0,
    max_body: Annotated[float, typer.Option("--max-body", help="Megabytes of a request's body.")] = 8.0,
    threshold: Annotated[float | None, typer.Option("--threshold", help="Least score of a box that is told.")] = None,
    pixel_scale: Annotated[
        float | None, typer.Option("--pixel-scale", help="What a classifier multiplies pixels of image files by.")
    ] = None,
    trust: Trust = False,
) -> None:
    """Answer requests over HTTP from a trial's model, in batches; float beside int8 on a share, with a way back."""
    with one_clear_error():
        from qat.lab.serving.batching import MEGA, Limits
        from qat.lab.serving.run import serve as run
        from qat.lab.serving.shadow import ShadowRule

        limits = Limits(
            max_batch=max_batch,
            max_wait=max_wait_ms / 1000,
            queue=queue,
            timeout=timeout,
            max_body=int(max_body * MEGA),
        )
        run(
            model,
            fallback=fallback,
            host=host,
            port=port,
            limits=limits,
            rule=ShadowRule(share=shadow, most=max_disagreement),
            threshold=threshold,
            pixel_scale=pixel_scale,
            trust=trust,
            tell=lambda line: typer.echo(line, err=True),
        )
