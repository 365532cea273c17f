"""What a page shows while the built-in model or the index is missing: a sentence and a button."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import streamlit as st

from attn.config import settings
from attn.errors import AttnError, IndexDamaged, IndexMissing
from attn.ui.jobs import Report, Work
from attn.ui.library import default_model, entries, lacks_builtin, models
from attn.ui.notices import fail, plain
from attn.ui.scan import scan_jobs

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
        _start_or_watch(label, *_scan_sample())
        st.caption(
            f"{cost}; you may close this tab. The same from a terminal: `python -m attn fetch`, "
            "then `python -m attn scan`. For another model or texts of your own, open the page "
            "Scan."
        )


def fetch_model(model: str) -> None:
    """Say that the page needs a model that has not been fetched, and offer to fetch it."""
    st.info(
        f"This needs the model {plain(model)}, which is not fetched yet. "
        "Ranked examples and metrics work without it.",
        icon=":material/download:",
    )
    fetch = scan_jobs.fetch_work()
    _start_or_watch("Fetch the model (93 MB)", fetch, model, scans=False)


def scan_again(failure: AttnError, path: Path) -> None:
    """Say why an index cannot be read, and offer to scan again."""
    if isinstance(failure, IndexMissing):
        first_steps()
        return
    fail(str(failure))
    damaged = path if isinstance(failure, IndexDamaged) else None
    label = "Remove it and scan again" if damaged else "Scan again"
    _start_or_watch(f"{label} (the sample texts)", *_scan_sample(remove=damaged))
    if len(entries()) > 1:
        st.caption("Or choose another index in the sidebar.")


def _start_or_watch(label: str, work: Work, title: str, *, scans: bool = True) -> None:
    if scan_jobs.running():
        scan_jobs.watch()
        return
    if scans and not settings().scans:
        st.info(scan_jobs.SWITCHED_OFF, icon=":material/block:")
        return
    scan_jobs.show_how_it_ended()
    st.button(
        label,
        type="primary",
        icon=":material/play_arrow:",
        key=f"start {label}",
        on_click=scan_jobs.start_job,
        args=(work, title),
    )


def _scan_sample(remove: Path | None = None) -> tuple[Work, str]:
    """The job that scans the sample with the default model, and its title."""
    request = scan_jobs.Request(default_model(), CORPUS)
    scan = scan_jobs.scan_work(request, models())

    def work(report: Report) -> Any:
        if remove is not None and (remove / "manifest.json").is_file():
            shutil.rmtree(remove)
        return scan(report)

    return work, request.title
