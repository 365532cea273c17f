"""The tally: exact counts and the best pairs of each head, which can be merged in any order.

There is one :class:`LayerTally` for each layer. Each piece of a layer's pattern is reduced in one
pass to sums, to counts for each source and destination, and to the pairs above average; the few of
these that may still enter a list are kept, and everything else works on those. Sums are in fixed
point, so adding is exact in any order.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attn.measure.budget import PARTS
from attn.measure.fixed_point import FIXED
from attn.measure.histograms import ATTENTION_BINS, DISTANCES
from attn.measure.metrics import of_kind, sums
from attn.scan.batches import Batch
from attn.scan.partials import LayerPart, Limits, Table
from attn.scan.reduce import Reduced, in_parts, reduce_pattern
from attn.scan.shortlists import Found, Lists, TokenLists


class LayerTally:
    """Counts and lists of all heads of one layer, a shard at a time.

    ``width`` the longest window; ``vocabulary`` how many different tokens the corpus has;
    ``skip_first`` leaves the first source, and special tokens, out of pairs and lists.
    """

    def __init__(
        self,
        n_heads: int,
        width: int,
        vocabulary: int,
        limits: Limits,
        *,
        skip_first: bool = True,
        causal: bool = True,
        device: str = "cpu",
    ) -> None:
        self.n_heads, self.skip_first, self.causal, self.device = (
            n_heads,
            skip_first,
            causal,
            device,
        )
        scales = [made.scale for made in sums()]
        self._scales = torch.tensor(scales, dtype=torch.float64, device=device)
        self._lists = Lists(n_heads, width, limits, device)
        self._token_lists = TokenLists(n_heads, vocabulary, limits.per_token)
        self.start(torch.arange(vocabulary))

    def start(self, tokens: Tensor) -> None:
        """Start a shard with nothing counted; ``tokens`` (token,) are its token numbers, rising."""
        heads, device = self.n_heads, self.device

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        self.tokens = tokens.to(device)
        self.rows, self.pairs, self.nonfinite = zeros(heads), zeros(heads), zeros(heads)
        self.sums, self.parts = zeros(len(self._scales), heads), zeros(len(PARTS) - 1, heads)
        self.distances = zeros(len(DISTANCES), heads)
        self.attention = zeros(heads, ATTENTION_BINS)
        self.uniform = zeros(len(tokens))
        self._sources = np.zeros((heads, len(tokens), 3), np.int64)
        self._destinations = np.zeros_like(self._sources)
        self._lists.start()
        self._token_lists.start(tokens.cpu())

    def finish(self, shard: int) -> LayerPart:
        """What was counted since :meth:`start`, as the part of shard number ``shard``."""
        part = LayerPart(
            frozenset([shard]),
            self.rows,
            self.pairs,
            self.nonfinite,
            self.sums,
            self.parts,
            self.distances,
            self.attention.T,
            self.tokens,
            self.uniform,
            _table(self._sources),
            _table(self._destinations),
            self._lists.finish(),
            self._token_lists.finish(),
        )
        return part.cpu()

    def add(
        self, pattern: Tensor, visible: Tensor, batch: Batch, norms: Tensor | None = None
    ) -> None:
        """Reduce one layer's pattern (batch, head, dst, src).

        ``visible`` (batch or 1, dst); ``norms`` (batch, head, src) where write scores are kept.
        """
        rows = batch.counted[:, None].expand(-1, self.n_heads, -1)  # (batch, head, dst)
        if not bool(pattern.sum().isfinite()):
            finite = pattern.amax(-1).isfinite()
            self.nonfinite += ((~finite) & (rows > 0)).sum((0, 2))
            pattern = torch.where(finite[..., None], pattern, 0.0)
            rows = rows * finite
        where = batch.places(self.tokens).view(batch.tokens.shape)
        of_token = self._token_lists.least.to(self.device)
        reduced = reduce_pattern(
            pattern,
            rows,
            visible,
            batch.masks,
            self._lists.gate(batch, where, of_token),
            norms=norms,
            ends=batch.ends if self.skip_first else None,
            skip_first=self.skip_first,
            causal=self.causal,
        )
        resting = pattern[..., 0] * rows  # (batch, head, dst)
        self._add_sums(reduced, rows, resting, visible, batch)
        moving = rows - resting
        if batch.context.special is not None:
            on_special = batch.context.special[:, None, None].to(pattern.dtype)
            moving = moving - (pattern * on_special).sum(-1) * rows
        even = batch.uniform(visible, self.causal)
        self._count(reduced, where, even, moving.clamp(min=0), batch.context.special)
        self._lists.offer(Found.of(reduced, pattern, visible, batch, norms))
        self._token_lists.offer(reduced, pattern, visible, batch.windows, where)

    def _add_sums(
        self, reduced: Reduced, rows: Tensor, resting: Tensor, visible: Tensor, batch: Batch
    ) -> None:
        n_pairs, n_offsets = len(of_kind("pairs")), len(of_kind("offsets"))
        positions = [rule(visible, batch.context) for rule in of_kind("positions").values()]
        values = [
            reduced.on_masks[..., :n_pairs],
            reduced.by_offset[..., :n_offsets],
            reduced.by_row,
            *((value[:, None] * rows).sum(-1, keepdim=True) for value in positions),
            reduced.written,
        ]
        self.rows += rows.sum((0, 2)).to(torch.int64)
        self.sums += _fixed(torch.cat(values, -1), self._scales)
        first = _first_parts(reduced.by_offset, resting)
        self.parts += _fixed(torch.cat([first, reduced.on_masks[..., n_pairs:]], -1))
        self.distances += _fixed(reduced.by_offset[..., n_offsets:])

    def _count(
        self,
        reduced: Reduced,
        where: Tensor,
        even: Tensor,
        moving: Tensor,
        special: Tensor | None,
    ) -> None:
        """Count the pairs above average by head, attention, source and destination."""
        self.attention += reduced.of_bin.sum(0)
        self.pairs += reduced.of_row.sum((0, 2))
        if self.skip_first:  # attention at rest there says nothing about the first token
            reduced.mass[..., 0] = 0
            even = torch.nn.functional.pad(even[:, 1:], (1, 0))
            if special is not None:  # nor about a special token
                reduced.mass.masked_fill_(special[:, None], 0)
                even = even.masked_fill(special, 0)
        self._add_to_tables(reduced, where, moving)
        self.uniform.index_add_(0, where.view(-1), _whole(even).view(-1))

    def _add_to_tables(self, reduced: Reduced, where: Tensor, moving: Tensor) -> None:
        """Add the sums of columns and rows to the tokens ``where`` (batch, position)."""
        from attn.scan.reduce_cpu import count

        sources = reduced.of_source, reduced.mass, reduced.best_source
        destinations = reduced.of_row, moving, reduced.best_row
        place, *given = (t.cpu().contiguous().numpy() for t in (where, *sources, *destinations))

        def add(first: int, stop: int) -> None:
            count(place, *given[:3], FIXED, self._sources, first, stop)
            count(place, *given[3:], FIXED, self._destinations, first, stop)

        in_parts(add, self.n_heads)


def _table(counted: NDArray[np.int64]) -> Table:
    pairs, mass, most = torch.from_numpy(counted).unbind(2)
    return Table(pairs, mass, most.to(torch.int32).view(torch.float32))


def _first_parts(by_offset: Tensor, resting: Tensor) -> Tensor:
    """(batch, head, 3): the budget's sink, self and previous, which claim in this order."""
    names = list(of_kind("offsets"))
    column = torch.nn.functional.pad(resting, (0, 1))
    itself = by_offset[..., names.index("self")] - column[..., 0]
    previous = by_offset[..., names.index("previous")] - column[..., 1]
    return torch.stack([resting.sum(-1), itself, previous], -1).clamp(min=0)


def _whole(values: Tensor) -> Tensor:
    """Shares of attention in fixed point."""
    return (values.double() * FIXED).round().to(torch.int64)


def _fixed(values: Tensor, scale: Tensor | float = FIXED) -> Tensor:
    """(sum, head) int64 from (batch, head, sum): every window's sum in fixed point, added up."""
    return (values.double() * scale).round().to(torch.int64).sum(0).T
