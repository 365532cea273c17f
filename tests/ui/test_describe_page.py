"""The Describe page: nothing is sent without a click, and what is sent is what was shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from attn.describe.describe import Options, draft
from attn.describe.store import Descriptions, place
from attn.heads import HeadId
from attn.index.index import Index
from attn.ui.describe import language_model
from attn.ui.jobs import language_model_runner
from tests.describe.conftest import Serve, no_server_set, serve, tiny_folder
from tests.describe.scripted import Handler, Scripted, chunk
from tests.ui.conftest import Start, said

__all__ = ["no_server_set", "serve", "tiny_folder"]

KEY = "sk-page-s3cret"
HEAD = HeadId(1, 2)
TEXT = "Attends to **nouns** ![x](http://evil.example/a.png)\n<b>from</b> verbs."


def talk(handler: Handler, body: dict[str, Any]) -> None:
    user = body["messages"][1]["content"]
    if user.endswith("What does this head do?"):
        handler.stream(*TEXT.splitlines(keepends=True))
    else:
        handler.stream("\n".join(f"{i}: yes" for i in range(1, 10)))


@pytest.fixture
def server(serve: Serve) -> Scripted:
    return serve(talk)


@pytest.fixture
def index(tiny_folder: Path) -> Iterator[Index]:
    opened = Index.open(tiny_folder)
    place(opened).unlink(missing_ok=True)
    yield opened
    place(opened).unlink(missing_ok=True)


@pytest.fixture
def page(start: Start, index: Index, monkeypatch: pytest.MonkeyPatch) -> Start:
    language_model_runner.clear()

    def open_page(server: Scripted | None = None, **query: object) -> AppTest:
        if server is not None:
            monkeypatch.setenv("ATTN_LLM_URL", server.url)
            monkeypatch.setenv("ATTN_LLM_MODEL", "tiny")
            monkeypatch.setenv("ATTN_LLM_KEY", KEY)
        return start("describe", index.path.parent, layer=1, head=2, **query)

    return open_page


def finish(app: AppTest, what: str, index: Index) -> None:
    """Wait for a job's end and show the page anew."""
    for _ in range(4000):
        job = language_model_runner().get(f"{what} {index.name} {HEAD}")
        if job is not None and job.finished:
            app.run()
            return
        time.sleep(0.05)
    pytest.fail(f"{what} does not end")


def all_text(app: AppTest) -> str:
    """Everything on the page and in its address."""
    parts = [said(app), str(dict(app.query_params))]
    parts += [str(e.value) for kind in ("text", "code", "table") for e in app.get(kind)]
    return " ".join(parts)


def test_without_a_language_model(page: Start, index: Index) -> None:
    app = page()
    assert "What does L1H2 do?" in said(app)
    assert "L1H2" in app.markdown[0].value
    assert app.button(key="describe_it").disabled
    assert "135 million parameters" in said(app)
    assert "No description of this head is kept yet" in said(app)
    assert len(app.table) == 1
    assert "previous token" in str(app.table[0].value)
    assert app.get("code")


def test_the_preview_is_what_is_sent_and_only_by_a_click(
    page: Start, index: Index, server: Scripted
) -> None:
    app = page(server)
    app.number_input(key="samples").set_value(6).run()
    app.number_input(key="draw").set_value(3).run()
    app.toggle(key="told").set_value(True).run()
    app.text_area(key="_custom").set_value("Mind the names.").run()
    shown = [element.value for element in app.code]
    wanted = draft(index, HEAD, Options(6, 3, True, "Mind the names."))
    assert shown[:2] == [wanted.prompt.system, wanted.prompt.user]
    assert f"about {wanted.prompt.tokens:,} tokens" in app.expander[-1].label or any(
        f"about {wanted.prompt.tokens:,} tokens" in e.label for e in app.expander
    )
    assert not server.requests

    app.button(key="describe_it").click().run()
    finish(app, "describe", index)
    (sent,) = [body["messages"] for _, body in server.requests]
    assert [message["content"] for message in sent] == shown[:2]
    assert app.get("text")[0].value == TEXT
    assert "not tested" in " ".join(e.label for e in app.expander)
    assert "evil.example" not in said(app)
    assert [d.text for d in Descriptions(index).of(HEAD)] == [TEXT]


