"""Headless Chromium for tests, spoken to over a pipe in its DevTools protocol."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
]  # fmt: skip
START = """
import os, sys
into, out = os.dup(int(sys.argv[1])), os.dup(int(sys.argv[2]))
os.dup2(into, 3)
os.dup2(out, 4)
os.set_inheritable(3, True)  # where `into` was 3 already, dup2 did nothing
os.set_inheritable(4, True)
os.execv(sys.argv[3], sys.argv[3:])
"""  # Chromium expects its two pipes as file descriptors 3 and 4
PATIENCE = 60.0  # seconds for one answer; a busy machine is slow


@dataclass
class Browser:
    """A running Chromium: commands go out by `call`, what it says in between is kept by session."""

    process: subprocess.Popen[bytes]
    reader: int
    writer: int
    number: int = 0
    rest: bytes = b""
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def call(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """The result of one command."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self.writer, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE
        while (found := self._next(until)).get("id") != self.number:
            self.events.setdefault(found.get("sessionId", ""), []).append(found)
        if "error" in found:
            raise RuntimeError(f"{method}: {found['error']}")
        return found["result"]

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.reader], [], [], max(0.0, until - time.monotonic()))
            read = os.read(self.reader, 1 << 20) if ready else b""
            if not read:
                raise TimeoutError("Chromium does not answer.")
            self.rest += read
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)


@dataclass(frozen=True)
class Page:
    """One open page."""

    browser: Browser
    target: str
    session: str

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one command about this page."""
        return self.browser.call(method, self.session, **params)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise's is awaited."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def until(self, script: str) -> Any:
        """The expression's value once it is true."""
        end = time.monotonic() + PATIENCE
        while not (value := self.run(script)):
            if time.monotonic() > end:
                raise TimeoutError(f"{script} never came true. {self.problems()}")
            time.sleep(0.05)
        return value

    def go(self, url: str) -> None:
        """Load a page and wait until its scripts have run."""
        self.call("Page.navigate", url=url)
        self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def picture(self, path: Path, whole: bool = False) -> None:
        """A PNG of what is seen, or of the whole page."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))
        path.write_bytes(base64.b64decode(found["data"]))

    def problems(self) -> list[str]:
        """Errors in the console, exceptions, and what the browser refused to do, until now."""
        self.run("0")
        found = []
        for event in self.browser.events.get(self.session, []):
            name, params = event["method"], event["params"]
            if name == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"].get("exception", {}).get("description", str(params)))
            elif name == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(f"console: {params['args']}")
            elif name == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"])
        return found

    def requests(self) -> list[str]:
        """Addresses that the page asked for, itself included."""
        self.run("0")
        events = self.browser.events.get(self.session, [])
        return [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with an empty profile; it ends, and its profile goes, with the block."""
    assert CHROMIUM is not None
    (from_us, out), (back, to_us) = os.pipe(), os.pipe()
    start = [sys.executable, "-c", START, str(from_us), str(to_us), CHROMIUM, *FLAGS]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [*start, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(from_us, to_us),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(from_us)
        os.close(to_us)
        browser = Browser(process, back, out)
        try:
            yield browser
            browser.call("Browser.close")
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
            os.close(back)
            os.close(out)


@contextlib.contextmanager
def tab(browser: Browser, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Page]:
    """A new page of its own context, of that many pixels, in light or dark."""
    context = browser.call("Target.createBrowserContext")["browserContextId"]
    target = browser.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    page = Page(browser, target, session)
    for domain in ("Page", "Runtime", "Log", "Network"):
        page.call(f"{domain}.enable")
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
    scheme = "dark" if dark else "light"
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    try:
        yield page
    finally:
        browser.call("Target.closeTarget", targetId=target)
        browser.call("Target.disposeBrowserContext", browserContextId=context)
