"""Partial results: what a scan of some shards has counted of one layer, and how parts are merged.

A :class:`LayerPart` is plain tensors on the CPU: exact counts, which add, and lists of pairs, of
which the best are kept. Merging is associative and commutative, and a shard counts once even if it
is given twice. Shards are stored in this form, and an index is written from all of them merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from attn.measure.scores import BANDS, LISTS
from attn.scan.sort_keys import MOST, best, first_of_each

BY_DOCUMENT = LISTS.index("by_document")


@dataclass(frozen=True)
class Limits:
    """How many pairs are kept a head: rankings, uniform samples, bands, and each source token."""

    top: int = 100
    sample: int = 100
    band: int = 40
    per_token: int = 10
    write: bool = False

    def of(self, name: str) -> int:
        """The limit of one of :data:`LISTS`."""
        if name == "write" and not self.write:
            return 0
        if name.startswith("band"):
            return self.band
        return self.sample if name in ("sample", "rows") else self.top

    def groups(self, n_heads: int, device: str = "cpu") -> Tensor:
        """(list * heads,) the limit of every group of :class:`Pairs`."""
        return torch.tensor([self.of(name) for name in LISTS], device=device).repeat_interleave(
            n_heads
        )


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs in lists, one entry a pair and list. All tensors share their first dimension.

    ``group`` list * heads + head; ``order`` smaller is better; ``place`` the packed (window, dst,
    src); ``text`` the first document with the pair's text; ``token`` the vocabulary's number of
    the source; ``multiple``, ``attention``, ``write`` float32 (NaN where it is not computed);
    ``rows`` (pair, src) float16.
    """

    group: Tensor
    order: Tensor
    place: Tensor
    text: Tensor
    token: Tensor
    multiple: Tensor
    attention: Tensor
    write: Tensor
    rows: Tensor

    @classmethod
    def empty(cls, width: int, device: str = "cpu") -> Pairs:
        """No pairs; rows of them would be ``width`` sources long."""
        whole = [torch.zeros(0, dtype=torch.int64, device=device) for _ in range(5)]
        real = [torch.zeros(0, device=device) for _ in range(3)]
        rows = torch.zeros((0, width), dtype=torch.float16, device=device)
        return cls(*[*whole, *real, rows])

    def __len__(self) -> int:
        return len(self.group)

    def take(self, index: Tensor) -> Pairs:
        """Those at ``index``, in its order."""
        return Pairs(*(tensor[index] for tensor in _tensors(self)))

    @classmethod
    def join(cls, parts: Sequence[Pairs]) -> Pairs:
        """All of them, one after the other."""
        return cls(*(torch.cat(some) for some in zip(*map(_tensors, parts), strict=True)))

    def best(self, limits: Tensor) -> Pairs:
        """The best of every group, sorted by group and rank; ``limits`` (group,)."""
        some = self._one_a_text(len(limits) // len(LISTS))
        found = best(self.group[some], self.order[some], self.place[some], limits)
        return self.take(some[found])

    def _one_a_text(self, n_heads: int) -> Tensor:
        """All but those of ``by_document`` that are not the best of their text and head."""
        mine = (self.group // n_heads == BY_DOCUMENT).nonzero()[:, 0]
        _, owner = torch.unique((self.text[mine] << 20) | self.group[mine], return_inverse=True)
        kept = torch.ones(len(self), dtype=torch.bool, device=self.group.device)
        if len(mine) and int(owner.max()) < len(mine) - 1:
            first = first_of_each(owner, self.order[mine], self.place[mine])
            kept[mine] = False
            kept[mine[first]] = True
        return kept.nonzero()[:, 0]


@dataclass(frozen=True, eq=False)
class Best:
    """The best pairs by multiple of every head and source token, all (pair,).

    ``key`` head * vocabulary + token; ``order`` of the multiple; ``place``; ``attention`` float32.
    """

    key: Tensor
    order: Tensor
    place: Tensor
    attention: Tensor

    def __len__(self) -> int:
        return len(self.key)

    @property
    def multiple(self) -> Tensor:
        """float32: the score that the order stands for."""
        return (MOST - self.order).to(torch.int32).view(torch.float32)

    def take(self, index: Tensor) -> Best:
        """Those at ``index``, in its order."""
        return Best(*(tensor[index] for tensor in _tensors(self)))

    @classmethod
    def join(cls, parts: Sequence[Best]) -> Best:
        """All of them, one after the other."""
        return cls(*(torch.cat(some) for some in zip(*map(_tensors, parts), strict=True)))

    def best(self, limit: int) -> Best:
        """The ``limit`` best of every key, sorted by key and rank."""
        return self.take(best(self.key, self.order, self.place, limit))


@dataclass(frozen=True, eq=False)
class Table:
    """What each head gave each token, (head, token).

    ``pairs`` above average; ``mass`` of attention in fixed point; ``maximum`` multiple, float32.
    """

    pairs: Tensor
    mass: Tensor
    maximum: Tensor

    @classmethod
    def zeros(cls, n_heads: int, n_tokens: int) -> Table:
        """Nothing yet."""
        whole = torch.zeros((n_heads, n_tokens), dtype=torch.int64)
        return cls(whole, whole.clone(), whole.float())

    def add(self, where: Tensor, pairs: Tensor, mass: Tensor, maximum: Tensor) -> None:
        """Add columns (head, n) to the tokens ``where`` (n,)."""
        self.pairs.index_add_(1, where, pairs)
        self.mass.index_add_(1, where, mass)
        self.maximum.scatter_reduce_(1, where.expand(len(maximum), -1), maximum, "amax")


@dataclass(frozen=True, eq=False)
class LayerPart:
    """One layer over some shards. ``head`` stands for the layer's heads.

    ``rows``, ``pairs``, ``nonfinite`` (head,); ``sums`` (sum, head), ``parts`` (part, head),
    ``distances`` (bin, head) in fixed point; ``attention`` (bin, head) counts; ``tokens`` (token,)
    the vocabulary's numbers of the tokens seen, rising; ``uniform`` (token,) the mass that a
    uniform head would give each as a source, in fixed point.
    """

    shards: frozenset[int]
    rows: Tensor
    pairs: Tensor
    nonfinite: Tensor
    sums: Tensor
    parts: Tensor
    distances: Tensor
    attention: Tensor
    tokens: Tensor
    uniform: Tensor
    sources: Table
    destinations: Table
    kept: Pairs
    best: Best

    def cpu(self) -> LayerPart:
        """The part with its tensors on the CPU."""
        moved = {name: tensor.cpu() for name, tensor in to_tensors(self).items()}
        return from_tensors(moved, self.shards)


_ADDED = ("rows", "pairs", "nonfinite", "sums", "parts", "distances", "attention")


def merge(parts: Iterable[LayerPart], limits: Limits) -> LayerPart:
    """Merge parts into one. A shard that occurs twice counts once.

    Raises ValueError for parts that overlap in some of their shards, which cannot be separated.
    """
    some: list[LayerPart] = []
    for part in parts:
        known = frozenset[int]().union(*(other.shards for other in some))
        if part.shards <= known:
            continue
        if part.shards & known:
            raise ValueError("These parts share some of their shards, so they cannot be merged.")
        some.append(part)
    if len(some) == 1:
        return some[0]
    first = some[0]
    n_heads = len(first.rows)
    tokens = torch.unique(torch.cat([part.tokens for part in some]))
    uniform = torch.zeros(len(tokens), dtype=torch.int64)
    tables = [Table.zeros(n_heads, len(tokens)) for _ in range(2)]
    for part in some:
        where = torch.searchsorted(tokens, part.tokens)
        uniform.index_add_(0, where, part.uniform)
        for table, own in zip(tables, (part.sources, part.destinations), strict=True):
            table.add(where, own.pairs, own.mass, own.maximum)
    added = {name: sum(getattr(part, name) for part in some) for name in _ADDED}
    return LayerPart(
        shards=frozenset[int]().union(*(part.shards for part in some)),
        tokens=tokens,
        uniform=uniform,
        sources=tables[0],
        destinations=tables[1],
        kept=Pairs.join([part.kept for part in some]).best(limits.groups(n_heads)),
        best=Best.join([part.best for part in some]).best(limits.per_token),
        **added,
    )


def to_tensors(part: LayerPart) -> dict[str, Tensor]:
    """The part as named tensors, without its shard numbers."""
    named: dict[str, Tensor] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, Tensor):
            named[field.name] = value
        elif isinstance(value, Pairs | Best | Table):
            inner = zip(fields(value), _tensors(value), strict=True)
            named |= {f"{field.name}.{one.name}": tensor for one, tensor in inner}
    return {name: tensor.contiguous() for name, tensor in named.items()}


def from_tensors(named: Mapping[str, Tensor], shards: Iterable[int]) -> LayerPart:
    """The part from the tensors of :func:`to_tensors`."""
    kinds = {"kept": Pairs, "best": Best, "sources": Table, "destinations": Table}
    values: dict[str, object] = {"shards": frozenset(shards)}
    for field in fields(LayerPart):
        kind = kinds.get(field.name)
        if kind is not None:
            inner = [named[f"{field.name}.{one.name}"] for one in fields(kind)]
            values[field.name] = kind(*inner)
        elif field.name != "shards":
            values[field.name] = named[field.name]
    return LayerPart(**values)  # type: ignore[arg-type]


def _tensors(value: Pairs | Best | Table) -> list[Tensor]:
    return [getattr(value, field.name) for field in fields(value)]


__all__ = [
    "BANDS", "BY_DOCUMENT", "LISTS", "Best", "LayerPart", "Limits", "Pairs", "Table",
    "from_tensors", "merge", "to_tensors",
]  # fmt: skip
