"""The Scan page: say what to scan, see what it takes, start, stop, go on, open the index."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from attn.corpus.corpus import load_corpus
from attn.index.index import Index
from attn.scan.plan import Plan
from attn.scan.run import scan
from attn.ui.jobs import runner
from attn.ui.scan import form, scan_jobs
from tests.conftest import Tiny, contents
from tests.ui.conftest import APP, Start, said

HOSTILE = "![x](http://evil.example/a.png) <b>bold</b>"


@pytest.fixture
def page(
    start: Start,
    tiny_gpt2: Path,
    text_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Start:
    """The page with the tiny model and the shared texts chosen, on a server without an index."""
    monkeypatch.setenv("ATTN_CACHE", str(tmp_path / "cache"))

    def open_page(**query: object) -> AppTest:
        chosen = {
            "scan_from": "other", "scan_model": tiny_gpt2, "scan_texts": "other",
            "scan_corpus": text_file, "scan_ctx": 64, "scan_row": 4,
        }  # fmt: skip
        return start("scan", tmp_path / "new", **(chosen | query))

    return open_page


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Holds a scan back before its first batch until it is set."""
    module = importlib.import_module("attn.scan.shard_run")
    real, event = module.scan_batch, threading.Event()

    def held(*given: Any) -> None:
        event.wait(20)
        real(*given)

    monkeypatch.setattr(module, "scan_batch", held)
    yield event
    event.set()


def button(app: AppTest, label: str) -> Any:
    return next(one for one in app.main.button if one.label == label)


def labels(app: AppTest) -> set[str]:
    return {one.label for one in app.main.button}


def wait(app: AppTest, name: str = scan_jobs.JOB) -> None:
    """Wait for the end of a job whose name begins so, and show the page anew."""
    for _ in range(4000):
        jobs = [job for key, job in runner()._jobs.items() if key.startswith(name)]
        if jobs and all(job.finished for job in jobs):
            app.run()
            return
        time.sleep(0.05)
    pytest.fail(f"{name} does not end")


def ready(app: AppTest) -> str:
    """What the page says of the scan that has ended."""
    (notice,) = app.success
    return str(notice.value).replace("\\", "")


def estimated(app: AppTest) -> None:
    button(app, "Estimate time and disk").click().run()
    wait(app, "estimate")


def test_estimate_then_scan_then_open(
    page: Start, gpt2: Tiny, text_file: Path, tmp_path: Path
) -> None:
    app = page()
    assert not {"Start the scan", "Open the index"} & labels(app)
    estimated(app)
    shown = {one.label: one.value for one in app.metric}
    assert list(shown) == ["Documents", "Tokens", "Time", "Disk"]
    assert shown["Documents"] == "11"
    assert "tokens of this corpus in" in said(app)
    button(app, "Start the scan").click().run()
    wait(app)
    assert f"{gpt2.folder.name} over {text_file.name}** is ready" in ready(app)
    (folder,) = (path.parent for path in (tmp_path / "new").glob("*/manifest.json"))
    corpus = load_corpus(str(text_file))
    assert contents(folder) == contents(
        scan(gpt2.session, corpus, Plan(ctx=64, min_row=4), out=tmp_path / "same")
    )
    assert text_file.name in app.selectbox(key="_index").options[0]
    button(app, "Open the index").click().run()
    assert app.query_params["index"] == folder.name
    assert "All heads" in said(app) or app.metric


def test_a_running_scan_is_seen_stopped_and_gone_on_with_from_anywhere(
    page: Start, gate: threading.Event, tiny_indexes: Path, start: Start, tmp_path: Path
) -> None:
    one = page()
    estimated(one)
    button(one, "Start the scan").click().run()
    two = page(scan_ctx=32)
    assert "gpt2" in said(two)
    assert two.get("progress")
    assert "One scan runs at a time" in said(two)
    assert button(two, "Estimate time and disk").disabled
    elsewhere = start("examples", tiny_indexes)
    assert elsewhere.sidebar.get("progress")

    button(two, "Stop").click().run()
    assert button(two, "Stop").disabled
    gate.set()
    wait(two)
    wait(one)
    assert "What is done is kept" in said(two)
    assert not list((tmp_path / "new").glob("*/manifest.json"))
    button(page(), "Go on").click().run()
    wait(one)
    assert "is ready" in ready(one)


