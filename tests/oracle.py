"""A second implementation, from the definitions alone: plain loops, nothing shared with ``attn``.

It starts from plain Hugging Face eager attentions of one unpadded sequence at a time, works in
float64 and is meant to be read next to DESIGN.md's table of words. What a row sees is causal unless
a text says otherwise: ``seen`` (dst, src), or (layer, dst, src) for a whole model, is true where
the mask lets a row look.

``check_ranking`` compares a list of examples with what the definitions ask for. Two correct
computations of a pattern differ by about 1e-7, so pairs whose scores are closer than ``NEAR``
may come in either order, and a pair whose multiple is that close to 1 may or may not be in.
Everything else must match exactly.
"""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NEAR = 3e-5
"""How near two readings in float32 are: on the tiny GPT-2, whose logits are large, ours and eager
attention are each within 4e-5 of attention in float64, and within 2e-5 of each other."""

Key = tuple[int, int, int, int]


@dataclass(frozen=True)
class Pair:
    """One (document, dst, src) with its scores; ``start`` where its window begins.

    ``first`` the first document with its text, None where that is its own.
    """

    document: int
    dst: int
    src: int
    multiple: float
    attention: float
    start: int = 0
    write: float | None = None
    first: int | None = None

    @property
    def text(self) -> int:
        """The first document with its text."""
        return self.document if self.first is None else self.first

    @property
    def key(self) -> Key:
        return (self.document, self.start, self.dst, self.src)


def key_of(example: Any) -> Key:
    """The same of an example of the index."""
    return (example.document, example.start, example.dst, example.src)


@dataclass(frozen=True)
class Text:
    """One scanned document: its place, its ids, its patterns (layer, head, dst, src), its masks.

    ``shown`` what each token reads; ``norms`` (layer, head, src) what each source's value writes;
    ``start`` where the window begins in the document; ``counted`` its rows that count, None for all
    from ``min_row`` on; ``first`` the first document with its text, None where that is its own;
    ``names`` what each token is called, ``words`` the number of its word; ``suffix`` how many
    special tokens end it, whose rows do not count and which are in no pair.
    """

    document: int
    ids: list[int]
    patterns: np.ndarray
    seen: np.ndarray | None = None
    shown: Sequence[str] = ()
    norms: np.ndarray | None = None
    start: int = 0
    counted: Sequence[int] | None = None
    first: int | None = None
    names: Sequence[str] = ()
    words: Sequence[int] = ()
    suffix: int = 0

    @property
    def end(self) -> int:
        """Where the special tokens that end it begin."""
        return len(self.ids) - self.suffix

    def rows(self, min_row: int) -> Sequence[int]:
        """The rows that count."""
        return range(min_row, self.end) if self.counted is None else self.counted

    def sees(self, layer: int) -> np.ndarray | None:
        """(dst, src) where the mask of a layer lets a row look; None is causal."""
        return None if self.seen is None else self.seen[layer]


def attentions(model: Any, ids: Sequence[int]) -> np.ndarray:
    """(layer, head, dst, src) float64 from a plain Hugging Face model with eager attention."""
    import torch

    assert model.config._attn_implementation == "eager"
    with torch.no_grad():
        out = model(torch.tensor([list(ids)]), output_attentions=True, use_cache=False)
    assert out.attentions is not None
    assert len(out.attentions) == model.config.num_hidden_layers
    assert all(layer is not None for layer in out.attentions)
    return np.stack([layer[0].double().numpy() for layer in out.attentions])


def read(model: Any, documents: Iterable[tuple[int, Sequence[int]]]) -> list[Text]:
    """Patterns of every (place, ids)."""
    return [Text(place, list(ids), attentions(model, ids)) for place, ids in documents]


def sources(dst: int, seen: np.ndarray | None = None) -> list[int]:
    """The sources that the mask lets a row see."""
    return list(range(dst + 1)) if seen is None else np.flatnonzero(seen[dst]).tolist()


