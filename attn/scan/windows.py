"""Writes a corpus as windows of tokens into documents.parquet, and reads them back by shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from attn.corpus.corpus import Corpus
from attn.errors import EmptyCorpus
from attn.heads import Tokens
from attn.index.documents import (
    Described,
    DocumentWriter,
    Record,
    first_row,
    read_documents,
)
from attn.index.repeats import Repeats
from attn.models.session import ModelSession
from attn.scan.batches import Entry
from attn.scan.plan import Plan
from attn.scan.progress import Progress, Report


def tokenize(
    session: ModelSession, corpus: Corpus, plan: Plan, skip: int, work: Path, report: Report
) -> tuple[DocumentWriter, int]:
    """Write documents.parquet and vocabulary.parquet, of documents of two tokens or more.

    Returns their writer, and how many documents were too short.
    """
    start, short = time.monotonic(), 0
    writer = DocumentWriter(work, plan.min_row, plan.overlap, plan.suffix, describer(session))
    for document in corpus:
        if document.place < skip:
            continue
        windows = list(_windows(session, document.text, plan))
        short += not windows
        for begin, tokens in windows:
            writer.add(
                Record(
                    document.place,
                    begin,
                    document.id,
                    document.source,
                    tokens.truncated,
                    tokens.ids.tolist(),
                    list(tokens.texts),
                    list(tokens.words),
                )
            )
        seconds = time.monotonic() - start
        total = corpus.total and corpus.total - skip
        report(Progress("Reading", writer.documents, total, writer.tokens, seconds))
    writer.close()
    if not writer.documents:
        what = f" after the first {skip}" if skip else ""
        raise EmptyCorpus(f"The corpus {corpus.name} has no document of two tokens or more{what}.")
    return writer, short


def describer(session: ModelSession) -> Callable[[int], Described]:
    """What a token of a model's vocabulary is, by its id."""
    known = session.vocabulary
    return lambda token: Described(known.entry(token), known.name(token), known.kind(token))


def _windows(session: ModelSession, text: str, plan: Plan) -> Iterator[tuple[int, Tokens]]:
    """The windows of a document: the token at which each begins, and its tokens."""
    if not plan.all_windows:
        tokens = session.encode(text, plan.bos, plan.ctx)
        if len(tokens) >= 2 and not all(tokens.special):
            yield 0, tokens
        return
    whole, bos = session.encode_bare(text), bool(plan.bos)
    special = (len(session.prefix) + len(session.suffix)) if bos else 0
    room, n = plan.ctx - special, len(whole)
    if n < 1 or n + special < 2:
        return
    assert plan.stride is not None
    for begin in range(0, n, plan.stride):
        if begin and begin - plan.stride + room >= n:  # the previous window reached the end
            return
        part = whole.part(begin, begin + room, session.vocabulary)
        yield begin, session.with_special(part, bos, begin + room < n)


def windows_by_shard(work: Path, size: int) -> Iterator[tuple[int, list[tuple[int, Record]]]]:
    """Give (shard, its numbered windows) in order. A shard is a fixed range of documents."""
    records = enumerate(record for some in read_documents(work) for record in some)
    for number, some in groupby(records, lambda pair: pair[1].document // size):
        yield number, list(some)


def entry_of(
    record: Record, place: int, numbers: dict[int, int], repeats: Repeats, plan: Plan
) -> Entry:
    """A window to tally: the ``place``-th; ``numbers`` token id → its number."""
    tokens = [numbers[token] for token in record.ids]
    first = first_row(record.start, plan.min_row, plan.overlap)
    text = int(repeats.texts(np.array([record.document]))[0])
    return Entry(
        record.ids, record.texts, record.words, tokens, place, record.document, record.key, first,
        text, plan.suffix,
    )  # fmt: skip
