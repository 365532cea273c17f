"""The tally on hand-made heads: which rows count, what is summed, claimed, kept and drawn."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from attn.measure.budget import PARTS
from attn.measure.fixed_point import FIXED
from attn.measure.metrics import metrics, of_kind, of_rows, sums, values_of
from attn.measure.scores import LISTS
from attn.scan import reduce
from attn.scan.batches import Batch, Entry
from attn.scan.partials import Limits, merge
from attn.scan.sort_keys import pair_hashes
from attn.scan.tally import LayerTally
from tests import oracle, oracle_tables
from tests.patterns import identity, looks_at, previous, rest, uniform
from tests.scanned import RANDOM_METRICS, ROW_METRICS

OF_MODEL = (*RANDOM_METRICS, *of_kind("weights"), *of_kind("probe"))


@pytest.fixture(autouse=True, params=["compiled", "torch"])
def walk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test here twice: as a CPU walks over a pattern, and as other devices do."""
    if request.param == "torch":
        monkeypatch.setattr(reduce, "_walk_compiled", reduce._walk)


A, B, C = 10, 11, 12
DIFFERENT = [20, 21, 22, 23, 24]
SHOWN = ["<s>", "Un", "believ", "able", ",", " said", " she", ".\n", "x2", "y", "\n"]


def entries(
    ids: list[list[int]], places: list[int], min_row: int, keys: list[int] | None = None
) -> list[Entry]:
    """One window a document, its place in the corpus for both; every id is a token of its own."""
    keys = keys or [77 + place for place in places]
    return [
        Entry(
            row, [str(i) for i in row], [*range(len(row))], row, place, place, key, min_row, place
        )
        for row, place, key in zip(ids, places, keys, strict=True)
    ]


def tally_of(
    pattern: np.ndarray,
    ids: list[int],
    shown: list[str] | None = None,
    norms: np.ndarray | None = None,
    min_row: int = 0,
) -> LayerTally:
    """Heads (head, dst, src) on one sequence, tallied."""
    n = len(ids)
    shown = shown or [str(i) for i in ids]
    tally = LayerTally(len(pattern), n, 200, Limits(write=norms is not None))
    batch = Batch.make(
        [Entry(ids, shown, oracle.words_of_texts(shown), ids, 0, 0, 7, min_row, 0)], seed=0
    )
    weights = None if norms is None else torch.tensor(norms, dtype=torch.float32)[None]
    values = torch.tensor(pattern, dtype=torch.float32)[None]
    tally.add(values, torch.arange(1, n + 1)[None], batch, weights)
    return tally


def sums_of(tally: LayerTally) -> dict[str, np.ndarray]:
    """Sum → (head,) float64."""
    return {made.name: tally.sums[i].double().numpy() / made.scale for i, made in enumerate(sums())}


def values(tally: LayerTally) -> dict[str, np.ndarray]:
    """Metric → (head,) as the index gives it."""
    means = {name: total / tally.rows.numpy() for name, total in sums_of(tally).items()}
    return {
        name: values_of(made, means) for name, made in metrics().items() if name not in OF_MODEL
    }


def random_heads(draw: np.random.Generator, heads: int, n: int) -> np.ndarray:
    pattern = np.tril(draw.random((heads, n, n)) ** 4)
    made: np.ndarray = pattern / pattern.sum(-1, keepdims=True)
    return made


