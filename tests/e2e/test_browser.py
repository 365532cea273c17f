"""What a user does, in a real browser, on the real model: look, click, move, send, return."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from attn.charts import shown
from attn.heads import HeadId
from attn.index import Index, Ranking
from tests.e2e.conftest import HOSTILE, Open, go, heading, serve

HEAD = HeadId(18, 6)
SENTENCE = "Nora Quist met Nora Quist at the gate, and the gate was shut."


def query(page: Page) -> dict[str, str]:
    """The address bar's parameters."""
    found = parse_qs(urlsplit(page.url).query, keep_blank_values=True)
    return {name: values[0] for name, values in found.items()}


def expect_head(page: Page, head: HeadId) -> None:
    """The address, both sliders and the sidebar say that ``head`` is selected."""
    expect(page).to_have_url(re.compile(rf"[?&]layer={head.layer}&head={head.head}(&|$)"))
    sidebar = page.get_by_test_id("stSidebar")
    expect(sidebar.get_by_text(str(head), exact=True)).to_be_visible()
    for name, value in (("Layer", head.layer), ("Head", head.head)):
        slider = sidebar.get_by_role("slider", name=name)
        expect(slider).to_have_value(str(value))


def expect_rows(page: Page, ranking: Ranking) -> None:
    """The rows are the ranking's examples, in order, with the source's text marked in each."""
    heads, texts = page.locator(".attn-head"), page.locator(".attn-row")
    expect(heads).to_have_count(len(ranking.examples))
    assert ranking.examples
    for place, example in enumerate(ranking.examples):
        expect(heads.nth(place)).to_contain_text(f"attention {example.attention:.3f}")
        expect(heads.nth(place)).to_contain_text(f"document {example.document},")
        expect(heads.nth(place).locator(".attn-token").first).to_have_text(shown(example.token))
        marked = texts.nth(place).locator(".attn-src").first
        expect(marked).to_have_text(shown(example.token, " "))
        assert marked.text_content() == shown(example.token, " ")


def rows(page: Page) -> list[str]:
    """Every row's numbers and text, as shown."""
    return page.locator(".attn-head, .attn-row").all_inner_texts()


def tokens_of_plot(page: Page) -> list[str]:
    """The destinations of the one token × token heat map."""
    plot = page.locator(".js-plotly-plot")
    expect(plot).to_have_count(1)
    expect(plot.locator(".heatmaplayer image")).to_have_count(1)
    names: list[str] = plot.evaluate("plot => plot.data[0].y")
    return names


def click_cell(page: Page, index: Index, head: HeadId) -> None:
    """Click the middle of a head's cell in the map; other figures may be there before it."""
    area = page.locator("[class*=st-key-grid] .nsewdrag").first
    box = area.bounding_box()
    assert box is not None
    across, down = index.manifest.n_heads, index.manifest.n_layers
    x = (head.head + 0.5) * box["width"] / across
    y = (head.layer + 0.5) * box["height"] / down
    area.hover(position={"x": x, "y": y})
    expect(page.locator(".hoverlayer .hovertext")).to_contain_text(f"{head}:")
    area.click(position={"x": x, "y": y})


def test_deep_link_to_examples_on_a_fresh_server(
    new_context: Callable[[], BrowserContext], index: Index, indexes: Path, tmp_path: Path
) -> None:
    drawn = index.random(HEAD, 100, seed=3).examples
    token = max((e.token for e in drawn), key=[e.token for e in drawn].count)
    asked = {"layer": 18, "head": 6, "order": "random", "seed": 3, "rows": 5, "token": token}
    with serve(tmp_path / "log.txt", ATTN_INDEXES=indexes) as fresh:
        page = go(new_context().new_page(), fresh.address("examples", **asked))
        expect(heading(page)).to_have_text("Examples of L18H6")
        expect_rows(page, index.random(HEAD, 5, seed=3, token=token))
        expect_head(page, HEAD)
        assert query(page)["index"] == index.name
        assert query(page)["token"] == token


def test_copied_link_shows_the_same_rows_on_a_fresh_server(
    new_context: Callable[[], BrowserContext], index: Index, indexes: Path, tmp_path: Path
) -> None:
    with serve(tmp_path / "first.txt", ATTN_INDEXES=indexes) as first:
        page = go(new_context().new_page(), first.address("examples", layer=18, head=6))
        expect_rows(page, index.top(HEAD, 10))
        page.get_by_role("radio", name="Random").or_(
            page.get_by_role("button", name="Random", exact=True)
        ).click()
        seed = page.get_by_label("Seed", exact=True)
        seed.fill("41")
        seed.press("Enter")
        expect_rows(page, index.random(HEAD, 10, seed=41))
        wanted = rows(page)
        button = page.get_by_role("button", name="Copy link")
        expect(button).to_have_attribute("data-query", re.compile("seed=41"))
        button.click()
        expect(page.get_by_role("button", name="Link copied")).to_be_visible()
        link = page.evaluate("navigator.clipboard.readText()")
    with serve(tmp_path / "second.txt", port=first.port, ATTN_INDEXES=indexes):
        other = go(new_context().new_page(), link)
        expect_rows(other, index.random(HEAD, 10, seed=41))
        assert rows(other) == wanted
        assert query(other) == query(page)


