"""What is kept of a scan: exact counts, and the best pairs of each head. Mergeable in any order.

One :class:`LayerTally` a layer. Each batch's pattern is reduced in one pass to sums a row, and to
the short list of pairs that may still enter a list; everything else works on that short list.
Sums are kept in fixed point (2^-32, integers), so adding is exact in any order. A list keeps the K
pairs with the smallest (order, document, dst, src), which makes merging associative, commutative
and, as a pair is kept once, idempotent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attn.metrics import METRICS, Context
from attn.scores import multiple

ROW_METRICS = tuple(name for name, metric in METRICS.items() if metric.rows)
LISTS = ("top", "attention", "bottom", "by_document", "sample")
FIXED = 2.0**32  # a sum of 1.0 in fixed point
_MASK31 = 0x7FFFFFFF


@dataclass(frozen=True)
class Batch:
    """A batch of token sequences, with what its tallies need to know of them.

    ``ids`` (batch, position) padded on the right; ``lengths`` and ``documents`` (batch,): real
    lengths, places in the corpus; ``hashes`` (batch, dst, src) int64 in [0, 2^31): the order of the
    pairs in a uniform sample.
    """

    ids: Tensor
    lengths: Tensor
    documents: Tensor
    hashes: Tensor
    context: Context

    @classmethod
    def make(
        cls,
        ids: Sequence[Sequence[int]],
        documents: Sequence[int],
        keys: Sequence[int],
        seed: int,
        device: str,
    ) -> Batch:
        """``ids`` one list a sequence; ``keys`` 63-bit hashes of the documents' texts."""
        lengths = torch.tensor([len(row) for row in ids], device=device)
        width = int(lengths.max())
        padded = torch.zeros((len(ids), width), dtype=torch.int64)
        for row, values in enumerate(ids):
            padded[row, : len(values)] = torch.as_tensor(values, dtype=torch.int64)
        padded = padded.to(device)
        return cls(
            padded,
            lengths,
            torch.tensor(list(documents), device=device, dtype=torch.int64),
            pair_hashes(torch.tensor(list(keys), device=device), width, seed),
            Context(padded),
        )


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser (Steele et al. 2014) on int64, which wraps like uint64."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def pair_hashes(keys: Tensor, width: int, seed: int) -> Tensor:
    """(document, dst, src) int64 in [0, 2^31): a hash of (seed, document, dst, src).

    ``keys`` (document,) int64 hashes of the documents' texts; the same pair of the same text has
    the same hash in every corpus.
    """
    position = torch.arange(width, device=keys.device, dtype=torch.int64)
    pair = position[:, None] * 65536 + position[None, :]
    salt = _mix(keys * 0x2545F4914F6CDD1D + seed)
    return _mix(salt[:, None, None] + _mix(pair)[None]) & _MASK31


@dataclass
class Pairs:
    """Pairs in lists, one entry a pair and list. All tensors share their first dimension.

    ``group`` list * heads + head; ``order`` smaller is better; ``place`` the packed
    (document, dst, src); ``multiple``, ``attention`` float32; ``rows`` (pair, src) float16.
    """

    group: Tensor
    order: Tensor
    place: Tensor
    multiple: Tensor
    attention: Tensor
    rows: Tensor

    @classmethod
    def empty(cls, width: int, device: str = "cpu") -> Pairs:
        """No pairs; rows of them would be ``width`` sources long."""
        whole = [torch.zeros(0, dtype=torch.int64, device=device) for _ in range(3)]
        real = [torch.zeros(0, device=device) for _ in range(2)]
        rows = torch.zeros((0, width), dtype=torch.float16, device=device)
        return cls(whole[0], whole[1], whole[2], real[0], real[1], rows)

    def _all(self) -> list[Tensor]:
        return [self.group, self.order, self.place, self.multiple, self.attention, self.rows]

    def take(self, index: Tensor) -> Pairs:
        """Those at ``index``, in its order."""
        return Pairs(*(tensor[index] for tensor in self._all()))

    def join(self, other: Pairs) -> Pairs:
        """These, then the others."""
        return Pairs(*(torch.cat(two) for two in zip(self._all(), other._all(), strict=True)))


def pack(document: Tensor, dst: Tensor, src: Tensor) -> Tensor:
    """(document, dst, src) in one int64, ordered like the three."""
    return (document << 32) | (dst << 16) | src


def best(group: Tensor, order: Tensor, place: Tensor, limits: Tensor) -> Tensor:
    """Indices of each group's smallest (order, place), one a place, sorted by group and rank.

    ``group``, ``order`` (< 2^31), ``place`` (pair,) int64; ``limits`` (group,) how many to keep.
    """
    if len(group) == 0:
        return group
    key = (group << 31) | order
    # First drop what is clearly out, by the limit-th order of each group, ties kept.
    ranked, _ = torch.sort(key)
    starts = torch.searchsorted(ranked, torch.arange(len(limits) + 1, device=key.device) << 31)
    last = torch.minimum(starts[:-1] + limits, starts[1:]) - 1
    bound = ranked[last.clamp(min=0)]
    index = (key <= bound[group]).nonzero()[:, 0]
    # Then sort the few that are left by (group, order, place): two stable sorts.
    index = index[torch.sort(place[index], stable=True)[1]]
    index = index[torch.sort(key[index], stable=True)[1]]
    key, place = key[index], place[index]
    twice = torch.zeros(len(index), dtype=torch.bool, device=key.device)
    twice[1:] = (key[1:] == key[:-1]) & (place[1:] == place[:-1])
    index, key = index[~twice], key[~twice]
    owner = key >> 31
    first = torch.searchsorted(owner, torch.arange(len(limits), device=key.device))
    rank = torch.arange(len(index), device=key.device) - first[owner]
    return index[rank < limits[owner]]


