"""The command line: what it prints, and one sentence for everything that can go wrong."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from attn.analyse.roles import roles, told
from attn.analyse.summary import summary
from attn.heads import HeadId
from attn.index.index import Index
from attn.measure.scores import BANDS
from attn.show.report import report
from tests.cli.commands import Done, attn, process
from tests.conftest import contents

FIELDS = ["layer", "head", "document", "dst", "src", "token", "multiple", "attention", "start"]


def lines(*words: object) -> list[dict[str, object]]:
    done = attn(*words)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, tiny_gpt2: Path, text_file: Path) -> Path:
    out = tmp_path_factory.mktemp("indexes")
    done = process("scan", "--model", tiny_gpt2, "--corpus", text_file, "--ctx", 32, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "Skipped 1 document of fewer than two tokens." in done.stderr
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


def test_a_corpus_of_short_texts_says_that_nothing_was_counted(
    tiny_gpt2: Path, tmp_path: Path
) -> None:
    texts = tmp_path / "short.txt"
    texts.write_text("the cat sat\na dog\n", encoding="utf-8")
    scanned = attn("scan", "--model", tiny_gpt2, "--corpus", texts, "--ctx", 32, "--out", tmp_path)
    assert scanned.returncode == 0
    sentence = "No row was counted: no document is longer than 10 tokens;"
    assert scanned.stderr.count(sentence) == 1
    done = attn("heads", scanned.stdout.strip(), "-n", 2)
    assert (done.returncode, done.stdout.count("nan")) == (0, 2)
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1
    assert attn("heads", scanned.stdout.strip(), "--json", "-n", 2).stdout.count("null") == 2


def test_heads_of_other_texts_say_nothing(index: Path) -> None:
    assert attn("heads", index).stderr == ""


def test_repeated_texts_are_named(tiny_gpt2: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    line = "the cat sat on the mat and the dog sat on the mat and the cat sat there"
    texts.write_text(f"one two three {line}\n" + f"{line}\n" * 200, encoding="utf-8")
    out = tmp_path / "out"
    scanned = attn("scan", "--model", tiny_gpt2, "--corpus", texts, "--ctx", 32, "--out", out)
    assert "199 of 201 documents (99 %) repeat the text of an earlier one." in scanned.stderr
    folder = scanned.stdout.strip()
    done = attn("top", folder, "L0H0", "--one-per-document")
    assert len(done.stdout.splitlines()) == 3
    assert done.stdout.count("  (and 199 more of the same text)\n") == 1
    assert len(lines("top", folder, "L0H0", "--one-per-document", "--json")) == 2


def test_random_repeats_with_its_seed(index: Path) -> None:
    first, again = (lines("random", index, "L0H0", "--seed", 3, "--json") for _ in range(2))
    assert first == again
    assert first != lines("random", index, "L0H0", "--seed", 4, "--json")


def test_heads_are_ranked(index: Path) -> None:
    records = lines("heads", index, "--by", "entropy", "-n", 3, "--json")
    values = [record["entropy"] for record in records]
    assert len(values) == 3
    assert values == sorted(values, reverse=True)  # type: ignore[type-var]


def test_filters(index: Path) -> None:
    exact = lines("top", index, "L1H0", "--token", " the", "--json")
    assert {record["token"] for record in exact} == {" the"}
    found = lines("top", index, "L1H0", "--token", "^ t", "--regex", "-n", 50, "--json")
    assert {str(record["token"])[:2] for record in found} == {" t"}
    opened = Index.open(index)
    for record in lines("top", index, "L1H0", "--destination", " the", "--json"):
        texts = opened.window(int(str(record["document"]))).texts
        assert texts[int(str(record["dst"]))] == " the"
    for record in lines("random", index, "L1H0", "--distance", "2:3", "--json"):
        assert 2 <= int(str(record["dst"])) - int(str(record["src"])) <= 3
    done = attn("top", index, "L1H0", "--token", " the")
    matching = opened.top(HeadId(1, 0), token=" the").matching
    assert f"10 of {matching:,} that match, out of " in done.stdout
    done = attn("random", index, "L1H0", "--token", "no such token")
    assert done.returncode == 0, done.stderr
    assert "L1H0: 0 of " in done.stdout


def test_random_of_a_band(index: Path) -> None:
    for band, (low, high) in enumerate(BANDS):
        records = lines("random", index, "L0H1", "--band", band, "-n", 5, "--json")
        assert all(low <= float(str(r["attention"])) <= high for r in records)
    assert "among" not in attn("random", index, "L0H1", "--band", 1).stdout


def test_tokens(index: Path) -> None:
    opened = Index.open(index)
    sources = lines("tokens", index, "L0H2", "-n", 3, "--json")
    assert sources == [asdict(row) for row in opened.sources(HeadId(0, 2), 3)]
    destinations = lines("tokens", index, "L0H2", "-n", 3, "--destinations", "--json")
    assert destinations == [asdict(row) for row in opened.destinations(HeadId(0, 2), 3)]
    done = attn("tokens", index, "L0H2", "-n", 3)
    for line, row in zip(done.stdout.splitlines(), sources, strict=True):
        assert repr(row["token"]) in line
        assert f"{row['pairs']:,} pairs" in line


def test_summary(index: Path) -> None:
    done = attn("summary", index, "L0H2")
    opened, at = Index.open(index), HeadId(0, 2)
    lines = [summary(opened, at), told(roles(opened, at))]
    assert done.stdout == "".join(f"{line}\n" for line in lines if line)


def test_verify_names_a_damaged_or_foreign_file(index: Path, tmp_path: Path) -> None:
    done = attn("verify", index)
    assert (done.returncode, done.stdout) == (0, "Every file is as it was written.\n")
    copy = Path(shutil.copytree(index, tmp_path / index.name))
    (copy / "tokens" / "more.parquet").write_bytes(b"x")
    done = attn("verify", copy)
    assert done.returncode == 2
    assert "tokens/more.parquet" in done.stderr
    data = bytearray((copy / "tokens/L00.parquet").read_bytes())
    data[50] ^= 1
    (copy / "tokens/L00.parquet").write_bytes(data)
    done = attn("verify", copy)
    assert done.returncode == 2
    assert "tokens/L00.parquet" in done.stderr


def test_a_report_goes_where_it_is_told(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = attn("report", index, "L1H2", "-n", 2)
    assert done.stdout.strip() == f"{index.name}.L1H2.html"
    again = attn("report", index, "L1H2", "-n", 2, "-o", tmp_path / "a.html")
    first = (tmp_path / done.stdout.strip()).read_bytes()
    assert Path(again.stdout.strip()).read_bytes() == first
    assert report(Index.open(index), "L1H2", n=2).encode() == first


@pytest.fixture(scope="module")
def parts(
    tmp_path_factory: pytest.TempPathFactory, tiny_gpt2: Path, text_file: Path
) -> dict[str, Path]:
    """The whole and two parts, with every option of the scan that lists and windows have."""
    out = tmp_path_factory.mktemp("parts")
    found = {}
    cuts = {"whole": (), "first": ("--docs", 4), "rest": ("--skip", 4)}
    for name, cut in cuts.items():
        done = attn(
            "scan", "--model", tiny_gpt2, "--corpus", text_file, "--ctx", 24, "--min-row", 3,
            "--windows", "all", "--stride", 20, "--scores", "multiple,attention,write",
            "--band", 5, "--per-token", 2, "--top", 12, "--sample", 8, "--shard", 4, "--seed", 1,
            "--out", out / name, *cut,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found[name] = Path(done.stdout.strip())
    return found


def test_scan_does_what_its_options_say(parts: dict[str, Path]) -> None:
    told = Index.open(parts["whole"]).manifest
    assert (told.all_windows, told.stride, told.write, told.band) == (True, 20, True, 5)
    assert (told.per_token, told.top, told.sample, told.shard, told.seed) == (2, 12, 8, 4, 1)
    assert told.windows > told.documents
    rest = Index.open(parts["rest"]).manifest
    assert (rest.skip, rest.docs) == (4, None)
    first = Index.open(parts["first"]).manifest
    assert (first.skip, first.docs, first.end) == (0, 4, 4)


def test_by_write(parts: dict[str, Path]) -> None:
    records = lines("top", parts["whole"], "L1H3", "--by", "write", "-n", 6, "--json")
    writes = [float(str(record["write"])) for record in records]
    assert len(writes) == 6
    assert writes == sorted(writes, reverse=True)
    assert lines("heads", parts["whole"], "--by", "sink_write", "--json")


def test_merge_prints_the_folder_of_the_whole(parts: dict[str, Path], tmp_path: Path) -> None:
    done = attn("merge", parts["rest"], parts["first"], "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert folder.parent == tmp_path
    assert contents(folder) == contents(parts["whole"])


def test_merge_puts_the_index_where_the_others_are(parts: dict[str, Path], tmp_path: Path) -> None:
    done = attn("merge", parts["rest"], parts["first"], ATTN_INDEXES=str(tmp_path))
    assert Path(done.stdout.strip()).parent == tmp_path


def test_the_command_of_an_index_makes_it_again(parts: dict[str, Path], tmp_path: Path) -> None:
    told = Index.open(parts["rest"]).manifest.command
    python, dash, module, *words = shlex.split(told)
    assert (python, dash, module) == ("python", "-m", "attn")
    done = attn(*words, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert contents(Path(done.stdout.strip())) == contents(parts["rest"])


def test_a_table_says_out_of_how_many(index: Path) -> None:
    done = attn("top", index, "L0H0", "-n", 2)
    assert "L0H0: 2 of " in done.stdout
    assert "pairs above average" in done.stdout


SCAN = ("scan", "--model", "MODEL", "--corpus", "TEXT")
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
    "no such windows": ((*SCAN, "--windows", "some"), "'some'"),
    "stride alone": ((*SCAN, "--stride", "5"), "--windows all"),
    "stride too long": ((*SCAN, "--windows", "all", "--ctx", "32", "--stride", "33"), "1 to 32"),
    "no such scores": ((*SCAN, "--scores", "beauty"), "multiple,attention,write"),
    "no band": ((*SCAN, "--band", "0"), "--band"),
    "fewer than none": ((*SCAN, "--per-token", "-1"), "--per-token"),
    "no shard": ((*SCAN, "--shard", "0"), "--shard"),
    "skip within a shard": ((*SCAN, "--skip", "5"), "which is 64"),
    "skip everything": ((*SCAN, "--skip", "64"), "after the first 64."),
    "nowhere to write": ((*SCAN, "--out", "TEXT/below"), "cannot write"),
    "no write scores": (("top", "INDEX", "L0H0", "--by", "write"), "'write'"),
    "no such expression": (("top", "INDEX", "L0H0", "--token", "(", "--regex"), "regular"),
    "no such band": (("random", "INDEX", "L0H0", "--band", "5"), "0 to 4"),
    "no distance": (("top", "INDEX", "L0H0", "--distance", "5:1"), "LOW:HIGH"),
    "tokens of no head": (("tokens", "INDEX", "L0H4"), "L0H4"),
    "summary of no head": (("summary", "INDEX", "L2H0"), "L2H0"),
    "report of no head": (("report", "INDEX", "L2H0"), "L2H0"),
    "report nowhere": (("report", "INDEX", "L0H0", "-o", "TEXT/a.html"), "cannot be written"),
    "summary of no index": (("summary", "nowhere", "L0H0"), "nowhere"),
    "verify no index": (("verify", "nowhere"), "nowhere"),
    "merge nothing": (("merge",), "INDEX"),
    "merge no index": (("merge", "INDEX", "nowhere"), "nowhere"),
    "merge the same twice": (("merge", "INDEX", "INDEX"), "share documents"),
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
    check_one_sentence(done, expected)


@pytest.mark.parametrize("case", ["not fetched", "no such option", "no index"])
def test_bad_input_as_a_user_gives_it(
    case: str, index: Path, text_file: Path, tmp_path: Path
) -> None:
    words, expected = BAD[case]
    names = {"INDEX": str(index), "TEXT": str(text_file)}
    done = process(*(names.get(word, word) for word in words), ATTN_CACHE=str(tmp_path))
    check_one_sentence(Done(done.returncode, done.stdout, done.stderr), expected)


def check_one_sentence(done: Done, expected: str) -> None:
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    if not done.stderr.startswith("Usage"):
        sentence = done.stderr.strip().splitlines()[-1]
        assert sentence.startswith("Error: ")
        assert sentence.endswith(".")


def test_asking_an_index_imports_no_torch(index: Path) -> None:
    code = (
        "import sys; from attn.index.index import Index; from attn.heads import HeadId\n"
        f"i = Index.open({str(index)!r})\n"
        "i.top(HeadId(0, 0)); i.random(HeadId(0, 0)); i.window(0)\n"
        "assert 'torch' not in sys.modules and 'streamlit' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("coding", ["ascii", "latin-1"])
def test_a_terminal_that_cannot_show_a_character(coding: str, index: Path) -> None:
    """Replacement characters, not a traceback: in help, lists, rows and errors."""
    replaced = b""
    for words in (["--help"], ["tokens", index, "L0H0", "-n", "400"], ["summary", index, "L0H0"],
                  ["top", index, "L0H0", "-n", "100"], ["top", "日本語", "L0H0"]):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "attn", *map(str, words)],
            capture_output=True, env=os.environ | {"PYTHONIOENCODING": coding},
        )  # fmt: skip
        assert b"Traceback" not in done.stderr, words
        assert done.returncode == (2 if words[1:2] == ["日本語"] else 0), words
        said = done.stdout + done.stderr
        said.decode(coding)
        replaced += b"?" if b"?" in said else b""
    assert len(replaced) >= 3
