"""Scans that pages start: the request, the estimate, the job and its progress.

A scan is independent of the session that started it, and one runs at a time on this server. If it
is stopped, or the server ends, the same scan resumes from its last whole shard.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from attn.errors import ScanStopped
from attn.models import builtin
from attn.ui.jobs import Job, Report, Work, runner
from attn.ui.library import Models, lacks_builtin
from attn.ui.notices import fail, plain, warn

if TYPE_CHECKING:
    from attn.scan.progress import Progress

JOB = "prepare"
SWITCHED_OFF = (
    "Scans are switched off on this server (`ATTN_SCANS=0`): make an index on a machine of your "
    "own, with `python -m attn scan`."
)
STOPPED = "Stopped. What is done is kept, and the same scan goes on from there."
_REFUSED = "_scan_refused"

Say = Callable[[str, float], None]


@dataclass(frozen=True)
class Request:
    """A scan to make, as the command line names it; its defaults are the command line's."""

    model: str
    corpus: str
    docs: int | None = None
    ctx: int = 128
    min_row: int = 10
    per_token: int = 10
    write: bool = False
    all_windows: bool = False
    dtype: str = "float32"

    @property
    def title(self) -> str:
        """A short title: the model and the corpus."""
        return f"{last_part(self.model)} over {last_part(self.corpus)}"

    @property
    def command(self) -> str:
        """The command that makes the same index."""
        parts = [f"--model {shlex.quote(self.model)}", f"--corpus {shlex.quote(self.corpus)}"]
        parts += [f"--docs {self.docs}"] if self.docs is not None else []
        for name in ("ctx", "min_row", "per_token", "dtype"):
            value = getattr(self, name)
            if value != getattr(Request, name):
                parts.append(f"--{name.replace('_', '-')} {value}")
        parts += ["--scores multiple,attention,write"] if self.write else []
        parts += ["--windows all"] if self.all_windows else []
        return " ".join(["python -m attn scan", *parts])

    @property
    def job(self) -> str:
        """The name of the job that estimates it."""
        return f"estimate {self}"


def last_part(name: str) -> str:
    """The last part of a model's or corpus's name, without its folders."""
    return Path(name).name if os.path.isabs(os.path.expanduser(name)) else name


def scan_work(request: Request, shelf: Models) -> Work:
    """The job that fetches the built-in model where it is missing, and scans. Gives the folder."""

    def work(report: Report) -> Path:
        from attn.scan.run import scan

        say = _stoppable(report)
        start, given = _prepare(request, shelf, say)

        def tell(progress: Progress) -> None:
            begin, share = {"Reading": (0.02, 0.03), "Scanning": (0.05, 0.9)}.get(
                progress.stage, (0.95, 0.0)
            )
            detail = f": {progress.detail}" if progress.detail else ""
            done = begin + share * progress.share
            say(f"{progress.stage}{detail}", start + (1 - start) * done)

        return scan(*given, progress=tell)

    return work


def fetch_work() -> Work:
    """The job that fetches the built-in model."""
    return lambda report: builtin.fetch(_stoppable(report))


def estimate_work(request: Request, shelf: Models) -> Work:
    """The job that fetches the built-in model where it is missing, and gives an Estimate."""

    def work(report: Report) -> Any:
        from attn.scan.estimate import estimate

        say = _stoppable(report)
        start, given = _prepare(request, shelf, say)
        return estimate(*given, say=lambda message: say(message, start + (1 - start) * 0.6))

    return work


def _prepare(request: Request, shelf: Models, say: Say) -> tuple[float, tuple[Any, Any, Any]]:
    """The session, corpus and plan of a scan, and which share of the job is done by then."""
    start = 0.0
    if lacks_builtin(request.model):
        start = 0.4
        builtin.fetch(lambda message, fraction: say(message, fraction * start))
    say("Loading the model (about ten seconds)", start)
    from attn.corpus.corpus import load_corpus
    from attn.scan.plan import Plan

    plan = Plan(
        ctx=request.ctx,
        min_row=request.min_row,
        per_token=request.per_token,
        write=request.write,
        all_windows=request.all_windows,
    )
    plan.check_numbers()
    corpus = load_corpus(request.corpus, request.docs)
    session = shelf.get(request.model, dtype=request.dtype)
    plan.check(session)
    return start, (session, corpus, plan)


def _stoppable(report: Report) -> Say:
    """A report function that also ends the work if it was asked to stop."""

    def say(message: str, fraction: float) -> None:
        if report.stop.is_set():
            raise ScanStopped(STOPPED)
        report(message, fraction)

    return say


def running(name: str = JOB) -> Job | None:
    """The job with this name while it runs or waits for its turn, else None."""
    job = runner().get(name)
    return None if job is None or job.finished else job


def start_job(work: Work, title: str) -> None:
    """Start a job of which only one runs at a time; :func:`show_refusal` says why it did not."""
    job = runner().submit(JOB, work, title)
    if job.work is not work:
        st.session_state[_REFUSED] = job.title


def show_refusal() -> None:
    """Show that a scan was not started because another one was running."""
    title = st.session_state.pop(_REFUSED, None)
    if title is not None:
        warn(f"Not started: one scan runs at a time, and {title} is at work. Wait, or stop it.")


def show_running() -> None:
    """Show the running job in the sidebar, if there is one."""
    if running():
        with st.container(border=True, gap="xsmall"):
            watch(stop=False)


@st.fragment(run_every=1.0)
def watch(name: str = JOB, *, stop: bool = True) -> None:
    """Show a job's progress and a stop button. When it ends, the whole page is drawn again."""
    job = runner().get(name)
    if job is None or job.finished:
        st.rerun()
    stopping = job.stop.is_set()
    if job.title:
        st.markdown(f"**{plain(job.title)}**")
    st.progress(job.fraction, text="Stopping" if stopping else plain(job.message))
    if stop:
        st.button(
            "Stop",
            key=f"stop {name}",
            icon=":material/stop:",
            disabled=stopping,
            on_click=job.stop.set,
            help="It ends after the batch at hand; what is done is kept.",
        )


def show_how_it_ended(name: str = JOB) -> None:
    """Show why the last job with this name stopped early, and a button that resumes it."""
    job = runner().get(name)
    if job is None or not job.error:
        return
    (warn if job.stopped else fail)(f"{job.title}: {job.error}" if job.title else job.error)
