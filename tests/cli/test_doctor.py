"""`attn doctor`: what is there, what is missing, and what to do about it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from attn.cli import doctor
from attn.index.index import Index


def findings(code: int = 0, **env: object) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "attn", "doctor", "--json"], capture_output=True, text=True,
        env=os.environ | {name: str(value) for name, value in env.items()},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "sk-s3cret" not in done.stdout + done.stderr
    return {one["what"]: one for one in map(json.loads, done.stdout.splitlines())}


def test_nothing_fetched_and_nothing_scanned(tmp_path: Path) -> None:
    told = findings(ATTN_CACHE=tmp_path, ATTN_INDEXES=tmp_path / "none", ATTN_LLM_URL="")
    assert told["python"]["found"].startswith(".".join(map(str, sys.version_info[:3])))
    assert metadata.version("torch") in told["device"]["found"]
    assert str(tmp_path) in told["cache"]["found"]
    assert told["smollm2-135m"]["remedy"] == "run `attn fetch` (89 MB)"
    assert told["scanned"]["remedy"] == "run `attn scan`"
    assert told["extra app"]["found"] == "complete"


def test_indexes_are_counted_and_broken_ones_named(tiny_index: Index, tmp_path: Path) -> None:
    (tmp_path / "good").symlink_to(tiny_index.path)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "manifest.json").write_text("{}")
    told = findings(ATTN_INDEXES=tmp_path)
    assert told["scanned"]["found"] == "1 indexes open; bad cannot be opened"
    (tmp_path / "bad" / "manifest.json").unlink()
    assert findings(ATTN_INDEXES=tmp_path)["scanned"]["found"] == "1 index"


def test_a_server_is_named_without_its_key(tmp_path: Path) -> None:
    server = {"ATTN_LLM_URL": "http://127.0.0.1:9/v1", "ATTN_LLM_MODEL": "tiny"}
    told = findings(**server, ATTN_LLM_KEY="sk-s3cret")["language model"]
    assert (told["found"], told["remedy"]) == ("tiny at 127.0.0.1:9", "")
    told = findings(ATTN_LLM_URL="", ATTN_LLM_MODEL="", ATTN_LLM_KEY="")["language model"]
    assert told["found"].startswith("none")
    assert "attn describe-local" in told["remedy"]


def test_a_folder_that_cannot_be_written_ends_with_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    told = findings(2, ATTN_CACHE=tmp_path / "file" / "cache", ATTN_INDEXES=tmp_path)
    assert told["cache"]["remedy"] == "choose another folder by ATTN_CACHE"


def test_missing_and_other_versions_are_named() -> None:
    found = doctor._group("", ["torch>=1", "no-such-package>=2", "numpy<1"])
    assert "missing: no-such-package" in found.found
    assert f"numpy {metadata.version('numpy')} (wanted: <1)" in found.found
    assert found.needed
    assert found.remedy == "run `pip install --upgrade attn`"


def test_people_read_lines(capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "attn", "doctor"], capture_output=True, text=True, check=True
    )
    assert "packages              complete" in done.stdout
