"""Reads the files of an index on demand. No torch, no model, no tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from attn.errors import IndexDamaged, QueryError
from attn.heads import HeadId, Window
from attn.index.format import DOCUMENTS, HEADS, PAIR_GROUP, REPEATS, VOCABULARY, layer_file
from attn.index.manifest import Manifest, footer
from attn.index.measured import Measured
from attn.index.query import HeadPairs, array_of
from attn.index.repeats import Repeats


class IndexReader:
    """The files of an index. What was read is cached, and every page is checked as it is read.

    ``path`` the folder, ``manifest`` what was scanned and how. Safe to share between threads.
    """

    def __init__(self, path: str | Path, manifest: Manifest) -> None:
        self.path, self.manifest = Path(path), manifest
        self._kept_of = lru_cache(maxsize=64)(self._read_kept)
        self._tokens_of = lru_cache(maxsize=64)(self._read_tokens)
        self._listed_in = lru_cache(maxsize=64)(self._read_listed)
        self._document_group = lru_cache(maxsize=256)(self._read_group)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    def rows(self, head: HeadId) -> int:
        """Rows counted: real rows from min_row on, with finite attention."""
        return self._count("rows", head)

    def pairs(self, head: HeadId) -> int:
        """Pairs above average in the whole corpus."""
        return self._count("pairs", head)

    def nonfinite(self, head: HeadId) -> int:
        """Rows left out because their attention was not finite."""
        return self._count("nonfinite", head)

    def window(self, document: int, start: int = 0) -> Window:
        """The scanned tokens of a document, of the window that begins at its token ``start``.

        Raises QueryError when the index has none such.
        """
        groups = self.manifest.groups
        first = max(int(np.searchsorted(groups, document, side="left")) - 1, 0)
        last = int(np.searchsorted(groups, document, side="right"))
        for group in range(first, last):
            for row in self._document_group(group):
                if row["document"] == document and row["start"] == start:
                    ids, known = tuple(row["ids"]), self._vocabulary
                    numbers = self.numbers_of_ids(ids)
                    return Window(
                        document, start, row["source"], tuple(row["texts"]), ids, row["id"],
                        tuple(known["text"][numbers]), tuple(known["kind"][numbers]),
                    )  # fmt: skip
        raise QueryError(f"The index has no document {document}.")

    @cached_property
    def _heads(self) -> dict[str, np.ndarray]:
        """Column of heads.parquet → (layer, head, ...)."""
        table = self._table(HEADS, None)
        shape = self.manifest.n_layers, self.manifest.n_heads
        return {
            name: _values(table[name]).reshape(*shape, *_list_shape(table[name]))
            for name in table.column_names
        }

    @cached_property
    def _vocabulary(self) -> dict[str, np.ndarray]:
        table = self._table(VOCABULARY, None)
        return {
            name: _strings(table[name])
            if name in ("entry", "text", "kind", "texts")
            else array_of(table[name])
            for name in table.column_names
        }

    @cached_property
    def _repeats(self) -> Repeats:
        return Repeats.of(self._table(REPEATS, None))

    def numbers_of_ids(self, ids: Sequence[int]) -> np.ndarray:
        """The vocabulary's numbers of token ids that occur in the corpus."""
        found: np.ndarray = np.searchsorted(self._vocabulary["id"], np.asarray(ids, np.int32))
        return found

    def _count(self, name: str, head: HeadId) -> int:
        self._check(head)
        return int(self._heads[name][head.layer, head.head])

    def _check(self, head: HeadId) -> None:
        head.check(self.manifest.n_layers, self.manifest.n_heads)

    def _kept(self, head: HeadId) -> HeadPairs:
        self._check(head)
        return self._kept_of(head)

    def _read_kept(self, head: HeadId) -> HeadPairs:
        name = layer_file("examples", head.layer)
        return HeadPairs.of_examples(self._table(name, head.head))

    def _tokens(self, head: HeadId) -> dict[str, np.ndarray]:
        self._check(head)
        return self._tokens_of(head)

    def _read_tokens(self, head: HeadId) -> dict[str, np.ndarray]:
        table = self._table(layer_file("tokens", head.layer), head.head)
        return {name: array_of(table[name]) for name in table.column_names}

    def _read_listed(self, head: HeadId, group: int) -> pa.Table:
        before = self._heads["listed"][head.layer, : head.head]
        number = int((-(-before // PAIR_GROUP)).sum()) + group
        return self._table(layer_file("pairs", head.layer), number)

    @cached_property
    def measured(self) -> Measured:
        """Which sums the index holds, and the metrics that its maker added."""
        with self._file(HEADS) as file:
            return Measured.read(file.schema_arrow.metadata, self.name)

    def _read_group(self, group: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._table(DOCUMENTS, group).to_pylist()
        return rows

    def _all_tokens(self) -> Iterator[tuple[HeadId, dict[str, np.ndarray]]]:
        """The source columns of every head's token table, with each file opened once."""
        columns = ["token", "source_mass", "source_pairs"]
        for layer in range(self.manifest.n_layers):
            name = layer_file("tokens", layer)
            with self._file(name) as file:
                for head in range(self.manifest.n_heads):
                    table = file.read_row_group(head, columns)
                    yield HeadId(layer, head), {c: array_of(table[c]) for c in columns}

    def _table(self, name: str, group: int | None) -> pa.Table:
        """A file's table, or one row group of it."""
        with self._file(name) as file:
            return file.read() if group is None else file.read_row_group(group)

    @contextmanager
    def _file(self, name: str) -> Iterator[pq.ParquetFile]:
        """A file of the index, opened; footer and page checksums are checked."""
        path = self.path / name
        try:
            if footer(path) != self.manifest.files[name].footer:
                raise OSError("its footer is not the one that was written")
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                yield file
        except (OSError, KeyError, pa.ArrowException) as error:
            raise IndexDamaged(
                f"File {name} of the index {self.name} cannot be read: scan again."
            ) from error


def _values(column: pa.ChunkedArray) -> np.ndarray:
    """All values of a column, of its lists one after the other, in the column's type."""
    whole = column.combine_chunks()
    flat = whole.flatten() if pa.types.is_list(column.type) else whole
    return array_of(flat).copy()


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    """(row,) objects: strings, or lists of them."""
    made = np.empty(len(column), object)
    for i, value in enumerate(column.to_pylist()):
        made[i] = value
    return made


def _list_shape(column: pa.ChunkedArray) -> tuple[int, ...]:
    return (-1,) if pa.types.is_list(column.type) else ()
