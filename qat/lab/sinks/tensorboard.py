"""TensorBoard by tensorboardX: scalars of every stage, settings with the outcome, layers.

Written by the thread that trains: a full disk is an error here, not a thread that died and a queue that blocks.
"""

import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from qat.lab.runs.record import Record
from qat.lab.sinks.sink import Origin, Row, Run, Sink, final_numbers, flat_config, register, require

FOLDER = "tensorboard"
FLUSH_SECONDS = 10.0


@register
def tensorboard() -> Sink:
    """Event files in `RUNS/tensorboard/<trial>/`: `tensorboard --logdir RUNS/tensorboard` shows the study.

    A trial that is continued writes its file anew, with the points that it had before.
    """
    require("tensorboardX", "tensorboard")
    return _start


def _start(origin: Origin) -> Run:
    from tensorboardX import RecordWriter
    from tensorboardX.summary import hparams, scalar, text

    folder = origin.root / FOLDER / origin.trial
    folder.mkdir(parents=True, exist_ok=True)
    for old in [path for path in folder.iterdir() if "tfevents" in path.name]:
        old.unlink()
    writer = RecordWriter(str(folder / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"))
    writer.write(_event(file_version="brain.Event:2"))
    flushed = [time.monotonic()]

    def metrics(stage: str, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.write(_event(step=step, summary=scalar(f"{stage}/{name}", value)))
        if time.monotonic() - flushed[0] > FLUSH_SECONDS:
            writer.flush()
            flushed[0] = time.monotonic()

    def finish(record: Record, layers: Sequence[Row]) -> None:
        numbers = final_numbers(record)
        settings = {name: value for name, value in flat_config(origin).items() if value is not None}
        summaries = [*hparams(settings, numbers), *(scalar(name, value) for name, value in numbers.items())]
        for summary in [*summaries, *([text("layers", _markdown(layers))] if layers else [])]:
            writer.write(_event(step=0, summary=summary))
        close()

    def close() -> None:
        writer.flush()
        writer.close()

    def failed(error: str) -> None:
        writer.write(_event(step=0, summary=text("failed", error)))
        close()

    return Run(metrics, finish, failed)


def _event(**fields: Any) -> bytes:
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    return Event(wall_time=time.time(), **fields).SerializeToString()


def _markdown(rows: Sequence[Row]) -> str:
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([_cell(row[name]) for name in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    shown = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return shown.replace("|", "\\|")
