"""The lists of pairs that a layer keeps during a scan, and the bounds that a pair must beat.

The bounds stay from shard to shard. They come from K real pairs of the same corpus, so a pair below
them cannot be among the K best of the whole. Which pairs a shard leaves out depends on what was
scanned before, but merging shards always gives the same lists.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from attn.measure.histograms import ATTENTION_BINS
from attn.measure.scores import BANDS, LISTS
from attn.scan.batches import Batch
from attn.scan.partials import Best, Limits, Pairs
from attn.scan.reduce import Gate, Reduced, in_parts
from attn.scan.sort_keys import MOST, ascending, best, divided, pack

_KIND = {name: kind for kind, name in enumerate(LISTS)}
_BAND0, _BANDS = _KIND["band0"], len(BANDS)

_OFFERED = np.array(
    [_KIND[n] for n in ("top", "attention", "write", "bottom", "by_document", "sample", "band0")]
)


@dataclass(frozen=True, eq=False)
class Found:
    """The pairs of a batch that may enter the lists of a head.

    ``pattern`` (batch, head, dst, src), finite; ``visible`` (batch or 1, dst); ``norms`` (batch,
    head, src) or None; of each pair, (pair,): ``row`` batch * heads * dst, ``column``,
    ``attention`` and ``multiple`` float32.
    """

    batch: Batch
    pattern: Tensor
    visible: Tensor
    norms: Tensor | None
    row: Tensor
    column: Tensor
    attention: Tensor
    multiple: Tensor

    @classmethod
    def of(
        cls,
        reduced: Reduced,
        pattern: Tensor,
        visible: Tensor,
        batch: Batch,
        norms: Tensor | None,
    ) -> Found:
        """The pairs that a reduction of ``pattern`` found."""
        some = (reduced.kind & 1).nonzero()[:, 0]
        row, column = reduced.row[some], reduced.column[some]
        attention, (n, heads) = reduced.attention[some], pattern.shape[:2]
        seen = visible.expand(n, -1).float()[:, None].expand(-1, heads, -1).reshape(-1)
        return cls(batch, pattern, visible, norms, row, column, attention, attention * seen[row])

    def only(self, windows: slice) -> Found:
        """The pairs of some windows."""
        some = (self.sequence >= windows.start) & (self.sequence < windows.stop)
        names = ("row", "column", "attention", "multiple")
        return replace(self, **{name: getattr(self, name)[some] for name in names})

    @property
    def owner(self) -> Tensor:
        """(pair,) batch * heads."""
        return divided(self.row, self.pattern.shape[2])

    @property
    def sequence(self) -> Tensor:
        """(pair,) the window in the batch."""
        return divided(self.row, self.pattern.shape[2] * self.pattern.shape[1])

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
        skipped = self.owner - self.sequence  # the hashes do not depend on the head
        cell = (self.row - skipped * n_dst) * n_src + self.column
        return self.batch.pair_order.reshape(-1)[cell]

    def place(self, some: Tensor) -> Tensor:
        """The packed (window, dst, src) of the pairs ``some``."""
        window = self.batch.windows[self.sequence[some]]
        return pack(window, self.row[some] % self.pattern.shape[2], self.column[some])


class Lists:
    """All of :data:`attn.measure.scores.LISTS` for the heads of a layer."""

    def __init__(self, n_heads: int, width: int, limits: Limits, device: str) -> None:
        self.n_heads, self.width, self.device = n_heads, width, device
        self._limits = limits.groups(n_heads, device)
        self._room = 2 * int(self._limits.sum()) + 4096
        self._scores_write = limits.write
        none = self._limits.view(len(LISTS), n_heads) == 0
        self._bounds = torch.where(none, -1, MOST)  # (list, head)
        self._known = False
        self._asked: dict[str, Tensor] | None = None  # the bounds as a gate, until they change
        self._before = Pairs.empty(0, device)  # the best of earlier shards, without their rows
        self.start()

    def gate(self, batch: Batch, tokens: Tensor, of_token: Tensor) -> Gate:
        """The bounds of all lists now; none where write scores are kept.

        ``of_token`` (head, token) the multiple that the list of a token asks for, which
        ``tokens`` (batch, src) numbers.
        """
        if self._asked is None:
            self._asked = self._ask()
        return Gate(tokens, of_token, batch.pair_order, **self._asked)

    def _ask(self) -> dict[str, Tensor]:
        """The bounds of the lists by the gate's field names."""
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
        return {
            "multiple": least,
            "window": ascending(bounds[_KIND["by_document"]]),
            "attention": ascending(bounds[_KIND["attention"]]),
            "nearest": nearest,
            "chance": chance.T.contiguous(),
        }

    def start(self) -> None:
        """Start a shard with empty lists."""
        self._waiting = [Pairs.empty(self.width, self.device)]

    def finish(self) -> Pairs:
        """The shard's lists."""
        kept = self._rank()
        bare = replace(kept, rows=kept.rows[:, :0])
        self._before = Pairs.join([self._before, bare]).best(self._limits)
        return kept

    def offer(self, found: Found) -> None:
        """Offer the pairs above average, and the sampled rows, to every list."""
        if not self._known:  # one window, then a few: each raises the bounds for the next
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
        from attn.scan.reduce_cpu import offers

        moved = found.write if found.norms is not None else found.multiple[:0]
        given = (found.row, found.attention, found.multiple, moved, found.chance)
        of_pairs = [tensor.cpu().numpy() for tensor in given]
        n_dst, most = found.pattern.shape[2], self._bounds.cpu().numpy()
        made = offers(self.n_heads, *of_pairs, n_dst, most, _OFFERED, _BANDS)
        group, order, pick = (torch.from_numpy(some).to(self.device) for some in made)
        if len(pick) > self._room:  # while there are no bounds yet: choose first, then copy rows
            some = best(group, order, found.place(pick), self._limits)
            group, order, pick = group[some], order[some], pick[some]
        if len(pick):
            self._keep(found, group, order, pick)

    def _keep(self, found: Found, group: Tensor, order: Tensor, pick: Tensor) -> None:
        """Copy pairs and their rows out of the pattern before it is dropped."""
        n_src = found.pattern.shape[3]
        moved = found.write[pick] if found.norms is not None else _nan(found.attention[pick])
        sequence = found.sequence[pick]
        self._waiting.append(
            Pairs(
                group,
                order,
                found.place(pick),
                found.batch.texts[sequence],
                found.batch.tokens[sequence, found.column[pick]],
                found.multiple[pick],
                found.attention[pick],
                moved,
                self._wide(found.pattern.reshape(-1, n_src)[found.row[pick]]),
            )
        )

    def _offer_rows(self, found: Found, windows: slice) -> None:
        """Offer sampled rows, each with its best source that is not left out."""
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
        if batch.context.special is not None:
            others.masked_fill_(batch.context.special[sequence], 0)
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
                batch.texts[sequence],
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
        """Keep only the best pairs, and raise the bounds."""
        kept = Pairs.join(self._waiting).best(self._limits)
        self._waiting = [kept]
        known = kept
        if len(self._before):
            known = Pairs.join([self._before, replace(kept, rows=kept.rows[:, :0])])
            known = known.best(self._limits)
        count = torch.bincount(known.group, minlength=len(self._limits))
        last = count.cumsum(0) - 1
        full = (count >= self._limits) & (self._limits > 0)
        bounds, self._asked = self._bounds.view(-1), None
        if len(known):
            bounds[full] = known.order[last[full]]
        return kept


