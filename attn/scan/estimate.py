"""An estimate of a scan: a second of it is run, timed, and its results weighed.

The corpus is read and tokenized for a second and counted for another, so the tokens of a short one
are known and those of a long one are scaled up. Some of its windows, drawn at random, then go
through the model and the tallies of the scan until a second has passed; one layer of what they
gave is written as the index would be. What grows with the corpus is scaled from there: lists of
pairs until they are full, token tables with the number of different tokens.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from attn.corpus.corpus import Corpus, Document
from attn.errors import ScanError
from attn.index.documents import read_documents, read_vocabulary
from attn.index.format import FROM_CORPUS, VOCABULARY, layer_file
from attn.index.repeats import Repeats
from attn.models.session import ModelSession
from attn.scan.batches import Entry
from attn.scan.forward_pass import BATCH_TOKENS, batches, scan_batch, tallies_of
from attn.scan.layer_files import Windows, write_layer
from attn.scan.partials import LayerPart, Table, to_tensors
from attn.scan.plan import Plan
from attn.scan.windows import entry_of, tokenize

SECONDS = 1.0  # for each step: tokenizing, counting on, running the model
_WINDOWS = 4096  # the most windows that are tried
_LETTERS = 5  # letters of a token, about: text beyond a document's first window is not tokenized
_FEW = 8  # the fewest windows whose sizes can be scaled
_PATIENCE = 8  # how many times SECONDS those few may take
_HEAD = 1200  # bytes of a head in heads.parquet

Say = Callable[[str], None]


@dataclass(frozen=True)
class Estimate:
    """What a scan is likely to take.

    ``documents`` and ``tokens`` it will read; ``more`` whether the corpus has more documents, in
    unknown number; ``seconds`` of work; ``size`` bytes of the index; ``room``
    bytes that its shards take beside it until it is done; ``pace`` tokens a second, measured over
    ``measured`` tokens in ``took`` seconds on ``device``.
    """

    documents: int
    tokens: int
    more: bool
    seconds: float
    size: int
    room: int
    pace: float
    measured: int
    took: float
    device: str


def estimate(
    session: ModelSession, corpus: Corpus, plan: Plan | None = None, say: Say | None = None
) -> Estimate:
    """Run a second of a scan and scale it up. It takes a few seconds and leaves no files.

    ``say`` is called with what is being done; an error that it raises ends the estimate. Otherwise
    it raises the errors of a scan.
    """
    plan, tell = plan or Plan(), say or (lambda _: None)
    plan.check_numbers()
    plan = plan.check(session)
    with tempfile.TemporaryDirectory(prefix="attn-") as temporary:
        folder = Path(temporary)
        tell("Reading the first documents")
        read = _Read(corpus, plan)
        writer, _ = tokenize(session, read.part(), plan, 0, folder, lambda _: None)
        tell("Counting documents")
        documents, times, more = read.rest()
        tokens = round(writer.tokens * times)
        run = _Run(session, plan, folder, tell)
        tell("Writing a layer of an index")
        return run.estimate(_Words.read(folder, writer.tokens), documents, tokens, more)


class _Read:
    """The part of a corpus that can be read in a second, and the size of the rest."""

    def __init__(self, corpus: Corpus, plan: Plan) -> None:
        self._corpus, self._rest = corpus, iter(corpus)
        self._most = None if plan.all_windows else plan.ctx * _LETTERS
        self._documents = self._letters = 0

    def _next(self) -> Iterator[Document]:
        """The documents that can be read in a second."""
        end = time.monotonic() + SECONDS
        for document in self._rest:
            self._documents += 1
            self._letters += len(document.text[: self._most])
            yield document
            if time.monotonic() > end:
                return

    def part(self) -> Corpus:
        """The documents that can be tokenized in a second, at least one."""
        return Corpus(self._corpus.name, lambda: ((one.source, one.text) for one in self._next()))

    def rest(self) -> tuple[int, float, bool]:
        """Documents of the corpus, at most; how many times the tokens of the part it has; more.

        More: whether it goes on after these, and nobody knows how far.
        """
        letters = self._letters
        for _ in self._next():
            pass
        documents = self._documents
        if next(self._rest, None) is None:
            return documents, self._letters / letters, False
        total = max(self._corpus.total or 0, documents)
        return total, self._letters / letters * total / documents, self._corpus.total is None


@dataclass(frozen=True, eq=False)
class _Words:
    """How often each token of what was read occurs there, ``counts`` (token,)."""

    counts: np.ndarray

    @classmethod
    def of(cls, counts: Sequence[float] | np.ndarray) -> _Words:
        """From the counts themselves."""
        return cls(np.array(counts, np.float64))

    @classmethod
    def read(cls, folder: Path, tokens: int) -> _Words:
        """From vocabulary.parquet, scaled to the ``tokens`` of all windows, which may overlap."""
        counts = pq.read_table(folder / VOCABULARY, columns=["count"])["count"].to_numpy()
        return cls.of(counts * (tokens / counts.sum()))

    @property
    def tokens(self) -> float:
        """Tokens that were read."""
        return float(self.counts.sum())

    def different(self, tokens: float) -> float:
        """Different tokens among so many: of a random part of what was read, or beyond it."""
        share = tokens / self.tokens
        if share <= 1:
            return float((1 - (1 - share) ** self.counts).sum())
        half, whole = self.different(self.tokens / 2), len(self.counts)
        return float(whole * (whole / half) ** np.log2(share))

    def listed(self, tokens: float, pairs: float, limit: int) -> float:
        """Pairs in a head's token lists where each occurrence of a token has so many ``pairs``."""
        share = tokens / self.tokens
        seen = 1 - (1 - min(share, 1.0)) ** self.counts
        known = seen * np.minimum(self.counts * share / seen * pairs, limit)
        new = max(self.different(tokens) - len(self.counts), 0)
        return float(known.sum() + new * min(pairs, limit))


