"""The dashboard: one page on localhost that follows a sweep, and nothing else."""

import contextlib
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import asdict

import pytest
from browser import CHROMIUM, tab
from run_folders import make_runs

from qat.lab.jobs.presence import present, this_process
from qat.lab.jobs.progress import Running
from qat.lab.report import server as board_module
from qat.lab.report import server as dashboard
from qat.lab.report.server import Board, Handler, open_server, serve, study_stamp
from qat.lab.report.write import title_of


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """Pages may follow each other at once."""
    monkeypatch.setattr(board_module, "PAUSE", 0.0)
    monkeypatch.setattr(board_module, "PATIENCE", 0.0)


@pytest.fixture
def small(monkeypatch):
    """Pages of a study's title alone, for tests of what serves them."""
    monkeypatch.setattr(board_module, "rows_of", lambda contents, margin: [])
    monkeypatch.setattr(board_module, "page", lambda contents, rows, live: f"<p data-stamp={live}>{title_of(contents)}")


@contextlib.contextmanager
def serving(root):
    """The port of a dashboard that answers."""
    with open_server(root, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def ask(port, path, method="GET", host=None):
    """Status, headers and text of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(method, path, headers={"Host": host or f"localhost:{port}"})
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read().decode()
    connection.close()
    return found


def finish_one_more(root):
    """The last trial of the study, open until now, is finished."""
    make_runs(root, 4, seeds=1)


def test_it_serves_the_page_and_its_state_and_nothing_else(tmp_path):
    make_runs(tmp_path, 4, seeds=1)
    with serving(tmp_path) as port:
        status, headers, text = ask(port, "/")
        state = json.loads(ask(port, "/state")[2])
        assert status == 200 and headers["Content-Type"].startswith("text/html")
        assert f'data-stamp="{state["stamp"]}"' in text
        assert ask(port, "/?again")[2] == text
        assert ask(port, "/", "HEAD")[2] == ""
        for path in ("/study.json", "/../study.json", "//etc/passwd", "/trials/", "/%2e%2e/study.json", "/state/.."):
            assert ask(port, path)[0] == 404
        assert ask(port, "/", "POST")[0] == 501


@pytest.mark.parametrize("host", ["example.org", "example.org:80", "localhost.example.org", "192.168.0.1:8400", ""])
def test_a_page_elsewhere_that_calls_itself_this_machine_is_not_answered(tmp_path, host):
    make_runs(tmp_path, 2, seeds=1)
    with serving(tmp_path) as port:
        status, _, text = ask(port, "/state", host=host or " ")
        assert status == 403
        assert "stamp" not in text


@pytest.mark.usefixtures("small")
def test_a_finished_trial_makes_a_new_page(tmp_path):
    make_runs(tmp_path, 4, seeds=1, unfinished=1)
    with serving(tmp_path) as port:
        before = ask(port, "/")[2]
        assert ask(port, "/")[2] == before
        finish_one_more(tmp_path)
        assert json.loads(ask(port, "/state")[2])["stamp"] not in before
        after = ask(port, "/")[2]
        assert "3 of 4 trials finished" in before
        assert after.endswith(">fake study")


@pytest.mark.usefixtures("small")
def test_a_page_stands_for_a_while_after_it_was_made(tmp_path, monkeypatch):
    monkeypatch.setattr(board_module, "PAUSE", 3600.0)
    make_runs(tmp_path, 4, seeds=1, unfinished=1)
    board = Board(tmp_path, None)
    before = board.page()
    finish_one_more(tmp_path)
    assert board.stamp() != study_stamp(tmp_path)
    assert board.page() is before


def test_what_a_runner_says_of_itself_does_not_make_a_new_page(tmp_path):
    make_runs(tmp_path, 4, seeds=1, unfinished=4)
    before = study_stamp(tmp_path)
    job = Running("qat w4a4, seed 0", "qat", "here", time.time(), 1, "qat", 30, 200, 0.5)
    with serving(tmp_path) as port, present(tmp_path, this_process("test"), lambda: {"jobs": {"a": asdict(job)}}):
        assert study_stamp(tmp_path) == before
        (work,) = json.loads(ask(port, "/state")[2])["running"]
        assert (work["label"], work["step"], work["steps"]) == ("qat w4a4, seed 0", 30, 200)


@pytest.mark.usefixtures("small")
def test_a_study_that_goes_away_is_said_and_the_server_lives(tmp_path):
    make_runs(tmp_path, 2, seeds=1)
    with serving(tmp_path) as port:
        (tmp_path / "study.json").rename(tmp_path / "moved.json")
        status, _, text = ask(port, "/")
        assert status == 503 and "holds no study" in text
        (tmp_path / "moved.json").rename(tmp_path / "study.json")
        assert ask(port, "/")[0] == 200


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("path", ["/", "/state"])
def test_a_client_that_leaves_is_no_error(tmp_path, monkeypatch, capfd, path):
    make_runs(tmp_path, 2, seeds=1)
    left, answered = threading.Event(), threading.Event()

    def late(self, *answer):
        left.wait(60)
        try:
            Handler._send(self, *answer)
        finally:
            answered.set()

    monkeypatch.setattr(dashboard, "Handler", type("Late", (Handler,), {"_send": late}))
    monkeypatch.setattr(Board, "page", lambda self: b"x" * 10_000_000)
    with serving(tmp_path) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
        left.set()
        assert answered.wait(60)
        assert ask(port, "/state")[0] == 200
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("small")
def test_many_that_ask_at_once_are_all_answered_by_one_page(tmp_path, monkeypatch):
    make_runs(tmp_path, 2, seeds=1)
    made = []
    make = Board._make
    monkeypatch.setattr(Board, "_make", lambda self: made.append(1) or make(self))
    with open_server(tmp_path, 0) as server, contextlib.ExitStack() as stack:
        port = server.server_address[1]
        # None is taken yet: all of them wait in the system's queue.
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(200)]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answers = [client.recv(100) for client in clients]
        server.shutdown()
    assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.0 200 OK"}
    assert len(made) == 1


def test_a_port_in_use_is_one_clear_error(tmp_path):
    make_runs(tmp_path, 2, seeds=1)
    with serving(tmp_path) as port, pytest.raises(ValueError, match=rf"`--port` {port} is in use.*or 0 for any"):
        serve(tmp_path, port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_cannot_be_is_one_clear_error(tmp_path, port):
    make_runs(tmp_path, 2, seeds=1)
    with pytest.raises(ValueError, match=r"`--port` must be in \[0, 65535\]"):
        serve(tmp_path, port)


def test_a_folder_without_a_study_is_refused_before_anything_is_served(tmp_path):
    with pytest.raises(ValueError, match="holds no study"):
        serve(tmp_path, 0)


def test_ctrl_c_ends_it_quietly(tmp_path):
    make_runs(tmp_path, 2, seeds=1)
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored\n"
        f"from pathlib import Path; from qat.lab.report.server import serve; serve(Path({str(tmp_path)!r}), 0)"
    )
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    running = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert running.stdout is not None
    assert running.stdout.readline().startswith("http://localhost:")
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=60) == ("", "")
    assert running.returncode == 0


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_an_open_page_follows_the_sweep_and_keeps_the_readers_place(browser, tmp_path):
    make_runs(tmp_path, 4, seeds=1, unfinished=1)
    with serving(tmp_path) as port, tab(browser) as opened:
        opened.go(f"http://localhost:{port}/")
        opened.run("find('filter').value = 'qat'; find('filter').dispatchEvent(new Event('input')); scrollTo(0, 500)")
        opened.run("window.old = true")
        job = Running("qat w2a4, seed 0", "qat", "here", time.time(), 1, "qat", 30, 200, 0.5)
        with present(tmp_path, this_process("test"), lambda: {"jobs": {"a": asdict(job)}}):
            opened.run("ask()")
            assert opened.until("find('running').textContent") == "qat w2a4, seed 0: qat, step 30 of 200"
        assert opened.run("window.old")
        finish_one_more(tmp_path)
        opened.run("void ask()")
        opened.until("!window.old && document.readyState === 'complete' && find('count').textContent")
        assert opened.run("[find('filter').value, scrollY, find('count').textContent]") == [
            "qat",
            500,
            "1 of 4 trials",
        ]
        assert opened.run("document.querySelector('header p').textContent.startsWith('4 of 4 trials finished')")
        assert opened.problems() == []
        assert {url.split("/")[2] for url in opened.requests()} <= {f"localhost:{port}", ""}


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_page_whose_server_is_gone_says_so_and_stays(browser, tmp_path):
    make_runs(tmp_path, 2, seeds=1)
    with tab(browser) as opened:
        with serving(tmp_path) as port:
            opened.go(f"http://localhost:{port}/")
        opened.run("ask()")
        opened.until("find('live-note').textContent === 'no answer'")
        assert opened.run("find('count').textContent") == "2 of 2 trials"