class TokenLists:
    """The best pairs by multiple of every head and source token of a layer, kept on the CPU."""

    def __init__(self, n_heads: int, vocabulary: int, limit: int) -> None:
        self.n_heads, self.vocabulary, self.limit = n_heads, vocabulary, limit
        self._bounds = np.zeros((n_heads, vocabulary), np.float32)
        if not limit:
            self._bounds += np.inf
        self.start(torch.arange(vocabulary))

    def start(self, tokens: Tensor) -> None:
        """Begin a shard with empty lists; ``tokens`` (token,) the numbers it has, rising."""
        self._tokens = tokens.numpy()
        self._least = self._bounds[:, self._tokens]
        self._lists = np.zeros((self.n_heads, len(tokens), self.limit, 2), np.int64)

    def finish(self) -> Best:
        """The shard's lists."""
        self._bounds[:, self._tokens] = self._least
        held = self._lists[..., 0] > 0
        key = np.arange(self.n_heads)[:, None] * self.vocabulary + self._tokens
        keys = torch.from_numpy(np.broadcast_to(key[:, :, None], held.shape)[held])
        scores, places = torch.from_numpy(self._lists[held]).unbind(1)
        attentions = (scores & 0xFFFFFFFF).to(torch.int32).view(torch.float32)
        return Best(keys, MOST - (scores >> 32), places.contiguous(), attentions)

    @property
    def least(self) -> Tensor:
        """(head, token) float32: the multiple that a pair must have to enter a list."""
        return torch.from_numpy(self._least)

    def offer(
        self, reduced: Reduced, pattern: Tensor, visible: Tensor, windows: Tensor, where: Tensor
    ) -> None:
        """Offer the pairs that a reduction found to every token's list.

        ``windows`` (batch,) their numbers; ``where`` (batch, src) each source in ``tokens``.
        """
        from attn.scan.reduce_cpu import keep_best

        if not self.limit:
            return
        n, heads, n_dst, _ = pattern.shape
        named: tuple[Tensor, ...] = (reduced.row, reduced.column, reduced.attention, reduced.kind)
        if pattern.device.type != "cpu":
            some = (reduced.kind & 2).nonzero()[:, 0]
            named = tuple(tensor[some] for tensor in named)
        given = (*named, visible.expand(n, -1).float(), windows, where)
        rows, *others = (tensor.cpu().contiguous().numpy() for tensor in given)
        starts = np.searchsorted(rows, np.arange(n * heads + 1) * n_dst)

        in_parts(partial(keep_best, starts, rows, *others, self._least, self._lists), heads)


def _nan(like: Tensor) -> Tensor:
    return torch.full_like(like, torch.nan)
