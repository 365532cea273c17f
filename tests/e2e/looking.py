"""What the tests in a browser look for: the head, the rows and the plot that a page shows."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from attn.formatting import shown
from attn.heads import HeadId
from attn.index.index import Index
from attn.index.query import Ranking
from tests.e2e.serving import READY

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
    area = page.locator("[class*=st-key-grid], [class*=st-key-map]").locator(".nsewdrag").first
    page.locator(READY).wait_for()
    box = area.bounding_box()
    for _ in range(100):  # a run that has just ended may still put a new map in place of the old
        if box is not None:
            break
        page.wait_for_timeout(100)
        box = area.bounding_box()
    assert box is not None
    across, down = index.manifest.n_heads, index.manifest.n_layers
    x = (head.head + 0.5) * box["width"] / across
    y = (head.layer + 0.5) * box["height"] / down
    area.hover(position={"x": x, "y": y})
    expect(page.locator(".hoverlayer .hovertext")).to_contain_text(f"{head}:")
    area.click(position={"x": x, "y": y})


def save(page: Page, name: str, folder: Path) -> Path:
    """Press the first button of that name and keep what comes."""
    with page.expect_download() as coming:
        page.get_by_role("button", name=name, exact=True).first.click()
    file = folder / coming.value.suggested_filename
    coming.value.save_as(file)
    return file
