"""The commands, against a scripted server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attn.index.index import Index
from tests.describe.conftest import Serve
from tests.describe.scripted import Handler, Scripted

KEY = "sk-cli-s3cret"
FAST = ("--questions", "4", "--batch", "4")


def attn(*words: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "attn", *map(str, words)],
        capture_output=True, text=True, env=os.environ | env, timeout=120,
    )  # fmt: skip


def talk(handler: Handler, body: dict[str, Any]) -> None:
    user = body["messages"][1]["content"]
    if user.endswith("What does this head do?"):
        handler.stream("Attends to nouns\n", "from verbs.\x1b[31m")
    else:
        handler.stream("\n".join(f"{i}: yes" for i in range(1, 10)))


@pytest.fixture
def server(serve: Serve) -> Scripted:
    return serve(talk)


def env(server: Scripted) -> dict[str, str]:
    return {"ATTN_LLM_URL": server.url, "ATTN_LLM_MODEL": "tiny", "ATTN_LLM_KEY": KEY}


def test_describe_and_score_one_head(tiny_index: Index, server: Scripted) -> None:
    done = attn("describe", tiny_index.path, "L1H2", *FAST, **env(server))
    assert done.returncode == 0, done.stderr
    assert "Attends to nouns\nfrom verbs.\\x1b[31m" in done.stdout
    assert "another head's description (L" in done.stdout
    assert "most attended token" in done.stdout
    assert "balanced accuracy" in done.stdout
    assert "held-out documents" in done.stdout
    assert "tokens used" in done.stderr
    assert KEY not in done.stdout + done.stderr
    calls = len(server.requests)
    again = attn("describe", tiny_index.path, "L1H2", *FAST, "--json", **env(server))
    assert len(server.requests) == calls
    record = json.loads(again.stdout)
    assert record["head"] == "L1H2"
    assert record["report"]["judge"] == "tiny"
    for path in tiny_index.path.parent.iterdir():
        if path.is_file():
            assert KEY.encode() not in path.read_bytes()


def test_a_budget_stops_all_heads_and_the_command_goes_on(
    tiny_index: Index, server: Scripted
) -> None:
    # Each call costs 14 tokens by the server's count, but room for a whole prompt must be left.
    words = ("describe", tiny_index.path, "--all-heads", "--no-score", "--samples", "4")
    first = attn(*words, "--budget-tokens", "2000", **env(server))
    assert first.returncode == 0, first.stderr
    done = first.stdout.count("described by")
    assert 0 < done <= 8
    rest = attn(*words, **env(server))
    assert rest.returncode == 0, rest.stderr
    assert rest.stdout.count("described by") == 8
    assert len(server.requests) == 8
    little = attn(*words, "--seed", "9", "--budget-tokens", "300", **env(server))
    assert little.returncode == 0
    assert "0 of 8 heads are done" in little.stderr
    assert len(server.requests) == 8


def test_a_dry_run_sends_nothing(tiny_index: Index, server: Scripted) -> None:
    done = attn("describe", tiny_index.path, "L1H2", "--dry-run", **env(server))
    assert done.returncode == 0, done.stderr
    assert "What does this head do?" in done.stdout
    assert "examples, about" in done.stdout
    assert "a test takes" in done.stdout
    assert not server.requests


def test_a_description_of_ones_own(tiny_index: Index, server: Scripted) -> None:
    done = attn(
        "describe", tiny_index.path, "L0H1", "--text", "Attends to cats.", *FAST, **env(server)
    )
    assert done.returncode == 0, done.stderr
    assert "L0H1, described by you:\nAttends to cats." in done.stdout


def test_history_export_and_import(tiny_index: Index, server: Scripted, tmp_path: Path) -> None:
    attn("describe", tiny_index.path, "L1H2", "--no-score", **env(server))
    listed = attn("descriptions", tiny_index.path, "L1H2")
    assert "tiny: Attends to nouns" in listed.stdout
    assert attn("descriptions", tiny_index.path, "L0H0").stdout == ""
    exported = tmp_path / "kept.jsonl"
    exported.write_text(attn("descriptions", tiny_index.path, "--json").stdout, encoding="utf-8")
    tiny_index.path.with_name(f"{tiny_index.path.name}.descriptions").unlink()
    assert attn("descriptions", tiny_index.path, "--import", exported).stdout.startswith("1 ")
    assert attn("descriptions", tiny_index.path, "--import", exported).stdout.startswith("0 ")


BAD = {
    "no server": (("describe", "INDEX", "L1H2"), {}, "describe-local"),
    "no model": (("describe", "INDEX", "L1H2"), {"ATTN_LLM_KEY": KEY}, "No model is named"),
    "no head": (("describe", "INDEX"), {}, "--all-heads"),
    "both": (("describe", "INDEX", "L1H2", "--all-heads"), {}, "--all-heads"),
    "head out of range": (("describe", "INDEX", "L9H9", "--dry-run"), {}, "L9H9"),
    "own text for all": (("describe", "INDEX", "--all-heads", "--text", "x"), {}, "name it"),
    "refused": (
        ("describe", "INDEX", "L1H2", "--url", "http://127.0.0.1:9/v1", "--model", "m"),
        {},
        "the connection is refused",
    ),
    "no address": (("describe", "INDEX", "L1H2", "--url", "nowhere"), {}, "http://localhost"),
    "no file": (("descriptions", "INDEX", "--import", "none.jsonl"), {}, "none.jsonl"),
    "no gguf": (("describe-local", "--gguf", "none.gguf"), {}, "none.gguf"),
    "not gguf": (("describe-local", "--gguf", "pyproject.toml"), {}, "is no GGUF file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence(case: str, tiny_index: Index) -> None:
    words, more, expected = BAD[case]
    done = attn(*(tiny_index.path if w == "INDEX" else w for w in words), **more)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert KEY not in done.stdout + done.stderr
    sentence = done.stderr.strip().splitlines()[-1]
    assert sentence.startswith("Error: ")
    assert sentence.endswith(".")


def test_no_command_takes_a_key() -> None:
    shown = attn("describe", "--help", COLUMNS="200").stdout.lower()
    assert "--budget-tokens" in shown
    assert "--key" not in shown


def test_describing_imports_no_torch(tiny_index: Index) -> None:
    code = (
        "import sys; from attn.index.index import Index; from attn.heads import HeadId\n"
        "from attn.describe.describe import draft\n"
        f"draft(Index.open({str(tiny_index.path)!r}), HeadId(0, 0))\n"
        "assert not {'torch', 'openai', 'streamlit', 'xllamacpp'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
