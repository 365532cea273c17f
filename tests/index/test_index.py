"""The index: what opens, what must not, and how damage is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attn.analyse.summary import summary
from attn.corpus.corpus import Document, load_corpus
from attn.errors import (
    AttnError,
    HeadError,
    IndexDamaged,
    IndexFailure,
    IndexMismatch,
    IndexMissing,
    QueryError,
)
from attn.heads import HeadId
from attn.index.format import FORMAT
from attn.index.index import Index, find_indexes
from attn.index.manifest import sealed_text, verify
from attn.measure.metrics import metrics
from attn.scan.plan import Plan
from attn.scan.run import scan
from tests.conftest import DOCUMENTS, Tiny, check_sentence

HEAD = HeadId(1, 2)
PLAN = Plan(ctx=64, top=25, sample=30)
FILES = [
    "heads.parquet", "documents.parquet", "vocabulary.parquet", "repeats.parquet",
    "examples/L01.parquet", "tokens/L01.parquet", "pairs/L01.parquet",
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(gpt2: Tiny, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index that nobody changes."""
    return scan(
        gpt2.session, load_corpus(str(text_file)), PLAN, out=tmp_path_factory.mktemp("whole")
    )


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(whole, tmp_path / whole.name))


@pytest.fixture
def index(whole: Path) -> Index:
    return Index.open(whole)


def change_manifest(folder: Path, **values: Any) -> None:
    """Another manifest, sealed like one that was written so."""
    path = folder / "manifest.json"
    before = json.loads(path.read_text())
    del before["seal"]
    path.write_text(sealed_text(before | values))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << (place % 8)
    path.write_bytes(bytes(data))


