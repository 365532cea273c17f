"""The Describe page in a real browser: see the prompt, send it, watch, test, read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from playwright.sync_api import TimeoutError as NotInTime

from attn.describe.store import Descriptions, place
from attn.heads import HeadId
from attn.index.index import Index
from tests.describe.scripted import Handler, Scripted, chunk
from tests.e2e.conftest import heading
from tests.e2e.conftest import serve as serve_app
from tests.e2e.serving import Server, go

HEAD = HeadId(18, 6)
KEY = "sk-browser-s3cret"
FIRST, REST = "Attends to ![a](http://evil.example/a.png)", " <b>what</b> came next."


class Talk:
    """A language model whose description pauses after its first words until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.failing = False
        self.server = Scripted(self.answer)

    def answer(self, handler: Handler, body: dict[str, Any]) -> None:
        if self.failing:
            handler.send(401, f'{{"error": {{"message": "bad <b>{KEY}</b>"}}}}')
        elif body["messages"][1]["content"].endswith("What does this head do?"):
            handler.begin()
            handler.event(chunk(FIRST))
            self.go.wait(60)
            handler.event(chunk(REST, "stop"))
        else:
            handler.stream("\n".join(f"{i}: yes" for i in range(1, 10)))


@pytest.fixture(scope="module")
def talk() -> Iterator[Talk]:
    made = Talk()
    yield made
    made.go.set()
    made.server.close()


