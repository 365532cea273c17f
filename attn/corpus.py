"""Names and files → documents with stable ids.

A corpus is read again each time it is iterated, one row at a time: memory does not grow with it.
Rows that are empty or hold no text are skipped and counted.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from attn.errors import CorpusError, EmptyCorpus

LINE_LIMIT = 1 << 24  # characters in one row: more is not a document but an accident
KINDS = (".txt", ".jsonl", ".csv", ".parquet")
_csv_lock = threading.Lock()


@dataclass(frozen=True)
class Document:
    """One text. ``id``: 16 hex digits of its SHA-256; ``place`` among the documents, from 0;
    ``source`` where it comes from, for people."""

    id: str
    place: int
    text: str
    source: str


Row = tuple[Any, str]  # what should be text, and its source


class Corpus:
    """Documents under a name. Iterate it as often as you like.

    ``name`` is what :func:`load_corpus` takes to make it again; ``docs`` its limit or None;
    ``total`` how many documents it holds, where that is known; ``notices`` what the last
    iteration skipped, in sentences.
    """

    def __init__(
        self,
        name: str,
        rows: Callable[[], Iterator[Row]],
        docs: int | None = None,
        *,
        field: str = "text",
        split: str | None = None,
    ) -> None:
        self.name, self.docs, self.split = name, docs, split
        self.notices: tuple[str, ...] = ()
        self._rows, self._field = rows, field

    @property
    def total(self) -> int | None:
        """How many documents an iteration gives at most, where that is known."""
        return self.docs

    def __iter__(self) -> Iterator[Document]:
        skipped: Counter[str] = Counter()
        place = seen = 0
        self.notices = ()
        try:
            for value, source in self._rows():
                if place == self.docs:
                    break
                seen += 1
                if not isinstance(value, str):
                    skipped[f"without text in '{self._field}'"] += 1
                elif not value.strip():
                    skipped["empty"] += 1
                elif len(value) > LINE_LIMIT:
                    skipped["too long"] += 1
                else:
                    text = value.encode("utf-8", "replace").decode()  # lone surrogates
                    yield Document(text_id(text), place, text, source)
                    place += 1
        finally:
            if skipped:
                parts = ", ".join(f"{n:,} {why}" for why, n in sorted(skipped.items()))
                self.notices = (f"Skipped {skipped.total():,} of {seen:,} rows: {parts}.",)


def text_id(text: str) -> str:
    """16 hex digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_corpus(
    name: str = "sample", docs: int | None = None, *, split: str | None = None
) -> Corpus:
    """Find a corpus by name.

    ``name``: ``sample``; ``python-docs``; a file, ``.txt`` (a document a line), ``.jsonl``,
    ``.csv``, ``.parquet``, or ``.gz`` of the first three; or a Hub dataset ``owner/name``, with
    an optional ``@revision``. ``:field`` at the end picks the column (default ``text``). ``docs``
    keeps the first so many documents; ``split`` is for Hub datasets (default ``train``).

    Raises :class:`CorpusError` when it cannot be had, :class:`EmptyCorpus` when it has no text.
    """
    if docs is not None and docs < 1:
        raise CorpusError(f"{docs} documents are none: ask for at least 1.")
    corpus = _find(name, docs, split)
    if next(iter(corpus), None) is None:
        raise EmptyCorpus(f"The corpus {name} holds no text: every row is empty or not text.")
    return corpus


def _find(name: str, docs: int | None, split: str | None) -> Corpus:
    if name == "sample":
        return Corpus(name, _sample, docs)
    if name == "python-docs":
        return Corpus(name, _python_docs, docs)
    path, field = _split_field(name)
    if path.exists():
        return Corpus(name, _file(path, field), docs, field=field)
    bare, _, column = name.partition(":")
    if _is_file_name(bare) or not _is_hub_id(bare):
        raise CorpusError(
            f"There is no corpus {name!r}: give sample, python-docs, a file "
            f"({', '.join(KINDS)}) or a Hub dataset like stas/openwebtext-10k."
        )
    split = split or "train"
    column = column or "text"
    return Corpus(name, _hub(bare, column, split), docs, field=column, split=split)


def _split_field(name: str) -> tuple[Path, str]:
    """``file:field`` → both; a file whose own name has a colon comes first."""
    whole = Path(name).expanduser()
    if whole.exists() or ":" not in name:
        return whole, "text"
    path, _, field = name.rpartition(":")
    return Path(path).expanduser(), field or "text"


def _is_file_name(name: str) -> bool:
    path = Path(name.removesuffix(".gz"))
    return path.suffix in KINDS or name.startswith((".", "/", "~"))


def _is_hub_id(name: str) -> bool:
    owner, slash, rest = name.partition("@")[0].partition("/")
    return bool(owner and slash and rest) and rest.count("/") == 0


def _sample() -> Iterator[Row]:
    from importlib import resources

    text = resources.files("attn").joinpath("data", "sample.jsonl").read_text("utf-8")
    for line in text.splitlines():
        row = json.loads(line)
        yield row["text"], f"sample: {row['genre']}"


def _python_docs() -> Iterator[Row]:
    from pydoc_data.topics import topics

    for topic in sorted(topics):
        yield topics[topic], f"python-docs: {topic}"


