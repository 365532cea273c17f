"""A scan and its index against the oracle, on tiny models and on the built-in one."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attn import repeated
from attn.corpus import load_corpus
from attn.errors import EmptyCorpus, ScanError
from attn.heads import HeadId
from attn.index import Index, find_indexes, verify
from attn.model import ModelSession, load_model
from attn.scan import Plan, Progress, scan
from tests import oracle
from tests.conftest import DOCUMENTS, Tiny, plain_model
from tests.oracle import NEAR, Pair, Text, by_attention, by_multiple

CTX = 64
ROW_METRICS = ("self", "previous", "sink", "duplicate", "induction", "entropy", "distance")
RANDOM_METRICS = ("induction_random", "duplicate_random", "previous_random")
HEADS = [HeadId(layer, head) for layer in range(2) for head in range(4)]


@dataclass(frozen=True)
class Scanned:
    """An index and what the oracle needs to judge it."""

    index: Index
    plan: Plan
    texts: list[Text]  # one a document
    random: list[Text]  # one a random sequence

    def pairs(self, head: HeadId) -> list[Pair]:
        """All pairs that are above average, or so near that they may be."""
        return oracle.pairs_above(
            self.texts,
            head.layer,
            head.head,
            min_row=self.plan.min_row,
            skip_first=self.plan.skip_first,
            least=1 - NEAR,
        )


class Sequences:
    """Takes down the random sequences that a scan makes."""

    def __init__(self) -> None:
        self.ids: np.ndarray | None = None
        self._real = repeated.random_sequences

    def __call__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        self.ids = self._real(*args, **kwargs)
        return self.ids


def scanned(
    session: ModelSession, plain: Any, lines: Path, plan: Plan, out: Path, bos: bool
) -> Scanned:
    """Scan a file, one document a line, and read the same lines the plain way."""
    sequences = Sequences()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeated, "random_sequences", sequences)
        folder = scan(session, load_corpus(str(lines)), plan, out=out)
    assert sequences.ids is not None
    tokenizer = session.tokenizer
    documents = []
    for place, line in enumerate(lines.read_text(encoding="utf-8").splitlines()):
        ids = tokenizer(line, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        ids = (([tokenizer.bos_token_id] if bos else []) + list(ids))[: plan.ctx]
        if len(ids) >= 2:
            documents.append((place, ids))
    return Scanned(
        Index.open(folder),
        plan,
        oracle.read(plain, documents),
        oracle.read(plain, enumerate(sequences.ids.tolist())),
    )


@pytest.fixture(scope="module")
def make(
    text_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Tiny, Plan], Scanned]:
    """A scan of the shared text file, each plan once."""
    made: dict[tuple[Path, Plan], Scanned] = {}

    def get(tiny: Tiny, plan: Plan) -> Scanned:
        key = (tiny.folder, plan)
        if key not in made:
            bos = tiny.session.has_bos if plan.bos is None else plan.bos
            out = tmp_path_factory.mktemp("scan")
            made[key] = scanned(tiny.session, tiny.plain, text_file, plan, out, bos)
        return made[key]

    return get


SMALL = Plan(ctx=CTX, top=25, sample=30)
PLANS = {
    "small": SMALL,
    "everything kept": Plan(ctx=CTX, top=20000, sample=20000),
    "no bos, other rows": Plan(ctx=40, bos=False, min_row=3, top=7, sample=5, seed=4),
    "first not skipped": Plan(ctx=CTX, top=25, sample=30, skip_first=False),
    "every row": Plan(ctx=33, min_row=0, top=25, sample=30),
}


@pytest.fixture(params=PLANS)
def tiny_scan(
    request: pytest.FixtureRequest, tiny: Tiny, make: Callable[[Tiny, Plan], Scanned]
) -> Scanned:
    return make(tiny, PLANS[request.param])


def keys(examples: Sequence[Any]) -> list[tuple[int, int, int]]:
    return [(e.document, e.dst, e.src) for e in examples]


def check_numbers(found: Scanned, heads: Sequence[HeadId]) -> None:
    """Metrics, rows and pairs of an index equal the oracle's."""
    index = found.index
    assert set(index.metric_names) == {*ROW_METRICS, *RANDOM_METRICS}
    for head in heads:
        wanted = oracle.head_numbers(found.texts, head.layer, head.head, found.plan.min_row)
        wanted |= oracle.random_numbers(found.random, head.layer, head.head)
        assert index.rows(head) == wanted["rows"]
        assert index.nonfinite(head) == 0
        for name in (*ROW_METRICS, *RANDOM_METRICS):
            got = index.numbers(head)[name]
            assert got == pytest.approx(wanted[name], rel=1e-5, abs=1e-5), (head, name)
            assert got == index.metric(name)[head.layer, head.head]
        pairs = found.pairs(head)
        sure = sum(pair.multiple > 1 + NEAR for pair in pairs)
        assert sure <= index.pairs(head) <= len(pairs)
        assert len(pairs) - sure <= 0.01 * len(pairs) + 2  # the comparison says something


