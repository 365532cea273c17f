"""The lists of pairs that a layer keeps while it is scanned, and what a pair must beat to enter.

The bounds outlive a shard. They come from K real pairs of the same corpus, so no pair that they
turn away could be among the K best of the whole: shards may leave out different pairs, depending on
what was scanned before them, and still merge into the same lists.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from attn.batch import Batch
from attn.metrics import ATTENTION_BINS
from attn.ordering import MOST, ascending, best, descending, divided, pack
from attn.parts import Best, Limits, Pairs
from attn.reduction import Gate, Reduced
from attn.scores import BANDS, LISTS

_KIND = {name: kind for kind, name in enumerate(LISTS)}
_BAND0, _BANDS = _KIND["band0"], len(BANDS)
_TOKEN_BUFFER = 1 << 15  # pairs for the token lists that wait before the first ranking

_Offer = tuple[Tensor, Tensor, Tensor]  # (pair,) group, order, and which of the pairs found


@dataclass(frozen=True, eq=False)
class Found:
    """The pairs above average of a batch.

    ``pattern`` (batch, head, dst, src), finite; ``visible`` (batch or
    1, dst); ``norms`` (batch, head, src) or None; of each pair, (pair,): ``row`` batch * heads *
    dst, ``owner`` batch * heads, ``sequence`` batch, ``head``, ``column``, ``halvings`` how often 1
    is halved to get below its attention, less one; ``multiple``, ``attention`` float32.
    """

    batch: Batch
    pattern: Tensor
    visible: Tensor
    norms: Tensor | None
    row: Tensor
    owner: Tensor
    sequence: Tensor
    head: Tensor
    column: Tensor
    halvings: Tensor
    multiple: Tensor
    attention: Tensor

    @classmethod
    def of(
        cls,
        reduced: Reduced,
        kind: int,
        pattern: Tensor,
        visible: Tensor,
        batch: Batch,
        norms: Tensor | None,
    ) -> Found:
        """The pairs that a reduction of ``pattern`` found for one kind of lists."""
        heads, n_dst = pattern.shape[1:3]
        some = (reduced.kind & kind).nonzero()[:, 0]
        row, column = reduced.row[some], reduced.column[some]
        owner = divided(row, n_dst)
        sequence = divided(owner, heads)
        dst = row - owner * n_dst
        attention = pattern.reshape(-1)[row * pattern.shape[3] + column]
        return cls(
            batch,
            pattern,
            visible,
            norms,
            row,
            owner,
            sequence,
            owner - sequence * heads,
            column,
            (126 - (attention.view(torch.int32) >> 23)).clamp(min=0),
            attention * visible.expand(len(pattern), -1)[sequence, dst].float(),
            attention,
        )

    def only(self, windows: slice) -> Found:
        """The pairs of some windows."""
        some = (self.sequence >= windows.start) & (self.sequence < windows.stop)
        names = ("row", "owner", "sequence", "head", "column", "halvings", "multiple", "attention")
        return replace(self, **{name: getattr(self, name)[some] for name in names})

    @property
    def write(self) -> Tensor:
        """(pair,) float32: attention times the norm of what the source's value writes."""
        assert self.norms is not None
        n_src = self.pattern.shape[3]
        return self.attention * self.norms.reshape(-1)[self.owner * n_src + self.column]

    @property
    def chance(self) -> Tensor:
        """(pair,) int64: the order of the pairs in a uniform sample."""
        n_dst, n_src = self.pattern.shape[2:]
        skipped = self.owner - self.sequence  # other heads' patterns, which share the hashes
        cell = (self.row - skipped * n_dst) * n_src + self.column
        return self.batch.pair_order.reshape(-1)[cell]

    def place(self, some: Tensor) -> Tensor:
        """The packed (window, dst, src) of the pairs ``some``."""
        window = self.batch.windows[self.sequence[some]]
        return pack(window, self.row[some] % self.pattern.shape[2], self.column[some])


