"""The command line: what it prints, and one sentence for everything that can go wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FIELDS = ["layer", "head", "document", "dst", "src", "token", "multiple", "attention"]


def attn(*words: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "attn", *map(str, words)],
        capture_output=True,
        text=True,
        env=os.environ | env,
        timeout=120,
    )


def lines(*words: object) -> list[dict[str, object]]:
    done = attn(*words)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, tiny_gpt2: Path, text_file: Path) -> Path:
    out = tmp_path_factory.mktemp("indexes")
    done = attn("scan", "--model", tiny_gpt2, "--corpus", text_file, "--ctx", 32, "--out", out)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert folder.parent == out
    return folder


def test_scanning_again_finds_the_same_folder(
    index: Path, tiny_gpt2: Path, text_file: Path
) -> None:
    before = (index / "manifest.json").stat().st_mtime_ns
    done = attn(
        "scan", "--model", tiny_gpt2, "--corpus", text_file, "--ctx", 32, "--out", index.parent
    )
    assert Path(done.stdout.strip()) == index
    assert (index / "manifest.json").stat().st_mtime_ns == before


def test_top_prints_one_object_a_line(index: Path) -> None:
    records = lines("top", index, "L1H1", "-n", 7, "--json")
    assert len(records) == 7
    assert all(list(record) == FIELDS for record in records)
    multiples = [record["multiple"] for record in records]
    assert multiples == sorted(multiples, reverse=True)  # type: ignore[type-var]


def test_reverse_begins_nearest_above_average(index: Path) -> None:
    multiples = [r["multiple"] for r in lines("top", index, "L0H0", "--reverse", "--json")]
    assert all(m > 1 for m in multiples)  # type: ignore[operator]
    assert multiples == sorted(multiples)  # type: ignore[type-var]


def test_random_repeats_with_its_seed(index: Path) -> None:
    first, again = (lines("random", index, "L0H0", "--seed", 3, "--json") for _ in range(2))
    assert first == again
    assert first != lines("random", index, "L0H0", "--seed", 4, "--json")


def test_heads_are_ranked(index: Path) -> None:
    records = lines("heads", index, "--by", "entropy", "-n", 3, "--json")
    values = [record["entropy"] for record in records]
    assert len(values) == 3
    assert values == sorted(values, reverse=True)  # type: ignore[type-var]


def test_a_table_says_out_of_how_many(index: Path) -> None:
    done = attn("top", index, "L0H0", "-n", 2)
    assert "L0H0: 2 of " in done.stdout
    assert "pairs above average" in done.stdout


BAD = {
    "head out of range": (("top", "INDEX", "L9H9"), "L9H9"),
    "head unreadable": (("top", "INDEX", "9.9"), "L10H7"),
    "unknown metric": (("heads", "INDEX", "--by", "beauty"), "beauty"),
    "unknown ranking": (("top", "INDEX", "L0H0", "--by", "beauty"), "beauty"),
    "no index": (("top", "nowhere", "L0H0"), "nowhere"),
    "unknown model": (("scan", "--model", "./no-model", "--corpus", "TEXT"), "no-model"),
    "model not at the Hub": (("scan", "--model", "no/such", "--corpus", "TEXT"), "no/such"),
    "unknown file": (("scan", "--model", "MODEL", "--corpus", "none.txt"), "none.txt"),
    "unknown field": (("scan", "--model", "MODEL", "--corpus", "CSV:beauty"), "beauty"),
    "context too long": (
        ("scan", "--model", "MODEL", "--corpus", "TEXT", "--ctx", "9999"),
        "9999",
    ),
    "no rows": (("scan", "--model", "MODEL", "--corpus", "TEXT", "--min-row", "999"), "999"),
    "empty corpus": (("scan", "--model", "MODEL", "--corpus", "EMPTY"), "empty.txt"),
    "one token each": (("scan", "--model", "MODEL", "--corpus", "SHORT", "--no-bos"), "two tokens"),
    "no such device": (
        ("scan", "--model", "MODEL", "--corpus", "TEXT", "--device", "abacus"),
        "abacus",
    ),
    "no such dtype": (
        ("scan", "--model", "MODEL", "--corpus", "TEXT", "--dtype", "int3"),
        "int3",
    ),
    "no such option": (("top", "INDEX", "L0H0", "--colour"), "--colour"),
    "not fetched": (("scan", "--corpus", "TEXT"), "attn fetch"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence(
    case: str, index: Path, tiny_gpt2: Path, text_file: Path, tmp_path: Path
) -> None:
    words, expected = BAD[case]
    (tmp_path / "table.csv").write_text("text\nhello there\n")
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "short.txt").write_text("a\nb\n")
    names = {
        "INDEX": index,
        "MODEL": tiny_gpt2,
        "TEXT": text_file,
        "CSV": tmp_path / "table.csv",
        "EMPTY": tmp_path / "empty.txt",
        "SHORT": tmp_path / "short.txt",
    }
    filled = []
    for word in words:
        for name, path in names.items():
            word = word.replace(name, str(path))
        filled.append(word)
    cache = {"ATTN_CACHE": str(tmp_path / "cache"), "ATTN_INDEXES": str(tmp_path / "indexes")}
    done = attn(*filled, HF_HUB_OFFLINE="1", **cache)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    if not done.stderr.startswith("Usage"):
        sentence = done.stderr.strip().splitlines()[-1]
        assert sentence.startswith("Error: ")
        assert sentence.endswith(".")


def test_asking_an_index_imports_no_torch(index: Path) -> None:
    code = (
        "import sys; from attn.index import Index; from attn.heads import HeadId\n"
        f"i = Index.open({str(index)!r})\n"
        "i.top(HeadId(0, 0)); i.random(HeadId(0, 0)); i.window(0)\n"
        "assert 'torch' not in sys.modules and 'streamlit' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
