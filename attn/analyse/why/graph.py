"""A look explained by earlier looks, followed back: a graph of what carries a pair's score.

Of every look that is followed, the parts that carry most of its score are drawn. An earlier head's
part is split by the position that it read from, so it is a look too, and can be asked the same.
Each look's numbers are about its own score and are not multiplied along the way.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from attn.analyse.why.answers import Edge, Graph, Node, Split
from attn.analyse.why.split import ALIBI, looks, pull, split
from attn.errors import AttnError
from attn.heads import HeadId, Part
from attn.models.residual import ResidualStream

MOST_EDGES = 6
"""The most parts that are drawn of one look."""

MOST_FOLLOWED = 3
"""The most looks of one step that are asked the same again."""


def follow(
    stream: ResidualStream,
    head: HeadId,
    dst: int,
    src: int,
    *,
    steps: int = 2,
    threshold: float = 0.05,
) -> Graph:
    """Follow a look back a number of steps.

    ``threshold`` the smallest share of a look's score that an edge must carry. Raises as
    :func:`attn.analyse.why.split.split`.
    """
    root = Node(Part(str(head), head.layer, head.head), dst, src)
    nodes, edges = {root.id: root}, []
    splits: dict[str, Split] = {}
    shown: dict[tuple[str, str], float] = {}
    front = [root]
    for step in range(steps):
        found: list[tuple[float, Node]] = []
        for node in front:
            at = node.head
            assert at is not None
            try:
                splits[node.id] = split(stream, at, node.dst, node.src)
            except AttnError:
                if step == 0:
                    raise
                continue
            whole = splits[node.id].total
            for side in ("query", "key"):
                kept = _kept(stream, splits[node.id], side, threshold)
                for nats, other in kept:
                    nodes[other.id] = other
                    edges.append(Edge(other.id, node.id, nats, side))
                    found.append((abs(nats), other))
                shown[node.id, side] = sum(nats for nats, _ in kept) / whole if whole else 0.0
        front = _next(stream, found, splits)
    return Graph(root.id, tuple(nodes.values()), tuple(edges), splits, shown, threshold)


def _next(
    stream: ResidualStream, found: list[tuple[float, Node]], done: dict[str, Split]
) -> list[Node]:
    """The looks to follow next, the strongest first: those that have something to choose from."""
    ranked = [node for _, node in sorted(found, key=lambda one: (-one[0], one[1].id))]
    fresh: dict[str, Node] = {}
    for node in ranked:
        if node.head is not None and node.id not in done and node.dst > 0:
            fresh.setdefault(node.id, node)
    return list(fresh.values())[:MOST_FOLLOWED]


def _kept(
    stream: ResidualStream, made: Split, side: str, threshold: float
) -> list[tuple[float, Node]]:
    """The strongest parts of one side of a look that carry enough of its score."""
    least = threshold * abs(made.total)
    found = [one for one in _candidates(stream, made, side, least) if abs(one[0]) >= least]
    found.sort(key=lambda one: (-abs(one[0]), one[1].id))
    return found[:MOST_EDGES]


def _candidates(
    stream: ResidualStream, made: Split, side: str, least: float
) -> Iterator[tuple[float, Node]]:
    values = made.query if side == "query" else made.key
    at = made.dst if side == "query" else made.src
    asked = pull(stream, made.head, made.dst, made.src)
    gradient = asked.query if side == "query" else asked.key[made.src]
    for part, value in zip(made.parts, values, strict=True):
        if part.name == ALIBI:
            continue
        if part.head < 0:
            yield float(value), Node(part, at, at)
            continue
        # What the head wrote here can be more than its part against the row: all are split.
        if abs(value) >= least / 4:
            for src, nats in enumerate(looks(stream, part, at, gradient)):
                yield float(nats), Node(part, at, src)


def carried(stream: ResidualStream, made: Split, part: Part, side: str) -> torch.Tensor:
    """(position, source) nats: an earlier head's part of one side, by every look that it is of.

    Position by position where it wrote; the sum is the part's nats on that side.
    """
    asked = pull(stream, made.head, made.dst, made.src)
    n = len(stream)
    table = torch.zeros(n, n, dtype=torch.float64)
    where = [made.dst] if side == "query" else range(n)
    for at in where:
        gradient = asked.query if side == "query" else asked.key[at]
        table[at] = torch.from_numpy(looks(stream, part, at, gradient))
    return table
