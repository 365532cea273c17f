"""Why, in a real browser: from an example to its look, to an earlier look, and back by the link."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from attn.index.index import Index
from tests.e2e.conftest import Open, heading
from tests.e2e.looking import HEAD, expect_head, expect_rows, query
from tests.e2e.serving import go

LOOK = {"layer": 18, "head": 6, "look": "17-4"}
ANSWER = 60_000  # the model may have to load


def nodes(page: Page) -> list[str]:
    """What the graph's buttons are called, in their order."""
    box = page.locator(".stage button")
    expect(box.first).to_be_visible(timeout=ANSWER)
    found: list[str] = box.evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
    return found


def test_an_earlier_look_and_back_and_a_link_reopens_the_graph(visit: Open) -> None:
    page = visit("why", **LOOK)
    first = nodes(page)
    assert any(name.startswith("L18H6") for name in first)
    page.locator(".stage button", has_text="L16H0").first.click()
    expect(heading(page)).to_have_text("Why L16H0 looks there", timeout=ANSWER)
    assert query(page)["look"] == "4-3"
    assert query(page)["trail"] == "L18H6:0-17-4"
    top = page.locator(".stage button").first
    expect(top).to_have_attribute("aria-label", re.compile("^L16H0 "), timeout=ANSWER)
    earlier = nodes(page)
    again = go(page.context.new_page(), page.url)
    assert nodes(again) == earlier
    page.get_by_role("button", name=re.compile("L18H6 17 → 4")).click()
    expect(heading(page)).to_have_text("Why L18H6 looks there", timeout=ANSWER)
    assert query(page)["trail"] == ""
    expect(top).to_have_attribute("aria-label", first[0], timeout=ANSWER)
    assert nodes(page) == first


def test_an_example_asks_why(visit: Open, index: Index) -> None:
    page = visit("examples", layer=18, head=6)
    expect_rows(page, index.top(HEAD, 10))  # the page stands: no row moves under the click
    page.get_by_role("button", name="Why?").first.click()
    expect(heading(page)).to_have_text("Why L18H6 looks there", timeout=ANSWER)
    expect_head(page, HEAD)
    best = index.top(HEAD, 1).examples[0]
    assert query(page)["document"] == f"{best.document}-{best.start}"
    assert query(page)["look"] == f"{best.dst}-{best.src}"
    expect(page.get_by_text(f"{best.attention:.1%}", exact=False).first).to_be_visible(
        timeout=ANSWER
    )


def test_a_pair_of_the_prompt_asks_why(visit: Open) -> None:
    page = visit("prompt", layer=18, head=6, pairs="17-4")
    page.get_by_role("button", name=re.compile("^Why .*Cast → ell")).click(timeout=ANSWER)
    expect(heading(page)).to_have_text("Why L18H6 looks there", timeout=ANSWER)
    assert query(page)["look"] == "17-4"
    assert query(page)["document"] == ""


def test_a_button_takes_its_token_along(visit: Open) -> None:
    page = visit("search", layer=18, head=6, find="token", looks=" not")
    page.get_by_role("button", name="See more of them").click()
    expect(heading(page)).to_have_text("Examples of L18H6")
    expect(page).to_have_url(re.compile("token=\\+not&"))
