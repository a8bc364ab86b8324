"""The report on this machine alone, at an address of its own, made again as a sweep goes on."""

import contextlib
import errno
import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from qat.lab.jobs.presence import is_dead, modified, presences, process_id_from
from qat.lab.report.contents import read_contents
from qat.lab.report.html import page
from qat.lab.report.write import rows_of
from qat.lab.runs.cache import study_stamps

PAUSE = 3.0  # seconds that a page stands at least, and
PATIENCE = 10.0  # times as long as it took to make


@dataclass(frozen=True)
class Made:
    """A page, what the study was when it was made, and until when (by the monotonic clock) it stands in any case."""

    stamp: str
    content: bytes
    until: float


class Board:
    """The newest page of a study, for several readers at once."""

    def __init__(self, root: Path, margin: float | None):
        self._root, self._margin = root, margin
        self._made: Made | None = None
        self._lock = threading.Lock()

    def stamp(self) -> str:
        """The stamp of the page that a reader would be given now."""
        made = self._made
        return made.stamp if made and time.monotonic() < made.until else study_stamp(self._root)

    def page(self) -> bytes:
        """The page, made again where the study has moved on. Raises `ValueError` where it can no longer be read."""
        with self._lock:
            if self._made is None or self.stamp() != self._made.stamp:
                self._made = self._make()
            return self._made.content

    def _make(self) -> Made:
        started, seen = time.monotonic(), study_stamp(self._root)
        contents = read_contents(self._root)
        content = page(contents, rows_of(contents, self._margin), live=seen).encode("utf-8", "replace")
        now = time.monotonic()
        return Made(seen, content, now + max(PAUSE, PATIENCE * (now - started)))


def study_stamp(root: Path) -> str:
    """A text that changes when a trial is finished, fails, or begins anew. Raises `ValueError` where no study is."""
    return hashlib.sha256(repr(study_stamps(root)).encode()).hexdigest()[:16]


PORT = 8400
HOSTS = {"localhost", "127.0.0.1"}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def serve(root: Path, port: int = PORT, margin: float | None = None, announce: Callable[[str], Any] = print) -> None:
    """Serve the report of a run folder on localhost until Ctrl-C; `announce` is told its address.

    Port 0 is any free one; `margin` is as for `summarize`. Raises `ValueError` where the folder holds no study or the
    port cannot be had.
    """
    with open_server(root, port, margin) as server:
        try:
            announce(f"http://localhost:{server.server_address[1]}/")
            server.serve_forever()
        except KeyboardInterrupt:
            return


def open_server(root: Path, port: int = PORT, margin: float | None = None) -> ThreadingHTTPServer:
    """A server of the report, bound to its port and not yet serving; as a context it closes itself."""
    board = Board(root, margin)
    board.stamp()
    try:
        server = Server(("127.0.0.1", port), partial(Handler, root, board))
    except (OSError, OverflowError) as error:
        raise ValueError(_unavailable(port, error)) from None
    return server


class Server(ThreadingHTTPServer):
    """Answers many at once; a client that leaves before it has its answer is nobody's mistake."""

    daemon_threads = True
    request_queue_size = 1024  # connections that wait to be taken; beyond them clients try again, ever more seldom

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print a traceback unless the connection is to blame."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers with the page at `/`, with what goes on at `/state`, and with nothing else."""

    timeout = 30.0  # seconds that a client may say nothing, or take nothing

    def __init__(self, root: Path, board: Board, *request: Any):
        self._root, self._board = root, board
        super().__init__(*request)

    def do_GET(self) -> None:
        """Answer a request."""
        try:
            answer = self._answer(self.path.split("?")[0])
        except (ValueError, OSError) as error:
            answer = HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode(), "text/plain"
        self._send(*answer)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: the terminal shows the address alone."""

    def _answer(self, path: str) -> tuple[HTTPStatus, bytes, str]:
        if (self.headers.get("Host") or "").rsplit(":", 1)[0] not in HOSTS:
            # A page elsewhere can make its own name mean this machine, and would then be let in to read.
            return HTTPStatus.FORBIDDEN, b"This address is for localhost.\n", "text/plain"
        if path in ("/", "/index.html"):
            return HTTPStatus.OK, self._board.page(), "text/html"
        if path == "/state":
            state = {"stamp": self._board.stamp(), "running": [asdict(work) for work in running(self._root)]}
            return HTTPStatus.OK, json.dumps(state).encode(), "application/json"
        return HTTPStatus.NOT_FOUND, b"There is nothing here. The report is at /.\n", "text/plain"

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _unavailable(port: int, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return f"`--port` {port} is in use, maybe by another dashboard. Choose another, or 0 for any that is free."
    if number == errno.EACCES:
        return f"`--port` {port} is kept for the system. Choose one above 1023, or 0 for any that is free."
    return f"`--port` must be in [0, 65535] and free, got {port} ({error}). Choose another, or 0 for any that is free."


@dataclass(frozen=True)
class Work:
    """A job under way, where it runs, and how far it is: `step` of `steps`, which is 0 while it has not said."""

    label: str
    where: str
    what: str
    step: int
    steps: int


def running(root: Path) -> list[Work]:
    """The jobs of all processes that are alive; what they wrote of themselves is some seconds old."""
    found = []
    for path, content in presences(root):
        with contextlib.suppress(KeyError, TypeError, ValueError, OSError):
            if not is_dead(root, process_id_from(content), modified(path), time.time()):
                found += [_work(job) for job in content.get("jobs", {}).values()]
    return found


def _work(job: dict[str, Any]) -> Work:
    return Work(str(job["label"]), str(job["where"]), str(job["what"]), int(job["step"]), int(job["steps"]))
