"""What an index takes on disk a head, with and without the token tables.

    python -m benchmarks.size

The built-in model over the first 64 documents of the sample: two indexes, the second scanned with
``--per-token 0``. Sums of the files, in kB a head.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from attn.corpus.corpus import load_corpus
from attn.index.index import Index
from attn.models.session import load_model
from attn.scan.plan import Plan
from attn.scan.run import scan
from benchmarks.report import report

DOCUMENTS = 64


def main() -> None:
    session = load_model()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as out:
        for per_token in (10, 0):
            plan = Plan(per_token=per_token)
            folder = scan(session, load_corpus("sample", DOCUMENTS), plan, out=Path(out))
            heads = len(Index.open(folder).heads())
            kinds = {
                kind: sum(path.stat().st_size for path in folder.glob(pattern)) / 1000 / heads
                for kind, pattern in (
                    ("examples_kB", "examples/*"),
                    ("tokens_kB", "tokens/*"),
                    ("pairs_kB", "pairs/*"),
                    ("all_kB", "**/*.*"),
                )
            }
            rows.append({"documents": DOCUMENTS, "per_token": per_token, **kinds})
    report("size", rows)


if __name__ == "__main__":
    main()
