"""Every architecture against plain transformers: patterns, masks, writes, and a whole index."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attn.corpus.corpus import load_corpus
from attn.errors import HeadError, ModelError
from attn.heads import HeadId
from attn.index.index import Index
from attn.measure.metrics import metrics, of_kind
from attn.models import interface
from attn.models.session import load_model
from attn.scan.plan import Plan
from attn.scan.run import scan
from tests import oracle, oracle_tables
from tests.architectures import (
    ALL,
    HEADS,
    N_CTX,
    REFUSED,
    WINDOW,
    Architecture,
    plain_model,
    save,
    written,
)
from tests.conftest import DOCUMENTS, Tiny, check_sentence, save_gpt2
from tests.scanned import name_of

CTX = 32  # of the scans, longer than any window
MIN_ROW = 3
LINES = (DOCUMENTS[0], DOCUMENTS[2], DOCUMENTS[4], DOCUMENTS[8], DOCUMENTS[6])


@dataclass(frozen=True)
class Made:
    """One architecture: what it is, a session of it, and plain eager transformers."""

    kind: Architecture
    folder: Path
    session: Any
    plain: Any

    @property
    def layers(self) -> list[int]:
        return [layer for layer in (0, 1) if layer not in self.kind.without]

    def ids(self, n: int, seed: int = 0) -> list[int]:
        """``n`` token ids, none of them special."""
        draw = np.random.default_rng(seed)
        return [int(i) for i in draw.integers(10, self.session.n_vocab, n)]

    def theirs(self, ids: list[int]) -> dict[int, np.ndarray]:
        """layer → (head, dst, src) float64 by plain transformers."""
        with torch.no_grad():
            out = self.plain(torch.tensor([ids]), output_attentions=True, use_cache=False)
        found = [layer[0].double().numpy() for layer in out.attentions if layer is not None]
        return dict(zip(self.layers, found, strict=True))

    def visible(self, layer: int, n: int) -> list[int]:
        """How many sources each row sees, as the architecture's code or paper has it."""
        if self.kind.bidirectional:
            return [n] * n
        return [self.kind.visible[layer](dst) for dst in range(n)]

    def read(self, ids: Any, **more: Any) -> dict[int, Any]:
        """layer → reading."""
        found: dict[int, Any] = {}
        self.session.observe(ids, lambda r: found.__setitem__(r.layer, _copy(r)), **more)
        return found


def _copy(reading: interface.Reading) -> interface.Reading:
    norms = None if reading.norms is None else reading.norms.clone()
    return interface.Reading(reading.layer, reading.pattern.clone(), reading.visible.clone(), norms)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    """Give transformers our own functions back: a test that loads a model with others leaves those
    to every model of the process."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    yield
    AttentionInterface.register(interface.INTERFACE, interface.attend)
    AttentionMaskInterface.register(interface.INTERFACE, eager_mask)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Name of an architecture → it, made and loaded once."""

    @cache
    def made(name: str) -> Made:
        kind = ALL[name]
        folder = save(kind, tmp_path_factory.mktemp(name))
        return Made(kind, folder, load_model(str(folder), device="cpu"), plain_model(kind, folder))

    return made


@pytest.fixture(scope="module", params=ALL)
def model(request: pytest.FixtureRequest, make: Callable[[str], Made]) -> Made:
    """Each architecture in turn."""
    return make(request.param)


