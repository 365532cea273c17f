"""The index on disk, as pages, CLI and notebooks read it. No torch, no model, no tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from attn import store
from attn.errors import IndexDamaged, QueryError
from attn.heads import Example, HeadId, Window
from attn.store import MANIFEST, Manifest, read_manifest, verify

__all__ = ["Index", "Manifest", "Ranking", "find_indexes", "verify"]

_COUNTS = ("layer", "head", "rows", "pairs", "nonfinite")
BY = ("multiple", "attention")


@dataclass(frozen=True)
class Ranking:
    """The answer to a query: some examples, and out of how many.

    ``pairs`` all pairs above average of the head in the whole corpus; ``kept`` how many examples
    the index keeps that match the question; ``exact`` whether ``examples`` are the true first
    ones of the whole corpus, or only those among the kept (a token filter).
    """

    examples: tuple[Example, ...]
    pairs: int
    kept: int
    exact: bool


def find_indexes(folder: Path) -> list[Path]:
    """Folders with a manifest inside ``folder``, the newest first."""
    if not folder.is_dir():
        return []
    found = [path.parent for path in folder.glob(f"*/{MANIFEST}") if not _hidden(path.parent)]
    return sorted(found, key=lambda path: (-(path / MANIFEST).stat().st_mtime, path.name))


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")


class Index:
    """A scanned corpus: metrics and examples of every head of one model.

    Opened with :meth:`open`; safe to share between threads. ``path`` the folder, ``manifest``
    what was scanned and how.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self._head_table = lru_cache(maxsize=64)(self._read_head)
        self._document_group = lru_cache(maxsize=256)(self._read_group)

    @classmethod
    def open(cls, path: Path | str) -> Index:
        """Open an index; raises IndexMissing, IndexMismatch or IndexDamaged."""
        folder = Path(path)
        return cls(folder, read_manifest(folder))

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    def heads(self) -> list[HeadId]:
        """Every head, by layer, then head."""
        shape = self.manifest.n_layers, self.manifest.n_heads
        return [HeadId(layer, head) for layer, head in np.ndindex(shape)]

    @cached_property
    def _heads(self) -> dict[str, np.ndarray]:
        """Column → (layer, head)."""
        table = self._table(store.HEADS, None)
        shape = self.manifest.n_layers, self.manifest.n_heads
        return {name: table[name].to_numpy().reshape(shape) for name in table.column_names}

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics of this index, in the order to show them."""
        return tuple(name for name in self._heads if name not in _COUNTS)

    def metric(self, name: str) -> np.ndarray:
        """(layer, head) float64: one metric of every head. Raises QueryError for another name."""
        if name not in self.metric_names:
            known = ", ".join(self.metric_names)
            raise QueryError(f"The index has no metric {name!r}: choose one of {known}.")
        return self._heads[name]

    def numbers(self, head: HeadId) -> dict[str, float]:
        """Every metric of one head."""
        self._check(head)
        cell = head.layer, head.head
        return {name: float(self._heads[name][cell]) for name in self.metric_names}

    def rows(self, head: HeadId) -> int:
        """Rows counted: real rows from min_row on, with finite attention."""
        return self._count("rows", head)

    def pairs(self, head: HeadId) -> int:
        """Pairs above average in the whole corpus."""
        return self._count("pairs", head)

    def nonfinite(self, head: HeadId) -> int:
        """Rows left out because their attention was not finite."""
        return self._count("nonfinite", head)

    def _count(self, name: str, head: HeadId) -> int:
        self._check(head)
        return int(self._heads[name][head.layer, head.head])

    def top(
        self,
        head: HeadId,
        n: int = 10,
        *,
        by: str = "multiple",
        token: str | None = None,
        reverse: bool = False,
        one_per_document: bool = False,
    ) -> Ranking:
        """The head's best pairs.

        ``by`` multiple or attention; ``token`` only pairs whose source token reads exactly so;
        ``reverse`` the pairs nearest above average first, by multiple; ``one_per_document`` the
        best pair of each document. Ties: the earlier document, destination, source first.
        Raises QueryError for a question without an answer, HeadError for a head out of range.
        """
        if by not in BY:
            raise QueryError(f"Examples are ranked by {' or '.join(BY)}, not by {by!r}.")
        if reverse and by != "multiple":
            raise QueryError("The reversed ranking is by multiple: leave out --by or --reverse.")
        column = "bottom" if reverse else {"multiple": "top", "attention": "attention"}[by]
        if one_per_document and column == "top" and token is None:
            return self._ranking(head, self._ranked(head, "by_document"), n, whole=True)
        table = self._ranked(head, column)
        whole = len(table) >= self.pairs(head) or (token is None and not one_per_document)
        if token is not None:
            table = table.filter(pc.equal(table["token"], token))
        if one_per_document:
            table = table.take(_first_of_each(table["document"].to_numpy()))
        return self._ranking(head, table, n, whole)

    def random(
        self, head: HeadId, n: int = 10, *, seed: int = 0, token: str | None = None
    ) -> Ranking:
        """Pairs above average drawn uniformly without replacement, from the index's sample."""
        table = self._ranked(head, "sample")
        order = np.random.default_rng(seed).permutation(len(table))
        whole = token is None or len(table) >= self.pairs(head)
        table = table.take(order)
        if token is not None:
            table = table.filter(pc.equal(table["token"], token))
        return self._ranking(head, table, n, whole)

    def _ranking(self, head: HeadId, table: pa.Table, n: int, whole: bool) -> Ranking:
        if n < 1:
            raise QueryError("Ask for at least one example.")
        some = table.slice(0, n).to_pylist()
        examples = tuple(_example(head, row) for row in some)
        return Ranking(examples, self.pairs(head), len(table), whole)

    def _ranked(self, head: HeadId, name: str) -> pa.Table:
        """The pairs of one list of a head, by rank."""
        self._check(head)
        table = self._head_table(head)
        rank = table[f"rank_{name}"].to_numpy()
        order = np.argsort(rank, kind="stable")
        return table.take(order[rank[order] >= 0])

    def window(self, document: int) -> Window:
        """The scanned tokens of a document. Raises QueryError when the index has none such."""
        group = int(np.searchsorted(self.manifest.groups, document, side="right")) - 1
        if group >= 0:
            for row in self._document_group(group):
                if row["document"] == document:
                    texts, ids = tuple(row["texts"]), tuple(row["ids"])
                    return Window(document, row["start"], row["source"], texts, ids)
        raise QueryError(f"The index has no document {document}.")

    def _check(self, head: HeadId) -> None:
        head.check(self.manifest.n_layers, self.manifest.n_heads)

    def _read_head(self, head: HeadId) -> pa.Table:
        return self._table(store.layer_file(head.layer), head.head)

    def _read_group(self, group: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._table(store.DOCUMENTS, group).to_pylist()
        return rows

    def _table(self, name: str, group: int | None) -> pa.Table:
        """A file's table, or one row group of it; page checksums are checked."""
        path = self.path / name
        try:
            if store.footer(path) != self.manifest.files[name].footer:
                raise OSError("its footer is not the one that was written")
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                return file.read() if group is None else file.read_row_group(group)
        except (OSError, KeyError, pa.ArrowException) as error:
            raise IndexDamaged(
                f"File {name} of the index {self.name} cannot be read: scan again."
            ) from error


def _example(head: HeadId, row: dict[str, Any]) -> Example:
    values = {k: row[k] for k in ("document", "dst", "src", "token", "multiple", "attention")}
    return Example(head=head, row=np.array(row["row"], np.float32), **values)


def _first_of_each(values: np.ndarray) -> np.ndarray:
    return np.sort(np.unique(values, return_index=True)[1])
