"""Hand-made heads whose answers can be seen: patterns (dst, src), rows sum to 1."""

from __future__ import annotations

import numpy as np


def uniform(n: int) -> np.ndarray:
    """Every row spread evenly over all it sees."""
    return np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None]


def looks_at(sources: list[int]) -> np.ndarray:
    """Row dst gives all its attention to ``sources[dst]``."""
    pattern = np.zeros((len(sources), len(sources)))
    for dst, src in enumerate(sources):
        pattern[dst, src] = 1
    return pattern


def identity(n: int) -> np.ndarray:
    return looks_at(list(range(n)))


def previous(n: int) -> np.ndarray:
    return looks_at([0, *range(n - 1)])


def rest(n: int) -> np.ndarray:
    return looks_at([0] * n)
