"""The scorer is right, shown without a language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attn.describe import evidence
from attn.describe.judges import (
    Belief,
    Coin,
    Oracle,
    Rule,
    Weights,
    first,
    nearest,
    previous,
    rules,
    same,
)
from attn.describe.questions import (
    CHOICES,
    TIERS,
    PairQuestion,
    PickQuestion,
    Questions,
    ask,
    quotas,
)
from attn.describe.score import (
    Difference,
    Measure,
    Result,
    answers,
    newcombe,
    pair_test,
    pick_test,
    score,
    verdict,
    wilson,
)
from attn.errors import DescribeError
from attn.heads import HeadId
from attn.index.index import Index

TEXTS = ("a", "b", "c", "a", "b")


def pair(attends: bool, document: str = "d", tier: str = TIERS[0]) -> PairQuestion:
    return PairQuestion(document, TEXTS, 5, 4, 2, 2.0 if attends else 0.5, "" if attends else tier)


def pick(answer: int, document: str = "d") -> PickQuestion:
    multiples = tuple(3.0 if i == answer else 0.1 for i in range(5))
    return PickQuestion(document, TEXTS, 5, 4, (0, 1, 2, 3, 4), multiples, answer)


def area(yes: Sequence[Belief], no: Sequence[Belief]) -> Measure:
    questions = [pair(True, f"y{i}") for i in range(len(yes))]
    questions += [pair(False, f"n{i}") for i in range(len(no))]
    return pair_test(questions, [*yes, *no])[0]


def test_area_by_hand() -> None:
    assert area([3, 2], [1, 0]).value == 1.0
    assert area([0, 1], [2, 3]).value == 0.0
    assert area([3, 1], [2, 0]).value == 0.75
    assert area([1, 1], [1, 1]).value == 0.5


def test_with_only_yes_and_no_it_is_the_balanced_accuracy() -> None:
    measure = area([1, 1, 1, 0], [0, 1])
    assert measure.value == pytest.approx((3 / 4 + 1 / 2) / 2)


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=12),
    st.lists(st.floats(-5, 5), min_size=1, max_size=12),
)
def test_area_equals_counting_every_comparison(yes: list[float], no: list[float]) -> None:
    wins = sum(1.0 if y > n else 0.5 if y == n else 0.0 for y in yes for n in no)
    measure = area(yes, no)
    assert measure.value == pytest.approx(wins / (len(yes) * len(no)))
    assert 0 <= measure.low <= measure.value <= measure.high <= 1
    assert measure.n == len(yes) + len(no)


def test_an_unread_answer_counts_as_a_coin_and_is_counted() -> None:
    measure = area([1.0, None], [0.0, 0.0])
    assert measure.value == 0.75
    assert measure.unread == 1
    assert area([None, None], [None, None]).value == 0.5
    picked = pick_test([pick(0), pick(1)], [(1, 0, 0, 0, 0), None])
    assert picked is not None
    assert picked.value == pytest.approx((1 + 0.2) / 2)
    assert picked.unread == 1


def test_ties_among_sources_share_the_point() -> None:
    measure = pick_test([pick(1)], [(0, 1, 1, 0, 0)])
    assert measure is not None
    assert measure.value == 0.5
    assert pick_test([], []) is None


def test_tiers_are_measured_apart() -> None:
    questions = [pair(True), pair(False), pair(False, tier=TIERS[1])]
    whole, tiers = pair_test(questions, [1.0, 0.0, 2.0])
    assert whole.value == 0.5
    assert {tier: measure.value for tier, measure in tiers.items()} == {TIERS[0]: 1, TIERS[1]: 0}
    assert tiers[TIERS[0]].n == 2


def test_wilson_as_published() -> None:
    """Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    cases = ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605),
             (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718))  # fmt: skip
    for x, n, low, high in cases:
        assert wilson(x / n, n) == pytest.approx((low, high), abs=6e-5)


