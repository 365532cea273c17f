"""The pairs that an index keeps of a head, as arrays, and how an answer is chosen from them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa

from attn.errors import QueryError
from attn.heads import Example, HeadId, examples_table
from attn.measure.scores import LISTS

Distance = tuple[int | None, int | None]
"""The least and the most positions from source to destination; None means no limit."""


@dataclass(frozen=True)
class Ranking:
    """The answer to a query: some examples, and out of how many.

    ``pairs`` all pairs above average of the head in the whole corpus (of sampled rows: all rows);
    ``matching`` how many of them the question is about, None where only the kept ones are known;
    ``kept`` how many examples the index keeps that match; ``exact`` whether ``examples`` are the
    true first ones of the whole corpus, or only those among the kept.
    """

    examples: tuple[Example, ...]
    pairs: int
    kept: int
    exact: bool
    matching: int | None = None

    def _repr_html_(self) -> str:
        total = self.pairs if self.matching is None else self.matching
        among = "" if self.exact else f", the first of the {self.kept:,} kept"
        return examples_table(self.examples, f"{len(self.examples)} of {total:,}{among}")


@dataclass(frozen=True, eq=False)
class HeadPairs:
    """Pairs of a head; every array has one entry for each.

    ``ranks`` (list, pair) int32, -1 where the pair is not in that list; ``row`` the attention of
    its row for the pairs that have one: row i is ``rows[starts[i]:starts[i] + lengths[i]]``.
    """

    document: np.ndarray
    start: np.ndarray
    dst: np.ndarray
    src: np.ndarray
    token: np.ndarray
    multiple: np.ndarray
    attention: np.ndarray
    write: np.ndarray
    ranks: np.ndarray
    begins: np.ndarray
    lengths: np.ndarray
    rows: np.ndarray

    @classmethod
    def of_examples(cls, table: pa.Table) -> HeadPairs:
        """From a row group of examples/."""
        lists = table["row"].combine_chunks()
        offsets = array_of(lists.offsets)
        return cls(
            **_columns(table),
            write=array_of(table["write"]),
            ranks=np.stack([array_of(table[f"rank_{name}"]) for name in LISTS]),
            begins=offsets[:-1],
            lengths=np.diff(offsets),
            rows=array_of(lists.values),
        )

    @classmethod
    def of_listed(cls, table: pa.Table) -> HeadPairs:
        """From pairs/: without rows, in no list."""
        n = table.num_rows
        none = np.zeros(n, np.int64)
        return cls(
            **_columns(table),
            write=np.full(n, np.nan, np.float32),
            ranks=np.full((len(LISTS), n), -1, np.int32),
            begins=none,
            lengths=none,
            rows=np.zeros(0, np.float16),
        )

    def __len__(self) -> int:
        return len(self.document)

    def above(self, *, skip_first: bool, special: np.ndarray) -> np.ndarray:
        """(pair,) bool: which are above average. All are, except some of the sampled rows.

        ``special`` the vocabulary's numbers of special tokens.
        """
        resting = (self.src == 0) | np.isin(self.token, special)
        found: np.ndarray = (self.multiple > 1) & (~resting | (not skip_first))
        return found

    def score(self, by: str) -> np.ndarray:
        """(pair,) one of :data:`attn.measure.scores.SCORES`."""
        found: np.ndarray = {"attention": self.attention, "write": self.write}.get(
            by, self.multiple
        )
        return found

    def only(self, index: np.ndarray) -> HeadPairs:
        """The pairs at ``index``, in its order, or where a mask is true."""
        changed = {
            field.name: getattr(self, field.name)[index]
            for field in fields(self)
            if field.name not in ("ranks", "rows")
        }
        return replace(self, ranks=self.ranks[:, index], **changed)

    def listed(self, name: str) -> HeadPairs:
        """The pairs of one of :data:`LISTS`, by rank."""
        rank = self.ranks[LISTS.index(name)]
        order = np.argsort(rank, kind="stable")
        return self.only(order[rank[order] >= 0])

    def join(self, other: HeadPairs) -> HeadPairs:
        """These pairs, and those of the other that are not among them."""
        new = other.only(~np.isin(other.places(), self.places()))
        both = {
            field.name: np.concatenate([getattr(self, field.name), getattr(new, field.name)], -1)
            for field in fields(self)
            if field.name not in ("begins", "rows")
        }
        begins = np.concatenate([self.begins, new.begins + len(self.rows)])
        return replace(self, begins=begins, rows=np.concatenate([self.rows, new.rows]), **both)

    def places(self) -> np.ndarray:
        """(pair,) one value for each (document, start, dst, src)."""
        parts = (self.document, self.start, self.dst, self.src)
        made = np.empty(len(self), [(name, np.int64) for name in "abcd"])
        for name, part in zip("abcd", parts, strict=True):
            made[name] = part
        return made

    def order(self, score: np.ndarray, *, reverse: bool = False) -> np.ndarray:
        """(pair,) indices that sort by falling score (rising with ``reverse``), ties by place."""
        keys = (self.src, self.dst, self.start, self.document, score if reverse else -score)
        found: np.ndarray = np.lexsort(keys)
        return found

    def examples(self, head: HeadId, texts: np.ndarray, n: int) -> tuple[Example, ...]:
        """The first ``n`` as examples; ``texts`` the vocabulary."""
        if n < 1:
            raise QueryError("Ask for at least one example.")
        return tuple(self._example(head, texts, i) for i in range(min(n, len(self))))

    def _example(self, head: HeadId, texts: np.ndarray, i: int) -> Example:
        begin, length = int(self.begins[i]), int(self.lengths[i])
        return Example(
            head,
            int(self.document[i]),
            int(self.dst[i]),
            int(self.src[i]),
            texts[self.token[i]],
            float(self.multiple[i]),
            float(self.attention[i]),
            int(self.start[i]),
            self.rows[begin : begin + length].astype(np.float32) if length else None,
            None if np.isnan(self.write[i]) else float(self.write[i]),
        )


def array_of(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A column of numbers as a view of its memory, which must not be written to.

    pyarrow's own ``to_numpy`` imports pandas, which takes longer than any question to an index.
    """
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if whole.null_count or pa.types.is_boolean(whole.type):
        return np.asarray(whole.to_numpy(zero_copy_only=False))
    return np.from_dlpack(whole)


