"""attn/analyse/compare.py by hand and against loops."""

from __future__ import annotations

import numpy as np
import pytest

from attn.analyse.compare import cells, correlations, differences, same_place


def heads(n: int = 6, number: int = 3) -> list[np.ndarray]:
    draw = np.random.default_rng(3)
    made = [np.tril(draw.random((n, n))) for _ in range(number)]
    return [one / one.sum(1, keepdims=True) for one in made]


def test_cells_are_what_rows_choose_between() -> None:
    found = {(int(d), int(s)) for d, s in np.argwhere(cells(3))}
    assert found == {(1, 1), (2, 1), (2, 2)}
    assert {(int(d), int(s)) for d, s in np.argwhere(cells(2, skip_first=False))} == {
        (1, 0), (1, 1)
    }  # fmt: skip
    assert cells(3, bidirectional=True).sum() == 6


def test_correlations_are_pearsons() -> None:
    patterns, some = heads(), cells(6)
    found = correlations(patterns, some)
    places = [(d, s) for d in range(1, 6) for s in range(1, d + 1)]
    for a in range(3):
        for b in range(3):
            x = [patterns[a][place] for place in places]
            y = [patterns[b][place] for place in places]
            mx, my = sum(x) / len(x), sum(y) / len(y)
            top = sum((i - mx) * (j - my) for i, j in zip(x, y, strict=True))
            low = sum((i - mx) ** 2 for i in x) * sum((j - my) ** 2 for j in y)
            assert found[a, b] == pytest.approx(top / low**0.5)


def test_a_head_without_a_choice_has_none() -> None:
    flat = np.full((4, 4), 0.25)
    found = correlations([flat, heads(4, 1)[0]], cells(4))
    assert np.isnan(found[0, 1])
    assert found[1, 1] == pytest.approx(1)


def test_differences_come_from_the_cells_the_widest_first() -> None:
    patterns, some = heads(), cells(6)
    found = differences(patterns, some, 4)
    everything = sorted(
        (
            -max(abs(a[d, s] - b[d, s]) for a in patterns for b in patterns), d, s
        )
        for d in range(1, 6)
        for s in range(1, d + 1)
    )  # fmt: skip
    assert [(one.dst, one.src) for one in found] == [(d, s) for _, d, s in everything[:4]]
    for one, (gap, d, s) in zip(found, everything, strict=False):
        assert one.gap == pytest.approx(-gap)
        assert one.attention == pytest.approx([p[d, s] for p in patterns])


def test_ties_go_to_the_earlier_pair() -> None:
    one, two = np.zeros((3, 3)), np.zeros((3, 3))
    two[1, 1] = two[2, 1] = two[2, 2] = 0.5
    found = differences([one, two], cells(3), 99)
    assert [(d.dst, d.src) for d in found] == [(1, 1), (2, 1), (2, 2)]


def test_a_place_is_found_again_in_other_tokens() -> None:
    texts, others = ("the", " cat", " sat"), ("th", "e c", "at", " ", "sat")
    assert [same_place(texts, others, place) for place in range(3)] == [1, 2, 4]
    assert [same_place(others, texts, place) for place in range(5)] == [0, 1, 1, 2, 2]
    assert same_place(texts, ("the", " dog", " sat"), 0) is None
    assert same_place(("a", "", "b"), ("ab",), 1) is None