class TestReadings:
    @pytest.mark.parametrize("n", [1, WINDOW, WINDOW + 1, N_CTX - 2])
    def test_patterns_equal_plain_eager_attention(self, model: Made, n: int) -> None:
        ids = model.ids(n)
        theirs = model.theirs(ids)
        found = model.read([ids])
        assert list(found) == model.layers
        for layer, reading in found.items():
            assert reading.pattern.shape == (1, HEADS, n, n)
            np.testing.assert_allclose(reading.pattern[0], theirs[layer], rtol=0, atol=1e-5)

    def test_padded_batches_too(self, model: Made) -> None:
        """Padding is any id, here that of a real token, then the padding's and the first."""
        lengths = [N_CTX - 2, 20, 1, WINDOW]
        rows = [model.ids(n, seed) for seed, n in enumerate(lengths)]
        alone = [model.theirs(ids) for ids in rows]
        for padding in (11, 1, 0):
            batch = torch.full((len(rows), max(lengths)), padding)
            for row, ids in zip(batch, rows, strict=True):
                row[: len(ids)] = torch.tensor(ids)
            for layer, reading in model.read(batch, lengths=lengths).items():
                seen = reading.visible.expand(len(rows), -1)
                for i, ids in enumerate(rows):
                    n = len(ids)
                    mine, theirs = reading.pattern[i], alone[i][layer]
                    np.testing.assert_allclose(mine[:, :n, :n], theirs, rtol=0, atol=1e-5)
                    assert not mine[:, :n, n:].any()
                    assert seen[i, :n].tolist() == model.visible(layer, n)

    def test_visible_is_what_the_mask_leaves(self, model: Made) -> None:
        n = N_CTX - 2
        theirs = model.theirs(model.ids(n))
        for layer in model.layers:
            seen = model.session.visible(layer, n).tolist()
            assert seen == (theirs[layer] > 0).any(0).sum(-1).tolist()
            assert seen == model.visible(layer, n)

    def test_norms_are_of_what_values_write(self, model: Made) -> None:
        ids = model.ids(40)
        theirs = written(model.kind, model.plain, ids)
        found = model.read([ids], norms=True)
        assert len(theirs) == len(found)
        for norms, reading in zip(theirs, found.values(), strict=True):
            assert reading.norms.shape == (1, HEADS, len(ids))
            np.testing.assert_allclose(reading.norms[0], norms, rtol=1e-4)

    def test_says_what_it_is(self, model: Made) -> None:
        assert model.session.bidirectional == model.kind.bidirectional
        assert model.session.without_attention == model.kind.without
        tokenizer = plain_tokenizer(model.folder)
        first = tokenizer.cls_token_id if model.kind.bidirectional else tokenizer.bos_token_id
        assert model.session.bos_id == first is not None

    def test_the_whole_context_can_be_used(self, model: Made) -> None:
        """RoBERTa's last positions, for one, are fewer than its configuration says."""
        n = min(model.session.n_ctx, 256)
        ids = model.ids(n)
        theirs = model.theirs(ids)
        for layer, reading in model.read([ids]).items():
            np.testing.assert_allclose(reading.pattern[0], theirs[layer], rtol=0, atol=1e-5)


def plain_tokenizer(folder: Path) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(folder)


