"""An index whose heads have one metric more: the effect that was measured over its documents."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from attn.index.effects import Effects
from attn.index.index import Index
from attn.measure.metrics import Metric

EFFECT = Metric(
    "effect",
    "effects",
    "Effect",
    "nats a token",
    "How much the loss of the next token rises, in the mean over tokens, when the head's output is "
    "replaced by its mean at every position: above 0 where predictions need the head.",
    "loss(z → mean z) − loss",
    (-math.inf, None),
    "Exact for some heads; the others are estimated to first order, which is mostly too low, and "
    "far off for heads that move a softmax or a norm a long way, as in the first layers. Another "
    "head may do the same work, and then neither has an effect of its own.",
)
"""The definition, as pages and the command line show it. Scans do not measure it."""


class IndexWithEffects(Index):
    """An index with the metric ``effect``. ``effects`` what was measured beside it."""

    def __init__(self, index: Index, effects: Effects) -> None:
        super().__init__(index.path, index.manifest)
        self.effects = effects

    @cached_property
    def _metrics(self) -> dict[str, np.ndarray]:
        return super()._metrics | {EFFECT.name: self.effects.effect}

    @cached_property
    def _defined(self) -> dict[str, Metric]:
        return super()._defined | {EFFECT.name: EFFECT}
