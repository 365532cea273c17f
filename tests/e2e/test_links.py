"""Links in a real browser: a fresh server shows the same rows, Back and Forward return."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from attn.formatting import shown
from attn.heads import HeadId
from attn.index.index import Index
from tests.e2e.conftest import Open, heading
from tests.e2e.looking import (
    HEAD,
    click_cell,
    expect_head,
    expect_rows,
    query,
    rows,
    tokens_of_plot,
)
from tests.e2e.serving import go, serve


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
    """The link as it was copied, opened where another server has taken the first one's place."""
    with serve(tmp_path / "first.txt", ATTN_INDEXES=indexes) as first:
        page = new_context().new_page()
        go(page, first.address("examples", index=index.name, layer=18, head=6))
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
        link, state = page.evaluate("navigator.clipboard.readText()"), query(page)
        assert link.startswith(first.url)
        page.context.close()
    with serve(tmp_path / "second.txt", first.port, ATTN_INDEXES=indexes):
        other = go(new_context().new_page(), link)
        expect_rows(other, index.random(HEAD, 10, seed=41))
        assert rows(other) == wanted
        assert query(other) == state


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


def test_a_link_to_an_index_that_is_not_here_fills_in_the_scan_page(visit: Open) -> None:
    page = visit("examples", index="none", model="gpt2", corpus="news.csv:body", ctx=64)
    page.get_by_role("button", name="Make it on the Scan page").click()
    expect(heading(page)).to_have_text("Scan a corpus with a model")
    main = page.get_by_test_id("stMain")
    fields = main.get_by_role("textbox")
    expect(fields.nth(0)).to_have_value("gpt2")
    expect(fields.nth(1)).to_have_value("news.csv:body")
    expect(page).to_have_url(re.compile("scan_model=gpt2.*scan_ctx=64"))
