"""Tasks by name; a data set says which one is its own. A new file here that registers a function is a new task."""

import functools

from qat.registry import forgotten_on_change, load_members
from qat.tasks.task import Task, register, tasks

load_members(__path__, __name__)
names = tasks.names


@forgotten_on_change
@functools.cache
def build(name: str) -> Task:
    """A registered task; the same object at every call, so that what was compiled for it is shared."""
    return tasks.build(name)


__all__ = ["Task", "build", "names", "register", "tasks"]