@dataclass(frozen=True)
class Scanned:
    """An index of a model, and what it is to hold."""

    model: Made
    index: Index
    texts: list[oracle.Text]

    def pairs(self, head: HeadId) -> list[oracle.Pair]:
        """All pairs above average, and those so near that they may be."""
        return oracle.pairs_above(self.texts, *_at(head), min_row=MIN_ROW, least=1 - oracle.NEAR)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "lines.txt"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def scanned(model: Made, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Scanned:
    plan = Plan(CTX, min_row=MIN_ROW, top=30, sample=30, write=True)
    out = tmp_path_factory.mktemp("index")
    index = Index.open(scan(model.session, load_corpus(str(corpus)), plan, out=out))
    texts = []
    for place, line in enumerate(LINES):
        tokens = model.session.encode(line, limit=CTX)
        ids = tokens.ids.tolist()
        theirs, moved = model.theirs(ids), written(model.kind, model.plain, ids)
        patterns, norms = np.zeros((2, HEADS, len(ids), len(ids))), np.zeros((2, HEADS, len(ids)))
        for i, layer in enumerate(model.layers):
            patterns[layer], norms[layer] = theirs[layer], moved[i]
        seen = patterns.max(1) > 0
        tokenizer, special = model.session.tokenizer, model.session.suffix
        before, after = len(model.session.prefix), len(special)
        names = [tokenizer.convert_ids_to_tokens(i) for i in ids]
        inner = ids[before : len(ids) - after]
        names[before : len(ids) - after] = [name_of(tokenizer, i) for i in inner]
        words = [-1] * before + oracle.words_of(tokenizer, line)[: len(inner)] + [-2] * after
        texts.append(
            oracle.Text(
                place, ids, patterns, seen, tokens.texts, norms, names=names, words=words,
                suffix=after,
            )
        )  # fmt: skip
    return Scanned(model, index, texts)


def one_of_each_layer(scanned: Scanned) -> list[HeadId]:
    return [HeadId(layer, HEADS - 1 - layer) for layer in scanned.model.layers]


class TestIndex:
    def test_counts_and_metrics(self, scanned: Scanned) -> None:
        index = scanned.index
        for head in one_of_each_layer(scanned):
            wanted = oracle.head_numbers(scanned.texts, *_at(head), MIN_ROW)
            assert index.rows(head) == wanted["rows"]
            for name, value in index.numbers(head).items():
                if name not in index.of_model():
                    assert value == pytest.approx(wanted[name], abs=2e-5, rel=1e-4), (head, name)
            pairs = scanned.pairs(head)
            sure = sum(pair.multiple > 1 + oracle.NEAR for pair in pairs)
            assert sure <= index.pairs(head) <= len(pairs)

    def test_budget_and_distances(self, scanned: Scanned) -> None:
        for head in one_of_each_layer(scanned):
            wanted = oracle_tables.budget(scanned.texts, *_at(head), MIN_ROW)
            assert scanned.index.budget(head) == pytest.approx(wanted, abs=2e-5)
            shares = oracle_tables.distances(scanned.texts, *_at(head), MIN_ROW)
            np.testing.assert_allclose(scanned.index.distances(head)[1], shares, atol=2e-5)

    def test_top_lists(self, scanned: Scanned) -> None:
        for head in one_of_each_layer(scanned):
            pairs = scanned.pairs(head)
            for by, score in (
                ("multiple", oracle.by_multiple),
                ("attention", oracle.by_attention),
                ("write", oracle.by_write),
            ):
                oracle.check_ranking(scanned.index.top(head, 30, by=by).examples, pairs, 30, score)
            best = scanned.index.top(head, 30, one_per_document=True)
            oracle.check_ranking(best.examples, pairs, 30, one_per_document=True)
            oracle.check_examples(scanned.index.random(head, 30).examples, pairs)

    def test_token_tables(self, scanned: Scanned) -> None:
        first = scanned.texts[0].shown[0]
        for head in one_of_each_layer(scanned):
            sources, destinations = oracle_tables.token_tables(scanned.texts, *_at(head), MIN_ROW)
            for rows, wanted, even in (
                (scanned.index.sources(head), sources, "even"),
                (scanned.index.destinations(head), destinations, "rows"),
            ):
                got = {row.token: row for row in rows}
                assert set(got) == set(wanted)
                for token, one in wanted.items():
                    if token == first:  # stands at the first position alone, which is left out
                        continue
                    share = one.mass / getattr(one, even) if getattr(one, even) else 0.0
                    assert got[token].mass == pytest.approx(one.mass, rel=1e-4, abs=1e-5)
                    assert got[token].lift == pytest.approx(share, rel=1e-4, abs=1e-5)
                    assert got[token].maximum == pytest.approx(one.maximum, rel=1e-4, abs=1e-5)
                    assert one.least <= got[token].pairs <= one.most, (head, token)

    def test_what_comes_of_the_model_alone(self, scanned: Scanned) -> None:
        names = scanned.index.of_model()
        assert {*of_kind("weights"), "induction_random", "ov_singular", "q_heads"} <= set(names)
        for name in (name for name in names if name in metrics()):
            values = scanned.index.metric(name)
            for layer in (0, 1):
                there = np.isfinite(values[layer])
                none = name[1:] == "_composition" and layer == scanned.model.layers[0]
                none |= name == "copying" and scanned.model.kind.norms is None
                assert there.all() == there.any()
                assert there.all() == (layer in scanned.model.layers and not none), name


def _at(head: HeadId) -> tuple[int, int]:
    return head.layer, head.head


class TestWindows:
    def test_one_longer_than_the_first_reading_is_checked_and_kept(self, tmp_path: Path) -> None:
        """The first reading has 24 tokens; this window has 40."""
        kind = ALL["gemma3"]
        folder = save(kind, tmp_path, sliding_window=40)
        session, plain = load_model(str(folder), device="cpu"), plain_model(kind, folder)
        assert session.hf.config.sliding_window == 40
        ids = [int(i) for i in np.random.default_rng(0).integers(10, 300, 60)]
        assert session.visible(0, 60).tolist() == [min(dst + 1, 40) for dst in range(60)]
        assert session.visible(1, 60).tolist() == list(range(1, 61))
        with torch.no_grad():
            theirs = plain(torch.tensor([ids]), output_attentions=True).attentions
        for layer, pattern in session.patterns([ids]):
            np.testing.assert_allclose(pattern, theirs[layer], rtol=0, atol=1e-5)

    @pytest.mark.parametrize("width", [WINDOW, 40, 4096])
    def test_a_window_that_does_not_cut_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
    ) -> None:
        from transformers import masking_utils

        real = masking_utils.eager_mask

        def without_window(*args: Any, **more: Any) -> Any:
            more["mask_function"] = masking_utils.causal_mask_function
            return real(*args, **more)

        folder = save(ALL["mistral"], tmp_path, sliding_window=width, max_position_embeddings=8192)
        load_model(str(folder), device="cpu")
        monkeypatch.setattr(masking_utils, "eager_mask", without_window)
        with pytest.raises(ModelError, match="layer 0 differs from its own eager attention"):
            load_model(str(folder), device="cpu")


