"""Requests to a language model and its answers, as plain values. No network here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Request:
    """One call: a system part, a user part, and how long the answer may be.

    ``logprobs`` ask for the log-probabilities of the answer's tokens, where the server has them;
    ``temperature`` 0 for the likeliest answer; ``frequency_penalty`` keeps small models from
    repeating themselves; ``grammar`` (GBNF) the form of the answer, which the model that ships is
    held to: it does not keep to a form that it is only told. Other models are only told.
    """

    system: str
    user: str
    max_tokens: int
    temperature: float = 0.0
    logprobs: bool = False
    frequency_penalty: float = 0.0
    grammar: str = ""


@dataclass(frozen=True)
class TokenChoice:
    """A token of an answer, with its alternatives: text → log-probability."""

    text: str
    alternatives: Mapping[str, float]


@dataclass(frozen=True)
class Usage:
    """Tokens that calls cost, as the server counts them, or as estimated where it does not."""

    prompt: int = 0
    answer: int = 0

    @property
    def total(self) -> int:
        """Tokens of prompt and answer together."""
        return self.prompt + self.answer

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt + other.prompt, self.answer + other.answer)


@dataclass(frozen=True)
class Answer:
    """A whole answer. ``choices`` is None where the server gave no log-probabilities.

    ``cut`` the answer reached its longest length, so its end is missing.
    """

    text: str
    usage: Usage
    seconds: float
    choices: tuple[TokenChoice, ...] | None = None
    cut: bool = False


OnText = Callable[[str], None]
"""Called with each piece of an answer as it streams in."""


class LanguageModel(Protocol):
    """Anything that answers requests: a model at a server (attn/describe/client.py), or a fake."""

    @property
    def name(self) -> str:
        """The model's name, as the server knows it."""

    def complete(
        self,
        request: Request,
        on_text: OnText | None = None,
        stop: threading.Event | None = None,
    ) -> Answer:
        """Answer a request; streams where ``on_text`` is given. Raises ServerError or Stopped."""


@dataclass(frozen=True)
class FakeModel:
    """A language model for tests and demonstrations that answers with a function.

    >>> fake = FakeModel(lambda request: "Attends to names.")
    >>> fake.complete(Request("system", "user", 10)).text
    'Attends to names.'
    >>> fake.requests[0].user
    'user'
    """

    reply: Callable[[Request], str | Answer]
    name: str = "fake"
    requests: list[Request] = field(default_factory=list)

    def complete(
        self,
        request: Request,
        on_text: OnText | None = None,
        stop: threading.Event | None = None,
    ) -> Answer:
        """What the function says, line by line where it is streamed."""
        self.requests.append(request)
        reply = self.reply(request)
        if isinstance(reply, str):
            words = len(request.system.split()) + len(request.user.split())
            reply = Answer(reply, Usage(words, len(reply.split())), 0.0)
        if on_text:
            for line in reply.text.splitlines(keepends=True):
                on_text(line)
        return reply
