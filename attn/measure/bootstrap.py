"""Bootstrap over documents: what else a corpus could have held, drawn from what it holds. No torch.

What stands in one document goes together, so documents are drawn, with all that is in each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWS = 1000


def document_draws(documents: Sequence[str] | Sequence[int]) -> np.ndarray:
    """(draw, item) float64: how often each item is drawn when documents are, with replacement.

    ``documents`` (item,) the document of each. The seed is fixed: the same documents get the same
    draws, so that two measures on them can be compared.
    """
    _, which = np.unique(documents, return_inverse=True)
    n = int(which.max()) + 1
    random = np.random.default_rng(0)
    drawn = random.multinomial(n, np.full(n, 1 / n), size=DRAWS)
    found: np.ndarray = drawn[:, which].astype(float)
    return found


def ratio_interval(totals: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of ``totals.sum(0) / counts.sum()`` over draws of documents.

    ``totals`` (document, ...) and ``counts`` (document,) are sums of each document → (...,) low and
    (...,) high, in the unit of totals over counts. NaN where there is one document only, which says
    nothing of others.
    """
    if len(counts) < 2:
        none = np.full(totals.shape[1:], np.nan)
        return none, none.copy()
    draws = document_draws(list(range(len(counts))))
    flat = totals.reshape(len(totals), -1)
    drawn = (draws @ flat) / (draws @ counts)[:, None]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return low.reshape(totals.shape[1:]), high.reshape(totals.shape[1:])