def check_lists(found: Scanned, heads: Sequence[HeadId]) -> None:
    """Each ranking of an index, whole, equals the oracle's."""
    index, top = found.index, found.plan.top
    for head in heads:
        pairs, n = found.pairs(head), 10**6
        ranking = index.top(head, n)
        oracle.check_ranking(ranking.examples, pairs, top)
        assert ranking.pairs == index.pairs(head)
        assert ranking.kept == len(ranking.examples)
        assert ranking.exact
        ranking = index.top(head, n, by="attention")
        oracle.check_ranking(ranking.examples, pairs, top, by_attention)
        assert ranking.exact
        ranking = index.top(head, n, reverse=True)
        oracle.check_ranking(ranking.examples, pairs, top, reverse=True)
        assert ranking.exact
        ranking = index.top(head, n, one_per_document=True)
        oracle.check_ranking(ranking.examples, pairs, top, one_per_document=True)
        assert ranking.exact


def check_examples(found: Scanned, head: HeadId, examples: Sequence[Any]) -> None:
    """Row, token and record of every example."""
    by_place = {text.document: text for text in found.texts}
    for example in examples:
        text = by_place[example.document]
        wanted = text.patterns[head.layer, head.head, example.dst]
        assert example.head == head
        assert example.row is not None
        assert len(example.row) == example.dst + 1
        # Rows are kept in half precision.
        np.testing.assert_allclose(example.row, wanted[: example.dst + 1], rtol=1e-3, atol=1e-6)
        window = found.index.window(example.document)
        assert list(window.ids) == text.ids
        assert len(window.texts) == len(text.ids)
        assert window.texts[example.src] == example.token
        record = json.loads(json.dumps(example.record()))
        assert list(record) == [
            "layer", "head", "document", "dst", "src", "token", "multiple", "attention"
        ]  # fmt: skip
        assert (record["layer"], record["head"]) == (head.layer, head.head)
        assert record["multiple"] == pytest.approx(example.multiple)


class TestAgainstTheOracle:
    def test_numbers(self, tiny_scan: Scanned) -> None:
        check_numbers(tiny_scan, HEADS)

    def test_rankings(self, tiny_scan: Scanned) -> None:
        check_lists(tiny_scan, HEADS)

    def test_rows_of_attention_and_tokens(self, tiny_scan: Scanned) -> None:
        for head in HEADS:
            for more in ({}, {"by": "attention"}, {"reverse": True}, {"one_per_document": True}):
                ranking = tiny_scan.index.top(head, 10, **more)
                check_examples(tiny_scan, head, ranking.examples)
            check_examples(tiny_scan, head, tiny_scan.index.random(head, 10).examples)

    def test_the_sample(self, tiny_scan: Scanned) -> None:
        index, size = tiny_scan.index, tiny_scan.plan.sample
        for head in HEADS:
            ranking = index.random(head, 10**6)
            oracle.check_examples(ranking.examples, tiny_scan.pairs(head))
            assert len(ranking.examples) == min(size, index.pairs(head))
            assert ranking.pairs == index.pairs(head)

    def test_the_manifest(self, tiny_scan: Scanned) -> None:
        found, plan = tiny_scan.index.manifest, tiny_scan.plan
        assert found.documents == len(tiny_scan.texts)
        assert found.tokens == sum(len(text.ids) for text in tiny_scan.texts)
        assert found.rows == sum(max(len(t.ids) - plan.min_row, 0) for t in tiny_scan.texts)
        assert (found.n_layers, found.n_heads) == (2, 4)
        assert (found.ctx, found.min_row, found.top) == (plan.ctx, plan.min_row, plan.top)
        assert (found.sample, found.seed) == (plan.sample, plan.seed)
        assert found.skip_first == plan.skip_first
        assert found.bidirectional is False
        verify(tiny_scan.index.path)


