"""The scanned windows and the token texts of an index, written as the corpus streams by."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from attn.index.format import DOCUMENT_COLUMNS, DOCUMENTS, GROUP, VOCABULARY, options
from attn.index.repeats import RepeatFinder


@dataclass(frozen=True)
class Record:
    """One scanned window, as documents.parquet keeps it."""

    document: int
    start: int
    id: str
    source: str
    truncated: bool
    ids: list[int]
    texts: list[str]
    words: list[int]

    @property
    def key(self) -> int:
        """One number for the document's place in the corpus and the window's start in it.

        The place, not the text: copies of a text are drawn into samples independently.
        """
        return (self.document << 32) | self.start


def first_row(start: int, min_row: int, overlap: int) -> int:
    """The first row of a window that counts; those after it all do.

    ``start`` where the window begins in its document, ``overlap`` how many of its positions, BOS
    included, repeat the window before. So every row of a document from ``min_row`` on counts once,
    in the first window that sees it, as in perplexity with a stride.
    """
    return overlap if start else min_row


class Described(NamedTuple):
    """What a token of the vocabulary is: as it is written there, its name, and its kind."""

    entry: str
    name: str
    kind: str


TEXTS = 400
"""Texts that are kept of a token that covers different ones, the first in order."""


class DocumentWriter:
    """Writes documents.parquet as the corpus streams by, then the other :data:`FROM_CORPUS` files.

    Memory holds one row group, the different tokens with some of their texts, and a number for each
    document. ``min_row``, ``overlap`` and ``suffix`` say which rows count: see :func:`first_row`;
    those of the ``suffix`` special tokens that end a window do not. ``describe`` a token by its id.
    """

    def __init__(
        self,
        folder: Path,
        min_row: int,
        overlap: int,
        suffix: int,
        describe: Callable[[int], Described],
    ) -> None:
        self._folder, self._min_row, self._overlap = folder, min_row, overlap
        self._suffix, self._describe = suffix, describe
        self._occurs: Counter[int] = Counter()
        self._counted: Counter[int] = Counter()
        self._texts: dict[int, set[str]] = {}
        self._last, self._repeats = -1, RepeatFinder()
        self._file = pq.ParquetWriter(folder / DOCUMENTS, DOCUMENT_COLUMNS, **options())
        self._waiting: list[Record] = []
        self._digest = hashlib.sha256()
        self.groups: list[int] = []
        self.documents = self.windows = self.tokens = 0

    def add(self, record: Record) -> None:
        """Add a window."""
        self._digest.update(f"{record.document} {record.start} {record.id} ".encode())
        self._digest.update(np.array(record.ids, "<i4").tobytes())
        if record.document != self._last:
            self.documents += 1
            self._repeats.add(record.document, record.id)
        self._last = record.document
        self.windows += 1
        self.tokens += len(record.ids)
        end = len(record.ids) - self._suffix
        self._occurs.update(record.ids[self._overlap : end] if record.start else record.ids)
        first = first_row(record.start, self._min_row, self._overlap)
        self._counted.update(record.ids[first:end])
        for token, text in zip(record.ids, record.texts, strict=True):
            if text:
                known = self._texts.setdefault(token, set())
                known.add(text)
                if len(known) > 4 * TEXTS:
                    self._texts[token] = set(sorted(known)[:TEXTS])
        self._waiting.append(record)
        if len(self._waiting) == GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self.groups.append(self._waiting[0].document)
            rows = [asdict(record) for record in self._waiting]
            self._file.write_table(
                pa.Table.from_pylist(rows, DOCUMENT_COLUMNS), row_group_size=GROUP
            )
            self._waiting = []

    @property
    def repeated(self) -> int:
        """How many documents repeat the text of an earlier one."""
        return len(self._repeats)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over every window: its place, text hash and token ids."""
        return self._digest.hexdigest()

    def close(self) -> None:
        """Finish the file, and write the repeats and the vocabulary."""
        self._flush()
        self._file.close()
        self._repeats.write(self._folder)
        ids = sorted(self._occurs)
        described = [self._describe(token) for token in ids]
        texts = [sorted(self._texts.get(token, ()))[:TEXTS] for token in ids]
        columns = {
            "id": np.array(ids, np.int32),
            "entry": pa.array([one.entry for one in described], pa.string()),
            "text": pa.array([one.name for one in described], pa.string()),
            "kind": pa.array([one.kind for one in described], pa.string()),
            "texts": pa.array(texts, pa.list_(pa.string())),
            "count": np.array([self._occurs[token] for token in ids], np.int64),
            "rows": np.array([self._counted[token] for token in ids], np.int64),
        }
        pq.write_table(pa.table(columns), self._folder / VOCABULARY, **options())


def read_vocabulary(folder: Path) -> list[int]:
    """The token ids of a scan, by number: rising."""
    table = pq.read_table(folder / VOCABULARY, columns=["id"], page_checksum_verification=True)
    ids: list[int] = table["id"].to_pylist()
    return ids


def read_descriptions(folder: Path) -> dict[int, Described]:
    """What the tokens of a scan are, by id."""
    columns = ["id", "entry", "text", "kind"]
    table = pq.read_table(folder / VOCABULARY, columns=columns, page_checksum_verification=True)
    rows = table.to_pylist()
    return {row["id"]: Described(row["entry"], row["text"], row["kind"]) for row in rows}


def read_documents(folder: Path) -> Iterator[list[Record]]:
    """The windows of documents.parquet, one row group at a time."""
    with pq.ParquetFile(folder / DOCUMENTS, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            yield [Record(**row) for row in file.read_row_group(group).to_pylist()]


def read_numbers(folder: Path) -> np.ndarray:
    """(document,) int64: the places of an index's documents in the corpus, rising."""
    table = pq.read_table(folder / DOCUMENTS, columns=["document"], page_checksum_verification=True)
    return np.unique(table["document"].to_numpy())


def read_ids(folder: Path, documents: np.ndarray) -> Iterator[tuple[int, int, list[int]]]:
    """The windows of some documents in order: document, start, token ids."""
    wanted = pa.array(documents)
    with pq.ParquetFile(folder / DOCUMENTS, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, ["document", "start", "ids"])
            for row in table.filter(pc.is_in(table["document"], wanted)).to_pylist():
                yield row["document"], row["start"], row["ids"]