def test_newcombe_ends_are_one_interval_away() -> None:
    for value, yes, no in ((0.9, 30, 30), (0.5, 20, 40), (0.75, 8, 8)):
        for end in newcombe(value, yes, no):
            half = (yes + no) / 2 - 1
            variance = end * (1 - end) * (1 + half * ((1 - end) / (2 - end) + end / (1 + end)))
            assert abs(value - end) == pytest.approx(1.959964 * (variance / (yes * no)) ** 0.5)
    low, high = newcombe(1.0, 30, 30)
    assert 0.85 < low < 0.97
    assert high == 1.0


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Beliefs of two normals a standard deviation apart: the true area is 0.76."""
    draw, held = np.random.default_rng(0), 0
    for _ in range(200):
        measure = area(list(draw.normal(1, 1, 25)), list(draw.normal(0, 1, 25)))
        held += measure.low <= 0.7602 <= measure.high
    assert held >= 186  # of 200: 95 % would be 190, and the wider of two intervals is taken


def test_questions_of_one_document_widen_the_interval() -> None:
    draw = np.random.default_rng(1)
    effects = np.repeat(draw.normal(0, 3, 8), 8)
    beliefs = list(effects + np.tile([1.0, 0.0], 32))
    together = [pair(i % 2 == 0, f"d{i // 8}") for i in range(64)]
    apart = [pair(i % 2 == 0, f"d{i}") for i in range(64)]
    one, two = pair_test(together, beliefs)[0], pair_test(apart, beliefs)[0]
    assert one.value == two.value
    low, high = newcombe(one.value, 32, 32)
    assert one.low <= low
    assert one.high >= high
    same = np.repeat(np.tile([2.0, 0.0], 4), 8) - np.tile([0.0, 1.0], 32)
    one = pair_test(together, list(same))[0]
    two = pair_test(apart, list(same))[0]
    assert one.high - one.low > two.high - two.low


@pytest.fixture(scope="module")
def asked(sample_index: Path) -> dict[str, Questions]:
    """Questions about the built-in model's best previous-token head and an induction head."""
    index = Index.open(sample_index)
    values = index.metric("previous")
    best = HeadId(*np.unravel_index(int(np.nanargmax(values)), values.shape))
    heads = {"previous": HeadId(int(best.layer), int(best.head)), "induction": HeadId(18, 6)}
    found = {}
    for name, head in heads.items():
        found[name] = ask(evidence.held_out_passages(index, head), 40)
    return found


@pytest.mark.parametrize("name", ["previous", "induction"])
def test_an_oracle_scores_one(asked: dict[str, Questions], name: str) -> None:
    result = score(answers("oracle", Oracle(), asked[name]))
    assert result.pair.value == 1.0
    assert all(measure.value == 1.0 for measure in result.tiers.values())
    assert result.pick is not None
    assert result.pick.value == 1.0
    assert result.pair.low > 0.8


@pytest.mark.parametrize("name", ["previous", "induction"])
def test_a_coin_scores_a_half_within_its_interval(asked: dict[str, Questions], name: str) -> None:
    within = 0
    for seed in range(20):
        result = score(answers("coin", Coin(seed), asked[name]))
        assert result.pick is not None
        within += result.pair.low <= 0.5 <= result.pair.high
        within += result.pick.low <= 1 / CHOICES <= result.pick.high
    assert within >= 36


def test_previous_token_is_high_on_its_head_and_at_chance_on_induction(
    asked: dict[str, Questions],
) -> None:
    high = score(answers("previous", Rule(previous), asked["previous"]))
    chance = score(answers("previous", Rule(previous), asked["induction"]))
    assert high.pair.value > 0.8
    assert high.pair.low > 0.6
    assert high.pick is not None
    assert high.pick.value > 0.8
    assert chance.pair.low <= 0.5 <= chance.pair.high
    assert abs(chance.pair.value - 0.5) < 0.1
    assert chance.pick is not None
    assert chance.pick.low <= 0.2 <= chance.pick.high


def test_a_true_rule_beats_the_simple_ones_on_an_induction_head(
    asked: dict[str, Questions], sample_index: Path
) -> None:
    def after_a_copy(texts: Sequence[str], dst: int, src: int) -> float:
        return float(src > 0 and texts[src - 1] == texts[dst])

    told = answers("after an earlier copy", Rule(after_a_copy), asked["induction"])
    found = score(told)
    simple = rules(evidence.source_mass(Index.open(sample_index), HeadId(18, 6)))
    others = [score(answers(name, rule, asked["induction"]), told) for name, rule in simple.items()]
    assert found.pair.value > 0.7
    assert found.pair.value > max(other.pair.value for other in others)
    for other in others:
        assert other.pair_behind is not None
        assert other.pair_behind.value == pytest.approx(found.pair.value - other.pair.value)
    assert found.pair.low > 0.5


