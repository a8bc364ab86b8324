"""Requests over HTTP: each gets an answer that says what it is, and what cannot be served now may come again."""

import asyncio
import json

import numpy as np
import pytest
from served import QUICK, Doubling, figure, predict, serving, until

from qat.lab.serving.batching import Limits
from qat.lab.serving.servable import OTHER_INPUT, Rejected, numbers

JSON = {"content-type": "application/json"}
TEXT = {"content-type": "text/plain"}
WRONG = {
    "no JSON": (b'{"inputs": [1', JSON, 400, "the body is not JSON"),
    "nested too deeply": (b"[" * 1990, JSON, 400, "nested too deeply"),
    "not UTF-8": (b'{"inputs": ["\xff"]}', JSON, 400, "the body is not JSON"),
    "nothing": (b"", JSON, 400, "the body must hold numbers"),
    "no inputs": (b"{}", JSON, 422, "with at least one input"),
    "an empty list": (b'{"inputs": []}', JSON, 422, "with at least one input"),
    "a list alone": (b"[1]", JSON, 422, "with at least one input"),
    "an input of another kind": (b'{"inputs": [1, "two"]}', JSON, 422, r"inputs\[1\]: .*array of numbers.*'two'"),
    "not a number": (b'{"inputs": [NaN]}', JSON, 422, "NaN or infinity"),
    "another type": (b"\x89PNG", {"content-type": "image/png"}, 415, r"takes numbers \(doubling\) as application/json"),
    "too large": (b"1" * 2001, TEXT, 413, "at most 2,000 bytes"),
    "too many": (json.dumps({"inputs": [1] * 9}).encode(), JSON, 413, "at most 8 inputs, got 9"),
    "a form": (
        b"--x",
        {"content-type": "multipart/form-data; boundary=x"},
        415,
        "as application/json, text/plain, got .multipart",
    ),
    "a wrong length": (b"1", {**TEXT, "content-length": "-1"}, 400, "Content-Length must be a number"),
}


def served(use, model=None, **more):
    """Run `use(service, client, model)`."""

    async def main():
        made = model or Doubling()
        async with serving(made, **more) as (service, client):
            await use(service, client, made)

    asyncio.run(main())


def test_answers_are_in_the_order_of_the_inputs_and_name_the_model():
    async def use(_, client, __):
        assert (await predict(client, 1, 2.5, -3)).json() == {
            "model": "int8",
            "outputs": [{"twice": 2.0}, {"twice": 5.0}, {"twice": -6.0}],
        }
        raw = await client.post("/predict", content=b"4", headers={"content-type": "text/plain; charset=utf-8"})
        assert raw.json()["outputs"] == [{"twice": 8.0}]

    served(use)


def test_requests_at_once_share_batches_and_none_is_lost():
    async def use(_, client, model):
        found = await asyncio.gather(*(predict(client, i) for i in range(8)))
        assert [one.json()["outputs"] for one in found] == [[{"twice": 2.0 * i}] for i in range(8)]
        assert len(model.batches) < 8
        text = (await client.get("/metrics")).text
        assert figure(text, 'requests_total{status="200"}') == 8
        assert figure(text, "batch_size_sum") == figure(text, "request_seconds_count") == 8

    served(use)


def test_each_wrong_request_gets_its_own_status_and_a_clear_message():
    async def use(_, client, model):
        for name, (body, headers, status, told) in WRONG.items():
            answer = await client.post("/predict", content=body, headers=headers)
            assert answer.status_code == status, name
            with pytest.raises(Rejected, match=told):
                raise Rejected(status, answer.json()["error"])
        assert model.batches == []
        assert (await client.get("/predict")).status_code == 405
        assert (await predict(client, 1)).status_code == 200

    served(use)


def test_a_body_without_a_length_is_cut_off_where_it_gets_too_large():
    async def use(_, client, __):
        sent = 0

        async def endless():
            nonlocal sent
            while sent < 100:
                sent += 1
                yield b"1" * 500

        answer = await client.post("/predict", content=endless(), headers=TEXT)
        assert answer.status_code == 413

    served(use)


def test_a_full_queue_says_when_to_come_again():
    async def use(service, client, model):
        model.gate.clear()
        running = asyncio.create_task(predict(client, 0))
        await until(model.begun.is_set)
        waiting = [asyncio.create_task(predict(client, i)) for i in range(1, 9)]
        await until(lambda: service.batcher.length == 8)
        refused = await predict(client, 9)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "8 inputs wait already" in refused.json()["error"]
        assert figure((await client.get("/metrics")).text, "queue_length") == 8
        model.gate.set()
        assert {one.status_code for one in await asyncio.gather(running, *waiting)} == {200}
        assert (await predict(client, 9)).status_code == 200

    served(use)


