"""Sort keys of pairs: packed places, score keys, uniform hashes, and the K best of every group.

Everything is an int64 tensor. Scores become keys that sort in reverse, a (window, dst, src) becomes
one number, and its hash makes a uniform sample that does not depend on the order of arrival.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MOST = 0x7FFFFFFF
"""The largest sort key; keys are in [0, 2^31)."""


def pack(window: Tensor, dst: Tensor, src: Tensor) -> Tensor:
    """(window, dst, src) in one int64, ordered like the three."""
    return (window << 32) | (dst << 16) | src


def unpack(place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The window, destination and source of packed places."""
    return place >> 32, (place >> 16) & 0xFFFF, place & 0xFFFF


def descending(score: Tensor) -> Tensor:
    """Order of non-negative float32 scores, the largest first: int64 in [0, 2^31)."""
    return MOST - score.contiguous().view(torch.int32).to(torch.int64)


def ascending(order: Tensor) -> Tensor:
    """The score that a :func:`descending` order stands for, float32.

    Orders before that of infinity, -1 among them, are NaN, which no score reaches.
    """
    return (MOST - order).to(torch.int32).view(torch.float32)


def divided(values: Tensor, by: int) -> Tensor:
    """``values // by`` for int64 from 0 up, by NumPy where that is faster."""
    if values.device.type != "cpu":
        return values // by
    return torch.from_numpy(values.numpy() // by)


def argsort(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Sorted int64 keys and their indices; equal keys come in any order."""
    if keys.device.type != "cpu":
        ranked, index = torch.sort(keys)
        return ranked, index
    index = torch.from_numpy(np.argsort(keys.numpy()))  # twice as fast as torch's on one core
    return keys[index], index


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser (Steele et al. 2014) on int64, which wraps like uint64."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _salt(keys: Tensor, seed: int) -> Tensor:
    return _mix(keys * 0x2545F4914F6CDD1D + seed)


def pair_hashes(keys: Tensor, width: int, seed: int) -> Tensor:
    """(window, dst, src) int64 in [0, 2^31): a hash of (seed, window, dst, src).

    ``keys`` (window,) int64: a number for each window, made of its document's place in the corpus
    and its start (:attr:`attn.index.documents.Record.key`), so copies of a text differ.
    """
    position = torch.arange(width, device=keys.device, dtype=torch.int64)
    pair = position[:, None] * 65536 + position[None, :]
    return _mix(_salt(keys, seed)[:, None, None] + _mix(pair)[None]) & MOST


def row_hashes(keys: Tensor, width: int, seed: int) -> Tensor:
    """(window, dst) int64 in [0, 2^31): a hash of (seed, window, dst), apart from the pairs'."""
    position = torch.arange(width, device=keys.device, dtype=torch.int64)
    return _mix(_salt(keys, seed)[:, None] + _mix(~position)[None]) & MOST


def hashes_of(keys: Tensor, dst: Tensor, src: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """The pair hash and the row hash of single pairs, all (pair,)."""
    salt = _salt(keys, seed)
    return _mix(salt + _mix(dst * 65536 + src)) & MOST, _mix(salt + _mix(~dst)) & MOST


def best(group: Tensor, order: Tensor, place: Tensor, limits: Tensor | int) -> Tensor:
    """Indices of each group's smallest (order, place), one a place, sorted by group and rank.

    ``group``, ``order`` (< 2^31), ``place`` (pair,) int64; ``limits`` how many to keep of every
    group, or (group,) of each.
    """
    if len(group) == 0:
        return group
    ranked, index = argsort((group << 31) | order)
    equal = ranked[1:] == ranked[:-1]
    if bool(equal.any()):
        tied = torch.zeros(len(index), dtype=torch.bool, device=index.device)
        tied[1:] |= equal
        tied[:-1] |= equal
        some = tied.nonzero()[:, 0]
        rank = torch.sort(place[index[some]], stable=True)[1]
        rank = rank[torch.sort(ranked[some][rank], stable=True)[1]]
        index[some] = index[some][rank]
        twice = torch.zeros_like(tied)
        twice[1:] = equal & (place[index[1:]] == place[index[:-1]])
        ranked, index = ranked[~twice], index[~twice]
    owner = ranked >> 31
    if isinstance(limits, int):  # the limit-th before it is of another group, or there is none
        kept = torch.ones(len(index), dtype=torch.bool, device=index.device)
        kept[limits:] = owner[limits:] != owner[: max(len(owner) - limits, 0)]
        return index[kept]
    starts, run = _runs(owner)
    return index[torch.arange(len(index), device=index.device) - starts[run] < limits[owner]]


def first_of_each(group: Tensor, order: Tensor, place: Tensor) -> Tensor:
    """Indices of each group's smallest (order, place), sorted by group."""
    return best(group, order, place, 1)


def _runs(owner: Tensor) -> tuple[Tensor, Tensor]:
    """Where each run of equal values begins, and the run that every element belongs to."""
    new = torch.ones(len(owner), dtype=torch.bool, device=owner.device)
    new[1:] = owner[1:] != owner[:-1]
    return new.nonzero()[:, 0], new.cumsum(0) - 1
