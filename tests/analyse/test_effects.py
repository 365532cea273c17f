"""Effects of heads against brute force: whole passes of plain transformers, one a head."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from attn.analyse.effects import run
from attn.analyse.effects.merge import agreement, spearman
from attn.analyse.effects.passes import Batch, Passes, Place
from attn.analyse.effects.plan import Plan, strongest
from attn.analyse.effects.run import measure
from attn.corpus.corpus import load_corpus
from attn.errors import EffectsError, HeadError
from attn.heads import HeadId
from attn.index.documents import read_documents
from attn.index.effects import Measured, find_effects, read_effects
from attn.index.index import Index
from attn.index.parts import Parts
from attn.models.session import load_model
from attn.scan.plan import Plan as ScanPlan
from attn.scan.run import scan
from tests.architectures import ALL, D_HEAD, HEADS, Architecture, blocks, plain_model, save
from tests.conftest import DOCUMENTS, check_sentence, contents

LAYERS = 2
EVERY = tuple(HeadId(layer, head) for layer in range(LAYERS) for head in range(HEADS))
TEXTS = (*DOCUMENTS[:3], *DOCUMENTS[4:9], DOCUMENTS[0], DOCUMENTS[10])


@dataclass(frozen=True)
class Made:
    """A tiny model, an index of it, and plain eager transformers."""

    kind: Architecture
    session: Any
    index: Index
    plain: Any

    def outputs(self) -> list[Any]:
        return [block.get_submodule(self.kind.output) for block in blocks(self.plain)]

    def losses(self, ids: list[int]) -> np.ndarray:
        """(token,) float64: the loss of every token but the first."""
        with torch.no_grad():
            logits = self.plain(torch.tensor([ids]), use_cache=False).logits[0].double()
        return cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none").numpy()

    def windows(self, documents: np.ndarray) -> list[Any]:
        """The index's windows of some documents, as kept; each with all its tokens."""
        some = [one for group in read_documents(self.index.path) for one in group]
        return [one for one in some if one.document in documents]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """Name of an architecture, with settings of the scan → it, made once."""

    @cache
    def make(name: str, **settings: Any) -> Made:
        kind, folder = ALL[name], tmp_path_factory.mktemp(name)
        save(kind, folder)
        texts = folder / "texts.txt"
        texts.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
        session = load_model(str(folder), device="cpu")
        plan = ScanPlan(**{"ctx": 32, "min_row": 3, **settings})
        index = Index.open(scan(session, load_corpus(str(texts)), plan, out=folder / "out"))
        return Made(kind, session, index, plain_model(kind, folder))

    return make


@pytest.fixture
def apart(made: Callable[..., Made], tmp_path: Path) -> Made:
    """The tiny GPT-2 with a copy of its index in a folder of its own."""
    one = made("gpt2")
    folder = tmp_path / one.index.path.name
    shutil.copytree(one.index.path, folder)
    return Made(one.kind, one.session, Index.open(folder), one.plain)


def brute_force(one: Made, documents: np.ndarray, overlap: int) -> dict[HeadId, Any]:
    """Head → {(document, start, position): change}, by a whole plain pass for each head."""
    windows = one.windows(documents)
    total = [torch.zeros(HEADS * D_HEAD, dtype=torch.float64) for _ in range(LAYERS)]
    positions = 0
    for window in windows:
        first = overlap if window.start else 0
        positions += len(window.ids) - first
        handles = [
            output.register_forward_pre_hook(
                lambda _, args, s=total[layer], first=first: _add(s, args[0][0, first:])
            )
            for layer, output in enumerate(one.outputs())
        ]
        one.losses(window.ids)
        for handle in handles:
            handle.remove()
    found: dict[HeadId, Any] = {}
    for head in EVERY:
        some = slice(head.head * D_HEAD, (head.head + 1) * D_HEAD)
        mean = (total[head.layer][some] / positions).float()

        def ablate(_: Any, args: Any, some: slice = some, mean: Any = mean) -> Any:
            z = args[0].clone()
            z[..., some] = mean
            return (z,)

        found[head] = {}
        for window in windows:
            first = max(overlap if window.start else 0, 1)
            before = one.losses(window.ids)
            handle = one.outputs()[head.layer].register_forward_pre_hook(ablate)
            change = one.losses(window.ids) - before
            handle.remove()
            for position in range(first, len(window.ids)):
                place = window.document, window.start, position
                found[head][place] = change[position - 1]
    return found


def _add(total: torch.Tensor, z: torch.Tensor) -> None:
    total += z.double().sum(0)


def no_model() -> Any:
    raise AssertionError("there was nothing to do")


