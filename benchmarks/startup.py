"""What starting costs: the library's import, and the command line's help.

    python -m benchmarks.startup

Fresh processes, the median of ten after one that fills the caches; the import as Python itself
counts it, the command as a person waits for it, with what Python alone takes beside it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.report import report

TIMES = 10
IMPORT = "import time; t = time.perf_counter(); import attn; print(time.perf_counter() - t)"
LOADS = "import sys, attn; print('torch' in sys.modules)"


def seconds(command: list[str], *, told: bool = False) -> float:
    """The median seconds of a command, or of what it says itself."""
    found = []
    for _ in range(TIMES + 1):
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(float(done.stdout) if told else time.perf_counter() - start)
    return statistics.median(found[1:])


def main() -> None:
    loads = subprocess.run(
        [sys.executable, "-c", LOADS], capture_output=True, text=True, check=True
    )
    assert loads.stdout.strip() == "False", "import attn loads torch"
    rows: list[dict[str, Any]] = [
        {"what": "python -c pass", "seconds": seconds([sys.executable, "-c", "pass"])},
        {
            "what": "import attn",
            "seconds": seconds([sys.executable, "-c", IMPORT], told=True),
            "at most": 0.15,
        },
        {
            "what": "attn --help",
            "seconds": seconds([sys.executable, "-m", "attn", "--help"]),
            "at most": 0.5,
        },
    ]
    report("startup", [{**row, "at most": row.get("at most", "")} for row in rows])


if __name__ == "__main__":
    main()
