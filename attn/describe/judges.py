"""Judges that need no language model: an oracle, a coin, and simple rules.

A judge gives each pair a belief, any number, larger for a more certain yes, and each pick a weight
for every source. The judge that reads a description is in attn/describe/reader.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from attn.describe.questions import PairQuestion, PickQuestion

Belief = float | None
"""None: the answer could not be read."""

Weights = tuple[float, ...] | None


class Judge(Protocol):
    """Answers questions. ``graded`` whether its beliefs are more than yes or no."""

    @property
    def graded(self) -> bool:
        """Whether beliefs come in degrees, as log-probabilities give them."""

    def pairs(self, questions: Sequence[PairQuestion]) -> list[Belief]:
        """One belief a question."""

    def picks(self, questions: Sequence[PickQuestion]) -> list[Weights]:
        """The weights of one question's sources, for each question."""


@dataclass(frozen=True)
class Oracle:
    """Sees the true attention: what no description can beat."""

    graded: bool = True

    def pairs(self, questions: Sequence[PairQuestion]) -> list[Belief]:
        """The true multiples."""
        return [question.multiple for question in questions]

    def picks(self, questions: Sequence[PickQuestion]) -> list[Weights]:
        """The true multiples."""
        return [question.multiples for question in questions]


@dataclass(frozen=True)
class Coin:
    """Knows nothing: what any description must beat."""

    seed: int = 0
    graded: bool = True

    def pairs(self, questions: Sequence[PairQuestion]) -> list[Belief]:
        """Random beliefs."""
        return list(np.random.default_rng([self.seed, 1]).random(len(questions)))

    def picks(self, questions: Sequence[PickQuestion]) -> list[Weights]:
        """Random weights."""
        draw = np.random.default_rng([self.seed, 2])
        return [tuple(draw.random(len(question.sources))) for question in questions]


Rate = Callable[[Sequence[str], int, int], float]
"""(tokens by name, destination, source) → how much a rule expects the head to attend there."""


@dataclass(frozen=True)
class Rule:
    """A simple rule about a pair's places and texts alone."""

    rate: Rate
    graded: bool = True

    def pairs(self, questions: Sequence[PairQuestion]) -> list[Belief]:
        """The rule's rates."""
        return [self.rate(q.tokens, q.dst, q.src) for q in questions]

    def picks(self, questions: Sequence[PickQuestion]) -> list[Weights]:
        """The rule's rates."""
        return [tuple(self.rate(q.tokens, q.dst, src) for src in q.sources) for q in questions]


def previous(texts: Sequence[str], dst: int, src: int) -> float:
    """The token just before."""
    return float(src == dst - 1)


def first(texts: Sequence[str], dst: int, src: int) -> float:
    """The earlier in the text, the more."""
    return -float(src)


def same(texts: Sequence[str], dst: int, src: int) -> float:
    """Another copy of the destination's token."""
    return float(src != dst and texts[src] == texts[dst])


def nearest(texts: Sequence[str], dst: int, src: int) -> float:
    """The nearer, the more."""
    return -float(abs(dst - src))


def rules(mass: Mapping[str, float]) -> dict[str, Rule]:
    """The baselines that need no language model. ``mass`` source token → attention it gets."""

    def most_attended(texts: Sequence[str], dst: int, src: int) -> float:
        return mass.get(texts[src], 0.0)

    return {
        "previous token": Rule(previous),
        "first token": Rule(first),
        "same token": Rule(same),
        "nearest token": Rule(nearest),
        "most attended token": Rule(most_attended),
    }
