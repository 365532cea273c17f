"""The app as its users have it: a server of its own, a real Chromium, the real built-in model."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
)

from attn.index.index import Index
from tests.e2e.serving import Server, chromium, go, serve

HOSTILE = (
    "<script>window.taken = 1</script> and then <script>window.taken = 2</script> once more",
    "<img src=http://evil.example/a.png onerror=taken=3> <img src=http://evil.example/b.png>",
    "![picture](http://evil.example/c.png) ![picture](http://evil.example/c.png) and **bold**",
    "<form action=http://evil.example/><input name=q autofocus></form> <form action=/></form>",
    "'\" onmouseover='taken=4' \"quoted\" `code` $x^2$ :red[word] [link](javascript:taken=5)",
)

# Streamlit's client looks for its server under the page's own path first; what its console says of
# that, and of a server that a test has stopped, is all that a browser may complain of.
_LOOKED = re.compile(r"/[a-z]+/_stcore/(health|host-config)$")
_STOPPED = re.compile(r"ERR_CONNECTION_REFUSED|reaching server endpoint|is not responding")

expect.set_options(timeout=120_000)

Open = Callable[..., Page]
OpenFile = Callable[[Path], Page]


@pytest.fixture(scope="session")
def indexes(session: Any, sample_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sample's index and an older one of a hostile corpus, by the real model."""
    from attn.corpus.corpus import load_corpus
    from attn.scan.plan import Plan
    from attn.scan.run import scan

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
    with chromium("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1") as running:
        yield running


@pytest.fixture
def new_context(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Make browsers whose tour is over. In the end: no request left here, no script complained."""
    contexts, asked, wrong = [], list[str](), list[str]()

    def console(message: ConsoleMessage) -> None:
        looked = _LOOKED.search(message.location.get("url", "")) and "404" in message.text
        if message.type == "error" and not looked and not _STOPPED.search(message.text):
            wrong.append(f"{message.text} ({message.location.get('url')})")

    def watch(page: Page) -> None:
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.on("console", console)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))

    def make(tour: bool = False, **options: Any) -> BrowserContext:
        options.setdefault("viewport", {"width": 1440, "height": 1000})
        context = browser.new_context(**options)
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


@pytest.fixture
def open_file(new_context: Callable[[], BrowserContext]) -> OpenFile:
    """Open a file without a network; in the end, nothing was asked for and nothing was wrong."""

    def opened(file: Path) -> Page:
        context = new_context()
        context.set_offline(True)
        page = context.new_page()
        asked, said = list[str](), list[str]()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto(file.as_uri())
        page.locator(".js-plotly-plot .main-svg").first.wait_for()
        assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [file.as_uri()]
        assert not said
        return page

    return opened


def heading(page: Page) -> Any:
    """The page's headline."""
    return page.locator("[data-testid=stMain] h2").first