@pytest.fixture(scope="module")
def app(talk: Talk, indexes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log.txt"
    model = {"ATTN_LLM_URL": talk.server.url, "ATTN_LLM_MODEL": "some", "ATTN_LLM_KEY": KEY}
    with serve_app(log, ATTN_INDEXES=indexes, **model) as running:
        yield running
    assert KEY not in log.read_text()


@pytest.fixture
def page(new_page: Callable[[], Page], app: Server, talk: Talk, index: Index) -> Iterator[Page]:
    talk.go.clear()
    talk.failing = False
    place(index).unlink(missing_ok=True)
    address = app.address("describe", index=index.name, layer=18, head=6, samples=6)
    yield go(new_page(), address)
    talk.go.set()
    place(index).unlink(missing_ok=True)


def test_streaming_is_seen_and_the_preview_is_what_was_sent(
    page: Page, talk: Talk, index: Index
) -> None:
    expect(heading(page)).to_have_text("What does L18H6 do?")
    before = len(talk.server.requests)
    page.get_by_text("The prompt: 6 examples").click()
    blocks = page.get_by_test_id("stCode")
    expect(blocks).to_have_count(2)
    expect(blocks.first).to_be_visible()
    shown = [blocks.nth(i).locator("code").text_content() for i in range(2)]
    assert len(talk.server.requests) == before

    page.get_by_role("button", name="Ask some").click()
    expect(page.get_by_test_id("stText")).to_have_text(FIRST)
    talk.go.set()
    expect(page.get_by_test_id("stText")).to_have_text(FIRST + REST)
    (sent,) = [body["messages"] for _, body in talk.server.requests[before:]]
    assert [message["content"] for message in sent] == shown
    made = Descriptions(index).of(HEAD)[0]
    assert (made.system, made.user) == tuple(shown)
    assert page.locator("img[src*=evil], [data-testid=stText] b").count() == 0


def test_a_test_in_the_browser_says_whether_to_believe_it(
    page: Page, talk: Talk, index: Index
) -> None:
    talk.go.set()
    questions = page.get_by_label("Questions", exact=True)
    questions.fill("4")
    questions.press("Enter")
    own = page.get_by_label("Or a description of your own")
    own.fill("Attends to the token after an earlier copy.")
    own.press("Control+Enter")
    button = page.get_by_role("button", name="Test my description")
    expect(button).to_be_enabled()
    button.click()
    expect(page.get_by_text("no better than chance")).to_be_visible()
    table = page.get_by_test_id("stTable").last
    expect(table).to_contain_text("another head's description")
    expect(table).to_contain_text("most attended token")
    expect(page.get_by_text("answers could not be read")).to_be_visible()


def test_an_error_is_readable_and_shows_no_key(page: Page, talk: Talk, index: Index) -> None:
    talk.failing = True
    page.get_by_role("button", name="Ask some").click()
    alert = page.get_by_test_id("stAlert")
    expect(alert).to_contain_text("refuses the key (it says: bad <b>[key]</b>)")
    assert KEY not in page.content()
    assert KEY not in page.url
    assert Descriptions(index).of(HEAD) == []


def test_a_refresh_finds_the_work_still_going_on(page: Page, talk: Talk) -> None:
    page.get_by_role("button", name="Ask some").click()
    expect(page.get_by_test_id("stText")).to_have_text(FIRST)
    go(page, page.url)
    expect(page.get_by_test_id("stText")).to_have_text(FIRST)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped;")).to_be_visible()
    expect(page.get_by_role("button", name="Ask some")).to_be_enabled()


def test_a_typed_key_stays_in_its_field(page: Page, talk: Talk) -> None:
    page.get_by_text("Language model", exact=True).click()
    choice = page.get_by_role("option", name="Another address")
    for _ in range(5):  # a list that opens while the page is drawn may close again
        page.get_by_label("Server", exact=True).click()
        try:
            choice.click(timeout=10_000)
            break
        except NotInTime:
            page.keyboard.press("Escape")
    for label, value in (("Address", talk.server.url), ("Model", "mine"), ("Key", "sk-typed-1")):
        field = page.get_by_test_id("stMain").get_by_label(label, exact=True)
        field.fill(value)
        field.press("Enter")
    talk.go.set()
    before = len(talk.server.requests)
    page.get_by_role("button", name="Ask mine").click()
    expect(page.get_by_test_id("stText")).to_have_text(FIRST + REST)
    assert talk.server.requests[before][0]["Authorization"] == "Bearer sk-typed-1"
    assert "sk-typed-1" not in page.url
    assert "sk-typed-1" not in page.locator("[data-testid=stMain]").inner_text()
    copy = page.get_by_role("button", name="Copy link")
    assert "sk-typed" not in (copy.get_attribute("data-query") or "")


def test_from_start_one_to_a_score(
    new_page: Callable[[], Page], indexes: Path, index: Index, tmp_path: Path
) -> None:
    """Without a key, with the model that ships, served by the app: its score says what it is."""
    place(index).unlink(missing_ok=True)
    none = {"ATTN_LLM_URL": "", "ATTN_LLM_MODEL": "", "ATTN_LLM_KEY": ""}
    with serve_app(tmp_path / "log.txt", ATTN_INDEXES=indexes, **none) as app:
        page = go(
            new_page(), app.address("describe", index=index.name, layer=18, head=6, samples=2)
        )
        expect(page.get_by_text("The built-in model is a demonstration")).to_be_visible()
        page.get_by_role("button", name="Serve it").click()
        ask = page.get_by_role("button", name="Ask SmolLM2")
        expect(ask).to_be_enabled(timeout=120_000)
        page.get_by_text("The prompt: 2 examples").click()
        expect(page.get_by_text("Answer with this one sentence")).to_be_visible()
        questions = page.get_by_label("Questions", exact=True)
        questions.fill("2")
        questions.press("Enter")
        ask.click()
        test = page.get_by_role("button", name="Test it on held-out text")
        expect(test).to_be_enabled(timeout=120_000)
        (made,) = Descriptions(index).of(HEAD)
        assert made.text.endswith((".", "!", "?")) or not made.cut
        test.click()
        table = page.get_by_test_id("stTable").last
        expect(table).to_contain_text("another head's description", timeout=180_000)
        expect(page.get_by_text("Judged by SmolLM2")).to_be_visible()
        (report,) = Descriptions(index).reports(made)
        assert report.result.unread == 0
        expect(page.get_by_test_id("stAlert").last).to_contain_text(report.verdict.text[:30])
    place(index).unlink(missing_ok=True)
