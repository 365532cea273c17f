"""The client against a server that misbehaves in every way we know: one error, one sentence."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from typing import Any

import pytest

from attn import errors
from attn.describe.chat import Request
from attn.describe.client import Client
from attn.describe.reader import grammar
from attn.describe.servers import Secret, Server
from tests.describe.conftest import Serve
from tests.describe.scripted import Handler, Script, chunk

KEY = "sk-test-5up3r-s3cret-key-000"
ASK = Request("You are short.", "Say hello.", 20)


def client(url: str, key: str = KEY, deadline: float = 5.0) -> Client:
    return Client(Server(url, "some-model", Secret(key)), deadline, first_wait=0.01)


def reply(status: int, body: str, kind: str = "application/json", **headers: str) -> Script:
    return lambda handler, _: handler.send(status, body, kind, **headers)


def error(message: str, **more: str) -> str:
    return json.dumps({"error": {"message": message, **more}})


def test_a_streamed_answer(serve: Serve) -> None:
    server = serve(lambda handler, _: handler.stream("Hel", "lo", " you"))
    pieces: list[str] = []
    answer = client(server.url).complete(ASK, pieces.append)
    assert answer.text == "Hello you"
    assert pieces == ["Hel", "lo", " you"]
    assert (answer.usage.prompt, answer.usage.answer) == (11, 3)
    assert not answer.cut
    headers, body = server.requests[0]
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert [m["content"] for m in body["messages"]] == [ASK.system, ASK.user]
    assert body["max_tokens"] == 20


def test_pieces_arrive_before_the_end(serve: Serve) -> None:
    first = threading.Event()

    def script(handler: Handler, _: dict[str, Any]) -> None:
        handler.begin()
        handler.event(chunk("one"))
        assert first.wait(5)
        handler.event(chunk(" two", "stop"))

    answer = client(serve(script).url).complete(ASK, lambda _: first.set())
    assert answer.text == "one two"


def test_a_server_that_does_not_stream(serve: Serve) -> None:
    whole = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}
    answer = client(serve(reply(200, json.dumps(whole))).url).complete(ASK)
    assert answer.text == "Hello"
    assert answer.usage.prompt > 0


def test_log_probabilities(serve: Serve) -> None:
    def script(handler: Handler, body: dict[str, Any]) -> None:
        assert body["logprobs"] is True
        top = [{"token": "yes", "logprob": -0.1}, {"token": "no", "logprob": -2.5}]
        piece = chunk("yes")
        piece["choices"][0]["logprobs"] = {"content": [{"token": "yes", "top_logprobs": top}]}
        handler.begin()
        handler.event(piece)
        handler.event(chunk(None, "stop"))

    answer = client(serve(script).url).complete(Request("s", "u", 5, logprobs=True))
    assert answer.choices is not None
    assert answer.choices[0].alternatives == {"yes": -0.1, "no": -2.5}


def test_an_answer_that_reached_its_length_says_so(serve: Serve) -> None:
    server = serve(lambda handler, _: handler.stream("Hello", finish="length"))
    assert client(server.url).complete(ASK).cut


def redirect(handler: Handler, _: dict[str, Any]) -> None:
    handler.send(307, "", Location="http://elsewhere.example/v1/chat/completions?key=x")


def cut(handler: Handler, _: dict[str, Any]) -> None:
    handler.stream("Attends to", finish=None)


def torn(handler: Handler, _: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.event(chunk("Attends"))


def error_in_stream(handler: Handler, _: dict[str, Any]) -> None:
    handler.begin()
    handler.event(chunk("Attends"))
    handler.event({"error": {"message": f"worker died, key {KEY}"}})


def garbage_in_stream(handler: Handler, _: dict[str, Any]) -> None:
    handler.begin()
    handler.event("{not json")


def odd_stream(handler: Handler, _: dict[str, Any]) -> None:
    handler.begin()
    handler.event({"choices": ["what", 5]})


def closed(handler: Handler, _: dict[str, Any]) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def empty(handler: Handler, _: dict[str, Any]) -> None:
    handler.stream("  ", finish="stop")


def used_up(handler: Handler, _: dict[str, Any]) -> None:
    handler.stream(finish="length")


FAILURES: dict[str, tuple[Script, type[errors.ServerError], str]] = {
    "401": (reply(401, error(f"Bad key {KEY}")), errors.KeyRefused, "refuses the key"),
    "403": (reply(403, error("no")), errors.KeyRefused, "refuses the key"),
    "404": (reply(404, error("gone")), errors.NotAtServer, "no model 'some-model'"),
    "404 page": (
        reply(404, "<html>no</html>", "text/html"),
        errors.NotAtServer,
        "no such address: check",
    ),
    "400": (reply(400, error("bad tools")), errors.RequestRefused, "status 400 (it says: bad"),
    "400 overflow": (
        reply(400, error("exceeds the available context size", type="exceed_context_size_error")),
        errors.ContextOverflow,
        "take fewer examples",
    ),
    "413": (reply(413, "too big", "text/plain"), errors.ContextOverflow, "take fewer examples"),
    "429": (reply(429, error("slow down")), errors.TooManyRequests, "does not say how long"),
    "429 wait": (
        reply(429, error("slow down"), Retry_After="77"),
        errors.TooManyRequests,
        "try again in 77 seconds",
    ),
    "429 date": (
        reply(429, "{}", Retry_After="Wed, 21 Oct 2099 07:28:00 GMT"),
        errors.TooManyRequests,
        "try again in ",
    ),
    "429 no credit": (
        reply(429, error("You exceeded your current quota", code="insufficient_quota")),
        errors.TooManyRequests,
        "no credit left",
    ),
    "500": (reply(500, error(f"oops {KEY}")), errors.ServerFailed, "failed with status 500"),
    "503 page": (
        reply(503, "<html><b>down</b></html>", "text/html"),
        errors.ServerFailed,
        "failed with status 503: try",
    ),
    "page with 200": (
        reply(200, "<!doctype html><title>Welcome</title>", "text/html"),
        errors.AnswerUnreadable,
        "with a web page",
    ),
    "page as json": (reply(200, "<html></html>"), errors.AnswerUnreadable, "with a web page"),
    "{}": (reply(200, "{}"), errors.AnswerUnreadable, "with an empty object"),
    "[]": (reply(200, "[]"), errors.AnswerUnreadable, "something that is no answer"),
    "no choices": (reply(200, '{"choices": []}'), errors.AnswerUnreadable, "an empty object"),
    "garbage": (reply(200, "\x00\x01 what"), errors.AnswerUnreadable, "that is not JSON"),
    "not UTF-8": (
        lambda handler, _: handler.send(200, b'{"a": "\xff"}'),
        errors.AnswerUnreadable,
        "that is not JSON",
    ),
    "nothing": (lambda h, _: h.begin(), errors.AnswerUnreadable, "with nothing"),
    "garbage in a stream": (garbage_in_stream, errors.AnswerUnreadable, "that is not JSON"),
    "odd stream": (odd_stream, errors.AnswerUnreadable, "something that is no answer"),
    "error in a stream": (error_in_stream, errors.ServerFailed, "worker died, key [key]"),
    "cut": (cut, errors.AnswerCut, "broke off before its end"),
    "torn": (torn, errors.ServerUnreachable, "the connection broke"),
    "closed": (closed, errors.ServerUnreachable, "the connection broke"),
    "empty": (empty, errors.AnswerUnreadable, "answered with nothing"),
    "used up": (used_up, errors.AnswerCut, "used up its 20 tokens"),
    "redirect": (redirect, errors.ServerRedirects, "points to http://elsewhere.example, where"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_each_failure_is_one_sentence_without_the_key(
    case: str, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    script, kind, expected = FAILURES[case]
    with caplog.at_level(logging.DEBUG):
        with pytest.raises(kind) as caught:
            client(serve(script).url).complete(ASK, lambda _: None)
        logging.getLogger("test").error("failed", exc_info=caught.value)
    message = str(caught.value)
    assert expected in message
    assert message.endswith(".")
    assert "\n" not in message
    assert KEY not in message
    assert KEY not in caplog.text
    assert KEY not in repr(caught.value)


def test_the_failures_have_different_sentences() -> None:
    expected = [text for _, _, text in FAILURES.values()]
    assert len(set(expected)) >= 20


def test_nothing_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(errors.ServerUnreachable, match="the connection is refused: start the"):
        client(f"http://127.0.0.1:{port}/v1").complete(ASK)


def test_patience_is_given_where_asked_and_then_it_works(serve: Serve) -> None:
    def script(handler: Handler, _: dict[str, Any]) -> None:
        if len(server.requests) == 1:
            handler.send(429, "{}", Retry_After="0")
        elif len(server.requests) == 2:
            handler.send(500, "{}")
        else:
            handler.stream("ok")

    server = serve(script)
    assert client(server.url).complete(ASK).text == "ok"
    assert len(server.requests) == 3


def test_a_wait_beyond_the_deadline_is_not_waited_for(serve: Serve) -> None:
    server = serve(reply(429, "{}", Retry_After="3600"))
    start = time.monotonic()
    with pytest.raises(errors.TooManyRequests) as caught:
        client(server.url, deadline=30).complete(ASK)
    assert caught.value.wait == 3600
    assert time.monotonic() - start < 10
    assert len(server.requests) == 1


@pytest.mark.parametrize("where", ["headers", "comments", "texts", "body", "silence"])
def test_a_slow_drip_ends_at_the_deadline(serve: Serve, where: str) -> None:
    over = threading.Event()

    def script(handler: Handler, _: dict[str, Any]) -> None:
        if where == "headers":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        elif where == "body":
            handler.begin("application/json")
        elif where in ("comments", "texts"):
            handler.begin()
        for _number in range(400):
            if over.wait(0.05):
                return
            if where == "texts":
                handler.event(chunk("a"))
            elif where != "silence":
                handler.wfile.write(b":\n\n" if where == "comments" else b" ")
                handler.wfile.flush()

    server = serve(script)
    start = time.monotonic()
    with pytest.raises(errors.DeadlinePassed, match=r"did not finish within 0\.6 seconds"):
        client(server.url, deadline=0.6).complete(ASK, lambda _: None)
    assert time.monotonic() - start < 4
    over.set()


def test_stop_ends_a_call(serve: Serve) -> None:
    stop, over = threading.Event(), threading.Event()

    def script(handler: Handler, _: dict[str, Any]) -> None:
        handler.begin()
        handler.event(chunk("a"))
        over.wait(10)

    with pytest.raises(errors.Stopped):
        client(serve(script).url, deadline=20).complete(ASK, lambda _: stop.set(), stop)
    over.set()


@pytest.mark.parametrize(
    ("words", "gone", "instead"),
    [
        ("Unsupported parameter: 'max_tokens'", "max_tokens", "max_completion_tokens"),
        ("temperature does not support 0", "temperature", None),
        ("frequency_penalty is not supported", "frequency_penalty", None),
        ("logprobs are not available", "top_logprobs", None),
        ("unknown field stream_options", "stream_options", None),
    ],
)
def test_what_a_server_lacks_is_left_out(
    serve: Serve, words: str, gone: str, instead: str | None
) -> None:
    def script(handler: Handler, body: dict[str, Any]) -> None:
        handler.send(400, error(words)) if gone in body else handler.stream("ok")

    server = serve(script)
    asking, request = client(server.url), Request("s", "u", 5, 0.0, True, 0.5)
    for _ in range(2):
        assert asking.complete(request).text == "ok"
    assert len(server.requests) == 3
    assert instead is None or server.requests[-1][1][instead] == 5


def test_nothing_of_the_environment_goes_along(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "from-the-environment"
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID", "WEBHOOK_SECRET"):
        monkeypatch.setenv(f"OPENAI_{name}", secret)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Own: {secret}")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server = serve(lambda handler, _: handler.stream("ok"))
    client(server.url, key="").complete(ASK)
    headers, body = server.requests[0]
    assert "authorization" not in {name.lower() for name in headers}
    assert secret not in str(headers) + str(body)
    assert {name.lower() for name in headers} <= {
        "host", "accept", "connection", "content-type", "content-length",
    }  # fmt: skip


def test_calls_at_once_keep_apart(serve: Serve) -> None:
    def script(handler: Handler, body: dict[str, Any]) -> None:
        handler.stream(body["messages"][1]["content"])

    asking = client(serve(script).url)
    texts: dict[int, str] = {}

    def ask(number: int) -> None:
        texts[number] = asking.complete(Request("s", f"number {number}", 5)).text

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert texts == {n: f"number {n}" for n in range(8)}


def test_a_client_prints_no_key() -> None:
    asking = client("https://api.example.com/v1")
    assert KEY not in repr(asking) + repr(asking.server) + str(vars(asking))
    assert "some-model at api.example.com" in repr(asking)


def test_only_the_model_that_ships_is_sent_a_grammar(serve: Serve) -> None:
    """Other servers may refuse what they do not know, and other models keep to a form."""
    server = serve(lambda handler, body: handler.stream("1: yes"))
    form = grammar(1, pick=False)
    for model, sent in (("some", False), ("SmolLM2-135M-Instruct.Q4_1", True)):
        client = Client(Server(server.url, model), 20)
        client.complete(Request("s", "u", 8, grammar=form))
        assert (server.requests[-1][1].get("grammar") == form) is sent
