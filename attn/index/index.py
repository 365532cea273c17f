"""The index on disk, as pages, CLI and notebooks read it. No torch, no model, no tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from attn.heads import HeadId
from attn.html_tables import table
from attn.index.examples import ExampleLists
from attn.index.format import MANIFEST
from attn.index.manifest import read_manifest
from attn.index.numbers import HeadNumbers


def find_indexes(folder: str | Path) -> list[Path]:
    """Folders with a manifest inside ``folder``, the newest first."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    found = [path.parent for path in folder.glob(f"*/{MANIFEST}") if path.parent.name[0] != "."]
    return sorted(found, key=lambda path: (-(path / MANIFEST).stat().st_mtime, path.name))


class Index(HeadNumbers, ExampleLists):
    """A scanned corpus: metrics and examples of every head of one model.

    Opened with :meth:`open`, which raises IndexMissing, IndexMismatch or IndexDamaged; safe to
    share between threads. ``path`` the folder, ``manifest`` what was scanned and how. Attention is
    a share of a row, 0..1; a multiple is how many times its row's average a source got (see
    :mod:`attn.measure.scores`); a metric is (layer, head) float64 (see
    :mod:`attn.measure.metrics`).

    >>> import attn
    >>> index = attn.Index.open(index.path)
    >>> index.metric("induction").shape
    (30, 9)
    >>> head = attn.HeadId.parse("L18H6")
    >>> first, second = index.top(head, 2).examples
    >>> first.multiple >= second.multiple > 1
    True
    >>> [example.token for example in index.top(head, 3, token=" the").examples]
    [' the', ' the', ' the']
    >>> round(sum(index.budget(head).values()), 6)
    1.0
    """

    @classmethod
    def open(cls, path: str | Path) -> Index:
        """Open an index; raises IndexMissing, IndexMismatch or IndexDamaged."""
        folder = Path(path)
        return cls(folder, read_manifest(folder))

    def heads(self) -> list[HeadId]:
        """Every head, by layer, then head."""
        shape = self.manifest.n_layers, self.manifest.n_heads
        return [HeadId(layer, head) for layer, head in np.ndindex(shape)]

    def __repr__(self) -> str:
        return f"Index({self.name})"

    def _repr_html_(self) -> str:
        kept = self.manifest
        rows = [
            ("model", kept.model),
            ("corpus", kept.corpus),
            ("heads", f"{kept.n_layers} layers × {kept.n_heads}"),
            ("documents", f"{kept.documents:,}"),
            ("tokens", f"{kept.tokens:,}, {kept.ctx} a window at most"),
            ("counted", f"rows from {kept.min_row}"),
        ]
        return table(("index", self.name), rows)
