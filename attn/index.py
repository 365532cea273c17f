"""The index on disk, as pages, CLI and notebooks read it. No torch, no model, no tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from attn import store
from attn.errors import IndexDamaged, QueryError
from attn.heads import Example, HeadId, Window
from attn.metrics import (
    DISTANCES,
    FIXED,
    METRICS,
    PARTS,
    SCALES,
    SUMS,
    WEIGHT_METRICS,
    WRITE_SUMS,
    values_of,
)
from attn.query import Distance, HeadPairs, Ranking, apart, array_of, first_of_each
from attn.scores import BANDS, LISTS, SCORES
from attn.store import MANIFEST, PAIR_GROUP, Manifest, read_manifest, verify
from attn.tables import table

__all__ = [
    "BANDS", "LISTS", "Index", "Manifest", "Ranking", "TokenRow", "find_indexes", "verify",
]  # fmt: skip


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


_OF_WEIGHTS = ("q_", "k_", "v_", "ov_", "qk_")  # how the columns begin that hold lists


def find_indexes(folder: Path) -> list[Path]:
    """Folders with a manifest inside ``folder``, the newest first."""
    if not folder.is_dir():
        return []
    found = [path.parent for path in folder.glob(f"*/{MANIFEST}") if path.parent.name[0] != "."]
    return sorted(found, key=lambda path: (-(path / MANIFEST).stat().st_mtime, path.name))


class Index:
    """A scanned corpus: metrics and examples of every head of one model.

    Opened with :meth:`open`, which raises IndexMissing, IndexMismatch or IndexDamaged; safe to
    share between threads. ``path`` the folder, ``manifest`` what was scanned and how. Attention is
    a share of a row, 0..1; a multiple is how many times its row's average a source got (see
    :mod:`attn.scores`); a metric is (layer, head) float64 (see :mod:`attn.metrics`).

    >>> import attn
    >>> index = attn.Index.open(index.path)
    >>> index.metric("induction").shape
    (30, 9)
    >>> head = attn.HeadId.parse("L18H6")
    >>> first, second = index.top(head, 2).examples
    >>> first.multiple >= second.multiple > 1
    True
    >>> [example.token for example in index.top(head, 3, token=" the").examples]
    [' the', ' the', ' the']
    >>> round(sum(index.budget(head).values()), 6)
    1.0
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self._kept_of = lru_cache(maxsize=64)(self._read_kept)
        self._tokens_of = lru_cache(maxsize=64)(self._read_tokens)
        self._listed_in = lru_cache(maxsize=64)(self._read_listed)
        self._document_group = lru_cache(maxsize=256)(self._read_group)

    @classmethod
    def open(cls, path: Path | str) -> Index:
        """Open an index; raises IndexMissing, IndexMismatch or IndexDamaged."""
        folder = Path(path)
        return cls(folder, read_manifest(folder))

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    def heads(self) -> list[HeadId]:
        """Every head, by layer, then head."""
        shape = self.manifest.n_layers, self.manifest.n_heads
        return [HeadId(layer, head) for layer, head in np.ndindex(shape)]

    def __repr__(self) -> str:
        return f"Index({self.name})"

    def _repr_html_(self) -> str:
        kept = self.manifest
        rows = [
            ("model", kept.model),
            ("corpus", kept.corpus),
            ("heads", f"{kept.n_layers} layers × {kept.n_heads}"),
            ("documents", f"{kept.documents:,}"),
            ("tokens", f"{kept.tokens:,}, {kept.ctx} a window at most"),
            ("counted", f"rows from {kept.min_row}"),
        ]
        return table(("index", self.name), rows)

    # Numbers of heads

    @cached_property
    def _heads(self) -> dict[str, np.ndarray]:
        """Column of heads.parquet → (layer, head, ...)."""
        table = self._table(store.HEADS, None)
        shape = self.manifest.n_layers, self.manifest.n_heads
        return {
            name: _values(table[name]).reshape(*shape, *_list_shape(table[name]))
            for name in table.column_names
        }

    @cached_property
    def _metrics(self) -> dict[str, np.ndarray]:
        rows = self._heads["rows"].astype(np.float64)
        none = np.full_like(rows, np.nan)
        means = {}
        for i, name in enumerate(SUMS):
            total = self._heads["sums"][..., i] / SCALES.get(name, FIXED)
            means[name] = np.divide(total, rows, out=none.copy(), where=rows > 0)
        left_out = (*WEIGHT_METRICS, *(() if self.manifest.write else WRITE_SUMS))
        found = {}
        for name in METRICS:
            if name in self._heads:
                found[name] = self._heads[name]
            elif name not in left_out:
                found[name] = values_of(name, means)
        return found

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics of this index, in the order to show them."""
        return tuple(self._metrics)

    def metric(self, name: str) -> np.ndarray:
        """(layer, head) float64: one metric of every head. Raises QueryError for another name."""
        if name not in self._metrics:
            known = ", ".join(self.metric_names)
            raise QueryError(f"The index has no metric {name!r}: choose one of {known}.")
        return self._metrics[name].copy()

    def numbers(self, head: HeadId) -> dict[str, float]:
        """Every metric of one head."""
        self._check(head)
        return {
            name: float(values[head.layer, head.head]) for name, values in self._metrics.items()
        }

    def of_model(self) -> dict[str, np.ndarray]:
        """What no corpus changes: column → (layer, head) or (layer, head, ...).

        The metrics on random tokens and, where the index has them, what the weights say, as
        :func:`attn.weights.measure_weights` gives it.
        """
        names = [name for name in self._heads if name in METRICS or name.startswith(_OF_WEIGHTS)]
        return {name: self._heads[name] for name in names}

    def singular_values(self, head: HeadId) -> dict[str, np.ndarray]:
        """The singular values of a head's circuits, falling: ``ov`` and ``qk`` → (d_head,).

        Empty where the index has none. Raises HeadError for a head out of range.
        """
        self._check(head)
        at = head.layer, head.head
        names = [name for name in ("ov", "qk") if f"{name}_singular" in self._heads]
        values = {name: self._heads[f"{name}_singular"][at] for name in names}
        return {name: some[np.isfinite(some)] for name, some in values.items()}

    def composes_with(self, head: HeadId) -> dict[str, list[tuple[HeadId, float]]]:
        """The earlier heads that a head composes with most: ``q``, ``k``, ``v`` → (head, score).

        Scores are shares of norms, 0 to 1, the highest first (see :mod:`attn.weights`). Empty where
        the index has none. Raises HeadError for a head out of range.
        """
        self._check(head)
        at, n = (head.layer, head.head), self.manifest.n_heads
        found = {}
        for way in ("q", "k", "v"):
            if f"{way}_heads" in self._heads:
                numbers, scores = self._heads[f"{way}_heads"][at], self._heads[f"{way}_scores"][at]
                found[way] = [
                    (HeadId(*divmod(int(number), n)), float(score))
                    for number, score in zip(numbers, scores, strict=True)
                    if number >= 0
                ]
        return found

    def rows(self, head: HeadId) -> int:
        """Rows counted: real rows from min_row on, with finite attention."""
        return self._count("rows", head)

    def pairs(self, head: HeadId) -> int:
        """Pairs above average in the whole corpus."""
        return self._count("pairs", head)

    def nonfinite(self, head: HeadId) -> int:
        """Rows left out because their attention was not finite."""
        return self._count("nonfinite", head)

    def budget(self, head: HeadId) -> dict[str, float]:
        """The head's attention mass by part, in the order of claims; the shares add to 1.

        All NaN where no row was counted.
        """
        rows = self.rows(head)
        if not rows:
            return dict.fromkeys(PARTS, float("nan"))
        shares = self._heads["parts"][head.layer, head.head] / FIXED / rows
        return dict(zip(PARTS, [*map(float, shares), float(1 - shares.sum())], strict=True))

    def distances(self, head: HeadId) -> tuple[np.ndarray, np.ndarray]:
        """Where each bin of distance begins, and the share of the mass in it: (bin,), (bin,)."""
        rows = max(self.rows(head), 1)
        mass = self._heads["distances"][head.layer, head.head] / FIXED / rows
        return np.array(DISTANCES), mass

    def attention_counts(self, head: HeadId) -> np.ndarray:
        """(bin,) pairs above average: bin i has 2^-i-1 <= attention < 2^-i, the last the rest."""
        self._check(head)
        counts: np.ndarray = self._heads["attention"][head.layer, head.head]
        return counts.copy()

    def warnings(self) -> list[str]:
        """What to know before believing the numbers, in sentences."""
        said = list(self.manifest.notices)
        if self.manifest.short:
            n = self.manifest.short
            what = "document" if n == 1 else "documents"
            said.append(f"Skipped {n} {what} of fewer than two tokens.")
        if self.manifest.without_attention:
            layers = self.manifest.without_attention
            some = f"Layers {', '.join(map(str, layers))}" if layers[1:] else f"Layer {layers[0]}"
            have = "have" if layers[1:] else "has"
            said.append(f"{some} of {self.manifest.model} {have} no attention: left out.")
        bad = [HeadId(int(a), int(b)) for a, b in np.argwhere(self._heads["nonfinite"] > 0)]
        if bad:
            rows = int(self._heads["nonfinite"].sum())
            heads = ", ".join(map(str, bad[:8])) + (" and others" if len(bad) > 8 else "")
            remedy = {
                "float16": "scan with --dtype bfloat16 or float32",
                "bfloat16": "scan with --dtype float32",
            }.get(self.manifest.dtype, "no dtype is wider, so check the model's weights")
            said.append(
                f"Left out {rows:,} rows of {heads} whose attention is not finite "
                f"in {self.manifest.dtype}: {remedy}."
            )
        return said

    # Tokens

    @cached_property
    def _vocabulary(self) -> dict[str, np.ndarray]:
        table = self._table(store.VOCABULARY, None)
        return {
            name: np.array(table[name].to_pylist(), object)
            if name == "text"
            else array_of(table[name])
            for name in table.column_names
        }

    @property
    def vocabulary(self) -> Sequence[str]:
        """Every token text of the corpus."""
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

    def destinations(self, head: HeadId, n: int | None = None) -> list[TokenRow]:
        """From which tokens the head looks elsewhere than at the first position, most first."""
        return self._token_rows(head, "destination", self._vocabulary["rows"], n)

    def token_counts(self) -> np.ndarray:
        """(token,) int64: how often each token of :attr:`vocabulary` stands in the corpus."""
        counts: np.ndarray = self._vocabulary["count"].astype(np.int64)
        return counts

    def source_masses(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of every head, the numbers of the tokens it saw, and the attention it gave them."""
        for _, columns in self._all_tokens():
            yield columns["token"], columns["source_mass"] / FIXED

    def given(self, text: str, *, regex: bool = False) -> Given:
        """What every head gave the tokens that read exactly so, or that the expression finds.

        Exact over the whole corpus. Raises QueryError where no token of the corpus matches.
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
        """The vocabulary's numbers of the tokens that read so, or that the expression finds."""
        texts = self._vocabulary["text"]
        if not regex:
            return np.flatnonzero(texts == text)
        try:
            rule = re.compile(text)
        except re.error as error:
            raise QueryError(f"{text!r} is not a regular expression: {error}.") from error
        return np.array([i for i, one in enumerate(texts) if rule.search(one)], np.int64)

    # Examples

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
        only pairs whose source and destination token reads exactly so, or, with ``regex``, where
        the expression finds something; ``distance`` only pairs whose destination is so many
        positions after their source, at least and at most; ``reverse`` the pairs nearest above
        average first, by multiple; ``one_per_document`` the best pair of each document. Ties: the
        earlier document, destination, source first. A filter by source token is exact over the
        whole corpus, by multiple; the others look among the examples that the index keeps, and say
        so. Raises QueryError for a question without an answer, HeadError for a head out of range.
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
        texts = self.window(document, start).texts
        if not (0 <= src < len(texts) and 0 <= dst < len(texts)):
            return None
        kept = self._kept(head)
        listed, _ = self._listed(head, self._numbers_of(texts[src], False))
        for pairs in (kept, listed):
            at = (pairs.document == document) & (pairs.start == start)
            at &= (pairs.dst == dst) & (pairs.src == src)
            found = self._examples(head, pairs.only(np.flatnonzero(at)), 1)
            if found:
                return found[0]
        return None

    def _answer(self, head: HeadId, pairs: HeadPairs, n: int, *, one: bool = False) -> Ranking:
        """The first of a list, which are the first of the whole corpus."""
        exact = not one or len(pairs) >= self.pairs(head)
        if one:
            pairs = pairs.only(first_of_each(pairs.document))
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
        kept = kept.only(kept.above(skip_first=self.manifest.skip_first))
        whole, matching = len(kept) >= self.pairs(head), None
        last = None  # which pairs are the last that the index lists of a token that has more
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
        if distance is not None:  # how many there are in all is not counted
            kept = kept.only(apart(kept, distance))
            matching, last = len(kept) if whole else None, None
        if by == "write":  # which the pairs that are kept without their rows lack
            kept = kept.only(~np.isnan(kept.write))
        order = kept.order(kept.score(by), reverse=reverse)
        exact = len(kept) == matching
        if not exact and last is not None and last.any() and by == "multiple" and not reverse:
            # Up to the first token whose listed pairs end here, no pair is missing.
            order, exact = order[: int(np.argmax(last[order])) + 1], True
        kept = kept.only(order)
        if one:
            exact = exact and (len(kept) == matching or _different(kept.document) >= n)
            kept = kept.only(first_of_each(kept.document))
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
            pairs = pairs.only(apart(pairs, distance))
        exact = whole or (token is None and destination is None and distance is None)
        total = self.rows(head) if name == "rows" else self.pairs(head)
        return Ranking(self._examples(head, pairs, n), total, len(pairs), exact)

    def _examples(self, head: HeadId, pairs: HeadPairs, n: int) -> tuple[Example, ...]:
        return pairs.examples(head, self._vocabulary["text"], n)

    def _listed(self, head: HeadId, wanted: np.ndarray) -> tuple[HeadPairs, np.ndarray]:
        """The listed pairs of source tokens, and which is the last of a token that has more."""
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
        numbers = self._numbers
        found = [
            numbers[self.window(int(d), int(s)).texts[int(dst)]]
            for d, s, dst in zip(pairs.document, pairs.start, pairs.dst, strict=True)
        ]
        return np.array(found, np.int64)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {text: i for i, text in enumerate(self._vocabulary["text"])}

    def window(self, document: int, start: int = 0) -> Window:
        """The scanned tokens of a document, of the window that begins at its token ``start``.

        Raises QueryError when the index has none such.
        """
        groups = self.manifest.groups
        first = max(int(np.searchsorted(groups, document, side="left")) - 1, 0)
        last = int(np.searchsorted(groups, document, side="right"))
        for group in range(first, last):
            for row in self._document_group(group):
                if row["document"] == document and row["start"] == start:
                    return Window(
                        document, start, row["source"], tuple(row["texts"]), tuple(row["ids"]),
                        row["id"],
                    )  # fmt: skip
        raise QueryError(f"The index has no document {document}.")

    # Files

    def _count(self, name: str, head: HeadId) -> int:
        self._check(head)
        return int(self._heads[name][head.layer, head.head])

    def _check(self, head: HeadId) -> None:
        head.check(self.manifest.n_layers, self.manifest.n_heads)

    def _kept(self, head: HeadId) -> HeadPairs:
        self._check(head)
        return self._kept_of(head)

    def _read_kept(self, head: HeadId) -> HeadPairs:
        name = store.layer_file("examples", head.layer)
        return HeadPairs.of_examples(self._table(name, head.head))

    def _tokens(self, head: HeadId) -> dict[str, np.ndarray]:
        self._check(head)
        return self._tokens_of(head)

    def _read_tokens(self, head: HeadId) -> dict[str, np.ndarray]:
        table = self._table(store.layer_file("tokens", head.layer), head.head)
        return {name: array_of(table[name]) for name in table.column_names}

    def _read_listed(self, head: HeadId, group: int) -> pa.Table:
        before = self._heads["listed"][head.layer, : head.head]
        number = int((-(-before // PAIR_GROUP)).sum()) + group
        return self._table(store.layer_file("pairs", head.layer), number)

    def _read_group(self, group: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._table(store.DOCUMENTS, group).to_pylist()
        return rows

    def _all_tokens(self) -> Iterator[tuple[HeadId, dict[str, np.ndarray]]]:
        """The source columns of every head's token table, with each file opened once."""
        columns = ["token", "source_mass", "source_pairs"]
        for layer in range(self.manifest.n_layers):
            name = store.layer_file("tokens", layer)
            with self._file(name) as file:
                for head in range(self.manifest.n_heads):
                    table = file.read_row_group(head, columns)
                    yield HeadId(layer, head), {c: array_of(table[c]) for c in columns}

    def _table(self, name: str, group: int | None) -> pa.Table:
        """A file's table, or one row group of it."""
        with self._file(name) as file:
            return file.read() if group is None else file.read_row_group(group)

    @contextmanager
    def _file(self, name: str) -> Iterator[pq.ParquetFile]:
        """A file of the index, opened; footer and page checksums are checked."""
        path = self.path / name
        try:
            if store.footer(path) != self.manifest.files[name].footer:
                raise OSError("its footer is not the one that was written")
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                yield file
        except (OSError, KeyError, pa.ArrowException) as error:
            raise IndexDamaged(
                f"File {name} of the index {self.name} cannot be read: scan again."
            ) from error


def _different(values: np.ndarray) -> int:
    return len(np.unique(values))


def _values(column: pa.ChunkedArray) -> np.ndarray:
    """All values of a column, of its lists one after the other, in the column's type."""
    whole = column.combine_chunks()
    flat = whole.flatten() if pa.types.is_list(column.type) else whole
    return array_of(flat).copy()


def _list_shape(column: pa.ChunkedArray) -> tuple[int, ...]:
    return (-1,) if pa.types.is_list(column.type) else ()
