"""attn/metrics.py and the oracle on hand-made heads whose answer can be seen."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from attn import repeated
from attn.batch import Batch, Entry
from attn.context import Context
from attn.metrics import METRICS, SUMS, of_rows
from attn.ordering import pair_hashes
from attn.parts import Limits, merge
from attn.scores import LISTS, multiple
from attn.tally import SCALES, LayerTally
from tests import oracle

A, B, C, D = 10, 11, 12, 13
ROWS = ("self", "previous", "sink", "duplicate", "induction", "entropy", "distance")
RANDOM = ("induction_random", "duplicate_random", "previous_random")


def uniform(n: int) -> np.ndarray:
    """Every row spread evenly over all it sees."""
    return np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None]


def looks_at(sources: list[int]) -> np.ndarray:
    """Row dst gives all its attention to ``sources[dst]``."""
    pattern = np.zeros((len(sources), len(sources)))
    for dst, src in enumerate(sources):
        pattern[dst, src] = 1
    return pattern


def identity(n: int) -> np.ndarray:
    return looks_at(list(range(n)))


def previous(n: int) -> np.ndarray:
    return looks_at([0, *range(n - 1)])


def rest(n: int) -> np.ndarray:
    return looks_at([0] * n)


def by_core(pattern: np.ndarray, ids: list[int]) -> dict[str, list[float]]:
    """Metric → its value in each row, by attn.metrics."""
    tensor = torch.tensor(pattern, dtype=torch.float32)[None, None]
    context = Context(torch.tensor([ids]))
    found = {}
    for name in ROWS:
        values = of_rows(METRICS[name], tensor, context)
        assert tuple(values.shape) == (1, 1, len(ids))
        found[name] = values[0, 0].tolist()
    return found


def by_oracle(pattern: np.ndarray, ids: list[int]) -> dict[str, list[float]]:
    """The same by the oracle."""
    rows = [oracle.row_numbers(pattern, ids, dst) for dst in range(len(ids))]
    return {name: [row[name] for row in rows] for name in ROWS}


DIFFERENT = [20, 21, 22, 23, 24]

CASES: dict[str, tuple[np.ndarray, list[int], dict[str, list[float]]]] = {
    "uniform": (
        uniform(4),
        [20, 21, 22, 23],
        {
            "self": [1, 1 / 2, 1 / 3, 1 / 4],
            "previous": [0, 1 / 2, 1 / 3, 1 / 4],
            "sink": [1, 1 / 2, 1 / 3, 1 / 4],
            "duplicate": [0, 0, 0, 0],
            "induction": [0, 0, 0, 0],
            "entropy": [0, 1, math.log2(3), 2],
            "distance": [0, 0.5, 1, 1.5],
        },
    ),
    "identity": (
        identity(5),
        DIFFERENT,
        {
            "self": [1] * 5,
            "previous": [0] * 5,
            "sink": [1, 0, 0, 0, 0],
            "duplicate": [0] * 5,
            "induction": [0] * 5,
            "entropy": [0] * 5,
            "distance": [0] * 5,
        },
    ),
    "previous token": (
        previous(5),
        DIFFERENT,
        {
            "self": [1, 0, 0, 0, 0],
            "previous": [0, 1, 1, 1, 1],
            "sink": [1, 1, 0, 0, 0],
            "duplicate": [0] * 5,
            "induction": [0] * 5,
            "entropy": [0] * 5,
            "distance": [0, 1, 1, 1, 1],
        },
    ),
    "sink": (
        rest(5),
        DIFFERENT,
        {
            "self": [1, 0, 0, 0, 0],
            "previous": [0, 1, 0, 0, 0],
            "sink": [1] * 5,
            "entropy": [0] * 5,
            "distance": [0, 1, 2, 3, 4],
        },
    ),
    # A B C A B: the second A looks at B, the second B at C.
    "induction": (
        looks_at([0, 0, 0, 1, 2]),
        [A, B, C, A, B],
        {"induction": [0, 0, 0, 1, 1], "duplicate": [0] * 5, "distance": [0, 1, 2, 2, 2]},
    ),
    # The second A looks at the first, the second B at the first.
    "duplicate": (
        looks_at([0, 0, 0, 0, 1]),
        [A, B, C, A, B],
        {"duplicate": [0, 0, 0, 1, 1], "induction": [0] * 5, "distance": [0, 1, 2, 3, 3]},
    ),
    # Several earlier copies count together: of the last A, 0 and 2; after them, 1 and 3.
    "several copies": (
        uniform(5),
        [A, B, A, C, A],
        {
            "duplicate": [0, 0, 1 / 3, 0, 2 / 5],
            "induction": [0, 0, 1 / 3, 0, 2 / 5],
        },
    ),
    # A doubled token: the second A follows the first, so attention to itself is induction too.
    "doubled token": (
        identity(3),
        [B, A, A],
        {"induction": [0, 0, 1], "duplicate": [0, 0, 0], "self": [1, 1, 1]},
    ),
    # A token is no copy of itself: the first A has none, and B, which follows A, is not for A.
    "no copy of itself": (
        identity(3),
        [A, B, C],
        {"duplicate": [0, 0, 0], "induction": [0, 0, 0]},
    ),
    # The first position is never "the token after" anything, not even the last one wrapped round.
    "nothing wraps round": (
        rest(4),
        [B, A, C, A],
        {"induction": [0, 0, 0, 0], "duplicate": [0, 0, 0, 0]},
    ),
    # A first position that is a copy counts as a copy, BOS or not.
    "copy at the sink": (
        rest(4),
        [A, B, C, A],
        {"duplicate": [0, 0, 0, 1], "sink": [1, 1, 1, 1]},
    ),
    "halves": (
        np.array([[1, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, 0.5]]),
        [A, B, C],
        {
            "entropy": [0, 1, 1.5],
            "distance": [0, 0.5, 0.75],
            "self": [1, 0.5, 0.5],
            "previous": [0, 0.5, 0.25],
        },
    ),
    "one token": (
        np.ones((1, 1)),
        [A],
        {"self": [1], "previous": [0], "sink": [1], "entropy": [0], "distance": [0]},
    ),
}


class TestRows:
    @pytest.mark.parametrize("case", CASES)
    @pytest.mark.parametrize("by", [by_core, by_oracle])
    def test_hand_made_heads(self, case: str, by: Any) -> None:
        pattern, ids, wanted = CASES[case]
        got = by(pattern, ids)
        for name, values in wanted.items():
            assert got[name] == pytest.approx(values, abs=1e-6), name

    def test_both_agree_on_random_patterns_with_many_copies(self) -> None:
        draw = np.random.default_rng(0)
        for _ in range(5):
            n = int(draw.integers(2, 40))
            ids = draw.integers(0, 6, n).tolist()
            pattern = np.tril(draw.random((n, n)) ** 4)
            pattern /= pattern.sum(1, keepdims=True)
            core, mine = by_core(pattern, ids), by_oracle(pattern, ids)
            for name in ROWS:
                assert core[name] == pytest.approx(mine[name], rel=1e-5, abs=1e-6), name

    def test_a_batch_is_its_sequences(self) -> None:
        draw = np.random.default_rng(1)
        ids = draw.integers(0, 5, (3, 12))
        pattern = np.tril(draw.random((3, 2, 12, 12)))
        pattern /= pattern.sum(-1, keepdims=True)
        whole = {
            name: of_rows(METRICS[name], torch.tensor(pattern).float(), Context(torch.tensor(ids)))
            for name in ROWS
        }
        for row in range(3):
            for head in range(2):
                alone = by_core(pattern[row, head], ids[row].tolist())
                for name in ROWS:
                    assert whole[name][row, head].tolist() == pytest.approx(alone[name], abs=1e-6)


class TestMultiple:
    def test_a_uniform_head_has_multiple_one_everywhere(self) -> None:
        """In float32 as well, where 1/n * n is not always 1."""
        for n in (1, 2, 3, 41, 49, 97, 128, 500):
            pattern = torch.softmax(torch.zeros(n, n).masked_fill(~causal(n), -1e30), -1)
            scores = multiple(pattern, torch.arange(1, n + 1))
            mine = oracle.multiples(pattern.double().numpy())
            seen = causal(n)
            assert torch.allclose(scores[seen], torch.ones(1), rtol=0, atol=1e-6)
            assert np.allclose(mine[seen.numpy()], 1, rtol=0, atol=1e-6)
            assert (scores[~seen] == 0).all()
            assert not (scores > 1).any()

    def test_a_hard_head_has_the_length_of_its_row(self) -> None:
        pattern = torch.tensor(previous(6), dtype=torch.float32)
        scores = multiple(pattern, torch.arange(1, 7))
        assert scores[4].tolist() == [0, 0, 0, 5, 0, 0]
        np.testing.assert_allclose(scores.numpy(), oracle.multiples(pattern.numpy()), atol=1e-6)

    def test_the_sink_is_not_renormalised_away(self) -> None:
        """A row that rests at 99.9 % has small multiples elsewhere."""
        pattern = torch.tensor([[0.999, 0.0007, 0.0002, 0.0001]])
        scores = multiple(pattern, torch.tensor([4]))[0]
        assert scores.tolist() == pytest.approx([3.996, 0.0028, 0.0008, 0.0004])


def entries(ids: list[list[int]], places: list[int], keys: list[int] | None = None) -> list[Entry]:
    """One window a document, its place in the corpus for both; every id is a token of its own."""
    keys = keys or [77 + place for place in places]
    return [
        Entry(row, [str(i) for i in row], row, place, place, key)
        for row, place, key in zip(ids, places, keys, strict=True)
    ]


def causal(n: int) -> torch.Tensor:
    return torch.tril(torch.ones(n, n)).bool()


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
        batch = Batch.make(entries(ids, places or list(range(len(ids)))), min_row=min_row, seed=0)
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
            name: float(tally.sums[i, 0]) / SCALES.get(name, 2**32) / float(tally.rows[0])
            for i, name in enumerate(SUMS)
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
                batch = Batch.make(entries([ids[i] for i in part], part), min_row=5, seed=0)
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
    def test_every_pair_is_kept_equally_often(self) -> None:
        """Chi-square of how often each of N pairs is among k kept, over many seeds."""
        n, k, seeds = 14, 12, 600
        pattern = torch.tensor(previous(n), dtype=torch.float32)
        pattern = 0.5 * pattern + 0.5 * torch.eye(n)
        ids = [list(range(n)), list(range(30, 30 + n)), list(range(60, 60 + n))]
        keys = [0x123456789ABCDEF, 0x0FEDCBA98765432, 0x5A5A5A5A5A5A5A5]
        counts: dict[int, int] = {}
        for seed in range(seeds):
            tally = LayerTally(1, n, 200, Limits(1, k, 1, 0))
            batch = Batch.make(entries(ids, [0, 1, 2], keys), min_row=4, seed=seed)
            tally.add(pattern.expand(3, 1, n, n).clone(), torch.arange(1, n + 1)[None], batch)
            lists = tally.finish(0).kept
            kept = lists.place[lists.group == LISTS.index("sample")].tolist()
            assert len(kept) == k
            for place in kept:
                counts[place] = counts.get(place, 0) + 1
        total = 3 * (n - 4) * 2
        assert int(tally.pairs[0]) == total
        expected = seeds * k / total
        spread = expected * (1 - k / total)
        seen = [*counts.values(), *[0] * (total - len(counts))]
        chi = sum((count - expected) ** 2 for count in seen) / spread
        # Mean total - 1, standard deviation about sqrt(2 * total): five of them either way.
        assert abs(chi - (total - 1)) < 5 * math.sqrt(2 * total)

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


class TestRandomMetrics:
    def test_sequences_say_the_same_tokens_twice(self) -> None:
        vocabulary = np.arange(5, 300)
        for bos in (1, None):
            ids = repeated.random_sequences(vocabulary, bos, n=6, seed=3)
            start = 0 if bos is None else 1
            assert ids.shape == (6, start + 100)
            if bos is not None:
                assert (ids[:, 0] == bos).all()
            assert (ids[:, start : start + 50] == ids[:, start + 50 :]).all()
            assert np.isin(ids[:, start:], vocabulary).all()
            assert len({tuple(row) for row in ids.tolist()}) == 6

    def test_the_seed_decides(self) -> None:
        vocabulary = np.arange(5, 300)
        one = repeated.random_sequences(vocabulary, None, seed=1)
        assert (one == repeated.random_sequences(vocabulary, None, seed=1)).all()
        assert (one != repeated.random_sequences(vocabulary, None, seed=2)).any()

    @pytest.mark.parametrize("bos", [0, 1])
    @pytest.mark.parametrize("name", RANDOM)
    def test_a_head_that_does_just_that(self, name: str, bos: int) -> None:
        length = 6
        offset = {
            "induction_random": length - 1,
            "duplicate_random": length,
            "previous_random": 1,
        }[name]
        n = bos + 2 * length
        # In the first copy it does something else, which must not count.
        pattern = looks_at([dst - offset if dst >= bos + length else dst for dst in range(n)])
        ids = list(range(90, 90 + bos)) + list(range(length)) * 2
        mine = oracle.random_numbers([oracle.Text(0, ids, pattern[None, None])], 0, 0)
        core = repeated.random_metrics(
            torch.tensor(pattern, dtype=torch.float32)[None, None], length
        )
        assert set(core) == set(RANDOM)
        for other in RANDOM:
            assert mine[other] == pytest.approx(float(other == name))
            assert float(core[other][0]) == pytest.approx(float(other == name))


class TestTable:
    def test_every_metric_of_the_issue_is_there_and_described(self) -> None:
        assert set(METRICS) >= {*ROWS, *RANDOM}
        for name, metric in METRICS.items():
            assert metric.name == name
            for text in (metric.title, metric.unit, metric.text, metric.formula, metric.warning):
                assert text
                assert "\n" not in text
            low, high = metric.low_high
            assert low == 0
            assert high is None or high > low

    def test_metrics_import_without_torch(self) -> None:
        code = "import sys, attn.metrics, attn.scores; print('torch' in sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "False"
