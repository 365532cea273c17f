"""A model at an OpenAI-compatible server. The only module that imports `openai`.

It is stricter than the package: there is one deadline for the whole call; redirects are not
followed; no key, organisation, project or header of the environment is sent; and anything but a
whole answer becomes one of the errors in attn/errors.py, in one sentence, without the key.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import Future
from typing import Any

from attn.describe.chat import Answer, OnText, Request, TokenChoice, Usage
from attn.describe.estimate import estimate_tokens
from attn.describe.failures import redirected, refused, unreachable, unreadable
from attn.describe.local import is_builtin
from attn.describe.servers import Server
from attn.errors import (
    AnswerCut,
    AnswerUnreadable,
    DeadlinePassed,
    PackageMissing,
    RequestRefused,
    ServerError,
    ServerFailed,
    Stopped,
    TooManyRequests,
)

try:
    import openai
except ImportError as missing:
    raise PackageMissing("Asking a language model", "openai", "describe") from missing

DEADLINE, HERE = 120.0, 600.0
"""Seconds that a whole call may take, waiting and trying again included; on this machine: more."""

_TRIES = 3
_MOST_BYTES = 4_000_000
_TOP = 20  # alternatives of a token: the most that OpenAI gives

# Only these headers are sent; the package would add those that the environment names.
_HEADERS = {"host", "accept", "connection", "content-type", "content-length"}

# Options that a server may not know, and what the request says without them.
_OPTIONAL = {
    "stream_options": ("stream_options",),
    "logprobs": ("logprobs", "top_logprobs"),
    "temperature": ("temperature",),
    "frequency_penalty": ("frequency_penalty",),
    "max_tokens": ("max_tokens",),
}


class Client:
    """A :class:`~attn.describe.chat.LanguageModel` at a server. Safe to share between threads.

    ``deadline`` seconds for a whole call, None for the usual; ``first_wait`` seconds before the
    second try, doubled before the third, where the server asks for patience without saying how
    long.
    """

    def __init__(
        self, server: Server, deadline: float | None = None, first_wait: float = 0.5
    ) -> None:
        self.server, self._first_wait = server, first_wait
        self._deadline = deadline or (HERE if server.local else DEADLINE)
        self._without: set[str] = set()

    def __repr__(self) -> str:
        return f"Client({self.server.model} at {self.server.host})"

    @property
    def name(self) -> str:
        """The model's name, as the server knows it."""
        return self.server.model

    def complete(
        self,
        request: Request,
        on_text: OnText | None = None,
        stop: threading.Event | None = None,
    ) -> Answer:
        """Answer a request; raises a ServerError, or Stopped once ``stop`` is set.

        The call runs in a thread of its own, so that a server which never ends, or a name that is
        never found, cannot hold the caller beyond the deadline.
        """
        outcome: Future[Answer] = Future()

        def run() -> None:
            try:
                outcome.set_result(asyncio.run(self._bounded(request, on_text, stop)))
            except BaseException as error:
                outcome.set_exception(error)

        threading.Thread(target=run, name="attn-describe-call", daemon=True).start()
        try:
            return outcome.result(self._deadline + 5)
        except ServerError:
            raise
        except TimeoutError:
            raise self._late() from None

    async def _bounded(
        self, request: Request, on_text: OnText | None, stop: threading.Event | None
    ) -> Answer:
        """Make the call, and cancel it at the deadline or when ``stop`` is set."""
        end = time.monotonic() + self._deadline
        task = asyncio.ensure_future(self._tried(request, on_text, end))
        while not task.done():
            if stop is not None and stop.is_set():
                reason: Exception = Stopped("Stopped; what was done before is kept.")
            elif time.monotonic() >= end:
                reason = self._late()
            else:
                await asyncio.wait({task}, timeout=min(0.1, max(0.0, end - time.monotonic())))
                continue
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)
            raise reason
        return task.result()

    def _late(self) -> DeadlinePassed:
        return DeadlinePassed(
            f"The model at {self.server.host} did not finish within {self._deadline:g} seconds: "
            "try again, ask for less, or choose a faster model."
        )

    async def _tried(self, request: Request, on_text: OnText | None, end: float) -> Answer:
        """Retry if the server failed or asks to wait, or without an option that it lacks."""
        tries = 0
        while True:
            try:
                return await self._once(request, on_text)
            except (TooManyRequests, ServerFailed) as error:
                tries += 1
                wait = error.wait if isinstance(error, TooManyRequests) else None
                seconds = self._first_wait * 2 ** (tries - 1) if wait is None else wait
                if tries == _TRIES or time.monotonic() + seconds >= end:
                    raise
                await asyncio.sleep(seconds)
            except RequestRefused as error:
                lacks = next(
                    (name for name in _OPTIONAL if name in str(error) and not self._lacks(name)),
                    None,
                )
                if lacks is None or type(error) is not RequestRefused:
                    raise
                self._without.add(lacks)

    def _lacks(self, name: str) -> bool:
        return name in self._without

    async def _once(self, request: Request, on_text: OnText | None) -> Answer:
        start = time.monotonic()
        async with self._connection() as connection:
            try:
                stream = await connection.chat.completions.create(**self._body(request))
                reading = _Reading(self.server, request, on_text)
                await reading.read(stream)
            except openai.APIStatusError as error:
                raise refused(self.server, error.status_code, error.response) from None
            except openai.APIConnectionError as error:
                raise unreachable(self.server, error) from None
            except openai.APIError as error:
                raise ServerFailed(
                    f"The server at {self.server.host} failed while answering"
                    f"{self._says(error.message)}: try again."
                ) from None
            except (json.JSONDecodeError, UnicodeDecodeError):
                raise unreadable(self.server, "something that is not JSON") from None
        return reading.answer(time.monotonic() - start)

    def _says(self, text: object) -> str:
        said = " ".join(self.server.key.hide(str(text)).split())[:200].rstrip(".")
        return f" ({said})" if said else ""

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.server.model,
            "messages": [
                {"role": "system", "content": request.system},
                {"role": "user", "content": request.user},
            ],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.frequency_penalty:
            body["frequency_penalty"] = request.frequency_penalty
        if request.logprobs:
            body |= {"logprobs": True, "top_logprobs": _TOP}
        if request.grammar and self.server.local and is_builtin(self.server.model):
            # The same word again is no circle here.
            body["extra_body"] = {"grammar": request.grammar, "repeat_penalty": 1.0}
        for name in self._without:
            for part in _OPTIONAL[name]:
                body.pop(part, None)
        if self._lacks("max_tokens"):
            body["max_completion_tokens"] = request.max_tokens
        return body

    def _connection(self) -> openai.AsyncOpenAI:
        """A connection with this server's key, if it has one, and no other secrets."""
        key = self.server.key.reveal()

        async def only_ours(request: Any) -> None:
            for name in list(request.headers):
                if name.lower() not in _HEADERS:
                    del request.headers[name]
            if key:
                request.headers["Authorization"] = f"Bearer {key}"

        async def stay(response: Any) -> None:
            if 300 <= response.status_code < 400:
                raise redirected(self.server, response.headers.get("location", ""))

        http = openai.DefaultAsyncHttpxClient(
            follow_redirects=False,
            trust_env=not self.server.local,
            event_hooks={"request": [only_ours], "response": [stay]},
        )
        return openai.AsyncOpenAI(
            base_url=self.server.url,
            api_key="none",
            admin_api_key="",
            organization="",
            project="",
            webhook_secret="",
            max_retries=0,
            timeout=self._deadline,
            http_client=http,
        )


