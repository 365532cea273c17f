"""The orchestrator: corpus → tokens → patterns, a layer at a time → tallies → an index.

The corpus is read once, tokenized into documents.parquet; the model then runs over that file a
row group at a time, so memory does not grow with the corpus. The index's folder is named by the
hash of everything that decides its content; a scan that finds its folder there has nothing to do.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attn.config import settings
from attn.corpus import Corpus
from attn.errors import EmptyCorpus, ScanError
from attn.metrics import measure_random
from attn.model import ModelSession, Reading
from attn.store import (
    FORMAT,
    MANIFEST,
    DocumentWriter,
    HeadPairs,
    Record,
    read_documents,
    read_manifest,
    write_heads,
    write_layer,
    write_manifest,
)
from attn.tally import FIXED, LISTS, ROW_METRICS, Batch, LayerTally

BATCH_TOKENS = 2048  # tokens in a batch, padding included


@dataclass(frozen=True)
class Plan:
    """What a scan counts and keeps.

    ``ctx`` tokens of a document that are scanned, the BOS included; ``bos`` whether documents
    begin with it (None: where the tokenizer has one); ``min_row`` first row counted; ``top`` pairs
    that each ranking keeps a head; ``sample`` pairs kept at random; ``seed`` of the sample;
    ``skip_first`` leaves the first source out of the lists.
    """

    ctx: int = 128
    bos: bool | None = None
    min_row: int = 10
    top: int = 100
    sample: int = 100
    seed: int = 0
    skip_first: bool = True

    def check(self, session: ModelSession) -> Plan:
        """The plan with ``bos`` decided; raises :class:`ScanError` where the model cannot do it."""
        if not 2 <= self.ctx <= min(session.n_ctx, 65536):
            raise ScanError(
                f"--ctx {self.ctx} does not fit: {session.name} takes 2 to {session.n_ctx} tokens."
            )
        if not 0 <= self.min_row < self.ctx:
            raise ScanError(
                f"--min-row {self.min_row} leaves no row of {self.ctx} tokens: lower it."
            )
        if self.top < 1 or self.sample < 1:
            raise ScanError("--top and --sample are at least 1.")
        if not 0 <= self.seed < 2**63:
            raise ScanError("--seed is a whole number from 0.")
        if self.bos and not session.has_bos:
            raise ScanError(f"The tokenizer of {session.name} has no BOS token: use --no-bos.")
        bos = session.has_bos if self.bos is None else self.bos
        return Plan(**{**asdict(self), "bos": bos})


@dataclass(frozen=True)
class Progress:
    """How far a scan is: ``stage`` in words, documents done and in all, tokens done, seconds."""

    stage: str
    documents: int
    total: int | None
    tokens: int
    seconds: float


Report = Callable[[Progress], None]


def scan(
    session: ModelSession,
    corpus: Corpus,
    plan: Plan | None = None,
    *,
    out: Path | None = None,
    progress: Report | None = None,
) -> Path:
    """Scan a corpus and return the folder of its index, inside ``out`` or the settings' folder.

    Nothing is done twice: where the index of the same input exists, its folder is returned. The
    folder appears only when it is complete. Raises :class:`ScanError`, :class:`EmptyCorpus`.
    """
    plan = (plan or Plan()).check(session)
    parent = out or settings().indexes
    parent.mkdir(parents=True, exist_ok=True)
    report = progress or (lambda _: None)
    with tempfile.TemporaryDirectory(prefix=".scan-", dir=parent) as temporary:
        work = Path(temporary) / "index"
        work.mkdir()
        documents, notices = _tokenize(session, corpus, plan, work, report)
        values = _values(session, corpus, plan, documents) | {"notices": notices}
        folder = parent / _folder_name(values)
        if (folder / MANIFEST).exists():
            read_manifest(folder)
            return folder
        tallies = _run(session, plan, work, documents, report)
        rows = _write(session, plan, work, tallies)
        write_manifest(work, rows=rows, **values)
        _publish(work, folder)
    return folder


def _tokenize(
    session: ModelSession, corpus: Corpus, plan: Plan, work: Path, report: Report
) -> tuple[DocumentWriter, tuple[str, ...]]:
    """Write documents.parquet; returns its writer, closed, and notices of what was left out."""
    start, writer, short = time.monotonic(), DocumentWriter(work), 0
    for document in corpus:
        tokens = session.encode(document.text, plan.bos, plan.ctx)
        if len(tokens) < 2:
            short += 1
            continue
        writer.add(
            Record(
                document.place,
                0,
                document.id,
                document.source,
                tokens.truncated,
                tokens.ids.tolist(),
                list(tokens.texts),
            )
        )
        seconds = time.monotonic() - start
        report(Progress("Reading", writer.documents, corpus.total, writer.tokens, seconds))
    writer.close()
    if not writer.documents:
        raise EmptyCorpus(f"The corpus {corpus.name} has no document of two tokens or more.")
    notices = [*corpus.notices]
    if short:
        notices.append(f"Skipped {short} documents of fewer than two tokens.")
    return writer, tuple(notices)


def _values(
    session: ModelSession, corpus: Corpus, plan: Plan, documents: DocumentWriter
) -> dict[str, Any]:
    """The manifest's values; ``identity`` hashes all that decides what the index holds."""
    decisive: dict[str, Any] = {
        "model": session.name,
        "revision": session.revision,
        "weights": session.weights,
        "dtype": session.dtype,
        "fingerprint": documents.fingerprint,
        "n_layers": session.n_layers,
        "n_heads": session.n_heads,
        "bidirectional": session.bidirectional,
        **asdict(plan),
    }
    text = json.dumps({"format": FORMAT, **decisive}, sort_keys=True)
    return decisive | {
        "identity": hashlib.sha256(text.encode()).hexdigest(),
        "corpus": corpus.name,
        "docs": corpus.docs,
        "documents": documents.documents,
        "tokens": documents.tokens,
        "groups": tuple(documents.groups),
    }


