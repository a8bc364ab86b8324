"""Destinations of numbers beside the records on disk: `wandb`, `tensorboard`. Sinks only read: no trial fails for their
sake.

A new file here that registers a function is a new sink.

@sinks.register
def mine() -> Sink: ...

send = together(["wandb", "tensorboard"], warn=print)
run = send(origin)
run.metrics("float", 50, {"loss": 0.3})
run.finish(record, folder)
"""

from qat.lab.sinks.fan_out import Together, together
from qat.lab.sinks.sink import Origin, Run, Sink, register, sinks
from qat.registry import load_members

load_members(__path__, __name__)
build = sinks.build
"""The sink that a text names."""
names = sinks.names
"""The names of all sinks, sorted."""

__all__ = ["Origin", "Run", "Sink", "Together", "build", "names", "register", "sinks", "together"]
