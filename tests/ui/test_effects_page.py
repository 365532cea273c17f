"""Effects on the pages: a colour of the map, a line of numbers, a fourth order of Examples."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from attn.analyse.effects.plan import Plan
from attn.analyse.effects.run import measure
from attn.formatting import shown
from attn.heads import HeadId
from attn.index.effects import Effects
from attn.index.index import Index
from tests.conftest import Tiny
from tests.ui.conftest import HARMLESS, HOSTILE, Start, elements, said

EXACT, ESTIMATED = HeadId(1, 2), HeadId(0, 1)


@pytest.fixture(scope="module")
def indexes(tiny_indexes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder with the tiny index, for effects to stand beside it."""
    folder = tmp_path_factory.mktemp("with-effects")
    shutil.copytree(tiny_indexes, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def effects(indexes: Path, gpt2: Tiny) -> Effects:
    (folder,) = (file.parent for file in indexes.glob("*/manifest.json"))
    plan = Plan(docs=9, exact=0, heads=(EXACT,))
    return measure(Index.open(folder), lambda: gpt2.session, plan)


def test_effect_colours_the_map_and_ranks_the_heads(
    start: Start, indexes: Path, effects: Effects
) -> None:
    app = start(indexes=indexes, metric="effect", layer=1, head=2)
    assert not app.exception
    assert app.selectbox(key="metric").value == "effect"
    assert app.query_params["metric"] == "effect"
    best = [button.label for button in app.button if (button.key or "").startswith("best ")]
    wanted = [
        f"**{head}** {effects.effect[head.layer, head.head]:.3f}" for head in effects.ranked()
    ]
    assert best == wanted
    assert "Of either sign, nats a token" in said(app)
    app.segmented_control(key="view").set_value("list").run()
    (table,) = app.dataframe
    np.testing.assert_allclose(table.value["Effect"], np.sort(effects.effect.reshape(-1))[::-1])
    assert app.selectbox(key="metric").select("induction").run().query_params["metric"] != "effect"


@pytest.mark.parametrize("head", [EXACT, ESTIMATED])
def test_a_heads_numbers_have_its_effect_and_its_rank(
    start: Start, indexes: Path, effects: Effects, head: HeadId
) -> None:
    app = start(indexes=indexes, layer=head.layer, head=head.head)
    value = effects.effect[head.layer, head.head]
    rank = 1 + sum(other > value for other in effects.effect.reshape(-1))
    kind = "exact" if head == EXACT else "estimated"
    assert f"Effect {value:+.4f} nats/token, rank {rank} of 8, {kind}, 95 % interval" in said(app)


def test_without_effects_the_pages_say_how_to_measure_them(start: Start) -> None:
    app = start(metric="effect", layer=1, head=2)
    assert app.selectbox(key="metric").value != "effect"
    assert "no metric effect" in said(app).replace("'", "")
    assert "Effect: not measured: run `python -m attn effects INDEX`" in said(app)
    app = start("examples", order="needed", layer=1, head=2)
    assert "run `python -m attn effects INDEX --head L1H2`" in said(app)


def test_examples_of_the_tokens_that_need_a_head_most(
    start: Start, indexes: Path, effects: Effects
) -> None:
    app = start("examples", indexes=indexes, order="needed", layer=1, head=2, rows=4)
    assert not app.exception
    assert app.query_params["order"] == "needed"
    found = [one.value for one in app.html if one.value.startswith('<div class="attn-head"')]
    texts = [one.value for one in app.html if one.value.startswith('<div class="attn-row"')]
    needed = effects.needed(EXACT)
    assert len(needed) > 8
    index = Index.open(effects.path.with_name(effects.path.name.split(".effects-")[0]))
    for page in (needed[:4], needed[4:8]):
        assert len(found) == len(texts) == 4
        for line, text, one in zip(found, texts, page, strict=True):
            window = index.window(one.document, one.start)
            assert f"<b>{one.change:+.3f} nats</b>" in line
            assert f"document {one.document}," in line
            assert shown(window.labels[one.position]).replace('"', "&quot;") in line
            assert "attn-dst" in text
        app.button(key="More rows").click().run()
        found = [one.value for one in app.html if one.value.startswith('<div class="attn-head"')]
        texts = [one.value for one in app.html if one.value.startswith('<div class="attn-row"')]
    app.segmented_control(key="order").set_value("ranked").run()
    assert "pairs above average" in said(app)


def test_a_head_that_was_only_estimated_says_so(
    start: Start, indexes: Path, effects: Effects
) -> None:
    app = start("examples", indexes=indexes, order="needed", layer=0, head=1)
    assert "run `python -m attn effects INDEX --head L0H1`" in said(app)


def test_damaged_effects_leave_the_pages_standing(
    start: Start, indexes: Path, effects: Effects, tmp_path: Path
) -> None:
    shutil.copytree(indexes, tmp_path / "damaged")
    (record,) = (tmp_path / "damaged").glob("*/effects.json")
    record.write_text(record.read_text().replace("1", "2"))
    app = start(indexes=tmp_path / "damaged", metric="effect")
    assert not app.exception
    assert "Effect: not measured" in said(app)


def test_hostile_texts_are_characters(
    start: Start, hostile_indexes: Path, gpt2: Tiny, tmp_path: Path
) -> None:
    assert len(HOSTILE) > 3
    shutil.copytree(hostile_indexes, tmp_path / "hostile")
    (folder,) = (file.parent for file in (tmp_path / "hostile").glob("*/manifest.json"))
    found = measure(
        Index.open(folder), lambda: gpt2.session, Plan(docs=9, exact=0, heads=(EXACT,), top=200)
    )
    app = start("examples", indexes=tmp_path / "hostile", order="needed", layer=1, head=2, rows=100)
    rows = [one.value for one in app.html if one.value.startswith('<div class="attn-')]
    assert len(rows) == 2 * min(100, len(found.needed(EXACT)))
    assert any("&lt;script&gt;" in row for row in rows)
    for row in rows:
        assert elements(row) <= HARMLESS
