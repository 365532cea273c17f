"""The walk over a pattern's cells on a CPU, compiled: every row is read once, for all uses.

It gives what :mod:`attn.reduction` computes with torch on other devices, except that it names only
the pairs above average that a list may still take. Compiled once for a machine and cached.

log2 is that of musl: the exponent is taken off so that the rest lies within a factor of the root of
two around 1, where ``2 atanh((m - 1) / (m + 1)) / ln 2`` needs five terms for float32.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_SPLIT = np.int32(0x3F3504F3)  # the bits of the root of one half
_ATANH = tuple(np.float32(2 / np.log(2) / k) for k in (1, 3, 5, 7, 9))
_FAST = {"reassoc", "contract", "nnan", "ninf", "nsz"}  # every pattern given is finite


_compiled = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_FAST)


@_compiled
def _highest(row: Any) -> Any:
    most = np.float32(0)
    for src in range(len(row)):
        most = row[src] if row[src] > most else most
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
    first: int,  # of the windows to walk over
    stop: int,
    pattern: Any,  # (window, head, dst, src) float32, finite
    bits: Any,  # the same memory as int32
    rows: Any,  # (window, head, dst) float32: not 0 where a row counts
    visible: Any,  # (window, dst) float32
    causal: bool,
    skip_first: bool,
    chance: Any,  # (window, dst, src) int64: the order of a pair in a sample
    least_multiple: Any,  # (head,) float32: a pair of that multiple may enter a ranking
    least_of_window: Any,  # (head,) float32: the best pair of a window may enter by_document
    least_of_token: Any,  # (window, head, src) float32: it may enter the list of its token
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
) -> None:
    """Walk over the windows from ``first`` to ``stop``; what is marked out is filled in."""
    n_heads, n_dst, n_src = pattern.shape[1:]
    mantissa, exponent = np.empty(n_src, np.int32), np.empty(n_src, np.float32)
    last_bin = of_bin.shape[2] - 1
    begin = 1 if skip_first else 0
    for window in range(first, stop):
        for head in range(n_heads):
            count, best, best_cell = 0, np.float32(0), 0
            for dst in range(n_dst):
                if rows[window, head, dst] == 0:
                    continue
                end = dst + 1 if causal else n_src
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
                row_sums[window, head, 2] += max(row[0], _highest(row[1:]))

                others = row[begin:]
                best_of = best_source[window, head, begin:end]
                for src in range(len(others)):
                    score = others[src] * times
                    best_of[src] = score if score > best_of[src] else best_of[src]
                highest = _highest(others) * times
                best_row[window, head, dst] = highest
                if highest <= 1:
                    continue
                above = 0
                for src in range(begin, end):
                    score = row[src] * times
                    if score > 1:
                        above += 1
                        of_source[window, head, src] += 1
                        power = min(max(126 - (row_bits[src] >> 23), 0), last_bin)
                        of_bin[window, head, power] += 1
                        if score > best:
                            best, best_cell = score, dst * n_src + src
                        kind = 2 if score >= least_of_token[window, head, src] else 0
                        if (
                            score >= least_multiple[head]
                            or row[src] >= least_attention[head]
                            or score <= most_multiple[head]
                            or chance[window, dst, src] <= most_chance[head, power]
                        ):
                            kind |= 1
                        if kind:
                            found[window, head, count] = dst * n_src + src
                            kinds[window, head, count] = kind
                            count += 1
                of_row[window, head, dst] = above
            if best > 1 and best >= least_of_window[head]:
                found[window, head, count], kinds[window, head, count] = best_cell, 1
                count += 1
            n_found[window, head] = count