@pytest.mark.parametrize("order", ["ranked", "reversed"])
def test_orders_by_link(visit: Open, index: Index, order: str) -> None:
    page = visit("examples", layer=18, head=6, order=order, rows=4)
    expect_rows(page, index.top(HEAD, 4, reverse=order == "reversed"))
    expect(page.get_by_text(f"4 of {index.pairs(HEAD):,} pairs above average")).to_be_visible()


def test_click_in_the_map_selects_and_history_returns(visit: Open, index: Index) -> None:
    page = visit(layer=17, head=5)
    expect_head(page, HeadId(17, 5))
    for head in (HeadId(3, 2), HeadId(29, 8)):
        click_cell(page, index, head)
        expect_head(page, head)
        expect(page.get_by_text(f"Head {head}")).to_be_visible()
    page.get_by_role("link", name="See where it looks").click()
    expect(heading(page)).to_have_text("Examples of L29H8")
    expect_rows(page, index.top(HeadId(29, 8), 10))
    page.go_back()
    expect(heading(page)).to_have_text("Heads of smollm2-135m")
    expect_head(page, HeadId(29, 8))
    page.go_forward()
    expect(heading(page)).to_have_text("Examples of L29H8")
    expect_rows(page, index.top(HeadId(29, 8), 10))


def test_a_point_of_the_scatter_selects_its_head(visit: Open, index: Index) -> None:
    page = visit(layer=17, head=5, view="scatter", x="sink", y="entropy", metric="induction")
    plot = page.locator(".js-plotly-plot").first
    expect(plot.locator(".points path")).to_have_count(index.metric("sink").size)
    head = HeadId(*map(int, np.unravel_index(index.metric("entropy").argmax(), (30, 9))))
    x, y = (float(index.metric(name)[head.layer, head.head]) for name in ("sink", "entropy"))
    at = plot.evaluate(
        """(plot, [x, y]) => [plot._fullLayout.xaxis.c2p(x), plot._fullLayout.yaxis.c2p(y)]""",
        [x, y],
    )
    plot.locator(".nsewdrag").first.click(position={"x": at[0], "y": at[1]})
    expect_head(page, head)
    page.get_by_text("Map", exact=True).click()
    expect(page.locator(".js-plotly-plot .heatmaplayer image").first).to_be_visible()
    click_cell(page, index, HeadId(3, 2))
    expect_head(page, HeadId(3, 2))


