"""The scanned windows and the token texts of an index, written as the corpus streams by."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
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


class DocumentWriter:
    """Writes documents.parquet as the corpus streams by, then the other :data:`FROM_CORPUS` files.

    Memory holds one row group, the different token texts and a number for each text. ``min_row``
    and ``overlap`` say which rows count: see :func:`first_row`.
    """

    def __init__(self, folder: Path, min_row: int, overlap: int) -> None:
        self._folder, self._min_row, self._overlap = folder, min_row, overlap
        self._occurs: Counter[str] = Counter()
        self._counted: Counter[str] = Counter()
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
        self._occurs.update(record.texts[self._overlap if record.start else 0 :])
        first = first_row(record.start, self._min_row, self._overlap)
        self._counted.update(record.texts[first:])
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
        texts = sorted(self._occurs)
        columns = {
            "text": pa.array(texts, pa.string()),
            "count": np.array([self._occurs[text] for text in texts], np.int64),
            "rows": np.array([self._counted[text] for text in texts], np.int64),
        }
        pq.write_table(pa.table(columns), self._folder / VOCABULARY, **options())


def read_vocabulary(folder: Path) -> list[str]:
    """The token texts of a scan, by number."""
    table = pq.read_table(folder / VOCABULARY, columns=["text"], page_checksum_verification=True)
    texts: list[str] = table["text"].to_pylist()
    return texts


def read_documents(folder: Path) -> Iterator[list[Record]]:
    """The windows of documents.parquet, one row group at a time."""
    with pq.ParquetFile(folder / DOCUMENTS, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            yield [Record(**row) for row in file.read_row_group(group).to_pylist()]
