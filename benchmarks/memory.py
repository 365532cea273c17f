"""Whether a scan's memory grows with the corpus: its peak at 200 and at 2,000 documents.

    python -m benchmarks.memory

A two-layer random model keeps this short. Each scan runs in a process of its own; what is reported
is the peak resident memory of that process, and as a ratio to the smaller scan's.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import report
from benchmarks.tiny import save_model

SIZES = (200, 2000)


def child(model: str, docs: int, out: str) -> None:
    """Scan, then print the peak resident memory in MB."""
    from attn.corpus.corpus import load_corpus
    from attn.models.session import load_model
    from attn.scan.plan import Plan
    from attn.scan.run import scan

    texts = Path(out) / f"{docs}.txt"
    draw = np.random.default_rng(0)
    words = [f"word{i}" for i in range(3000)]
    with texts.open("w") as file:
        for _ in range(docs):
            file.write(" ".join(draw.choice(words, 60)) + "\n")
    scan(load_model(model, "cpu"), load_corpus(str(texts)), Plan(ctx=64), out=Path(out))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = save_model(Path(folder) / "model")
        peaks = {}
        for docs in SIZES:
            command = [sys.executable, "-m", "benchmarks.memory", str(model), str(docs), folder]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peaks[docs] = float(done.stdout.split()[-1])
    rows: list[dict[str, Any]] = [
        {"documents": docs, "peak_MB": peak, "ratio": peak / peaks[SIZES[0]]}
        for docs, peak in peaks.items()
    ]
    report("memory", rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    else:
        main()
