"""The metrics of patterns: what a head does, averaged over the rows that count.

Each is one decorated function; :mod:`attn.measure.metric` says which kinds there are. What the
function's docstring says is what the app, the report and the Methods page show.

Sources: previous-token, duplicate-token and induction heads as in Elhage et al. 2021, "A
Mathematical Framework for Transformer Circuits"; induction and prefix matching as in Olsson et al.
2022, "In-context Learning and Induction Heads"; sinks as in Xiao et al. 2023, "Efficient Streaming
Language Models with Attention Sinks"; entropy and distance as in Clark et al. 2019, "What Does BERT
Look At?", and Vig and Belinkov 2019, "Analyzing the Structure of Attention in a Transformer
Language Model".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from attn.measure.masks import Context
from attn.measure.metric import Means, metric

if TYPE_CHECKING:
    from torch import Tensor

_ATTENTION = "share of attention"


@metric(
    "pairs", "Induction", unit=_ATTENTION, main=True,
    formula="Σ a[dst, src] over src ≤ dst with token[src−1] = token[dst]",
)  # fmt: skip
def induction(context: Context) -> Tensor:
    """Attention on tokens that followed earlier copies of the current one.

    Rows without an earlier copy count as 0, so it stays far below 1 in natural text: compare heads
    on one corpus only. Where a token comes twice in a row, attention to itself counts as well.
    """
    return context.after_same


@metric(
    "derived", "Prefix matching", unit=_ATTENTION,
    formula="Σ induction / rows with an earlier copy",
)  # fmt: skip
def prefix_matching(means: Means) -> np.ndarray:
    """Induction over only those rows whose token has an earlier copy.

    It comes from fewer rows than the others, and from none in a text without repeats.
    """
    return _ratio(means["induction"], means["repeats"])


@metric(
    "pairs", "Duplicate token", unit=_ATTENTION, main=True,
    formula="Σ a[dst, src] over src < dst with token[src] = token[dst]",
)  # fmt: skip
def duplicate(context: Context) -> Tensor:
    """Attention on earlier copies of the current token.

    Rows without an earlier copy count as 0, so text with few repeats lowers it for every head:
    compare heads on one corpus only.
    """
    return context.earlier_same


@metric("offsets", "Previous token", unit=_ATTENTION, formula="a[dst, dst−1]", main=True)
def previous(offset: Tensor) -> Tensor:
    """Attention on the token just before.

    Doubled tokens make other habits look the same. The first row has no token before it.
    """
    return (offset == 1).float()


def back(k: int) -> Callable[[Tensor], Tensor]:
    """The function of the metric that looks at the token ``k`` positions before."""

    def looked_at(offset: Tensor) -> Tensor:
        return (offset == k).float()

    looked_at.__doc__ = f"""Attention on the token {k} positions before.

    Lines or verses of one length make other habits look the same.
    """
    return looked_at


for _k in range(2, 9):
    metric(
        "offsets", f"{_k} tokens back", name=f"offset_{_k}", unit=_ATTENTION,
        formula=f"a[dst, dst−{_k}]",
    )(back(_k))  # fmt: skip


@metric("offsets", "Self", name="self", unit=_ATTENTION, formula="a[dst, dst]", main=True)
def itself(offset: Tensor) -> Tensor:
    """Attention on the current token itself.

    The shorter the row, the more of it falls on the token itself by chance.
    """
    return (offset == 0).float()


@metric("rows", "Sink (first position)", unit=_ATTENTION, formula="a[dst, 0]", main=True)
def sink(pattern: Tensor) -> Tensor:
    """Attention on the first position, where heads rest.

    A high value means that the head mostly does nothing here: it does not say that the first token
    matters.
    """
    return pattern[..., 0]


@metric(
    "pairs", "Punctuation and line ends", unit=_ATTENTION,
    formula="Σ a[dst, src] over src > 0 that is punctuation or a line end",
)  # fmt: skip
def punctuation(context: Context) -> Tensor:
    """Attention on punctuation marks and line ends, the first position left out.

    Marks are frequent: a head that looks everywhere has a high value too. Compare it with the
    marks' share of the text.
    """
    return context.on_punctuation


@metric(
    "pairs", "Separator", unit=_ATTENTION,
    formula="Σ a[dst, src] over src > 0 that is a special token",
)  # fmt: skip
def separator(context: Context) -> Tensor:
    """Attention on the special tokens that end a window, such as [SEP].

    Heads of encoders rest there, as those of causal models do on the first position (Clark et al.
    2019): a high value says that a head has nothing to do in most rows.
    """
    return context.on_special


@metric(
    "pairs", "Same word", unit=_ATTENTION,
    formula="Σ a[dst, src] over src < dst in the same word",
)  # fmt: skip
def same_word(context: Context) -> Tensor:
    """Attention on earlier pieces of the word that the current token belongs to.

    Rows at a word's first piece count as 0, and most words have one piece: it stays small.
    """
    return context.same_word


@metric(
    "rows", "Entropy", unit="bits", formula="−Σ a log₂ a", low_high=(0.0, None), main=True,
    scale=2.0**28,
)  # fmt: skip
def entropy(pattern: Tensor) -> Tensor:
    """How spread out a row is: 0 for one source alone, log₂ visible(dst) for a uniform row.

    It grows with the length of the row.
    """
    import torch

    bits: Tensor = -torch.linalg.vecdot(pattern, pattern.clamp(min=1e-38).log2_())
    return bits


@metric(
    "derived", "Entropy, of the most possible", unit="share of the most",
    formula="Σ entropy / Σ log₂ visible(dst)",
)  # fmt: skip
def entropy_share(means: Means) -> np.ndarray:
    """How spread out the rows are, as a share of what uniform rows would have.

    A head that rests has a low one, like any that looks at one place.
    """
    return _ratio(means["entropy"], means["entropy_most"])


@metric("rows", "Concentration", unit=_ATTENTION, formula="max a[dst, src]")
def concentration(pattern: Tensor) -> Tensor:
    """Attention of the row's best source.

    The best source may be the first position, where the head rests.
    """
    return pattern.amax(-1)


@metric(
    "offsets", "Distance", unit="tokens", formula="Σ a |dst − src|", low_high=(0.0, None),
    main=True, scale=2.0**16,
)  # fmt: skip
def distance(offset: Tensor) -> Tensor:
    """How far back the head looks, on average.

    Resting on the first position makes it large.
    """
    return offset.abs().float()


@metric(
    "offsets", "Distance squared", unit="tokens²", formula="Σ a (dst − src)²",
    low_high=(0.0, None), scale=2.0**8, shown=False,
)  # fmt: skip
def distance_squared(offset: Tensor) -> Tensor:
    """The mean squared distance, which :func:`spread` needs."""
    return offset.float() ** 2


@metric(
    "derived", "Spread of distance", unit="tokens",
    formula="√(mean of Σ a (dst − src)² − distance²)", low_high=(0.0, None),
)  # fmt: skip
def spread(means: Means) -> np.ndarray:
    """Standard deviation of the distance over all attention of the head.

    The rows are pooled: resting on the first position makes it large, since rows differ in length.
    """
    variance = means["distance_squared"] - means["distance"] ** 2
    found: np.ndarray = np.sqrt(np.maximum(variance, 0))
    return found


@metric(
    "positions", "Most entropy", unit="bits", formula="log₂ visible(dst)", low_high=(0.0, None),
    scale=2.0**28, shown=False,
)  # fmt: skip
def entropy_most(visible: Tensor, context: Context) -> Tensor:
    """The entropy of a uniform row, which :func:`entropy_share` needs."""
    return visible.float().log2()


@metric(
    "positions", "Rows with a repeat", unit="share of rows",
    formula="1 where the row's token has an earlier copy", shown=False,
)  # fmt: skip
def repeats(visible: Tensor, context: Context) -> Tensor:
    """The share of rows whose token has an earlier copy, which :func:`prefix_matching` needs."""
    return context.repeats.float()


@metric(
    "writes", "Sink, by write", unit="share of the write", formula="w[dst, 0] / Σ w[dst, src]",
)  # fmt: skip
def sink_write(written: Tensor, total: Tensor) -> Tensor:
    """The first position's share of what the row writes.

    A value's norm says how much moves, not whether later layers use it.
    """
    return written[..., 0] / total


@metric(
    "writes", "Previous token, by write", unit="share of the write",
    formula="w[dst, dst−1] / Σ w[dst, src]",
)  # fmt: skip
def previous_write(written: Tensor, total: Tensor) -> Tensor:
    """The previous token's share of what the row writes.

    A value's norm says how much moves, not whether later layers use it.
    """
    import torch

    before = torch.nn.functional.pad(written.diagonal(-1, -2, -1), (1, 0))
    return before / total


@metric(
    "random", "Induction on random tokens", unit=_ATTENTION, main=True,
    formula="a[dst, dst−49], rows of the second copy",
    role="induction", threshold=0.4, on="on random tokens",
)  # fmt: skip
def induction_random(pattern: Tensor, length: int) -> Tensor:
    """On 50 random tokens said twice: attention on what followed the first copy of the current one.

    Random tokens are far from text: a head may act otherwise on words.
    """
    return _at_offset(pattern, length - 1, length)


@metric(
    "random", "Duplicate on random tokens", unit=_ATTENTION, main=True,
    formula="a[dst, dst−50], rows of the second copy",
    role="duplicate token", threshold=0.4, on="on random tokens",
)  # fmt: skip
def duplicate_random(pattern: Tensor, length: int) -> Tensor:
    """On 50 random tokens said twice: attention on the first copy of the current token.

    Random tokens are far from text: a head may act otherwise on words.
    """
    return _at_offset(pattern, length, length)


@metric(
    "random", "Previous on random tokens", unit=_ATTENTION, main=True,
    formula="a[dst, dst−1], rows of the second copy",
    role="previous token", threshold=0.4, on="on random tokens",
)  # fmt: skip
def previous_random(pattern: Tensor, length: int) -> Tensor:
    """On 50 random tokens said twice: attention on the token just before.

    Random tokens are far from text: a head may act otherwise on words.
    """
    return _at_offset(pattern, 1, length)


def _at_offset(pattern: Tensor, offset: int, length: int) -> Tensor:
    """(head,) mean attention ``offset`` tokens back over the last ``length`` rows."""
    mean: Tensor = pattern.diagonal(-offset, -2, -1)[..., -length:].double().mean((0, 2))
    return mean


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    share: np.ndarray = np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
    return share
