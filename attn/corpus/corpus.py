"""Streams the documents of a named corpus or a file, with stable ids. Memory stays flat.

What a corpus can be named:

    sample                       short passages in many genres, shipped with this package
    python-docs                  the topics of Python's own help, one document each
    FILE[:FIELD]                 .txt (one document a line), .jsonl, .csv, .parquet, or one of
                                 the first three with .gz added
    OWNER/NAME[/CONFIG][@REVISION][#SPLIT][:FIELD]
                                 a dataset of the Hugging Face Hub, streamed

FIELD is the column that holds the text (``text`` where none is named), SPLIT is ``train`` and
REVISION the newest commit where none is named. Where a file's own name has a colon, the longest
path that exists is the file. Lines and rows are counted from 1, as editors do.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import platform
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.resources.abc import Traversable
from itertools import chain
from pathlib import Path

from attn.corpus import hub
from attn.corpus.files import BATCH_ROWS, KINDS, LIMIT, Row, Skip, pick, read_file, too_long
from attn.errors import CorpusError, EmptyCorpus

FIELD = "text"

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Document:
    """One text of a corpus.

    ``id`` the first 16 hex digits of the SHA-256 of the text in UTF-8: the same text has the same
    id anywhere; ``place`` its place in the corpus, from 0; ``source`` what a user recognises it
    by, like ``notes.txt line 12``.
    """

    id: str
    place: int
    text: str
    source: str

    @classmethod
    def make(cls, place: int, text: str, source: str) -> Document:
        """A document with the id that its text decides."""
        return cls(hashlib.sha256(text.encode()).hexdigest()[:16], place, text, source)


class Corpus:
    """Documents in their order; iterating again reads them again.

    ``name`` makes the same corpus when given to :func:`load_corpus` with ``docs``, the limit on
    the number of documents (None: all); ``revision`` the commit of a Hub dataset or the version
    of Python whose help was read, None for a file; ``total`` how many documents to expect, None
    where that is not cheaply known (at most so many where rows may turn out to be empty).
    """

    def __init__(
        self,
        name: str,
        rows: Callable[[], Iterator[Row]],
        *,
        docs: int | None = None,
        field: str = FIELD,
        total: int | None = None,
        revision: str | None = None,
    ) -> None:
        self.name = name
        self.docs = docs
        self.revision = revision
        self.total = docs if total is None else min(total, docs or total)
        self._rows = rows
        self._field = field
        self._notices: list[str] = []
        self._ahead: list[Iterator[Document]] = []

    @property
    def notices(self) -> tuple[str, ...]:
        """What the last iteration left out or replaced, in sentences; empty before one."""
        return tuple(self._notices)

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents; raises :class:`CorpusError` where the source breaks off."""
        return self._ahead.pop() if self._ahead else self._read()

    def _read(self) -> Iterator[Document]:
        return _documents(self.name, self._rows(), self.docs, self._field, self._notices)

    def look_ahead(self) -> Corpus:
        """Read as far as the first document, which the next iteration begins with."""
        documents = self._read()
        self._ahead = [chain([next(documents)], documents)]
        return self


def load_corpus(
    name: str | os.PathLike[str] = "sample", docs: int | None = None, *, split: str | None = None
) -> Corpus:
    """The corpus of that name (see the top of this module), opened as far as its first document.

    ``docs`` keeps only the first so many documents; ``split`` names the split of a Hub dataset,
    like ``#SPLIT`` in its name. Raises :class:`CorpusError` where there is no such corpus, field
    or split, and :class:`EmptyCorpus` where it holds no text.

    >>> corpus = attn.load_corpus("sample", docs=2)
    >>> [(document.place, len(document.id)) for document in corpus]
    [(0, 16), (1, 16)]
    """
    name = os.fspath(name)
    if docs is not None and docs < 1:
        raise CorpusError(f"docs is the number of documents to keep, from 1, not {docs}.")
    return _named(name, docs, split).look_ahead()


