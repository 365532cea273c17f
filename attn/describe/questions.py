"""Questions about held-out text that a good description answers and a poor one does not.

Pair test: does the head, at this destination, attend to this source? A pair above average is a yes.
They come from all bands of attention, each by its share of the head's attention above average, a
twentieth at least. A pair at or below average is a no, of three tiers:

- same destination: another source of a yes's row
- same distance: as far apart as a yes, elsewhere
- same source token: a yes's source token, seen from another destination

Pick the source: which of five sources of a row does its destination attend to most?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attn.describe.evidence import HeldOut, Passage
from attn.errors import DescribeError

TIERS = ("same destination", "same distance", "same source token")
CHOICES = 5


@dataclass(frozen=True)
class PairQuestion:
    """Whether the head attends from ``dst`` to ``src``.

    ``multiple`` is the truth, which no judge but the oracle may look at; ``tier`` "" for a yes.
    ``shown`` how many of the texts the row sees, and so how many are shown; ``names`` of tokens.
    """

    document_id: str
    texts: tuple[str, ...]
    shown: int
    dst: int
    src: int
    multiple: float
    tier: str = ""
    names: tuple[str, ...] = ()

    @property
    def tokens(self) -> tuple[str, ...]:
        """What the tokens are called: alike where the model reads the same."""
        return self.names or self.texts

    @property
    def attends(self) -> bool:
        """The right answer."""
        return not self.tier


@dataclass(frozen=True)
class PickQuestion:
    """Which of ``sources`` (places, in the text's order) the destination attends to most.

    ``multiples`` is the truth; ``answer`` the place in ``sources`` of the right one.
    """

    document_id: str
    texts: tuple[str, ...]
    shown: int
    dst: int
    sources: tuple[int, ...]
    multiples: tuple[float, ...]
    answer: int
    names: tuple[str, ...] = ()

    @property
    def tokens(self) -> tuple[str, ...]:
        """What the tokens are called: alike where the model reads the same."""
        return self.names or self.texts


@dataclass(frozen=True)
class Questions:
    """A test: its pair questions, yes and no, and its pick questions. Decided by index and seed."""

    pairs: tuple[PairQuestion, ...]
    picks: tuple[PickQuestion, ...]

    @property
    def documents(self) -> int:
        """How many held-out documents they are about."""
        return len({q.document_id for q in self.pairs} | {q.document_id for q in self.picks})


def ask(
    held_out: HeldOut,
    n: int,
    seed: int = 0,
    *,
    skip_first: bool = True,
    bidirectional: bool = False,
) -> Questions:
    """Up to ``n`` yes questions, a no to each where one can be found, and up to ``n / 2`` picks.

    Raises DescribeError when there is no yes or no no.
    """
    pairs_above = [passage for band in held_out.bands for passage in band]
    pool = _Pool([*pairs_above, *held_out.rows], int(skip_first), bidirectional, seed)
    usable = [pool.usable(band) for band in held_out.bands]
    numbers = quotas(n, held_out.shares, [len(band) for band in usable])
    positives = [p for band, number in zip(usable, numbers, strict=True) for p in band[:number]]
    positives = [positives[i] for i in pool.shuffled(len(positives))]
    pairs: list[PairQuestion] = []
    used = {passage.place for passage in positives}
    for number, passage in enumerate(positives):
        pairs.append(pool.question(passage, passage.example.src))
        order = [*TIERS[number % 3 :], *TIERS[: number % 3]]
        for tier in order:
            found = pool.negative(passage, tier, used)
            if found is not None:
                other, src = found
                used.add((*other.place[:3], src))
                pairs.append(pool.question(other, src, tier))
                break
    pairs = [pairs[i] for i in pool.shuffled(len(pairs))]
    rows = {passage.place[:3]: passage for passage in positives}
    picks = [pick for passage in rows.values() if (pick := pool.pick(passage)) is not None]
    if not positives or all(question.attends for question in pairs):
        raise DescribeError(
            "The index keeps too few pairs of this head in held-out documents to test a "
            "description: scan more documents."
        )
    return Questions(tuple(pairs), tuple(picks[: max(1, n // 2)]))


def quotas(n: int, shares: Sequence[float], there: Sequence[int]) -> list[int]:
    """How many of ``n`` to take from each band, by its share, of those that are ``there``.

    No band gets less than a twentieth of ``n``, or one; what a band lacks goes to the others.

    >>> quotas(20, [0.9, 0.1, 0.0], [50, 50, 50])
    [17, 2, 1]
    >>> quotas(20, [0.9, 0.1, 0.0], [5, 50, 0])
    [5, 15, 0]
    """
    least = max(1, n // 20)
    found = [0] * len(shares)
    for _ in range(min(n, sum(there))):
        open_bands = [i for i, number in enumerate(found) if number < there[i]]
        starved = [i for i in open_bands if found[i] < least]
        # The band that is furthest behind what its share would give it.
        best = max(starved or open_bands, key=lambda i: (shares[i] * n - found[i], -i))
        found[best] += 1
    return found


class _Pool:
    """Held-out rows to draw from, each once, in the seed's order."""

    def __init__(
        self, passages: Sequence[Passage], first: int, bidirectional: bool, seed: int
    ) -> None:
        self._first, self._bidirectional = first, bidirectional
        self._random = np.random.default_rng([seed, 4])
        whole = {p.place[:3]: p for p in passages if p.example.row is not None}
        rows = [whole[place] for place in sorted(whole)]
        self._rows = [rows[i] for i in self._random.permutation(len(rows))]

    def shuffled(self, n: int) -> list[int]:
        """0 to n - 1 in an order drawn by the seed, so that a yes is not followed by its no."""
        return [int(i) for i in self._random.permutation(n)]

    def usable(self, passages: Sequence[Passage]) -> list[Passage]:
        """Passages with their row, each pair once."""
        found = {p.place: p for p in passages if p.example.row is not None}
        return list(found.values())

    def question(self, passage: Passage, src: int, tier: str = "") -> PairQuestion:
        """The question about a row's pair."""
        texts, dst = passage.window.texts, passage.example.dst
        multiple = float(self._multiples(passage)[src])
        shown = len(texts) if self._bidirectional else dst + 1
        names = passage.window.names
        return PairQuestion(passage.document_id, texts, shown, dst, src, multiple, tier, names)

    def negative(
        self, passage: Passage, tier: str, used: set[tuple[str, int, int, int]]
    ) -> tuple[Passage, int] | None:
        """A row and a source of it for a tier's no to ``passage``, or None."""
        dst, src = passage.example.dst, passage.example.src
        token = passage.window.ids[src]
        for row in [passage] if tier == TIERS[0] else self._rows:
            if tier != TIERS[0] and row.place[:3] == passage.place[:3]:
                continue
            sources = self._below(row)
            if tier == TIERS[1]:
                sources = [s for s in sources if row.example.dst - s == dst - src]
            elif tier == TIERS[2]:
                sources = [s for s in sources if row.window.ids[s] == token]
            fresh = [s for s in sources if (*row.place[:3], s) not in used]
            if fresh:
                return row, fresh[int(self._random.integers(len(fresh)))]
        return None

    def pick(self, passage: Passage) -> PickQuestion | None:
        """The row's strongest source among four of its weak ones, or None where it has too few."""
        multiples, weak = self._multiples(passage), self._below(passage)
        seen = self._seen(passage)
        best = max(seen, key=lambda s: (multiples[s], -s), default=None)
        if best is None or multiples[best] <= 1 or len(weak) < CHOICES - 1:
            return None
        others = self._random.choice(len(weak), CHOICES - 1, replace=False)
        sources = sorted([best, *(weak[i] for i in others)])
        texts, dst = passage.window.texts, passage.example.dst
        return PickQuestion(
            passage.document_id,
            texts,
            len(texts) if self._bidirectional else dst + 1,
            dst,
            tuple(sources),
            tuple(float(multiples[s]) for s in sources),
            sources.index(best),
            passage.window.names,
        )

    def _multiples(self, passage: Passage) -> np.ndarray:
        """(source,) float64: the row's multiples."""
        row = passage.example.row
        assert row is not None
        return np.asarray(row, np.float64) * passage.visible

    def _seen(self, passage: Passage) -> list[int]:
        """The sources that the row sees, those where heads rest left out where they are skipped."""
        row = passage.example.row
        assert row is not None
        start = 0 if self._bidirectional else passage.example.dst + 1 - passage.visible
        seen = range(max(self._first, start), len(row))
        return [src for src in seen if not (self._first and passage.special(src))]

    def _below(self, passage: Passage) -> list[int]:
        """The sources that the row sees and gives its average or less."""
        multiples = self._multiples(passage)
        return [s for s in self._seen(passage) if multiples[s] <= 1]
