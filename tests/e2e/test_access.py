"""Every page passes axe-core in light and dark, and fits the screen of a telephone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from tests.e2e.serving import Server, go

HEAD = {"layer": 18, "head": 6}
VIEWS: dict[str, tuple[str, dict[str, object], str]] = {
    "heads": ("", {}, ".js-plotly-plot .main-svg"),
    "points": ("", {"view": "scatter"}, ".js-plotly-plot .main-svg"),
    "list": ("", {"view": "list"}, "[data-testid=stDataFrame]"),
    "examples": ("examples", {"rows": 2}, ".attn-row"),
    "bands": ("examples", {"order": "banded", "rows": 1}, ".attn-row"),
    "prompt": ("prompt", {}, ".view .text span"),
    "search": ("search", {}, "[data-testid=stMain] h3"),
    "search by token": ("search", {"find": "token", "looks": " the"}, ".attn-row"),
    "search by cells": ("search", {"pattern": "drawn by hand"}, ".board canvas"),
    "compare": ("compare", {"with": "L17H5"}, ".js-plotly-plot .main-svg"),
    "describe": ("describe", {}, "[data-testid=stMain] h2"),
    "scan": ("scan", {}, "[data-testid=stMain] button"),
    "methods": ("methods", {}, "[data-testid=stMain] table"),
    "an index that is not there": ("examples", {"index": "none"}, "[data-testid=stAlert]"),
}

New = Callable[..., BrowserContext]


def visit(context: BrowserContext, server: Server, view: str) -> Page:
    """A view, drawn to its end."""
    name, query, last = VIEWS[view]
    page = go(context.new_page(), server.address(name, **(HEAD | query)))
    expect(page.locator(last).first).to_be_visible()
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_in_the_way(new_context: New, server: Server, scheme: str) -> None:
    context = new_context(color_scheme=scheme)
    found = []
    for view in VIEWS:
        page = visit(context, server, view)
        for one in Axe().run(page).response["violations"]:
            if one["impact"] in ("serious", "critical"):
                nodes = [f"{node['target']}: {node['failureSummary']}" for node in one["nodes"]]
                found.append(f"{view}: {one['id']} at {nodes[:3]}")
        page.close()
    assert not found


def test_every_page_fits_a_narrow_screen(new_context: New, server: Server) -> None:
    context = new_context(viewport={"width": 390, "height": 844})
    wide = {}
    for view in VIEWS:
        page = visit(context, server, view)
        over = page.evaluate(
            """() => {
                const main = document.querySelector('[data-testid=stMain]')
                return Math.max(document.documentElement.scrollWidth - innerWidth,
                                main.scrollWidth - main.clientWidth)
            }"""
        )
        if over > 0:
            wide[view] = over
        page.close()
    assert not wide