class TestOpen:
    def test_by_path_or_string(self, whole: Path) -> None:
        assert Index.open(whole).name == whole.name
        assert Index.open(str(whole)).path == whole
        verify(whole)

    @pytest.mark.parametrize("name", ["nowhere", "a file", "empty", "empty/below"])
    def test_missing(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "a file").write_text("x")
        (tmp_path / "empty").mkdir()
        with pytest.raises(IndexMissing, match="scan") as caught:
            Index.open(tmp_path / name)
        check_sentence(caught.value)

    @pytest.mark.parametrize("text", ["", "{", "5", "null", "[]", "{}", '{"format": 1}', "\udcff"])
    def test_not_an_index(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "manifest.json").write_text(text, encoding="utf-8", errors="surrogateescape")
        with pytest.raises(IndexFailure) as caught:
            Index.open(tmp_path)
        check_sentence(caught.value)

    @pytest.mark.parametrize("version", [0, FORMAT - 1, FORMAT + 1, str(FORMAT), None, 99])
    def test_another_version(self, copy: Path, version: Any) -> None:
        change_manifest(copy, format=version)
        with pytest.raises(IndexMismatch, match="scan again") as caught:
            Index.open(copy)
        check_sentence(caught.value)

    def test_a_manifest_with_other_fields(self, copy: Path) -> None:
        change_manifest(copy, more=1)
        with pytest.raises(IndexDamaged):
            Index.open(copy)

    @pytest.mark.parametrize(
        "values",
        [
            {"notices": 5},
            {"groups": None},
            {"files": 5},
            {"files": {"heads.parquet": 3}},
            {"n_layers": "two"},
            {"n_heads": None},
        ],
    )
    def test_a_manifest_with_values_of_other_kinds(
        self, copy: Path, values: dict[str, Any]
    ) -> None:
        change_manifest(copy, **values)
        with pytest.raises(AttnError):
            Index.open(copy).numbers(HEAD)

    def test_a_flipped_bit_in_the_manifest_is_found_on_opening(self, copy: Path) -> None:
        path = copy / "manifest.json"
        good = path.read_bytes()
        for place in range(len(good)):
            flip(path, place)
            with pytest.raises(IndexFailure) as caught:
                Index.open(copy)
            check_sentence(caught.value)
        path.write_bytes(good)
        verify(copy)

    @pytest.mark.parametrize("change", [b" ", b"\n", b"", b"{}"])
    def test_a_manifest_that_is_longer_or_shorter(self, copy: Path, change: bytes) -> None:
        path = copy / "manifest.json"
        good = path.read_bytes()
        path.write_bytes(good + change if change else good[:-1])
        with pytest.raises(IndexDamaged):
            Index.open(copy)

    @pytest.mark.parametrize("name", FILES)
    def test_a_file_that_is_cut_or_missing(self, copy: Path, name: str) -> None:
        data = (copy / name).read_bytes()
        (copy / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(IndexDamaged, match=name):
            Index.open(copy)
        (copy / name).unlink()
        with pytest.raises(IndexDamaged, match=name):
            Index.open(copy)

    @pytest.mark.parametrize(
        ("version", "told"), [(3, "copies of a document together"), (4, "numbers of the weights")]
    )
    def test_an_older_index_says_what_in_it_is_affected(
        self, copy: Path, version: int, told: str
    ) -> None:
        change_manifest(copy, format=version)
        with pytest.raises(IndexMismatch, match=told) as caught:
            Index.open(copy)
        assert str(caught.value).endswith("so scan again.")
        check_sentence(caught.value)

    def test_no_file_outside_the_folder_is_believed(self, copy: Path) -> None:
        files = json.loads((copy / "manifest.json").read_text())["files"]
        assert all(not name.startswith(("/", "..")) for name in files)


class TestDamage:
    def test_every_file_is_one_that_is_tested(self, copy: Path) -> None:
        files = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
        kinds = {name.replace("L00", "L01") for name in files}
        assert kinds == {*FILES, "manifest.json"}

    @pytest.mark.parametrize("name", FILES)
    def test_a_flipped_bit_is_found(self, copy: Path, name: str) -> None:
        """verify finds every one; reading finds it, or gives the same answer as before."""
        path = copy / name
        good = path.read_bytes()
        wanted = answers(Index.open(copy))
        found = 0
        for place in np.random.default_rng(0).integers(0, len(good), 40).tolist():
            flip(path, place)
            with pytest.raises(IndexDamaged, match=name):
                verify(copy)
            try:
                told = answers(Index.open(copy))
            except IndexDamaged as error:
                check_sentence(error)
                found += name in str(error)
            else:
                assert told == wanted
            path.write_bytes(good)
        verify(copy)
        assert found  # what is read is checked

    @pytest.mark.parametrize("name", FILES)
    def test_bytes_of_zero_in_the_middle(self, copy: Path, name: str) -> None:
        path = copy / name
        data = bytearray(path.read_bytes())
        data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
        path.write_bytes(bytes(data))
        with pytest.raises(IndexDamaged, match=name):
            verify(copy)
        with pytest.raises(IndexDamaged, match=name):
            answers(Index.open(copy))

    def test_every_byte_of_the_footer(self, copy: Path) -> None:
        """The footer has no checksum: whatever is flipped there, no foreign exception comes out."""
        path = copy / "heads.parquet"
        good = path.read_bytes()
        length = int.from_bytes(good[-8:-4], "little") + 8
        for place in range(len(good) - length, len(good), 5):
            flip(path, place)
            try:
                Index.open(copy).numbers(HEAD)
            except AttnError as error:
                check_sentence(error)
            path.write_bytes(good)

    def test_files_swapped(self, copy: Path) -> None:
        one, two = copy / "examples/L00.parquet", copy / "examples/L01.parquet"
        data = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(data)
        with pytest.raises(IndexDamaged, match="L0"):
            verify(copy)

    def test_a_foreign_file(self, copy: Path) -> None:
        (copy / "examples" / "L99.parquet").write_bytes(b"x")
        Index.open(copy)
        with pytest.raises(IndexDamaged, match="L99"):
            verify(copy)


def answers(index: Index) -> list[Any]:
    """What an index says to a number of questions."""
    told: list[Any] = [index.numbers(HEAD), index.pairs(HEAD)]
    for more in ({}, {"by": "attention"}, {"reverse": True}, {"one_per_document": True}):
        for example in index.top(HEAD, 5, **more).examples:
            assert example.row is not None
            told.append((example.record(), example.row.tolist(), example.copies))
    told.append([example.record() for example in index.random(HEAD, 5).examples])
    told.append([example.record() for example in index.sampled_rows(HEAD, 5).examples])
    told.append([example.record() for example in index.band(HEAD, 2, 5).examples])
    for token in (" the", ",", "e"):
        told.append([example.record() for example in index.top(HEAD, 12, token=token).examples])
    told.append((index.sources(HEAD), index.destinations(HEAD)))
    told.append((index.budget(HEAD), index.distances(HEAD)[1].tolist()))
    told.append((index.attention_counts(HEAD).tolist(), index.warnings(), index.vocabulary))
    told.append([index.window(place) for place in (0, 4, 10)])
    return told


class TestQuestions:
    @pytest.mark.parametrize("head", [HeadId(2, 0), HeadId(0, 4), HeadId(-1, 0), HeadId(99, 99)])
    def test_a_head_out_of_range(self, index: Index, head: HeadId) -> None:
        for ask in (
            index.top, index.random, index.numbers, index.rows, index.pairs, index.nonfinite,
            index.budget, index.distances, index.attention_counts, index.sampled_rows,
            index.sources, index.destinations, lambda head: index.band(head, 0),
            lambda head: index.top(head, token=" the"), lambda head: summary(index, head),
        ):  # fmt: skip
            with pytest.raises(HeadError, match="L0H0 to L1H3") as caught:
                ask(head)
            check_sentence(caught.value)

    def test_an_unknown_metric(self, index: Index) -> None:
        with pytest.raises(QueryError, match="induction"):
            index.metric("charm")
        for name in ("rows", "pairs", "layer"):
            with pytest.raises(QueryError):
                index.metric(name)

    def test_metrics_have_a_number_for_every_head(self, index: Index) -> None:
        for name in index.metric_names:
            values = index.metric(name)
            assert values.shape == (2, 4)
            assert values.dtype == np.float64
            first = 1 if name.endswith("_composition") else 0  # layer 0 has none before it
            assert np.isfinite(values[first:]).all()
            assert np.isnan(values[:first]).all()
        # The scan kept no write scores, and no special token ends its windows.
        left_out = {"sink_write", "previous_write", "separator"}
        # Its vocabulary has no names, no days, and the model cannot copy.
        left_out |= {
            "name_mover", "name_effect", "s_inhibition", "successor", "copy_suppression",
            "retrieval",
        }  # fmt: skip
        assert index.metric_names == tuple(name for name in metrics() if name not in left_out)
        with pytest.raises(QueryError, match="sink_write"):
            index.metric("sink_write")

    def test_callers_cannot_change_the_numbers(self, index: Index) -> None:
        name = index.metric_names[0]
        before = index.metric(name).copy()
        try:
            index.metric(name)[:] = 0
        except ValueError:
            return
        np.testing.assert_array_equal(index.metric(name), before)

    def test_more_than_is_kept(self, index: Index) -> None:
        ranking = index.top(HEAD, 10**9)
        assert len(ranking.examples) == ranking.kept == 25
        assert ranking.pairs > 25
        assert len(index.random(HEAD, 10**9).examples) == 30

    @pytest.mark.parametrize("n", [0, -1])
    def test_fewer_than_one(self, index: Index, n: int) -> None:
        with pytest.raises(QueryError):
            index.top(HEAD, n)
        with pytest.raises(QueryError):
            index.random(HEAD, n)

    def test_questions_without_an_answer(self, index: Index) -> None:
        for name in ("charm", "write"):
            with pytest.raises(QueryError, match=f"multiple, attention, not by '{name}'"):
                index.top(HEAD, by=name)
        with pytest.raises(QueryError):
            index.top(HEAD, by="attention", reverse=True)
        for place in (-1, 3, len(DOCUMENTS), 10**9):  # 3 has one token and was left out
            with pytest.raises(QueryError, match="document"):
                index.window(place)

    @pytest.mark.parametrize("token", [" the", "no such token", "", "\u201c", "a'b\"c"])
    def test_a_token_filter(self, index: Index, token: str) -> None:
        ranking = index.top(HEAD, 10**6, token=token)
        # This tokenizer spells the quote in bytes: its first piece begins other marks too.
        names = (
            {token: token}
            if token != "\u201c"
            else dict.fromkeys("\u201c\u201d\u2018\u2019\u2014", "\\xe2")
        )
        assert {e.token for e in ranking.examples} <= set(names)
        assert ranking.exact
        rows = [row for row in index.sources(HEAD) if row.token in names.values()]
        assert ranking.matching == sum(row.pairs for row in rows)
        kept = index.top(HEAD, 10**6).examples
        wanted = [e.record() for e in kept if e.token in names]
        assert [e.record() for e in ranking.examples][: len(wanted)] == wanted
        assert len(ranking.examples) >= min(PLAN.per_token, ranking.matching)

    def test_records_are_json(self, index: Index) -> None:
        for example in (*index.top(HEAD).examples, *index.random(HEAD).examples):
            record = json.loads(json.dumps(example.record()))
            kinds = {name: type(value) for name, value in record.items()}
            assert kinds == {
                **dict.fromkeys(("layer", "head", "document", "dst", "src", "start"), int),
                "token": str,
                "multiple": float,
                "attention": float,
            }
        json.dumps(index.numbers(HEAD))
        json.dumps([index.rows(HEAD), index.pairs(HEAD), index.nonfinite(HEAD)])

    def test_windows_show_the_text(self, index: Index) -> None:
        for place, text in enumerate(DOCUMENTS):
            if place == 3:
                continue
            window = index.window(place)
            assert (window.document, window.start) == (place, 0)
            assert len(window.ids) == len(window.texts) <= 64
            assert "\ufffd" not in "".join(window.texts)
            if text.isascii():
                assert text.startswith("".join(window.texts))
            assert str(place + 1) in window.source
            assert window.id == Document.make(place, text, "").id
            with pytest.raises(QueryError):
                index.window(place, 1)

    def test_heads_in_order(self, index: Index) -> None:
        assert [str(head) for head in index.heads()] == [
            f"L{layer}H{head}" for layer in range(2) for head in range(4)
        ]

    def test_many_threads_read(self, index: Index) -> None:
        wanted = answers(index)
        fresh, wrong = Index.open(index.path), []

        def ask() -> None:
            for _ in range(5):
                if answers(fresh) != wanted:
                    wrong.append(1)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


class TestFind:
    def test_newest_first_and_nothing_else(self, whole: Path, tmp_path: Path) -> None:
        for i, name in enumerate(("old", "new", "mid")):
            folder = Path(shutil.copytree(whole, tmp_path / name))
            when = 1_000_000 + (0, 20, 10)[i]
            os.utime(folder / "manifest.json", (when, when))
        (tmp_path / "no index").mkdir()
        (tmp_path / "file").write_text("x")
        (tmp_path / ".scan-1").mkdir()
        shutil.copytree(whole, tmp_path / ".scan-1" / "index")
        assert [path.name for path in find_indexes(tmp_path)] == ["new", "mid", "old"]

    def test_none(self, tmp_path: Path) -> None:
        assert find_indexes(tmp_path) == []
        assert find_indexes(tmp_path / "nowhere") == []


def test_reading_an_index_imports_no_torch(whole: Path) -> None:
    code = """
import sys
from attn.heads import HeadId
from attn.index.index import Index
from attn.index.manifest import verify
from attn.analyse.summary import summary
index = Index.open(sys.argv[1])
head = HeadId(1, 2)
index.top(head, token=' the', destination='.', regex=True)
index.random(head); index.band(head, 1); index.sampled_rows(head)
index.numbers(head); index.window(0); index.sources(head); index.destinations(head)
index.budget(head); index.warnings(); summary(index, head); verify(index.path)
heavy = {'torch', 'transformers', 'transformer_lens', 'streamlit', 'pandas'}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(whole)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
