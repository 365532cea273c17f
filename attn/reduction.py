"""Pattern → what the tally needs of it, in one pass: the place for a faster kernel.

:func:`reduce_pattern` is the only code that walks over all cells of a pattern. It gives sums a
window, sums and best scores of every row and column, and the pairs above average; all else works
on these. A fused kernel that computes attention may give the same :class:`Reduced` without ever
holding a pattern.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from attn.metrics import DISTANCES, OFFSET_SUMS, ROW_SUMS
from attn.scores import multiple, write


@dataclass(frozen=True, eq=False)
class Reduced:
    """A layer's pattern on some windows, reduced. Rows that do not count are 0 throughout.

    Sums a window: ``on_masks`` (batch, head, mask), ``by_offset`` (batch, head, offset sum, then
    distance bin), ``by_row`` (batch, head, row sum), ``written`` (batch, head, 2). Of columns and
    rows: ``mass`` and ``best_source`` (batch, head, src), ``resting`` and ``best_row`` (batch,
    head, dst), best multiples. The pairs above average in the order of their places: ``row``
    batch * heads * dst, ``column``, ``multiple``, ``attention``. ``held`` (batch, head, dst, src)
    the rows that count, from which those of kept pairs are copied.
    """

    on_masks: Tensor
    by_offset: Tensor
    by_row: Tensor
    written: Tensor
    mass: Tensor
    best_source: Tensor
    resting: Tensor
    best_row: Tensor
    row: Tensor
    column: Tensor
    multiple: Tensor
    attention: Tensor
    held: Tensor


def reduce_pattern(
    pattern: Tensor,
    rows: Tensor,
    visible: Tensor,
    masks: Tensor,
    *,
    norms: Tensor | None = None,
    skip_first: bool = True,
    causal: bool = True,
) -> Reduced:
    """Walk over a pattern (batch, head, dst, src) once.

    ``rows`` (batch, head, dst) 1 where a row counts, else 0; ``visible`` (batch or 1, dst);
    ``masks`` (batch, dst * src, mask); ``norms`` (batch, head, src) where write scores are wanted.
    On a CPU it goes window by window, which stay in its cache.
    """
    n = len(pattern)
    step = 1 if pattern.device.type == "cpu" else n
    held = torch.empty_like(pattern)
    visible = visible.expand(n, -1)
    parts = []
    for start in range(0, n, step):
        some = slice(start, start + step)
        torch.mul(pattern[some], rows[some][..., None], out=held[some])
        own = None if norms is None else norms[some]
        parts.append(_reduce(held[some], visible[some], masks[some], own, skip_first, causal))
    size = pattern.shape[1] * pattern.shape[2]
    for i, part in enumerate(parts[1:], 1):
        part["row"] += i * size
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Reduced(held=held, **whole)


def _reduce(
    held: Tensor,
    visible: Tensor,
    masks: Tensor,
    norms: Tensor | None,
    skip_first: bool,
    causal: bool,
) -> dict[str, Tensor]:
    n, heads, _, n_src = held.shape
    by_offset = _by_offset(held, causal) @ offset_weights(n_src, causal, held.device)
    scored = multiple(held, visible[:, None])
    if skip_first:
        scored[..., 0] = 0
    row, column = _over_one(scored)
    index = row * n_src + column
    return {
        "on_masks": torch.bmm(held.view(n, heads, -1), masks),
        "by_offset": by_offset,
        "by_row": torch.stack([rule(held).sum(-1) for rule in ROW_SUMS.values()], -1),
        "written": _written(held, norms),
        "mass": held.sum(2),
        "best_source": scored.amax(2),
        "resting": held[..., 0].clone(),
        "best_row": scored.amax(3),
        "row": row,
        "column": column,
        "multiple": scored.view(-1)[index],
        "attention": held.view(-1)[index],
    }


def _over_one(scored: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of every cell over 1, in order; all but the last dimension make the row."""
    width = scored.shape[-1]
    if scored.device.type != "cpu":
        index = (scored.view(-1) > 1).nonzero()[:, 0]
        row = index // width
        return row, index - row * width
    found = np.flatnonzero(scored.view(-1).numpy() > 1)  # faster than torch's
    above = found // width
    return torch.from_numpy(above), torch.from_numpy(found - above * width)


@lru_cache(maxsize=64)
def offset_weights(width: int, causal: bool, device: torch.device) -> Tensor:
    """(offset, sum and bin): what each ``dst - src`` counts in the sums, then in the bins."""
    least = 0 if causal else 1 - width
    offset = torch.arange(width - 1, least - 1, -1, device=device)
    sums = [rule(offset) for rule in OFFSET_SUMS.values()]
    edges = torch.tensor([*DISTANCES, 1 << 62], device=device)
    bins = torch.bucketize(offset.abs(), edges, right=True) - 1
    return torch.stack([*sums, *(bins == i for i in range(len(DISTANCES)))], 1).float()


def _by_offset(held: Tensor, causal: bool) -> Tensor:
    """(batch, head, offset): the attention of every ``dst - src``, the largest offset first.

    Row dst of the pattern, read from one place further left than the row before it, has its
    sources in columns of one offset. What is left of the first source is the end of the row above,
    which in a causal pattern is 0.
    """
    n, heads, n_dst, n_src = held.shape
    if n_src == 1:
        return held[:, :, :, 0].clone()
    if causal:
        wide, columns, rows, start = n_src, n_src, n_dst - 1, 2
    else:
        held = torch.nn.functional.pad(held, (n_src - 1, n_src - 1)).contiguous()
        wide, columns, rows, start = 3 * n_src - 2, 2 * n_src - 1, n_dst, 0
    strides = (heads * n_dst * wide, n_dst * wide, wide + 1, 1)
    skewed = held.as_strided((n, heads, rows, columns), strides, held.storage_offset() + start)
    total = skewed.sum(2)
    if causal:
        total[..., -1] += held[..., 0, 0]
    return total


def _written(held: Tensor, norms: Tensor | None) -> Tensor:
    """(batch, head, 2): shares of the write of the first position and of the previous token."""
    if norms is None:
        return held.new_zeros((*held.shape[:2], 2))
    moved = write(held, norms)
    total = moved.sum(-1).clamp(min=1e-30)
    before = torch.nn.functional.pad(moved.diagonal(-1, -2, -1), (1, 0))
    return torch.stack([(moved[..., 0] / total).sum(-1), (before / total).sum(-1)], -1)
