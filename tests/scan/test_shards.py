"""However a scan runs, is stopped, raced or damaged: one shard plan, one index, byte for byte."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attn.corpus.corpus import load_corpus
from attn.errors import IndexDamaged, ScanError
from attn.heads import HeadId
from attn.index.index import Index, find_indexes
from attn.index.manifest import verify
from attn.models.interface import Reading
from attn.scan import run, shard_run
from attn.scan.plan import Plan
from attn.scan.progress import Progress
from attn.scan.run import scan
from tests.conftest import DOCUMENTS, Tiny, contents
from tests.forks import PLAN
from tests.scanned import HEADS

ROOT = Path(__file__).parents[2]
COUNTING = next(text for text in DOCUMENTS if text.startswith("one two three"))


@pytest.fixture(scope="module")
def clean(gpt2: Tiny, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index that every way must end in."""
    return scan(
        gpt2.session, load_corpus(str(text_file)), PLAN, out=tmp_path_factory.mktemp("clean")
    )


def forked(tiny: Tiny, lines: Path, out: Path, *words: object) -> tuple[dict[str, Any], list[str]]:
    """What tests/forks.py tells, and the sentences before it. Its processes use one thread."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.forks", *map(str, [tiny.folder, lines, out]),
         *map(str, words)],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *said, told = [json.loads(line) for line in done.stdout.splitlines()]
    return told, said


def only_hidden(out: Path) -> bool:
    """Whether nothing in a folder could be taken for an index."""
    return find_indexes(out) == [] and all(path.name[0] == "." for path in out.iterdir())


class TestKilled:
    def test_at_certain_moments(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path, clean: Path
    ) -> None:
        out = tmp_path / "out"
        told, _ = forked(gpt2, text_file, out, "points")
        assert told["codes"] == [-9] * 7
        assert only_hidden(out)
        for path in out.iterdir():
            with pytest.raises(ValueError, match="index"):
                Index.open(path)
        folder = scan(gpt2.session, load_corpus(str(text_file)), PLAN, out=out)
        verify(folder)
        assert contents(folder) == contents(clean)
        assert list(out.glob(".scan-*")) == []

    def test_fifty_times_at_random(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path, clean: Path
    ) -> None:
        out = tmp_path / "out"
        told, _ = forked(gpt2, text_file, out, "kill", 7, 50)
        assert told["killed"] == 50
        assert told["torn"] == 0
        (folder,) = find_indexes(out)
        verify(folder)
        assert contents(folder) == contents(clean)
        assert {path.name[:6] for path in out.iterdir() if path != folder} <= {".read-"}

    def test_what_is_left_of_reading_goes_after_a_day(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path
    ) -> None:
        old, young = tmp_path / ".read-old" / "scan", tmp_path / ".read-young" / "scan"
        for folder in (old, young):
            folder.mkdir(parents=True)
            (folder / "documents.parquet").write_bytes(b"x")
        for path in (old / "documents.parquet", old, old.parent):
            os.utime(path, (1_000_000, 1_000_000))
        scan(gpt2.session, load_corpus(str(text_file)), PLAN, out=tmp_path)
        assert not old.exists()
        assert young.exists()

    def test_what_is_left_of_tidying_up_goes(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path
    ) -> None:
        """Killed once the index was there: the next scan, with nothing to do, removes the rest."""
        corpus = load_corpus(str(text_file))
        folder = scan(gpt2.session, corpus, PLAN, out=tmp_path)
        identity = Index.open(folder).manifest.identity
        left = tmp_path / f".scan-{identity[:16]}" / "shards"
        left.mkdir(parents=True)
        (left / "00000.safetensors").write_bytes(b"x")
        assert scan(gpt2.session, corpus, PLAN, out=tmp_path) == folder
        assert list(tmp_path.iterdir()) == [folder]


class TestRaced:
    def test_two_scans_at_once_end_well(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path, clean: Path
    ) -> None:
        out = tmp_path / "out"
        told, said = forked(gpt2, text_file, out, "race", 3, 6)
        assert (told["codes"], said) == ([0] * 12, [])
        assert told["digests"] == 1
        assert told["left"] == []
        (folder,) = find_indexes(out)
        assert contents(folder) == contents(clean)

    def test_a_shard_is_opened_once(
        self,
        gpt2: Tiny,
        text_file: Path,
        tmp_path: Path,
        clean: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Opened for torch it is opened twice: another scan may tidy up in between."""

        def gone(*_: object, **__: object) -> None:
            raise RuntimeError("unable to open file in read-only mode: No such file or directory")

        monkeypatch.setattr(torch.UntypedStorage, "from_file", gone)
        folder = scan(gpt2.session, load_corpus(str(text_file)), PLAN, out=tmp_path)
        assert contents(folder) == contents(clean)

    def test_an_index_that_appears_meanwhile_is_taken(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path, clean: Path
    ) -> None:
        """Another scan of the same finishes, and tidies up, while this one is at its second."""
        corpus, out = load_corpus(str(text_file)), tmp_path / "out"
        done: list[Path] = []

        def other(progress: Progress) -> None:
            if progress.stage == "Scanning" and not done:
                done.append(out)
                done.append(scan(gpt2.session, corpus, PLAN, out=out))

        folder = scan(gpt2.session, corpus, PLAN, out=out, progress=other)
        assert done == [out, folder]
        assert [path.name for path in out.iterdir()] == [folder.name]
        assert contents(folder) == contents(clean)


