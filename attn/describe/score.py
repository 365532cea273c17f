"""Scores a judge's answers with intervals, and the verdict on a description. Pure NumPy.

Pair test: the area under the ROC curve, the chance that a yes is believed more than a no, ties
counting half; with beliefs of only yes or no it is the balanced accuracy. Pick the source: the
share picked right; ties among k sources count 1 / k. An answer that could not be read counts as
a coin's.

Each 95 % interval is the wider, on each side, of two: one that knows small numbers, also at 0 and 1
(Newcombe's method 5 for the area, Statistics in Medicine 25, 2006; Wilson's for the share), and
one that knows that questions about one document go together (bootstrap over documents, 1,000
draws of a fixed seed).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from attn.describe.judges import Belief, Judge, Weights
from attn.describe.questions import CHOICES, TIERS, PairQuestion, PickQuestion, Questions

Z = 1.959963984540054
DRAWS = 1000


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
class Result:
    """How one judge did: ``pair`` over all tiers, ``tiers`` apart, ``pick`` the source of five."""

    name: str
    pair: Measure
    tiers: Mapping[str, Measure]
    pick: Measure | None
    graded: bool

    @property
    def method(self) -> str:
        """What the pair test's value is."""
        return "ROC-AUC" if self.graded else "balanced accuracy"

    @property
    def unread(self) -> int:
        """Answers that could not be read."""
        return self.pair.unread + (self.pick.unread if self.pick else 0)


def interval_text(measure: Measure | None, *, short: bool = False) -> str:
    """A measure in a cell: value and interval, or a dash.

    >>> interval_text(Measure(0.8, 0.7, 0.9, 10))
    '0.80 [0.70, 0.90]'
    """
    if measure is None:
        return "-"
    value = f"{measure.value:.2f}"
    return value if short else f"{value} [{measure.low:.2f}, {measure.high:.2f}]"


def score(name: str, judge: Judge, questions: Questions) -> Result:
    """Put all questions to a judge and measure its answers."""
    beliefs, weights = judge.pairs(questions.pairs), judge.picks(questions.picks)
    pair, tiers = pair_test(questions.pairs, beliefs)
    return Result(name, pair, tiers, pick_test(questions.picks, weights), judge.graded)


def pair_test(
    questions: Sequence[PairQuestion], beliefs: Sequence[Belief]
) -> tuple[Measure, dict[str, Measure]]:
    """The measure over all questions, and over all yes with each tier's no."""
    tiers = {}
    for tier in TIERS:
        some = [i for i, q in enumerate(questions) if q.tier in ("", tier)]
        if any(questions[i].tier for i in some):
            tiers[tier] = _area([questions[i] for i in some], [beliefs[i] for i in some])
    return _area(questions, beliefs), tiers


def _area(questions: Sequence[PairQuestion], beliefs: Sequence[Belief]) -> Measure:
    yes = np.array([question.attends for question in questions])
    unread = [belief is None for belief in beliefs]
    known = _coin(np.array([np.nan if b is None else b for b in beliefs], float))
    wins = np.sign(known[yes][:, None] - known[~yes][None, :]) / 2 + 0.5  # (yes, no)
    unsure = np.array(unread)
    wins[unsure[yes], :] = 0.5
    wins[:, unsure[~yes]] = 0.5
    value = float(wins.mean())
    low, high = newcombe(value, *wins.shape)
    names = np.array([question.document_id for question in questions])
    drawn = []
    for counts in _draws(names):
        row, column = counts[yes], counts[~yes]
        if row.sum() and column.sum():
            drawn.append(float(row @ wins @ column / (row.sum() * column.sum())))
    return _measure(value, low, high, drawn, len(questions), sum(unread))


def _coin(known: np.ndarray) -> np.ndarray:
    """Beliefs with unreadable ones as 0; comparisons with those are handled separately."""
    return np.where(np.isfinite(known), known, 0.0)


def pick_test(questions: Sequence[PickQuestion], weights: Sequence[Weights]) -> Measure | None:
    """The share picked right; None without questions."""
    if not questions:
        return None
    right = np.array([_right(q, w) for q, w in zip(questions, weights, strict=True)])
    value, n = float(right.mean()), len(questions)
    low, high = wilson(value, n)
    names = np.array([question.document_id for question in questions])
    drawn = [float(counts @ right / counts.sum()) for counts in _draws(names)]
    return _measure(value, low, high, drawn, n, sum(w is None for w in weights))


def _right(question: PickQuestion, weights: Weights) -> float:
    if weights is None:
        return 1 / len(question.sources)
    best = [i for i, weight in enumerate(weights) if weight == max(weights)]
    return (question.answer in best) / len(best)


def _draws(names: np.ndarray) -> list[np.ndarray]:
    """How often each question is drawn when documents are drawn with replacement, DRAWS times."""
    _, which = np.unique(names, return_inverse=True)
    documents = int(which.max()) + 1
    random = np.random.default_rng(0)
    draws = random.multinomial(documents, np.full(documents, 1 / documents), size=DRAWS)
    return list(draws[:, which].astype(float))


def _measure(
    value: float, low: float, high: float, drawn: list[float], n: int, unread: int
) -> Measure:
    if drawn:
        some_low, some_high = np.quantile(drawn, [0.025, 0.975])
        low, high = min(low, float(some_low)), max(high, float(some_high))
    return Measure(value, max(0.0, low), min(1.0, high), n, unread)


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
    """Good only when the low end of both tests is above chance and above every baseline."""
    tests = [("pair test", found.pair, CHANCE_PAIR, [(b.name, b.pair) for b in baselines])]
    if found.pick is not None:
        picks = [(b.name, b.pick) for b in baselines if b.pick is not None]
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
    for test, measure, _, others in tests:
        best = max(others, key=lambda other: other[1].value, default=None)
        if best is not None and measure.low <= best[1].value:
            return Verdict(
                False,
                f"Not shown to be good: it scores {_told(measure)} in the {test}, which does not "
                f"beat {best[0]!r} ({best[1].value:.2f}) beyond the interval. What it says may be "
                "true, but that does as well, or more questions are needed.",
            )
    ends = " and ".join(f"{_told(measure)} in the {test}" for test, measure, _, _ in tests)
    return Verdict(
        True,
        f"Good: it beats chance, another head's description and every rule, with {ends}. Where "
        "the head attends on text of this kind, it can be relied on that far.",
    )


def _told(measure: Measure) -> str:
    return f"{measure.value:.2f} ({measure.low:.2f} to {measure.high:.2f})"
