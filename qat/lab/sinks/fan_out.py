"""Several sinks as one that never raises and tells each point once."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qat.lab.runs.layers import operands_in
from qat.lab.runs.metrics import points
from qat.lab.runs.record import Record
from qat.lab.sinks.sink import Origin, Run, sinks

type Warn = Callable[[str], None]


@dataclass(frozen=True)
class Together:
    """A trial's runs in all sinks. What a trial's folder holds of earlier points comes first, so that a trial that is
    continued has whole curves."""

    tell: Callable[[Callable[[Run], None]], None]
    last: dict[str, int] = field(default_factory=dict)

    def metrics(self, stage: str, step: int, values: dict[str, float]) -> None:
        """A point of a training curve; one that is not behind the stage's last is known already."""
        if step <= self.last.get(stage, -1):
            return
        self.last[stage] = step
        self.tell(lambda run: run.metrics(stage, step, values))

    def earlier(self, folder: Path) -> None:
        """Tell the points that `folder` holds already, those that are new."""
        for stage, step, values in points(folder):
            self.metrics(stage, step, values)

    def finish(self, record: Record, folder: Path) -> None:
        """The end: the record, what its folder holds of the curves that was not told yet, and the layers."""
        self.earlier(folder)
        self.tell(lambda run: run.finish(record, operands_in(folder)))

    def failed(self, error: str) -> None:
        """The trial came to nothing, `error` being the one line that says why."""
        self.tell(lambda run: run.failed(error))


def together(texts: Sequence[str], warn: Warn) -> Callable[[Origin], Together]:
    """A function that opens the run of a trial in every sink of `texts`, such as `wandb(project='mine')`.

    Whatever a sink raises goes to `warn` as one line, once, and that sink is silent for the rest of this process; no
    other sink notices, nor does the trial. Use `qat.lab.sinks.build(text)` before to refuse what cannot work at all.
    """
    silent: set[str] = set()

    def attempt(text: str, action: Callable[[], Any]) -> Any:
        if text in silent:
            return None
        try:
            return action()
        except Exception as error:
            silent.add(text)
            warn(f"sink {text!r} stopped: {_one_line(error)}. Trials and their records go on without it.")
            return None

    def start(origin: Origin) -> Together:
        opened = [(text, attempt(text, lambda text=text: sinks.build(text)(origin))) for text in dict.fromkeys(texts)]
        runs: Iterable[tuple[str, Run]] = [(text, run) for text, run in opened if run is not None]

        def tell(action: Callable[[Run], None]) -> None:
            for text, run in runs:
                attempt(text, lambda run=run: action(run))

        return Together(tell)

    return start


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