class TestQuestions:
    """Every answer that calls itself exact is what brute force over the whole corpus gives."""

    @pytest.fixture(params=["small", "everything kept"])
    def found(
        self, request: pytest.FixtureRequest, tiny: Tiny, make: Callable[[Tiny, Plan], Scanned]
    ) -> Scanned:
        return make(tiny, PLANS[request.param])

    def test_every_combination(self, found: Scanned) -> None:
        texts = {text.document: found.index.window(text.document).texts for text in found.texts}
        exact = 0
        for head, token, (by, reverse), one in itertools.product(
            [HeadId(0, 1), HeadId(1, 2)],
            (None, " the", ",", "no such token"),
            (("multiple", False), ("attention", False), ("multiple", True)),
            (False, True),
        ):
            ranking = found.index.top(
                head, 6, by=by, token=token, reverse=reverse, one_per_document=one
            )
            pairs = [
                pair
                for pair in found.pairs(head)
                if token is None or texts[pair.document][pair.src] == token
            ]
            oracle.check_examples(ranking.examples, pairs)
            assert all(token in (None, e.token) for e in ranking.examples)
            assert ranking.pairs == found.index.pairs(head)
            assert ranking.kept >= len(ranking.examples)
            if one:
                assert len({e.document for e in ranking.examples}) == len(ranking.examples)
            score = by_multiple if by == "multiple" else by_attention
            if ranking.exact:
                exact += 1
                oracle.check_ranking(
                    ranking.examples, pairs, 6, score, reverse=reverse, one_per_document=one
                )
        assert exact

    def test_when_everything_is_kept_every_answer_is_right(
        self, tiny: Tiny, make: Callable[[Tiny, Plan], Scanned]
    ) -> None:
        """A token filter comes before one-per-document: the best ' the' of each document."""
        found = make(tiny, PLANS["everything kept"])
        texts = {text.document: found.index.window(text.document).texts for text in found.texts}
        for head, token, (by, reverse), one in itertools.product(
            HEADS,
            (" the", ",", " and"),
            (("multiple", False), ("attention", False), ("multiple", True)),
            (False, True),
        ):
            ranking = found.index.top(
                head, 1000, by=by, token=token, reverse=reverse, one_per_document=one
            )
            pairs = [p for p in found.pairs(head) if texts[p.document][p.src] == token]
            score = by_multiple if by == "multiple" else by_attention
            oracle.check_ranking(
                ranking.examples, pairs, 1000, score, reverse=reverse, one_per_document=one
            )

    def test_the_first_n_are_the_first_of_more(self, found: Scanned) -> None:
        for more in ({}, {"by": "attention"}, {"reverse": True}, {"one_per_document": True}):
            whole = found.index.top(HEADS[3], 20, **more)
            some = found.index.top(HEADS[3], 4, **more)
            assert keys(some.examples) == keys(whole.examples)[:4]
            assert some.kept == whole.kept

    def test_random_is_decided_by_its_seed(self, found: Scanned) -> None:
        index, head = found.index, HEADS[5]
        one = keys(index.random(head, 10, seed=1).examples)
        assert one == keys(index.random(head, 10, seed=1).examples)
        assert one != keys(index.random(head, 10, seed=2).examples)
        assert one != keys(index.top(head, 10).examples)
        assert len(set(one)) == 10

    def test_random_with_a_token(self, found: Scanned) -> None:
        ranking = found.index.random(HEADS[1], 10**6, token=" the")
        assert {e.token for e in ranking.examples} <= {" the"}
        whole = found.index.random(HEADS[1], 10**6)
        assert len(ranking.examples) == sum(e.token == " the" for e in whole.examples)