def test_questions_are_what_they_say(asked: dict[str, Questions], sample_index: Path) -> None:
    questions = asked["induction"]
    yes = [q for q in questions.pairs if q.attends]
    for question in questions.pairs:
        assert question.multiple > 1 if question.attends else question.multiple <= 1
        assert 0 < question.src <= question.dst < question.shown <= len(question.texts)
    assert {q.tier for q in questions.pairs} == {"", *TIERS}
    for question in questions.pairs:
        if question.tier == TIERS[0]:
            assert any((q.texts, q.dst) == (question.texts, question.dst) for q in yes)
        if question.tier == TIERS[1]:
            assert any(q.dst - q.src == question.dst - question.src for q in yes)
        if question.tier == TIERS[2]:
            assert any(q.texts[q.src] == question.texts[question.src] for q in yes)
    for picked in questions.picks:
        assert len(set(picked.sources)) == CHOICES
        assert list(picked.sources) == sorted(picked.sources)
        assert picked.multiples[picked.answer] == max(picked.multiples) > 1
        assert sorted(picked.multiples)[-2] <= 1


def test_yes_and_no_do_not_take_turns(asked: dict[str, Questions]) -> None:
    turns = [question.attends for question in asked["induction"].pairs]
    same_as_next = sum(a == b for a, b in pairwise(turns))
    assert 0.25 < same_as_next / len(turns) < 0.75


def test_positives_come_from_all_bands_by_their_share(sample_index: Path) -> None:
    index = Index.open(sample_index)
    for head in (HeadId(18, 6), HeadId(0, 0)):
        held = evidence.held_out_passages(index, head)
        assert sum(held.shares) == pytest.approx(1)
        yes = [q for q in ask(held, 40).pairs if q.attends]
        found = [0] * len(held.bands)
        for question in yes:
            found[evidence._band(question.multiple / (question.dst + 1))] += 1
        assert found == quotas(40, held.shares, [len({p.place for p in b}) for b in held.bands])
        assert all(number or not band for number, band in zip(found, held.bands, strict=True))


@given(
    st.integers(1, 60),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30)), min_size=1, max_size=6),
)
def test_quotas(n: int, given_bands: list[tuple[float, int]]) -> None:
    total = sum(share for share, _ in given_bands) or 1.0
    shares, there = [s / total for s, _ in given_bands], [t for _, t in given_bands]
    found = quotas(n, shares, there)
    assert sum(found) == min(n, sum(there))
    assert all(0 <= number <= most for number, most in zip(found, there, strict=True))
    if n >= len(there):
        assert all(number for number, most in zip(found, there, strict=True) if most)


def test_too_little_to_ask_about_says_so() -> None:
    with pytest.raises(DescribeError, match="too few pairs"):
        ask(evidence.HeldOut(((), ()), (0.5, 0.5), ()), 10)


def test_rules_by_hand() -> None:
    assert [previous(TEXTS, 4, src) for src in range(5)] == [0, 0, 0, 1, 0]
    assert [same(TEXTS, 4, src) for src in range(5)] == [0, 1, 0, 0, 0]
    assert first(TEXTS, 4, 1) > first(TEXTS, 4, 2)
    assert nearest(TEXTS, 4, 3) > nearest(TEXTS, 4, 1)
    most = rules({"c": 2.0})["most attended token"]
    assert most.picks([pick(2)]) == [(0.0, 0.0, 2.0, 0.0, 0.0)]


@dataclass(frozen=True)
class Fixed:
    """A judge with its answers ready."""

    beliefs: list[Belief]
    weights: list[Weights]
    graded: bool = False

    def pairs(self, questions: Sequence[PairQuestion]) -> list[Belief]:
        return self.beliefs

    def picks(self, questions: Sequence[PickQuestion]) -> list[Weights]:
        return self.weights


def result(
    name: str, value: float, reach: float = 0.1, unread: int = 0, lead: Difference | None = None
) -> Result:
    measure = Measure(value, value - reach, value + reach, 60, unread)
    return Result(name, measure, {TIERS[0]: measure}, measure, True, lead, lead)


def test_verdicts() -> None:
    far, near = Difference(0.25, 0.1, 0.4), Difference(0.05, -0.01, 0.11)
    rule, other = "nearest token", "another head's description"
    good = verdict(result("it", 0.85), [result(rule, 0.6, lead=far), result(other, 0.6, lead=far)])
    assert good.good
    assert "0.25 (0.10 to 0.40)" in good.text
    beaten = verdict(
        result("it", 0.75), [result(rule, 0.5, lead=far), result(other, 0.7, lead=near)]
    )
    assert not beaten.good
    assert 'over "another head\'s description" on the same questions is 0.05 (-0.01' in beaten.text
    behind = Difference(-0.2, -0.3, -0.1)
    worse = verdict(result("it", 0.75), [result(rule, 0.95, lead=behind)])
    assert not worse.good
    assert "is -0.20 (-0.30 to -0.10), which is not surely above 0" in worse.text
    chance = verdict(result("it", 0.55), [result(rule, 0.3, lead=far)])
    assert "no better than chance (0.50)" in chance.text
    unread = verdict(result("it", 0.9, unread=40), [result(rule, 0.5, lead=far)])
    assert not unread.good
    assert "80 of 120 answers could not be read" in unread.text


