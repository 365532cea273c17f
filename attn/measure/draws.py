"""Random tokens said twice, drawn from a model's vocabulary."""

from __future__ import annotations

from typing import Any

import numpy as np

RANDOM_LENGTH = 50  # tokens in one copy


def random_sequences(
    vocabulary: np.ndarray, bos_id: int | None, n: int = 8, seed: int = 0, n_ctx: int = 10**6
) -> np.ndarray:
    """(n, position) int64: BOS (where there is one), then random tokens, then the same again.

    ``vocabulary`` (token,) the ids to draw from, without replacement. A copy has 50 tokens, fewer
    where the context or the vocabulary is smaller.
    """
    start = 0 if bos_id is None else 1
    length = min(RANDOM_LENGTH, len(vocabulary), (n_ctx - start) // 2)
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        copy = draw.choice(vocabulary, length, replace=False)
        rows.append(np.concatenate([[bos_id] if start else [], copy, copy]))
    return np.array(rows, np.int64)


def vocabulary_of(session: Any) -> np.ndarray:
    """(token,) int64: the ids of a model that are no special tokens."""
    ids = np.arange(min(session.n_vocab, len(session.tokenizer)))
    return np.setdiff1d(ids, session.tokenizer.all_special_ids)