def _only(part: LayerPart, seen: torch.Tensor) -> LayerPart:
    """A part with the tables of some tokens, ``seen`` (token,) bool."""
    tables = [
        Table(*(values[:, seen] for values in (one.pairs, one.mass, one.maximum)))
        for one in (part.sources, part.destinations)
    ]
    return replace(
        part,
        tokens=part.tokens[seen],
        uniform=part.uniform[seen],
        sources=tables[0],
        destinations=tables[1],
    )


def _enough(windows: int, seconds: float) -> bool:
    """Whether a second has passed, and windows enough to judge by unless they take long."""
    return seconds > SECONDS and (windows >= _FEW or seconds > _PATIENCE * SECONDS)


class _Run:
    """A second of a scan: windows drawn at random and what their tallies hold.

    ``tokens`` in the tallies; ``timed`` of them took ``seconds``.
    """

    def __init__(self, session: ModelSession, plan: Plan, folder: Path, say: Say) -> None:
        self._session, self._plan, self._folder = session, plan, folder
        numbers = {token: i for i, token in enumerate(read_vocabulary(folder))}
        records = islice((record for some in read_documents(folder) for record in some), _WINDOWS)
        repeats = Repeats.read(folder)
        entries = [
            entry_of(record, place, numbers, repeats, plan) for place, record in enumerate(records)
        ]
        tokens = torch.tensor(sorted({token for entry in entries for token in entry.tokens}))
        self._tallies, self._vocabulary = tallies_of(session, plan, len(numbers)), len(numbers)
        random.Random(0).shuffle(entries)
        say("Running the model for a second")
        self._read(entries[:1], tokens)  # compiles what is compiled once
        self.tokens = self.timed = done = 0
        self.seconds = whole = 0.0
        some = 1
        while done < len(entries) and not _enough(done, whole):
            say("Running the model for a second")
            begin, piece = time.monotonic(), entries[done : done + some]
            self._read(piece, tokens if not done else None)
            took, read = time.monotonic() - begin, sum(len(entry.ids) for entry in piece)
            if read >= self.timed:  # a scan's batches are large: the largest piece tells most
                self.timed, self.seconds = read, took
            self.tokens += read
            whole += took
            done, some = done + len(piece), 2 * some
        occurs = Counter(token for entry in entries[:done] for token in entry.tokens)
        self._words = _Words.of([*occurs.values()])
        seen = torch.isin(tokens, torch.tensor([*occurs]))
        self._shard = [_only(tally.finish(0), seen) for tally in self._tallies]

    def _read(self, entries: Sequence[Entry], fresh: torch.Tensor | None) -> None:
        """Tally windows; ``fresh`` begins anew, with these tokens."""
        if fresh is not None:
            for tally in self._tallies:
                tally.start(fresh)
        try:
            for batch in batches(entries, BATCH_TOKENS):
                scan_batch(self._session, self._plan, self._tallies, batch)
        except torch.OutOfMemoryError as error:
            raise ScanError(
                f"The memory of {self._session.device} does not hold a few windows of "
                f"{self._plan.ctx} tokens: lower --ctx, or use --dtype bfloat16."
            ) from error

    def estimate(self, words: _Words, documents: int, tokens: int, more: bool) -> Estimate:
        """What as much work as this tells of a whole scan."""
        session = self._session
        layers = session.n_layers - len(session.without_attention)
        part = next(p for i, p in enumerate(self._shard) if i not in session.without_attention)
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(dir=self._folder) as written:
            windows = Windows.read(self._folder)
            causal = not session.bidirectional
            write_layer(Path(written), 0, part, windows, self._vocabulary, causal)
            took = time.monotonic() - begin
            weights = {
                kind: (Path(written) / layer_file(kind, 0)).stat().st_size
                for kind in ("examples", "tokens", "pairs")
            }
        now, then = self._rows(part, self._words, self.tokens), self._rows(part, words, tokens)
        layer = sum(weight * then[kind] / max(now[kind], 1) for kind, weight in weights.items())
        texts = sum((self._folder / name).stat().st_size for name in FROM_CORPUS)
        size = layer * layers + texts * tokens / words.tokens + _HEAD * layers * session.n_heads
        pace = self.timed / self.seconds
        return Estimate(
            documents,
            tokens,
            more,
            tokens / pace + took * layers * layer / sum(weights.values()),
            round(size),
            round(self._room(part, words, documents, tokens) * layers),
            pace,
            self.timed,
            self.seconds,
            session.device,
        )

    def _rows(self, part: LayerPart, words: _Words, tokens: float) -> dict[str, float]:
        """Rows of a layer's three files once so many tokens are read, which ``words`` tells of."""
        heads, scale = self._session.n_heads, tokens / self.tokens
        listed = self._listed(part, tokens)
        pairs = float((part.pairs + part.rows).sum()) * scale
        each = float(part.pairs.sum()) / heads / self.tokens  # pairs of a token's occurrence
        limit = self._plan.per_token
        known = self._words.listed(self.tokens, each, limit) * heads
        best = words.listed(tokens, each, limit) * heads * len(part.best) / max(known, 1)
        different = words.different(tokens) * heads
        return {
            "examples": min(listed, pairs),
            "tokens": different,
            "pairs": min(best, different * limit),
        }

    def _listed(self, part: LayerPart, tokens: float) -> float:
        """Entries of a layer's lists once so many tokens are read: each list fills up."""
        limits = self._plan.limits.groups(self._session.n_heads)
        found = torch.bincount(part.kept.group, minlength=len(limits))
        then = torch.minimum(found * (tokens / self.tokens), limits)
        return float(torch.where(found < limits, then, limits).sum())  # full soon: full before

    def _room(self, part: LayerPart, words: _Words, documents: int, tokens: int) -> float:
        """Bytes of one layer in all shards."""
        shards = -(-documents // self._plan.shard)
        in_shard = tokens / shards
        now, then = self._rows(part, self._words, self.tokens), self._rows(part, words, in_shard)
        kept = self._listed(part, in_shard) / max(len(part.kept), 1)
        more = {
            "kept": kept,
            "best": then["pairs"] / max(now["pairs"], 1),
            "sources": then["tokens"] / now["tokens"],
            "destinations": then["tokens"] / now["tokens"],
        }
        return shards * sum(
            tensor.numel() * tensor.element_size() * more.get(name.split(".")[0], 1)
            for name, tensor in to_tensors(part).items()
        )
