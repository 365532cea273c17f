"""A scan and its index against the oracle, on tiny models and on the built-in one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attn.corpus.corpus import load_corpus
from attn.errors import EmptyCorpus, ScanError
from attn.heads import HeadId
from attn.index.index import Index, find_indexes
from attn.index.manifest import verify
from attn.measure.scores import BANDS
from attn.models.session import ModelSession, load_model
from attn.scan.plan import Plan
from attn.scan.progress import Progress
from attn.scan.run import scan
from tests import oracle, oracle_tables
from tests.conftest import DOCUMENTS, Tiny, contents, plain_model
from tests.scanned import (
    CTX,
    DERIVED,
    HEADS,
    PLANS,
    RANDOM_METRICS,
    ROW_METRICS,
    SMALL,
    Scanned,
    check_examples,
    check_lists,
    check_numbers,
    keys,
    scanned,
)


@pytest.fixture(params=PLANS)
def tiny_scan(
    request: pytest.FixtureRequest, tiny: Tiny, make: Callable[[Tiny, str], Scanned]
) -> Scanned:
    return make(tiny, request.param)


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

    def test_bands(self, tiny_scan: Scanned) -> None:
        index, size = tiny_scan.index, tiny_scan.plan.band
        assert len(BANDS) == len(oracle_tables.BANDS)
        for head in HEADS:
            pairs = tiny_scan.pairs(head)
            total = 0
            for band, (low, high) in enumerate(BANDS):
                ranking = index.band(head, band, 10**6)
                for example in ranking.examples:
                    assert low <= example.attention < (high if high < 1 else 2)
                wanted = oracle_tables.in_band(pairs, band)
                oracle.check_examples(ranking.examples, wanted)
                sure = sum(
                    pair.multiple > 1 + oracle.NEAR
                    and low * (1 + oracle.NEAR) <= pair.attention < high * (1 - oracle.NEAR)
                    for pair in wanted
                )
                assert min(size, sure) <= len(ranking.examples) <= min(size, len(wanted))
                assert ranking.exact
                total += len(ranking.examples)
            assert total >= min(size, index.pairs(head))

    def test_sampled_rows(self, tiny_scan: Scanned) -> None:
        """Rows of all that count, each once, with their best source and their attention."""
        index, plan = tiny_scan.index, tiny_scan.plan
        for head in HEADS:
            ranking = index.sampled_rows(head, 10**6)
            assert len(ranking.examples) == min(plan.sample, index.rows(head))
            assert (ranking.pairs, ranking.exact) == (index.rows(head), True)
            rows = {(e.document, e.start, e.dst) for e in ranking.examples}
            assert len(rows) == len(ranking.examples)
            check_examples(tiny_scan, head, ranking.examples)
            for example in ranking.examples:
                text = tiny_scan.text(example)
                assert example.dst in text.rows(plan.min_row)
                best = oracle_tables.best_source(text, head.layer, head.head, example.dst)
                assert example.attention == pytest.approx(best, rel=oracle.NEAR)
                assert example.multiple == pytest.approx(best * (example.dst + 1), rel=oracle.NEAR)

    def test_the_manifest(self, tiny_scan: Scanned) -> None:
        found, plan = tiny_scan.index.manifest, tiny_scan.plan
        assert found.documents == len({text.document for text in tiny_scan.texts})
        assert found.windows == len(tiny_scan.texts)
        assert found.tokens == sum(len(text.ids) for text in tiny_scan.texts)
        assert found.rows == sum(len(text.rows(plan.min_row)) for text in tiny_scan.texts)
        assert (found.n_layers, found.n_heads) == (2, 4)
        assert (found.ctx, found.min_row, found.top) == (plan.ctx, plan.min_row, plan.top)
        assert (found.sample, found.seed) == (plan.sample, plan.seed)
        assert found.skip_first == plan.skip_first
        assert found.bidirectional is False
        assert (found.band, found.per_token, found.write) == (plan.band, plan.per_token, plan.write)
        assert (found.shard, found.all_windows) == (plan.shard, plan.all_windows)
        verify(tiny_scan.index.path)


class TestTheSample:
    """Uniform itself is shown in test_metrics.py, on the tally; here the whole way."""

    def sample(
        self, tiny: Tiny, lines: Path, out: Path, **more: Any
    ) -> dict[HeadId, set[oracle.Key]]:
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
        from attn.index import documents
        from attn.scan import forward_pass

        wanted = self.sample(tiny, text_file, tmp_path / "whole")
        monkeypatch.setattr(forward_pass, "BATCH_TOKENS", 70)
        one_by_one = self.sample(tiny, text_file, tmp_path / "small batches")
        monkeypatch.setattr(documents, "GROUP", 3)
        other_groups = self.sample(tiny, text_file, tmp_path / "small groups")
        # A pair within 1e-7 of average may be in or out: its turn in the sample with it.
        for head in HEADS:
            assert len(wanted[head] ^ one_by_one[head]) <= 2
            assert len(wanted[head] ^ other_groups[head]) <= 2
        assert sum(wanted[h] == one_by_one[h] for h in HEADS) >= 6

    def test_copies_of_a_document_are_drawn_one_by_one(self, gpt2: Tiny, tmp_path: Path) -> None:
        """Three texts and 30 copies of a line: a sample is of many places of many copies."""
        lines = tmp_path / "lines.txt"
        lines.write_text(
            "\n".join([*(DOCUMENTS[i] for i in (1, 4, 7)), *[DOCUMENTS[0]] * 30]), encoding="utf-8"
        )
        for head, drawn in self.sample(gpt2, lines, tmp_path / "a").items():
            copies = [key for key in drawn if key[0] >= 3]
            assert len({key[0] for key in copies}) > 10, head
            assert len({key[1:] for key in copies}) > 10, head

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
            Plan(ctx=CTX, top=25, sample=30, band=21, shard=4),
            Plan(ctx=CTX, top=25, sample=30, per_token=3),
            Plan(ctx=CTX, top=25, sample=30, write=True),
            Plan(ctx=CTX, top=25, sample=30, all_windows=True),
            Plan(ctx=CTX, top=25, sample=30, all_windows=True, stride=20),
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
        assert stages == [
            "Reading", "Scanning", "Measuring the weights", "Probing for known roles",
            "Writing the index",
        ]  # fmt: skip
        last = [report for report in reports if report.stage == "Scanning"][-1]
        assert last.documents == manifest.documents
        assert last.tokens == manifest.tokens

    def test_a_document_of_one_token_is_left_out_with_a_notice(
        self, gpt2: Tiny, llama: Tiny, text_file: Path, tmp_path: Path
    ) -> None:
        corpus = load_corpus(str(text_file))
        place = DOCUMENTS.index("x")
        index = Index.open(scan(gpt2.session, corpus, SMALL, out=tmp_path))
        assert index.manifest.documents == len(DOCUMENTS) - 1
        assert index.manifest.short == 1
        said = [notice for notice in index.warnings() if "two tokens" in notice]
        assert said == ["Skipped 1 document of fewer than two tokens."]
        assert index.window(place + 1).document == place + 1
        with_bos = Index.open(scan(llama.session, corpus, SMALL, out=tmp_path))
        assert with_bos.manifest.short == 0
        assert not any("two tokens" in notice for notice in with_bos.warnings())
        assert with_bos.manifest.documents == len(DOCUMENTS)
        assert with_bos.window(place).texts == ("<s>", "x")

    def test_documents_too_short_to_count_a_row(self, gpt2: Tiny, tmp_path: Path) -> None:
        path = tmp_path / "short.txt"
        path.write_text("a cat\nthe dog\n")
        index = Index.open(scan(gpt2.session, load_corpus(str(path)), SMALL, out=tmp_path))
        for head in HEADS:
            assert (index.rows(head), index.pairs(head)) == (0, 0)
            assert index.top(head).examples == ()
            assert all(np.isnan(index.numbers(head)[n]) for n in (*ROW_METRICS, *DERIVED))
            assert all(np.isnan(share) for share in index.budget(head).values())
            assert all(row.mass == row.pairs == row.lift == 0 for row in index.sources(head))
            assert index.sampled_rows(head).examples == ()

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
            Plan(band=0),
            Plan(shard=0),
            Plan(per_token=-1),
            Plan(stride=20),
            Plan(ctx=32, all_windows=True, stride=33),
            Plan(all_windows=True, stride=0),
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
        with pytest.MonkeyPatch.context() as patch:
            # One window a batch, as the oracle reads them: thirty layers make the last bits of
            # other batches into more than NEAR.
            patch.setattr("attn.scan.forward_pass.BATCH_TOKENS", 72)
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
