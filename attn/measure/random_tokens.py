"""Random tokens said twice: what a head does where nothing but repetition can guide it.

As in Olsson et al. 2022, "In-context Learning and Induction Heads": tokens drawn at random, then
the same again, so that only the first copy foretells the second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from attn.measure.metrics import of_kind

if TYPE_CHECKING:
    from torch import Tensor

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


def random_metrics(pattern: Tensor, length: int) -> dict[str, Tensor]:
    """Each random metric of every head, (head,), from a pattern on :func:`random_sequences`.

    ``length`` of one copy, in tokens. Means over the rows of the second copy.
    """
    return {name: rule(pattern, length) for name, rule in of_kind("random").items()}


def measure_random(session: Any, n: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    """Each random metric of every head of a model: name → (layer, head) float64.

    NaN in layers without attention.
    """
    ids = random_sequences(vocabulary_of(session), session.bos_id, n, seed, session.n_ctx)
    length = ids.shape[1] // 2
    tables: dict[str, np.ndarray] = {}
    for layer, pattern in session.patterns(ids):
        for name, values in random_metrics(pattern, length).items():
            table = tables.setdefault(name, np.full((session.n_layers, session.n_heads), np.nan))
            table[layer] = values.cpu().numpy()
    return tables
