"""What the questions of this package are answered with: plain values, read without torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attn.heads import HeadId, Part


@dataclass(frozen=True, eq=False)
class Split:
    """Why one pair of a head has its score: two ways to cut the same total.

    ``total`` nats against the row; ``parts`` what wrote to the stream, with the biases last and,
    where the model has ALiBi, its distance; ``query`` and ``key`` (part,) float64 nats: each adds
    to ``total``. ``attention`` of the pair, 0..1; ``visible`` sources of its row; ``capped``
    whether the model caps scores after this, so that nats are those before the cap.
    """

    head: HeadId
    dst: int
    src: int
    total: float
    parts: tuple[Part, ...]
    query: np.ndarray
    key: np.ndarray
    attention: float
    visible: int
    capped: bool

    def strongest(self, side: str, n: int) -> list[tuple[Part, float]]:
        """The parts of a side, ``query`` or ``key``, with the most nats either way."""
        values = self.query if side == "query" else self.key
        order = np.argsort(-np.abs(values), kind="stable")[:n]
        return [(self.parts[i], float(values[i])) for i in order]


@dataclass(frozen=True, eq=False)
class DirectEffect:
    """What a head wrote at ``dst`` does to the logit of ``token`` (an id) at once.

    ``sources`` (n,) float64 logits: what each source that it looked at adds, against the mean over
    the vocabulary; 0 for those that the row does not see. ``total`` is their sum. ``raised`` and
    ``lowered`` token ids with the logits that the whole write gives them, the strongest first.
    ``capped`` whether the model caps its logits after this.
    """

    head: HeadId
    dst: int
    token: int
    total: float
    sources: np.ndarray
    raised: tuple[tuple[int, float], ...]
    lowered: tuple[tuple[int, float], ...]
    capped: bool


@dataclass(frozen=True)
class Node:
    """A look, or another part at a position.

    ``part`` its name; for a look ``dst`` is where it was written and ``src`` where it was read,
    else both are the position (``src`` -1: at every source at once).
    """

    part: Part
    dst: int
    src: int

    @property
    def id(self) -> str:
        """The node's name, unique in a graph: ``L2H3:41-40`` or ``MLP 3:41``."""
        where = f"{self.dst}-{self.src}" if self.part.head >= 0 else str(self.dst)
        return f"{self.part.name}:{where}"

    @property
    def head(self) -> HeadId | None:
        """The head whose look it is; None for another part."""
        return HeadId(self.part.layer, self.part.head) if self.part.head >= 0 else None


@dataclass(frozen=True)
class Edge:
    """What ``source`` (a node's id) carries of the score of the look ``target``.

    ``nats`` against the row; ``side`` ``query`` or ``key``.
    """

    source: str
    target: str
    nats: float
    side: str


@dataclass(frozen=True, eq=False)
class Graph:
    """A look and what it is made of.

    ``splits`` of the looks that were followed, by node id; ``shown`` (node id, side) → the share of
    that look's score that its edges carry, 1 for all of it.
    """

    root: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    splits: dict[str, Split]
    shown: dict[tuple[str, str], float]
    threshold: float


@dataclass(frozen=True)
class Written:
    """What a head writes when it looks at ``token`` (an id), as tokens that come next.

    ``raised`` and ``lowered`` token ids with logits against the vocabulary's mean, up to a factor;
    ``rank`` how many tokens are raised more than the token itself, of ``vocabulary``.
    """

    token: int
    raised: tuple[tuple[int, float], ...]
    lowered: tuple[tuple[int, float], ...]
    rank: int
    vocabulary: int
