"""The Scan page in a real browser: upload, estimate, start, leave, stop, go on, see the index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from attn.index.index import Index, find_indexes
from attn.index.manifest import verify
from tests.e2e.conftest import heading
from tests.e2e.serving import Server, go, serve

NAME = "<img src=x onerror=taken=1> notes.txt"
TEXTS = [
    f"Line {i}: Mira Castell sold {i} tickets, and Mira Castell counted {i} boats by noon."
    for i in range(70)
]


@pytest.fixture
def app(builtin: Path, tmp_path: Path) -> Iterator[Server]:
    """A server without an index; the built-in model is there."""
    (tmp_path / "cache").mkdir()
    for name in ("models", "weights"):
        (builtin.parents[1] / name).mkdir(exist_ok=True)
        (tmp_path / "cache" / name).symlink_to(builtin.parents[1] / name)
    where = {"ATTN_CACHE": tmp_path / "cache", "ATTN_INDEXES": tmp_path / "indexes"}
    with serve(tmp_path / "log.txt", **where) as running:
        yield running


def test_a_scan_from_upload_to_index(
    new_context: Callable[[], BrowserContext],
    app: Server,
    tmp_path: Path,
) -> None:
    page = go(
        new_context().new_page(), app.address("scan", scan_per_token=0, scan_ctx=16, scan_row=4)
    )
    expect(heading(page)).to_have_text("Scan a corpus with a model")
    page.get_by_text("Upload", exact=True).click()
    text = "\n".join(TEXTS).encode()
    page.locator("input[type=file]").set_input_files(
        {"name": NAME, "mimeType": "text/plain", "buffer": text}
    )
    page.get_by_role("button", name="Estimate time and disk").click()
    metrics = page.locator("[data-testid=stMain] [data-testid=stMetricValue]")
    expect(metrics.first).to_have_text("70")
    expect(page.get_by_text("tokens of this corpus in")).to_be_visible()

    page.get_by_role("button", name="Start the scan").click()
    bar = page.locator("[data-testid=stMain] [data-testid=stProgress]")
    expect(bar).to_contain_text("documents")
    page.reload()
    expect(bar).to_contain_text("documents")
    other = go(new_context().new_page(), app.address("scan"))
    expect(other.locator("[data-testid=stMain] [data-testid=stProgress]")).to_be_visible()
    other.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("What is done is kept")).to_be_visible()
    assert not find_indexes(tmp_path / "indexes")
    other.context.close()

    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Open the index").click()
    expect(heading(page)).to_have_text("Heads of smollm2-135m")
    expect(page.locator("[data-testid=stSidebar]")).to_contain_text("notes.txt")
    (folder,) = find_indexes(tmp_path / "indexes")
    verify(folder)
    manifest = Index.open(folder).manifest
    assert (manifest.documents, manifest.ctx, manifest.per_token) == (70, 16, 0)
    assert Path(manifest.corpus).read_bytes() == text
    assert page.evaluate("window.taken") is None
