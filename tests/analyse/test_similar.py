"""attn/analyse/similar.py: against loops over metrics and token tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attn.analyse.similar import similar
from attn.errors import HeadError
from attn.heads import HeadId
from attn.index.index import Index
from tests.conftest import Tiny
from tests.scanned import HEADS


def profile(index: Index, head: HeadId) -> dict[str, float]:
    """Token → share of the head's attention."""
    rows = index.sources(head)
    whole = sum(row.mass for row in rows)
    return {row.token: row.mass / whole for row in rows}


@pytest.mark.parametrize("plan", ["small", "everything kept"])
def test_distances_are_those_of_loops(
    tiny: Tiny, make: Callable[[Tiny, str], Any], plan: str
) -> None:
    index = make(tiny, plan).index
    names = [n for n in index.metric_names if np.nanstd(index.metric(n)) > 0]
    for head in HEADS[::3]:
        found = similar(index, head, 99)
        assert {one.head for one in found} == {*HEADS} - {head}
        for one in found:
            gaps = [
                (index.numbers(head)[n] - index.numbers(one.head)[n]) / np.nanstd(index.metric(n))
                for n in names
            ]
            gaps = [gap for gap in gaps if gap == gap]  # a metric that one lacks says nothing
            assert one.metrics == pytest.approx(np.sqrt(np.mean(np.square(gaps)) / 2), rel=1e-6)
            mine, other = profile(index, head), profile(index, one.head)
            moved = sum(abs(mine.get(t, 0) - other.get(t, 0)) for t in {*mine, *other}) / 2
            assert one.tokens == pytest.approx(moved, abs=1e-5)
            assert one.distance == pytest.approx((one.metrics + one.tokens) / 2)
        assert [one.distance for one in found] == sorted(one.distance for one in found)
        assert similar(index, head, 2) == found[:2]


def test_distance_goes_both_ways(gpt2: Tiny, make: Callable[[Tiny, str], Any]) -> None:
    index = make(gpt2, "small").index
    there = {one.head: one.distance for one in similar(index, HEADS[0], 99)}
    for other, distance in there.items():
        back = {one.head: one.distance for one in similar(index, other, 99)}
        assert back[HEADS[0]] == pytest.approx(distance)


def test_a_head_that_is_not_there(gpt2: Tiny, make: Callable[[Tiny, str], Any]) -> None:
    with pytest.raises(HeadError):
        similar(make(gpt2, "small").index, HeadId(9, 0))


def test_induction_heads_are_like_each_other(sample_index: Path) -> None:
    found = similar(Index.open(sample_index), HeadId(17, 5))
    assert {HeadId(17, 3), HeadId(17, 4)} & {one.head for one in found}
