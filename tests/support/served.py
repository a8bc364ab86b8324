"""A model that doubles numbers, behind the parts of a server, and requests to it without a network."""

import asyncio
import contextlib
import threading

import httpx
import numpy as np

from qat.lab.serving.app import Service, app
from qat.lab.serving.batching import Limits
from qat.lab.serving.engine import Engine
from qat.lab.serving.metrics import metrics
from qat.lab.serving.servable import Form, Prepared, Servable, batch_sizes, numbers

QUICK = Limits(max_batch=4, max_wait=0.01, queue=8, timeout=5.0, max_body=2000)


def number(value):
    return Prepared((np.array(value, np.float32),))


FORM = Form(
    "doubling",
    "numbers",
    media=frozenset({"text/plain"}),
    raw=lambda content: number(float(content)),
    entry=lambda value: Prepared((numbers(value, (), np.dtype(np.float32)),)),
    answer=lambda row, _: {"twice": float(row)},
    differ=lambda row, other: float(row != other),
    samples=(number(0),),
)


class Doubling:
    """Computes twice its inputs, plus `error`. Keeps its batches; while `gate` is cleared, a batch waits."""

    def __init__(self, error=0.0, fails=False):
        self.batches, self.gate, self.begun = [], threading.Event(), threading.Event()
        self.error, self.fails = error, fails
        self.gate.set()

    def __call__(self, x):
        self.batches.append(x.tolist())
        self.begun.set()
        assert self.gate.wait(20)
        if self.fails:
            raise RuntimeError("it broke")
        return 2 * x + self.error

    def servable(self, name="int8", most=4):
        return Servable(name, FORM, self, batch_sizes(most))


@contextlib.asynccontextmanager
async def serving(model, fallback=None, *, limits=QUICK, rule=None, wait=True, told=None):
    """A service and a client of it, once it is ready."""
    figures, said = metrics(limits.max_batch), [] if told is None else told
    other = fallback and fallback.servable("float", limits.max_batch)
    engine = Engine(model.servable("int8", limits.max_batch), figures, said.append, other, rule, seed=0)
    service = Service(engine, figures, limits, said.append)
    application = app(service)
    async with (
        application.router.lifespan_context(application),
        httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://server") as client,
    ):
        while wait and service.state == "warming up":
            await asyncio.sleep(0.001)
        model.batches.clear()
        model.begun.clear()
        try:
            yield service, client
        finally:
            for one in filter(None, (model, fallback)):
                one.gate.set()


async def until(condition):
    """Wait for what another thread or task brings about."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def predict(client, *values, **more):
    return client.post("/predict", json={"inputs": list(values)}, **more)


def figure(text, name):
    """A figure of `/metrics` by its name with labels."""
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}[f"qat_serve_{name}"]
