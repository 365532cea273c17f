"""Pattern → one number a head: what it does, averaged over the rows counted.

A metric is one function here and one line in :data:`METRICS`. There are four kinds:

- ``pairs``: context → mask (batch, dst, src); the metric is the attention mass on the mask
- ``offsets``: ``dst - src`` → weight; the metric is the attention mass so weighted
- ``rows``: pattern → one value a row, (batch, head, dst)
- ``derive``: the means of other sums of the head → the metric

The first three are means over the rows counted: rows before ``min_row`` and padding are left out
by the tally, not here. :func:`of_rows` states what each gives for every row; the tally reaches the
same sums in fewer passes. Two kinds more come from the model alone: ``*_random``, measured on
random tokens said twice (:mod:`attn.measure.random_tokens`), and :data:`WEIGHT_METRICS`, computed
from the weights (:mod:`attn.measure.weights`). Each function's docstring says what the metric
means, its range and when to distrust it.

The budget splits a head's attention into :data:`PARTS` that do not overlap: a pair belongs to the
first part that claims it.

Sources: previous-token, duplicate-token and induction heads as in Elhage et al. 2021, "A
Mathematical Framework for Transformer Circuits"; induction and prefix matching as in Olsson et al.
2022, "In-context Learning and Induction Heads"; sinks as in Xiao et al. 2023, "Efficient Streaming
Language Models with Attention Sinks"; entropy and distance as in Clark et al. 2019, "What Does BERT
Look At?", and Vig and Belinkov 2019, "Analyzing the Structure of Attention in a Transformer
Language Model".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attn.measure.masks import Context

if TYPE_CHECKING:
    from torch import Tensor

Means = Mapping[str, np.ndarray]  # sum → (layer, head) float64, its mean over the rows counted


# Kind: pairs


def duplicate(context: Context) -> Tensor:
    """Attention on earlier copies of the destination's token. Range 0 to 1.

    Rows without an earlier copy count as 0, so text with few repeats lowers it for every head:
    compare heads on one corpus, not one head on two corpora.
    """
    return context.earlier_same


def induction(context: Context) -> Tensor:
    """Attention on the tokens that followed earlier copies of the destination's token. 0 to 1.

    Rows without an earlier copy count as 0, so it stays far below 1 in natural text. Where a token
    comes twice in a row, the second follows the first: attention to itself then counts as well.
    """
    return context.after_same


def punctuation(context: Context) -> Tensor:
    """Attention on punctuation and line ends, other than the first position. Range 0 to 1.

    Marks are frequent: a head that looks everywhere has a high value too. Compare it with the
    marks' share of the text.
    """
    return context.on_punctuation


def same_word(context: Context) -> Tensor:
    """Attention on earlier pieces of the word that the destination belongs to. Range 0 to 1.

    Rows at a word's first piece count as 0, and most words have one piece: it stays small.
    """
    return context.same_word


# Kind: offsets


def self_(offset: Tensor) -> Tensor:
    """Attention to the destination itself, ``a[dst, dst]``. Range 0 to 1.

    Distrust it on short rows: the fewer sources a row sees, the more chance gives to itself.
    """
    return (offset == 0).float()


def previous(offset: Tensor) -> Tensor:
    """Attention to the token before, ``a[dst, dst-1]``. Range 0 to 1.

    Distrust it in text with many doubled tokens, where other habits look the same. The first row
    has no token before it and gets 0.
    """
    return (offset == 1).float()


def back(k: int) -> Callable[[Tensor], Tensor]:
    """Attention to the token ``k`` positions back, ``a[dst, dst-k]``. Range 0 to 1.

    Distrust it where texts are set in lines or verses of one length: what stands k back is then
    often alike.
    """
    return lambda offset: (offset == k).float()


def distance(offset: Tensor) -> Tensor:
    """Mean distance looked at, ``sum a |dst - src|``, in tokens. Range 0 to the row's length.

    A head that rests on the first position has a large one, whatever else it does.
    """
    return offset.abs().float()


def distance_squared(offset: Tensor) -> Tensor:
    """Mean squared distance, ``sum a (dst - src)^2``: what :func:`spread` needs."""
    return offset.float() ** 2


# Kind: rows


def sink(pattern: Tensor) -> Tensor:
    """Attention to the first position, where heads rest, ``a[dst, 0]``. Range 0 to 1.

    A high value says that the head mostly does nothing here, not that the first token matters.
    """
    return pattern[..., 0]


def entropy(pattern: Tensor) -> Tensor:
    """Entropy of the row, ``-sum a log2 a``, in bits. Range 0 to log2(visible).

    It grows with the row's length: 0 is one source alone, log2(visible) is a uniform row.
    """
    import torch

    bits: Tensor = -torch.linalg.vecdot(pattern, pattern.clamp(min=1e-38).log2_())
    return bits


def concentration(pattern: Tensor) -> Tensor:
    """Attention of the row's best source, ``max a``. Range 1/visible to 1.

    The best source may be the first position, where the head rests.
    """
    return pattern.amax(-1)


# Kind: derive


def spread(means: Means) -> np.ndarray:
    """Standard deviation of the distance over all attention of the head, in tokens. From 0 up.

    The rows are pooled: resting on the first position makes it large, since rows differ in length.
    """
    variance = means["distance_squared"] - means["distance"] ** 2
    found: np.ndarray = np.sqrt(np.maximum(variance, 0))
    return found


def entropy_share(means: Means) -> np.ndarray:
    """Entropy as a share of the most possible, ``sum H / sum log2(visible)``. Range 0 to 1.

    1 is a uniform head. A head that rests has a low one, like any other that looks at one place.
    """
    return _ratio(means["entropy"], means["entropy_most"])


def prefix_matching(means: Means) -> np.ndarray:
    """:func:`induction` over the rows alone whose token has an earlier copy. Range 0 to 1.

    It comes from fewer rows than the others, and from none in a text without repeats.
    """
    return _ratio(means["induction"], means["repeats"])


def sink_write(means: Means) -> np.ndarray:
    """The first position's share of what the row writes, ``w[dst, 0] / sum w``. Range 0 to 1.

    A value's norm says how much moves, not whether the next layers use it.
    """
    return means["sink_write"]


def previous_write(means: Means) -> np.ndarray:
    """The previous token's share of what the row writes, ``w[dst, dst-1] / sum w``. 0 to 1.

    A value's norm says how much moves, not whether the next layers use it.
    """
    return means["previous_write"]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    share: np.ndarray = np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
    return share


FIXED = 2.0**32
"""A sum of 1.0 in fixed point."""

SCALES = {
    "entropy": 2.0**28,
    "entropy_most": 2.0**28,
    "distance": 2.0**16,
    "distance_squared": 2.0**8,
}
"""The same for the sums that are no shares of attention and grow faster."""


@dataclass(frozen=True)
class Metric:
    """A per-head number, as pages and the CLI name it.

    ``name`` what ``--by`` takes; ``title`` and ``text`` for people; ``formula`` per row;
    ``low_high`` its range; ``warning`` when to distrust it; then the function of its kind, none
    where it comes from the model alone.
    """

    name: str
    title: str
    unit: str
    text: str
    formula: str
    low_high: tuple[float, float | None]
    warning: str
    pairs: Callable[[Context], Tensor] | None = None
    offsets: Callable[[Tensor], Tensor] | None = None
    rows: Callable[[Tensor], Tensor] | None = None
    derive: Callable[[Means], np.ndarray] | None = None


def of_rows(metric: Metric, pattern: Tensor, context: Context) -> Tensor:
    """A metric's value in every row, (batch, head, dst), of a pattern (batch, head, dst, src)."""
    import torch

    if metric.rows is not None:
        return metric.rows(pattern)
    if metric.pairs is not None:
        mask = metric.pairs(context)
    elif metric.offsets is not None:
        position = torch.arange(pattern.shape[-1], device=pattern.device)
        mask = metric.offsets(position[:, None] - position[None, :])[None]
    else:
        raise ValueError(f"{metric.name} is no mean over rows")
    total: Tensor = torch.linalg.vecdot(pattern, mask[:, None])
    return total


