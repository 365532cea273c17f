"""A corpus → an index: batches, passes over patterns, short lists, shards, merging, writing.

In: a model session, a corpus, a plan. Out: the folder of an index, the same to the byte however the
work was split. Imports `attn.index`, `attn.models` and the floors below them.

``attn.scan(...)`` calls :func:`attn.scan.run.scan`; ``attn.scan.Plan`` is what it counts and keeps.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from attn.callable_module import make_callable

if TYPE_CHECKING:
    from attn.scan.plan import Plan
    from attn.scan.progress import Progress
    from attn.scan.run import scan

__all__ = ["Plan", "Progress", "scan"]

_HOMES = {"Plan": "attn.scan.plan", "Progress": "attn.scan.progress", "scan": "attn.scan.run"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'attn.scan' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


make_callable(__name__, "attn.scan.run", "scan")
