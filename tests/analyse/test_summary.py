"""attn/analyse/summary.py: two sentences, every number in them from the index."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from attn.analyse.summary import PHRASES, summary
from attn.errors import HeadError
from attn.formatting import shown
from attn.heads import HeadId
from attn.index.index import Index
from attn.index.token_tables import TokenRow
from attn.measure.budget import PARTS
from tests.conftest import Tiny
from tests.scanned import HEADS, PLANS, Scanned

HEAD = HeadId(3, 1)


@dataclass
class Told:
    """What an index would say of one head."""

    shares: dict[str, float]
    table: list[TokenRow] = field(default_factory=list)
    n_rows: int = 100
    skip_first: bool = True

    @property
    def manifest(self) -> Any:
        return SimpleNamespace(skip_first=self.skip_first)

    def budget(self, head: HeadId) -> dict[str, float]:
        return dict.fromkeys(PARTS, 0.0) | self.shares

    def rows(self, head: HeadId) -> int:
        return self.n_rows

    def pairs(self, head: HeadId) -> int:
        return sum(row.pairs for row in self.table)

    def sources(self, head: HeadId, n: int | None = None) -> list[TokenRow]:
        return sorted(self.table, key=lambda row: -row.mass)[:n]


def say(**told: Any) -> str:
    index: Any = Told(**told)
    return summary(index, HEAD)


THE = TokenRow(" the", 50, 20, 6.0, 2.0, 9.0)
COMMA = TokenRow(",", 40, 10, 3.0, 1.5, 5.0)
NAME = TokenRow(" Ben\n", 5, 8, 0.8, 7.25, 30.0)
RARE = TokenRow(" zebra", 1, 4, 0.2, 40.0, 60.0)


class TestSentences:
    def test_shares_are_of_what_does_not_rest(self) -> None:
        told = say(
            shares={
                "sink": 0.9,
                "induction": 0.061,
                "previous": 0.02,
                "self": 0.004,
                "rest": 0.015,
            },
            table=[THE, COMMA, NAME, RARE],
        )
        assert told == (
            "90.0 % of the attention of L3H1 rests on the first position; of what remains, "
            "61.0 % goes to tokens that followed an earlier copy of the current one, "
            "20.0 % goes to the token just before and 19.0 % goes elsewhere. "
            "The tokens it looks at most are “·the”, “,” and “·Ben↵”, with 98.0 % of what is not "
            "at rest; for how often they stand in view, it favours “·Ben↵” (7.2× an even head), "
            "“·the” (2.0× an even head) and “,” (1.5× an even head)."
        )

    def test_small_parts_are_told_with_the_rest(self) -> None:
        told = say(shares={"sink": 0.5, "self": 0.45, "duplicate": 0.02, "rest": 0.03}, table=[THE])
        assert "90.0 % goes to the token itself and 10.0 % goes elsewhere." in told
        assert "earlier copies" not in told

    def test_a_head_that_does_one_thing(self) -> None:
        told = say(shares={"sink": 0.0, "previous": 1.0}, table=[THE])
        assert told.startswith(
            "0.0 % of the attention of L3H1 rests on the first position; of what remains, "
            "100.0 % goes to the token just before. The tokens it looks at most are “·the”, "
            "with 100.0 % of what is not at rest;"
        )

    def test_a_head_that_rests_always(self) -> None:
        told = say(shares={"sink": 0.9999, "rest": 0.0001})
        assert told == (
            "100.0 % of the attention of L3H1 rests on the first position: it hardly looks "
            "anywhere else. Only 0 pairs are above average, too few to say which tokens it looks "
            "at."
        )

    def test_too_few_pairs(self) -> None:
        told = say(shares={"sink": 0.5, "rest": 0.5}, table=[RARE])
        assert told.endswith(
            "Only 4 pairs are above average, too few to say which tokens it looks at."
        )

    def test_without_rows(self) -> None:
        told = say(shares=dict.fromkeys(PARTS, float("nan")), n_rows=0)
        assert told == (
            "L3H1 has no row that counts in this index, so there is nothing to say of it."
        )

    def test_where_the_first_position_is_not_skipped(self) -> None:
        told = say(shares={"sink": 0.5, "rest": 0.5}, table=[THE, COMMA], skip_first=False)
        assert "with 100.0 % of its attention;" in told

    def test_every_part_has_words(self) -> None:
        assert {"sink", *PHRASES} == set(PARTS)


def percents(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"(\d+\.\d) %", text)]


class TestOfAnIndex:
    @pytest.fixture(params=PLANS)
    def found(
        self, request: pytest.FixtureRequest, tiny: Tiny, make: Callable[[Tiny, str], Scanned]
    ) -> Scanned:
        return make(tiny, request.param)

    def test_every_number_is_the_indexs(self, found: Scanned) -> None:
        for head in HEADS:
            self.check(found.index, head)

    def check(self, index: Index, head: HeadId) -> None:
        text, budget, rows = summary(index, head), index.budget(head), index.sources(head)
        assert "\n" not in text
        assert str(head) in text
        first, second = text.split(". The tokens it looks at most are ")
        sink, *shares = percents(first)
        assert sink == pytest.approx(100 * budget["sink"], abs=0.051)
        assert sum(shares) == pytest.approx(100, abs=0.051 * len(shares))
        for part, phrase in PHRASES.items():
            told = re.search(rf"(\d+\.\d) % goes {re.escape(phrase)}", first)
            share = 100 * budget.get(part, 0.0) / (1 - budget["sink"])
            if part != "rest":
                assert (told is not None) == (share >= 5), part
                assert not told or float(told[1]) == pytest.approx(share, abs=0.051)

        most = [row for row in rows if row.pairs >= 5][:3]
        whole = sum(row.mass for row in rows)
        (share,) = percents(second)
        assert share == pytest.approx(100 * sum(row.mass for row in most) / whole, abs=0.051)
        looked, favoured = second.split("; for how often they stand in view, it favours ")
        assert re.findall("“(.*?)”", looked) == [shown(row.token) for row in most]
        lifts = {shown(row.token): row.lift for row in rows if row.pairs >= 5}
        told = re.findall(r"“(.*?)” \((\d+\.\d)× an even head\)", favoured)
        assert len(told) == min(3, len(lifts))
        for token, lift in told:
            assert float(lift) == pytest.approx(lifts[token], abs=0.051)
        assert sorted(lifts.values())[-len(told) :] == sorted(lifts[token] for token, _ in told)
        assert len(re.findall(r"\d+\.\d", text)) == 2 + len(shares) + len(told)

    def test_a_head_out_of_range(self, found: Scanned) -> None:
        with pytest.raises(HeadError):
            summary(found.index, HeadId(2, 0))