def test_a_test_says_whether_to_believe_it(page: Start, index: Index, server: Scripted) -> None:
    app = page(server)
    app.button(key="describe_it").click().run()
    finish(app, "describe", index)
    app.number_input(key="_questions").set_value(4).run()
    assert "A test takes about" in said(app)
    (made,) = Descriptions(index).of(HEAD)
    asked = len(server.requests)
    app.run()
    assert len(server.requests) == asked
    app.button(key=f"test {made.id}").click().run()
    finish(app, "test", index)
    assert "no better than chance" in said(app)
    table = " ".join(map(str, app.table[1].value.to_numpy().ravel()))
    assert "another head's description (L" in table
    assert "0.50 [" in table
    assert "answers could not be read" in said(app)
    assert "balanced accuracy" in said(app)


def test_a_description_of_ones_own_is_tested_the_same_way(
    page: Start, index: Index, server: Scripted
) -> None:
    app = page(server)
    app.number_input(key="_questions").set_value(4).run()
    assert app.button(key="test own").disabled
    app.text_area(key="_own").set_value("Attends to cats.").run()
    app.button(key="test own").click().run()
    finish(app, "test", index)
    assert app.get("text")[0].value == "Attends to cats."
    assert "you ·" in " ".join(e.label for e in app.expander)
    assert len(app.table) == 2


def test_streaming_shows_and_stop_keeps_nothing(page: Start, index: Index, serve: Serve) -> None:
    def slow(handler: Handler, _: dict[str, Any]) -> None:
        handler.begin()
        handler.event(chunk("Attends to"))
        for _number in range(2000):
            time.sleep(0.05)
            handler.event(chunk(None))

    app = page(serve(slow))
    app.button(key="describe_it").click().run()
    for _ in range(1000):
        if app.get("text"):
            break
        time.sleep(0.05)
        app.run()
    assert app.get("text")[0].value == "Attends to"
    stop = next(b for b in app.button if b.label == "Stop")
    stop.click().run()
    finish(app, "describe", index)
    assert "Stopped" in said(app)
    assert not app.error
    assert Descriptions(index).of(HEAD) == []
    assert not app.button(key="describe_it").disabled