_SHARE = (0.0, 1.0)
_REPEATS = "Rows without an earlier copy count as 0: compare heads on one corpus only."
_RANDOM = "Random tokens are far from text: a head may act otherwise on words."
_WRITE = "A value's norm says how much moves, not whether later layers use it."
_STORED = "Weights as stored: gains of norms, biases and rotations by position are not in it."
_COMPOSE = "Sizes only: no text need make use of it, and matrices drawn at random have some too."

_ALL = (
    Metric("induction", "Induction", "share of attention",
           "Attention on tokens that followed earlier copies of the current one.",
           "Σ a[dst, src] over src ≤ dst with token[src−1] = token[dst]",
           _SHARE, _REPEATS, pairs=induction),
    Metric("prefix_matching", "Prefix matching", "share of attention",
           "Induction over the rows alone whose token has an earlier copy.",
           "Σ induction / rows with an earlier copy",
           _SHARE, "It comes from fewer rows than the others.", derive=prefix_matching),
    Metric("duplicate", "Duplicate token", "share of attention",
           "Attention on earlier copies of the current token.",
           "Σ a[dst, src] over src < dst with token[src] = token[dst]",
           _SHARE, _REPEATS, pairs=duplicate),
    Metric("previous", "Previous token", "share of attention",
           "Attention on the token just before.", "a[dst, dst−1]",
           _SHARE, "Doubled tokens make other habits look the same.", offsets=previous),
    *(Metric(f"offset_{k}", f"{k} tokens back", "share of attention",
             f"Attention on the token {k} positions before.", f"a[dst, dst−{k}]",
             _SHARE, "Lines or verses of one length make other habits look the same.",
             offsets=back(k))
      for k in range(2, 9)),
    Metric("self", "Self", "share of attention",
           "Attention on the current token itself.", "a[dst, dst]",
           _SHARE, "The shorter the row, the more chance gives to it.", offsets=self_),
    Metric("sink", "Sink (first position)", "share of attention",
           "Attention on the first position, where heads rest.", "a[dst, 0]",
           _SHARE, "A high value means rest: it does not say that the first token matters.",
           rows=sink),
    Metric("punctuation", "Punctuation and line ends", "share of attention",
           "Attention on punctuation marks and line ends, the first position left out.",
           "Σ a[dst, src] over src > 0 that is punctuation or a line end",
           _SHARE, "Marks are frequent: a head that looks everywhere has a high value too.",
           pairs=punctuation),
    Metric("same_word", "Same word", "share of attention",
           "Attention on earlier pieces of the word that the current token belongs to.",
           "Σ a[dst, src] over src < dst in the same word",
           _SHARE, "Rows at a word's first piece count as 0, and most words have one piece.",
           pairs=same_word),
    Metric("entropy", "Entropy", "bits",
           "How spread out a row is: 0 for one source alone.", "−Σ a log₂ a",
           (0.0, None), "It grows with the length of the row.", rows=entropy),
    Metric("entropy_share", "Entropy, of the most possible", "share of the most",
           "How spread out the rows are, as a share of what uniform rows would have.",
           "Σ entropy / Σ log₂ visible(dst)",
           _SHARE, "A head that rests has a low one, like any that looks at one place.",
           derive=entropy_share),
    Metric("concentration", "Concentration", "share of attention",
           "Attention of the row's best source.", "max a[dst, src]",
           _SHARE, "The best source may be the first position, where the head rests.",
           rows=concentration),
    Metric("distance", "Distance", "tokens",
           "How far back the head looks, on average.", "Σ a |dst − src|",
           (0.0, None), "Resting on the first position makes it large.", offsets=distance),
    Metric("spread", "Spread of distance", "tokens",
           "Standard deviation of the distance over all attention of the head.",
           "√(mean of Σ a (dst − src)² − distance²)",
           (0.0, None), "Resting on the first position makes it large.", derive=spread),
    Metric("sink_write", "Sink, by write", "share of the write",
           "The first position's share of what the row writes.", "w[dst, 0] / Σ w[dst, src]",
           _SHARE, _WRITE, derive=sink_write),
    Metric("previous_write", "Previous token, by write", "share of the write",
           "The previous token's share of what the row writes.", "w[dst, dst−1] / Σ w[dst, src]",
           _SHARE, _WRITE, derive=previous_write),
    Metric("induction_random", "Induction on random tokens", "share of attention",
           "The same on 50 random tokens said twice: attention on what followed the first copy.",
           "a[dst, dst−49], rows of the second copy", _SHARE, _RANDOM),
    Metric("duplicate_random", "Duplicate on random tokens", "share of attention",
           "On 50 random tokens said twice: attention on the first copy of the current token.",
           "a[dst, dst−50], rows of the second copy", _SHARE, _RANDOM),
    Metric("previous_random", "Previous on random tokens", "share of attention",
           "On 50 random tokens said twice: attention on the token just before.",
           "a[dst, dst−1], rows of the second copy", _SHARE, _RANDOM),
    Metric("copying", "Copying", "share of eigenvalues",
           "Whether a token looked at becomes likelier to come next: 1 for all, −1 less likely.",
           "Σ Re λ / Σ |λ|, λ the eigenvalues of W_E W_V W_O W_U", (-1.0, 1.0), _STORED),
    Metric("q_composition", "Q-composition", "share of the norm",
           "How much of what an earlier head writes this head's queries read, at most.",
           "max over earlier heads of ‖W_OV W_QK‖ / (‖W_OV‖ ‖W_QK‖)", _SHARE, _COMPOSE),
    Metric("k_composition", "K-composition", "share of the norm",
           "How much of what an earlier head writes this head's keys read, at most.",
           "max over earlier heads of ‖W_OV W_QKᵀ‖ / (‖W_OV‖ ‖W_QK‖)", _SHARE, _COMPOSE),
    Metric("v_composition", "V-composition", "share of the norm",
           "How much of what an earlier head writes this head's values read, at most.",
           "max over earlier heads of ‖W_OV W_OV′‖ / (‖W_OV‖ ‖W_OV′‖)", _SHARE, _COMPOSE),
    Metric("ov_norm", "Size of OV", "Frobenius norm",
           "How strongly the head can write what it reads.", "‖W_V W_O‖ = √(Σ σ²)",
           (0.0, None), _STORED),
    Metric("ov_rank", "Directions of OV", "directions",
           "How many directions the head writes in, by the weight of its singular values.",
           "(Σ σ²)² / Σ σ⁴, σ the singular values of W_V W_O", (1.0, None), _STORED),
    Metric("qk_norm", "Size of QK", "Frobenius norm",
           "How strongly the head can tell one token from another.", "‖W_Q W_Kᵀ‖ = √(Σ σ²)",
           (0.0, None), _STORED),
    Metric("qk_rank", "Directions of QK", "directions",
           "How many directions the head compares tokens by.",
           "(Σ σ²)² / Σ σ⁴, σ the singular values of W_Q W_Kᵀ", (1.0, None), _STORED),
)  # fmt: skip
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}

