"""A head chosen by click, key, slider and search, in a real browser, is chosen everywhere."""

from __future__ import annotations

import numpy as np
from playwright.sync_api import expect

from attn.heads import HeadId
from attn.index.index import Index
from tests.e2e.conftest import Open, heading
from tests.e2e.looking import (
    HEAD,
    click_cell,
    expect_head,
    expect_rows,
    query,
)


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
