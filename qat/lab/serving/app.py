"""The HTTP side of a server: predictions, health and metrics, from a warm start to an orderly end."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from qat.lab.serving.batching import Batcher, Full, Limits
from qat.lab.serving.engine import Engine
from qat.lab.serving.metrics import Metrics
from qat.lab.serving.requests import BODIES, BUSY, SLOW, Room, declared_size, inputs_of, read_body
from qat.lab.serving.servable import FAILED, MALFORMED, Prepared, Rejected, Result

LATE = 504
AGAIN = {"Retry-After": "1"}  # seconds
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
LOG = logging.getLogger(__name__)

type State = Literal["warming up", "ready", "stopping"]


class Service:
    """The state that the routes of one server share: models, queue, and whether it takes requests."""

    def __init__(self, engine: Engine, metrics: Metrics, limits: Limits, tell: Callable[[str], None]):
        self.engine, self.metrics, self.limits, self.tell = engine, metrics, limits, tell
        self.batcher = Batcher(engine.run, limits)
        self.room = Room(BODIES * limits.max_body)
        self.state: State = "warming up"
        self.failure: Exception | None = None

    async def work(self) -> None:
        """Warm up, then compute batches until `stop` was called and the queue is empty."""
        try:
            await self._warm_up()
            await self.batcher.serve()
            await self.engine.settle()
        except Exception as error:  # told by whoever started the server, once that is down
            self.failure = error
        finally:
            self.state = "stopping"

    def stop(self) -> None:
        """Answer what waits, and new requests with 503."""
        self.state = "stopping"
        self.batcher.close()

    async def _warm_up(self) -> None:
        started, steps = time.monotonic(), self.engine.warm_up()
        count = 0
        while self.state != "stopping" and await asyncio.to_thread(next, steps, None) is not None:
            count += 1
        if self.state != "stopping":
            self.state = "ready"
            self.metrics.answers_by(self.engine.answering.name)
            self.tell(f"ready: {count} programs in {time.monotonic() - started:.0f} s")


def app(
    service: Service, started: Callable[[], None] = lambda: None, ended: Callable[[], None] = lambda: None
) -> Starlette:
    """The application: `POST /predict`, `GET /health` and `GET /metrics`. `started` is called in the event loop before
    requests are taken, `ended` when the queue is empty after `stop`."""

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        task = asyncio.create_task(service.work())
        task.add_done_callback(lambda _: ended())
        started()
        try:
            yield
        finally:
            service.stop()
            await task
            service.engine.close()

    async def predict(request: Request) -> Response:
        return await _predict(service, request)

    async def health(_: Request) -> Response:
        ready = service.state == "ready"
        return JSONResponse(_health(service), 200 if ready else BUSY, headers=None if ready else AGAIN)

    async def figures(_: Request) -> Response:
        service.metrics.queue_length.set(service.batcher.length)
        return Response(service.metrics.text(), media_type=PROMETHEUS)

    routes = [
        Route("/predict", predict, methods=["POST"]),
        Route("/health", health),
        Route("/metrics", figures),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def _health(service: Service) -> dict[str, Any]:
    engine, limits = service.engine, service.limits
    found: dict[str, Any] = {
        "status": service.state,
        "model": engine.model.name,
        "task": engine.model.form.task,
        "answering": engine.answering.name,
        "queue": {"length": service.batcher.length, "limit": limits.queue},
    }
    if engine.fallback is not None:
        now = engine.disagreement
        found["fallback"] = {
            "model": engine.fallback.name,
            "fallen_back": engine.fallen_back,
            "disagreement": now.mean,
            "lower_bound": now.lower,
            "comparisons": now.count,
            "max_disagreement": engine.rule.most,
        }
    return found


async def _predict(service: Service, request: Request) -> Response:
    started = time.perf_counter()
    try:
        prepared, results = await _results(service, request)
        answer = service.engine.model.form.answer
        outputs = [answer(result.row, one) for result, one in zip(results, prepared, strict=True)]
        response = JSONResponse({"model": results[0].model, "outputs": outputs})
        service.metrics.latency.observe(time.perf_counter() - started)
    except Rejected as error:
        headers = AGAIN if error.status == BUSY else None
        response = JSONResponse({"error": str(error)}, error.status, headers=headers)
    except ClientDisconnect:
        response = Response(status_code=MALFORMED)  # nobody reads it
    except Exception:
        LOG.exception("A request failed.")
        response = JSONResponse({"error": "the model failed on this input; the server's log says how."}, FAILED)
    service.metrics.requests.labels(str(response.status_code)).inc()
    return response


async def _results(service: Service, request: Request) -> tuple[list[Prepared], list[Result]]:
    """The inputs of a request and their results, within the time that a request has. Raises `Rejected`."""
    limits = service.limits
    _check_open(service)
    body, prepared = b"", []
    try:
        async with asyncio.timeout(limits.timeout):
            with service.room.held(declared_size(request.headers, limits.max_body)):
                body = await read_body(request.stream(), limits.max_body)
                kind = request.headers.get("content-type", "")
                prepared = await inputs_of(service.engine.model.form, kind, body, limits.queue)
            return prepared, await _computed(service, prepared)
    except TimeoutError:
        if prepared:
            raise Rejected(LATE, f"there was no result within {limits.timeout:g} seconds.") from None
        raise Rejected(SLOW, f"the request was not there within {limits.timeout:g} seconds.") from None


async def _computed(service: Service, prepared: list[Prepared]) -> list[Result]:
    _check_open(service)
    try:
        waiting = service.batcher.submit(prepared)
    except Full:
        _check_open(service)
        raise Rejected(BUSY, f"{service.batcher.length} inputs wait already. Try again later.") from None
    try:
        return [await result for result in waiting]
    except BaseException:  # that of a cancelled task too, as where the time is over
        service.batcher.withdraw(waiting)
        raise


def _check_open(service: Service) -> None:
    if service.state != "ready":
        raise Rejected(BUSY, f"the server is {service.state}.")
