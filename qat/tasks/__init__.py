"""Tasks by name; a data set says which one is its own. A new file here that registers a function is a new task.

What a metric is can be read without the tasks, which need jax: they are imported when they are first asked for.
"""

import functools
from typing import TYPE_CHECKING, Any

from qat.registry import Registry, forgotten_on_change, load_members
from qat.tasks.metric import Metric, find_metric, fraction

if TYPE_CHECKING:
    from qat.tasks.task import Task, register, tasks

LAZY = ("Task", "register", "tasks")


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from qat.tasks import task

    load_members(__path__, __name__)
    globals().update({lazy: getattr(task, lazy) for lazy in LAZY})
    return globals()[name]


def names() -> list[str]:
    """The registered names, sorted."""
    return _registry().names()


@forgotten_on_change
@functools.cache
def build(name: str) -> "Task":
    """A registered task; the same object at every call, so that what was compiled for it is shared."""
    return _registry().build(name)


def _registry() -> "Registry[Task]":
    from qat.tasks import tasks  # by way of `__getattr__`, which loads the members

    return tasks


__all__ = ["Metric", "Task", "build", "find_metric", "fraction", "names", "register", "tasks"]
