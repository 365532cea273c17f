"""What every head gave each token of the corpus: exact over the whole of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from attn.errors import QueryError
from attn.formatting import shown
from attn.heads import HeadId
from attn.index.reader import IndexReader
from attn.measure.fixed_point import FIXED

_TOLD = 6  # tokens, and texts of a token, that a sentence names


@dataclass(frozen=True)
class TokenRow:
    """What a head gave one token as a source, or did from it as a destination.

    ``count`` how often it occurs in the corpus; ``pairs`` above average; ``mass`` attention summed
    over all rows, without what rests on the first position where the scan skipped it (as a
    destination: what its rows do not leave there); ``lift`` the mass as a multiple of what a
    uniform head would give (as a destination: mass a row); ``maximum`` its best multiple.
    """

    token: str
    count: int
    pairs: int
    mass: float
    lift: float
    maximum: float


@dataclass(frozen=True, eq=False)
class Given:
    """What each head gave some tokens, over the whole corpus; arrays are (layer, head).

    ``tokens`` their texts; ``mass`` attention in rows, ``whole`` the same of all tokens, ``even``
    what a uniform head would give these, ``pairs`` above average.
    """

    tokens: list[str]
    mass: np.ndarray
    whole: np.ndarray
    even: np.ndarray
    pairs: np.ndarray


class TokenTables(IndexReader):
    """What heads gave each token of the corpus, or did from it."""

    @property
    def vocabulary(self) -> Sequence[str]:
        """The name of every token of the corpus."""
        texts: list[str] = self._vocabulary["text"].tolist()
        return texts

    def uniform(self, layer: int) -> np.ndarray:
        """(token,) int64: what a uniform head of the layer would give each token, fixed point."""
        number = int(self._heads["uniform"][layer, 0])
        even: np.ndarray = self._vocabulary[f"uniform_{number}"]
        return even

    def sources(self, head: HeadId, n: int | None = None) -> list[TokenRow]:
        """What the head gave each token of the whole corpus, the largest mass first."""
        self._check(head)
        return self._token_rows(head, "source", self.uniform(head.layer) / FIXED, n)

    def source_ids(self, head: HeadId, n: int | None = None) -> list[int]:
        """The ids, in the model's vocabulary, of the tokens of :meth:`sources`, in its order."""
        self._check(head)
        table = self._tokens(head)
        order = np.lexsort((table["token"], -table["source_mass"]))[:n]
        ids: list[int] = self._vocabulary["id"][table["token"][order]].tolist()
        return ids

    def destinations(self, head: HeadId, n: int | None = None) -> list[TokenRow]:
        """The tokens from which the head looks away from the first position, the most first."""
        return self._token_rows(head, "destination", self._vocabulary["rows"], n)

    def token_counts(self) -> np.ndarray:
        """(token,) int64: how often each token of :attr:`vocabulary` occurs in the corpus."""
        counts: np.ndarray = self._vocabulary["count"].astype(np.int64)
        return counts

    def source_masses(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For every head, the numbers of the tokens it saw, and the attention it gave them."""
        for _, columns in self._all_tokens():
            yield columns["token"], columns["source_mass"] / FIXED

    def given(self, text: str, *, regex: bool = False) -> Given:
        """What every head gave the tokens that a filter means: see :meth:`taken`.

        ``text`` a token as it reads, or as the vocabulary writes it (``Ġthe``, ``##s``); with
        ``regex`` an expression. Exact over the whole corpus. Raises QueryError where no token of
        the corpus matches.
        """
        wanted = np.zeros(len(self._vocabulary["text"]), bool)
        wanted[self._numbers_of(text, regex)] = True
        if not wanted.any():
            what = "matches" if regex else "reads exactly"
            raise QueryError(
                f"No token of the corpus {what} {text!r}: mind the space that most begin with."
            )
        shape = self.manifest.n_layers, self.manifest.n_heads
        mass, whole, even = (np.zeros(shape) for _ in range(3))
        pairs = np.zeros(shape, np.int64)
        for head, columns in self._all_tokens():
            some, at = wanted[columns["token"]], (head.layer, head.head)
            whole[at] = columns["source_mass"].sum() / FIXED
            mass[at] = columns["source_mass"][some].sum() / FIXED
            pairs[at] = columns["source_pairs"][some].sum()
            even[at] = self.uniform(head.layer)[wanted].sum() / FIXED
        return Given(self._vocabulary["text"][wanted].tolist(), mass, whole, even, pairs)

    def _token_rows(
        self, head: HeadId, side: str, even: np.ndarray, n: int | None
    ) -> list[TokenRow]:
        table = self._tokens(head)
        mass = table[f"{side}_mass"] / FIXED
        rows = []
        for i in np.lexsort((table["token"], -mass))[:n]:
            token = int(table["token"][i])
            rows.append(
                TokenRow(
                    self._vocabulary["text"][token],
                    int(self._vocabulary["count"][token]),
                    int(table[f"{side}_pairs"][i]),
                    float(mass[i]),
                    float(mass[i] / even[token]) if even[token] else 0.0,
                    float(table[f"{side}_maximum"][i]),
                )
            )
        return rows

    def _numbers_of(self, text: str, regex: bool) -> np.ndarray:
        """The numbers of the tokens that a filter means, rising.

        Those whose name, whose entry in the vocabulary, or one of whose texts in the corpus it is,
        or in which, of those, the expression finds something.
        """
        if not regex:
            return np.array(self._spelled.get(text, []), np.int64)
        try:
            rule = re.compile(text)
        except re.error as error:
            raise QueryError(f"{text!r} is not a regular expression: {error}.") from error
        found = {
            i for spelling, numbers in self._spelled.items() if rule.search(spelling)
            for i in numbers
        }  # fmt: skip
        return np.array(sorted(found), np.int64)

    @cached_property
    def _spelled(self) -> dict[str, list[int]]:
        """Every name, entry and text → the numbers of the tokens that it may mean, rising."""
        known, found = self._vocabulary, dict[str, list[int]]()
        rows = zip(known["entry"], known["text"], known["texts"], strict=True)
        for i, (entry, name, texts) in enumerate(rows):
            for spelling in {entry, name, *texts}:
                found.setdefault(spelling, []).append(i)
        return found

    def taken(self, text: str, *, regex: bool = False) -> str:
        """Which tokens a filter takes, as a sentence; empty where it is one of just that text."""
        numbers, known = self._numbers_of(text, regex), self._vocabulary
        told = []
        for number in numbers[:_TOLD]:
            entry, texts = known["entry"][number], known["texts"][number]
            others = [f"“{shown(one)}”" for one in texts if one != known["text"][number]]
            more = f"; covers {', '.join(others[:_TOLD])} too" if others else ""
            named = f"“{shown(known['text'][number])}”"
            told.append(f"{named} (in the vocabulary {shown(entry)}{more})")
        plain = len(numbers) == 1 and known["text"][numbers[0]] == text
        if not len(numbers) or (plain and list(known["texts"][numbers[0]]) == [text]):
            return ""
        left = f" and {len(numbers) - len(told):,} more" if len(numbers) > len(told) else ""
        count = "1 token" if len(numbers) == 1 else f"{len(numbers):,} tokens"
        return f"{shown(text)} is taken as {count}: {', '.join(told)}{left}."
