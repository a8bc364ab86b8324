"""A line that shows how far a run is, on a terminal; silence elsewhere."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

type Show = Callable[[int, float | None], None]


class _StepsPerSecond(ProgressColumn):
    def render(self, task) -> Text:
        return Text(f"{task.speed:.1f} steps/s" if task.speed else "")


@contextlib.contextmanager
def progress_bar(wanted: bool, description: str, steps: int, start: int) -> Iterator[Show]:
    """A function of (steps done, newest loss or `None`) that redraws the line; draws on stderr, if a terminal."""
    console = Console(stderr=True)
    if not (wanted and console.is_terminal):
        yield lambda _done, _loss: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _StepsPerSecond(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(description, total=steps, completed=start, loss="")

        def show(done: int, loss: float | None) -> None:
            progress.update(task, completed=done, loss="" if loss is None else f"loss {loss:.4g}")

        yield show
