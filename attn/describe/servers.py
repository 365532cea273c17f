"""The language model's address, name and key, from the environment or from a user.

A key belongs to the address it was given for, and is never sent to another.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from attn.config import load_environment
from attn.errors import NoServer

OPENAI = "https://api.openai.com/v1"

PRESETS: Mapping[str, str] = {
    "OpenAI": OPENAI,
    "OpenRouter": "https://openrouter.ai/api/v1",
    "Ollama": "http://localhost:11434/v1",
    "LM Studio": "http://localhost:1234/v1",
    "vLLM": "http://localhost:8000/v1",
    "llama.cpp": "http://localhost:8080/v1",
}
"""Server → its default address."""


@dataclass(frozen=True, repr=False)
class Secret:
    """A key. Printing it, or anything that holds it, does not show it."""

    _value: str

    def reveal(self) -> str:
        """The key itself, for the one header that carries it."""
        return self._value

    def hide(self, text: str) -> str:
        """``text`` without the key in it."""
        return text.replace(self._value, "[key]") if self._value else text

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(…)" if self._value else "Secret()"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("A key is not written to files.")


@dataclass(frozen=True)
class Server:
    """An OpenAI-compatible server, the model to ask there, and the key, if it wants one.

    ``url`` its base address, most often ending in ``/v1``. Raises :class:`NoServer` when one of
    them cannot be what it should.
    """

    url: str
    model: str
    key: Secret = field(default_factory=lambda: Secret(""))

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", _address(self.url))
        object.__setattr__(self, "model", self.model.strip())
        key = self.key.reveal()
        if not self.model:
            raise NoServer("No model is named: say which of the server's models to ask.")
        if key != "".join(char for char in key if "!" <= char <= "~"):
            raise NoServer(
                "The key has a space or a character in it that no key has: copy it again."
            )

    @property
    def host(self) -> str:
        """The address's host and port, which may be shown and kept."""
        return urlsplit(self.url).netloc

    @property
    def local(self) -> bool:
        """Whether the server is on this machine."""
        return urlsplit(self.url).hostname in ("localhost", "127.0.0.1", "::1")


def _address(text: str) -> str:
    url = text.strip().rstrip("/").removesuffix("/chat/completions").rstrip("/")
    try:
        parts = urlsplit(url)
        bad = not parts.hostname or parts.scheme not in ("http", "https") or parts.port == 0
    except ValueError:
        bad = True
    if bad:
        raise NoServer(
            "The server's address is not one: write it like https://api.openai.com/v1 or "
            "http://localhost:8080/v1."
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise NoServer(
            "The server's address holds a name, a key or a question mark: give the address alone, "
            "and the key in its own field."
        )
    return url


def environment() -> tuple[str, str, Secret]:
    """Address, model ("" where none is named) and key of the environment and `.env`.

    ``ATTN_LLM_URL``, ``ATTN_LLM_MODEL`` and ``ATTN_LLM_KEY`` go first; ``OPENAI_BASE_URL``,
    ``OPENAI_MODEL`` and ``OPENAI_API_KEY`` fill in. A key of one pair never goes to an address of
    the other.
    """
    load_environment()
    get = os.environ.get
    openai = (get("OPENAI_BASE_URL") or OPENAI, get("OPENAI_API_KEY") or "")
    url, key = get("ATTN_LLM_URL") or OPENAI, get("ATTN_LLM_KEY") or ""
    if not get("ATTN_LLM_URL") and not key:
        url, key = openai
    elif not key and url.rstrip("/") == openai[0].rstrip("/"):
        key = openai[1]
    model = get("ATTN_LLM_MODEL") or get("OPENAI_MODEL") or ""
    return url.strip(), model.strip(), Secret(key.strip())


def configured(url: str | None = None, model: str | None = None) -> Server:
    """The server of the environment, another address or model where given.

    The environment's key goes along only where the address is the environment's. Raises
    :class:`NoServer` when no model is named, or a server far away has no key.
    """
    own_url, own_model, key = environment()
    chosen = url or own_url
    same = chosen.rstrip("/") == own_url.rstrip("/")
    server = Server(chosen, model or own_model or "-", key if same else Secret(""))
    if not server.key and chosen.rstrip("/") == OPENAI:
        raise NoServer(
            "No language model is set: put ATTN_LLM_KEY and ATTN_LLM_MODEL into `.env`, or start "
            "one on this machine with `python -m attn describe-local`."
        )
    return Server(server.url, model or own_model, server.key)