class TestOrder:
    @pytest.mark.parametrize("seed", range(3))
    def test_shards_in_any_order(
        self,
        gpt2: Tiny,
        text_file: Path,
        tmp_path: Path,
        clean: Path,
        seed: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        inner = shard_run.windows_by_shard

        def shuffled(work: Path, size: int) -> Iterator[Any]:
            shards = list(inner(work, size))
            random.Random(seed + len(shards)).shuffle(shards)
            return iter(shards)

        for module in (run, shard_run):  # the shards are scanned and merged in other orders
            monkeypatch.setattr(module, "windows_by_shard", shuffled)
        folder = scan(gpt2.session, load_corpus(str(text_file)), PLAN, out=tmp_path)
        assert contents(folder) == contents(clean)

    def test_lists_hold_what_they_can_whatever_came_before(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Shards leave out different pairs with small lists; merged, the same are kept."""
        plan = Plan(ctx=64, top=2, sample=3, band=1, per_token=1, shard=1, write=True)
        corpus, inner = load_corpus(str(text_file)), shard_run.windows_by_shard
        one = scan(gpt2.session, corpus, plan, out=tmp_path / "forth")
        for module in (run, shard_run):
            monkeypatch.setattr(
                module, "windows_by_shard", lambda work, size: iter(list(inner(work, size))[::-1])
            )
        two = scan(gpt2.session, corpus, plan, out=tmp_path / "back")
        assert contents(one) == contents(two)


class Stopped(Exception):
    """A scan that someone interrupts."""


def stop_after(documents: int) -> Callable[[Progress], None]:
    """Progress that breaks a scan off once so many documents are scanned."""

    def progress(p: Progress) -> None:
        if p.stage == "Scanning" and p.documents >= documents:
            raise Stopped

    return progress


class TestResumed:
    @pytest.fixture
    def half(self, gpt2: Tiny, text_file: Path, tmp_path: Path) -> Path:
        """The work of a scan that was stopped after three shards."""
        with pytest.raises(Stopped):
            scan(
                gpt2.session, load_corpus(str(text_file)), PLAN, out=tmp_path,
                progress=stop_after(6),
            )  # fmt: skip
        (work,) = tmp_path.iterdir()
        assert work.name.startswith(".scan-")
        return work

    def resume(
        self, gpt2: Tiny, text_file: Path, work: Path, monkeypatch: pytest.MonkeyPatch
    ) -> tuple[Path, int]:
        """The index, and how many windows were run for it."""
        windows, observe = 0, gpt2.session.observe

        def counted(ids: torch.Tensor, *args: Any, **more: Any) -> None:
            nonlocal windows
            windows += len(ids)
            observe(ids, *args, **more)

        monkeypatch.setattr(gpt2.session, "observe", counted)
        folder = scan(gpt2.session, load_corpus(str(text_file)), PLAN, out=work.parent)
        return folder, windows - 8  # eight random sequences

    def test_only_what_is_missing_is_run(
        self,
        gpt2: Tiny,
        text_file: Path,
        half: Path,
        clean: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        done = len(list((half / "shards").glob("*.json")))
        folder, windows = self.resume(gpt2, text_file, half, monkeypatch)
        assert contents(folder) == contents(clean)
        assert 1 <= done <= 3
        assert windows <= Index.open(clean).manifest.windows - 2 * done + 1  # one is too short
        assert list(half.parent.iterdir()) == [folder]

    @pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone", "no record", "bad record"])
    def test_a_committed_shard_that_is_damaged_is_scanned_again(
        self,
        gpt2: Tiny,
        text_file: Path,
        half: Path,
        clean: Path,
        damage: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        file = half / "shards" / "00000.safetensors"
        record, data = file.with_suffix(".json"), bytearray(file.read_bytes())
        if damage == "flip":
            data[len(data) // 2] ^= 4
            file.write_bytes(data)
        elif damage in ("cut", "empty"):
            file.write_bytes(data[: len(data) // 3 if damage == "cut" else 0])
        elif damage == "gone":
            file.unlink()
        elif damage == "no record":
            record.unlink()
        else:
            record.write_text("{")
        folder, _ = self.resume(gpt2, text_file, half, monkeypatch)
        assert contents(folder) == contents(clean)

    @pytest.mark.parametrize("name", ["documents.parquet", "vocabulary.parquet"])
    def test_damage_to_what_there_is_to_scan(
        self, gpt2: Tiny, text_file: Path, half: Path, clean: Path, name: str
    ) -> None:
        (half / name).write_bytes(b"PAR1 no more")
        folder = scan(gpt2.session, load_corpus(str(text_file)), PLAN, out=half.parent)
        assert contents(folder) == contents(clean)


class TestDamagedIndex:
    """Its sentences say: scan again. That must help."""

    @pytest.mark.parametrize("name", ["pairs/L01.parquet", "manifest.json", "heads.parquet"])
    @pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
    def test_it_is_made_anew(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path, clean: Path, name: str, damage: str
    ) -> None:
        corpus = load_corpus(str(text_file))
        folder = scan(gpt2.session, corpus, PLAN, out=tmp_path)
        path = folder / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data if damage == "flip" else data[:100])
        if damage == "gone":
            path.unlink()
        with pytest.raises(ValueError, match="scan"):
            verify(folder)
        assert scan(gpt2.session, corpus, PLAN, out=tmp_path) == folder
        verify(folder)
        assert contents(folder) == contents(clean)
        assert list(tmp_path.iterdir()) == [folder]

    def test_a_good_one_is_left_alone(self, gpt2: Tiny, text_file: Path, tmp_path: Path) -> None:
        corpus = load_corpus(str(text_file))
        folder = scan(gpt2.session, corpus, PLAN, out=tmp_path)
        (folder / "notes.txt").write_text("mine")
        stamp = (folder / "heads.parquet").stat().st_mtime_ns
        assert scan(gpt2.session, corpus, PLAN, out=tmp_path) == folder
        assert (folder / "heads.parquet").stat().st_mtime_ns == stamp
        assert (folder / "notes.txt").read_text() == "mine"
        with pytest.raises(IndexDamaged, match=r"notes\.txt"):
            verify(folder)


class TestFullDisk:
    def test_the_old_index_stays_and_the_scan_goes_on_later(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path, clean: Path
    ) -> None:
        """A limit that stops the documents, a shard, or a file of the index."""
        out, corpus = tmp_path / "out", load_corpus(str(text_file))
        old = scan(gpt2.session, load_corpus(str(text_file), docs=3), PLAN, out=out)
        before = contents(old)
        sizes = [max(len(data) for data in contents(clean).values()) - 1, 20000, 3000, 200]
        told, said = forked(gpt2, text_file, out, "full", *sizes)
        assert told["codes"] == [2] * len(sizes)
        for sentence in said:
            assert "too large" in sentence
            assert "\n" not in sentence
            assert sentence.endswith("what is done is kept.")
        assert find_indexes(out) == [old]
        verify(old)
        assert contents(old) == before
        assert Index.open(old).top(HEADS[0]).examples
        folder = scan(gpt2.session, corpus, PLAN, out=out)
        assert contents(folder) == contents(clean)

    def test_a_folder_that_cannot_be_made(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(ScanError, match="--out") as caught:
            scan(gpt2.session, load_corpus(str(text_file)), PLAN, out=tmp_path / "file" / "below")
        assert "\n" not in str(caught.value)


class TestOutOfMemory:
    def limit(self, gpt2: Tiny, cells: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Let the model run out of memory over so many cells; takes down what was tried."""
        tried, observe = [], gpt2.session.observe

        def small(ids: torch.Tensor, observer: Any, *args: Any, **more: Any) -> None:
            ids = torch.as_tensor(ids)
            tried.append(ids.numel())

            def last(reading: Reading) -> None:
                observer(reading)
                if reading.layer == 0 and ids.numel() > cells:
                    raise torch.OutOfMemoryError("no memory")  # with a layer tallied already

            observe(ids, last, *args, **more)

        monkeypatch.setattr(gpt2.session, "observe", small)
        return tried

    def test_the_batch_is_halved_and_the_scan_goes_on(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        corpus, plan = load_corpus(str(text_file)), replace(PLAN, shard=6, top=4, per_token=2)
        monkeypatch.setattr(run, "measure_random", lambda session, seed: {})
        monkeypatch.setattr(shard_run, "BATCH_TOKENS", 128)
        wanted = scan(gpt2.session, corpus, plan, out=tmp_path / "small")
        monkeypatch.setattr(shard_run, "BATCH_TOKENS", 1024)
        tried = self.limit(gpt2, 128, monkeypatch)
        folder = scan(gpt2.session, corpus, plan, out=tmp_path / "large")
        assert contents(folder) == contents(wanted)
        assert max(tried[tried.index(min(tried)) :]) <= 128 < max(tried)

    def test_a_window_that_does_not_fit_is_one_sentence(
        self, gpt2: Tiny, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            self.limit(gpt2, 20, patch)
            with pytest.raises(ScanError, match="lower --ctx") as caught:
                scan(gpt2.session, load_corpus(str(text_file)), PLAN, out=tmp_path)
        assert "\n" not in str(caught.value)
        assert only_hidden(tmp_path)
        gpt2.session.pattern([1, 2, 3], HeadId(0, 0))  # the session is free again


class TestNotFinite:
    @pytest.fixture(params=["float32", "bfloat16", "float16"])
    def index(
        self,
        gpt2: Tiny,
        text_file: Path,
        tmp_path: Path,
        request: pytest.FixtureRequest,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Index:
        """One row of L1H2 and two of L0H3 are broken, in the window of one document."""
        observe = gpt2.session.observe
        target = gpt2.ids(COUNTING, ctx=PLAN.ctx)

        def broken(ids: torch.Tensor, observer: Any, *args: Any, **more: Any) -> None:
            ids = torch.as_tensor(ids)

            def spoil(reading: Reading) -> None:
                if ids.tolist() == [target]:
                    reading.pattern[0, 2, 20, 3] = torch.nan if reading.layer else 0.0
                    if reading.layer == 0:
                        reading.pattern[0, 3, 30:32] = torch.inf
                observer(reading)

            observe(ids, spoil, *args, **more)

        monkeypatch.setattr(gpt2.session, "observe", broken)
        monkeypatch.setattr(gpt2.session, "dtype", request.param)
        monkeypatch.setattr(shard_run, "BATCH_TOKENS", 64)
        return Index.open(scan(gpt2.session, load_corpus(str(text_file)), PLAN, out=tmp_path))

    def test_it_is_counted_left_out_and_said(self, index: Index, clean: Path) -> None:
        whole = Index.open(clean)
        bad = {HeadId(1, 2): 1, HeadId(0, 3): 2}
        for head in index.heads():
            assert index.nonfinite(head) == bad.get(head, 0)
            assert index.rows(head) == whole.rows(head) - bad.get(head, 0)
            assert sum(index.budget(head).values()) == pytest.approx(1)
            none = {"q_composition", "k_composition", "v_composition"} if head.layer == 0 else set()
            numbers = index.numbers(head)  # no head comes before those of layer 0
            assert {name for name, value in numbers.items() if not np.isfinite(value)} == none
            for example in index.top(head, 10**6).examples:
                assert np.isfinite(example.multiple)
                assert example.row is not None
                assert np.isfinite(example.row).all()
        place = DOCUMENTS.index(COUNTING)
        rows = {(e.document, e.dst) for e in index.sampled_rows(HeadId(0, 3), 10**6).examples}
        assert not rows & {(place, 30), (place, 31)}

        (said,) = (text for text in index.warnings() if "finite" in text)
        remedy = {
            "float32": "no dtype is wider, so check the model's weights",
            "bfloat16": "scan with --dtype float32",
            "float16": "scan with --dtype bfloat16 or float32",
        }[index.manifest.dtype]
        assert said == (
            f"Left out 3 rows of L0H3, L1H2 whose attention is not finite "
            f"in {index.manifest.dtype}: {remedy}."
        )


@pytest.mark.parametrize("stage", ["Reading", "Scanning"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_scans_that_end_in_an_exception_leave_no_index(
    gpt2: Tiny, text_file: Path, tmp_path: Path, stage: str, kind: type[BaseException]
) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == stage:
            raise kind

    with pytest.raises(kind):
        scan(gpt2.session, load_corpus(str(text_file)), PLAN, out=tmp_path, progress=stop)
    left = [path.name[:6] for path in tmp_path.iterdir()]
    assert left == ([] if stage == "Reading" else [".scan-"])
    gpt2.session.pattern([1, 2, 3], HeadId(0, 0))  # the session is free again
