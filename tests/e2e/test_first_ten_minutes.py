"""The first ten minutes of a user, in one go: from the map to an index of their own text."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
from playwright.sync_api import BrowserContext, expect

from attn.formatting import shown
from attn.heads import HeadId
from attn.index.index import Index
from tests.e2e.conftest import OpenFile, heading
from tests.e2e.looking import click_cell, expect_head, expect_rows, query, save
from tests.e2e.serving import Server, go, serve

OWN = "Mira Castell sold the tickets. By noon Mira Castell had sold the boats.\n" * 12


def test_from_the_map_to_an_index_of_ones_own(
    new_context: Callable[..., BrowserContext],
    open_file: OpenFile,
    index: Index,
    server: Server,
    session: Any,
    tmp_path: Path,
) -> None:
    indexes = tmp_path / "indexes"
    copytree(index.path, indexes / index.path.name)
    page = go(new_context(tour=True, reduced_motion=None).new_page(), server.address())
    page.get_by_role("button", name="End the tour").click()

    # An induction head, found in the atlas.
    values = index.metric("induction")
    head = HeadId(*map(int, np.unravel_index(values.argmax(), values.shape)))
    click_cell(page, index, head)
    expect_head(page, head)
    file = save(page, "Download report", tmp_path)

    # Its examples, those of one token alone.
    page.get_by_role("link", name="See where it looks").click()
    expect(heading(page)).to_have_text(f"Examples of {head}")
    expect_rows(page, index.top(head, 10))
    token = index.top(head, 10).examples[0].token
    box = page.get_by_role("combobox", name="Source token")
    box.fill(token.strip())
    page.get_by_role("option", name=shown(token), exact=True).first.click()
    wanted = index.top(head, 10, token=token)
    expect_rows(page, wanted)

    # One of them opened, its tokens pointed at and held.
    example = wanted.examples[0]
    page.get_by_role("button", name="Whole text").first.click()
    tokens = page.locator(".view .text span")
    window = index.window(example.document)
    expect(tokens).to_have_count(len(window.texts))
    told = page.locator(".view .told .looks")
    expect(tokens.nth(example.dst)).to_have_attribute("aria-pressed", "true")
    tokens.nth(example.src).hover()
    expect(told).to_contain_text(f"{example.dst} {shown(window.texts[example.dst])} looks at")
    expect(told).to_contain_text(f"attention {example.attention:.2g}"[:13])
    tokens.nth(example.src).click()
    expect(page).to_have_url(re.compile(rf"held={example.src}(&|$)"))
    expect(tokens.nth(example.src)).to_have_attribute("aria-pressed", "true")

    # Its text changed, the pattern beside the one before.
    page.get_by_role("button", name="Edit", exact=True).first.click()
    expect(heading(page)).to_have_text(f"{head} on your text")
    field = page.get_by_role("textbox", name="Your text")
    text = "".join(window.texts[1:])
    expect(field).to_have_value(text)
    changed = f"{text} And once more."
    field.fill(changed)
    page.get_by_role("button", name="Show attention").click()
    expect(page.get_by_text("Left, the text as it was")).to_be_visible()
    expect(page.locator(".js-plotly-plot .heatmaplayer image")).to_have_count(2)
    expect(tokens).to_have_count(len(session.encode(changed)))

    # The view, sent to somebody.
    copy = page.get_by_role("button", name="Copy link")
    expect(copy).to_have_attribute("data-query", re.compile("once"))
    copy.click()
    expect(page.get_by_role("button", name="Link copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    state = query(page)
    page.context.close()

    report = open_file(file)
    expect(report.get_by_role("heading", level=1)).to_have_text(f"{head} of smollm2-135m")

    assert link.startswith(server.url)
    with serve(tmp_path / "second.txt", ATTN_INDEXES=indexes) as second:
        page = go(new_context().new_page(), link.replace(server.url, second.url))
        expect(heading(page)).to_have_text(f"{head} on your text")
        expect(page.get_by_role("textbox", name="Your text")).to_have_value(changed)
        expect(page.locator(".js-plotly-plot .heatmaplayer image")).to_have_count(2)
        assert query(page) == state

        # A scan of the user's own file, the page loaded again on the way, and the index it makes.
        page.get_by_test_id("stSidebar").get_by_role("link", name="Scan").click()
        page.get_by_text("Upload", exact=True).click()
        page.locator("input[type=file]").set_input_files(
            {"name": "tickets.txt", "mimeType": "text/plain", "buffer": OWN.encode()}
        )
        page.get_by_role("button", name="Estimate time and disk").click()
        page.get_by_role("button", name="Start the scan").click()
        main = page.get_by_test_id("stMain")
        done = page.get_by_role("button", name="Open the index")
        expect(main.get_by_test_id("stProgress").or_(done).first).to_be_visible()
        page.reload()
        expect(main.get_by_test_id("stProgress").or_(done).first).to_be_visible()
        done.click()
        expect(heading(page)).to_have_text("Heads of smollm2-135m")
        expect(page.get_by_test_id("stSidebar")).to_contain_text("tickets.txt")
        page.get_by_test_id("stSidebar").get_by_role("link", name="Examples").click()
        (made,) = (Index.open(p) for p in indexes.iterdir() if p.name != index.path.name)
        expect(heading(page)).to_have_text(f"Examples of {head}")
        expect_rows(page, made.top(head, 10))
        go(page, second.address())
