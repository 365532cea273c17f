"""Parts of effects, one a shard of documents → means, estimates, and a row a head. No torch.

All sums are float64 and run in the order of the shards, so the same parts give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from attn.heads import HeadId
from attn.index.effects import COLUMNS
from attn.index.parts import Parts
from attn.measure.bootstrap import ratio_interval

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Estimates:
    """All heads on the chosen documents.

    ``mean`` (layer, head, d_head) a head's output in the mean over positions; ``change`` (document,
    layer, head) the estimated rise of the loss, nats summed over the document's tokens; ``loss``
    and ``tokens`` (document,). NaN in layers without attention.
    """

    mean: np.ndarray
    change: np.ndarray
    loss: np.ndarray
    tokens: np.ndarray

    @property
    def effect(self) -> np.ndarray:
        """(layer, head) float64: the estimated effects, nats a token."""
        found: np.ndarray = self.change.sum(0) / self.tokens.sum()
        return found


def shard_name(number: int, head: HeadId | None = None) -> str:
    """The name of a part: the estimates of a shard, or what one head did to it."""
    return f"{'all' if head is None else head}.{number:05d}"


def merge_estimates(parts: Parts, shards: int) -> Estimates:
    """The means over all shards, then the estimates, which need them."""
    sums = [parts.read(shard_name(number), "mean_") for number in range(shards)]
    mean = np.sum([one["sum"] for one in sums], 0) / np.sum([one["of"] for one in sums])
    change, loss, tokens = [], [], []
    for number in range(shards):
        one = parts.read(shard_name(number))
        along = np.einsum("dlhw,lhw->dlh", one["gradient"].astype(np.float64), mean)
        change.append(along - one["product"])
        loss.append(one["loss"])
        tokens.append(one["tokens"])
    return Estimates(mean, *map(np.concatenate, (change, loss, tokens)))


@dataclass(frozen=True, eq=False)
class Exact:
    """One head measured exactly: ``change`` (document,) nats summed over the document's tokens.

    ``needed`` the tokens whose loss rises most: column → (token,).
    """

    change: np.ndarray
    needed: Arrays


NEEDED = ("document", "start", "position", "loss", "change")


def most_needed(found: Sequence[Arrays], top: int) -> dict[str, np.ndarray]:
    """The ``top`` tokens of several lists by falling change; ties by place."""
    both = {name: np.concatenate([one[name] for one in found]) for name in NEEDED}
    keys = (both["position"], both["start"], both["document"], -both["change"].astype(np.float64))
    order = np.lexsort(keys)[:top]
    order = order[both["change"][order] > 0]
    return {name: values[order] for name, values in both.items()}


def merge_exact(parts: Parts, shards: int, head: HeadId, top: int) -> Exact:
    """What one head did to all shards."""
    some = [parts.read(shard_name(number, head)) for number in range(shards)]
    change = np.concatenate([one["total"] for one in some])
    return Exact(change, most_needed(some, top))


def table_of(estimates: Estimates, exact: Mapping[HeadId, Exact]) -> pa.Table:
    """A row a head, as :mod:`attn.index.effects` keeps them."""
    tokens = estimates.tokens
    effect = estimates.effect
    low, high = ratio_interval(estimates.change, tokens)
    measured = np.full_like(effect, np.nan)
    lists: dict[str, list[list[Any]]] = {name: [[] for _ in range(effect.size)] for name in NEEDED}
    for head, one in exact.items():
        at = head.layer, head.head
        measured[at] = one.change.sum() / tokens.sum()
        low[at], high[at] = ratio_interval(one.change, tokens)
        for name in NEEDED:
            lists[name][head.layer * effect.shape[1] + head.head] = one.needed[name].tolist()
    layers, heads = np.indices(effect.shape)
    columns = {
        "layer": layers.reshape(-1),
        "head": heads.reshape(-1),
        "estimate": effect.reshape(-1),
        "exact": measured.reshape(-1),
        "low": low.reshape(-1),
        "high": high.reshape(-1),
        "tokens": np.full(effect.size, int(tokens.sum())),
        **{f"needed_{name}": values for name, values in lists.items()},
    }
    return pa.table({name: pa.array(columns[name], COLUMNS.field(name).type) for name in columns})


def agreement(estimate: np.ndarray, exact: np.ndarray) -> dict[str, float | None]:
    """How the estimates of some heads (head,) compare with their exact effects (head,).

    ``spearman`` the rank correlation, None of fewer than three heads or where all are the same;
    ``off`` the mean of |estimate − exact|, ``bias`` that of estimate − exact, ``size`` that of
    |exact|, None where there is no head.
    """
    if not len(exact):
        return dict.fromkeys(("spearman", "off", "bias", "size"))
    return {
        "spearman": spearman(estimate, exact),
        "off": float(np.abs(estimate - exact).mean()),
        "bias": float((estimate - exact).mean()),
        "size": float(np.abs(exact).mean()),
    }


def spearman(one: np.ndarray, other: np.ndarray) -> float | None:
    """The correlation of the ranks of two (n,) arrays, ties at their mean rank.

    None where it says nothing: fewer than three values, or all of them the same.
    """
    a, b = (_ranks(values) for values in (one, other))
    if len(one) < 3 or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    found: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[which]
    return found
