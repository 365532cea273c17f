"""The app over other indexes than a causal model's: layers without attention, both directions."""

from __future__ import annotations

from pathlib import Path

import pytest

from attn.corpus.corpus import load_corpus
from attn.models.session import load_model
from attn.scan.plan import Plan
from attn.scan.run import scan
from tests.architectures import ALL, save
from tests.ui.conftest import Start, said

SENTENCE = "the cat sat on the mat and the dog sat on the mat"


@pytest.fixture(scope="module")
def indexes(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Architecture → a folder with one index of it."""
    made = {}
    for name in ("lfm2", "bert", "gemma2"):
        folder = save(ALL[name], tmp_path_factory.mktemp(name))
        made[name] = tmp_path_factory.mktemp(f"{name}-indexes")
        session = load_model(str(folder), device="cpu")
        scan(session, load_corpus(str(text_file)), Plan(ctx=48, min_row=4), out=made[name])
    return made


@pytest.mark.parametrize("page", ["heads", "examples", "prompt", "methods"])
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("name", ["lfm2", "bert", "gemma2"])
def test_every_page_shows_every_layer(
    start: Start, indexes: dict[str, Path], page: str, layer: int, name: str
) -> None:
    app = start(page, indexes[name], layer=layer, head=1, text=SENTENCE)
    assert not app.exception
    assert said(app)


def test_a_layer_without_attention_says_so(start: Start, indexes: dict[str, Path]) -> None:
    app = start("prompt", indexes["lfm2"], layer=0, head=1, text=SENTENCE)
    assert "Layer 0" in said(app)
    assert "has no attention" in said(app)
    assert not app.get("plotly_chart")


def test_both_directions_show_what_comes_later(start: Start, indexes: dict[str, Path]) -> None:
    app = start("prompt", indexes["bert"], layer=1, head=1, text=SENTENCE)
    assert app.get("plotly_chart")
