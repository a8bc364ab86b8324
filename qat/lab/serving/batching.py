"""Inputs of many requests joined to batches: a bounded queue, and a deadline by which a batch starts."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import KW_ONLY, dataclass

from qat.lab.serving.servable import Prepared, Result

MEGA = 1 << 20

type Run = Callable[[list[Prepared]], Awaitable[list[Result]]]


@dataclass(frozen=True)
class Limits:
    """Bounds of a server: inputs in a batch, seconds that the first of them waits for others, inputs that wait at most,
    seconds for the whole of a request, and bytes of a request's body."""

    _: KW_ONLY
    max_batch: int = 16
    max_wait: float = 0.005
    queue: int = 256
    timeout: float = 10.0
    max_body: int = 8 * MEGA

    def __post_init__(self) -> None:
        for name, least in (("max_batch", 1), ("queue", 1), ("max_body", 1), ("max_wait", 0.0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}.")
        if not self.timeout > self.max_wait:
            raise ValueError(
                f"`timeout` must be longer than `max_wait`, got {self.timeout} and {self.max_wait} s: a request would "
                "end before its batch starts."
            )


class Full(Exception):  # noqa: N818  # told to the client, who may come again
    """The queue has no room for these inputs now."""


@dataclass(frozen=True)
class Waiting:
    """An input in the queue, the future of its result, and since when it waits by the loop's clock."""

    prepared: Prepared
    result: asyncio.Future[Result]
    since: float


class Batcher:
    """A queue that one task empties: inputs of one group go into a batch, which starts once it is full or its first
    input has waited for `max_wait`. While a batch is computed the next one gathers.

    `run` computes a batch; what it raises is raised for each of the batch's inputs. All methods are for the thread of
    the event loop.
    """

    def __init__(self, run: Run, limits: Limits):
        self._run, self._limits = run, limits
        # Invariant: no lane is empty, each is in the order of arrival, and `length` is the sum of their lengths.
        self._lanes: dict[Hashable, deque[Waiting]] = {}
        self._changed = asyncio.Event()
        self._closing = False
        self.length = 0

    def submit(self, inputs: Sequence[Prepared]) -> list[asyncio.Future[Result]]:
        """Queue all inputs of a request, or none: raises `Full` where there is no room for all, or the end has come."""
        if self._closing or self.length + len(inputs) > self._limits.queue:
            raise Full
        loop = asyncio.get_running_loop()
        added = [Waiting(one, loop.create_future(), loop.time()) for one in inputs]
        for one in added:
            self._lanes.setdefault(one.prepared.group, deque()).append(one)
        self.length += len(added)
        self._changed.set()
        return [one.result for one in added]

    def withdraw(self, results: Sequence[asyncio.Future[Result]]) -> None:
        """Give up inputs whose request has ended: those that still wait leave the queue, and make room."""
        for result in results:
            if not result.cancel() and not result.cancelled():
                result.exception()  # else asyncio logs that nobody looked at it
        for group, lane in list(self._lanes.items()):
            self._keep(group, deque(one for one in lane if not one.result.done()))

    async def serve(self) -> None:
        """Compute batches until `close` was called and nothing waits any more."""
        while self._lanes or not self._closing:
            group = self._due()
            if group is None:
                await self._news()
                continue
            lane = self._lanes[group]
            batch = [lane.popleft() for _ in range(min(len(lane), self._limits.max_batch))]
            self.length -= len(batch)
            if not lane:
                del self._lanes[group]
            await self._compute([one for one in batch if not one.result.done()])

    def close(self) -> None:
        """Take no more inputs, and compute what waits at once."""
        self._closing = True
        self._changed.set()

    def _due(self) -> Hashable | None:
        """The group whose batch is to start now: that of the longest waiting input if it has waited long enough, so
        that none waits for ever, else one that fills a batch."""
        if not self._lanes:
            return None
        oldest = min(self._lanes, key=lambda group: self._lanes[group][0].since)
        if self._closing or self._deadline(oldest) <= asyncio.get_running_loop().time():
            return oldest
        return next((group for group, lane in self._lanes.items() if len(lane) >= self._limits.max_batch), None)

    def _deadline(self, group: Hashable) -> float:
        return self._lanes[group][0].since + self._limits.max_wait

    async def _news(self) -> None:
        """Wait for an input, for the next deadline, or for the end."""
        self._changed.clear()
        try:
            async with asyncio.timeout_at(min(map(self._deadline, self._lanes), default=None)):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _compute(self, batch: list[Waiting]) -> None:
        if not batch:
            return
        try:
            rows = await self._run([one.prepared for one in batch])
        except Exception as error:
            for one in batch:
                if not one.result.done():
                    one.result.set_exception(error)
            return
        for one, row in zip(batch, rows, strict=True):
            if not one.result.done():
                one.result.set_result(row)

    def _keep(self, group: Hashable, lane: deque[Waiting]) -> None:
        self.length -= len(self._lanes[group]) - len(lane)
        if lane:
            self._lanes[group] = lane
        else:
            del self._lanes[group]
