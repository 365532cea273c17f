"""What the rows of a batch have in common: masks over (dst, src), built once for all layers.

A mask is a float tensor (batch, dst, src), 1 where a pair belongs to it. The formulas of the
metrics and of the budget are stated here, as sets of pairs; :mod:`attn.measure.metrics` gives them
names.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Context:
    """The tokens of a batch, as the metrics see them.

    ``ids`` (batch, position) int64 token ids; ``punctuation`` (batch, position) bool: the token is
    punctuation or a line end; ``words`` (batch, position) int64: pieces of one word have the same
    number; ``special`` (batch, position) bool: a special token that is not the first position.
    Where only ids are known, nothing is punctuation or special and every token is a word.
    """

    ids: Tensor
    punctuation: Tensor | None = None
    words: Tensor | None = None
    special: Tensor | None = None

    @property
    def width(self) -> int:
        """Positions in the longest sequence."""
        return int(self.ids.shape[1])

    @cached_property
    def first(self) -> Tensor:
        """(1, dst, src): the source is the first position."""
        mask = self._zeros()
        mask[..., 0] = 1
        return mask

    @cached_property
    def itself(self) -> Tensor:
        """(1, dst, src): the source is the destination."""
        return self._diagonal(0)

    @cached_property
    def previous(self) -> Tensor:
        """(1, dst, src): the source is the position before the destination."""
        return self._diagonal(1)

    @cached_property
    def earlier_same(self) -> Tensor:
        """(batch, dst, src): the source is an earlier copy of the destination's token."""
        same = self.ids[:, :, None] == self.ids[:, None, :]
        return same.tril(-1).float()

    @cached_property
    def after_same(self) -> Tensor:
        """(batch, dst, src): src <= dst follows an earlier copy of the destination's token."""
        mask = self.earlier_same.roll(1, dims=-1).clone()
        mask[..., 0] = 0
        return mask

    @cached_property
    def repeats(self) -> Tensor:
        """(batch, dst) bool: the row's token has an earlier copy."""
        return self.earlier_same.any(-1)

    @cached_property
    def on_punctuation(self) -> Tensor:
        """(batch, dst, src): the source, not the first position, is punctuation or a line end."""
        return self._on(self.punctuation)

    @cached_property
    def on_special(self) -> Tensor:
        """(batch, dst, src): the source is a special token and not the first position."""
        return self._on(self.special)

    @cached_property
    def same_word(self) -> Tensor:
        """(batch, dst, src): the source is an earlier piece of the destination's word."""
        import torch

        if self.words is None:
            return torch.zeros_like(self.earlier_same)
        return (self.words[:, :, None] == self.words[:, None, :]).tril(-1).float()

    def _on(self, marks: Tensor | None) -> Tensor:
        """(batch, dst, src): the source, not the first position, is marked."""
        import torch

        if marks is None:
            marks = torch.zeros_like(self.ids, dtype=torch.bool)
        mask = marks[:, None, :].expand(-1, self.width, -1).float().clone()
        mask[..., 0] = 0
        return mask

    def _zeros(self) -> Tensor:
        import torch

        return torch.zeros((1, self.width, self.width), device=self.ids.device)

    def _diagonal(self, k: int) -> Tensor:
        mask = self._zeros()
        mask.diagonal(offset=-k, dim1=-2, dim2=-1).fill_(1)
        return mask
