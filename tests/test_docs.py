"""Every command in the README runs, as a user would run it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from attn.corpus.corpus import load_corpus
from attn.index.index import Index, find_indexes
from attn.index.manifest import verify
from tests.conftest import SAMPLE_DOCS, SCAN, contents
from tests.e2e.serving import serve
from tests.sharing import said_by

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.strip()]
# The whole run is `make test`; the others have a test of their own.
DOCTOR = "python -m attn doctor"
MAKE = {"make app", "make test", "make describe-local"}


def run(command: str, index: Path | None, env: dict[str, str]) -> str:
    words = shlex.split(command.replace("INDEX", str(index)))
    assert words[0] == "python"
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=ROOT, env=env, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory, builtin: Path) -> dict[str, str]:
    return os.environ | {"ATTN_INDEXES": str(tmp_path_factory.mktemp("indexes"))}


def test_the_readme_says_commands() -> None:
    assert len([c for c in COMMANDS if c.startswith("python -m attn")]) >= 8
    assert set(COMMANDS) >= MAKE
    assert all(c in MAKE or c.startswith("python ") for c in COMMANDS)


DESCRIBE = [c for c in COMMANDS if "attn describe" in c]


@pytest.fixture(scope="module")
def model_env(env: dict[str, str], builtin: Path) -> Iterator[dict[str, str]]:
    """The server that `make describe-local` starts, on a free port: the model that ships."""
    from attn.describe.local import model_file, start

    local = start(model_file())
    yield env | {"ATTN_LLM_URL": local.server.url, "ATTN_LLM_MODEL": local.server.model}
    local.close()


@pytest.mark.parametrize("command", DESCRIBE)
def test_a_description(command: str, sample_index: Path, model_env: dict[str, str]) -> None:
    """By the model that ships: whatever it says, the command ends well and says what it scores."""
    out = run(command, sample_index, model_env)
    if "--dry-run" in command:
        assert "What does this head do?" in out
    else:
        assert f"described by {model_env['ATTN_LLM_MODEL']}" in out or "--text" in command
        assert ("judged by SmolLM2" in out) == ("--no-score" not in command)
        assert (" 0 answers unread" in out) == ("--no-score" not in command)


def test_the_readme_tests_a_description_of_the_model_that_ships() -> None:
    assert any("--brief" in command and "--all-heads" not in command for command in DESCRIBE)


SHARE = [c for c in COMMANDS if re.search("attn (export|import) ", c)]
REPORT = [c for c in COMMANDS if "attn report" in c]


def test_a_report(sample_index: Path, env: dict[str, str], tmp_path: Path) -> None:
    (command,) = REPORT
    file = tmp_path / "head.html"
    out = run(command.replace("head.html", str(file)), sample_index, env)
    assert out.strip() == str(file)
    assert "<title>L18H6 of smollm2-135m on sample</title>" in file.read_text()


def test_an_index_is_shared(sample_index: Path, env: dict[str, str], tmp_path: Path) -> None:
    """As a file there and back; test_sharing.py has the commands that take the Hub."""
    export, back = (
        command.replace("heads.tar", str(tmp_path / "heads.tar")).replace(
            "elsewhere", str(tmp_path / "elsewhere")
        )
        for command in SHARE
    )
    assert run(export, sample_index, env).strip() == str(tmp_path / "heads.tar")
    folder = Path(run(back, None, env).strip())
    assert folder == tmp_path / "elsewhere" / sample_index.name
    assert contents(folder) == contents(sample_index)


PAIR = [c for c in COMMANDS if "find" in c and "--pair" in c]


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if "INDEX" in c and c not in DESCRIBE + SHARE + REPORT + PAIR]
)
def test_a_question_to_an_index(command: str, sample_index: Path, env: dict[str, str]) -> None:
    out = run(command, sample_index, env)
    assert out.strip()
    if "--json" in command:
        assert all(line.startswith('{"layer": 18, "head": 6') for line in out.splitlines())


@pytest.mark.parametrize(
    "command",
    [
        c
        for c in COMMANDS
        if c.startswith("python -m")
        and not re.search("INDEX|PART|--shard", c)
        and c not in [*SHARE, SCAN, DOCTOR]
    ],
)
def test_fetch(command: str, env: dict[str, str]) -> None:
    folder = Path(run(command, None, env).strip().splitlines()[-1])
    assert folder.is_dir()


def test_doctor(env: dict[str, str]) -> None:
    assert DOCTOR in COMMANDS
    assert "run `attn scan`" in run(DOCTOR, None, env | {"ATTN_INDEXES": "nowhere"})


def test_scan(sample_scan: Path) -> None:
    """The one that all tests of the real index share is the README's, and prints its folder."""
    assert SCAN in COMMANDS
    folder = Path(said_by(sample_scan).read_text().strip().splitlines()[-1])
    assert find_indexes(sample_scan) == [folder]
    verify(folder)
    assert Index.open(folder).manifest.documents == SAMPLE_DOCS


