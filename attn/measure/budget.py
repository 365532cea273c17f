"""The budget: a head's attention split into parts that do not overlap.

A pair belongs to the first part that claims it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attn.measure.masks import Context

if TYPE_CHECKING:
    from torch import Tensor

PARTS = ("sink", "self", "previous", "special", "duplicate", "induction", "punctuation", "rest")
"""The parts in the order of their claims; what no other part claims is the rest."""

PART_TITLES = {
    "sink": "First position", "self": "Self", "previous": "Previous token",
    "special": "Special tokens", "duplicate": "Earlier same token", "induction": "Induction",
    "punctuation": "Punctuation, line ends", "rest": "The rest",
}  # fmt: skip


def part_masks(context: Context) -> list[Tensor]:
    """The masks (batch, dst, src) of the parts that take a mask: special to punctuation.

    Sink, self and previous claim before them; they are a column and two diagonals.
    """
    free = (1 - context.first) * (1 - context.itself) * (1 - context.previous)
    masks = []
    claims = context.earlier_same, context.after_same, context.on_punctuation
    for claim in (context.on_special, *claims):
        masks.append(claim * free)
        free = free * (1 - claim)
    return masks