class TestHybrid:
    @pytest.fixture(scope="class")
    @classmethod
    def hybrid(cls, make: Callable[[str], Made]) -> Made:
        return make("lfm2")

    @pytest.fixture(scope="class")
    @classmethod
    def index(cls, hybrid: Made, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Index:
        out = tmp_path_factory.mktemp("hybrid")
        plan = Plan(CTX, min_row=MIN_ROW)
        return Index.open(scan(hybrid.session, load_corpus(str(corpus)), plan, out=out))

    def test_a_head_of_a_layer_without_attention(self, hybrid: Made) -> None:
        session = hybrid.session
        assert [layer for layer, _ in session.patterns([[5, 6, 7]])] == [1]
        assert list(session.patterns([[5, 6, 7]], layers=[0])) == []
        with pytest.raises(HeadError, match=r"Layer 0 .* has no attention"):
            session.pattern([5, 6, 7], HeadId(0, 1))
        with pytest.raises(HeadError, match=r"Layer 0 .* has no attention"):
            session.visible(0, 3)
        assert session.pattern([5, 6, 7], HeadId(1, 1)).shape == (3, 3)

    def test_the_index_says_so(self, index: Index) -> None:
        name = index.manifest.model
        assert index.warnings() == [f"Layer 0 of {name} has no attention: left out."]

    def test_it_has_neither_numbers_nor_examples(self, index: Index) -> None:
        head = HeadId(0, 2)
        assert index.rows(head) == index.pairs(head) == index.nonfinite(head) == 0
        assert all(np.isnan(value) for value in index.numbers(head).values())
        assert all(np.isnan(share) for share in index.budget(head).values())
        numbers = index.numbers(HeadId(1, 2))  # no head with attention comes before it
        assert {n for n, v in numbers.items() if np.isnan(v)} == {f"{w}_composition" for w in "qkv"}
        for ranking in (
            index.top(head),
            index.top(head, by="attention"),
            index.top(head, token="the"),
            index.top(head, destination="the"),
            index.top(head, reverse=True),
            index.top(head, one_per_document=True),
            index.random(head),
            index.band(head, 1),
            index.sampled_rows(head),
        ):
            assert ranking.examples == ()
            assert ranking.pairs == 0
        assert all(row.mass == 0 == row.pairs for row in index.sources(head))
        assert all(row.mass == 0 == row.pairs for row in index.destinations(head))

    @pytest.mark.parametrize(
        "command",
        [
            ["heads", "--by", "induction_random"],
            ["heads", "--json"],
            ["top", "L0H0"],
            ["top", "L0H0", "--token", "the", "--json"],
            ["random", "L0H0"],
            ["tokens", "L0H0"],
            ["tokens", "L0H0", "--destinations", "--json"],
            ["summary", "L0H0"],
            ["summary", "L1H0"],
            ["verify"],
        ],
    )
    def test_the_command_line_goes_on(
        self, index: Index, command: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        from attn.cli.main import app

        app([command[0], str(index.path), *command[1:]], standalone_mode=False)
        out = capsys.readouterr().out
        assert "Traceback" not in out
        if "--json" in command:
            for line in out.splitlines():
                assert "NaN" not in json.dumps(json.loads(line, parse_constant=pytest.fail))


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("gpt-oss", "learned sinks"),
            ("distilbert", "cannot be read"),
            ("mamba", "no attention heads"),
            ("mpt", "cannot be read yet"),
            ("falcon-alibi", "ALiBi"),
            ("gemma3-both-ways", "mask that cannot be counted"),
            ("gemma3-capped", "differs from the Bridge's"),
            ("t5", "an encoder and a decoder"),
            ("bart", "an encoder and a decoder"),
        ],
    )
    def test_by_name_in_one_sentence(self, tmp_path: Path, name: str, reason: str) -> None:
        folder = save(REFUSED[name], tmp_path)
        with pytest.raises(ModelError, match=reason) as caught:
            load_model(str(folder), device="cpu")
        said = str(caught.value)
        assert str(folder) in said
        assert said.endswith(".")
        assert "\n" not in said

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    @pytest.mark.parametrize("name", ["gpt2", "llama", "bert"])
    def test_a_model_whose_patterns_differ(
        self,
        make: Callable[[str], Made],
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        dtype: str,
    ) -> None:
        real = interface.attend

        def sharper(module: Any, query: Any, *args: Any, **more: Any) -> Any:
            return real(module, query * (1.5 if module.layer_idx == 1 else 1), *args, **more)

        folder = make(name).folder
        load_model(str(folder), device="cpu", dtype=dtype)
        monkeypatch.setattr(interface, "attend", sharper)
        with pytest.raises(ModelError, match="layer 1 differs from its own eager attention"):
            load_model(str(folder), device="cpu", dtype=dtype)

    def test_a_mask_for_each_head(self) -> None:
        module = torch.nn.Module()
        module.__dict__["attn_watch"] = interface.Watch("some-model")
        x = torch.zeros(1, 2, 3, 4)
        with pytest.raises(ModelError, match="some-model has a mask for each head"):
            interface.attend(module, x, x, x, torch.zeros(1, 2, 3, 3))

    def test_what_our_attention_knows_nothing_of(self) -> None:
        module = torch.nn.Module()
        module.__dict__["attn_watch"] = interface.Watch("some-model")
        x = torch.zeros(1, 2, 3, 4)
        for name, what in interface.UNREADABLE.items():
            with pytest.raises(ModelError, match=f"some-model has {what}"):
                interface.attend(module, x, x, x, None, **{name: torch.zeros(2)})


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_what_a_dtype_cannot_hold_is_said(dtype: str, tmp_path: Path) -> None:
    """float32 holds it, so that is the remedy."""

    def louder(model: Any) -> None:
        with torch.no_grad():
            model.transformer.h[1].attn.c_attn.weight.mul_(100)

    folder = save_gpt2(tmp_path / "model", louder)
    with pytest.raises(ModelError, match="use --dtype float32, or choose another model"):
        load_model(str(folder), device="cpu", dtype=dtype)
    assert load_model(str(folder), device="cpu").n_layers == 2


class TestVocabularies:
    """A tokenizer and the embeddings that it was, or was not, trained with."""

    def save(self, folder: Path, more: int) -> Path:
        import transformers

        save_gpt2(folder)
        model = transformers.GPT2LMHeadModel.from_pretrained(folder)
        model.resize_token_embeddings(model.config.vocab_size + more)
        model.save_pretrained(folder)
        return folder

    def test_embeddings_to_spare_are_no_fault(self, tmp_path: Path, gpt2: Tiny) -> None:
        session = load_model(str(self.save(tmp_path / "more", 6)), device="cpu")
        ids = session.encode("the cat sat").ids
        theirs = gpt2.session.pattern(ids, HeadId(1, 2))
        torch.testing.assert_close(session.pattern(ids, HeadId(1, 2)), theirs)

    def test_ids_without_an_embedding_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="ids up to 329, and the model embeddings of 320") as e:
            load_model(str(self.save(tmp_path / "fewer", -10)), device="cpu")
        check_sentence(e.value)
