"""The tour of a first visit in Chromium: it goes along, and once dismissed it stays away."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import BrowserContext, expect

from tests.e2e.serving import Server, go


def test_the_tour_goes_along_and_ends_for_good(
    new_context: Callable[..., BrowserContext], server: Server
) -> None:
    context = new_context(tour=True)
    page = go(context.new_page(), server.address())
    card = page.get_by_role("complementary", name="Tour")
    expect(card).to_contain_text("1 of 7")
    card.get_by_role("button", name="Next").click()
    expect(card).to_contain_text("2 of 7")
    page.get_by_test_id("stSidebar").get_by_role("link", name="Examples").click()
    expect(card).to_contain_text("Read what it looks at")
    page.reload()
    expect(card).to_contain_text("3 of 7")
    card.get_by_role("button", name="End the tour").click()
    expect(card).to_be_hidden()
    page = go(context.new_page(), server.address())
    expect(page.get_by_role("complementary", name="Tour")).to_be_hidden()
    page.get_by_role("button", name="Tour").click()
    expect(page.get_by_role("complementary", name="Tour")).to_contain_text("1 of 7")
