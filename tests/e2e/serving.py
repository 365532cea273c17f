"""The app on a server of its own and a real Chromium, for tests and benchmarks."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[2]
READY = "[data-testid=stApp][data-test-script-state=notRunning]"

# What Streamlit prints where a browser leaves while something is on its way to it.
_LEFT = re.compile(
    r"Exception in ASGI application\nTraceback(?:(?!Exception in ASGI).)*?"
    r'WebSocketDisconnected: Cannot call "send" once a close message has been sent\.\n',
    re.DOTALL,
)


@dataclass(frozen=True)
class Server:
    """A running app: its address, and the file that its output goes to."""

    url: str
    port: int
    log: Path

    def address(self, page: str = "", **query: object) -> str:
        """The address of a page of it."""
        return f"{self.url}/{page}?{urlencode({k: str(v) for k, v in query.items()})}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serve(log: Path, port: int | None = None, **env: object) -> Iterator[Server]:
    """Start `streamlit run app.py` in the checkout; see :func:`running`."""
    port = port or free_port()
    where = ["--server.address", "127.0.0.1", "--server.port", str(port)]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", *where]
    with running(command, ROOT, log, port, **env) as server:
        yield server


@contextmanager
def running(
    command: list[str], folder: Path, log: Path, port: int, **env: object
) -> Iterator[Server]:
    """Start the app by a command and stop it in the end; it may not have printed a traceback."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {name: str(value) for name, value in env.items()},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(process, port, log)
            yield Server(f"http://127.0.0.1:{port}", port, log)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    said = _LEFT.sub("", log.read_text())
    assert "Traceback" not in said, said[-3000:]


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(1200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text()[-3000:]
            time.sleep(0.05)
    raise TimeoutError(f"The server does not answer: {log.read_text()[-3000:]}")


@contextmanager
def chromium(*args: str) -> Iterator[Browser]:
    """Chromium from PATH or, where there is none, Playwright's own."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for found in map(shutil.which, names) if found), None)
    unsafe = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=[*unsafe, *args])
        yield running
        running.close()


def go(page: Page, address: str) -> Page:
    """Open an address and wait until the app has drawn it."""
    page.goto(address)
    page.locator(READY).wait_for()
    page.locator("[data-testid=stMain] :is(h2, [data-testid=stAlert])").first.wait_for()
    return page