def test_a_second_scan_is_refused_in_a_sentence(page: Start, gate: threading.Event) -> None:
    """The page was drawn before another visitor's scan began."""
    app = page()
    estimated(app)
    runner().submit(scan_jobs.JOB, lambda report: gate.wait(20), "another over texts")
    button(app, "Start the scan").click().run()
    assert "Not started: one scan runs at a time, and another over texts is at work" in said(app)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"scan_model": "./nowhere"}, "There is no model './nowhere'"),
        ({"scan_model": HOSTILE}, "There is no model"),
        ({"scan_corpus": HOSTILE}, "There is no corpus or file"),
        ({"scan_ctx": 5000}, "--ctx 5000 does not fit"),
        ({"scan_row": 64}, "--min-row 64 leaves no row"),
    ],
)
def test_what_cannot_be_is_one_sentence(page: Start, query: Any, sentence: str) -> None:
    app = page(**query)
    estimated(app)
    (error,) = app.error
    assert sentence in error.value.replace("\\", "")
    assert "evil.example" not in error.value
    assert "http://" not in said(app)
    assert "Start the scan" not in labels(app)
    assert not button(app, "Estimate time and disk").disabled


def test_no_text_and_no_room(page: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    app = page(scan_corpus=tmp_path / "empty.txt")
    estimated(app)
    assert "holds no text" in said(app)
    monkeypatch.setattr(form, "free_space", lambda: 1000)
    app = page()
    estimated(app)
    assert "free some space" in said(app)


def test_an_upload_is_scanned_and_found_again(page: Start, tmp_path: Path) -> None:
    app = page(scan_texts="upload")
    assert button(app, "Estimate time and disk").disabled
    data = b'{"body": "one two three four five six one two three"}\n' * 3
    app.file_uploader[0].set_value([("<img src=x>.jsonl", data, "application/jsonl")]).run()
    app.text_input(key="_scan_column").set_value("body").run()
    estimated(app)
    button(app, "Start the scan").click().run()
    wait(app)
    assert "img-src-x-.jsonl" in ready(app)
    (folder,) = (path.parent for path in (tmp_path / "new").glob("*/manifest.json"))
    corpus = Index.open(folder).manifest.corpus
    assert corpus.endswith("img-src-x-.jsonl:body")
    assert next(iter(load_corpus(corpus))).text.startswith("one two")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "etc-passwd"),
        ("a/b\\c:d.csv", "a-b-c-d.csv"),
        ("日本語.txt", "日本語.txt"),
        ("...", "texts.txt"),
        ("x" * 300 + ".txt.gz", "x" * 53 + ".txt.gz"),
    ],
)
def test_names_of_uploads(
    name: str, kept: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ATTN_CACHE", str(tmp_path))
    one, again = (Path(form.keep_upload(name, b"text")) for _ in range(2))
    other = Path(form.keep_upload(name, b"other"))
    assert one == again != other
    assert (one.name, one.read_bytes(), other.read_bytes()) == (kept, b"text", b"other")
    assert one.parents[1] == tmp_path / "uploads"
    assert [path.name for path in one.parent.iterdir()] == [kept]


def test_an_upload_that_cannot_be_kept(
    page: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    app = page(scan_texts="upload")
    monkeypatch.setenv("ATTN_CACHE", str(tmp_path / "file"))
    app.file_uploader[0].set_value([("a.txt", b"text", "text/plain")]).run()
    assert "The file cannot be kept" in said(app)


def test_switched_off(page: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTN_SCANS", "0")
    app = page()
    assert "switched off" in said(app)
    assert not app.main.button
    form._scan(scan_jobs.Request("x", "sample"))  # a page drawn before
    assert runner().get(scan_jobs.JOB) is None


def test_every_control_is_in_the_link_and_has_help(page: Start) -> None:
    app = page(
        scan_docs=7, scan_per_token=3, scan_write=1, scan_all=1, scan_dtype="bfloat16", scan_row=4
    )
    asked = app.main.number_input.values + app.main.selectbox.values
    assert asked == [7, 64, 4, 3, "bfloat16"]
    assert app.query_params["scan_docs"] == "7"
    for kind in ("radio", "text_input", "number_input", "selectbox", "toggle"):
        for control in app.main.get(kind):
            assert control.help, control.label
    (command,) = [one.value for one in app.code]
    for option in ("--docs 7", "--ctx 64", "--scores", "--windows all", "--dtype bfloat16"):
        assert option in command
    app = page(scan_docs="many", scan_texts="sample")
    assert app.query_params["scan_docs"] == ""
    assert "which is not a number from 1" in said(app)


def test_the_page_needs_no_torch(tiny_indexes: Path) -> None:
    code = (
        "import sys\nfrom streamlit.testing.v1 import AppTest\n"
        f"app = AppTest.from_file({str(APP)!r}, default_timeout=60).run()\n"
        "app.switch_page('pages/scan.py').run()\n"
        "assert not app.exception and app.radio\n"
        "heavy = {'torch', 'transformers', 'transformer_lens', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = {**os.environ, "ATTN_INDEXES": str(tiny_indexes)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr[-2000:]
