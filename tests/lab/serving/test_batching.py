"""Batches of requests: full or on time, in order, of one shape, and never more in the queue than it may hold."""

import asyncio

import numpy as np
import pytest

from qat.lab.serving.batching import Batcher, Full, Limits
from qat.lab.serving.servable import Prepared, Result, Servable, batch_sizes

LONG = 100.0


def one(value, length=1):
    return Prepared((np.full(length, value),))


class Computing:
    """Keeps the batches that it is given, and answers with the first number of each input once `open` is set."""

    def __init__(self, fails=False):
        self.batches, self.open, self.fails = [], asyncio.Event(), fails
        self.open.set()

    async def __call__(self, batch):
        values = [prepared.arrays[0][0].item() for prepared in batch]
        self.batches.append(values)
        await self.open.wait()
        if self.fails:
            raise RuntimeError("it broke")
        return [Result(value, "model") for value in values]


def batching(limits, use, fails=False):
    """Run `use(batcher, computing)` beside the batcher's own task, which has to end by itself after `close`."""

    async def main():
        computing = Computing(fails)
        batcher = Batcher(computing, limits)
        task = asyncio.create_task(batcher.serve())
        async with asyncio.timeout(20):
            await use(batcher, computing)
            computing.open.set()
            batcher.close()
            await task
        return computing.batches

    return asyncio.run(main())


def test_a_full_batch_starts_at_once_and_each_input_gets_its_own_result():
    async def use(batcher, _):
        results = batcher.submit([one(i) for i in range(8)])
        assert [result.row for result in await asyncio.gather(*results)] == list(range(8))

    assert batching(Limits(max_batch=4, max_wait=LONG, timeout=2 * LONG), use) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_batch_that_does_not_fill_starts_after_the_time_that_its_first_input_may_wait():
    async def use(batcher, _):
        loop = asyncio.get_running_loop()
        started = loop.time()
        first = batcher.submit([one(0)])
        await asyncio.sleep(0.02)
        second = batcher.submit([one(1)])
        await asyncio.gather(*first, *second)
        assert loop.time() - started >= 0.05

    assert batching(Limits(max_batch=4, max_wait=0.05), use) == [[0, 1]]


def test_while_a_batch_is_computed_the_next_one_gathers():
    async def use(batcher, computing):
        computing.open.clear()
        first = batcher.submit([one(0)])
        while not computing.batches:
            await asyncio.sleep(0)
        rest = [batcher.submit([one(i)])[0] for i in (1, 2, 3)]
        await asyncio.sleep(0.01)
        computing.open.set()
        await asyncio.gather(*first, *rest)

    assert batching(Limits(max_batch=4, max_wait=0), use) == [[0], [1, 2, 3]]


def test_inputs_of_other_shapes_are_not_mixed_and_the_longest_waiting_go_first():
    async def use(batcher, computing):
        computing.open.clear()
        blocker = batcher.submit([one(9, 3)])
        while not computing.batches:
            await asyncio.sleep(0)
        results = batcher.submit([one(0, 2), one(1), one(2, 2), one(3), one(4), one(5)])
        await asyncio.sleep(0.005)
        computing.open.set()
        await asyncio.gather(*blocker, *results)

    assert batching(Limits(max_batch=4, max_wait=0), use) == [[9], [0, 2], [1, 3, 4, 5]]


def test_a_full_queue_takes_all_inputs_of_a_request_or_none():
    async def use(batcher, computing):
        computing.open.clear()
        running = batcher.submit([one(0)])
        while not computing.batches:
            await asyncio.sleep(0)
        waiting = batcher.submit([one(1), one(2), one(3)])
        with pytest.raises(Full):
            batcher.submit([one(4), one(5)])
        assert batcher.length == 3
        last = batcher.submit([one(6)])
        with pytest.raises(Full):
            batcher.submit([one(7)])
        computing.open.set()
        await asyncio.gather(*running, *waiting, *last)
        assert batcher.length == 0

    assert batching(Limits(max_batch=4, max_wait=0, queue=4), use) == [[0], [1, 2, 3, 6]]


def test_inputs_of_a_request_that_has_ended_make_room_and_are_not_computed():
    async def use(batcher, computing):
        computing.open.clear()
        running = batcher.submit([one(0)])
        while not computing.batches:
            await asyncio.sleep(0)
        given_up = batcher.submit([one(1), one(2, 2)])
        kept = batcher.submit([one(3)])
        batcher.withdraw(given_up)
        assert batcher.length == 1
        computing.open.set()
        await asyncio.gather(*running, *kept)

    assert batching(Limits(max_wait=0), use) == [[0], [3]]


def test_a_batch_that_fails_fails_its_own_inputs_and_the_next_one_is_computed():
    async def use(batcher, computing):
        for result in batcher.submit([one(0), one(1)]):
            with pytest.raises(RuntimeError, match="it broke"):
                await result
        computing.fails = False
        assert (await batcher.submit([one(2)])[0]).row == 2

    assert batching(Limits(max_wait=0), use, fails=True) == [[0, 1], [2]]


def test_at_the_end_what_waits_is_computed_without_delay_and_nothing_more_is_taken():
    async def use(batcher, _):
        results = batcher.submit([one(0)])
        batcher.close()
        with pytest.raises(Full):
            batcher.submit([one(1)])
        assert (await results[0]).row == 0

    assert batching(Limits(max_wait=LONG, timeout=2 * LONG), use) == [[0]]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"max_batch": 0}, "`max_batch` must be at least 1, got 0"),
        ({"queue": 0}, "`queue` must be at least 1"),
        ({"max_body": 0}, "`max_body` must be at least 1"),
        ({"max_wait": -1.0}, "`max_wait` must be at least 0"),
        ({"max_wait": float("nan")}, "`max_wait` must be at least 0"),
        ({"timeout": 0.001}, "`timeout` must be longer than `max_wait`"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
def test_bounds_that_would_serve_nothing_are_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        Limits(**wrong)


@pytest.mark.parametrize(("most", "sizes"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (16, (1, 2, 4, 8, 16))])
def test_batches_are_filled_up_to_powers_of_two_and_the_largest_size(most, sizes):
    assert batch_sizes(most) == sizes


def test_what_fills_a_batch_up_widens_no_range_and_is_not_answered():
    seen = []

    def compute(x):
        seen.append(x.tolist())
        return {"twice": 2 * x}

    servable = Servable("model", None, compute, (1, 2, 4))  # pyright: ignore[reportArgumentType]
    results = servable.run([one(5), one(6), one(7)])
    assert seen == [[[5], [6], [7], [5]]]
    assert [result.row["twice"].tolist() for result in results] == [[10], [12], [14]]
