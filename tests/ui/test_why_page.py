"""The Why page: the sums on screen, the graph, the trail, links, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from attn.analyse.why.split import read, split
from attn.corpus.corpus import load_corpus
from attn.heads import HeadId
from attn.index.index import Index
from attn.models.session import load_model
from attn.scan.plan import Plan
from attn.scan.run import scan
from attn.ui.why import why
from tests.architectures import ALL, save
from tests.conftest import Tiny
from tests.ui.conftest import Start, said

SENTENCE = "the cat sat on the mat and the dog sat on the mat"


def bars(app: Any) -> list[dict[str, float]]:
    """Every bar list of the page: name → value."""
    found = []
    for chart in app.get("plotly_chart"):
        figure = json.loads(chart.proto.spec)
        found.append(
            dict(zip(figure["layout"]["yaxis"]["ticktext"], figure["data"][0]["x"], strict=True))
        )
    return found


def test_both_sides_add_to_the_total_on_screen(start: Start, gpt2: Tiny) -> None:
    app = start("why", layer=1, head=2, text=SENTENCE, look="9-4")
    stream = read(gpt2.session, gpt2.ids(SENTENCE))
    wanted = split(stream, HeadId(1, 2), 9, 4)
    (stands,) = re.findall(r"\*\*([+-][0-9.]+) nats\*\*", said(app))
    assert float(stands) == pytest.approx(wanted.total, abs=0.006)
    query, key, direct = bars(app)
    assert sum(query.values()) == pytest.approx(wanted.total, abs=1e-4)
    assert sum(key.values()) == pytest.approx(wanted.total, abs=1e-4)
    assert {"embedding", "position", "MLP 0"} <= set(query) | {"bias"}
    assert direct
    assert "Query side" in said(app)
    assert "What the look does" in said(app)


def test_the_strongest_look_unless_one_is_asked_for(start: Start, gpt2: Tiny) -> None:
    app = start("why", layer=1, head=2, text=SENTENCE)
    pattern = gpt2.session.pattern(gpt2.ids(SENTENCE), HeadId(1, 2)).numpy()
    best = max(
        (pattern[dst, src] * (dst + 1), dst, src)
        for dst in range(4, len(pattern))
        for src in range(1, dst + 1)
    )
    assert f"({best[1]}) gives" in said(app)
    assert f"({best[2]})" in said(app)
    app.selectbox(key="_src").set_value(2).run()
    assert not app.exception
    assert app.query_params["look"] == f"{best[1]}-2"


def test_an_earlier_look_and_back(start: Start) -> None:
    app = start("why", layer=1, head=2, text=SENTENCE, look="9-4", trail="L1H2:0-9-4,L0H1:0-4-3")
    assert app.button(key="trail 1").label == "L0H1 4 → 3"
    app.button(key="trail 0").click().run()
    assert not app.exception
    assert app.query_params["look"] == "9-4"
    assert app.query_params["trail"] == ""
    assert (app.query_params["layer"], app.query_params["head"]) == ("1", "2")


def test_a_document_of_the_corpus(start: Start, index: Index) -> None:
    example = index.top(HeadId(1, 2), 1).examples[0]
    app = start(
        "why", layer=1, head=2, document=f"{example.document}-{example.start}",
        look=f"{example.dst}-{example.src}",
    )  # fmt: skip
    assert "of the index's corpus" in said(app)
    assert f"{example.attention:.1%}"[:3] in said(app)
    assert not app.text_area


@pytest.mark.parametrize(
    "bad", [{"look": "99-2"}, {"look": "2-9"}, {"look": "x"}, {"document": "1"}, {"steps": 9}]
)
def test_bad_links(start: Start, bad: dict[str, object]) -> None:
    app = start("why", layer=1, head=2, text=SENTENCE, **bad)
    assert "nats" in said(app)


def test_a_document_that_is_not_there(start: Start) -> None:
    app = start("why", document="99999-0")
    assert app.error or app.warning


def test_an_encoder_is_refused_in_one_sentence(
    start: Start, tmp_path_factory: pytest.TempPathFactory, text_file: Path
) -> None:
    folder = save(ALL["bert"], tmp_path_factory.mktemp("bert"))
    out = tmp_path_factory.mktemp("bert-indexes")
    scan(
        load_model(str(folder), device="cpu"),
        load_corpus(str(text_file)),
        Plan(ctx=32, min_row=3),
        out=out,
    )
    app = start("why", indexes=out, text=SENTENCE)
    assert "reads both ways" in said(app)


def test_methods_says_what_each_number_is(start: Start) -> None:
    assert "Holding the norms' scales" in said(start("methods"))
    assert "direct effect" in why.METHODS.lower()


def test_what_it_writes_when_it_looks_at_its_favourite_tokens(start: Start, index: Index) -> None:
    ids = index.source_ids(HeadId(1, 2), 12)
    names = [row.token for row in index.sources(HeadId(1, 2), 12)]
    known = {
        int(i): name for i, name in zip(index._vocabulary["id"], index.vocabulary, strict=True)
    }
    assert [known[i] for i in ids] == names
    app = start("why", layer=1, head=2, text=SENTENCE, written=1)
    (found,) = [one.value for one in app.get("html") if "it looks at" in one.value]
    assert found.count("<tr>") == 13
