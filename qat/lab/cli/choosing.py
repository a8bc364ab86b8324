"""Commands that choose the bits of a model's layers, and the one that holds them against a target."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from qat.lab.cli.app import (
    Changes,
    Runs,
    Trust,
    app,
    leave_errors_to_us,
    one_clear_error,
    parsed,
    refuse_address,
    stderr,
    stdout,
)

Config = Annotated[Path, typer.Argument(help="Config file with get_config(), or JSON of a command.")]
Out = Annotated[Path | None, typer.Option("--out", help="JSON file of the resulting config, for `qat run`.")]


@app.command()
def allocate(
    config: Config,
    budget: Annotated[str | None, typer.Option("--budget", help="'size(bits=4.5)', 'operations(bits=4)', ...")] = None,
    runs: Runs = None,
    changes: Changes = None,
    out: Out = None,
) -> None:
    """Choose bits for every layer within a budget, never below the uniform recipe."""
    with one_clear_error():
        from qat.lab.search.bits import allocate_file

        refuse_address(runs)
        leave_errors_to_us()
        chosen = {} if budget is None else {"allocation": budget}
        table, path = allocate_file(config, parsed(changes) | chosen, runs, out, _report())
        stdout().print(table)
        typer.echo(f"qat run {path}")


@app.command()
def guard(
    config: Config,
    max_drop: Annotated[float, typer.Option("--max-drop", help="Limit on the drop, in the metric's unit: points.")],
    fallback: Annotated[Literal["none", "float"], typer.Option("--fallback", help="What to keep if unmet.")] = "none",
    runs: Runs = None,
    changes: Changes = None,
    out: Out = None,
) -> None:
    """Return layers to more bits or float until the drop is shown to be below a limit; exit code 1 if it cannot be."""
    with one_clear_error():
        from qat.lab.search.guard import guard_file

        refuse_address(runs)
        leave_errors_to_us()
        kept = fallback == "float"
        held = guard_file(config, max_drop, parsed(changes), runs, out, fallback=kept, report=_report())
        stdout().print(held.table())
        typer.echo(held.words)
        if held.config is not None:
            typer.echo(f"qat run {held.config}")
        if held.guarded.chosen is None and not kept:
            raise typer.Exit(1)


@app.command("check-target")
def check_target(
    model: Annotated[str, typer.Argument(help="Config file with a recipe, or folder of a trial, RUNS/trials/ID.")],
    target: Annotated[str, typer.Option("--target", help="ort-cpu, openvino-cpu, ...: see `qat list targets`.")],
    changes: Changes = None,
    fold: Annotated[bool, typer.Option("--fold-norms", help="With batch norms folded into the layers.")] = False,
    trust: Trust = False,
) -> None:
    """Tell site by site what will run in integers on a target and what will not, and why; exit code 1 where the recipe
    asks for what the target lacks."""
    with one_clear_error():
        from qat.export.targets import recipe_for
        from qat.lab.sweep.on_target import check_file_or_trial

        found = check_file_or_trial(model, target, parsed(changes), fold=fold, trust=trust)
        stdout().print(found)
        if not found.satisfied:
            typer.echo(f"a recipe that suits {found.target.name}: {recipe_for(target).name}")
            raise typer.Exit(1)


def _report() -> Any:
    """Tell each stage once on the stream for progress."""
    told: set[str] = set()

    def report(kind: str, step: int, steps: int, loss: float | None) -> None:
        del step, steps, loss
        if kind not in told:
            told.add(kind)
            stderr().print(f"{kind} ...", style="dim")

    return report
