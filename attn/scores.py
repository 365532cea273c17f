"""Pattern → scores of its cells: the definitions of the Methods page, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def multiple(pattern: Tensor, visible: Tensor) -> Tensor:
    """How many times its row's average attention each source got.

    ``pattern`` (..., dst, src), rows sum to 1; ``visible`` (..., dst): how many sources each row
    sees. The average of a row is ``1 / visible``, so the multiple is ``attention * visible``:
    1 everywhere for a uniform head, at most ``visible``. The first position takes part like any
    other: nothing is renormalised, so a row that rests on it has small multiples elsewhere.
    """
    return pattern * visible.to(pattern.dtype).unsqueeze(-1)
