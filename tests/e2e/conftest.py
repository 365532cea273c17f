"""The app as its users have it: a server of its own, a real Chromium, the real built-in model."""

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from attn.index import Index

ROOT = Path(__file__).parents[2]
READY = "[data-testid=stApp][data-test-script-state=notRunning]"
HOSTILE = (
    "<script>window.taken = 1</script> and then <script>window.taken = 2</script> once more",
    "<img src=http://evil.example/a.png onerror=taken=3> <img src=http://evil.example/b.png>",
    "![picture](http://evil.example/c.png) ![picture](http://evil.example/c.png) and **bold**",
    "<form action=http://evil.example/><input name=q autofocus></form> <form action=/></form>",
    "'\" onmouseover='taken=4' \"quoted\" `code` $x^2$ :red[word] [link](javascript:taken=5)",
)

# What Streamlit prints where a browser leaves while something is on its way to it.
_LEFT = re.compile(
    r"Exception in ASGI application\nTraceback(?:(?!Exception in ASGI).)*?"
    r'WebSocketDisconnected: Cannot call "send" once a close message has been sent\.\n',
    re.DOTALL,
)

expect.set_options(timeout=120_000)

Open = Callable[..., Page]


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
    """Start `streamlit run app.py` and stop it in the end; it may not have printed a traceback."""
    port = port or free_port()
    where = ["--server.address", "127.0.0.1", "--server.port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "app.py", *where],
            cwd=ROOT,
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
    pytest.fail(f"The server does not answer: {log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def indexes(session: Any, sample_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sample's index and an older one of a hostile corpus, by the real model."""
    from attn.corpus import load_corpus
    from attn.scan import Plan, scan

    out = tmp_path_factory.mktemp("real-indexes")
    texts = tmp_path_factory.mktemp("hostile") / "<img src=x onerror=taken=6>.txt"
    texts.write_text("\n".join(HOSTILE) + "\n", encoding="utf-8")
    hostile = scan(session, load_corpus(str(texts)), Plan(min_row=2), out=out)
    os.utime(hostile / "manifest.json", (1_000_000_000, 1_000_000_000))
    shutil.copytree(sample_index, out / sample_index.name)
    return out


@pytest.fixture
def index(indexes: Path, sample_index: Path) -> Index:
    """The sample's index, opened: what the pages should show."""
    return Index.open(indexes / sample_index.name)


@pytest.fixture(scope="session")
def server(indexes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the tests of a process share; the newest index is that of the sample."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with serve(log, ATTN_INDEXES=indexes) as running:
        yield running


# Not for the whole session: Playwright's event loop would be in the way of other tests.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium from PATH or, where there is none, Playwright's own."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for found in map(shutil.which, names) if found), None)
    unsafe = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    nowhere = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=[*unsafe, *nowhere])
        yield running
        running.close()


@pytest.fixture
def new_context(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Make browsers whose tour is over. In the end: no request left here, no script failed."""
    contexts, asked, wrong = [], list[str](), list[str]()

    def watch(page: Page) -> None:
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))

    def make(tour: bool = False) -> BrowserContext:
        context = browser.new_context(viewport={"width": 1440, "height": 1000})
        if not tour:
            context.add_init_script("try { localStorage.setItem('attn-tour', 'done') } catch {}")
        context.set_default_timeout(120_000)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        context.on("request", lambda request: asked.append(request.url))
        context.on("page", watch)
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        context.close()
    schemes = {"http", "https", "ws", "wss"}
    hosts = {part.hostname for part in map(urlsplit, asked) if part.scheme in schemes}
    assert hosts <= {"127.0.0.1"}
    assert not wrong


@pytest.fixture
def visit(new_context: Callable[[], BrowserContext], server: Server) -> Open:
    """Open a page of the shared server in a fresh browser, the query given as keywords."""

    def open_page(page: str = "", **query: object) -> Page:
        return go(new_context().new_page(), server.address(page, **query))

    return open_page


def go(page: Page, address: str) -> Page:
    """Open an address and wait until the app has drawn it."""
    page.goto(address)
    page.locator(READY).wait_for()
    page.locator("[data-testid=stMain] :is(h2, [data-testid=stAlert])").first.wait_for()
    return page


def heading(page: Page) -> Any:
    """The page's headline."""
    return page.locator("[data-testid=stMain] h2").first
