"""Which process of a run gets which tests: whole files, by seconds once measured, longest first.

The tests in a browser that share the app's server are one unit: one process has the server,
Chromium and the model in it. ``pytest -n 2 --record`` measures again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

_FILE = Path(__file__).with_name("durations.json")
_TOGETHER = "tests/e2e/"
_ALONE = ("first_ten", "first_start", "installed", "scan_browser", "hostile", "describe_browser")
"""Tests in a browser that start a server of their own."""


def unit(nodeid: str) -> str:
    """What goes to one process as a whole."""
    file = nodeid.split("::")[0]
    together = file.startswith(_TOGETHER) and not any(name in file for name in _ALONE)
    return _TOGETHER if together else file


class LongestFirst(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a process that is free the longest unit that is left."""

    seconds: dict[str, float] = json.loads(_FILE.read_text())

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        longest = max(self.workqueue, key=lambda name: self.seconds.get(name, 0))
        self.workqueue.move_to_end(longest, last=False)
        super()._assign_work_unit(node)


def record(durations: Iterable[tuple[str, float]]) -> None:
    """Keep the seconds of all units, from node ids and seconds."""
    seconds: Counter[str] = Counter()
    for nodeid, duration in durations:
        seconds[unit(nodeid)] += duration
    kept = {name: round(value, 1) for name, value in seconds.most_common()}
    _FILE.write_text(json.dumps(kept, indent=0) + "\n")
