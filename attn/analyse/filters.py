"""Filters heads by layer and by ranges of metrics.

In links and on the command line a range is ``name:low:high``, where an empty end means no limit.
Several are joined by commas: ``layer:10:20,induction:0.1:``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attn.errors import QueryError
from attn.index.index import Index

LAYER = "layer"


@dataclass(frozen=True)
class Range:
    """``low`` to ``high``, both included, of a metric or of :data:`LAYER`."""

    name: str
    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        ends = ("" if math.isinf(end) else f"{end:.6g}" for end in (self.low, self.high))
        return ":".join((self.name, *ends))


def parse(text: str) -> tuple[Range, ...]:
    """The ranges of a text, as above. Raises QueryError if it is malformed."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            name, low, high = (piece.strip() for piece in part.split(":"))
            ends = float(low or -math.inf), float(high or math.inf)
        except ValueError:
            raise QueryError(
                f"A range is NAME:LOW:HIGH, like induction:0.1: or layer:10:20, not {part[:60]!r}."
            ) from None
        if not name or math.isnan(ends[0]) or math.isnan(ends[1]):
            raise QueryError(f"A range has a name and two numbers, unlike {part[:60]!r}.")
        found.append(Range(name, *ends))
    return tuple(found)


def write(ranges: Sequence[Range]) -> str:
    """Ranges as a text that :func:`parse` reads."""
    return ",".join(map(str, ranges))


def within(index: Index, ranges: Sequence[Range]) -> np.ndarray:
    """(layer, head) bool: the heads within all ranges.

    A head without a metric is in no range of it. Raises QueryError for a metric that the index
    lacks.
    """
    shape = index.manifest.n_layers, index.manifest.n_heads
    meant = np.ones(shape, bool)
    for one in ranges:
        values = (
            np.repeat(np.arange(shape[0])[:, None], shape[1], 1)
            if one.name == LAYER
            else index.metric(one.name)
        )
        meant &= (values >= one.low) & (values <= one.high)
    return meant
