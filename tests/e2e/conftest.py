"""The app as its users have it: a server of its own, a real Chromium, the real built-in model."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
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


_open = ExitStack()  # Chromium, and the context that most tests share
_contexts: list[BrowserContext] = []
_FOLDER = Path(__file__).parent


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Chromium ends with the last test here: Playwright's event loop is in the way of others."""
    if nextitem is None or _FOLDER not in nextitem.path.parents:
        _contexts.clear()
        _open.close()


def _context(browser: Browser, tour: bool, **options: Any) -> BrowserContext:
    """A context that may copy and paste; things that only move stand still unless asked for."""
    options = {
        "viewport": {"width": 1440, "height": 1000}, "reduced_motion": "reduce", **options
    }  # fmt: skip
    context = browser.new_context(**options)
    if not tour:
        context.add_init_script("try { localStorage.setItem('attn-tour', 'done') } catch {}")
    context.set_default_timeout(120_000)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    return context


@pytest.fixture
def common() -> BrowserContext:
    """The context that tests share, so that the app's scripts are read once; its tour is over."""
    if not _contexts:
        browser = _open.enter_context(
            chromium("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        )
        _contexts.append(_context(browser, tour=False))
    return _contexts[0]


@pytest.fixture
def watch() -> Iterator[Callable[[BrowserContext], None]]:
    """Watch a context; in the end: no request has left here, no script has complained."""
    asked, wrong, watched = list[str](), list[str](), list[BrowserContext]()

    def console(message: ConsoleMessage) -> None:
        looked = _LOOKED.search(message.location.get("url", "")) and "404" in message.text
        if message.type == "error" and not looked and not _STOPPED.search(message.text):
            wrong.append(f"{message.text} ({message.location.get('url')})")

    def request(request: Request) -> None:
        asked.append(request.url)

    def opened(page: Page) -> None:
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.on("console", console)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))

    def begin(context: BrowserContext) -> None:
        context.on("request", request)
        context.on("page", opened)
        watched.append(context)

    yield begin
    for context in watched:
        context.remove_listener("request", request)
        context.remove_listener("page", opened)
    schemes = {"http", "https", "ws", "wss"}
    hosts = {part.hostname for part in map(urlsplit, asked) if part.scheme in schemes}
    assert hosts <= {"127.0.0.1"}
    assert not wrong


@pytest.fixture
def new_context(
    common: BrowserContext, watch: Callable[[BrowserContext], None]
) -> Iterator[Callable[..., BrowserContext]]:
    """Make contexts that have seen nothing yet, each a browser of its own; ``tour`` begins one."""
    contexts: list[BrowserContext] = []
    browser = common.browser
    assert browser is not None

    def make(tour: bool = False, **options: Any) -> BrowserContext:
        contexts.append(_context(browser, tour, **options))
        watch(contexts[-1])
        return contexts[-1]

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def new_page(
    common: BrowserContext, watch: Callable[[BrowserContext], None]
) -> Iterator[Callable[[], Page]]:
    """Open pages in the shared context; what they have kept there goes with the test."""
    watch(common)
    yield common.new_page
    for page in common.pages:
        if page.url.startswith("http"):
            page.evaluate("localStorage.clear(), sessionStorage.clear()")
        page.close()
    common.clear_cookies()


@pytest.fixture
def visit(new_page: Callable[[], Page], server: Server) -> Open:
    """Open a page of the shared server in a fresh tab, the query given as keywords."""

    def open_page(page: str = "", **query: object) -> Page:
        return go(new_page(), server.address(page, **query))

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