class TestExact:
    @pytest.mark.parametrize(
        ("name", "settings"),
        [
            ("gpt2", {}),
            ("llama", {}),
            ("bloom", {}),
            ("gpt-neox", {}),
            ("llama", {"all_windows": True, "stride": 20}),
        ],
    )
    def test_equals_whole_passes_of_plain_transformers(
        self, made: Callable[..., Made], name: str, settings: dict[str, Any]
    ) -> None:
        """Means, losses of every token, and their mean, with no layer left out anywhere."""
        one = made(name, **settings)
        if settings:
            assert one.index.manifest.windows > one.index.manifest.documents
        plan = Plan(docs=100, exact=0, heads=EVERY, top=10_000)
        found = measure(one.index, lambda: one.session, plan)
        documents = plan.documents(one.index)
        assert len(documents) == len(TEXTS) - 1  # one text comes twice
        theirs = brute_force(one, documents, one.index.manifest.overlap)
        for head, changes in theirs.items():
            assert found.exact[head.layer, head.head] == pytest.approx(
                np.mean([*changes.values()]), abs=1e-5
            )
            rising = {place: change for place, change in changes.items() if change > 1e-4}
            kept = {(n.document, n.start, n.position): n.change for n in found.needed(head)}
            assert rising.keys() <= kept.keys()
            for place, change in kept.items():
                assert change == pytest.approx(changes[place], abs=1e-4)
        assert found.measured.tokens == len(theirs[EVERY[0]])
        assert np.abs(found.exact).min() > 1e-4

    def test_lower_layers_are_not_run_again(self, made: Callable[..., Made]) -> None:
        one = made("gpt2")
        passes = Passes(one.session)
        batch = Batch.make([Place(0, 0, list(range(20, 40)), 0)], "cpu")
        ran: list[int] = []
        inside = [block.output for block in passes.blocks]
        with passes.running(grad=False):
            whole = passes.unablated(batch)
            handles = [
                output.register_forward_hook(lambda *_, layer=layer: ran.append(layer))
                for layer, output in enumerate(inside)
            ]
            whole.without(HeadId(1, 2), torch.zeros(D_HEAD))
            assert ran == [1]
            whole.without(HeadId(0, 2), torch.zeros(D_HEAD))
            assert ran == [1, 0, 1]
            for handle in handles:
                handle.remove()
            assert torch.equal(passes.losses(batch), whole.losses)  # the model is as it was

    def test_the_most_needed_come_first(self, made: Callable[..., Made]) -> None:
        one = made("llama")
        every = measure(
            one.index, lambda: one.session, Plan(docs=100, exact=0, heads=EVERY, top=10_000)
        )
        few = measure(one.index, lambda: one.session, Plan(docs=100, exact=0, heads=EVERY, top=7))
        for head in EVERY:
            assert few.needed(head) == every.needed(head)[:7]
            changes = [needed.change for needed in every.needed(head)]
            assert changes == sorted(changes, reverse=True)
            assert changes[-1] > 0