def questions_of(documents: int) -> Questions:
    """Two pairs, a yes and a no, and a pick of every document."""
    pairs = [pair(i % 2 == 0, f"d{i // 2}") for i in range(2 * documents)]
    return Questions(tuple(pairs), tuple(pick(i % 5, f"d{i}") for i in range(documents)))


class TestDifference:
    """A description and a baseline are compared on the same questions."""

    def test_what_is_always_a_little_better_is_better(self) -> None:
        """Both hang on the document; the intervals overlap, the difference is never below 0."""
        asked, draw = questions_of(60), np.random.default_rng(0)
        hard = np.repeat(draw.random(60) < 0.4, 2)  # documents that the baseline gets wrong
        harder = np.repeat(draw.random(60) < 0.6, 2) & hard  # and those the description does
        yes = np.array([question.attends for question in asked.pairs])
        one, other = (list(np.where(wrong, ~yes, yes).astype(float)) for wrong in (harder, hard))
        picks = [(1.0, 0, 0, 0, 0)] * 60
        found = answers("it", Fixed(one, picks), asked)
        behind = score(answers("other", Fixed(other, picks), asked), found)
        mine = score(found)
        assert behind.pair.high > mine.pair.low  # not told apart by the intervals
        assert behind.pair_behind is not None
        assert behind.pair_behind.low > 0
        assert behind.pick_behind == Difference(0.0, 0.0, 0.0)

    def test_the_same_answers_are_no_better(self) -> None:
        asked = questions_of(12)
        same = Fixed([float(i % 3) for i in range(24)], [(1.0, 0, 0, 0, 0)] * 12)
        found = score(answers("other", same, asked), answers("it", same, asked))
        assert found.pair_behind == found.pick_behind == Difference(0.0, 0.0, 0.0)

    def test_by_hand(self) -> None:
        """Three documents, one pick each: right on all, and right on the first alone."""
        asked = Questions((pair(True), pair(False)), (pick(0, "a"), pick(1, "b"), pick(2, "c")))
        right = [tuple(float(i == k) for i in range(5)) for k in range(3)]
        mine = answers("it", Fixed([1.0, 0.0], right), asked)
        other = answers("other", Fixed([0.0, 1.0], [right[0]] * 3), asked)
        behind = score(other, mine)
        assert behind.pick_behind is not None
        assert behind.pair_behind is not None
        assert behind.pick_behind.value == pytest.approx(2 / 3)
        # A draw of three documents is "a" alone once in 27, so the low end is one of three.
        assert (behind.pick_behind.low, behind.pick_behind.high) == pytest.approx((0.0, 1.0))
        assert behind.pair_behind == Difference(1.0, 1.0, 1.0)

    def test_it_holds_the_truth_as_often_as_it_says(self) -> None:
        """Two judges of normals 1.5 and 1 standard deviations apart, with a part in common."""
        draw, held = np.random.default_rng(0), 0
        truth = 0.7602 - 0.6915 + 0.0  # Φ(d / √2) of d = 1 and d = 0.7071
        for _ in range(200):
            asked = questions_of(40)
            yes = np.array([question.attends for question in asked.pairs], float)
            common = draw.normal(0, 0.8, 80)
            one = 1.0 * yes + common + draw.normal(0, 0.6, 80)
            other = 0.70711 * yes + common + draw.normal(0, 0.6, 80)
            picks = [(1.0, 0, 0, 0, 0)] * 40
            found = score(
                answers("other", Fixed(list(other), picks), asked),
                answers("it", Fixed(list(one), picks), asked),
            ).pair_behind
            assert found is not None
            held += found.low <= truth <= found.high
        assert held >= 180  # of 200; 190 are expected of a wide bootstrap


def test_the_method_is_named() -> None:
    questions = Questions((pair(True), pair(False)), (pick(0),))
    yes_no = score(answers("x", Fixed([1.0, 0.0], [(1, 0, 0, 0, 0)]), questions))
    assert yes_no.method == "balanced accuracy"
    assert score(answers("oracle", Oracle(), questions)).method == "ROC-AUC"
