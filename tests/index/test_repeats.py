"""Corpora that repeat texts: one example a text, how many more there are, what is said of it."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from attn.corpus.corpus import Document, load_corpus
from attn.index.index import Index
from attn.index.repeats import RepeatFinder, Repeats
from attn.scan.plan import Plan
from attn.scan.run import scan
from attn.show.report import report
from attn.show.token_html import example_head
from tests.conftest import DOCUMENTS, Tiny
from tests.scanned import HEADS

EIGHT = [text for text in DOCUMENTS[:9] if len(text) > 9]
LINE = "Subscribe to the log, the mat and the dog: subscribe to the log, the mat and the dog."
TEXTS = [*EIGHT[:4], *[LINE] * 30, *EIGHT[4:], *[LINE] * 10, EIGHT[0]]


@pytest.fixture(scope="module")
def index(gpt2: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("repeats")
    lines = folder / "lines.txt"
    lines.write_text("\n".join(TEXTS), encoding="utf-8")
    plan = Plan(ctx=64, min_row=4, top=12, sample=30, shard=8)
    return Index.open(scan(gpt2.session, load_corpus(str(lines)), plan, out=folder))


def texts_of(index: Index, **more: object) -> list[str]:
    """The texts of a ranking, one per document."""
    found = []
    for head in HEADS:
        ranking = index.top(head, 100, one_per_document=True, **more)  # type: ignore[arg-type]
        texts = [TEXTS[example.document] for example in ranking.examples]
        assert len(set(texts)) == len(texts)
        assert len(texts) == ranking.kept
        found += texts
    return found


def test_one_example_a_text(index: Index) -> None:
    found = Counter(texts_of(index))
    assert set(found.values()) == {len(HEADS)}
    assert set(found) == set(TEXTS)
    for head in HEADS:  # though the ranking itself is full of copies
        texts = [TEXTS[example.document] for example in index.top(head, 12).examples]
        assert len(texts) == 12
        assert len(set(texts)) < 12


@pytest.mark.parametrize(
    "more", [{"by": "attention"}, {"reverse": True}, {"token": " the"}, {"distance": (1, 9)}]
)
def test_however_it_is_ranked(index: Index, more: dict[str, object]) -> None:
    assert texts_of(index, **more)


def test_an_example_says_how_many_more_there_are(index: Index) -> None:
    seen = set()
    for head in HEADS:
        for example in (
            *index.top(head, 50, one_per_document=True).examples,
            *index.random(head, 30).examples,
        ):
            more = TEXTS.count(TEXTS[example.document]) - 1
            assert example.copies == more
            assert example.more == (f"and {more} more of the same text" if more else "")
            shown = example_head(example, index.window(example.document), 1)
            assert ("more of the same text" in shown) == (more > 0)
            assert example.more in shown
            assert "copies" not in example.record()
            seen.add(more)
    assert seen == {0, 1, 39}
    assert "and 39 more of the same text" in report(index, HEADS[0])


def test_the_scan_says_how_much_is_repeated(index: Index, gpt2: Tiny, tmp_path: Path) -> None:
    assert index.manifest.repeated == len(TEXTS) - len(set(TEXTS)) == 40
    sentence = f"40 of {len(TEXTS)} documents (83 %) repeat the text of an earlier one."
    assert sentence in index.warnings()
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(EIGHT), encoding="utf-8")
    other = Index.open(scan(gpt2.session, load_corpus(str(lines)), Plan(ctx=64), out=tmp_path))
    assert other.manifest.repeated == 0
    assert not any("repeat" in said for said in other.warnings())


@pytest.mark.parametrize("different", [1, 3, 40, 10**6])
def test_against_counting(tmp_path: Path, different: int) -> None:
    """Places with gaps, as documents too short to scan leave them."""
    draw = random.Random(different)
    places = sorted(draw.sample(range(1000), 60))
    texts = {place: str(draw.randrange(different)) for place in places}
    finder = RepeatFinder()
    for place in places:
        finder.add(place, Document.make(place, texts[place], "").id)
    finder.write(tmp_path)
    found = Repeats.read(tmp_path)
    assert len(finder) == len(places) - len(set(texts.values()))
    asked = [draw.choice(places) for _ in range(100)]
    wanted = [min(p for p in places if texts[p] == texts[place]) for place in asked]
    assert found.texts(np.array(asked)).tolist() == wanted
    counts = Counter(texts.values())
    assert found.copies(np.array(asked)).tolist() == [counts[texts[p]] - 1 for p in asked]
    assert found.texts(np.zeros(0, np.int64)).tolist() == []
