"""The Compare page: which heads, their numbers, and what bad input gets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from attn.analyse.similar import similar
from attn.corpus.corpus import load_corpus
from attn.heads import HeadId
from attn.index.index import Index
from attn.scan.plan import Plan
from attn.scan.run import scan
from tests.conftest import Tiny
from tests.ui.conftest import Start, said

TEXT = "the cat sat on the mat"


def test_it_begins_with_the_most_similar_head(start: Start, index: Index) -> None:
    app = start("compare", layer=1, head=2, text=TEXT)
    (other,) = similar(index, HeadId(1, 2), 1)
    assert app.query_params["with"] == ""
    assert [m.label for m in app.metric] == [f"L1H2 and {other.head}"]
    assert "**L1H2**" in [m.value for m in app.markdown]


def test_four_heads_have_six_pairs(start: Start) -> None:
    app = start("compare", **{"layer": 0, "head": 0, "with": "L0H1,L1H0,L1H3", "text": TEXT})
    assert len(app.metric) == 6
    assert not app.exception
    assert "Where they differ most" in said(app)


def test_too_many_and_unknown_heads_are_said(start: Start) -> None:
    app = start("compare", **{"layer": 0, "head": 0, "with": "L9H9 x L0H1 L0H2 L0H3 L1H0"})
    said_so = " ".join(w.value for w in app.warning)
    assert "L9H9" in said_so
    assert "4 heads fit side by side" in said_so
    assert not app.exception


def test_a_head_is_not_compared_with_itself(start: Start) -> None:
    app = start("compare", **{"layer": 0, "head": 1, "with": "L0H1", "text": TEXT})
    assert not app.metric
    assert not app.exception


def test_the_same_examples_under_each_head(start: Start, index: Index, gpt2: Tiny) -> None:
    app = start("compare", **{"layer": 1, "head": 2, "with": "L0H3", "text": TEXT})
    heads = [h.value for h in app.get("html") if 'class="attn-head"' in h.value]
    wanted = []
    for example in index.top(HeadId(1, 2), 3, one_per_document=True).examples:
        ids = index.window(example.document, example.start).ids
        for layer, head in ((1, 2), (0, 3)):
            pattern = plain_patterns(gpt2, ids)[layer][head]
            wanted.append(f"attention {pattern[example.dst, example.src]:.3f}")
    assert len(heads) == len(wanted) == 6
    for shown, number in zip(heads, wanted, strict=True):
        assert number in shown


@pytest.fixture(scope="module")
def two(
    gpt2: Tiny, llama: Tiny, text_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """A folder with three indexes over one corpus, and their names by what was asked."""
    out = tmp_path_factory.mktemp("two-indexes")
    corpus = load_corpus(str(text_file))
    plans = {
        "long": (gpt2, Plan(ctx=64, min_row=4)),
        "short": (gpt2, Plan(ctx=32, min_row=4)),
        "llama": (llama, Plan(ctx=64, min_row=4)),
    }
    names = {
        key: scan(one.session, corpus, plan, out=out).name for key, (one, plan) in plans.items()
    }
    return out, names


def test_two_indexes_of_one_model(
    start: Start, two: tuple[Path, dict[str, str]], gpt2: Tiny
) -> None:
    folder, names = two
    query = {"index": names["long"], "against": names["short"], "layer": 1, "head": 2}
    app = start("compare", folder, **query, text=TEXT)
    assert not app.exception
    assert not app.warning
    other = next(m.label for m in app.metric)
    assert other == f"L1H2 and L1H2 · {gpt2.folder.name} {names['short'][-6:]}"
    assert next(m.value for m in app.metric) == "1.00"


def test_two_models_are_compared_by_the_same_places(
    start: Start, two: tuple[Path, dict[str, str]], gpt2: Tiny, llama: Tiny
) -> None:
    folder, names = two
    query = {"index": names["long"], "against": names["llama"], "layer": 1, "head": 2}
    app = start("compare", folder, **query, text=TEXT, **{"with": "L0H1"})
    assert not app.exception
    assert "different tokens" in said(app)
    assert not app.metric
    index = Index.open(folder / names["long"])
    example = index.top(HeadId(1, 2), 1).examples[0]
    texts = index.window(example.document, example.start).texts
    tokens = llama.session.encode("".join(texts), bos=True)
    owner = [place for place, text in enumerate(tokens.texts[1:], 1) for _ in text]
    dst, src = (owner[len("".join(texts[: i + 1])) - 1] for i in (example.dst, example.src))
    pattern = plain_patterns(llama, [int(i) for i in tokens.ids])[0][1]
    heads = [h.value for h in app.get("html") if 'class="attn-head"' in h.value]
    assert f"attention {pattern[dst, src]:.3f}" in heads[1]


def test_an_index_of_another_corpus_is_not_offered(
    start: Start, two: tuple[Path, dict[str, str]]
) -> None:
    folder, names = two
    app = start("compare", folder, index=names["long"], against="elsewhere", text=TEXT)
    assert any("no index elsewhere" in w.value for w in app.warning)
    assert all("elsewhere" not in box.options for box in app.selectbox)


def plain_patterns(tiny: Tiny, ids: Sequence[int]) -> list[np.ndarray]:
    """(head, dst, src) of each layer, as plain eager Hugging Face has them."""
    import torch

    with torch.no_grad():
        found = tiny.plain(torch.tensor([list(ids)]), output_attentions=True).attentions
    return [layer[0].numpy() for layer in found]
