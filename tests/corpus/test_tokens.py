"""Budget, histograms and token tables of an index against the oracle, and on hand-made heads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attn.corpus.corpus import load_corpus
from attn.heads import HeadId
from attn.index.index import Index
from attn.index.token_tables import TokenRow
from attn.measure.budget import PARTS
from attn.measure.histograms import DISTANCES
from attn.models.session import load_model
from attn.scan.plan import Plan
from attn.scan.run import scan
from tests import oracle, oracle_tables
from tests.conftest import Tiny, plain_model, save_gpt2
from tests.oracle import NEAR
from tests.scanned import HEADS, PLANS, Scanned, scanned

CLOSE = {"rel": 1e-5, "abs": 1e-5}


@pytest.fixture(params=PLANS)
def found(
    request: pytest.FixtureRequest, tiny: Tiny, make: Callable[[Tiny, str], Scanned]
) -> Scanned:
    return make(tiny, request.param)


class TestBudget:
    def test_parts(self, found: Scanned) -> None:
        for head in HEADS:
            wanted = oracle_tables.budget(found.texts, head.layer, head.head, found.plan.min_row)
            budget = found.index.budget(head)
            assert list(budget) == [part for part in PARTS if part != "special"]
            assert budget == pytest.approx(wanted, **CLOSE)
            assert sum(budget.values()) == pytest.approx(1, abs=1e-9)
            assert all(-1e-6 <= share <= 1 for share in budget.values())

    def test_parts_are_no_more_than_the_metrics_they_are_claimed_from(self, found: Scanned) -> None:
        for head in HEADS:
            budget, numbers = found.index.budget(head), found.index.numbers(head)
            assert budget["sink"] == pytest.approx(numbers["sink"], abs=1e-7)
            for part in set(budget) - {"sink", "rest"}:
                assert budget[part] <= numbers[part] + 1e-6, part


class TestHistograms:
    def test_distances(self, found: Scanned) -> None:
        for head in HEADS:
            wanted = oracle_tables.distances(found.texts, head.layer, head.head, found.plan.min_row)
            edges, shares = found.index.distances(head)
            assert tuple(edges) == DISTANCES == oracle_tables.DISTANCES
            assert shares.tolist() == pytest.approx(wanted, **CLOSE)
            assert shares.sum() == pytest.approx(1, abs=1e-5)

    def test_attention(self, found: Scanned) -> None:
        for head in HEADS:
            least, most = oracle_tables.attention_counts(found.pairs(head))
            counts = found.index.attention_counts(head)
            assert (np.array(least) <= counts).all()
            assert (counts <= np.array(most)).all()
            assert counts.sum() == found.index.pairs(head)

    def test_callers_cannot_change_them(self, found: Scanned) -> None:
        before = found.index.attention_counts(HEADS[0]).copy()
        found.index.attention_counts(HEADS[0])[:] = -1
        assert (found.index.attention_counts(HEADS[0]) == before).all()


def check_rows(
    rows: list[TokenRow], wanted: dict[str, oracle_tables.Tokens], *, destinations: bool
) -> None:
    """A token table, whole, equals the oracle's."""
    assert {row.token for row in rows} == set(wanted)
    assert len(rows) == len(wanted)
    assert [row.mass for row in rows] == sorted((row.mass for row in rows), reverse=True)
    for row in rows:
        token = wanted[row.token]
        assert row.count == token.count
        assert token.least <= row.pairs <= token.most
        assert row.mass == pytest.approx(token.mass, rel=1e-5, abs=1e-4)
        assert row.maximum == pytest.approx(token.maximum, rel=NEAR, abs=1e-6)
        even = token.rows if destinations else token.even
        lift = token.mass / even if even else 0.0
        assert row.lift == pytest.approx(lift, rel=1e-4, abs=1e-4)


