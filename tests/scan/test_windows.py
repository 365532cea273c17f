"""Long documents in windows: where they begin, what they hold, and whose they are."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest

from attn.corpus.corpus import Document, load_corpus
from attn.errors import QueryError
from attn.heads import Example, HeadId
from attn.index.index import Index
from attn.measure.scores import BANDS
from attn.scan.plan import Plan
from attn.scan.run import scan
from tests.conftest import DOCUMENTS, Tiny

LONG = max(range(len(DOCUMENTS)), key=lambda place: len(DOCUMENTS[place]))


def opened(tiny: Tiny, lines: Path, out: Path, **plan: object) -> Index:
    made = Plan(**{"min_row": 2, "top": 5, "sample": 5, "all_windows": True} | plan)  # type: ignore[arg-type]
    return Index.open(scan(tiny.session, load_corpus(str(lines)), made, out=out))


def starts(index: Index, place: int) -> list[int]:
    """Where the windows of a document begin."""
    found = []
    for start in range(400):
        try:
            index.window(place, start)
        except QueryError:
            continue
        found.append(start)
    return found


class TestWindows:
    def test_one_after_the_other_they_are_the_document(
        self, tiny: Tiny, text_file: Path, tmp_path: Path
    ) -> None:
        bos = int(tiny.session.has_bos)
        index = opened(tiny, text_file, tmp_path, ctx=20, stride=20 - bos)
        total = 0
        for place, text in enumerate(DOCUMENTS):
            whole = tiny.ids(text)
            windows = [index.window(place, start) for start in starts(index, place)]
            pieces = [list(window.ids)[bos:] for window in windows]
            total += len(windows)
            if len(whole) + bos < 2:
                assert windows == []
                continue
            assert list(chain.from_iterable(pieces)) == whole
            assert [window.start for window in windows] == [
                i * (20 - bos) for i in range(len(windows))
            ]
            for window in windows:
                assert (window.document, window.id) == (place, Document.make(0, text, "").id)
                assert bos == 0 or window.texts[0] == "<s>"
        assert total == index.manifest.windows
        assert index.manifest.documents == len(DOCUMENTS) - (not bos)

    @pytest.mark.parametrize("stride", [1, 7, 19])
    def test_a_stride_makes_them_overlap(
        self, llama: Tiny, text_file: Path, tmp_path: Path, stride: int
    ) -> None:
        """Windows begin every so many tokens, until one reaches the end."""
        index = opened(llama, text_file, tmp_path, ctx=20, stride=stride)
        for place in (0, LONG):
            whole = llama.ids(DOCUMENTS[place])
            begun = starts(index, place)
            assert begun == list(range(0, len(whole) - 19 + stride, stride))[: len(begun)]
            assert begun[-1] + 19 >= len(whole) > begun[-1] + 19 - stride
            for start in begun:
                ids = list(index.window(place, start).ids)
                assert ids == [llama.session.bos_id, *whole[start : start + 19]]

    def test_a_document_that_fits_has_one(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path
    ) -> None:
        """Then all windows are the first ones: the same examples, in another index."""
        index = opened(gpt2, text_file, tmp_path / "all", ctx=128)
        first = Plan(ctx=128, min_row=2, top=5, sample=5)
        other = Index.open(scan(gpt2.session, load_corpus(str(text_file)), first, out=tmp_path))
        longest = max(len(gpt2.ids(text)) for text in DOCUMENTS)
        assert longest <= 128
        assert index.manifest.windows == other.manifest.windows
        assert index.manifest.identity != other.manifest.identity
        for head in index.heads():
            one, two = ([e.record() for e in i.top(head).examples] for i in (index, other))
            assert one == two

    @pytest.mark.parametrize("bos", [False, True])
    def test_unless_told_every_row_has_min_row_positions_before_it(
        self, llama: Tiny, text_file: Path, tmp_path: Path, bos: bool
    ) -> None:
        index = opened(llama, text_file, tmp_path, ctx=20, bos=bos, sample=1000)
        assert starts(index, LONG)[:3] == [0, 18, 36]
        drawn = index.sampled_rows(HEAD, 1000).examples
        assert len(drawn) == index.rows(HEAD)
        assert min(example.dst for example in drawn) == 2
        assert "--stride" not in " ".join(index.warnings())


HEAD = HeadId(1, 2)
EVERYTHING = 10_000


class TestRowsCountOnce:
    """A text of 225 tokens in windows of 32: each of its rows counts, in one window."""

    MIN_ROW = 10

    @pytest.fixture(scope="class")
    @classmethod
    def long_text(cls, gpt2: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
        draw = random.Random(0)
        words = " ".join(DOCUMENTS).split()
        text = "Begin"
        while len(gpt2.ids(text)) < 225:
            text += " " + draw.choice(words)
        path = tmp_path_factory.mktemp("long") / "long.txt"
        path.write_text(text, encoding="utf-8")
        return path

    @pytest.mark.parametrize("stride", [32, 31, 16, 4])
    def test_in_every_list(self, tiny: Tiny, long_text: Path, tmp_path: Path, stride: int) -> None:
        """By brute force: the rows of the document, and pairs of them, none twice."""
        bos, n = int(tiny.session.has_bos), len(tiny.ids(long_text.read_text(encoding="utf-8")))
        stride = min(stride, 32 - bos)
        plan = Plan(ctx=32, top=EVERYTHING, sample=EVERYTHING, band=EVERYTHING, per_token=5,
                    all_windows=True, stride=stride)  # fmt: skip
        index = Index.open(scan(tiny.session, load_corpus(str(long_text)), plan, out=tmp_path))
        assert index.manifest.windows == math.ceil((n + bos - 32) / stride) + 1

        def places(examples: Sequence[Example]) -> list[tuple[int, int]]:
            """Destination and source in the document; a later BOS is none of its tokens."""
            return [
                (e.start + e.dst, e.start + e.src if e.src >= bos else -e.start) for e in examples
            ]

        for head in index.heads():
            rows = places(index.sampled_rows(head, EVERYTHING).examples)
            assert sorted(dst for dst, _ in rows) == [*range(self.MIN_ROW, n + bos)]
            assert index.rows(head) == n + bos - self.MIN_ROW
            pairs = index.top(head, EVERYTHING)
            assert pairs.exact
            assert len(pairs.examples) == index.pairs(head) > 100
            band = [e for i in range(len(BANDS)) for e in index.band(head, i, EVERYTHING).examples]
            for examples in (
                pairs.examples,
                index.top(head, EVERYTHING, by="attention").examples,
                index.top(head, EVERYTHING, reverse=True).examples,
                index.random(head, EVERYTHING).examples,
                band,
            ):
                assert len(set(places(examples))) == len(examples) == index.pairs(head)
            listed = index.top(head, EVERYTHING, token=" the").examples
            assert len(set(places(listed))) == len(listed) > 0
        assert sum(row.count for row in index.sources(HEAD)) == n + bos
        rows = index.destinations(HEAD)
        assert sum(row.mass / row.lift for row in rows if row.lift) == pytest.approx(
            index.rows(HEAD)
        )

    @pytest.mark.parametrize(("stride", "said"), [(4, False), (22, False), (23, True)])
    def test_rows_with_little_before_them_are_announced(
        self, llama: Tiny, long_text: Path, tmp_path: Path, stride: int, said: bool
    ) -> None:
        plan = Plan(ctx=32, all_windows=True, stride=stride, sample=EVERYTHING)
        index = Index.open(scan(llama.session, load_corpus(str(long_text)), plan, out=tmp_path))
        drawn = index.sampled_rows(HEAD, EVERYTHING).examples
        assert min(example.dst for example in drawn) == min(10, 32 - stride)
        assert any("--stride 22" in sentence for sentence in index.warnings()) == said

    def test_a_piece_of_one_token_counts(self, gpt2: Tiny, tmp_path: Path) -> None:
        """41 tokens in windows of 20 without overlap: the last has one token."""
        text = " ".join(["one"] * 20 + ["on"])
        lines = tmp_path / "lines.txt"
        lines.write_text(text, encoding="utf-8")
        assert len(gpt2.ids(text)) == 41
        index = opened(gpt2, lines, tmp_path / "out", ctx=20, stride=20)
        assert starts(index, 0) == [0, 20, 40]
        assert {index.rows(head) for head in index.heads()} == {39}