class TestSums:
    @pytest.mark.parametrize(("n", "min_row"), [(2, 0), (12, 3), (33, 0), (40, 10), (70, 5)])
    def test_they_are_the_sums_of_what_every_row_gives(self, n: int, min_row: int) -> None:
        draw = np.random.default_rng(n)
        ids = draw.integers(0, 7, n).tolist()
        shown = [SHOWN[i] for i in draw.integers(0, len(SHOWN), n)]
        pattern = random_heads(draw, 3, n)
        tally = tally_of(pattern, ids, shown, min_row=min_row)
        batch = Batch.make(
            [Entry(ids, shown, oracle.words_of_texts(shown), ids, 0, 0, 7, min_row, 0)], seed=0
        )
        told, checked = sums_of(tally), 0
        for name, metric in metrics().items():
            if metric.kind in ("rows", "pairs", "offsets"):
                each = of_rows(metric, torch.tensor(pattern).float()[None], batch.context)
                wanted = each[0, :, min_row:].double().sum(-1).numpy()
                np.testing.assert_allclose(told[name], wanted, rtol=1e-5, atol=1e-4)
                checked += 1
        assert checked == len(ROW_METRICS) + 1  # and separator, which no window here has

    def test_metrics_that_are_no_mean_over_rows_say_so(self) -> None:
        batch = Batch.make([Entry([1], ["a"], [0], [1], 0, 0, 7, 0, 0)], seed=0)
        for name in ("spread", "entropy_share", "prefix_matching", "induction_random"):
            with pytest.raises(ValueError, match=name):
                of_rows(metrics()[name], torch.ones(1, 1, 1, 1), batch.context)

    @pytest.mark.parametrize("seed", range(3))
    def test_every_metric_is_the_oracles(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        n, heads = 30, 2
        ids = draw.integers(0, 9, n).tolist()
        shown = [SHOWN[i] for i in draw.integers(0, len(SHOWN), n)]
        pattern, norms = random_heads(draw, heads, n), draw.random((heads, n)) * 3
        got = values(tally_of(pattern, ids, shown, norms, min_row=4))
        text = oracle.Text(
            0, ids, pattern[None], None, shown, norms[None], words=oracle.words_of_texts(shown)
        )
        for head in range(heads):
            wanted = oracle.head_numbers([text], 0, head, 4)
            for name, of_head in got.items():
                assert of_head[head] == pytest.approx(wanted[name], rel=1e-5, abs=1e-5), name


class TestDerived:
    def test_spread(self) -> None:
        """Half at distance 1, half at distance 5: two either side of three."""
        near, far = (looks_at([max(dst - k, 0) for dst in range(12)]) for k in (1, 5))
        got = values(tally_of((near + far)[None] / 2, list(range(20, 32)), min_row=5))
        assert got["distance"][0] == pytest.approx(3)
        assert got["spread"][0] == pytest.approx(2)

    def test_a_head_that_looks_one_way_has_no_spread(self) -> None:
        got = values(tally_of(previous(12)[None], list(range(20, 32)), min_row=3))
        assert got["spread"][0] == pytest.approx(0, abs=1e-3)

    def test_the_spread_is_over_all_rows_together(self) -> None:
        """Rows that each rest on the first position are of different lengths."""
        got = values(tally_of(rest(12)[None], list(range(20, 32)), min_row=2))
        assert got["spread"][0] == pytest.approx(np.std(np.arange(2, 12)), rel=1e-5)

    def test_entropy_share(self) -> None:
        got = values(tally_of(np.stack([uniform(9), identity(9)]), list(range(20, 29)), min_row=2))
        assert got["entropy_share"].tolist() == pytest.approx([1, 0], abs=1e-6)
        two = 0.5 * identity(4) + 0.5 * previous(4)  # one bit where log2(visible) is 1, log2(3), 2
        got = values(tally_of(two[None], DIFFERENT[:4], min_row=1))
        assert got["entropy_share"][0] == pytest.approx(3 / (1 + math.log2(3) + 2), rel=1e-5)

    def test_prefix_matching(self) -> None:
        """A B C A B C: only the last three rows have an earlier copy; two of them look after it."""
        pattern = looks_at([0, 0, 0, 1, 2, 0])
        got = values(tally_of(pattern[None], [A, B, C, A, B, C]))
        assert got["prefix_matching"][0] == pytest.approx(2 / 3)
        assert got["induction"][0] == pytest.approx(2 / 6)

    def test_prefix_matching_without_repeats_is_no_number(self) -> None:
        got = values(tally_of(previous(5)[None], DIFFERENT))
        assert math.isnan(got["prefix_matching"][0])
        assert got["induction"][0] == 0

    def test_writes(self) -> None:
        """Even rows; the first position writes nothing, the one before three times the rest."""
        norms = np.array([[0.0, 1, 1, 3, 1]])
        got = values(tally_of(uniform(5)[None], DIFFERENT, norms=norms, min_row=4))
        assert got["sink_write"][0] == 0
        assert got["previous_write"][0] == pytest.approx(3 / 6)
        norms = np.array([[2.0, 1, 1, 0, 0]])
        got = values(tally_of(uniform(5)[None], DIFFERENT, norms=norms, min_row=4))
        assert got["sink_write"][0] == pytest.approx(2 / 4)
        assert got["previous_write"][0] == 0

    def test_rows_that_write_nothing_have_no_share(self) -> None:
        got = values(tally_of(uniform(5)[None], DIFFERENT, norms=np.zeros((1, 5))))
        assert got["sink_write"][0] == got["previous_write"][0] == 0


class TestBudget:
    """Each head looks at one pair and rests in all other rows: which part is it of?"""

    def claims(self, ids: list[int], shown: list[str]) -> dict[tuple[int, int], str]:
        n = len(ids)
        pairs = [(dst, src) for dst in range(n) for src in range(dst + 1)]
        heads = np.stack([rest(n)] * len(pairs))
        for head, (dst, src) in zip(heads, pairs, strict=True):
            head[dst] = np.eye(n)[src]
        shares = tally_of(heads, ids, shown).parts.double().numpy() / FIXED  # (part, head)
        whole = np.vstack([shares, n - shares.sum(0)])  # and the rest
        found = {}
        for i, pair in enumerate(pairs):
            whole[0, i] -= n - 1  # the other rows
            here = np.flatnonzero(np.abs(whole[:, i]) > 1e-6)
            assert len(here) == 1, (pair, whole[:, i])
            assert whole[here[0], i] == pytest.approx(1, abs=1e-6)
            found[pair] = PARTS[here[0]]
        return found

    def test_the_first_claim_wins(self) -> None:
        claimed = self.claims([A, B, A, B, C, A, B], ["a", "b", "a", "b", ",", "a", "."])
        assert {claimed[dst, 0] for dst in range(7)} == {"sink"}  # a copy, or itself, all the same
        assert {claimed[dst, dst] for dst in range(1, 7)} == {"self"}
        assert {claimed[dst, dst - 1] for dst in range(2, 7)} == {"previous"}
        assert claimed[2, 1] == "previous"  # it follows a copy of the token, too
        assert claimed[3, 1] == claimed[5, 2] == claimed[6, 1] == claimed[6, 3] == "duplicate"
        assert claimed[5, 3] == claimed[5, 1] == "induction"
        assert claimed[6, 4] == "induction"  # a comma that follows a copy of the token
        assert claimed[6, 2] == "induction"
        assert claimed[5, 4] == "previous"  # a comma, the token before
        assert claimed[4, 1] == claimed[4, 2] == "rest"

    def test_marks_and_the_rest(self) -> None:
        claimed = self.claims([1, 2, 3, 4, 5], [",", ".\n", "a", "b", "c"])
        assert claimed[4, 1] == claimed[3, 1] == "punctuation"
        assert claimed[4, 2] == "rest"
        assert claimed[4, 0] == "sink"

    @pytest.mark.parametrize("seed", range(3))
    def test_the_oracle_agrees(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        n = int(draw.integers(5, 14))
        shown = [SHOWN[i] for i in draw.integers(0, len(SHOWN), n)]
        ids = draw.integers(0, 5, n).tolist()
        for (dst, src), part in self.claims(ids, shown).items():
            assert part == oracle_tables.part_of(ids, shown, dst, src)


class TestMeans:
    """Which rows count: dst from min_row to the end of the document, padding never."""

    def tally(
        self,
        patterns: list[np.ndarray],
        ids: list[list[int]],
        min_row: int,
        limit: int = 1000,
        skip_first: bool = True,
        places: list[int] | None = None,
    ) -> LayerTally:
        """One head over one padded batch; padding is filled with what would be noticed."""
        width = max(map(len, ids))
        tally = LayerTally(1, width, 200, Limits(limit, limit, limit), skip_first=skip_first)
        batch = Batch.make(entries(ids, places or list(range(len(ids))), min_row), seed=0)
        padded = torch.full((len(ids), 1, width, width), 1 / width)
        for row, pattern in enumerate(patterns):
            n = len(pattern)
            padded[row, 0, :n] = 0
            padded[row, 0, :n, :n] = torch.tensor(pattern)
        visible = torch.arange(1, width + 1).expand(len(ids), -1)
        tally.add(padded, visible, batch)
        return tally

    def means(self, tally: LayerTally) -> dict[str, float]:
        return {
            made.name: float(tally.sums[i, 0]) / made.scale / float(tally.rows[0])
            for i, made in enumerate(sums())
        }

    def test_rows_from_min_row_on_and_no_padding(self) -> None:
        ids = [list(range(20, 32)), list(range(40, 46)), list(range(50, 53))]
        patterns = [previous(12), identity(6), rest(3)]
        tally = self.tally(patterns, ids, min_row=4)
        assert int(tally.rows[0]) == 8 + 2
        means = self.means(tally)
        assert means["previous"] == pytest.approx(0.8)
        assert means["self"] == pytest.approx(0.2)
        assert means["sink"] == 0
        assert means["distance"] == pytest.approx(0.8)
        assert int(tally.pairs[0]) == 10  # one a row

    def test_the_skipped_first_is_in_the_metrics_but_not_among_the_pairs(self) -> None:
        ids = [list(range(20, 32))]
        tally = self.tally([rest(12)], ids, min_row=4)
        assert self.means(tally)["sink"] == 1
        assert int(tally.pairs[0]) == 0
        assert int(self.tally([rest(12)], ids, min_row=4, skip_first=False).pairs[0]) == 8

    def test_a_uniform_head_has_no_pair_above_average(self) -> None:
        tally = self.tally(
            [uniform(128).astype(np.float32)], [list(range(128))], 0, skip_first=False
        )
        assert int(tally.rows[0]) == 128
        assert int(tally.pairs[0]) == 0
        assert set((tally.finish(0).kept.group).tolist()) == {LISTS.index("rows")}

    def test_min_row_zero_counts_every_row(self) -> None:
        tally = self.tally([identity(5)], [DIFFERENT], 0)
        assert int(tally.rows[0]) == 5
        assert int(tally.pairs[0]) == 4  # (0, 0) is the skipped first, and only 1 of 1

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_rows_that_are_not_finite_are_counted_and_left_out(self, bad: float) -> None:
        pattern = previous(12)
        pattern[7, 3] = bad
        pattern[2, 1] = bad  # not counted: before min_row
        tally = self.tally([pattern], [list(range(20, 32))], 4)
        assert int(tally.nonfinite[0]) == 1
        assert int(tally.rows[0]) == 7
        assert self.means(tally)["previous"] == pytest.approx(1)
        assert int(tally.pairs[0]) == 7

    def test_a_row_of_infinities_of_both_signs_is_not_finite(self) -> None:
        pattern = identity(12)
        pattern[7, 3], pattern[7, 4] = math.inf, -math.inf
        tally = self.tally([pattern], [list(range(20, 32))], 4)
        assert int(tally.nonfinite[0]) == 1

    def test_exact_ties_break_by_document_then_dst_then_src(self) -> None:
        """Every kept pair of this head has multiple 4 and attention 1/2 or so: order is place."""
        pattern = np.zeros((8, 8))
        for dst in range(8):
            pattern[dst, [max(dst - 1, 0), dst]] = 4 / (dst + 1) if dst >= 4 else 0.5
            pattern[dst, 0] += 1 - pattern[dst].sum()
        ids = [list(range(20, 28))] * 3
        tally = self.tally([pattern] * 3, ids, 4, limit=5, places=[9, 2, 5])
        kept = tally.finish(0).kept
        for kind, name in enumerate(LISTS):
            mine = [
                (p >> 32, (p >> 16) & 0xFFFF, p & 0xFFFF)
                for p in kept.place[kept.group == kind].tolist()
            ]
            if name in ("top", "bottom"):
                assert mine == [(2, 4, 3), (2, 4, 4), (2, 5, 4), (2, 5, 5), (2, 6, 5)]
            elif name == "by_document":
                assert mine == [(2, 4, 3), (5, 4, 3), (9, 4, 3)]

    def test_merged_tallies_equal_the_tally_of_all(self) -> None:
        draw = np.random.default_rng(3)
        ids = [draw.integers(0, 9, n).tolist() for n in (20, 31, 26, 18)]
        patterns = []
        for row in ids:
            pattern = np.tril(draw.random((len(row), len(row))) ** 6)
            patterns.append(pattern / pattern.sum(1, keepdims=True))
        limits = Limits(7, 7, 7)
        whole = self.tally(patterns, ids, 5, limit=7, places=[0, 1, 2, 3]).finish(99)
        for split in ([[0, 1], [2, 3]], [[3], [1, 2], [0]], [[2, 0], [1, 3]]):
            parts = []
            for part in split:
                width = 31
                tally = LayerTally(1, width, 200, limits)
                batch = Batch.make(entries([ids[i] for i in part], part, 5), seed=0)
                n = batch.ids.shape[1]
                padded = torch.zeros(len(part), 1, n, n)
                for row, i in enumerate(part):
                    m = len(ids[i])
                    padded[row, 0, :m, :m] = torch.tensor(patterns[i])
                tally.add(padded, torch.arange(1, n + 1)[None], batch)
                parts.append(tally.finish(len(parts)))
            merged = merge(parts, limits)
            assert torch.equal(merged.rows, whole.rows)
            assert torch.equal(merged.pairs, whole.pairs)
            for name in ("group", "place", "multiple"):
                assert torch.equal(getattr(merged.kept, name), getattr(whole.kept, name))
            for name in ("key", "place", "order"):
                assert torch.equal(getattr(merged.best, name), getattr(whole.best, name))
            torch.testing.assert_close(  # float32 sums of other widths differ in the last bits
                merged.sums.double(), whole.sums.double(), rtol=1e-6, atol=1.0
            )


class TestSampleIsUniform:
    def test_every_pair_and_every_row_is_kept_equally_often(self) -> None:
        """Chi-square of how often each of N is among k kept, over many seeds.

        Of all pairs, of the pairs of a band (all of these have attention 1/2), and of all rows.
        """
        n, k, seeds = 14, 12, 400
        pattern = torch.tensor(previous(n), dtype=torch.float32)
        pattern = 0.5 * pattern + 0.5 * torch.eye(n)
        ids = [list(range(n)), list(range(30, 30 + n)), list(range(60, 60 + n))]
        keys = [0x123456789ABCDEF, 0x0FEDCBA98765432, 0x5A5A5A5A5A5A5A5]
        rows = 3 * (n - 4)
        totals = {"sample": 2 * rows, "band4": 2 * rows, "rows": rows}
        limits = Limits(1, k, k, 0)
        counts: dict[str, Counter[int]] = {name: Counter() for name in totals}
        for seed in range(seeds):
            tally = LayerTally(1, n, 200, limits)
            batch = Batch.make(entries(ids, [0, 1, 2], 4, keys), seed=seed)
            tally.add(pattern.expand(3, 1, n, n).clone(), torch.arange(1, n + 1)[None], batch)
            lists = tally.finish(0).kept
            for name, count in counts.items():
                kept = lists.place[lists.group == LISTS.index(name)].tolist()
                assert len(kept) == k
                count.update(place >> 16 if name == "rows" else place for place in kept)
        assert int(tally.pairs[0]) == totals["sample"]
        for name, total in totals.items():
            expected = seeds * k / total
            spread = expected * (1 - k / total)
            seen = [*counts[name].values(), *[0] * (total - len(counts[name]))]
            chi = sum((count - expected) ** 2 for count in seen) / spread
            # Mean total - 1, standard deviation about sqrt(2 * total): five of them either way.
            assert abs(chi - (total - 1)) < 5 * math.sqrt(2 * total), name

    def test_pairs_are_kept_independently_of_each_other(self) -> None:
        """How often two neighbours are both kept: k(k-1) / N(N-1) of the seeds."""
        n, seeds, k = 16, 3000, 32
        both = {"dst": 0, "src": 0, "document": 0}
        for seed in range(seeds):
            hashes = pair_hashes(torch.tensor([1, 2]), n, seed).reshape(-1)
            kept = set(torch.topk(hashes, k, largest=False)[1].tolist())
            here = (0 * n + 5) * n + 3
            others = {"dst": (6 * n) + 3, "src": (5 * n) + 4, "document": (n + 5) * n + 3}
            for name, other in others.items():
                both[name] += here in kept and other in kept
        total = 2 * n * n
        expected = seeds * k * (k - 1) / (total * (total - 1))
        for name, count in both.items():
            assert abs(count - expected) < 5 * math.sqrt(expected) + 1, name
