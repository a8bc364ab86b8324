"""A load test of `qat serve`: requests of many clients at once to a float and an int8 server in turns, none lost.

python benchmarks/serving.py [--requests 10000] [--clients 64] [--model minilm|cnn] [--max-batch 16]

MiniLM's shape with drawn weights, texts of 60 to 64 tokens; or the quick start's CNN, where HTTP takes the time.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests" / "support"))

from untrained import untrained  # noqa: E402

from qat import data  # noqa: E402
from qat.data.sentiment import vocabulary  # noqa: E402
from qat.lab.experiment.config import ExperimentConfig  # noqa: E402
from qat.train import TrainConfig  # noqa: E402

MODELS = {
    "minilm": ("bert(size='minilm', pooling='mean')", "sentiment(examples=256, length=64, buckets=())"),
    "cnn": ("cnn", "digits"),
}
ARMS = ("float", "ptq")
TURNS = 10  # blocks of requests to one server before the other one's
WORDS = (58, 62)  # and [CLS] and [SEP]
START = 600.0  # seconds that a server may take to be ready


def main() -> None:
    """Start both servers, send them requests in turns, and print what came back and how fast."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000, help="to each of the two servers")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--model", choices=list(MODELS), default="minilm")
    parser.add_argument("--max-batch", type=int, default=16)
    asked = parser.parse_args()
    model, dataset = MODELS[asked.model]
    base = ExperimentConfig(name="load", model=model, data=dataset, train=TrainConfig(steps=1))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        folders = untrained(Path(folder), base)
        bodies = texts() if asked.model == "minilm" else images(dataset)
        ports = {arm: stack.enter_context(server(folders[arm], asked.max_batch)) for arm in ARMS}
        for port in ports.values():
            wait_until_ready(port)
        print(f"{asked.model}, {asked.clients} clients, batches of at most {asked.max_batch}, {os.cpu_count()} cores")
        found = measure(ports, bodies, asked.requests, asked.clients)
        tell(found, asked.clients)
        tell_at_equal_p99(ports, bodies, found, asked)


def texts() -> list[bytes]:
    """Bodies of requests with a text each, from words that the tokenizer knows."""
    rng, words = random.Random(0), [word for word in vocabulary() if word.isalpha()]
    chosen = (" ".join(rng.choices(words, k=rng.randint(*WORDS))) for _ in range(256))
    return [json.dumps({"inputs": [text]}).encode() for text in chosen]


def images(dataset: str) -> list[bytes]:
    """Bodies of requests with an image each."""
    source = data.load(dataset).splits["test"]
    return [json.dumps({"inputs": [source[i]["image"].tolist()]}).encode() for i in range(len(source))]


@contextlib.contextmanager
def server(trial: Path, max_batch: int) -> Iterator[int]:
    """The port of a server of a trial, which is ended in order."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "qat", "serve", str(trial), f"--port={port}", f"--max-batch={max_batch}"]
    more = ["--timeout=120", "--queue=1024"]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with subprocess.Popen([*command, *more], env={**os.environ, "PYTHONPATH": path}) as process:
        try:
            yield port
        finally:
            process.terminate()


def wait_until_ready(port: int) -> None:
    """Ask for the server's health until it is well."""
    end = time.monotonic() + START
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
            if answer.status == 200:
                return
        if time.monotonic() > end:
            raise TimeoutError(f"the server at port {port} was not ready within {START:g} s.")
        time.sleep(0.5)


def measure(ports: dict[str, int], bodies: list[bytes], requests: int, clients: int) -> dict[str, dict[str, Any]]:
    """Seconds of each answered request, the requests without an answer of 200, and seconds in all, by server; blocks of
    requests go to one and the other in turns."""
    found: dict[str, dict[str, Any]] = {arm: {"times": [], "lost": 0, "seconds": 0.0} for arm in ports}
    for turn in range(TURNS):
        count = requests * (turn + 1) // TURNS - requests * turn // TURNS
        for arm in ports if turn % 2 else reversed(ports):
            started = time.perf_counter()
            times, lost = asyncio.run(load(ports[arm], bodies, count, clients))
            one = found[arm]
            one["seconds"] += time.perf_counter() - started
            one["times"] += times
            one["lost"] += lost
    return found


async def load(port: int, bodies: list[bytes], requests: int, clients: int) -> tuple[list[float], int]:
    """Send so many requests from clients that each keep one connection and wait for each answer; the seconds of those
    answered with 200, and the number of the others."""
    numbers, lost = iter(range(requests)), 0
    times: list[float] = []

    async def client() -> None:
        nonlocal lost
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            started = time.perf_counter()
            try:
                ok = await answered(reader, writer, bodies[number % len(bodies)])
            except (OSError, asyncio.IncompleteReadError):
                ok = False
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            if ok:
                times.append(time.perf_counter() - started)
            else:
                lost += 1
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return times, lost


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> bool:
    """Send one request; whether its answer is 200 and holds one output."""
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    content = await reader.readexactly(int(head.split("content-length:")[1].split("\r\n")[0]))
    return head.startswith("http/1.1 200") and len(json.loads(content)["outputs"]) == 1


def p99(one: dict[str, Any]) -> float:
    """The 99th percentile of the seconds of a request."""
    return float(np.quantile(one["times"], 0.99))


def throughput(one: dict[str, Any]) -> float:
    """Answers a second."""
    return len(one["times"]) / one["seconds"]


def tell(found: dict[str, dict[str, Any]], clients: int) -> None:
    """Print a line for each server."""
    for arm, one in found.items():
        print(
            f"{arm:>5} {clients:>3} clients: {len(one['times'])} answered, {one['lost']} lost, "
            f"p50 {1e3 * np.quantile(one['times'], 0.5):.0f} ms, p99 {1e3 * p99(one):.0f} ms, "
            f"{throughput(one):.0f} a second",
            flush=True,
        )


def tell_at_equal_p99(ports: dict[str, int], bodies: list[bytes], found: Any, asked: argparse.Namespace) -> None:
    """Print the ratio of throughputs with as many clients each; then with fewer for the one of the higher p99, until
    that is no higher than the other's, both measured again in turns."""
    print(f"int8 / float, {asked.clients} clients each: {throughput(found['ptq']) / throughput(found['float']):.2f}")
    slower, other = sorted(ARMS, key=lambda arm: p99(found[arm]), reverse=True)
    clients = asked.clients
    while clients > 1 and p99(found[slower]) > p99(found[other]):
        clients = max(1, round(clients * min(0.9, p99(found[other]) / p99(found[slower]))))
        few = asked.requests // 5
        found = {
            other: measure({other: ports[other]}, bodies, few, asked.clients)[other],
            slower: measure({slower: ports[slower]}, bodies, few, clients)[slower],
        }
        tell({slower: found[slower]}, clients)
        tell({other: found[other]}, asked.clients)
    ratio = throughput(found["ptq"]) / throughput(found["float"])
    print(f"int8 / float at equal p99 ({slower} with {clients} clients): {ratio:.2f}")


if __name__ == "__main__":
    main()
