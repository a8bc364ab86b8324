"""Functions that take turns in one process, and ask for things that are done for several of them at once.

Each runs in a thread of its own, but one at a time: until it asks for something, or ends. Once all that have not ended
have asked, all requests are answered together, in the thread that called. So each function stays a plain one, with its
own course, its own errors and its own files, and what is alike in them costs once.
"""

import contextvars
import threading
from collections.abc import Callable, Sequence
from typing import Any

type Share = Callable[[Any], Any]
"""Asks for the result of a request; raises what is the answer to it where that is an error."""
type Answer = Callable[[Sequence[Any]], Sequence[Any]]
"""From requests to their results, or an exception in the place of one."""


class Stopped(KeyboardInterrupt):
    """Raised in a function that asks, or reports, once all are to end."""


class _Turn(threading.Thread):
    """A function's thread: it runs between `resume` and its next request or its end."""

    def __init__(self, function: Callable[[Share], Any], stopped: threading.Event):
        context = contextvars.copy_context()
        super().__init__(name="turn", target=context.run, args=(self._work,), daemon=True)
        self._function, self._stopped = function, stopped
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self.over, self.result, self.error = False, None, None
        self.request: Any = None
        self.reply: Any = None

    def resume(self) -> None:
        """Let the function run until it asks for something, or ends."""
        if not self.ident:
            self.start()
        self._go.release()
        self._back.acquire()  # an interrupt of the calling thread gets through here

    def stop(self) -> None:
        """Wake the function, where it waits, to end; wait until it has."""
        if self.ident and not self.over:
            self._go.release()
            self.join()

    def _work(self) -> None:
        self._go.acquire()
        try:
            if not self._stopped.is_set():
                self.result = self._function(self._share)
        except BaseException as error:
            self.error = error
        self.over = True
        self._back.release()

    def _share(self, request: Any) -> Any:
        if self._stopped.is_set():
            raise Stopped
        self.request = request
        self._back.release()
        self._go.acquire()
        if self._stopped.is_set():
            raise Stopped
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


def has_turn() -> bool:
    """Whether this is the thread of a function that takes turns."""
    return isinstance(threading.current_thread(), _Turn)


def in_turns(
    functions: Sequence[Callable[[Share], Any]], answer: Answer, stopped: threading.Event | None = None
) -> list[Any]:
    """The result of each function; what one raises goes on once all have ended.

    An interrupt, or an error of `answer` that is none of its answers, sets `stopped` and ends all functions before it
    leaves.
    """
    stopped = stopped or threading.Event()
    turns = [_Turn(function, stopped) for function in functions]
    try:
        waiting = turns
        # Invariant: between two turns no function runs, and those in `waiting` have not ended; each has its reply, or
        # has not begun.
        while waiting:
            for turn in waiting:
                turn.resume()
            waiting = [turn for turn in waiting if not turn.over]
            replies = answer([turn.request for turn in waiting]) if waiting else []
            for turn, reply in zip(waiting, replies, strict=True):
                turn.reply = reply
    except BaseException:
        stopped.set()
        for turn in turns:
            turn.stop()
        raise
    errors = [turn.error for turn in turns if turn.error is not None]
    if errors:
        raise errors[0]
    return [turn.result for turn in turns]