def test_keys_step_and_a_row_of_the_list_selects(visit: Open, index: Index) -> None:
    page = visit(layer=17, head=5, view="list", metric="induction", where="layer:10:20")
    grid = page.get_by_test_id("stDataFrame").first
    expect(grid).to_be_visible()
    page.get_by_text("Each row is one head").click()
    page.keyboard.press("n")
    expect_head(page, HeadId(17, 6))
    page.keyboard.press("p")
    expect_head(page, HeadId(17, 5))
    values = index.metric("induction")[10:21]
    order = np.argsort(-values, axis=None, kind="stable")
    third = HeadId(10 + int(order[2]) // 9, int(order[2]) % 9)
    grid.click(position={"x": 16, "y": 35 + 2.5 * 35})  # the box of the third row
    expect_head(page, third)


def test_a_search_finds_heads_and_a_click_selects(visit: Open, index: Index) -> None:
    page = visit("search", layer=17, head=5, find="pattern", pattern="previous token")
    best = page.get_by_role("button", name="L16H0")
    expect(best.first).to_be_visible()
    best.first.click()
    expect_head(page, HeadId(16, 0))
    click_cell(page, index, HeadId(3, 2))
    expect_head(page, HeadId(3, 2))
    assert query(page)["pattern"] == "previous token"


def test_sliders_are_kept_over_the_pages(visit: Open, index: Index) -> None:
    page = visit(layer=17, head=5)
    page.get_by_role("slider", name="Layer").press("ArrowRight")
    expect_head(page, HeadId(18, 5))
    page.get_by_role("slider", name="Head").press("ArrowRight")
    expect_head(page, HEAD)
    sidebar = page.get_by_test_id("stSidebar")
    sidebar.get_by_role("link", name="Examples").click()
    expect(heading(page)).to_have_text("Examples of L18H6")
    expect_rows(page, index.top(HEAD, 10))
    expect_head(page, HEAD)
    page.get_by_role("slider", name="Head").press("ArrowLeft")
    expect(heading(page)).to_have_text("Examples of L18H5")
    expect_rows(page, index.top(HeadId(18, 5), 10))
    sidebar.get_by_role("link", name="Heads").click()
    expect(heading(page)).to_have_text("Heads of smollm2-135m")
    expect_head(page, HeadId(18, 5))


def test_prompt_shows_the_users_text_and_all_heads(visit: Open, session: Any) -> None:
    page = visit("prompt", layer=18, head=6)
    box = page.get_by_role("textbox", name="Your text")
    box.fill(SENTENCE)
    page.get_by_role("button", name="Show attention").click()
    expect(page).to_have_url(re.compile("text=Nora"))
    expect(page.get_by_role("button", name="L18H8")).to_be_visible()
    page.wait_for_function(
        "wanted => document.querySelector('.js-plotly-plot')?.data?.[0].y.length === wanted",
        arg=len(session.encode(SENTENCE)),
    )
    names = [name.split(" ", 1)[1] for name in tokens_of_plot(page)]
    assert names[1:] == [shown(text) for text in session.encode(SENTENCE).texts[1:]]
    small = page.locator(".all button")
    expect(small).to_have_count(9)
    painted = "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, 9, 9).data).size"
    assert small.nth(6).locator("canvas").evaluate(painted) > 2
    expect(small.nth(6)).to_have_attribute("aria-pressed", "true")
    small.nth(3).click()
    expect_head(page, HeadId(18, 3))
    expect(small.nth(3)).to_have_attribute("aria-pressed", "true")
    expect(heading(page)).to_have_text("L18H3 on your text")
    expect(box).to_have_value(SENTENCE)


def test_tokens_are_held_and_their_pair_is_asked(visit: Open, session: Any) -> None:
    page = visit("prompt", layer=18, head=6, text=SENTENCE, rest=1)
    texts = session.encode(SENTENCE).texts
    view = page.locator(".view")
    tokens = view.locator(".text span")
    expect(tokens).to_have_count(len(texts))
    assert [shown(text) for text in tokens.all_text_contents()] == [shown(t) for t in texts]
    pattern = session.pattern(session.encode(SENTENCE).ids, HEAD).numpy()
    away = np.tril(pattern, -1)[:, 1:]  # the strongest look that neither rests nor stays
    again, best = (int(i) for i in np.unravel_index(away.argmax(), away.shape))
    best += 1
    tokens.nth(again).hover()
    expect(view.locator(".told .looks")).to_contain_text(f"{best} {shown(texts[best])}")
    expect(view.locator(".told .looks")).to_contain_text(f"{pattern[again, best]:.3f}"[:4])
    tokens.nth(again).click()
    expect(page).to_have_url(re.compile(rf"held={again}(&|$)"))
    expect(tokens.nth(again)).to_have_attribute("aria-pressed", "true")
    tokens.nth(best).click()
    expect(page).to_have_url(re.compile(rf"pairs={again}-{best}(&|$)"))
    expect(page.get_by_role("heading", name="Which heads join them")).to_be_visible()
    tokens.nth(again).focus()
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile(r"held=-1(&|$)"))
    slider = view.get_by_role("slider", name="Head of this layer")
    slider.press("ArrowRight")
    expect_head(page, HeadId(18, 7))


def test_opening_an_example_shows_its_document(visit: Open, index: Index) -> None:
    page = visit("examples", layer=18, head=6, rows=3)
    example = index.top(HEAD, 3).examples[1]
    expect_rows(page, index.top(HEAD, 3))  # the page stands: no row moves under the click
    page.get_by_role("button", name="Whole text").nth(1).click()
    place = f"{example.document}-{example.dst}-{example.src}"
    expect(page).to_have_url(re.compile(rf"open={place}(&|$)"))
    expect(page.get_by_role("button", name="Close")).to_have_count(1)
    texts = index.window(example.document).texts
    names = tokens_of_plot(page)
    assert len(names) == len(texts)
    assert names[example.src].startswith(f"{example.src} {shown(example.token)[:9]}"[:12])
    page.get_by_role("button", name="Close").click()
    expect(page.locator(".js-plotly-plot")).to_have_count(0)


def expect_inert(page: Page) -> None:
    """Nothing of a text has become an element, an attribute, a link or a running script."""
    made = (
        "img[src*=evil], img[onerror], [onerror], [onmouseover], form[action], iframe, "
        "input[name=q], a[href^='http://evil'], a[href^='javascript:'], .katex"
    )
    expect(page.locator(made)).to_have_count(0)
    for script in page.locator("script").all_text_contents():
        assert "taken" not in script
    assert page.evaluate("window.taken") is None


