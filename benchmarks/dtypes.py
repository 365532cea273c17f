"""What bfloat16 changes in an index: how much of each head's ranking is the same as in float32.

    python -m benchmarks.dtypes

The built-in model over the first 64 documents of the sample, scanned in both. For the first 10 and
the first 100 pairs by multiple: the share that both rankings have, over all heads.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from attn.corpus.corpus import load_corpus
from attn.heads import HeadId
from attn.index.index import Index
from attn.models.session import load_model
from attn.scan.run import scan
from benchmarks.report import report

DOCUMENTS = 64


def shared(one: Index, two: Index, head: HeadId, n: int) -> float:
    """The share of the first ``n`` that both have."""
    first, second = (
        {(e.document, e.dst, e.src) for e in index.top(head, n).examples} for index in (one, two)
    )
    return len(first & second) / max(len(first), 1)


def main() -> None:
    with tempfile.TemporaryDirectory() as out:
        one, two = (
            Index.open(
                scan(load_model(dtype=dtype), load_corpus("sample", DOCUMENTS), out=Path(out))
            )
            for dtype in ("float32", "bfloat16")
        )
        rows: list[dict[str, Any]] = []
        for n in (10, 100):
            shares = [shared(one, two, head, n) for head in one.heads()]
            rows.append(
                {
                    "what": f"share of the first {n} in both",
                    "median": statistics.median(shares),
                    "worst": min(shares),
                }
            )
        for name in ("induction", "previous", "sink", "entropy"):
            gap = np.abs(one.metric(name) - two.metric(name))
            rows.append(
                {
                    "what": f"difference in {name}",
                    "median": float(np.median(gap)),
                    "worst": float(gap.max()),
                }
            )
    report("dtypes", rows)


if __name__ == "__main__":
    main()
