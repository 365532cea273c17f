"""Put the tables of benchmarks/results into the README, between its two comments.

python -m benchmarks.readme
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.report import table

README = Path(__file__).parents[1] / "README.md"
RESULTS = Path(__file__).parent / "results"
START, END = "<!-- measured -->\n", "<!-- end -->\n"
TITLES = {
    "startup": "What starting costs, seconds",
    "scan": "A scan against a plain forward pass of the same batches, seconds a batch",
    "memory": "Memory of a scan",
    "queries": "Questions to an index of 10,000 documents",
    "size": "Size on disk, kB a head, with the ten best pairs of every source token and without",
    "search": "A search over all heads on a text of 64 tokens",
    "why": "Asking why on a text of 64 tokens, against a plain forward pass of it",
    "effects": "Effects of heads on a text of 64 tokens, against plain passes of it",
    "browser": "What a visitor waits for in Chromium, and what each page sends",
    "dtypes": "What bfloat16 changes, for the median head and the worst",
}


def tables() -> str:
    """Every benchmark's table, under its title and command."""
    parts = []
    for name, title in TITLES.items():
        rows = json.loads((RESULTS / f"{name}.json").read_text())
        parts.append(f"**{title}** (`python -m benchmarks.{name}`)\n\n{table(rows)}\n")
    return "\n".join(parts)


def main() -> None:
    before, _, rest = README.read_text().partition(START)
    README.write_text(before + START + tables() + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