def _columns(table: pa.Table) -> dict[str, np.ndarray]:
    names = ("document", "start", "dst", "src", "token", "multiple", "attention")
    return {name: array_of(table[name]) for name in names}


def parse_distance(text: str) -> Distance:
    """Positions from source to destination: "3", or "1:5" with either end left out.

    Negative where the source comes later. Raises QueryError for anything else.
    """
    low, colon, high = text.partition(":")
    try:
        found = int(low) if low.strip() else None, int(high) if high.strip() else None
    except ValueError:
        found = None, None
    if colon and (found[0] is None or found[1] is None or found[0] <= found[1]):
        if found != (None, None):
            return found
    elif not colon and found[0] is not None:
        return found[0], found[0]
    raise QueryError(f"A distance is a number or LOW:HIGH, like 1:5, not {text!r}.")


def at_distance(pairs: HeadPairs, distance: Distance) -> np.ndarray:
    """(pair,) bool: whether the destination is within ``distance`` positions after the source."""
    low, high = distance
    gap = pairs.dst.astype(np.int64) - pairs.src
    found = np.ones(len(pairs), bool)
    found &= True if low is None else gap >= low
    found &= True if high is None else gap <= high
    return found


def first_of_each(values: np.ndarray) -> np.ndarray:
    """The indices at which each value occurs first, rising."""
    return np.sort(np.unique(values, return_index=True)[1])
