"""Texts that would be markup or scripts are text in a real browser."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from attn.heads import HeadId
from attn.index.index import Index
from tests.e2e.conftest import HOSTILE, Open
from tests.e2e.looking import (
    tokens_of_plot,
)


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
