"""Long work in a background thread, one piece at a time, shared by all sessions of the server.

A job outlives the page that started it: a refresh, or another tab, finds it still running.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import streamlit as st

from attn.errors import AttnError

Report = Callable[[str, float], None]
Work = Callable[[Report], Any]

_LOG = logging.getLogger(__name__)


@dataclass
class Job:
    """A piece of work: ``message`` and ``fraction`` (0..1) while it runs, then ``error`` or not."""

    name: str
    message: str = "Waiting for its turn."
    fraction: float = 0.0
    finished: bool = False
    error: str | None = None
    result: Any = None


class Runner:
    """Runs one job at a time. Work never calls Streamlit; it reports through its argument."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="attn-job")
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def submit(self, name: str, work: Work) -> Job:
        """Start a job, unless the one of that name is still at work; returns it."""
        with self._lock:
            job = self._jobs.get(name)
            if job is None or job.finished:
                job = self._jobs[name] = Job(name)
                self._pool.submit(_run, job, work)
            return job

    def get(self, name: str) -> Job | None:
        """The last job of that name."""
        return self._jobs.get(name)


def _run(job: Job, work: Work) -> None:
    def report(message: str, fraction: float) -> None:
        job.message, job.fraction = message, min(max(fraction, 0.0), 1.0)

    try:
        job.result = work(report)
    except AttnError as error:
        job.error = str(error)
    except Exception:
        _LOG.exception("Job %s failed", job.name)
        job.error = "Something unforeseen went wrong; the terminal has the details. Try again."
    finally:
        job.finished = True


@st.cache_resource(show_spinner=False)
def runner() -> Runner:
    """The one runner of this server."""
    return Runner()