def _named(name: str, docs: int | None, split: str | None) -> Corpus:
    found = None if name in ("sample", "python-docs") else _find_file(name)
    if split is not None and (found or name in ("sample", "python-docs")):
        raise CorpusError(f"{name} has no splits: leave the split {split!r} out.")
    if name == "sample":
        return Corpus(name, _sample, docs=docs, total=sum(1 for _ in _sample()))
    if name == "python-docs":
        version = platform.python_version()
        return Corpus(name, _topics, docs=docs, total=sum(1 for _ in _topics()), revision=version)
    if found:
        return _file_corpus(*found, docs)
    dataset = hub.HubName.parse(name)
    if dataset is None or any(part.endswith((*KINDS, ".gz")) for part in name.lower().split(":")):
        raise CorpusError(
            f"There is no corpus or file {name!r}: name sample, python-docs, a file, "
            f"or a Hub dataset like stas/openwebtext-10k."
        )
    if split is not None and dataset.split not in (None, split):
        raise CorpusError(f"{name} and the split {split!r} disagree: name one split.")
    dataset = hub.pin(replace(dataset, split=split or dataset.split))
    field = dataset.field or FIELD

    def rows() -> Iterator[Row]:
        numbered = enumerate(hub.rows(dataset, field, BATCH_ROWS), 1)
        return pick(((f"{dataset.id} row {i}", row) for i, row in numbered), field, dataset.id)

    return Corpus(str(dataset), rows, docs=docs, field=field, revision=dataset.revision)


def _find_file(name: str) -> tuple[str, str | None] | None:
    """Path and field of a name, the longest path that exists; None where there is no such file."""
    for end in [len(name), *(i for i in reversed(range(len(name))) if name[i] == ":")]:
        if os.path.isfile(os.path.expanduser(name[:end])):
            return name[:end], name[end + 1 :] if end < len(name) else None
    return None


def _file_corpus(shown: str, field: str | None, docs: int | None) -> Corpus:
    """The corpus of a file that exists; ``shown`` is its path as the user wrote it."""
    path = Path(shown).expanduser()
    kind = next((k for k in KINDS if path.name.lower().endswith(k)), None)
    if kind is None:
        raise CorpusError(f"{shown} is of no kind that can be read: use {', '.join(KINDS)}.")
    if field == "":
        raise CorpusError(f"{shown}: names no field: write one after the colon, or leave it out.")
    if field is not None and kind.startswith(".txt"):
        raise CorpusError(f"{shown} is plain text without fields: leave ':{field}' out.")
    name = shown if field in (None, FIELD) else f"{shown}:{field}"
    column = field or FIELD
    return Corpus(name, lambda: read_file(path, kind, column, shown), docs=docs, field=column)


def _documents(
    name: str, rows: Iterator[Row], docs: int | None, field: str, notices: list[str]
) -> Iterator[Document]:
    """Rows → documents; ``notices`` is filled when the rows end or the reader stops."""
    seen = kept = marked = 0
    skipped: Counter[Skip] = Counter()
    try:
        for source, value in rows:
            seen += 1
            text = _SURROGATE.sub("\ufffd", value) if isinstance(value, str) else ""
            if isinstance(value, Skip) or not text or text.isspace():
                skipped[value if isinstance(value, Skip) else Skip.EMPTY] += 1
                continue
            if len(text) > LIMIT:
                raise too_long(source)
            kept += 1
            marked += "\ufffd" in text
            yield Document.make(kept - 1, text, source)
            if kept == docs:
                break
    finally:
        reasons = ", ".join(
            f"{skipped[skip]} {skip.value}" + (f" in {field!r}" if skip is Skip.NO_TEXT else "")
            for skip in Skip
            if skipped[skip]
        )
        unit = "row" if seen == 1 else "rows"
        notices.clear()
        if skipped:
            notices.append(f"Skipped {skipped.total()} of {seen} {unit}: {reasons}.")
        if marked:
            notices.append(f"Unreadable characters stand as \ufffd in {marked} of {seen} {unit}.")
    if not kept:
        why = f"all of its {seen} {unit} were skipped ({reasons})" if seen else "it is empty"
        raise EmptyCorpus(f"{name} holds no text: {why}; name another corpus or field.")


def _sample_file() -> Traversable:
    return importlib.resources.files("attn").joinpath("corpus", "sample.jsonl")


def _sample() -> Iterator[Row]:
    try:
        with _sample_file().open("r", encoding="utf-8") as lines:
            for line in lines:
                passage = json.loads(line)
                yield f"sample: {passage['genre']}", passage["text"]
    except OSError as error:
        raise CorpusError("The sample corpus is missing: install attn again.") from error


def _topics() -> Iterator[Row]:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise CorpusError(
            "This Python comes without its help topics: install its documentation, "
            "or use another corpus."
        ) from error
    for topic, text in sorted(topics.items()):
        yield f"python-docs: {topic}", text
