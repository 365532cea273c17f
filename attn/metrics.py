"""Pattern → one number a row: what a head does, averaged over the rows counted.

A metric is one function here: it takes a layer's pattern and the batch's :class:`Context` and
returns one value a row, (batch, head, dst). Its docstring says what it means, its range and when
to distrust it; the line in :data:`METRICS` is what pages and the CLI show. Rows before ``min_row``
and padding are left out by the tally, not here.

Sources: previous-token, duplicate-token and induction heads as in Elhage et al. 2021, "A
Mathematical Framework for Transformer Circuits", and Olsson et al. 2022, "In-context Learning and
Induction Heads"; sinks as in Xiao et al. 2023, "Efficient Streaming Language Models with Attention
Sinks".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Context:
    """What the rows of a batch have in common; masks are built once and shared by all layers.

    ``ids`` (batch, position) int64 token ids.
    """

    ids: Tensor

    @cached_property
    def earlier_same(self) -> Tensor:
        """(batch, 1, dst, src) float: 1 where src < dst holds the same token as dst."""
        same = self.ids[:, :, None] == self.ids[:, None, :]
        return same.tril(-1).float()[:, None]

    @cached_property
    def after_same(self) -> Tensor:
        """(batch, 1, dst, src) float: 1 where src <= dst follows an earlier copy of dst's token."""
        mask = self.earlier_same.roll(1, dims=-1).clone()
        mask[..., 0] = 0
        return mask

    @cached_property
    def distance(self) -> Tensor:
        """(dst, src) float: ``|dst - src|`` in tokens."""
        import torch

        position = torch.arange(self.ids.shape[1], device=self.ids.device, dtype=torch.float32)
        return (position[:, None] - position[None, :]).abs()


def self_(pattern: Tensor, context: Context) -> Tensor:
    """Attention to the destination itself, ``a[dst, dst]``. Range 0 to 1.

    Distrust it on short rows: the fewer sources a row sees, the more chance gives to itself.
    """
    return pattern.diagonal(dim1=-2, dim2=-1)


def previous(pattern: Tensor, context: Context) -> Tensor:
    """Attention to the token before, ``a[dst, dst-1]``. Range 0 to 1.

    Distrust it in text with many doubled tokens, where other habits look the same. The first row
    has no token before it and gets 0.
    """
    return _offset(pattern, 1)


def sink(pattern: Tensor, context: Context) -> Tensor:
    """Attention to the first position, ``a[dst, 0]``, where heads rest. Range 0 to 1.

    A high value says that the head mostly does nothing here, not that the first token matters.
    """
    return pattern[..., 0]


def duplicate(pattern: Tensor, context: Context) -> Tensor:
    """Attention on earlier copies of the destination's token. Range 0 to 1.

    Rows without an earlier copy count as 0, so text with few repeats lowers it for every head:
    compare heads on one corpus, not one head on two corpora.
    """
    return _masked(pattern, context.earlier_same)


def induction(pattern: Tensor, context: Context) -> Tensor:
    """Attention on the tokens that followed earlier copies of the destination's token. 0 to 1.

    Rows without an earlier copy count as 0, so it stays far below 1 in natural text. Where a token
    comes twice in a row, the second follows the first: attention to itself then counts as well.
    """
    return _masked(pattern, context.after_same)


def entropy(pattern: Tensor, context: Context) -> Tensor:
    """Entropy of the row, ``-sum a log2 a``, in bits. Range 0 to log2(visible).

    It grows with the row's length: 0 is one source alone, log2(visible) is a uniform row.
    """
    import torch

    bits: Tensor = torch.special.entr(pattern).sum(-1) / float(np.log(2.0))
    return bits


def distance(pattern: Tensor, context: Context) -> Tensor:
    """Mean distance looked back, ``sum a |dst - src|``, in tokens. Range 0 to the row's length.

    A head that rests on the first position has a large one, whatever else it does.
    """
    return _masked(pattern, context.distance)


def _offset(pattern: Tensor, k: int) -> Tensor:
    """(batch, head, dst): ``a[dst, dst-k]``, 0 in the rows before k."""
    import torch

    values = pattern.diagonal(offset=-k, dim1=-2, dim2=-1)
    return torch.nn.functional.pad(values, (min(k, pattern.shape[-1]), 0))


def _masked(pattern: Tensor, weight: Tensor) -> Tensor:
    """(batch, head, dst): the sum over sources of attention times a weight."""
    import torch

    total: Tensor = torch.linalg.vecdot(pattern, weight)
    return total


