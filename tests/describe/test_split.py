"""Training and held-out documents never meet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from attn.describe import evidence
from attn.describe.questions import ask
from attn.describe.split import HELD_OUT, held_out
from attn.heads import HeadId
from attn.index.index import Index

IDS = st.text("0123456789abcdef", min_size=16, max_size=16)


@given(st.lists(IDS), st.lists(IDS))
def test_a_document_is_on_one_side_whatever_else_there_is(some: list[str], more: list[str]) -> None:
    training = {one for one in some + more if not held_out(one)}
    testing = {one for one in more + some if held_out(one)}
    assert not training & testing
    assert training | testing == {*some, *more}


def test_a_fifth_is_held_out() -> None:
    share = sum(held_out(f"{n:016x}") for n in range(20_000)) / 20_000
    assert abs(share - HELD_OUT) < 0.01


def test_sides_do_not_change_between_versions() -> None:
    assert [n for n in range(30) if held_out(f"{n:016x}")] == [2, 3, 10, 16, 19]


@given(st.integers(0, 1), st.integers(0, 3), st.integers(0, 50), st.integers(1, 60))
def test_evidence_and_questions_share_no_document(
    tiny_folder_index: Index, layer: int, head: int, seed: int, n: int
) -> None:
    at = HeadId(layer, head)
    shown = {p.document_id for p in evidence.gather(tiny_folder_index, at, n, seed)}
    asked = ask(evidence.held_out_passages(tiny_folder_index, at, seed), n, seed)
    tested = {q.document_id for q in (*asked.pairs, *asked.picks)}
    assert shown
    assert tested
    assert not shown & tested
    assert not any(map(held_out, shown))
    assert all(map(held_out, tested))


def test_the_numbers_are_of_training_rows(tiny_index: Index) -> None:
    at = HeadId(0, 1)
    rows = evidence._rows(tiny_index, at, 0, False)
    assert not any(held_out(passage.document_id) for passage in rows)
    texts = {text for passage in rows for text in passage.window.texts}
    told = evidence.numbers(tiny_index, at)
    assert {text for text, _ in told.tokens} <= texts
    assert 0 < sum(share for _, share in told.tokens) <= 1 + 1e-9
