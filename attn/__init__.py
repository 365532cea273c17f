"""Explore the attention heads of transformer language models.

    import attn

    model = attn.load_model("smollm2-135m")
    index = attn.Index.open(attn.scan(model, attn.load_corpus("sample")))
    index.top(attn.HeadId.parse("L18H6"), 5)

What is named here is the library; each name is loaded when it is first used, so that importing
``attn`` loads neither torch nor Streamlit.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from attn import runtime

if TYPE_CHECKING:
    from attn.analyse.why.split import why
    from attn.corpus.corpus import load_corpus
    from attn.describe.calls import describe, score
    from attn.heads import HeadId
    from attn.index.index import Index
    from attn.models.session import load_model
    from attn.notebook import AttentionData
    from attn.scan.run import scan
    from attn.show import charts
    from attn.show.report import report

__all__ = [
    "AttentionData", "HeadId", "Index", "charts", "describe", "load_corpus", "load_model",
    "report", "scan", "score", "why",
]  # fmt: skip

_FOLDERS = ("describe", "scan")
"""Folders of this package that can be called as well: see :mod:`attn.callable_module`."""

_HOMES = {
    "AttentionData": "attn.notebook",
    "HeadId": "attn.heads",
    "Index": "attn.index.index",
    "charts": "attn.show.charts",
    "load_corpus": "attn.corpus.corpus",
    "load_model": "attn.models.session",
    "report": "attn.show.report",
    "score": "attn.describe.calls",
    "why": "attn.analyse.why.split",
}

runtime.prepare()


def __getattr__(name: str) -> Any:
    if name in _FOLDERS:
        return importlib.import_module(f"attn.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'attn' has no attribute {name!r}")
    home = importlib.import_module(_HOMES[name])
    return home if name == "charts" else getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