def multiples(pattern: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray:
    """(dst, src): how many times its row's average each source got."""
    table = np.zeros_like(pattern)
    for dst in range(len(pattern)):
        visible = sources(dst, seen)
        average = 1 / len(visible)
        for src in visible:
            table[dst, src] = pattern[dst, src] / average
    return table


def pairs_above(
    texts: Sequence[Text],
    layer: int,
    head: int,
    *,
    min_row: int = 10,
    skip_first: bool = True,
    least: float = 1.0,
) -> list[Pair]:
    """Every pair of a head whose multiple is more than ``least``, in the rows counted."""
    found = []
    for text in texts:
        pattern = text.patterns[layer, head]
        table = multiples(pattern, text.sees(layer))
        for dst in text.rows(min_row):
            for src in sources(dst, text.sees(layer)):
                if skip_first and (src == 0 or src >= text.end):
                    continue
                if table[dst, src] > least:
                    a = float(pattern[dst, src])
                    moved = None if text.norms is None else a * text.norms[layer, head, src]
                    where = (text.document, dst, src, table[dst, src], a, text.start, moved)
                    found.append(Pair(*where, text.first))
    return found


def is_mark(shown: str) -> bool:
    """Whether a token is punctuation or line ends alone, spaces aside."""
    bare = shown.strip(" \t")
    return bare != "" and all(
        char in "\r\n" or unicodedata.category(char)[0] == "P" for char in bare
    )


def words_of(tokenizer: Any, line: str) -> list[int]:
    """The number of the word of each token: by the tokenizer's own words, cut where the text's runs
    of letters, digits and marks end. A number is one word, however many the tokenizer makes of it.
    """
    runs, run, before = [], 0, False
    for char in line:
        inside = char.isalnum() or unicodedata.category(char)[0] == "M" or char in "\u200c\u200d"
        run += not (inside and before)
        before = inside
        runs.append(run)
    told = tokenizer(
        line, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )
    spans, own = told["offset_mapping"], told.word_ids(0)
    spans = [  # a space mark that stands for no space covers nothing
        (end, end) if set(name) == {"▁"} and " " not in line[start:end] else (start, end)
        for (start, end), name in zip(spans, told.tokens(), strict=True)
    ]
    spans = [(0, 0) if i == 0 and a == b else (a, b) for i, (a, b) in enumerate(spans)]
    words: list[int] = []
    for i, (start, end) in enumerate(spans):
        if i and start < spans[i - 1][1] and start < end:  # pieces of one character
            words.append(words[-1])
            continue
        last = spans[i - 1][1] - 1 if i else -1
        goes_on = last >= 0 and start == last + 1 < len(line) and runs[start] == runs[last]
        same = own[i] == own[i - 1] or (line[start : start + 1] + line[last : last + 1]).isdigit()
        words.append(words[-1] if goes_on and same else (words[-1] + 1 if words else 0))
    return words


def words_of_texts(shown: Sequence[str]) -> list[int]:
    """The same of tokens whose texts are given: pieces go on where letters or digits meet."""
    words = [0]
    for before, text in itertools.pairwise(shown):
        words.append(words[-1] + (not (before[-1:].isalnum() and text[:1].isalnum())))
    return words[: len(shown)]


def row_numbers(
    pattern: np.ndarray,
    ids: Sequence[int],
    dst: int,
    seen: np.ndarray | None = None,
    shown: Sequence[str] = (),
    norms: np.ndarray | None = None,
    words: Sequence[int] = (),
    end: int | None = None,
) -> dict[str, float]:
    """The metrics of one row of a pattern (dst, src), and what others are made of.

    ``norms`` (src,) what each source's value writes; ``words`` the number of each token's word;
    ``end`` where the special tokens at the end begin.
    """
    row = pattern[dst]
    visible = sources(dst, seen)
    written = [0.0 if norms is None else float(row[src] * norms[src]) for src in visible]
    whole = sum(written) or 1.0
    return {
        **{f"offset_{k}": float(row[dst - k]) if dst >= k else 0.0 for k in range(2, 9)},
        "punctuation": sum(
            float(row[src]) for src in visible if src > 0 and shown and is_mark(shown[src])
        ),
        "separator": sum(float(row[src]) for src in visible if end is not None and src >= end),
        "same_word": sum(
            float(row[src]) for src in range(dst) if len(words) and words[src] == words[dst]
        ),
        "concentration": max(float(row[src]) for src in visible),
        "distance_squared": sum(float(row[src]) * (dst - src) ** 2 for src in visible),
        "entropy_most": math.log2(len(visible)),
        "repeats": float(any(ids[src] == ids[dst] for src in range(dst))),
        "sink_write": sum(w for src, w in zip(visible, written, strict=True) if src == 0) / whole,
        "previous_write": (
            sum(w for src, w in zip(visible, written, strict=True) if src == dst - 1) / whole
        ),
        "self": float(row[dst]),
        "previous": float(row[dst - 1]) if dst else 0.0,
        "sink": float(row[0]),
        "duplicate": sum(float(row[src]) for src in range(dst) if ids[src] == ids[dst]),
        "induction": sum(
            float(row[src])
            for src in range(1, dst + 1)
            if src - 1 < dst and ids[src - 1] == ids[dst]
        ),
        "entropy": -sum(float(row[src]) * math.log2(row[src]) for src in visible if row[src] > 0),
        "distance": sum(float(row[src]) * abs(dst - src) for src in visible),
    }


def head_numbers(
    texts: Sequence[Text], layer: int, head: int, min_row: int = 10
) -> dict[str, float]:
    """The metrics of a head: means over its counted rows, and how many ``rows`` they are."""
    rows = [
        row_numbers(
            text.patterns[layer, head],
            text.ids,
            dst,
            text.sees(layer),
            text.shown,
            None if text.norms is None else text.norms[layer, head],
            text.words,
            text.end,
        )
        for text in texts
        for dst in text.rows(min_row)
    ]
    means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    variance = means["distance_squared"] - means["distance"] ** 2
    return {
        **means,
        "rows": len(rows),
        "spread": math.sqrt(max(variance, 0.0)),
        "entropy_share": means["entropy"] / means["entropy_most"],
        "prefix_matching": (
            means["induction"] / means["repeats"] if means["repeats"] else math.nan
        ),
    }


def random_numbers(texts: Sequence[Text], layer: int, head: int) -> dict[str, float]:
    """The metrics on sequences that say the same tokens twice, over the second copy's rows."""
    totals = {"induction_random": 0.0, "duplicate_random": 0.0, "previous_random": 0.0}
    rows = 0
    for text in texts:
        length = len(text.ids) // 2
        start = len(text.ids) - length
        assert text.ids[start - length : start] == text.ids[start:]
        pattern = text.patterns[layer, head]
        for dst in range(start, start + length):
            totals["induction_random"] += pattern[dst, dst - (length - 1)]
            totals["duplicate_random"] += pattern[dst, dst - length]
            totals["previous_random"] += pattern[dst, dst - 1]
            rows += 1
    return {name: total / rows for name, total in totals.items()}


def by_multiple(pair: Pair) -> float:
    return pair.multiple


def by_attention(pair: Pair) -> float:
    return pair.attention


def by_write(pair: Pair) -> float:
    assert pair.write is not None
    return pair.write


def ranked(
    pairs: Iterable[Pair], score: Callable[[Pair], float] = by_multiple, *, reverse: bool = False
) -> list[Pair]:
    """Pairs by falling score (rising with ``reverse``); ties by document, dst, src."""
    sign = 1 if reverse else -1
    return sorted(pairs, key=lambda pair: (sign * score(pair), pair.key))


def best_of_each(
    pairs: Iterable[Pair], score: Callable[[Pair], float] = by_multiple, *, reverse: bool = False
) -> list[Pair]:
    """The first pair of each document in the ranking, of each text where some repeat it."""
    seen: set[int] = set()
    firsts = []
    for pair in ranked(pairs, score, reverse=reverse):
        if pair.text not in seen:
            seen.add(pair.text)
            firsts.append(pair)
    return firsts


def check_examples(examples: Sequence[Any], pairs: Iterable[Pair]) -> None:
    """Every example is one of ``pairs``, once, with the same scores."""
    known = {pair.key: pair for pair in pairs}
    keys = [key_of(example) for example in examples]
    assert len(set(keys)) == len(keys)
    for key, example in zip(keys, examples, strict=True):
        assert key in known, f"{key} is not above average"
        assert math.isclose(example.multiple, known[key].multiple, rel_tol=NEAR)
        assert math.isclose(example.attention, known[key].attention, rel_tol=NEAR)
        write = known[key].write
        if example.write is None:
            assert write is None or example.row is None  # kept as a pair alone
        else:
            assert write is not None
            assert math.isclose(example.write, write, rel_tol=NEAR)


def check_ranking(
    examples: Sequence[Any],
    pairs: Sequence[Pair],
    limit: int,
    score: Callable[[Pair], float] = by_multiple,
    *,
    reverse: bool = False,
    one_per_document: bool = False,
) -> None:
    """The examples are the first ``limit`` of the ranking of ``pairs``.

    ``pairs``: all pairs with a multiple over ``1 - NEAR``.
    """
    check_examples(examples, pairs)
    known = {pair.key: pair for pair in pairs}
    got = [known[key_of(example)] for example in examples]
    sure = [pair for pair in pairs if pair.multiple > 1 + NEAR]
    if one_per_document:
        assert len({pair.text for pair in got}) == len(got)
        # Where two pairs of a text are nearly equal, either may stand for it.
        chosen = {pair.text: pair for pair in got}
        firsts = best_of_each(pairs, score, reverse=reverse)
        for pair in firsts:
            other = chosen.get(pair.text, pair)
            assert math.isclose(score(other), score(pair), rel_tol=NEAR)
        texts = {pair.text for pair in sure}
        pairs = [chosen.get(pair.text, pair) for pair in firsts]
        sure = [pair for pair in pairs if pair.text in texts]

    assert min(limit, len(sure)) <= len(got) <= min(limit, len(pairs))
    either = {pair.key for pair in [*sure, *got]}
    maybe = [pair for pair in pairs if pair.key in either]
    wanted = [score(pair) for pair in ranked(maybe, score, reverse=reverse)][: len(got)]
    np.testing.assert_allclose([score(pair) for pair in got], wanted, rtol=NEAR, atol=0)
    if len(got) < len(sure):
        last = wanted[-1]
        clear = last * (1 - NEAR) if reverse else last * (1 + NEAR)
        inside = {p.key for p in sure if (score(p) < clear if reverse else score(p) > clear)}
        assert inside <= {pair.key for pair in got}
    else:
        assert {pair.key for pair in sure} <= {pair.key for pair in got}
    # What scores exactly the same comes in the order of its place.
    reported = [float(score(example)) for example in examples]
    for i in range(1, len(got)):
        if reported[i] == reported[i - 1]:
            assert got[i - 1].key < got[i].key
