"""What an estimate says is what a scan then takes, as far as sizes go; a stopped scan goes on."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

import pytest

from attn.corpus.corpus import Corpus, load_corpus
from attn.errors import EmptyCorpus, ScanError, ScanStopped
from attn.formatting import data_size, duration
from attn.index.index import Index
from attn.scan.estimate import Estimate, _Words, estimate
from attn.scan.plan import Plan
from attn.scan.progress import Progress
from attn.scan.run import scan
from tests.conftest import Tiny, contents

PLAN = Plan(ctx=64, min_row=4)


def on_disk(folder: Path, pattern: str = "*") -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


def check(tiny: Tiny, corpus: Corpus, plan: Plan, out: Path) -> Estimate:
    """The estimate of a scan, compared with what it then leaves; times are only looked at."""
    found, shards = estimate(tiny.session, corpus, plan), 0

    def progress(report: Progress) -> None:
        nonlocal shards
        shards = max(shards, on_disk(out, "*.safetensors"))

    folder = scan(tiny.session, corpus, plan, out=out, progress=progress)
    manifest = Index.open(folder).manifest
    assert found.documents == manifest.documents + manifest.short
    assert found.tokens == pytest.approx(manifest.tokens, rel=0.02)
    assert 0.7 < found.size / on_disk(folder) < 1.4
    assert 0.7 < found.room / shards < 3
    assert not found.more
    assert found.measured > 0
    assert found.pace == pytest.approx(found.measured / found.took)
    assert found.tokens / found.pace <= found.seconds < 3600
    assert found.device == "cpu"
    return found


@pytest.mark.parametrize(
    ("name", "docs", "plan"),
    [
        ("sample", 72, PLAN),
        ("sample", 40, Plan(ctx=32, min_row=4, per_token=0, write=True, shard=8)),
        ("python-docs", 4, Plan(ctx=48, all_windows=True, shard=2)),
    ],
)
def test_sizes_are_what_the_scan_takes(
    llama: Tiny, name: str, docs: int, plan: Plan, tmp_path: Path
) -> None:
    check(llama, load_corpus(name, docs), plan, tmp_path)


def test_a_few_documents_are_enough(gpt2: Tiny, text_file: Path, tmp_path: Path) -> None:
    found = check(gpt2, load_corpus(str(text_file)), PLAN, tmp_path)
    assert 0 < found.measured < found.tokens


def test_a_part_of_the_windows_tells_of_all(
    llama: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("attn.scan.estimate._WINDOWS", 12)
    check(llama, load_corpus("sample", 72), PLAN, tmp_path)


def test_what_is_not_known_is_said(
    llama: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A corpus without an end and one with a limit, in a tenth of the time."""
    monkeypatch.setattr("attn.scan.estimate.SECONDS", 0.1)
    texts = [document.text for document in load_corpus("sample")]
    endless = Corpus("endless", lambda: ((f"text {i}", t) for i, t in enumerate(cycle(texts))))
    found = estimate(llama.session, endless, PLAN)
    assert found.more
    limited = Corpus("limited", endless._rows, docs=10**6)
    found = estimate(llama.session, limited, PLAN)
    assert (found.documents, found.more) == (10**6, False)
    assert found.tokens == pytest.approx(64 * 10**6, rel=0.1)
    assert found.seconds > 100
    long = Corpus("long", lambda: ((t, t) for t in islice(cycle(texts), 700)))
    assert estimate(llama.session, long, PLAN).documents == 700


def test_words_of_a_part_and_beyond() -> None:
    words = _Words.of([1.0] * 8 + [4.0, 8.0])
    assert words.different(20) == 10
    assert words.different(10) < 10 < words.different(40)
    assert words.listed(20, 1.0, 5) == 8 + 4 + 5
    assert words.listed(20, 100.0, 5) == 50
    assert words.listed(1, 100.0, 5) == pytest.approx(5, rel=0.2)


def test_errors_are_those_of_a_scan_and_it_can_be_ended(gpt2: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="takes 2 to"):
        estimate(gpt2.session, load_corpus("sample", 2), Plan(ctx=5000))
    with pytest.raises(ScanError, match="min-row"):
        estimate(gpt2.session, load_corpus("sample", 2), Plan(ctx=8, min_row=9))
    short = Corpus("short", lambda: iter([("x", "x")]))
    with pytest.raises(EmptyCorpus):
        estimate(gpt2.session, short, PLAN)

    def say(message: str) -> None:
        if "second" in message:
            raise ScanStopped("Stopped.")

    with pytest.raises(ScanStopped):
        estimate(gpt2.session, load_corpus("sample", 5), PLAN, say)


def test_a_stopped_scan_goes_on_and_ends_in_the_same_index(gpt2: Tiny, tmp_path: Path) -> None:
    corpus = load_corpus("sample", 20)
    plan = Plan(ctx=32, min_row=4, shard=4)

    def stop_at(stage: str, documents: int) -> None:
        def progress(report: Progress) -> None:
            reports.append(report)
            if report.stage == stage and report.documents >= documents:
                raise ScanStopped("Stopped.")

        with pytest.raises(ScanStopped):
            scan(gpt2.session, corpus, plan, out=tmp_path / "out", progress=progress)

    reports: list[Progress] = []
    for stage, documents in (("Reading", 3), ("Scanning", 9), ("Scanning", 16)):
        stop_at(stage, documents)
        assert not list((tmp_path / "out").glob("*/manifest.json"))
    assert reports[-1].found == 8
    assert reports[-1].tokens == 32 * (reports[-1].documents - 8)
    stop_at("Writing the index", 0)

    reports.clear()
    folder = scan(gpt2.session, corpus, plan, out=tmp_path / "out", progress=reports.append)
    done = [report for report in reports if report.stage == "Scanning"]
    assert {report.found for report in done} <= {0, 4, 8, 12, 16, 20}
    assert done[-1].tokens == 0
    assert contents(folder) == contents(scan(gpt2.session, corpus, plan, out=tmp_path / "whole"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [folder.name]


def test_time_left_is_of_what_this_scan_does() -> None:
    assert Progress("Scanning", 30, 50, 3000, 10.0, found=10).left == 10.0
    assert Progress("Scanning", 10, 50, 0, 10.0, found=10).left is None
    assert Progress("Reading", 10, None, 100, 1.0).left is None
    assert Progress("Measuring the weights", 0, 0, 0, 0.0).left is None
    said = Progress("Scanning", 64, 272, 3200, 10.0).detail
    assert said == "64/272 documents · 320 tokens/s · 32 s left"
    assert Progress("Scanning", 0, 272, 0, 0.0).detail == "0/272 documents"
    assert Progress("Scanning", 50, 50, 500, 10.0).detail == "50/50 documents · 50 tokens/s"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (99, "99 s"), (100, "2 min"), (5900, "98 min"), (7800, "2 h 10 min"),
     (360000, "100 h")],
)  # fmt: skip
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_data_sizes() -> None:
    sizes = [3, 640_000, 999_600, 12_000_000, 1_540_000_000]
    assert [data_size(size) for size in sizes] == ["1 kB", "640 kB", "1 MB", "12 MB", "1.5 GB"]
