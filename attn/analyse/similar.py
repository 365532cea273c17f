"""Finds heads that are similar by their metrics and by the tokens they look at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from attn.heads import HeadId
from attn.index.index import Index

TOKENS = 2000
"""Tokens that a profile tells apart, the most frequent of the corpus; the others are one."""


@dataclass(frozen=True)
class Similar:
    """How far another head is.

    ``metrics`` the root mean square of the differences of the metrics that both have, each in
    standard deviations over all heads, over the root of two: about 1 for two heads at random;
    ``tokens`` the share of its attention that a head would have to move from token to token to look
    at what the other one does, 0 to 1, the first position aside; ``distance`` the mean of both.
    """

    head: HeadId
    distance: float
    metrics: float
    tokens: float


def similar(index: Index, head: HeadId, n: int = 6) -> list[Similar]:
    """The ``n`` heads most like ``head``, the nearest first; ties by head.

    Heads for which no row was counted are left out, and none is like one of them. Raises HeadError
    for a head out of range.
    """
    index.numbers(head)  # raises for a head out of range
    standing, profiles = _standing(index), _profiles(index)
    at = head.layer * index.manifest.n_heads + head.head
    metrics = np.sqrt(_mean_of_known((standing - standing[at]) ** 2) / 2)
    tokens = np.abs(profiles - profiles[at]).sum(1) / 2
    distance = (metrics + tokens) / 2
    found = [
        Similar(other, float(distance[i]), float(metrics[i]), float(tokens[i]))
        for i, other in enumerate(index.heads())
        if other != head and np.isfinite(distance[i])
    ]
    return sorted(found, key=lambda one: (one.distance, one.head))[:n]


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """(n,) the mean of each row of (n, metric), NaN left out; NaN where there is nothing else."""
    known = np.isfinite(values)
    n = known.sum(1)
    total = np.where(known, values, 0).sum(1)
    found: np.ndarray = np.divide(total, n, out=np.full(len(values), np.nan), where=n > 0)
    return found


@lru_cache(maxsize=4)
def _standing(index: Index) -> np.ndarray:
    """(layers * heads, metric) float64: every metric in standard deviations from its mean."""
    columns = []
    for name in index.metric_names:
        values = index.metric(name).reshape(-1)
        known = values[np.isfinite(values)]
        spread = float(known.std()) if len(known) else 0.0
        if spread > 0:
            columns.append((values - known.mean()) / spread)
    # Where no metric tells two heads apart, all of them stand alike.
    return np.stack(columns or [np.zeros(len(index.heads()))], 1)


@lru_cache(maxsize=4)
def _profiles(index: Index) -> np.ndarray:
    """(layers * heads, token) float32: shares of the attention that each head gives each token."""
    counts = index.token_counts()
    place = np.full(len(counts), min(TOKENS, len(counts)))
    often = np.argsort(-counts, kind="stable")[:TOKENS]
    place[often] = np.arange(len(often))
    rows = []
    for numbers, mass in index.source_masses():
        row = np.bincount(place[numbers], weights=mass, minlength=int(place.max()) + 1)
        rows.append(row / row.sum() if row.sum() > 0 else np.full(len(row), np.nan))
    return np.stack(rows).astype(np.float32)
