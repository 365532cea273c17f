"""What an index answers, against brute force over the whole corpus."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from attn.errors import QueryError
from attn.heads import HeadId
from attn.index.query import parse_distance
from tests import oracle
from tests.conftest import Tiny, check_sentence
from tests.oracle import NEAR, Pair, by_attention, by_multiple, by_write
from tests.scanned import HEADS, Scanned, keys

FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"token": " the"},
    {"token": ","},
    {"token": "no such token"},
    {"destination": " the"},
    {"token": " the", "destination": " the"},
    {"token": "^ [a-c]", "regex": True},
    {"destination": r"\d", "regex": True},
    {"token": "^[ ,;]", "destination": "a", "regex": True},
    {"token": "["},
    {"token": "^never$", "regex": True},
    {"distance": (2, 4)},
    {"distance": (None, 1), "token": " the"},
    {"distance": (7, None), "destination": "a", "regex": True},
    {"distance": (5000, 6000)},
)
SCORES = {"multiple": by_multiple, "attention": by_attention, "write": by_write}
ORDERS = (("multiple", False), ("attention", False), ("write", False), ("multiple", True))


@pytest.fixture(params=["small", "everything kept", "windows", "every row", "first not skipped"])
def found(
    request: pytest.FixtureRequest, tiny: Tiny, make: Callable[[Tiny, str], Scanned]
) -> Scanned:
    return make(tiny, request.param)


def reads(wanted: str | None, text: str, regex: bool) -> bool:
    """Whether a token passes a filter."""
    if wanted is None:
        return True
    return bool(re.search(wanted, text)) if regex else text == wanted


def passes(found: Scanned, pair: Any, filters: dict[str, Any]) -> bool:
    """Whether both tokens of a pair pass."""
    regex = filters.get("regex", False)
    low, high = filters.get("distance", (None, None))
    gap = pair.dst - pair.src
    if (low is not None and gap < low) or (high is not None and gap > high):
        return False
    return reads(filters.get("token"), found.source(pair), regex) and reads(
        filters.get("destination"), found.destination(pair), regex
    )


def check(found: Scanned, head: HeadId, filters: dict[str, Any], n: int) -> int:
    """Every ranking under some filters; returns how many of them called themselves exact."""
    pairs = [pair for pair in found.pairs(head) if passes(found, pair, filters)]
    sure = sum(pair.multiple > 1 + NEAR for pair in pairs)
    sides = [side for side in ("token", "destination") if side in filters]
    exact = 0
    for (by, reverse), one in itertools.product(ORDERS, (False, True)):
        if by == "write" and not found.plan.write:
            continue
        ranking = found.index.top(head, n, by=by, reverse=reverse, one_per_document=one, **filters)
        oracle.check_examples(ranking.examples, pairs)
        assert ranking.pairs == found.index.pairs(head)
        assert ranking.kept >= len(ranking.examples)
        if one:
            texts = {found.text(e).first for e in ranking.examples}
            assert len(texts) == len(ranking.examples)
        if "distance" in filters and ranking.matching is None:
            assert ranking.kept < len(found.pairs(head))
        elif len(sides) == 1 or "distance" in filters:
            assert ranking.matching is not None
            assert sure <= ranking.matching <= len(pairs)
        else:
            assert ranking.matching is None
        if ranking.exact:
            exact += 1
            oracle.check_ranking(
                ranking.examples,
                pairs,
                min(n, ranking.kept),
                SCORES[by],
                reverse=reverse,
                one_per_document=one,
            )
        if [*filters] == ["token"] and (by, reverse, one) == ("multiple", False, False):
            if found.plan.per_token:
                assert ranking.exact
            if ranking.exact:
                assert len(ranking.examples) >= min(n, found.plan.per_token, sure)
        if ranking.matching == 0:
            assert ranking.exact
    return exact


class TestFilters:
    def test_every_combination(self, found: Scanned) -> None:
        exact = sum(
            check(found, head, filters, 6)
            for head, filters in itertools.product([HeadId(0, 1), HeadId(1, 2)], FILTERS)
        )
        assert exact

    def test_as_many_as_there_are(self, found: Scanned) -> None:
        for filters in FILTERS[1:4]:
            check(found, HeadId(1, 0), filters, 10**6)

    def test_each_token_alone(self, found: Scanned) -> None:
        """The best pairs of every token of the corpus, in every head of a layer."""
        n = found.plan.per_token
        if not n:
            return
        tokens = {name for text in found.texts for name in text.names}
        for head in HEADS[4:]:
            of_token: dict[str, list[Pair]] = {}
            for pair in found.pairs(head):
                of_token.setdefault(found.source(pair), []).append(pair)
            for token in sorted(tokens):
                ranking = found.index.top(head, n, token=token)
                oracle.check_ranking(ranking.examples, of_token.get(token, []), n)
                assert ranking.exact
                assert {found.source(example) for example in ranking.examples} <= {token}

    def test_when_everything_is_kept_every_answer_is_right(
        self, tiny: Tiny, make: Callable[[Tiny, str], Scanned]
    ) -> None:
        """A token filter comes before one-per-document: the best ' the' of each document."""
        found = make(tiny, "everything kept")
        for head, token, (by, reverse), one in itertools.product(
            HEADS, (" the", ",", " and"), ORDERS, (False, True)
        ):
            ranking = found.index.top(
                head, 1000, by=by, token=token, reverse=reverse, one_per_document=one
            )
            pairs = [p for p in found.pairs(head) if found.source(p) == token]
            assert ranking.exact
            oracle.check_ranking(
                ranking.examples, pairs, 1000, SCORES[by], reverse=reverse, one_per_document=one
            )

    def test_rows_come_where_the_index_keeps_them(self, found: Scanned) -> None:
        for example in found.index.top(HEADS[6], 5, token=" the").examples:
            if example.row is not None:
                assert len(example.row) == example.dst + 1
                assert example.row[example.src] == pytest.approx(example.attention, rel=1e-3)

    def test_what_is_no_regular_expression(self, found: Scanned) -> None:
        for side in ("token", "destination"):
            with pytest.raises(QueryError, match="regular expression") as caught:
                found.index.top(HEADS[0], regex=True, **{side: "("})
            assert "\n" not in str(caught.value)
            assert found.index.top(HEADS[0], **{side: "("}).matching is not None


class TestDraws:
    def test_the_first_n_are_the_first_of_more(self, found: Scanned) -> None:
        more: dict[str, Any]
        for more in (
            {},
            {"by": "attention"},
            {"reverse": True},
            {"one_per_document": True},
            {"token": " the"},
            {"destination": ","},
        ):
            whole = found.index.top(HEADS[3], 20, **more)
            some = found.index.top(HEADS[3], 4, **more)
            assert keys(some.examples) == keys(whole.examples)[:4]
            assert some.kept == whole.kept

    def test_random_is_decided_by_its_seed(self, found: Scanned) -> None:
        index, head = found.index, HEADS[5]
        for draw in (index.random, index.sampled_rows):
            one = keys(draw(head, 10, seed=1).examples)
            assert one == keys(draw(head, 10, seed=1).examples)
            assert one != keys(draw(head, 10, seed=2).examples)
            assert one != keys(index.top(head, 10).examples)
            assert len(set(one)) == 10

    def test_random_with_a_filter(self, found: Scanned) -> None:
        whole = found.index.random(HEADS[1], 10**6)
        for filters in FILTERS[1:]:
            ranking = found.index.random(HEADS[1], 10**6, **filters)
            wanted = {oracle.key_of(e) for e in whole.examples if passes(found, e, filters)}
            assert set(keys(ranking.examples)) == wanted
            assert ranking.exact == (whole.pairs == whole.kept)

    def test_bands_with_a_filter(self, found: Scanned) -> None:
        for band in range(5):
            whole = found.index.band(HEADS[1], band, 10**6)
            for filters in FILTERS[1:]:
                ranking = found.index.band(HEADS[1], band, 10**6, **filters)
                wanted = {oracle.key_of(e) for e in whole.examples if passes(found, e, filters)}
                assert set(keys(ranking.examples)) == wanted

    def test_a_pair_is_found_again(self, found: Scanned) -> None:
        index, head = found.index, HEADS[2]
        kept = [*index.top(head, 5).examples, *index.random(head, 5).examples]
        kept += index.top(head, 5, token=" the").examples
        for example in kept:
            place = (example.document, example.dst, example.src, example.start)
            again = index.find(head, *place)
            assert again is not None
            assert again.record() == example.record()
        assert index.find(head, kept[0].document, 10**6, 0, kept[0].start) is None
        assert index.find(head, kept[0].document, 0, 1, kept[0].start) is None

    @pytest.mark.parametrize("band", [-1, 5, 99])
    def test_bands_that_are_none(self, found: Scanned, band: int) -> None:
        with pytest.raises(QueryError, match="0 to 4"):
            found.index.band(HEADS[0], band)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("3", (3, 3)), ("1:5", (1, 5)), ("2:", (2, None)), (":4", (None, 4)), ("-3:-1", (-3, -1))],
)
def test_distances(text: str, wanted: tuple[int | None, int | None]) -> None:
    assert parse_distance(text) == wanted


@pytest.mark.parametrize("text", ["", ":", "a", "5:1", "1:2:3", "1.5"])
def test_what_is_no_distance(text: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse_distance(text)
    check_sentence(caught.value)


def test_windows_of_a_document_are_one_document(
    tiny: Tiny, make: Callable[[Tiny, str], Scanned]
) -> None:
    """The best pair of each document, whichever of its windows has it."""
    found = make(tiny, "windows")
    assert len({text.document for text in found.texts if text.start > 0}) > 3
    later = 0
    for head in HEADS:
        ranking = found.index.top(head, 10**6, one_per_document=True)
        best: dict[int, float] = {}
        for pair in found.pairs(head):
            best[pair.text] = max(best.get(pair.text, 0.0), pair.multiple)
        assert len({e.document for e in ranking.examples}) == len(ranking.examples)
        for example in ranking.examples:
            assert example.multiple == pytest.approx(best[found.text(example).first], rel=NEAR)
            later += example.start > 0
        sure = {document for document, multiple in best.items() if multiple > 1 + NEAR}
        assert sure <= {found.text(e).first for e in ranking.examples}
    assert later