def test_bodies_that_are_being_read_take_no_more_memory_than_there_is_room_for():
    async def use(service, client, _):
        release = asyncio.Event()

        async def slow():
            yield b"1"
            await release.wait()

        reading = [asyncio.create_task(client.post("/predict", content=slow(), headers=TEXT)) for _ in range(32)]
        await until(lambda: service.room._left == 0)
        refused = await predict(client, 1)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        release.set()
        # Eight wait at most, the others are told so: either way each is answered, and its room is given back.
        assert {one.status_code for one in await asyncio.gather(*reading)} <= {200, 503}
        assert service.room._left == 32 * QUICK.max_body

    served(use)


def test_a_request_that_takes_too_long_ends_and_leaves_the_queue():
    async def use(service, client, model):
        model.gate.clear()
        first = asyncio.create_task(predict(client, 0))
        await until(model.begun.is_set)
        late = await predict(client, 1)
        assert (late.status_code, service.batcher.length) == (504, 0)
        assert (await first).status_code == 504
        model.gate.set()
        assert (await predict(client, 2)).json()["outputs"] == [{"twice": 4.0}]
        assert [1.0] not in model.batches

    served(use, limits=Limits(max_batch=1, max_wait=0, timeout=0.2))


def test_a_body_that_does_not_come_ends_the_request():
    async def use(_, client, __):
        async def never():
            yield b"1"
            await asyncio.sleep(10)

        answer = await client.post("/predict", content=never(), headers=TEXT)
        assert (answer.status_code, "was not there" in answer.text) == (408, True)

    served(use, limits=Limits(timeout=0.1))


def test_a_model_that_fails_is_an_error_of_the_server_and_the_next_request_is_served(caplog):
    async def use(_, client, model):
        model.fails = True
        assert (await predict(client, 1)).status_code == 500
        model.fails = False
        assert (await predict(client, 1)).status_code == 200

    served(use)
    assert "it broke" in caplog.text


def test_before_the_warm_up_is_done_nothing_is_taken_and_health_says_so():
    model = Doubling()
    model.gate.clear()

    async def use(service, client, _):
        health = await client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "warming up")
        assert (await predict(client, 1)).status_code == 503
        model.gate.set()
        await until(lambda: service.state == "ready")
        assert (await client.get("/health")).json()["status"] == "ready"
        assert (await predict(client, 1)).status_code == 200

    served(use, model, wait=False)


def test_all_sizes_are_warmed_up_for_model_and_fallback():
    async def main():
        model, fallback = Doubling(), Doubling()
        async with serving(model, fallback):
            pass
        return fallback.batches

    assert [len(batch) for batch in asyncio.run(main())] == [1, 2, 4]


def test_a_warm_up_that_fails_ends_the_server_with_its_error():
    async def main():
        async with serving(Doubling(fails=True)) as (service, client):
            assert service.state == "stopping"
            assert (await client.get("/health")).status_code == 503
            return service.failure

    assert "it broke" in str(asyncio.run(main()))


def test_at_the_end_what_waits_is_answered_and_new_requests_are_not_taken():
    async def use(service, client, model):
        model.gate.clear()
        taken = [asyncio.create_task(predict(client, 0))]
        await until(model.begun.is_set)
        taken += [asyncio.create_task(predict(client, i)) for i in range(1, 6)]
        await until(lambda: service.batcher.length == 5)
        service.stop()
        refused = await predict(client, 9)
        assert (refused.status_code, refused.json()["error"]) == (503, "the server is stopping.")
        assert (await client.get("/health")).json()["status"] == "stopping"
        model.gate.set()
        assert [one.json()["outputs"][0]["twice"] for one in await asyncio.gather(*taken)] == [0, 2, 4, 6, 8, 10]

    served(use)


@pytest.mark.parametrize("value", [[1, [2]], "x", None, {}, [1], [[1, "2"]]], ids=str)
def test_what_is_no_array_of_the_shape_is_rejected(value):
    with pytest.raises(Rejected, match="must be an array") as caught:
        numbers(value, (1, 2), np.dtype(np.float32))
    assert caught.value.status == OTHER_INPUT


@pytest.mark.parametrize("value", [[256, 0], [-1, 0], [0.5, 0]], ids=str)
def test_bytes_are_whole_numbers_of_their_range(value):
    with pytest.raises(Rejected, match="whole numbers from 0 to 255"):
        numbers(value, (2,), np.dtype(np.uint8))
