"""Indexes of models with every kind of tokenizer: what depends on tokens, against brute force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from attn.corpus.corpus import load_corpus
from attn.describe import evidence
from attn.describe.questions import _Pool
from attn.heads import HeadId
from attn.index.index import Index
from attn.models.session import ModelSession, load_model
from attn.scan.plan import Plan
from attn.scan.run import scan
from tests import oracle, oracle_tables
from tests.cli.commands import attn
from tests.tokenizers_of import KINDS, TEXTS, tokenizer_of

MIN_ROW, CTX = 3, 64
HEADS = [HeadId(0, 1), HeadId(1, 0)]
ENCODERS = ("WordPiece", "words")
LINES = list(TEXTS.values())


class Made:
    """A model with a tokenizer of one kind, an index of the texts, and what it is to hold."""

    def __init__(self, kind: str, folder: Path, **plan: Any) -> None:
        self.kind, tokenizer = kind, tokenizer_of(kind)
        model = folder / "model"
        common = {"vocab_size": len(tokenizer), "initializer_range": 0.4}
        torch.manual_seed(3)
        made: Any
        if kind in ENCODERS:
            made = transformers.BertForMaskedLM(
                transformers.BertConfig(
                    hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                    num_attention_heads=2, max_position_embeddings=CTX, **common,
                )
            )  # fmt: skip
        else:
            made = transformers.GPT2LMHeadModel(
                transformers.GPT2Config(
                    n_embd=32, n_layer=2, n_head=2, n_positions=CTX, bos_token_id=None,
                    eos_token_id=None, **common,
                )
            )  # fmt: skip
        made.save_pretrained(model)
        tokenizer.save_pretrained(model)
        self.session: ModelSession = load_model(str(model), device="cpu")
        auto = transformers.AutoModelForMaskedLM if kind in ENCODERS else None
        auto = auto or transformers.AutoModelForCausalLM
        plain = auto.from_pretrained(model, attn_implementation="eager", dtype=torch.float32)
        corpus = folder / "texts.jsonl"
        corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in LINES))
        self.plan = Plan(ctx=CTX, min_row=MIN_ROW, **plan)
        self.index = Index.open(
            scan(self.session, load_corpus(str(corpus)), self.plan, out=folder / "indexes")
        )
        self.texts = [self._read(plain.eval(), place, text) for place, text in enumerate(LINES)]

    def _read(self, plain: Any, place: int, text: str) -> oracle.Text:
        tokenizer = tokenizer_of(self.kind)
        before, after = [], []
        if self.kind == "WordPiece" and self.plan.bos is not False:
            before, after = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
        elif tokenizer.bos_token_id is not None:
            before = [tokenizer.bos_token_id]
        bare = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        bare = bare[: CTX - len(before) - len(after)]
        ids = [*before, *bare, *after]
        shown = self.index.window(place).texts
        words = [-1] * len(before) + oracle.words_of(tokenizer, text)[: len(bare)]
        patterns = oracle.attentions(plain, ids)
        seen = np.ones_like(patterns, bool)[:, 0] if self.kind in ENCODERS else None
        names = [str(token) for token in ids]
        return oracle.Text(
            place, ids, patterns, seen, shown, names=names, words=[*words, *[-2] * len(after)],
            suffix=len(after),
        )  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(request.param, tmp_path_factory.mktemp("tokenizer"))


def test_the_windows_are_the_texts(made: Made) -> None:
    for place, text in enumerate(LINES):
        window = made.index.window(place)
        assert list(window.ids) == made.texts[place].ids
        if len(window.ids) < CTX:
            assert window.text == text
        else:  # cut; of a character that is cut too, the bytes are at the end
            assert text.startswith(window.text.partition("\\x")[0])


def test_metrics(made: Made) -> None:
    for head in HEADS:
        wanted = oracle.head_numbers(made.texts, head.layer, head.head, MIN_ROW)
        assert made.index.rows(head) == wanted["rows"]
        numbers = made.index.numbers(head)
        assert ("separator" in numbers) == (made.kind == "WordPiece")
        for name in ("same_word", "punctuation", "separator", "duplicate", "induction"):
            if name in numbers:
                assert numbers[name] == pytest.approx(wanted[name], abs=2e-5), name


def test_words_are_not_the_whole_text(made: Made) -> None:
    """As a text layer had it that took texts without spaces for one word."""
    assert float(np.nanmax(made.index.metric("same_word"))) < 0.35


def test_budget(made: Made) -> None:
    for head in HEADS:
        wanted = oracle_tables.budget(made.texts, head.layer, head.head, MIN_ROW)
        found = made.index.budget(head)
        assert found == pytest.approx(wanted, abs=2e-5)
        assert ("special" in found) == (made.kind == "WordPiece")


def test_token_tables_and_rankings(made: Made) -> None:
    index, tokenizer = made.index, tokenizer_of(made.kind)
    known = dict(enumerate(index._vocabulary["id"].tolist()))
    for head in HEADS:
        sources, _ = oracle_tables.token_tables(made.texts, head.layer, head.head, MIN_ROW)
        table = index._tokens(head)
        mass = {
            known[int(t)]: m / 2**32
            for t, m in zip(table["token"], table["source_mass"], strict=True)
        }
        for token, wanted in sources.items():
            assert mass.get(int(token), 0.0) == pytest.approx(wanted.mass, abs=1e-3), token
        pairs = oracle.pairs_above(made.texts, head.layer, head.head, min_row=MIN_ROW)
        found = index.top(head, 20)
        oracle.check_ranking(found.examples, pairs, 20)
        for example in found.examples:
            token = made.texts[example.document].ids[example.src]
            assert token not in (tokenizer.cls_token_id, tokenizer.sep_token_id)


def test_a_filter_takes_a_token_as_the_vocabulary_writes_it(made: Made) -> None:
    """Every token of the corpus by its entry: the pairs are those of its id."""
    index, tokenizer, head = made.index, tokenizer_of(made.kind), HEADS[1]
    pairs = oracle.pairs_above(made.texts, head.layer, head.head, min_row=MIN_ROW)
    clear = [pair for pair in pairs if pair.multiple > 1.001]
    by_id: dict[int, list[Any]] = {}
    for pair in clear:
        by_id.setdefault(made.texts[pair.document].ids[pair.src], []).append(pair)
    alone = 0
    for token, mine in by_id.items():
        entry = tokenizer.convert_ids_to_tokens(token)
        found = index.top(head, 10**4, token=entry)
        got = {oracle.key_of(example) for example in found.examples}
        best = {pair.key for pair in sorted(mine, key=lambda pair: -pair.multiple)[:10]}
        others = {made.texts[e.document].ids[e.src] for e in found.examples} - {token}
        if others:  # it is what another token covers, so both are taken, and the answer says so
            assert "is taken as" in index.taken(entry)
            continue
        assert best <= got, entry
        alone += 1
    assert alone > 3


def test_no_example_or_question_of_a_description_is_about_a_special_token(made: Made) -> None:
    checked = 0
    for head in HEADS:
        asking = _Pool([], 1, made.index.manifest.bidirectional, 0)
        for testing in (True, False):
            for passage in evidence._rows(made.index, head, 0, testing):
                sources = {pair.example.src for pair in evidence._above(passage)}
                sources |= set(asking._seen(passage))
                kinds = [passage.window.kinds[src] for src in sources]
                assert "special" not in kinds
                checked += len(kinds)
    assert checked > 50


def test_what_a_filter_takes_is_said(tmp_path: Path) -> None:
    made = Made("WordPiece", tmp_path)
    assert made.index.taken("the").startswith("the is taken as 1 token: “the” (in the vocabulary")
    assert "“·The”" in made.index.taken("the") or "“The”" in made.index.taken("the")
    assert made.index.taken("猫").startswith("猫 is taken as 1 token: “[UNK]”")
    found = made.index.top(HEADS[0], 50, token="[UNK]")
    assert found.examples
    assert "[UNK]" not in {example.token for example in found.examples}
    for example in found.examples:
        window = made.index.window(example.document)
        assert window.kinds[example.src] == "unknown"
        assert example.token == window.texts[example.src]
        assert window.labels[example.src] == f"{example.token}[UNK]"


def test_a_terminal_shows_both_ends_of_a_pair(made: Made) -> None:
    """In an encoder the source may stand after the destination."""
    done = attn("top", made.index.path, HEADS[0], "-n", 40)
    rows = [row for row in done.stdout.splitlines() if "#" in row]
    later = [e.src > e.dst for e in made.index.top(HEADS[0], 40).examples]
    assert any(later) == (made.kind in ENCODERS)
    assert len(rows) == len(later)
    assert all("[[" in row for row in rows)


def test_without_special_tokens(tmp_path: Path) -> None:
    made = Made("WordPiece", tmp_path, bos=False)
    window = made.index.window(0)
    assert "special" not in window.kinds
    assert made.index.manifest.suffix == 0
    assert "--no-bos" in made.index.manifest.command


def test_windows_of_a_long_text_have_them_all(tmp_path: Path) -> None:
    """Each window is a text of its own to an encoder; a row counts once all the same."""
    folder = tmp_path / "whole"
    made = Made("WordPiece", tmp_path)
    corpus = tmp_path / "long.jsonl"
    corpus.write_text(json.dumps({"text": " ".join([TEXTS["English"]] * 9)}) + "\n")
    plan = Plan(ctx=32, min_row=3, all_windows=True, stride=11)
    index = Index.open(scan(made.session, load_corpus(str(corpus)), plan, out=folder))
    tokenizer = tokenizer_of("WordPiece")
    whole = tokenizer(" ".join([TEXTS["English"]] * 9), add_special_tokens=False)["input_ids"]
    starts = [
        start for start in range(0, len(whole), 11) if start == 0 or start - 11 + 30 < len(whole)
    ]
    for start in starts:
        window = index.window(0, start)
        assert window.ids[0] == tokenizer.cls_token_id
        assert window.ids[-1] == tokenizer.sep_token_id
        assert list(window.ids[1:-1]) == whole[start : start + 30]
    assert index.rows(HeadId(0, 0)) == len(whole) - 2  # rows 1 and 2, after [CLS], do not count