def descending(score: Tensor) -> Tensor:
    """Order of non-negative float32 scores, the largest first: int64 in [0, 2^31)."""
    return _MASK31 - score.contiguous().view(torch.int32).to(torch.int64)


class LayerTally:
    """Counts and lists of all heads of one layer.

    ``limits``: how many pairs each of :data:`LISTS` keeps; ``width``: the longest sequence;
    rows before ``min_row`` are not counted; ``skip_first`` leaves the first source out of lists.
    """

    def __init__(
        self,
        n_heads: int,
        width: int,
        limits: Sequence[int],
        *,
        min_row: int,
        skip_first: bool,
        device: str,
    ) -> None:
        self.n_heads, self.width = n_heads, width
        self.min_row, self.skip_first = min_row, skip_first
        self.limits = torch.tensor(list(limits), device=device).repeat_interleave(n_heads)
        self.rows = torch.zeros(n_heads, dtype=torch.int64, device=device)
        self.pairs, self.nonfinite = self.rows.clone(), self.rows.clone()
        self.sums = torch.zeros((len(ROW_METRICS), n_heads), dtype=torch.int64, device=device)
        self.kept = Pairs.empty(width, device)
        # The order that a pair must not exceed to enter a full list: (list, head).
        self.bounds = torch.full((len(LISTS), n_heads), _MASK31, device=device)

    def add(self, pattern: Tensor, visible: Tensor, batch: Batch) -> None:
        """Reduce one layer's pattern (batch, head, dst, src); ``visible`` (batch or 1, dst)."""
        n_dst = pattern.shape[2]
        position = torch.arange(n_dst, device=pattern.device)
        counted = (position >= self.min_row) & (position < batch.lengths[:, None])
        counted = counted[:, None].expand(-1, self.n_heads, -1)  # (batch, head, dst)
        finite = pattern.sum(-1).isfinite()
        lost = counted & ~finite
        if bool(lost.any()):
            self.nonfinite += lost.sum((0, 2))
            counted = counted & finite
            pattern = torch.where(finite[..., None], pattern, 0.0)
        self.rows += counted.sum((0, 2))
        self._add_sums(pattern, counted, batch.context)

        scored = multiple(pattern, visible[:, None] * counted)  # 0 in rows not counted
        if self.skip_first:
            scored[..., 0] = 0
        flat = scored.view(-1)
        above = (flat > 1).nonzero()[:, 0]
        cell = pattern.shape[2] * pattern.shape[3]
        head = (above // cell) % self.n_heads
        self.pairs += torch.bincount(head, minlength=self.n_heads)
        self._add_pairs(pattern, flat[above], above, head, batch)

    def _add_sums(self, pattern: Tensor, counted: Tensor, context: Context) -> None:
        for i, name in enumerate(ROW_METRICS):
            rows = METRICS[name].rows
            assert rows is not None
            values = torch.where(counted, rows(pattern, context), 0.0)
            self.sums[i] += (values.double() * FIXED).round().to(torch.int64).sum((0, 2))

    def _add_pairs(
        self, pattern: Tensor, scores: Tensor, above: Tensor, head: Tensor, batch: Batch
    ) -> None:
        """Offer the pairs above average, (pair,) indices into the flat pattern, to every list."""
        if len(above) == 0:
            return
        n_dst, n_src = pattern.shape[2], pattern.shape[3]
        attention = pattern.reshape(-1)[above]
        cell = above % (n_dst * n_src)
        row = above // (n_dst * n_src * self.n_heads)
        document = batch.documents[row]
        place = (document << 32) | ((cell // n_src) << 16) | (cell % n_src)
        falling = descending(scores)
        # by_document: the first pair of each (document, head) by (multiple, place).
        owner = row * self.n_heads + head
        single = torch.ones(len(batch.documents) * self.n_heads, dtype=torch.int64)
        alone = best(owner, falling, place, single.to(owner.device))
        every = torch.arange(len(above), device=above.device)
        offers = (
            (every, falling),
            (every, descending(attention)),
            (every, _MASK31 - falling),
            (alone, falling[alone]),
            (every, batch.hashes.reshape(-1)[row * (n_dst * n_src) + cell]),
        )
        groups, orders, picks = [], [], []
        for kind, (pick, order) in enumerate(offers):
            passed = (order <= self.bounds[kind][head[pick]]).nonzero()[:, 0]
            picks.append(pick[passed])
            orders.append(order[passed])
            groups.append(kind * self.n_heads + head[pick[passed]])
        pick, order, group = torch.cat(picks), torch.cat(orders), torch.cat(groups)
        chosen = best(group, order, place[pick], self.limits)
        pick, order, group = pick[chosen], order[chosen], group[chosen]
        rows = pattern.view(-1, n_src)[above[pick] // n_src].half()
        rows = torch.nn.functional.pad(rows, (0, self.width - n_src))
        self._keep(Pairs(group, order, place[pick], scores[pick], attention[pick], rows))

    def _keep(self, new: Pairs) -> None:
        joined = self.kept.join(new)
        self.kept = joined.take(best(joined.group, joined.order, joined.place, self.limits))
        count = torch.bincount(self.kept.group, minlength=len(self.limits))
        full = count >= self.limits
        last = count.cumsum(0) - 1
        bounds = torch.where(full, self.kept.order[last.clamp(min=0)], _MASK31)
        self.bounds = bounds.view(len(LISTS), self.n_heads)

    def merge(self, other: LayerTally) -> None:
        """Add the tally of other documents."""
        self.rows += other.rows
        self.pairs += other.pairs
        self.nonfinite += other.nonfinite
        self.sums += other.sums
        self._keep(other.kept)