def test_a_stopped_test_can_go_on(page: Start, index: Index, serve: Serve) -> None:
    third, over = threading.Event(), threading.Event()

    def script(handler: Handler, body: dict[str, Any]) -> None:
        if len(server.requests) >= 3 and not over.is_set():
            third.set()
            over.wait(20)
        talk(handler, body)

    server = serve(script)
    app = page(server)
    app.number_input(key="_questions").set_value(10).run()
    app.text_area(key="_own").set_value("Attends to cats.").run()
    app.button(key="test own").click().run()
    assert third.wait(20)
    app.run()
    next(button for button in app.button if button.label == "Stop").click().run()
    finish(app, "test", index)
    over.set()
    assert "the test can go on" in said(app)
    (mine,) = [d for d in Descriptions(index).of(HEAD) if d.by_person]
    assert not Descriptions(index).reports(mine)
    go_on = app.button(key=f"test {mine.id}")
    assert go_on.label == "Go on with the test"
    go_on.click().run()
    finish(app, "test", index)
    assert len(app.table) == 2
    assert Descriptions(index).reports(mine)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, f'{{"error": {{"message": "bad {KEY}"}}}}', "refuses the key"),
        (500, "{}", "failed with status 500"),
        (200, "<html>hello</html>", "with a web page"),
        (200, "{}", "with an empty object"),
    ],
)
def test_failures_are_a_readable_sentence_without_the_key(
    page: Start, index: Index, serve: Serve, status: int, body: str, expected: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    app = page(serve(lambda handler, _: handler.send(status, body)))
    app.button(key="describe_it").click().run()
    finish(app, "describe", index)
    assert len(app.error) == 1
    assert expected in said(app)
    assert KEY not in all_text(app)
    assert KEY not in caplog.text
    assert Descriptions(index).of(HEAD) == []


def test_a_server_typed_for_this_session(page: Start, index: Index, server: Scripted) -> None:
    app = page()
    app.selectbox(key="_llm").select("Another address").run()
    assert "address is not one" in said(app)
    app.text_input(key="_llm_url Another address").set_value(server.url).run()
    app.text_input(key="_llm_model Another address").set_value("mine").run()
    app.text_input(key="_llm_key Another address").set_value(KEY).run()
    assert not server.requests
    app.button(key="describe_it").click().run()
    finish(app, "describe", index)
    headers, body = server.requests[0]
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body["model"] == "mine"
    assert KEY not in all_text(app)
    assert KEY.encode() not in place(index).read_bytes()
    assert "_llm" not in str(dict(app.query_params))


def test_a_key_typed_right_before_the_click_goes_along(
    page: Start, index: Index, server: Scripted
) -> None:
    app = page()
    app.selectbox(key="_llm").select("Another address").run()
    app.text_input(key="_llm_url Another address").set_value(server.url).run()
    app.text_input(key="_llm_model Another address").set_value("mine").run()
    app.text_input(key="_llm_key Another address").set_value(KEY)
    app.button(key="describe_it").click().run()  # both in one run
    finish(app, "describe", index)
    assert server.requests[0][0]["Authorization"] == f"Bearer {KEY}"


def test_an_address_emptied_right_before_the_click_sends_nothing(
    page: Start, index: Index, server: Scripted
) -> None:
    app = page()
    app.selectbox(key="_llm").select("Another address").run()
    app.text_input(key="_llm_url Another address").set_value(server.url).run()
    app.text_input(key="_llm_model Another address").set_value("mine").run()
    app.text_input(key="_llm_url Another address").set_value("")
    app.button(key="describe_it").click().run()
    assert "address is not one" in said(app)
    time.sleep(1)  # what is sent is sent by a thread
    assert not server.requests


def test_a_key_over_plain_http_is_warned_of(page: Start, server: Scripted) -> None:
    app = page()
    app.selectbox(key="_llm").select("Another address").run()
    app.text_input(key="_llm_url Another address").set_value("http://far.example/v1").run()
    app.text_input(key="_llm_model Another address").set_value("mine").run()
    assert not app.warning
    app.text_input(key="_llm_key Another address").set_value(KEY).run()
    assert "would go to far.example unencrypted" in said(app)


def test_a_model_on_this_machine_is_served_and_ended(page: Start) -> None:
    app = page()
    assert app.selectbox(key="_llm").value == "On this machine"
    app.text_input(key="_gguf").set_value("none.gguf").run()
    app.button(key="serve").click().run()
    _served(app)
    assert "There is no file none.gguf" in said(app)
    app.text_input(key="_gguf").set_value("").run()
    app.button(key="serve").click().run()
    _served(app)
    assert "Serving SmolLM2-135M-Instruct.Q4_1 at http" in said(app).replace("**", "")
    local = language_model.shelf().get()
    assert local is not None
    assert not app.button(key="describe_it").disabled
    app.button(key="end_serving").click().run()
    assert not local.running
    assert app.button(key="describe_it").disabled


def _served(app: AppTest) -> None:
    for _ in range(6000):
        job = language_model_runner().get(language_model.SERVE)
        if job is not None and job.finished:
            app.run()
            return
        time.sleep(0.05)
    pytest.fail("The server does not start")


def test_the_environments_key_does_not_go_to_a_typed_address(
    page: Start, index: Index, server: Scripted, serve: Serve
) -> None:
    other = serve(talk)
    app = page(server)
    app.selectbox(key="_llm").select("Another address").run()
    app.text_input(key="_llm_url Another address").set_value(other.url).run()
    app.text_input(key="_llm_model Another address").set_value("mine").run()
    app.button(key="describe_it").click().run()
    finish(app, "describe", index)
    assert "Authorization" not in other.requests[0][0]
    assert not server.requests


def test_a_link_reproduces_the_prompt(page: Start, index: Index) -> None:
    first = page(samples=7, draw=2, told=1)
    second = page(**{k: v for k, v in first.query_params.items() if k not in ("layer", "head")})
    assert first.code[1].value == second.code[1].value
    assert "Where this head's attention goes" in first.code[1].value


def test_importing_bad_lines_is_a_sentence(index: Index) -> None:
    from attn.ui.describe import describe

    kept = Descriptions(index)
    for data, expected in ((b"{}", "Line 1 is no description"), (b"\xff", "not UTF-8")):
        import streamlit as st

        describe._take(kept, data)
        good, text = st.session_state.pop("_imported")
        assert not good
        assert expected in text
