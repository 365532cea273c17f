"""The oracle's second half: the budget, histograms, token tables and writes, again plain loops.

Counts of pairs cannot be told to the last one where two correct computations differ by 1e-7: of
these, each function gives the least and the most that are right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.oracle import NEAR, Pair, Text, is_mark, sources

PARTS = ("sink", "self", "previous", "special", "duplicate", "induction", "punctuation", "rest")
DISTANCES = (0, 1, 2, 3, 5, 9, 17, 33, 65, 129, 257, 513, 1025, 2049, 4097)
BANDS = ((0, 1 / 16), (1 / 16, 1 / 8), (1 / 8, 1 / 4), (1 / 4, 1 / 2), (1 / 2, 2))


def part_of(
    ids: Sequence[int], shown: Sequence[str], dst: int, src: int, end: int | None = None
) -> str:
    """The first part of the budget that claims a pair; special tokens stand from ``end`` on."""
    if src == 0:
        return "sink"
    if src == dst:
        return "self"
    if src == dst - 1:
        return "previous"
    if end is not None and src >= end:
        return "special"
    if src < dst and ids[src] == ids[dst]:
        return "duplicate"
    if src < dst and ids[src - 1] == ids[dst]:
        return "induction"
    return "punctuation" if shown and is_mark(shown[src]) else "rest"


def budget(texts: Iterable[Text], layer: int, head: int, min_row: int) -> dict[str, float]:
    """The share of the head's attention that each part has."""
    mass, rows, special = dict.fromkeys(PARTS, 0.0), 0, False
    for text in texts:
        pattern = text.patterns[layer, head]
        for dst in text.rows(min_row):
            rows += 1
            for src in sources(dst, text.sees(layer)):
                mass[part_of(text.ids, text.shown, dst, src, text.end)] += pattern[dst, src]
        if text.suffix:
            special = True
    if not special:
        assert mass.pop("special") == 0
    return {part: total / rows for part, total in mass.items()}


def distances(texts: Iterable[Text], layer: int, head: int, min_row: int) -> list[float]:
    """The share of the attention at the distances of each bin."""
    mass, rows = [0.0] * len(DISTANCES), 0
    for text in texts:
        pattern = text.patterns[layer, head]
        for dst in text.rows(min_row):
            rows += 1
            for src in sources(dst, text.sees(layer)):
                bin_ = max(i for i, least in enumerate(DISTANCES) if least <= abs(dst - src))
                mass[bin_] += pattern[dst, src]
    return [total / rows for total in mass]


def attention_bin(attention: float, bins: int = 12) -> int:
    """Bin i has 2^-i-1 <= attention < 2^-i, the last all below; 1 is in bin 0."""
    for i in range(bins - 1):
        if attention >= 2.0 ** (-i - 1):
            return i
    return bins - 1


def attention_counts(pairs: Iterable[Pair]) -> tuple[list[int], list[int]]:
    """The least and the most pairs above average in each bin of attention."""
    least, most = [0] * 12, [0] * 12
    for pair in pairs:
        low = attention_bin(pair.attention * (1 - NEAR))
        high = attention_bin(pair.attention * (1 + NEAR))
        for bin_ in {low, high}:
            most[bin_] += 1
        if low == high and pair.multiple > 1 + NEAR:
            least[low] += 1
    return least, most


@dataclass
class Tokens:
    """What a head gave one token, or did from it; pairs: the least and the most."""

    count: int = 0
    rows: int = 0
    least: int = 0
    most: int = 0
    mass: float = 0.0
    even: float = 0.0
    maximum: float = 0.0


def token_tables(
    texts: Iterable[Text], layer: int, head: int, min_row: int, skip_first: bool = True
) -> tuple[dict[str, Tokens], dict[str, Tokens]]:
    """Source tokens and destination tokens, by what they are called.

    ``mass`` of a source: the attention it gets, ``even`` what it would get from even rows, both
    without the first position where that is skipped; of a destination: what its rows do not leave
    at the first position.
    """
    source: dict[str, Tokens] = defaultdict(Tokens)
    destination: dict[str, Tokens] = defaultdict(Tokens)
    for text in texts:
        pattern = text.patterns[layer, head]
        for position, name in enumerate(text.names):
            new = not text.start or position in text.rows(min_row)  # in no window before
            source[name].count += new
            destination[name].count += new
            destination[name].rows += position in text.rows(min_row)
        for dst in text.rows(min_row):
            here, seen = destination[text.names[dst]], sources(dst, text.sees(layer))
            for src in seen:
                there, attention = source[text.names[src]], float(pattern[dst, src])
                here.mass += attention if 0 < src < text.end else 0.0
                if skip_first and (src == 0 or src >= text.end):
                    continue
                there.mass += attention
                there.even += 1 / len(seen)
                multiple = attention * len(seen)
                for entry in (here, there):
                    entry.maximum = max(entry.maximum, multiple)
                    entry.most += multiple > 1 - NEAR
                    entry.least += multiple > 1 + NEAR
    return dict(source), dict(destination)


def in_band(pairs: Iterable[Pair], band: int) -> list[Pair]:
    """Those whose attention is in a band, or so near that it may be."""
    low, high = BANDS[band]
    return [p for p in pairs if low * (1 - NEAR) <= p.attention < high * (1 + NEAR)]


def best_source(text: Text, layer: int, head: int, dst: int) -> float:
    """The most attention that a row gives to a source other than the first."""
    others = [src for src in sources(dst, text.sees(layer)) if src > 0]
    pattern = text.patterns[layer, head, dst]
    best = max((float(pattern[src]) for src in others), default=0.0)
    return best if best > 0 else float(pattern[0])


def value_writes(model: Any, ids: Sequence[int]) -> np.ndarray:
    """(layer, head, src): how long what each source's value writes is, from a plain GPT-2 or Llama.

    Values are taken where the model computes them, weights as it has them.
    """
    import torch

    config, values = model.config, []
    gpt2 = config.model_type == "gpt2"
    layers = model.transformer.h if gpt2 else model.model.layers
    projections = [layer.attn.c_attn if gpt2 else layer.self_attn.v_proj for layer in layers]
    hooks = [
        module.register_forward_hook(lambda _, __, out: values.append(out[0].double().numpy()))
        for module in projections
    ]
    try:
        with torch.no_grad():
            model(torch.tensor([list(ids)]), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    heads = config.num_attention_heads
    width = config.hidden_size // heads
    group = 1 if gpt2 else heads // config.num_key_value_heads
    found = np.zeros((len(layers), heads, len(ids)))
    for i, layer in enumerate(layers):
        if gpt2:
            value = values[i][:, 2 * config.hidden_size :]  # after the queries and the keys
            output = layer.attn.c_proj.weight.detach().double().numpy()  # (in, out)
        else:
            value = values[i]
            output = layer.self_attn.o_proj.weight.detach().double().numpy().T
        for head in range(heads):
            shared = head // group
            for src in range(len(ids)):
                own = value[src, shared * width : (shared + 1) * width]
                moved = np.zeros(config.hidden_size)
                for k in range(width):
                    moved += own[k] * output[head * width + k]
                found[i, head, src] = float(np.sqrt((moved**2).sum()))
    return found