WEIGHT_METRICS = (
    "copying", "q_composition", "k_composition", "v_composition",
    "ov_norm", "ov_rank", "qk_norm", "qk_rank",
)  # fmt: skip
"""What :mod:`attn.measure.weights` computes; absent where weights cannot be told by head."""

MAIN = (
    "induction", "duplicate", "previous", "self", "sink", "entropy", "distance",
    "induction_random", "duplicate_random", "previous_random",
)  # fmt: skip
"""The metrics that show first; the others unfold."""

WAYS = {
    "q": ("Queries", "What it looks for depends on what these earlier heads wrote."),
    "k": ("Keys", "What it finds depends on what these earlier heads wrote."),
    "v": ("Values", "What it moves on was written by these earlier heads."),
}
"""The ways in which a head composes with earlier ones: title, meaning."""

PAIR_SUMS = {m.name: m.pairs for m in _ALL if m.pairs}
OFFSET_SUMS = {m.name: m.offsets for m in _ALL if m.offsets} | {
    "distance_squared": distance_squared
}
ROW_SUMS = {m.name: m.rows for m in _ALL if m.rows}
WRITE_SUMS = ("sink_write", "previous_write")
SUMS = (*PAIR_SUMS, *OFFSET_SUMS, *ROW_SUMS, "entropy_most", "repeats", *WRITE_SUMS)
"""What the tally adds up over the rows counted, in this order."""