@pytest.fixture(scope="module")
def tiny_env(env: dict[str, str], tiny_llama: Path) -> dict[str, str]:
    """Where the point is the command: a tiny model as the one that the settings name."""
    return env | {"ATTN_MODEL": str(tiny_llama)}


@pytest.fixture(scope="module")
def merged(tiny_env: dict[str, str]) -> Path:
    """What the README's scans of parts and their merge make."""
    scans = [c for c in COMMANDS if "--shard" in c]
    parts = [run(command, None, tiny_env).strip().splitlines()[-1] for command in scans]
    (merge,) = (c for c in COMMANDS if "PART" in c)
    return Path(run(merge.replace("PART PART", " ".join(parts)), None, tiny_env).strip())


def test_parts_and_their_merge(merged: Path) -> None:
    assert Index.open(merged).manifest.documents == 64


@pytest.mark.parametrize("command", PAIR)
def test_which_heads_join_a_pair(command: str, merged: Path, tiny_env: dict[str, str]) -> None:
    assert run(command, merged, tiny_env).strip()


def test_make_bench_runs_every_benchmark() -> None:
    dry = subprocess.run(
        ["make", "-n", "bench"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    modules = {p.stem for p in (ROOT / "benchmarks").glob("*.py")} - {
        "report",
        "readme",
        "tiny",
        "__init__",
    }
    assert set(re.search(r"for name in ([a-z ]+);", dry.stdout)[1].split()) == modules  # type: ignore[index]


def test_the_readme_has_what_the_benchmarks_found() -> None:
    from benchmarks.readme import END, START, tables

    assert START + tables() + END in README


def test_the_benchmark_of_a_scan(tiny_env: dict[str, str], tmp_path: Path) -> None:
    env = tiny_env | {"BENCH_RESULTS": str(tmp_path)}
    out = run("python -m benchmarks.scan --rounds 1 --ctx 64 --dtype float32", None, env)
    assert "| tokens | dtype | plain_s | scan_s | ratio |" in out
    (row,) = json.loads((tmp_path / "scan.json").read_text())
    assert row["ratio"] > 0


def test_make_describe_local_is_what_the_makefile_does() -> None:
    for more, wanted in (([], "describe-local"), (["GGUF=a.gguf"], '--gguf "a.gguf"')):
        dry = subprocess.run(
            ["make", "-n", "describe-local", *more],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert f"-m attn {wanted}" in dry.stdout or wanted in dry.stdout


def test_make_app_is_what_the_makefile_does() -> None:
    dry = subprocess.run(
        ["make", "-n", "app"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "streamlit run app.py" in dry.stdout
    assert "-m attn scan" in dry.stdout


def test_streamlit_run_app_serves_the_app(tmp_path: Path) -> None:
    assert "`streamlit run app.py`" in README
    where = {"ATTN_INDEXES": tmp_path}
    with serve(tmp_path / "log.txt", **where) as app, urllib.request.urlopen(app.url) as page:
        assert page.status == 200


def test_the_readme_counts_the_sample_and_has_its_picture() -> None:
    documents = list(load_corpus("sample"))
    assert f"over {len(documents)} short texts" in README
    assert f"{len(documents)} passages in sixteen genres" in README
    assert len({document.source for document in documents}) == 16
    assert (ROOT / "docs" / "heads.png").stat().st_size < 300_000
