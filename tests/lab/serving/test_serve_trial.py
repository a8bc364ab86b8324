# pyright: reportOptionalMemberAccess=false, reportArgumentType=false, reportAttributeAccessIssue=false
"""A finished trial behind HTTP answers what its model gives, and ends in order."""

import asyncio
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import jax
import numpy as np
import pytest
from detectors import make_runs
from jobs import TINY
from untrained import untrained

from qat.lab.inspect.trial import load_trial
from qat.lab.serving.app import Service, app
from qat.lab.serving.batching import Limits
from qat.lab.serving.engine import Engine
from qat.lab.serving.metrics import metrics
from qat.lab.serving.run import bound, serve
from qat.lab.serving.trials import fallback, servable, served
from qat.transform import Quantized

ROOT = Path(__file__).parents[3]
TWO = ("--max-batch=2", "--max-wait-ms=20000", "--timeout=30")  # the first input waits for a second one


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folders of a float trial and of one quantized from it, to be left as they are."""
    return untrained(tmp_path_factory.mktemp("runs"), TINY)


def answers(trial, inputs, other=None, **options):
    """The answers of a server of a trial to one request, and what `/health` says afterwards."""

    async def main():
        limits = Limits(max_batch=1)
        figures, served = metrics(1), servable(trial, 1, **options)
        beside = other and fallback(other, trial, served.form, 1)
        service = Service(Engine(served, figures, print, beside), figures, limits, print)
        application = app(service)
        transport = httpx.ASGITransport(application)
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(transport=transport, base_url="http://server") as client,
        ):
            while (await client.get("/health")).status_code != 200:
                await asyncio.sleep(0.01)
            found = await client.post("/predict", json={"inputs": inputs})
            return found.json(), (await client.get("/health")).json()

    return asyncio.run(main())


def test_a_quantized_classifier_answers_with_the_probabilities_of_its_integer_model(folders):
    trial = load_trial(folders["ptq"])
    images = trial.dataset.splits["test"].arrays["image"][:3]
    found, health = answers(trial, images.tolist(), load_trial(folders["float"]))
    expected = jax.nn.softmax(trial.quantized.serve(trial.converted, images))
    assert found["model"] == health["answering"] == "ptq w8a8"
    assert health["fallback"]["model"] == "float"
    for one, row in zip(found["outputs"], expected, strict=True):
        np.testing.assert_allclose(list(one["probabilities"].values()), row, rtol=1e-5)
        assert one["class"] == row.argmax()


@pytest.mark.slow
def test_a_quantized_detector_answers_with_the_boxes_that_detect_finds(tmp_path):
    from qat.lab.inspect.detector.load import load_detector

    runs = make_runs(tmp_path)
    trial, own = load_trial(runs / "trials" / "ptq"), load_detector(runs / "trials" / "ptq")
    image = trial.dataset.splits["test"][0]["image"]
    found, _ = answers(trial, [image.tolist()], threshold=0.01)
    expected = own.find(image)
    count = int((expected.scores >= 0.01).sum())
    boxes = found["outputs"][0]["boxes"]
    assert count == len(boxes) > 0
    np.testing.assert_allclose([one["score"] for one in boxes], expected.scores[:count], rtol=1e-5)
    np.testing.assert_allclose([one["box"] for one in boxes], expected.boxes[:count], rtol=1e-4, atol=1e-3)


def test_arrays_are_served_where_the_data_are_elsewhere(folders, monkeypatch):
    def gone(name):
        raise ValueError(f"{name} is elsewhere")

    trial = load_trial(folders["float"])
    monkeypatch.setattr("qat.data.load", gone)
    form = servable(trial, 1).form
    assert form.entry(np.zeros((8, 8, 1)).tolist()).group == ((8, 8, 1),)


def test_a_fallback_that_cannot_stand_in_is_refused(folders, tmp_path):
    ptq, own = load_trial(folders["ptq"]), load_trial(folders["float"])
    form = servable(ptq, 1).form
    with pytest.raises(ValueError, match="`fallback` must be a float trial"):
        fallback(ptq, ptq, form, 1)
    copy = shutil.copytree(folders["float"], tmp_path / "other")
    (copy / "record.json").unlink()
    with pytest.raises(ValueError, match="holds no finished trial"):
        serve(folders["ptq"], fallback=copy, port=0)
    named = own.signature.model_copy(update={"class_names": tuple("abcdefghij")})
    with pytest.raises(ValueError, match="of the same task, classes and inputs"):
        fallback(type(own)(own.folder, own.config, own.record, named), ptq, form, 1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"threshold": 0.5}, "`threshold` must be in .* and is for detectors"),
        ({"limits": None, "port": 1 << 16}, r"`--port` must be in \[0, 65535\]"),
        ({"host": "192.0.2.1"}, "`--host` must be an address of this machine"),
    ],
    ids=["threshold", "port", "host"],
)
def test_options_that_do_not_fit_are_refused(folders, options, told):
    with pytest.raises(ValueError, match=told):
        serve(folders["ptq"], **{"port": 0, **options})


def test_a_port_in_use_is_told_before_a_model_is_read(tmp_path):
    with bound("127.0.0.1", 0) as taken, pytest.raises(ValueError, match="is in use, maybe by another server"):
        serve(tmp_path / "nothing", port=taken.getsockname()[1])


def test_a_missing_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ValueError, match=r"needs the package uvicorn\. Install it: pip install 'jax-qat\[serve\]'"):
        serve(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_a_server_after_all_that_it_took_is_answered(folders, number):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "qat", "serve", str(folders["ptq"]), f"--port={port}", *TWO]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            began = time.monotonic()
            address, stop = f"http://127.0.0.1:{port}", functools.partial(process.send_signal, number)
            took, after = asyncio.run(request_around(address, stop, began + 240))
            assert process.wait(60) == 0
        finally:
            process.kill()
        assert "1 inputs wait to be computed" in process.stderr.read()
    assert took < 15 and after in (503, None)


async def request_around(address, stop, end):
    """Seconds from `stop` to the answer of a request that was waiting, and the status of one that was sent after it;
    None where the connection was refused."""
    body = {"inputs": [np.zeros((8, 8, 1)).tolist()]}
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:

        async def status(path):
            try:
                return (await client.get(path) if path == "/health" else await client.post(path, json=body)).status_code
            except httpx.TransportError:
                return None

        while await status("/health") != 200:
            assert time.monotonic() < end
            await asyncio.sleep(0.1)
        waiting = asyncio.create_task(status("/predict"))
        while "qat_serve_queue_length 1.0" not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.01)
        stopped = time.monotonic()
        stop()
        while await status("/health") == 200:
            await asyncio.sleep(0.01)
        after = await status("/predict")
        assert await waiting == 200
        return time.monotonic() - stopped, after


def test_programs_hold_the_weights_as_constants_unless_these_are_large(folders, monkeypatch):
    trial = load_trial(folders["ptq"])
    images = trial.dataset.splits["test"].arrays["image"][:1]
    own = trial.quantized
    calls = []

    class Watched(Quantized):
        def serve(self, *arguments):
            calls.append("serve")
            return super().serve(*arguments)

    watched = Watched(own.fn, own.recipe, own.engine, own.serving, own.check_nan)
    found = [served(watched, trial.converted, programs=count)(images) for count in (1, 1 << 40)]
    assert calls == ["serve"]
    np.testing.assert_array_equal(*found)
