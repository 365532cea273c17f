"""Selects passages of an index from which a head is described and descriptions are tested.

Only this module of descriptions asks the index. It separates training from held-out documents, by
attn/describe/split.py, and every passage carries its document's id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import pyarrow as pa
import pyarrow.parquet as pq

from attn.describe.split import held_out
from attn.errors import DescribeError, IndexDamaged
from attn.heads import Example, HeadId, Window
from attn.index.format import DOCUMENTS
from attn.index.index import Index
from attn.index.query import Ranking
from attn.measure.scores import BANDS

RESTS = 0.8
"""A row rests when the first position gets this share of its attention, or more."""

_MOST = 1000
_RANKED, _REST = 0.6, 0.15  # shares of the evidence; the lower bands get what remains


@dataclass(frozen=True, eq=False)
class Passage:
    """A pair of a head in its text. ``kind`` how it was chosen: ranked, band or rest."""

    kind: str
    example: Example
    document_id: str
    index: Index

    @cached_property
    def window(self) -> Window:
        """Its text, read when it is asked for."""
        start = [self.example.start] if self.example.start else []
        return self.index.window(self.example.document, *start)

    def special(self, src: int) -> bool:
        """Whether a source stands for no text."""
        kinds = self.window.kinds
        return bool(kinds) and kinds[src] == "special"

    @property
    def place(self) -> tuple[str, int, int, int]:
        """Where it is: document id, first position of the window, destination, source."""
        return self.document_id, self.example.start, self.example.dst, self.example.src

    @property
    def visible(self) -> int:
        """How many sources the row sees."""
        example = self.example
        row = 0 if example.row is None else len(example.row)
        return round(example.multiple / example.attention) if example.attention > 0 else row

    @property
    def sink(self) -> float:
        """The first position's share of the row."""
        return 0.0 if self.example.row is None else float(self.example.row[0])


@dataclass(frozen=True)
class Numbers:
    """What may be told beside the passages: the budget's named shares, and the source tokens.

    ``tokens`` (text, share of the attention that the head gives to sources of that text).
    """

    budget: tuple[tuple[str, float], ...]
    tokens: tuple[tuple[str, float], ...]


def gather(index: Index, head: HeadId, n: int = 20, seed: int = 0) -> list[Passage]:
    """About ``n`` passages of training documents to describe a head from, the clearest first.

    Ranked pairs, one per document; pairs of the lower bands; and rows in which the head rests.
    Raises DescribeError when the index has none.
    """
    ranked = _passages(index, "ranked", index.top(head, _MOST, one_per_document=True), False)
    chosen = _apart(ranked, max(1, round(_RANKED * n)), [])
    rests = [p for p in _rows(index, head, seed, False) if p.sink >= RESTS]
    at_rest = _apart(rests, round(_REST * n), [*chosen])
    lower = _round_robin(_banded(index, head, seed, False)[:-1] or [[]])
    banded = _apart(lower, n - len(chosen) - len(at_rest), [*chosen, *at_rest])
    chosen += _apart(ranked, n - len(chosen) - len(at_rest) - len(banded), [*chosen, *banded])
    if not chosen:
        raise DescribeError(
            f"The index keeps no pair of {head} in a training document: scan more documents."
        )
    return [*chosen, *banded, *at_rest]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What descriptions are tested on, of held-out documents alone.

    ``bands`` pairs above average, a list a band of attention; ``shares`` how much of the head's
    attention above average lies in each band, adding to 1; ``rows`` whole rows, whatever the head
    does there.
    """

    bands: tuple[tuple[Passage, ...], ...]
    shares: tuple[float, ...]
    rows: tuple[Passage, ...]


def held_out_passages(index: Index, head: HeadId, seed: int = 0) -> HeldOut:
    """The head's held-out passages, in an order drawn by the seed."""
    rows = [p for p in _rows(index, head, seed, True) if p.example.row is not None]
    banded = _banded(index, head, seed, True)
    more = [pair for row in _spread(rows) for pair in _above(row)]
    for band, found in zip(banded, _by_band(more), strict=True):
        band += found
    return HeldOut(tuple(map(tuple, banded)), _shares(index, head), tuple(rows))


def numbers(index: Index, head: HeadId, most: int = 20) -> Numbers:
    """The head's budget, and the source tokens most attended in rows of training documents."""
    table = _mass(_rows(index, head, 0, False))
    total = sum(table.values()) or 1.0
    best = sorted(table.items(), key=lambda item: (-item[1], item[0]))[:most]
    return Numbers(
        tuple(index.budget(head).items()), tuple((text, mass / total) for text, mass in best)
    )


def fingerprint(passages: Iterable[Passage]) -> list[list[str | int]]:
    """The passages' places, to keep beside what was made from them."""
    return [list(passage.place) for passage in passages]


