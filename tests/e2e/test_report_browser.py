"""A head's report and a figure, saved from the app and opened where there is no network."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from attn.formatting import shown
from attn.index.index import Index
from tests.e2e.conftest import Open, OpenFile
from tests.e2e.looking import HEAD, save


def test_a_report_opens_anywhere(
    visit: Open, open_file: OpenFile, index: Index, tmp_path: Path
) -> None:
    app = visit(layer=18, head=6)
    file = save(app, "Download report", tmp_path)
    assert file.name == f"{index.name}.L18H6.html"
    page = open_file(file)
    expect(page.get_by_role("heading", level=1)).to_have_text("L18H6 of smollm2-135m")
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    drawn = page.evaluate("[...document.querySelectorAll('.figure')].map(f => f.data.length)")
    assert len(drawn) == 8
    assert all(drawn)
    expect(page.locator(".heatmaplayer image")).to_have_count(6)
    best = index.top(HEAD, 1).examples[0]
    texts = index.window(best.document).texts[: best.dst + 1]
    first = page.locator(".example .attn-text").first
    assert first.text_content() == "".join(shown(text, " ") for text in texts)
    assert first.locator(".attn-src").text_content() == shown(best.token, " ")
    page.locator(".js-plotly-plot").nth(1).hover()
    with page.expect_download() as coming:
        page.locator('[data-title="Save as SVG"]').nth(1).click()
    assert "<svg" in Path(coming.value.path()).read_text(encoding="utf-8")


def test_a_figure_is_saved_three_ways(
    visit: Open, open_file: OpenFile, index: Index, tmp_path: Path
) -> None:
    app = visit("prompt", layer=18, head=6, text="one two three. one two three.", scale="log")
    expect(app.locator(".heatmaplayer image")).to_have_count(1)
    files = {}
    for kind in ("PNG", "SVG", "Interactive HTML"):
        if not app.get_by_role("button", name=kind, exact=True).is_visible():
            app.get_by_role("button", name="Save figure").click()
        files[kind] = save(app, kind, tmp_path)
    assert [file.name for file in files.values()] == [
        f"L18H6.attention.{ending}" for ending in ("png", "svg", "html")
    ]
    assert files["PNG"].read_bytes().startswith(b"\x89PNG")
    assert "·three" in files["SVG"].read_text(encoding="utf-8")
    page = open_file(files["Interactive HTML"])
    expect(page.locator(".heatmaplayer image")).to_have_count(1)
    area = page.locator(".nsewdrag").first
    box = area.bounding_box()
    assert box is not None
    area.hover(position={"x": box["width"] * 0.3, "y": box["height"] * 0.7})
    expect(page.locator(".hoverlayer .hovertext")).to_contain_text("multiple")


def test_a_heat_map_zooms_and_returns(visit: Open, index: Index) -> None:
    example = index.top(HEAD, 1).examples[0]
    place = f"{example.document}-{example.dst}-{example.src}"
    page = visit("examples", layer=18, head=6, rows=1, open=place)
    plot = page.locator(".js-plotly-plot").first
    expect(plot.locator(".heatmaplayer image")).to_have_count(1)
    ranges = "plot => [plot._fullLayout.xaxis.range, plot._fullLayout.yaxis.range]"
    n = len(index.window(example.document).texts)
    first, last = max(0, example.src - 12) - 0.5, min(n - 1, example.dst + 12) + 0.5
    assert plot.evaluate(ranges) == [[first, last], [last, first]]
    plot.scroll_into_view_if_needed()
    box = plot.locator(".nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 60, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 300, steps=5)
    page.mouse.up()
    page.wait_for_function(
        "end => document.querySelector('.js-plotly-plot')._fullLayout.xaxis.range[1] < end - 1",
        arg=last,
    )
    (left, right), (bottom, top) = plot.evaluate(ranges)
    assert right - left == pytest.approx(bottom - top)
    page.mouse.dblclick(box["x"] + 100, box["y"] + 250)
    page.wait_for_function(
        "end => document.querySelector('.js-plotly-plot')._fullLayout.xaxis.range[1] === end",
        arg=last,
    )
    page.get_by_text("Window around the pair").click()
    page.wait_for_function(
        "() => document.querySelector('.js-plotly-plot')?._fullLayout.xaxis.range[0] === -0.5"
    )
    assert plot.evaluate(ranges) == [[-0.5, n - 0.5], [n - 0.5, -0.5]]
