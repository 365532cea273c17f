"""Merging is associative, commutative and idempotent, and keeps the best of all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attn.measure.scores import LISTS
from attn.scan.batches import Batch, Entry
from attn.scan.partials import LayerPart, Limits, from_tensors, merge, to_tensors
from attn.scan.tally import LayerTally

HEADS, WIDTH, VOCABULARY, SHARDS = 2, 9, 12, 5


def make(seed: int, limits: Limits) -> list[LayerPart]:
    """One part a shard, of one tally after the other, with many scores that are equal."""
    draw = np.random.default_rng(seed)
    tally = LayerTally(HEADS, WIDTH, VOCABULARY, limits)
    parts, window = [], 0
    for shard in range(SHARDS):
        entries = []
        for document in range(2 * shard, 2 * shard + 2):
            for start in range(int(draw.integers(1, 3))):
                tokens = draw.integers(0, VOCABULARY, int(draw.integers(2, WIDTH + 1))).tolist()
                key = document * 1000 + start
                entries.append(
                    Entry(
                        tokens,
                        [str(t) for t in tokens],
                        [*range(len(tokens))],
                        tokens,
                        window,
                        document,
                        key,
                        1,
                        document // 2,
                    )
                )
                window += 1
        tally.start(torch.tensor(sorted({t for entry in entries for t in entry.tokens})))
        batch = Batch.make(entries, seed=seed)
        n = batch.ids.shape[1]
        pattern = np.tril(draw.integers(0, 4, (len(entries), HEADS, n, n))) + np.eye(n)
        pattern = torch.tensor(pattern / pattern.sum(-1, keepdims=True)).float()
        norms = torch.tensor(draw.integers(1, 4, (len(entries), HEADS, n))).float()
        visible = torch.arange(1, n + 1)[None]
        tally.add(pattern, visible, batch, norms if limits.write else None)
        parts.append(tally.finish(shard))
    return parts


def same(one: LayerPart, two: LayerPart) -> bool:
    """Every byte of every tensor, and the shards."""
    a, b = to_tensors(one), to_tensors(two)
    return one.shards == two.shards and all(
        a[name].shape == b[name].shape and a[name].numpy().tobytes() == b[name].numpy().tobytes()
        for name in (a.keys() | b.keys())
    )


limits = st.builds(
    Limits,
    top=st.integers(1, 12),
    sample=st.integers(1, 12),
    band=st.integers(1, 4),
    per_token=st.integers(0, 3),
    write=st.booleans(),
)
some_parts = st.tuples(st.integers(0, 2**32), limits)
often = settings(max_examples=settings().max_examples // 5, derandomize=True)


@often
@given(some_parts, st.permutations(range(SHARDS)))
def test_any_order_gives_the_same(made: tuple[int, Limits], order: Sequence[int]) -> None:
    seed, limit = made
    parts = make(seed, limit)
    assert same(merge(parts, limit), merge([parts[i] for i in order], limit))


@often
@given(some_parts, st.integers(1, SHARDS - 1), st.permutations(range(SHARDS)))
def test_any_grouping_gives_the_same(
    made: tuple[int, Limits], cut: int, order: Sequence[int]
) -> None:
    seed, limit = made
    made_parts = make(seed, limit)
    parts = [made_parts[i] for i in order]
    whole = merge(parts, limit)
    left, right = merge(parts[:cut], limit), merge(parts[cut:], limit)
    assert same(merge([left, right], limit), whole)
    assert same(merge([right, left], limit), whole)
    one_by_one = parts[0]
    for part in parts[1:]:
        one_by_one = merge([one_by_one, part], limit)
    assert same(one_by_one, whole)


@often
@given(some_parts, st.lists(st.integers(0, SHARDS - 1), max_size=4))
def test_a_shard_counts_once(made: tuple[int, Limits], again: list[int]) -> None:
    seed, limit = made
    parts = make(seed, limit)
    whole = merge(parts, limit)
    assert same(merge([*parts, *(parts[i] for i in again)], limit), whole)
    assert same(merge([whole, whole], limit), whole)
    assert same(merge([whole, *(parts[i] for i in again)], limit), whole)
    assert same(merge([parts[0]], limit), parts[0])


@often
@given(some_parts)
def test_taken_apart_and_put_together(made: tuple[int, Limits]) -> None:
    for part in make(*made):
        assert same(from_tensors(to_tensors(part), part.shards), part)


@often
@given(some_parts)
def test_what_is_kept_is_the_best_of_all(made: tuple[int, Limits]) -> None:
    """By brute force over the parts' lists: groups, ties, one a text, and the limits."""
    seed, limit = made
    parts = make(seed, limit)
    whole = merge(parts, limit)
    groups: dict[int, dict[int, tuple[int, int]]] = {}
    for part in parts:
        kept = part.kept
        for group, order, place, text in zip(
            *(t.tolist() for t in (kept.group, kept.order, kept.place, kept.text)), strict=True
        ):
            groups.setdefault(group, {})[place] = (order, text)
    wanted = []
    for group in sorted(groups):
        name, seen = LISTS[group // HEADS], set()
        ranked = sorted((order, place, text) for place, (order, text) in groups[group].items())
        if name == "by_document":
            ranked = [entry for entry in ranked if not (entry[2] in seen or seen.add(entry[2]))]
        wanted += [(group, order, place) for order, place, _ in ranked[: limit.of(name)]]
    kept = whole.kept
    got = zip(kept.group.tolist(), kept.order.tolist(), kept.place.tolist(), strict=True)
    assert list(got) == wanted

    best: dict[int, list[tuple[int, int]]] = {}
    for part in parts:
        for key, order, place in zip(
            part.best.key.tolist(), part.best.order.tolist(), part.best.place.tolist(), strict=True
        ):
            best.setdefault(key, []).append((order, place))
    wanted = [
        (key, *entry) for key in sorted(best) for entry in sorted(best[key])[: limit.per_token]
    ]
    lists = whole.best
    got = zip(lists.key.tolist(), lists.order.tolist(), lists.place.tolist(), strict=True)
    assert list(got) == wanted


@often
@given(some_parts)
def test_counts_add_up(made: tuple[int, Limits]) -> None:
    seed, limit = made
    parts = make(seed, limit)
    whole = merge(parts, limit)
    for name in ("rows", "pairs", "nonfinite", "sums", "parts", "distances", "attention"):
        total = sum(getattr(part, name) for part in parts)
        assert torch.equal(getattr(whole, name), total)
    assert int(whole.uniform.sum()) == sum(int(part.uniform.sum()) for part in parts)
    for side in ("sources", "destinations"):
        table = getattr(whole, side)
        for i, token in enumerate(whole.tokens.tolist()):
            cells = [
                (getattr(part, side), part.tokens.tolist().index(token))
                for part in parts
                if token in part.tokens.tolist()
            ]
            assert table.pairs[:, i].tolist() == sum(t.pairs[:, j] for t, j in cells).tolist()
            assert table.mass[:, i].tolist() == sum(t.mass[:, j] for t, j in cells).tolist()
            most = torch.stack([t.maximum[:, j] for t, j in cells]).amax(0)
            assert table.maximum[:, i].tolist() == most.tolist()
        assert int(table.pairs.sum()) == int(whole.pairs.sum())


def test_parts_that_share_some_shards_are_refused() -> None:
    limit = Limits(3, 3, 2, 1)
    one, two, three, *_ = make(0, limit)
    with pytest.raises(ValueError, match="share some of their shards"):
        merge([merge([one, two], limit), merge([two, three], limit)], limit)
