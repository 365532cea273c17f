"""The compiled walk over a pattern's cells on a CPU: every row is read once, for all purposes.

It gives what :mod:`attn.scan.reduce` computes with torch on other devices, except that it names
only the pairs above average that a list may still take. Compiled once for a machine and cached.

log2 is that of musl: the exponent is taken off so that the rest lies within a factor of the root of
two around 1, where ``2 atanh((m - 1) / (m + 1)) / ln 2`` needs five terms for float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

_SPLIT = np.int32(0x3F3504F3)  # the bits of the root of one half
_ATANH = tuple(np.float32(2 / np.log(2) / k) for k in (1, 3, 5, 7, 9))
_STRIDE = 32  # cells that vectorised loops take in one step
_FAST = {"reassoc", "contract", "nnan", "ninf", "nsz"}  # every pattern given is finite

_Compiled = Callable[[Callable[..., Any]], Callable[..., Any]]
_compiled: _Compiled = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_FAST)


@_compiled
def _highest(bits: Any) -> Any:
    """The largest of numbers that are not negative, by their bits, which sort as they do."""
    most = np.int32(0)
    for src in range(len(bits)):
        most = max(most, bits[src])
    return most


@_compiled
def _entropy(row: Any, bits: Any, mantissa: Any, exponent: Any) -> Any:
    """``-sum a log2 a`` of a row; the last two are room for as many numbers as it has."""
    a1, a3, a5, a7, a9 = _ATANH
    mantissa, exponent = mantissa[: len(row)], exponent[: len(row)]
    for src in range(len(bits)):
        power = (bits[src] - _SPLIT) >> np.int32(23)
        mantissa[src] = bits[src] - (power << np.int32(23))
        exponent[src] = np.float32(power)
    real = mantissa.view(np.float32)
    one, entropy = np.float32(1), np.float32(0)
    for src in range(len(row)):
        s = (real[src] - one) / (real[src] + one)
        s2 = s * s
        log2 = s * (a1 + s2 * (a3 + s2 * (a5 + s2 * (a7 + s2 * a9)))) + exponent[src]
        entropy -= row[src] * log2
    return entropy


@_compiled
def walk(
    pattern: Any,  # (window, head, dst, src) float32, finite
    bits: Any,  # the same memory as int32
    rows: Any,  # (window, head, dst) float32: not 0 where a row counts
    visible: Any,  # (window, dst) float32
    ends: Any,  # (window,) int64: sources from there on are in no pair
    causal: bool,
    skip_first: bool,
    chance: Any,  # (window, dst, src) int64: the order of a pair in a sample
    least_multiple: Any,  # (head,) float32: a pair of that multiple may enter a ranking
    least_of_window: Any,  # (head,) float32: the best pair of a window may enter by_document
    tokens: Any,  # (window, src) int64: the number of each source's token
    least_of_token: Any,  # (head, token) float32: it may enter the list of its token
    least_attention: Any,  # (head,) float32
    most_multiple: Any,  # (head,) float32: of those nearest above average
    most_chance: Any,  # (head, bin) int64, by the bin of the pair's attention
    row_sums: Any,  # out: (window, head, 3) float32: sink, entropy, concentration
    by_offset: Any,  # out: (window, head, offset) float32, the largest dst - src first
    mass: Any,  # out: (window, head, src) float32
    best_source: Any,  # out: (window, head, src) float32, a multiple
    best_row: Any,  # out: (window, head, dst) float32, a multiple
    of_source: Any,  # out: (window, head, src) int64, pairs above average
    of_row: Any,  # out: (window, head, dst) int64
    of_bin: Any,  # out: (window, head, bin) int64
    found: Any,  # out: (window, head, cell + 1) int32, flat cells of the pairs that may enter
    kinds: Any,  # out: (window, head, cell + 1) uint8: 1 for lists of the head, 2 for its token's
    n_found: Any,  # out: (window, head) int64, how many they are
    first: int,  # of the windows to walk over
    stop: int,
) -> None:
    """Walk over the windows from ``first`` to ``stop``; what is marked out is filled in."""
    n_heads, n_dst, n_src = pattern.shape[1:]
    mantissa, exponent = np.empty(n_src, np.int32), np.empty(n_src, np.float32)
    sources = np.empty(n_src + 1, np.int64)
    most = np.empty(1, np.int32)
    highest_of = most.view(np.float32)
    last_bin = of_bin.shape[2] - 1
    begin = 1 if skip_first else 0
    for window in range(first, stop):
        for head in range(n_heads):
            count, best, best_cell = 0, np.float32(0), 0
            above_of, bins = of_source[window, head], of_bin[window, head]
            cells, kind_of = found[window, head], kinds[window, head]
            token_at, of_token = tokens[window], least_of_token[head]
            for_ranking, for_attention = least_multiple[head], least_attention[head]
            for_bottom, for_sample = most_multiple[head], most_chance[head]
            for dst in range(n_dst):
                if rows[window, head, dst] == 0:
                    continue
                # Causal rows go on with zeros: a few are cheaper than the odd ends of loops.
                end = min(n_src, (dst // _STRIDE + 1) * _STRIDE) if causal else n_src
                times = visible[window, dst]
                # Slices of one length: loops over them are free of index checks and vectorise.
                row = pattern[window, head, dst, :end]
                row_bits = bits[window, head, dst, :end]
                offsets = by_offset[window, head, n_src - 1 - dst : n_src - 1 - dst + end]
                total = mass[window, head, :end]
                for src in range(len(row)):
                    offsets[src] += row[src]
                for src in range(len(row)):
                    total[src] += row[src]
                row_sums[window, head, 0] += row[0]
                row_sums[window, head, 1] += _entropy(row, row_bits, mantissa, exponent)
                most[0] = _highest(row_bits[1:])
                row_sums[window, head, 2] += max(row[0], highest_of[0])

                stop_at = min(end, ends[window])
                if stop_at < end:
                    most[0] = _highest(row_bits[1:stop_at])
                others = row[begin:stop_at]
                best_of = best_source[window, head, begin:stop_at]
                for src in range(len(others)):
                    score = others[src] * times
                    best_of[src] = score if score > best_of[src] else best_of[src]
                highest = (highest_of[0] if skip_first else max(row[0], highest_of[0])) * times
                best_row[window, head, dst] = highest
                if highest <= 1:
                    continue
                # No branches from here on: they would be mispredicted.
                above = 0
                for src in range(begin, min(dst + 1 if causal else n_src, stop_at)):
                    sources[above] = src
                    above += row[src] * times > 1
                orders = chance[window, dst]
                for i in range(above):
                    src = sources[i]
                    score = row[src] * times
                    power = min(max(126 - (row_bits[src] >> 23), 0), last_bin)
                    above_of[src] += 1
                    bins[power] += 1
                    cell = dst * n_src + src
                    best_cell = cell if score > best else best_cell
                    best = max(score, best)
                    listed = (score >= for_ranking) | (row[src] >= for_attention)
                    listed |= (score <= for_bottom) | (orders[src] <= for_sample[power])
                    of_its_token = score >= of_token[token_at[src]]
                    kind: Any = np.uint8(listed) | np.uint8(of_its_token) << np.uint8(1)
                    cells[count], kind_of[count] = cell, kind
                    count += kind > 0
                of_row[window, head, dst] = above
            if best > 1 and best >= least_of_window[head]:
                cells[count], kind_of[count] = best_cell, 1
                count += 1
            n_found[window, head] = count


@_compiled
def gather(
    found: Any,  # (owner, cell + 1) int32, of which the first are used
    kinds: Any,  # (owner, cell + 1) uint8
    starts: Any,  # (owner + 1,) int64: where the cells of each owner begin in what is filled in
    pattern: Any,  # (owner, dst, src) float32
    row: Any,  # out: (pair,) int64: owner * n_dst + dst
    column: Any,  # out: (pair,) int64
    attention: Any,  # out: (pair,) float32
    kind: Any,  # out: (pair,) uint8
) -> None:
    """Collect the cells that a walk found into flat arrays."""
    n_dst, n_src = pattern.shape[1:]
    for owner in range(len(found)):
        start = starts[owner]
        for i in range(starts[owner + 1] - start):
            cell = found[owner, i]
            dst = cell // n_src
            row[start + i] = owner * n_dst + dst
            column[start + i] = cell - dst * n_src
            attention[start + i] = pattern[owner, dst, cell - dst * n_src]
            kind[start + i] = kinds[owner, i]


@_compiled
def _before(scores: Any, place: Any, other_scores: Any, other_place: Any) -> Any:
    """Whether a pair ranks before another one: by multiple, then by place."""
    multiple, other = scores >> 32, other_scores >> 32
    return multiple > other or (multiple == other and place < other_place)


@_compiled
def keep_best(
    starts: Any,  # (window * heads + 1,) int64: where the pairs of each window and head begin
    row: Any,  # (pair,) int64: (window * heads + head) * n_dst + dst
    column: Any,  # (pair,) int64
    attention: Any,  # (pair,) float32
    kind: Any,  # (pair,) uint8: 2 or 3 where it may enter
    visible: Any,  # (window, dst) float32
    windows: Any,  # (window,) int64: which window of the corpus it is
    tokens: Any,  # (window, src) int64: the number of each source's token
    least: Any,  # in and out: (head, token) float32: what a pair must have; only rises
    lists: Any,  # in and out: (head, token, rank, 2) int64: scores and place, the best first
    first: int,  # of the heads whose lists are filled
    stop: int,
) -> None:
    """Let pairs enter the lists of their heads and tokens.

    The scores of a pair are the bits of its multiple, then those of its attention: of numbers that
    are not negative, the bits sort as they do. What is 0 is empty. One entry is one stretch of
    memory, since memory is what this waits for.
    """
    n_heads, last, n_dst = len(lists), lists.shape[2] - 1, visible.shape[1]
    scores = np.empty(2, np.float32)
    bits = scores.view(np.int32)
    for head in range(first, stop):
        for window in range(len(windows)):
            owner = window * n_heads + head
            for i in range(starts[owner], starts[owner + 1]):
                if kind[i] < 2:
                    continue
                src, dst = column[i], row[i] - owner * n_dst
                token = tokens[window, src]
                scores[0], scores[1] = attention[i] * visible[window, dst], attention[i]
                if scores[0] < least[head, token]:
                    continue
                both = np.int64(bits[0]) << 32 | bits[1]
                place = windows[window] << 32 | dst << 16 | src
                held = lists[head, token]
                if _before(held[last, 0], held[last, 1], both, place):
                    continue
                rank = last
                while rank > 0 and not _before(held[rank - 1, 0], held[rank - 1, 1], both, place):
                    held[rank, 0], held[rank, 1] = held[rank - 1, 0], held[rank - 1, 1]
                    rank -= 1
                held[rank, 0], held[rank, 1] = both, place
                bits[0] = held[last, 0] >> 32
                if scores[0] > least[head, token]:
                    least[head, token] = scores[0]


@_compiled
def count(
    where: Any,  # (window, position) int64: the number of the token that stands there
    pairs: Any,  # (window, head, position) int64
    mass: Any,  # (window, head, position) float32
    best: Any,  # (window, head, position) float32
    scale: float,  # a mass of 1 in fixed point
    table: Any,  # in and out: (head, token, 3) int64: pairs, mass, and the bits of the best
    first: int,  # of the heads
    stop: int,
) -> None:
    """Add what positions got to the tokens that stand there."""
    bits = best.view(np.int32)
    for head in range(first, stop):
        for window in range(len(where)):
            for i in range(where.shape[1]):
                held = table[head, where[window, i]]
                held[0] += pairs[window, head, i]
                held[1] += np.int64(np.rint(mass[window, head, i] * scale))
                held[2] = max(held[2], bits[window, head, i])


@_compiled
def offers(
    n_heads: int,
    row: Any,  # (pair,) int64: (window * heads + head) * n_dst + dst, those of an owner together
    attention: Any,  # (pair,) float32
    multiple: Any,  # (pair,) float32
    moved: Any,  # (pair,) float32: the write; empty where it is not kept
    chance: Any,  # (pair,) int64: the order in a sample
    n_dst: int,
    most: Any,  # (list, head) int64: the last order that may enter
    lists: Any,  # (7,) int64: where top, attention, write, bottom, by_document, sample, band0 are
    n_bands: int,
) -> Any:
    """Group, order and number of the pairs that each list may take, all (offer,) int64."""
    top, by_attention, by_write, bottom, by_document, sample, band0 = lists
    whole = np.int64(0x7FFFFFFF)
    shares, scores, writes = attention.view(np.int32), multiple.view(np.int32), moved.view(np.int32)
    group, order = np.empty(7 * len(row), np.int64), np.empty(7 * len(row), np.int64)
    pick = np.empty(7 * len(row), np.int64)
    n, start = 0, 0
    while start < len(row):
        owner = row[start] // n_dst
        head = owner % n_heads
        stop, best = start, np.int32(0)
        while stop < len(row) and row[stop] // n_dst == owner:
            best = max(best, scores[stop])
            stop += 1
        for i in range(start, stop):
            band = band0 + max(n_bands - 1 - max(126 - (shares[i] >> 23), 0), 0)
            for kind, place in (
                (top, whole - scores[i]),
                (by_attention, whole - shares[i]),
                (bottom, np.int64(scores[i])),
                (sample, chance[i]),
                (band, chance[i]),
                (by_document, whole - scores[i] if scores[i] == best else whole + 1),
                (by_write, whole - writes[i] if len(writes) else whole + 1),
            ):
                if place <= most[kind, head]:
                    group[n], order[n], pick[n] = kind * n_heads + head, place, i
                    n += 1
        start = stop
    return group[:n], order[:n], pick[:n]
