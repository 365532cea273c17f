"""What a visitor waits for, in a real Chromium, on the built-in model and the sample's index.

    python -m benchmarks.browser

Times are medians. "server" is a run of the page's script, with no browser that takes the same two
cores; "screen" is from the key or click until Chromium has the new view. A page's payload is what
comes over the socket until the page stands, scripts and styles apart.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest

from attn.corpus.corpus import load_corpus
from attn.models.builtin import NAME
from attn.models.session import ModelSession, load_model
from attn.scan.run import scan
from benchmarks.report import report
from tests.e2e.serving import ROOT, Server, chromium, go, serve

ROUNDS, TOKENS, MANY = 7, 64, 1024
HEAD: dict[str, int] = {"layer": 18, "head": 6}
TEXTS = (
    "Mira Castell opened the old ferry office at seven. ",
    "At noon the twelve tickets were sold, and it rained on the boats. ",
)
PAGES = ("heads", "examples", "prompt", "search", "compare", "describe", "scan", "methods")
MAP = "[class*=st-key-grid] .heatmaplayer image"
ROW = ".attn-head"

# Runs in the page: how long after the next key or click ``selector`` says something else.
WATCH = """selector => {
    const components = "[data-testid=stBidiComponentIsolated]"
    const now = () => [document, ...document.querySelectorAll(components)]
        .flatMap(root => [...(root.shadowRoot ?? root).querySelectorAll(selector)])
        .map(element => element.textContent).join()
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


def page_of(browser: Browser) -> Page:
    """A page whose visitor has seen the tour."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    context.add_init_script("try { localStorage.setItem('attn-tour', 'done') } catch {}")
    return context.new_page()


# Runs in the page: milliseconds to draw the view anew, for tokens spread over the text.
PAINT = """(element, [tokens, rounds]) => [...Array(rounds).keys()].map(round => {
    const start = performance.now()
    element.view.over = Math.floor((round + 0.5) * tokens / rounds)
    element.view.paint()
    element.getBoundingClientRect()
    return performance.now() - start
})"""


@contextmanager
def served(indexes: Path) -> Iterator[Server]:
    with (
        tempfile.TemporaryDirectory() as logs,
        serve(Path(logs) / "log.txt", ATTN_INDEXES=indexes) as running,
    ):
        yield running


def first_paint(browser: Browser, indexes: Path) -> tuple[float, float, float]:
    """Seconds until something, the headline, and the map of all heads is drawn.

    For the first visitor of a fresh server, whose browser has none of the app's scripts.
    """
    with served(indexes) as server:
        page = page_of(browser)
        start = time.perf_counter()
        page.goto(server.address())
        page.locator("[data-testid=stMain] h2").first.wait_for()
        headline = time.perf_counter() - start
        page.locator(MAP).first.wait_for()
        drawn = time.perf_counter() - start
        paint = page.evaluate(
            "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"
        )
        page.context.close()
    return paint, headline, drawn


def change(page: Page, selector: str, act: Callable[[], None]) -> float:
    """Seconds from ``act`` until ``selector`` says otherwise."""
    page.evaluate(WATCH, selector)
    act()
    took: float = page.evaluate("window.took") / 1000
    page.wait_for_timeout(500)
    return took


def slider(page: Page, server: Server) -> list[float]:
    """Moves of the slider Layer on Examples, in seconds."""
    go(page, server.address("examples", **HEAD))
    page.wait_for_timeout(2000)
    page.get_by_role("slider", name="Layer").focus()
    keys = ["ArrowLeft" if turn % 2 else "ArrowRight" for turn in range(ROUNDS)]
    return [change(page, ROW, partial(page.keyboard.press, key)) for key in keys]


def prompt(page: Page, server: Server, texts: list[str]) -> list[float]:
    """New texts on Prompt, the model in memory, in seconds."""
    go(page, server.address("prompt", text=texts[1], **HEAD))
    page.locator(".view .text span").first.wait_for()
    page.wait_for_timeout(2000)
    times = []
    for turn in range(ROUNDS):
        page.get_by_role("textbox", name="Your text").fill(texts[turn % 2])
        button = page.get_by_role("button", name="Show attention")
        times.append(change(page, ".view .text", button.click))
    return times


def pointing(page: Page, text: str) -> float:
    """Seconds that the token view takes to show where one token of ``text`` looks; on Prompt."""
    page.get_by_role("textbox", name="Your text").fill(text)
    page.get_by_role("button", name="Show attention").click()
    tokens = page.locator(".view .text span")
    expect(tokens).to_have_count(MANY, timeout=60_000)
    page.wait_for_timeout(2000)
    times: list[float] = page.locator(".view").evaluate(PAINT, [MANY, ROUNDS])
    return statistics.median(times) / 1000


def scripts(indexes: Path, texts: list[str]) -> tuple[list[float], list[float]]:
    """Seconds that the server works for a move of the slider, and for a new text."""
    os.environ |= {"ATTN_INDEXES": str(indexes), "ATTN_WARM": "0"}

    def runs(page: str, name: str, values: Sequence[object]) -> list[float]:
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
        for key, number in HEAD.items():
            app.query_params[key] = str(number)
        app.run()
        app.switch_page(f"pages/{page}.py").run()
        times = []
        for value in values:
            app.session_state[name] = value
            start = time.perf_counter()
            app.run()
            times.append(time.perf_counter() - start)
            assert not app.exception
        return times

    layers = [HEAD["layer"] + 1 - turn % 2 for turn in range(ROUNDS)]
    return runs("examples", "layer", layers), runs("prompt", "text", (texts * ROUNDS)[:ROUNDS])


def payload(page: Page, address: str) -> tuple[int, float]:
    """Bytes over the socket, and seconds, until a page stands in a browser that knows the app."""
    taken = 0

    def come(event: dict[str, Any]) -> None:
        nonlocal taken
        taken += len(event["response"]["payloadData"]) * 3 // 4  # base64

    devtools = page.context.new_cdp_session(page)
    devtools.send("Network.enable")
    devtools.on("Network.webSocketFrameReceived", come)
    start = time.perf_counter()
    go(page, address)
    took = time.perf_counter() - start
    page.wait_for_timeout(1500)
    devtools.detach()
    return taken, took


def rows(indexes: Path, texts: list[str], long: str) -> Iterator[dict[str, Any]]:
    """What is reported."""

    def row(what: str, ms: float | str, bar: int | str, kb: float | str = "") -> dict[str, Any]:
        return {"what": what, "ms": ms, "at most": bar, "kB": kb}

    by_slider, by_text = scripts(indexes, texts)
    with chromium() as browser:
        paints = [first_paint(browser, indexes) for _ in range(3)]
        paint, headline, drawn = map(statistics.median, zip(*paints, strict=True))
        yield row("first paint, fresh server and browser", 1000 * paint, 2000)
        yield row("its headline", 1000 * headline, "")
        yield row("its map of all heads", 1000 * drawn, "")
        with served(indexes) as server:
            page = page_of(browser)
            go(page, server.address("prompt", **HEAD))
            page.locator(".view .text span").first.wait_for()  # the model is in memory
            moved, typed = slider(page, server), prompt(page, server, texts)
            yield row("slider to new rows, server", 1000 * statistics.median(by_slider), 300)
            yield row("slider to new rows, screen", 1000 * statistics.median(moved), 1000)
            yield row(f"{TOKENS} new tokens, server", 1000 * statistics.median(by_text), "")
            yield row(f"{TOKENS} new tokens, screen", 1000 * statistics.median(typed), "")
            yield row(f"pointing at one of {MANY:,} tokens", 1000 * pointing(page, long), 50)
            for name in PAGES:
                taken, took = payload(page, server.address(name, **HEAD))
                yield row(f"page {name.capitalize()}", 1000 * took, "", taken / 1000)


def cut(session: ModelSession, text: str, tokens: int) -> str:
    """``text``, over and over, as long as ``tokens``."""
    found = session.encode(text * tokens, limit=tokens)
    assert len(found) == tokens
    return "".join(found.texts[int(session.has_bos) :])


def main() -> None:
    session = load_model(NAME)
    texts = [cut(session, text, TOKENS) for text in TEXTS]
    long = cut(session, "".join(TEXTS), MANY)
    with tempfile.TemporaryDirectory() as folder:
        scan(session, load_corpus("sample"), out=Path(folder))
        del session
        report("browser", [*rows(Path(folder), texts, long)])


if __name__ == "__main__":
    main()
