"""Indexes of parts of a corpus, merged: byte for byte what one scan of the whole gives."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attn.corpus.corpus import load_corpus
from attn.errors import AttnError, IndexDamaged, IndexMismatch, IndexMissing, ScanError
from attn.index.index import Index, find_indexes
from attn.index.manifest import verify
from attn.scan.merge import merge_indexes
from attn.scan.plan import Plan
from attn.scan.run import scan
from tests.conftest import DOCUMENTS, Tiny, contents
from tests.scanned import HEADS, keys

BASE = Plan(ctx=64, top=7, sample=9, band=5, per_token=3, shard=2)
PLANS = {
    "base": BASE,
    "write": replace(BASE, write=True),
    "windows": replace(BASE, ctx=24, min_row=4, all_windows=True),
    "windows that overlap": replace(
        BASE, ctx=24, min_row=4, all_windows=True, stride=9, write=True
    ),
    "more than there is": replace(BASE, top=5000, sample=5000, band=5000, per_token=5000),
    "no token lists, first not skipped": replace(BASE, per_token=0, skip_first=False, shard=1),
}
Cut = Callable[..., Path]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows that are skipped, unreadable characters, short documents: all that notices tell."""
    path = tmp_path_factory.mktemp("parts") / "rows.jsonl"
    texts = [
        *DOCUMENTS[:4],
        "",
        *DOCUMENTS[4:8],
        None,
        "y",
        *DOCUMENTS[8:],
        "odd \ufffd character here",
    ]
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    return path


@pytest.fixture
def cut(gpt2: Tiny, lines: Path, tmp_path: Path) -> Cut:
    """Scan some documents of the corpus into a folder of their own."""
    number = itertools.count()

    def get(
        plan: Plan, skip: int = 0, docs: int | None = None, *, tiny: Tiny = gpt2, file: Path = lines
    ) -> Path:
        corpus = load_corpus(str(file), docs=None if docs is None else skip + docs)
        return scan(tiny.session, corpus, plan, skip=skip, out=tmp_path / f"part{next(number)}")

    return get


def parts(cut: Cut, plan: Plan, *ends: int, **more: Any) -> list[Path]:
    """The corpus cut at some documents."""
    starts = [0, *ends]
    sizes = [end - start for start, end in itertools.pairwise(starts)]
    return [
        cut(plan, start, size, **more) for start, size in zip(starts, [*sizes, None], strict=True)
    ]


