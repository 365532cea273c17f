"""What to measure: which documents, which heads exactly, and under what identity. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attn.errors import EffectsError, HeadError
from attn.heads import HeadId
from attn.index.documents import read_numbers
from attn.index.effects import FORMAT
from attn.index.index import Index
from attn.index.repeats import Repeats

SHARD = 8
"""Documents done at a time: what a kill costs."""

BATCH_TOKENS = 512
"""Tokens in a batch, padding included: their logits are held, with what a backward pass needs."""

TOP = 100
"""Tokens kept of each head that is measured exactly."""


@dataclass(frozen=True)
class Plan:
    """What to measure on an index.

    ``docs`` how many of its documents, spread evenly over those of different texts; ``exact`` how
    many of the heads with the largest estimates, by size, to measure exactly, and ``heads`` which
    besides; ``top`` how many tokens to keep of each of these.
    """

    docs: int = 50
    exact: int = 10
    heads: tuple[HeadId, ...] = ()
    top: int = TOP

    def check(self, index: Index) -> None:
        """Raise EffectsError for an index that cannot be measured, HeadError for a wrong head."""
        kept = index.manifest
        if kept.bidirectional:
            raise EffectsError(
                f"{kept.model} predicts no next token, so its heads have no effect on one: choose "
                f"an index of a causal model."
            )
        if kept.dtype != "float32":
            raise EffectsError(
                f"Effects are measured in float32 and this index was made in {kept.dtype}: scan "
                f"again with --dtype float32."
            )
        if self.docs < 1 or self.exact < 0 or self.top < 1:
            raise EffectsError("Ask for at least one document, and for no fewer than 0 heads.")
        for head in self.heads:
            head.check(kept.n_layers, kept.n_heads)
            if head.layer in kept.without_attention:
                raise HeadError(f"Layer {head.layer} of {kept.model} has no attention.")

    def documents(self, index: Index) -> np.ndarray:
        """(document,) int64: the documents to measure on, rising. Copies of a text count once."""
        numbers = read_numbers(index.path)
        numbers = numbers[Repeats.read(index.path).texts(numbers) == numbers]
        n = min(self.docs, len(numbers))
        found: np.ndarray = numbers[np.arange(n) * len(numbers) // n]
        return found

    def identity(self, index: Index, documents: np.ndarray) -> str:
        """A hash of all that decides the estimates, and the exact effect of any head."""
        decisive = {
            "format": FORMAT, "index": index.manifest.identity, "documents": documents.tolist(),
            "top": self.top, "shard": SHARD, "batch": BATCH_TOKENS,
        }  # fmt: skip
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def exact_heads(self, estimate: np.ndarray, already: Sequence[HeadId] = ()) -> list[HeadId]:
        """The heads to measure exactly, in order; ``estimate`` (layer, head)."""
        known = {*self.heads, *already, *strongest(estimate, self.exact)}
        return sorted(known)


def strongest(estimate: np.ndarray, n: int) -> list[HeadId]:
    """The ``n`` heads whose estimates are farthest from 0; of the same, the earlier head."""
    size = np.where(np.isfinite(estimate), np.abs(estimate), -1.0)
    order = np.argsort(-size, axis=None, kind="stable")[: min(n, int((size >= 0).sum()))]
    return [HeadId(*divmod(int(i), estimate.shape[1])) for i in order]
