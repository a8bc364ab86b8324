"""The models of a server at work: one thread computes answers, another compares a share of them with float."""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from qat.lab.serving.metrics import Metrics
from qat.lab.serving.servable import Prepared, Result, Servable
from qat.lab.serving.shadow import Disagreement, ShadowRule, Window

BACKLOG = 2  # batches that wait to be compared; further ones are passed over, so that answers never wait for float


class Engine:
    """Computes batches with the model, or with its fallback once that has taken over, for good.

    `tell` is given lines for whoever runs the server. Methods are for the thread of the event loop, but `warm_up`.
    """

    def __init__(
        self,
        model: Servable,
        metrics: Metrics,
        tell: Callable[[str], None],
        fallback: Servable | None = None,
        rule: ShadowRule | None = None,
        seed: int | None = None,
    ):
        self.model, self.fallback, self.fallen_back = model, fallback, None
        self.rule = rule or ShadowRule()
        self._metrics, self._tell = metrics, tell
        self._window, self._random = Window(self.rule), random.Random(seed)
        self._comparing: set[asyncio.Task[None]] = set()
        self._answers = ThreadPoolExecutor(1, "answers")
        self._comparisons = ThreadPoolExecutor(1, "comparisons")

    fallen_back: str | None
    """The reason why the fallback answers; None while the model itself does."""

    @property
    def answering(self) -> Servable:
        """The model that answers now."""
        return self.fallback if self.fallback is not None and self.fallen_back else self.model

    @property
    def disagreement(self) -> Disagreement:
        """The disagreement of model and fallback over the last comparisons."""
        return self._window.disagreement

    def warm_up(self) -> Iterator[str]:
        """Compile all that may be called, one program at each step, which is told before it is done."""
        for servable in filter(None, (self.model, self.fallback)):
            yield from servable.warm_up()

    async def run(self, batch: list[Prepared]) -> list[Result]:
        """The results of a batch, in order."""
        self._metrics.batch_size.observe(len(batch))
        loop = asyncio.get_running_loop()
        results = await loop.run_in_executor(self._answers, self.answering.run, batch)
        self._shadow(batch, results)
        return results

    async def settle(self) -> None:
        """Wait for the comparisons under way."""
        while self._comparing:
            await asyncio.wait(self._comparing)

    def close(self) -> None:
        """Let the threads end with what they are at."""
        for pool in (self._answers, self._comparisons):
            pool.shutdown(wait=False, cancel_futures=True)

    def _shadow(self, batch: Sequence[Prepared], results: Sequence[Result]) -> None:
        """Have a share of the inputs compared, later and elsewhere."""
        if self.fallback is None or self.fallen_back or not self.rule.share:
            return
        chosen = [pair for pair in zip(batch, results, strict=True) if self._random.random() < self.rule.share]
        if not chosen:
            return
        if len(self._comparing) >= BACKLOG:
            self._metrics.passed_over.inc(len(chosen))
            return
        task = asyncio.create_task(self._compare(self.fallback, chosen))
        self._comparing.add(task)
        task.add_done_callback(self._comparing.discard)

    async def _compare(self, other: Servable, chosen: Sequence[tuple[Prepared, Result]]) -> None:
        def differences() -> list[float]:
            theirs = other.run([prepared for prepared, _ in chosen])
            differ = other.form.differ
            return [differ(own.row, their.row) for (_, own), their in zip(chosen, theirs, strict=True)]

        try:
            found = await asyncio.get_running_loop().run_in_executor(self._comparisons, differences)
        except Exception as error:  # a comparison that fails is no reason to stop answering
            self._tell(f"Warning: a comparison with {other.name} failed: {error}")
            return
        for value in found:
            self._window.add(value)
        now = self.disagreement
        self._metrics.compared(now, len(found))
        if now.lower > self.rule.most and not self.fallen_back:
            self._fall_back(other, now)

    def _fall_back(self, other: Servable, now: Disagreement) -> None:
        self.fallen_back = (
            f"{self.model.name} and {other.name} disagree on {now.mean:.2%} of the last {now.count} compared inputs, "
            f"by a lower bound of {self.rule.confidence:.1%} confidence on more than {now.lower:.2%}, where "
            f"{self.rule.most:.2%} is allowed"
        )
        self._metrics.fell_back(other.name)
        self._tell(f"Warning: {self.fallen_back}. From now on {other.name} answers.")
