"""Documents that repeat the text of an earlier one: found while reading, kept, asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from attn.index.format import REPEAT_COLUMNS, REPEATS, options
from attn.index.query import array_of


class RepeatFinder:
    """Tells which documents repeat the text of an earlier one; holds a number for each text."""

    def __init__(self) -> None:
        self._first: dict[int, int] = {}  # a text's hash → the first document that has it
        self._found: list[tuple[int, int]] = []

    def add(self, document: int, text_id: str) -> None:
        """Take the next document; ``text_id`` the hash of its text, in hex."""
        first = self._first.setdefault(int(text_id, 16), document)
        if first != document:
            self._found.append((document, first))

    def __len__(self) -> int:
        """How many documents repeat an earlier one."""
        return len(self._found)

    def write(self, folder: Path) -> None:
        """Write repeats.parquet."""
        rows = np.array(self._found, np.int64).reshape(-1, 2)
        table = pa.table({"document": rows[:, 0], "first": rows[:, 1]}, REPEAT_COLUMNS)
        pq.write_table(table, folder / REPEATS, **options())


@dataclass(frozen=True, eq=False)
class Repeats:
    """The repeated documents of an index: ``document``, rising, has the text of ``first``."""

    document: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, table: pa.Table) -> Repeats:
        """From the table of repeats.parquet."""
        return cls(array_of(table["document"]), array_of(table["first"]))

    @classmethod
    def read(cls, folder: Path) -> Repeats:
        """Those that :meth:`RepeatFinder.write` wrote."""
        return cls.of(pq.read_table(folder / REPEATS, page_checksum_verification=True))

    def texts(self, documents: np.ndarray) -> np.ndarray:
        """(document,) the first document that has the text of each: the same for copies."""
        documents = np.asarray(documents, np.int64)
        if not len(self.document):
            return documents
        at = np.minimum(np.searchsorted(self.document, documents), len(self.document) - 1)
        found: np.ndarray = np.where(self.document[at] == documents, self.first[at], documents)
        return found

    def copies(self, documents: np.ndarray) -> np.ndarray:
        """(document,) how many other documents have the text of each."""
        texts, firsts = self.texts(documents), self._sorted
        found: np.ndarray = np.searchsorted(firsts, texts, "right") - np.searchsorted(firsts, texts)
        return found

    @cached_property
    def _sorted(self) -> np.ndarray:
        """``first``, rising: a text's copies are one run."""
        return np.sort(self.first)
