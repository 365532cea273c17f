"""A scan and what the oracle needs to judge it: shared by the tests of scans and of queries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers.convert_slow_tokenizer import bytes_to_unicode

from attn.corpus.corpus import load_corpus
from attn.heads import HeadId
from attn.index.index import Index
from attn.measure import random_tokens
from attn.measure.metrics import of_kind
from attn.models.session import ModelSession
from attn.scan.plan import Plan
from attn.scan.run import scan
from tests import oracle, oracle_tables
from tests.oracle import NEAR, Pair, Text, by_attention, by_write

CTX = 64
WRITE_METRICS = ("sink_write", "previous_write")
ROW_METRICS = (
    "self", "previous", *(f"offset_{k}" for k in range(2, 9)), "sink", "duplicate", "induction",
    "punctuation", "same_word", "entropy", "concentration", "distance",
)  # fmt: skip
DERIVED = ("prefix_matching", "entropy_share", "spread")
RANDOM_METRICS = ("induction_random", "duplicate_random", "previous_random")
HEADS = [HeadId(layer, head) for layer in range(2) for head in range(4)]


@dataclass(frozen=True)
class Scanned:
    """An index and what the oracle needs to judge it."""

    index: Index
    plan: Plan
    texts: list[Text]  # one a window
    random: list[Text]  # one a random sequence
    known: dict[HeadId, list[Pair]] = field(default_factory=dict)

    def pairs(self, head: HeadId) -> list[Pair]:
        """All pairs that are above average, or so near that they may be."""
        if head not in self.known:
            self.known[head] = oracle.pairs_above(
                self.texts,
                head.layer,
                head.head,
                min_row=self.plan.min_row,
                skip_first=self.plan.skip_first,
                least=1 - NEAR,
            )
        return self.known[head]

    def text(self, pair: Any) -> Text:
        """The window that a pair or an example is of."""
        return next(t for t in self.texts if (t.document, t.start) == (pair.document, pair.start))

    def source(self, pair: Any) -> str:
        """What the source of a pair is called."""
        return self.text(pair).names[pair.src]

    def destination(self, pair: Any) -> str:
        """What the destination of a pair is called."""
        return self.text(pair).names[pair.dst]


class Sequences:
    """Takes down the random sequences that a scan makes."""

    def __init__(self) -> None:
        self.ids: np.ndarray | None = None
        self._real = random_tokens.random_sequences

    def __call__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        self.ids = self._real(*args, **kwargs)
        return self.ids


def scanned(
    session: ModelSession, plain: Any, lines: Path, plan: Plan, out: Path, bos: bool
) -> Scanned:
    """Scan a file, one document a line, and read the same lines the plain way."""
    sequences = Sequences()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random_tokens, "random_sequences", sequences)
        folder = scan(session, load_corpus(str(lines)), plan, out=out)
    assert sequences.ids is not None
    tokenizer = session.tokenizer
    texts = []
    all_lines = lines.read_text(encoding="utf-8").splitlines()
    for place, line in enumerate(all_lines):
        ids = tokenizer(line, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        shown, words = session.encode_bare(line), oracle.words_of(tokenizer, line)
        seen: set[int] = set()  # tokens of the document that windows before had
        for start, end in windows(len(ids), plan, bos):
            first = [tokenizer.bos_token_id] if bos else []
            own = [*first, *ids[start:end]]
            if len(first + ids) < 2:
                continue
            counted = [*range(plan.min_row, len(own))]
            if start:
                counted = [dst for dst in range(bos, len(own)) if start + dst - bos not in seen]
            seen |= {*range(start, end)}
            patterns = oracle.attentions(plain, own)
            norms = oracle_tables.value_writes(plain, own) if plan.write else None
            part = shown.part(start, end, session.vocabulary)
            reads = [tokenizer.bos_token] * bos + part.texts
            names = [tokenizer.bos_token] * bos + [name_of(tokenizer, i) for i in part.ids]
            of_words = [-1] * bos + words[start:end]
            same = all_lines.index(line)
            texts.append(
                Text(
                    place, own, patterns, None, reads, norms, start, counted, same, names, of_words
                )
            )
    random = oracle.read(plain, enumerate(sequences.ids.tolist()))
    return Scanned(Index.open(folder), plan, texts, random)


def name_of(tokenizer: Any, token: int) -> str:
    """A byte-level token as its bytes read, those of a part of a character as ``\\xe0``."""
    alphabet = {char: byte for byte, char in bytes_to_unicode().items()}
    entry = tokenizer.convert_ids_to_tokens(int(token))
    if token in tokenizer.all_special_ids:
        return str(entry)
    raw = bytes(alphabet[char] for char in entry)
    return raw.decode("utf-8", "backslashreplace")


def windows(n: int, plan: Plan, bos: bool) -> Iterator[tuple[int, int]]:
    """Where the windows of a document of ``n`` tokens begin and end, the BOS aside."""
    room = plan.ctx - bos
    start = 0
    while True:
        yield start, min(start + room, n)
        if not plan.all_windows or start + room >= n:
            return
        start += plan.stride or min(room, plan.ctx - plan.min_row)


SMALL = Plan(ctx=CTX, top=25, sample=30, band=20, shard=4)
PLANS = {
    "small": SMALL,
    "everything kept": Plan(ctx=CTX, top=20000, sample=20000, band=20000, write=True),
    "no bos, other rows": Plan(ctx=40, bos=False, min_row=3, top=7, sample=5, seed=4, per_token=2),
    "first not skipped": Plan(ctx=CTX, top=25, sample=30, skip_first=False, shard=3),
    "every row": Plan(ctx=33, min_row=0, top=25, sample=30, per_token=0, write=True),
    "windows": Plan(ctx=24, min_row=4, top=20, sample=30, all_windows=True, write=True, shard=3),
    "windows that hardly overlap": Plan(ctx=24, min_row=4, all_windows=True, stride=23, shard=3),
    "windows that overlap": Plan(ctx=24, min_row=12, all_windows=True, stride=11, band=10),
}


def keys(examples: Sequence[Any]) -> list[oracle.Key]:
    return [oracle.key_of(example) for example in examples]


def check_numbers(found: Scanned, heads: Sequence[HeadId]) -> None:
    """Metrics, rows and pairs of an index equal the oracle's."""
    index = found.index
    names = (*ROW_METRICS, *DERIVED, *(WRITE_METRICS if found.plan.write else ()))
    probed = {*of_kind("probe")} - {*index.not_measured}
    assert set(index.metric_names) == {*names, *RANDOM_METRICS, *of_kind("weights"), *probed}
    for head in heads:
        wanted = oracle.head_numbers(found.texts, head.layer, head.head, found.plan.min_row)
        wanted |= oracle.random_numbers(found.random, head.layer, head.head)
        assert index.rows(head) == wanted["rows"]
        assert index.nonfinite(head) == 0
        for name in (*names, *RANDOM_METRICS):
            got = index.numbers(head)[name]
            assert got == pytest.approx(wanted[name], rel=1e-5, abs=1e-5, nan_ok=True), (head, name)
            assert got == index.metric(name)[head.layer, head.head]
        pairs = found.pairs(head)
        sure = sum(pair.multiple > 1 + NEAR for pair in pairs)
        assert sure <= index.pairs(head) <= len(pairs)
        assert len(pairs) - sure <= 0.01 * len(pairs) + 2  # the comparison says something


