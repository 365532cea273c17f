"""What a benchmark found: one table for people, and the same rows as JSON.

They go to benchmarks/results, or to the folder that BENCH_RESULTS names.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(os.environ.get("BENCH_RESULTS") or Path(__file__).parent / "results")


def medians(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median seconds of each piece of work. Turns alternate, so that all see the same machine;
    a first turn warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def report(name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows as a Markdown table and write them to benchmarks/results/NAME.json."""
    print(table(rows))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(list(rows), indent=1) + "\n")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([_shown(row[n]) for n in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"
    return str(value)