class TestEstimate:
    @pytest.mark.parametrize("name", ["gpt2", "llama", "bloom", "gemma2", "falcon"])
    def test_is_the_slope_towards_the_mean(self, made: Callable[..., Made], name: str) -> None:
        """A small step of one head's output towards its mean changes the loss by as much."""
        one = made(name)
        found = measure(one.index, lambda: one.session, Plan(docs=100, exact=0))
        windows = one.windows(Plan(docs=100).documents(one.index))
        plain = one.plain.double()
        try:
            means = _means(one, windows)
            for head in EVERY[::3]:
                some = slice(head.head * D_HEAD, (head.head + 1) * D_HEAD)
                losses = []
                for step in (-1e-3, 1e-3):

                    def move(
                        _: Any, args: Any, some: slice = some, step: float = step,
                        mean: Any = means[head.layer],
                    ) -> Any:  # fmt: skip
                        z = args[0].clone()
                        z[..., some] += step * (mean - z)[..., some]
                        return (z,)

                    handle = one.outputs()[head.layer].register_forward_pre_hook(move)
                    losses.append(sum(one.losses(window.ids).sum() for window in windows))
                    handle.remove()
                slope = (losses[1] - losses[0]) / 2e-3 / found.measured.tokens
                assert found.estimate[head.layer, head.head] == pytest.approx(
                    slope, rel=2e-3, abs=2e-5
                )
        finally:
            plain.float()

    def test_is_exact_where_the_loss_is_linear(self, made: Callable[..., Made]) -> None:
        """Of a head whose output hardly differs from its mean, and not of others."""
        one = made("gpt2")
        output = one.session.anatomy.blocks[1].output.weight
        some = slice(3 * D_HEAD, 4 * D_HEAD)
        passes = Passes(one.session)
        ids = [int(i) for i in np.random.default_rng(0).integers(10, one.session.n_vocab, 30)]
        batch = Batch.make([Place(0, 0, ids, 0)], "cpu")
        kept = output.detach().clone()
        off = {}
        try:
            for scale in (1.0, 1e-2):
                with torch.no_grad():
                    output[some] = scale * kept[some]
                with passes.running(grad=True):
                    found = passes.estimate(batch)
                mean = (found.mean_sum / found.positions)[1, 3]
                estimate = float((found.gradient[0, 1, 3] @ mean) - found.product[0, 1, 3])
                with passes.running(grad=False):
                    exact = float(passes.unablated(batch).without(HeadId(1, 3), mean).sum())
                off[scale] = abs(estimate - exact) / abs(exact)
        finally:
            with torch.no_grad():
                output.copy_(kept)
        assert off[1e-2] < 0.03
        assert off[1.0] > 5 * off[1e-2]

    def test_leaves_the_model_as_it_was(self, made: Callable[..., Made]) -> None:
        one = made("gpt2")

        def hooks() -> int:
            modules = one.session.hf.modules()
            return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in modules)

        before = hooks()
        passes = Passes(one.session)
        batch = Batch.make([Place(0, 0, list(range(20, 40)), 0)], "cpu")
        with passes.running(grad=True):
            passes.estimate(batch)
            assert not any(p.requires_grad for p in one.session.hf.parameters())
        assert all(p.requires_grad and p.grad is None for p in one.session.hf.parameters())
        assert hooks() == before

    def test_layers_without_attention_have_none(self, made: Callable[..., Made]) -> None:
        one = made("lfm2")
        found = measure(one.index, lambda: one.session, Plan(docs=4, exact=2))
        assert np.isnan(found.estimate[0]).all()
        assert np.isfinite(found.effect[1]).all()
        assert {head.layer for head in found.ranked()} == {1}
        assert found.rank(HeadId(0, 0)) is None
        with pytest.raises(HeadError, match="no attention"):
            measure(one.index, no_model, Plan(heads=(HeadId(0, 1),)))


def _means(one: Made, windows: list[Any]) -> list[torch.Tensor]:
    sums = [torch.zeros(HEADS * D_HEAD, dtype=torch.float64) for _ in range(LAYERS)]
    for window in windows:
        handles = [
            output.register_forward_pre_hook(lambda _, args, s=s: _add(s, args[0][0]))
            for s, output in zip(sums, one.outputs(), strict=True)
        ]
        one.losses(window.ids)
        for handle in handles:
            handle.remove()
    return [s / sum(len(window.ids) for window in windows) for s in sums]


class TestIntervals:
    def test_hold_the_effect_and_shrink_with_documents(self, made: Callable[..., Made]) -> None:
        one = made("llama")
        few, many = (
            measure(one.index, lambda: one.session, Plan(docs=docs, exact=8)) for docs in (3, 9)
        )
        for found in (few, many):
            assert (found.low <= found.effect).all()
            assert (found.effect <= found.high).all()
        assert (many.high - many.low).mean() < (few.high - few.low).mean()

    def test_one_document_says_nothing_of_others(self, made: Callable[..., Made]) -> None:
        one = made("llama")
        found = measure(one.index, lambda: one.session, Plan(docs=1, exact=1))
        assert np.isnan(found.low).all()
        assert found.record(HeadId(0, 0))["low"] is None