class TestEqualsOneScan:
    @pytest.mark.parametrize("name", PLANS)
    def test_of_two_parts(self, cut: Cut, tmp_path: Path, name: str) -> None:
        whole = cut(PLANS[name])
        merged = merge_indexes(parts(cut, PLANS[name], 6), tmp_path / "merged")
        verify(merged)
        assert contents(merged) == contents(whole)
        assert merged.name == whole.name
        assert list((tmp_path / "merged").iterdir()) == [merged]

    def test_llama(self, cut: Cut, llama: Tiny, tmp_path: Path) -> None:
        plan = PLANS["write"]
        whole = cut(plan, tiny=llama)
        merged = merge_indexes(parts(cut, plan, 4, tiny=llama), tmp_path / "merged")
        assert contents(merged) == contents(whole)

    def test_of_three_in_any_order_and_step_by_step(self, cut: Cut, tmp_path: Path) -> None:
        plan = PLANS["windows"]
        whole = contents(cut(plan))
        one, two, three = parts(cut, plan, 4, 8)
        for i, order in enumerate(itertools.permutations([one, two, three])):
            assert contents(merge_indexes(order, tmp_path / f"all{i}")) == whole
        left = merge_indexes([one, two], tmp_path / "left")
        right = merge_indexes([two, three], tmp_path / "right")
        assert contents(merge_indexes([left, three], tmp_path / "a")) == whole
        assert contents(merge_indexes([right, one], tmp_path / "b")) == whole

    def test_of_one_part_per_shard(self, cut: Cut, tmp_path: Path) -> None:
        every = parts(cut, BASE, *range(2, len(DOCUMENTS) + 2, 2))
        assert len(every) == 7
        assert contents(merge_indexes(every, tmp_path / "merged")) == contents(cut(BASE))

    @pytest.mark.parametrize("name", ["base", "windows that overlap"])
    def test_of_parts_that_repeat_texts(self, cut: Cut, tmp_path: Path, name: str) -> None:
        """Eight texts and 20 copies of a long one, which every part has some of."""
        file = tmp_path / "copies.txt"
        texts = [t for t in DOCUMENTS if len(t) > 9]
        long = texts[6]
        file.write_text("\n".join([*texts[:4], *[long] * 10, *texts[4:], *[long] * 10]), "utf-8")
        whole = cut(PLANS[name], file=file)
        merged = merge_indexes(parts(cut, PLANS[name], 6, 16, file=file), tmp_path / "merged")
        assert contents(merged) == contents(whole)
        index = Index.open(merged)
        assert index.manifest.repeated == 21
        for head in HEADS:  # the list itself has one pair of each text
            examples = index.top(head, 7, one_per_document=True).examples
            assert len(examples) == 7
            assert len({index.window(e.document).id for e in examples}) == 7

    def test_of_a_single_part(self, cut: Cut, tmp_path: Path) -> None:
        whole = cut(BASE)
        assert contents(merge_indexes([whole], tmp_path / "merged")) == contents(whole)

    def test_of_the_first_documents_alone(self, cut: Cut, tmp_path: Path) -> None:
        """The last part ends at --docs: so does the whole, within a shard or not."""
        whole = cut(BASE, 0, 9)
        merged = merge_indexes([cut(BASE, 4, 5), cut(BASE, 0, 4)], tmp_path / "merged")
        assert contents(merged) == contents(whole)
        assert Index.open(merged).manifest.docs == 9

    def test_a_part_from_the_middle(self, cut: Cut, tmp_path: Path) -> None:
        """Two parts that begin after the corpus does make the part that one scan would."""
        merged = merge_indexes([cut(BASE, 2, 4), cut(BASE, 6, 2)], tmp_path / "merged")
        assert contents(merged) == contents(cut(BASE, 2, 6))

    def test_notices_and_short_documents(self, cut: Cut, tmp_path: Path) -> None:
        merged = Index.open(merge_indexes(parts(cut, BASE, 6), tmp_path / "merged"))
        assert merged.warnings() == [
            "Skipped 2 of 15 rows: 1 empty, 1 without text in 'text'.",
            "Unreadable characters stand as \ufffd in 1 of 15 rows.",
            "Skipped 2 documents of fewer than two tokens.",
            "1 of 11 documents (9 %) repeats the text of an earlier one.",
        ]
        assert merged.manifest.short == 2

    def test_queries_of_the_whole(self, cut: Cut, tmp_path: Path) -> None:
        """Windows and tokens keep their places, whatever they were called in the parts."""
        whole = Index.open(cut(BASE))
        merged = Index.open(merge_indexes(parts(cut, BASE, 4), tmp_path / "merged"))
        for head in HEADS:
            for token in (" the", ",", " log"):
                theirs = merged.top(head, 10, token=token).examples
                assert keys(theirs) == keys(whole.top(head, 10, token=token).examples)
                assert {merged.window(e.document).texts[e.src] for e in theirs} <= {token}

    def test_what_is_merged_already_is_found(self, cut: Cut, tmp_path: Path) -> None:
        some = parts(cut, BASE, 6)
        one = merge_indexes(some, tmp_path / "merged")
        stamp = (one / "manifest.json").stat().st_mtime_ns
        assert merge_indexes(some, tmp_path / "merged") == one
        assert (one / "manifest.json").stat().st_mtime_ns == stamp

    def test_parts_and_whole_in_one_folder(self, gpt2: Tiny, lines: Path, tmp_path: Path) -> None:
        first = scan(gpt2.session, load_corpus(str(lines), docs=4), BASE, out=tmp_path)
        rest = scan(gpt2.session, load_corpus(str(lines)), BASE, skip=4, out=tmp_path)
        whole = merge_indexes([first, rest], tmp_path)
        assert set(find_indexes(tmp_path)) == {first, rest, whole}
        assert scan(gpt2.session, load_corpus(str(lines)), BASE, out=tmp_path) == whole


