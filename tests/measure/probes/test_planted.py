"""Heads set by hand to play a role perfectly, and heads beside them that play none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attn.measure.metrics import NotMeasured
from attn.measure.probes import copy_suppression, names, retrieval, successors
from attn.measure.probes.model import ProbedModel
from tests.measure.probes.planting import TEXTS, plant, save_words

pytestmark = pytest.mark.usefixtures("_no_grad")


@pytest.fixture
def _no_grad() -> object:
    import torch

    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> ProbedModel:
    """A planted model whose heads do nothing, for its words."""
    return ProbedModel(plant(tmp_path_factory.mktemp("words"), {}, {}))


def test_successor(words: ProbedModel, tmp_path: Path) -> None:
    size = words.session.n_vocab
    step = np.zeros((size, size))
    for one in successors.lists(words).values():
        for place, after in one.follows.items():
            step[one.ids[place], one.ids[after]] = 1.0
    model = ProbedModel(plant(tmp_path, {}, {(0, 1): step, (1, 0): 1.0, (1, 1): step.T}))
    found = successors.successor(model)
    assert found[0, 1] == 1.0
    assert found[1, 0] == 0.0  # each token itself
    assert found[1, 1] < 0.1  # the one before


def test_name_mover_and_s_inhibition(
    words: ProbedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "SENTENCES", 1)
    (one,) = names.sentences(words)
    assert [words.session.tokenizer.decode([i]) for i in (one.right, one.wrong)] == [
        " Mary",
        " John",
    ]
    looks = {(0, 0): {one.last: one.right_at}, (0, 1): {one.last: one.s2_at}}
    looks[1, 0] = looks[0, 0]
    moves: dict[tuple[int, int], np.ndarray | float] = {(0, 0): 1.0, (0, 1): -1.0, (1, 0): -1.0}
    model = ProbedModel(plant(tmp_path, looks, moves))
    mover, effect = names.name_mover(model), names.name_effect(model)
    np.testing.assert_allclose(mover, [[1, 0], [0, 0]], atol=1e-3)  # L1H0 looks, and writes against
    np.testing.assert_allclose(names.s_inhibition(model), [[0, 1], [0, 0]], atol=1e-3)
    assert effect[0, 0] > 1
    assert effect[0, 1] > 1  # takes the wrong name down
    assert effect[1, 0] < -1
    assert effect[1, 1] == pytest.approx(0, abs=1e-4)


def test_copy_suppression(words: ProbedModel, tmp_path: Path) -> None:
    ids, rows, sources = copy_suppression.rows_and_sources(words)
    assert all(
        ids[i, at + 1] == ids[i, source] for (i, at), source in zip(rows, sources, strict=True)
    )
    there = {int(dst): int(src) for (_, dst), src in zip(rows, sources, strict=True)}
    looks = {(0, 0): there, (0, 1): there, (1, 0): there, (1, 1): there}
    moves: dict[tuple[int, int], np.ndarray | float] = {
        (0, 0): 0.2, (0, 1): -0.02, (1, 0): -0.02, (1, 1): 0.02
    }  # fmt: skip
    found = copy_suppression.copy_suppression(ProbedModel(plant(tmp_path, looks, moves)))
    # Before layer 0 nothing is predicted; L1H1 looks there too but raises the token.
    np.testing.assert_allclose(found, [[0, 0], [1, 0]], atol=1e-3)


def test_a_model_that_does_not_repeat_has_no_copy_suppression(words: ProbedModel) -> None:
    with pytest.raises(NotMeasured, match="in 0 of 17 places"):
        copy_suppression.copy_suppression(words)


def test_retrieval(words: ProbedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "NEEDLES", retrieval.NEEDLES[:1])
    (one,) = retrieval.runs(words)
    tokens = words.session.tokenizer.decode(one.ids)
    assert tokens.count(retrieval.NEEDLES[0][0]) == 1  # planted whole; the answer lacks its end
    assert tokens.endswith("by the old well")
    there = {int(row): one.start + k for k, row in enumerate(one.rows)}
    half = {row: src for k, (row, src) in enumerate(there.items()) if k % 2}
    late = {row: src + 1 for row, src in there.items()}  # the token after the one to come
    looks = {(0, 0): there, (0, 1): half, (1, 0): late}
    found = retrieval.retrieval(ProbedModel(plant(tmp_path, looks, {(0, 0): 0.2})))
    assert found[0, 0] == 1.0
    assert found[0, 1] == pytest.approx(one.length // 2 / one.length)
    repeated = sum(a == b for a, b in zip(one.answer, one.answer[1:], strict=False))
    assert found[1, 0] == repeated / one.length == 0.0
    assert found[1, 1] == 0.0


def test_a_model_that_cannot_copy_has_no_retrieval(words: ProbedModel) -> None:
    with pytest.raises(NotMeasured, match="in 0 of 3 texts"):
        retrieval.retrieval(words)


class TestWithoutWords:
    @pytest.fixture
    def dumb(
        self, tmp_path: Path, words: ProbedModel, monkeypatch: pytest.MonkeyPatch
    ) -> ProbedModel:
        """The model with a tokenizer that knows three names, two days and no sentence."""
        from transformers import AutoTokenizer

        from attn.models.text import TextEncoder

        save_words(tmp_path, ("and", " Mary", " John", " Anna", " Monday", " Tuesday"))
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
        text = TextEncoder(tokenizer, "dumb", False)
        monkeypatch.setattr(words.session, "tokenizer", tokenizer)
        monkeypatch.setattr(words.session, "encode_bare", text.encode_bare)
        return ProbedModel(words.session)

    def test_words_with_a_space_alone_count(self, dumb: ProbedModel) -> None:
        assert dumb.word("Mary") == dumb.session.tokenizer.convert_tokens_to_ids("ĠMary")
        assert dumb.word("Paul") is None
        assert dumb.word("Mary Mary") is None

    def test_each_says_why(self, dumb: ProbedModel) -> None:
        with pytest.raises(NotMeasured, match="3 of 16 names"):
            names.sentences(dumb)
        with pytest.raises(NotMeasured, match="0 of 8 lists"):
            successors.lists(dumb)
        with pytest.raises(NotMeasured, match="does not know the words"):
            retrieval.runs(dumb)


def test_a_short_context_is_said(words: ProbedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words.session, "n_ctx", 40)
    with pytest.raises(NotMeasured, match="too short"):
        retrieval.runs(words)


def test_all_words_are_there(words: ProbedModel) -> None:
    """The other tests would say little if the planted model lacked most of the words."""
    assert len(TEXTS) > 100
    assert len(successors.lists(words)) == 8
    assert all(words.word(name) is not None for name in names.NAMES)