class TestTheSample:
    """Uniform itself is shown in test_metrics.py, on the tally; here the whole way."""

    def sample(
        self, tiny: Tiny, lines: Path, out: Path, **more: Any
    ) -> dict[HeadId, set[tuple[int, int, int]]]:
        plan = Plan(ctx=CTX, top=3, sample=40, **more)
        index = Index.open(scan(tiny.session, load_corpus(str(lines)), plan, out=out))
        return {head: set(keys(index.random(head, 10**6).examples)) for head in HEADS}

    def test_same_seed_same_sample_other_seed_other_sample(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path
    ) -> None:
        one = self.sample(gpt2, text_file, tmp_path / "a", seed=1)
        again = self.sample(gpt2, text_file, tmp_path / "b", seed=1)
        other = self.sample(gpt2, text_file, tmp_path / "c", seed=2)
        assert one == again
        for head in HEADS:
            assert one[head] != other[head]

    def test_batches_do_not_matter(
        self, tiny: Tiny, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from attn import scan as module
        from attn import store

        wanted = self.sample(tiny, text_file, tmp_path / "whole")
        monkeypatch.setattr(module, "BATCH_TOKENS", 70)
        one_by_one = self.sample(tiny, text_file, tmp_path / "small batches")
        monkeypatch.setattr(store, "GROUP", 3)
        other_groups = self.sample(tiny, text_file, tmp_path / "small groups")
        # A pair within 1e-7 of average may be in or out: its turn in the sample with it.
        for head in HEADS:
            assert len(wanted[head] ^ one_by_one[head]) <= 2
            assert len(wanted[head] ^ other_groups[head]) <= 2
        assert sum(wanted[h] == one_by_one[h] for h in HEADS) >= 6

    def test_the_order_of_the_documents_does_not_matter(self, gpt2: Tiny, tmp_path: Path) -> None:
        """The draw follows the text, not the place."""
        lines = sorted(set(DOCUMENTS))
        forth, back = tmp_path / "forth.txt", tmp_path / "back.txt"
        forth.write_text("\n".join(lines), encoding="utf-8")
        back.write_text("\n".join(reversed(lines)), encoding="utf-8")
        one = self.sample(gpt2, forth, tmp_path / "a")
        two = self.sample(gpt2, back, tmp_path / "b")
        last = len(lines) - 1
        for head in HEADS:
            turned = {(last - document, dst, src) for document, dst, src in two[head]}
            assert len(one[head] ^ turned) <= 2

    def test_every_document_gets_its_share(self, gpt2: Tiny, tmp_path: Path) -> None:
        """Over seeds, a document has as many sampled pairs as its part of all pairs."""
        lines = tmp_path / "lines.txt"
        lines.write_text("\n".join(DOCUMENTS[i] for i in (1, 4, 7)), encoding="utf-8")
        head, seeds, size = HEADS[2], 12, 40
        plan = Plan(ctx=CTX, top=20000, sample=size)
        index = Index.open(scan(gpt2.session, load_corpus(str(lines)), plan, out=tmp_path))
        everything = keys(index.top(head, 10**6).examples)
        share = [sum(key[0] == place for key in everything) for place in range(3)]
        counts = [0, 0, 0]
        for seed in range(seeds):
            for key in self.sample(gpt2, lines, tmp_path / str(seed), seed=seed)[head]:
                counts[key[0]] += 1
        assert sum(counts) == seeds * size
        for got, part in zip(counts, share, strict=True):
            p = part / sum(share)
            assert abs(got - seeds * size * p) < 5 * (seeds * size * p * (1 - p)) ** 0.5


class TestUniformHead:
    @pytest.fixture(scope="class")
    @classmethod
    def found(
        cls, uniform_gpt2: Path, text_file: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> Scanned:
        session = load_model(str(uniform_gpt2), device="cpu")
        plan = Plan(ctx=128, min_row=0, top=10, sample=10, skip_first=False)
        out = tmp_path_factory.mktemp("uniform")
        return scanned(session, plain_model(uniform_gpt2), text_file, plan, out, bos=False)

    def test_multiples_are_one_everywhere(self, found: Scanned) -> None:
        for text in found.texts:
            seen = np.tril(np.ones((len(text.ids),) * 2)).astype(bool)
            for head in HEADS:
                table = oracle.multiples(text.patterns[head.layer, head.head])
                np.testing.assert_allclose(table[seen], 1, rtol=0, atol=1e-6)

    def test_nothing_is_above_average(self, found: Scanned) -> None:
        for head in HEADS:
            assert found.index.pairs(head) == 0
            for more in ({}, {"by": "attention"}, {"reverse": True}, {"one_per_document": True}):
                ranking = found.index.top(head, 5, **more)
                assert ranking.examples == ()
                assert (ranking.pairs, ranking.kept, ranking.exact) == (0, 0, True)
            assert found.index.random(head).examples == ()
            assert found.index.top(head, token=" the").examples == ()

    def test_metrics_have_their_closed_form(self, found: Scanned) -> None:
        lengths = [dst + 1 for text in found.texts for dst in range(len(text.ids))]
        n = np.array(lengths)
        for head in HEADS:
            numbers = found.index.numbers(head)
            assert numbers["self"] == pytest.approx(np.mean(1 / n), rel=1e-5)
            assert numbers["sink"] == pytest.approx(np.mean(1 / n), rel=1e-5)
            assert numbers["entropy"] == pytest.approx(np.mean(np.log2(n)), rel=1e-5)
            assert numbers["distance"] == pytest.approx(np.mean((n - 1) / 2), rel=1e-5)
            seen = np.arange(51, 101)  # rows of the second copy, no BOS
            for name in RANDOM_METRICS:
                assert numbers[name] == pytest.approx(np.mean(1 / seen), rel=1e-5)


class TestScanning:
    def test_an_index_is_made_once(self, gpt2: Tiny, text_file: Path, tmp_path: Path) -> None:
        corpus = load_corpus(str(text_file))
        one = scan(gpt2.session, corpus, SMALL, out=tmp_path)
        stamp = (one / "manifest.json").stat().st_mtime_ns
        assert scan(gpt2.session, corpus, SMALL, out=tmp_path) == one
        assert (one / "manifest.json").stat().st_mtime_ns == stamp
        assert find_indexes(tmp_path) == [one]
        assert [p.name for p in tmp_path.iterdir()] == [one.name]

    def test_what_decides_the_index_is_in_its_name(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path
    ) -> None:
        plans = [
            SMALL,
            Plan(ctx=CTX - 1, top=25, sample=30),
            Plan(ctx=CTX, top=24, sample=30),
            Plan(ctx=CTX, top=25, sample=31),
            Plan(ctx=CTX, top=25, sample=30, seed=1),
            Plan(ctx=CTX, top=25, sample=30, min_row=11),
            Plan(ctx=CTX, top=25, sample=30, skip_first=False),
        ]
        folders = [scan(gpt2.session, load_corpus(str(text_file)), p, out=tmp_path) for p in plans]
        folders.append(scan(gpt2.session, load_corpus(str(text_file), docs=5), SMALL, out=tmp_path))
        assert len(set(folders)) == len(folders)
        assert set(find_indexes(tmp_path)) == set(folders)

    def test_two_scans_are_the_same_to_the_byte(
        self, tiny: Tiny, text_file: Path, tmp_path: Path
    ) -> None:
        corpus = load_corpus(str(text_file))
        one = scan(tiny.session, corpus, SMALL, out=tmp_path / "a")
        two = scan(tiny.session, corpus, SMALL, out=tmp_path / "b")
        assert contents(one) == contents(two)

    def test_progress_only_grows(self, gpt2: Tiny, text_file: Path, tmp_path: Path) -> None:
        reports: list[Progress] = []
        folder = scan(
            gpt2.session, load_corpus(str(text_file)), SMALL, out=tmp_path, progress=reports.append
        )
        stages = [stage for stage, _ in itertools.groupby(r.stage for r in reports)]
        assert len(stages) == len(set(stages))
        for _, some in itertools.groupby(reports, key=lambda r: r.stage):
            tokens = [r.tokens for r in some]
            assert tokens == sorted(tokens)
        manifest = Index.open(folder).manifest
        assert reports[-1].documents == manifest.documents
        assert reports[-1].tokens == manifest.tokens

    def test_a_document_of_one_token_is_left_out_with_a_notice(
        self, gpt2: Tiny, llama: Tiny, text_file: Path, tmp_path: Path
    ) -> None:
        corpus = load_corpus(str(text_file))
        place = DOCUMENTS.index("x")
        index = Index.open(scan(gpt2.session, corpus, SMALL, out=tmp_path))
        assert index.manifest.documents == len(DOCUMENTS) - 1
        assert any("two tokens" in notice for notice in index.manifest.notices)
        assert index.window(place + 1).document == place + 1
        with_bos = Index.open(scan(llama.session, corpus, SMALL, out=tmp_path))
        assert with_bos.manifest.documents == len(DOCUMENTS)
        assert with_bos.window(place).texts == ("<s>", "x")

    def test_documents_too_short_to_count_a_row(self, gpt2: Tiny, tmp_path: Path) -> None:
        path = tmp_path / "short.txt"
        path.write_text("a cat\nthe dog\n")
        index = Index.open(scan(gpt2.session, load_corpus(str(path)), SMALL, out=tmp_path))
        for head in HEADS:
            assert (index.rows(head), index.pairs(head)) == (0, 0)
            assert index.top(head).examples == ()
            assert all(np.isnan(index.numbers(head)[name]) for name in ROW_METRICS)

    @pytest.mark.parametrize("text", ["", "\n\n", "x\n"])
    def test_a_corpus_without_text(self, gpt2: Tiny, tmp_path: Path, text: str) -> None:
        path = tmp_path / "none.txt"
        path.write_text(text)
        out = tmp_path / "out"
        with pytest.raises(EmptyCorpus):
            scan(gpt2.session, load_corpus(str(path)), SMALL, out=out)
        assert not out.exists() or list(out.iterdir()) == []

    @pytest.mark.parametrize(
        "plan",
        [
            Plan(ctx=129),
            Plan(ctx=1),
            Plan(ctx=20, min_row=20),
            Plan(min_row=-1),
            Plan(top=0),
            Plan(sample=0),
            Plan(seed=-1),
            Plan(bos=True),
        ],
    )
    def test_plans_that_cannot_be_done(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path, plan: Plan
    ) -> None:
        with pytest.raises(ScanError) as caught:
            scan(gpt2.session, load_corpus(str(text_file)), plan, out=tmp_path)
        assert "\n" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []

    def test_an_odd_file_name(self, gpt2: Tiny, tmp_path: Path) -> None:
        path = tmp_path / "na\u00efve corpus (1) #2.txt"
        path.write_text("\n".join(DOCUMENTS), encoding="utf-8")
        folder = scan(gpt2.session, load_corpus(str(path)), SMALL, out=tmp_path / "out")
        assert Index.open(folder).manifest.corpus


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of an index."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


KILLED = """
import os, signal, sys
from pathlib import Path

import torch

torch.set_num_threads(1)
from attn.corpus import load_corpus
from attn.model import load_model
from attn.scan import Plan, scan

model, lines, out = sys.argv[1:]
session, corpus = load_model(model, device="cpu"), load_corpus(lines)
session.weights
plan = Plan(ctx=64, top=25, sample=30)
seen = 0

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def at(stage, number):
    def progress(p):
        global seen
        seen += p.stage == stage
        if seen == number:
            die()
    scan(session, corpus, plan, out=Path(out), progress=progress)

def on(name):
    setattr(os, name, die)
    scan(session, corpus, plan, out=Path(out))

for kill, *args in [(at, "Reading", 3), (at, "Scanning", 1),
                    (on, "fsync"), (on, "replace"), (on, "rename")]:
    child = os.fork()
    if not child:
        try:
            kill(*args)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    print(os.WTERMSIG(status))
"""


class TestInterrupted:
    def check_no_index(self, out: Path) -> None:
        assert find_indexes(out) == []
        for path in out.iterdir():
            with pytest.raises(ValueError, match="index"):
                Index.open(path)

    def test_killed_scans_leave_no_index(self, gpt2: Tiny, text_file: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", KILLED, gpt2.folder, text_file, out],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert done.stdout.split() == ["9"] * 5, done.stderr
        self.check_no_index(out)
        corpus = load_corpus(str(text_file))
        folder = scan(gpt2.session, corpus, SMALL, out=out)
        verify(folder)
        assert contents(folder) == contents(
            scan(gpt2.session, corpus, SMALL, out=tmp_path / "clean")
        )

    @pytest.mark.parametrize("stage", ["Reading", "Scanning"])
    @pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
    def test_scans_that_end_in_an_exception_leave_nothing(
        self,
        gpt2: Tiny,
        text_file: Path,
        tmp_path: Path,
        stage: str,
        kind: type[BaseException],
    ) -> None:
        def stop(progress: Progress) -> None:
            if progress.stage == stage:
                raise kind

        with pytest.raises(kind):
            scan(gpt2.session, load_corpus(str(text_file)), SMALL, out=tmp_path, progress=stop)
        assert list(tmp_path.iterdir()) == []
        gpt2.session.pattern([1, 2, 3], HeadId(0, 0))  # the session is free again

    def test_what_is_left_of_a_killed_scan_gives_way(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path
    ) -> None:
        """A folder of the right name without a manifest is no index: it is made again."""
        folder = scan(gpt2.session, load_corpus(str(text_file)), SMALL, out=tmp_path)
        whole = contents(folder)
        (folder / "manifest.json").unlink()
        assert find_indexes(tmp_path) == []
        assert scan(gpt2.session, load_corpus(str(text_file)), SMALL, out=tmp_path) == folder
        assert contents(folder) == whole


class TestBuiltin:
    """The real model: four documents, some heads, the same comparison."""

    HEADS = tuple(HeadId.parse(name) for name in ("L0H0", "L8H0", "L16H0", "L17H5", "L18H6"))

    @pytest.fixture(scope="class")
    @classmethod
    def found(
        cls, session: ModelSession, builtin: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> Scanned:
        folder = tmp_path_factory.mktemp("real")
        documents = [*load_corpus("sample", docs=90)][::25]
        lines = folder / "lines.txt"
        texts = [" ".join(document.text.split()) for document in documents]
        lines.write_text("\n".join(texts), encoding="utf-8")
        plan = Plan(ctx=72, top=40, sample=40)
        return scanned(session, plain_model(builtin), lines, plan, folder, bos=True)

    def test_numbers(self, found: Scanned) -> None:
        assert len(found.texts) == 4
        check_numbers(found, self.HEADS)

    def test_rankings(self, found: Scanned) -> None:
        check_lists(found, self.HEADS)

    def test_rows_tokens_and_sample(self, found: Scanned) -> None:
        for head in self.HEADS:
            check_examples(found, head, found.index.top(head).examples)
            ranking = found.index.random(head, 10**6)
            check_examples(found, head, ranking.examples)
            oracle.check_examples(ranking.examples, found.pairs(head))
            assert len(ranking.examples) == min(40, found.index.pairs(head))


class TestAcceptance:
    """Known heads of the built-in model stand out on the sample corpus."""

    @pytest.fixture(scope="class")
    @classmethod
    def index(cls, sample_index: Path) -> Index:
        return Index.open(sample_index)

    @pytest.mark.parametrize(
        ("head", "metric"),
        [
            ("L18H6", "induction"),
            ("L17H5", "induction"),
            ("L16H0", "previous"),
            ("L8H0", "duplicate"),
        ],
    )
    def test_known_heads(self, index: Index, head: str, metric: str) -> None:
        values = index.metric(metric)
        cell = HeadId.parse(head)
        value = values[cell.layer, cell.head]
        assert value > 3 * np.median(values)
        assert (values > value).sum() < 0.1 * values.size

    def test_induction_examples_follow_an_earlier_copy(self, index: Index) -> None:
        for name in ("L18H6", "L17H5"):
            hits = 0
            examples = index.top(HeadId.parse(name), 20).examples
            for example in examples:
                ids = index.window(example.document).ids
                hits += ids[example.src - 1] == ids[example.dst]
            assert hits >= 14, name

    def test_every_head_has_the_same_rows(self, index: Index) -> None:
        rows = {index.rows(head) for head in index.heads()}
        assert rows == {index.manifest.rows}
        verify(index.path)
