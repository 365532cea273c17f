"""A batch of windows on the model's device, with everything that counting them needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from attn.corpus.tokens import is_punctuation
from attn.measure.budget import part_masks
from attn.measure.masks import Context
from attn.measure.metrics import of_kind
from attn.scan.sort_keys import pair_hashes, row_hashes


@dataclass(frozen=True)
class Entry:
    """One window to count: its token ids, its tokens, and its place in the corpus.

    ``texts`` what each covers, ``words`` the number of its word, ``tokens`` its number in the
    vocabulary of the corpus; ``window`` and ``document`` its places;
    ``key`` a number of its own for every window of the corpus, which samples are drawn by;
    ``first`` the first of its rows that counts; ``text`` the first document with the same text;
    ``suffix`` how many special tokens end it, whose rows do not count.
    """

    ids: Sequence[int]
    texts: Sequence[str]
    words: Sequence[int]
    tokens: Sequence[int]
    window: int
    document: int
    key: int
    first: int
    text: int
    suffix: int = 0


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows padded on the right to one width.

    ``ids`` (batch, position); ``lengths``, ``windows``, ``texts`` (batch,), and ``ends``, where the
    special tokens that end a window begin; ``tokens`` (batch, position) the vocabulary's number of
    each token; ``counted`` (batch, dst) float: 1 in the rows that count; ``pair_order`` (batch,
    dst, src) and ``row_order`` (batch, dst) int64: uniform hashes, the order of the samples.
    """

    ids: Tensor
    lengths: Tensor
    ends: Tensor
    windows: Tensor
    texts: Tensor
    tokens: Tensor
    counted: Tensor
    pair_order: Tensor
    row_order: Tensor
    context: Context

    @classmethod
    def make(cls, windows: Sequence[Entry], *, seed: int, device: str = "cpu") -> Batch:
        """Put windows together; ``seed`` of the samples."""
        lengths = torch.tensor([len(w.ids) for w in windows])
        width = int(lengths.max())
        position = torch.arange(width)
        first = torch.tensor([w.first for w in windows])
        ends = lengths - torch.tensor([w.suffix for w in windows])
        counted = (position >= first[:, None]) & (position < ends[:, None])
        special = (position >= ends[:, None]) & (position < lengths[:, None])
        keys = torch.tensor([w.key for w in windows], device=device)
        ids = _padded([w.ids for w in windows], width)
        marks = [[is_punctuation(text) for text in w.texts] for w in windows]
        return cls(
            ids.to(device),
            lengths.to(device),
            ends.to(device),
            torch.tensor([w.window for w in windows], device=device),
            torch.tensor([w.text for w in windows], device=device),
            _padded([w.tokens for w in windows], width).to(device),
            counted.float().to(device),
            pair_hashes(keys, width, seed),
            row_hashes(keys, width, seed),
            Context(
                ids.to(device),
                _padded(marks, width).bool().to(device),
                _padded([w.words for w in windows], width, -1).to(device),
                special.to(device) if bool(special.any()) else None,
            ),
        )

    @cached_property
    def masks(self) -> Tensor:
        """(batch, dst * src, mask): the masks of the pair sums, then those of the budget's parts.

        They are 0 in rows that do not count.
        """
        some = [rule(self.context) for rule in of_kind("pairs").values()] + part_masks(self.context)
        whole = torch.stack([mask * self.counted[..., None] for mask in some], 1)
        return whole.flatten(2).mT

    def places(self, tokens: Tensor) -> Tensor:
        """(batch * position,) the index of every token in ``tokens``, rising token numbers."""
        known = self.__dict__.get("_places")
        if known is None or known[0] is not tokens:
            known = tokens, torch.searchsorted(tokens, self.tokens.reshape(-1))
            self.__dict__["_places"] = known
        found: Tensor = known[1]
        return found

    def uniform(self, visible: Tensor, causal: bool) -> Tensor:
        """(batch, src): the attention that each source would get from rows that spread it evenly.

        ``visible`` (batch or 1, dst). Layers with the same visibility share the answer.
        """
        known: list[tuple[Tensor, Tensor]] = self.__dict__.setdefault("_uniform", [])
        for other, even in known:
            if torch.equal(other, visible):
                return even
        n_src = self.ids.shape[1]
        share = self.counted / visible.clamp(min=1)  # (batch, dst)
        position = torch.arange(n_src, device=self.ids.device)
        if not causal:
            seen = (position < visible.amax(-1, keepdim=True))[:, None].expand(-1, n_src, -1)
        else:
            first = position[:, None] + 1 - visible[:, :, None]  # (batch or 1, dst, 1)
            seen = (position >= first) & (position <= position[:, None])
        even = (share[:, None] @ seen.to(share.dtype))[:, 0]
        known.append((visible, even))
        return even


def _padded(rows: Sequence[Sequence[int]], width: int, fill: int = 0) -> Tensor:
    made = torch.full((len(rows), width), fill, dtype=torch.int64)
    for row, values in zip(made, rows, strict=True):
        row[: len(values)] = torch.as_tensor(list(values), dtype=torch.int64)
    return made
