"""The orchestrator: corpus → tokens → patterns, a layer at a time → tallies → shards → an index.

The corpus is read once, tokenized into documents.parquet; the model then runs over that file a
shard at a time, so memory does not grow with the corpus. The index's folder is named by the hash of
everything that decides its content; a scan that finds its folder there has nothing to do, and one
that finds shards of it there goes on from them.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from attn.assembly import write_index
from attn.attention import Reading
from attn.batch import Batch, Entry
from attn.calling import make_callable
from attn.config import settings
from attn.corpus import Corpus
from attn.errors import EmptyCorpus, ScanError
from attn.heads import Tokens
from attn.model import ModelSession
from attn.parts import LayerPart, Limits, merge
from attn.publishing import index_folder, publish, ready
from attn.repeated import measure_random
from attn.shards import READING, Shards, failing_in_words, remove_old, take_over
from attn.store import (
    DOCUMENTS,
    VOCABULARY,
    DocumentWriter,
    Record,
    described,
    read_documents,
    read_vocabulary,
)
from attn.tally import LayerTally
from attn.texts import duration
from attn.weights import measure_weights

BATCH_TOKENS = 2048  # tokens in a batch, padding included


@dataclass(frozen=True)
class Plan:
    """What a scan counts and keeps.

    ``ctx`` tokens of a window, the BOS included; ``bos`` whether windows begin with it (None: where
    the tokenizer has one); ``min_row`` first row counted; ``top`` pairs that each ranking keeps a
    head; ``sample`` pairs, and rows, kept at random; ``seed`` of the samples; ``skip_first`` leaves
    the first source out of the lists; ``band`` pairs kept at random of each band of attention;
    ``per_token`` pairs kept of each source token, 0 for none; ``write`` whether write scores are
    kept; ``all_windows`` whether the rest of a long document is scanned too, in windows that begin
    every ``stride`` tokens (None: one after the other); ``shard`` documents done at a time.
    """

    ctx: int = 128
    bos: bool | None = None
    min_row: int = 10
    top: int = 100
    sample: int = 100
    seed: int = 0
    skip_first: bool = True
    band: int = 40
    per_token: int = 10
    write: bool = False
    all_windows: bool = False
    stride: int | None = None
    shard: int = 64

    def check(self, session: ModelSession) -> Plan:
        """The plan with what it left open decided; ScanError where the model cannot do it."""
        if not 2 <= self.ctx <= min(session.n_ctx, 65536):
            raise ScanError(
                f"--ctx {self.ctx} does not fit: {session.name} takes 2 to {session.n_ctx} tokens."
            )
        if self.bos and not session.has_bos:
            raise ScanError(f"The tokenizer of {session.name} has no BOS token: use --no-bos.")
        bos = session.has_bos if self.bos is None else self.bos
        room = self.ctx - int(bos)
        stride = room if self.stride is None else self.stride
        if not 1 <= stride <= room:
            raise ScanError(
                f"--stride is 1 to {room}: a window of {self.ctx} tokens holds so many."
            )
        return replace(self, bos=bos, stride=stride)

    def check_numbers(self, skip: int = 0) -> None:
        """Raise ScanError for what no model could do, before one is loaded."""
        if not 0 <= self.min_row < self.ctx:
            raise ScanError(
                f"--min-row {self.min_row} leaves no row of {self.ctx} tokens: lower it."
            )
        for name in ("top", "sample", "band", "shard"):
            if getattr(self, name) < 1:
                raise ScanError(f"--{name} is at least 1.")
        if self.per_token < 0:
            raise ScanError("--per-token is a whole number from 0.")
        if not 0 <= self.seed < 2**63:
            raise ScanError("--seed is a whole number from 0.")
        if not self.all_windows and self.stride is not None:
            raise ScanError("--stride goes with --windows all.")
        if skip % self.shard:
            raise ScanError(f"--skip is a multiple of --shard, which is {self.shard} documents.")

    @property
    def limits(self) -> Limits:
        """What the lists keep."""
        return Limits(self.top, self.sample, self.band, self.per_token, self.write)


@dataclass(frozen=True)
class Progress:
    """How far a scan is: ``stage`` in words, documents done and in all, tokens done, seconds.

    A stage without documents has ``total`` 0. ``found`` of the documents were done by an earlier
    scan; tokens and seconds are this one's.
    """

    stage: str
    documents: int
    total: int | None
    tokens: int
    seconds: float
    found: int = 0

    @property
    def share(self) -> float:
        """What of the stage is done, 0 to 1; 0 where nobody knows."""
        return self.documents / self.total if self.total else 0.0

    @property
    def left(self) -> float | None:
        """Seconds that the rest of the stage takes at the pace so far; None: nobody knows."""
        done = self.documents - self.found
        if not self.total or done <= 0:
            return None
        return self.seconds * (self.total - self.documents) / done

    @property
    def detail(self) -> str:
        """Documents, speed and time left, like "64/272 documents · 320 tokens/s · 3 min left"."""
        if self.total == 0:
            return ""
        of = f"/{self.total:,}" if self.total else ""
        speed = f" · {self.tokens / max(self.seconds, 1e-9):,.0f} tokens/s" if self.tokens else ""
        left = f" · {duration(self.left)} left" if self.left else ""
        return f"{self.documents:,}{of} documents{speed}{left}"


Report = Callable[[Progress], None]


def scan(
    session: ModelSession,
    corpus: Corpus,
    plan: Plan | None = None,
    *,
    skip: int = 0,
    out: Path | None = None,
    progress: Report | None = None,
) -> Path:
    """Scan a corpus and return the folder of its index, inside ``out`` or the settings' folder.

    ``skip`` leaves out the first documents of the corpus: the index of a part, for
    :func:`attn.merging.merge_indexes`. Nothing is done twice: where the index of the same input
    exists, its folder is returned, and shards that an earlier scan left are used. The folder
    appears only when it is complete. Raises :class:`ScanError`, :class:`EmptyCorpus`.

    ``attn.scan`` is this module, which calls this function: ``attn.scan.Plan`` is there too.

    >>> corpus = attn.load_corpus("sample", docs=3)
    >>> folder = attn.scan(model, corpus, attn.scan.Plan(ctx=32))
    >>> attn.Index.open(folder).manifest.documents
    3
    """
    plan = plan or Plan()
    plan.check_numbers(skip)
    plan = plan.check(session)
    parent = out or settings().indexes
    report = progress or (lambda _: None)
    with failing_in_words(parent):
        parent.mkdir(parents=True, exist_ok=True)
    remove_old(parent)
    with (
        failing_in_words(parent),
        tempfile.TemporaryDirectory(prefix=READING, dir=parent) as temporary,
    ):
        fresh = Path(temporary) / "scan"
        fresh.mkdir()
        documents, short = tokenize(session, corpus, plan, skip, fresh, report)
        values = _values(session, corpus, plan, skip, short, documents)
        folder = parent / index_folder(values)
        work = parent / f".scan-{values['identity'][:16]}"
        if ready(folder):
            shutil.rmtree(work, ignore_errors=True)  # of a scan that was killed at its very end
            return folder
        take_over(fresh, work)
    with failing_in_words(parent):
        try:
            _scan_shards(session, plan, work, documents, report)
            index = work / f"index-{uuid.uuid4().hex}"
            try:
                report(Progress("Measuring the weights", 0, 0, 0, 0.0))
                of_model = measure_random(session, seed=plan.seed) | measure_weights(session)
                _assemble(plan, work, index, of_model, values, report)
                publish(index, folder)
            finally:
                shutil.rmtree(index, ignore_errors=True)
        except (OSError, pa.ArrowException):
            if not ready(folder):  # else another scan has made it meanwhile, and tidied up
                raise
    shutil.rmtree(work, ignore_errors=True)
    return folder


def tokenize(
    session: ModelSession, corpus: Corpus, plan: Plan, skip: int, work: Path, report: Report
) -> tuple[DocumentWriter, int]:
    """Write documents.parquet and vocabulary.parquet, of documents of two tokens or more.

    Returns their writer, and how many documents were too short.
    """
    start, writer, short = time.monotonic(), DocumentWriter(work, plan.min_row), 0
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


def _windows(session: ModelSession, text: str, plan: Plan) -> Iterator[tuple[int, Tokens]]:
    """The windows of a document: where each begins in its tokens, and its tokens."""
    if not plan.all_windows:
        tokens = session.encode(text, plan.bos, plan.ctx)
        if len(tokens) >= 2:
            yield 0, tokens
        return
    whole, first = session.encode(text, plan.bos), int(bool(plan.bos))
    room, n = plan.ctx - first, len(whole) - first
    assert plan.stride is not None
    for begin in range(0, max(n, 1), plan.stride):
        if begin and begin - plan.stride + room >= n:  # the window before reached the end
            return
        places = [*range(first), *range(first + begin, first + min(begin + room, n))]
        if len(places) >= 2:
            texts = tuple(whole.texts[i] for i in places)
            yield begin, Tokens(whole.ids[places], texts, begin + room < n)


def _values(
    session: ModelSession,
    corpus: Corpus,
    plan: Plan,
    skip: int,
    short: int,
    documents: DocumentWriter,
) -> dict[str, Any]:
    """The manifest's values; ``identity`` hashes all that decides what the index holds."""
    values = {
        "model": session.name,
        "revision": session.revision,
        "weights": session.weights,
        "dtype": session.dtype,
        "n_layers": session.n_layers,
        "n_heads": session.n_heads,
        "bidirectional": session.bidirectional,
        "without_attention": session.without_attention,
        **asdict(plan),
        "corpus": corpus.name,
        "skip": skip,
        "docs": None if corpus.docs is None else corpus.docs - skip,
        "short": short,
        "notices": tuple(corpus.notices),
    }
    return values | described(values, documents)