class TestTables:
    def test_sources_and_destinations(self, found: Scanned) -> None:
        index, plan = found.index, found.plan
        for head in HEADS:
            sources, destinations = oracle_tables.token_tables(
                found.texts, head.layer, head.head, plan.min_row, plan.skip_first
            )
            check_rows(index.sources(head), sources, destinations=False)
            check_rows(index.destinations(head), destinations, destinations=True)

    def test_they_add_up(self, found: Scanned) -> None:
        """To the head's pairs and, as sources, to its attention without what rests."""
        index = found.index
        for head in HEADS:
            rest = index.budget(head)["sink"] if found.plan.skip_first else 0.0
            sources, destinations = index.sources(head), index.destinations(head)
            for rows in (sources, destinations):
                assert sum(row.pairs for row in rows) == index.pairs(head)
            assert sum(row.mass for row in sources) == pytest.approx(
                index.rows(head) * (1 - rest), rel=1e-4
            )
            assert sum(row.mass for row in destinations) == pytest.approx(
                index.rows(head) * (1 - index.budget(head)["sink"]), rel=1e-4
            )

    def test_the_first_n(self, found: Scanned) -> None:
        for table in (found.index.sources, found.index.destinations):
            assert table(HEADS[3], 5) == table(HEADS[3])[:5]

    def test_the_vocabulary_is_every_token_of_the_corpus(self, found: Scanned) -> None:
        names = {
            i: name for text in found.texts for i, name in zip(text.ids, text.names, strict=True)
        }
        assert list(found.index.vocabulary) == [names[i] for i in sorted(names)]


class TestListedPairs:
    def test_the_best_of_each_token_are_kept(self, found: Scanned) -> None:
        """As many as there are, up to the limit, and no others: by head, token and rank."""
        index, limit = found.index, found.plan.per_token
        for head in HEADS:
            told = index.sources(head)
            if not limit:
                assert int(index._heads["listed"][head.layer, head.head]) == 0
                continue
            listed = sum(min(row.pairs, limit) for row in told)
            assert int(index._heads["listed"][head.layer, head.head]) == listed
            for row in told[:30]:
                ranking = index.top(head, 10**6, token=row.token)
                assert ranking.matching == row.pairs
                assert len(ranking.examples) >= min(row.pairs, limit)
                if row.pairs:
                    best = ranking.examples[0].multiple
                    assert best == pytest.approx(row.maximum, rel=1e-6)


class TestUniformHeads:
    """A model whose heads are uniform has lift 1 everywhere, and nothing above average."""

    @pytest.fixture(scope="class")
    @classmethod
    def index(
        cls, uniform_gpt2: Path, text_file: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> Index:
        session = load_model(str(uniform_gpt2), device="cpu")
        out = tmp_path_factory.mktemp("uniform")
        plan = Plan(ctx=40, min_row=2, shard=3)
        return Index.open(scan(session, load_corpus(str(text_file)), plan, out=out))

    def test_lift_is_one(self, index: Index) -> None:
        for head in index.heads():
            for row in index.sources(head):
                assert row.lift == pytest.approx(1 if row.mass else 0, abs=1e-5)
                assert row.maximum == pytest.approx(1 if row.mass else 0, abs=1e-5)
                assert row.pairs == 0

    def test_the_budget_is_how_often_each_part_is_in_view(self, index: Index) -> None:
        budgets = [index.budget(head) for head in index.heads()]
        assert all(budget == pytest.approx(budgets[0], abs=1e-6) for budget in budgets)
        assert budgets[0]["sink"] == pytest.approx(index.numbers(HeadId(0, 0))["sink"], abs=1e-6)
        assert budgets[0]["rest"] > 0.5

    def test_entropy_is_all_there_can_be(self, index: Index) -> None:
        assert index.metric("entropy_share") == pytest.approx(np.ones((2, 4)), abs=1e-5)


class TestHeadsWithoutPairs:
    """Heads that list no pair stand among others that do: each keeps its own."""

    def test_no_head_gets_anothers(self, text_file: Path, tmp_path: Path) -> None:
        def flatten(model: Any) -> None:
            with torch.no_grad():
                for block, heads in zip(model.transformer.h, ((0, 2), (1, 3)), strict=True):
                    for head in heads:
                        block.attn.c_attn.weight[:, head * 8 : (head + 1) * 8] = 0
                        block.attn.c_attn.bias[head * 8 : (head + 1) * 8] = 0

        folder = save_gpt2(tmp_path / "model", flatten)
        plan = Plan(ctx=40, shard=3)
        found = scanned(
            load_model(str(folder), device="cpu"),
            plain_model(folder),
            text_file,
            plan,
            tmp_path / "out",
            bos=False,
        )
        index = found.index
        assert [index.pairs(head) == 0 for head in index.heads()] == [
            True, False, True, False, False, True, False, True
        ]  # fmt: skip
        for head in index.heads():
            for token in (" the", ",", " and"):
                pairs = [pair for pair in found.pairs(head) if found.source(pair) == token]
                ranking = index.top(head, 10, token=token)
                assert ranking.exact
                oracle.check_ranking(ranking.examples, pairs, 10)
