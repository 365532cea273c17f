"""Scores a judge's answers with intervals, and the verdict on a description. Pure NumPy.

Pair test: the area under the ROC curve, the chance that a yes is believed more than a no, ties
counting half; with beliefs of only yes or no it is the balanced accuracy. Pick the source: the
share picked right; ties among k sources count 1 / k. An answer that could not be read counts as
a coin's.

Each 95 % interval is the wider, on each side, of two: one that knows small numbers, also at 0 and 1
(Newcombe's method 5 for the area, Statistics in Medicine 25, 2006; Wilson's for the share), and
one that knows that questions about one document go together (bootstrap over documents, 1,000
draws of a fixed seed).

A description and a baseline answer the same questions, so they are compared by the difference of
their values, with its 95 % interval from the same draws of documents for both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from attn.describe.judges import Belief, Judge, Weights
from attn.describe.questions import CHOICES, TIERS, PairQuestion, PickQuestion, Questions
from attn.measure.bootstrap import DRAWS, document_draws

Z = 1.959963984540054


@dataclass(frozen=True)
class Measure:
    """A value in 0..1 with its 95 % interval, from ``n`` questions, ``unread`` of them unread.

    None where there is no question to measure it on.
    """

    value: float
    low: float
    high: float
    n: int
    unread: int = 0


@dataclass(frozen=True)
class Difference:
    """How far a description's value is above a baseline's, with its 95 % interval: -1 to 1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Answers:
    """What one judge answered: beliefs on the pairs, weights on the picks, in their order."""

    name: str
    questions: Questions
    beliefs: Sequence[Belief]
    weights: Sequence[Weights]
    graded: bool


@dataclass(frozen=True)
class Result:
    """How one judge did: ``pair`` over all tiers, ``tiers`` apart, ``pick`` the source of five.

    Of a baseline ``pair_behind`` and ``pick_behind``: how far the description is above it. None in
    what was kept before there was such a number.
    """

    name: str
    pair: Measure
    tiers: Mapping[str, Measure]
    pick: Measure | None
    graded: bool
    pair_behind: Difference | None = None
    pick_behind: Difference | None = None

    @property
    def method(self) -> str:
        """What the pair test's value is."""
        return "ROC-AUC" if self.graded else "balanced accuracy"

    @property
    def unread(self) -> int:
        """Answers that could not be read."""
        return self.pair.unread + (self.pick.unread if self.pick else 0)


def interval_text(measure: Measure | Difference | None, *, short: bool = False) -> str:
    """A measure or a difference in a cell: value and interval, or a dash.

    >>> interval_text(Measure(0.8, 0.7, 0.9, 10))
    '0.80 [0.70, 0.90]'
    """
    if measure is None:
        return "-"
    value = f"{measure.value:.2f}"
    return value if short else f"{value} [{measure.low:.2f}, {measure.high:.2f}]"


def answers(name: str, judge: Judge, questions: Questions) -> Answers:
    """Put all questions to a judge."""
    beliefs, weights = judge.pairs(questions.pairs), judge.picks(questions.picks)
    return Answers(name, questions, beliefs, weights, judge.graded)


def score(given: Answers, description: Answers | None = None) -> Result:
    """Measure a judge's answers; those of a baseline beside the ``description``'s."""
    asked = given.questions
    pair, tiers = pair_test(asked.pairs, given.beliefs)
    pick = pick_test(asked.picks, given.weights)
    if description is None:
        return Result(given.name, pair, tiers, pick, given.graded)
    behind = [
        _difference(_area(asked.pairs, description.beliefs), _area(asked.pairs, given.beliefs)),
        _difference(_share(asked.picks, description.weights), _share(asked.picks, given.weights)),
    ]
    return Result(given.name, pair, tiers, pick, given.graded, *behind)


@dataclass(frozen=True, eq=False)
class _Sampled:
    """A value, and (draw,) what it is on each draw of documents; NaN where a draw has none."""

    value: float
    drawn: np.ndarray
    interval: tuple[float, float]  # the one that knows small numbers

    def measure(self, n: int, unread: int) -> Measure:
        low, high = self.interval
        found = self.drawn[np.isfinite(self.drawn)]
        if len(found):
            some_low, some_high = np.quantile(found, [0.025, 0.975])
            low, high = min(low, float(some_low)), max(high, float(some_high))
        return Measure(self.value, max(0.0, low), min(1.0, high), n, unread)


def _difference(one: _Sampled | None, other: _Sampled | None) -> Difference | None:
    if one is None or other is None:
        return None
    drawn = one.drawn - other.drawn
    value, found = one.value - other.value, drawn[np.isfinite(drawn)]
    if not len(found):
        return Difference(value, -1.0, 1.0)
    low, high = np.quantile(found, [0.025, 0.975])
    return Difference(value, min(float(low), value), max(float(high), value))


def pair_test(
    questions: Sequence[PairQuestion], beliefs: Sequence[Belief]
) -> tuple[Measure, dict[str, Measure]]:
    """The measure over all questions, and over all yes with each tier's no."""

    def measured(some: list[int]) -> Measure:
        told = [beliefs[i] for i in some]
        unread = sum(belief is None for belief in told)
        return _area([questions[i] for i in some], told).measure(len(some), unread)

    tiers = {}
    for tier in TIERS:
        some = [i for i, q in enumerate(questions) if q.tier in ("", tier)]
        if any(questions[i].tier for i in some):
            tiers[tier] = measured(some)
    return measured(list(range(len(questions)))), tiers


