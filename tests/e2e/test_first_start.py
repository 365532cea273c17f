"""A server with nothing yet offers a button, in a real browser, and the button works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import BrowserContext, expect

from tests.e2e.conftest import heading
from tests.e2e.serving import serve


def test_without_model_and_index_every_page_offers_a_button(
    new_context: Callable[[], BrowserContext], tmp_path: Path
) -> None:
    nothing = {"ATTN_CACHE": tmp_path / "cache", "ATTN_INDEXES": tmp_path / "cache" / "indexes"}
    with serve(tmp_path / "log.txt", **nothing, ATTN_MODEL="") as bare:
        page = new_context().new_page()
        for name in ("", "examples", "prompt"):
            page.goto(bare.address(name))
            button = page.get_by_role("button", name="Fetch the model and scan the sample texts")
            expect(button).to_be_enabled()
            expect(
                page.get_by_text("The built-in model and the index are not there")
            ).to_be_visible()
            expect(page.get_by_test_id("stException")).to_have_count(0)
            assert "Traceback" not in page.content()


def test_the_button_scans_in_the_background(
    new_context: Callable[[], BrowserContext], tiny_llama: Path, tmp_path: Path
) -> None:
    there = {"ATTN_INDEXES": tmp_path / "indexes", "ATTN_MODEL": tiny_llama}
    with serve(tmp_path / "log.txt", **there) as bare:
        page = new_context().new_page()
        page.goto(bare.address())
        page.get_by_role("button", name="Scan the sample texts").click()
        expect(page.get_by_role("progressbar")).to_be_visible()
        expect(heading(page)).to_contain_text("tiny-llama", timeout=200_000)
        expect(page.locator(".js-plotly-plot").first).to_be_visible()
    assert len(list((tmp_path / "indexes").glob("*/manifest.json"))) == 1
