"""Long work in background threads, a few pieces at a time, shared by all sessions of the server.

A job outlives the page that started it: a refresh, or another tab, finds it still running.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from attn.errors import AttnError

_LOG = logging.getLogger(__name__)


Work = Callable[["Report"], Any]


@dataclass
class Job:
    """A piece of work: ``message`` and ``fraction`` (0..1) while it runs, then ``error`` or not.

    ``title`` what it is about; ``work`` what it does; ``text`` what it has written so far; ``stop``
    set to ask it to end early.
    """

    name: str
    work: Work
    title: str = ""
    message: str = "Waiting for its turn."
    fraction: float = 0.0
    finished: bool = False
    error: str | None = None
    result: Any = None
    text: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def stopped(self) -> bool:
        """Whether the job ended because someone stopped it."""
        return self.finished and self.error is not None and self.stop.is_set()


class Report:
    """How a job reports its progress: call it with a message and a fraction, 0..1."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __call__(self, message: str, fraction: float) -> None:
        """Report what is being done and which fraction of it is done."""
        self._job.message, self._job.fraction = message, min(max(fraction, 0.0), 1.0)

    def say(self, text: str) -> None:
        """Add to the text that the work writes."""
        self._job.text += text

    @property
    def stop(self) -> threading.Event:
        """Set when the work should end early."""
        return self._job.stop


class Runner:
    """Runs a few jobs at a time. Work never calls Streamlit; it reports through its argument."""

    def __init__(self, workers: int = 1) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="attn-job")
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def submit(self, name: str, work: Work, title: str = "") -> Job:
        """Start a job and return it. If a job of that name still runs, return that one instead."""
        with self._lock:
            job = self._jobs.get(name)
            if job is None or job.finished:
                job = self._jobs[name] = Job(name, work, title)
                self._pool.submit(_run, job)
            return job

    def get(self, name: str) -> Job | None:
        """The newest job with this name, if there is one."""
        return self._jobs.get(name)


def _run(job: Job) -> None:
    try:
        job.result = job.work(Report(job))
    except AttnError as error:
        job.error = str(error)
    except Exception:
        _LOG.exception("Job %s failed", job.name)
        job.error = "Something unforeseen went wrong; the terminal has the details. Try again."
    finally:
        job.finished = True


@st.cache_resource(show_spinner=False)
def runner() -> Runner:
    """This server's runner for heavy work, such as scans and downloads."""
    return Runner()


@st.cache_resource(show_spinner=False)
def language_model_runner() -> Runner:
    """This server's runner for jobs that mostly wait for a language model's answers."""
    return Runner(workers=4)
