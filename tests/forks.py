"""Scans in processes of their own, forked from one that has the model.

``python -m tests.forks MODEL LINES`` loads the model once, then does what each line of its input
asks for, a JSON list:

    [OUT, "points"]          killed at certain moments
    [OUT, "kill", SEED, N]   killed at N random moments, then done to the end
    [OUT, "race", SEED, N]   N times two at once
    [OUT, "full", BYTES...]  no file may become larger

The last line of an answer is a JSON object; errors of ours are lines before it. A child that is
killed has no chance to tidy up.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from attn.corpus.corpus import load_corpus
from attn.errors import AttnError, ScanError
from attn.index.index import find_indexes
from attn.index.manifest import verify
from attn.models.session import ModelSession, load_model
from attn.scan.plan import Plan
from attn.scan.progress import Progress
from attn.scan.run import scan

PLAN = Plan(ctx=64, top=25, sample=30, shard=2)


def say(what: object) -> None:
    """One line of JSON for whoever started this."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def fork(work: Callable[[], object]) -> int:
    """A child that does some work; its exit code is 0 if that ends well, 2 for errors of ours."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except AttnError as error:
        say(str(error))
        code = 2
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """Exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def torn(out: Path) -> int:
    """Shards that are not whole, and indexes that do not verify."""
    bad = 0
    for index in find_indexes(out):
        try:
            verify(index)
        except AttnError:
            bad += 1
    for record in out.glob(".scan-*/shards/*.json"):
        file = record.with_suffix(".safetensors")
        if not file.exists():  # killed while it tidied up
            continue
        told = json.loads(record.read_text())
        data = file.read_bytes()
        bad += (len(data), hashlib.sha256(data).hexdigest()) != (told["bytes"], told["sha256"])
    for file in out.glob(".scan-*/shards/*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            bad += not list(opened.keys())
    return bad


def points(run: Callable[..., Path]) -> dict[str, Any]:
    """Killed at the n-th report of a stage, or where a function of ``os`` would be called."""

    def at(stage: str, number: int) -> None:
        seen = 0

        def progress(p: Progress) -> None:
            nonlocal seen
            seen += p.stage == stage
            if seen == number:
                die()

        run(progress=progress)

    def on(name: str) -> None:
        setattr(os, name, die)
        run()

    moments = [("Reading", 3), ("Scanning", 1), ("Scanning", 4)]
    works = [lambda s=s, n=n: at(s, n) for s, n in moments]
    works += [lambda name=name: on(name) for name in ("fsync", "link", "replace", "rename")]
    return {"codes": [ended(fork(work)) for work in works]}


def kill(run: Callable[..., Path], out: Path, seed: int, n: int) -> dict[str, Any]:
    """Killed at random moments of a scan, and begun again, until it has been killed n times.

    Each of the n kills has an nth of the time in which a scan may be killed, in a random order.
    """
    draw = random.Random(seed)
    start = time.monotonic()
    assert ended(fork(lambda: run(out=out.with_name("timed")))) == 0
    whole = time.monotonic() - start
    moments = [(place + draw.random()) / n for place in range(n)]
    draw.shuffle(moments)
    killed = finished = bad = 0
    while killed < n:
        child = fork(run)
        time.sleep(moments[killed] * whole * 0.45)  # what is waited for is any moment at all
        os.kill(child, signal.SIGKILL)
        killed += ended(child) == -signal.SIGKILL
        bad += torn(out)
        for index in find_indexes(out):  # it was faster: once more from the start
            finished += 1
            shutil.rmtree(index)
    assert ended(fork(run)) == 0
    return {"killed": killed, "finished": finished, "torn": bad + torn(out)}


def race(run: Callable[..., Path], out: Path, seed: int, n: int) -> dict[str, Any]:
    """Two scans of the same, one a moment after the other; every one must end well."""
    draw = random.Random(seed)
    codes, digests = [], set()
    for _ in range(n):
        shutil.rmtree(out, ignore_errors=True)
        first = fork(run)
        time.sleep(draw.uniform(0, 0.3))
        codes += [ended(child) for child in (fork(run), first)]
        (index,) = find_indexes(out)
        verify(index)
        manifest = (index / "manifest.json").read_bytes()
        digests.add(hashlib.sha256(manifest).hexdigest())
    left = [path.name for path in out.iterdir() if path != index]
    return {"codes": codes, "digests": len(digests), "left": left}


def full(run: Callable[..., Path], sizes: list[int]) -> dict[str, Any]:
    """A limit on how large a file may become, as a full disk would set it."""

    def limited(size: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        run()
        raise ScanError("No file was too large.")

    return {"codes": [ended(fork(lambda size=size: limited(size))) for size in sizes]}


def main(model: str, lines: str) -> None:
    torch.set_num_threads(1)
    session: ModelSession = load_model(model, device="cpu")
    corpus = load_corpus(lines)
    assert session.weights
    for line in sys.stdin:
        folder, kind, *numbers = json.loads(line)
        out = Path(folder)

        def run(out: Path = out, **changed: Any) -> Path:
            return scan(session, corpus, PLAN, out=out, **changed)

        if kind == "points":
            say(points(run))
        elif kind == "full":
            say(full(run, numbers))
        else:
            say({"kill": kill, "race": race}[kind](run, out, *numbers))


if __name__ == "__main__":
    main(*sys.argv[1:])