@dataclass(frozen=True)
class Metric:
    """A per-head number, as pages and the CLI name it.

    ``name`` what ``--by`` takes; ``title`` and ``text`` for people; ``formula`` per row;
    ``low_high`` its range; ``warning`` when to distrust it; ``rows`` the function that computes it
    on corpus rows, or None where it comes from random sequences.
    """

    name: str
    title: str
    unit: str
    text: str
    formula: str
    low_high: tuple[float, float | None]
    warning: str
    rows: Callable[[Tensor, Context], Tensor] | None = None


_SHARE = (0.0, 1.0)
_REPEATS = "Rows without an earlier copy count as 0: compare heads on one corpus only."
_RANDOM = "Random tokens are far from text: a head may act otherwise on words."

_ALL = (
    Metric("induction", "Induction", "share of attention",
           "Attention on tokens that followed earlier copies of the current one.",
           "Σ a[dst, src] over src ≤ dst with token[src−1] = token[dst]",
           _SHARE, _REPEATS, induction),
    Metric("duplicate", "Duplicate token", "share of attention",
           "Attention on earlier copies of the current token.",
           "Σ a[dst, src] over src < dst with token[src] = token[dst]",
           _SHARE, _REPEATS, duplicate),
    Metric("previous", "Previous token", "share of attention",
           "Attention on the token just before.", "a[dst, dst−1]",
           _SHARE, "Doubled tokens make other habits look the same.", previous),
    Metric("self", "Self", "share of attention",
           "Attention on the current token itself.", "a[dst, dst]",
           _SHARE, "The shorter the row, the more chance gives to it.", self_),
    Metric("sink", "Sink (first position)", "share of attention",
           "Attention on the first position, where heads rest.", "a[dst, 0]",
           _SHARE, "A high value means rest: it does not say that the first token matters.", sink),
    Metric("entropy", "Entropy", "bits",
           "How spread out a row is: 0 for one source alone.", "−Σ a log₂ a",
           (0.0, None), "It grows with the length of the row.", entropy),
    Metric("distance", "Distance", "tokens",
           "How far back the head looks, on average.", "Σ a |dst − src|",
           (0.0, None), "Resting on the first position makes it large.", distance),
    Metric("induction_random", "Induction on random tokens", "share of attention",
           "The same on 50 random tokens said twice: attention on what followed the first copy.",
           "a[dst, dst−49], rows of the second copy", _SHARE, _RANDOM),
    Metric("duplicate_random", "Duplicate on random tokens", "share of attention",
           "On 50 random tokens said twice: attention on the first copy of the current token.",
           "a[dst, dst−50], rows of the second copy", _SHARE, _RANDOM),
    Metric("previous_random", "Previous on random tokens", "share of attention",
           "On 50 random tokens said twice: attention on the token just before.",
           "a[dst, dst−1], rows of the second copy", _SHARE, _RANDOM),
)  # fmt: skip
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}

RANDOM_LENGTH = 50  # tokens in one copy


def random_sequences(
    vocabulary: np.ndarray, bos_id: int | None, n: int = 8, seed: int = 0, n_ctx: int = 10**6
) -> np.ndarray:
    """(n, position) int64: BOS (where there is one), then random tokens, then the same again.

    ``vocabulary`` (token,) the ids to draw from, without replacement. A copy has 50 tokens, fewer
    where the context or the vocabulary is smaller.
    """
    start = 0 if bos_id is None else 1
    length = min(RANDOM_LENGTH, len(vocabulary), (n_ctx - start) // 2)
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        copy = draw.choice(vocabulary, length, replace=False)
        rows.append(np.concatenate([[bos_id] if start else [], copy, copy]))
    return np.array(rows, np.int64)


def random_metrics(pattern: Tensor, length: int) -> dict[str, Tensor]:
    """Each random metric of every head, (head,), from a pattern on :func:`random_sequences`.

    ``length`` of one copy, in tokens. Means over the rows of the second copy.
    """
    offsets = {
        "induction_random": length - 1,
        "duplicate_random": length,
        "previous_random": 1,
    }
    return {
        name: _offset(pattern, offset)[..., -length:].double().mean((0, 2))
        for name, offset in offsets.items()
    }


def measure_random(session: Any, n: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    """Each random metric of every head of a model: name → (layer, head) float64."""
    vocabulary = np.setdiff1d(
        np.arange(min(session.n_vocab, len(session.tokenizer))), session.tokenizer.all_special_ids
    )
    ids = random_sequences(vocabulary, session.bos_id, n, seed, session.n_ctx)
    length = ids.shape[1] // 2
    tables: dict[str, np.ndarray] = {}
    for layer, pattern in session.patterns(ids):
        for name, values in random_metrics(pattern, length).items():
            table = tables.setdefault(name, np.zeros((session.n_layers, session.n_heads)))
            table[layer] = values.cpu().numpy()
    return tables
