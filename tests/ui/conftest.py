"""The app in process, over an index of the tiny GPT-2: two layers of four heads."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from attn.corpus.corpus import load_corpus
from attn.index.index import Index
from attn.scan.plan import Plan
from attn.scan.run import scan
from attn.ui.jobs import runner
from tests.conftest import Tiny

APP = Path(__file__).parents[2] / "app.py"
HOSTILE = (
    "<script>document.title = 'taken'</script> and then <script>alert(1)</script> once more",
    "<img src=http://evil.example/a.png onerror=alert(1)> <img src=http://evil.example/b.png>",
    "![picture](http://evil.example/c.png) ![picture](http://evil.example/c.png) and **bold**",
    "<form action=http://evil.example/><input name=q autofocus></form> <form action=/></form>",
    "'\" onmouseover='alert(1)' \"quoted\" `code` $x^2$ :red[word] [link](javascript:alert(1))",
    "the cat sat on the mat and the dog sat on the mat, and the cat and the dog sat there",
)

Start = Callable[..., AppTest]


@pytest.fixture(scope="session")
def tiny_indexes(gpt2: Tiny, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one index of the tiny GPT-2."""
    out = tmp_path_factory.mktemp("tiny-indexes")
    scan(gpt2.session, load_corpus(str(text_file)), Plan(ctx=64, min_row=4), out=out)
    return out


@pytest.fixture(scope="session")
def hostile_indexes(gpt2: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one index of a corpus that would like to be HTML and Markdown."""
    out = tmp_path_factory.mktemp("hostile-indexes")
    texts = tmp_path_factory.mktemp("hostile") / "<img src=x onerror=alert(1)>.txt"
    texts.write_text("\n".join(HOSTILE) + "\n", encoding="utf-8")
    scan(gpt2.session, load_corpus(str(texts)), Plan(ctx=96, min_row=2), out=out)
    return out


@pytest.fixture
def index(tiny_indexes: Path) -> Index:
    """The tiny index, opened."""
    return Index.open(next(tiny_indexes.glob("*/manifest.json")).parent)


@pytest.fixture
def start(tiny_indexes: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Open a page of the app in a session of its own, with the query given as keywords."""
    monkeypatch.setenv("ATTN_INDEXES", str(tiny_indexes))
    runner.clear()

    def open_page(page: str = "heads", indexes: Path | None = None, **query: object) -> AppTest:
        if indexes is not None:
            monkeypatch.setenv("ATTN_INDEXES", str(indexes))
        app = AppTest.from_file(str(APP), default_timeout=60)
        app.query_params.update({name: str(value) for name, value in query.items()})
        app.run()
        if page != "heads":
            kept = {name: str(value) for name, value in query.items()}
            app.switch_page(f"pages/{page}.py")
            app.query_params.update(kept)
            app.run()
        assert not app.exception
        return app

    return open_page


def said(app: AppTest) -> str:
    """Everything the page says in words, on one line."""
    parts = [e.value for kind in ("header", "subheader", "markdown") for e in app.get(kind)]
    parts += [e.value for kind in ("info", "warning", "error", "caption") for e in app.get(kind)]
    return " ".join(str(part) for part in parts).replace("\\", "")


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {tag, *(f"@{name}" for name, _ in attrs)}


def elements(html: str) -> set[str]:
    """The element names and ``@`` attribute names that a browser would see in a piece of HTML."""
    parser = _Elements()
    parser.feed(html)
    return parser.found


HARMLESS = {
    "div", "p", "span", "b", "i", "details", "summary", "@class", "@dir", "@style", "@title",
}  # fmt: skip