class _Reading:
    """An answer as it comes in."""

    def __init__(self, server: Server, request: Request, on_text: OnText | None) -> None:
        self._server, self._request, self._on_text = server, request, on_text
        self._texts: list[str] = []
        self._choices: list[TokenChoice] = []
        self._usage: Usage | None = None
        self._finish: str | None = None
        self._chunks = self._length = 0
        self._odd = ""

    async def read(self, stream: Any) -> None:
        """Read a stream, or the whole answer of a server that does not stream."""
        kind = stream.response.headers.get("content-type", "").lower()
        if "html" in kind:
            raise unreadable(self._server, "a web page")
        if "event-stream" in kind:
            async for (
                chunk
            ) in stream:  # read to its end, because closing a stream halfway leaves errors behind
                self._chunk(chunk.model_dump(warnings=False), "delta")
            return
        data = bytearray()
        async for part in stream.response.aiter_bytes():
            data += part
            if len(data) > _MOST_BYTES:
                raise unreadable(self._server, "far more than an answer")
        if data.lstrip()[:1] == b"<":
            raise unreadable(self._server, "a web page")
        self._chunk(json.loads(data.decode()), "message")

    def _chunk(self, chunk: Any, part: str) -> None:
        if self._odd:
            return
        try:
            self._chunks += 1
            usage = chunk.get("usage")
            if usage and usage.get("prompt_tokens") is not None:
                self._usage = Usage(int(usage["prompt_tokens"]), int(usage["completion_tokens"]))
            for choice in (chunk.get("choices") or [])[:1]:
                self._finish = choice.get("finish_reason") or self._finish
                for token in (choice.get("logprobs") or {}).get("content") or []:
                    others = {t["token"]: float(t["logprob"]) for t in token["top_logprobs"]}
                    self._choices.append(TokenChoice(token["token"], others))
                text = (choice.get(part) or {}).get("content")
                if text:
                    self._take(text)
        except (AttributeError, KeyError, TypeError, ValueError):
            self._odd = "something that is no answer"

    def _take(self, text: str) -> None:
        self._length += len(text)
        if self._length > _MOST_BYTES:
            self._odd = "far more than an answer"
            return
        self._texts.append(text)
        if self._on_text:
            self._on_text(text)

    def answer(self, seconds: float) -> Answer:
        """The whole answer; raises where there is none."""
        text, host = "".join(self._texts), self._server.host
        if self._odd:
            raise unreadable(self._server, self._odd)
        if not text and self._finish is None:
            raise unreadable(self._server, "nothing" if not self._chunks else "an empty object")
        if self._finish is None:
            raise AnswerCut(
                f"The answer from {host} broke off before its end, and nothing of it is kept: "
                "try again."
            )
        if self._finish == "content_filter":
            raise RequestRefused(f"The filter of {host} withheld the answer: try other examples.")
        cut = self._finish == "length"
        if not text.strip() and cut:
            raise AnswerCut(
                f"The model used up its {self._request.max_tokens} tokens without an answer: allow "
                "longer answers, or choose a model that thinks less."
            )
        if not text.strip():
            raise AnswerUnreadable(f"The model at {host} answered with nothing: try again.")
        prompt = self._request.system + self._request.user
        usage = self._usage or Usage(estimate_tokens(prompt), estimate_tokens(text))
        return Answer(text, usage, seconds, tuple(self._choices) or None, cut)
