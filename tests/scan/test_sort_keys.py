"""Uniform hashes of pairs and rows: fair samples, with copies of a text in the corpus and without.

Chi-squared over 200 seeds. What is counted is drawn without replacement, so its variance is that of
the hypergeometric distribution.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from attn.corpus.corpus import Document
from attn.index.documents import Record
from attn.scan.sort_keys import MOST, hashes_of, pair_hashes, row_hashes

SEEDS, KEPT, LENGTH, FIRST = 200, 100, 11, 3
EIGHT = [f"text {number} of its own" for number in range(8)]
CORPORA = {
    "eight texts and 200 copies of a line": [*EIGHT, *["the same line"] * 200],
    "208 different texts": [f"text {number} of its own" for number in range(208)],
}
MARGIN = 5
"""Standard deviations by which a statistic may differ from its mean, either way."""


def record(place: int, text: str, start: int = 0) -> Record:
    """A window of a document, as the scan writes it."""
    ids = list(range(LENGTH))
    texts, words = [""] * LENGTH, [0] * LENGTH
    return Record(place, start, Document.make(place, text, "").id, "", False, ids, texts, words)


def cells(kind: str) -> np.ndarray:
    """(dst, src) bool, or (dst,) of rows: what may be drawn in every window.

    All pairs of the counted rows, the pairs that some band of attention holds, or the rows.
    """
    dst, src = np.mgrid[:LENGTH, :LENGTH]
    if kind == "rows":
        return np.arange(LENGTH) >= FIRST
    pairs = (dst >= FIRST) & (src <= dst)
    return pairs if kind == "sample" else pairs & ((dst + src) % 3 == 0)


def drawn(texts: list[str], kind: str) -> Iterator[np.ndarray]:
    """Of each seed, (window, place) bool: what the smallest hashes choose."""
    keys = torch.tensor([record(place, text).key for place, text in enumerate(texts)])
    may = cells(kind)
    for seed in range(SEEDS):
        hashed = (row_hashes if kind == "rows" else pair_hashes)(keys, LENGTH, seed)
        orders = hashed.numpy()[:, may]  # (window, place)
        kept = np.zeros(orders.size, bool)
        kept[np.argsort(orders.reshape(-1), kind="stable")[:KEPT]] = True
        yield kept.reshape(orders.shape)


def check(counts: np.ndarray, share: np.ndarray, total: int, draws: int) -> None:
    """Chi-squared: how often each group, with its ``share`` of ``total`` things, was drawn.

    ``counts`` (group,) over ``draws`` draws of ``KEPT``. Each group's standardised square has
    mean 1; their sum is as good as normal for so many groups.
    """
    expected = draws * KEPT * share
    spread = expected * (1 - share) * (total - KEPT) / (total - 1)
    chi = float(((counts - expected) ** 2 / spread).sum())
    assert abs(chi - len(counts)) < MARGIN * math.sqrt(2 * len(counts))


@pytest.mark.parametrize("kind", ["sample", "band", "rows"])
@pytest.mark.parametrize("texts", CORPORA.values(), ids=CORPORA)
def test_samples_are_fair(texts: list[str], kind: str) -> None:
    kept = np.stack([*drawn(texts, kind)])  # (seed, window, place)
    total, windows, places = kept[0].size, len(texts), int(cells(kind).sum())
    check(kept.sum((0, 2)), np.full(windows, 1 / windows), total, SEEDS)
    check(kept.sum((0, 1)), np.full(places, 1 / places), total, SEEDS)
    # In every single draw the windows after the eighth hold their share, neither none nor half.
    share = np.full(SEEDS, 1 - len(EIGHT) / windows)
    check(kept[:, len(EIGHT) :].sum((1, 2)), share, total, 1)
    # Nor do they hold it as copies of one place.
    of_place = kept[:, len(EIGHT) :].sum(1)  # (seed, place)
    check(of_place.reshape(-1), np.full(of_place.size, share[0] / places), total, 1)


def test_every_window_has_a_number_of_its_own() -> None:
    """The same text at two places, two windows of a document, and places far apart."""
    keys = [
        record(place, "the same line", start).key
        for place in (0, 1, 2, 10**6, 2**31 - 1)
        for start in (0, 1, 63, 10**9)
    ]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**63 for key in keys)
    for seed in (0, 1, 2**63 - 1):
        orders = pair_hashes(torch.tensor(keys), LENGTH, seed).reshape(len(keys), -1)
        assert len(torch.unique(orders)) == orders.numel()
        assert 0 <= int(orders.min()) <= int(orders.max()) <= MOST


def test_single_pairs_have_the_hashes_of_all() -> None:
    """What an index of a part computes again for the pairs that it kept."""
    keys = torch.tensor([record(place, "a line", place).key for place in (0, 7, 12345)])
    window, dst, src = torch.tensor([[0, 3, 1], [1, 10, 10], [2, 4, 0]]).T
    of_pair, of_row = hashes_of(keys[window], dst, src, 5)
    assert torch.equal(of_pair, pair_hashes(keys, LENGTH, 5)[window, dst, src])
    assert torch.equal(of_row, row_hashes(keys, LENGTH, 5)[window, dst])