def _scan_shards(
    session: ModelSession, plan: Plan, work: Path, documents: DocumentWriter, report: Report
) -> None:
    """Run the model over documents.parquet, a shard at a time, but for what is done already."""
    shards, numbers = Shards(work), {text: i for i, text in enumerate(read_vocabulary(work))}
    tallies = tallies_of(session, plan, len(numbers))
    clock = _Clock(documents.documents, report)
    size = BATCH_TOKENS
    for number, windows in _by_shard(work, plan.shard):
        done = {record.document for _, record in windows}
        found = shards.committed(number)
        if not found:
            entries = [entry_of(record, place, numbers) for place, record in windows]
            size = _scan_shard(session, plan, tallies, len(numbers), entries, size, clock)
            shards.commit(number, [tally.finish(number) for tally in tallies])
        clock.shard_done(len(done), found=found)


def tallies_of(session: ModelSession, plan: Plan, vocabulary: int) -> list[LayerTally]:
    """A tally a layer, with nothing counted; ``vocabulary`` the number of different tokens."""
    return [
        LayerTally(
            session.n_heads,
            plan.ctx,
            vocabulary,
            plan.limits,
            skip_first=plan.skip_first,
            causal=not session.bidirectional,
            device=session.device,
        )
        for _ in range(session.n_layers)
    ]