def _file(path: Path, field: str) -> Callable[[], Iterator[Row]]:
    """Rows of a file by its kind; errors in reading become CorpusError."""
    zipped = path.suffix == ".gz"
    kind = Path(path.name.removesuffix(".gz")).suffix
    readers = {".txt": _txt, ".jsonl": _jsonl, ".csv": _csv}
    if path.is_dir() or (kind not in readers and (zipped or kind != ".parquet")):
        raise CorpusError(
            f"{path} is not a file that can be read: use {', '.join(KINDS)}, or .gz of text."
        )

    def rows() -> Iterator[Row]:
        try:
            if kind == ".parquet":
                yield from _parquet(path, field)
                return
            with gzip.open(path, "rb") if zipped else path.open("rb") as raw:
                reader = io.TextIOWrapper(raw, "utf-8-sig", "replace", newline="")
                yield from readers[kind](reader, path.name, field)
        except CorpusError:
            raise
        except (OSError, EOFError, zlib.error) as error:
            raise CorpusError(f"File {path} cannot be read: {_why(error)}.") from error

    return rows


def _lines(file: io.TextIOBase) -> Iterator[tuple[int, str]]:
    """Numbered lines; of a longer one than the limit, the start and enough to see it is longer."""
    number = 0
    while line := file.readline(LINE_LIMIT + 2):
        number += 1
        if len(line) > LINE_LIMIT:
            rest = line
            while rest and not rest.endswith("\n"):
                rest = file.readline(LINE_LIMIT)
        yield number, line.rstrip("\r\n")


def _txt(file: Any, name: str, field: str) -> Iterator[Row]:
    for number, line in _lines(file):
        yield line, f"{name} line {number}"


def _jsonl(file: Any, name: str, field: str) -> Iterator[Row]:
    fields: set[str] = set()
    found = False
    for number, line in _lines(file):
        value: Any = None
        if line.strip() and len(line) <= LINE_LIMIT:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict):
                value = row.get(field)
                found = found or field in row
                fields.update(islice(map(str, row), 20))
        yield ("" if not line.strip() else value), f"{name} line {number}"
    if fields and not found:
        raise _no_field(name, field, fields)


def _csv(file: Any, name: str, field: str) -> Iterator[Row]:
    with _csv_lock:
        csv.field_size_limit(LINE_LIMIT)
    reader = csv.reader(file)
    try:
        header = next(reader, [])
        if field not in header:
            raise _no_field(name, field, header)
        column = header.index(field)
        for row in reader:
            value = row[column] if column < len(row) else None
            yield (value if row else ""), f"{name} line {reader.line_num}"
    except csv.Error as error:
        raise CorpusError(f"File {name} is not readable as CSV: {_why(error)}.") from error


def _parquet(path: Path, field: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if field not in names:
                raise _no_field(path.name, field, names)
            number = 0
            for batch in file.iter_batches(batch_size=16, columns=[field]):
                for value in batch.column(0):
                    number += 1
                    yield value.as_py(), f"{path.name} row {number}"
    except pa.ArrowException as error:
        raise CorpusError(f"File {path} is not readable as Parquet: {_why(error)}.") from error


def _no_field(name: str, field: str, names: Any) -> CorpusError:
    known = ", ".join(sorted(map(str, names))[:20])
    return CorpusError(f"{name} has no column {field!r}: add :COLUMN with one of {known}.")


def _hub(name: str, field: str, split: str) -> Callable[[], Iterator[Row]]:
    """Rows of a Hub dataset, streamed."""
    path, _, revision = name.partition("@")

    def rows() -> Iterator[Row]:
        import datasets

        with _hub_errors(name, split), _quiet():
            stream = datasets.load_dataset(
                path, split=split, revision=revision or None, streaming=True
            )
            names = stream.column_names
            if names and field not in names:
                raise _no_field(name, field, names)
            if names:
                stream = stream.select_columns([field])
            for number, row in enumerate(stream):
                if not names and number == 0 and field not in row:
                    raise _no_field(name, field, row)
                yield row.get(field), f"{path} row {number}"

    return rows


@contextmanager
def _hub_errors(name: str, split: str) -> Iterator[None]:
    """What `datasets` raises, as one sentence."""
    try:
        yield
    except CorpusError:
        raise
    except Exception as error:
        text = f"{type(error).__name__} {error}"
        if "DatasetNotFound" in text or "RepositoryNotFound" in text or "404" in text:
            message = f"There is no dataset {name!r} on the Hub, or it is private: check its name."
        elif "gated" in text.lower() or "401" in text or "403" in text:
            message = f"Dataset {name} is gated: log in with `hf auth login` and accept its terms."
        elif "split" in text.lower():
            message = f"Dataset {name} has no split {split!r}: choose another with --split."
        elif "onfig name is missing" in text or "BuilderConfig" in text:
            message = f"Dataset {name} has several configurations, which are not supported yet."
        elif any(word in text for word in ("Connect", "Offline", "Timeout", "resolve", "reach")):
            message = f"The Hub cannot be reached for {name}: check the network, or use a file."
        else:
            message = f"Dataset {name} cannot be read: {_why(error)}."
        raise CorpusError(message) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of `datasets` meanwhile."""
    from datasets.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _why(error: BaseException) -> str:
    """The first line of what an error says."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).strip().splitlines()[0].rstrip(".")[:200]
