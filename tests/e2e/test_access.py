"""Every page passes axe-core in light and dark, and fits the screen of a telephone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.e2e.serving import Server, go

HEAD = {"layer": 18, "head": 6}
VIEWS: dict[str, tuple[str, dict[str, object], str]] = {
    "heads": ("", {}, ".js-plotly-plot .main-svg"),
    "points": ("", {"view": "scatter"}, ".js-plotly-plot .main-svg"),
    "list": ("", {"view": "list"}, "[data-testid=stDataFrame]"),
    "examples": ("examples", {"rows": 2}, ".attn-row"),
    "bands": ("examples", {"order": "banded", "rows": 1}, ".attn-row"),
    "prompt": ("prompt", {}, ".view .text span"),
    "search": ("search", {}, ".js-plotly-plot .main-svg"),
    "search by token": ("search", {"find": "token", "looks": " the"}, ".attn-row"),
    "search by cells": ("search", {"pattern": "drawn by hand"}, ".board canvas"),
    "compare": ("compare", {"with": "L17H5"}, ".js-plotly-plot .main-svg"),
    "describe": ("describe", {}, "[data-testid=stMain] h2"),
    "scan": ("scan", {}, "[data-testid=stMain] button"),
    "methods": ("methods", {}, "[data-testid=stMain] table"),
    "an index that is not there": ("examples", {"index": "none"}, "[data-testid=stAlert]"),
}

NARROW = {"width": 390, "height": 844}
OVER = """() => {
    const main = document.querySelector("[data-testid=stMain]")
    return Math.max(document.documentElement.scrollWidth - innerWidth,
                    main.scrollWidth - main.clientWidth)
}"""


def serious(page: Page) -> list[str]:
    """What axe-core finds serious or critical, with the first places of each."""
    return [
        f"{one['id']}: {[node['target'] + [node['failureSummary']] for node in one['nodes'][:3]]}"
        for one in Axe().run(page).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("view", VIEWS)
def test_light_dark_and_narrow(new_page: Callable[[], Page], server: Server, view: str) -> None:
    name, query, last = VIEWS[view]
    page = new_page()
    page.emulate_media(color_scheme="light")
    go(page, server.address(name, **(HEAD | query)))
    expect(page.locator(last).first).to_be_visible()
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    app = page.get_by_test_id("stApp")
    expect(app).to_have_css("background-color", "rgb(255, 255, 255)")
    assert serious(page) == []
    page.emulate_media(color_scheme="dark")
    expect(app).to_have_css("background-color", "rgb(16, 24, 28)")
    expect(page.locator(last).first).to_be_visible()
    assert serious(page) == []
    page.set_viewport_size(NARROW)
    page.wait_for_timeout(500)  # plots follow their column
    assert page.evaluate(OVER) <= 0
