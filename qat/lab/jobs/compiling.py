"""Reports on the program that is compiled while a job says nothing: a large program takes minutes in which nothing else
moves.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

from qat.lab.jobs.events import Compiling, Emit, Event, Progress
from qat.lab.jobs.threads import beside

SILENCE = 10.0  # seconds without news after which it is told what is compiled, and then once more after as many
LOOK_EVERY = 1.0
LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"  # jax's events: a program is ready to be compiled,
BEGUN = "/jax/compilation_cache/compile_requests_use_cache"  # is looked for in the cache, and compiled where it is not,
COMPILED = "/jax/core/compile/backend_compile_duration"  # is compiled

_ready: dict[int, str] = {}  # by thread: the program that was made ready last
_compiled: dict[int, tuple[str, float]] = {}  # by thread: the program that is compiled, and since when


def compiling() -> tuple[str, float] | None:
    """The program that this process compiles, and for how many seconds; of several the one that takes longest."""
    under_way = sorted(_compiled.copy().values(), key=lambda program: program[1])
    return (under_way[0][0], time.monotonic() - under_way[0][1]) if under_way else None


@contextlib.contextmanager
def watched(job: str, emit: Emit) -> Iterator[Emit]:
    """`emit` for the block, which may use it from several threads; what is compiled meanwhile is told by itself."""
    lock = threading.Lock()
    heard, doing = time.monotonic(), ""

    def passed_on(news: Event) -> None:
        nonlocal heard, doing
        # Under the lock, so that a word on compiling never comes between a progress report and the time of it.
        with lock:
            heard = time.monotonic()
            doing = news.what if isinstance(news, Progress) else doing
            emit(news)

    def watch(over: threading.Event) -> None:
        nonlocal heard
        # Invariant: `heard` is when anything was said last, by the job or from here; so this speaks once in
        # `SILENCE`.
        while not over.wait(LOOK_EVERY):
            with lock:
                program = compiling()
                if program and time.monotonic() - heard >= SILENCE and not over.is_set():
                    heard = time.monotonic()
                    emit(Compiling(job, doing, *program))

    if "jax" in sys.modules:
        _listen()
        # A program whose compilation raised has no end among jax's events and would seem to be compiled for ever.
        _compiled.clear()
    with beside(watch, "compiling"):
        yield passed_on


@cache
def _listen() -> None:
    """Have jax tell what it does, from now on."""
    from jax import monitoring

    monitoring.register_event_listener(_on_event)
    monitoring.register_event_duration_secs_listener(_on_duration)


def _on_event(event: str, **_: Any) -> None:
    if event == BEGUN:
        me = threading.get_ident()
        _compiled[me] = _ready.get(me, "a program"), time.monotonic()


def _on_duration(event: str, duration_secs: float, **more: Any) -> None:
    me = threading.get_ident()
    if event == LOWERED:
        _ready[me] = str(more.get("fun_name", "a program")).removeprefix("jit(").removesuffix(")")
    elif event == COMPILED:
        _compiled.pop(me, None)
