"""The Search page: its questions, their answers, links, and what bad input gets."""

from __future__ import annotations

import numpy as np
import pytest

from attn.analyse.search import by_cells, by_token
from attn.heads import HeadId
from attn.index.index import Index
from tests.conftest import Tiny
from tests.ui.conftest import Start, said


def found(app: object) -> list[str]:
    return [b.label for b in app.button if (b.key or "").startswith("found ")]  # type: ignore[attr-defined]


def test_a_token(start: Start, index: Index) -> None:
    app = start("search", find="token", looks=" the")
    wanted = by_token(index, " the")
    assert found(app) == [f"**{a.head}** {a.lift:.1f}×" for a in wanted]
    app.button(key=f"found {wanted[-1].head}").click().run()
    assert app.query_params["head"] == str(wanted[-1].head.head)
    assert app.query_params["layer"] == str(wanted[-1].head.layer)
    assert app.query_params["looks"] == " the"


def test_no_such_token_is_said(start: Start) -> None:
    app = start("search", find="token", looks="zebra")
    assert any("No token of the corpus" in e.value for e in app.error)
    assert not found(app)
    app.text_input(key="looks").set_value("").run()
    assert any("Write a token" in e.value for e in app.info)


def test_a_pattern_on_the_users_text(start: Start) -> None:
    app = start("search", find="pattern", pattern="previous token", text="on the cat, on the mat")
    assert len(found(app)) == 8
    app.selectbox(key="pattern").select("same token").run()
    assert app.query_params["pattern"] == "same token"
    assert len(found(app)) == 8


def test_a_pattern_that_the_text_lacks(start: Start) -> None:
    app = start("search", find="pattern", pattern="opening bracket", text="the cat sat on")
    assert any("no such pair" in e.value for e in app.error)
    assert not app.exception


def test_cells_drawn_by_hand(start: Start, gpt2: Tiny) -> None:
    text = "the cat sat on the mat"
    # cells that are not of the text, or out of sight, are left aside
    app = start("search", pattern="drawn by hand", text=text, cells="5-2,4-1,900-3,2-6")
    ids = gpt2.ids(text)
    answers = by_cells(gpt2.session, ids, cells_of(len(ids), [(5, 2), (4, 1)]))
    best = sorted(answers, key=lambda one: (-one.share, one.head))
    assert [label.split("**")[1] for label in found(app)] == [str(one.head) for one in best]
    assert "2 pairs in 2 rows" in said(app)
    app = start("search", pattern="drawn by hand", text=text)
    assert any("Draw the cells" in info.value for info in app.info)
    assert not found(app)


def test_a_token_shows_the_heads_own_examples(start: Start, index: Index) -> None:
    head = HeadId(1, 2)
    app = start("search", layer=1, head=2, find="token", looks=" the")
    wanted = index.top(head, 3, token=" the", one_per_document=True).examples
    assert wanted
    rows = [h.value for h in app.get("html") if 'class="attn-number"' in h.value]
    for row, example in zip(rows, wanted, strict=True):
        assert f"attention {example.attention:.3f}" in row
        assert f"document {example.document}," in row


def test_the_kind_of_question_is_a_choice(start: Start) -> None:
    app = start("search")
    assert app.query_params["find"] == "pattern"
    assert "Which heads" in said(app)
    app.segmented_control(key="find").set_value("token").run()
    assert app.query_params["find"] == "token"
    assert app.text_input(key="looks").value == " not"


@pytest.mark.parametrize("rank", ["attention", "multiple", "write"])
def test_answers_are_ranked_by_what_is_asked(start: Start, gpt2: Tiny, rank: str) -> None:
    text = "the cat sat on the mat"
    app = start("search", pattern="drawn by hand", cells="5-2", text=text, rank=rank)
    ids = gpt2.ids(text)
    answers = {a.head: a for a in by_cells(gpt2.session, ids, cells_of(len(ids), [(5, 2)]))}
    key = {"attention": "share", "multiple": "lift", "write": "write"}[rank]
    wanted = sorted(answers, key=lambda head: (-getattr(answers[head], key), head))
    assert [label.split("**")[1] for label in found(app)] == [str(head) for head in wanted]
    if rank == "write":
        assert all("write" in label for label in found(app))
    assert app.query_params["rank"] == rank


def cells_of(n: int, pairs: list[tuple[int, int]]) -> np.ndarray:
    cells = np.zeros((n, n), bool)
    for dst, src in pairs:
        cells[dst, src] = True
    return cells


def test_pairs_of_the_prompt_page_are_asked_of_all_heads(start: Start, gpt2: Tiny) -> None:
    text = "the cat sat on the mat"
    app = start("prompt", layer=1, head=2, text=text, pairs="5-2,7-3,900-1,2-6")
    ids = gpt2.ids(text)  # pairs that are not of the text, or out of sight, are left aside
    pairs = [(dst, src) for dst, src in ((5, 2), (7, 3)) if dst < len(ids)]
    answers = by_cells(gpt2.session, ids, cells_of(len(ids), pairs))
    best = sorted(answers, key=lambda one: (-one.share, one.head))
    assert [label.split("**")[1] for label in found(app)] == [str(one.head) for one in best]
    app.button(key=f"found {best[1].head}").click().run()
    assert app.query_params["head"] == str(best[1].head.head)
    next(b for b in app.button if b.label == "Let go of the pairs").click().run()
    assert app.query_params["pairs"] == ""
    assert not found(app)
    assert not app.exception


@pytest.mark.parametrize("pairs", ["5", "a-b", "5-", "1-2-3", "-1-2"])
def test_pairs_that_are_none_are_told(start: Start, pairs: str) -> None:
    app = start("prompt", pairs=pairs)
    assert any("which is not pairs" in w.value for w in app.warning)
    assert not app.exception