def _area(questions: Sequence[PairQuestion], beliefs: Sequence[Belief]) -> _Sampled:
    yes = np.array([question.attends for question in questions])
    unsure = np.array([belief is None for belief in beliefs])
    known = np.array([0.0 if belief is None else belief for belief in beliefs])
    wins = np.sign(known[yes][:, None] - known[~yes][None, :]) / 2 + 0.5  # (yes, no)
    wins[unsure[yes], :] = 0.5
    wins[:, unsure[~yes]] = 0.5
    value = float(wins.mean())
    counts = _draws(questions)
    rows, columns = counts[:, yes], counts[:, ~yes]
    won, compared = ((rows @ wins) * columns).sum(1), rows.sum(1) * columns.sum(1)
    drawn = np.divide(won, compared, out=np.full(DRAWS, np.nan), where=compared > 0)
    return _Sampled(value, drawn, newcombe(value, *wins.shape))


def pick_test(questions: Sequence[PickQuestion], weights: Sequence[Weights]) -> Measure | None:
    """The share picked right; None without questions."""
    found = _share(questions, weights)
    if found is None:
        return None
    return found.measure(len(questions), sum(w is None for w in weights))


def _share(questions: Sequence[PickQuestion], weights: Sequence[Weights]) -> _Sampled | None:
    if not questions:
        return None
    right = np.array([_right(q, w) for q, w in zip(questions, weights, strict=True)])
    value = float(right.mean())
    counts = _draws(questions)
    drawn = counts @ right / counts.sum(1)
    return _Sampled(value, drawn, wilson(value, len(questions)))


def _right(question: PickQuestion, weights: Weights) -> float:
    if weights is None:
        return 1 / len(question.sources)
    best = [i for i, weight in enumerate(weights) if weight == max(weights)]
    return (question.answer in best) / len(best)


def _draws(questions: Sequence[PairQuestion] | Sequence[PickQuestion]) -> np.ndarray:
    """(draw, question) how often each is drawn when documents are drawn with replacement.

    The same questions get the same draws, so that two judges of them can be compared.
    """
    return document_draws([one.document_id for one in questions])


def newcombe(area: float, yes: int, no: int) -> tuple[float, float]:
    """The interval of an area under the ROC curve from ``yes`` × ``no`` comparisons.

    The ends are where the area is Z standard errors away, the error taken there, by Hanley and
    McNeil's formula with both numbers at their mean.
    """
    half = (yes + no) / 2 - 1

    def beyond(at: float) -> float:
        variance = at * (1 - at) * (1 + half * ((1 - at) / (2 - at) + at / (1 + at))) / (yes * no)
        return abs(area - at) - Z * math.sqrt(max(variance, 0.0))

    return _edge(beyond, area, 0.0), _edge(beyond, area, 1.0)


def _edge(beyond: Callable[[float], float], inside: float, outside: float) -> float:
    """Where ``beyond`` turns positive between ``inside`` and ``outside``, by halving."""
    for _ in range(60):
        middle = (inside + outside) / 2
        if beyond(middle) > 0:
            outside = middle
        else:
            inside = middle
    return inside


def wilson(share: float, n: int) -> tuple[float, float]:
    """The interval of a share of ``n``."""
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    reach = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return centre - reach, centre + reach


CHANCE_PAIR, CHANCE_PICK = 0.5, 1 / CHOICES


@dataclass(frozen=True)
class Verdict:
    """Whether to believe a description: ``good`` or not, and why, in plain words."""

    good: bool
    text: str


def verdict(found: Result, baselines: Sequence[Result]) -> Verdict:
    """Good only when both tests' low ends are above chance, and so is each lead over a baseline."""
    tests = [("pair test", found.pair, CHANCE_PAIR, [(b.name, b.pair_behind) for b in baselines])]
    if found.pick is not None:
        picks = [(b.name, b.pick_behind) for b in baselines]
        tests.append(("pick test", found.pick, CHANCE_PICK, picks))
    asked = len(found.tiers) and found.pair.n + (found.pick.n if found.pick else 0)
    if found.unread * 4 > asked:
        return Verdict(
            False,
            f"Not tested: {found.unread} of {asked} answers could not be read, so the score says "
            "more about the judge than about the description. Choose a stronger model as judge.",
        )
    for test, measure, chance, _ in tests:
        if measure.low <= chance:
            return Verdict(
                False,
                f"Do not believe it: it scores {_told(measure)} in the {test}, no better than "
                f"chance ({chance:.2f}).",
            )
    told = []
    for test, measure, _, others in tests:
        leads = [(name, lead) for name, lead in others if lead is not None]
        name, lead = min(leads, key=lambda one: one[1].low, default=("", None))
        if lead is not None and lead.low <= 0:
            return Verdict(
                False,
                f"Not shown to be good: it scores {_told(measure)} in the {test}, and its lead "
                f"over {name!r} on the same questions is {_told(lead)}, which is not surely above "
                "0. "
                "What it says may be true, but that may do as well, or more questions are needed.",
            )
        above = f", above {name!r} by {_told(lead)}" if lead is not None else ""
        told.append(f"{_told(measure)} in the {test}{above}")
    return Verdict(
        True,
        f"Good: it beats chance, another head's description and every rule. It scores "
        f"{'; '.join(told)}. Where the head attends on text of this kind, it can be relied on "
        "that far.",
    )


def _told(measure: Measure | Difference) -> str:
    return f"{measure.value:.2f} ({measure.low:.2f} to {measure.high:.2f})"
