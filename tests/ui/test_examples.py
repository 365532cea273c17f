"""The Examples page shows what the index answers, and every text as the characters it is."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from attn.heads import HeadId
from attn.index.index import Index
from attn.index.query import Ranking
from attn.ui.examples.ranking import entered_token
from tests.ui.conftest import APP, HARMLESS, HOSTILE, Start, elements, said

HEAD = HeadId(1, 2)


def rows(app: AppTest) -> list[str]:
    """The head line of each row, as HTML."""
    return [e.value for e in app.html if e.value.startswith('<div class="attn-head"')]


def check(app: AppTest, ranking: Ranking) -> None:
    """The page's rows are the ranking's examples, in order."""
    found = rows(app)
    assert len(found) == len(ranking.examples)
    for line, example in zip(found, ranking.examples, strict=True):
        assert f"attention {example.attention:.3f}" in line
        assert f"document {example.document}," in line


def test_ranked_reversed_and_random(start: Start, index: Index) -> None:
    app = start("examples", layer=1, head=2)
    check(app, index.top(HEAD, 10))
    assert f"10 of {index.pairs(HEAD):,} pairs above average" in said(app)
    app.segmented_control(key="order").set_value("reversed").run()
    check(app, index.top(HEAD, 10, reverse=True))
    app.segmented_control(key="order").set_value("random").run()
    check(app, index.random(HEAD, 10))
    app.number_input(key="seed").set_value(7).run()
    check(app, index.random(HEAD, 10, seed=7))
    assert app.query_params["seed"] == "7"


def test_by_attention_rows_and_one_per_document(start: Start, index: Index) -> None:
    app = start("examples", layer=1, head=2)
    app.number_input(key="rows").set_value(4).run()
    app.segmented_control(key="by").set_value("attention").run()
    check(app, index.top(HEAD, 4, by="attention"))
    app.toggle(key="one").set_value(True).run()
    check(app, index.top(HEAD, 4, by="attention", one_per_document=True))
    assert "that the index keeps" in said(app)


def test_reversed_after_by_attention_is_by_multiple(start: Start, index: Index) -> None:
    app = start("examples", layer=1, head=2, by="attention", order="reversed")
    check(app, index.top(HEAD, 10, reverse=True))


@pytest.mark.parametrize("typed", [" the", "·the", "' the'"])
def test_source_token(start: Start, index: Index, typed: str) -> None:
    app = start("examples", layer=1, head=2)
    app.session_state["token"] = entered_token(typed, [])
    app.run()
    wanted = index.top(HEAD, 10, token=" the")
    assert wanted.examples
    check(app, wanted)
    assert "out of" in said(app)


def test_a_token_without_examples_names_near_ones(start: Start) -> None:
    app = start("examples", layer=1, head=2, token="THE")
    assert not rows(app)
    assert "No pair above average has the source token **THE**" in said(app)
    assert "·the" in said(app)


def test_a_link_reproduces_the_rows(start: Start, index: Index) -> None:
    query = {"layer": 1, "head": 2, "order": "random", "seed": 3, "rows": 5, "token": " the"}
    first = start("examples", **query)
    second = start("examples", **dict(first.query_params.items()))
    assert rows(first) == rows(second)
    check(second, index.random(HEAD, 5, seed=3, token=" the"))


@pytest.mark.parametrize(
    "query",
    [
        {"rows": 0},
        {"rows": "many"},
        {"rows": 10**30},
        {"order": "best"},
        {"by": "write"},
        {"seed": -1},
        {"open": "1-2"},
        {"one": "true"},
    ],
)
def test_bad_values_are_told_and_replaced(
    start: Start, index: Index, query: dict[str, object]
) -> None:
    app = start("examples", layer=1, head=2, **query)
    assert len(app.warning) == 1
    assert "is used instead" in said(app)
    check(app, index.top(HEAD, 10))


def test_opening_a_row_shows_its_heat_map(start: Start) -> None:
    app = start("examples", layer=1, head=2, rows=3)
    assert not app.get("plotly_chart")
    app.button(key=[b.key for b in app.button if b.key.startswith("open ")][1]).click().run()
    assert len(app.get("plotly_chart")) == 1
    assert app.query_params["open"].count("-") == 2
    app.toggle(key="rest").set_value(False).run()
    assert len(app.get("plotly_chart")) == 1
    again = start("examples", **dict(app.query_params))
    assert len(again.get("plotly_chart")) == 1
    assert again.toggle(key="rest").value is False


def test_hostile_texts_are_escaped(start: Start, hostile_indexes: Path) -> None:
    for layer, order in ((0, "ranked"), (1, "reversed"), (1, "random")):
        app = start("examples", hostile_indexes, layer=layer, head=0, order=order, rows=100)
        texts = [e.value for e in app.html if e.value.startswith('<div class="attn-row"')]
        assert texts
        for value in texts + rows(app):
            assert elements(value) <= HARMLESS
        plain = html.unescape(re.sub(r"<[^>]*>", "", " ".join(texts)))
        assert any(text[:40] in plain for text in HOSTILE)
        assert "<img" not in " ".join(e.value for e in app.markdown)


def test_the_page_needs_no_torch(tiny_indexes: Path) -> None:
    code = (
        "import sys\nfrom streamlit.testing.v1 import AppTest\n"
        f"app = AppTest.from_file({str(APP)!r}, default_timeout=60).run()\n"
        "app.switch_page('pages/examples.py').run()\n"
        "assert not app.exception and len(app.html) > 10\n"
        "heavy = {'torch', 'transformers', 'transformer_lens', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = {**os.environ, "ATTN_INDEXES": str(tiny_indexes)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr[-2000:]


def test_destination_and_expression(start: Start, index: Index) -> None:
    app = start("examples", layer=1, head=2)
    app.text_input(key="to").set_value("·cat").run()
    check(app, index.top(HEAD, 10, destination=" cat"))
    app.toggle(key="regex").set_value(True).run()
    app.text_input(key="to").set_value("^ (cat|dog)$").run()
    wanted = index.top(HEAD, 10, destination="^ (cat|dog)$", regex=True)
    assert wanted.examples
    check(app, wanted)
    assert app.query_params["to"] == "^ (cat|dog)$"
    app.text_input(key="to").set_value("(").run()
    assert "not a regular expression" in said(app)


def test_a_filter_tells_how_many_match_in_the_whole_corpus(start: Start, index: Index) -> None:
    app = start("examples", layer=1, head=2, token=" the", rows=50)
    ranking = index.top(HEAD, 50, token=" the")
    assert ranking.exact
    assert ranking.matching is not None
    assert f"of {ranking.matching:,} that match" in said(app)
    assert f"keeps the best {len(ranking.examples)}" in said(app)


def test_write_is_offered_where_the_scan_kept_it(start: Start) -> None:
    app = start("examples", layer=1, head=2, by="write")
    assert app.segmented_control(key="by").options == ["Multiple", "Attention"]
    assert "no write scores" in said(app)
