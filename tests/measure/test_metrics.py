"""attn/measure/metrics.py and the oracle on hand-made heads whose answer can be seen."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from attn.corpus.tokens import is_punctuation
from attn.measure import random_tokens
from attn.measure.masks import Context
from attn.measure.metrics import metrics, of_kind, of_rows
from attn.measure.scores import multiple
from tests import oracle
from tests.patterns import identity, looks_at, previous, rest, uniform

A, B, C, D = 10, 11, 12, 13
DERIVED = ("prefix_matching", "entropy_share", "spread", "sink_write", "previous_write")
RANDOM = ("induction_random", "duplicate_random", "previous_random")
OF_MODEL = (*RANDOM, *of_kind("weights"), *of_kind("probe"))
ROWS = tuple(name for name in metrics() if name not in (*DERIVED, *OF_MODEL))


def context_of(ids: list[int], shown: list[str] | None = None) -> Context:
    """What the metrics know of one sequence."""
    if shown is None:
        return Context(torch.tensor([ids]))
    return Context(
        torch.tensor([ids]),
        torch.tensor([[is_punctuation(text) for text in shown]]),
        torch.tensor([oracle.words_of_texts(shown)]),
    )


def by_core(
    pattern: np.ndarray, ids: list[int], shown: list[str] | None = None
) -> dict[str, list[float]]:
    """Metric → its value in each row, by attn.measure.metrics."""
    tensor = torch.tensor(pattern, dtype=torch.float32)[None, None]
    context = context_of(ids, shown)
    found = {}
    for name in ROWS:
        values = of_rows(metrics()[name], tensor, context)
        assert tuple(values.shape) == (1, 1, len(ids))
        found[name] = values[0, 0].tolist()
    return found


def by_oracle(
    pattern: np.ndarray, ids: list[int], shown: list[str] | None = None
) -> dict[str, list[float]]:
    """The same by the oracle."""
    words = oracle.words_of_texts(shown) if shown else ()
    rows = [
        oracle.row_numbers(pattern, ids, dst, shown=shown or (), words=words)
        for dst in range(len(ids))
    ]
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


SHOWN = ["<s>", "Un", "believ", "able", ",", " said", " she", ".\n", "x2", "y", "\n"]
# Words: <s> | Un believ able | , | said | she | . | x2 y | line end
READS: dict[str, tuple[np.ndarray, dict[str, list[float]]]] = {
    # Row dst gives 1/2 to itself and 1/2 to the token before it.
    "half before": (
        0.5 * identity(11) + 0.5 * previous(11),
        {
            "same_word": [0, 0, 0.5, 0.5, 0, 0, 0, 0, 0, 0.5, 0],
            "punctuation": [0, 0, 0, 0, 0.5, 0.5, 0, 0.5, 0.5, 0, 0.5],
            "concentration": [1] + [0.5] * 10,
        },
    ),
    # The first piece of the word, from its later ones; the comma, the stop, from what follows.
    "first piece": (
        looks_at([0, 1, 1, 1, 4, 4, 4, 4, 7, 8, 7]),
        {
            "same_word": [0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0],
            "punctuation": [0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 1],
            "concentration": [1] * 11,
        },
    ),
    # The first position is never a mark, nor a piece of a word here.
    "rest": (rest(11), {"same_word": [0] * 11, "punctuation": [0] * 11}),
}


class TestReading:
    """Metrics that ask what tokens read, and those of one place."""

    @pytest.mark.parametrize("case", READS)
    @pytest.mark.parametrize("by", [by_core, by_oracle])
    def test_hand_made_heads(self, case: str, by: Any) -> None:
        pattern, wanted = READS[case]
        got = by(pattern, list(range(20, 31)), SHOWN)
        for name, values in wanted.items():
            assert got[name] == pytest.approx(values, abs=1e-6), name

    def test_a_first_position_that_is_a_mark_is_no_mark(self) -> None:
        for by in (by_core, by_oracle):
            assert by(rest(3), [1, 2, 3], [",", "a", "b"])["punctuation"] == [0, 0, 0]

    @pytest.mark.parametrize("by", [by_core, by_oracle])
    @pytest.mark.parametrize("k", range(2, 9))
    def test_offsets(self, by: Any, k: int) -> None:
        """A head that looks k back does nothing else, and nothing in its first k rows."""
        got = by(looks_at([max(dst - k, 0) for dst in range(12)]), list(range(20, 32)))
        for other in range(2, 9):
            wanted = [float(dst == other) for dst in range(k)]  # the first rows look at 0
            wanted += [float(other == k)] * (12 - k)
            assert got[f"offset_{other}"] == pytest.approx(wanted)

    def test_both_agree_on_random_patterns(self) -> None:
        draw = np.random.default_rng(2)
        for _ in range(5):
            n = int(draw.integers(2, 30))
            shown = [SHOWN[i] for i in draw.integers(0, len(SHOWN), n)]
            ids = draw.integers(0, 6, n).tolist()
            pattern = np.tril(draw.random((n, n)) ** 4)
            pattern /= pattern.sum(1, keepdims=True)
            core, mine = by_core(pattern, ids, shown), by_oracle(pattern, ids, shown)
            for name in ROWS:
                assert core[name] == pytest.approx(mine[name], rel=1e-5, abs=1e-6), name


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
            name: of_rows(
                metrics()[name], torch.tensor(pattern).float(), Context(torch.tensor(ids))
            )
            for name in ROWS
        }
        for row in range(3):
            for head in range(2):
                alone = by_core(pattern[row, head], ids[row].tolist())
                for name in ROWS:
                    assert whole[name][row, head].tolist() == pytest.approx(alone[name], abs=1e-6)


def causal(n: int) -> torch.Tensor:
    return torch.tril(torch.ones(n, n)).bool()


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


class TestRandomMetrics:
    def test_sequences_say_the_same_tokens_twice(self) -> None:
        vocabulary = np.arange(5, 300)
        for bos in (1, None):
            ids = random_tokens.random_sequences(vocabulary, bos, n=6, seed=3)
            start = 0 if bos is None else 1
            assert ids.shape == (6, start + 100)
            if bos is not None:
                assert (ids[:, 0] == bos).all()
            assert (ids[:, start : start + 50] == ids[:, start + 50 :]).all()
            assert np.isin(ids[:, start:], vocabulary).all()
            assert len({tuple(row) for row in ids.tolist()}) == 6

    def test_the_seed_decides(self) -> None:
        vocabulary = np.arange(5, 300)
        one = random_tokens.random_sequences(vocabulary, None, seed=1)
        assert (one == random_tokens.random_sequences(vocabulary, None, seed=1)).all()
        assert (one != random_tokens.random_sequences(vocabulary, None, seed=2)).any()

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
        core = random_tokens.random_metrics(
            torch.tensor(pattern, dtype=torch.float32)[None, None], length
        )
        assert set(core) == set(RANDOM)
        for other in RANDOM:
            assert mine[other] == pytest.approx(float(other == name))
            assert float(core[other][0]) == pytest.approx(float(other == name))


class TestTable:
    def test_every_metric_of_the_issue_is_there_and_described(self) -> None:
        assert set(metrics()) == {*ROWS, *DERIVED, *OF_MODEL}
        lows = {"copying": -1, "ov_rank": 1, "qk_rank": 1, "name_effect": -np.inf}
        offsets = {f"offset_{k}" for k in range(2, 9)}
        assert set(ROWS) == offsets | {
            "self", "previous", "sink", "duplicate", "induction", "punctuation", "separator",
            "same_word", "entropy", "concentration", "distance",
        }  # fmt: skip
        for name, metric in metrics().items():
            assert metric.name == name
            for text in (metric.title, metric.unit, metric.text, metric.formula, metric.warning):
                assert text
                assert "\n" not in text
            low, high = metric.low_high
            assert low == lows.get(name, 0)
            assert high is None or high > low

    def test_metrics_import_without_torch(self) -> None:
        code = (
            "import sys, attn.measure.metrics, attn.measure.scores; print('torch' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "False"
