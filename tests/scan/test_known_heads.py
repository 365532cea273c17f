"""Heads of the built-in model that are known by what they do: which, and by how much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attn.heads import HeadId
from attn.index.index import Index

INDUCTION = ("L17H3", "L17H4", "L17H5", "L18H6")
PREVIOUS = ("L16H0", "L11H1")


@pytest.fixture
def index(sample_index: Path) -> Index:
    return Index.open(sample_index)


def best(index: Index, name: str, n: int) -> list[str]:
    """The heads with the highest values of a metric."""
    values = np.nan_to_num(index.metric(name), nan=-np.inf)
    order = np.argsort(-values, axis=None, kind="stable")[:n]
    return [str(HeadId(*divmod(int(place), values.shape[1]))) for place in order]


def value(index: Index, name: str, head: str) -> float:
    return index.numbers(HeadId.parse(head))[name]


def test_induction_by_random_tokens_and_by_text_agree(index: Index) -> None:
    assert set(best(index, "induction_random", 4)) == set(INDUCTION)
    assert set(INDUCTION) <= set(best(index, "induction", 5))
    for name, times in (("induction", 5), ("induction_random", 50)):
        usual = float(np.nanmedian(index.metric(name)))
        assert all(value(index, name, head) > times * usual for head in INDUCTION)
    assert value(index, "induction_random", "L18H6") > 0.8


def test_previous_token_heads_stand_out(index: Index) -> None:
    for name in ("previous", "previous_random"):
        assert tuple(best(index, name, 2)) == PREVIOUS
        usual = float(np.nanmedian(index.metric(name)))
        assert all(value(index, name, head) > 10 * usual for head in PREVIOUS)


def test_induction_heads_read_the_previous_token_head_through_their_keys(index: Index) -> None:
    """The circuit of Elhage et al. 2021, from the weights alone."""
    for head in INDUCTION:
        first = dict(index.composes_with(HeadId.parse(head))["k"][:2])
        score = first[HeadId.parse("L16H0")]
        assert score > 2 * float(np.nanmedian(index.metric("k_composition")))
        assert score > 3 * index.random_composition(HeadId.parse(head))
    assert set(INDUCTION) <= set(best(index, "k_composition", 7))
