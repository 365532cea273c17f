"""The Compare page: which heads, their numbers, and what bad input gets."""

from __future__ import annotations

from attn.heads import HeadId
from attn.index import Index
from attn.similar import similar
from tests.pages.conftest import Start, said

TEXT = "the cat sat on the mat"


def test_it_begins_with_the_most_similar_head(start: Start, index: Index) -> None:
    app = start("compare", layer=1, head=2, text=TEXT)
    (other,) = similar(index, HeadId(1, 2), 1)
    assert app.query_params["with"] == ""
    assert [m.label for m in app.metric] == [f"L1H2 and {other.head}"]
    assert "**L1H2**" in [m.value for m in app.markdown]


def test_four_heads_have_six_pairs(start: Start) -> None:
    app = start("compare", **{"layer": 0, "head": 0, "with": "L0H1,L1H0,L1H3", "text": TEXT})
    assert len(app.metric) == 6
    assert not app.exception
    assert "Where they differ most" in said(app)


def test_too_many_and_unknown_heads_are_said(start: Start) -> None:
    app = start("compare", **{"layer": 0, "head": 0, "with": "L9H9 x L0H1 L0H2 L0H3 L1H0"})
    said_so = " ".join(w.value for w in app.warning)
    assert "L9H9" in said_so
    assert "4 heads fit side by side" in said_so
    assert not app.exception


def test_a_head_is_not_compared_with_itself(start: Start) -> None:
    app = start("compare", **{"layer": 0, "head": 1, "with": "L0H1", "text": TEXT})
    assert not app.metric
    assert not app.exception
