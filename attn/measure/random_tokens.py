"""Random tokens said twice: what a head does where nothing but repetition can guide it.

As in Olsson et al. 2022, "In-context Learning and Induction Heads": tokens drawn at random, then
the same again, so that only the first copy foretells the second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from attn.measure.draws import random_sequences, vocabulary_of
from attn.measure.metrics import of_kind

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["measure_random", "random_metrics", "random_sequences"]


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