def _above(passage: Passage) -> list[Passage]:
    """Every pair above average of a whole row, the first position left out where it is skipped."""
    example, row, visible = passage.example, passage.example.row, passage.visible
    assert row is not None
    found, manifest = [], passage.index.manifest
    for src in range(int(manifest.skip_first), len(row)):
        if manifest.skip_first and passage.special(src):
            continue
        attention = float(row[src])
        if attention * visible > 1:
            pair = replace(example, src=src, token=passage.window.labels[src],
                           multiple=attention * visible, attention=attention)  # fmt: skip
            found.append(Passage("band", pair, passage.document_id, passage.index))
    return found


def _spread(passages: Sequence[Passage]) -> list[Passage]:
    """Reorder passages so that each document's first comes first, then each one's second."""
    documents: dict[str, list[Passage]] = {}
    for passage in passages:
        documents.setdefault(passage.document_id, []).append(passage)
    return _round_robin(list(documents.values()))


def _by_band(passages: Iterable[Passage]) -> list[list[Passage]]:
    """Passages apart by their band of attention."""
    lists: list[list[Passage]] = [[] for _ in BANDS]
    for passage in passages:
        lists[_band(passage.example.attention)].append(passage)
    return lists


def _band(attention: float) -> int:
    """The band that an attention lies in."""
    return max(number for number, (low, _) in enumerate(BANDS) if attention >= low)


def _mass(rows: Iterable[Passage]) -> dict[str, float]:
    """Source token's text → attention that such tokens get in these rows.

    The first position and special tokens are left out.
    """
    table: dict[str, float] = {}
    for passage in rows:
        row = passage.example.row
        for src, share in enumerate(() if row is None else row):
            if src and not passage.special(src):
                label = passage.window.labels[src]
                table[label] = table.get(label, 0.0) + float(share)
    return table


def _apart(passages: Sequence[Passage], n: int, taken: Sequence[Passage]) -> list[Passage]:
    """The first ``n`` passages from rows that are not used yet."""
    seen = {passage.place[:3] for passage in taken}
    chosen: list[Passage] = []
    for passage in passages:
        if len(chosen) >= n:
            break
        if passage.place[:3] not in seen:
            seen.add(passage.place[:3])
            chosen.append(passage)
    return chosen


def _round_robin(lists: Sequence[Sequence[Passage]]) -> list[Passage]:
    longest = max((len(one) for one in lists), default=0)
    return [one[i] for i in range(longest) for one in lists if i < len(one)]


def _passages(index: Index, kind: str, ranking: Ranking, testing: bool) -> list[Passage]:
    """A ranking's examples on one side of the split; a pair in copies of a text, once."""
    ids = _document_ids(index)
    found: dict[tuple[str, int, int, int], Passage] = {}
    for example in ranking.examples:
        passage = Passage(kind, example, ids[example.document], index)
        if held_out(passage.document_id) is testing:
            found.setdefault(passage.place, passage)
    return [*found.values()]


@lru_cache(maxsize=8)
def _document_ids(index: Index) -> dict[int, str]:
    """Document → its id, the hash of its text."""
    try:
        table = pq.read_table(index.path / DOCUMENTS, columns=["document", "id"])
    except (OSError, pa.ArrowException) as error:
        raise IndexDamaged(
            f"File {DOCUMENTS} of the index {index.name} cannot be read: scan again."
        ) from error
    return dict(zip(table["document"].to_pylist(), table["id"].to_pylist(), strict=True))


def _banded(index: Index, head: HeadId, seed: int, testing: bool) -> list[list[Passage]]:
    """Pairs above average, a list a band, each in an order drawn by the seed."""
    rankings = [index.band(head, number, _MOST, seed=seed) for number in range(len(BANDS))]
    return [_passages(index, "band", ranking, testing) for ranking in rankings]


def _shares(index: Index, head: HeadId) -> tuple[float, ...]:
    """How the head's attention above average is shared among the bands."""
    mass = [0.0] * len(BANDS)
    for number, count in enumerate(index.attention_counts(head)):
        middle = 0.75 * 2.0**-number  # bin n holds 2^-n-1 <= attention < 2^-n
        mass[_band(middle)] += float(count) * middle
    return tuple(part / (sum(mass) or 1.0) for part in mass)


def _rows(index: Index, head: HeadId, seed: int, testing: bool) -> list[Passage]:
    """Rows of the head, whatever it does there."""
    return _passages(index, "rest", index.sampled_rows(head, _MOST, seed=seed), testing)


def source_mass(index: Index, head: HeadId) -> dict[str, float]:
    """What source tokens are called → attention that the head gives to such tokens."""
    return {row.token: row.mass for row in index.sources(head)}