def test_hostile_texts_are_literal_everywhere(
    visit: Open, indexes: Path, sample_index: Path
) -> None:
    (folder,) = (p for p in indexes.iterdir() if p.name != sample_index.name)
    hostile = Index.open(folder)
    page = visit(index=folder.name, layer=18, head=6)
    expect(page.get_by_test_id("stSidebar").get_by_text("onerror=taken=6").first).to_be_visible()
    expect_inert(page)
    seen = ""
    for order in ("ranked", "reversed", "random"):
        page = visit("examples", index=folder.name, layer=8, head=0, order=order, rows=100)
        expect(page.locator(".attn-head").first).to_be_visible()
        seen += " ".join(page.locator(".attn-row").all_inner_texts())
        expect_inert(page)
    for text in HOSTILE:
        assert text[:30] in seen
    page.get_by_role("combobox", name="Source token").click()
    expect(page.get_by_role("option").first).to_be_visible()
    expect_inert(page)

    example = hostile.top(HeadId(8, 0), 1).examples[0]
    place = f"{example.document}-{example.dst}-{example.src}"
    page = visit("examples", index=folder.name, layer=8, head=0, open=place, token=example.token)
    assert tokens_of_plot(page)
    page.locator(".js-plotly-plot .nsewdrag").first.hover(position={"x": 60, "y": 200})
    expect(page.locator(".hoverlayer .hovertext")).to_contain_text("looks from")
    expect_inert(page)
    page = visit("examples", index=folder.name, layer=8, head=0, token=HOSTILE[1])
    expect(page.get_by_test_id("stAlert")).to_contain_text("<img")
    expect_inert(page)

    text = " ".join(HOSTILE)
    page = visit("prompt", index=folder.name, layer=8, head=0, text=text)
    expect(page.get_by_role("textbox", name="Your text")).to_have_value(text)
    assert any("script" in name for name in tokens_of_plot(page))
    expect_inert(page)
    page = visit("search", index=folder.name, layer=8, head=0, text=text, pattern="same token")
    expect(page.get_by_text("The pairs:")).to_be_visible()
    expect_inert(page)
    page = visit("search", index=folder.name, find="token", looks=HOSTILE[2])
    expect(page.get_by_test_id("stAlert")).to_contain_text("![picture]")
    expect_inert(page)
    page = visit("compare", index=folder.name, layer=8, head=0, text=text, **{"with": HOSTILE[2]})
    expect(page.get_by_test_id("stAlert").first).to_contain_text("![picture]")
    expect_inert(page)
    page = visit("methods", index=HOSTILE[2], model=HOSTILE[0], corpus=HOSTILE[3])
    expect_inert(page)
    page = visit("examples", index=HOSTILE[2], model=HOSTILE[0], corpus=HOSTILE[3])
    expect(page.get_by_test_id("stAlert")).to_contain_text("![picture](http:")
    expect(page.get_by_test_id("stCode")).to_contain_text("<script>window.taken")
    expect_inert(page)


def test_without_model_and_index_every_page_offers_a_button(
    new_context: Callable[[], BrowserContext], tmp_path: Path
) -> None:
    nothing = {"ATTN_CACHE": tmp_path / "cache", "ATTN_INDEXES": tmp_path / "cache" / "indexes"}
    with serve(tmp_path / "log.txt", **nothing, ATTN_MODEL="") as bare:
        page = new_context().new_page()
        for name in ("", "examples", "prompt"):
            page.goto(bare.address(name))
            button = page.get_by_role("button", name="Fetch the model and scan the sample texts")
            expect(button).to_be_enabled()
            expect(
                page.get_by_text("The built-in model and the index are not there")
            ).to_be_visible()
            expect(page.get_by_test_id("stException")).to_have_count(0)
            assert "Traceback" not in page.content()


def test_the_button_scans_in_the_background(
    new_context: Callable[[], BrowserContext], tiny_llama: Path, tmp_path: Path
) -> None:
    there = {"ATTN_INDEXES": tmp_path / "indexes", "ATTN_MODEL": tiny_llama}
    with serve(tmp_path / "log.txt", **there) as bare:
        page = new_context().new_page()
        page.goto(bare.address())
        page.get_by_role("button", name="Scan the sample texts").click()
        expect(page.get_by_role("progressbar")).to_be_visible()
        expect(heading(page)).to_contain_text("tiny-llama", timeout=200_000)
        expect(page.locator(".js-plotly-plot").first).to_be_visible()
    assert len(list((tmp_path / "indexes").glob("*/manifest.json"))) == 1