class TestRefusals:
    def refused(self, paths: Sequence[Path], out: Path, kind: type[AttnError], words: str) -> None:
        with pytest.raises(kind, match=words) as caught:
            merge_indexes(paths, out)
        sentence = str(caught.value)
        assert "\n" not in sentence
        assert sentence.endswith(".")
        assert not out.exists() or list(out.iterdir()) == []

    @pytest.fixture
    def out(self, tmp_path: Path) -> Path:
        return tmp_path / "merged"

    def test_overlaps(self, cut: Cut, out: Path) -> None:
        self.refused([cut(BASE, 0, 6), cut(BASE, 4)], out, ScanError, "share documents")
        self.refused([cut(BASE, 0, 4), cut(BASE, 0, 4)], out, ScanError, "share documents")
        self.refused([cut(BASE), cut(BASE, 4)], out, ScanError, "share documents")

    def test_gaps(self, cut: Cut, out: Path) -> None:
        self.refused([cut(BASE, 8), cut(BASE, 0, 4)], out, ScanError, "4 to 7 .* --skip 4 --docs 4")

    def test_parts_that_end_within_a_shard(self, cut: Cut, out: Path, tmp_path: Path) -> None:
        """Such a part can only come before one that begins at a shard, so there is a gap."""
        self.refused([cut(BASE, 0, 5), cut(BASE, 6)], out, ScanError, "5 to 5 .* --skip 5|shard")
        with pytest.raises(ScanError, match="multiple of --shard") as caught:
            cut(BASE, 5)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ({"ctx": 63}, "ctx, 64 and 63"),
            ({"seed": 1}, "seed, 0 and 1"),
            ({"write": True}, "write"),
            ({"shard": 3}, "shard, 2 and 3"),
            ({"all_windows": True}, "all_windows"),
            ({"per_token": 4}, "per_token"),
        ],
    )
    def test_another_plan(self, cut: Cut, out: Path, more: dict[str, Any], words: str) -> None:
        other = replace(BASE, **more)
        self.refused([cut(BASE, 0, 6), cut(other, 6)], out, IndexMismatch, words)

    def test_another_model(self, cut: Cut, llama: Tiny, out: Path) -> None:
        other = cut(replace(BASE, bos=False), 6, tiny=llama)
        self.refused([cut(BASE, 0, 6), other], out, IndexMismatch, "model")

    def test_another_corpus(self, cut: Cut, text_file: Path, out: Path) -> None:
        other = cut(BASE, 6, file=text_file)
        self.refused([cut(BASE, 0, 6), other], out, IndexMismatch, "corpus")

    def test_nothing(self, out: Path) -> None:
        self.refused([], out, ScanError, "Name the indexes")

    def test_what_is_no_index(self, cut: Cut, tmp_path: Path, out: Path) -> None:
        self.refused([cut(BASE, 0, 6), tmp_path], out, IndexMissing, "no index")

    @pytest.mark.parametrize("name", ["examples/L00.parquet", "pairs/L01.parquet", "heads.parquet"])
    def test_a_damaged_part(self, cut: Cut, out: Path, name: str) -> None:
        one, two = parts(cut, BASE, 6)
        data = bytearray((two / name).read_bytes())
        data[len(data) // 2] ^= 1
        (two / name).write_bytes(data)
        self.refused([one, two], out, IndexDamaged, name)