class _Clock:
    """Reports how far a scan is; what it says only grows, though a shard may begin again."""

    def __init__(self, total: int, report: Report) -> None:
        self._total, self._report = total, report
        self._start = time.monotonic()
        self._before = self._done = self._tokens = self._found = 0
        self._tell(0)

    def batch_done(self, documents: int, tokens: int) -> None:
        """So many documents of the shard at hand are done, and so many tokens since the last."""
        self._tokens += tokens
        self._tell(self._before + documents)

    def shard_done(self, documents: int, *, found: bool) -> None:
        """A shard of so many documents is done, or was ``found`` done."""
        self._before += documents
        self._found += documents * found
        self._tell(self._before)

    def _tell(self, documents: int) -> None:
        self._done = min(max(self._done, documents), self._total)
        seconds = time.monotonic() - self._start
        self._report(
            Progress("Scanning", self._done, self._total, self._tokens, seconds, self._found)
        )


def _by_shard(work: Path, size: int) -> Iterator[tuple[int, list[tuple[int, Record]]]]:
    """(shard, its windows with their numbers), in order; a shard is a fixed range of documents."""
    records = enumerate(record for some in read_documents(work) for record in some)
    for number, some in groupby(records, lambda pair: pair[1].document // size):
        yield number, list(some)


def entry_of(record: Record, place: int, numbers: dict[str, int]) -> Entry:
    """A window to tally: the ``place``-th; ``numbers`` token text → its number."""
    tokens = [numbers[text] for text in record.texts]
    return Entry(record.ids, record.texts, tokens, place, record.document, record.key)


def _scan_shard(
    session: ModelSession,
    plan: Plan,
    tallies: list[LayerTally],
    vocabulary: int,
    entries: list[Entry],
    size: int,
    clock: _Clock,
) -> int:
    """Tally a shard; returns the batch size in tokens, halved as often as memory ran out."""
    tokens = torch.tensor(sorted({token for entry in entries for token in entry.tokens}))
    while True:
        for tally in tallies:
            tally.start(tokens)
        try:
            done: set[int] = set()
            for some in batches(entries, size):
                scan_batch(session, plan, tallies, some)
                done |= {entry.document for entry in some}
                clock.batch_done(len(done), sum(len(entry.ids) for entry in some))
        except torch.OutOfMemoryError as error:
            if size < max(len(entry.ids) for entry in entries):
                raise ScanError(
                    f"The memory of {session.device} does not hold one window of {plan.ctx} "
                    f"tokens: lower --ctx, or use --dtype bfloat16 or --device cpu."
                ) from error
            size //= 2
            # Other batches give other last bits, which what the lists ask for must not rest on.
            tallies.clear()
            tallies.extend(tallies_of(session, plan, vocabulary))
            torch.cuda.empty_cache()
            continue
        return size


def scan_batch(
    session: ModelSession, plan: Plan, tallies: list[LayerTally], entries: list[Entry]
) -> None:
    """Run the model over windows and tally every layer's pattern."""
    batch = Batch.make(entries, min_row=plan.min_row, seed=plan.seed, device=session.device)

    def reduce(reading: Reading) -> None:
        tallies[reading.layer].add(reading.pattern, reading.visible, batch, reading.norms)

    session.observe(batch.ids, reduce, lengths=batch.lengths.tolist(), norms=plan.write)


def batches(entries: Sequence[Entry], size: int) -> Iterator[list[Entry]]:
    """Windows of like length together, at most ``size`` tokens with padding."""
    batch: list[Entry] = []
    for entry in sorted(entries, key=lambda entry: (len(entry.ids), entry.window)):
        if batch and len(entry.ids) * (len(batch) + 1) > size:
            yield batch
            batch = []
        batch.append(entry)
    yield batch


def _assemble(
    plan: Plan,
    work: Path,
    index: Path,
    of_model: Mapping[str, np.ndarray],
    values: dict[str, Any],
    report: Report,
) -> None:
    """Merge all shards into an index."""
    index.mkdir()
    for name in (DOCUMENTS, VOCABULARY):
        shutil.copyfile(work / name, index / name)
    shards, numbers = Shards(work), [number for number, _ in _by_shard(work, plan.shard)]

    def part_of(layer: int) -> LayerPart:
        report(Progress("Writing the index", 0, 0, 0, 0.0))
        whole: LayerPart | None = None
        for number in numbers:
            part = shards.layer(number, layer)
            whole = part if whole is None else merge([whole, part], plan.limits)
        assert whole is not None
        return whole

    write_index(index, part_of, of_model, values)


make_callable(__name__, __name__, "scan")
