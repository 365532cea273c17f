"""Pattern → scores of its cells: the definitions of the Methods page, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SCORES = ("multiple", "attention", "write")
"""What pairs are ranked by; the last where the scan was asked for it."""

BANDS = ((0.0, 1 / 16), (1 / 16, 1 / 8), (1 / 8, 1 / 4), (1 / 4, 1 / 2), (1 / 2, 1.0))
"""Bands of attention, low <= a < high, that each have a sample of their own; the last has 1 too."""

LISTS = (
    "top", "attention", "write", "bottom", "by_document", "sample", "rows",
    *(f"band{i}" for i in range(len(BANDS))),
)  # fmt: skip
"""The lists of pairs that are kept a head: the best by each score, those nearest above average, the
best pair of each document (of all its copies, one), a uniform sample of all pairs above average, a
uniform sample of all rows (with the row's best source), and a uniform sample within each band."""


def multiple(pattern: Tensor, visible: Tensor) -> Tensor:
    """How many times its row's average attention each source got.

    ``pattern`` (..., dst, src), rows sum to 1; ``visible`` (..., dst): how many sources each row
    sees. The average of a row is ``1 / visible``, so the multiple is ``attention * visible``:
    1 everywhere for a uniform head, at most ``visible``. The first position takes part like any
    other: nothing is renormalised, so a row that rests on it has small multiples elsewhere.
    """
    return pattern * visible.to(pattern.dtype).unsqueeze(-1)


def write(pattern: Tensor, norms: Tensor) -> Tensor:
    """How much each source's value moves: attention times ``‖v_src · W_O‖``.

    ``pattern`` (..., dst, src); ``norms`` (..., src): the length of what a source's value writes to
    the residual stream through this head, before any norm that the layer puts after it. From 0 up,
    in the units of the residual stream: compare within a layer, not across layers or models.
    Source: Kobayashi et al. 2020, "Attention is Not Only a Weight".
    """
    return pattern * norms.to(pattern.dtype).unsqueeze(-2)
