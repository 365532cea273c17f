"""Servers on loopback that the tests of descriptions share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.describe.scripted import Script, Scripted

Serve = Callable[[Script], Scripted]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a scripted server; it is closed after the test."""
    servers: list[Scripted] = []

    def start(script: Script) -> Scripted:
        servers.append(Scripted(script))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(autouse=True)
def no_server_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tester's own settings out."""
    for name in ("ATTN_LLM_URL", "ATTN_LLM_MODEL", "ATTN_LLM_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OPENAI_BASE_URL", "OPENAI_MODEL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
