"""A head's page as one file: what it holds, that it loads nothing, that no text becomes HTML."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import attn
from attn.analyse.similar import similar
from attn.analyse.summary import summary
from attn.corpus.corpus import load_corpus
from attn.describe.describe import own
from attn.describe.store import Descriptions, place
from attn.errors import HeadError, SharingError
from attn.formatting import shown
from attn.heads import HeadId
from attn.index.index import Index
from attn.scan.plan import Plan
from attn.scan.run import scan
from attn.show.report import file_name, report, write
from tests.conftest import Tiny
from tests.ui.conftest import HOSTILE

HEAD = HeadId(1, 2)
EVIL = "</script><script>alert(1)</script> <img src=x onerror=alert(1)> **b**"


class Page(HTMLParser):
    """A page as a browser takes it: elements, attributes, scripts, and what is read."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.text = " ".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and len(data) > 9:
            self.scripts.append(data)
        elif self.lasttag != "style":
            self.words.append(data)


@pytest.fixture(scope="module")
def index(gpt2: Tiny, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Index:
    out = tmp_path_factory.mktemp("indexes")
    plan = Plan(ctx=64, min_row=4)
    return Index.open(scan(gpt2.session, load_corpus(str(text_file)), plan, out=out))


@pytest.fixture(scope="module")
def hostile(gpt2: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """A corpus, its name and a description that would like to be HTML."""
    out, texts = (tmp_path_factory.mktemp(name) for name in ("indexes", "texts"))
    file = texts / "<img src=x onerror=alert(1)>.txt"
    file.write_text("\n".join([*HOSTILE, EVIL]) + "\n", encoding="utf-8")
    plan = Plan(ctx=96, min_row=2)
    index = Index.open(scan(gpt2.session, load_corpus(str(file)), plan, out=out))
    Descriptions(index).add(own(index, HEAD, EVIL))
    return index


def test_it_says_what_the_index_says(index: Index) -> None:
    page = Page(report(index, HEAD, n=4, seed=3))
    assert summary(index, HEAD) in page.text
    for warning in index.warnings():
        assert warning in page.text
    for name, value in index.numbers(HEAD).items():
        assert index.definition(name).warning in page.text
        assert f"{value:.4f}" in page.words, name
    for row in index.sources(HEAD, 25):
        assert shown(row.token) in page.words
        assert f"{row.lift:.2f}" in page.words
    for ranking in (
        index.top(HEAD, 4),
        index.random(HEAD, 4, seed=3),
        index.band(HEAD, 1, 2, seed=3),
    ):
        for example in ranking.examples:
            assert f"attention {example.attention:.3f}" in page.words
    assert f"4 of {index.pairs(HEAD):,} pairs above average" in page.text
    for one in similar(index, HEAD, 10):
        assert str(one.head) in page.words
        assert f"{one.distance:.3f}" in page.words
    for way, found in index.composes_with(HEAD).items():
        assert ", ".join(f"{one} {score:.3f}" for one, score in found) in page.words, way
    assert index.manifest.command in page.text
    assert f"?index={index.name}&layer=1&head=2&model=" in page.text
    assert "Descriptions" not in page.words


def test_figures_are_those_of_the_index(index: Index) -> None:
    import json

    import numpy as np

    figures = json.loads(Page(report(index, HEAD, n=1)).scripts[0])
    shares = [bar["x"][0] for bar in figures["L1H2.budget"]["data"]]
    np.testing.assert_allclose(shares, list(index.budget(HEAD).values()))
    maps = [name for name in figures if name not in ("L1H2.budget", "L1H2.singular-values")]
    assert len(maps) == 6
    frame = figures["L1H2.induction"]["layout"]["shapes"][0]
    assert (frame["x0"], frame["y0"]) == (1.5, 0.5)


def test_the_same_bytes_each_time(index: Index, tmp_path: Path) -> None:
    first = report(index, HEAD, n=3)
    assert report(Index.open(index.path), "L1H2", n=3) == first
    assert attn.report(index, HEAD, n=3) == first
    assert write(index, HEAD, tmp_path / "a.html", n=3).read_text("utf-8") == first
    assert [file.name for file in tmp_path.iterdir()] == ["a.html"]
    assert len(first) < 6_000_000
    assert report(index, HEAD, n=3, seed=1) != first


def test_it_loads_nothing(hostile: Index) -> None:
    page = report(hostile, HEAD)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    assert policy[1].startswith("default-src 'none'; ")
    assert "http" not in policy[1]
    found = Page(page)
    assert not {"src", "href", "srcset", "action", "data", "background"} & found.attributes
    assert not {"link", "img", "iframe", "object", "form", "base", "a"} & set(found.tags)


def test_no_text_becomes_html(hostile: Index) -> None:
    page = report(hostile, HEAD, n=100)
    found = Page(page)
    assert found.tags.count("script") == len(found.scripts) == 3
    assert found.attributes == {
        "charset", "class", "content", "dir",
        "http-equiv", "id", "lang", "name", "style", "title", "type",
    }  # fmt: skip
    assert EVIL in found.text
    assert html.escape(EVIL) in page
    assert "alert(1)" not in "".join(found.scripts)


def test_descriptions_come_with_what_is_known_of_them(hostile: Index) -> None:
    page = Page(report(hostile, HEAD, n=1))
    assert "Descriptions" in page.words
    assert "Not tested: there is no reason to believe it yet." in page.text
    assert place(hostile).exists()


def test_what_cannot_be_made_is_said(index: Index, tmp_path: Path) -> None:
    with pytest.raises(HeadError):
        report(index, HeadId(9, 0))
    with pytest.raises(SharingError, match="cannot be written"):
        write(index, HEAD, tmp_path / "none" / "a.html", n=1)
    assert file_name(index, HEAD) == f"{index.name}.L1H2.html"
