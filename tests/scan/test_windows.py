"""Long documents in windows: where they begin, what they hold, and whose they are."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest

from attn.corpus.corpus import Document, load_corpus
from attn.errors import QueryError
from attn.index.index import Index
from attn.scan.plan import Plan
from attn.scan.run import scan
from tests.conftest import DOCUMENTS, Tiny

LONG = max(range(len(DOCUMENTS)), key=lambda place: len(DOCUMENTS[place]))


def opened(tiny: Tiny, lines: Path, out: Path, **plan: object) -> Index:
    made = Plan(min_row=2, top=5, sample=5, all_windows=True, **plan)  # type: ignore[arg-type]
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
        index = opened(tiny, text_file, tmp_path, ctx=20)
        total = 0
        for place, text in enumerate(DOCUMENTS):
            whole = tiny.ids(text)
            windows = [index.window(place, start) for start in starts(index, place)]
            pieces = [list(window.ids)[bos:] for window in windows]
            total += len(windows)
            if len(whole) + bos < 2:
                assert windows == []
                continue
            # A last piece of one token alone makes no window.
            left_out = len(whole) % (20 - bos) == 1 and not bos
            assert list(chain.from_iterable(pieces)) == (whole[:-1] if left_out else whole)
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

    def test_every_row_of_a_long_document_counts(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path
    ) -> None:
        index = opened(gpt2, text_file, tmp_path, ctx=20)
        rows = sum(
            max(len(index.window(place, start).ids) - 2, 0)
            for place in range(len(DOCUMENTS))
            for start in starts(index, place)
        )
        assert {index.rows(head) for head in index.heads()} == {rows} == {index.manifest.rows}
