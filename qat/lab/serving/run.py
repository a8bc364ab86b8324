"""A server from its command to its end: the port first, then the models, then requests until a signal."""

import asyncio
import errno
import importlib
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qat.fileio import folder
from qat.lab.inspect.trial import load_trial
from qat.lab.runs.record import read_record
from qat.lab.serving.batching import Limits
from qat.lab.serving.engine import Engine
from qat.lab.serving.exported import in_file
from qat.lab.serving.metrics import Metrics, metrics
from qat.lab.serving.shadow import ShadowRule
from qat.lab.serving.trials import fallback as fallback_of
from qat.lab.serving.trials import form_of, servable
from qat.runtime import keep_freed_memory

HOST, PORT = "127.0.0.1", 8500
BACKLOG = 1024  # connections that wait to be taken
CONNECTIONS = 4096
KEEP_ALIVE = 30  # seconds that a connection may be idle
PACKAGES = ("starlette", "uvicorn", "prometheus_client")


def serve(
    model: str | Path,
    *,
    fallback: str | Path | None = None,
    host: str = HOST,
    port: int = PORT,
    limits: Limits | None = None,
    rule: ShadowRule | None = None,
    threshold: float | None = None,
    pixel_scale: float | None = None,
    trust: bool = False,
    tell: Callable[[str], Any] = print,
) -> None:
    """Serve the model of a finished trial, or a file that was exported into its folder, over HTTP until SIGTERM or
    SIGINT, then answer what waits.

    `fallback` is the folder of a float trial that runs beside it by `rule`. `tell` is given a line for the address,
    for the end of the warm-up and for all that happens; port 0 is any free one. The other arguments are those of
    `qat.lab.serving.trials.form_of`. Raises `ValueError` before a model is loaded where a package is missing or the
    port cannot be had, and then for a model that cannot be served.
    """
    require_packages()
    limits = limits or Limits()
    with bound(host, port) as listening:
        file = _exported(model)
        trial = load_trial(model if file is None else file.parent, trust=trust)
        if file is None:
            served = servable(trial, limits.max_batch, threshold=threshold, pixel_scale=pixel_scale)
        else:
            form = form_of(trial, threshold=threshold, pixel_scale=pixel_scale)
            served = in_file(form, trial, file, limits.max_batch)
        other = None
        if fallback is not None:
            other = fallback_of(load_trial(fallback, trust=trust), trial, served.form, limits.max_batch)
        keep_freed_memory()
        run(lambda figures: Engine(served, figures, tell, other, rule), limits, listening, tell)


def _exported(model: str | Path) -> Path | None:
    """The exported file that is to be served, None where `model` is the folder of a trial."""
    path = folder(model)
    if not isinstance(path, Path) or not path.is_file():
        return None
    if read_record(path.parent) is None:
        raise ValueError(
            f"{str(path)!r} must lie in the folder of the trial that it was exported from: how inputs are read, as by "
            "the tokenizer, is known there alone. Run `qat export RUNS/trials/ID --to ...`, or copy the whole folder."
        )
    return path


def run(
    made: Callable[[Metrics], Engine], limits: Limits, listening: socket.socket, tell: Callable[[str], Any]
) -> None:
    """Serve an engine, made with the metrics that it writes to, on a socket until a signal. Raises what its warm-up
    raised."""
    import uvicorn

    from qat.lab.serving.app import Service, app

    host, port = listening.getsockname()[:2]
    figures = metrics(limits.max_batch)
    service = Service(made(figures), figures, limits, tell)

    def started() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, on_signal)
        tell(f"http://{f'[{host}]' if ':' in host else host}:{port}/predict")

    def on_signal() -> None:
        """End in order; at the second signal at once."""
        if service.state == "stopping":
            server.force_exit = server.should_exit = True
        else:
            tell(f"stopping: {service.batcher.length} inputs wait to be computed")
            service.stop()

    def ended() -> None:
        server.should_exit = True

    config = uvicorn.Config(
        app(service, started, ended),
        log_level="warning",
        access_log=False,
        lifespan="on",
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=1 + int(limits.timeout),
        timeout_keep_alive=KEEP_ALIVE,
    )
    server = uvicorn.Server(config)
    server.run(sockets=[listening])
    if service.failure is not None:
        raise service.failure


def bound(host: str, port: int) -> socket.socket:
    """A listening socket, so that no other process can take the port meanwhile. Raises `ValueError` where it cannot be
    had."""
    if not 0 <= port < 1 << 16:
        raise ValueError(f"`--port` must be in [0, 65535], got {port}. Choose another, or 0 for any that is free.")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ValueError(_unavailable(host, port, error)) from None


def require_packages() -> None:
    """Raise `ValueError` with the command that installs them where packages of the extra are missing."""
    for package in PACKAGES:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError:
            raise ValueError(
                f"`qat serve` needs the package {package.replace('_', '-')}. Install it: pip install 'jax-qat[serve]'"
            ) from None


def _unavailable(host: str, port: int, error: OSError) -> str:
    number = error.errno
    if number == errno.EADDRINUSE:
        return f"`--port` {port} is in use, maybe by another server. Choose another, or 0 for any that is free."
    if number == errno.EACCES:
        return f"`--port` {port} is kept for the system. Choose one above 1023, or 0 for any that is free."
    if isinstance(error, socket.gaierror) or number == errno.EADDRNOTAVAIL:
        return f"`--host` must be an address of this machine, got {host!r} ({error})."
    return f"`--port` must be free, got {port} ({error}). Choose another, or 0 for any that is free."