class Lists:
    """All of :data:`attn.scores.LISTS` for the heads of a layer."""

    def __init__(self, n_heads: int, width: int, limits: Limits, device: str) -> None:
        self.n_heads, self.width, self.device = n_heads, width, device
        self._limits = limits.groups(n_heads, device)
        self._room = 2 * int(self._limits.sum()) + 4096
        self._scores_write = limits.write
        none = self._limits.view(len(LISTS), n_heads) == 0
        self._bounds = torch.where(none, -1, MOST)  # (list, head)
        self._known = False
        self._before = Pairs.empty(0, device)  # the best of earlier shards, without their rows
        self.start()

    def gate(self, batch: Batch, of_token: Tensor) -> Gate:
        """What a pair must have to enter a list as they stand; everything where write is kept.

        ``of_token`` (batch, head, src) the multiple that the list of its token asks for.
        """
        bounds = self._bounds
        least = ascending(bounds[_KIND["top"]])
        if self._scores_write:
            least = torch.zeros_like(least)
        nearest = ascending(MOST - bounds[_KIND["bottom"]]).nan_to_num(torch.inf)
        in_bands = bounds[_BAND0 : _BAND0 + _BANDS].flip(0)  # by halvings, from the highest band
        in_bands = in_bands[
            torch.arange(ATTENTION_BINS, device=bounds.device).clamp(max=_BANDS - 1)
        ]
        chance = torch.maximum(in_bands, bounds[_KIND["sample"]])
        return Gate(
            least,
            ascending(bounds[_KIND["by_document"]]),
            of_token,
            ascending(bounds[_KIND["attention"]]),
            nearest,
            chance.T.contiguous(),
            batch.pair_order,
        )

    def start(self) -> None:
        """Begin a shard with empty lists."""
        self._waiting = [Pairs.empty(self.width, self.device)]

    def finish(self) -> Pairs:
        """What the shard's lists hold."""
        kept = self._rank()
        bare = replace(kept, rows=kept.rows[:, :0])
        self._before = Pairs.join([self._before, bare]).best(self._limits)
        return kept

    def offer(self, found: Found) -> None:
        """Let every list take what it may of the pairs above average, and of the sampled rows."""
        if not self._known:  # one window, then a few: each raises what the next must beat
            n = len(found.pattern)
            for start, end in pairwise(sorted({0, 1, min(4, n), n})):
                self._offer_pairs(found.only(slice(start, end)))
                self._offer_rows(found, slice(start, end))
                self._rank()
            self._known = True
            return
        self._offer_pairs(found)
        self._offer_rows(found, slice(None))
        if sum(map(len, self._waiting)) > self._room:
            self._rank()

    def _offer_pairs(self, found: Found) -> None:
        chance = found.chance
        offers = [
            self._by_score(found, "top", found.multiple),
            self._by_score(found, "attention", found.attention),
            self._nearest(found),
            self._by_chance(found, chance),
            self._in_bands(found, chance),
            self._of_documents(found),
        ]
        if found.norms is not None:
            offers.append(self._by_score(found, "write", found.write))
        group, order, pick = (torch.cat(some) for some in zip(*offers, strict=True))
        if len(pick) > self._room:  # before the bounds are known: choose first, then copy rows
            some = best(group, order, found.place(pick), self._limits)
            group, order, pick = group[some], order[some], pick[some]
        if len(pick):
            self._keep(found, group, order, pick)

    def _by_score(self, found: Found, name: str, score: Tensor) -> _Offer:
        """The pairs whose score is high enough for a ranking."""
        least = ascending(self._bounds[_KIND[name]])
        pick = (score >= least[found.head]).nonzero()[:, 0]
        return _KIND[name] * self.n_heads + found.head[pick], descending(score[pick]), pick

    def _nearest(self, found: Found) -> _Offer:
        """The pairs that are near enough above average."""
        most = ascending(MOST - self._bounds[_KIND["bottom"]]).nan_to_num(torch.inf)
        pick = (found.multiple <= most[found.head]).nonzero()[:, 0]
        order = MOST - descending(found.multiple[pick])
        return _KIND["bottom"] * self.n_heads + found.head[pick], order, pick

    def _by_chance(self, found: Found, chance: Tensor) -> _Offer:
        """The pairs that may enter the sample of all."""
        pick = (chance <= self._bounds[_KIND["sample"]][found.head]).nonzero()[:, 0]
        return _KIND["sample"] * self.n_heads + found.head[pick], chance[pick], pick

    def _in_bands(self, found: Found, chance: Tensor) -> _Offer:
        """The pairs that may enter the sample of their band of attention."""
        band = (_BANDS - 1 - found.halvings).clamp(min=0).to(torch.int64)
        slot = band * self.n_heads + found.head
        bounds = self._bounds[_BAND0 : _BAND0 + _BANDS].reshape(-1)
        pick = (chance <= bounds[slot]).nonzero()[:, 0]
        return _BAND0 * self.n_heads + slot[pick], chance[pick], pick

    def _of_documents(self, found: Found) -> _Offer:
        """The best pairs of every window and head, where they may enter."""
        n_owners = found.pattern.shape[0] * self.n_heads
        most = torch.zeros(n_owners, device=found.multiple.device)
        most.scatter_reduce_(0, found.owner, found.multiple, "amax")
        least = ascending(self._bounds[_KIND["by_document"]]).repeat(found.pattern.shape[0])
        most[most < least] = torch.inf
        pick = (found.multiple == most[found.owner]).nonzero()[:, 0]
        group = _KIND["by_document"] * self.n_heads + found.head[pick]
        return group, descending(found.multiple[pick]), pick

    def _keep(self, found: Found, group: Tensor, order: Tensor, pick: Tensor) -> None:
        """Copy pairs out of the pattern before it is dropped."""
        n_src = found.pattern.shape[3]
        moved = found.write[pick] if found.norms is not None else _nan(found.attention[pick])
        self._waiting.append(
            Pairs(
                group,
                order,
                found.place(pick),
                found.batch.documents[found.sequence[pick]],
                found.batch.tokens[found.sequence[pick], found.column[pick]],
                found.multiple[pick],
                found.attention[pick],
                moved,
                self._wide(found.pattern.reshape(-1, n_src)[found.row[pick]]),
            )
        )

    def _offer_rows(self, found: Found, windows: slice) -> None:
        """Sampled rows, whatever they do, with the best source that is not left out."""
        batch = found.batch
        bound = self._bounds[_KIND["rows"]]  # (head,)
        may = (batch.row_order[windows] <= bound.max()) & (batch.counted[windows] > 0)
        sequence, dst = may.nonzero(as_tuple=True)
        if len(dst) == 0:
            return
        sequence = sequence + (windows.start or 0)
        rows = found.pattern[sequence, :, dst]  # (row, head, src)
        order = batch.row_order[sequence, dst]
        good = (rows.amax(-1) > 0) & (order[:, None] <= bound)
        place, head = good.nonzero(as_tuple=True)
        rows, sequence, dst, order = rows[place, head], sequence[place], dst[place], order[place]
        others = rows.clone()
        others[:, 0] = 0
        attention, source = others.max(-1)
        attention = torch.where(attention > 0, attention, rows[:, 0])
        seen = found.visible.expand(len(found.pattern), -1)[sequence, dst]
        moved = _nan(attention)
        if found.norms is not None:
            moved = attention * found.norms[sequence, head, source]
        self._waiting.append(
            Pairs(
                _KIND["rows"] * self.n_heads + head,
                order,
                pack(batch.windows[sequence], dst, source),
                batch.documents[sequence],
                batch.tokens[sequence, source],
                attention * seen.to(attention.dtype),
                attention,
                moved,
                self._wide(rows),
            )
        )

    def _wide(self, rows: Tensor) -> Tensor:
        return torch.nn.functional.pad(rows.half(), (0, self.width - rows.shape[-1]))

    def _rank(self) -> Pairs:
        """Drop what is not among the best, and raise the bounds."""
        kept = Pairs.join(self._waiting).best(self._limits)
        self._waiting = [kept]
        known = Pairs.join([self._before, replace(kept, rows=kept.rows[:, :0])])
        known = known.best(self._limits)
        count = torch.bincount(known.group, minlength=len(self._limits))
        last = count.cumsum(0) - 1
        full = (count >= self._limits) & (self._limits > 0)
        bounds = self._bounds.view(-1)
        if len(known):
            bounds[full] = known.order[last[full]]
        return kept


