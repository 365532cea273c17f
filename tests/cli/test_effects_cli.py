"""The command `effects`: lines for people and programs, killed and resumed, refused in words."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attn.index.effects import find_effects, read_effects
from attn.index.index import Index
from tests.cli.commands import attn
from tests.conftest import contents

FIELDS = [
    "layer", "head", "rank", "effect", "low", "high", "estimate", "exact", "tokens",
]  # fmt: skip


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, text_file: Path) -> Path:
    out = tmp_path_factory.mktemp("indexes")
    done = attn("scan", "--model", tiny_llama, "--corpus", text_file, "--ctx", 32, "--out", out)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture
def index(scanned: Path, tmp_path: Path) -> Path:
    """The index by itself, without effects."""
    folder = tmp_path / scanned.name
    shutil.copytree(scanned, folder)
    return folder


def test_one_object_a_line(index: Path) -> None:
    before = contents(index)
    done = attn("effects", index, "--docs", 6, "--exact", 2, "--head", "L0H3", "--json")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(list(record) == FIELDS for record in records)
    assert [record["rank"] for record in records] == [*range(1, 9)]
    effects = [record["effect"] for record in records]
    assert effects == sorted(effects, reverse=True)
    exact = {(r["layer"], r["head"]): r["exact"] for r in records if r["exact"] is not None}
    assert (0, 3) in exact
    assert len(exact) in (2, 3)
    for record in records:
        assert record["effect"] == (
            record["estimate"] if record["exact"] is None else record["exact"]
        )
        assert record["low"] <= record["effect"] <= record["high"]
    assert contents(index) == before  # the index itself is as it was
    assert find_effects(index, Index.open(index).manifest) is not None


def test_lines_for_people_say_how_far_to_believe_them(index: Path) -> None:
    done = attn("effects", index, "--docs", 6, "--exact", 3, "-n", 4, "--head", "l1h0")
    lines = done.stdout.splitlines()
    assert len(lines) in (4, 5)
    assert any(" L1H0 " in line and " exact  (estimated " in line for line in lines)
    assert "Spearman correlation of " in done.stderr
    assert "are off by " in done.stderr
    assert "nats a token in the mean" in done.stderr


def test_heads_are_ranked_by_it(index: Path) -> None:
    refused = attn("heads", index, "--by", "effect")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "python -m attn effects" in refused.stderr
    attn("effects", index, "--docs", 6, "--exact", 0)
    found = attn("heads", index, "--by", "effect", "-n", 3, "--json")
    values = [json.loads(line)["effect"] for line in found.stdout.splitlines()]
    effects = find_effects(index, Index.open(index).manifest)
    assert effects is not None
    assert values == sorted(effects.effect.reshape(-1).tolist(), reverse=True)[:3]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--head", "L9H9"), "no head L9H9"),
        (("--head", "x"), "is not a head"),
    ],
)
def test_bad_heads_are_one_sentence(index: Path, words: tuple[str, ...], told: str) -> None:
    done = attn("effects", index, *words)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_killed_it_goes_on_to_the_same_bytes(index: Path, tmp_path: Path) -> None:
    """A process killed once it has committed a part; what it kept is used and not made again."""
    words = ["effects", index, "--docs", "10", "--exact", "2"]
    whole = attn(*words)
    assert whole.returncode == 0, whole.stderr
    (folder,) = index.parent.glob(f"{index.name}.effects-*")
    wanted = contents(folder)
    shutil.rmtree(folder)
    code = (
        "import sys, time\n"
        "from attn.index.parts import Parts\n"
        "commit = Parts.commit\n"
        "def slowly(self, name, arrays):\n"
        "    commit(self, name, arrays)\n"
        "    time.sleep(600)\n"
        "Parts.commit = slowly\n"
        "from attn.cli.main import main\n"
        "sys.argv = ['attn', *sys.argv[1:]]\n"
        "main()\n"
    )
    killed = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 120
        while not [*folder.glob("parts/all.*.json")] and killed.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    (part,) = folder.glob("parts/all.*.json")
    stamp = part.stat().st_mtime_ns
    assert not (folder / "effects.json").exists()
    again = attn(*words)
    assert again.stdout == whole.stdout
    found = contents(folder)
    assert {name: found[name] for name in wanted} == wanted
    assert part.stat().st_mtime_ns == stamp
    assert read_effects(folder).measured.documents == 10  # one text comes twice
