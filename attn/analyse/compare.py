"""Compares the patterns of heads on one text: how they agree, and where they differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Difference:
    """One pair of a text: ``attention`` of every head compared, and how far these are apart."""

    dst: int
    src: int
    attention: tuple[float, ...]
    gap: float


def cells(n: int, *, skip_first: bool = True, bidirectional: bool = False) -> np.ndarray:
    """(dst, src) bool: the pairs that are compared: what a row sees, the first source aside.

    The first row is left out too: it has nothing to choose between.
    """
    some = np.ones((n, n), bool) if bidirectional else np.tril(np.ones((n, n), bool))
    some[0] = bidirectional
    if skip_first:
        some[:, 0] = False
    return some


def correlations(patterns: Sequence[np.ndarray], some: np.ndarray) -> np.ndarray:
    """(head, head) Pearson correlations of attention over the cells ``some``, -1 to 1.

    ``patterns`` of each head (dst, src). NaN for a head whose attention is the same everywhere.
    """
    values = np.stack([np.asarray(one, np.float64)[some] for one in patterns])
    values -= values.mean(1, keepdims=True)
    size = np.sqrt((values**2).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = (values @ values.T) / np.outer(size, size)
    return found


def same_place(texts: Sequence[str], others: Sequence[str], place: int) -> int | None:
    """The token of ``others`` that holds the last character of token ``place`` of ``texts``.

    Both cut one text in their own way, special tokens left out. None where the two are not the same
    text, or the token is empty.
    """
    if "".join(texts) != "".join(others) or not texts[place]:
        return None
    last = sum(map(len, texts[: place + 1]))
    ends = np.cumsum([len(text) for text in others])
    return int(np.searchsorted(ends, last))


def differences(patterns: Sequence[np.ndarray], some: np.ndarray, n: int = 10) -> list[Difference]:
    """The ``n`` pairs among ``some`` whose attention is furthest apart between any two heads.

    Ties: the earlier destination, then the earlier source.
    """
    values = np.stack([np.asarray(one, np.float64) for one in patterns])
    gap = np.where(some, values.max(0) - values.min(0), -1.0)
    order = np.argsort(-gap, axis=None, kind="stable")[: min(n, int(some.sum()))]
    return [
        Difference(int(dst), int(src), tuple(map(float, values[:, dst, src])), float(gap[dst, src]))
        for dst, src in (np.unravel_index(int(i), gap.shape) for i in order)
    ]