def check_lists(found: Scanned, heads: Sequence[HeadId]) -> None:
    """Each ranking of an index, whole, equals the oracle's."""
    index, top = found.index, found.plan.top
    for head in heads:
        pairs, n = found.pairs(head), 10**6
        ranking = index.top(head, n)
        oracle.check_ranking(ranking.examples, pairs, top)
        assert ranking.pairs == index.pairs(head)
        assert ranking.kept == len(ranking.examples)
        assert ranking.exact
        ranking = index.top(head, n, by="attention")
        oracle.check_ranking(ranking.examples, pairs, top, by_attention)
        assert ranking.exact
        if found.plan.write:
            ranking = index.top(head, n, by="write")
            oracle.check_ranking(ranking.examples, pairs, top, by_write)
            assert ranking.exact
        ranking = index.top(head, n, reverse=True)
        oracle.check_ranking(ranking.examples, pairs, top, reverse=True)
        assert ranking.exact
        ranking = index.top(head, n, one_per_document=True)
        oracle.check_ranking(ranking.examples, pairs, top, one_per_document=True)
        assert ranking.exact


def check_examples(found: Scanned, head: HeadId, examples: Sequence[Any]) -> None:
    """Row, token and record of every example."""
    for example in examples:
        text = found.text(example)
        wanted = text.patterns[head.layer, head.head, example.dst]
        assert example.head == head
        assert example.row is not None
        assert len(example.row) == example.dst + 1
        # Rows are kept in half precision.
        np.testing.assert_allclose(example.row, wanted[: example.dst + 1], rtol=1e-3, atol=1e-6)
        window = found.index.window(example.document, example.start)
        assert list(window.ids) == text.ids
        assert list(window.texts) == list(text.shown)
        assert (window.texts[example.src] or window.names[example.src]) == example.token
        record = json.loads(json.dumps(example.record()))
        assert list(record) == [
            "layer", "head", "document", "dst", "src", "token", "multiple", "attention",
            *["write"] * found.plan.write, "start",
        ]  # fmt: skip
        assert (record["layer"], record["head"]) == (head.layer, head.head)
        assert record["start"] == example.start
        assert record["multiple"] == pytest.approx(example.multiple)
