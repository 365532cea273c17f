"""What a visitor waits for, in a real Chromium, on the built-in model and the sample's index.

    python -m benchmarks.browser

Times are medians of ROUNDS. "server" is from the frame that the browser sends to the last one that
comes back; "screen" from the key or click until the new view is drawn. A page's payload is what the
server sends over the socket until the page stands, scripts and styles apart.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page

from attn.builtin import NAME
from attn.corpus import load_corpus
from attn.model import load_model
from attn.scan import scan
from benchmarks.report import report
from tests.e2e.serving import Server, chromium, go, serve

ROUNDS, TOKENS = 7, 64
HEAD = {"layer": 18, "head": 6}
TEXTS = (
    "Mira Castell opened the old ferry office at seven. ",
    "At noon the twelve tickets were sold, and it rained on the boats. ",
)
PAGES = ("heads", "examples", "prompt", "search", "compare", "describe", "scan", "methods")
MAP = "[class*=st-key-grid] .heatmaplayer image"
ROW = ".attn-head"

# Runs in the page: how long after the next key or click ``selector`` says something else.
WATCH = """selector => {
    const now = () => [...document.querySelectorAll(selector)].map(e => e.textContent).join()
    const before = now()
    window.took = new Promise(done => {
        let start
        for (const kind of ["keydown", "click"])
            addEventListener(kind, () => { start ??= performance.now() }, true)
        const look = () => {
            const said = now()
            if (start !== undefined && said && said !== before) done(performance.now() - start)
            else requestAnimationFrame(look)
        }
        look()
    })
}"""


@dataclass
class Socket:
    """The frames of a page's socket: seconds of each sent and received, bytes received."""

    sent: list[float] = field(default_factory=list)
    received: list[float] = field(default_factory=list)
    bytes: int = 0

    def listen(self, page: Page) -> CDPSession:
        """Take down what goes over the socket from now on."""
        devtools = page.context.new_cdp_session(page)
        devtools.send("Network.enable")

        def come(event: dict[str, Any]) -> None:
            self.received.append(event["timestamp"])
            self.bytes += len(event["response"]["payloadData"]) * 3 // 4  # base64

        devtools.on("Network.webSocketFrameReceived", come)
        devtools.on("Network.webSocketFrameSent", lambda e: self.sent.append(e["timestamp"]))
        return devtools

    def clear(self) -> None:
        self.sent.clear()
        self.received.clear()
        self.bytes = 0


def page_of(browser: Browser) -> Page:
    """A page whose visitor has seen the tour."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    context.add_init_script("try { localStorage.setItem('attn-tour', 'done') } catch {}")
    return context.new_page()


@contextmanager
def served(indexes: Path) -> Iterator[Server]:
    with (
        tempfile.TemporaryDirectory() as logs,
        serve(Path(logs) / "log.txt", ATTN_INDEXES=indexes) as running,
    ):
        yield running


def first_paint(browser: Browser, indexes: Path) -> float:
    """Seconds until the map of all heads is drawn, for the first visitor of a fresh server."""
    with served(indexes) as server:
        page = page_of(browser)
        start = time.perf_counter()
        page.goto(server.address())
        page.locator(MAP).first.wait_for()
        took = time.perf_counter() - start
        page.context.close()
    return took


def change(page: Page, socket: Socket, selector: str, act: Callable[[], None]) -> tuple[float, ...]:
    """Seconds on the server and on the screen from ``act`` until ``selector`` says otherwise."""
    page.evaluate(WATCH, selector)
    socket.clear()
    act()
    screen = page.evaluate("window.took") / 1000
    page.wait_for_timeout(500)  # the frames that follow, such as "the script has run"
    return socket.received[-1] - socket.sent[0], screen


def slider(page: Page, server: Server) -> Iterator[tuple[float, ...]]:
    """Moves of the slider Layer on Examples."""
    socket = Socket()
    socket.listen(page)
    go(page, server.address("examples", **HEAD))
    page.wait_for_timeout(2000)
    page.get_by_role("slider", name="Layer").focus()
    for turn in range(ROUNDS):
        key = "ArrowLeft" if turn % 2 else "ArrowRight"
        yield change(page, socket, ROW, partial(page.keyboard.press, key))


def prompt(page: Page, server: Server, texts: list[str]) -> Iterator[tuple[float, ...]]:
    """New texts on Prompt, the model in memory."""
    socket = Socket()
    socket.listen(page)
    go(page, server.address("prompt", text=texts[1], **HEAD))
    page.locator(".view .text span").first.wait_for()
    page.wait_for_timeout(2000)
    for turn in range(ROUNDS):
        page.get_by_role("textbox", name="Your text").fill(texts[turn % 2])
        button = page.get_by_role("button", name="Show attention")
        yield change(page, socket, ".view .text", button.click)


def payload(page: Page, address: str) -> tuple[int, float]:
    """Bytes over the socket, and seconds, until a page stands in a browser that knows the app."""
    socket = Socket()
    socket.listen(page)
    start = time.perf_counter()
    go(page, address)
    took = time.perf_counter() - start
    page.wait_for_timeout(1500)
    return socket.bytes, took


def rows(indexes: Path, texts: list[str]) -> Iterator[dict[str, Any]]:
    """What is reported."""

    def row(what: str, ms: float | str, bar: int | str, kb: float | str = "") -> dict[str, Any]:
        return {"what": what, "ms": ms, "at most": bar, "kB": kb}

    with chromium() as browser:
        paints = [first_paint(browser, indexes) for _ in range(3)]
        yield row("first paint, fresh server and browser", 1000 * statistics.median(paints), 2000)
        with served(indexes) as server:
            page = page_of(browser)
            for what, times, bars in (
                ("slider to new rows", slider(page, server), (300, 1000)),
                (f"Prompt, {TOKENS} new tokens", prompt(page, server, texts), ("", "")),
            ):
                server_s, screen_s = zip(*times, strict=True)
                yield row(f"{what}, server", 1000 * statistics.median(server_s), bars[0])
                yield row(f"{what}, screen", 1000 * statistics.median(screen_s), bars[1])
            for name in PAGES:
                taken, took = payload(page, server.address(name, **HEAD))
                yield row(f"page {name.capitalize()}", 1000 * took, "", taken / 1000)


def main() -> None:
    session = load_model(NAME)
    texts = []
    for text in TEXTS:
        tokens = session.encode(text * 10, limit=TOKENS)
        assert len(tokens) == TOKENS
        texts.append("".join(tokens.texts[int(session.has_bos) :]))
    with tempfile.TemporaryDirectory() as folder:
        scan(session, load_corpus("sample"), out=Path(folder))
        del session
        report("browser", [*rows(Path(folder), texts)])


if __name__ == "__main__":
    main()
