"""What the tests of descriptions share: scripted servers, a tiny index, a real local server."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attn.describe.servers import Server
from attn.index.index import Index
from tests.conftest import Tiny
from tests.describe.scripted import Script, Scripted

Serve = Callable[[Script], Scripted]

WORDS = ("the", "cat", "dog", "mat", "log", "sat", "on", "and", "Anna", "gave", "to", "Ben", "is")


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
def no_server_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the tester's own settings out."""
    for name in ("ATTN_LLM_URL", "ATTN_LLM_MODEL", "ATTN_LLM_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OPENAI_BASE_URL", "OPENAI_MODEL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def tiny_folder(gpt2: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an index of the tiny GPT-2 over sixty short texts."""
    from attn.corpus.corpus import load_corpus
    from attn.scan.plan import Plan
    from attn.scan.run import scan

    draw = random.Random(5)
    texts = [" ".join(draw.choices(WORDS, k=24)) for _ in range(60)]
    path = tmp_path_factory.mktemp("describe-corpus") / "sixty.txt"
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    out = tmp_path_factory.mktemp("describe-indexes")
    return scan(gpt2.session, load_corpus(str(path)), Plan(ctx=48, min_row=4), out=out)


@pytest.fixture
def tiny_index(tiny_folder: Path) -> Iterator[Index]:
    """The tiny index, opened, with no descriptions beside it."""
    from attn.describe.store import place

    index = Index.open(tiny_folder)
    place(index).unlink(missing_ok=True)
    yield index
    place(index).unlink(missing_ok=True)


@pytest.fixture(scope="session")
def local_server() -> Iterator[Server]:
    """llama.cpp on loopback with the built-in model, one thread, 1,024 tokens of context."""
    from attn.describe.local import model_file, serve

    file = model_file()
    with serve(file, context=1024, threads=1) as address:
        yield Server(address, file.stem)


@pytest.fixture(scope="session")
def tiny_folder_index(tiny_folder: Path) -> Index:
    """The tiny index, opened once, for tests that write nothing."""
    return Index.open(tiny_folder)