class TestKept:
    def test_the_strongest_and_those_asked_for_are_exact(self, apart: Made) -> None:
        last = HeadId(1, 3)
        found = measure(apart.index, lambda: apart.session, Plan(docs=9, exact=2, heads=(last,)))
        wanted = {last, *strongest(found.estimate, 2)}
        assert {head for head in EVERY if found.is_exact(head)} == wanted
        assert found.measured.exact == len(wanted)
        assert find_effects(apart.index.path, apart.index.manifest).path == found.path  # type: ignore[union-attr]
        for head in EVERY:
            assert bool(found.needed(head)) == (head in wanted)

    def test_more_heads_later_keep_what_is_there(self, apart: Made) -> None:
        plan = Plan(docs=9, exact=0, heads=(HeadId(0, 1),))
        first = measure(apart.index, lambda: apart.session, plan)
        more = Plan(docs=9, exact=0, heads=(HeadId(1, 1),))
        both = measure(apart.index, lambda: apart.session, more)
        assert both.path == first.path
        assert both.is_exact(HeadId(0, 1))
        assert both.is_exact(HeadId(1, 1))
        assert both.exact[0, 1] == first.exact[0, 1]
        assert measure(apart.index, no_model, plan).measured == both.measured

    def test_killed_and_said_again_it_gives_the_same_bytes(
        self, apart: Made, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stopped before every commit in turn: each run adds one part, the last one the result."""
        monkeypatch.setattr(run, "SHARD", 4)
        plan = Plan(docs=9, exact=2)
        whole = measure(apart.index, lambda: apart.session, plan)
        results = {name: data for name, data in contents(whole.path).items() if "parts" not in name}
        assert len(results) == 2
        shutil.rmtree(whole.path)
        commit, left = Parts.commit, [0]

        def one_more(self: Parts, name: str, arrays: Any) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            commit(self, name, arrays)

        monkeypatch.setattr(Parts, "commit", one_more)
        kills = 0
        while True:
            left[0] = 1
            try:
                found = measure(apart.index, lambda: apart.session, plan)
                break
            except KeyboardInterrupt:
                kills += 1
                assert find_effects(apart.index.path, apart.index.manifest) is None
        assert kills == 3 + 3 * 2 - 1  # a part a shard, then one for each of two heads
        again = {name: data for name, data in contents(found.path).items() if "parts" not in name}
        assert again == results

    def test_a_damaged_part_is_made_again(self, apart: Made) -> None:
        plan = Plan(docs=9, exact=1)
        first = measure(apart.index, lambda: apart.session, plan)
        before = contents(first.path)
        part = next(first.path.glob("parts/all.*.safetensors"))
        part.write_bytes(part.read_bytes()[:-1] + b"\0\0")
        (first.path / "effects.json").unlink()
        measure(apart.index, lambda: apart.session, plan)
        assert contents(first.path) == before

    def test_a_damaged_result_is_refused(self, apart: Made) -> None:
        found = measure(apart.index, lambda: apart.session, Plan(docs=2, exact=1))
        table = next(found.path.glob("*.parquet"))
        for file in (table, found.path / "effects.json"):
            good = file.read_bytes()
            file.write_bytes(good.replace(b"1", b"2"))
            with pytest.raises(EffectsError, match="damaged") as caught:
                find_effects(apart.index.path, apart.index.manifest)
            check_sentence(caught.value)
            file.write_bytes(good)
        assert read_effects(found.path).measured == found.measured

    def test_another_index_has_none(self, apart: Made, made: Callable[..., Made]) -> None:
        measure(apart.index, lambda: apart.session, Plan(docs=2, exact=0))
        other = made("llama").index.manifest
        assert find_effects(apart.index.path, other) is None


class TestRefused:
    def test_masked_models(self, made: Callable[..., Made]) -> None:
        with pytest.raises(EffectsError, match="predicts no next token") as caught:
            measure(made("bert").index, no_model)
        check_sentence(caught.value)

    def test_half_precision(self, made: Callable[..., Made], tmp_path: Path) -> None:
        folder = save(ALL["gpt2"], tmp_path / "model")
        (tmp_path / "texts.txt").write_text("the cat sat on the mat and the dog sat there\n")
        session = load_model(str(folder), device="cpu", dtype="bfloat16")
        plan = ScanPlan(ctx=32, min_row=3)
        corpus = load_corpus(str(tmp_path / "texts.txt"))
        index = Index.open(scan(session, corpus, plan, out=tmp_path))
        with pytest.raises(EffectsError, match="--dtype float32") as caught:
            measure(index, no_model)
        check_sentence(caught.value)

    def test_heads_that_are_not_there(self, made: Callable[..., Made]) -> None:
        with pytest.raises(HeadError):
            measure(made("gpt2").index, no_model, Plan(heads=(HeadId(2, 0),)))


def test_spearman() -> None:
    one = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert spearman(one, one**3) == pytest.approx(1)
    assert spearman(one, -np.exp(one)) == pytest.approx(-1)
    ties = np.array([2.0, 1.0, 4.0, 4.0, 5.0])  # ranks 2, 1, 3.5, 3.5, 5
    assert spearman(one, ties) == pytest.approx(
        np.corrcoef([1, 2, 3, 4, 5], [2, 1, 3.5, 3.5, 5])[0, 1]
    )
    assert spearman(one[:2], one[:2]) is None
    assert spearman(one, np.ones(5)) is None


def test_agreement_says_how_far_estimates_are_off() -> None:
    found = agreement(np.array([1.0, 2.0, 0.0]), np.array([2.0, 4.0, -1.0]))
    assert found == {
        "spearman": pytest.approx(1),
        "off": pytest.approx(4 / 3),
        "bias": pytest.approx(-2 / 3),
        "size": pytest.approx(7 / 3),
    }
    assert set(agreement(np.zeros(0), np.zeros(0)).values()) == {None}
    measured = Measured("", "", 1, 1, 1, 1.0, 1, 3, **found)  # type: ignore[arg-type]
    assert "correlation of 1.00, and are off by 1.3333 nats" in measured.agreement
    assert "(0.6667 too low on balance), where the effects are 2.3333." in measured.agreement
