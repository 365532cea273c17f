"""Questions for examples: ranked, at random, by band, filtered."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from attn.errors import QueryError
from attn.heads import Example, HeadId
from attn.index.format import PAIR_GROUP
from attn.index.query import Distance, HeadPairs, Ranking, at_distance, first_of_each
from attn.index.token_tables import TokenTables
from attn.measure.scores import BANDS, SCORES


class ExampleLists(TokenTables):
    """The examples of a head, ranked and at random."""

    def top(
        self,
        head: HeadId,
        n: int = 10,
        *,
        by: str = "multiple",
        token: str | None = None,
        destination: str | None = None,
        regex: bool = False,
        distance: Distance | None = None,
        reverse: bool = False,
        one_per_document: bool = False,
    ) -> Ranking:
        """The head's best pairs.

        ``by`` multiple, attention, or write where the scan kept it; ``token`` and ``destination``
        only pairs of that source and destination token, as it reads or as the vocabulary writes it
        (:meth:`taken` says which tokens that are), or, with ``regex``, where the expression finds
        something; ``distance`` only pairs whose destination is so many
        positions after their source, at least and at most; ``reverse`` the pairs nearest above
        average first, by multiple; ``one_per_document`` the best pair of each document, or of each
        text where documents repeat one. Ties: the earlier document, destination, source first. A
        filter by source token is exact over the whole corpus, by multiple; the others look among
        the examples that the index keeps, and say so. Raises QueryError for a question without an
        answer, HeadError for a head out of range.
        """
        if by not in SCORES or (by == "write" and not self.manifest.write):
            known = ", ".join(SCORES if self.manifest.write else SCORES[:2])
            raise QueryError(f"Examples are ranked by one of {known}, not by {by!r}.")
        if reverse and by != "multiple":
            raise QueryError("The reversed ranking is by multiple: leave out --by or --reverse.")
        name = "bottom" if reverse else {"multiple": "top"}.get(by, by)
        if token is None and destination is None and distance is None:
            if one_per_document and name == "top":
                return self._answer(head, self._kept(head).listed("by_document"), n)
            return self._answer(head, self._kept(head).listed(name), n, one=one_per_document)
        return self._filtered(
            head, n, by, token, destination, regex, distance, reverse, one_per_document
        )

    def random(
        self,
        head: HeadId,
        n: int = 10,
        *,
        seed: int = 0,
        token: str | None = None,
        destination: str | None = None,
        regex: bool = False,
        distance: Distance | None = None,
    ) -> Ranking:
        """Pairs above average drawn uniformly without replacement, from the index's sample.

        The filters are those of :meth:`top`, among the pairs of the sample.
        """
        return self._drawn(head, "sample", n, seed, token, destination, regex, distance)

    def band(
        self,
        head: HeadId,
        band: int,
        n: int = 10,
        *,
        seed: int = 0,
        token: str | None = None,
        destination: str | None = None,
        regex: bool = False,
        distance: Distance | None = None,
    ) -> Ranking:
        """Pairs above average drawn uniformly from one of :data:`BANDS`, low to high.

        The filters are those of :meth:`top`, among the pairs of the band's sample.
        """
        if not 0 <= band < len(BANDS):
            raise QueryError(f"Bands of attention are numbered 0 to {len(BANDS) - 1}.")
        return self._drawn(head, f"band{band}", n, seed, token, destination, regex, distance)

    def sampled_rows(self, head: HeadId, n: int = 10, *, seed: int = 0) -> Ranking:
        """Rows drawn uniformly from all that count, each with its best source."""
        return self._drawn(head, "rows", n, seed)

    def find(
        self, head: HeadId, document: int, dst: int, src: int, start: int = 0
    ) -> Example | None:
        """One pair of a head, None where the index does not keep it.

        With its row where one of the lists keeps that. Raises QueryError for a window that the
        index lacks, HeadError for a head out of range.
        """
        ids = self.window(document, start).ids
        if not (0 <= src < len(ids) and 0 <= dst < len(ids)):
            return None
        kept = self._kept(head)
        listed, _ = self._listed(head, self.numbers_of_ids(ids[src : src + 1]))
        for pairs in (kept, listed):
            at = (pairs.document == document) & (pairs.start == start)
            at &= (pairs.dst == dst) & (pairs.src == src)
            found = self._examples(head, pairs.only(np.flatnonzero(at)), 1)
            if found:
                return found[0]
        return None

    def _answer(self, head: HeadId, pairs: HeadPairs, n: int, *, one: bool = False) -> Ranking:
        """The answer from a list, whose first pairs are the first of the whole corpus."""
        exact = not one or len(pairs) >= self.pairs(head)
        if one:
            pairs = pairs.only(first_of_each(self._repeats.texts(pairs.document)))
        return Ranking(self._examples(head, pairs, n), self.pairs(head), len(pairs), exact)

    def _filtered(
        self,
        head: HeadId,
        n: int,
        by: str,
        token: str | None,
        destination: str | None,
        regex: bool,
        distance: Distance | None,
        reverse: bool,
        one: bool,
    ) -> Ranking:
        table, kept = self._tokens(head), self._kept(head)
        special = np.flatnonzero(self._vocabulary["kind"] == "special")
        kept = kept.only(kept.above(skip_first=self.manifest.skip_first, special=special))
        whole, matching = len(kept) >= self.pairs(head), None
        last = None  # pairs that are the last ones listed of a token that has more
        if token is not None:
            wanted = self._numbers_of(token, regex)
            mine = np.isin(table["token"], wanted)
            listed, cut = self._listed(head, wanted)
            kept = kept.only(np.isin(kept.token, wanted)).join(listed)
            if destination is None:
                matching = int(table["source_pairs"][mine].sum())
                last = np.isin(kept.places(), listed.places()[cut])
        if destination is not None:
            wanted = self._numbers_of(destination, regex)
            if token is None:
                mine = np.isin(table["token"], wanted)
                matching = int(table["destination_pairs"][mine].sum())
            kept = kept.only(np.isin(self._destinations(kept), wanted))
        if distance is not None:  # their number in the whole corpus is unknown
            kept = kept.only(at_distance(kept, distance))
            matching, last = len(kept) if whole else None, None
        if by == "write":  # pairs that are kept without their rows have no write score
            kept = kept.only(~np.isnan(kept.write))
        order = kept.order(kept.score(by), reverse=reverse)
        exact = len(kept) == matching
        if not exact and last is not None and last.any() and by == "multiple" and not reverse:
            # No pair is missing before the first token whose list ends here.
            order, exact = order[: int(np.argmax(last[order])) + 1], True
        kept = kept.only(order)
        if one:
            firsts = first_of_each(self._repeats.texts(kept.document))
            exact = exact and (len(kept) == matching or len(firsts) >= n)
            kept = kept.only(firsts)
        examples = self._examples(head, kept, n)
        return Ranking(examples, self.pairs(head), len(kept), exact, matching)

    def _drawn(
        self,
        head: HeadId,
        name: str,
        n: int,
        seed: int,
        token: str | None = None,
        destination: str | None = None,
        regex: bool = False,
        distance: Distance | None = None,
    ) -> Ranking:
        pairs = self._kept(head).listed(name)
        whole = len(pairs) >= self.pairs(head)
        pairs = pairs.only(np.random.default_rng(seed).permutation(len(pairs)))
        if token is not None:
            pairs = pairs.only(np.isin(pairs.token, self._numbers_of(token, regex)))
        if destination is not None:
            wanted = self._numbers_of(destination, regex)
            pairs = pairs.only(np.isin(self._destinations(pairs), wanted))
        if distance is not None:
            pairs = pairs.only(at_distance(pairs, distance))
        exact = whole or (token is None and destination is None and distance is None)
        total = self.rows(head) if name == "rows" else self.pairs(head)
        return Ranking(self._examples(head, pairs, n), total, len(pairs), exact)

    def _examples(self, head: HeadId, pairs: HeadPairs, n: int) -> tuple[Example, ...]:
        found = list(pairs.examples(head, self._vocabulary["text"], n))
        for i, number in enumerate(pairs.token[: len(found)]):
            if self._varies[number]:  # what the token covers there, not what it is called
                window = self.window(found[i].document, found[i].start)
                src = found[i].src
                found[i] = replace(found[i], token=window.texts[src] or window.names[src])
        copies = self._repeats.copies(pairs.document[:n])
        return tuple(
            replace(example, copies=int(more)) if more else example
            for example, more in zip(found, copies, strict=True)
        )

    @cached_property
    def _varies(self) -> np.ndarray:
        """(token,) bool: whether a token covers anything but its name."""
        known = zip(self._vocabulary["text"], self._vocabulary["texts"], strict=True)
        return np.array([list(texts) != [name] for name, texts in known], bool)

    def _listed(self, head: HeadId, wanted: np.ndarray) -> tuple[HeadPairs, np.ndarray]:
        """The listed pairs of source tokens, and a mask: the last ones of tokens with more."""
        table, limit = self._tokens(head), self.manifest.per_token
        sizes = np.minimum(table["source_pairs"], limit)
        ends = np.cumsum(sizes)
        mine = np.flatnonzero(np.isin(table["token"], wanted) & (sizes > 0))
        groups = {
            group
            for i in mine
            for group in range((ends[i] - sizes[i]) // PAIR_GROUP, (ends[i] - 1) // PAIR_GROUP + 1)
        }
        tables = [self._listed_in(head, int(group)) for group in sorted(groups)]
        if not tables:
            none = self._kept(head).only(np.zeros(0, np.int64))
            return none, np.zeros(0, bool)
        pairs = HeadPairs.of_listed(pa.concat_tables(tables))
        pairs = pairs.only(np.isin(pairs.token, wanted))
        last = np.zeros(len(pairs), bool)
        stops = np.cumsum(sizes[mine]) - 1
        last[stops] = table["source_pairs"][mine] > limit
        return pairs, last

    def _destinations(self, pairs: HeadPairs) -> np.ndarray:
        """The vocabulary's numbers of the destination tokens."""
        ids = [
            self.window(int(d), int(s)).ids[int(dst)]
            for d, s, dst in zip(pairs.document, pairs.start, pairs.dst, strict=True)
        ]
        return self.numbers_of_ids(ids)