PARTS = ("sink", "self", "previous", "duplicate", "induction", "punctuation", "rest")
"""The budget, in the order of claims; what no other part claims is the rest."""

PART_TITLES = {
    "sink": "First position", "self": "Self", "previous": "Previous token",
    "duplicate": "Earlier same token", "induction": "Induction",
    "punctuation": "Punctuation, line ends", "rest": "The rest",
}  # fmt: skip

DISTANCES = (0, 1, 2, 3, 5, 9, 17, 33, 65, 129, 257, 513, 1025, 2049, 4097)
"""Where the bins of the distance histogram begin; each holds attention mass."""

ATTENTION_BINS = 12
"""Bins of the attention histogram: bin i counts pairs above average with 2^-i-1 <= a < 2^-i, the
last all below; a = 1 is in bin 0."""


def part_masks(context: Context) -> list[Tensor]:
    """The masks (batch, dst, src) of the parts that take a mask: duplicate to punctuation.

    Sink, self and previous claim before them; they are a column and two diagonals.
    """
    free = (1 - context.first) * (1 - context.itself) * (1 - context.previous)
    masks = []
    for claim in (context.earlier_same, context.after_same, context.on_punctuation):
        masks.append(claim * free)
        free = free * (1 - claim)
    return masks


def values_of(name: str, means: Means) -> np.ndarray:
    """(layer, head) float64: a metric from the means of the sums."""
    derive = METRICS[name].derive
    return derive(means) if derive is not None else means[name]
