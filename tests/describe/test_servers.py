"""Addresses and keys: which goes with which, and what is refused."""

from __future__ import annotations

import copy
import pickle

import pytest

from attn.describe.servers import OPENAI, PRESETS, Secret, Server, configured, environment
from attn.errors import NoServer

KEY = "sk-a-key"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_addresses(name: str) -> None:
    assert Server(PRESETS[name], "m").url == PRESETS[name]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("http://localhost:8080/v1/", "http://localhost:8080/v1"),
        (" https://a.example/v1/chat/completions ", "https://a.example/v1"),
        ("http://[::1]:9/v1", "http://[::1]:9/v1"),
    ],
)
def test_addresses_are_tidied(typed: str, meant: str) -> None:
    assert Server(typed, "m").url == meant


@pytest.mark.parametrize(
    "typed",
    ["", "localhost:8080", "ftp://a/v1", "http://", "http://a:99999/v1", "http://a:x/v1",
     "http://user:pass@a/v1", "http://a/v1?key=x", "http://a/v1#x", "file:///etc/passwd"],
)  # fmt: skip
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(NoServer) as caught:
        Server(typed, "m")
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize("key", ["a b", "a\nb", "clé", "a\x00"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(NoServer) as caught:
        Server(OPENAI, "m", Secret(key))
    assert key not in str(caught.value)


def test_a_model_must_be_named() -> None:
    with pytest.raises(NoServer, match="No model is named"):
        Server(OPENAI, " ")


def test_a_key_does_not_show() -> None:
    server = Server(OPENAI, "m", Secret(KEY))
    for text in (repr(server), str(server), f"{server.key}", repr(vars(server)), repr([server])):
        assert KEY not in text
    assert server.key.hide(f"bad {KEY}!") == "bad [key]!"
    for write in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            write(server)


Env = dict[str, str]


@pytest.mark.parametrize(
    ("env", "url", "key"),
    [
        ({}, OPENAI, ""),
        ({"OPENAI_API_KEY": "o"}, OPENAI, "o"),
        ({"OPENAI_API_KEY": "o", "OPENAI_BASE_URL": "http://b/v1"}, "http://b/v1", "o"),
        ({"ATTN_LLM_KEY": "a"}, OPENAI, "a"),
        ({"ATTN_LLM_KEY": "a", "OPENAI_BASE_URL": "http://b/v1"}, OPENAI, "a"),
        ({"ATTN_LLM_URL": "http://c/v1"}, "http://c/v1", ""),
        ({"ATTN_LLM_URL": "http://c/v1", "OPENAI_API_KEY": "o"}, "http://c/v1", ""),
        ({"ATTN_LLM_URL": "http://c/v1", "ATTN_LLM_KEY": "a"}, "http://c/v1", "a"),
        ({"ATTN_LLM_URL": f"{OPENAI}/", "OPENAI_API_KEY": "o"}, f"{OPENAI}/", "o"),
    ],
)
def test_a_key_goes_with_its_own_address(
    env: Env, url: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    found = environment()
    assert found[0] == url
    assert found[2].reveal() == key


def test_the_environments_key_does_not_follow_another_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ATTN_LLM_KEY", KEY)
    monkeypatch.setenv("ATTN_LLM_MODEL", "m")
    assert configured().key.reveal() == KEY
    assert not configured(url="http://elsewhere.example/v1").key
    assert configured(model="other").model == "other"


def test_nothing_set_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoServer, match="describe-local"):
        configured()
    monkeypatch.setenv("ATTN_LLM_URL", "http://localhost:1/v1")
    with pytest.raises(NoServer, match="No model is named"):
        configured()