def _folder_name(values: dict[str, Any]) -> str:
    model = re.sub(r"[^A-Za-z0-9.-]+", "-", Path(values["model"]).name)[:40]
    corpus = re.sub(r"[^A-Za-z0-9.-]+", "-", Path(values["corpus"]).name)[:40]
    return f"{model}_{corpus}_{values['identity'][:12]}"


def _batches(records: list[Record]) -> Iterator[list[Record]]:
    """Documents of like length together, at most BATCH_TOKENS with padding."""
    batch: list[Record] = []
    for record in sorted(records, key=lambda r: (len(r.ids), r.document, r.start)):
        if batch and len(record.ids) * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(record)
    yield batch


def _run(
    session: ModelSession, plan: Plan, work: Path, documents: DocumentWriter, report: Report
) -> list[LayerTally]:
    """Run the model over documents.parquet and tally every layer."""
    limits = [plan.sample if name == "sample" else plan.top for name in LISTS]
    tallies = [
        LayerTally(
            session.n_heads,
            plan.ctx,
            limits,
            min_row=plan.min_row,
            skip_first=plan.skip_first,
            device=session.device,
        )
        for _ in range(session.n_layers)
    ]
    start, done, tokens = time.monotonic(), 0, 0
    for records in read_documents(work):
        for some in _batches(records):
            batch = Batch.make(
                [record.ids for record in some],
                [record.document for record in some],
                [int(record.id[:15], 16) for record in some],
                plan.seed,
                session.device,
            )

            def reduce(reading: Reading, batch: Batch = batch) -> None:
                tallies[reading.layer].add(reading.pattern, reading.visible, batch)

            session.observe(batch.ids, reduce, lengths=batch.lengths.tolist())
            done += len(some)
            tokens += sum(len(record.ids) for record in some)
            seconds = time.monotonic() - start
            report(Progress("Scanning", done, documents.documents, tokens, seconds))
    return tallies


def _write(session: ModelSession, plan: Plan, work: Path, tallies: list[LayerTally]) -> int:
    """Write heads.parquet and the examples of every layer; returns the rows counted a head."""
    columns: dict[str, np.ndarray] = {
        name: np.stack([getattr(tally, name).cpu().numpy() for tally in tallies])
        for name in ("rows", "pairs", "nonfinite")
    }
    rows = np.maximum(columns["rows"], 1)
    for i, name in enumerate(ROW_METRICS):
        sums = np.stack([tally.sums[i].cpu().numpy() for tally in tallies])
        columns[name] = np.where(columns["rows"] > 0, sums / FIXED / rows, np.nan)
    columns |= measure_random(session, seed=plan.seed)
    write_heads(work, columns)
    needed = {int(place) >> 32 for tally in tallies for place in tally.kept.place.tolist()}
    texts = {
        record.document: record.texts
        for records in read_documents(work)
        for record in records
        if record.document in needed
    }
    for layer, tally in enumerate(tallies):
        write_layer(work, layer, _head_pairs(tally, texts, session.bidirectional))
    return int(columns["rows"].max())


def _head_pairs(
    tally: LayerTally, shown: dict[int, list[str]], bidirectional: bool
) -> list[HeadPairs]:
    """The lists of every head of a layer, each pair once; ``shown`` the documents' token texts."""
    kept = tally.kept
    group, place = kept.group.cpu().numpy(), kept.place.cpu().numpy()
    order_of = {
        "multiple": kept.multiple.cpu().numpy(),
        "attention": kept.attention.cpu().numpy(),
        "rows": kept.rows.cpu().numpy(),
    }
    heads = []
    for head in range(tally.n_heads):
        mine = np.flatnonzero(group % tally.n_heads == head)
        places, first = np.unique(place[mine], return_index=True)
        index = mine[first]
        falling = np.lexsort((places, -order_of["multiple"][index]))
        places, index = places[falling], index[falling]
        position = {int(p): i for i, p in enumerate(places)}
        ranks = {}
        for kind, name in enumerate(LISTS):
            rank = np.full(len(places), -1, np.int32)
            members = place[group == kind * tally.n_heads + head]  # by rank already
            rank[[position[int(p)] for p in members]] = np.arange(len(members))
            ranks[name] = rank
        document, dst, src = places >> 32, (places >> 16) & 0xFFFF, places & 0xFFFF
        texts = [shown[int(d)] for d in document]
        ends = [len(t) if bidirectional else int(d) + 1 for t, d in zip(texts, dst, strict=True)]
        rows = order_of["rows"][index]
        heads.append(
            HeadPairs(
                document,
                dst,
                src,
                order_of["multiple"][index],
                order_of["attention"][index],
                ranks,
                [row[:end] for row, end in zip(rows, ends, strict=True)],
                [t[s] for t, s in zip(texts, src, strict=True)],
            )
        )
    return heads


def _publish(work: Path, folder: Path) -> None:
    """Give a finished index its name; when another scan was first, its index is the same."""
    try:
        os.rename(work, folder)
    except OSError:
        if not (folder / MANIFEST).exists():
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(work, folder)
