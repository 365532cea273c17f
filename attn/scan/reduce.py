"""Reduces a pattern to what the tally needs: the only code that visits all cells of a pattern.

:func:`reduce_pattern` gives sums a window, sums and best scores of every row and column, counts of
the pairs above average, and the pairs that may still enter a list. Everything else uses these. A
CPU does it with :mod:`attn.scan.reduce_cpu`, other devices with torch. A fused kernel that computes
attention may give the same :class:`Reduced` without ever holding a pattern.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from attn.measure.histograms import ATTENTION_BINS, DISTANCES
from attn.measure.metrics import of_kind
from attn.measure.scores import multiple, write

COMPILED = ("sink", "entropy", "concentration")
"""The row sums that the compiled walk computes; any other needs a pass of its own function."""


@dataclass(frozen=True, eq=False)
class Gate:
    """The bounds for pairs above average: a pair that passes one of them may enter a list.

    The reduction may also give pairs that pass none.

    ``token`` (head, token) the least multiple for the list of the source's token, which ``tokens``
    (batch, src) numbers; ``multiple`` (head,) the least; ``window`` (head,) the least of the best
    pair of a window; ``attention`` (head,) the least; ``nearest`` (head,) the highest multiple
    among those nearest above average; ``chance`` (head, bin) the last order in a sample, by the
    pair's bin of attention; ``order`` (batch, dst, src) that order.
    """

    tokens: Tensor
    token: Tensor
    order: Tensor
    multiple: Tensor
    window: Tensor
    attention: Tensor
    nearest: Tensor
    chance: Tensor


@dataclass(frozen=True, eq=False)
class Reduced:
    """The reduction of a layer's pattern on some windows. Rows that do not count are left out.

    Sums a window: ``on_masks`` (batch, head, mask), ``by_offset`` (batch, head, offset sum, then
    distance bin), ``by_row`` (batch, head, row sum), ``written`` (batch, head, write sum). Of
    columns and rows: ``mass``, ``best_source``, ``of_source`` (batch, head, src) and ``best_row``,
    ``of_row`` (batch, head, dst): attention, best multiple, pairs above average; ``of_bin`` (batch,
    head, bin) pairs by attention. Pairs above average, all that pass the gate among them, in any
    order: ``row`` batch * heads * dst, those of a window and head together, ``column``,
    ``attention`` float32, and ``kind``: 1 where it passes for the head's lists, 2 for its token's,
    3 for both.
    """

    on_masks: Tensor
    by_offset: Tensor
    by_row: Tensor
    written: Tensor
    mass: Tensor
    best_source: Tensor
    of_source: Tensor
    best_row: Tensor
    of_row: Tensor
    of_bin: Tensor
    row: Tensor
    column: Tensor
    attention: Tensor
    kind: Tensor


def reduce_pattern(
    pattern: Tensor,
    rows: Tensor,
    visible: Tensor,
    masks: Tensor,
    gate: Gate,
    *,
    norms: Tensor | None = None,
    ends: Tensor | None = None,
    skip_first: bool = True,
    causal: bool = True,
) -> Reduced:
    """Reduce a pattern (batch, head, dst, src), float32 and finite.

    ``rows`` (batch, head, dst) 1 where a row counts, else 0; ``visible`` (batch or 1, dst);
    ``masks`` (batch, dst * src, mask), 0 in rows that never count; ``norms`` (batch, head, src)
    where write scores are wanted; ``ends`` (batch,) the sources from there on are in no pair above
    average (None: all may be).
    """
    n, n_src = len(pattern), pattern.shape[3]
    visible = visible.expand(n, -1).float()
    walk = _walk_compiled if pattern.device.type == "cpu" else _walk
    if ends is None:
        ends = torch.full((n,), n_src, device=pattern.device)
    row_sums, offsets, *others = walk(pattern, rows, visible, gate, ends, skip_first, causal)
    even = bool((rows == rows[:, :1]).all())  # the same rows count for every head
    held = pattern if even else pattern * rows[..., None]
    by_row = [
        row_sums[..., COMPILED.index(name)] if name in COMPILED else (rule(pattern) * rows).sum(-1)
        for name, rule in of_kind("rows").items()
    ]
    return Reduced(
        torch.bmm(held.reshape(n, -1, masks.shape[1]), masks),
        offsets @ offset_weights(n_src, causal, pattern.device, tuple(of_kind("offsets"))),
        torch.stack(by_row, -1),
        _written(pattern, rows, norms),
        *others,
    )


def _walk_compiled(
    pattern: Tensor,
    rows: Tensor,
    visible: Tensor,
    gate: Gate,
    ends: Tensor,
    skip_first: bool,
    causal: bool,
) -> tuple[Tensor, ...]:
    """Walk with the compiled kernel; each core takes some of the windows."""
    from attn.scan.reduce_cpu import gather, walk

    n, heads, n_dst, n_src = pattern.shape
    pattern = pattern.contiguous()
    n_offsets = 2 * n_src - 1  # of a causal pattern, the first half; zeros are added beyond it
    real = [
        np.zeros((n, heads, size), np.float32)
        for size in (len(COMPILED), n_offsets, n_src, n_src, n_dst)
    ]
    whole = [np.zeros((n, heads, size), np.int64) for size in (n_src, n_dst, ATTENTION_BINS)]
    found = np.empty((n, heads, n_dst * n_src + 1), np.int32)
    kinds = np.empty((n, heads, n_dst * n_src + 1), np.uint8)
    n_found = np.zeros((n, heads), np.int64)
    cells = (pattern, pattern.view(torch.int32), rows, visible)
    bounds = (
        gate.order,
        gate.multiple,
        gate.window,
        gate.tokens,
        gate.token,
        gate.attention,
        gate.nearest,
        gate.chance,
    )
    arrays = [tensor.contiguous().numpy() for tensor in cells]
    limits = [tensor.contiguous().numpy() for tensor in bounds]

    given = (
        *arrays,
        ends.numpy(),
        causal,
        skip_first,
        *limits,
        *real,
        *whole,
        found,
        kinds,
        n_found,
    )
    in_parts(partial(walk, *given), n, 4)
    starts = np.concatenate([[0], n_found.reshape(-1).cumsum()])
    row, column = np.empty(starts[-1], np.int64), np.empty(starts[-1], np.int64)
    attention, kind = np.empty(starts[-1], np.float32), np.empty(starts[-1], np.uint8)
    flat = found.reshape(n * heads, -1), kinds.reshape(n * heads, -1)
    gather(*flat, starts, arrays[0].reshape(-1, n_dst, n_src), row, column, attention, kind)
    row_sums, by_offset, mass, best_source, best_row = real
    by_offset = by_offset[..., :n_src] if causal else by_offset
    of_source, of_row, of_bin = whole
    sums, of_pairs = (row_sums, by_offset), (row, column, attention, kind)
    others = (mass, best_source, of_source, best_row, of_row, of_bin)
    return tuple(map(torch.from_numpy, (*sums, *others, *of_pairs)))


def in_parts(work: Callable[[int, int], None], n: int, of_core: int = 1) -> None:
    """Call ``work(first, stop)`` for parts of ``range(n)``, in parallel on torch's cores.

    ``of_core`` parts for each core: more than one if some take longer than others.
    """
    cores = torch.get_num_threads()
    edges = np.linspace(0, n, min(of_core * cores, n) + 1).astype(int)
    list(_cores(cores).map(work, edges[:-1], edges[1:]))


@cache
def _cores(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n, "attn-walk")


def _walk(
    pattern: Tensor,
    rows: Tensor,
    visible: Tensor,
    gate: Gate,
    ends: Tensor,
    skip_first: bool,
    causal: bool,
) -> tuple[Tensor, ...]:
    """Walk with torch. It gives every pair above average."""
    n, heads, n_dst, n_src = pattern.shape
    held = pattern * rows[..., None]
    scored = multiple(held, visible[:, None])
    if skip_first:
        scored[..., 0] = 0
    past = torch.arange(n_src, device=ends.device) >= ends[:, None]
    scored.masked_fill_(past[:, None, None], 0)
    index = (scored.view(-1) > 1).nonzero()[:, 0]
    row = index // n_src
    column = index - row * n_src
    owner = row // n_dst
    halvings = (126 - (held.view(-1)[index].view(torch.int32) >> 23)).clamp(0, ATTENTION_BINS - 1)

    def count(place: Tensor, size: int) -> Tensor:
        return torch.bincount(place, minlength=n * heads * size).view(n, heads, size)

    rules = of_kind("rows")
    by_row = [rules[name](held).sum(-1) for name in COMPILED]
    return (
        torch.stack(by_row, -1),
        _by_offset(held, causal),
        held.sum(2),
        scored.amax(2),
        count(owner * n_src + column, n_src),
        scored.amax(3),
        count(row, n_dst),
        count(owner * ATTENTION_BINS + halvings, ATTENTION_BINS),
        row,
        column,
        held.view(-1)[index],
        torch.full_like(row, 3, dtype=torch.uint8),
    )


@lru_cache(maxsize=64)
def offset_weights(
    width: int, causal: bool, device: torch.device, names: tuple[str, ...]
) -> Tensor:
    """(offset, sum and bin): what each ``dst - src`` adds to the sums, then to the bins."""
    least = 0 if causal else 1 - width
    offset = torch.arange(width - 1, least - 1, -1, device=device)
    rules = of_kind("offsets")
    sums = [rules[name](offset) for name in names]
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
    if causal:
        rows, columns, wide, start = n_dst - 1, n_src, n_src, 2
    else:
        held = torch.nn.functional.pad(held, (n_src - 1, n_src - 1)).contiguous()
        rows, columns, wide, start = n_dst, 2 * n_src - 1, 3 * n_src - 2, 0
    if not rows:
        return held[:, :, :, 0].clone()
    strides = (heads * n_dst * wide, n_dst * wide, wide + 1, 1)
    skewed = held.as_strided((n, heads, rows, columns), strides, held.storage_offset() + start)
    total = skewed.sum(2)
    if causal:
        total[..., -1] += held[..., 0, 0]
    return total


def _written(pattern: Tensor, rows: Tensor, norms: Tensor | None) -> Tensor:
    """(batch, head, sum): the sums of the kind ``writes``, 0 where no write scores are wanted."""
    rules = of_kind("writes")
    if norms is None:
        return pattern.new_zeros((*pattern.shape[:2], len(rules)))
    moved = write(pattern, norms)
    total = moved.sum(-1).clamp(min=1e-30)
    return torch.stack([(rule(moved, total) * rows).sum(-1) for rule in rules.values()], -1)
