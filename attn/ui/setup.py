"""What a page shows while the built-in model or the index is missing: a sentence and a button."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import streamlit as st

from attn.errors import AttnError, IndexDamaged, IndexMissing
from attn.ui.jobs import Report, Work, runner
from attn.ui.library import Models, default_model, entries, lacks_builtin, models
from attn.ui.notices import fail, plain, sentence

JOB = "prepare"
CORPUS = "sample"


def first_steps() -> None:
    """The screen of a server without an index: say what is missing and offer to make it."""
    model = default_model()
    missing = "The built-in model and the index are" if lacks_builtin(model) else "The index is"
    with st.container(border=True):
        st.subheader(f"{missing} not there yet", anchor=False)
        st.markdown(
            "This app shows what every attention head of a language model looks for. It reads an "
            f"*index*, made once by running the model ({plain(model)}) over a corpus of texts."
        )
        if lacks_builtin(model):
            label = "Fetch the model and scan the sample texts"
            cost = "Takes about three minutes and a download of 93 MB. It goes on in the background"
        else:
            label, cost = "Scan the sample texts", "Takes a minute or two, in the background"
        _start_or_watch(label, _prepare(model, models(), scan=True))
        st.caption(
            f"{cost}; you may close this tab. The same from a terminal: `python -m attn fetch`, "
            "then `python -m attn scan`."
        )


def fetch_model(model: str) -> None:
    """Where a page needs the model and it is not there: say so and offer to fetch it."""
    st.info(
        f"This needs the model {plain(model)}, which is not fetched yet. "
        "Ranked examples and metrics work without it.",
        icon=":material/download:",
    )
    _start_or_watch("Fetch the model (93 MB)", _prepare(model, models(), scan=False))


def scan_again(failure: AttnError, path: Path) -> None:
    """An index that cannot be read: say why and offer to make it anew."""
    if isinstance(failure, IndexMissing):
        first_steps()
        return
    fail(str(failure))
    damaged = path if isinstance(failure, IndexDamaged) else None
    label = "Remove it and scan again" if damaged else "Scan again"
    work = _prepare(default_model(), models(), scan=True, remove=damaged)
    _start_or_watch(f"{label} (the sample texts)", work)
    if len(entries()) > 1:
        st.caption("Or choose another index in the sidebar.")


def busy() -> None:
    """Show a job that runs in the background, if one does."""
    job = runner().get(JOB)
    if job is not None and not job.finished:
        _watch()


def _start_or_watch(label: str, work: Work) -> None:
    job = runner().get(JOB)
    if job is not None and not job.finished:
        _watch()
        return
    if job is not None and job.error:
        st.error(sentence(job.error), icon=":material/error:")
    st.button(
        label,
        type="primary",
        icon=":material/play_arrow:",
        key=f"start {label}",
        on_click=_submit,
        args=(work,),
    )


def _submit(work: Work) -> None:
    runner().submit(JOB, work)


@st.fragment(run_every=0.5)
def _watch() -> None:
    job = runner().get(JOB)
    if job is None or job.finished:
        st.rerun()
    else:
        st.progress(job.fraction, text=plain(job.message))


def _prepare(model: str, shelf: Models, *, scan: bool, remove: Path | None = None) -> Work:
    """The job: fetch the model if it is the built-in one, then scan the sample."""

    def work(report: Report) -> Any:
        from attn import builtin

        share = 0.4 if scan else 1.0
        if lacks_builtin(model):
            builtin.fetch(lambda message, fraction: report(message, fraction * share))
        if not scan:
            return None
        if remove is not None and (remove / "manifest.json").is_file():
            shutil.rmtree(remove)
        return _scan(model, shelf, report)

    return work


def _scan(model: str, shelf: Models, report: Report) -> Path:
    report("Loading the model (about ten seconds).", 0.4)
    from attn.corpus import load_corpus
    from attn.scan import Progress, scan

    corpus = load_corpus(CORPUS)
    session = shelf.get(model)

    def tell(progress: Progress) -> None:
        start, share = {"Reading": (0.45, 0.05), "Scanning": (0.5, 0.45)}.get(
            progress.stage, (0.95, 0.0)
        )
        report(f"{progress.stage}: {progress.detail}", start + share * progress.share)

    return scan(session, corpus, progress=tell)