class TokenLists:
    """The best pairs by multiple of every head and source token of a layer."""

    def __init__(self, n_heads: int, vocabulary: int, limit: int, device: str) -> None:
        self.n_heads, self.vocabulary = n_heads, vocabulary
        self.limit, self.device = limit, device
        size = n_heads * vocabulary if limit else 0
        self._bounds = torch.full((size,), MOST, dtype=torch.int32, device=device)
        self.start()

    def start(self) -> None:
        """Begin a shard with empty lists."""
        self._kept, self._n = Best.empty(self.device), 0
        self._room = _TOKEN_BUFFER
        self._waiting: list[Best] = []

    def finish(self) -> Best:
        """What the shard's lists hold."""
        self._rank()
        return self._kept

    def least(self, batch: Batch) -> Tensor:
        """(batch, head, src) float32: the multiple that a pair must have to enter a list."""
        if not self.limit:
            shape = len(batch.ids), self.n_heads, batch.ids.shape[1]
            return torch.full(shape, torch.inf, device=batch.ids.device)
        return ascending(self._bounds[self._keys(batch)].to(torch.int64))

    def _keys(self, batch: Batch) -> Tensor:
        """(batch, head, src) the key of each source's list."""
        head = torch.arange(self.n_heads, device=batch.tokens.device)[:, None]
        return head * self.vocabulary + batch.tokens[:, None]

    def offer(self, found: Found) -> None:
        """Let every token's list take what it may."""
        if not self.limit:
            return
        n_src = found.pattern.shape[3]
        keys = self._keys(found.batch).view(-1)
        least = ascending(self._bounds[keys].to(torch.int64))
        at = found.owner * n_src + found.column
        pick = (found.multiple >= least[at]).nonzero()[:, 0]
        order = descending(found.multiple[pick])
        kept = Best(keys[at[pick]], order, found.place(pick), found.attention[pick])
        self._waiting.append(kept)
        self._n += len(pick)
        if self._n > self._room:
            self._rank()
            self._room = max(2 * self._room, len(self._kept))

    def _rank(self) -> None:
        self._kept = Best.join([self._kept, *self._waiting]).best(self.limit)
        self._waiting, self._n = [], 0
        key = self._kept.key
        if len(key) < self.limit:
            return
        # The limit-th of a key's run: limit - 1 places on, the key is still the same.
        last = (key[self.limit - 1 :] == key[: len(key) - self.limit + 1]).nonzero()[:, 0]
        last += self.limit - 1
        bound = self._kept.order[last].to(torch.int32)
        self._bounds[key[last]] = torch.minimum(self._bounds[key[last]], bound)


def _nan(like: Tensor) -> Tensor:
    return torch.full_like(like, torch.nan)
