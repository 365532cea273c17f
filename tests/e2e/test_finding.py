"""Finding heads in Chromium: cells drawn by hand, and ranges that leave heads out."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from playwright.sync_api import expect

from attn.analyse.filters import parse, within
from attn.analyse.search import by_cells
from attn.index.index import Index
from tests.e2e.conftest import Open

TEXT = "one two three four. one two three four. one two three"


def test_cells_are_drawn_with_the_pointer_and_by_keys(visit: Open, session: Any) -> None:
    ids = [int(i) for i in session.encode(TEXT).ids]
    n = len(ids)
    page = visit("search", layer=17, head=5, pattern="drawn by hand", text=TEXT)
    canvas = page.locator(".board canvas")
    expect(page.get_by_text("Draw the cells that the head should attend to.")).to_be_visible()
    size, labels = canvas.evaluate(
        "canvas => { const { size, labels } = canvas.closest('.board').board;"
        "return [size, labels] }"
    )

    def middle(dst: int, src: int) -> tuple[float, float]:
        box = canvas.bounding_box()
        assert box is not None
        x, y = (labels + (place + 0.5) * size for place in (src, dst))
        return box["x"] + x, box["y"] + y

    stroke = [(7, 3), (8, 4), (9, 5)]
    page.mouse.move(*middle(*stroke[0]))
    page.mouse.down()
    page.mouse.move(*middle(*stroke[-1]))  # the cell between is on the line
    page.mouse.up()
    text = ",".join(f"{dst}-{src}" for dst, src in stroke)
    expect(page).to_have_url(re.compile(rf"cells={text.replace(',', '%2C')}(&|$)"))
    cells = np.zeros((n, n), bool)
    cells[tuple(zip(*stroke, strict=True))] = True
    best = max(by_cells(session, ids, cells), key=lambda one: one.share)
    expect(page.get_by_role("button", name=f"{best.head} {best.share:.3f}")).to_be_visible()

    canvas.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    expect(page).to_have_url(re.compile(r"8-5(&|%2C)"))
    expect(page.locator(".board .told")).to_contain_text("asked for")
    page.mouse.click(*middle(8, 5))
    expect(page).to_have_url(re.compile(rf"cells={text.replace(',', '%2C')}(&|$)"))


def test_ranges_leave_heads_out(visit: Open, index: Index) -> None:
    page = visit(layer=17, head=5, metric="induction")
    page.get_by_role("button", name="Filter").click()
    low = page.get_by_test_id("stPopoverBody").get_by_role("slider").first
    low.focus()
    for _ in range(17):
        page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile("where=layer%3A17%3A(&|$)"))
    meant = within(index, parse("layer:17:"))
    expect(page.get_by_role("button", name=f"Filter: {meant.sum()} of 270")).to_be_visible()
    values = np.where(meant, index.metric("induction"), np.nan)
    page.wait_for_function(
        "wanted => [...document.querySelector('.js-plotly-plot')?._fullData?.[0]?.z ?? []]"
        ".flatMap(row => [...row]).filter(value => !Number.isNaN(value)).length === wanted",
        arg=int(np.isfinite(values).sum()),
    )
    page.get_by_role("button", name="Show all heads").click()
    expect(page).to_have_url(re.compile("where=(&|$)"))
