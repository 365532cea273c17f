"""Serves a GGUF file with llama.cpp on this machine, for people without a key.

`serve` runs the server in this process. `start` runs it in another process, which ends with this
one, when its `Local` is closed, or when it has not been used for a while.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attn.describe.servers import Server
from attn.errors import DeadlinePassed, NoServer

PORT = 8080
CONTEXT = 4096
REPETITION_PENALTY = 1.3
"""What the logits of recent tokens are divided by when the next one is drawn. The probabilities
that the server reports, by which descriptions are judged, are those before it."""

START = 120.0
"""Seconds that a server may take to load its model."""

_MAGIC = b"GGUF"
_READY = "Serving at "

POOR = (
    "The built-in model is a demonstration: with 135 million parameters it writes poor "
    "descriptions and judges them poorly, and its scores say so. Serve a file of an "
    "instruction-tuned model for descriptions worth reading. As a rule of thumb, which the score "
    "checks: from 7 to 8 billion parameters on, 30 billion and more as judges, or a hosted model."
)


def is_builtin(model: str) -> bool:
    """Whether this is the built-in model's name at a server: it is asked for one sentence."""
    from attn.models import builtin

    return model == Path(builtin.MEMBER).stem


def model_file(
    path: Path | str | None = None, progress: Callable[[str, float], None] | None = None
) -> Path:
    """The GGUF file to serve: ``path``, or the built-in model's, fetched where it is not there.

    Raises NoServer when ``path`` is no GGUF file, ModelError when the built-in cannot be had.
    """
    if path is None:
        from attn.models import builtin

        return builtin.gguf(progress)
    file = Path(path).expanduser()
    try:
        with file.open("rb") as opened:
            good = opened.read(4) == _MAGIC
    except OSError:
        raise NoServer(
            f"There is no file {file}: give the path of a GGUF file on this machine."
        ) from None
    if not good:
        raise NoServer(f"{file.name} is no GGUF file: give the path of one.")
    return file


@contextlib.contextmanager
def serve(
    file: Path, port: int = 0, context: int = CONTEXT, threads: int | None = None
) -> Iterator[str]:
    """Serve a GGUF file on 127.0.0.1 in this process; gives the base address, with /v1.

    ``port`` 0 for any that is free; ``context`` tokens that prompt and answer may have together.
    Raises NoServer when it cannot be.
    """
    try:
        import xllamacpp
    except ImportError:
        raise NoServer(
            "Serving a model needs the package xllamacpp, which is not installed: "
            'run `pip install "attn[app]"`.'
        ) from None
    params: Any = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.model_alias = {file.stem}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = context
    params.n_parallel = 1
    params.ui = False
    params.verbosity = 0
    # Small models else repeat themselves without end (Keskar et al. 2019).
    params.sampling.penalty_repeat = REPETITION_PENALTY
    # One fewer than there are: llama.cpp's threads wait for each other by spinning.
    params.cpuparams.n_threads = threads or max(1, (os.cpu_count() or 2) - 1)
    try:
        server = xllamacpp.Server(params)
        address = server.listening_address
    except Exception as error:
        raise NoServer(
            f"{file.name} cannot be served at port {port} ({_line(error)}): check that the file "
            "is whole and the port is free."
        ) from None
    try:
        yield f"{address}/v1"
    finally:
        del server


@dataclass
class Local:
    """A server in a process of its own; ``server`` says how to reach it."""

    server: Server
    process: subprocess.Popen[str]

    @property
    def running(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def close(self) -> None:
        """End the process."""
        if self.process.stdin:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        if self.process.stdout:
            self.process.stdout.close()


def start(
    file: Path,
    context: int = CONTEXT,
    *,
    idle: float = 1800.0,
    stop: threading.Event | None = None,
    limit: float = START,
) -> Local:
    """Serve a GGUF file in a process of its own on a free port, and wait until it answers.

    The process ends when this one does, or ``idle`` seconds after its last use. Raises NoServer,
    DeadlinePassed.
    """
    command = [sys.executable, "-m", "attn", "describe-local", "--gguf", str(file), "--port", "0"]
    command += ["--context", str(context), "--with-parent", "--idle", str(idle)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    local = Local(Server("http://127.0.0.1:1/v1", file.stem), process)
    try:
        address = _ready(process, time.monotonic() + limit, stop)
    except BaseException:
        local.close()
        raise
    local.server = Server(address, file.stem)
    return local


def _ready(process: subprocess.Popen[str], end: float, stop: threading.Event | None) -> str:
    """The address that the process prints once it serves."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
            if line.startswith(_READY):
                return
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    while time.monotonic() < end and not (stop is not None and stop.is_set()):
        with contextlib.suppress(queue.Empty):
            line = lines.get(timeout=0.2)
            if line.startswith(_READY):
                return line.removeprefix(_READY).strip()
            if not line:
                raise NoServer(
                    "The model's server ended before it was ready: run `python -m attn "
                    "describe-local` in a terminal to see why."
                )
    raise DeadlinePassed("The model's server was not ready in time: choose a smaller file.")


def hold(
    address: str, tell: Callable[[str], None], *, with_parent: bool, idle: float | None
) -> None:
    """Print that the server at ``address`` is ready, and return when it should end.

    That is when standard input ends, where ``with_parent``, and when ``idle`` seconds have gone by
    without use, as its own report of its slots tells.
    """
    tell(f"{_READY}{address}")
    over = threading.Event()
    if with_parent:
        threading.Thread(target=_until_input_ends, args=(over,), daemon=True).start()
    last, state = time.monotonic(), ""
    while not over.wait(1.0):
        if idle is None:
            continue
        now = _slots(address)
        if now != state:
            last, state = time.monotonic(), now
        if time.monotonic() - last > idle:
            return


def _until_input_ends(over: threading.Event) -> None:
    with contextlib.suppress(OSError, ValueError):
        while sys.stdin.read(1):
            pass
    over.set()


def _slots(address: str) -> str:
    """The server's own report of its work, which changes with every call."""
    import urllib.request

    try:
        with urllib.request.urlopen(address.removesuffix("/v1") + "/slots", timeout=5) as answer:
            return str(answer.read())
    except OSError:
        return ""


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
