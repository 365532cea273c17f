"""Models at the edge of what a model can be: every page, command and export, and no traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attn.corpus.corpus import load_corpus
from attn.heads import HeadId
from attn.index.index import Index
from attn.models.session import load_model
from attn.scan.plan import Plan
from attn.scan.run import scan
from tests.cli.commands import attn
from tests.conftest import save_gpt2
from tests.ui.conftest import Start, start, tiny_indexes

__all__ = ["start", "tiny_indexes"]

WIDTH = 32  # of the tiny GPT-2: its queries, keys and values stand side by side


def uniform_head(model: Any) -> None:
    """The second head of the first layer gives every row of its pattern evenly."""
    weights = model.transformer.h[0].attn.c_attn
    weights.weight[:, 8:16] = weights.bias[8:16] = 0


def layer_of_zeros(model: Any) -> None:
    for part in model.transformer.h[0].attn.parameters():
        part.zero_()


def nan_head(model: Any) -> None:
    """The queries of the last layer's second head are no numbers."""
    model.transformer.h[1].attn.c_attn.weight[3, 8] = torch.nan


def nothing(model: Any) -> None:
    """The model as it is drawn."""


MODELS: dict[str, tuple[Callable[[Any], None], dict[str, int]]] = {
    "one layer": (nothing, {"n_layer": 1}),
    "one head": (nothing, {"n_head": 1}),
    "one layer of one head": (nothing, {"n_layer": 1, "n_head": 1}),
    "two tokens of context": (nothing, {"n_positions": 2}),
    "a constant head": (uniform_head, {}),
    "a layer of zeros": (layer_of_zeros, {}),
    "NaN in one head": (nan_head, {}),
}
PAGES = (
    "heads", "examples", "search", "compare", "prompt", "why", "describe", "scan", "methods",
)  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def folder(
    request: pytest.FixtureRequest, text_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An index of such a model; rows count from the second on."""
    change, settings = MODELS[request.param]

    def edit(model: Any) -> None:
        with torch.no_grad():
            change(model)

    made = save_gpt2(tmp_path_factory.mktemp("model") / "edge", edit, **settings)
    ctx = min(32, settings.get("n_positions", 32))
    out = tmp_path_factory.mktemp("edges")
    session = load_model(str(made), device="cpu")
    return scan(session, load_corpus(str(text_file)), Plan(ctx=ctx, min_row=1), out=out)


@pytest.fixture
def index(folder: Path) -> Index:
    return Index.open(folder)


@pytest.mark.parametrize("page", PAGES)
def test_every_page(page: str, index: Index, start: Start) -> None:
    for head in (HeadId(0, 0), index.heads()[-1]):
        app = start(page, index.path.parent, index=index.name, layer=head.layer, head=head.head)
        assert not app.exception
        for told in app.error:  # nothing to describe, or to split
            assert page in ("describe", "why")
            assert ("keeps no pair" if page == "describe" else "not finite") in told.value


def test_every_command(index: Index, tmp_path: Path) -> None:
    head = index.heads()[-1]
    folder = index.path
    for words in (
        ["verify", folder],
        *(["heads", folder, "--by", name] for name in index.metric_names),
        *([one, folder, head, "-n", 3] for one in ("top", "random", "tokens")),
        ["summary", folder, head],
        ["find", folder, "--token", " the"],
        ["find", folder, "--text", "a b", "--pattern", "previous token"],
        ["report", folder, head, "--out", tmp_path / "head.html"],
        ["export", folder, tmp_path / "heads.tar"],
        ["import", tmp_path / "heads.tar", "--out", tmp_path / "elsewhere"],
        ["describe", folder, head, "--dry-run"],
        ["descriptions", folder],
    ):
        done = attn(*words)
        assert done.returncode in (0, 2), (words, done)
        assert "Traceback" not in done.stderr
        if done.returncode:  # one sentence that says why, and nothing printed before it
            assert words[0] in ("describe", "find"), (words, done)
            assert len(done.stderr.strip().splitlines()) == 1, (words, done.stderr)
    assert (tmp_path / "head.html").stat().st_size > 10_000
    assert Index.open(tmp_path / "elsewhere" / folder.name).manifest.identity


def test_only_what_is_spoilt_has_no_number(
    request: pytest.FixtureRequest, folder: Path, index: Index
) -> None:
    """Sums are numbers but for the head of NaN, and that is said."""
    name = request.node.callspec.params["folder"]
    spoilt = [HeadId(1, 1)] if name == "NaN in one head" else []
    values = index.metric("self")
    for head in index.heads():
        assert np.isfinite(values[head.layer, head.head]) == (head not in spoilt), (name, head)
    said = " ".join(index.warnings())
    assert ("L1H1" in said) == bool(spoilt), said


def test_a_head_that_looks_evenly_has_no_pair_above_average(
    request: pytest.FixtureRequest, folder: Path, index: Index
) -> None:
    """The constant head, every head of a layer of zeros, and no other."""
    even = {"a constant head": [HeadId(0, 1)], "a layer of zeros": [HeadId(0, i) for i in range(4)]}
    name = request.node.callspec.params["folder"]
    uniform = np.isclose(index.metric("entropy_share"), 1, atol=1e-4)
    assert [head for head in index.heads() if uniform[head.layer, head.head]] == even.get(name, [])
    assert all(index.pairs(head) == 0 for head in even.get(name, []))
